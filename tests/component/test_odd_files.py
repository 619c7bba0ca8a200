"""What is no good image ends where it belongs with a reason, and the next good one is done."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

GOOD = "zz-good.png"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="500" height="500"><rect width="9"/></svg>'
ODD_NAMES = {
    "newline": "two\nlines.png",
    "emoji": "\N{SMILING FACE WITH SUNGLASSES} \N{CAT FACE}.png",
    "not-utf8": os.fsdecode(b"caf\xe9-\xff.png"),
    "dash": "-rf.png",
    "quotes": "a \"b\" 'c' $(d) `e` {f}.png",
    "markup": "[bold]x[/bold] %s %(n)d.png",
    "escape": "\x1b[31mred\x1b[0m.png",
    "dots": "a..b...png",
}
JUNK = (
    ".hidden.png",
    "._photo.png",
    "~$photo.png",
    "photo.png.part",
    "photo.png.crdownload",
    "photo.png~",
    "Thumbs.db",
    "photo.sync-conflict-20260101.png",
    "@eaDir/photo.png",
    ".git/photo.png",
    "__MACOSX/photo.png",
    ".venice-watch-left-over.png",
)


def damage(data: bytes) -> bytes:
    """Return the file with zeros in its middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(40) + data[middle + 40 :]


