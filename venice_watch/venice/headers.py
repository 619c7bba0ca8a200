"""What the API's headers say: how long to wait, what is left of the rate, what the key may spend.

A header is a stranger's word: garbage says nothing, no wait is shorter than a second or longer than
two minutes, and times are read by the server's own clock where it tells it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

WAIT_MAX_S = 120.0  # no header makes us wait longer than this at a time
WAIT_MIN_S = 1.0  # and none makes us come back sooner
RESET_MAX_S = 62.0  # the rate's window is a minute: it cannot turn later than this
MILLISECONDS_FROM = 1e11  # a Unix time above this is in milliseconds
DURATION_BELOW = 1e8  # a number below this is no Unix time of our days
DURATION_S_BELOW = 1e3  # and one above this is in milliseconds
DIGITS_MAX = 6  # of requests a minute; more is garbage
BALANCES = {"x-venice-balance-usd": "USD", "x-venice-balance-diem": "DIEM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What an answer says of the key: None where it does not say.

    `remaining` requests until the window turns in `reset_s` seconds; `failures_left` before
    everything is refused for a while; `balances` before this request, by their names.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None
    failures_left: int | None = None
    balances: Mapping[str, float] = field(default_factory=dict)


def read_allowance(headers: Mapping[str, str], now: float) -> Allowance:
    """Read the headers that come with every answer to an accepted key; lower-case names."""
    balances = {
        name: value
        for header, name in BALANCES.items()
        if (value := _read_number(headers.get(header, ""))) is not None
    }
    return Allowance(
        limit=_read_count(headers.get("x-ratelimit-limit-requests", "")) or None,
        remaining=_read_count(headers.get("x-ratelimit-remaining-requests", "")),
        reset_s=read_reset_s(headers, now),
        failures_left=_read_count(headers.get("x-ratelimit-remaining", "")),
        balances=balances,
    )


def read_wait_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return what Retry-After names (seconds or a date), between sane limits, or None."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return _sane(float(text))
    except ValueError:
        when = _read_date(text)
    if when is None:
        return None
    # the server's own clock where it tells it: ours may be wrong
    return _sane((when - _server_time(headers, now)).total_seconds())


def read_reset_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until the rate window turns, or None: seconds or milliseconds."""
    try:
        reset = float(headers.get("x-ratelimit-reset-requests", ""))
    except ValueError:
        return None
    if not math.isfinite(reset):
        return None
    if reset < DURATION_BELOW:  # no time but a duration, as other headers of the API have
        return min(RESET_MAX_S, _sane(reset if reset < DURATION_S_BELOW else reset / 1000))
    if reset > MILLISECONDS_FROM:
        reset /= 1000
    return min(RESET_MAX_S, _sane(reset - _server_time(headers, now).timestamp()))


def read_server_time(headers: Mapping[str, str]) -> float | None:
    """Return when the server says that it answered, in seconds since 1970, or None."""
    date = _read_date(headers.get("date", ""))
    return None if date is None else date.timestamp()


def _server_time(headers: Mapping[str, str], now: float) -> datetime:
    return _read_date(headers.get("date", "")) or datetime.fromtimestamp(now, UTC)


def _read_date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter: a time zone of many digits
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)  # `-0000` names no zone


def _sane(seconds: float) -> float:
    """Clamp a named wait; NaN becomes the minimum."""
    return min(WAIT_MAX_S, max(WAIT_MIN_S, seconds)) if seconds == seconds else WAIT_MIN_S  # noqa: PLR0124


def _read_count(text: str) -> int | None:
    text = text.strip()
    usable = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
    return int(text) if usable else None


def _read_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
