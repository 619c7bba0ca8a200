"""Time, as a value that is passed in: the wall for records, the monotonic clock for waiting."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits; tests pass one whose time jumps."""

    def now(self) -> float:
        """Return seconds since 1970, as the wall clock has it (it may jump)."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some start, never going back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`, other tasks running meanwhile."""
        await asyncio.sleep(seconds)
