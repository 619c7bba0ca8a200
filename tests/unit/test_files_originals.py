"""Putting originals away: nothing is lost, nothing is doubled, whatever happened before."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from venice_watch.files import originals
from venice_watch.files.originals import (
    NoFreeNameError,
    delete_original,
    put_away,
    remove_report,
    report_of,
)
from venice_watch.files.place import TEMPORARY
from venice_watch.files.source import SourceChangedError, SourceGoneError, sign
from venice_watch.job import Signature

OLD_NS = 1_234_567_890_123_456_789  # a time in 2009, to the nanosecond
REPORT = {"job": 7, "code": "corrupt"}


class Place:
    """An inbox with one original in it, and where it is to go."""

    def __init__(self, inbox: Path, archive: Path) -> None:
        self.inbox = inbox
        self.archive = archive
        self.path = "sub/cat.jpg"
        self.source = inbox / self.path
        self.source.parent.mkdir()
        self.source.write_bytes(b"original")
        os.utime(self.source, ns=(OLD_NS, OLD_NS))
        self.source.chmod(0o640)
        self.signature = sign(self.source.stat())

    def put_away(self, report: dict[str, object] | None = None) -> Path:
        """Move the original as the pipeline does."""
        return put_away(
            self.inbox,
            self.path,
            self.signature,
            target_root=self.archive,
            name_for=name_for,
            report=report,
        )

    def at(self, number: int) -> Path:
        """Return its n-th name."""
        return self.archive / name_for(number)

    def drop(self, data: bytes) -> None:
        """Put another file where the original is or was."""
        newcomer = self.inbox / "newcomer"
        newcomer.write_bytes(data)
        newcomer.replace(self.source)

    def tree(self) -> dict[str, bytes]:
        """Return every file of both folders."""
        return {
            f"{root.name}/{path.relative_to(root)}": path.read_bytes()
            for root in (self.inbox, self.archive)
            for path in root.rglob("*")
            if path.is_file()
        }


def name_for(number: int) -> str:
    """Return the n-th name to try."""
    return f"sub/cat_{number}.jpg" if number else "sub/cat.jpg"


@pytest.fixture(params=["same", "other"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a place whose archive is on the same and on another file system."""
    if request.param == "other":
        archive = request.getfixturevalue("elsewhere") / "archive"
    else:
        archive = tmp_path / "archive"
    archive.mkdir()
    (tmp_path / "inbox").mkdir()
    return Place(tmp_path / "inbox", archive)


