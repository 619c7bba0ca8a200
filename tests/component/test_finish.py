"""What a result keeps of its original, read by a program that nobody here wrote: exiftool."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from tests.component.conftest import Place, Program, Venice

pytestmark = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="apt-get install libimage-exiftool-perl to install it"
)

PRICE = 20_000
TIME_NS = 1_234_567_890_000_000_000
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TAGS = (
    "-Make=Maker", "-Model=Model 7", "-LensModel=Lens 50mm",
    "-DateTimeOriginal=2024:05:06 07:08:09",
    "-GPSLatitude=48.25", "-GPSLatitudeRef=N", "-GPSLongitude=11.5", "-GPSLongitudeRef=E",
    "-EXIF:Copyright=Ann Example", "-XMP-dc:Title=A tïtle", "-XMP-dc:Creator=Ann",
    "-IPTC:City=Garching", "-IPTC:Keywords=one", "-IPTC:Keywords=two",
)  # fmt: skip
KEPT = {
    "IFD0:Make": "Maker",
    "IFD0:Model": "Model 7",
    "ExifIFD:LensModel": "Lens 50mm",
    "ExifIFD:DateTimeOriginal": "2024:05:06 07:08:09",
    "IFD0:Copyright": "Ann Example",
    "XMP-dc:Title": "A tïtle",
    "XMP-dc:Creator": "Ann",
    "IPTC:City": "Garching",
    "IPTC:Keywords": ["one", "two"],
}
SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp", "avif": "avif", "tiff": "tif"}
STAGED = "SELECT 1 FROM jobs WHERE state = 'staged'"


def exiftool(*arguments: str) -> str:
    """Run exiftool."""
    done = subprocess.run(("exiftool", *arguments), capture_output=True, text=True, check=True)
    return done.stdout


def told(path: Path) -> dict[str, Any]:
    """Return what exiftool reads from a file, numbers as they are stored."""
    facts: dict[str, Any] = json.loads(exiftool("-j", "-G1", "-n", "-all", str(path)))[0]
    return facts


def photograph(
    path: Path, *tags: str, kind: str = "JPEG", size: tuple[int, int] = (300, 260), number: int = 0
) -> bytes:
    """Write a picture as a camera does, with all that it says; return its bytes."""
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    picture.putpixel((0, 0), (number, 0, 0))
    data = io.BytesIO()
    picture.save(data, kind, icc_profile=SRGB, dpi=(300, 300))
    scratch = path.with_name(f"scratch.{kind.lower()}")
    scratch.write_bytes(data.getvalue())
    exiftool("-q", "-overwrite_original", *TAGS, *tags, str(scratch))
    os.utime(scratch, ns=(TIME_NS, TIME_NS))
    scratch.rename(path)
    return path.read_bytes()


def is_kept(facts: dict[str, Any], *, without: frozenset[str] = frozenset()) -> None:
    """Assert that everything that the original says is there, but for some of it."""
    for key, value in KEPT.items():
        if key not in without:
            assert facts.get(key) == value, key


def run(place: "Place", name: str = "a.jpg", **output: object) -> "Program":
    """Run `once` with one photograph and these settings."""
    place.write(output=output)
    photograph(place.root / name)
    (place.root / name).rename(place.inbox / name)
    code, program = place.once()
    assert code == 0, program.stderr
    return program


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("wanted", SUFFIXES)
def test_kept(place: "Place", venice: "Venice", wanted: str, kind: str) -> None:
    """Whatever comes in and goes out: what the original says is said by the result, upright."""
    place.write(output={"format": wanted})
    photograph(place.root / "a", "-Orientation#=6", kind=kind)
    (place.root / "a").rename(place.inbox / f"a.{kind.lower()}")
    code, program = place.once()
    assert code == 0, program.stderr
    [name] = place.names("outbox")
    assert name == f"a.{SUFFIXES[wanted]}"
    facts = told(place.outbox / name)
    # exiftool writes IPTC into JPEG, TIFF and PNG alone
    lost = {key for key in KEPT if key.startswith("IPTC")} if kind == "WEBP" else set()
    is_kept(facts, without=frozenset(lost))
    assert facts["Composite:GPSPosition"] == "48.25 11.5"
    assert facts["ICC_Profile:ProfileDescription"].startswith("sRGB")
    assert facts.get("IFD0:Orientation", 1) == 1  # AVIF: none, which is upright
    assert (facts.get("File:ImageWidth") or facts["Composite:ImageSize"]) is not None
    assert facts["Composite:ImageSize"] == "520 600"
    assert not [key for key in facts if key.endswith((":Error", ":Warning"))], facts
    assert (place.outbox / name).stat().st_mtime_ns == TIME_NS
    with Image.open(place.outbox / name) as image:
        image.load()
        assert image.size == (520, 600)
    assert place.unaccounted() == set()
    assert not [one for one in place.names("state/spool") if one.endswith(".meta")]
    assert not program.find("metadata.lost")
    assert venice.totals()["charges"] == 1


def test_a_png_stays_the_answers_own_bytes(place: "Place", venice: "Venice") -> None:
    """A PNG result is the paid bytes with one block behind the header, and is no second copy."""
    run(place)
    [record] = venice.upscales()
    assert record["charged_microusd"] == PRICE
    bare = place.read("state/spool")["1.png"]
    done = place.read("outbox")["a.png"]
    block_bytes = len(done) - len(bare)
    assert block_bytes > len(SRGB) // 4
    assert done[:33] + done[33 + block_bytes :] == bare


def test_source(place: "Place") -> None:
    """With `format: source` each result has its original's format, where that can be written."""
    place.write(output={"format": "source"})
    for number, (name, kind) in enumerate(
        {"a.jpg": "JPEG", "b.png": "PNG", "c.webp": "WEBP", "d.tif": "TIFF", "e.x": "AVIF"}.items()
    ):
        picture = Image.new("RGB", (300, 300), (number, 0, 0))
        picture.save(place.inbox / name, kind)
    Image.new("L", (300, 300), 77).save(place.inbox / "f.gif", "GIF")
    (place.inbox / "e.x").rename(place.inbox / "e.avif")
    code, program = place.once()
    assert code == 0, program.stderr
    assert place.names("outbox") == {"a.jpg", "b.png", "c.webp", "d.tif", "e.avif", "f.png"}


