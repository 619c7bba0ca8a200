import io
import random

import pytest
from PIL import Image, ImageChops, ImageCms, ImageStat

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images import prepare as module
from venice_watch.images import upload
from venice_watch.images.prepare import Prepared, prepare
from venice_watch.images.probe import check_readable, probe, upright_size
from venice_watch.images.signature import RASTERS
from venice_watch.parameters import UPLOAD_BYTES_MAX


def _picture(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a picture whose four corners differ, so that every turn shows."""
    red, green = Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90)
    blue = Image.radial_gradient("L")
    return Image.merge("RGB", (red, green, blue)).resize(size).convert(mode)


def _bytes(kind: str, picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, RASTERS[kind].plugin, **options)
    return buffer.getvalue()


def _prepared(data: bytes, size: tuple[int, int] | None = None) -> Prepared:
    found = probe(data)
    width, height = size or upright_size(found)
    prepared = prepare(data, found, width=width, height=height)
    again = probe(prepared.data)
    check_readable(prepared.data, again)
    assert upright_size(again) == (prepared.width, prepared.height) == (width, height)
    assert (again.media_type, again.frames) == (prepared.media_type, 1)
    return prepared


def _opened(prepared: Prepared) -> Image.Image:
    with Image.open(io.BytesIO(prepared.data)) as image:
        image.load()
        return image


def _difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference a pixel, 0..255."""
    apart = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
    return max(ImageStat.Stat(apart).mean)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_the_api_takes_is_sent_as_it_is(kind: str, mode: str) -> None:
    """An upright JPEG, PNG or WebP of the size wanted is sent byte for byte."""
    data = _bytes(kind, _picture(mode))
    prepared = _prepared(data)
    assert prepared.data == data
    assert (prepared.converted, prepared.note) == (False, "")
    assert prepared.extension == RASTERS[kind].extension


@pytest.mark.parametrize("kind", ["tiff", "bmp", "tga", "ppm", "jp2"])
def test_other_formats_become_png_without_loss(kind: str) -> None:
    """Any other format becomes a PNG of the same pixels."""
    options = {"irreversible": False} if kind == "jp2" else {}
    prepared = _prepared(_bytes(kind, _picture(), **options))
    assert (prepared.extension, prepared.converted) == ("png", True)
    assert _difference(_opened(prepared), _picture()) == 0
    assert kind in prepared.note


@pytest.mark.parametrize("kind", ["jpeg", "tiff", "webp", "png"])
@pytest.mark.parametrize(
    ("orientation", "turns"),
    [
        (2, [Image.Transpose.FLIP_LEFT_RIGHT]),
        (3, [Image.Transpose.ROTATE_180]),
        (4, [Image.Transpose.FLIP_TOP_BOTTOM]),
        (5, [Image.Transpose.ROTATE_270, Image.Transpose.FLIP_LEFT_RIGHT]),
        (6, [Image.Transpose.ROTATE_270]),
        (7, [Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT]),
        (8, [Image.Transpose.ROTATE_90]),
    ],
)
def test_pictures_are_turned_upright(
    kind: str, orientation: int, turns: list[Image.Transpose]
) -> None:
    """A picture with an orientation is sent as a viewer shows it, without the tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = _picture()
    for turn in turns:
        expected = expected.transpose(turn)
    options = {"tiffinfo": {274: orientation}} if kind == "tiff" else {"exif": exif, "quality": 95}
    prepared = _prepared(_bytes(kind, _picture(), **options))
    assert _difference(_opened(prepared), expected) < 6
    assert probe(prepared.data).orientation == 1
    assert "upright" in prepared.note


def test_a_turned_picture_is_reduced_in_the_direction_it_is_seen() -> None:
    """Width and height wanted are those of the upright picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _bytes("jpeg", _picture(size=(960, 640)), exif=exif, quality=95)
    prepared = _prepared(data, (160, 240))
    expected = _picture(size=(960, 640)).transpose(Image.Transpose.ROTATE_270).resize((160, 240))
    assert _difference(_opened(prepared), expected) < 4
    assert "from 640 x 960 to 160 x 240" in prepared.note


@pytest.mark.parametrize(
    ("kind", "mode", "sent"),
    [
        ("tiff", "1", "L"),
        ("tiff", "L", "L"),
        ("gif", "P", "RGB"),
        ("tiff", "RGBA", "RGBA"),
        ("tiff", "LA", "LA"),
        ("tiff", "CMYK", "RGB"),
        ("jpeg", "CMYK", "RGB"),
        ("tiff", "YCbCr", "RGB"),
        ("tiff", "LAB", "RGB"),
        ("tiff", "F", "L"),
    ],
)
def test_every_mode_becomes_one_that_is_sent(kind: str, mode: str, sent: str) -> None:
    """Every mode arrives as grey or RGB, with its alpha, looking as it did."""
    source = _picture()
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        there = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
        source = ImageCms.applyTransform(source, there)
    data = _bytes(
        kind,
        source.quantize() if mode == "P" else source.convert(mode),
        **({"quality": 95} if kind == "jpeg" else {}),
    )
    shown = _opened(_prepared(data))
    assert shown.mode == sent
    grey = sent == "L" or mode == "LA"
    expected = _picture().convert("1" if mode == "1" else "L" if grey else "RGB")
    assert _difference(shown, expected) < 9


def test_transparency_survives() -> None:
    """A transparent GIF keeps its hole, a TIFF its alpha."""
    picture = _picture("RGBA")
    picture.paste((0, 0, 0, 0), (10, 10, 30, 30))
    for kind in ("gif", "tiff"):
        shown = _opened(_prepared(_bytes(kind, picture)))
        assert shown.mode == "RGBA"
        assert [shown.getchannel("A").getpixel(p) for p in ((20, 20), (50, 50))] == [0, 255]


@pytest.mark.parametrize(
    ("mode", "kind", "white"), [("I;16", "png", 65_535), ("I;16", "tiff", 65_535), ("F", "tiff", 1)]
)
def test_deep_greys_are_scaled_and_not_clipped(mode: str, kind: str, white: float) -> None:
    """Sixteen bits and floats keep their half tones in 8 bits."""
    deep = Image.new("F", (96, 64))
    for x in range(96):
        deep.paste(x / 95 * white, (x, 0, x + 1, 64))
    source = deep if mode == "F" else deep.convert("I").convert(mode)
    shown = _opened(_prepared(_bytes(kind, source)))
    row = [shown.getpixel((x, 9)) for x in range(96)]
    assert shown.mode == "L"
    assert all(abs(value - x / 95 * 255) <= 1 for x, value in enumerate(row))


def test_profiles_are_kept_where_they_still_apply() -> None:
    """An RGB profile goes with RGB pixels; grey pixels do not carry an RGB profile."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colour = _opened(_prepared(_bytes("tiff", _picture(), icc_profile=profile)))
    grey = _opened(_prepared(_bytes("tiff", _picture("L"), icc_profile=profile)))
    assert colour.info.get("icc_profile") == profile
    assert "icc_profile" not in grey.info


def test_a_damaged_profile_of_inks_is_no_reason_to_refuse() -> None:
    """A CMYK picture with a broken profile is converted by the plain formula, and drops it."""
    shown = _opened(_prepared(_bytes("tiff", _picture("CMYK"), icc_profile=b"rubbish" * 30)))
    assert "icc_profile" not in shown.info
    assert _difference(shown, _picture()) < 2


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_is_sent(kind: str) -> None:
    """Of an animation or a document of pages, the first is sent."""
    other = Image.new("RGB", (96, 64), (0, 0, 0))
    options = {"lossless": True} if kind == "webp" else {}
    data = _bytes(kind, _picture(), save_all=True, append_images=[other, _picture()], **options)
    prepared = _prepared(data)
    assert _difference(_opened(prepared), _picture()) < 9
    assert prepared.note.startswith("first of 3 frames")


def test_a_picture_is_reduced_well() -> None:
    """Reducing keeps the mean and leaves no trace of the pixel grid."""
    fine = Image.new("L", (400, 400))
    for x in range(0, 400, 2):
        fine.paste(255, (x, 0, x + 1, 400))
    shown = _opened(_prepared(_bytes("png", fine), (100, 100)))
    low, high = shown.crop((10, 10, 90, 90)).getextrema()
    assert 120 <= low <= high <= 135


def test_a_jpeg_is_not_decoded_smaller_than_it_is_wanted() -> None:
    """Reducing a JPEG to half keeps lines that are wide enough to be seen there."""
    lines = Image.new("L", (800, 800))
    for x in range(0, 800, 8):
        lines.paste(255, (x, 0, x + 4, 800))
    shown = _opened(_prepared(_bytes("jpeg", lines, quality=95), (400, 400)))
    low, high = shown.crop((50, 50, 350, 350)).getextrema()
    assert low < 20
    assert high > 235


def _noise(size: tuple[int, int]) -> Image.Image:
    """Return pixels that hardly compress."""
    chance = random.Random(1)
    planes = [Image.frombytes("L", size, chance.randbytes(size[0] * size[1])) for _ in "RGB"]
    return Image.merge("RGB", planes)


@pytest.mark.parametrize(
    ("limit", "kind"), [(330_000, "png"), (317_000, "webp"), (250_000, "jpeg"), (60_000, None)]
)
def test_the_most_faithful_encoding_that_fits_is_sent(
    monkeypatch: pytest.MonkeyPatch, limit: int, kind: str | None
) -> None:
    """Lossless comes first, then WebP, then JPEG, then a refusal with the figures."""
    monkeypatch.setattr(module, "UPLOAD_BYTES_MAX", limit)
    monkeypatch.setattr(upload, "UPLOAD_BYTES_MAX", limit)
    picture = _noise((200, 150)).resize((400, 300), Image.Resampling.BICUBIC)
    data = _bytes("bmp", picture)
    if kind is not None:
        assert _prepared(data).media_type == RASTERS[kind].media_type
        assert len(_prepared(data).data) <= limit
        return
    with pytest.raises(ImageRefusedError, match="Venice takes 60,000") as refused:
        _prepared(data)
    assert refused.value.code is Code.TOO_LARGE


def test_a_file_over_the_limit_is_encoded_again() -> None:
    """A PNG over the upload limit that packs badly is packed better and sent whole."""
    picture = _picture(size=(3_000, 2_900))
    data = _bytes("png", picture, compress_level=0)
    assert len(data) > UPLOAD_BYTES_MAX
    prepared = _prepared(data)
    assert len(prepared.data) <= UPLOAD_BYTES_MAX
    assert "encoded again" in prepared.note
    assert _difference(_opened(prepared), picture) == 0
