"""Where metadata stand in JPEG and TIFF, and what goes into EXIF where a format has only that.

Rules: what does not fit is left out and named, whole but for EXIF, of which what a reader can do
without goes first; nothing is decoded. Sources: Exif 3.0, XMP part 3 (extended XMP), ICC.1 annex B,
IPTC-NAA in TIFF (tag 33723) and in Photoshop's APP13.
"""

import hashlib
import math
from collections.abc import Collection, Iterator

from venice_watch.images import ifd, tiff
from venice_watch.images.exif import JPEG_BYTES_MAX, PREFIX, fit
from venice_watch.images.ifd import Field, Order
from venice_watch.images.metadata import Metadata
from venice_watch.images.splice import photoshop_resource

ORIENTATION = ifd.ORIENTATION
SEGMENT_BYTES_MAX = 65_533  # of a JPEG segment's body
DPI_MAX = 65_535  # as JPEG's own header has it

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP = b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_ICC_PARTS_MAX = 255
_APP0, _APP1, _APP2, _APP13, _COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_XMP_POINTER = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{digest}"/>'
    "</rdf:RDF></x:xmpmeta>"
)

_IMAGE_DESCRIPTION = 270
_TIFF_XMP, _TIFF_IPTC, _TIFF_ICC = 700, 33_723, 34_675
_STRIP_OFFSETS, _STRIP_SIZES = 273, 279
# what says how pixels are stored: never taken over from another file
_STRUCTURE = frozenset(
    {*range(254, 260), 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290}
    | {291, 292, 293, 301, 317, 318, 319, 320, *range(321, 326), 330, 332, 336, 338, 339, 340, 341}
    | {347, *range(512, 522), 529, 530, 531, 532}
)


def whole_dpi(dpi: tuple[float, float] | None) -> tuple[int, int] | None:
    """Return a resolution in whole pixels an inch, as far as JPEG's header has room for it."""
    if dpi is None or not all(math.isfinite(one) and 1 <= one <= DPI_MAX for one in dpi):
        return None
    return round(dpi[0]), round(dpi[1])


# --- JPEG ----------------------------------------------------------------------------------------


