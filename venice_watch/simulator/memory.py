"""How many bytes all requests together may hold.

Rules: everything large (an upload, a result) is put on its request's lease, and goes with it.
Beyond the limit a request is refused as a server at capacity would refuse it; nothing waits, so
nothing can wait for each other.
"""

from types import TracebackType
from typing import Self

HELD_BYTES_MAX = 1 << 30  # 64 uploads of 8 MB and as many results; a quarter of a small machine


class OverCapacityError(Exception):
    """No room for these bytes now."""


class Memory:
    """The account of bytes held by all requests."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0

    def lease(self) -> "Lease":
        """Return one request's share, empty."""
        return Lease(self)


class Lease:
    """What one request holds; given back as a whole."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._memory.held_bytes -= self._bytes
        self._bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Count `size_bytes` more; raise OverCapacityError where that is too much."""
        if self._memory.held_bytes + size_bytes > self._memory.bytes_max:
            raise OverCapacityError
        self._memory.held_bytes += size_bytes
        self._bytes += size_bytes
