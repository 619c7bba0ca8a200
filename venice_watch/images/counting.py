"""How many frames or pages a file has, counted without decoding or even building one.

Pillow counts by moving from frame to frame, which costs a hostile file of a few megabytes minutes.
Both walks end at the first thing that makes no sense: what lies behind it cannot be reached anyway.
"""

from typing import Literal

_GIF_HEADER_BYTES = 13
_GIF_EXTENSION, _GIF_IMAGE = 0x21, 0x2C
_GIF_DESCRIPTOR_BYTES = 10
_TIFF_BIG = 43


def count_gif_frames(data: bytes, limit: int) -> int:
    """Return how many pictures a GIF holds, at least 1 and at most `limit`."""
    if len(data) < _GIF_HEADER_BYTES:
        return 1
    at, frames = _GIF_HEADER_BYTES + _colour_table_bytes(data[10]), 0
    while at + 1 < len(data) and frames < limit:
        if data[at] == _GIF_EXTENSION:
            at = _skip_blocks(data, at + 2)
        elif data[at] == _GIF_IMAGE and at + _GIF_DESCRIPTOR_BYTES < len(data):
            table_bytes = _colour_table_bytes(data[at + 9])
            at = _skip_blocks(data, at + _GIF_DESCRIPTOR_BYTES + table_bytes + 1)
            frames += 1
        elif data[at] == 0:
            at += 1  # padding, which decoders step over
        else:
            break
    return max(1, frames)


def count_tiff_pages(data: bytes, limit: int) -> int:
    """Return how many directories the chain of a TIFF has, at least 1 and at most `limit`."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    is_big = _TIFF_BIG in data[2:4]
    count_bytes, entry_bytes, pointer_bytes = (8, 20, 8) if is_big else (2, 12, 4)
    at = _number(data, 8 if is_big else 4, pointer_bytes, order)
    seen: set[int] = set()
    while 0 < at < len(data) and at not in seen and len(seen) < limit:
        seen.add(at)
        entries = _number(data, at, count_bytes, order)
        at = _number(data, at + count_bytes + entries * entry_bytes, pointer_bytes, order)
    return max(1, len(seen))


def _number(data: bytes, at: int, size_bytes: int, order: Literal["little", "big"]) -> int:
    return int.from_bytes(data[at : at + size_bytes], order)


def _colour_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: bytes, at: int) -> int:
    """Return the offset behind a chain of sub-blocks, each led by its length."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1
