"""What is sent of an image: its very bytes where the API takes them, else the nearest it takes.

Rules: nothing is converted that need not be; a conversion loses no more than it must (lossless
first, colours through their profile, depth scaled and never clipped); the result is upright, of
the size asked for, and below the API's limit. Intermediates are dropped as soon as they can be.
"""

import io
from dataclasses import dataclass

from PIL import Image, ImageCms

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.decoder import decoding, open_image
from venice_watch.images.probe import SIDEWAYS, UPRIGHT, Probe, upright_size
from venice_watch.images.signature import RASTERS
from venice_watch.parameters import UPLOAD_BYTES_MAX

SENT_AS_IS = frozenset({"jpeg", "png", "webp"})
JPEG_QUALITY = 95  # the last resort's; with full chroma its loss is below what upscaling adds
WEBP_SIDE_MAX_PX = 16_383  # the format's own limit

# Four inks and 16-bit grey are taken by the API's document, but common servers invert the one and
# clip the other to white, and the result has been paid for by then.
_MODES_AS_IS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
_MODES_SENT = frozenset({"L", "RGB", "RGBA"})
_PNG_LEVEL, _PNG_LEVEL_BEST = 6, 9
_BEST_GAINS = 1.10  # level 9 saves a few percent over level 6, for several times the time
_WEBP_GAINS = 2.0  # lossless WebP saves a quarter to a third of a photograph's PNG
_DRAFT_GAP = 2  # decode a JPEG at no less than twice the size wanted, and reduce the rest well
_REDUCING_GAP = 3.0
_PROFILE_SPACE = slice(16, 20)  # where an ICC profile says what it is about
_PROFILE_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
_WHITE = 255
# EXIF orientation to what makes it upright, as ImageOps.exif_transpose, whose rewriting of the
# metadata fails on damaged EXIF; nothing of the EXIF is sent.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The bytes to send, and what was done to get them."""

    data: bytes
    media_type: str
    extension: str  # without a dot
    width: int  # pixels
    height: int
    converted: bool  # False: `data` are the file's own bytes
    note: str  # what was changed, for the journal; empty if nothing was


def prepare(data: bytes, probe: Probe, *, width: int, height: int, frame: int = 0) -> Prepared:
    """Return what to send of `data` for an upload of `width` x `height` pixels, upright.

    `frame` counts all pictures of the file from 0, and `probe` is of that one.

    Raises:
        ImageRefusedError: `too_large` if no encoding fits, `corrupt` or `incomplete` if it cannot
            be decoded after all.

    """
    upright = upright_size(probe)
    assert 0 < width <= upright[0], "the source is only ever reduced"
    assert 0 < height <= upright[1], "the source is only ever reduced"
    if _goes_as_is(data, probe) and upright == (width, height):
        return Prepared(
            data=data,
            media_type=probe.media_type,
            extension=RASTERS[probe.format].extension,
            width=width,
            height=height,
            converted=False,
            note="",
        )
    with decoding(data, probe.format):
        image, profile = _pixels(data, probe, width=width, height=height, frame=frame)
        assert image.size == (width, height), "what is sent is what was planned"
        encoded, kind = _encode(image, profile)
    return Prepared(
        data=encoded,
        media_type=RASTERS[kind].media_type,
        extension=RASTERS[kind].extension,
        width=width,
        height=height,
        converted=True,
        note=_note(probe, kind, source_bytes=len(data), size=(width, height), frame=frame),
    )


def _goes_as_is(data: bytes, probe: Probe) -> bool:
    return (
        probe.format in SENT_AS_IS
        and probe.frames == 1
        and probe.orientation == UPRIGHT
        and probe.mode in _MODES_AS_IS
        and len(data) <= UPLOAD_BYTES_MAX
    )


