"""The encoding in which converted pixels are sent: the most faithful one below the API's limit.

Rules: lossless first; what cannot fit is not tried, because an encoder takes seconds to find out
what a sample of the picture tells in a tenth of one.
"""

import io
import zlib

from PIL import Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.parameters import UPLOAD_BYTES_MAX

JPEG_QUALITIES = (97, 92)  # with full chroma; the loss of the first is below what can be seen
WEBP_SIDE_MAX_PX = 16_383  # the format's own limit
_WEBP_QUALITY = 97  # of the colours of a transparent picture; its alpha stays exact
_WEBP_EFFORT = 1  # of 6: two megabytes a second slower than 0, and a tenth smaller
_WEBP_GAINS = 1.5  # lossless WebP saves a fifth to a third of a photograph's PNG
_CHANNELS_ALPHA = frozenset({"LA", "RGBA"})
# Runs only, which suits filtered photographs: smaller than level 6 makes them, in a seventh of the
# time. Drawings and screens repeat themselves, and need the search for what was there before.
_PHOTOGRAPH = {"compress_level": 6, "compress_type": zlib.Z_RLE}
_DRAWING = {"compress_level": 6}
_DRAWING_GAINS = 0.6  # less than that is not worth seven times the time
_SAMPLE_STRIPS, _SAMPLE_ROWS = 8, 16
_SAMPLE_ERROR = 1.15  # how far a sample may be off before its word is taken


def encode(image: Image.Image, profile: bytes | None) -> tuple[bytes, str]:
    """Return (bytes, format) of the most faithful encoding below the API's limit.

    Raises:
        ImageRefusedError: `too_large`, with the figures.

    """
    options, png_bytes = _plan_png(image)
    if png_bytes <= UPLOAD_BYTES_MAX * _SAMPLE_ERROR:
        png = _saved(image, "PNG", icc_profile=profile, **options)
        if len(png) <= UPLOAD_BYTES_MAX:
            return png, "png"
        png_bytes = len(png)
    if png_bytes <= UPLOAD_BYTES_MAX * _WEBP_GAINS and _fits_webp(image):
        webp = _saved(
            image,
            "WEBP",
            icc_profile=profile,
            lossless=True,
            exact=True,
            method=_WEBP_EFFORT,
            quality=0,
        )
        if len(webp) <= UPLOAD_BYTES_MAX:
            return webp, "webp"
    return _lossy(image, profile, png_bytes)


def _lossy(image: Image.Image, profile: bytes | None, png_bytes: int) -> tuple[bytes, str]:
    if image.mode in _CHANNELS_ALPHA and image.getextrema()[-1] == (255, 255):
        image = image.convert(image.mode[:-1])
    if image.mode in _CHANNELS_ALPHA:
        if _fits_webp(image):
            webp = _saved(image, "WEBP", icc_profile=profile, quality=_WEBP_QUALITY, exact=True)
            if len(webp) <= UPLOAD_BYTES_MAX:
                return webp, "webp"
    else:
        for quality in JPEG_QUALITIES:
            jpeg = _saved(image, "JPEG", icc_profile=profile, quality=quality, subsampling=0)
            if len(jpeg) <= UPLOAD_BYTES_MAX:
                return jpeg, "jpeg"
    raise ImageRefusedError(
        Code.TOO_LARGE,
        f"At {image.width} x {image.height} pixels it takes {png_bytes:,} bytes as PNG, nothing "
        f"smaller will do, and Venice takes {UPLOAD_BYTES_MAX:,}. Reduce its width and height.",
    )


def _fits_webp(image: Image.Image) -> bool:
    return max(image.size) <= WEBP_SIDE_MAX_PX


def _plan_png(image: Image.Image) -> tuple[dict[str, int], int]:
    """Return the options for a small PNG, and about how many bytes it will have, by a sample."""
    rows = _SAMPLE_STRIPS * _SAMPLE_ROWS
    if image.height <= 2 * rows:
        return _DRAWING, 0  # encoded as fast as sampled
    sample = Image.new(image.mode, (image.width, rows))
    for number in range(_SAMPLE_STRIPS):
        top = number * (image.height - _SAMPLE_ROWS) // (_SAMPLE_STRIPS - 1)
        strip = image.crop((0, top, image.width, top + _SAMPLE_ROWS))
        sample.paste(strip, (0, number * _SAMPLE_ROWS))
    drawing_bytes = len(_saved(sample, "PNG", **_DRAWING))
    photograph_bytes = len(_saved(sample, "PNG", **_PHOTOGRAPH))
    is_drawing = drawing_bytes < photograph_bytes * _DRAWING_GAINS
    options, size_bytes = (
        (_DRAWING, drawing_bytes) if is_drawing else (_PHOTOGRAPH, photograph_bytes)
    )
    return options, size_bytes * image.height // rows


def _saved(image: Image.Image, plugin: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, plugin, **options)
    return buffer.getvalue()
