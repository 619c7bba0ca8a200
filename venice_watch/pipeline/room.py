"""Room in memory: originals are read whole to be looked at, so many bytes at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

BYTES_MAX = 40_000_000  # one of the largest that Venice takes, and a few of the usual ones


class Room:
    """Lets files in, in their order, as long as they fit; one that never would comes in alone."""

    def __init__(self, size_bytes: int = BYTES_MAX) -> None:
        self._size_bytes = size_bytes
        self._used_bytes = 0
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()  # a large one must not wait for ever for many small ones

    @contextlib.asynccontextmanager
    async def taken(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait until there is room for a file, and keep it while inside."""
        wanted = min(size_bytes, self._size_bytes)
        async with self._turn, self._changed:
            await self._changed.wait_for(lambda: self._used_bytes + wanted <= self._size_bytes)
            self._used_bytes += wanted
        try:
            yield
        finally:
            self._used_bytes -= wanted
            async with self._changed:
                self._changed.notify_all()
