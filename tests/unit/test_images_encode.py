"""Results in other formats: their pixels, their metadata, their limits, the same bytes again."""

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from venice_watch.images import carriers, tiff
from venice_watch.images.carriers import into_jpeg
from venice_watch.images.encode import (
    SIDES_PX_MAX,
    WRITABLE,
    EncodeError,
    decode_again,
    encode,
    writable,
)
from venice_watch.images.harvest import harvest
from venice_watch.images.ifd import Field
from venice_watch.images.metadata import Metadata
from venice_watch.images.signature import identify

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FORMATS = tuple(kind for kind in WRITABLE if kind != "png")
WHITE = (255, 255, 255)
MAKER_NOTE, EXIF_POINTER, IPTC, DESCRIPTION = 37_500, 34_665, 33_723, 270


def exif_of(order: str) -> bytes:
    """Return EXIF with a name, an orientation, and a maker's note at an offset of its own."""
    tags = Image.Exif()
    tags.endian = "<" if order == "little" else ">"
    tags[271], tags[272], tags[274] = "Maker", "Model", 1
    tags.get_ifd(EXIF_POINTER)[MAKER_NOTE] = b"a note of its maker, found by its place"
    return tags.tobytes().removeprefix(b"Exif\0\0")


FULL = Metadata(
    exif=exif_of("little"),
    xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    b"<dc:source>here</dc:source></rdf:Description></rdf:RDF></x:xmpmeta>",
    iptc=b"\x1c\x02\x5a\0\x05City!",
    icc=SRGB,
    dpi=(300.0, 300.0),
    texts=(("Comment", "hellö"), ("prompt", "a cat — nice")),
)


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (120, 80), **options: Any) -> Path:  # noqa: ANN401 - Pillow's own
    """Write a result as the API sends it."""
    picture = Image.radial_gradient("L").resize(size)
    if mode == "I;16":
        picture = picture.convert("I").point(lambda level: level * 257).convert("I;16")
    elif mode in ("LA", "RGBA"):
        picture = picture.convert(mode)
        picture.putalpha(Image.linear_gradient("L").resize(size))
    else:
        picture = picture.convert(mode)
    picture.save(path, "PNG", **options)
    return path


def opened(data: bytes) -> Image.Image:
    """Decode a file."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def differs_by(one: Image.Image, other: Image.Image) -> float:
    """Return by how much two pictures differ at a pixel, on average over those that show."""
    pairs = zip(one.convert("RGB").tobytes(), other.convert("RGB").tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / (one.width * one.height * 3)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_pixels(tmp_path: Path, kind: str, mode: str) -> None:
    """Whatever a result's mode, the file is of the format, of its size, and looks the same."""
    result = save(tmp_path / "1.png", mode)
    done = encode(result, kind, FULL, quality=95, background=WHITE)
    assert identify(done.data) == kind
    image = opened(done.data)
    assert image.size == (120, 80)
    as_eight_bits = opened(save(tmp_path / "2.png", "L" if mode == "I;16" else mode).read_bytes())
    assert differs_by(image, as_eight_bits) < (0.01 if kind == "tiff" else 4)
    assert done.left_out == ()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency(tmp_path: Path, kind: str, mode: str) -> None:
    """Transparency is kept where the format has it, and laid on the background where not."""
    result = save(tmp_path / "1.png", mode)
    done = encode(result, kind, FULL, quality=95, background=(255, 0, 0))
    image = opened(done.data)
    if kind != "jpeg":
        assert image.has_transparency_data
        least, most = image.getchannel("A").getextrema()
        assert least < 5
        assert most > 250
        return
    assert image.mode == "RGB"
    red, green, blue = image.getpixel((5, 0))  # where it is transparent
    assert red > 240
    assert max(green, blue) < 16


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("order", ["little", "big"])
def test_metadata(tmp_path: Path, kind: str, order: str) -> None:
    """Every kind of metadata is in the file, in whichever byte order the EXIF was written."""
    metadata = Metadata(
        exif=exif_of(order), xmp=FULL.xmp, iptc=FULL.iptc, icc=SRGB, dpi=FULL.dpi, texts=FULL.texts
    )
    result = save(tmp_path / "1.png")
    done = encode(result, kind, metadata, quality=92, background=WHITE)
    facts = told(tmp_path / f"x.{kind}", done.data)
    assert facts["IFD0:Make"] == "Maker"
    assert facts["XMP-dc:Source"] == "here"
    assert facts["IPTC:City"] == "City!"
    assert facts["ICC_Profile:ProfileDescription"].startswith("sRGB")
    text = json.dumps(facts, ensure_ascii=False)
    assert "hellö" in text
    assert "a cat — nice" in text
    assert facts.get("IFD0:Orientation", 1) == 1
    assert "ExifTool:Error" not in facts
    assert not [one for one in facts if one.endswith(":Warning")]
    found = harvest(done.data, kind)
    assert found.xmp == FULL.xmp
    assert found.icc == SRGB
    assert found.exif is not None
    assert b"a note of its maker" in found.exif


