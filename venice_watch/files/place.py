"""Putting files where people see them: whole, durable, and never over another one."""

import contextlib
import ctypes
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from venice_watch.errors import VeniceWatchError
from venice_watch.files.pieces import COPY_BYTES, Piece, read_pieces, size_of, write_pieces

TEMPORARY = ".venice-watch-"  # every name that is not finished begins so; leftovers are cleared
_RENAME_NOREPLACE = 1  # linux/fs.h
AT_FDCWD = -100  # fcntl.h: relative to the working directory
_NO_RENAMEAT2 = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_NO_LINKS = (*_NO_RENAMEAT2, errno.EPERM)  # FAT says so


class NameTakenError(VeniceWatchError):
    """There is a file of that name already."""


def publish(
    spooled: Path,
    target: Path,
    pieces: Sequence[Piece],
    *,
    root: Path,
    mode: int,
    mtime_ns: int | None = None,
    overwrite: bool,
) -> None:
    """Let a file appear as `target`, whole, durable, and in no one's way.

    It is made of `pieces`, whose spans are of `spooled`. `root` is the outbox: the file is finished
    there, its permissions and its time (None: now) included, and renamed. Raises NameTakenError.
    """
    make_folders(target.parent, root)
    with _finished(spooled, pieces, temporary_for(target, root)) as (temporary, descriptor):
        with contextlib.suppress(OSError):  # FAT and some shares have no modes
            os.fchmod(descriptor, mode)
        if mtime_ns is not None:
            with contextlib.suppress(OSError, OverflowError):  # nor every time that can be told
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
        os.fsync(descriptor)
        place(temporary, target, overwrite=overwrite)
    sync_folder(target.parent)


def is_published(spooled: Path, target: Path, pieces: Sequence[Piece]) -> bool:
    """Tell whether `target` is a regular file made of exactly these pieces."""
    status = target.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size != size_of(pieces):
        return False
    with _opened(spooled) as source, target.open("rb") as there:
        return all(there.read(len(data)) == data for data in read_pieces(source, pieces))


def write_report(target: Path, report: Mapping[str, object], *, root: Path) -> None:
    """Write a JSON report that appears whole; raises NameTakenError."""
    make_folders(target.parent, root)
    text = json.dumps(report, indent=2, ensure_ascii=True) + "\n"
    temporary = temporary_for(target, root)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        place(temporary, target, overwrite=False)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def temporary_for(target: Path, root: Path) -> Path:
    """Return an unused name from which `target` can be had by a rename.

    In the root, so that leftovers are found by listing one folder; in the target's own folder
    only where that is another file system.
    """
    same = root.stat().st_dev == target.parent.stat().st_dev
    return (root if same else target.parent) / f"{TEMPORARY}{secrets.token_hex(8)}"


@contextlib.contextmanager
def _finished(
    spooled: Path, pieces: Sequence[Piece], temporary: Path
) -> Iterator[tuple[Path, int]]:
    """Yield a new file that holds the pieces, and its descriptor; it is gone afterwards."""
    with _opened(spooled) as source:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            write_pieces(source, descriptor, pieces)
            yield temporary, descriptor
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def place(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Rename `temporary` to `target`; unless `overwrite`, only if nothing is there."""
    if overwrite:
        temporary.replace(target)
        return
    rename_noreplace(os.fsencode(temporary), os.fsencode(target))


def rename_noreplace(
    source: bytes,
    target: bytes,
    *,
    source_folder: int = AT_FDCWD,
    target_folder: int = AT_FDCWD,
) -> None:
    """Rename atomically without replacing: renameat2, else a hard link, else look first."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        done = libc.renameat2(source_folder, source, target_folder, target, _RENAME_NOREPLACE)
        if done == 0:
            return
        number = ctypes.get_errno()
        if number == errno.EEXIST:
            raise NameTakenError(os.fsdecode(target))
        if number not in _NO_RENAMEAT2:
            raise OSError(number, os.strerror(number), os.fsdecode(target))
    folder = None if source_folder == AT_FDCWD else source_folder
    into = None if target_folder == AT_FDCWD else target_folder
    try:
        os.link(source, target, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)
    except FileExistsError as exc:
        raise NameTakenError(os.fsdecode(target)) from exc
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
    else:
        try:
            os.unlink(source, dir_fd=folder)
        except OSError:
            os.unlink(target, dir_fd=into)  # it may not be moved: leave it where it is, once
            raise
        return
    # neither is possible there (some network and FAT file systems): what is left is to look
    with contextlib.suppress(FileNotFoundError):
        os.lstat(target, dir_fd=into)
        raise NameTakenError(os.fsdecode(target))
    os.rename(source, target, src_dir_fd=folder, dst_dir_fd=into)


def make_folders(folder: Path, root: Path) -> None:
    """Make `folder` and what is missing between it and `root`; `root` itself must be there.

    A missing root is a share that is not mounted: writing below its mount point would hide the
    files as soon as it comes back.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "the folder is gone; is its share mounted?", str(root)
        )
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def clear_leftovers(root: Path) -> int:
    """Remove unfinished files of an earlier run from a folder's root; return how many.

    Raises OSError where the folder cannot be read.
    """
    removed = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY) and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink()
                removed += 1
    return removed


def same_content(first: Path, second: Path) -> bool:
    """Tell whether two regular files hold the same bytes; a link or a folder holds none."""
    facts = [one.lstat() for one in (first, second)]
    if not all(stat.S_ISREG(one.st_mode) for one in facts):
        return False
    if facts[0].st_size != facts[1].st_size:
        return False
    with first.open("rb") as one, second.open("rb") as other:
        while chunk := one.read(COPY_BYTES):
            if other.read(COPY_BYTES) != chunk:
                return False
    return True


def write_whole(target: Path, text: str, *, mode: int) -> None:
    """Put text where others may read it at any time: all of the new one, or all of the old.

    It replaces what was there, and is not worth an fsync: what a power cut takes is made again.
    """
    temporary = target.with_name(f"{TEMPORARY}{target.name}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, mode), "w", encoding="utf-8") as file:  # noqa: PTH123
            os.fchmod(file.fileno(), mode)
            file.write(text)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
