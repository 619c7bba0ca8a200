import io
import struct
import threading
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images.decoder import PIXELS_DECODE_MAX
from venice_watch.images.probe import Probe, check_readable, probe, upright_size
from venice_watch.images.signature import RASTERS, UNREADABLE, identify


def _picture(mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.effect_mandelbrot(size, (-2, -1.2, 1, 1.2), 100).convert(mode)


def _bytes(kind: str, picture: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (picture or _picture()).save(buffer, RASTERS[kind].plugin, **options)
    return buffer.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _bytes("jpeg", exif=exif)


def _refusal(data: bytes) -> ImageRefusedError:
    with pytest.raises(ImageRefusedError) as refused:
        check_readable(data, probe(data))
    return refused.value


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _psd(bits: int) -> bytes:
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 2, 2, bits, 3)
    return header + bytes(12) + b"\0\0" + bytes(12)


WRITABLE = ["jpeg", "png", "webp", "gif", "tiff", "bmp", "jp2", "avif", "ico", "tga", "ppm"]
WRITABLE += ["qoi", "dds", "sgi", "pcx"]


@pytest.mark.parametrize("kind", WRITABLE)
def test_every_format_is_known_by_its_content(kind: str) -> None:
    """Each format is recognised, measured and readable, without a name."""
    data = _bytes(kind, _picture(size=(64, 64)))
    found = probe(data)
    check_readable(data, found)
    assert (found.format, found.width, found.height) == (kind, 64, 64)
    assert (found.media_type, found.frames) == (RASTERS[kind].media_type, 1)


def test_a_photoshop_file_is_read() -> None:
    """A flat Photoshop file of 8 bits is readable; one of 16 is refused with its depth."""
    found = probe(_psd(8))
    check_readable(_psd(8), found)
    assert (found.format, found.width, found.frames) == ("psd", 2, 1)
    assert _refusal(_psd(16)).code is Code.UNSUPPORTED_FORMAT
    assert "16 bits" in _refusal(_psd(16)).message


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_as_stored_and_upright_size_as_seen(orientation: int) -> None:
    """The size stays as stored; upright_size swaps it for pictures that lie on their side."""
    found = probe(_turned(orientation))
    assert (found.width, found.height, found.orientation) == (96, 64, orientation)
    assert upright_size(found) == ((64, 96) if orientation >= 5 else (96, 64))


def test_a_tiff_on_its_side_is_measured_as_stored() -> None:
    """A TIFF's size is the stored one, although its decoder turns it."""
    found = probe(_bytes("tiff", tiffinfo={274: 6}))
    assert (found.width, found.height, found.orientation) == (96, 64, 6)


@pytest.mark.parametrize(
    ("kind", "mode", "bits", "has_alpha"),
    [
        ("png", "1", 1, False),
        ("png", "I;16", 16, False),
        ("png", "RGBA", 8, True),
        ("tiff", "F", 32, False),
        ("tiff", "CMYK", 8, False),
        ("webp", "RGBA", 8, True),
    ],
)
def test_depth_and_alpha_are_told(kind: str, mode: str, bits: int, *, has_alpha: bool) -> None:
    """Mode, bits a channel and transparency are those of the file."""
    picture = _picture("L").convert(mode)
    if mode == "RGBA":
        picture.putalpha(_picture("L"))
    found = probe(_bytes(kind, picture))
    assert (found.mode, found.bits, found.has_alpha) == (mode, bits, has_alpha)


def test_a_deep_colour_png_tells_its_depth() -> None:
    """A PNG of 16 bits a channel says so, although it is decoded to 8."""
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0))
    body = _png_chunk(b"IDAT", zlib.compress(bytes(7)))
    data = b"\x89PNG\r\n\x1a\n" + header + body + _png_chunk(b"IEND", b"")
    check_readable(data, probe(data))
    assert (probe(data).mode, probe(data).bits) == ("RGB", 16)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    """A cut JPEG is incomplete, whatever whole JPEG its metadata hold."""
    exif = b"Exif\0\0" + _bytes("jpeg", _picture(size=(16, 16)))
    data = _bytes("jpeg", exif=exif)
    check_readable(data, probe(data))
    assert _refusal(data[:-40]).code is Code.INCOMPLETE


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_frames_are_counted(kind: str) -> None:
    """Animation frames and pages are counted."""
    others = [_picture().rotate(90), _picture().rotate(180)]
    assert probe(_bytes(kind, save_all=True, append_images=others)).frames == 3


