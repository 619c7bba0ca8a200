"""Who is told how things go: receivers of notices, and the address for monitoring.

Rules: an address of a receiver is a secret (whoever has it can write there, or knows the topic): no
message and no `repr` shows more of it than its host; plain http stays within the house.
"""

import importlib.util
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import Field

from venice_watch.config import fields
from venice_watch.config.fields import Checked
from venice_watch.config.findings import Finding, ValueRefusedError
from venice_watch.config.places import ADDRESS_CHARACTERS_MAX, Surroundings, expand, is_loopback
from venice_watch.config.section import Section, seconds
from venice_watch.notice import USUAL, Kind
from venice_watch.parameters import nearest, shown

if TYPE_CHECKING:
    from venice_watch.config.model import Config

RECEIVERS_MAX = 16  # each has a queue and a task of its own
APPRISE_MAX = 16  # addresses of one entry
HOSTS_MAX = 64
SECRET_PART_CHARACTERS_MIN = 10  # of an address: shorter ones are words such as `webhooks`
PORT_MAX = 65_535
EXTRAS: Mapping[str, tuple[str, ...]] = {"web": ("uvicorn", "starlette"), "notify": ("apprise",)}
_HOUSE_ENDINGS = (".local", ".lan", ".internal", ".home.arpa", ".localhost", ".test")


class Via(StrEnum):
    """How a receiver is spoken to; the key that holds its address."""

    WEBHOOK = "webhook"
    NTFY = "ntfy"
    PING = "ping"
    APPRISE = "apprise"