def into_jpeg(data: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """Return a JPEG with `metadata` behind its first header, and the kinds that do not fit."""
    at = 2  # behind the start marker
    if data[at + 1] == _APP0:
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    left_out: list[str] = []
    segments = b"".join(_segments(metadata, left_out))
    return data[:at] + segments + data[at:], tuple(left_out)


def _segments(metadata: Metadata, left_out: list[str]) -> Iterator[bytes]:
    if metadata.exif:
        yield from _exif_segment(metadata.exif, left_out)
    if metadata.xmp:
        yield from _xmp_segments(metadata.xmp)
    if metadata.icc:
        yield from _icc_segments(metadata.icc, left_out)
    if metadata.iptc:
        body = _PHOTOSHOP + photoshop_resource(metadata.iptc)
        if len(body) <= SEGMENT_BYTES_MAX:
            yield _segment(_APP13, body)
        else:
            left_out.append("iptc")
    for keyword, text in metadata.texts:
        body = (text if keyword == "Comment" else f"{keyword}: {text}").encode("utf-8", "replace")
        if len(body) <= SEGMENT_BYTES_MAX:
            yield _segment(_COMMENT, body)
        elif "texts" not in left_out:
            left_out.append("texts")


def _exif_segment(exif: bytes, left_out: list[str]) -> Iterator[bytes]:
    fitted = fit(exif, JPEG_BYTES_MAX)
    if fitted is not None:
        yield _segment(_APP1, PREFIX + fitted)
    if fitted != exif:
        left_out.append("exif" if fitted is None else "parts of exif")


def _xmp_segments(xmp: bytes) -> Iterator[bytes]:
    """Yield the packet, or where it is too large a small one and the whole in extended parts."""
    if len(_XMP + xmp) <= SEGMENT_BYTES_MAX:
        yield _segment(_APP1, _XMP + xmp)
        return
    digest = hashlib.md5(xmp, usedforsecurity=False).hexdigest().upper()
    yield _segment(_APP1, _XMP + _XMP_POINTER.format(digest=digest).encode())
    head = _XMP_MORE + digest.encode() + len(xmp).to_bytes(4)
    room = SEGMENT_BYTES_MAX - len(head) - 4
    for at in range(0, len(xmp), room):
        yield _segment(_APP1, head + at.to_bytes(4) + xmp[at : at + room])


def _icc_segments(icc: bytes, left_out: list[str]) -> Iterator[bytes]:
    room = SEGMENT_BYTES_MAX - len(_ICC) - 2
    parts = [icc[at : at + room] for at in range(0, len(icc), room)]
    if len(parts) > _ICC_PARTS_MAX:
        left_out.append("icc")
        return
    for number, part in enumerate(parts, start=1):
        yield _segment(_APP2, _ICC + bytes((number, len(parts))) + part)


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


# --- EXIF, and TIFF, which is built like it ------------------------------------------------------


def full_exif(
    metadata: Metadata, *, without: Collection[int] = ()
) -> tuple[bytes | None, tuple[str, ...]]:
    """Return EXIF that carries IPTC and texts too, for formats that have no other place for them.

    And the kinds that do not fit. `without`: tags that the format must not have.
    """
    left_out: list[str] = []
    exif = metadata.exif
    wanted = {_TIFF_IPTC: tiff.of_bytes(metadata.iptc)} if metadata.iptc else {}
    try:
        wanted |= _description_of(metadata, tiff.read_fields(exif or tiff.EMPTY), left_out)
        if wanted or (exif and without):
            exif = tiff.with_fields(exif or tiff.EMPTY, wanted, without=without)
    except tiff.BrokenTiffError:
        lost = {"exif": without, "iptc": metadata.iptc, "texts": metadata.texts}
        left_out += [kind for kind, value in lost.items() if value]
        exif = None if without else exif
    return exif, tuple(left_out)


def into_tiff(data: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """Return a TIFF with `metadata`, and the kinds that do not fit.

    Its EXIF stays where it was in its own structure, so that makers' notes stay readable: the
    pixels are put behind it, and one directory for both behind them.
    """
    left_out: list[str] = []
    exif = metadata.exif or tiff.EMPTY
    try:
        known = tiff.read_fields(exif)
    except tiff.BrokenTiffError:
        left_out.append("exif")
        exif, known = tiff.EMPTY, {}
    fields = _structure_of(data, exif) | _tags_of(metadata, known, tiff.order_of(exif), left_out)
    pixels, fields = _moved_pixels(data, fields, exif)
    finished = tiff.with_fields(exif + pixels, fields, without=_STRUCTURE, last=True)
    return finished, tuple(left_out)


def _structure_of(data: bytes, exif: bytes) -> dict[int, Field]:
    """Return what a TIFF says of its pixels, in the byte order of `exif`."""
    swaps = tiff.order_of(data) != tiff.order_of(exif)
    found = tiff.read_fields(data)
    return {
        tag: tiff.swapped(one) if swaps else one for tag, one in found.items() if tag in _STRUCTURE
    }


def _moved_pixels(
    data: bytes, fields: dict[int, Field], exif: bytes
) -> tuple[bytes, dict[int, Field]]:
    """Return the strips of `data`, to stand behind `exif`, and the fields that point there."""
    order = tiff.order_of(exif)
    offsets, sizes = (
        tiff.whole_numbers(order, fields[tag]) for tag in (_STRIP_OFFSETS, _STRIP_SIZES)
    )
    pad = b"\0" * (len(exif) % 2)
    at, places, strips = len(exif) + len(pad), [], []
    for start, size in zip(offsets, sizes, strict=True):
        places.append(at)
        strips.append(data[start : start + size])
        at += size
    moved = {_STRIP_OFFSETS: tiff.of_numbers(order, ifd.LONG, *places)}
    return b"".join((pad, *strips)), fields | moved


def _tags_of(
    metadata: Metadata, known: dict[int, Field], order: Order, left_out: list[str]
) -> dict[int, Field]:
    """Return the fields that carry what is not in the EXIF."""
    tags: dict[int, Field] = {ORIENTATION: tiff.of_numbers(order, ifd.SHORT, 1)}
    if metadata.dpi is not None and all(math.isfinite(one) and one > 0 for one in metadata.dpi):
        for tag, value in zip((ifd.X_RESOLUTION, ifd.Y_RESOLUTION), metadata.dpi, strict=True):
            tags[tag] = tiff.of_fraction(order, value)
        tags[ifd.RESOLUTION_UNIT] = tiff.of_numbers(order, ifd.SHORT, ifd.UNIT_INCH)
    if metadata.xmp:
        tags[_TIFF_XMP] = tiff.of_bytes(metadata.xmp, ifd.BYTE)
    if metadata.iptc:
        tags[_TIFF_IPTC] = tiff.of_bytes(metadata.iptc)
    if metadata.icc:
        tags[_TIFF_ICC] = tiff.of_bytes(metadata.icc)
    return tags | _description_of(metadata, known, left_out)


def _description_of(
    metadata: Metadata, known: dict[int, Field], left_out: list[str]
) -> dict[int, Field]:
    """Return the field that carries the texts, unless a description of the picture is there."""
    if not metadata.texts:
        return {}
    if _IMAGE_DESCRIPTION in known:
        left_out.append("texts")
        return {}
    lines = [f"{keyword}: {text}" for keyword, text in metadata.texts]
    data = "\n".join(lines).replace("\0", "").encode("utf-8", "replace") + b"\0"
    return {_IMAGE_DESCRIPTION: tiff.of_bytes(data, ifd.ASCII)}
