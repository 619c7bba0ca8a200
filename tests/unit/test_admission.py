"""Whether an image may be sent as it is, smaller, or not at all: exact at every boundary."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from venice_watch.admission import fit, result_size
from venice_watch.errors import Code, ImageRefusedError

LIMIT = 16_777_216  # 4096 x 4096, the documented maximum
sides = st.integers(64, 40_000)
scales = st.one_of(
    st.sampled_from([1.0, 1.5, 2.0, 2.5, 3.0, 4.0]),
    st.integers(100, 400).map(lambda hundredths: hundredths / 100),
)


@pytest.mark.parametrize("oversize", ["reduce", "clamp", "reject"])
@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [(2048, 2048, 2.0), (1024, 1024, 4.0), (4096, 4096, 1.0), (8192, 2048, 1.0), (256, 256, 2.0)],
)
def test_at_the_limit(width: int, height: int, scale: float, oversize: str) -> None:
    """A result of exactly the limit is sent as it is, and so is the smallest image."""
    found = fit(width, height, scale, oversize=oversize, scale_min=1)
    assert (found.width, found.height, found.scale) == (width, height, scale)
    assert (found.result_width, found.result_height) == (width * scale, height * scale)


@pytest.mark.parametrize(("width", "height"), [(2049, 2048), (2048, 2049)])
def test_just_over(width: int, height: int) -> None:
    """One row more is reduced by about that row, and no more."""
    found = fit(width, height, 2.0, oversize="reduce", scale_min=1)
    assert found.result_width * found.result_height <= LIMIT
    assert width - 1 <= found.width <= width
    assert height - 1 <= found.height <= height
    assert (found.width, found.height) != (width, height)


@pytest.mark.parametrize(("width", "height"), [(4097, 4096), (16_777_217, 64)])
def test_rejected(width: int, height: int) -> None:
    """`reject` refuses with the numbers and the remedy."""
    with pytest.raises(ImageRefusedError) as caught:
        fit(width, height, 1.0, oversize="reject", scale_min=1)
    assert caught.value.code is Code.TOO_LARGE
    assert f"{width} x {height}" in caught.value.message
    assert "oversize: reduce" in caught.value.message


def test_message_shows_a_difference() -> None:
    """An image that is too large by one row is not said to have as much as is allowed."""
    with pytest.raises(ImageRefusedError) as caught:
        fit(4097, 4096, 1.0, oversize="reject", scale_min=1)
    assert "16,781,312" in caught.value.message
    assert "16,777,216" in caught.value.message


@pytest.mark.parametrize(
    ("width", "height"), [(255, 256), (256, 255), (63, 5_000), (5_000, 63), (1, 1), (64, 1_023)]
)
def test_too_small(width: int, height: int) -> None:
    """Fewer than 65,536 pixels or 64 a side is refused with both limits named."""
    with pytest.raises(ImageRefusedError) as caught:
        fit(width, height, 2.0, oversize="reduce", scale_min=1)
    assert caught.value.code is Code.TOO_SMALL
    assert "65,536 pixels and 64 a side" in caught.value.message


@pytest.mark.parametrize(("width", "height"), [(64, 1_024), (1_024, 64), (256, 256)])
def test_smallest(width: int, height: int) -> None:
    """Exactly the least is enough."""
    assert fit(width, height, 2.0, oversize="reject", scale_min=1).width == width


def test_reduced_to_the_least_side() -> None:
    """A strip may be reduced to exactly the least side that is allowed."""
    found = fit(65, 66_560, 2.0, oversize="reduce", scale_min=1)
    assert (found.width, found.height) == (64, 65_536)
    assert found.result_width * found.result_height == LIMIT


def test_cannot_be_reduced() -> None:
    """A strip that would become too narrow is refused, and told to be cropped."""
    with pytest.raises(ImageRefusedError) as caught:
        fit(64, 300_000, 2.0, oversize="reduce", scale_min=1)
    assert caught.value.code is Code.TOO_LARGE
    assert "crop" in caught.value.message


def test_clamped() -> None:
    """`clamp` keeps the source and lowers the scale, but not below the least allowed."""
    found = fit(3_000, 2_000, 4.0, oversize="clamp", scale_min=1)
    assert (found.width, found.height, found.scale) == (3_000, 2_000, 1.67)
    with pytest.raises(ImageRefusedError, match="oversize: reduce"):
        fit(3_000, 2_000, 4.0, oversize="clamp", scale_min=2)


@given(width=sides, height=sides, scale=scales)
def test_reduce(width: int, height: int, scale: float) -> None:
    """A reduced source fits, keeps its proportions within a pixel, and is as large as can be."""
    assume(width * height >= 65_536)
    try:
        found = fit(width, height, scale, oversize="reduce", scale_min=1)
    except ImageRefusedError as exc:
        assert exc.code is Code.TOO_LARGE  # noqa: PT017 - most do not raise
        assert math.prod(result_size(width, height, scale)) > LIMIT
        return
    assert found.scale == scale
    assert found.result_width * found.result_height <= LIMIT
    assert (found.result_width, found.result_height) == result_size(
        found.width, found.height, scale
    )
    assert found.width <= width
    assert found.height <= height
    if (found.width, found.height) == (width, height):
        return
    assert math.prod(result_size(width, height, scale)) > LIMIT, "reduced without need"
    off_width = abs(found.width - Fraction(found.height * width, height))
    off_height = abs(found.height - Fraction(found.width * height, width))
    assert min(off_width, off_height) <= Fraction(1, 2)
    larger = result_size(found.width + 1, found.height + 1, scale)
    assert math.prod(larger) > LIMIT, "a pixel more on each side would have fitted"


@given(width=sides, height=sides, scale=scales, scale_min=st.sampled_from([1.0, 2.0]))
def test_clamp(width: int, height: int, scale: float, scale_min: float) -> None:
    """A clamped scale fits, is within its bounds, and a hundredth or two more would not fit."""
    assume(width * height >= 65_536)
    try:
        found = fit(width, height, scale, oversize="clamp", scale_min=scale_min)
    except ImageRefusedError:
        assert math.prod(result_size(width, height, scale_min - 0.01)) > LIMIT * 0.9
        return
    assert (found.width, found.height) == (width, height)
    assert found.result_width * found.result_height <= LIMIT
    if found.scale != scale:
        assert scale_min <= found.scale < scale
        more = round(found.scale + 0.02, 2)
        assert math.prod(result_size(width, height, more)) > LIMIT


@pytest.mark.parametrize(
    ("scale", "expected"), [(1.1, (110, 330)), (1.005, (100, 302)), (2.675, (268, 802))]
)
def test_result_size(scale: float, expected: tuple[int, int]) -> None:
    """Sizes are worked out in decimals, as the scale was written, not in binary fractions."""
    assert result_size(100, 300, scale) == expected
