"""Depth, inks, alpha and profiles: what is sent looks as the original does."""

import io
import struct
import zlib
from collections.abc import Iterable

import pytest
from PIL import Image, ImageChops, ImageCms

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images import prepare as module
from venice_watch.images.prepare import Prepared, prepare
from venice_watch.images.probe import probe, upright_size

SIZE = (64, 48)
DEEP = [
    (x * 1_021 + y * 7_919 + c * 257) % 65_536
    for y in range(48)
    for x in range(64)
    for c in range(3)
]
GREY_PROFILE_SPACE = b"GRAY"


def sent(data: bytes, **options: object) -> tuple[Prepared, Image.Image]:
    """Return what is sent of a file, and its pixels."""
    found = probe(data)
    width, height = upright_size(found)
    prepared = prepare(data, found, width=width, height=height, **options)  # type: ignore[arg-type]
    image = Image.open(io.BytesIO(prepared.data))
    image.load()
    return prepared, image


def saved(image: Image.Image, plugin: str, **options: object) -> bytes:
    """Return an encoded picture."""
    buffer = io.BytesIO()
    image.save(buffer, plugin, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(colour: int, depth: int, rows: Iterable[bytes], *extra: bytes) -> bytes:
    """Return a PNG of these rows, unfiltered."""
    header = struct.pack(">IIBBBBB", *SIZE, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_rows(channels: int = 3) -> list[bytes]:
    """Return rows of 16-bit samples, as PNG stores them."""
    step = SIZE[0] * channels
    values = (DEEP * 2)[: SIZE[1] * step]
    return [struct.pack(f">{step}H", *values[y * step :][:step]) for y in range(SIZE[1])]


def turned(tag: int = 3) -> bytes:
    """Return an eXIf chunk with an orientation, so that a picture has to be converted."""
    exif = Image.Exif()
    exif[0x0112] = tag
    return chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))


def tiff(order: str, bits: list[int], samples: bytes, *more: tuple[int, int]) -> bytes:
    """Return an uncompressed TIFF of SIZE with the given tags beside the necessary ones."""
    tags: dict[int, list[int]] = {
        256: [SIZE[0]],
        257: [SIZE[1]],
        258: bits,
        259: [1],
        262: [2 if len(bits) >= 3 else 1],
        273: [8],
        277: [len(bits)],
        278: [SIZE[1]],
        279: [len(samples)],
    } | {tag: [value] for tag, value in more}
    start = 8 + len(samples)
    beside = start + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, values in sorted(tags.items()):
        kind, letter = (4, "I") if max(values) > 65_535 else (3, "H")
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            entries += struct.pack(f"{order}HHII", tag, kind, len(values), beside + len(extra))
            extra += packed
        else:
            entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + samples + struct.pack(order + "H", len(tags)) + entries + bytes(4) + extra


