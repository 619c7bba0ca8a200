"""The only HTTP client: one upscale request, and the free ones that tell about key and contract.

HTTP/1.1 only (one lost HTTP/2 connection would put every request in flight in doubt). Whatever
the server says passes `redact` before anybody else sees it: a server may echo the key.
"""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import httpx

from venice_watch import __version__
from venice_watch.config.model import Api
from venice_watch.errors import VeniceWatchError
from venice_watch.parameters import Contract
from venice_watch.redact import REDACTED, Redactor
from venice_watch.venice.classify import (
    Exchange,
    Phase,
    describe,
    is_page,
    parse_json,
)
from venice_watch.venice.figures import read_expiry, read_numbers, read_prices, read_rate
from venice_watch.venice.headers import read_server_time

ANSWER_BYTES_MAX = 160_000_000  # a 16.7-megapixel RGBA PNG can be about 80 MB
WORDS_BYTES_MAX = 64 * 1024  # read of an answer that is no image
ENDED_EARLY = "the answer ended early"
FREE_TIMEOUT_S = 20.0  # for the requests that cost nothing
FREE_BYTES_MAX = 4_000_000  # of their answers; a list of every model there is has half of it
_PHASES = {
    "http11.send_request_headers.started": Phase.SENDING,
    "http11.send_request_body.complete": Phase.SENT,
}


