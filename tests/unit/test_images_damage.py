"""What is found out about a file without decoding it, and what is bounded before it is decoded."""

import io
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images import decoder
from venice_watch.images.counting import count_gif_frames, count_tiff_pages
from venice_watch.images.damage import coefficients_bytes, find_bad_pixels
from venice_watch.images.prepare import prepare
from venice_watch.images.probe import SCANNED_PIXELS_MAX, SCANS_MAX, check_readable, probe

GREYS = [(0, depth) for depth in (1, 2, 4, 8, 16)]  # (colour type, bits)
FORMS = [*GREYS, (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(size: tuple[int, int], colour: int, depth: int, raw: bytes, *, interlace: int = 0) -> bytes:
    """Return a PNG of these inflated bytes, whatever they are."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(range(48)) * 16) if colour == 3 else b""
    pixels, middle = zlib.compress(raw), len(raw) // 3
    parts = (chunk(b"IDAT", pixels[:middle]), chunk(b"IDAT", pixels[middle:]), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + b"".join(parts)


def raw_rows(size: tuple[int, int], bits: int, *, interlace: int) -> list[int]:
    """Return the lengths of a PNG's rows, filters included, in order."""
    lengths = []
    for left, top, across, down in PASSES if interlace else ((0, 0, 1, 1),):
        columns = len(range(left, size[0], across))
        lengths += [1 + -(-columns * bits // 8)] * len(range(top, size[1], down)) if columns else []
    return lengths


def saved(image: Image.Image, plugin: str, **options: object) -> bytes:
    """Return an encoded picture."""
    buffer = io.BytesIO()
    image.save(buffer, plugin, **options)
    return buffer.getvalue()


def decodes(data: bytes) -> bool:
    """Say whether Pillow decodes it."""
    try:
        Image.open(io.BytesIO(data)).load()
    except Exception:  # noqa: BLE001 - that is the question
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    form=st.sampled_from(FORMS),
    interlace=st.integers(0, 1),
    off=st.integers(-2, 2),
    filters=st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 6)),
)
def test_a_png_is_judged_as_a_decoder_judges_it(
    size: tuple[int, int],
    form: tuple[int, int],
    interlace: int,
    off: int,
    filters: tuple[float, int],
) -> None:
    """Whatever its form: every row and every filter is looked at, and what passes is decoded.

    Pillow itself lets a PNG pass that lacks whole rows at its end.
    """
    colour, depth = form
    lengths = raw_rows(size, depth * CHANNELS[colour], interlace=interlace)
    raw = bytearray(sum(lengths))
    row = int(filters[0] * len(lengths))
    raw[sum(lengths[:row])] = filters[1]
    whole = bytes(raw)[: len(raw) + min(off, 0)] + bytes(max(off, 0))
    data = png(size, colour, depth, whole, interlace=interlace)
    passes = find_bad_pixels(data) is None
    assert passes == (off >= 0 and filters[1] <= 4)
    assert decodes(data) or not passes


def test_a_png_without_its_palette_is_damaged() -> None:
    """A palette that is missing makes a picture of nothing."""
    data = png((8, 8), 3, 8, bytes(72))
    without = data[:33] + data[33 + 12 + 768 :]
    assert find_bad_pixels(data) is None
    assert find_bad_pixels(without) == "its palette is missing"


def test_pixels_that_cannot_be_inflated_are_damage() -> None:
    """Checksums that are right do not hide a broken stream."""
    data = png((8, 8), 0, 8, bytes(72))
    at = data.index(b"IDAT")
    assert b"IDAT" in data[at:]
    broken = data[: at - 4] + chunk(b"IDAT", b"x\x9c\xff\xff\xff") + chunk(b"IEND", b"")
    with pytest.raises(ImageRefusedError, match="cannot be inflated") as refused:
        check_readable(broken, probe(broken))
    assert refused.value.code is Code.CORRUPT


def _with_scans(image: Image.Image, scans: int) -> bytes:
    data = saved(image, "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("side", "scans"), [(64, SCANS_MAX), (6_000, SCANNED_PIXELS_MAX // 36_000_000)]
)
def test_a_jpeg_of_too_many_passes_is_refused(side: int, scans: int) -> None:
    """So many passes are decoded, by number and by pixels, and one more is refused."""
    image = Image.new("L", (side, side))
    for number, is_refused in ((scans, False), (scans + 1, True)):
        data = _with_scans(image, number)
        found = probe(data)
        if not is_refused:
            check_readable(data, found)
            continue
        with pytest.raises(ImageRefusedError, match=f"stored in {number} passes") as refused:
            check_readable(data, found)
        assert refused.value.code is Code.CORRUPT


@pytest.mark.parametrize(("subsampling", "bytes_per_pixel"), [(0, 6), (1, 4), (2, 3)])
def test_what_a_progressive_jpeg_keeps_in_memory_is_known(
    subsampling: int, bytes_per_pixel: int
) -> None:
    """Two bytes for each sample, by the header; a baseline JPEG keeps none."""
    image = Image.new("RGB", (640, 480))
    data = saved(image, "JPEG", progressive=True, subsampling=subsampling)
    assert coefficients_bytes(data) == 640 * 480 * bytes_per_pixel
    assert coefficients_bytes(saved(image, "JPEG")) == 0


def _giant(side: int, mode: str, plugin: str, **options: object) -> bytes:
    return saved(Image.new(mode, (side, side)), plugin, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: _giant(12_700, "RGB", "PNG", compress_level=1),
        lambda: _giant(7_000, "RGB", "WEBP", lossless=True, method=0, quality=0),
        lambda: _giant(11_400, "P", "GIF"),
    ],
)
def test_what_would_take_too_much_memory_is_refused_by_its_header(
    make: Callable[[], bytes],
) -> None:
    """A few kilobytes that ask for more memory than allowed are refused with the figures."""
    data = make()
    assert len(data) < 3_000_000
    found = probe(data)
    with pytest.raises(ImageRefusedError, match=r"megapixels.* MB of memory; 640") as refused:
        prepare(data, found, width=2_048, height=2_048)
    assert refused.value.code is Code.TOO_LARGE


