import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.tagged import (
    LATITUDE,
    MAKER_NOTE,
    ORDERS,
    THUMBNAIL,
    Order,
    counted_calls,
    directory,
    exiftool,
    faults,
    picture,
    ratio,
    said,
    structure,
    whole,
    written,
)
from venice_watch.images import exif

CAMERA = structure("little")
CALLS_MAX = 2_000_000  # a few seconds; what a structure of 64 KB may cost at the very worst


def _corrected(data: bytes, **options: object) -> bytes:
    out = exif.correct(data, **({"width": 8000, "height": 6000} | options))  # type: ignore[arg-type]
    assert out is not None
    return out


@pytest.mark.parametrize("count", [2, 3, 20_000])
@pytest.mark.parametrize("kind", [1, 3, 4, 8, 9])
def test_upright_where_a_lenient_reader_looks(kind: int, count: int) -> None:
    """A directory that ends too early, or a turn stated in another type, turns nothing again."""
    entries = struct.pack("<HHII", 274, kind, 1, 6) + struct.pack("<HHII", 296, 3, 1, 2)
    data = struct.pack("<2sHIH", b"II", 42, 8, count) + entries + bytes(4)
    read = Image.Exif()
    with warnings.catch_warnings(action="ignore"):
        read.load(exif.PREFIX + _corrected(data))
        assert read[274] == 1
        assert read[296] == 2


@pytest.mark.parametrize("order", ORDERS)
def test_size_and_orientation_are_the_results(order: Order) -> None:
    """The result is upright and has its own size; all else reads as before."""
    before = said(structure(order))
    after = said(_corrected(structure(order), width=70_000, height=123))
    assert before["IFD0:Orientation"] == 6
    assert after["IFD0:Orientation"] == 1
    assert after["ExifIFD:ExifImageWidth"] == 70_000  # no longer fits into a short number
    assert after["ExifIFD:ExifImageHeight"] == 123
    for name in ("IFD0:Make", "ExifIFD:DateTimeOriginal", "GPS:GPSLatitudeRef", "IFD0:XResolution"):
        assert after[name] == before[name]
    assert "Thumbnail" not in " ".join(after)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gps", [True, False])
def test_maker_notes_stay_where_they_are(order: Order, *, gps: bool) -> None:
    """A maker note keeps its bytes and its offset, whatever is taken out around it."""
    before = structure(order)
    after = _corrected(before, gps=gps, dpi_scale=2.0)
    assert before.count(MAKER_NOTE) == after.count(MAKER_NOTE) == 1
    assert after.index(MAKER_NOTE) == before.index(MAKER_NOTE)
    assert said(after)["ExifIFD:UserComment"] == "a comment"


@pytest.mark.parametrize("order", ORDERS)
def test_the_thumbnail_is_cut_off(order: Order) -> None:
    """A thumbnail at the end leaves no byte behind."""
    after = _corrected(structure(order))
    assert THUMBNAIL[:20] in structure(order)
    assert THUMBNAIL[:20] not in after
    assert len(after) == 1024
    assert not any(after[768:])
    assert said(after).keys() == {
        key for key in said(structure(order)) if "Thumbnail" not in key and "IFD1" not in key
    }


def test_a_thumbnail_in_the_middle_is_erased() -> None:
    """A thumbnail with something behind it becomes zeros, and nothing moves."""
    order: Order = "big"
    made = bytearray(structure(order))
    late = len(made) + len(made) % 2
    at = 8 + 2 + 12 * 0  # the maker's name, which sorts first
    name = b"A maker's name behind it\0"
    made[at + 4 : at + 12] = len(name).to_bytes(4, order) + late.to_bytes(4, order)
    before = bytes(made.ljust(late, b"\0")) + name
    after = _corrected(before)
    assert len(after) == len(before)
    assert said(after)["IFD0:Make"] == "A maker's name behind it"
    assert not any(after[1024 : 1024 + len(THUMBNAIL)])


def test_what_a_thumbnail_shares_is_kept() -> None:
    """A thumbnail that claims the whole structure takes nothing with it that is in use."""
    order: Order = "little"
    made = bytearray(structure(order))
    claim = directory(
        order, 768, {0x0201: whole(order, 0, wide=True), 0x0202: whole(order, 1024, wide=True)}
    )
    made[768 : 768 + len(claim)] = claim
    before, after = said(bytes(made)), said(_corrected(bytes(made), width=4000, height=3000))
    assert after["ExifIFD:UserComment"] == before["ExifIFD:UserComment"] == "a comment"
    assert after["GPS:GPSLatitude"] == before["GPS:GPSLatitude"]


