"""One message to one receiver: what it looks like on its way, and what came back.

Rules: no redirect is followed (headers may hold a secret); of an answer no more is read than a
person would; nothing that is said of a failure has the address in it.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from venice_watch import __version__
from venice_watch.config.outside import Address, Receiver, Via
from venice_watch.notice import Kind, Notice
from venice_watch.redact import Redactor

TIMEOUT_S = 10.0  # for each step of a request
TOTAL_S = 15.0  # for all of it: a byte a second is no answer
APPRISE_S = 60.0  # mail servers take their time; the thread is left alone after that
WORDS_BYTES_MAX = 2_000  # of an answer that somebody looks at
FILE_BYTES_MAX = 16 * 1024  # of headers or a token
_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_OK, _REDIRECT, _REFUSED, _BROKEN = 200, 300, 400, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent, when it was thought of (seconds since 1970)."""

    notice: Notice
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: `trouble` None is success; one that is not `final` may be tried again."""

    trouble: str | None = None
    final: bool = False
    words: str = ""  # the receiver's, without secrets

    @property
    def arrived(self) -> bool:
        """Tell whether the receiver took it."""
        return self.trouble is None


class Line:
    """A line to one receiver; close it with `close`."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._host = socket.gethostname()
        [address, *_] = receiver.addresses
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            # a proxy is for the way out, and none serves a private network
            trust_env=urlsplit(address.text).scheme == "https",
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=0),
            headers={"User-Agent": f"venice-watch/{__version__}", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Give it up."""
        await self._http.aclose()

    async def send(self, message: Message) -> Answer:
        """Send a notice, and wait for the receiver's word."""
        notice = message.notice
        title = f"venice-watch on {self._host}: {notice.title}"
        match self.receiver.via:
            case Via.WEBHOOK:
                return await self._post(self._address, self._as_json(message, title), _JSON)
            case Via.NTFY:
                return await self._post(self._address, notice.text.encode(), self._ntfy(message))
            case Via.APPRISE:
                return await _in_thread(self.receiver, title, notice)
            case Via.PING:
                raise AssertionError("a ping is no notice")

    async def ping(self, word: str, text: str) -> Answer:
        """Ping a dead man's switch: `word` is `start`, `fail`, or empty for success."""
        parts = urlsplit(self._address.text)
        path = f"{parts.path.rstrip('/')}/{word}" if word else parts.path
        address = Address(text=urlunsplit(parts._replace(path=path)))
        return await self._post(address, text.encode(), {"Content-Type": _PLAIN})

    @property
    def _address(self) -> Address:
        return self.receiver.addresses[0]

    def _as_json(self, message: Message, title: str) -> bytes:
        notice = message.notice
        facts = {
            "app": "venice-watch",
            "version": __version__,
            "host": self._host,
            "kind": notice.kind,
            "mended": notice.mended,
            "title": title,
            "message": notice.text,
            "text": f"{title}\n{notice.text}",  # what chat programs look for
            "at": datetime.fromtimestamp(message.at, UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(facts).encode()

    def _ntfy(self, message: Message) -> dict[str, str]:
        notice = message.notice
        title = f"venice-watch on {self._host}: {notice.title}".encode("ascii", "replace").decode()
        priority = "default" if notice.mended else self.receiver.priority
        tag = "white_check_mark" if notice.mended else "warning"
        return {"Content-Type": _PLAIN, "Title": title, "Priority": priority, "Tags": tag}

    async def _post(self, address: Address, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            own = await asyncio.to_thread(read_headers, self.receiver)
            async with asyncio.timeout(TOTAL_S):
                request = self._http.stream(
                    "POST", address.text, content=body, headers={**headers, **own}
                )
                async with request as response:
                    words = await _read_words(response)
        except TimeoutError:
            return Answer(trouble=f"no answer within {TOTAL_S:g} s")
        except OSError as exc:  # a file of ours; a TimeoutError is one too, so it comes first
            return Answer(trouble=f"{exc.filename}: {exc.strerror}")
        except httpx.TimeoutException:
            return Answer(trouble=f"no answer within {TIMEOUT_S:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
            # the words of these may have the address in them
            return Answer(trouble=f"{type(exc).__name__}: see whether the address is right")
        secrets = {*address.secrets(), *own.values()}
        return judge(response.status_code, Redactor(secrets).words(words))


_PLAIN = "text/plain; charset=utf-8"
_JSON = {"Content-Type": "application/json"}


async def _read_words(response: httpx.Response) -> str:
    data = b""
    async for piece in response.aiter_raw():
        data += piece
        if len(data) >= WORDS_BYTES_MAX:
            break
    text = data[:WORDS_BYTES_MAX].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def judge(status: int, words: str = "") -> Answer:
    """Return what a status means for a message."""
    if _OK <= status < _REDIRECT:
        return Answer(words=words)
    if _REDIRECT <= status < _REFUSED:
        why = "it points elsewhere, which is not followed; configure the address it points to"
        return Answer(trouble=f"HTTP {status}: {why}", final=True, words=words)
    final = _REFUSED <= status < _BROKEN and status not in _AGAIN
    return Answer(trouble=f"HTTP {status}", final=final, words=words)


def read_headers(receiver: Receiver) -> dict[str, str]:
    """Return the headers that a receiver's files ask for; blocks.

    Raises OSError for a file that cannot be read or is none of headers: with its name, and without
    what is in it.
    """
    headers: dict[str, str] = {}
    if receiver.headers_file is not None:
        for line in _read_file(receiver.headers_file).splitlines():
            name, colon, value = line.partition(":")
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            token = name.strip().replace("-", "").replace("_", "")
            if not (colon and token.isascii() and token.isalnum() and _is_plain(value)):
                raise OSError(0, "has a line that is not `Name: value`", str(receiver.headers_file))
            headers[name.strip()] = value.strip()
    if receiver.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(receiver.token_file)}"
    return headers


def read_token(path: Path) -> str:
    """Return the one line that a token's file holds; raise OSError where it holds none."""
    token = _read_file(path).strip()
    if not token or not _is_plain(token) or " " in token:
        raise OSError(0, "holds no token: one line of plain characters without spaces", str(path))
    return token


def _read_file(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX).decode("utf-8", "replace")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def trial(at: float) -> Message:
    """Return a notice that says nothing but that it arrived."""
    text = "This is a test of `venice-watch check --notify`: nothing has happened."
    return Message(notice=Notice(kind=Kind.PROGRAM, title="a test", text=text), at=at)


async def _in_thread(receiver: Receiver, title: str, notice: Notice) -> Answer:
    """Let Apprise send it in a thread of its own, which nobody waits for at the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def tell(answer: Answer) -> None:
        if not done.done():
            done.set_result(answer)

    def work() -> None:
        try:
            answer = _apprise(receiver, title, notice)
        except Exception as exc:  # noqa: BLE001 - dozens of foreign modules; the words may hold the address
            answer = Answer(trouble=f"Apprise failed: {type(exc).__name__}")
        try:
            loop.call_soon_threadsafe(tell, answer)
        except RuntimeError:
            return  # the loop has ended meanwhile

    threading.Thread(target=work, name="apprise", daemon=True).start()
    try:
        async with asyncio.timeout(APPRISE_S):
            return await done
    except TimeoutError:
        return Answer(trouble=f"Apprise has not ended within {APPRISE_S:g} s")


def find_unknown(receiver: Receiver) -> str | None:
    """Return the kind of an address that Apprise does not know, or None."""
    if receiver.via is not Via.APPRISE:
        return None
    to = _quiet_apprise()
    return next((one.host for one in receiver.addresses if not to.add(one.text)), None)


def _quiet_apprise() -> Any:  # noqa: ANN401 - an extra without types
    import logging

    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its words have addresses in them
    return apprise.Apprise()


def _apprise(receiver: Receiver, title: str, notice: Notice) -> Answer:
    to = _quiet_apprise()
    for address in receiver.addresses:
        if not to.add(address.text):
            return Answer(trouble=f"{address.host}: Apprise does not know this address", final=True)
    level = "success" if notice.mended else "warning"
    sent = to.notify(body=notice.text, title=title, notify_type=level)
    return Answer() if sent else Answer(trouble="Apprise could not deliver it to every address")
