"""Durations as people write them: `250ms`, `2s`, `10m`, `1h30m`, `2d`.

Rules: units from large to small, each once; a plain number counts seconds.
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


_HOW = "write a number and a unit (ms, s, m, h, d), such as 250ms, 10m or 1h30m"
