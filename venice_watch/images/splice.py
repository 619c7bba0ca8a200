"""A PNG with another one's metadata: chunks put in behind its header, the rest copied as it is.

Rules: no pixel is decoded and no chunk's body is read but its keyword; what is put in stands in one
block right behind IHDR, so that cutting it out gives the result back, byte by byte. Sources: PNG
3rd edition; XMP part 3; exiftool and exiv2 for IPTC, which has no chunk of its own.
"""

import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from venice_watch.files.pieces import Piece, Span
from venice_watch.files.spool import PNG_HEADER_BYTES
from venice_watch.images.icc import icc_for
from venice_watch.images.metadata import Metadata
from venice_watch.images.png import CHUNK_BYTES_MAX, SIGNATURE, BrokenPngError

COLOUR_CHUNKS = frozenset({b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP"})  # these say one thing
XMP_KEYWORD = "XML:com.adobe.xmp"
IPTC_KEYWORD = "Raw profile type iptc"

_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# texts that are EXIF or XMP, and that viewers turn a picture by
_KEYWORDS_OF_TURNS = frozenset(
    {XMP_KEYWORD.encode()} | {b"Raw profile type " + one for one in (b"exif", b"APP1", b"xmp")}
)
_KEYWORD_BYTES_MAX = 79
_FRAME_BYTES = 12  # of a chunk beside its body: length, type, checksum
_COLOUR_TYPE = 25  # where IHDR has it
_GREYS = (0, 4)
_HEX_LINE = 72  # digits, as ImageMagick began it
_PIXELS_PER_METRE_MAX = 2**31 - 1
_INCHES_PER_METRE = 1 / 0.0254
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\xa0]+")  # not in a keyword


@dataclass(frozen=True, slots=True, kw_only=True)
class Splice:
    """What a finished PNG is made of; spans are of the result."""

    pieces: tuple[Piece, ...]
    pure: bool  # nothing of the result is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    kind: bytes
    start: int
    end: int
    keyword: bytes = b""  # of a text


def splice(result: int, metadata: Metadata, *, stripped: bool = False) -> Splice:
    """Plan a PNG of the whole PNG `result` (a descriptor) with this metadata in it.

    What the result itself says of its colours stands. Its resolution and texts give way to those
    of `metadata`; `stripped` leaves none of its texts. Its EXIF and XMP never stay: they could
    turn what is upright, or tell a position that is to go.

    Raises:
        BrokenPngError: if it is no PNG after all.
        OSError: if it cannot be read.

    """
    chunks = list(_chunks(result))
    own_colours = any(one.kind in COLOUR_CHUNKS for one in chunks)
    grey = os.pread(result, 1, _COLOUR_TYPE)[0] in _GREYS
    ours = list(_metadata_chunks(metadata, grey=grey, own_colours=own_colours))
    taken = {(kind, _keyword_of(kind, body)) for kind, body in ours}
    keywords = {keyword for kind, keyword in taken if kind in _TEXT_CHUNKS}
    keywords |= _KEYWORDS_OF_TURNS
    left_out = [
        one
        for one in chunks
        if one.kind == b"eXIf"
        or (one.kind == b"pHYs" and (one.kind, b"") in taken)
        or (one.kind in _TEXT_CHUNKS and (stripped or one.keyword in keywords))
    ]
    block = b"".join(_chunk(kind, body) for kind, body in ours)
    head: list[Piece] = [Span(start=0, end=PNG_HEADER_BYTES), block]
    if not block:
        head = []
    rest = _spans_without(left_out, start=PNG_HEADER_BYTES if block else 0, end=chunks[-1].end)
    return Splice(pieces=(*head, *rest), pure=not left_out)


def says_colours(result: int) -> bool:
    """Tell whether a PNG (a descriptor) itself says what its colours mean.

    Raises BrokenPngError or OSError.
    """
    return any(one.kind in COLOUR_CHUNKS for one in _chunks(result))


def _chunks(result: int) -> Iterator[_Chunk]:
    """Yield every chunk, reading eight bytes of each, and the keyword of a text."""
    if os.pread(result, len(SIGNATURE), 0) != SIGNATURE:
        raise BrokenPngError("it does not start as a PNG does")
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        field = os.pread(result, 8, at)
        if len(field) < 8:  # noqa: PLR2004 - length and type
            raise BrokenPngError("its end is missing")
        kind, end = field[4:], at + _FRAME_BYTES + int.from_bytes(field[:4])
        head = b""
        if kind in _TEXT_CHUNKS:
            head = os.pread(result, min(_KEYWORD_BYTES_MAX + 1, end - at - _FRAME_BYTES), at + 8)
        yield _Chunk(kind=kind, start=at, end=end, keyword=_keyword_of(kind, head))
        at = end


def _spans_without(left_out: list[_Chunk], *, start: int, end: int) -> Iterator[Span]:
    for one in left_out:
        if one.start > start:
            yield Span(start=start, end=one.start)
        start = one.end
    yield Span(start=start, end=end)


def _keyword_of(kind: bytes, body: bytes) -> bytes:
    return body.partition(b"\0")[0] if kind in _TEXT_CHUNKS else b""


# --- what is put in ------------------------------------------------------------------------------


def _metadata_chunks(
    metadata: Metadata, *, grey: bool, own_colours: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, body) of each chunk that says what `metadata` says."""
    icc = None
    if metadata.icc is not None and not own_colours:
        icc = icc_for(metadata.icc, grey_result=grey)
    if icc is not None:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)
    density = None if metadata.dpi is None else _density(metadata.dpi)
    if density is not None:
        yield b"pHYs", density
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", XMP_KEYWORD.encode() + b"\0\0\0\0\0" + metadata.xmp
    if metadata.iptc:
        yield b"zTXt", IPTC_KEYWORD.encode() + b"\0\0" + zlib.compress(_raw_profile(metadata.iptc))
    for keyword, text in metadata.texts:
        yield _text(keyword, text)


def _density(dpi: tuple[float, float]) -> bytes | None:
    """Return the body of pHYs, in pixels a metre; None for what is no resolution."""
    metres = [one * _INCHES_PER_METRE for one in dpi]
    if not all(math.isfinite(one) and one <= _PIXELS_PER_METRE_MAX for one in metres):
        return None
    across, down = map(round, metres)
    if across <= 0 or down <= 0:
        return None
    return struct.pack(">IIB", across, down, 1)


def _raw_profile(iptc: bytes) -> bytes:
    """Return IPTC as a text in the way that ImageMagick began: a Photoshop resource in hex."""
    resource = photoshop_resource(iptc)
    digits = resource.hex()
    lines = [digits[at : at + _HEX_LINE] for at in range(0, len(digits), _HEX_LINE)]
    return f"\niptc\n{len(resource):8}\n{chr(10).join(lines)}\n".encode()


def photoshop_resource(iptc: bytes) -> bytes:
    """Return IPTC datasets as the Photoshop image resource that holds them in most formats."""
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc
    return resource + b"\0" * (len(iptc) % 2)


def _text(keyword: str, text: str) -> tuple[bytes, bytes]:
    """Return (type, body) of a text: plain where Latin-1 has all of it."""
    key = " ".join(_UNPRINTABLE.sub(" ", keyword).split()).encode("latin-1", "replace")
    key = key[:_KEYWORD_BYTES_MAX].strip() or b"Comment"
    text = text.replace("\0", "")
    try:
        return b"tEXt", key + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", key + b"\0\0\0\0\0" + text.encode("utf-8", "replace")


def _chunk(kind: bytes, body: bytes) -> bytes:
    if len(body) > CHUNK_BYTES_MAX:
        return b""
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
