"""The before-and-after sheet that ends a `demo`: whole pictures, and one detail of each, magnified.

Rules: the detail is the busiest spot of the picture before, shown with its pixels as squares; the
same field of view of the picture after stands beside it. A file that is missing or broken leaves an
empty frame: a sheet never fails because of what it shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from venice_watch.errors import ImageRefusedError
from venice_watch.images.decoder import decoding, open_image
from venice_watch.images.signature import RASTERS, identify

WIDTH_PX = 1_600
MARGIN_PX = 50
GAP_PX = 20
WHOLE_PX = (300, 292)  # the frame a whole picture is fitted into
DETAIL_PX = (420, 292)  # the frame a detail fills
DETAIL_ZOOM = 6  # of the picture before, so that its pixels show
HEADER_PX, ROW_TITLE_PX, ROW_GAP_PX, FOOTER_PX = 170, 84, 30, 90
SHEET_ROWS_MAX = 60  # keeps the sheet below 32,767 px, beyond which viewers give up
PICTURE_PIXELS_MAX = 40_000_000  # of one picture shown; results have at most 16.8 megapixels

_GROUND, _FRAME, _EDGE = (17, 18, 22), (26, 28, 34), (44, 47, 56)
_BRIGHT, _PLAIN, _FAINT, _ACCENT = (240, 238, 232), (176, 178, 186), (118, 121, 132), (232, 176, 92)
_SEARCH_PX = 8  # how finely the busiest spot is looked for
_ELLIPSIS = "..."

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactRow:
    """One picture's line on the sheet."""

    title: str
    before: Path
    after: Path
    caption: str  # what was done, in a few words


def make_contact_sheet(
    pairs: Sequence[ContactRow], target: Path, *, title: str, footer: str
) -> None:
    """Write the sheet for `pairs` to `target` as PNG, 1,600 pixels wide.

    Raises:
        OSError: if `target` cannot be written.

    """
    shown = pairs[:SHEET_ROWS_MAX]
    row_px = ROW_TITLE_PX + WHOLE_PX[1] + ROW_GAP_PX
    sheet = Image.new("RGB", (WIDTH_PX, HEADER_PX + row_px * len(shown) + FOOTER_PX), _GROUND)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN_PX, 46), title, 46, _BRIGHT, WIDTH_PX - 2 * MARGIN_PX)
    heads = ("BEFORE", "AFTER", f"DETAIL BEFORE, {DETAIL_ZOOM}x", "THE SAME DETAIL AFTER")
    for x, head in zip(_columns(), heads, strict=True):
        _write(pen, (x, HEADER_PX - 32), head, 17, _ACCENT, DETAIL_PX[0])
    for number, row in enumerate(shown):
        _draw_row(sheet, row, HEADER_PX + number * row_px)
    left_out = len(pairs) - len(shown)
    note = f"{footer}   ({left_out} more not shown)" if left_out else footer
    _write(pen, (MARGIN_PX, sheet.height - 58), note, 19, _FAINT, WIDTH_PX - 2 * MARGIN_PX)
    sheet.save(target, "PNG")


def _columns() -> tuple[int, int, int, int]:
    second = MARGIN_PX + WHOLE_PX[0] + GAP_PX
    third = second + WHOLE_PX[0] + GAP_PX
    return MARGIN_PX, second, third, third + DETAIL_PX[0] + GAP_PX


def _draw_row(sheet: Image.Image, row: ContactRow, top: int) -> None:
    pen = ImageDraw.Draw(sheet)
    before, after = _load(row.before), _load(row.after)
    pen.line((MARGIN_PX, top + 8, WIDTH_PX - MARGIN_PX, top + 8), fill=_EDGE)
    _write(pen, (MARGIN_PX, top + 24), row.title, 25, _BRIGHT, 2 * WHOLE_PX[0] + GAP_PX)
    sizes = f"{_size(before)}  to  {_size(after)}"
    columns = _columns()
    _write(pen, (MARGIN_PX, top + 56), sizes, 17, _PLAIN, 2 * WHOLE_PX[0] + GAP_PX)
    _write(pen, (columns[2], top + 28), row.caption, 19, _PLAIN, 2 * DETAIL_PX[0] + GAP_PX)
    files = f"{row.before.name}  to  {row.after.name}"
    _write(pen, (columns[2], top + 56), files, 17, _FAINT, 2 * DETAIL_PX[0] + GAP_PX)
    spot = _busiest(before) if before is not None else None
    at = top + ROW_TITLE_PX
    _place_whole(sheet, before, (columns[0], at), spot)
    _place_whole(sheet, after, (columns[1], at), None)
    _place_detail(sheet, before, (columns[2], at), spot, Image.Resampling.NEAREST)
    scaled = _matching(spot, before, after)
    _place_detail(sheet, after, (columns[3], at), scaled, Image.Resampling.LANCZOS)


def _load(path: Path) -> Image.Image | None:
    """Return the picture upright and opaque, or None if it cannot be shown."""
    try:
        data = path.read_bytes()
        kind = identify(data)
        if kind not in RASTERS:
            return None
        with decoding(data, kind), open_image(data, kind) as opened:
            if opened.width * opened.height > PICTURE_PIXELS_MAX:
                return None
            upright = ImageOps.exif_transpose(opened)
            if upright.has_transparency_data:
                return _on_chequers(upright.convert("RGBA"))
            return upright.convert("RGB")
    except (OSError, ImageRefusedError):
        return None


