import io
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests.unit.tagged import (
    MAKER_NOTE,
    ORDERS,
    Order,
    chunk,
    counted_calls,
    directory,
    exiftool,
    jpeg_with,
    packet,
    picture,
    png_with,
    ratio,
    said,
    segment,
    structure,
    whole,
    written,
)
from venice_watch.images import exif
from venice_watch.images.harvest import basket, harvest

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = structure("big")
EXIF_PLAIN = structure("big", orientation=False)  # Pillow rewrites others for AVIF
XMP = packet('xmp:Rating="4"')
IPTC = b"\x1c\x02\x78\x00\x07a title"


def _resource(number: int, body: bytes) -> bytes:
    head = b"8BIM" + struct.pack(">H", number) + b"\0\0" + struct.pack(">I", len(body))
    return head + body + bytes(len(body) % 2)


def _text(keyword: bytes, text: bytes) -> bytes:
    return chunk(b"tEXt", keyword + b"\0" + text)


def _raw_profile(name: bytes, body: bytes) -> bytes:
    text = b"\n" + name + b"\n%8d\n" % len(body) + body.hex().encode() + b"\n"
    return chunk(b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _international(keyword: bytes, text: bytes, *, packed: bool = False) -> bytes:
    head = keyword + (b"\0\1\0\0\0" if packed else b"\0\0\0\0\0")
    return chunk(b"iTXt", head + (zlib.compress(text) if packed else text))


def _psd() -> bytes:
    resolution = struct.pack(">IHHIHH", 300 << 16, 1, 1, 150 << 16, 1, 1)
    parts = {0x03ED: resolution, 0x0404: IPTC, 0x0422: EXIF, 0x0424: XMP, 0x040F: ICC}
    resources = b"".join(_resource(number, body) for number, body in parts.items())
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 16, 24, 8, 3)
    return header + bytes(4) + struct.pack(">I", len(resources)) + resources


def _jp2() -> bytes:
    resolution = _box(b"resc", struct.pack(">4H2b", 1500, 254, 3000, 254, 3, 3))
    colour = _box(b"colr", b"\2\0\0" + ICC)
    parts = [
        _box(b"jP  ", b"\r\n\x87\n"),
        _box(b"ftyp", b"jp2 \0\0\0\0jp2 "),
        _box(b"jp2h", colour + _box(b"res ", resolution)),
        _box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP),
        _box(b"uuid", b"JpgTiffExif->JP2" + EXIF),
        _box(b"uuid", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38") + IPTC),
    ]
    return b"".join(parts)


def _gif() -> bytes:
    plain = picture("GIF", "L")
    flags = plain[10]
    start = 13 + (3 << ((flags & 7) + 1))
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    blocks = b"".join(
        bytes((len(ICC[at : at + 255]),)) + ICC[at : at + 255] for at in range(0, len(ICC), 255)
    )
    more = b"\x21\xff\x0bXMP DataXMP" + XMP + trailer
    more += b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0"
    more += b"\x21\xfe\x05hello\x06 world\0"
    return plain[:start] + more + plain[start:]


def _webp() -> bytes:
    return picture("WEBP", exif=b"Exif\0\0" + EXIF, xmp=XMP, icc_profile=ICC)


def _avif() -> bytes:
    return picture("AVIF", exif=EXIF_PLAIN, xmp=XMP, icc_profile=ICC)


def _tiff(order: Order = "big", **more: object) -> bytes:
    """Return a small grey TIFF with everything in it, its pixels inline."""
    first = {
        0x0100: whole(order, 2),
        0x0101: whole(order, 2),
        0x0102: whole(order, 8),
        0x0103: whole(order, 1),
        0x0106: whole(order, 1),
        0x010E: (2, 8, b"a house\0"),
        0x0111: whole(order, 8, wide=True),
        0x0112: whole(order, 6),
        0x0117: whole(order, 4, wide=True),
        0x011A: ratio(order, 300, 1),
        0x011B: ratio(order, 150, 1),
        0x0128: whole(order, 2),
        0x02BC: (1, len(XMP), XMP),
        0x83BB: (4, (len(IPTC) + 3) // 4, IPTC.ljust((len(IPTC) + 3) // 4 * 4, b"\0")),
        0x8769: whole(order, 8192, wide=True),
        0x8773: (7, len(ICC), ICC),
        0x8825: whole(order, 9000, wide=True),
        0xFDE8: (2, 6, b"extra\0"),
        **more,  # type: ignore[dict-item]
    }
    inner = {0x829A: ratio(order, 1, 60), 0x927C: (7, len(MAKER_NOTE), MAKER_NOTE)}
    mark = b"II" if order == "little" else b"MM"
    out = mark + (42).to_bytes(2, order) + (12).to_bytes(4, order) + b"\0\x80\x80\xff"
    out += directory(order, 12, first)
    assert len(out) < 8192
    out = out.ljust(8192, b"\0") + directory(order, 8192, inner)
    return out.ljust(9000, b"\0") + directory(order, 9000, {1: (2, 2, b"N\0")})


def _jpeg() -> bytes:
    profile = [ICC[at : at + 300] for at in range(0, len(ICC), 300)]
    pieces = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes((n, len(profile))) + part)
        for n, part in enumerate(profile, 1)
    ]
    return jpeg_with(
        segment(0xE1, b"Exif\0\0" + EXIF),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        *reversed(pieces),
        segment(0xED, b"Photoshop 3.0\0" + _resource(0x0404, IPTC)),
        segment(0xFE, "héllo".encode()),
    )