@pytest.fixture
def near(tmp_path: Path) -> Place:
    """Return a place on one file system."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "inbox").mkdir()
    return Place(tmp_path / "inbox", tmp_path / "archive")


@pytest.fixture
def far(tmp_path: Path, elsewhere: Path) -> Place:
    """Return a place whose archive is on another file system."""
    (elsewhere / "archive").mkdir()
    (tmp_path / "inbox").mkdir()
    return Place(tmp_path / "inbox", elsewhere / "archive")


def test_moved(place: Place) -> None:
    """An original keeps its bytes, its times and its mode, and leaves nothing behind."""
    assert place.put_away() == place.at(0)
    assert place.tree() == {"archive/sub/cat.jpg": b"original"}
    status = place.at(0).stat()
    assert (status.st_mtime_ns, status.st_mode & 0o777) == (OLD_NS, 0o640)


def _file(path: Path) -> None:
    path.write_bytes(b"original")  # even the same bytes: it may be somebody's only copy


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [_file, _folder, _link])
@pytest.mark.parametrize("report", [None, REPORT])
def test_name_taken(
    place: Place, make: Callable[[Path], None], report: dict[str, object] | None
) -> None:
    """A name that is taken, by whatever, is left as it is, and the next one is used."""
    (place.archive / "sub").mkdir()
    make(place.at(0))
    make(place.at(1))
    kept = [place.at(number).lstat() for number in (0, 1)]
    assert place.put_away(report) == place.at(2)
    assert place.at(2).read_bytes() == b"original"
    assert [place.at(number).lstat() for number in (0, 1)] == kept
    assert not report_of(place.at(0)).exists()
    assert report_of(place.at(2)).exists() is (report is not None)


def test_report(place: Place) -> None:
    """A quarantined file has its report beside it."""
    target = place.put_away(REPORT)
    assert json.loads(report_of(target).read_bytes()) == REPORT
    assert report_of(target).name == "cat.jpg.error.json"
    remove_report(target)
    remove_report(target)
    assert place.tree() == {"archive/sub/cat.jpg": b"original"}


def test_anothers_report(place: Place) -> None:
    """A report without its file still holds its name: it is not replaced."""
    (place.archive / "sub").mkdir()
    report_of(place.at(0)).write_text('{"job": 1}')
    report_of(place.at(1)).write_text("no JSON")
    assert place.put_away(REPORT) == place.at(2)
    assert report_of(place.at(0)).read_text() == '{"job": 1}'
    assert report_of(place.at(1)).read_text() == "no JSON"


def test_report_of_an_equal_number(place: Place) -> None:
    """A file in the quarantine keeps its report, though it has our job's number.

    Numbers begin anew with a new state folder.
    """
    (place.archive / "sub").mkdir()
    place.at(0).write_bytes(b"older")
    report_of(place.at(0)).write_text('{"job": 7, "code": "older"}')
    assert place.put_away(REPORT) == place.at(1)
    assert json.loads(report_of(place.at(0)).read_bytes())["code"] == "older"
    assert json.loads(report_of(place.at(1)).read_bytes()) == REPORT


# Crashes.


@pytest.mark.parametrize("report", [None, REPORT])
@pytest.mark.parametrize("taken", [0, 2])
def test_crash_after_the_move(place: Place, report: dict[str, object] | None, taken: int) -> None:
    """Done again after a crash, the move is found, under whatever number, report and all."""
    (place.archive / "sub").mkdir()
    for number in range(taken):
        place.at(number).write_bytes(b"older")
    assert place.put_away(report) == place.at(taken)
    before = place.tree()
    assert place.put_away(report) == place.at(taken)
    assert place.tree() == before


@pytest.mark.parametrize("report", [None, REPORT])
def test_crash_after_the_move_and_a_newcomer(
    place: Place, report: dict[str, object] | None
) -> None:
    """A new file dropped since the crash stays where it is, and the earlier move is found."""
    assert place.put_away(report) == place.at(0)
    place.drop(b"newcomer")
    before = place.tree()
    assert place.put_away(report) == place.at(0)
    assert place.tree() == before


def test_crash_between_report_and_move(place: Place) -> None:
    """A report that was written before the crash serves, and the file follows it."""
    (place.archive / "sub").mkdir()
    report_of(place.at(0)).write_text(json.dumps(REPORT))
    assert place.put_away(REPORT) == place.at(0)
    assert len(place.tree()) == 2


def test_crash_between_copy_and_removal(far: Place) -> None:
    """A copy placed before the crash is not made again: the original just goes."""
    (far.archive / "sub").mkdir()
    far.at(0).write_bytes(b"original")
    os.utime(far.at(0), ns=(OLD_NS, OLD_NS))
    assert far.put_away() == far.at(0)
    assert far.tree() == {"archive/sub/cat.jpg": b"original"}


def test_linked_to_its_own_copy(near: Place) -> None:
    """A file linked into the archive before a crash loses its first name, and is not doubled."""
    (near.archive / "sub").mkdir()
    near.at(0).hardlink_to(near.source)
    assert near.put_away() == near.at(0)
    assert near.tree() == {"archive/sub/cat.jpg": b"original"}


def test_linked_to_its_own_copy_with_a_report(near: Place) -> None:
    """The same in the quarantine: one file, one report."""
    (near.archive / "sub").mkdir()
    near.at(0).hardlink_to(near.source)
    report_of(near.at(0)).write_text(json.dumps(REPORT))
    assert near.put_away(REPORT) == near.at(0)
    assert len(near.tree()) == 2


# What is no longer what it was.


@pytest.mark.parametrize("report", [None, REPORT])
def test_gone(place: Place, report: dict[str, object] | None) -> None:
    """A source that went away is reported as gone, and no report is left for it."""
    place.source.unlink()
    with pytest.raises(SourceGoneError):
        place.put_away(report)
    assert place.tree() == {}
    place.source.parent.rmdir()
    with pytest.raises(SourceGoneError):
        place.put_away(report)
    assert place.tree() == {}


@pytest.mark.parametrize("report", [None, REPORT])
def test_changed(place: Place, report: dict[str, object] | None) -> None:
    """Another version stays in the inbox: it has not been worked on."""
    place.drop(b"newcomer")
    with pytest.raises(SourceChangedError):
        place.put_away(report)
    assert place.tree() == {"inbox/sub/cat.jpg": b"newcomer"}


def test_became_a_link(place: Place) -> None:
    """A link in the original's stead is neither moved nor followed."""
    (place.inbox / "secret").write_bytes(b"secret")
    place.source.unlink()
    place.source.symlink_to("../secret")
    with pytest.raises(SourceChangedError):
        place.put_away()
    assert place.source.is_symlink()
    assert (place.inbox / "secret").read_bytes() == b"secret"


