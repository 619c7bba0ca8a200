"""What an image is, by its content, and whether it is whole: everything that is free to find out.

Rules: the name plays no part; the header is judged before anything is decoded; what the server
would refuse, and what would be paid for and useless, is refused here.
"""

from dataclasses import dataclass

from PIL import ExifTags, Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.damage import count_scans, find_missing_end, find_wrong_checksum
from venice_watch.images.decoder import decoding, open_image
from venice_watch.images.frames import COUNTED_BYTES_MAX, FRAMED, pages
from venice_watch.images.signature import RASTERS, UNREADABLE, identify, looks_like_web_page

UPRIGHT = 1
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
_DRAFT_DIVISOR = 8  # the most a JPEG decoder can leave out while still reading every byte

_PSD_DEPTH = slice(22, 24)
_PSD_BITS_MAX = 8
_PNG_DEPTH = 24
_TIFF_SUBFILE_TYPE, _TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS = 254, 256, 257, 258
SCANS_MAX = 100  # passes of a progressive JPEG; each decodes the whole picture again
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

    `frame` counts all pictures of the file from 0: which page of a TIFF is meant. All frames of
    other formats are as the first.

    Raises:
        ImageRefusedError: `unsupported_format`, `too_large`, `incomplete` or `corrupt`.

    """
    kind = _kind(data)
    with decoding(data, kind), open_image(data, kind) as image:
        if frame and kind == "tiff":
            image.seek(frame)
        tags = _tiff_tags(image)
        _refuse_raw(tags)
        return Probe(
            format=kind,
            media_type=RASTERS[kind].media_type,
            width=_whole(tags.get(_TIFF_WIDTH), image.width),
            height=_whole(tags.get(_TIFF_HEIGHT), image.height),
            orientation=_orientation(image),
            mode=image.mode,
            bits=_bits(data, kind, image, tags),
            has_alpha=image.has_transparency_data,
            frames=_frames(image, len(data))
            if kind in FRAMED
            else 1,  # last: it moves to other frames
        )


def check_readable(data: bytes, probe: Probe) -> None:
    """Decode `data` whole, as cheaply as its format allows, and keep nothing.

    Raises:
        ImageRefusedError: `incomplete`, `corrupt`, or `too_large` for this machine's memory.

    """
    missing = find_missing_end(data, probe.format)
    if missing is not None:
        raise ImageRefusedError(
            Code.INCOMPLETE,
            f"This {probe.format.upper()} is not whole: {missing}. Copy or download it again.",
        )
    wrong = find_wrong_checksum(data) if probe.format == "png" else None
    if wrong is not None:
        raise ImageRefusedError(
            Code.CORRUPT, f"This PNG is damaged: {wrong}. Copy or download it again."
        )
    if probe.format == "jpeg" and (scans := count_scans(data)) > SCANS_MAX:
        raise ImageRefusedError(
            Code.CORRUPT,
            f"This JPEG is stored in {scans} passes; ordinary ones have about ten, and more than "
            f"{SCANS_MAX} are made to keep a decoder busy. Save it again in an image editor.",
        )
    with decoding(data, probe.format), open_image(data, probe.format) as image:
        if probe.format == "jpeg":
            side = (max(1, probe.width // _DRAFT_DIVISOR), max(1, probe.height // _DRAFT_DIVISOR))
            image.draft(None, side)
        image.load()


def upright_size(probe: Probe) -> tuple[int, int]:
    """Return (width, height) as a viewer shows the image, its orientation applied."""
    if probe.orientation in SIDEWAYS:
        return probe.height, probe.width
    return probe.width, probe.height


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation; garbage there is no reason to refuse a picture: upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except Exception:  # noqa: BLE001 - EXIF written by anybody raises anything
        return UPRIGHT
    return value if isinstance(value, int) and UPRIGHT <= value <= max(SIDEWAYS) else UPRIGHT


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


def _bits(data: bytes, kind: str, image: Image.Image, tags: dict[int, object]) -> int:
    if kind == "png":
        return data[_PNG_DEPTH]
    stated = tags.get(_TIFF_BITS)
    if isinstance(stated, tuple) and stated and all(isinstance(bits, int) for bits in stated):
        return int(max(stated))
    return 16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8)


def _frames(image: Image.Image, size_bytes: int) -> int:
    """Count frames; damage behind the first one does not make that one unreadable."""
    try:
        if image.format == "TIFF":
            return len(pages(image))
        if size_bytes > COUNTED_BYTES_MAX:
            return 2 if getattr(image, "is_animated", False) else 1
        return max(1, int(getattr(image, "n_frames", 1)))
    except Exception:  # noqa: BLE001 - as `decoding` says: Pillow raises nearly everything
        return 1