def make_bad(draw: "Draw") -> dict[str, tuple[bytes, str, str]]:
    """Return files that must be refused: bytes, code, and a word of the reason."""
    jpeg = draw(1, (600, 400), "JPEG")
    return {
        "damaged.png": (damage(draw(2)), "corrupt", "damaged"),
        "text.jpg": (b"Dear diary, this is no picture.\n" * 40, "corrupt", ""),
        "empty.png": (b"", "incomplete", "empty"),
        "short.jpg": (jpeg[: len(jpeg) * 2 // 3], "incomplete", "end is missing"),
        "small.png": (draw(3, (255, 255)), "too_small", "65,536"),
        "narrow.png": (draw(4, (63, 4000)), "too_small", "64 a side"),
        "drawing.svg": (SVG, "unsupported_format", "SVG"),
    }


@pytest.mark.parametrize("command", ["run", "once"])
def test_bad_images(place: "Place", draw: "Draw", venice: "Venice", command: str) -> None:
    """Each bad image goes into the quarantine with its code and reason, free; the good one is done.

    The report's message begins with the file's name, so that it can be read by itself.
    """
    place.write(incomplete_after="1s")
    bad = make_bad(draw)
    for name, (data, _, _) in bad.items():
        place.drop(name, data)
    place.drop(GOOD, draw(9))
    program = place.start(command)
    place.wait_names("outbox", {GOOD})
    program.wait_event("image.quarantined", len(bad))
    place.wait_names("quarantine", {f"{name}.error.json" for name in bad})
    if command == "run":
        program.wait_event("image.completed")
        place.drop("later.png", draw(10))  # the daemon goes on
        place.wait_names("outbox", {"later.png"})
        assert program.stop() == 0
    else:
        assert program.wait() == 1
        assert f"1 upscaled, {len(bad)} quarantined, 0.02 USD" in program.stdout
    expected = {name: data for name, (data, _, _) in bad.items()}
    reports = {f"{name}.error.json" for name in bad}
    kept = place.read("quarantine")
    assert {name: data for name, data in kept.items() if name not in reports} == expected
    assert set(kept) == set(expected) | reports
    for name, (_, code, word) in bad.items():
        report = place.report(name)
        assert report["code"] == code, report
        assert report["message"].startswith(f"{name}: ")
        assert word in report["message"]
        assert (report["source"], report["folder"]) == (name, "photos")
        assert (report["charged_usd"], report["attempts"]) == (0, [])
    assert place.names("inbox") == set()
    assert venice.totals()["charges"] == (2 if command == "run" else 1)


@pytest.mark.parametrize(
    ("oversize", "size"), [("reduce", (5016, 3344)), ("clamp", None), ("reject", None)]
)
def test_forty_megapixels(
    place: "Place", draw: "Draw", oversize: str, size: tuple[int, int] | None
) -> None:
    """An image of 40 megapixels is made smaller by default, and refused where that is asked for.

    Beyond the result's limit there is no scale above 1 to clamp to.
    """
    if oversize != "reduce":
        place.write(oversize=oversize)
    place.drop("huge.jpg", draw(1, (7746, 5164), "JPEG"))
    code, _ = place.once()
    if size is None:
        assert code == 1
        report = place.report("huge.jpg")
        assert report["code"] == "too_large"
        assert "megapixels" in report["message"]
        assert place.names("outbox") == set()
    else:
        assert code == 0
        [(width, height)] = place.sizes().values()
        assert 16_700_000 < width * height <= 16_777_216
        assert abs(width / height - 1.5) < 0.001


def test_clamp(place: "Place", draw: "Draw", venice: "Venice") -> None:
    """With `oversize: clamp` an image of 9 megapixels is sent whole, at the scale that fits."""
    place.write(oversize="clamp")
    data = draw(1, (3600, 2500), "JPEG")
    place.drop("large.jpg", data)
    assert place.once()[0] == 0
    [record] = venice.upscales()
    assert (record["width"], record["height"]) == (3600, 2500)
    assert 1 < record["scale"] < 2
    [(width, height)] = place.sizes().values()
    assert 16_000_000 < width * height <= 16_777_216


def test_no_files_of_ours(place: "Place", draw: "Draw", venice: "Venice") -> None:
    """Links, folders with an image's name, pipes and sockets are left where they are, unopened."""
    secret = place.root / "elsewhere.png"
    secret.write_bytes(draw(5))
    (place.inbox / "link.png").symlink_to(secret)
    (place.inbox / "dangling.png").symlink_to("nowhere")
    (place.inbox / "linked").symlink_to(place.root / "somewhere")
    (place.inbox / "folder.png").mkdir()
    os.mkfifo(place.inbox / "pipe.png")
    before = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(place.inbox)  # a socket's path may have 108 bytes only
        try:
            server.bind("socket.png")
        finally:
            os.chdir(before)
    place.drop("notes.txt", b"buy milk\n")
    place.drop("no ending", draw(6))
    daemon = place.ready()
    daemon.wait_event("file.skipped", path="link.png")
    place.wait_names("outbox", {"no ending.png"})
    place.drop(GOOD, draw(9))
    place.wait_names("outbox", {GOOD})
    daemon.wait_event("image.completed", 2)
    assert daemon.stop() == 0
    left = {"link.png", "dangling.png", "linked", "pipe.png", "socket.png", "notes.txt"}
    assert place.names("inbox") == left
    assert (place.inbox / "folder.png").is_dir()
    assert place.names("quarantine") == set()
    assert venice.totals()["charges"] == 2


def test_unknown_files(place: "Place", draw: "Draw") -> None:
    """With `unknown_files: quarantine` a file that is no image is put aside with a reason."""
    place.write(unknown_files="quarantine")
    place.drop("notes.txt", b"buy milk\n")
    place.drop(GOOD, draw(9))
    assert place.once()[0] == 1
    assert place.names("outbox") == {GOOD}
    assert place.read("quarantine")["notes.txt"] == b"buy milk\n"
    report = place.report("notes.txt")
    assert report["code"] == "unknown_file"
    assert "no image" in report["message"]


def test_junk(place: "Place", draw: "Draw", venice: "Venice") -> None:
    """Hidden and temporary names of other programs are never touched."""
    before = {name: draw(number) for number, name in enumerate(JUNK)}
    for name, data in before.items():
        place.drop(name, data)
    place.drop(GOOD, draw(99))
    assert place.once()[0] == 0
    assert place.read("inbox") == before
    assert place.names("outbox") == {GOOD}
    assert venice.totals()["charges"] == 1


@pytest.mark.parametrize("command", ["run", "once"])
def test_odd_names(place: "Place", draw: "Draw", command: str) -> None:
    """A name may hold anything a file system allows; results have tame names, originals theirs."""
    names = set(ODD_NAMES.values()) | {f"sub {name}/{name}" for name in ODD_NAMES.values()}
    before = {name: draw(number) for number, name in enumerate(sorted(names))}
    for name, data in before.items():
        place.drop(name, data)
    program = place.start(command)
    place.wait_names("archive", names)
    program.wait_event("image.completed", len(names))
    assert (program.stop() if command == "run" else program.wait()) == 0
    folders, stems = zip(*(os.path.split(name) for name in sorted(names)), strict=True)
    tame = [stem.replace("\n", "_").replace("\x1b", "_") for stem in stems]
    results = {str(Path(folder, name)) for folder, name in zip(folders, tame, strict=True)}
    assert place.names("outbox") == results
    assert place.read("archive") == before
    status = place.run("status")
    assert status.wait() == 0
    assert "\x1b" not in status.stdout


@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
def test_longest_name(place: "Place", draw: "Draw", good: bool) -> None:  # noqa: FBT001 - pytest's way
    """A name of 255 bytes has room neither for a number nor for a report, and still arrives."""
    name = "\N{GREEK SMALL LETTER ALPHA}" * 125 + "x.png"
    assert len(os.fsencode(name)) == 255
    place.drop(name, draw(1) if good else damage(draw(1)))
    place.drop(GOOD, draw(9))
    code, _ = place.once()
    assert place.names("inbox") == set()
    if good:
        assert code == 0
        assert place.names("outbox") == {name, GOOD}
        assert place.names("archive") == {name, GOOD}
    else:
        assert code == 1
        assert place.names("outbox") == {GOOD}
        [report] = [one for one in place.names("quarantine") if one.endswith(".error.json")]
        quarantined = report.removesuffix(".error.json")
        assert place.names("quarantine") == {report, quarantined}
        assert quarantined.endswith(".png")
        assert name.startswith(quarantined.removesuffix(".png"))
        assert place.report(quarantined)["source"] == name


def test_longest_name_twice(place: "Place", draw: "Draw") -> None:
    """A second image with the longest of names gets a number all the same."""
    name = "n" * 251 + ".png"
    (place.outbox / name).write_bytes(b"mine")
    place.drop(name, draw(1))
    assert place.once()[0] == 0
    assert (place.outbox / name).read_bytes() == b"mine"
    assert len(place.names("outbox")) == 2
