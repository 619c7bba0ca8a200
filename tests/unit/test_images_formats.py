"""docs/formats.md, row by row: a file of each kind goes out as its row says."""

import io
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.fuzz.mutations import SIZE, picture, samples
from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images import decoder
from venice_watch.images.prepare import prepare
from venice_watch.images.probe import check_readable, probe, upright_size
from venice_watch.images.signature import RASTERS, UNREADABLE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
# What begins as each refused format does.
REFUSED = {
    "jxl": b"\0\0\0\x0cJXL \r\n\x87\n",
    "jxr": b"II\xbc\x01\x20\0\0\0",
    "exr": b"v/1\x01\2\0\0\0",
    "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "wmf": b"\xd7\xcd\xc6\x9a\0\0",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0",
    "pdf": b"%PDF-1.7",
    "djvu": b"AT&TFORM\0\0\0\0DJVU",
    "raw": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "psb": b"8BPS\0\2",
    "xcf": b"gimp xcf v011\0",
    "fits": b"SIMPLE  =                    T",
    "xpm": b"/* XPM */\nstatic char *x[] = {",
    "video": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42",
}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@pytest.mark.parametrize("row", rows("What is read"), ids=lambda row: row[0].strip("` "))
def test_a_file_of_each_row_goes_out_as_the_row_says(row: list[str]) -> None:
    """The plainest file of a format is recognised, whole, and sent as its row says."""
    kind = row[0].strip("` ")
    if kind == "heic" and not decoder.has_heif():
        pytest.skip("to install its decoder: pip install -e '.[heif]'")
    for number, data in enumerate(samples(kind)):
        found = probe(data)
        check_readable(data, found)
        width, height = upright_size(found)
        prepared = prepare(data, found, width=width, height=height)
        assert found.format == kind
        with Image.open(io.BytesIO(prepared.data)) as image:
            assert image.size == (width, height)
            image.load()
        if number == 0:  # the plainest
            assert prepared.converted == (row[2] == "as PNG")
            assert prepared.extension == ("png" if prepared.converted else RASTERS[kind].extension)


LOSSLESS = ("png", "tiff", "bmp", "jp2", "psd", "tga", "ppm", "qoi", "dds", "sgi", "pcx", "sun")


@pytest.mark.parametrize("kind", LOSSLESS)
def test_the_pixels_of_lossless_formats_arrive(kind: str) -> None:
    """A lossless file arrives pixel for pixel."""
    data = samples(kind)[0]
    prepared = prepare(data, probe(data), width=SIZE[0], height=SIZE[1])
    with Image.open(io.BytesIO(prepared.data)) as image:
        assert image.convert("RGB").tobytes() == picture().tobytes()


def test_each_refused_row_is_refused_in_its_words() -> None:
    """Every format of the second table is recognised, and its owner told what to do."""
    cells = [row[0] for row in rows("What is recognised and refused")]
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(REFUSED) == set(UNREADABLE)
    for kind, data in REFUSED.items():
        with pytest.raises(ImageRefusedError) as refused:
            probe(data + bytes(100) + b"x")
        assert (refused.value.code, refused.value.message) == (
            Code.UNSUPPORTED_FORMAT,
            UNREADABLE[kind],
        )


def test_without_its_extra_a_heic_is_refused_with_the_way_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where pillow-heif is not installed, the message says what to install."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # makes its import fail
    decoder.has_heif.cache_clear()
    try:
        with pytest.raises(ImageRefusedError) as refused:
            probe(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"x" * 90)
    finally:
        decoder.has_heif.cache_clear()
    assert refused.value.code is Code.UNSUPPORTED_FORMAT
    assert "pip install 'venice-watch[heif]'" in refused.value.message


@pytest.mark.parametrize(
    ("kind", "bytes_per_pixel"),
    [("heic", 10), ("avif", 12), ("webp", 16), ("jp2", 20)],
)
def test_the_megapixels_the_limits_name_are_those_of_the_code(
    kind: str, bytes_per_pixel: int
) -> None:
    """The figures in the table of limits follow from the memory that is allowed."""
    name = {"heic": "HEIC", "avif": "AVIF", "webp": "WebP", "jp2": "JPEG 2000"}[kind]
    megapixels = decoder.DECODED_BYTES_MAX // bytes_per_pixel // 1_000_000
    assert f"{megapixels} of {name}" in DOCUMENT
    if kind == "heic" and not decoder.has_heif():
        return
    image = decoder.open_image(samples(kind)[0], kind)
    assert decoder.decoded_bytes(image) == bytes_per_pixel * image.width * image.height
