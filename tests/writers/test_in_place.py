"""Programs that write straight under the final name: slowly, in pieces, over and over."""

import mmap
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.component.conftest import wait_until
from tests.writers.conftest import kind_of, need, noise, run, sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.writers.conftest import Desk

PAUSE_S = 0.4  # of a writer, between two pieces; longer than any quick verdict takes
PIECES = 4
KINDS = ["JPEG", "PNG", "WEBP", "BMP"]
ALL_KINDS = [*KINDS, "TIFF"]  # the last one has no end of its own


def pieces_of(data: bytes, count: int = PIECES) -> list[bytes]:
    """Return the bytes in so many pieces."""
    step = len(data) // count + 1
    return [data[start : start + step] for start in range(0, len(data), step)]


def test_drip(desk: "Desk") -> None:
    """Files that one process each fills for seconds, formats without an end among them."""
    files = {f"{kind}.{kind}".lower(): noise(3_000, kind) for kind in ALL_KINDS}
    writers = {name: (desk.inbox / name).open("wb", buffering=0) for name in files}
    pieces = {name: pieces_of(data, 8) for name, data in files.items()}
    for number in range(8):
        for name, writer in writers.items():
            writer.write(pieces[name][number])
        time.sleep(PAUSE_S)
    desk.untouched()
    for writer in writers.values():
        writer.close()
    desk.settle(files)


@pytest.mark.parametrize("kind", KINDS)
def test_appended(desk: "Desk", kind: str) -> None:
    """A file that is opened, appended to and closed again and again is sent when it has its end."""
    name, data = f"appended.{kind.lower()}", noise(3_100, kind)
    for piece in pieces_of(data):
        time.sleep(PAUSE_S)
        with (desk.inbox / name).open("ab") as writer:
            writer.write(piece)
    desk.settle({name: data})


@pytest.mark.parametrize(
    ("tool", "kind"),
    [("truncate", "JPEG"), ("truncate", "BMP"), *(("fallocate", kind) for kind in ALL_KINDS)],
)
def test_allocated(desk: "Desk", tool: str, kind: str) -> None:
    """A file that has its whole size from the start is sent once it is filled."""
    program = need(tool, "util-linux" if tool == "fallocate" else "coreutils")
    name, data = f"allocated.{kind.lower()}", noise(3_200 + len(tool), kind)
    target = desk.inbox / name
    run(program, "-l" if tool == "fallocate" else "-s", str(len(data)), target)
    desk.untouched()
    half = len(data) // 2
    with target.open("r+b") as writer:
        writer.write(data[:half])
    time.sleep(PAUSE_S)
    desk.untouched()
    with target.open("r+b") as writer:
        writer.seek(half)
        writer.write(data[half:])
    desk.settle({name: data})


def test_touched_first(desk: "Desk") -> None:
    """An empty file, closed and written later, is nothing until then."""
    data = noise(3_300, "JPEG")
    source, target = desk.prepare("source.jpg", data), desk.inbox / "touched.jpg"
    run("touch", target)
    desk.untouched()
    run("sh", "-c", 'cat "$0" > "$1"', source, target)
    desk.settle({target.name: data})


def test_renamed_when_done(desk: "Desk") -> None:
    """A temporary name is left alone, however whole it looks; its rename is the arrival."""
    data = noise(3_400)
    temporary = desk.inbox / ".syncthing.cat.png.tmp"
    temporary.write_bytes(data)
    desk.untouched()
    temporary.rename(desk.inbox / "cat.png")
    desk.settle({"cat.png": data})


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_renamed_while_open(desk: "Desk", kind: str) -> None:
    """A file that gets its final name while it is still being written is taken once closed."""
    name, data = f"cat.{kind.lower()}", noise(3_500, kind)
    half = len(data) // 2
    with (desk.inbox / "cat.tmp").open("wb", buffering=0) as writer:
        writer.write(data[:half])
        (desk.inbox / "cat.tmp").rename(desk.inbox / name)
        desk.untouched()
        writer.write(data[half:])
        desk.untouched()
    desk.settle({name: data})


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_mapped(desk: "Desk", kind: str) -> None:
    """A file that is filled through memory is waited for, though its descriptor is closed."""
    name, data = f"mapped.{kind.lower()}", noise(3_600, kind)
    descriptor = os.open(desk.inbox / name, os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, len(data))
    with mmap.mmap(descriptor, len(data)) as memory:
        os.close(descriptor)  # the mapping has one of its own
        half = len(data) // 2
        # the end first: nothing but the kernel knows that it is not whole
        memory[half:] = data[half:]
        desk.untouched()
        memory[:half] = data[:half]
        memory.flush()
    desk.settle({name: data})


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_convert(desk: "Desk", kind: str) -> None:
    """ImageMagick's convert creates, closes, and only then writes."""
    convert = need("convert", "imagemagick")
    source = desk.prepare("source.png", noise(3_700 + ord(kind[0])))
    name = f"made.{kind.lower()}"
    run(convert, source, desk.work / name)  # the same bytes, elsewhere
    run(convert, source, desk.inbox / name)
    desk.settle({name: (desk.work / name).read_bytes()})