# --- what is left out, because somebody wants it so ----------------------------------------------


@pytest.mark.parametrize("wanted", ["png", "jpeg"])
def test_a_list(place: "Place", wanted: str) -> None:
    """With a list only those kinds are kept; the time of the file is one of them."""
    run(place, format=wanted, metadata=["exif", "icc"], provenance=False)
    [name] = place.names("outbox")
    facts = told(place.outbox / name)
    lost = {key for key in KEPT if not key.startswith(("IFD0", "ExifIFD"))}
    is_kept(facts, without=frozenset(lost))
    assert not lost & facts.keys()
    assert not [key for key in facts if key.startswith("XMP")]
    assert "ICC_Profile:ProfileDescription" in facts
    assert (place.outbox / name).stat().st_mtime_ns != TIME_NS


@pytest.mark.parametrize("wanted", SUFFIXES)
def test_no_position(place: "Place", wanted: str) -> None:
    """With `gps: remove` no result says where it was taken, and all else is kept."""
    run(place, format=wanted, gps="remove")
    [name] = place.names("outbox")
    facts = told(place.outbox / name)
    is_kept(facts)
    assert not [key for key in facts if "GPS" in key and key != "IPTC:City"]
    assert "48.25" not in json.dumps(facts)


@pytest.mark.parametrize("wanted", SUFFIXES)
def test_stripped(place: "Place", wanted: str) -> None:
    """With `metadata: strip` nothing but the colour profile is there, and no word of ours."""
    run(place, format=wanted, metadata="strip")
    [name] = place.names("outbox")
    facts = told(place.outbox / name)
    groups = {key.partition(":")[0] for key in facts}
    assert not groups & {"ExifIFD", "GPS", "IPTC", "PNG-pHYs", "XMP-dc", "XMP-x", "Photoshop"}
    assert not [group for group in groups if group.startswith("XMP")]
    assert "IFD0:Make" not in facts
    assert facts["ICC_Profile:ProfileDescription"].startswith("sRGB")
    data = place.read("outbox")[name]
    for word in (b"venice", b"Ann Example", b"photo"):
        assert word not in data
    assert (place.outbox / name).stat().st_mtime_ns != TIME_NS


def test_provenance(place: "Place") -> None:
    """A result says what made it, and nothing of this machine: no key, no path, no host."""
    run(place)
    data = place.read("outbox")["a.png"]
    facts = json.dumps(told(place.outbox / "a.png"))
    original = place.read("archive")["a.jpg"]
    for word in ("venice-watch", "photo", hashlib.sha256(original).hexdigest()):
        assert word in facts
    for word in (place.key_file.read_text().strip(), str(place.root), os.uname().nodename):
        assert word.encode() not in data


