"""What becomes of originals, who decides on the parameters, and how a failed image comes back."""

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

TREE = ("a.png", "one/b.png", "one/two/c.png")


@pytest.mark.parametrize("originals", ["archive", "delete", "keep"])
def test_originals(place: "Place", venice: "Venice", draw: "Draw", originals: str) -> None:
    """Originals go where the folder says, sub-folders mirrored, and none is done again."""
    place.write(originals=originals, **({} if originals == "archive" else {"archive": None}))
    before = {name: draw(number) for number, name in enumerate(TREE)}
    for name, data in before.items():
        os.utime(place.drop(name, data), ns=(10**18, 10**18 + 5))
    assert place.once()[0] == 0
    assert place.names("outbox") == set(TREE)
    assert place.read("archive") == (before if originals == "archive" else {})
    assert place.read("inbox") == (before if originals == "keep" else {})
    kept = place.archive if originals == "archive" else place.inbox
    for path in kept.rglob("*.png"):
        assert path.stat().st_mtime_ns == 10**18 + 5
    assert place.once()[0] == 0
    daemon = place.ready()
    place.drop("new.png", draw(9))
    daemon.wait_event("image.completed")
    assert daemon.stop() == 0
    assert place.names("outbox") == {*TREE, "new.png"}
    assert venice.totals()["charges"] == len(TREE) + 1