def _png() -> bytes:
    return png_with(
        chunk(b"iCCP", b"name\0\0" + zlib.compress(ICC)),
        chunk(b"pHYs", struct.pack(">IIB", 11_811, 5_906, 1)),
        chunk(b"eXIf", EXIF),
        _international(b"XML:com.adobe.xmp", XMP),
        _raw_profile(b"iptc", _resource(0x0404, IPTC)),
        _text(b"Software", b"caf\xe9"),
    )


MAKERS: dict[str, Callable[[], bytes]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "avif": _avif,
    "tiff": _tiff,
    "psd": _psd,
    "jp2": _jp2,
    "gif": _gif,
}
WITHOUT = {"webp": {"iptc"}, "avif": {"iptc"}, "gif": {"iptc", "exif"}}


@pytest.mark.parametrize("kind", MAKERS)
def test_everything_is_found(kind: str) -> None:
    """Each format gives up all it can hold, byte for byte where it has bytes."""
    found = harvest(MAKERS[kind](), kind)
    expected = {"exif": EXIF, "xmp": XMP, "iptc": IPTC, "icc": ICC}
    if kind == "avif":
        expected["exif"] = EXIF_PLAIN
    if kind == "tiff":
        del expected["exif"]  # made afresh; see below
    for name, value in expected.items():
        assert getattr(found, name) == (None if name in WITHOUT.get(kind, ()) else value), name


def test_resolutions_are_in_inches() -> None:
    """Every format's unit is converted; one without a unit is none."""
    for kind in ("tiff", "psd", "jp2", "png"):
        assert harvest(MAKERS[kind](), kind).dpi == pytest.approx((300, 150), rel=1e-3), kind
    assert harvest(picture("BMP", dpi=(300, 150)), "bmp").dpi == pytest.approx((300, 150), rel=1e-3)
    assert harvest(picture("JPEG", dpi=(300, 150)), "jpeg").dpi == (300, 150)
    assert harvest(picture("JPEG"), "jpeg").dpi is None
    assert harvest(png_with(chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))), "png").dpi is None
    assert harvest(_jpeg(), "jpeg").dpi == (72, 72)  # from EXIF, where the format says none


def test_texts_are_found() -> None:
    """Comments and texts come with their keywords, in their encodings."""
    assert harvest(_jpeg(), "jpeg").texts == (("Comment", "héllo"),)
    assert harvest(_gif(), "gif").texts == (("Comment", "hello world"),)
    assert harvest(_png(), "png").texts == (("Software", "café"),)
    packed = png_with(
        _international(b"Title", "日本".encode(), packed=True),
        chunk(b"zTXt", b"Note\0\0" + zlib.compress(b"caf\xe9")),
    )
    assert harvest(packed, "png").texts == (("Title", "日本"), ("Note", "café"))
    assert harvest(b"P5\n# made by hand\n2 2\n255\n1234", "ppm").texts == (
        ("Comment", "made by hand"),
    )
    tga = io.BytesIO()
    Image.new("RGB", (4, 4)).save(tga, "TGA", id_section=b"an id")
    assert harvest(tga.getvalue(), "tga").texts == (("Comment", "an id"),)


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        (b"exif", b"Exif\0\0" + EXIF, "exif"),
        (b"APP1", b"Exif\0\0" + EXIF, "exif"),
        (b"APP1", b"http://ns.adobe.com/xap/1.0/\0" + XMP, "xmp"),
        (b"xmp", XMP, "xmp"),
        (b"iptc", IPTC, "iptc"),
        (b"8bim", _resource(0x0404, IPTC), "iptc"),
        (b"icc", ICC, "icc"),
    ],
)
def test_older_conventions_are_read(name: bytes, body: bytes, field: str) -> None:
    """Profiles in PNG texts are found as ImageMagick and exiftool write them."""
    expected = {"exif": EXIF, "xmp": XMP, "iptc": IPTC, "icc": ICC}[field]
    found = harvest(png_with(_raw_profile(name, body)), "png")
    assert getattr(found, field) == expected
    assert found.texts == ()


