import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from venice_watch.images.icc import icc_for, plausible

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
GAMMA_2_2 = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
TABLE = b"curv" + bytes(4) + struct.pack(">I5H", 5, 0, 9_000, 20_000, 41_000, 65_535) + bytes(2)
LINEAR = b"curv" + bytes(4) + bytes(4)
SRGB_CURVE = (
    b"para"
    + bytes(4)
    + struct.pack(
        ">HH5i",
        3,
        0,
        *(round(v * 65_536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)),
    )
)
CURVES = {"gamma": GAMMA_2_2, "table": TABLE, "linear": LINEAR, "sRGB": SRGB_CURVE}


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = bytearray(SRGB[:128])
    header[0:4] = struct.pack(">I", at + len(body))
    header[8:12] = b"\x04\x20\0\0"
    header[12:16], header[16:20], header[20:24] = b"mntr", space, connection
    return bytes(header) + table + body


def _grey(curve: bytes, connection: bytes = b"XYZ ") -> bytes:
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63_190, 65_536, 54_061)
    text = "grey".encode("utf-16-be")
    words = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = {b"desc": words, b"cprt": words, b"wtpt": white, b"kTRC": curve}
    return _profile(b"GRAY", connection, tags)


def _seen(profile: bytes, mode: str) -> list[tuple[int, ...]]:
    """Return how 64 greys look through a profile, as Lab."""
    ramp = Image.frombytes("L", (64, 1), bytes(range(0, 256, 4))).convert(mode)
    shown = ImageCms.profileToProfile(
        ramp,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert shown is not None
    return [shown.getpixel((x, 0)) for x in range(64)]  # type: ignore[misc]


@pytest.mark.parametrize(
    "numbers", [(0, -1.0), (3, 32_767.0, 32_767.0, 1.0, 1.0, 0.0)], ids=["negative", "enormous"]
)
def test_a_curve_that_cannot_be_computed(numbers: tuple[float, ...]) -> None:
    """A lightness curve that is no curve gives a profile all the same: the picture is paid for."""
    function, *values = numbers
    fixed = (round(value * 65_536) for value in values)
    curve = b"para" + bytes(4) + struct.pack(f">HH{len(values)}i", int(function), 0, *fixed)
    rgb = icc_for(_grey(curve, b"Lab "), grey_result=False)
    assert rgb is not None
    assert plausible(rgb) == rgb


@pytest.mark.parametrize("connection", [b"XYZ ", b"Lab "])
@pytest.mark.parametrize("curve", CURVES)
def test_greys_look_the_same_in_rgb(curve: str, connection: bytes) -> None:
    """A grey profile becomes an RGB one through which littleCMS shows the same greys."""
    grey = _grey(CURVES[curve], connection)
    rgb = icc_for(grey, grey_result=False)
    assert rgb is not None
    assert plausible(rgb) == rgb
    assert rgb[16:20] == b"RGB "
    pairs = list(zip(_seen(grey, "L"), _seen(rgb, "RGB"), strict=True))
    for one, other in pairs[2:]:  # littleCMS is coarse in the darkest greys: 25 for a linear 34
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1
    assert pairs[0][0] == pairs[0][1]
    assert _seen(rgb, "RGB")[10] != _seen(rgb, "RGB")[50]


def test_rgb_becomes_grey_where_its_curves_are_one() -> None:
    """The curve of an RGB profile serves for greys, and looks the same."""
    grey = icc_for(SRGB, grey_result=True)
    assert grey is not None
    assert grey[16:20] == b"GRAY"
    for one, other in zip(_seen(SRGB, "RGB"), _seen(grey, "L"), strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1


def test_rgb_with_several_curves_is_no_grey() -> None:
    """Where the three curves differ, no grey profile says the same."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63_190, 65_536, 54_061)
    tags = {b"wtpt": white, b"rTRC": GAMMA_2_2, b"gTRC": GAMMA_2_2, b"bTRC": TABLE}
    assert icc_for(_profile(b"RGB ", b"XYZ ", tags), grey_result=True) is None
    tags[b"bTRC"] = GAMMA_2_2
    assert icc_for(_profile(b"RGB ", b"XYZ ", tags), grey_result=True) is not None
    tags[b"A2B0"] = b"mft2" + bytes(60)
    assert icc_for(_profile(b"RGB ", b"XYZ ", tags), grey_result=True) is None


def test_what_fits_is_returned_as_it_is() -> None:
    """A profile for the result's own channels is kept byte for byte."""
    grey = _grey(GAMMA_2_2)
    assert icc_for(SRGB, grey_result=False) == SRGB
    assert icc_for(grey, grey_result=True) == grey


@pytest.mark.parametrize("grey_result", [True, False])
def test_inks_and_lab_have_no_equivalent(*, grey_result: bool) -> None:
    """Neither CMYK nor Lab, nor what is no profile, gives one."""
    for icc in (LAB, _profile(b"CMYK", b"Lab ", {b"wtpt": bytes(20)}), b"", SRGB[:200]):
        assert icc_for(icc, grey_result=grey_result) is None


def test_only_a_whole_profile_is_plausible() -> None:
    """The size, the mark and the table of tags must fit; what follows is cut off."""
    assert plausible(SRGB) == SRGB
    assert plausible(SRGB + b"more") == SRGB
    assert plausible(SRGB[:-1]) is None
    assert plausible(SRGB.replace(b"acsp", b"spca")) is None
    assert plausible(SRGB[:128] + b"\xff" * 4 + SRGB[132:]) is None


@given(data=st.data(), grey_result=st.booleans())
def test_nothing_raises(data: st.DataObject, *, grey_result: bool) -> None:
    """Whatever a profile has become, it is kept, replaced or dropped."""
    made = bytearray(
        data.draw(st.sampled_from([SRGB, _grey(TABLE, b"Lab "), _grey(SRGB_CURVE, b"Lab ")]))
    )
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(made) - 1))
        made[at] = data.draw(st.integers(0, 255))
    out = icc_for(bytes(made), grey_result=grey_result)
    assert out is None or plausible(out) == out
