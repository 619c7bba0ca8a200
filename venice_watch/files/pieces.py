"""Files made of bytes of our own and of spans of another file, which the kernel copies.

Rules: nothing that can be left where it is passes through this process; a span that ends before it
should is an error, never a shorter file.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

COPY_BYTES = 1 << 20  # at a time, where the kernel cannot do it alone
_KERNEL_BYTES = 1 << 30  # asked of it at a time: it copies less than 2 GiB in one go
# what the kernel, a file system or a sandbox says when it cannot copy these two by itself
_NOT_POSSIBLE = frozenset(
    {
        errno.EXDEV,
        errno.ENOSYS,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.EPERM,
        errno.EBADF,
        errno.ETXTBSY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes of the other file, from `start` up to `end`."""

    start: int
    end: int


Piece: TypeAlias = bytes | Span


def size_of(pieces: Sequence[Piece]) -> int:
    """Return how many bytes a file made of these has."""
    return sum(len(one) if isinstance(one, bytes) else one.end - one.start for one in pieces)


def write_pieces(source: int, target: int, pieces: Sequence[Piece]) -> None:
    """Append the pieces to `target`; both are descriptors. Raises OSError."""
    for piece in pieces:
        if isinstance(piece, Span):
            _copy(source, target, piece)
        else:
            _write(target, piece)


def read_pieces(source: int, pieces: Sequence[Piece]) -> Iterator[bytes]:
    """Yield what a file made of these holds, some at a time. Raises OSError."""
    for piece in pieces:
        if isinstance(piece, Span):
            at = piece.start
            while at < piece.end:
                data = _pread(source, at, piece.end)
                yield data
                at += len(data)
        else:
            yield piece


def digest_of(source: int, pieces: Sequence[Piece]) -> bytes:
    """Return the SHA-256 of a file made of these. Raises OSError."""
    digest = hashlib.sha256()
    for data in read_pieces(source, pieces):
        digest.update(data)
    return digest.digest()


def _copy(source: int, target: int, span: Span) -> None:
    """Copy a span by the first way that works here; what is left, by the next."""
    at = span.start
    for way in (_by_range, _by_sendfile, _by_reading):
        at = _copy_by(way, source, target, Span(start=at, end=span.end))
        if at == span.end:
            return
    raise OSError(errno.EIO, "the file ends before it should")


def _copy_by(way: Callable[[int, int, int, int], int], source: int, target: int, span: Span) -> int:
    """Copy as far as one way goes; return where it stopped."""
    at = span.start
    while at < span.end:
        try:
            copied = way(source, target, at, span.end)
        except OSError as exc:
            if way is _by_reading or exc.errno not in _NOT_POSSIBLE:
                raise
            break
        if copied == 0:
            break
        at += copied
    return at


def _by_range(source: int, target: int, at: int, end: int) -> int:
    return os.copy_file_range(source, target, min(end - at, _KERNEL_BYTES), offset_src=at)


def _by_sendfile(source: int, target: int, at: int, end: int) -> int:
    return os.sendfile(target, source, at, min(end - at, _KERNEL_BYTES))


def _by_reading(source: int, target: int, at: int, end: int) -> int:
    data = _pread(source, at, end)
    _write(target, data)
    return len(data)


def _pread(source: int, at: int, end: int) -> bytes:
    data = os.pread(source, min(end - at, COPY_BYTES), at)
    if not data:
        raise OSError(errno.EIO, "the file ends before it should")
    return data


def _write(target: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]
