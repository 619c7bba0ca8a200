"""What a look at an inbox brings back: its files, who writes them, where it is, what happened."""

import asyncio
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from watchdog.events import FileClosedEvent, FileCreatedEvent

from venice_watch.files.source import sign
from venice_watch.intake import look, mounts
from venice_watch.intake.look import (
    DEPTH_MAX,
    ask_for_writers,
    examine,
    is_ours,
    scan,
    sign_path,
)
from venice_watch.intake.observer import HINTS_MAX, NativeObserver
from venice_watch.settle import End, Writer

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IEND\xaeB`\x82"
NAME_NOT_TEXT = os.fsdecode(b"caf\xe9.png")
DEADLINE_S = 20.0


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Return an empty inbox."""
    path = tmp_path / "inbox"
    path.mkdir()
    return path


def write(path: Path, data: bytes = PNG) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# Scans.


def test_scan(inbox: Path) -> None:
    """Every file is found, at every depth, by any name, with its version."""
    names = {"a.png", "sub/b.png", "sub/sub/c", NAME_NOT_TEXT, "x\ny.png", "notes.txt"}
    for name in names:
        write(inbox / name)
    survey = scan(inbox, recursive=True)
    assert set(survey.files) == names
    assert all(survey.files[name] == sign((inbox / name).stat()) for name in names)
    assert survey.complete
    assert survey.devices == {inbox.stat().st_dev}
    assert set(scan(inbox, recursive=False).files) == {
        "a.png",
        NAME_NOT_TEXT,
        "x\ny.png",
        "notes.txt",
    }
    assert set(scan(inbox, "sub", recursive=True).files) == {"sub/b.png", "sub/sub/c"}


def test_absent(inbox: Path) -> None:
    """What is missing is gone, but for what was on a file system that the scan did not see."""
    write(inbox / "a.png")
    here = sign((inbox / "a.png").stat())
    known = {"a.png": here, "b.png": here, "mounted/c.png": replace(here, device=-1)}
    assert scan(inbox, recursive=True).absent(known) == ["b.png"]


def test_scan_skips(inbox: Path, tmp_path: Path) -> None:
    """Links, pipes, sockets and other programs' names are counted, and never followed or opened."""
    write(tmp_path / "outside" / "secret.png")
    (inbox / "link.png").symlink_to(tmp_path / "outside/secret.png")
    (inbox / "folder").symlink_to(tmp_path / "outside")
    (inbox / "loop").symlink_to(inbox)
    os.mkfifo(inbox / "pipe.png")
    write(inbox / "@eaDir" / "thumb.png")
    write(inbox / ".git" / "x.png")
    write(inbox / "cat.jpg.part")
    write(inbox / ".hidden.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(inbox / "socket.png"))
        survey = scan(inbox, recursive=True)
    assert survey.files == {}
    assert survey.skipped["symbolic link"] == 3
    assert survey.skipped["not a regular file"] == 2
    assert survey.skipped["system folder"] == 2
    assert (survey.skipped["temporary"], survey.skipped["hidden"]) == (1, 1)
    assert survey.complete


def test_scan_of_what_is_not_there(inbox: Path) -> None:
    """An inbox that cannot be read is an error, not an inbox without files."""
    with pytest.raises(FileNotFoundError):
        scan(inbox / "missing", recursive=True)
    with pytest.raises(NotADirectoryError):
        scan(write(inbox / "file"), recursive=True)


def test_scan_through_a_linked_root(inbox: Path, tmp_path: Path) -> None:
    """The inbox itself may be a link; folders below it may not."""
    write(inbox / "cat.png")
    (tmp_path / "link").symlink_to(inbox)
    assert set(scan(tmp_path / "link", recursive=True).files) == {"cat.png"}


def test_scan_is_bounded(inbox: Path) -> None:
    """Folders deeper than the limit are not entered."""
    deep = inbox.joinpath(*(["d"] * (DEPTH_MAX + 1)))
    write(deep / "cat.png")
    write(inbox.joinpath(*(["d"] * DEPTH_MAX)) / "cat.png")
    assert len(scan(inbox, recursive=True).files) == 1


@pytest.fixture
def _nobody() -> Iterator[None]:
    """Be nobody in particular, where this is root: root may read everything."""
    before = os.geteuid()
    if not before:
        os.seteuid(65_534)
    yield
    os.seteuid(before)


def test_scan_of_a_locked_folder(elsewhere: Path, request: pytest.FixtureRequest) -> None:
    """A folder that may not be read makes the scan incomplete, and names itself."""
    write(elsewhere / "a" / "cat.png")
    write(elsewhere / "open.png")
    elsewhere.chmod(0o755)
    (elsewhere / "a").chmod(0)
    request.getfixturevalue("_nobody")
    survey = scan(elsewhere, recursive=True)
    assert set(survey.files) == {"open.png"}
    assert not survey.complete
    assert survey.troubles == ["a: Permission denied"]


@pytest.mark.parametrize(
    ("path", "recursive", "ours"),
    [
        ("cat.png", False, True),
        ("sub/cat.png", False, False),
        ("sub/cat.png", True, True),
        ("sub/.hidden/cat.png", True, False),
        ("@eaDir/cat.png", True, False),
        ("sub/cat.png.part", True, False),
        (".venice-watch-1", True, False),
    ],
)
def test_is_ours(inbox: Path, path: str, *, recursive: bool, ours: bool) -> None:
    """An event's path is judged as a scan would judge it."""
    write(inbox / path)
    assert is_ours(path, recursive=recursive) is ours
    assert (path in scan(inbox, recursive=recursive).files) is ours


def test_sign_path(inbox: Path) -> None:
    """One file's version is had without a scan; what is no file has none."""
    write(inbox / "sub/cat.png")
    (inbox / "link.png").symlink_to("sub/cat.png")
    (inbox / "linked").symlink_to("sub")
    assert sign_path(inbox, "sub/cat.png") == sign((inbox / "sub/cat.png").stat())
    for path in ("sub", "link.png", "linked/cat.png", "gone.png", "gone/cat.png"):
        assert sign_path(inbox, path) is None, path


# Single files.


def test_examine(inbox: Path) -> None:
    """A look at one file brings its version, its kind, its end, and whether somebody writes it."""
    path = write(inbox / "sub/cat.dat")
    sample = examine(inbox, "sub/cat.dat", trusted=True)
    assert sample is not None
    assert sample.signature == sign(path.stat())
    assert (sample.candidate, sample.end, sample.writer) == (True, End.WHOLE, Writer.NONE)
    untrusted = examine(inbox, "sub/cat.dat", trusted=False)
    assert untrusted is not None
    assert untrusted.writer is Writer.UNKNOWN
    assert sign(path.stat()) == sample.signature, "looking changed the file"


def test_examine_nothing(inbox: Path) -> None:
    """What is gone, a link or a pipe is nothing to look at."""
    (inbox / "link.png").symlink_to("nowhere.png")
    os.mkfifo(inbox / "pipe.png")
    for path in ("gone.png", "link.png", "pipe.png", "gone/cat.png"):
        assert examine(inbox, path, trusted=True) is None, path


def test_examine_without_the_share(inbox: Path) -> None:
    """When the inbox is away, a file is trouble, and not gone."""
    inbox.rmdir()
    with pytest.raises(FileNotFoundError):
        examine(inbox, "cat.png", trusted=True)


def writer_of(path: Path) -> Writer:
    """Ask about a file as intake does."""
    with path.open("rb") as file:
        return ask_for_writers(file.fileno())


def _open_for_writing(path: Path) -> Callable[[], None]:
    file = path.open("r+b")
    return file.close


def _append(path: Path) -> Callable[[], None]:
    file = path.open("ab")
    return file.close


def _map(path: Path) -> Callable[[], None]:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0).close


def _other_process(path: Path) -> Callable[[], None]:
    script = "import sys; f = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, os.fspath(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()

    def close() -> None:
        process.communicate()

    return close


@pytest.mark.parametrize("begin", [_open_for_writing, _append, _map, _other_process])
def test_writers(inbox: Path, begin: Callable[[Path], Callable[[], None]]) -> None:
    """The kernel tells of anybody who has the file open for writing, until they close it."""
    path = write(inbox / "cat.png")
    assert writer_of(path) is Writer.NONE
    end = begin(path)
    assert writer_of(path) is Writer.SOME
    end()
    assert writer_of(path) is Writer.NONE


def test_readers_are_no_writers(inbox: Path) -> None:
    """Who only reads is not waited for."""
    path = write(inbox / "cat.png")
    with path.open("rb"):
        assert writer_of(path) is Writer.NONE


def test_asking_holds_nobody_up(inbox: Path) -> None:
    """The lease is given back at once: a writer who comes while the file is open does not wait."""
    path = write(inbox / "cat.png")
    with path.open("rb") as file:
        assert ask_for_writers(file.fileno()) is Writer.NONE
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.close(descriptor)


def test_survives_a_lease_break() -> None:
    """The signal of a broken lease does not end the process once that was asked for."""
    script = (
        "import os, signal\n"
        "from venice_watch.intake.look import ignore_lease_breaks\n"
        "ignore_lease_breaks()\n"
        "os.kill(os.getpid(), signal.SIGIO)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 0


# Mounts.


def test_file_system(tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The type comes from the longest mount point; a later mount covers an earlier one."""
    assert mounts.file_system_of(Path("/proc/self")) == "proc"
    assert mounts.file_system_of(elsewhere) in mounts.TRUSTED | {"unknown"}
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        "2 1 0:5 / /srv rw shared:1 - nfs4 host:/x rw\n"
        "3 2 0:6 / /srv/in\\040box\\134040 rw - fuse.sshfs host: rw\n"
        "4 1 0:7 / /mnt rw - ext4 /dev/b rw\n"
        "5 1 0:8 / /mnt rw master:2 - cifs //host/share rw\n"
    )
    monkeypatch.setattr(mounts, "MOUNTINFO", table)
    assert mounts.file_system_of(Path("/srv/photos")) == "nfs4"
    assert mounts.file_system_of(Path("/srv/in box\\040/sub")) == "fuse.sshfs"
    assert mounts.file_system_of(Path("/srvx")) == "ext4"
    assert mounts.file_system_of(Path("/mnt/a/b")) == "cifs"
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "missing")
    assert mounts.file_system_of(Path("/srv")) == "unknown"


def test_link_to_another_file_system(tmp_path: Path, elsewhere: Path) -> None:
    """Where a linked inbox really is decides."""
    (tmp_path / "link").symlink_to(elsewhere)
    assert mounts.file_system_of(tmp_path / "link") == mounts.file_system_of(elsewhere)


def test_no_network_is_trusted() -> None:
    """No file system is both trusted and on a network."""
    assert not mounts.TRUSTED & mounts.NETWORK


# Events.


def observe(root: Path, act: Callable[[], object], wanted: set[str]) -> dict[str, bool]:
    """Return the hints that an action brings, once the wanted ones have come."""

    async def scenario() -> dict[str, bool]:
        woken = asyncio.Event()
        observer = NativeObserver(root, asyncio.get_running_loop(), woken.set)
        await asyncio.to_thread(observer.start, recursive=True)
        hints: dict[str, bool] = {}
        try:
            assert observer.is_alive()
            await asyncio.to_thread(act)
            async with asyncio.timeout(DEADLINE_S):
                while not wanted <= set(hints):
                    await woken.wait()
                    woken.clear()
                    new, overflowed = observer.take_hints()
                    hints |= new
                    assert not overflowed
        finally:
            await asyncio.to_thread(observer.stop)
        assert not observer.is_alive()
        return hints

    return asyncio.run(scenario())


def test_hints(inbox: Path, tmp_path: Path) -> None:
    """Written, moved in, renamed and linked files are announced, and folders as folders."""
    outside = write(tmp_path / "outside.png")
    other = write(tmp_path / "other.png")

    def act() -> None:
        write(inbox / NAME_NOT_TEXT)
        outside.rename(inbox / "moved.png")
        (inbox / "linked.png").hardlink_to(other)
        (inbox / "moved.png").rename(inbox / "renamed.png")
        (inbox / "folder").mkdir()

    wanted = {NAME_NOT_TEXT, "renamed.png", "linked.png", "folder"}
    hints = observe(inbox, act, wanted)
    assert hints["folder"] is True
    assert not any(hints[name] for name in wanted - {"folder"})


def test_hints_through_a_link(inbox: Path, tmp_path: Path) -> None:
    """A linked inbox is watched where it really is, and paths are relative to it."""
    (tmp_path / "link").symlink_to(inbox)
    assert "cat.png" in observe(tmp_path / "link", lambda: write(inbox / "cat.png"), {"cat.png"})


def test_looking_makes_no_hints(inbox: Path) -> None:
    """Our own scans and looks announce nothing: they would go on for ever."""
    write(inbox / "sub" / "cat.png")

    def act() -> None:
        for _ in range(50):
            scan(inbox, recursive=True)
            examine(inbox, "sub/cat.png", trusted=True)
        write(inbox / "last.png")

    assert set(observe(inbox, act, {"last.png"})) == {"last.png"}


def test_too_many_hints(inbox: Path) -> None:
    """Hints that nobody reads are bounded, and it is told that some are missing."""
    root = os.path.realpath(inbox)

    async def scenario() -> None:
        observer = NativeObserver(inbox, asyncio.get_running_loop(), lambda: None)
        for number in range(HINTS_MAX + 1):
            observer._take(FileCreatedEvent(f"{root}/{number}.png"))
        hints, overflowed = observer.take_hints()
        assert len(hints) == HINTS_MAX
        assert overflowed
        assert observer.take_hints() == ({}, False)

    asyncio.run(scenario())


def test_watching_nothing(inbox: Path) -> None:
    """A folder that is not there cannot be watched, and stopping what never ran does nothing."""

    async def scenario() -> None:
        observer = NativeObserver(inbox / "no", asyncio.get_running_loop(), lambda: None)
        with pytest.raises(OSError, match="No such file"):
            await asyncio.to_thread(observer.start, recursive=True)
        assert not observer.is_alive()
        await asyncio.to_thread(observer.stop)
        await asyncio.to_thread(observer.stop)

    asyncio.run(scenario())


def test_events_after_the_loop_has_ended(inbox: Path) -> None:
    """A last event that comes while the program ends harms nobody."""

    async def opened() -> NativeObserver:
        observer = NativeObserver(inbox, asyncio.get_running_loop(), lambda: None)
        await asyncio.to_thread(observer.start, recursive=False)
        return observer

    observer = asyncio.run(opened())
    write(inbox / "late.png")
    observer._take(FileClosedEvent(f"{os.path.realpath(inbox)}/late.png"))
    observer.stop()
    assert "late.png" in observer.take_hints()[0]


def test_nothing_is_imported_by_looking() -> None:
    """Looking at files needs neither watchdog nor the network."""
    script = (
        "import sys\n"
        f"import {look.__name__}\n"
        "assert not {'watchdog', 'httpx', 'PIL'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
