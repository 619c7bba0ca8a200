"""One picture of a file, decoded into what is sent: upright, 8 bits, grey or RGB, of one size.

Rules: depth is scaled and rounded, never clipped; colours go through their profile; nothing is in
memory twice that can be converted a strip at a time, and a picture is made smaller before it is
made anything else.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageChops, ImageCms, ImageFile

from venice_watch.images.damage import coefficients_bytes
from venice_watch.images.decoder import DECODED_BYTES_MAX, decoded_bytes, load, open_image
from venice_watch.images.probe import SIDEWAYS, Probe

MODES_SENT = frozenset({"L", "LA", "RGB", "RGBA"})
BITS_SENT = 8
_REDUCIBLE = MODES_SENT | {"CMYK", "YCbCr"}  # Pillow weighs colour by alpha by itself
_OPAQUE = {"RGBA": "RGB", "LA": "L"}
_REDUCING_GAP = 3.0
_STRIP_PIXELS = 1 << 20
_WHITE = 255
_DEEP_WHITE = 65_535
_TIFF_PHOTOMETRIC, _TIFF_WHITE_VALUE, _TIFF_ICC = 262, 281, 34_675
_WHITE_IS_ZERO = 0
_PROFILE_SPACE = slice(16, 20)  # where an ICC profile says what it is about
_PROFILE_MARK = slice(36, 40)
_PROFILE_SPACES = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
# Names of 16-bit pixels in memory, and the name by which the same bytes give their lower halves.
_LOWER_HALVES = {"B": "L", "L": "B", "N": "B"}
_HALVED = frozenset({"RGB", "RGBX", "RGBA", "CMYK"})
_ROUNDED_SHARE = 3  # of the memory allowed: what a picture may take for a second one beside it
_ROUNDS_AT = 129  # (high, low) / 257 is nearer to high + 1 from here on
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
class Pixels:
    """A decoded picture in a mode that is sent."""

    image: Image.Image
    profile: bytes | None  # the ICC profile these pixels are in; None for sRGB and for unknown
    steps: tuple[str, ...]  # what was changed in their colours, in words


def decode(
    data: bytes,
    probe: Probe,
    *,
    width: int,
    height: int,
    frame: int = 0,
    flatten: tuple[int, int, int] | None = None,
) -> Pixels:
    """Decode one frame as `width` x `height` pixels, upright; call in `decoding`.

    `probe` is of that frame. Where `flatten` is a colour, whatever is transparent is laid on it.

    Raises:
        ImageRefusedError: `too_large` if it takes too much memory or time.

    """
    turn = _TURNS.get(probe.orientation)
    size = (height, width) if probe.orientation in SIDEWAYS else (width, height)
    with open_image(data, probe.format, frame=frame) as source:
        _decode_smaller(source, size)
        load(source, beside_bytes=coefficients_bytes(data) if probe.format == "jpeg" else 0)
        if probe.format == "tiff":  # Pillow turns these, and only these, while it loads them
            turn, size = None, (width, height)
        profile = find_profile(data, probe.format, source)
        image, steps = _to_eight_bits(data, source, probe, frame)
    if frame and probe.format == "gif":  # a later one may reach beyond the canvas, unseen
        image = image.crop((0, 0, probe.width, probe.height))
    if image.mode in _REDUCIBLE and "transparency" not in image.info:
        image = _resized(image, size)
    image, profile, how = _to_sent_mode(image, profile)
    steps += how
    image = _resized(image, size)
    if turn is not None:
        image = image.transpose(turn)
    image, how = _settle_alpha(image, probe, flatten)
    return Pixels(
        image=image,
        profile=profile if _fits(profile, image.mode) else None,
        steps=(*steps, *how),
    )


def find_profile(data: bytes, kind: str, image: Image.Image) -> bytes | None:
    """Return the ICC profile of an open image, or None."""
    profile = image.info.get("icc_profile")
    if kind == "tiff":  # where Pillow keeps what an earlier page said
        profile = getattr(image, "tag_v2", {}).get(_TIFF_ICC)
    if profile is None and kind == "jp2":  # which Pillow leaves where it is
        at = data.find(b"colr\x02", 0, 4_096)
        profile = data[at + 7 : at - 4 + int.from_bytes(data[at - 4 : at])] if at > 0 else None
    is_one = isinstance(profile, bytes) and profile[_PROFILE_MARK] == b"acsp"
    return profile if is_one else None


def _decode_smaller(source: ImageFile.ImageFile, size: tuple[int, int]) -> None:
    """Let the decoder leave out detail nobody will see, where it can: it is free, and good."""
    if source.format in {"JPEG", "MPO"}:
        source.draft(None, size)  # no smaller than asked for; the rest is reduced well
    elif source.format == "JPEG2000" and decoded_bytes(source) > DECODED_BYTES_MAX:
        power = min(source.width // size[0], source.height // size[1]).bit_length() - 1
        source.reduce = max(0, power)  # type: ignore[method-assign, assignment]


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)


def _by_strips(
    image: Image.Image, mode: str, convert: Callable[[Image.Image, int], Image.Image]
) -> Image.Image:
    """Convert an image strip by strip; `convert` gets each with the row where it begins."""
    result = Image.new(mode, image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(convert(strip, top), (0, top))
    return result


# --- depth --------------------------------------------------------------------------------------


def _to_eight_bits(
    data: bytes, source: ImageFile.ImageFile, probe: Probe, frame: int
) -> tuple[Image.Image, tuple[str, ...]]:
    """Return a loaded image with 8 bits a channel or fewer, and what was done for that."""
    source = _with_true_transparency(source, probe)
    steps = (f"{probe.bits} bits a channel as {BITS_SENT}",) if probe.bits > BITS_SENT else ()
    if source.mode.startswith("I") or source.mode == "F":
        return _grey(source, probe), steps
    lower = _lower_halves(data, source, probe, frame) if probe.bits > BITS_SENT else None
    if lower is None:
        return source, steps

    def rounded(strip: Image.Image, top: int) -> Image.Image:
        low = lower.crop((0, top, strip.width, top + strip.height))
        table = ([0] * _ROUNDS_AT + [1] * (_WHITE + 1 - _ROUNDS_AT)) * len(strip.getbands())
        up = ImageChops.subtract(low, strip).point(table)
        down = ImageChops.subtract(strip, low).point(table)
        return ImageChops.subtract(ImageChops.add(strip, up), down)

    image = _by_strips(source, source.mode, rounded)
    image.info = source.info
    return image, steps


def _with_true_transparency(source: ImageFile.ImageFile, probe: Probe) -> ImageFile.ImageFile:
    """State a PNG's transparent colour in the 8 bits Pillow decodes to, not in the file's depth."""
    key = source.info.get("transparency")
    if probe.format == "png" and isinstance(key, int) and source.mode == "L":
        source.info["transparency"] = key * _WHITE // (2**probe.bits - 1)
    if probe.format == "png" and isinstance(key, tuple) and probe.bits > BITS_SENT:
        source.info["transparency"] = tuple(_scaled(value, _DEEP_WHITE) for value in key)
    return source


def _lower_halves(
    data: bytes, source: ImageFile.ImageFile, probe: Probe, frame: int
) -> Image.Image | None:
    """Decode the lower bytes of 16-bit colours, whose higher bytes are all that Pillow decodes.

    None where that cannot be had: a level too dark at most is what remains.
    """
    if _ROUNDED_SHARE * decoded_bytes(source) > DECODED_BYTES_MAX:
        return None
    again = open_image(data, probe.format, frame=frame)
    if not again.tile or again.mode != source.mode:
        return None
    tiles = []
    for tile in again.tile:
        rawmode, *rest = (tile.args,) if isinstance(tile.args, str) else (tile.args or ("",))
        name, _, order = str(rawmode).partition(";16")
        if name not in _HALVED or order not in _LOWER_HALVES:
            return None
        other = f"{name};16{_LOWER_HALVES[order]}"
        tiles.append(tile._replace(args=other if isinstance(tile.args, str) else (other, *rest)))
    again.tile = tiles
    load(again)
    return again


def _grey(source: ImageFile.ImageFile, probe: Probe) -> Image.Image:
    """Scale deep greys to 8 bits; plain conversion would clip everything bright to white."""
    tags = getattr(source, "tag_v2", {})
    inverted = tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO  # which Pillow does not heed here
    if not (source.mode.startswith("I;16") or probe.format == "ppm") or source.mode == "F":
        return _from_range(source, inverted=inverted)
    white = _DEEP_WHITE if probe.format == "ppm" else 2**probe.bits - 1
    stated = tags.get(_TIFF_WHITE_VALUE)  # 12 bits in 16 have their own white
    if isinstance(stated, tuple) and len(stated) == 1 and _WHITE < stated[0] < white:
        white = int(stated[0])
    table = list(reversed(_levels(white))) if inverted else _levels(white)
    key = source.info.get("transparency")
    if not isinstance(key, int):
        return _by_strips(source, "L", lambda strip, _: strip.convert("I").point(table, "L"))
    alpha = [_WHITE] * (_DEEP_WHITE + 1)
    alpha[key & _DEEP_WHITE] = 0

    def with_alpha(strip: Image.Image, _: int) -> Image.Image:
        deep = strip.convert("I")
        return Image.merge("LA", (deep.point(table, "L"), deep.point(alpha, "L")))

    return _by_strips(source, "LA", with_alpha)


@cache
def _levels(white: int) -> list[int]:
    return [min(_WHITE, _scaled(value, white)) for value in range(_DEEP_WHITE + 1)]


def _scaled(value: int, white: int) -> int:
    return (value * _WHITE + white // 2) // white


def _from_range(source: Image.Image, *, inverted: bool) -> Image.Image:
    """Scale floats and 32-bit numbers, whose black and white are a convention or their own."""
    low, high = _range_of(source)
    factor = _WHITE / ((high - low) or 1.0)
    offset = 0.5 - low * factor  # the conversion below cuts off decimals
    if inverted:
        factor, offset = -factor, _WHITE + 1 - offset

    def scaled(strip: Image.Image, _: int) -> Image.Image:
        return strip.convert("F").point(lambda value: value * factor + offset).convert("L")

    return _by_strips(source, "L", scaled)


def _range_of(deep: Image.Image) -> tuple[float, float]:
    """Return the black and white of a picture whose mode does not say: a usual scale or its own."""
    extrema = deep.getextrema()
    low, high = (float(value) for value in extrema if isinstance(value, (int, float)))
    for usual in (1.0, 255.0, 65_535.0):
        if low >= 0 and high <= usual:
            return 0.0, usual
    return low, high


# --- colour and alpha ---------------------------------------------------------------------------


def _to_sent_mode(
    image: Image.Image, profile: bytes | None
) -> tuple[Image.Image, bytes | None, tuple[str, ...]]:
    """Return `image` as L, LA, RGB or RGBA, whichever holds all of it, and its profile then."""
    mode = image.mode
    if mode == "CMYK":
        return _from_inks(image, profile)
    if mode == "LAB":
        return _by_strips(image, "RGB", lambda strip, _: strip.convert("RGB")), None, ()
    if image.has_transparency_data:
        wanted = "LA" if mode in {"L", "1", "LA", "La"} else "RGBA"
        return (image if mode == wanted else image.convert(wanted)), profile, ()
    if mode in MODES_SENT:
        return image, profile, ()
    return image.convert("L" if mode == "1" else "RGB"), profile, ()


def _from_inks(
    image: Image.Image, profile: bytes | None
) -> tuple[Image.Image, None, tuple[str, ...]]:
    """Convert CMYK by its own profile; without a usable one, by the plain formula."""
    if profile is not None:
        try:
            transform = ImageCms.buildTransform(
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                "CMYK",
                "RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile is no reason to refuse the picture
        else:
            rgb = _by_strips(
                image, "RGB", lambda strip, _: ImageCms.applyTransform(strip, transform) or strip
            )
            return rgb, None, ("inks converted to sRGB by their profile",)
    rgb = _by_strips(image, "RGB", lambda strip, _: strip.convert("RGB"))
    return rgb, None, ("inks converted to RGB by the plain formula",)


def _settle_alpha(
    image: Image.Image, probe: Probe, flatten: tuple[int, int, int] | None
) -> tuple[Image.Image, tuple[str, ...]]:
    """Drop an alpha that is none, and lay the others on `flatten` where that is wanted."""
    if image.mode not in _OPAQUE:
        return image, ()
    if not probe.has_alpha:
        return image.convert(_OPAQUE[image.mode]), ()
    alpha = image.getextrema()[-1]
    if alpha == (0, 0):  # written by programs that mean nothing by it; a blank is paid for in vain
        return image.convert(_OPAQUE[image.mode]), ("an alpha that hides everything left out",)
    if flatten is None:
        return image, ()
    return flattened(image, flatten), (f"laid on #{bytes(flatten).hex()}",)


def flattened(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Return an LA or RGBA image laid on a colour: RGB, or L where all of it is grey."""
    if image.mode == "LA" and len(set(colour)) == 1:
        ground = Image.new("L", image.size, colour[0])
        ground.paste(image.getchannel("L"), mask=image.getchannel("A"))
        return ground
    ground = Image.new("RGB", image.size, colour)
    ground.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return ground


def _fits(profile: bytes | None, mode: str) -> bool:
    return profile is not None and profile[_PROFILE_SPACE] == _PROFILE_SPACES[mode]
