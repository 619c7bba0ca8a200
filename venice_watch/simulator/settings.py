"""What kind of Venice this simulator is.

Rules: a frozen value, checked whole when it is made; a change makes a new one. Only loopback: the
control endpoint has no password, and a fake of a paid service must not be reachable by strangers.
"""

import dataclasses
import difflib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from venice_watch.simulator.contract import ContractName
from venice_watch.simulator.pixels import PixelsName
from venice_watch.simulator.script import Scripted

ResetFormat = Literal["seconds", "ms", "missing", "garbage", "past"]
TooLarge = Literal["after", "at_once"]

PATCHED_NEVER = frozenset({"host", "port", "workers", "seed", "faults"})  # fixed by the start

_CHOICES: dict[str, tuple[str, ...]] = {
    "contract": get_args(ContractName),
    "reset_format": get_args(ResetFormat),
    "too_large": get_args(TooLarge),
    "pixels": get_args(PixelsName),
}
_FLAGS = ("strict", "access_permitted")
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
    "rate_window_s": (0.01, 3_600),
    "failures_window_s": (0.01, 3_600),
    "failures_block_s": (0, 3_600),
    "keep_alive_s": (0.01, 3_600),
    "balance_usd": (0, 1e9),
    "spend_limit_usd": (0, 1e9),
    "price_2x_usd": (0, 1_000),
    "price_4x_usd": (0, 1_000),
}
_OPTIONAL = frozenset(
    {"requests_per_minute", "failures_max", "overloaded_concurrency", "spend_limit_usd"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every way in which one Venice differs from another; None is "no limit"."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any free one
    latency_s: float = 1.0  # from the whole request to the first byte of the answer, at least
    latency_jitter_s: float = 0.0  # up to so much more, evenly spread
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
    overloaded_concurrency: int | None = None  # more upscales at once are answered 429
    keep_alive_s: float = 60.0  # how long an idle connection stays open
    workers: int = 2  # threads that make pictures
    pixels: PixelsName = "real"  # nearest: cheap, for benchmarks
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
        allowed = [f.name for f in dataclasses.fields(self) if f.name not in PATCHED_NEVER]
        for name in patch:
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{name}: not a setting that can change while running{hint}")
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


def _check_host(host: str) -> None:
    """Refuse any address that others can reach."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"host: {host!r} is not loopback; use 127.0.0.1, ::1 or localhost")
