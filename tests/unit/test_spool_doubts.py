"""The spool believes no disk that has failed once, and nothing that it has not read itself."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from venice_watch.files import spool
from venice_watch.files.spool import SpoolFile, SpoolLostError, has_result, restore

DATA = os.urandom(3_000_000)
SHA256 = hashlib.sha256(DATA).digest()


def fail_once(monkeypatch: pytest.MonkeyPatch, number: int = errno.EIO) -> list[int]:
    """Let the next fsync fail; return the inodes that were synced."""
    real, synced, failed = os.fsync, list[int](), list[int]()

    def fsync(descriptor: int) -> None:
        if not failed:
            failed.append(descriptor)
            raise OSError(number, os.strerror(number))
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


def test_knows_what_it_wrote(tmp_path: Path) -> None:
    """A file knows the digest and the size of all that was written, in whatever pieces."""
    file = SpoolFile(tmp_path)
    for start in range(0, len(DATA), 65_537):
        file.write(DATA[start : start + 65_537])
    file.commit("1.png")
    file.close()
    assert (file.sha256, file.size_bytes) == (SHA256, len(DATA))
    assert (tmp_path / "1.png").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_a_failed_sync_is_not_believed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync the bytes are written into another file, which is synced itself."""
    file = SpoolFile(tmp_path)
    file.write(DATA)
    first = os.fstat(file._descriptor).st_ino
    synced = fail_once(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        file.commit("1.png")
    assert not (tmp_path / "1.png").exists()
    file.commit("1.png")
    file.close()
    result = tmp_path / "1.png"
    assert result.read_bytes() == DATA
    assert result.stat().st_ino != first
    assert result.stat().st_ino in synced
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_a_disk_that_lost_bytes_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the pages that failed to be written are gone, the result counts as lost."""
    file = SpoolFile(tmp_path)
    file.write(DATA)
    fail_once(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        file.commit("1.png")
    os.pwrite(file._descriptor, bytes(4_096), 8_192)
    with pytest.raises(SpoolLostError):
        file.commit("1.png")
    file.close()
    assert not (tmp_path / "1.png").exists()


def test_no_room_for_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no room to write it anew, nothing is lost, and it is tried again."""
    file = SpoolFile(tmp_path)
    file.write(DATA)
    fail_once(monkeypatch)
    with pytest.raises(OSError, match="Input/output error"):
        file.commit("1.png")
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            file.commit("1.png")
    file.commit("1.png")
    file.close()
    assert (tmp_path / "1.png").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


@pytest.mark.parametrize("change", ["none", "byte", "short", "long", "gone", "link", "folder"])
def test_has_result(tmp_path: Path, change: str) -> None:
    """Only a regular file of exactly these bytes is the result."""
    path = tmp_path / "x.png"
    path.write_bytes(DATA)
    match change:
        case "byte":
            path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
        case "short":
            path.write_bytes(DATA[:-1])
        case "long":
            path.write_bytes(DATA + b"\0")
        case "gone":
            path.unlink()
        case "link":
            path.rename(tmp_path / "y.png")
            path.symlink_to("y.png")
        case "folder":
            path.unlink()
            path.mkdir()
    found = has_result(path, sha256=SHA256, size_bytes=len(DATA))
    assert found == (change == "none")


@pytest.mark.parametrize("change", ["none", "byte", "block moved", "block shorter"])
def test_a_result_with_a_block_in_it(tmp_path: Path, change: str) -> None:
    """A result is found and brought back where a block stands behind its header, if it is whole."""
    block = b"a block of metadata"
    delivered = DATA[:33] + block + DATA[33:]
    match change:
        case "byte":
            delivered = delivered[:-1] + bytes([delivered[-1] ^ 1])
        case "block moved":
            delivered = DATA[:34] + block + DATA[34:]
        case "block shorter":
            delivered = DATA[:33] + DATA[34:]
    path = tmp_path / "x.png"
    path.write_bytes(delivered)
    spool = tmp_path / "spool"
    spool.mkdir()
    there = change == "none"
    assert has_result(path, sha256=SHA256, size_bytes=len(DATA)) is there
    assert restore(spool, "7.png", path, sha256=SHA256, size_bytes=len(DATA)) is there
    assert [one.read_bytes() for one in spool.iterdir()] == [DATA] * there


def test_a_place_in_trouble_is_not_a_place_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot be told whether the result is there, it is not said to be gone."""

    def lstat(_path: Path) -> os.stat_result:
        raise OSError(errno.EHOSTDOWN, os.strerror(errno.EHOSTDOWN))

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(OSError, match="Host is down"):
        has_result(tmp_path / "x.png", sha256=SHA256, size_bytes=1)


def test_restore(tmp_path: Path) -> None:
    """A delivered result comes back into the spool, and leaves the delivered one alone."""
    source = tmp_path / "delivered.png"
    source.write_bytes(DATA)
    folder = tmp_path / "spool"
    folder.mkdir()
    assert restore(folder, "7.png", source, sha256=SHA256, size_bytes=len(DATA))
    assert (folder / "7.png").read_bytes() == DATA
    assert source.read_bytes() == DATA


def test_restore_of_something_else(tmp_path: Path) -> None:
    """Other bytes are not taken into the spool, and nothing of them stays there."""
    source = tmp_path / "delivered.png"
    source.write_bytes(DATA[1:])
    folder = tmp_path / "spool"
    folder.mkdir()
    assert not restore(folder, "7.png", source, sha256=SHA256, size_bytes=len(DATA))
    assert list(folder.iterdir()) == []


def test_restore_in_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool in trouble is told as such: it must not look as if the result were gone."""
    source = tmp_path / "delivered.png"
    source.write_bytes(DATA)
    folder = tmp_path / "spool"
    folder.mkdir()
    fail_once(monkeypatch, errno.EDQUOT)
    with pytest.raises(OSError, match="quota"):
        restore(folder, "7.png", source, sha256=SHA256, size_bytes=len(DATA))
    assert list(folder.iterdir()) == []


def test_committed_once(tmp_path: Path) -> None:
    """A second commit of the same file changes nothing, and a closed one takes none."""
    file = SpoolFile(tmp_path)
    file.write(DATA)
    file.commit("1.png")
    file.commit("1.png")
    file.close()
    file.commit("2.png")
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]
    assert spool.OURS.fullmatch("1.png")