def test_folder_became_a_link(place: Place) -> None:
    """A folder that became a link is not followed to a file of the same name."""
    place.source.parent.rename(place.inbox / "moved")
    (place.inbox / "sub").symlink_to("moved")
    with pytest.raises(SourceGoneError):
        place.put_away()
    assert (place.inbox / "moved/cat.jpg").read_bytes() == b"original"


def test_inbox_away(place: Place) -> None:
    """An inbox whose share is away is trouble, and says nothing of the file."""
    place.inbox.rename(place.inbox.with_name("away"))
    with pytest.raises(FileNotFoundError):
        place.put_away()
    with pytest.raises(FileNotFoundError):
        delete_original(place.inbox, place.path, place.signature)


@pytest.mark.parametrize("report", [None, REPORT])
def test_archive_away(place: Place, report: dict[str, object] | None) -> None:
    """A missing archive is not made anew: the original waits in the inbox."""
    place.archive.rmdir()
    with pytest.raises(FileNotFoundError, match="mounted"):
        place.put_away(report)
    assert place.source.read_bytes() == b"original"
    assert not place.archive.exists()


def test_archive_in_trouble(place: Place) -> None:
    """A file where the archive's folder has to be leaves the original where it was."""
    (place.archive / "sub").write_bytes(b"")
    with pytest.raises(OSError, match=r"exists|directory"):
        place.put_away()
    assert place.source.read_bytes() == b"original"


def test_newcomer_during_the_move(near: Place) -> None:
    """A newcomer that was moved in the original's stead is put back, never over a third one."""
    near.at(0).parent.mkdir()
    near.drop(b"second")
    near.source.rename(near.at(0))  # as if it had come between the look and the move
    folder = os.open(near.source.parent, os.O_RDONLY)
    try:
        originals._put_back(os.fsencode(near.at(0)), folder, "cat.jpg")
        assert near.tree() == {"inbox/sub/cat.jpg": b"second"}
        near.source.rename(near.at(0))
        near.drop(b"third")
        originals._put_back(os.fsencode(near.at(0)), folder, "cat.jpg")
    finally:
        os.close(folder)
    assert near.tree() == {"inbox/sub/cat.jpg": b"third", "inbox/sub/cat-1.jpg": b"second"}