def test_a_phones_jpeg_with_a_second_picture_is_a_jpeg_of_one_frame() -> None:
    """What cameras call MPO counts as JPEG, its second picture as no frame."""
    buffer = io.BytesIO()
    _picture().save(buffer, "MPO", save_all=True, append_images=[_picture().rotate(9)])
    found = probe(buffer.getvalue())
    check_readable(buffer.getvalue(), found)
    assert (found.format, found.media_type, found.frames) == ("jpeg", "image/jpeg", 1)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<?xml version='1.0'?><!-- a --><svg xmlns='x'/>", "svg"),
        ("\ufeff<svg/>".encode("utf-16"), "svg"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "eps"),
        (b"%PDF-1.7", "pdf"),
        (b"\xff\x0a\x00\x00", "jxl"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video"),
        (b"8BPS\0\x02", "psb"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(data: bytes, kind: str) -> None:
    """A format without a decoder is named, with what to do about it."""
    refusal = _refusal(data)
    assert (refusal.code, refusal.message) == (Code.UNSUPPORTED_FORMAT, UNREADABLE[kind])


def test_postscript_never_reaches_a_decoder() -> None:
    """No format that starts other programs is among those decoded."""
    assert {r.plugin for r in RASTERS.values()}.isdisjoint({"EPS", "WMF", "FPX", "MIC", "MPEG"})


def test_a_raw_file_in_tiffs_clothes_is_refused() -> None:
    """A raw file whose TIFF shows only a preview is refused, not sent as the preview."""
    dng = _bytes("tiff", tiffinfo={50706: b"\1\4\0\0"})
    assert _refusal(dng).message == UNREADABLE["raw"]


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", Code.INCOMPLETE, "is empty"),
        (bytes(5_000), Code.INCOMPLETE, "nothing but zeros"),
        (b"Dear diary, today", Code.CORRUPT, "no image"),
        (b"\n<!DOCTYPE html><html>404", Code.CORRUPT, "web page"),
        (b"\xff\xd8\xff\xe0\0\2 and then \xff\xd9", Code.CORRUPT, "JPEG cannot be decoded"),
        (b"GIF89a", Code.CORRUPT, "GIF cannot be decoded"),
    ],
)
def test_what_is_no_image_is_refused_in_plain_words(data: bytes, code: Code, words: str) -> None:
    """A file that is no image says what it is instead."""
    refusal = _refusal(data)
    assert refusal.code is code
    assert words in refusal.message


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp", "jp2", "avif"])
def test_a_missing_tail_is_incomplete(kind: str) -> None:
    """A file cut in the middle of its pixels is incomplete."""
    data = _bytes(kind)
    assert _refusal(data[: len(data) * 2 // 3]).code is Code.INCOMPLETE


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_tail_that_was_never_written_is_incomplete(kind: str) -> None:
    """A pre-allocated file that ends in zeros is incomplete, although decoders take it."""
    data = _bytes(kind, _picture(size=(640, 480)), quality=95)
    assert len(data) > 10_000
    assert _refusal(data[:-5_000] + bytes(5_000)).code is Code.INCOMPLETE


def test_a_flipped_bit_in_a_png_is_corrupt() -> None:
    """Damage inside a PNG's data is corrupt, and the place is named."""
    data = bytearray(_bytes("png"))
    data[200] ^= 1
    refusal = _refusal(bytes(data))
    assert refusal.code is Code.CORRUPT
    assert "IDAT" in refusal.message


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif"])
def test_bytes_after_the_end_are_forgiven(kind: str) -> None:
    """Trailing bytes, as phones append them, are no reason to refuse."""
    data = _bytes(kind) + b"SEFTfilm" * 9
    check_readable(data, probe(data))
    assert probe(data).format == kind


def test_damaged_exif_is_forgiven() -> None:
    """EXIF that is garbage leaves the picture upright and readable."""
    data = _turned(6)
    at = data.index(b"Exif\0\0") + 6
    broken = data[:at] + b"MM\0*\xff\xff\xff\xff" + data[at + 8 :]
    check_readable(broken, probe(broken))
    assert probe(broken).orientation == 1


def test_a_giant_is_refused_before_it_is_decoded() -> None:
    """A few bytes that claim a giant picture are refused by the header, with the figures."""
    size = (20_000, PIXELS_DECODE_MAX // 20_000 + 1)
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(b"\0"))
    with pytest.raises(ImageRefusedError, match=r"200\.0 megapixels; at most 200") as refused:
        probe(data + _png_chunk(b"IEND", b""))
    assert refused.value.code is Code.TOO_LARGE


def test_a_giant_inside_an_icon_is_refused() -> None:
    """A giant that hides in an icon is refused as too large as well."""
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", b"x") + _png_chunk(b"IEND", b"")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(png), 22)
    assert _refusal(struct.pack("<HHH", 0, 1, 1) + entry + png).code is Code.TOO_LARGE


def test_warnings_of_the_decoder_stay_inside() -> None:
    """A picture that its decoder warns about is read, even where warnings are errors."""
    data = _bytes("png")
    no_frames = _png_chunk(b"acTL", bytes(8))
    broken = data[:33] + no_frames + data[33:]
    with pytest.warns(UserWarning, match="Invalid APNG"):
        Image.open(io.BytesIO(broken)).close()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("error")
        check_readable(broken, probe(broken))
        assert probe(broken).width == 96
    assert not heard


def test_filters_of_warnings_are_as_before_when_many_threads_are_done() -> None:
    """Threads that overlap leave the process's warning filters as they were."""
    data, before = _bytes("png"), list(warnings.filters)
    threads = [threading.Thread(target=lambda: [probe(data) for _ in range(30)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["jpeg", "png", "webp", "gif", "bmp", "ppm", "tga", "ico", "jp2", "avif"]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=6),
    keep=st.floats(0, 1),
)
def test_no_damage_leads_to_anything_but_a_refusal(
    kind: str, flips: list[tuple[float, int]], keep: float
) -> None:
    """Damaged files are read or refused; nothing else comes out."""
    data = bytearray(_bytes(kind, _picture(size=(40, 30))))
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    damaged = bytes(data[: int(keep * len(data))])
    try:
        found = probe(damaged)
        check_readable(damaged, found)
    except ImageRefusedError as refusal:
        assert refusal.message.endswith((".", "again."))  # noqa: PT017 - either way is right
    else:
        assert isinstance(found, Probe)
        assert identify(damaged) == found.format
