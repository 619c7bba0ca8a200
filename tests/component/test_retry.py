"""`retry`: quarantined files go back where they came from, once, and nothing is replaced."""

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

SMALL = (40, 40)


def _quarantine(place: "Place", draw: "Draw", *names: str) -> dict[str, bytes]:
    """Let these files be quarantined; return them by name."""
    pictures = {name: draw(number + 1, SMALL) for number, name in enumerate(names)}
    for name, data in pictures.items():
        place.drop(name, data)
    assert place.once()[0] == 1
    assert place.names("quarantine") == {*names, *(f"{name}.error.json" for name in names)}
    return pictures


def _retry(place: "Place", *arguments: object, code: int = 0) -> list[str]:
    program = place.run("retry", *map(str, arguments))
    assert program.wait() == code, program.stdout + program.stderr
    return program.stdout.splitlines()


@pytest.mark.parametrize(
    "named",
    [
        lambda place: place.quarantine / "sub/a.png",
        lambda place: place.quarantine / "sub/a.png.error.json",
        lambda _place: "quarantine/sub/a.png",
        lambda _place: "sub/a.png",
        lambda _place: "a.png",
        lambda _place: "a.png.error.json",
    ],
    ids=["file", "report", "from here", "in the quarantine", "bare", "bare report"],
)
def test_one_file(place: "Place", draw: "Draw", named: "Callable[[Place], object]") -> None:
    """However it is named, the file is in its place again with its bytes, its report gone."""
    pictures = _quarantine(place, draw, "sub/a.png", "b.png")
    (place.inbox / "sub").rmdir()
    mtime = (place.quarantine / "sub/a.png").stat().st_mtime_ns
    [line] = _retry(place, named(place))
    assert line == "photos: sub/a.png is back in the inbox"
    assert place.read("inbox") == {"sub/a.png": pictures["sub/a.png"]}
    assert (place.inbox / "sub/a.png").stat().st_mtime_ns == mtime
    assert place.names("quarantine") == {"b.png", "b.png.error.json"}
    assert "venice-watch run" in place.programs[-1].stderr


def test_all_and_what_the_daemon_makes_of_it(
    place: "Place", venice: "Venice", draw: "Draw"
) -> None:
    """--all takes back what has a report of ours; the daemon then does it as a new image."""
    venice.fail("bad_request", times=2)
    pictures = place.drop_many(2)
    assert place.once()[0] == 1
    (place.quarantine / "mine.png").write_bytes(draw(7))
    (place.quarantine / "odd.png").write_bytes(draw(8))
    (place.quarantine / "odd.png.error.json").write_text('{"code": "mine"}')
    lines = _retry(place, "--all")
    assert lines == [f"photos: {name} is back in the inbox" for name in sorted(pictures)]
    assert place.read("inbox") == pictures
    assert place.names("quarantine") == {"mine.png", "odd.png", "odd.png.error.json"}
    code, _ = place.once()
    assert code == 0
    assert place.names("outbox") == set(pictures)
    assert place.ask(
        "SELECT count(*) FROM jobs WHERE state = 'discarded' AND original_path IS NULL"
    )[0] == (2,)
    assert _retry(place, "--all") == ["nothing is in the quarantine"]


