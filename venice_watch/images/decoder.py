"""The fence around Pillow: one door for untrusted bytes, one way out for what goes wrong.

Rules: a file is shown only to the decoder its first bytes ask for; what it will take in memory and
time is judged by its header, before anything is decoded; whatever Pillow raises (it raises nearly
everything) leaves as an `ImageRefusedError` with the cause chained; whatever it warns about is
nobody's business here.
"""

import functools
import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.damage import KINDS_WITH_END, find_missing_end
from venice_watch.images.signature import RASTERS

PIXELS_DECODE_MAX = 200_000_000  # the largest cameras and scans
DECODED_BYTES_MAX = 640_000_000  # of a picture and its decoder's own; all else is below 400 MB
PIXELS_SLOW_MAX = 3_000_000  # for decoders written in Python: about a second a megapixel
_HEIC_THREADS = 2
_MEGA = 1_000_000
_STOPS_EARLY = re.compile(r"truncated|unexpected end|not enough", re.IGNORECASE)

_KIND_HINTS = {
    "tiff": "It is damaged, or its pixels are of a kind that is not read (colour in 32 bits, for "
    "one). Export it as 8-bit TIFF or PNG.",
    "bmp": "It is damaged, or its pixels are of a kind that is not read. Save it as 24-bit BMP or "
    "PNG.",
    "dds": "It is damaged, or its pixels are of a kind that is not read. Export it as PNG.",
}
_HINT = "Open it in an image editor and save it again, or take it from its source again."

# Bytes a pixel that a decoder holds beside Pillow's picture, read off the peaks of real decodes:
# canvases and planes before colour conversion, whole components as 32-bit numbers.
_BESIDE_BYTES = {"WEBP": 12, "AVIF": 8, "HEIF": 6, "JPEG2000": 16}
_BESIDE_DEEP_BYTES = 8  # more, for planes of more than 8 bits
_SLOW_CODECS = frozenset({"ppm", "ppm_plain", "qoi", "dds_rgb"})
# Bytes a pixel in Pillow's memory, with the second picture these modes need in order to be reduced.
_DEEP_GREYS = dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N"), 3)
_MODE_BYTES = {"L": 1, "1": 2, "P": 5, "LA": 8, "PA": 8, "RGBA": 8} | _DEEP_GREYS
_OTHER_MODE_BYTES = (
    4  # whatever has several channels, or 32 bits, takes four bytes a pixel in Pillow
)

# What Pillow unpacks pixel by pixel in Python, and its C code could as well: (codec, arguments).
_DDS_DATA_OFFSET = 128
_BLUE_GREEN_RED = (0xFF0000, 0xFF00, 0xFF)
_UNPACKED = {
    ("dds_rgb", (24, _BLUE_GREEN_RED)): "BGR",
    ("dds_rgb", (32, _BLUE_GREEN_RED)): "BGRX",
    ("dds_rgb", (32, (*_BLUE_GREEN_RED, 0xFF000000))): "BGRA",
    ("dds_rgb", (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000))): "RGBA",
    ("ppm", ("RGB", 65_535)): "RGB;16B",
}

# Pillow refuses at twice this figure, by the header, and its refusal becomes ours; also for what
# only shows while decoding (a giant inside an icon, a tile larger than its picture).
Image.MAX_IMAGE_PIXELS = PIXELS_DECODE_MAX // 2


