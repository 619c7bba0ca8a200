"""Whether a file is an image and whole, by its own bytes: cut, filled up, or lengthened."""

import io
import os
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from venice_watch.intake.content import Kind, find_end, is_candidate, kind_of
from venice_watch.settle import End


def encoded(kind: str, size: tuple[int, int] = (90, 70), **options: object) -> bytes:
    """Return a picture full of detail."""
    out = io.BytesIO()
    noise = Image.frombytes("RGB", size, bytes(range(256)) * (size[0] * size[1] * 3 // 256 + 1))
    noise.save(out, kind, **options)
    return out.getvalue()


def thumbnailed() -> bytes:
    """Return a JPEG with a JPEG inside its head, end marker and all."""
    plain, thumbnail = encoded("JPEG"), encoded("JPEG", (16, 16))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    return plain[:2] + segment + plain[2:]


MADE: dict[str, bytes] = {
    "jpeg": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "restarts": encoded("JPEG", restart_marker_rows=1),
    "thumbnailed": thumbnailed(),
    "png": encoded("PNG"),
    "gif": encoded("GIF"),
    "webp": encoded("WEBP"),
    "bmp": encoded("BMP"),
    "tiff": encoded("TIFF"),
    "jp2": encoded("JPEG2000"),
    "ppm": encoded("PPM"),
}
ENDED = ("jpeg", "progressive", "restarts", "thumbnailed", "png", "gif", "webp", "bmp")
WALKED = ("jpeg", "progressive", "restarts", "thumbnailed", "png")


def end_of(data: bytes) -> End:
    """Return what a file of these bytes says of its end."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return find_end(file.fileno(), len(data))


@pytest.mark.parametrize("name", ENDED)
def test_whole(name: str) -> None:
    """A whole file of a format with an end of its own is whole."""
    assert end_of(MADE[name]) is End.WHOLE


@pytest.mark.parametrize("name", ["tiff", "jp2", "ppm"])
def test_without_an_end(name: str) -> None:
    """A format without an end of its own says nothing, whole or cut."""
    assert end_of(MADE[name]) is End.UNKNOWN
    assert end_of(MADE[name][:-100]) is End.UNKNOWN


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(ENDED), share=st.floats(0.01, 0.999))
def test_cut(name: str, share: float) -> None:
    """A file that is cut anywhere is never whole, unless a format's last letters were hit."""
    data = MADE[name][: max(8, int(len(MADE[name]) * share))]
    if name == "gif" and data.endswith(b"\0;"):
        return  # two bytes are all that a GIF's end has
    if name.startswith(("webp", "bmp")) and len(data) < 20:
        return  # not even its head is there
    if data.endswith(b"\xff\xd9"):
        return  # right behind the thumbnail; the quiet time has to tell
    assert end_of(data) is End.MISSING


def test_cut_behind_a_trailers_byte() -> None:
    """A GIF that is cut behind a byte that happens to be its trailer's is not whole."""
    data = encoded("GIF")[:-2]
    assert end_of(data + b"\x01;") is End.MISSING
    assert end_of(data + b"\x01;" + bytes(100)) is End.MISSING
    assert end_of(data + b"\x00;") is End.WHOLE


@pytest.mark.parametrize("name", ENDED)
def test_filled_up_with_zeros(name: str) -> None:
    """A file that was given its size before its bytes is not whole, however much is there."""
    data = MADE[name]
    for share in (0.2, 0.5, 0.9):
        there = int(len(data) * share)
        filled = data[:there] + bytes(max(len(data) - there, 5_000))
        assert end_of(filled) in (End.MISSING, End.ZEROS), share


@pytest.mark.parametrize("size", [1, 100, 4_096, 1_000_000])
def test_nothing_but_zeros(size: int) -> None:
    """A file of zeros has not been written yet."""
    assert end_of(bytes(size)) is End.MISSING


@pytest.mark.parametrize("name", WALKED)
@pytest.mark.parametrize(
    "behind", [b"\0", b"\n", b"\0" * 3, b"\xff", b"trailer", os.urandom(9_000), b"\xff\xd9\xff"]
)
def test_bytes_behind_the_end(name: str, behind: bytes) -> None:
    """A phone's trailer behind the end makes the file less certain, and not incomplete."""
    assert end_of(MADE[name] + behind) is End.UNKNOWN


def test_motion_photo() -> None:
    """A video behind a picture is a trailer like another one, with a picture inside or not."""
    video = b"\0\0\0\x18ftypmp42" + MADE["thumbnailed"] + os.urandom(3_000_000)
    assert end_of(MADE["thumbnailed"] + video) is End.UNKNOWN


@pytest.mark.parametrize("name", ["webp", "bmp"])
def test_longer_than_stated(name: str) -> None:
    """More bytes than the head states make the file less certain."""
    assert end_of(MADE[name] + b"more") is End.UNKNOWN


def test_black_bottom() -> None:
    """A tail of zeros where zeros may be pixels is told from a missing end."""
    out = io.BytesIO()
    Image.new("RGB", (100, 100)).save(out, "BMP")
    assert end_of(out.getvalue()) is End.ZEROS
    out = io.BytesIO()
    Image.new("RGB", (100, 100)).save(out, "TIFF")
    assert end_of(out.getvalue() + bytes(5_000)) is End.ZEROS


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from([*(data[:40] for data in MADE.values()), b""]),
    rest=st.binary(max_size=200),
    repeat=st.integers(1, 50),
)
def test_garbage(head: bytes, rest: bytes, repeat: int) -> None:
    """Any bytes whatever get an answer."""
    assert end_of(head + rest * repeat) in End


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 3_000_000,
        b"\xff\xd8\xff\xe0" + b"\0\2\xff\xe0" * 750_000,
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0abcdCRC!" * 250_000,
    ],
)
def test_walks_are_bounded(data: bytes) -> None:
    """A file made to be walked for hours is given up early, as uncertain."""
    assert end_of(data) is End.UNKNOWN