def told(path: Path, data: bytes) -> dict[str, Any]:
    """Return what exiftool reads from a file."""
    path.write_bytes(data)
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not there; apt-get install libimage-exiftool-perl to install it")
    command = ("exiftool", "-j", "-G1:4", "-a", "-Orientation#", "-all", str(path))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout)[0]
    return facts


@pytest.mark.parametrize("order", ["little", "big"])
def test_makers_notes_stay_in_a_tiff(tmp_path: Path, order: str) -> None:
    """The EXIF of a TIFF is where it was in its own structure: offsets within it still hold."""
    exif = exif_of(order)
    result = save(tmp_path / "1.png")
    metadata = Metadata(exif=exif)
    done = encode(result, "tiff", metadata, quality=92, background=WHITE)
    assert done.data[8 : len(exif)] == exif[8:]
    assert opened(done.data).getexif()[272] == "Model"


@pytest.mark.parametrize("kind", FORMATS)
def test_without_metadata(tmp_path: Path, kind: str) -> None:
    """With nothing to say a file is a plain one, and nothing is left out."""
    result = save(tmp_path / "1.png")
    done = encode(result, kind, Metadata(), quality=92, background=WHITE)
    assert done.left_out == ()
    found = harvest(done.data, kind)
    assert (found.xmp, found.iptc, found.icc, found.texts) == (None, None, None, ())


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_exif(tmp_path: Path, kind: str) -> None:
    """EXIF that is none is carried as it is, or left out and named; the rest is there."""
    metadata = Metadata(exif=b"no TIFF at all", xmp=FULL.xmp, iptc=FULL.iptc)
    result = save(tmp_path / "1.png")
    done = encode(result, kind, metadata, quality=92, background=WHITE)
    opened(done.data)
    lost = {"jpeg": (), "webp": ("iptc",), "avif": ("exif", "iptc"), "tiff": ("exif",)}
    assert done.left_out == lost[kind]
    assert harvest(done.data, kind).xmp == FULL.xmp


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("exif", [b"II*", b"II*\0", b"MM\0*\0\0\0"])
def test_exif_that_stops_in_its_header(tmp_path: Path, kind: str, exif: bytes) -> None:
    """EXIF that is hardly begun is no reason for an error that nobody foresaw."""
    result = save(tmp_path / "1.png")
    with contextlib.suppress(EncodeError):  # the result is a PNG then
        opened(encode(result, kind, Metadata(exif=exif), quality=92, background=WHITE).data)


