"""Room in memory: originals are read whole to be looked at, so many bytes at a time.

Rules: one file of each folder comes in whatever there is, because a share that hangs may keep
what is inside for hours, and must hold up its own folder alone; the others come in as they fit.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

BYTES_MAX = 40_000_000  # one of the largest that Venice takes, and a few of the usual ones


class Room:
    """Lets files in, those of one folder in their order; one that never would fit alone of them."""

    def __init__(self, size_bytes: int = BYTES_MAX) -> None:
        self._size_bytes = size_bytes
        self._inside_bytes: Counter[str] = Counter()  # by folder
        self._changed = asyncio.Condition()
        # a large one must not wait for ever for many small ones of its folder
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @contextlib.asynccontextmanager
    async def taken(self, folder: str, size_bytes: int) -> AsyncIterator[None]:
        """Wait until there is room for a file, and keep it while inside."""
        wanted_bytes = min(size_bytes, self._size_bytes)
        async with self._turns[folder], self._changed:
            await self._changed.wait_for(lambda: self._may_enter(folder, wanted_bytes))
            self._inside_bytes[folder] += wanted_bytes
        try:
            yield
        finally:
            self._inside_bytes[folder] -= wanted_bytes
            async with self._changed:
                self._changed.notify_all()

    def _may_enter(self, folder: str, wanted_bytes: int) -> bool:
        fits = self._inside_bytes.total() + wanted_bytes <= self._size_bytes
        return fits or not self._inside_bytes[folder]
