from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageOps

from venice_watch.cli.pictures import ContactRow, draw_pictures, make_contact_sheet
from venice_watch.images.prepare import prepare
from venice_watch.images.probe import check_readable, probe, upright_size
from venice_watch.parameters import PIXELS_MIN, RESULT_PIXELS_MAX

WIDTH = 1_600


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Draw the pictures once for all tests here."""
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def _rows(drawn: list[Path], folder: Path) -> list[ContactRow]:
    rows = []
    for path in drawn[:2]:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            upright.resize((upright.width * 2, upright.height * 2)).save(
                folder / f"{path.stem}.png"
            )
        after = folder / f"{path.stem}.png"
        rows.append(ContactRow(title=path.stem, before=path, after=after, caption="2x"))
    return rows


def test_every_picture_can_be_upscaled(drawn: list[Path]) -> None:
    """Each picture is readable, large enough to send, small enough to enlarge fourfold."""
    for path in drawn:
        data = path.read_bytes()
        found = probe(data)
        check_readable(data, found)
        width, height = upright_size(found)
        assert PIXELS_MIN <= width * height <= RESULT_PIXELS_MAX // 16
        assert prepare(data, found, width=width, height=height).width == width


def test_the_pictures_cover_what_people_drop(drawn: list[Path]) -> None:
    """There are several formats, a photograph on its side, and transparency."""
    found = [probe(path.read_bytes()) for path in drawn]
    assert {"jpeg", "png", "webp", "tiff", "bmp"} == {one.format for one in found}
    assert 6 in {one.orientation for one in found}
    assert any(one.has_alpha for one in found)
    assert len({path.stem for path in drawn}) == len(drawn) == 8


def test_drawing_again_gives_the_same_bytes(drawn: list[Path], tmp_path: Path) -> None:
    """The pictures are the same on every run."""
    again = draw_pictures(tmp_path)
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in drawn]


def test_the_sheet_shows_each_pair(drawn: list[Path], tmp_path: Path) -> None:
    """The sheet is 1,600 pixels wide and grows by a row for each picture."""
    rows, heights = _rows(drawn, tmp_path), []
    for count in (0, 1, 2):
        make_contact_sheet(rows[:count], tmp_path / "sheet.png", title="t", footer="f")
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.width == WIDTH
            heights.append(sheet.height)
    assert heights[1] - heights[0] == heights[2] - heights[1] > 300


def test_the_details_show_the_same_field_of_view(tmp_path: Path) -> None:
    """The magnified details of a picture and of its enlargement show the same thing."""
    picture = Image.effect_mandelbrot((320, 240), (-2, -1.2, 1, 1.2), 100).convert("RGB")
    picture.save(tmp_path / "a.png")
    picture.resize((1280, 960), Image.Resampling.LANCZOS).save(tmp_path / "b.png")
    row = ContactRow(title="t", before=tmp_path / "a.png", after=tmp_path / "b.png", caption="4x")
    make_contact_sheet([row], tmp_path / "sheet.png", title="t", footer="f")
    with Image.open(tmp_path / "sheet.png") as sheet:
        before, after = (
            sheet.crop((x, 260, x + 410, 540)).convert("L").reduce(20) for x in (695, 1135)
        )
    assert before.getextrema()[1] - before.getextrema()[0] > 60
    apart = ImageChops.difference(before, after).tobytes()
    assert sum(apart) / len(apart) < 12


def test_a_broken_or_missing_file_leaves_an_empty_frame(drawn: list[Path], tmp_path: Path) -> None:
    """A sheet is written whatever its files are."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(drawn[0].read_bytes()[:2_000])
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    rows = [
        ContactRow(title="x" * 500, before=broken, after=tmp_path / "none.png", caption="\n\0é"),
        ContactRow(title="", before=text, after=drawn[0], caption=""),
        ContactRow(title="folder", before=tmp_path, after=drawn[4], caption="c" * 500),
    ]
    make_contact_sheet(rows, tmp_path / "sheet.png", title="t" * 300, footer="f" * 300)
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
        assert sheet.width == WIDTH
