"""Results in other formats than the answer's: decoded once, encoded with their metadata.

Rules: the same input gives the same bytes, on any number of cores; what a format has no place for
is left out and named, never cut. One result is in memory at a time, decoded and encoded. How the
metadata stand in each format is `carriers`' business.
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from venice_watch.errors import VeniceWatchError
from venice_watch.images import carriers
from venice_watch.images.decoder import decoding, open_image
from venice_watch.images.icc import icc_for
from venice_watch.images.metadata import Metadata
from venice_watch.images.splice import says_colours

# The longest side in pixels: of the format (WebP), or of what its decoders take (libjpeg, libavif).
SIDES_PX_MAX = MappingProxyType({"jpeg": 65_500, "webp": 16_383, "avif": 32_768})
WRITABLE = ("png", "jpeg", "webp", "avif", "tiff")

_FULL_CHROMA_QUALITY = 90  # from here on colours are kept at every pixel
_AVIF_SPEED = 8  # a quarter of the time of 6, and no larger at the qualities that matter here
_PLAIN_MODES = frozenset({"L", "RGB", "RGBA"})
_PNG_LEVEL = 1  # of what is made of a delivered file again: nobody waits for a smaller one


class EncodeError(VeniceWatchError):
    """A result that cannot be had in this format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A finished file, and the kinds of metadata that its format has no room for."""

    data: bytes
    left_out: tuple[str, ...]


def writable(wanted: str, *, width: int, height: int) -> str:
    """Return `wanted` if a picture of this size can be written so, else png."""
    if wanted not in WRITABLE or max(width, height) > SIDES_PX_MAX.get(wanted, max(width, height)):
        return "png"
    return wanted


def encode(
    result: Path, kind: str, metadata: Metadata, *, quality: int, background: tuple[int, int, int]
) -> Encoded:
    """Return the whole PNG `result` in another format; blocks while it is decoded and encoded.

    Raises:
        EncodeError: if it cannot be decoded, or not be encoded so.
        OSError: if it cannot be read.

    """
    try:
        image, own_profile = _load(result)
        icc = _profile(result, own_profile, metadata, grey=image.mode in ("L", "LA"))
        found = replace(metadata, icc=icc)
        pixels = _pixels(image, kind, background)
        del image
        data, left_out = _ENCODERS[kind](pixels, found, quality)
    except (EncodeError, OSError):
        raise
    except Exception as exc:  # encoders that read the EXIF raise nearly everything
        raise EncodeError(f"it cannot be written as {kind}: {exc}") from exc
    return Encoded(data=data, left_out=left_out)


def decode_again(data: bytes, kind: str) -> bytes:
    """Return the pixels of a file that `encode` made, as a PNG without metadata; blocks.

    Raises:
        ImageRefusedError: if it cannot be decoded.

    """
    with decoding(data, kind), open_image(data, kind) as image:
        image.load()
        plain = _plain(image)
    return _saved(plain, "PNG", compress_level=_PNG_LEVEL)


def _load(result: Path) -> tuple[Image.Image, bytes | None]:
    """Return the decoded pixels, and the profile that the answer itself has."""
    data = result.read_bytes()
    with decoding(data, "png"), open_image(data, "png") as image:
        image.load()
        return _plain(image), image.info.get("icc_profile")


def _plain(image: Image.Image) -> Image.Image:
    """Return the pixels alone as L, LA, RGB or RGBA, with eight bits."""
    if image.mode.startswith("I"):  # 16-bit grey: plain conversion would clip it
        plain = image.convert("I").point(lambda level: level * (1 / 256)).convert("L")
    elif image.mode == "LA" or (image.mode in _PLAIN_MODES and "transparency" not in image.info):
        plain = image.copy()
    elif image.has_transparency_data:
        plain = image.convert("RGBA")
    else:
        plain = image.convert("L" if image.mode == "1" else "RGB")
    plain.info.clear()  # Pillow would write what it finds there
    return plain


def _profile(
    result: Path, own_profile: bytes | None, metadata: Metadata, *, grey: bool
) -> bytes | None:
    """Return the profile of the pixels: the answer's own word counts first."""
    descriptor = os.open(result, os.O_RDONLY | os.O_CLOEXEC)
    try:
        own = says_colours(descriptor)
    finally:
        os.close(descriptor)
    if own or metadata.icc is None:
        return own_profile
    return icc_for(metadata.icc, grey_result=grey)


def _pixels(image: Image.Image, kind: str, background: tuple[int, int, int]) -> Image.Image:
    """Return the pixels in a mode that the format has."""
    if kind == "jpeg" and image.mode in ("LA", "RGBA"):
        ground = Image.new("RGBA", image.size, (*background, 255))
        ground.alpha_composite(image.convert("RGBA"))
        return ground.convert("RGB")
    if kind in ("webp", "avif") and image.mode == "LA":
        return image.convert("RGBA")
    return image


def _saved(image: Image.Image, plugin: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    try:
        image.save(buffer, plugin, **options)
    except (OSError, SystemError) as exc:  # what encoders raise about what they cannot do
        raise EncodeError(f"the {plugin} encoder failed: {exc}") from exc
    return buffer.getvalue()


# --- one function a format -----------------------------------------------------------------------

_Finished = tuple[bytes, tuple[str, ...]]


def _to_jpeg(image: Image.Image, metadata: Metadata, quality: int) -> _Finished:
    full_chroma = quality >= _FULL_CHROMA_QUALITY
    options: dict[str, object] = {"quality": quality, "subsampling": 0 if full_chroma else 2}
    dpi = carriers.whole_dpi(metadata.dpi)
    if dpi is not None:
        options["dpi"] = dpi
    return carriers.into_jpeg(_saved(image, "JPEG", **options), metadata)


def _to_webp(image: Image.Image, metadata: Metadata, quality: int) -> _Finished:
    exif, left_out = carriers.full_exif(metadata)
    options = _beside(metadata, exif)
    return _saved(image, "WEBP", quality=quality, **options), left_out


def _to_avif(image: Image.Image, metadata: Metadata, quality: int) -> _Finished:
    # Pillow reads the orientation out of the EXIF and writes that anew, without makers' notes
    exif, left_out = carriers.full_exif(metadata, without=(carriers.ORIENTATION,))
    options = _beside(metadata, exif)
    # the number of threads changes the bytes
    options |= {"speed": _AVIF_SPEED, "max_threads": 1}
    options["subsampling"] = "4:4:4" if quality >= _FULL_CHROMA_QUALITY else "4:2:0"
    if image.mode == "L":
        options["subsampling"] = "4:0:0"
    return _saved(image, "AVIF", quality=quality, **options), left_out


def _beside(metadata: Metadata, exif: bytes | None) -> dict[str, object]:
    options = {"exif": exif, "xmp": metadata.xmp, "icc_profile": metadata.icc}
    return {name: value for name, value in options.items() if value}


def _to_tiff(image: Image.Image, metadata: Metadata, _quality: int) -> _Finished:
    plain = _saved(image, "TIFF", compression="tiff_adobe_deflate")
    return carriers.into_tiff(plain, metadata)


_ENCODERS: dict[str, Callable[[Image.Image, Metadata, int], _Finished]] = {
    "jpeg": _to_jpeg,
    "webp": _to_webp,
    "avif": _to_avif,
    "tiff": _to_tiff,
}
