"""Damage that decoders overlook: a missing end, a wrong checksum, a tail that was never written.

Rules: pure functions of the bytes; they answer with a clause for the owner's message, or None.
Lenient where viewers are: bytes after an image's end are nobody's loss.
"""

import zlib

ZERO_TAIL_BYTES = 4_096  # a disk block: what a pre-allocated file that was never filled ends in
# Formats whose end, or whose size, can be told from the bytes; the others need their decoder.
KINDS_WITH_END = frozenset({"jpeg", "png", "webp", "avif", "jp2"})

_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNK_OVERHEAD_BYTES = 12  # length, type, checksum
_ISO_HEADER_BYTES = 8
_ISO_HEADER_LONG_BYTES = 16
_JPEG_EOI = 0xD9
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST, SOI


def find_missing_end(data: bytes, kind: str) -> str | None:
    """Return what is missing at the end of `data`, in words, or None if nothing can be said."""
    if kind == "jpeg":
        return None if _jpeg_end(data) else "its end marker is missing"
    if kind == "png":
        return _png_missing_end(data)
    if kind == "webp":
        stated_bytes = int.from_bytes(data[4:8], "little") + 8
        return _short(data, stated_bytes) or _zero_tail(data[:stated_bytes])
    if kind in {"avif", "jp2"}:
        return _short(data, _iso_size_bytes(data)) or _zero_tail(data)
    return None


def find_wrong_checksum(data: bytes) -> str | None:
    """Return which chunk of the PNG `data` fails its checksum, in words, or None."""
    view = memoryview(data)
    for kind, start, end in _png_chunks(data):
        if end > len(data):
            return None
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            return f"the checksum of its {kind.decode('latin-1')} chunk at byte {start} is wrong"
    return None


def count_scans(data: bytes) -> int:
    """Return in how many passes a JPEG is stored, counting up to its end marker."""
    return data.count(b"\xff\xda", 0, _jpeg_end(data) or len(data))


def _short(data: bytes, stated_bytes: int) -> str | None:
    """Compare with a stated size; one byte of padding is often left out."""
    if len(data) + 1 < stated_bytes:
        return f"it has {len(data):,} of {stated_bytes:,} bytes"
    return None


def _zero_tail(data: bytes) -> str | None:
    """Notice a compressed file that was allocated in full and not written to its end."""
    if len(data) > ZERO_TAIL_BYTES and not any(data[-ZERO_TAIL_BYTES:]):
        return f"its last {ZERO_TAIL_BYTES:,} bytes were never written"
    return None


def _jpeg_end(data: bytes) -> int:
    """Return the offset behind the first image's end marker, or 0 if there is none."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == _JPEG_EOI:
            return at + 2
        if marker in {0x00, 0xFF}:  # an FF of the picture's own, or a fill byte
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))  # a thumbnail's end is inside
    return 0


def _png_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """List (type, start, end) of the chunks up to IEND; the last end may lie beyond the data."""
    chunks: list[tuple[bytes, int, int]] = []
    at = _PNG_SIGNATURE_BYTES
    while at + 8 <= len(data) and (not chunks or chunks[-1][0] != b"IEND"):
        end = at + _PNG_CHUNK_OVERHEAD_BYTES + int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], at, end))
        at = end
    return chunks


def _png_missing_end(data: bytes) -> str | None:
    chunks = _png_chunks(data)
    if chunks and chunks[-1][0] == b"IEND":
        return None  # a few bytes missing from the very last checksum hurt nobody
    if chunks and chunks[-1][2] > len(data) and not chunks[-1][0].isalpha():
        return None  # lost its way, which is damage and no missing end
    return "its IEND chunk is missing"


def _iso_size_bytes(data: bytes) -> int:
    """Add up the boxes of an ISO base media file; 0 if it is none (a bare codestream)."""
    if data[:4] == b"\xff\x4f\xff\x51":
        return 0
    at = 0
    while at + _ISO_HEADER_BYTES <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + _ISO_HEADER_LONG_BYTES])
        if size < _ISO_HEADER_BYTES:
            break  # 0: to the end of the file; anything else: rubbish, left to the decoder
        at += size
    return at
