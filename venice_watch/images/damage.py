"""Damage that decoders overlook: a missing end, a wrong checksum, a tail that was never written.

Rules: pure functions of the bytes; they answer with a clause for the owner's message, or None.
Lenient where viewers are: bytes after an image's end are nobody's loss. A PNG can be proved whole
without being decoded: its checksums, the length of its inflated rows and their filters say it all.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

ZERO_TAIL_BYTES = 4_096  # a disk block: what a pre-allocated file that was never filled ends in
# Formats whose end, or whose size, can be told from the bytes; the others need their decoder.
KINDS_WITH_END = frozenset({"jpeg", "png", "webp", "avif", "heic", "jp2"})

_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNK_OVERHEAD_BYTES = 12  # length, type, checksum
_PNG_HEADER = slice(16, 29)  # IHDR's content
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PNG_PALETTE = 3
_PNG_FILTER_MAX = 4
# Adam7: (first column, first row, column step, row step) of its seven passes
_PNG_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_INFLATED_BYTES = 1 << 18  # at a time: what a pixel's check costs in memory
_DEFLATED_BYTES = 1 << 16
_ISO_HEADER_BYTES = 8
_ISO_HEADER_LONG_BYTES = 16
_JPEG_EOI = 0xD9
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF; without DHT, JPG, DAC
_COEFFICIENT_BYTES = 2
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST, SOI


def find_missing_end(data: bytes, kind: str) -> str | None:
    """Return what is missing at the end of `data`, in words, or None if nothing can be said."""
    if kind == "jpeg":
        return None if jpeg_end(data) else "its end marker is missing"
    if kind == "png":
        return _png_missing_end(data)
    if kind == "webp":
        stated_bytes = int.from_bytes(data[4:8], "little") + 8
        return _short(data, stated_bytes) or _zero_tail(data[:stated_bytes])
    if kind in {"avif", "heic", "jp2"}:
        return _short(data, _iso_size_bytes(data)) or _zero_tail(data)
    return None


def find_wrong_checksum(data: bytes) -> str | None:
    """Return which chunk of the PNG `data` fails its checksum, in words, or None."""
    view = memoryview(data)
    for kind, start, end in png_chunks(data):
        if end > len(data):
            return None
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            return f"the checksum of its {kind.decode('latin-1')} chunk at byte {start} is wrong"
    return None


def find_bad_pixels(data: bytes) -> str | None:
    """Return why a PNG's pixels cannot be decoded, in words, or None; nothing is kept of them.

    For a PNG whose checksums are right and whose header a decoder has accepted.
    """
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    depth, colour, *_, interlace = data[_PNG_HEADER][8:]
    chunks = png_chunks(data)
    names = [name for name, _, _ in chunks]
    if b"IDAT" not in names:
        return "it has no pixels"
    if colour == _PNG_PALETTE and b"PLTE" not in names[: names.index(b"IDAT")]:
        return "its palette is missing"
    rows = _PngRows.of(width, height, depth * _PNG_CHANNELS[colour], interlaced=bool(interlace))
    try:
        for block in _inflate(_consecutive(data, chunks)):
            if not rows.take(block):
                return "a row of its pixels has a filter that does not exist"
            if rows.are_whole:
                return None
    except zlib.error:
        return "its pixels cannot be inflated"
    return None if rows.are_whole else "rows of its pixels are missing"


def count_scans(data: bytes) -> int:
    """Return in how many passes a JPEG is stored, counting up to its end marker."""
    return data.count(b"\xff\xda", 0, jpeg_end(data) or len(data))


def coefficients_bytes(data: bytes) -> int:
    """Return what a JPEG's decoder keeps of it in memory before the first pixel: 0 for one pass."""
    if count_scans(data) <= 1:
        return 0
    at = next((at for marker, at in _jpeg_segments(data) if marker in _JPEG_FRAMES), None)
    if at is None:
        return 0
    height, width = int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
    sampling = data[at + 11 : at + 10 + 3 * data[at + 9] : 3]
    areas = [(factor >> 4) * (factor & 15) for factor in sampling]
    share = sum(areas) / max(areas, default=1) if any(areas) else len(areas)
    return int(width * height * share) * _COEFFICIENT_BYTES


def png_chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """List (type, start, end) of the chunks up to IEND; the last end may lie beyond the data."""
    chunks: list[tuple[bytes, int, int]] = []
    at = _PNG_SIGNATURE_BYTES
    while at + 8 <= len(data) and (not chunks or chunks[-1][0] != b"IEND"):
        end = at + _PNG_CHUNK_OVERHEAD_BYTES + int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], at, end))
        at = end
    return chunks


def jpeg_end(data: bytes) -> int:
    """Return the offset behind the first image's end marker, or 0 if there is none."""
    return next((at + 2 for marker, at in _jpeg_segments(data) if marker == _JPEG_EOI), 0)


@dataclass(slots=True, kw_only=True)
class _PngRows:
    """The inflated rows of a PNG, counted as they come; each begins with its filter."""

    passes: list[tuple[int, int]]  # (bytes of a row with its filter, bytes of the pass), in order
    row_at: int = 0  # where in the pass's bytes to come the next row begins

    @classmethod
    def of(cls, width: int, height: int, bits: int, *, interlaced: bool) -> "_PngRows":
        passes = []
        for left, top, across, down in _PNG_PASSES if interlaced else ((0, 0, 1, 1),):
            columns, rows = -(-(width - left) // across), -(-(height - top) // down)
            if columns > 0 and rows > 0:
                row_bytes = 1 + (columns * bits + 7) // 8
                passes.append((row_bytes, row_bytes * rows))
        return cls(passes=passes)

    @property
    def are_whole(self) -> bool:
        return not self.passes

    def take(self, block: bytes) -> bool:
        """Count `block`; say whether its filters exist."""
        while self.passes and block:
            row_bytes, left_bytes = self.passes[0]
            part, block = block[:left_bytes], block[left_bytes:]
            if max(part[self.row_at :: row_bytes], default=0) > _PNG_FILTER_MAX:
                return False
            self.row_at = (self.row_at - len(part)) % row_bytes
            if len(part) == left_bytes:
                self.passes.pop(0)
                self.row_at = 0
            else:
                self.passes[0] = (row_bytes, left_bytes - len(part))
        return True


def _consecutive(data: bytes, chunks: list[tuple[bytes, int, int]]) -> Iterator[memoryview]:
    """Yield the content of the first run of IDAT chunks; decoders stop behind it."""
    view = memoryview(data)
    begun = False
    for name, start, end in chunks:
        if name == b"IDAT":
            begun = True
            yield view[start + 8 : end - 4]
        elif begun:
            return


def _inflate(parts: Iterator[memoryview]) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    for part in parts:
        for at in range(0, len(part), _DEFLATED_BYTES):
            rest: bytes | memoryview = part[at : at + _DEFLATED_BYTES]
            while rest:
                yield inflater.decompress(rest, _INFLATED_BYTES)
                rest = inflater.unconsumed_tail
    while block := inflater.decompress(b"", _INFLATED_BYTES):
        yield block


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


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, offset) of each segment; what lies between is the picture's own."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker in {0x00, 0xFF}:  # an FF of the picture's own, or a fill byte
            at += 1
            continue
        yield marker, at
        if marker == _JPEG_EOI:
            return
        if marker in _JPEG_BARE:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))  # a thumbnail's end is inside


def _png_missing_end(data: bytes) -> str | None:
    chunks = png_chunks(data)
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
