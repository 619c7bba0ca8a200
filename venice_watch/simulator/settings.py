"""What kind of Venice this simulator is.

Rules: a frozen value, checked whole when it is made; a change makes a new one. Only loopback: the
control endpoint has no password, and a fake of a paid service must not be reachable by strangers.
A setting by name and text (`read_setting`) passes the same checks as one in JSON.
"""

import dataclasses
import difflib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from venice_watch.simulator.contract import ContractName
from venice_watch.simulator.pixels import PixelsName
from venice_watch.simulator.scalars import read_scalar
from venice_watch.simulator.script import Scripted

ResetFormat = Literal["seconds", "ms", "missing", "garbage", "past"]
TooLarge = Literal["after", "at_once"]
FailureHeaders = Literal["block", "always"]

CLOCK_OFFSET_S_MAX = 1_000_000_000  # thirty years: a machine that wakes up in 1994
PATCHED_NEVER = frozenset({"host", "port", "workers", "seed", "faults"})  # fixed by the start

_CHOICES: dict[str, tuple[str, ...]] = {
    "contract": get_args(ContractName),
    "reset_format": get_args(ResetFormat),
    "failure_headers": get_args(FailureHeaders),
    "too_large": get_args(TooLarge),
    "pixels": get_args(PixelsName),
}
_FLAGS = ("strict", "access_permitted", "send_date")
_COUNTS: dict[str, tuple[int, int]] = {
    "port": (0, 65_535),
    "requests_per_minute": (0, 1_000_000),
    "failures_max": (0, 1_000_000),
    "overloaded_concurrency": (0, 1_000),
    "workers": (1, 64),
}
_AMOUNTS: dict[str, tuple[float, float]] = {
    "latency_s": (0, 3_600),
    "latency_jitter_s": (0, 3_600),
    "refused_s": (0, 3_600),
    "clock_offset_s": (-CLOCK_OFFSET_S_MAX, CLOCK_OFFSET_S_MAX),
    "rate_window_s": (0.01, 3_600),
    "failures_window_s": (0.01, 3_600),
    "failures_block_s": (0, 3_600),
    "keep_alive_s": (0.01, 3_600),
    "balance_usd": (0, 1_000_000_000),
    "spend_limit_usd": (0, 1_000_000_000),
    "price_2x_usd": (0, 1_000),
    "price_4x_usd": (0, 1_000),
}
_OPTIONAL = frozenset(
    {"requests_per_minute", "failures_max", "overloaded_concurrency", "spend_limit_usd"}
)

