"""Whatever a picture is stored as, and however it lies, what is sent is what a viewer shows."""

import io
import re

import pytest
from PIL import Image, ImageChops, ImageOps

from venice_watch.images.decoder import has_heif
from venice_watch.images.prepare import Prepared, prepare
from venice_watch.images.probe import probe, upright_size
from venice_watch.images.signature import RASTERS

SIZE = (90, 70)
ORIENTATION = 0x0112
needs_heif = pytest.mark.skipif(not has_heif(), reason="to install it: pip install -e '.[heif]'")


def picture() -> Image.Image:
    """Return a picture that no turn maps onto itself."""
    planes = [
        Image.linear_gradient("L"),
        Image.linear_gradient("L").rotate(90),
        Image.radial_gradient("L"),
    ]
    return Image.merge("RGB", planes).resize(SIZE)


def in_mode(mode: str) -> Image.Image:
    """Return the picture in a mode, with an alpha of its own where there is one."""
    alpha = Image.linear_gradient("L").rotate(180).resize(SIZE)
    if mode == "I;16":
        return picture().convert("L").convert("I").point(lambda value: value * 250).convert(mode)
    if mode in {"LA", "RGBA"}:
        image = picture().convert(mode[:-1])
        image.putalpha(alpha)
        return image
    return picture().quantize(64) if mode == "P" else picture().convert(mode)


def encoded(kind: str, mode: str, orientation: int, **options: object) -> bytes:
    """Return the picture in a format, with its orientation as that format says it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if kind == "tiff":
        options |= {"tiffinfo": {ORIENTATION: orientation}}
    else:
        options |= {"exif": exif.tobytes()}
    buffer = io.BytesIO()
    in_mode(mode).save(buffer, RASTERS[kind].plugin, **options)
    return buffer.getvalue()


def sent(data: bytes) -> tuple[Prepared, Image.Image]:
    """Return what is sent of a file, and its pixels."""
    found = probe(data)
    width, height = upright_size(found)
    prepared = prepare(data, found, width=width, height=height)
    image = Image.open(io.BytesIO(prepared.data))
    image.load()
    assert image.size == (width, height)
    assert image.getexif().get(ORIENTATION, 1) == 1
    return prepared, image


def shown(data: bytes) -> Image.Image:
    """Return what a viewer shows of a file."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return upright.convert("I").point([round(v / 257) for v in range(65_536)], "L")
    return upright


def same(one: Image.Image, other: Image.Image) -> bool:
    """Say whether two pictures have the same pixels, alpha included."""
    apart = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA"))
    return one.size == other.size and not any(high for _, high in apart.getextrema())