@pytest.mark.parametrize("order", ORDERS)
def test_a_position_leaves_no_byte(order: Order) -> None:
    """Without positions neither the entry nor its values are left, anywhere."""
    before = structure(order)
    after = _corrected(before, gps=False)
    assert LATITUDE in before
    assert LATITUDE not in after
    assert faults(after) == ""
    answer = said(after)
    assert not [name for name in answer if "GPS" in name]
    assert answer["IFD0:Make"] == "Maker"
    assert answer["ExifIFD:ExifImageWidth"] == 8000


def test_a_position_is_not_left_where_nothing_can_be_read() -> None:
    """A structure that cannot be read is kept, unless positions are to go."""
    for damaged in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"junk"):
        assert exif.correct(damaged, width=1, height=1) == damaged
        assert exif.correct(damaged, width=1, height=1, gps=False) is None


def test_a_structure_of_a_position_alone_goes() -> None:
    """Nothing is returned where nothing but a position was said."""
    only = b"II*\0\x08\0\0\0" + directory("little", 8, {0x8825: whole("little", 26, wide=True)})
    only += directory("little", 26, {0x0002: (5, 3, LATITUDE)})
    assert said(only)["GPS:GPSLatitude"] > 48
    assert exif.correct(only, width=1, height=1, gps=False) is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("scale", "expected"), [(2.0, 144), (1.5, 108), (1 / 3, 24)])
def test_the_resolution_is_scaled(order: Order, scale: float, expected: float) -> None:
    """Both sides are multiplied, in whatever byte order."""
    after = said(_corrected(structure(order), dpi_scale=scale))
    assert after["IFD0:XResolution"] == pytest.approx(expected, rel=1e-4)
    assert after["IFD0:YResolution"] == pytest.approx(expected, rel=1e-4)


def test_a_shared_resolution_is_scaled_once() -> None:
    """Where both sides are one value, it is multiplied once."""
    made = bytearray(structure("little"))
    across, down = 8 + 2 + 12 * 2 + 8, 8 + 2 + 12 * 3 + 8
    made[down : down + 4] = made[across : across + 4]
    assert said(_corrected(bytes(made), dpi_scale=2.0))["IFD0:YResolution"] == 144


@given(
    above=st.integers(1, 2**32 - 1),
    below=st.integers(1, 2**32 - 1),
    factor=st.floats(0.01, 16, exclude_min=True),
)
def test_scaled_fractions_fit(above: int, below: int, factor: float) -> None:
    """A scaled fraction has two numbers that fit, and is close unless it cannot be."""
    new = exif.scaled_fraction((above, below), factor)
    assert all(0 < number < 2**32 for number in new)
    exact = above / below * factor
    if 1e-4 < exact < 1e5:
        assert new[0] / new[1] == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("order", ORDERS)
def test_resolution_is_read_in_inches(order: Order) -> None:
    """A resolution in centimetres is returned in inches, and one without a unit is none."""
    fields = {0x011A: ratio(order, 100, 1), 0x011B: ratio(order, 50, 1), 0x0128: whole(order, 3)}
    head = structure(order)[:8]
    assert exif.read_dpi(head + directory(order, 8, fields)) == pytest.approx((254, 127))
    fields[0x0128] = whole(order, 1)
    assert exif.read_dpi(head + directory(order, 8, fields)) is None


@pytest.mark.parametrize("order", ORDERS)
def test_fit_drops_the_maker_note_first(order: Order) -> None:
    """What is too large loses its slack and maker note, then its comment, and keeps the rest."""
    bare = _corrected(structure(order))
    assert exif.fit(bare, len(bare)) == bare
    smaller = exif.fit(bare, len(bare) - 1)
    assert smaller is not None
    assert MAKER_NOTE not in smaller
    answer = said(smaller)
    assert answer["ExifIFD:UserComment"] == "a comment"
    assert answer["GPS:GPSLatitudeRef"] == "N"
    smallest = exif.fit(bare, len(smaller) - 1)
    assert smallest is not None
    assert "ExifIFD:UserComment" not in said(smallest)
    assert said(smallest)["ExifIFD:ExifImageWidth"] == 8000
    assert exif.fit(bare, 40) is None