def test_kept_and_changed(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """With `originals: keep`, new bytes under a name that was done are a new image."""
    place.write(originals="keep")
    path = place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    path.write_bytes(draw(2))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png", "a-1.png"}
    assert venice.totals()["charges"] == 2


def test_back_from_quarantine(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A quarantined file moved back by hand is tried again, and its report goes away."""
    venice.fail("rejected", times=1)
    data = draw(1)
    place.drop("sub/a.png", data)
    assert place.once()[0] == 1
    assert place.names("quarantine") == {"sub/a.png", "sub/a.png.error.json"}
    assert place.report("sub/a.png")["message"].startswith("a.png: ")
    daemon = place.ready()
    (place.quarantine / "sub/a.png").rename(place.inbox / "sub/a.png")
    place.wait_names("archive", {"sub/a.png"})
    assert daemon.stop() == 0
    assert place.names("outbox") == {"sub/a.png"}
    assert place.read("archive") == {"sub/a.png": data}
    assert place.names("quarantine") == set()
    assert venice.totals()["charges"] == 1


def test_back_and_refused_again(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A file that fails a second time is in the quarantine once, with the newer report."""
    venice.fail("rejected", times=1)
    venice.fail("bad_request", times=1)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 1
    assert "content policy" in place.report("a.png")["message"]
    (place.quarantine / "a.png").rename(place.inbox / "a.png")
    assert place.once()[0] == 1
    assert place.names("quarantine") == {"a.png", "a.png.error.json"}
    assert "Could not read image" in place.report("a.png")["message"]


def test_same_name_in_quarantine(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Two failed files of one name both stay, each with its own report."""
    venice.fail("rejected", times=2)
    before = [draw(1), draw(2)]
    for data in before:
        place.drop("a.png", data)
        assert place.once()[0] == 1
    kept = place.read("quarantine")
    assert set(kept) == {"a.png", "a.png.error.json", "a-1.png", "a-1.png.error.json"}
    assert [kept["a.png"], kept["a-1.png"]] == before


def test_same_name_in_archive(place: "Place", draw: "Draw") -> None:
    """A file of the user's in the archive is never overwritten by an original."""
    (place.archive / "a.png").write_bytes(b"mine")
    data = draw(1)
    place.drop("a.png", data)
    assert place.once()[0] == 0
    assert place.read("archive") == {"a.png": b"mine", "a-1.png": data}


def test_rules(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """The first rule that matches decides on the parameters, by name, format and size."""
    place.write(
        presets={"poster": {"scale": 4}},
        rules=[
            {"match": {"name": "*_logo.*"}, "set": {"scale": 3}},
            {"match": {"pixels_max": 70_000}, "preset": "poster"},
            {"match": {"format": "webp"}, "set": {"scale": 1.5}},
        ],
        output={"name": "{stem}-{preset}-{scale}x.{ext}"},
    )
    place.drop("small_logo.png", draw(1, (256, 256)))
    place.drop("small.png", draw(2, (256, 256)))
    place.drop("photo.webp", draw(3, (300, 300), "WEBP"))
    place.drop("other.png", draw(4, (300, 300)))
    assert place.once()[0] == 0
    assert place.sizes() == {
        "small_logo-photo-3x.png": (768, 768),
        "small-poster-4x.png": (1024, 1024),
        "photo-photo-1.5x.png": (450, 450),
        "other-photo-2x.png": (600, 600),
    }
    assert venice.totals()["charged_microusd"] == (80 + 80 + 20 + 20) * 1_000


def test_skip_rule(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A skipped image stays, is not looked at again, and is done once the rules want it."""
    place.write(rules=[{"match": {"name": "draft*"}, "skip": True}])
    data = draw(1)
    place.drop("draft.png", data)
    place.drop("final.png", draw(2))
    code, program = place.once()
    assert code == 0
    assert "1 skipped" in program.stdout
    assert place.read("inbox") == {"draft.png": data}
    code, program = place.once()
    assert code == 0
    assert "skipped" not in program.stdout
    assert place.ask("SELECT count(*) FROM jobs") == [(2,)]
    place.write()
    assert place.once()[0] == 0
    assert place.names("outbox") == {"draft.png", "final.png"}
    assert place.names("inbox") == set()
    assert venice.totals()["charges"] == 2


def test_folder_file(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A `.venice-watch.yaml` in the inbox decides for its folder and those below, if allowed."""
    place.write(presets={"poster": {"scale": 4}}, folder_presets=True)
    place.drop("big/.venice-watch.yaml", b"preset: poster\n")
    place.drop("big/less/.venice-watch.yaml", b"scale: 3\n")
    for number, name in enumerate(("a.png", "big/b.png", "big/less/c.png")):
        place.drop(name, draw(number))
    assert place.once()[0] == 0
    assert place.sizes() == {
        "a.png": (512, 512),
        "big/b.png": (1024, 1024),
        "big/less/c.png": (768, 768),
    }
    assert place.names("inbox") == {"big/.venice-watch.yaml", "big/less/.venice-watch.yaml"}
    assert venice.totals()["charges"] == 3


def test_folder_file_not_allowed(place: "Place", draw: "Draw") -> None:
    """Without `folder_presets` such a file changes nothing."""
    place.drop(".venice-watch.yaml", b"scale: 4\n")
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert place.sizes() == {"a.png": (512, 512)}


def test_folder_file_with_a_mistake(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A mistake in such a file holds its images and is told with file and line; nothing is paid."""
    place.write(folder_presets=True)
    place.drop("sub/.venice-watch.yaml", b"# mine\nscael: 4\n")
    place.drop("sub/a.png", draw(1))
    code, program = place.once()
    assert code == 1
    assert "sub/.venice-watch.yaml:2:1" in program.stdout
    assert "scale" in program.stdout
    assert venice.totals()["charges"] == 0
    assert "sub/a.png" in place.names("inbox")


def test_result_mode(place: "Place", draw: "Draw") -> None:
    """A result has the permissions that the folder says."""
    place.write(output={"mode": "0640"})
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert (place.outbox / "a.png").stat().st_mode & 0o777 == 0o640


def test_skip_what_cannot_be_read(place: "Place", venice: "Venice") -> None:
    """A rule may leave alone what could not even be read: raw files beside JPEGs, drawings."""
    place.write(
        rules=[
            {"match": {"name": "*.cr2"}, "skip": True},
            {"match": {"format": ["svg"]}, "skip": True},
            {"match": {"pixels_min": 10}, "skip": True},
        ]
    )
    place.drop("raw.cr2", b"II*\x00 no decoder for this")
    place.drop("logo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    place.drop("broken.png", b"\x89PNG\r\n\x1a\n and then nothing of the kind")
    code, program = place.once()
    assert code == 1
    assert "2 skipped" in program.stdout
    assert place.names("inbox") == {"raw.cr2", "logo.svg"}
    assert place.report("broken.png")["code"] in ("corrupt", "incomplete")
    assert venice.totals()["charges"] == 0


def test_taken_back_with_a_copy(place: "Place", draw: "Draw") -> None:
    """A file taken back and a copy of it, looked at side by side, meet no bug of ours."""
    damaged = bytearray(draw(1))
    damaged[60] ^= 0xFF
    place.write(settle="50ms")
    place.drop("a.png", bytes(damaged))
    assert place.once()[0] == 1
    for number in range(8):
        place.drop(f"copy{number}.png", bytes(damaged))
    (place.quarantine / "a.png").rename(place.inbox / "a.png")
    code, program = place.once()
    assert code == 1
    assert not program.find("job.bug")
    assert len(place.names("quarantine")) == 2 * 9