@pytest.mark.parametrize("form", ["P3 2000 1600 255 ", "P6 2000 1600 254 "])
def test_what_is_decoded_slowly_is_bounded(form: str) -> None:
    """Pixels that are decoded in Python are refused beyond what takes a few seconds."""
    data = form.encode() + bytes(100)
    assert decoder.PIXELS_SLOW_MAX < 2_000 * 1_600
    with pytest.raises(ImageRefusedError, match=r"3\.2 megapixels") as refused:
        check_readable(data, probe(data))
    assert refused.value.code is Code.TOO_LARGE


def test_frames_are_counted_as_pillow_counts_them() -> None:
    """The walk over a GIF or TIFF finds as many as there are, and stops at its limit."""
    more = [Image.new("RGB", (9, 9), colour) for colour in ("red", "lime", "blue", "white", "tan")]
    gif = saved(Image.new("RGB", (9, 9)), "GIF", save_all=True, append_images=more)
    assert count_gif_frames(gif, 100) == 6
    assert count_gif_frames(gif, 3) == 3
    assert count_gif_frames(gif[:20], 100) == 1
    for big in (False, True):
        tiff = saved(more[0], "TIFF", save_all=True, append_images=more, big_tiff=big)
        assert count_tiff_pages(tiff, 100) == 6
        assert count_tiff_pages(tiff, 4) == 4


def test_a_tiff_whose_pages_go_round_in_circles_ends() -> None:
    """A chain of directories that bites its own tail is counted once."""
    ring = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 9, 8)
    assert count_tiff_pages(ring, 1_000) == 1


def test_a_million_frames_are_counted_to_a_limit() -> None:
    """Empty frames by the hundred thousand do not keep anybody busy."""
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    gif = saved(Image.new("P", (9, 9)), "GIF")[:-1] + frame * 200_000 + b";"
    assert probe(gif).frames == 10_000