def test_beside_a_daemon(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A running daemon takes up what comes back; what fails again has a new report."""
    venice.fail("bad_request", times=1)
    daemon = place.ready()
    place.drop("a.png", draw(1))
    place.drop("small.png", draw(2, SMALL))
    place.wait_names("quarantine", {"a.png.error.json", "small.png.error.json"})
    earlier = place.report("small.png")["job"]
    lines = _retry(place, "--all")
    assert len(lines) == 2
    assert place.programs[-1].stderr == ""
    place.wait_names("outbox", {"a.png"})
    place.wait_rows(
        "SELECT 1 FROM jobs WHERE path = CAST('small.png' AS BLOB) AND code = 'too_small'", 2
    )
    place.wait_names("quarantine", {"small.png", "small.png.error.json"})
    assert place.report("small.png")["job"] != earlier
    assert daemon.stop() == 0
    assert place.names("quarantine") == {"small.png", "small.png.error.json"}
    assert place.names("inbox") == set()


def test_a_file_without_a_report(place: "Place", draw: "Draw") -> None:
    """What has no report goes back only if it is named, to the same path in the inbox."""
    (place.quarantine / "sub").mkdir()
    (place.quarantine / "sub/mine.png").write_bytes(draw(1))
    assert _retry(place, "--all") == ["nothing is in the quarantine"]
    assert _retry(place, "sub/mine.png") == ["photos: sub/mine.png is back in the inbox"]
    assert place.names("inbox") == {"sub/mine.png"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders for others")
def test_folders_made_by_root(place: "Place", draw: "Draw") -> None:
    """Sub-folders that root makes belong to whom the inbox belongs: the service must move files."""
    _quarantine(place, draw, "one/two/a.png")
    (place.inbox / "one/two").rmdir()
    (place.inbox / "one").rmdir()
    os.chown(place.inbox, 4711, 4712)
    place.inbox.chmod(0o2775)
    assert len(_retry(place, "--all")) == 1
    for folder in (place.inbox / "one", place.inbox / "one/two"):
        status = folder.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (4711, 4712, 0o2775)


def test_a_name_that_is_taken(place: "Place", draw: "Draw") -> None:
    """Nothing is replaced: the file stays with its report, and the others go."""
    _quarantine(place, draw, "a.png", "b.png")
    place.drop("a.png", b"another")
    lines = _retry(place, "--all", code=1)
    assert lines[0].startswith(f"{place.quarantine / 'a.png'} stays: {place.inbox / 'a.png'} is ")
    assert lines[1] == "photos: b.png is back in the inbox"
    assert (place.inbox / "a.png").read_bytes() == b"another"
    assert place.names("quarantine") == {"a.png", "a.png.error.json"}


def test_the_source_of_a_numbered_file(place: "Place", draw: "Draw") -> None:
    """A file that was given another name in the quarantine gets its own back."""
    _quarantine(place, draw, "a.png")
    place.drop("a.png", draw(9, SMALL))
    place.once()
    assert "a-1.png" in place.names("quarantine")
    assert _retry(place, "a-1.png") == ["photos: a.png is back in the inbox"]
    assert place.read("inbox") == {"a.png": draw(9, SMALL)}


@pytest.mark.parametrize(
    "source",
    ["../outside.png", "/tmp/outside.png", "a/../../b.png", "", ".", "sub//x.png", "a\0b", 7, None,
     "\ud800.png", ".hidden.png", "x.part"],
)  # fmt: skip
def test_a_report_that_was_tampered_with(place: "Place", draw: "Draw", source: object) -> None:
    """A report cannot send a file anywhere but to a name in the inbox that is taken there."""
    _quarantine(place, draw, "a.png")
    report = place.quarantine / "a.png.error.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"source": source}))
    before = sorted(place.root.rglob("*"))
    [line] = _retry(place, "a.png", code=1)
    assert line.startswith("a.png stays: ")
    assert sorted(place.root.rglob("*")) == before


def test_a_link_in_the_inbox(place: "Place", draw: "Draw", tmp_path: "Path") -> None:
    """A sub-folder that became a link is not followed out of the inbox."""
    _quarantine(place, draw, "sub/a.png")
    (place.inbox / "sub").rmdir()
    (place.inbox / "sub").symlink_to(tmp_path)
    [line] = _retry(place, "--all", code=1)
    assert "is a link" in line
    assert (place.quarantine / "sub/a.png").exists()
    assert not (tmp_path / "a.png").exists()


def test_in_doubt(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """For what may be paid a second time that is said, and it is sent once more."""
    place.write(api={"on_in_doubt": "hold"})
    venice.fail("gateway_timeout", times=1)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 1
    [line] = _retry(place, "a.png")
    assert "may be paid for a second time" in line
    plan = json.loads(place.run("plan", "--json").stdout)
    assert plan["totals"]["send"] == 1
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png"}


def test_several_folders(place: "Place", draw: "Draw") -> None:
    """A shared quarantine gives each file back to its own folder; --folder takes one's only."""
    for name in ("in2", "out2"):
        (place.root / name).mkdir()
    common = {
        "preset": "photo",
        "quarantine": "quarantine",
        "archive": "archive",
        "settle": "300ms",
    }
    place.write(
        folders=[
            {"name": "one", "inbox": "inbox", "outbox": "outbox", **common},
            {"name": "two", "inbox": "in2", "outbox": "out2", **common},
        ]
    )
    place.drop("a.png", draw(1, SMALL))
    (place.root / "in2/b.png").write_bytes(draw(2, SMALL))
    assert place.once()[0] == 1
    assert _retry(place, "--all", "--folder", "two") == ["two: b.png is back in the inbox"]
    assert place.names("in2") == {"b.png"}
    assert _retry(place, "--all") == ["one: a.png is back in the inbox"]
    program = place.run("retry", "--all", "--folder", "tow")
    assert program.wait() == 2
    assert "did you mean `two`?" in program.stderr


def test_another_file_system(place: "Place", draw: "Draw", elsewhere: "Path") -> None:
    """From another file system the file is copied, compared and only then removed."""
    place.write(quarantine=str(elsewhere))
    data = draw(1, SMALL)
    place.drop("a.png", data)
    assert place.once()[0] == 1
    assert _retry(place, elsewhere / "a.png") == ["photos: a.png is back in the inbox"]
    assert place.read("inbox") == {"a.png": data}
    assert list(elsewhere.iterdir()) == []


def test_another_file_system_after_a_crash(place: "Place", draw: "Draw", elsewhere: "Path") -> None:
    """A copy that was placed before a crash serves: doing it again leaves the file once."""
    place.write(quarantine=str(elsewhere))
    data = draw(1, SMALL)
    place.drop("a.png", data)
    assert place.once()[0] == 1
    shutil.copy2(elsewhere / "a.png", place.inbox / "a.png")
    assert _retry(place, "--all") == ["photos: a.png is back in the inbox"]
    assert place.read("inbox") == {"a.png": data}
    assert list(elsewhere.iterdir()) == []


def test_an_inbox_that_is_away(place: "Place", draw: "Draw") -> None:
    """A missing inbox is not made: the file stays where it is."""
    _quarantine(place, draw, "a.png")
    place.inbox.rmdir()
    [line] = _retry(place, "a.png", code=1)
    assert "is its share mounted?" in line
    assert place.names("quarantine") == {"a.png", "a.png.error.json"}


def test_wrong_input(place: "Place", draw: "Draw") -> None:
    """Neither FILE nor --all, both, a stranger, an ambiguous name: each says what to do."""
    for arguments in ((), ("--all", "a.png")):
        program = place.run("retry", *arguments)
        assert program.wait() == 2
        assert "--all" in program.stderr
    [line] = _retry(place, "a.png", code=1)
    assert line == f"a.png stays: there is no such file in the quarantine {place.quarantine}"
    assert _retry(place, place.config, code=1)[0].startswith(f"{place.config} stays: there is no ")
    assert _retry(place, "../venice-watch.yaml", code=1)
    assert place.config.exists()
    _quarantine(place, draw, "one/a.png", "two/a.png")
    [line] = _retry(place, "a.png", code=1)
    assert "there are 2 of that name" in line
    assert str(place.quarantine / "one/a.png") in line


def test_odd_names(place: "Place", draw: "Draw") -> None:
    """A name that is not UTF-8 or has line ends is one line, and comes back as it was."""
    name = "a\n\x1b[31m\udcff.png"
    _quarantine(place, draw, name)
    assert _retry(place, "--all") == [r"photos: a\n\x1b[31m\udcff.png is back in the inbox"]
    assert place.names("inbox") == {name}
