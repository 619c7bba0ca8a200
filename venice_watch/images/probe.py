"""What an image is, by its content, and whether it is whole: everything that is free to find out.

Rules: the name plays no part; the header is judged before anything is decoded; what the server
would refuse, and what would be paid for and useless, is refused here.
"""

import re
from dataclasses import dataclass

from PIL import ExifTags, Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.counting import count_gif_frames, count_tiff_pages
from venice_watch.images.damage import (
    coefficients_bytes,
    count_scans,
    find_bad_pixels,
    find_missing_end,
    find_wrong_checksum,
    png_chunks,
)
from venice_watch.images.decoder import decoding, load, open_image
from venice_watch.images.frames import pages
from venice_watch.images.signature import RASTERS, UNREADABLE, identify, looks_like_web_page

UPRIGHT = 1
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_DRAFT_DIVISOR = 8  # the most a JPEG decoder can leave out while still reading every byte
_PAGED = frozenset({"gif", "png", "webp", "avif", "heic", "tiff"})
_PAGES_DIFFER = frozenset({"tiff", "heic"})

_PSD_DEPTH = slice(22, 24)
_PSD_BITS_MAX = 8
_PSD_SECTIONS = 26  # behind the header: three sections, each led by its length
_PSD_VERSION_INFO = 1057  # the resource that says whether there is a flattened picture at all
_PSD_MERGED_AT = 4
_PNG_DEPTH = 24
_SGI_BYTES = 3
_AVIF_DEPTH = re.compile(rb"av1C\x81.(.)", re.DOTALL)
_AVIF_HIGH, _AVIF_TWELVE = 0x40, 0x20
_TIFF_SUBFILE_TYPE, _TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS = 254, 256, 257, 258
SCANS_MAX = 100  # passes of a progressive JPEG; each decodes the whole picture again
SCANNED_PIXELS_MAX = 1_500_000_000  # in all passes; about two seconds
PAGES_WALKED_MAX = 1_000  # directories of a TIFF that are looked at: thumbnails are no pages
FRAMES_COUNTED_MAX = 10_000  # a file can hold millions of empty ones
_TIFF_SUB_IFDS, _TIFF_DNG_VERSION = 330, 50706
_BITS = {"1": 1, "I": 32, "F": 32}  # by Pillow's mode; 8 for all others but I;16 and its kin


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What an image's header says, read with distrust."""

    format: str  # a key of signature.RASTERS; what cameras call MPO is jpeg
    media_type: str
    width: int  # pixels as stored, before the orientation is applied
    height: int
    frames: int  # animation frames or pages; layers, previews and depth maps are none
    orientation: int  # EXIF, 1..8; 1 is upright
    mode: str  # Pillow's
    bits: int  # per channel, as stored
    has_alpha: bool


def probe(data: bytes, *, frame: int = 0) -> Probe:
    """Read what `data` is, decoding no pixels.

    `frame` (from 0) matters where pages are pictures of their own, each with its size and depth.

    Raises:
        ImageRefusedError: `unsupported_format`, `too_large`, `incomplete` or `corrupt`.

    """
    kind = _kind(data)
    page = frame if kind in _PAGES_DIFFER else 0
    with decoding(data, kind), open_image(data, kind, frame=page) as image:
        tags = _tiff_tags(image)
        _refuse_raw(tags)
        _refuse_unflattened(image)
        return Probe(
            format=kind,
            media_type=RASTERS[kind].media_type,
            width=_whole(tags.get(_TIFF_WIDTH), image.width),
            height=_whole(tags.get(_TIFF_HEIGHT), image.height),
            orientation=_orientation(data, kind, image),
            mode=image.mode,
            bits=_bits(data, kind, image, tags),
            has_alpha=image.has_transparency_data
            and (kind != "psd" or has_merged_transparency(data)),
            frames=_frames(data, kind, image) if kind in _PAGED else 1,
        )