def test_the_formats_own_place_counts_first() -> None:
    """A profile in a text does not replace what stands in its proper chunk behind it."""
    made = png_with(_raw_profile(b"exif", structure("little")), chunk(b"eXIf", EXIF))
    assert harvest(made, "png").exif == EXIF


def test_what_exiftool_writes_into_png_is_found() -> None:
    """IPTC in a PNG, which exiftool stores as a text, arrives."""
    made = written("-IPTC:Headline=A headline", "-XMP:Title=T", "-EXIF:Artist=A", data=picture())
    found = harvest(made, "png")
    assert found.iptc is not None
    assert b"A headline" in found.iptc
    assert found.exif is not None
    assert said(found.exif)["IFD0:Artist"] == "A"
    assert found.xmp is not None
    assert said(found.xmp)["XMP-dc:Title"] == "T"


@pytest.mark.parametrize("order", ORDERS)
def test_a_tiff_gives_a_structure_of_what_it_describes(order: Order) -> None:
    """Descriptions, EXIF, position and maker note are taken; how pixels are stored is not."""
    found = harvest(_tiff(order), "tiff")
    assert found.exif is not None
    assert len(found.exif) < 500
    assert MAKER_NOTE in found.exif
    answer = said(found.exif)
    assert answer["IFD0:ImageDescription"] == "a house"
    assert answer["IFD0:Orientation"] == 6
    assert answer["IFD0:XResolution"] == 300
    assert answer["ExifIFD:ExposureTime"] == pytest.approx(1 / 60)
    assert answer["GPS:GPSLatitudeRef"] == "N"
    for name in ("ImageWidth", "StripOffsets", "StripByteCounts", "Compression", "BitsPerSample"):
        assert f"IFD0:{name}" not in answer
    assert b"extra" in found.exif


@pytest.mark.parametrize("kind", [1, 4, 7])
def test_iptc_in_a_tiff_is_read_whatever_its_type(kind: int) -> None:
    """Datasets typed as long numbers are read, also where a writer swapped their bytes."""
    padded = IPTC.ljust(len(IPTC) + -len(IPTC) % 4, b"\0")
    swapped = b"".join(padded[at : at + 4][::-1] for at in range(0, len(padded), 4))
    count = len(padded) // (4 if kind == 4 else 1)
    for body in (padded, swapped) if kind == 4 else (padded,):
        made = directory("little", 8, {0x83BB: (kind, count, body)})
        assert harvest(b"II*\0\x08\0\0\0" + made, "tiff").iptc == IPTC


def test_a_photoshop_tag_in_a_tiff_is_read() -> None:
    """IPTC that a TIFF holds inside of Photoshop's resources is found."""
    resources = _resource(0x0404, IPTC)
    made = directory("little", 8, {34_377: (1, len(resources), resources)})
    assert harvest(b"II*\0\x08\0\0\0" + made, "tiff").iptc == IPTC


def test_a_bigtiff_gives_a_classic_structure() -> None:
    """Descriptions from a file with 64-bit offsets arrive in one that all readers know."""
    entry = struct.pack("<HHQ", 0x010E, 2, 12) + struct.pack("<Q", 8 + 8 + 8 + 20 + 8)
    big = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + entry + bytes(8) + b"description\0"
    found = harvest(big, "tiff")
    assert found.exif is not None
    assert said(found.exif)["IFD0:ImageDescription"] == "description"


def test_an_extended_packet_is_joined() -> None:
    """A packet in several segments, in any order, becomes one; with a part missing, the rest."""
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    note = f'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="{guid.decode()}"'
    main = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet(note + ' xmp:Rating="1"'))
    more = packet("", "<dc:format>far</dc:format>", wrapped=False)
    parts = [
        segment(
            0xE1,
            b"http://ns.adobe.com/xmp/extension/\0"
            + guid
            + struct.pack(">II", len(more), at)
            + more[at : at + 100],
        )
        for at in range(0, len(more), 100)
    ]
    whole_packet = harvest(jpeg_with(*reversed(parts), main), "jpeg").xmp
    assert whole_packet is not None
    answer = said(whole_packet)
    assert (answer["XMP-xmp:Rating"], answer["XMP-dc:Format"]) == (1, "far")
    rest = harvest(jpeg_with(main, *parts[1:]), "jpeg").xmp
    assert rest is not None
    assert said(rest)["XMP-xmp:Rating"] == 1
    assert b"far" not in rest


def test_a_structure_in_several_segments_is_joined() -> None:
    """EXIF that did not fit into one segment is put together."""
    halves = (EXIF[:700], EXIF[700:])
    made = jpeg_with(*(segment(0xE1, b"Exif\0\0" + half) for half in halves))
    assert harvest(made, "jpeg").exif == EXIF