class Sink(Protocol):
    """Where an image's bytes go: verified as they come, written as they come."""

    def write(self, data: bytes) -> None:
        """Take the next bytes; raise VeniceWatchError once they are no image."""

    def finish(self) -> tuple[int, int]:
        """Return (width, height) of the whole image; raise VeniceWatchError if it is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One image to send, read once, and the fields that go with it."""

    data: bytes
    media_type: str
    extension: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds, each for one phase; `total_s` for the whole request."""

    connect_s: float
    write_s: float
    read_s: float
    total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What the free endpoint says of the key; None where it does not say."""

    status: int | None
    words: str
    requests_per_minute: int | None = None
    permitted: bool | None = None
    balances: Mapping[str, float] | None = None
    expires_at: float | None = None  # seconds since 1970; infinite: never
    server_time: float | None = None  # by the answer's Date, whatever else the answer was
    is_page: bool = False  # a web page answered, not the API

    @property
    def usable(self) -> bool:
        """Tell whether the key may be used, as far as is known."""
        return self.status == httpx.codes.OK and self.permitted is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractAnswer:
    """What the free request for the contract brought; `status` None: no answer."""

    status: int | None
    words: str
    contract: Contract | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Tell whether asking again may tell more: no answer, a refused key, a busy server."""
        if self.status is None or self.status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return True
        return self.status in (401, 402, 403, 408, 429)


@dataclass(frozen=True, slots=True)
class _FreeAnswer:
    status_code: int
    headers: httpx.Headers
    content: bytes


class VeniceClient:
    """A connection pool to the API; use it as an async context manager."""

    def __init__(
        self, base_url: str, key: str, timeouts: Timeouts, *, connections_max: int
    ) -> None:
        self.base_url = base_url
        self._key = key
        self._redactor = Redactor((key,))
        self._timeouts = timeouts
        # a proxy serves the way out, encrypted; plain http is for this machine and stays on it
        encrypted = urlsplit(base_url).scheme == "https"
        self._http = httpx.AsyncClient(
            base_url=base_url,
            http1=True,
            http2=False,
            follow_redirects=False,  # the key goes nowhere else
            trust_env=encrypted,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none is ever kept
            timeout=httpx.Timeout(
                connect=timeouts.connect_s,
                write=timeouts.write_s,
                read=timeouts.read_s,
                pool=timeouts.total_s,
            ),
            # no connection is used twice: one that dies under a request would put it in doubt,
            # and a doubt is dearer than a handshake; + 2 for the free requests
            limits=httpx.Limits(max_connections=connections_max + 2, max_keepalive_connections=0),
            headers={
                "Authorization": f"Bearer {key}",
                "User-Agent": f"venice-watch/{__version__}",
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
        )

    @classmethod
    def for_api(cls, api: Api, key: str, *, connections_max: int) -> Self:
        """Return a client for the configuration's `api` section."""
        timeouts = Timeouts(
            connect_s=api.timeouts.connect_s,
            write_s=api.timeouts.write_s,
            read_s=api.timeouts.read_s,
            total_s=api.timeouts.total_s,
        )
        return cls(api.base_url, key, timeouts, connections_max=connections_max)

    async def __aenter__(self) -> Self:
        """Open the pool."""
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection."""
        await self._http.__aexit__(exc_type, exc, traceback)

    async def upscale(
        self, upload: Upload, sink: Sink, on_sent: Callable[[], None] = lambda: None
    ) -> Exchange:
        """Send one image and pass a 200's bytes to `sink` as they come; return what was seen.

        `on_sent` is called when the whole request has left. Never raises an HTTP error: what went
        wrong is part of what was seen.
        """
        progress = _Progress(on_sent)
        # a neutral name: people's file names are their own
        file = (f"image.{upload.extension}", io.BytesIO(upload.data), upload.media_type)
        request = self._http.build_request(
            "POST",
            "image/upscale",
            files={"image": file},
            data=dict(upload.fields),
            headers={"Accept": "image/png, application/json"},
            extensions={"trace": progress.trace},
        )
        try:
            async with asyncio.timeout(self._timeouts.total_s):
                response = await self._http.send(request, stream=True)
                progress.status = response.status_code
                progress.headers = self._clean_headers(response.headers)
                try:
                    await self._read(response, progress, sink)
                finally:
                    await response.aclose()
        except TimeoutError:
            progress.error = f"timeout: not done after {self._timeouts.total_s:g} s"
            progress.salvage(sink)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
            progress.error = self.redact(f"{type(exc).__name__}: {exc}".rstrip(": "))
            progress.salvage(sink)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the bytes may have left
            progress.error = f"an internal error: {type(exc).__name__}"
            progress.bug = exc
        return progress.exchange()

    async def _read(self, response: httpx.Response, progress: "_Progress", sink: Sink) -> None:
        """Read the answer: an image into the sink, anything else into a short memory."""
        progress.sent_whole = progress.phase >= Phase.SENT
        progress.phase = Phase.ANSWERING
        chunks = response.aiter_bytes()
        first = await anext(chunks, b"")
        # the first byte tells more than a header: errors come as JSON or as a web page
        if response.status_code != httpx.codes.OK or first.lstrip()[:1] in (b"", b"{", b"<"):
            words = bytearray(first)
            async for chunk in chunks:
                words += chunk
                if len(words) >= WORDS_BYTES_MAX:
                    break
            progress.words = self._redact_bytes(bytes(words[:WORDS_BYTES_MAX]))
        else:
            await self._read_image(first, chunks, progress, sink)
        progress.phase = Phase.ANSWERED

    async def _read_image(
        self, first: bytes, chunks: AsyncIterator[bytes], progress: "_Progress", sink: Sink
    ) -> None:
        size_bytes = len(first)
        progress.broken = ENDED_EARLY  # until it is seen whole
        try:
            sink.write(first)
            async for chunk in chunks:
                size_bytes += len(chunk)
                if size_bytes > ANSWER_BYTES_MAX:
                    progress.broken = f"it is larger than {ANSWER_BYTES_MAX:,} bytes"
                    return
                sink.write(chunk)
            progress.size = sink.finish()
            progress.broken = None
        except VeniceWatchError as exc:
            progress.broken = str(exc)

    async def read_key_facts(self) -> KeyFacts:
        """Ask the free endpoint for the key's limits and balances; never raises."""
        answer = await self._ask("GET", "api_keys/rate_limits")
        if isinstance(answer, str):
            return KeyFacts(status=None, words=answer)
        facts = read_key_facts(
            answer.status_code,
            self._clean_headers(answer.headers),
            self._redact_bytes(answer.content[:WORDS_BYTES_MAX]),
        )
        return replace(facts, words=self.redact(facts.words))

    async def read_prices(self) -> Mapping[str, int] | None:
        """Return {"2x": micro-USD, "4x": micro-USD} where the API tells them."""
        answer = await self._ask("GET", "models", params={"type": "upscale"})
        return None if isinstance(answer, str) else read_prices(parse_json(answer.content))

    async def find_contract(self) -> ContractAnswer:
        """Find out by one free request which contract the server has.

        The request has no image, so both refuse it; only the older names `enhanceCreativity`.
        """
        answer = await self._ask("POST", "image/upscale", json={"enhanceCreativity": 7})
        if isinstance(answer, str):
            return ContractAnswer(status=None, words=answer)
        headers = self._clean_headers(answer.headers)
        words = self.redact(describe(headers, answer.content))
        body = parse_json(answer.content)
        if answer.status_code != httpx.codes.BAD_REQUEST or body is None:
            return ContractAnswer(status=answer.status_code, words=words, headers=headers)
        details = json.dumps([body.get("details"), body.get("issues")])
        older = "enhanceCreativity" in details
        contract = Contract.ENHANCE if older else Contract.CREATIVITY
        return ContractAnswer(
            status=answer.status_code, words=words, contract=contract, headers=headers
        )

    async def _ask(self, method: str, path: str, **options: Any) -> "_FreeAnswer | str":  # noqa: ANN401 - httpx's own
        """Make one free request; return the answer, or why there is none."""
        try:
            async with (
                asyncio.timeout(FREE_TIMEOUT_S),  # httpx's own limit is one for each read
                self._http.stream(method, path, timeout=FREE_TIMEOUT_S, **options) as response,
            ):
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > FREE_BYTES_MAX:
                        return f"the answer is larger than {FREE_BYTES_MAX:,} bytes"
                return _FreeAnswer(response.status_code, response.headers, bytes(content))
        except TimeoutError:
            return f"timeout: not done after {FREE_TIMEOUT_S:g} s"
        except Exception as exc:  # noqa: BLE001 - nothing a server sends may end the daemon
            return self.redact(f"{type(exc).__name__}: {exc}".rstrip(": "))

    def _clean_headers(self, headers: httpx.Headers) -> dict[str, str]:
        return {name.lower(): self.redact(value) for name, value in headers.items()}

    def redact(self, text: str) -> str:
        """Return a stranger's words without the key, disguised or not."""
        return self._redactor.words(text)

    def _redact_bytes(self, data: bytes) -> bytes:
        value = parse_json(data)
        if value is not None:  # an escaped key (`\/`, `\u0073`) is one as well
            with contextlib.suppress(RecursionError):
                data = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        return data.replace(self._key.encode(), REDACTED.encode())