_WORDS = {  # what no table above describes
    "host": "a loopback address",
    "keys": "keys with commas between them | none: all but those that begin with bad",
    "seed": "a whole number | none",
    "key_expires": "a time such as 2030-01-31T00:00:00Z | none: never",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every way in which one Venice differs from another; None is "no limit"."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one
    latency_s: float = 1.0  # from the whole request to the first byte of the answer, at least
    latency_jitter_s: float = 0.0  # up to so much more, evenly spread
    refused_s: float = 0.0  # nobody listens for so long from the start, or from the change on
    clock_offset_s: float = 0.0  # how far the server's clock is ahead of this machine's
    send_date: bool = True  # False: no Date header, so nobody can tell that the clock is off
    requests_per_minute: int | None = 20  # upscales in any window of rate_window_s
    rate_window_s: float = 60.0
    reset_format: ResetFormat = "ms"  # documented as seconds, seen as milliseconds
    contract: ContractName = "enhance"
    strict: bool = True  # the enhance contract rejects what it does not know
    too_large: TooLarge = "after"  # 413 after reading the body, or at once, closing
    keys: tuple[str, ...] | None = field(default=None, repr=False)  # None: all but "bad..."
    access_permitted: bool = True  # False: 403 for whoever wants something paid
    balance_usd: float = 100.0
    spend_limit_usd: float | None = None  # of each key by itself
    key_expires: str | None = None  # what is told of the keys, such as 2030-01-31T00:00:00Z
    price_2x_usd: float = 0.02
    price_4x_usd: float = 0.08
    failures_max: int | None = 20  # more failed requests in failures_window_s block everything
    failures_window_s: float = 30.0
    failures_block_s: float = 30.0
    failure_headers: FailureHeaders = "block"  # seen with the block only; documented with all
    overloaded_concurrency: int | None = None  # more upscales at once are answered 429
    keep_alive_s: float = 60.0  # how long an idle connection stays open
    workers: int = 2  # threads that make pictures
    pixels: PixelsName = "real"  # nearest: cheap; canned: made once for each size
    faults: tuple[Scripted, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_host(self.host)
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name}: {value!r}; choose one of {', '.join(choices)}")
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: {getattr(self, name)!r}; it is true or false")  # noqa: TRY004 - a value of the user's, not a caller's mistake
        for name, (least, most) in (_COUNTS | _AMOUNTS).items():
            self._check_number(name, least, most)
        if not isinstance(self.key_expires, str | None):
            raise ValueError(f"key_expires: {self.key_expires!r}; give a text, or null for never")  # noqa: TRY004 - a value of the user's, not a caller's mistake
        if self.keys is not None and not all(isinstance(key, str) and key for key in self.keys):
            raise ValueError("keys: give a list of texts, none of them empty")

    def changed(self, patch: Mapping[str, object]) -> "Settings":
        """Return these settings with `patch` applied; raise ValueError naming what is wrong."""
        for name in patch:
            _check_name(name, PATCHED_NEVER, "a setting that can change while running")
        values = dict(patch)
        if isinstance(values.get("keys"), list):
            values["keys"] = tuple(values["keys"])  # type: ignore[arg-type]  # narrowed by isinstance
        return dataclasses.replace(self, **values)  # type: ignore[arg-type]  # __post_init__ checks

    def _check_number(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        kinds = int if name in _COUNTS else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
            kind = "a whole number" if name in _COUNTS else "a number"
            raise ValueError(f"{name}: {value!r}; give {kind} from {least:g} to {most:g}")


def read_setting(text: str) -> tuple[str, object]:
    """Return what `NAME=VALUE` sets; raise ValueError where it names no setting.

    `none` is None, and `keys` takes several with commas between them.
    """
    name, equals, value = text.partition("=")
    name = name.strip()
    _check_name(name, frozenset({"faults"}), "a setting")
    if not equals:
        raise ValueError(f"{name}: no value is given; write {name}=VALUE")
    if name == "keys" and value.strip().lower() != "none":
        return name, tuple(key.strip() for key in value.split(","))
    return name, read_scalar(value)


def describe_settings() -> tuple[tuple[str, str, str], ...]:
    """Return name, default and what is allowed of every setting that `read_setting` takes."""
    return tuple(
        (f.name, _shown(f.default), _allowed(f.name))
        for f in dataclasses.fields(Settings)
        if f.name != "faults"
    )


def _shown(default: object) -> str:
    """Return a default as `read_setting` takes it."""
    if isinstance(default, float):
        return f"{default:g}"
    return str(default).lower() if default is None or isinstance(default, bool) else str(default)


def _allowed(name: str) -> str:
    """Return what a setting can be, in words."""
    if name in _CHOICES:
        return " | ".join(_CHOICES[name])
    if name in _FLAGS:
        return "true | false"
    if name in _WORDS:
        return _WORDS[name]
    least, most = (_COUNTS | _AMOUNTS)[name]
    allowed = f"{least:,} to {most:,}"
    return f"{allowed} | none" if name in _OPTIONAL else allowed


def _check_name(name: str, barred: frozenset[str], which: str) -> None:
    """Refuse what names no setting, with the nearest one that there is."""
    allowed = [f.name for f in dataclasses.fields(Settings) if f.name not in barred]
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(allowed)}"
        raise ValueError(f"{name}: not {which}{hint}")


def _check_host(host: str) -> None:
    """Refuse any address that others can reach."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"host: {host!r} is not loopback; use 127.0.0.1, ::1 or localhost")
