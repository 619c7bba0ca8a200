"""Reading originals: one version of one regular file, and nothing through a link."""

import os
import socket
from pathlib import Path

import pytest

from venice_watch.files.source import (
    SourceChangedError,
    SourceGoneError,
    UnsafeSourceError,
    is_gone,
    opened_folder,
    opened_source,
    read_source,
    sign,
)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Return an inbox with one file, in a folder."""
    folder = tmp_path / "inbox" / "sub"
    folder.mkdir(parents=True)
    (folder / "cat.png").write_bytes(b"meow")
    return tmp_path / "inbox"


def test_read(inbox: Path) -> None:
    """A file is read whole, as the version that was seen."""
    seen = sign((inbox / "sub/cat.png").stat())
    assert read_source(inbox, "sub/cat.png", seen) == b"meow"


def test_read_large(inbox: Path) -> None:
    """A file larger than one read is put together."""
    data = os.urandom(20_000_000)
    (inbox / "large.png").write_bytes(data)
    assert read_source(inbox, "large.png", sign((inbox / "large.png").stat())) == data


def test_name_that_is_no_text(inbox: Path) -> None:
    """A name that is not UTF-8 is a name."""
    name = os.fsdecode(b"caf\xe9.png")
    (inbox / name).write_bytes(b"x")
    assert read_source(inbox, name, sign((inbox / name).stat())) == b"x"


def test_renamed_is_the_same(inbox: Path) -> None:
    """A rename or a chmod since it was seen makes no other version."""
    seen = sign((inbox / "sub/cat.png").stat())
    (inbox / "sub/cat.png").rename(inbox / "dog.png")
    (inbox / "dog.png").chmod(0o600)
    assert read_source(inbox, "dog.png", seen) == b"meow"


def test_written_again(inbox: Path) -> None:
    """Other bytes, other times or another file of that name are another version."""
    path = inbox / "sub/cat.png"
    seen = sign(path.stat())
    path.write_bytes(b"woof!")
    with pytest.raises(SourceChangedError):
        read_source(inbox, "sub/cat.png", seen)
    path.write_bytes(b"meow")
    os.utime(path, ns=(seen.mtime_ns, seen.mtime_ns + 1))
    with pytest.raises(SourceChangedError):
        read_source(inbox, "sub/cat.png", seen)
    (inbox / "other").write_bytes(b"meow")
    os.utime(inbox / "other", ns=(seen.mtime_ns, seen.mtime_ns))
    (inbox / "other").replace(path)
    with pytest.raises(SourceChangedError):
        read_source(inbox, "sub/cat.png", seen)


@pytest.mark.parametrize("written", [b"woof", b"longer than before", b""])
def test_written_while_it_is_read(
    inbox: Path, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written in the middle of a read is another version, of whatever length."""
    path = inbox / "sub/cat.png"
    read = os.read

    def read_and_write(descriptor: int, count: int) -> bytes:
        data = read(descriptor, count)
        monkeypatch.undo()
        path.write_bytes(written)
        return data

    seen = sign(path.stat())
    monkeypatch.setattr(os, "read", read_and_write)
    with pytest.raises(SourceChangedError, match="while it was read"):
        read_source(inbox, "sub/cat.png", seen)


def test_deleted_while_it_is_read(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that its owner deletes in the middle of a read is gone, and no other version."""
    path = inbox / "sub/cat.png"
    read = os.read

    def read_and_delete(descriptor: int, count: int) -> bytes:
        data = read(descriptor, count)
        monkeypatch.undo()
        path.unlink()
        return data

    seen = sign(path.stat())
    monkeypatch.setattr(os, "read", read_and_delete)
    with pytest.raises(SourceGoneError, match="while it was read"):
        read_source(inbox, "sub/cat.png", seen)


@pytest.mark.parametrize("path", ["sub/dog.png", "gone/cat.png", "sub/cat.png/cat.png"])
def test_gone(inbox: Path, path: str) -> None:
    """A file or folder that is not there is told from trouble."""
    with pytest.raises(SourceGoneError), opened_source(inbox, path):
        pass
    assert is_gone(inbox, path)
    assert not is_gone(inbox, "sub/cat.png")


def test_share_away(inbox: Path) -> None:
    """When the inbox itself is away, nothing is known of its files: they are not gone."""
    inbox.rename(inbox.with_name("away"))
    with pytest.raises(FileNotFoundError), opened_source(inbox, "sub/cat.png"):
        pass
    assert not is_gone(inbox, "sub/cat.png")


def test_no_link_is_followed(inbox: Path, tmp_path: Path) -> None:
    """Neither a linked file nor a file in a linked folder is opened; a linked inbox is."""
    (inbox / "link.png").symlink_to(inbox / "sub/cat.png")
    (inbox / "linked").symlink_to(inbox / "sub")
    with pytest.raises(UnsafeSourceError), opened_source(inbox, "link.png"):
        pass
    with (
        pytest.raises((SourceGoneError, UnsafeSourceError)),
        opened_source(inbox, "linked/cat.png"),
    ):
        pass
    (tmp_path / "also").symlink_to(inbox)
    with opened_source(tmp_path / "also", "sub/cat.png") as descriptor:
        assert os.read(descriptor, 10) == b"meow"


def test_only_regular_files(inbox: Path) -> None:
    """Folders, pipes and sockets are refused, and a pipe without a writer does not hang."""
    os.mkfifo(inbox / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(inbox / "socket.png"))
        for name in ("sub", "pipe.png", "socket.png"):
            with pytest.raises(UnsafeSourceError), opened_source(inbox, name):
                pass


def test_descriptors_are_closed(inbox: Path) -> None:
    """Whatever happens, no descriptor is left open."""

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing's own one counts, too

    before = count()
    for path in ("sub/cat.png", "sub/dog.png", "sub", "gone/cat.png"):
        try:
            with opened_source(inbox, path):
                pass
        except (SourceGoneError, UnsafeSourceError):
            pass
        try:
            with opened_folder(inbox, path):
                pass
        except OSError:
            pass
    assert count() == before