def test_webcam(desk: "Desk") -> None:
    """Of a file that ffmpeg writes over and over, whole versions are sent once; the last one is."""
    ffmpeg = need("ffmpeg", "ffmpeg")
    film = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=2", "-t", "4", "-q:v", "2")
    usual = (ffmpeg, "-loglevel", "error", "-nostdin")
    run(*usual, *film, desk.work / "frame%02d.jpg")  # every version, elsewhere
    frames = [path.read_bytes() for path in sorted(desk.work.glob("frame*.jpg"))]
    run(*usual, "-re", *film, "-update", "1", "-y", desk.inbox / "cam.jpg")
    digests = [sha256(frame) for frame in frames]
    wait_until(lambda: digests[-1] in desk.requests(), "the last picture was sent")
    wait_until(lambda: not desk.left(), "the last picture is put away")
    requests = desk.requests()
    assert set(requests) <= set(digests)
    assert len(requests) == len(set(requests))
    originals = [data for name, data in desk.place.read("archive").items() if desk.name in name]
    assert {sha256(data) for data in originals} <= set(requests)
    assert digests[-1] in map(sha256, originals)
    assert set(map(kind_of, originals)) == {"JPEG"}


EXIFTOOL = ["-overwrite_original", "-overwrite_original_in_place", "-preserve", "-quiet"]


@pytest.mark.parametrize("option", EXIFTOOL)
def test_exiftool(desk_of: "Callable[..., Desk]", option: str) -> None:
    """A kept original that exiftool changes is a new version; its backup copy is none."""
    exiftool = need("exiftool", "libimage-exiftool-perl")
    desk = desk_of(f"exiftool{option.replace('_', '-')}", room="kept")
    first = noise(3_800 + EXIFTOOL.index(option), "JPEG")
    target = desk.inbox / "cat.jpeg"
    run("cp", desk.prepare("cat.jpeg", first), target)
    desk.wait_at_rest({"cat.jpeg"})
    run(exiftool, option, "-Comment=other", target)
    second = target.read_bytes()
    assert second != first
    wait_until(lambda: sha256(second) in desk.requests(), "the new version was sent")
    desk.wait_at_rest({"cat.jpeg", "cat.jpeg again"})
    desk.let_pass()
    assert desk.requests() == [sha256(first), sha256(second)]
    assert desk.results(outbox="kept-outbox") == ["cat-1.png", "cat.png"]
    assert len(desk.jobs()) == 2  # the backup copy that exiftool left is none


def test_exiftool_on_arrival(desk: "Desk") -> None:
    """A file that exiftool changes as soon as it is there is sent as it was, or as it is then."""
    exiftool = need("exiftool", "libimage-exiftool-perl")
    first = noise(3_900, "JPEG")
    source, target = desk.prepare("cat.jpeg", first), desk.inbox / "cat.jpeg"
    change = f'"{exiftool}" -q -overwrite_original -Comment=other'
    # the daemon may have put it away before exiftool opens it
    run("sh", "-c", f'cp "$0" "$1" && {{ {change} "$1" || true; }}', source, target)
    run("sh", "-c", f'{change} "$0"', source)
    desk.wait_at_rest(set())
    requests = desk.requests()
    assert set(requests) <= {sha256(first), sha256(source.read_bytes())}
    assert len(requests) == len(set(requests))
    archived = [data for name, data in desk.place.read("archive").items() if desk.name in name]
    assert {sha256(data) for data in archived} <= set(requests)