def test_resolution(place: "Place") -> None:
    """The resolution is kept, or grows with the picture so that a print stays as large."""
    run(place, dpi="keep")
    assert told(place.outbox / "a.png")["IFD0:XResolution"] == 300
    run(place, "b.jpg", dpi="scale")
    facts = told(place.outbox / "b.png")
    assert facts["IFD0:XResolution"] == 600
    assert facts["PNG-pHYs:PixelsPerUnitX"] == round(600 / 0.0254)


def test_too_large_for_the_format(place: "Place") -> None:
    """A result that is too large for the format that is wanted is a PNG, and it is said."""
    place.write(output={"format": "webp"})
    Image.new("RGB", (9_000, 70), (1, 2, 3)).save(place.inbox / "a.png")
    code, program = place.once()
    assert code == 0, program.stderr
    assert place.sizes() == {"a.png": (18_000, 140)}
    assert program.find("result.as_png", wanted="webp")


# --- what comes between ---------------------------------------------------------------------------


def test_killed_before_delivery(place: "Place", venice: "Venice") -> None:
    """Killed between payment and delivery, the original gone: the next start finishes it alike."""
    run(place, "first.jpg", format="jpeg")
    expected = place.read("outbox")["first.jpg"]
    photograph(place.root / "a.jpg")
    (place.root / "a.jpg").rename(place.inbox / "a.jpg")
    place.write(output={"format": "jpeg"}, duplicates="process")
    shutil.move(place.outbox, place.root / "away")
    place.outbox.mkdir()
    venice.change(latency_s=1.0)
    daemon = place.start()
    venice.wait(received=2)
    place.outbox.rmdir()  # the outbox goes away while the request is under way
    place.wait_rows(STAGED, 1)
    daemon.kill()
    assert [one for one in place.names("state/spool") if one.endswith(".meta")]
    (place.inbox / "a.jpg").unlink()
    place.outbox.mkdir()
    code, program = place.once()
    assert code == 0, program.stderr
    assert place.read("outbox") == {"a.jpg": expected}
    assert venice.totals()["charges"] == 2
    assert not [one for one in place.names("state/spool") if one.endswith(".meta")]


def test_original_deleted_in_flight(place: "Place", venice: "Venice") -> None:
    """An original that is deleted while its request is under way leaves its words to the result."""
    venice.change(latency_s=1.0)
    photograph(place.root / "a.jpg")
    (place.root / "a.jpg").rename(place.inbox / "a.jpg")
    daemon = place.start()
    venice.wait(received=1)
    (place.inbox / "a.jpg").unlink()
    place.wait_names("outbox", {"a.png"})
    assert daemon.stop() == 0
    is_kept(told(place.outbox / "a.png"))


def test_damaged_sidecar(place: "Place", venice: "Venice") -> None:
    """Metadata that the disk has lost are said to be lost, and the paid result is delivered."""
    photograph(place.root / "a.jpg")
    (place.root / "a.jpg").rename(place.inbox / "a.jpg")
    venice.change(latency_s=1.0)
    daemon = place.start()
    venice.wait(received=1)
    place.outbox.rmdir()
    place.wait_rows(STAGED, 1)
    daemon.kill()
    [sidecar] = (place.state / "spool").glob("*.meta")
    sidecar.write_bytes(sidecar.read_bytes()[:-9])
    place.outbox.mkdir()
    code, program = place.once()
    assert code == 0, program.stderr
    assert program.find("metadata.lost", path="a.jpg")
    assert place.names("outbox") == {"a.png"}
    assert venice.totals()["charges"] == 1


@pytest.mark.parametrize("wanted", ["png", "jpeg"])
def test_a_bug_in_what_is_said(place: "Place", venice: "Venice", wanted: str) -> None:
    """A mistake of ours about metadata costs them and is told; the paid result is delivered."""
    place.write(output={"format": wanted})
    photograph(place.root / "a.jpg")
    (place.root / "a.jpg").rename(place.inbox / "a.jpg")
    with hooked(place, A_BUG_IN_EXIF):
        code, program = place.once()
    assert code == 0, program.stderr
    [lost] = program.find("metadata.lost", path="a.jpg")
    assert "ArithmeticError" in lost["exception"]
    place.programs.remove(program)  # whose bug was meant to be
    assert place.names("outbox") == {f"a.{SUFFIXES[wanted]}"}
    assert "EXIF:Model" not in told(place.outbox / f"a.{SUFFIXES[wanted]}")
    assert venice.totals()["charges"] == 1