class _Hush:
    """Keeps Pillow's warnings from print and from `-W error` while any thread is inside.

    `warnings.catch_warnings` alone swaps process-wide state and is undone in the wrong order when
    threads overlap, so the first one in sets the filter and the last one out takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._saved is not None:
                self._saved.__exit__(None, None, None)
                self._saved = None


_HUSH = _Hush()  # one for the process, as the filters it guards are


@contextmanager
def decoding(data: bytes, kind: str) -> Iterator[None]:
    """Turn everything Pillow raises inside into one refusal of `data`, which claims to be `kind`.

    Raises:
        ImageRefusedError: `too_large`, `incomplete` or `corrupt`.

    """
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "half a picture must never pass for a whole one"
    try:
        with _HUSH:
            yield
    except ImageRefusedError:
        raise
    except Image.DecompressionBombError as exc:
        counted = re.search(r"\((\d+) pixels\)", str(exc))
        raise _too_many_pixels(int(counted[1]) if counted else None) from exc
    except MemoryError as exc:
        raise ImageRefusedError(
            Code.TOO_LARGE, "There is not enough memory to decode it. Reduce it first."
        ) from exc
    except Exception as exc:
        raise _damaged(data, kind, exc) from exc


def open_image(data: bytes, kind: str, *, frame: int = 0) -> ImageFile.ImageFile:
    """Open `data` with the one decoder for `kind`, reading its header only; call in `decoding`.

    `frame` counts from 0; to get to a later one of an animation, those before it are decoded.

    Raises:
        ImageRefusedError: `unsupported_format` if the decoder is an extra that is not installed.

    """
    if kind == "heic" and not has_heif():
        raise ImageRefusedError(
            Code.UNSUPPORTED_FORMAT,
            "This is a HEIC picture, and its decoder is not installed. Run "
            "`pip install 'venice-watch[heif]'`, or convert it to JPEG or PNG first.",
        )
    image = Image.open(io.BytesIO(data), formats=[RASTERS[kind].plugin])
    image.tile = [_unpacked(tile) for tile in image.tile]
    if frame:
        image.seek(_position(image, kind, frame))
    return image


def _position(image: ImageFile.ImageFile, kind: str, frame: int) -> int:
    """Return where in the file a frame is: the first of a HEIC is its primary picture."""
    if kind != "heic":
        return frame
    first = image.tell()
    return [first, *(n for n in range(getattr(image, "n_frames", 1)) if n != first)][frame]


def load(image: ImageFile.ImageFile, *, beside_bytes: int = 0) -> None:
    """Decode the pixels of an open image, unless its header promises too much; call in `decoding`.

    `beside_bytes` is what its decoder is known to need for this very file, beside the picture.

    Raises:
        ImageRefusedError: `too_large`, with the figures.

    """
    pixels = image.width * image.height
    if any(tile[0] in _SLOW_CODECS for tile in image.tile) and pixels > PIXELS_SLOW_MAX:
        raise ImageRefusedError(
            Code.TOO_LARGE,
            f"It has {pixels / _MEGA:.1f} megapixels in a form that takes about a second for each, "
            f"and {PIXELS_SLOW_MAX / _MEGA:.0f} are read. Save it as PNG first.",
        )
    needed_bytes = decoded_bytes(image) + beside_bytes
    if needed_bytes > DECODED_BYTES_MAX:
        raise ImageRefusedError(
            Code.TOO_LARGE,
            f"It has {pixels / _MEGA:.1f} megapixels, and to decode them takes "
            f"{needed_bytes / _MEGA:,.0f} MB of memory; {DECODED_BYTES_MAX / _MEGA:.0f} are "
            "allowed. Reduce it first.",
        )
    image.load()


def decoded_bytes(image: Image.Image) -> int:
    """Return what an image takes in memory at the peak of decoding, in bytes."""
    per_pixel = _MODE_BYTES.get(image.mode, _OTHER_MODE_BYTES)
    per_pixel += _BESIDE_BYTES.get(image.format or "", 0)
    if image.info.get("bit_depth", 8) > 8:  # noqa: PLR2004 - what HEIC's decoder tells of itself
        per_pixel += _BESIDE_DEEP_BYTES
    return image.width * image.height * per_pixel


@functools.cache
def has_heif() -> bool:
    """Say whether HEIC can be decoded: the extra `heif` is installed. Registers it with Pillow."""
    try:
        import pillow_heif
    except ImportError:
        return False
    # An embedded thumbnail must never be decoded in the picture's place.
    pillow_heif.register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False, decode_threads=_HEIC_THREADS
    )
    return True


def _unpacked(tile: ImageFile._Tile) -> ImageFile._Tile:
    """Return a tile that C code decodes, where Pillow would take its slow way to the same."""
    rawmode = None if isinstance(tile.args, str) else _UNPACKED.get((tile.codec_name, tile.args))  # type: ignore[arg-type]
    if rawmode is None:
        return tile
    offset = _DDS_DATA_OFFSET if tile.codec_name == "dds_rgb" else tile.offset
    return tile._replace(codec_name="raw", offset=offset, args=(rawmode, 0, 1))


def _too_many_pixels(pixels: int | None) -> ImageRefusedError:
    """Say that an image is too large to be decoded, and what to do."""
    size = f"It has {pixels / _MEGA:.1f} megapixels" if pixels else "It has too many pixels"
    return ImageRefusedError(
        Code.TOO_LARGE,
        f"{size}; at most {PIXELS_DECODE_MAX / _MEGA:.0f} are decoded. Reduce it first.",
    )


def _damaged(data: bytes, kind: str, exc: Exception) -> ImageRefusedError:
    """Tell what is missing from what is wrong."""
    short = find_missing_end(data, kind)
    if short is None and kind not in KINDS_WITH_END and _STOPS_EARLY.search(str(exc)):
        short = "its data stop early"
    if short is not None:
        return ImageRefusedError(
            Code.INCOMPLETE,
            f"This {kind.upper()} is not whole: {short}. Copy or download it again.",
        )
    return ImageRefusedError(
        Code.CORRUPT, f"This {kind.upper()} cannot be decoded. {_KIND_HINTS.get(kind, _HINT)}"
    )
