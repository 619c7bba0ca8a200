"""How facts are written: local times with their offset, money in USD."""

from datetime import datetime


def when(moment: float) -> str:
    """Return a moment (seconds since 1970) as local ISO time with its offset."""
    return datetime.fromtimestamp(moment).astimezone().isoformat("T", "seconds")


def when_or_none(moment: float | None) -> str | None:
    """Return a moment as `when` does, or None."""
    return None if moment is None else when(moment)


def usd(microusd: int) -> float:
    """Return an amount in USD, for programs."""
    return microusd / 1_000_000
