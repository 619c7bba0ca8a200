"""One process for each state folder, and a word to the other one; and the word with systemd."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from venice_watch.errors import StateLockedError, StateUnusableError
from venice_watch.service.lock import NAME, Holder, holder_of, locked
from venice_watch.service.systemd import Notifier

HOLD = """
import pathlib, sys
from venice_watch.service.lock import locked
with locked(pathlib.Path(sys.argv[1]), "run"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def held_elsewhere(state_dir: Path) -> "subprocess.Popen[str]":
    """Start a process that holds the lock until a line comes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, os.fspath(state_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_process(tmp_path: Path) -> None:
    """A second process is refused, and told who has the folder and what to do."""
    with held_elsewhere(tmp_path) as process:
        with pytest.raises(StateLockedError) as caught, locked(tmp_path, "once"):
            pytest.fail("two processes hold one lock")
        assert f"process {process.pid} (venice-watch run, since " in str(caught.value)
        assert os.fspath(tmp_path) in str(caught.value)
        holder = holder_of(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.command) == (process.pid, "run")
        process.communicate("end\n")
    assert holder_of(tmp_path) is None
    with locked(tmp_path, "once"):
        holder = holder_of(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.command) == (os.getpid(), "once")


def test_killed(tmp_path: Path) -> None:
    """The lock ends with its process, however that ended; what it wrote is not believed."""
    with held_elsewhere(tmp_path) as process:
        process.kill()
        process.communicate()
    assert (tmp_path / NAME).read_bytes() != b""
    assert holder_of(tmp_path) is None
    with locked(tmp_path, "run"):
        pass


def test_refused_leaves_the_holder_alone(tmp_path: Path) -> None:
    """Being refused changes nothing for the holder, however often."""
    with locked(tmp_path, "run"):
        before = (tmp_path / NAME).read_bytes()
        for _ in range(3):
            with pytest.raises(StateLockedError), locked(tmp_path, "once"):
                pass
        assert (tmp_path / NAME).read_bytes() == before
        assert holder_of(tmp_path) is not None


def test_nothing_of_an_earlier_holder(tmp_path: Path) -> None:
    """What an earlier holder wrote, however long, is gone, and so is this one's at its end."""
    (tmp_path / NAME).write_text("x" * 10_000)
    with locked(tmp_path, "run"):
        holder = holder_of(tmp_path)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert (tmp_path / NAME).read_bytes() == b""


def test_given_back_after_an_error(tmp_path: Path) -> None:
    """An error inside gives the lock back."""
    with pytest.raises(RuntimeError), locked(tmp_path, "run"):
        raise RuntimeError
    with locked(tmp_path, "run"):
        pass


def test_not_handed_to_children(tmp_path: Path) -> None:
    """A child that outlives the daemon does not hold the folder."""
    script = "print(flush=True); input()"
    with locked(tmp_path, "run"):
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        child.stdout.readline()  # it has begun: what it was not to have is closed
    with child:
        with locked(tmp_path, "run"):
            pass
        child.communicate(b"\n")


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", b'{"pid": "x"}', b"[1]", b"\xff"])
def test_holder_without_a_name(tmp_path: Path, content: bytes) -> None:
    """A holder that did not write who it is still holds it."""
    (tmp_path / NAME).write_bytes(content)
    with (tmp_path / NAME).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder_of(tmp_path) == Holder(pid=0, since="unknown", command="?")
        with pytest.raises(StateLockedError, match="another process"), locked(tmp_path, "run"):
            pass


def test_no_folder(tmp_path: Path) -> None:
    """A state folder that is missing is no lock, and cannot be locked."""
    assert holder_of(tmp_path / "missing") is None
    with pytest.raises(StateUnusableError, match="must exist"), locked(tmp_path / "missing", "run"):
        pass


# systemd.


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path: Path, *, abstract: bool) -> None:
    """Messages reach a socket in the file system and in the abstract name space."""
    name = f"@venice-watch-{os.getpid()}" if abstract else os.fspath(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if abstract else name)
        listener.settimeout(5)
        Notifier({"NOTIFY_SOCKET": name}).send(READY=1, STATUS="2 images wait")
        assert listener.recv(1_000) == b"READY=1\nSTATUS=2 images wait"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_listens(environment: dict[str, str]) -> None:
    """Without systemd, or with its socket away, sending does nothing."""
    Notifier(environment).send(READY=1)


@pytest.mark.parametrize(
    ("environment", "expected_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "\u00b2"}, None),
    ],
)
def test_watchdog(environment: dict[str, str], expected_s: float | None) -> None:
    """The watchdog is answered twice as often as asked, and only by the process it means."""
    assert Notifier(environment).watchdog_s == expected_s