def _on_chequers(picture: Image.Image) -> Image.Image:
    """Show transparency as every editor does, in squares that grow with the picture."""
    square = max(1, picture.width // 40)
    tile = Image.new("RGB", (2, 2), (58, 61, 70))
    tile.putpixel((0, 0), (72, 76, 86))
    tile.putpixel((1, 1), (72, 76, 86))
    ground = Image.new("RGB", (picture.width // square + 2, picture.height // square + 2))
    for x in range(0, ground.width, 2):
        for y in range(0, ground.height, 2):
            ground.paste(tile, (x, y))
    enlarged = ground.resize(
        (ground.width * square, ground.height * square), Image.Resampling.NEAREST
    ).crop((0, 0, *picture.size))
    enlarged.paste(picture, (0, 0), picture)
    return enlarged


def _busiest(picture: Image.Image) -> Box:
    """Return the field of view with the most edges in it."""
    width = min(picture.width, DETAIL_PX[0] // DETAIL_ZOOM)
    height = min(picture.height, DETAIL_PX[1] // DETAIL_ZOOM)
    edges = picture.convert("L").filter(ImageFilter.FIND_EDGES)
    sums = edges.reduce(_SEARCH_PX) if min(edges.size) >= _SEARCH_PX else edges.resize((1, 1))
    busy = sums.filter(ImageFilter.BoxBlur(max(1, min(width, height) // _SEARCH_PX // 2)))
    ramp = Image.radial_gradient("L").point([255 - value // 2 for value in range(256)])
    centred = Image.composite(busy, Image.new("L", busy.size), ramp.resize(busy.size))
    peak = max(range(busy.width * busy.height), key=centred.tobytes().__getitem__)
    x = (peak % busy.width) * _SEARCH_PX + _SEARCH_PX // 2 - width // 2
    y = (peak // busy.width) * _SEARCH_PX + _SEARCH_PX // 2 - height // 2
    left = max(0, min(picture.width - width, x))
    top = max(0, min(picture.height - height, y))
    return left, top, left + width, top + height


def _matching(
    spot: Box | None, before: Image.Image | None, after: Image.Image | None
) -> Box | None:
    """Return where `spot` of `before` is in `after`."""
    if after is None:
        return None
    if spot is None or before is None:
        return _busiest(after)
    across, down = after.width / before.width, after.height / before.height
    left, top = int(spot[0] * across), int(spot[1] * down)
    right, bottom = round(spot[2] * across), round(spot[3] * down)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _place_whole(
    sheet: Image.Image, picture: Image.Image | None, corner: tuple[int, int], spot: Box | None
) -> None:
    """Fit `picture` into its frame and mark `spot` on it."""
    if picture is None:
        _place_nothing(sheet, corner, WHOLE_PX)
        return
    scale = min(WHOLE_PX[0] / picture.width, WHOLE_PX[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    x = corner[0] + (WHOLE_PX[0] - size[0]) // 2
    y = corner[1] + (WHOLE_PX[1] - size[1]) // 2
    pen = ImageDraw.Draw(sheet)
    pen.rectangle(_outline(corner, WHOLE_PX), fill=_FRAME)
    sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (x, y))
    if spot is not None:
        left, top, right, bottom = (value * scale for value in spot)
        mark = (x + left, y + top, x + right, y + bottom)
        for grow, colour in ((2, _GROUND), (1, _ACCENT), (0, _ACCENT), (-1, _GROUND)):
            around = (mark[0] - grow, mark[1] - grow, mark[2] + grow, mark[3] + grow)
            pen.rectangle(around, outline=colour)


def _place_detail(
    sheet: Image.Image,
    picture: Image.Image | None,
    corner: tuple[int, int],
    spot: Box | None,
    resampling: Image.Resampling,
) -> None:
    if picture is None or spot is None:
        _place_nothing(sheet, corner, DETAIL_PX)
        return
    sheet.paste(picture.resize(DETAIL_PX, resampling, box=spot), corner)
    ImageDraw.Draw(sheet).rectangle(_outline(corner, DETAIL_PX), outline=_EDGE)


def _place_nothing(sheet: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.rectangle(_outline(corner, size), fill=_FRAME, outline=_EDGE)
    middle = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
    pen.text(middle, "no picture", font=_font(19), fill=_FAINT, anchor="mm")


def _outline(corner: tuple[int, int], size: tuple[int, int]) -> Box:
    return corner[0], corner[1], corner[0] + size[0] - 1, corner[1] + size[1] - 1


def _size(picture: Image.Image | None) -> str:
    return "nothing" if picture is None else f"{picture.width} x {picture.height}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    width_px: int,
) -> None:
    """Write one line, cut off where it would leave its column."""
    font = _font(size)
    line = " ".join(text.split())
    if pen.textlength(line, font=font) > width_px:
        while line and pen.textlength(line + _ELLIPSIS, font=font) > width_px:
            line = line[:-1]
        line += _ELLIPSIS
    pen.text(at, line, font=font, fill=colour)
