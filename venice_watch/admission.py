"""Whether an image may be sent as it is, made smaller, or not at all: pure arithmetic.

The API's limits (its documentation): at least 65,536 pixels and 64 a side in, at most 16,777,216
out. What can be found wrong for free is found here, before anything is paid.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.parameters import PIXELS_MIN, RESULT_PIXELS_MAX, SIDE_MIN_PX

SCALE_STEP = Fraction(1, 100)  # a clamped scale is cut to hundredths


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What to send: a source of this size, at this scale, for a result of that size."""

    width: int
    height: int
    scale: float
    result_width: int
    result_height: int


def result_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Return the result's (width, height) in pixels."""
    factor = Fraction(str(scale))
    return round(width * factor), round(height * factor)


def fit(width: int, height: int, scale: float, *, oversize: str, scale_min: float) -> Fit:
    """Return what to send for an upright image of `width` x `height`.

    `oversize` is the folder's: reduce (the source), clamp (the scale, not below `scale_min`), or
    reject. Raises ImageRefusedError with the numbers.
    """
    if min(width, height) < SIDE_MIN_PX or width * height < PIXELS_MIN:
        raise ImageRefusedError(
            Code.TOO_SMALL,
            f"It is {width} x {height} = {width * height:,} pixels; Venice takes images of at "
            f"least {PIXELS_MIN:,} pixels and {SIDE_MIN_PX} a side. Use a larger original.",
        )
    if _fits(width, height, scale):
        return _fit(width, height, scale)
    wanted = math.prod(result_size(width, height, scale))
    if oversize == "reduce":
        return _reduce(width, height, scale, wanted)
    if oversize == "clamp":
        clamped = _clamp(width, height, scale)
        if clamped >= scale_min:
            return _fit(width, height, clamped)
    raise ImageRefusedError(Code.TOO_LARGE, _too_large(width, height, scale, wanted, oversize))


def _fits(width: int, height: int, scale: float) -> bool:
    return math.prod(result_size(width, height, scale)) <= RESULT_PIXELS_MAX


def _fit(width: int, height: int, scale: float) -> Fit:
    result_width, result_height = result_size(width, height, scale)
    return Fit(
        width=width,
        height=height,
        scale=scale,
        result_width=result_width,
        result_height=result_height,
    )


def _reduce(width: int, height: int, scale: float, wanted: int) -> Fit:
    """Shrink the source, keeping its proportions, until the result just fits."""

    def sides(longer: int) -> tuple[int, int]:
        shorter = round(Fraction(longer * min(width, height), max(width, height)))
        return (longer, shorter) if width >= height else (shorter, longer)

    fitting, too_long = 0, max(width, height)
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        if _fits(*sides(middle), scale):
            fitting = middle
        else:
            too_long = middle
    small_width, small_height = sides(fitting)
    if min(small_width, small_height) < SIDE_MIN_PX or small_width * small_height < PIXELS_MIN:
        raise ImageRefusedError(Code.TOO_LARGE, _too_large(width, height, scale, wanted, "reduce"))
    return _fit(small_width, small_height, scale)


def _clamp(width: int, height: int, scale: float) -> float:
    """Lower the scale, in hundredths, until the result fits."""
    exact = math.sqrt(RESULT_PIXELS_MAX / (width * height))
    clamped = Fraction(math.floor(min(exact, scale) / SCALE_STEP)) * SCALE_STEP
    while not _fits(width, height, float(clamped)):
        clamped -= SCALE_STEP
    return float(clamped)


def _too_large(width: int, height: int, scale: float, wanted: int, oversize: str) -> str:
    advice = (
        "Set `oversize: reduce` for this folder, or a lower scale."
        if oversize != "reduce"
        else "Its sides differ too much to make it fit; crop it."
    )
    return (
        f"It is {width} x {height} = {width * height / 1e6:.1f} megapixels; at scale {scale:g} "
        f"the result would have {wanted:,} pixels, and Venice allows {RESULT_PIXELS_MAX:,}. "
        f"{advice}"
    )