def test_a_structure_that_stops_in_its_header_is_none() -> None:
    """EXIF without room for its first directory says nothing, and is nobody's to carry."""
    segment = exif.PREFIX + b"II*"
    length = (len(segment) + 2).to_bytes(2)
    assert harvest(b"\xff\xd8\xff\xe1" + length + segment + b"\xff\xd9", "jpeg").exif is None


def test_a_heic_is_read_without_a_decoder() -> None:
    """A HEIC's boxes are an AVIF's."""
    found = harvest(_avif(), "heic")
    assert (found.exif, found.xmp, found.icc) == (EXIF_PLAIN, XMP, ICC)


def test_metadata_of_a_depth_map_are_not_the_pictures() -> None:
    """What an item says about another than the main picture is left out."""
    assert b"cdsc\0" in _avif()
    made = bytearray(_avif())
    at = -1
    while (at := made.find(b"cdsc", at + 1)) >= 0:  # from, count, and what it describes
        made[at + 8 : at + 10] = b"\0\x63"
    found = harvest(bytes(made), "avif")
    assert (found.exif, found.xmp) == (None, None)
    assert found.icc == ICC


def test_bombs_stay_small() -> None:
    """Streams that grow a thousandfold are left out, and cost the limit once for the file."""
    bomb = zlib.compress(bytes(basket.METADATA_BYTES_MAX + 1), 9)
    bombs = [chunk(b"zTXt", b"a\0\0" + bomb), _international(b"b", b"")[:0]]
    bombs += [chunk(b"iCCP", b"c\0\0" + bomb)] * 50
    before = _text(b"Title", b"kept")
    with counted_calls() as calls:
        found = harvest(png_with(before, *bombs), "png")
    assert found.texts == (("Title", "kept"),)
    assert found.icc is None
    assert calls() < 10_000
    taken = basket.Basket(b"")
    assert taken.inflate(bomb) is None
    assert taken.inflate(zlib.compress(b"a")) is None  # nothing is left for it


def test_overlapping_parts_count_every_time() -> None:
    """Parts that are the same bytes over and over are limited by what they add up to."""
    data = bytes(basket.METADATA_BYTES_MAX // 2)
    taken = basket.Basket(data)
    assert [taken.cut(0, len(data)) is not None for _ in range(4)] == [True, True, False, False]
    assert taken.cut(1, len(data)) is None
    assert taken.cut(-1, 1) is None


def test_texts_are_limited() -> None:
    """Neither many texts nor long ones are kept without end."""
    many = png_with(*[_text(b"k", b"v")] * (basket.TEXTS_MAX + 5))
    assert len(harvest(many, "png").texts) == basket.TEXTS_MAX
    long = png_with(_text(b"k", b"v" * basket.TEXTS_BYTES_MAX), _text(b"k", b"short"))
    assert harvest(long, "png").texts == (("k", "short"),)


def test_endless_parts_are_given_up() -> None:
    """A file of nothing but empty parts is walked over so far and no farther."""
    empties = chunk(b"noNe", b"") * (basket.STEPS_MAX + 1)
    made = png_with(_text(b"before", b"read"), empties, _text(b"behind", b"not read"))
    assert harvest(made, "png").texts == (("before", "read"),)


@given(data=st.data(), kind=st.sampled_from(sorted(MAKERS)))
def test_damage_raises_nothing(data: st.DataObject, kind: str) -> None:
    """Whatever has become of a file, the rest of it is read, and never more than it holds."""
    made = bytearray(MADE[kind])
    for _ in range(data.draw(st.integers(0, 10))):
        at = data.draw(st.integers(0, len(made) - 1))
        patch = data.draw(st.binary(min_size=1, max_size=4))
        made[at : at + len(patch)] = patch
    cut = bytes(made[: data.draw(st.integers(0, len(made)))])
    with counted_calls() as calls:
        found = harvest(cut, kind)
    blobs = (found.exif, found.xmp, found.iptc, found.icc)
    assert sum(len(blob) for blob in blobs if blob) <= basket.METADATA_BYTES_MAX
    assert calls() < 50_000


@given(
    data=st.binary(max_size=400),
    kind=st.sampled_from([*sorted(MAKERS), "bmp", "tga", "ppm", "ico"]),
)
def test_any_bytes_are_survived(data: bytes, kind: str) -> None:
    """Bytes that are no picture at all raise nothing."""
    head = MADE.get(kind, b"")[:16]
    harvest(data, kind)
    harvest(head + data, kind)


MADE = {kind: make() for kind, make in MAKERS.items()}


def test_exiftool_agrees_with_the_makers() -> None:
    """The files made here are what exiftool takes them for, so that the other tests mean it."""
    for kind in ("jpeg", "png", "webp", "tiff", "psd", "gif"):
        assert said(MADE[kind])["XMP-xmp:Rating"] == 4, kind
    assert b"a title" in exiftool("-b", "-IPTC:all", data=MADE["psd"])
