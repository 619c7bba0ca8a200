"""Files where people see them: whole, durable, and never over another one."""

import errno
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from venice_watch.files import place
from venice_watch.files.pieces import Span
from venice_watch.files.place import (
    TEMPORARY,
    NameTakenError,
    clear_leftovers,
    is_published,
    make_folders,
    publish,
    rename_noreplace,
    same_content,
    write_report,
)

DATA = b"result " * 400_000
PIECES = (Span(start=0, end=33), b"block", Span(start=33, end=len(DATA)))


@pytest.fixture
def spooled(tmp_path: Path) -> Path:
    """Return a result in a spool."""
    path = tmp_path / "spool" / "1.png"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """Return an empty outbox."""
    path = tmp_path / "outbox"
    path.mkdir()
    return path


def tree(root: Path) -> dict[str, bytes | None]:
    """Return every name below a folder, with its bytes; None for what is no file."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def deliver(spooled: Path, target: Path, outbox: Path, *, overwrite: bool = False) -> None:
    """Publish with the usual mode."""
    pieces = (Span(start=0, end=len(DATA)),)
    publish(spooled, target, pieces, root=outbox, mode=0o664, overwrite=overwrite)


def test_publish(spooled: Path, outbox: Path) -> None:
    """A result appears whole, with its mode whatever the umask, in folders made for it."""
    before = os.umask(0o077)
    try:
        deliver(spooled, outbox / "a" / "b" / "cat.png", outbox)
    finally:
        os.umask(before)
    assert tree(outbox) == {"a": None, "a/b": None, "a/b/cat.png": DATA}
    assert stat.S_IMODE((outbox / "a/b/cat.png").stat().st_mode) == 0o664
    assert spooled.read_bytes() == DATA


def test_finished_before_it_appears(spooled: Path, outbox: Path) -> None:
    """A file is made of its pieces and has the time it is given; the result stays as it is."""
    target, time_ns = outbox / "cat.png", 1_234_567_890_123_456_789
    publish(spooled, target, PIECES, root=outbox, mode=0o600, mtime_ns=time_ns, overwrite=False)
    assert tree(outbox) == {"cat.png": DATA[:33] + b"block" + DATA[33:]}
    assert target.stat().st_mtime_ns == time_ns
    assert spooled.read_bytes() == DATA


@pytest.mark.parametrize("mtime_ns", [-(10**30), 10**30, -1])
def test_times_that_cannot_be(spooled: Path, outbox: Path, mtime_ns: int) -> None:
    """A time that the system cannot tell is no reason not to deliver."""
    publish(
        spooled,
        outbox / "cat.png",
        PIECES,
        root=outbox,
        mode=0o600,
        mtime_ns=mtime_ns,
        overwrite=False,
    )
    assert len(tree(outbox)) == 1


@pytest.mark.parametrize("change", ["none", "byte", "longer", "shorter", "bare", "link", "folder"])
def test_is_published(spooled: Path, outbox: Path, change: str) -> None:
    """Only a regular file of exactly these pieces was published by whoever wanted to."""
    target, whole = outbox / "cat.png", DATA[:33] + b"block" + DATA[33:]
    match change:
        case "none":
            target.write_bytes(whole)
        case "byte":
            target.write_bytes(whole[:-1] + b"X")
        case "longer":
            target.write_bytes(whole + b"X")
        case "shorter":
            target.write_bytes(whole[:-1])
        case "bare":
            target.write_bytes(DATA)
        case "link":
            (outbox / "linked").write_bytes(whole)
            target.symlink_to("linked")
        case "folder":
            target.mkdir()
    assert is_published(spooled, target, PIECES) is (change == "none")


def _file(path: Path) -> None:
    path.write_bytes(b"precious")


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_bytes(b"precious")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _link(path: Path) -> None:
    path.with_name("linked").write_bytes(b"precious")
    path.symlink_to("linked")


@pytest.mark.parametrize("make", [_file, _folder, _dangling, _link])
def test_never_over_another(spooled: Path, outbox: Path, make: Callable[[Path], None]) -> None:
    """Nothing of that name is replaced: no file, no folder, no link; and nothing is left over."""
    make(outbox / "cat.png")
    before = tree(outbox)
    was_link = (outbox / "cat.png").is_symlink()
    with pytest.raises(NameTakenError):
        deliver(spooled, outbox / "cat.png", outbox)
    assert tree(outbox) == before
    assert (outbox / "cat.png").is_symlink() is was_link


@pytest.mark.parametrize("make", [_file, _link, _dangling])
def test_overwrite(spooled: Path, outbox: Path, make: Callable[[Path], None]) -> None:
    """Where it is wanted a file is replaced in one step; a link itself, not what it leads to."""
    make(outbox / "cat.png")
    deliver(spooled, outbox / "cat.png", outbox, overwrite=True)
    assert not (outbox / "cat.png").is_symlink()
    assert (outbox / "cat.png").read_bytes() == DATA
    assert tree(outbox).get("linked", b"precious") == b"precious"


def test_overwrite_spares_folders(spooled: Path, outbox: Path) -> None:
    """A folder of that name is not replaced even then."""
    _folder(outbox / "cat.png")
    with pytest.raises(IsADirectoryError):
        deliver(spooled, outbox / "cat.png", outbox, overwrite=True)
    assert tree(outbox) == {"cat.png": None, "cat.png/inside": b"precious"}


def test_never_seen_in_part(spooled: Path, outbox: Path) -> None:
    """Whoever looks into the outbox all the time sees no result but whole ones."""
    done = threading.Event()
    seen: set[tuple[str, int]] = set()

    def look() -> None:
        while not done.is_set():
            for entry in os.scandir(outbox):
                try:
                    seen.add((entry.name, entry.stat().st_size))
                except FileNotFoundError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for number in range(20):
            deliver(spooled, outbox / f"{number}.png", outbox)
            deliver(spooled, outbox / "same.png", outbox, overwrite=True)
    finally:
        done.set()
        watcher.join()
    assert seen
    partial = {name for name, size in seen if size != len(DATA) and not name.startswith(TEMPORARY)}
    assert not partial


def test_one_name_for_many(spooled: Path, outbox: Path) -> None:
    """Of many who want one name at once, exactly one gets it."""
    start = threading.Barrier(8)
    got: list[bool] = []

    def want() -> None:
        start.wait()
        try:
            deliver(spooled, outbox / "cat.png", outbox)
        except NameTakenError:
            got.append(False)
        else:
            got.append(True)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]
    assert tree(outbox) == {"cat.png": DATA}


def test_missing_outbox(spooled: Path, outbox: Path) -> None:
    """An outbox that is gone is a share that is away: it is not made anew."""
    outbox.rmdir()
    with pytest.raises(FileNotFoundError, match="mounted"):
        deliver(spooled, outbox / "sub" / "cat.png", outbox)
    assert not outbox.exists()


def test_file_in_the_way(spooled: Path, outbox: Path) -> None:
    """A file where a folder has to be is trouble of the outbox, not a name that is taken."""
    (outbox / "sub").write_bytes(b"precious")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        deliver(spooled, outbox / "sub" / "cat.png", outbox)
    assert tree(outbox) == {"sub": b"precious"}


def test_failed_copy(spooled: Path, outbox: Path) -> None:
    """A result that cannot be copied leaves nothing behind."""
    spooled.unlink()
    with pytest.raises(FileNotFoundError):
        deliver(spooled, outbox / "cat.png", outbox)
    assert tree(outbox) == {}


def test_report(outbox: Path) -> None:
    """A report is JSON for any name, appears whole, and replaces none."""
    name = os.fsdecode(b"caf\xe9.jpg")
    target = outbox / f"{name}.error.json"
    write_report(target, {"source": name, "job": 1}, root=outbox)
    assert json.loads(target.read_bytes())["source"] == name
    with pytest.raises(NameTakenError):
        write_report(target, {"job": 2}, root=outbox)
    assert json.loads(target.read_bytes())["job"] == 1
    assert len(list(outbox.iterdir())) == 1


def test_rename_relative_to_folders(tmp_path: Path) -> None:
    """Both ends may be named relative to a folder's descriptor."""
    for name in ("from", "into"):
        (tmp_path / name).mkdir()
    (tmp_path / "from/cat").write_bytes(b"x")
    source = os.open(tmp_path / "from", os.O_RDONLY)
    target = os.open(tmp_path / "into", os.O_RDONLY)
    try:
        rename_noreplace(b"cat", b"dog", source_folder=source, target_folder=target)
        (tmp_path / "from/cat").write_bytes(b"y")
        with pytest.raises(NameTakenError):
            rename_noreplace(b"cat", b"dog", source_folder=source, target_folder=target)
    finally:
        os.close(source)
        os.close(target)
    assert tree(tmp_path) == {"from": None, "from/cat": b"y", "into": None, "into/dog": b"x"}