class Priority(StrEnum):
    """How loud ntfy is."""

    MIN = "min"
    LOW = "low"
    DEFAULT = "default"
    HIGH = "high"
    MAX = "max"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Address:
    """Where a receiver is; `text` is a secret."""

    text: str

    @property
    def host(self) -> str:
        """Return what may be shown: the host, or of an apprise address its kind."""
        parts = urlsplit(self.text)
        return parts.hostname or "" if parts.scheme in ("http", "https") else parts.scheme

    @property
    def readable(self) -> bool:
        """Tell whether what is sent there can be read on its way."""
        parts = urlsplit(self.text)
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")

    def secrets(self) -> set[str]:
        """Return what must not be seen: the address, and the parts that give access."""
        parts = urlsplit(self.text)
        pieces = parts.path.split("/") + [value for _, value in parse_qsl(parts.query)]
        if parts.scheme not in ("http", "https"):
            pieces += parts.netloc.replace("@", ":").split(":")
        long = {one for one in pieces if len(one) >= SECRET_PART_CHARACTERS_MIN}
        return {self.text, *long}

    def __repr__(self) -> str:
        return f"Address({self.host})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the web server listens."""

    host: str  # without brackets
    port: int  # 0: any free one

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine reaches it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One receiver of notices, or of pings."""

    via: Via
    addresses: tuple[Address, ...]  # several with apprise only
    on: tuple[Kind, ...]
    digest_s: float
    every_s: float
    priority: Priority
    headers_file: Path | None
    token_file: Path | None

    @property
    def name(self) -> str:
        """Return what it is called where others may read."""
        hosts = sorted({one.host for one in self.addresses})
        return f"{self.via} ({', '.join(hosts)})"


# --- kinds of values -----------------------------------------------------------------------------


def _read_url(value: object, surroundings: Surroundings) -> Address:
    text = _read_text(value, surroundings)
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueRefusedError("is no address; write it like https://ntfy.sh/topic") from exc
    if problem := _find_url_problem(parts, host):
        raise ValueRefusedError(problem)
    return Address(text=text)


def _find_url_problem(parts: SplitResult, host: str | None) -> str | None:
    if parts.scheme not in ("http", "https") or not host:
        return "must be an https address; write it like https://ntfy.sh/topic (it is not shown)"
    if "@" in parts.netloc:
        return "must not contain a user or password; put them into headers_file or token_file"
    if parts.fragment:
        return "must not have a part behind `#`; take it off"
    if parts.scheme == "http" and not _is_in_the_house(host):
        return (
            "plain http would be readable on its way; write https:// (http is for this machine "
            "and private networks only)"
        )
    return None


def _is_in_the_house(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.lower().endswith(_HOUSE_ENDINGS)


def _read_text(value: object, surroundings: Surroundings) -> str:
    if not isinstance(value, str):
        raise ValueRefusedError(f"must be an address, not {shown(value)}; put it in quotes")
    text = expand(value, surroundings.environment)
    if len(text) > ADDRESS_CHARACTERS_MAX:
        raise ValueRefusedError(f"is longer than {ADDRESS_CHARACTERS_MAX:,} characters; shorten it")
    if not text.isprintable() or not text.isascii() or " " in text or "\\" in text:
        raise ValueRefusedError(
            "contains a space, a backslash or a character that is not plain; encode it as %.."
        )
    return text


def _read_apprise(value: object, surroundings: Surroundings) -> tuple[Address, ...]:
    items = value if isinstance(value, list) else [value]
    if not 1 <= len(items) <= APPRISE_MAX:
        raise ValueRefusedError(f"must have 1 to {APPRISE_MAX} addresses, not {len(items):,}")
    texts = [_read_text(item, surroundings) for item in items]
    if any("://" not in text for text in texts):
        raise ValueRefusedError("each must be an address such as mailto://... or slack://...")
    return tuple(Address(text=text) for text in texts)


def _read_kinds(value: object) -> tuple[Kind, ...]:
    words = value if isinstance(value, list) else [value]
    for word in words:
        if word not in list(Kind):
            hint = nearest(word, list(Kind)) if isinstance(word, str) else ""
            raise ValueRefusedError(
                f"{shown(word)} is nothing to be told of{hint or '; there are ' + ', '.join(Kind)}"
            )
    if not words:
        raise ValueRefusedError("is empty, so nothing would be told; take the key or the entry out")
    return tuple(kind for kind in Kind if kind in words)


def read_listen(value: object) -> Listen:
    """Return an address to listen on, or raise ValueRefusedError."""
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.ip_address(bare)
        fits = (":" in bare) == (bare != host)
    except ValueError:
        fits = bare == "localhost"
    if not (colon and fits and port.isascii() and port.isdecimal() and int(port) <= PORT_MAX):
        raise ValueRefusedError(
            f"must be an IP address (or localhost) and a port, such as 127.0.0.1:8765 or "
            f"[::1]:8765, not {shown(value)}"
        )
    return Listen(host=bare, port=int(port))


def _read_hosts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if len(items) > HOSTS_MAX:
        raise ValueRefusedError(f"has {len(items):,} names; {HOSTS_MAX} are possible")
    names = tuple(item.lower() for item in items if isinstance(item, str) and item)
    if len(names) < len(items) or any(set(name) - _HOST_CHARACTERS for name in names):
        raise ValueRefusedError("must be host names without ports, such as watch.example.org")
    return names


_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._:")
_TEXT = {"type": "string", "minLength": 1}
_URL = Checked(check=_read_url, schema={"type": "string", "pattern": r"^(https?://|\$\{)"})
_APPRISE = Checked(
    check=_read_apprise,
    schema={"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]},
)
_KIND = {"type": "string", "enum": list(Kind)}
_KINDS = Checked(
    check=lambda value, _surroundings: _read_kinds(value),
    schema={"anyOf": [_KIND, {"type": "array", "minItems": 1, "items": _KIND}]},
)
_LISTEN = Checked(
    check=lambda value, _surroundings: read_listen(value),
    schema={"type": "string", "pattern": r"^.+:[0-9]{1,5}$"},
)
_HOSTS = Checked(
    check=lambda value, _surroundings: _read_hosts(value),
    schema={"type": "array", "maxItems": HOSTS_MAX, "items": _TEXT},
)


# --- sections ------------------------------------------------------------------------------------


class ReceiverSection(Section):
    """Who is told: one of webhook, ntfy, ping and apprise, and how."""

    webhook: Annotated[Address | None, _URL] = Field(
        default=None, description="Address that gets each notice as JSON, by POST."
    )
    ntfy: Annotated[Address | None, _URL] = Field(
        default=None, description="Address of an ntfy topic."
    )
    ping: Annotated[Address | None, _URL] = Field(
        default=None,
        description="Address of a dead man's switch (Healthchecks and alike): pinged while all is "
        "well, with /start behind it at the start and /fail when it is not.",
    )
    apprise: Annotated[tuple[Address, ...], _APPRISE] = Field(
        default=(),
        description="Addresses for Apprise: mail, Slack, Matrix, Telegram, ... (extra `notify`).",
    )
    on: Annotated[tuple[Kind, ...], _KINDS] = Field(
        default=USUAL,
        description="What is told (key, balance, budget, folder, quarantine, delivery, disk, "
        "program, service); all but `service` unless set. Not for `ping`.",
        json_schema_extra={"default": list(USUAL)},
    )
    digest_s: Annotated[float, fields.duration("10s", "1d")] = seconds(
        "digest", "15m", "How long news of one kind are gathered after the first. Not for `ping`."
    )
    every_s: Annotated[float, fields.duration("10s", "1d")] = seconds(
        "every", "5m", "How often to `ping`."
    )
    priority: Annotated[Priority, fields.choice(Priority)] = Field(
        default=Priority.DEFAULT, description="How loud ntfy is: min, low, default, high or max."
    )
    headers_file: Annotated[Path | None, fields.path()] = Field(
        default=None, description="File with headers to send along, one `Name: value` a line."
    )
    token_file: Annotated[Path | None, fields.path()] = Field(
        default=None, description="File with a token, sent as `Authorization: Bearer`."
    )


def to_receiver(section: ReceiverSection) -> Receiver:
    """Return the receiver that a section describes; raise ValueRefusedError if it is none."""
    given = [via for via in Via if getattr(section, via)]
    if len(given) != 1:
        told = " and ".join(given) or "none"
        raise ValueRefusedError(f"needs exactly one of {', '.join(Via)}, and has {told}")
    [via] = given
    fitting = {
        "on": via is not Via.PING,
        "digest_s": via is not Via.PING,
        "every_s": via is Via.PING,
        "priority": via is Via.NTFY,
        "headers_file": via is not Via.APPRISE,
        "token_file": via is not Via.APPRISE,
    }
    wrong = [key for key in section.model_fields_set if not fitting.get(key, True)]
    if wrong:
        names = ", ".join(sorted(key.removesuffix("_s") for key in wrong))
        raise ValueRefusedError(f"{names}: means nothing for {via}; take it out")
    address = getattr(section, via)
    return Receiver(
        via=via,
        addresses=address if isinstance(address, tuple) else (address,),
        on=section.on,
        digest_s=section.digest_s,
        every_s=section.every_s,
        priority=section.priority,
        headers_file=section.headers_file,
        token_file=section.token_file,
    )


class Web(Section):
    """The web server: for monitoring, off unless `listen` is set."""

    listen: Annotated[Listen | None, _LISTEN] = Field(
        default=None,
        description="IP address and port, such as 127.0.0.1:8765. Off without it. One that other "
        "machines reach needs a token_file. Takes the extra `web`.",
    )
    hosts: Annotated[tuple[str, ...], _HOSTS] = Field(
        default=(),
        description="Host names by which it may be called, beside localhost and the address.",
        json_schema_extra={"default": []},
    )
    token_file: Annotated[Path | None, fields.path()] = Field(
        default=None,
        description="File with a token that every caller sends as `Authorization: Bearer`.",
    )


# --- between keys --------------------------------------------------------------------------------


def find(root: Mapping[str, object]) -> Iterator[Finding]:
    """Yield mistakes between the keys of `web` and `notify`; `root` is a file's plain values."""
    web = root.get("web")
    if isinstance(web, Mapping) and "listen" in web:
        if problem := _find_missing("web"):
            yield Finding(path=("web",), message=problem)
        try:
            reachable = not read_listen(web["listen"]).is_loopback
        except ValueRefusedError:
            reachable = False  # the field's own check says why
        if reachable and "token_file" not in web:
            message = (
                "other machines reach this address, so it needs a `token_file`; add one, or listen "
                "on 127.0.0.1 and let a proxy ask who calls"
            )
            yield Finding(path=("web", "listen"), message=message)
    notify = root.get("notify")
    entries = notify if isinstance(notify, list) else []
    if len(entries) > RECEIVERS_MAX:
        message = f"has {len(entries):,} receivers; {RECEIVERS_MAX} are possible"
        yield Finding(path=("notify",), message=message)
    for i, entry in enumerate(entries[:RECEIVERS_MAX]):
        if isinstance(entry, Mapping) and "apprise" in entry and (it := _find_missing("notify")):
            yield Finding(path=("notify", i, "apprise"), message=it)


def _find_missing(extra: str) -> str | None:
    if all(importlib.util.find_spec(name) is not None for name in EXTRAS[extra]):
        return None
    return f"needs packages that are not here; run: pip install 'venice-watch[{extra}]'"


def secrets_of(config: "Config") -> set[str]:
    """Return the parts of a configuration that must not be seen."""
    found: set[str] = set()
    for receiver in config.notify:
        for address in receiver.addresses:
            found |= address.secrets()
    # a topic that is called like us, or like a folder, is in every other line of the log
    return found - {"venice-watch", "venice_watch", *(folder.name for folder in config.folders)}
