"""Durations and sizes as people write them: `250ms`, `10m`, `1h30m`, `2d`; `500MB`, `2GB`.

Rules: units of time from large to small, each once; a plain number counts seconds, or bytes.
"""

import re
from types import MappingProxyType

from venice_watch.config.findings import ValueRefusedError
from venice_watch.parameters import shown

DURATION_CHARACTERS_MAX = 40  # of the text: more is no duration

UNITS_S = MappingProxyType({"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001})
PATTERN = (
    r"([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?"
    r"([0-9]+(\.[0-9]+)?s)?([0-9]+(\.[0-9]+)?ms)?"
)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[dhms])")
SIZES_BYTES = MappingProxyType({"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12})
SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(|b|kb|mb|gb|tb)", re.IGNORECASE)


def parse_duration(value: object) -> float:
    """Return seconds, or raise ValueRefusedError with a sentence that names the units."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 < value < float("inf"):
            raise ValueRefusedError(f"{shown(value)} is no duration; {_HOW}")
        return float(value) if value < UNITS_S["d"] * 1_000_000 else float("inf")
    if (
        not isinstance(value, str)
        or not value
        or len(value) > DURATION_CHARACTERS_MAX
        or not re.fullmatch(PATTERN, value)
    ):
        raise ValueRefusedError(f"{shown(value)} is no duration; {_HOW}")
    return sum(float(number) * UNITS_S[unit] for number, unit in _PART.findall(value))


def spell_duration(seconds: float) -> str:
    """Return the text of a duration in its largest whole unit."""
    for unit, size_s in UNITS_S.items():
        count = seconds / size_s
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:g}s"


def parse_size(value: object) -> int:
    """Return bytes, or raise ValueRefusedError with a sentence that names the units."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueRefusedError(
            f"{shown(value)} is no size; write a number and a unit (kB, MB, GB, TB), such as 2GB"
        )
    return round(float(found[1]) * SIZES_BYTES[found[2].lower()])


def spell_size(size_bytes: int) -> str:
    """Return the text of a size in its largest whole unit."""
    for unit, of_one in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes and size_bytes % of_one == 0:
            return f"{size_bytes // of_one}{unit}"
    return f"{size_bytes:,} bytes"


_HOW = "write a number and a unit (ms, s, m, h, d), such as 250ms, 10m or 1h30m"