@pytest.mark.parametrize("kind", FORMATS)
def test_same_bytes(tmp_path: Path, kind: str) -> None:
    """The same result and metadata give the same bytes."""
    result = save(tmp_path / "1.png", "RGB", (700, 500))
    digests = {
        hashlib.sha256(encode(result, kind, FULL, quality=80, background=WHITE).data).digest()
        for _ in range(3)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_quality(tmp_path: Path, kind: str) -> None:
    """A higher quality is a larger file."""
    result = tmp_path / "1.png"
    Image.effect_noise((300, 200), 60).convert("RGB").save(result)
    sizes = [
        len(encode(result, kind, Metadata(), quality=quality, background=WHITE).data)
        for quality in (1, 50, 89, 92, 100)
    ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("own", ["profile", "chunk"])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_the_answer_says_of_its_colours_stands(tmp_path: Path, kind: str, own: str) -> None:
    """A profile of the result itself is kept; where it says sRGB by a chunk, none is added."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = lab[:40] + b"OWN!" + lab[44:]
    result = save(tmp_path / "1.png", icc_profile=profile if own == "profile" else None)
    if own == "chunk":
        data = result.read_bytes()
        result.write_bytes(data[:33] + b"\0\0\0\x01sRGB\0\xae\xce\x1c\xe9" + data[33:])
    done = encode(result, kind, FULL, quality=92, background=WHITE)
    assert harvest(done.data, kind).icc == (profile if own == "profile" else None)


def test_grey_results_have_grey_profiles(tmp_path: Path) -> None:
    """A grey result gets no profile for three colours."""
    result = save(tmp_path / "1.png", "L")
    done = encode(result, "jpeg", FULL, quality=92, background=WHITE)
    assert opened(done.data).mode == "L"
    icc = harvest(done.data, "jpeg").icc
    assert icc is not None
    assert icc[16:20] == b"GRAY"


@pytest.mark.parametrize("kind", SIDES_PX_MAX)
def test_limits(tmp_path: Path, kind: str) -> None:
    """The longest side that is written can be read; a longer one becomes a PNG before it is."""
    longest = SIDES_PX_MAX[kind]
    result = save(tmp_path / "1.png", "RGB", (longest, 64))
    assert writable(kind, width=longest, height=64) == kind
    done = encode(result, kind, FULL, quality=50, background=WHITE)
    assert opened(done.data).size == (longest, 64)
    assert writable(kind, width=longest + 1, height=64) == "png"
    assert writable(kind, width=64, height=longest + 1) == "png"


@pytest.mark.parametrize("kind", ["gif", "bmp", "jp2", "psd", "", "heic"])
def test_what_is_not_written(kind: str) -> None:
    """A format that is only read is answered by a PNG."""
    assert writable(kind, width=9, height=9) == "png"
    assert writable("tiff", width=10**6, height=9) == "tiff"


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_no_result(tmp_path: Path, kind: str) -> None:
    """A result that cannot be decoded is said to be none, in one kind of error."""
    broken = save(tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(broken[: len(broken) // 2])
    with pytest.raises(EncodeError, match=f"cannot be written as {kind}"):
        encode(tmp_path / "1.png", kind, FULL, quality=92, background=WHITE)
    with pytest.raises(FileNotFoundError):
        encode(tmp_path / "2.png", kind, FULL, quality=92, background=WHITE)


@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_the_result_can_be_had_again(tmp_path: Path, kind: str, mode: str) -> None:
    """A delivered file gives a plain PNG again: of the same pixels where nothing was lost."""
    result = save(tmp_path / "1.png", mode)
    data = result.read_bytes()
    if kind != "png":
        data = encode(result, kind, FULL, quality=95, background=WHITE).data
    again = decode_again(data, kind)
    found = harvest(again, "png")
    assert found == Metadata()
    one, other = opened(again), opened(result.read_bytes())
    if kind in ("png", "tiff"):
        assert one.mode == other.mode
        assert one.tobytes() == other.tobytes()
    elif mode != "RGBA":
        assert differs_by(one, other) < 4


# --- what does not fit into a JPEG ---------------------------------------------------------------


JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9"


def test_a_large_packet_is_extended(tmp_path: Path) -> None:
    """An XMP packet beyond 64 kB is put into several segments, and read whole."""
    filler = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(250)) * 12
    assert FULL.xmp is not None
    xmp = FULL.xmp.replace(b"here", filler.encode())
    assert len(xmp) > 2 * carriers.SEGMENT_BYTES_MAX
    picture = io.BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "JPEG")
    data, left_out = into_jpeg(picture.getvalue(), Metadata(xmp=xmp))
    assert left_out == ()
    assert told(tmp_path / "x.jpg", data)["XMP-dc:Source"] == filler
    opened(data)


@pytest.mark.parametrize(
    ("metadata", "left_out"),
    [
        (Metadata(exif=bytes(65_527)), ()),
        (Metadata(exif=bytes(65_528)), ("exif",)),
        (Metadata(iptc=bytes(65_506)), ()),
        (Metadata(iptc=bytes(65_507)), ("iptc",)),  # it is padded to an even number
        (Metadata(texts=(("Comment", "x" * 65_533), ("Comment", "y"))), ()),
        (Metadata(texts=(("Comment", "x" * 65_534), ("a", "x" * 65_534))), ("texts",)),
        (Metadata(icc=bytes(255 * 65_519)), ()),
        (Metadata(icc=bytes(255 * 65_519 + 1)), ("icc",)),
    ],
)
def test_what_does_not_fit_is_named(metadata: Metadata, left_out: tuple[str, ...]) -> None:
    """What is too large for JPEG's segments is left out whole; what just fits is there."""
    data, found = into_jpeg(JPEG, metadata)
    assert found == left_out
    assert data.startswith(JPEG[:20])
    assert data.endswith(b"\xff\xd9")
    at = 20  # every segment's length leads to the next one
    while data[at + 1] != 0xD9:
        assert data[at] == 0xFF
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    assert at == len(data) - 2


def test_of_too_much_exif_the_rest_is_there(tmp_path: Path) -> None:
    """EXIF that a JPEG has no room for loses its maker's note, and that is said."""
    tags = Image.Exif()
    tags[272] = "Model"
    tags.get_ifd(EXIF_POINTER)[MAKER_NOTE] = bytes(range(256)) * 300
    large = tags.tobytes().removeprefix(b"Exif\0\0")
    result = save(tmp_path / "1.png")
    done = encode(result, "jpeg", Metadata(exif=large), quality=92, background=WHITE)
    assert done.left_out == ("parts of exif",)
    with Image.open(io.BytesIO(done.data)) as image:
        assert image.getexif()[272] == "Model"
        assert MAKER_NOTE not in image.getexif().get_ifd(EXIF_POINTER)


@pytest.mark.parametrize("dpi", [(0.0, 1.0), (1e9, 1.0), (float("nan"), 1.0)])
@pytest.mark.parametrize("kind", FORMATS)
def test_resolutions_that_are_none(tmp_path: Path, kind: str, dpi: tuple[float, float]) -> None:
    """A resolution that the format cannot state does not keep a result from being written."""
    result = save(tmp_path / "1.png")
    opened(encode(result, kind, Metadata(dpi=dpi), quality=92, background=WHITE).data)


@pytest.mark.parametrize(
    ("value", "read"), [(300.0, 300.0), (71.9836, 71.9836), (1e300, 2**32 - 1)]
)
def test_fractions(value: float, read: float) -> None:
    """A resolution is written as a fraction that comes near it, or the largest there is."""
    one = tiff.of_fraction("big", value)
    above, below = int.from_bytes(one.value[:4]), int.from_bytes(one.value[4:])
    assert above / below == pytest.approx(read, rel=1e-6)


def test_fields(tmp_path: Path) -> None:
    """A directory gets fields and loses some, and what was in it stays."""
    exif = exif_of("big")
    more = tiff.with_fields(exif, {IPTC: tiff.of_bytes(b"12345")}, without=(271,))
    fields = tiff.read_fields(more)
    assert set(fields) == {272, 274, EXIF_POINTER, IPTC}
    assert fields[IPTC] == Field(type=7, count=5, value=b"12345")
    assert fields[272].value == b"Model\0"
    with pytest.raises(tiff.BrokenTiffError):
        tiff.with_fields(b"II+\0" + bytes(20), {})
    assert tmp_path.is_dir()