class _Progress:
    """How far a request is, kept up by httpx's trace."""

    def __init__(self, on_sent: Callable[[], None]) -> None:
        self._on_sent = on_sent
        self.phase = Phase.CONNECTING
        self.sent_whole = False
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.words = b""
        self.size: tuple[int, int] | None = None
        self.broken: str | None = None
        self.error: str | None = None
        self.bug: Exception | None = None

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Follow httpx's `trace` extension."""
        before, self.phase = self.phase, max(self.phase, _PHASES.get(event, self.phase))
        if before < Phase.SENT <= self.phase:
            self._on_sent()

    def salvage(self, sink: Sink) -> None:
        """Keep an image that came whole before the line broke: it is paid for.

        A PNG says itself where it ends, whatever the headers said of its length.
        """
        if self.broken == ENDED_EARLY:
            with contextlib.suppress(VeniceWatchError):
                self.size = sink.finish()
                self.broken = None

    def exchange(self) -> Exchange:
        """Return what was seen."""
        return Exchange(
            phase=self.phase,
            status=self.status,
            sent_whole=self.sent_whole,
            headers=self.headers,
            body=self.words,
            size=self.size,
            broken=self.broken,
            error=self.error,
            bug=self.bug,
        )


def read_key_facts(status: int, headers: Mapping[str, str], body: bytes) -> KeyFacts:
    """Read an answer of the free endpoint; unknown shapes say nothing."""
    value = parse_json(body)
    server_time = read_server_time(headers)
    if status != httpx.codes.OK or value is None:
        return KeyFacts(
            status=status,
            words=describe(headers, body) or f"HTTP {status}",
            server_time=server_time,
            is_page=value is None and is_page(headers, body),
        )
    data = value.get("data")
    data = data if isinstance(data, dict) else {}
    permitted = data.get("accessPermitted")
    return KeyFacts(
        status=status,
        words="",
        requests_per_minute=read_rate(data.get("rateLimits")),
        permitted=permitted if isinstance(permitted, bool) else None,
        balances=read_numbers(data.get("balances")),
        expires_at=read_expiry(data.get("keyExpiration", "")),
        server_time=server_time,
    )
