"""Whether a PNG is whole, found while its bytes stream by; nothing is decoded or kept.

Rules: every byte belongs to the signature, a length, a type, a body or a checksum, and each is
checked; anything missing, wrong, out of order or left over is a `BrokenPngError`. This is for the
API's answers, which have been paid for; it is stricter than a viewer. Source: PNG 3rd edition.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from venice_watch.errors import VeniceWatchError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK_BYTES_MAX = 2**31 - 1
SIDE_PX_MAX = 2**31 - 1
READ_BYTES = 1 << 20  # large enough for the disk, small beside an image

_LENGTH_AND_TYPE_BYTES = 8
_CHECKSUM_BYTES = 4
_HEADER_BYTES = 13  # the body of IHDR
_PALETTE_ENTRY_BYTES = 3
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_COLOUR_GREY, _COLOUR_PALETTE, _COLOUR_GREY_ALPHA = 0, 3, 4


class BrokenPngError(VeniceWatchError):
    """A PNG that is not whole: `why` is a clause for logs and reports."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the PNG is broken: {why}")
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class PngFacts:
    """What the header of a whole PNG says."""

    width: int
    height: int
    bits: int  # per sample
    colour_type: int  # 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA


class PngVerifier:
    """Checks a PNG that arrives in pieces of any size; holds at most a header in memory."""

    def __init__(self) -> None:
        self._fixed = bytearray()  # the signature, length and type, or checksum being gathered
        self._wanted = len(SIGNATURE)
        self._step = self._take_signature
        self._body_left = 0
        self._kind = b""
        self._header = bytearray()
        self._crc = 0
        self._seen: set[bytes] = set()
        self._previous = b""
        self._data_bytes = 0
        self._ended = False
        self._facts: PngFacts | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Check the next bytes.

        Raises:
            BrokenPngError: as soon as the bytes so far cannot be the start of a whole PNG.

        """
        view = memoryview(data)
        while view:
            if self._ended:
                raise BrokenPngError("there are bytes after its end")
            taken = self._take_body(view) if self._body_left else self._gather(view)
            view = view[taken:]

    def finish(self) -> PngFacts:
        """Return the facts, now that no more bytes will come.

        Raises:
            BrokenPngError: if the end was not reached.

        """
        if not self._ended or self._facts is None:
            raise BrokenPngError("its end is missing")
        return self._facts

    def _take_body(self, view: memoryview) -> int:
        piece = view[: self._body_left]
        self._crc = zlib.crc32(piece, self._crc)
        if self._kind == b"IHDR":
            self._header += piece
        self._body_left -= len(piece)
        return len(piece)

    def _gather(self, view: memoryview) -> int:
        """Collect a field of fixed size, and act on it once it is complete."""
        piece = view[: self._wanted - len(self._fixed)]
        self._fixed += piece
        if len(self._fixed) == self._wanted:
            field, self._fixed = bytes(self._fixed), bytearray()
            self._step(field)
        return len(piece)

    def _take_signature(self, field: bytes) -> None:
        if field != SIGNATURE:
            raise BrokenPngError("it does not start as a PNG does")
        self._expect_chunk()

    def _expect_chunk(self) -> None:
        self._wanted, self._step = _LENGTH_AND_TYPE_BYTES, self._take_length_and_type

    def _take_length_and_type(self, field: bytes) -> None:
        length, self._kind = int.from_bytes(field[:4]), field[4:]
        if not (self._kind.isalpha() and self._kind.isascii()):
            raise BrokenPngError("a chunk has an impossible type")
        if length > CHUNK_BYTES_MAX:
            raise BrokenPngError(f"a chunk claims {length:,} bytes")
        self._check_order()
        self._check_length(length)
        self._crc = zlib.crc32(self._kind)
        self._body_left = length
        self._wanted, self._step = _CHECKSUM_BYTES, self._take_checksum

    def _take_checksum(self, field: bytes) -> None:
        if int.from_bytes(field) != self._crc:
            raise BrokenPngError(f"the checksum of a chunk is wrong ({self._kind.decode()})")
        if self._kind == b"IHDR":
            self._facts = _read_header(bytes(self._header))
        self._ended = self._kind == b"IEND"
        self._seen.add(self._kind)
        self._previous = self._kind
        self._expect_chunk()

    def _check_order(self) -> None:
        kind, seen = self._kind, self._seen & _CRITICAL
        if (kind == b"IHDR") != (not seen):
            raise BrokenPngError("IHDR is not its first chunk, or comes twice")
        if kind == b"PLTE" and (not self._may_have_palette() or seen != {b"IHDR"}):
            raise BrokenPngError("a palette is out of place")
        if kind == b"IDAT" and b"IDAT" in seen and self._previous != b"IDAT":
            raise BrokenPngError("its image data are interrupted")
        if kind == b"IDAT" and self._needs_palette() and b"PLTE" not in seen:
            raise BrokenPngError("its palette is missing")
        if kind == b"IEND" and not self._data_bytes:
            raise BrokenPngError("it has no image data")
        if kind[:1].isupper() and kind not in _CRITICAL:
            raise BrokenPngError("it has an unknown chunk that must not be ignored")

    def _check_length(self, length: int) -> None:
        right = {b"IHDR": length == _HEADER_BYTES, b"IEND": length == 0}
        right[b"PLTE"] = length > 0 and length % _PALETTE_ENTRY_BYTES == 0
        if not right.get(self._kind, True):
            raise BrokenPngError(f"its {self._kind.decode()} chunk has {length:,} bytes")
        if self._kind == b"IDAT":
            self._data_bytes += length

    def _may_have_palette(self) -> bool:
        greys = {_COLOUR_GREY, _COLOUR_GREY_ALPHA}
        return self._facts is not None and self._facts.colour_type not in greys

    def _needs_palette(self) -> bool:
        return self._facts is not None and self._facts.colour_type == _COLOUR_PALETTE


def verify_file(file: Path | int) -> PngFacts:
    """Check a PNG on disk, given its path or an open descriptor (whose position stays).

    Raises:
        BrokenPngError: if it is not whole.
        OSError: if it cannot be read.

    """
    if isinstance(file, int):
        return _verify_descriptor(file)
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _verify_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _verify_descriptor(descriptor: int) -> PngFacts:
    verifier = PngVerifier()
    at = 0
    while data := os.pread(descriptor, READ_BYTES, at):
        verifier.feed(data)
        at += len(data)
    return verifier.finish()


def _read_header(body: bytes) -> PngFacts:
    facts = PngFacts(
        width=int.from_bytes(body[0:4]),
        height=int.from_bytes(body[4:8]),
        bits=body[8],
        colour_type=body[9],
    )
    if not (0 < facts.width <= SIDE_PX_MAX and 0 < facts.height <= SIDE_PX_MAX):
        raise BrokenPngError(f"its size is {facts.width} x {facts.height}")
    if facts.bits not in _BITS.get(facts.colour_type, ()):
        raise BrokenPngError(f"its colour type is {facts.colour_type} with {facts.bits} bits")
    if body[10] or body[11] or body[12] > 1:
        raise BrokenPngError("its compression, filter or interlace method is unknown")
    return facts