def test_fit_drops_what_is_largest_last() -> None:
    """Without a maker note or a comment, the largest value goes, and the small ones stay."""
    fields = {0x010E: (2, 70_000, b"a" * 69_999 + b"\0"), 0x010F: (2, 6, b"Maker\0")}
    large = b"II*\0\x08\0\0\0" + directory("little", 8, fields)
    fitted = exif.fit(large, exif.JPEG_BYTES_MAX)
    assert fitted is not None
    answer = said(fitted)
    assert answer["IFD0:Make"] == "Maker"
    assert "IFD0:ImageDescription" not in answer


@pytest.mark.parametrize("order", ["II", "MM"])
def test_what_exiftool_writes_is_corrected(order: str) -> None:
    """A JPEG that exiftool has filled gives a structure that exiftool finds nothing wrong with."""
    made = written(
        f"-ExifByteOrder={order}",
        "-Orientation#=8",
        "-ExifImageWidth=24",
        "-ExifImageHeight=16",
        "-Artist=Somebody",
        "-GPSLatitude=48.5",
        "-GPSLatitudeRef=N",
        "-LensModel=A lens",
        "-InteropIndex=R98",
        data=picture("JPEG"),
    )
    raw = exiftool("-b", "-Exif", data=made)
    after = said(_corrected(raw, gps=False))
    assert faults(made) == faults(_corrected(raw, gps=False)) == ""
    assert after["IFD0:Orientation"] == 1
    assert after["ExifIFD:ExifImageWidth"] == 8000
    assert after["ExifIFD:LensModel"] == "A lens"
    assert after["InteropIFD:InteropIndex"] == "R98"
    assert not [name for name in after if "GPS" in name]


@given(data=st.data())
def test_nothing_raises_and_nothing_grows(data: st.DataObject) -> None:
    """Whatever a structure has become, correcting it neither raises nor makes it larger."""
    order = data.draw(st.sampled_from(ORDERS))
    made = bytearray(structure(order))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(made) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=4))
        made[at : at + len(patch)] = patch
    cut = bytes(made[: data.draw(st.integers(0, len(made)))])
    for gps in (True, False):
        out = exif.correct(cut, width=5, height=6, dpi_scale=2.0, gps=gps)
        assert out is None or len(out) <= len(cut)
    fitted = exif.fit(cut, 300)
    assert fitted is None or len(fitted) <= 300


@given(data=st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    """Bytes that only start like a structure raise nothing."""
    for mark in (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        exif.correct(mark + data, width=1, height=1, gps=False)
        exif.fit(mark + data, 100)
        exif.read_dpi(mark + data)


def test_a_chain_in_a_circle_ends() -> None:
    """Directories that follow each other for ever are followed once."""
    made = bytearray(structure("little"))
    end = 768 + 2 + 12 * 3
    made[end : end + 4] = struct.pack("<I", 768)
    assert said(_corrected(bytes(made)))["IFD0:Orientation"] == 1
    made[8 + 2 + 12 * 7 : 8 + 2 + 12 * 7 + 4] = struct.pack("<I", 8)
    assert len(_corrected(bytes(made))) == len(made)


def test_a_directory_inside_of_itself_is_read_once() -> None:
    """An EXIF directory that claims to be its own child does not lead a rewriting astray."""
    inner = {0x8769: whole("little", 26, wide=True), 0x9286: (7, 90, b"c" * 90)}
    made = b"II*\0\x08\0\0\0" + directory("little", 8, {0x8769: whole("little", 26, wide=True)})
    made = (made + directory("little", 26, inner)).ljust(400, b"\0")
    fitted = exif.fit(made, 399)
    assert fitted is not None
    assert fitted.count(b"c" * 90) == 1


def test_overlapping_values_cost_no_more() -> None:
    """Thousands of entries that each claim everything cost a bounded number of steps."""
    order: Order = "little"
    fields = dict.fromkeys(range(0xB000, 0xB000 + 990), (7, 60_000, b""))
    head = {0x0001: whole(order, 1)}
    out = bytearray(structure(order)[:8] + directory(order, 8, head, 4096))
    at = 4096
    for number in range(5):  # as many as fit
        body = directory(order, at, fields, at + 12_000 if number < 4 else 0)
        out = out.ljust(at, b"\0") + body
        at += 12_000
    made = bytes(out.ljust(64_000, b"\0"))
    with counted_calls() as calls:
        after = _corrected(made)
        assert exif.fit(made, 60_000) is not None
    assert any(made[4096:])
    assert not any(after[4096:])
    assert calls() < CALLS_MAX