LOSSLESS: list[tuple[str, str, dict[str, object]]] = [
    ("jpeg", "L", {}),
    ("jpeg", "RGB", {}),
    ("jpeg", "RGB", {"progressive": True}),
    ("jpeg", "CMYK", {}),
    *(("png", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("png", "P", {"transparency": bytes(range(0, 256, 4))}),
    ("png", "P", {"transparency": 7}),
    ("png", "1", {"transparency": 0}),
    ("png", "L", {"transparency": 90}),
    ("png", "RGB", {"transparency": (40, 40, 40)}),
    ("webp", "RGB", {"lossless": True}),
    ("webp", "RGB", {"quality": 60}),
    ("webp", "RGBA", {"lossless": True, "exact": True}),
    *(("tiff", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")),
    *(("tiff", mode, {"compression": "tiff_lzw"}) for mode in ("L", "RGB", "RGBA", "I;16")),
    ("tiff", "1", {"compression": "group4"}),
    ("tiff", "RGB", {"big_tiff": True}),
    ("avif", "RGB", {}),
    ("avif", "RGBA", {"quality": 60}),
]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "mode", "options"), LOSSLESS)
def test_what_is_sent_is_what_a_viewer_shows(
    kind: str, mode: str, options: dict[str, object], orientation: int
) -> None:
    """Pixel for pixel, in every format and mode and all eight orientations, each turned once."""
    data = encoded(kind, mode, orientation, **options)
    assert probe(data).orientation == orientation
    prepared, image = sent(data)
    assert same(image, shown(data))
    assert (prepared.data == data) == (not prepared.converted)
    assert ("turned upright" in prepared.note) == (orientation != 1)


@needs_heif
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_turned_once(orientation: int) -> None:
    """A HEIC that says its turn twice, in its boxes and in EXIF, is turned by its boxes alone."""
    data = encoded("heic", "RGB", orientation, quality=90)
    assert bool(re.search(rb"irot|imir", data)) == (orientation != 1)
    assert orientation == 1 or b"\x01\x12\0\x03\0\0\0\x01\0%c" % orientation in data
    assert probe(data).orientation == 1
    _, image = sent(data)
    assert same(image, shown(data))
    turned = Image.Exif()
    turned[ORIENTATION] = orientation
    expected = picture()
    expected.getexif().update(turned)
    expected = ImageOps.exif_transpose(expected)
    assert image.size == expected.size
    apart = ImageChops.difference(image, expected)
    assert max(high for _, high in apart.getextrema()) < 40


@needs_heif
def test_exif_alone_turns_no_heic() -> None:
    """EXIF has no say in a HEIC without boxes for its turn, as in no viewer."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    buffer = io.BytesIO()
    picture().save(buffer, "HEIF", exif=exif)  # an object, which its encoder makes no boxes of
    assert not re.search(rb"irot|imir", buffer.getvalue())
    assert b"\x01\x12\0\x03\0\0\0\x01\0\x06" in buffer.getvalue()
    _, image = sent(buffer.getvalue())
    assert image.size == SIZE


@needs_heif
def test_the_primary_picture_of_a_heic_is_sent() -> None:
    """Of several pictures in a HEIC the primary one is sent first, wherever it is in the file."""
    buffer = io.BytesIO()
    others = [Image.new("RGB", SIZE, "red"), picture()]
    Image.new("RGB", SIZE, "black").save(
        buffer, "HEIF", save_all=True, append_images=others, primary_index=2, quality=90
    )
    data = buffer.getvalue()
    found = probe(data)
    assert found.frames == 3
    prepared, image = sent(data)
    assert prepared.note.startswith("first of 3 frames")
    assert max(image.convert("L").resize((1, 1)).getextrema()) > 60
    second = prepare(data, found, width=SIZE[0], height=SIZE[1], frame=1)
    third = prepare(data, found, width=SIZE[0], height=SIZE[1], frame=2)
    centre = (SIZE[0] // 2, SIZE[1] // 2)
    with Image.open(io.BytesIO(second.data)) as black, Image.open(io.BytesIO(third.data)) as red:
        assert max(black.getpixel(centre)) < 20
        assert red.getpixel(centre)[0] > 200


def test_exif_behind_the_pixels_of_a_png_is_found() -> None:
    """An eXIf chunk after the pixels turns the picture, and they are not decoded to find it."""
    data = encoded("png", "RGB", 6)
    at = data.index(b"eXIf") - 4
    size = int.from_bytes(data[at : at + 4]) + 12
    end = data.index(b"IEND") - 4
    moved = data[:at] + data[at + size : end] + data[at : at + size] + data[end:]
    assert probe(moved).orientation == 6
    assert same(sent(moved)[1], shown(data))


def test_pages_are_probed_one_by_one() -> None:
    """Pages of different sizes, modes and turns are each sent as they are shown."""
    buffer = io.BytesIO()
    pages = [in_mode("L").resize((60, 40)), in_mode("1")]
    in_mode("RGB").save(buffer, "TIFF", save_all=True, append_images=pages)
    data = buffer.getvalue()
    seen = [probe(data, frame=frame) for frame in range(3)]
    assert [(one.width, one.height, one.mode) for one in seen] == [
        (*SIZE, "RGB"),
        (60, 40, "L"),
        (*SIZE, "1"),
    ]
    for frame, page in enumerate((in_mode("RGB"), *pages)):
        width, height = upright_size(seen[frame])
        prepared = prepare(data, seen[frame], width=width, height=height, frame=frame)
        with Image.open(io.BytesIO(prepared.data)) as image:
            assert same(image, page)


def test_of_a_cameras_pair_the_first_is_sent() -> None:
    """An MPO is a JPEG with another behind it; the first is what is sent."""
    buffer = io.BytesIO()
    picture().save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", SIZE)])
    found = probe(buffer.getvalue())
    assert (found.format, found.frames) == ("jpeg", 1)
    prepared, image = sent(buffer.getvalue())
    assert not prepared.converted
    assert same(image, shown(buffer.getvalue()))
