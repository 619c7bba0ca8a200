"""The spool: what is paid for is safe there, or nowhere claimed to be."""

import hashlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from venice_watch.files.spool import (
    SpoolFile,
    add_result,
    clear_spool,
    drop_spooled,
    read_sidecar,
    write_sidecar,
)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return an empty spool."""
    return tmp_path


def names(spool: Path) -> set[str]:
    """Return what is in the spool."""
    return {path.name for path in spool.iterdir()}


def test_commit(spool: Path) -> None:
    """A result has its name only once it is committed, and stays after the file is closed."""
    file = SpoolFile(spool)
    file.write(b"first ")
    file.write(b"second")
    assert "1.png" not in names(spool)
    assert len(names(spool)) == 1
    file.commit("1.png")
    assert names(spool) == {"1.png"}
    file.close()
    assert (spool / "1.png").read_bytes() == b"first second"


def test_private(spool: Path) -> None:
    """A result in the spool is for this user alone."""
    file = SpoolFile(spool)
    file.commit("1.png")
    file.close()
    assert (spool / "1.png").stat().st_mode & 0o777 == 0o600


def test_dropped(spool: Path) -> None:
    """What was not committed is gone when the file is closed."""
    file = SpoolFile(spool)
    file.write(b"half")
    file.close()
    assert names(spool) == set()


def test_leftover_is_no_beginning(spool: Path) -> None:
    """An unfinished file of an earlier process does not end up in a result."""
    stale = SpoolFile(spool)
    stale.write(b"stale and long")
    file = SpoolFile(spool)
    file.write(b"new")
    file.commit("1.png")
    file.close()
    assert (spool / "1.png").read_bytes() == b"new"
    stale.close()
    assert names(spool) == {"1.png"}


@pytest.fixture
def _small_files() -> Iterator[None]:
    """Let no file of this process grow beyond 1,000 bytes: a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("_small_files")
def test_full_disk(spool: Path) -> None:
    """While the disk is full the paid bytes wait in memory, and none is lost or written twice."""
    pieces = [os.urandom(300) for _ in range(10)]
    file = SpoolFile(spool)
    for piece in pieces:
        file.write(piece)
    for _ in range(2):
        with pytest.raises(OSError, match="too large"):
            file.commit("1.png")
    assert "1.png" not in names(spool)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    file.commit("1.png")
    file.close()
    assert (spool / "1.png").read_bytes() == b"".join(pieces)


def test_commit_again(spool: Path) -> None:
    """A commit that failed after its rename can be called again."""
    file = SpoolFile(spool)
    file.write(b"x")
    file.commit("1.png")
    file.commit("1.png")
    file.close()
    assert names(spool) == {"1.png"}


def test_descriptors_are_closed(spool: Path) -> None:
    """A closed file leaves no descriptor open, committed or not."""
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    for number in range(4):
        file = SpoolFile(spool)
        if number % 2:
            file.commit(f"{number}.png")
        file.close()
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise


def test_drop(spool: Path) -> None:
    """A delivered result is dropped, and dropping it again is no error."""
    (spool / "1.png").write_bytes(b"x")
    drop_spooled(spool, "1.png")
    drop_spooled(spool, "1.png")
    assert names(spool) == set()


def test_clear(spool: Path) -> None:
    """Only results and leftovers that no job refers to go: nothing that is not ours."""
    leftover = SpoolFile(spool)
    [part] = names(spool)
    others = {"a.png", "1.png.txt", "notes.txt", "4.png", "link.png", "5.png"}
    for name in ("1.png", "2.png", "a.png", "1.png.txt", "notes.txt"):
        (spool / name).write_bytes(b"x")
    for name in ("3-0-again.png", "4-2-again.png", "5-again.png", "7.meta", "8.meta", "x.meta"):
        (spool / name).write_bytes(b"x")
    others |= {"4-2-again.png", "5-again.png", "8.meta", "x.meta"}
    (spool / "4.png").mkdir()
    (spool / "link.png").symlink_to("notes.txt")
    (spool / "5.png").symlink_to("notes.txt")
    assert clear_spool(spool, frozenset({"2.png", "4-2-again.png", "8.meta"})) == 4
    assert names(spool) == {"2.png", *others}
    assert part not in names(spool)
    leftover.close()


def test_sidecar(spool: Path) -> None:
    """What belongs to a result is there whole, for this user alone, and is replaced as a whole."""
    assert read_sidecar(spool, "7.meta") is None
    write_sidecar(spool, "7.meta", b"long and old")
    write_sidecar(spool, "7.meta", b"new")
    assert read_sidecar(spool, "7.meta") == b"new"
    assert (spool / "7.meta").stat().st_mode & 0o777 == 0o600
    drop_spooled(spool, "7.meta")
    assert read_sidecar(spool, "7.meta") is None


def test_sidecar_is_durable(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on the disk, and so is its name, before anything is paid for."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_sidecar(spool, "7.meta", b"x")
    assert synced == [str(spool / "7.meta"), str(spool)]


@pytest.mark.usefixtures("_small_files")
def test_sidecar_without_room(spool: Path) -> None:
    """Where there is no room for it, that is said."""
    with pytest.raises(OSError, match="too large"):
        write_sidecar(spool, "7.meta", bytes(2_000))


def test_add_result(spool: Path) -> None:
    """A result that is in memory is made durable, and its digest told."""
    digest = add_result(spool, "7-0-again.png", b"result")
    assert digest == hashlib.sha256(b"result").digest()
    assert (spool / "7-0-again.png").read_bytes() == b"result"
    assert names(spool) == {"7-0-again.png"}
