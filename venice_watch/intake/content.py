"""Looks at a file's own bytes: whether it is an image, and whether its end is there.

Only a few kilobytes are read where the format tells its end; a JPEG or PNG with something behind
its end (a phone's trailer, a motion photo) is walked from the start, once.
"""

import os
import re
import struct
from enum import StrEnum

from venice_watch.settle import End

HEAD_BYTES = 64
TAIL_BYTES = 4096  # a tail of zeros this long is a file not yet filled, or a black edge
WALK_BYTES = 1 << 20  # read at a time while looking for a JPEG's end
SEGMENTS_MAX = 100_000  # of a JPEG looked at; fill bytes count, an encoder writes a few hundred
CHUNKS_MAX = 100_000  # PNG chunks looked at; an encoder writes a few thousand at most

IMAGE_ENDINGS = frozenset(
    "jpg jpeg jpe jfif png apng webp gif tif tiff bmp dib heic heics heif heifs hif avif avifs "
    "jp2 j2k j2c jpf jpx jpc mpo psd psb xcf jxl jxr exr dds ico icns tga pcx ppm pgm pbm pnm pfm "
    "qoi sgi ras xbm xpm svg svgz dng cr2 cr3 nef arw orf rw2 raf".split()
)


class Kind(StrEnum):
    """What the first bytes say."""

    JPEG = "jpeg"
    PNG = "png"
    GIF = "gif"
    RIFF = "riff"
    BMP = "bmp"
    OTHER_IMAGE = "other image"
    NONE = "none"


_OTHER = re.compile(
    rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+|8BPS|\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"
    rb"|.{4}ftyp(?:avif|avis|heic|heix|hevc|hevx|heim|heis|mif1|msf1)|qoif|P[1-6]\s"
    rb"|icns\x00|DDS \x7c|\x59\xa6\x6a\x95|\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]",
    re.DOTALL,
)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # in entropy-coded data


def kind_of(head: bytes) -> Kind:
    """Return what kind of file begins with these bytes."""
    if head.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Kind.GIF
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Kind.RIFF
    if head.startswith(b"BM") and len(head) > 14 and head[14:18] in _BMP_HEADERS:  # noqa: PLR2004 - BMP's own
        return Kind.BMP
    return Kind.OTHER_IMAGE if _OTHER.match(head) else Kind.NONE


_BMP_HEADERS = frozenset(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))


def is_candidate(name: str, head: bytes) -> bool:
    """Tell whether a file's ending or its content says image."""
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    return ending in IMAGE_ENDINGS or kind_of(head) is not Kind.NONE


def find_end(descriptor: int, size_bytes: int) -> End:
    """Return what the content of an open file says of its own end."""
    head = os.pread(descriptor, HEAD_BYTES, 0)
    tail = os.pread(descriptor, TAIL_BYTES, max(0, size_bytes - TAIL_BYTES))
    match kind_of(head):
        case Kind.JPEG:
            return End.WHOLE if tail.endswith(b"\xff\xd9") else _walk_jpeg(descriptor, size_bytes)
        case Kind.PNG:
            whole = tail.endswith(b"\x00\x00\x00\x00IEND\xaeB`\x82")
            return End.WHOLE if whole else _walk_png(descriptor, size_bytes)
        case Kind.GIF:
            # the trailer alone is one byte in 256; what it follows has an end of its own
            return End.WHOLE if tail.rstrip(b"\x00").endswith(b"\x00;") else End.MISSING
        case Kind.RIFF:
            return _compare(struct.unpack("<I", head[4:8])[0] + 8, size_bytes, tail)
        case Kind.BMP:
            return _compare(struct.unpack("<I", head[2:6])[0], size_bytes, tail)
        case Kind.OTHER_IMAGE:
            return End.UNKNOWN if tail.strip(b"\x00") else End.ZEROS
        case Kind.NONE:
            # nothing but zeros: a file that was given its size before its bytes
            return End.UNKNOWN if head.strip(b"\x00") or tail.strip(b"\x00") else End.MISSING


def _compare(stated_bytes: int, size_bytes: int, tail: bytes) -> End:
    if size_bytes < stated_bytes:
        return End.MISSING
    if not tail.strip(b"\x00"):
        return End.ZEROS
    return End.WHOLE if size_bytes == stated_bytes else End.UNKNOWN


def _walk_png(descriptor: int, size_bytes: int) -> End:
    position = 8
    for _ in range(CHUNKS_MAX):
        header = os.pread(descriptor, 8, position)
        if len(header) < 8:  # noqa: PLR2004 - PNG's own: length and type
            return End.MISSING
        length, name = struct.unpack(">I4s", header)
        position += 12 + length
        if position > size_bytes:
            return End.MISSING
        if name == b"IEND":
            return End.UNKNOWN  # bytes behind the end
        if not name.isalpha():
            return End.MISSING  # zeros, or no PNG after all
    return End.UNKNOWN


def _walk_jpeg(descriptor: int, size_bytes: int) -> End:
    """Look for the end marker segment by segment: thumbnails inside have ends of their own."""
    position = 2
    for _ in range(SEGMENTS_MAX):
        head = os.pread(descriptor, 4, position)
        if len(head) < 2 or head[0] != 0xFF:  # noqa: PLR2004 - JPEG's own: a marker has two bytes
            return End.MISSING
        marker = head[1]
        if marker == 0xD9:  # noqa: PLR2004 - EOI
            return End.UNKNOWN  # bytes behind the end
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:  # noqa: PLR2004 - fill, RST, SOI, TEM
            position += 1 if marker == 0xFF else 2  # noqa: PLR2004
            continue
        if len(head) < 4:  # noqa: PLR2004 - and a length behind it
            return End.MISSING
        position += 2 + struct.unpack(">H", head[2:4])[0]
        if marker == 0xDA:  # noqa: PLR2004 - SOS: entropy-coded data until the next marker
            found = _find_marker(descriptor, position, size_bytes)
            if found is None:
                return End.MISSING
            position = found
    return End.UNKNOWN


def _find_marker(descriptor: int, position: int, size_bytes: int) -> int | None:
    while position < size_bytes:
        block = os.pread(descriptor, WALK_BYTES, position)
        if found := _JPEG_MARKER.search(block):
            return position + found.start()
        position += max(1, len(block) - 1)  # a marker may straddle two blocks
    return None