@pytest.mark.parametrize("wanted", SUFFIXES)
def test_published_before_a_crash(place: "Place", venice: "Venice", wanted: str) -> None:
    """What stands under its name already, finished by the process that died, is not put twice."""
    place.write(output={"format": wanted})
    photograph(place.root / "a.jpg")
    (place.root / "a.jpg").rename(place.inbox / "a.jpg")
    with hooked(place, KILLED_ONCE_PUBLISHED):
        code, _ = place.once()
        assert code == -signal.SIGKILL
    [done] = place.ask("SELECT state FROM jobs")
    assert done == ("staged",)
    before = place.read("outbox")
    code, program = place.once()
    assert code == 0, program.stderr
    assert place.read("outbox") == before
    assert place.names("archive") == {"a.jpg"}
    assert venice.totals()["charges"] == 1


# --- the same image again ------------------------------------------------------------------------


@pytest.mark.parametrize("first", SUFFIXES)
@pytest.mark.parametrize("second", ["png", "jpeg"])
def test_the_same_again_from_a_delivered_file(
    place: "Place", venice: "Venice", first: str, second: str
) -> None:
    """With nothing kept, the result is had again from the delivered file, whatever its format."""
    run(place, format=first)
    for one in (place.state / "spool").iterdir():
        one.unlink()
    [name] = place.names("archive")
    (place.archive / name).rename(place.inbox / "b.jpg")
    place.write(output={"format": second})
    code, program = place.once()
    assert code == 0, program.stderr
    assert venice.totals()["charges"] == 1
    assert program.find("image.reused")
    is_kept(told(place.outbox / f"b.{SUFFIXES[second]}"))
    if first in ("png", "tiff") and second == "png":
        with (
            Image.open(place.outbox / f"a.{SUFFIXES[first]}") as one,
            Image.open(place.outbox / "b.png") as other,
        ):
            assert one.tobytes() == other.tobytes()
    assert place.unaccounted() == set()


def test_each_copy_has_its_own_words(place: "Place", venice: "Venice") -> None:
    """Pictures of the same pixels that say different things share what is paid for, no more.

    Their bytes differ, so this is about one that is sent converted: turned upright, and as PNG.
    """
    for number, title in enumerate(("first", "second")):
        name = f"{number}.tif"
        photograph(place.root / name, f"-XMP-dc:Title={title}", kind="TIFF")
        (place.root / name).rename(place.inbox / name)
    code, program = place.once()
    assert code == 0, program.stderr
    assert venice.totals()["charges"] == 1
    titles = {told(place.outbox / f"{number}.png")["XMP-dc:Title"] for number in (0, 1)}
    assert titles == {"first", "second"}


def test_a_spool_in_trouble_costs_nothing(place: "Place", venice: "Venice") -> None:
    """Where the metadata cannot be made durable nothing is paid for, and the folder says so."""
    photograph(place.root / "a.jpg")
    (place.root / "a.jpg").rename(place.inbox / "a.jpg")
    with hooked(place, NO_ROOM_IN_THE_SPOOL):
        code, program = place.once()
        assert code == 1
        assert "cannot take the metadata of an image" in program.stdout
    assert venice.totals()["charges"] == 0
    assert place.once()[0] == 0
    is_kept(told(place.outbox / "a.png"))


KILLED_ONCE_PUBLISHED = """
import os, signal
from venice_watch.files import place
real = place.publish
def publish(*args, **kwargs):
    real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
place.publish = publish
"""

A_BUG_IN_EXIF = """
from venice_watch.images import exif
def correct(*args, **kwargs):
    raise ArithmeticError
exif.correct = correct
"""

NO_ROOM_IN_THE_SPOOL = """
import errno, os
real = os.fsync
def fsync(descriptor):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".meta"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    return real(descriptor)
os.fsync = fsync
"""


@contextlib.contextmanager
def hooked(place: "Place", code: str) -> Iterator[None]:
    """Let every process that is started run this first."""
    hook = place.root / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(code)
    before = place.environment.get("PYTHONPATH", "")
    place.environment["PYTHONPATH"] = f"{hook}:{before}"
    try:
        yield
    finally:
        place.environment["PYTHONPATH"] = before