def test_changed_while_looked_at() -> None:
    """A file that got shorter since its size was read is no longer whole."""
    for name in WALKED:
        with tempfile.TemporaryFile() as file:
            file.write(MADE[name][:200])
            file.flush()
            assert find_end(file.fileno(), len(MADE[name])) is End.MISSING


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (MADE["jpeg"], Kind.JPEG),
        (MADE["png"], Kind.PNG),
        (MADE["gif"], Kind.GIF),
        (MADE["webp"], Kind.RIFF),
        (MADE["bmp"], Kind.BMP),
        (MADE["tiff"], Kind.OTHER_IMAGE),
        (MADE["jp2"], Kind.OTHER_IMAGE),
        (MADE["ppm"], Kind.OTHER_IMAGE),
        (b"MM\0*rest", Kind.OTHER_IMAGE),
        (b"8BPSrest", Kind.OTHER_IMAGE),
        (b"\0\0\0\x1cftypheic", Kind.OTHER_IMAGE),
        (b"\0\0\0\x1cftypavif", Kind.OTHER_IMAGE),
        (b"\0\0\0\x1cftypmp42", Kind.NONE),
        (b"RIFF\0\0\0\0WAVE", Kind.NONE),
        (b"BMW is a car, not a bitmap", Kind.NONE),
        (b"BM", Kind.NONE),
        (b"P7 is no picture", Kind.NONE),
        (b"%PDF-1.7", Kind.NONE),
        (b"", Kind.NONE),
    ],
)
def test_kind(data: bytes, kind: Kind) -> None:
    """The first bytes tell the kind, and words that begin alike do not."""
    assert kind_of(data[:64]) is kind


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("cat.jpg", b"text", True),
        ("CAT.JPEG", b"", True),
        ("cat.HeIc", b"", True),
        ("cat", MADE["png"], True),
        ("cat.txt", MADE["jpeg"], True),
        ("notes.txt", b"text", False),
        ("jpg", b"text", False),
        (".jpg", b"text", True),
        ("cat.jpg.txt", b"text", False),
        ("film.mp4", b"\0\0\0\x18ftypmp42", False),
        ("cat", encoded("ICNS", (128, 128)), True),
        ("cat", encoded("SGI"), True),
        ("cat", encoded("DDS"), True),
        ("cat", encoded("QOI"), True),
        ("cat", b"\x59\xa6\x6a\x95\0\0\0\x09", True),
        ("cat.pcx", b"", True),
        ("icns", b"icns are icons", False),
    ],
)
def test_candidate(name: str, head: bytes, *, expected: bool) -> None:
    """A file is one by its ending or by its content, either is enough."""
    assert is_candidate(name, head[:64]) is expected


def test_only_a_little_is_read(tmp_path: Path) -> None:
    """A whole file is known by its head and tail: it is not read through."""
    for name in ENDED:
        path = tmp_path / name
        path.write_bytes(encoded(name.upper(), (3_000, 2_000)) if name == "png" else MADE[name])
        with path.open("rb") as file:
            before = read_so_far_bytes()
            find_end(file.fileno(), path.stat().st_size)
            assert read_so_far_bytes() - before < 10_000, name


def read_so_far_bytes() -> int:
    """Return how many bytes this process has read by system calls."""
    return int(Path("/proc/self/io").read_text().splitlines()[0].removeprefix("rchar: "))