def rounded(values: Iterable[int], white: int = 65_535) -> bytes:
    """Return what 8 bits of these values are."""
    return bytes((2 * value * 255 + white) // (2 * white) for value in values)


@pytest.mark.parametrize("colour", [2, 6])
def test_16_bit_colour_of_a_png_is_rounded(colour: int) -> None:
    """Colours of 16 bits become the nearest of 8, and the journal says so."""
    channels = 3 if colour == 2 else 4
    rows = deep_rows(channels)
    prepared, image = sent(png(colour, 16, rows, turned()))
    values = [v for row in rows for v in struct.unpack(f">{len(row) // 2}H", row)]
    upright = Image.frombytes("RGB" if colour == 2 else "RGBA", SIZE, rounded(values))
    assert image.tobytes() == upright.transpose(Image.Transpose.ROTATE_180).tobytes()
    assert "16 bits a channel as 8" in prepared.note


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_of_a_tiff_is_rounded(order: str) -> None:
    """Either order of bytes gives the nearest colours."""
    samples = struct.pack(f"{order}{len(DEEP)}H", *DEEP)
    _, image = sent(tiff(order, [16, 16, 16], samples))
    assert image.tobytes() == rounded(DEEP)


def test_a_deep_colour_png_goes_as_it_is_and_says_what_comes_back() -> None:
    """A PNG of 16-bit colour is sent whole; that its result has 8 bits is noted."""
    data = png(2, 16, deep_rows())
    prepared, _ = sent(data)
    assert prepared.data == data
    assert prepared.note == "16 bits a channel, of which a result has 8"


@pytest.mark.parametrize(
    ("order", "more", "white", "inverted"),
    [
        ("<", (), 65_535, False),
        (">", (), 65_535, False),
        ("<", ((281, 4_095),), 4_095, False),
        (">", ((281, 4_095),), 4_095, False),
        ("<", ((262, 0),), 65_535, True),
    ],
)
def test_deep_grey_of_a_tiff(
    order: str, more: tuple[tuple[int, int], ...], white: int, *, inverted: bool
) -> None:
    """Grey of 16 bits, 12 bits within 16, and grey whose zero is white come out right."""
    values = [value % (white + 1) for value in DEEP[: SIZE[0] * SIZE[1]]]
    samples = struct.pack(f"{order}{len(values)}H", *values)
    prepared, image = sent(tiff(order, [16], samples, *more))
    expected = rounded(values, white)
    assert image.mode == "L"
    assert image.tobytes() == (bytes(255 - v for v in expected) if inverted else expected)
    assert "16 bits a channel as 8" in prepared.note


def test_the_transparent_grey_of_a_deep_png_stays_transparent() -> None:
    """Of greys of 16 bits exactly the transparent one is so afterwards, and no neighbour."""
    rows = [struct.pack(">64H", *([1_000, 1_001, 999, 65_535] * 16))] * 48
    _, image = sent(png(0, 16, rows, chunk(b"tRNS", struct.pack(">H", 1_000))))
    assert image.mode == "LA"
    assert [image.getpixel((x, 5))[1] for x in range(4)] == [0, 255, 255, 255]


def test_the_transparent_grey_of_four_bits_stays_transparent() -> None:
    """A grey of fewer bits is compared on its own scale."""
    rows = [bytes([0x5F, 0x15]) * 16] * 48
    data = png(0, 4, rows, chunk(b"tRNS", struct.pack(">H", 5)), turned(1))
    _, image = sent(data, flatten=(255, 0, 0))
    assert [image.getpixel((x, 5)) for x in range(4)] == [
        (255, 0, 0),
        (255, 255, 255),
        (17, 17, 17),
        (255, 0, 0),
    ]


def test_premultiplied_alpha_of_a_tiff_is_divided_out() -> None:
    """Associated alpha (ExtraSamples 1) is undone; channels of no stated meaning are dropped."""
    pixels = SIZE[0] * SIZE[1]
    _, colour = sent(tiff("<", [8] * 4, bytes([50, 25, 0, 128]) * pixels, (338, 1)))
    _, grey = sent(tiff("<", [8, 8], bytes([50, 128]) * pixels, (338, 1)))
    _, unspecified = sent(tiff("<", [8] * 4, bytes([50, 25, 0, 128]) * pixels, (338, 0)))
    assert colour.getpixel((3, 3)) in {(99, 49, 0, 128), (100, 50, 0, 128)}
    assert grey.getpixel((3, 3)) in {(99, 128), (100, 128)}
    assert (unspecified.mode, unspecified.getpixel((3, 3))) == ("RGB", (50, 25, 0))


def _photoshop(channels: int, *, layers: int | None = None, resources: bytes = b"") -> bytes:
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", channels, SIZE[1], SIZE[0], 8, 3)
    section = b"" if layers is None else struct.pack(">Ih", 2, layers)
    planes = b"".join(
        bytes([value]) * (SIZE[0] * SIZE[1]) for value in (200, 100, 50, 7)[:channels]
    )
    sections = b"".join(struct.pack(">I", len(part)) + part for part in (b"", resources, section))
    return header + sections + b"\0\0" + planes


def test_a_saved_selection_of_a_photoshop_file_is_no_transparency() -> None:
    """A fourth channel is alpha where the file says so, and else a selection that was kept."""
    _, transparent = sent(_photoshop(4, layers=-1))
    _, selection = sent(_photoshop(4, layers=1))
    _, without_layers = sent(_photoshop(4))
    assert transparent.getpixel((1, 1)) == (200, 100, 50, 7)
    assert selection.getpixel((1, 1)) == without_layers.getpixel((1, 1)) == (200, 100, 50)
    assert not probe(_photoshop(4, layers=1)).has_alpha


def test_a_photoshop_file_without_its_flattened_picture_is_refused() -> None:
    """A blank in the place of the flattened picture is not paid for."""
    for merged in (0, 1):
        version_info = struct.pack(">IB", 1, merged) + bytes(9)
        resource = b"8BIM" + struct.pack(">HHI", 1057, 0, len(version_info)) + version_info
        data = _photoshop(3, resources=resource)
        if merged:
            assert sent(data)[1].getpixel((1, 1)) == (200, 100, 50)
        else:
            with pytest.raises(ImageRefusedError, match="Maximize Compatibility") as refused:
                probe(data)
            assert refused.value.code is Code.UNSUPPORTED_FORMAT


def test_an_alpha_that_hides_everything_is_left_out() -> None:
    """A picture whose alpha was never written is sent as programs show it that ignore alpha."""
    image = Image.new("RGBA", SIZE, (10, 200, 30, 0))
    prepared, shown = sent(saved(image, "TGA"))
    assert (shown.mode, shown.getpixel((2, 2))) == ("RGB", (10, 200, 30))
    assert "an alpha that hides everything left out" in prepared.note


@pytest.mark.parametrize(
    ("plugin", "mode"),
    [
        ("PNG", "RGBA"),
        ("PNG", "LA"),
        ("PNG", "P"),
        ("WEBP", "RGBA"),
        ("TIFF", "RGBA"),
        ("TIFF", "LA"),
    ],
)
def test_alpha_is_laid_on_a_colour(plugin: str, mode: str) -> None:
    """With `flatten`, transparency is laid on the colour, and nothing transparent is sent."""
    image = Image.new("RGBA", SIZE, (100, 100, 100, 255))
    image.paste((100, 100, 100, 51), (0, 0, 20, 20))
    source = image.quantize() if mode == "P" else image.convert(mode)
    data = saved(source, plugin, **({"lossless": True} if plugin == "WEBP" else {}))
    prepared, shown = sent(data, flatten=(0, 50, 200))
    assert prepared.converted
    assert shown.convert("RGB").getpixel((30, 30)) == (100, 100, 100)
    assert shown.convert("RGB").getpixel((5, 5)) == (20, 60, 180)
    assert not probe(prepared.data).has_alpha
    assert "laid on #0032c8" in prepared.note


def test_grey_on_grey_stays_grey() -> None:
    """Grey with alpha laid on white stays grey, and keeps a profile for grey."""
    image = Image.new("LA", SIZE, (100, 51))
    assert sent(saved(image, "PNG"), flatten=(255, 255, 255))[1].getpixel((5, 5)) == 224


def test_a_picture_without_alpha_is_not_converted_for_it() -> None:
    """`flatten` changes nothing about a picture that has no alpha."""
    data = saved(Image.new("RGB", SIZE, "red"), "PNG")
    prepared, _ = sent(data, flatten=(255, 255, 255))
    assert prepared.data == data


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_the_profile_of_what_is_sent_is_told() -> None:
    """It is the original's while the pixels stay in its space, and none once they are sRGB."""
    image = Image.new("RGB", SIZE, (10, 20, 30))
    for plugin in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert sent(saved(image, plugin, icc_profile=SRGB))[0].profile == SRGB
        assert sent(saved(image, plugin))[0].profile is None
    inks = saved(image.convert("CMYK"), "TIFF", icc_profile=SRGB)
    assert sent(inks)[0].profile is None
    assert sent(saved(image.convert("L"), "TIFF", icc_profile=SRGB))[0].profile is None


def test_a_page_has_no_other_pages_profile() -> None:
    """Of a TIFF each page is in the profile that it names itself, or in none."""
    first, second, third = (Image.new("RGB", SIZE, (10, 20, shade)) for shade in (1, 2, 3))
    first.info["icc_profile"] = third.info["icc_profile"] = SRGB
    data = saved(first, "TIFF", save_all=True, append_images=[second, third])
    assert [sent(data, frame=n)[0].profile for n in range(3)] == [SRGB, None, SRGB]


def test_four_inks_in_adobes_other_clothes() -> None:
    """A YCCK JPEG, Adobe's usual form of CMYK, looks as the picture it was made of."""
    planes = [
        Image.linear_gradient("L"),
        Image.linear_gradient("L").rotate(90),
        Image.radial_gradient("L"),
    ]
    picture = Image.merge("RGB", planes).resize(SIZE)
    luma = [ImageChops.invert(p) for p in ImageChops.invert(picture).convert("YCbCr").split()]
    inks = Image.merge("CMYK", (*luma, Image.new("L", SIZE, 0)))
    data = bytearray(saved(inks, "JPEG", quality=100, subsampling=0))
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    data[at] = 2  # the transform: none becomes YCCK
    _, shown = sent(bytes(data))
    apart = ImageChops.difference(shown, picture)
    assert max(high for _, high in apart.getextrema()) < 12


def test_what_a_phone_puts_behind_a_picture_is_left_out_if_it_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A motion photo over the limit is sent as its picture's own bytes, without the film."""
    picture = saved(Image.new("RGB", SIZE, "red"), "JPEG", icc_profile=SRGB)
    monkeypatch.setattr(module, "UPLOAD_BYTES_MAX", len(picture) + 10)
    prepared, _ = sent(picture + b"ftyp" * 100)
    assert prepared.data == picture
    assert prepared.converted
    assert "without the 400 bytes behind the picture's end" in prepared.note