@pytest.mark.parametrize("report", [None, REPORT])
def test_newcomer_between_look_and_move(
    place: Place, report: dict[str, object] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that replaces the original in the very moment of its move stays in the inbox."""
    look = originals._check_version

    def look_and_replace(*arguments: object) -> None:
        look(*arguments)  # type: ignore[arg-type]
        if place.source.read_bytes() == b"original":
            place.drop(b"newcomer")

    monkeypatch.setattr(originals, "_check_version", look_and_replace)
    with pytest.raises(SourceChangedError):
        place.put_away(report)
    assert place.tree() == {"inbox/sub/cat.jpg": b"newcomer"}


def test_no_free_name(near: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder full of one name is an error that leaves everything as it was."""
    monkeypatch.setattr(originals, "NAMES_MAX", 3)
    near.at(0).parent.mkdir()
    for number in range(3):
        near.at(number).write_bytes(b"older")
    with pytest.raises(NoFreeNameError, match="no free name"):
        near.put_away(REPORT)
    assert near.source.read_bytes() == b"original"
    assert not [name for name in near.tree() if "error.json" in name]


def test_nothing_temporary(place: Place) -> None:
    """Whatever went wrong, no temporary name is left in either folder."""
    place.put_away(REPORT)
    with pytest.raises(SourceGoneError):
        put_away(
            place.inbox,
            "other.jpg",
            place.signature,
            target_root=place.archive,
            name_for=lambda _number: "other.jpg",
            report=REPORT,
        )
    assert not [name for name in place.tree() if TEMPORARY in name]


# Deleting.


def test_delete(near: Place) -> None:
    """Only the version that was worked on is deleted."""
    other = Signature(device=0, inode=0, size_bytes=8, mtime_ns=OLD_NS, ctime_ns=0)
    with pytest.raises(SourceChangedError):
        delete_original(near.inbox, near.path, other)
    assert near.source.exists()
    delete_original(near.inbox, near.path, near.signature)
    assert near.tree() == {}
    with pytest.raises(SourceGoneError):
        delete_original(near.inbox, near.path, near.signature)


def test_delete_spares_a_newcomer_of_the_moment(
    near: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that replaces the original in the very moment of its deletion stays."""
    look = originals._check_version

    def look_and_replace(*arguments: object) -> None:
        look(*arguments)  # type: ignore[arg-type]
        near.drop(b"newcomer")

    monkeypatch.setattr(originals, "_check_version", look_and_replace)
    with pytest.raises(SourceChangedError):
        delete_original(near.inbox, near.path, near.signature)
    assert near.tree() == {"inbox/sub/cat.jpg": b"newcomer"}


def die_while_deleting(place: Place) -> None:
    """Leave the source as a crash does between its renaming and its removal."""
    place.source.rename(place.source.with_name(originals._grave_name("cat.jpg", place.signature)))


def test_delete_after_a_crash(near: Place) -> None:
    """A deletion that a crash cut short is finished by doing it again."""
    die_while_deleting(near)
    delete_original(near.inbox, near.path, near.signature)
    assert near.tree() == {}


def test_delete_after_a_crash_and_a_newcomer(near: Place) -> None:
    """A file that was dropped since the crash stays when the deletion is finished."""
    die_while_deleting(near)
    near.drop(b"newcomer")
    delete_original(near.inbox, near.path, near.signature)
    assert near.tree() == {"inbox/sub/cat.jpg": b"newcomer"}


def test_newcomer_renamed_before_a_crash(near: Place) -> None:
    """A newcomer that a crash left under the name of what is to go gets its own name back."""
    near.drop(b"newcomer")
    die_while_deleting(near)
    with pytest.raises(SourceChangedError):
        delete_original(near.inbox, near.path, near.signature)
    assert near.tree() == {"inbox/sub/cat.jpg": b"newcomer"}


def test_copied_and_half_removed_before_a_crash(far: Place) -> None:
    """An original that was copied away, and not yet removed when it crashed, is removed."""
    far.at(0).parent.mkdir()
    shutil.copy2(far.source, far.at(0))
    die_while_deleting(far)
    assert far.put_away() == far.at(0)
    assert far.tree() == {"archive/sub/cat.jpg": b"original"}


def test_delete_spares_newcomers(near: Place) -> None:
    """A newcomer or a link of that name is not deleted."""
    near.drop(b"newcomer")
    with pytest.raises(SourceChangedError):
        delete_original(near.inbox, near.path, near.signature)
    near.source.unlink()
    near.source.symlink_to("nowhere")
    with pytest.raises(SourceChangedError):
        delete_original(near.inbox, near.path, near.signature)
    assert near.source.is_symlink()