@pytest.fixture
def _old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a kind of rename that this kernel refuses, as other file systems refuse ours."""
    monkeypatch.setattr(place, "_RENAME_NOREPLACE", 1 << 15)


@pytest.mark.usefixtures("_old_kernel")
@pytest.mark.parametrize("kind", ["file", "folder"])  # a folder cannot be linked
def test_rename_without_the_kernels_help(tmp_path: Path, kind: str) -> None:
    """Where the file system cannot do it at once, nothing is replaced either."""
    source = tmp_path / "source"
    source.mkdir() if kind == "folder" else source.write_bytes(b"x")
    for make in (_file, _folder, _dangling):
        taken = tmp_path / make.__name__
        make(taken)
        before = taken.lstat()
        with pytest.raises(NameTakenError):
            rename_noreplace(os.fsencode(source), os.fsencode(taken))
        assert taken.lstat() == before
        assert source.exists()
    inode = source.stat().st_ino
    rename_noreplace(os.fsencode(source), os.fsencode(tmp_path / "target"))
    assert not source.exists()
    assert (tmp_path / "target").stat().st_ino == inode


@pytest.mark.usefixtures("_old_kernel")
def test_publish_without_the_kernels_help(spooled: Path, outbox: Path) -> None:
    """Results are published there as well, once, and without leftovers."""
    deliver(spooled, outbox / "cat.png", outbox)
    with pytest.raises(NameTakenError):
        deliver(spooled, outbox / "cat.png", outbox)
    assert tree(outbox) == {"cat.png": DATA}


def test_rename_to_nowhere(tmp_path: Path) -> None:
    """A missing source or folder is reported as what it is."""
    with pytest.raises(FileNotFoundError):
        rename_noreplace(os.fsencode(tmp_path / "no"), os.fsencode(tmp_path / "other"))


def test_rename_across(tmp_path: Path, elsewhere: Path) -> None:
    """A rename to another file system is refused by the system, and does nothing."""
    (tmp_path / "cat").write_bytes(b"x")
    with pytest.raises(OSError, match="cross-device") as caught:
        rename_noreplace(os.fsencode(tmp_path / "cat"), os.fsencode(elsewhere / "cat"))
    assert caught.value.errno == errno.EXDEV
    assert tree(elsewhere) == {}


def test_make_folders_elsewhere(outbox: Path) -> None:
    """What is missing is made, what is there is left."""
    make_folders(outbox / "a/b/c", outbox)
    make_folders(outbox / "a/b/c", outbox)
    make_folders(outbox, outbox)
    assert tree(outbox) == {"a": None, "a/b": None, "a/b/c": None}


def test_leftovers(outbox: Path) -> None:
    """Only our own unfinished files go; a folder's own configuration is none of them."""
    for name in (f"{TEMPORARY}0123", ".venice-watch.yaml", "cat.png", "x.venice-watch-1"):
        (outbox / name).write_bytes(b"")
    (outbox / f"{TEMPORARY}folder").mkdir()
    (outbox / f"{TEMPORARY}link").symlink_to("cat.png")
    assert clear_leftovers(outbox) == 1
    assert f"{TEMPORARY}0123" not in tree(outbox)
    assert len(tree(outbox)) == 5
    assert clear_leftovers(outbox / "missing") == 0


def test_same_content(tmp_path: Path) -> None:
    """Files are the same by their bytes; links and folders are the same as nothing."""
    contents = {"a": DATA, "b": DATA, "c": DATA[:-1] + b"X", "d": DATA[:-1], "e": b"", "f": b""}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()

    def same(first: str, second: str) -> bool:
        return same_content(tmp_path / first, tmp_path / second)

    assert same("a", "b")
    (tmp_path / "g").write_bytes(b"x")
    (tmp_path / "h").symlink_to("g")  # one byte as well: the length of its path
    assert not same("g", "h")
    assert same("e", "f")
    for other in ("c", "d", "e", "link", "dangling", "folder"):
        assert not same("a", other), other
