"""What may be spent in a day or a month, and when the next one begins: pure, local time.

Rules: money is in millionths of a US dollar; days are the owner's (local time), so that a budget
turns when his day does; a request belongs to the day on which it was written down.
"""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum


class Period(StrEnum):
    """How long a budget lasts."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A budget of the configuration; `folder` None: all folders together."""

    folder: str | None
    period: Period
    microusd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit in one particular period: `days` begin with this text (2026-11 or 2026-11-25)."""

    limit: Limit
    days: str

    @property
    def whose(self) -> str:
        """Return whom it is for, in words."""
        folder = self.limit.folder
        return "all folders" if folder is None else f"folder {folder!r}"


def day_of(now: float) -> str:
    """Return the local day of a moment (seconds since 1970), as 2026-11-25."""
    return _local(now).strftime("%Y-%m-%d")


def current(limit: Limit, now: float) -> Budget:
    """Return the budget that a limit gives at a moment."""
    day = day_of(now)
    return Budget(limit=limit, days=day if limit.period is Period.DAY else day[:7])


def turns_at(limit: Limit, now: float) -> float:
    """Return when the next period of a limit begins, in seconds since 1970."""
    today = _local(now).date()
    if limit.period is Period.DAY:
        following = today + timedelta(days=1)
    else:
        following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    # naive, so that the zone's own rules decide what midnight is on that day
    return datetime.combine(following, time()).timestamp()


def usd(microusd: int) -> str:
    """Return an amount as people write it, in cents or finer where it is: 1.00, 0.025."""
    text = f"{microusd / 1_000_000:.6f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"


def _local(now: float) -> datetime:
    return datetime.fromtimestamp(now).astimezone()
