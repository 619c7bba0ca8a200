"""The encoding in which converted pixels are sent: the most faithful one below the API's limit.

Rules: lossless first; what cannot fit is not tried, because an encoder takes seconds to find out
what a sample of the picture tells in a tenth of one.
"""

import io

from PIL import Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.parameters import UPLOAD_BYTES_MAX

JPEG_QUALITIES = (97, 92)  # with full chroma; the loss of the first is below what can be seen
WEBP_SIDE_MAX_PX = 16_383  # the format's own limit
_WEBP_QUALITY = 97  # of the colours of a transparent picture; its alpha stays exact
_PNG_LEVEL = 6
_WEBP_GAINS = 1.5  # lossless WebP saves a quarter to a third of a photograph's PNG
_SAMPLE_STRIPS, _SAMPLE_ROWS = 12, 24
_SAMPLE_ERROR = 1.1  # how far a sample is off, at most, before its word is taken
_CHANNELS_ALPHA = frozenset({"LA", "RGBA"})


def encode(
    image: Image.Image, profile: bytes | None, *, is_lossy: bool = False
) -> tuple[bytes, str]:
    """Return (bytes, format) of the most faithful encoding below the API's limit.

    `is_lossy` says that the picture comes from a JPEG: a second one of high quality costs it
    nothing that can be seen, and saves the seconds of lossless WebP.

    Raises:
        ImageRefusedError: `too_large`, with the figures.

    """
    png_bytes = _estimate_png(image)
    if png_bytes <= UPLOAD_BYTES_MAX * _SAMPLE_ERROR:
        png = _saved(image, "PNG", icc_profile=profile, compress_level=_PNG_LEVEL)
        if len(png) <= UPLOAD_BYTES_MAX:
            return png, "png"
        png_bytes = len(png)
    if not is_lossy and png_bytes <= UPLOAD_BYTES_MAX * _WEBP_GAINS and _fits_webp(image):
        webp = _saved(
            image, "WEBP", icc_profile=profile, lossless=True, exact=True, method=0, quality=0
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


def _estimate_png(image: Image.Image) -> int:
    """Return about how many bytes a PNG of this picture has, from a sample of its rows."""
    raw_bytes = image.width * image.height * len(image.getbands())
    sampled_rows = _SAMPLE_STRIPS * _SAMPLE_ROWS
    if raw_bytes <= UPLOAD_BYTES_MAX or image.height <= 2 * sampled_rows:
        return min(raw_bytes, UPLOAD_BYTES_MAX)  # fits, or is tried
    sample = Image.new(image.mode, (image.width, sampled_rows))
    for number in range(_SAMPLE_STRIPS):
        top = number * (image.height - _SAMPLE_ROWS) // (_SAMPLE_STRIPS - 1)
        strip = image.crop((0, top, image.width, top + _SAMPLE_ROWS))
        sample.paste(strip, (0, number * _SAMPLE_ROWS))
    sampled_bytes = len(_saved(sample, "PNG", compress_level=_PNG_LEVEL))
    return sampled_bytes * image.height // sampled_rows


def _saved(image: Image.Image, plugin: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, plugin, **options)
    return buffer.getvalue()