def _pixels(
    data: bytes, probe: Probe, *, width: int, height: int, frame: int
) -> tuple[Image.Image, bytes | None]:
    """Decode one frame; return it upright, in a mode that is sent, with its profile."""
    turn = _TURNS.get(probe.orientation)
    stored_size = (height, width) if probe.orientation in SIDEWAYS else (width, height)
    with open_image(data, probe.format) as source:
        if frame:
            source.seek(frame)
        if probe.format == "jpeg":
            source.draft(None, (stored_size[0] * _DRAFT_GAP, stored_size[1] * _DRAFT_GAP))
        source.load()
        if probe.format == "tiff":  # Pillow turns these, and only these, while it loads them
            turn, stored_size = None, (width, height)
        profile = source.info.get("icc_profile")
        image = _to_sent_mode(source, profile, bits=probe.bits)
    if frame and probe.format == "gif":  # a later one may reach beyond the canvas, unseen
        image = image.crop((0, 0, probe.width, probe.height))
    if image.size != stored_size:
        image = image.resize(stored_size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    if turn is not None:
        image = image.transpose(turn)
    fits = profile is not None and profile[_PROFILE_SPACE] == _PROFILE_SPACES[image.mode]
    return image, profile if fits else None


def _to_sent_mode(image: Image.Image, profile: bytes | None, *, bits: int) -> Image.Image:
    """Return `image` as L, RGB or RGBA, whichever holds all of it."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _to_eight_bits(image, bits=bits)
    if image.has_transparency_data:
        return image.copy() if mode == "RGBA" else image.convert("RGBA")
    if mode == "1":
        return image.convert("L")
    if mode == "CMYK":
        return _inks_to_rgb(image, profile)
    return image.copy() if mode in _MODES_SENT else image.convert("RGB")


def _inks_to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert CMYK by its own profile; without a usable one, by the plain formula."""
    if profile is not None:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            rgb = ImageCms.profileToProfile(
                image, inks, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            rgb = None  # a damaged profile is no reason to refuse the picture
        if rgb is not None:
            return rgb
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image, *, bits: int) -> Image.Image:
    """Scale deep greys to 8 bits; plain conversion would clip everything bright to white."""
    deep = image.convert("F")
    if image.mode.startswith("I;16"):
        low, high = 0.0, float(2**bits - 1)  # 12 bits in 16 have their own white
    else:
        low, high = _range_of(deep)
    factor = _WHITE / ((high - low) or 1.0)
    offset = 0.5 - low * factor  # the conversion below cuts off decimals
    return deep.point(lambda value: value * factor + offset).convert("L")


def _range_of(deep: Image.Image) -> tuple[float, float]:
    """Return the black and white of a picture whose mode does not say: a usual scale or its own."""
    extrema = deep.getextrema()
    low, high = (float(value) for value in extrema if isinstance(value, (int, float)))
    for usual in (1.0, 255.0, 65_535.0):
        if low >= 0 and high <= usual:
            return 0.0, usual
    return low, high


def _encode(image: Image.Image, profile: bytes | None) -> tuple[bytes, str]:
    """Return (bytes, format) of the most faithful encoding below the API's limit."""
    best = _png(image, profile, level=_PNG_LEVEL)
    png_bytes = len(best)
    if png_bytes <= UPLOAD_BYTES_MAX:
        return best, "png"
    if png_bytes <= UPLOAD_BYTES_MAX * _BEST_GAINS:
        best = _png(image, profile, level=_PNG_LEVEL_BEST)
        if len(best) <= UPLOAD_BYTES_MAX:
            return best, "png"
    del best
    if png_bytes <= UPLOAD_BYTES_MAX * _WEBP_GAINS and max(image.size) <= WEBP_SIDE_MAX_PX:
        webp = _saved(image, "WEBP", icc_profile=profile, lossless=True, exact=True, method=2)
        if len(webp) <= UPLOAD_BYTES_MAX:
            return webp, "webp"
        del webp
    if image.mode != "RGBA":
        jpeg = _saved(image, "JPEG", icc_profile=profile, quality=JPEG_QUALITY, subsampling=0)
        if len(jpeg) <= UPLOAD_BYTES_MAX:
            return jpeg, "jpeg"
    raise ImageRefusedError(
        Code.TOO_LARGE,
        f"At {image.width} x {image.height} pixels it takes {png_bytes:,} bytes as PNG, nothing "
        f"smaller will do, and Venice takes {UPLOAD_BYTES_MAX:,}. Reduce its width and height.",
    )


def _png(image: Image.Image, profile: bytes | None, *, level: int) -> bytes:
    return _saved(image, "PNG", icc_profile=profile, compress_level=level)


def _saved(image: Image.Image, plugin: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, plugin, **options)
    return buffer.getvalue()


def _note(probe: Probe, kind: str, *, source_bytes: int, size: tuple[int, int], frame: int) -> str:
    """Say what was changed, in the order in which it happened."""
    steps = []
    if probe.frames > 1:
        which = f"frame {frame + 1}" if frame else "first"
        steps.append(f"{which} of {probe.frames} frames")
    if probe.format != kind or probe.mode not in _MODES_AS_IS:
        steps.append(f"{probe.format} {probe.mode} as {kind}")
    if probe.orientation != UPRIGHT:
        steps.append("turned upright")
    if size != upright_size(probe):
        before = upright_size(probe)
        steps.append(f"reduced from {before[0]} x {before[1]} to {size[0]} x {size[1]}")
    if source_bytes > UPLOAD_BYTES_MAX:
        steps.append(f"encoded again, its {source_bytes:,} bytes being over {UPLOAD_BYTES_MAX:,}")
    return ", ".join(steps)