def check_readable(data: bytes, probe: Probe) -> None:
    """Make sure that `data` can be decoded whole, as cheaply as its format allows; keep nothing.

    A PNG is checked without being decoded, in less than a megabyte of memory.

    Raises:
        ImageRefusedError: `incomplete`, `corrupt`, or `too_large` for this machine's memory.

    """
    check_whole(data, probe)
    if probe.format == "png":
        wrong = find_bad_pixels(data)
        if wrong is not None:
            raise _damaged_png(wrong)
        return
    with decoding(data, probe.format), open_image(data, probe.format) as image:
        if probe.format == "jpeg":
            side = (max(1, probe.width // _DRAFT_DIVISOR), max(1, probe.height // _DRAFT_DIVISOR))
            image.draft(None, side)
            load(image, beside_bytes=coefficients_bytes(data))
        else:
            load(image)


def check_whole(data: bytes, probe: Probe) -> None:
    """Look for what a decoder would overlook: a missing end, a wrong checksum, too many passes.

    Raises:
        ImageRefusedError: `incomplete` or `corrupt`.

    """
    missing = find_missing_end(data, probe.format)
    if missing is not None:
        raise ImageRefusedError(
            Code.INCOMPLETE,
            f"This {probe.format.upper()} is not whole: {missing}. Copy or download it again.",
        )
    wrong = find_wrong_checksum(data) if probe.format == "png" else None
    if wrong is not None:
        raise _damaged_png(wrong)
    if probe.format == "jpeg":
        _refuse_many_scans(count_scans(data), probe.width * probe.height)


def upright_size(probe: Probe) -> tuple[int, int]:
    """Return (width, height) as a viewer shows the image, its orientation applied."""
    if probe.orientation in SIDEWAYS:
        return probe.height, probe.width
    return probe.width, probe.height


def _refuse_many_scans(scans: int, pixels: int) -> None:
    if scans <= SCANS_MAX and scans * pixels <= SCANNED_PIXELS_MAX:
        return
    raise ImageRefusedError(
        Code.CORRUPT,
        f"This JPEG is stored in {scans} passes over {pixels:,} pixels; ordinary ones have about "
        f"ten, and more than {min(SCANS_MAX, SCANNED_PIXELS_MAX // pixels)} are made to keep a "
        "decoder busy. Save it again in an image editor.",
    )


def _damaged_png(what: str) -> ImageRefusedError:
    return ImageRefusedError(
        Code.CORRUPT, f"This PNG is damaged: {what}. Copy or download it again."
    )


def _orientation(data: bytes, kind: str, image: Image.Image) -> int:
    """Read the EXIF orientation; garbage there is no reason to refuse a picture: upright."""
    try:
        value = _exif(data, kind, image).get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # noqa: BLE001 - EXIF written by anybody raises anything
        return UPRIGHT
    return value if isinstance(value, int) and UPRIGHT <= value <= max(SIDEWAYS) else UPRIGHT


def _exif(data: bytes, kind: str, image: Image.Image) -> Image.Exif:
    """Return the tags that say how the decoded pixels are to be turned."""
    if kind == "heic":
        return Image.Exif()  # its boxes turn it, while it is decoded; EXIF there only repeats them
    if kind == "png" and "exif" not in image.info:
        for name, start, end in png_chunks(data):
            if name == b"eXIf":  # behind the pixels, where Pillow would decode them to get at it
                image.info["exif"] = data[start + 8 : end - 4]
        return Image.Image.getexif(image)
    return image.getexif()


def _kind(data: bytes) -> str:
    """Return the one format worth trying, or refuse with what the file is instead."""
    if not any(data):
        what = "holds nothing but zeros" if data else "is empty (0 bytes)"
        raise ImageRefusedError(
            Code.INCOMPLETE, f"The file {what}: it was never written. Copy or download it again."
        )
    kind = identify(data)
    if kind in UNREADABLE:
        raise ImageRefusedError(Code.UNSUPPORTED_FORMAT, UNREADABLE[kind])
    if kind is None:
        what = "This is a web page" if looks_like_web_page(data) else "The content is no image"
        raise ImageRefusedError(
            Code.CORRUPT, f"{what}, whatever its name says. Download or export the image again."
        )
    if kind == "psd" and int.from_bytes(data[_PSD_DEPTH]) > _PSD_BITS_MAX:
        bits = int.from_bytes(data[_PSD_DEPTH])
        raise ImageRefusedError(
            Code.UNSUPPORTED_FORMAT,
            f"This Photoshop file has {bits} bits a channel; {_PSD_BITS_MAX} can be read. "
            "Export it as PNG or TIFF first.",
        )
    return kind


def _tiff_tags(image: Image.Image) -> dict[int, object]:
    tags = getattr(image, "tag_v2", None)
    return {} if tags is None else {tag: tags.get(tag) for tag in tags}


def _refuse_raw(tags: dict[int, object]) -> None:
    """Refuse a camera's raw file in TIFF's clothes: its first picture is a small preview."""
    preview_first = tags.get(_TIFF_SUBFILE_TYPE) == 1 and _TIFF_SUB_IFDS in tags
    if preview_first or _TIFF_DNG_VERSION in tags:
        raise ImageRefusedError(Code.UNSUPPORTED_FORMAT, UNREADABLE["raw"])


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def has_merged_transparency(data: bytes) -> bool:
    """Say whether a Photoshop file's fourth channel is transparency, and not a saved selection."""
    at = _PSD_SECTIONS
    for _ in ("colour mode", "resources"):
        at += 4 + int.from_bytes(data[at : at + 4])
    has_layers = int.from_bytes(data[at : at + 4]) > 0 and int.from_bytes(data[at + 4 : at + 8]) > 0
    return has_layers and int.from_bytes(data[at + 8 : at + 10], signed=True) < 0


def _refuse_unflattened(image: Image.Image) -> None:
    """Refuse a Photoshop file whose flattened picture is a blank, its layers being all it has."""
    for number, _, content in getattr(image, "resources", ()):
        if number == _PSD_VERSION_INFO and content[_PSD_MERGED_AT : _PSD_MERGED_AT + 1] == b"\x00":
            raise ImageRefusedError(
                Code.UNSUPPORTED_FORMAT,
                "This Photoshop file was saved without its flattened picture. Save it again with "
                "`Maximize Compatibility`, or export it as PNG or TIFF.",
            )


def _bits(data: bytes, kind: str, image: Image.Image, tags: dict[int, object]) -> int:
    if kind == "png":
        return data[_PNG_DEPTH]
    if kind == "heic":
        return int(image.info.get("bit_depth", 8))
    if kind == "avif":
        found = _AVIF_DEPTH.search(data)
        flags = found[1][0] if found else 0
        return (12 if flags & _AVIF_TWELVE else 10) if flags & _AVIF_HIGH else 8
    if kind == "sgi":
        return 8 * data[_SGI_BYTES]
    if kind == "ppm" and image.mode == "I":
        return 16  # whatever its own white is, Pillow has scaled it to that
    stated = tags.get(_TIFF_BITS)
    if isinstance(stated, tuple) and stated and all(isinstance(bits, int) for bits in stated):
        return int(max(stated))
    return 16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8)


def _frames(data: bytes, kind: str, image: Image.Image) -> int:
    """Count frames; damage behind the first one does not make that one unreadable."""
    if kind == "gif":
        return count_gif_frames(data, FRAMES_COUNTED_MAX)
    if kind == "tiff":
        count = count_tiff_pages(data, FRAMES_COUNTED_MAX)
        if count == 1 or count > PAGES_WALKED_MAX:
            return count
    try:
        if kind == "tiff":
            return len(pages(image))
        return max(1, min(int(getattr(image, "n_frames", 1)), FRAMES_COUNTED_MAX))
    except Exception:  # noqa: BLE001 - as `decoding` says: Pillow raises nearly everything
        return 1
