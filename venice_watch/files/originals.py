"""Putting originals away: archived, deleted, or quarantined with a report; never lost.

An original moves only if it still is the version that was worked on, and only to a free name.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path

from venice_watch.errors import VeniceWatchError
from venice_watch.files.pieces import COPY_BYTES
from venice_watch.files.place import (
    AT_FDCWD,
    TEMPORARY,
    NameTakenError,
    make_folders,
    place,
    rename_noreplace,
    same_content,
    sync_folder,
    temporary_for,
    write_report,
)
from venice_watch.files.source import (
    SourceChangedError,
    SourceGoneError,
    is_gone,
    opened_folder,
    opened_source,
    sign,
)
from venice_watch.job import Signature
from venice_watch.naming import REPORT_SUFFIX, numbered

NAMES_MAX = 100_000  # numbered names tried before giving up: a folder full of one name


class NoFreeNameError(VeniceWatchError):
    """Every numbered name is taken."""


def put_away(
    root: Path,
    relative: str,
    expected: Signature,
    *,
    target_root: Path,
    name_for: Callable[[int], str],
    report: Mapping[str, object] | None = None,
) -> Path:
    """Move an original to the first free of its names below `target_root`; return where it is.

    `name_for(n)` gives the n-th name to try, relative to `target_root`. A `report` is written
    beside it, before the move. Doing it again after a crash finds what was done before.
    """
    for number in range(NAMES_MAX):
        target = target_root / name_for(number)
        told = _Told.NOTHING if report is None else _report(target, report, target_root)
        if told is _Told.BY_ANOTHER:
            continue
        try:
            move_original(root, relative, expected, target, target_root=target_root)
        except NameTakenError:
            if told is _Told.NOW:
                remove_report(target)
        except (SourceGoneError, SourceChangedError):
            # moved before a crash, and perhaps another one was dropped there since
            moved = _find_moved(expected, target_root, name_for)
            if told is not _Told.NOTHING and target != moved:
                remove_report(target)
            if moved is None:
                raise
            _finish_delete(root, relative, expected)
            return moved
        else:
            return target
    raise NoFreeNameError(f"{target_root}: no free name for {relative}")


class _Told(Enum):
    """Whose report lies beside a name."""

    NOTHING = auto()  # none is wanted
    NOW = auto()
    BEFORE = auto()  # ours, from before a crash
    BY_ANOTHER = auto()


def report_of(original: Path) -> Path:
    """Return where the report of a quarantined file is."""
    return original.with_name(original.name + REPORT_SUFFIX)


def remove_report(original: Path) -> None:
    """Remove the report of a file that is no longer in the quarantine."""
    with contextlib.suppress(FileNotFoundError):
        report_of(original).unlink()


def _report(target: Path, report: Mapping[str, object], root: Path) -> _Told:
    """Write the report beside `target`, unless one is there."""
    try:
        write_report(report_of(target), report, root=root)
    except NameTakenError:
        with contextlib.suppress(OSError, ValueError):
            earlier = json.loads(report_of(target).read_bytes())
            if isinstance(earlier, dict) and earlier.get("job") == report.get("job"):
                return _Told.BEFORE
        return _Told.BY_ANOTHER
    return _Told.NOW


def _find_moved(
    expected: Signature, target_root: Path, name_for: Callable[[int], str]
) -> Path | None:
    """Return where an original was moved before a crash, or None."""
    for number in range(NAMES_MAX):
        target = target_root / name_for(number)
        if _is_there(target, expected):
            return target
        if not os.path.lexists(target):
            return None
    return None


def _is_there(target: Path, expected: Signature) -> bool:
    try:
        status = target.lstat()
    except OSError:
        return False
    found = sign(status)
    if found.device != expected.device:  # a copy has an inode of its own
        found = replace(found, inode=expected.inode)
    return stat.S_ISREG(status.st_mode) and found.is_version(expected)


def move_original(
    root: Path, relative: str, expected: Signature, target: Path, *, target_root: Path
) -> None:
    """Move one version of a file out of the inbox, with its bytes and times, durably.

    Raises NameTakenError, SourceGoneError or SourceChangedError; the file is then where it was.
    """
    make_folders(target.parent, target_root)
    parent, name = os.path.split(relative)
    try:
        with opened_folder(root, parent) as folder:
            _check_version(folder, name, expected, relative)
            try:
                rename_noreplace(os.fsencode(name), os.fsencode(target), source_folder=folder)
            except NameTakenError:
                if not _is_one_file(folder, name, target):
                    raise
                os.unlink(name, dir_fd=folder)  # linked there before a crash
            except OSError as exc:
                if exc.errno != errno.EXDEV:
                    raise
                _move_across(root, relative, expected, target, target_root=target_root)
            else:
                if not sign(target.lstat()).is_version(expected):
                    _put_back(os.fsencode(target), folder, name)
                    raise SourceChangedError(f"{relative} was written again")
            sync_folder(target.parent)
            os.fsync(folder)
    except (FileNotFoundError, NotADirectoryError) as exc:
        if not is_gone(root, relative):
            raise  # the share or the target's folder is away, not the file
        raise SourceGoneError(f"{relative} is no longer in {root}") from exc


def _is_one_file(folder: int, name: str, target: Path) -> bool:
    """Tell whether both names stand for one and the same file."""
    source = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return os.path.samestat(source, target.lstat())


def _put_back(moved: bytes, folder: int, name: str, *, source_folder: int = AT_FDCWD) -> None:
    """Return a newcomer that was moved in the original's stead, under the next free name."""
    for number in range(NAMES_MAX):
        free = numbered(name, number) if number else name
        with contextlib.suppress(NameTakenError):
            rename_noreplace(
                moved, os.fsencode(free), source_folder=source_folder, target_folder=folder
            )
            return


def delete_original(root: Path, relative: str, expected: Signature) -> None:
    """Remove one version of a file from the inbox.

    It is renamed first, to a name that nobody else uses: what is looked at is what is removed,
    whoever puts another file into its place meanwhile. Doing it again after a crash ends it.
    """
    parent, name = os.path.split(relative)
    grave = _grave_name(name, expected)
    try:
        with opened_folder(root, parent) as folder:
            if not _is_in(folder, grave):  # else it was renamed before a crash
                _check_version(folder, name, expected, relative)
                rename_noreplace(
                    os.fsencode(name),
                    os.fsencode(grave),
                    source_folder=folder,
                    target_folder=folder,
                )
            _bury(folder, grave, name, expected, relative)
            os.fsync(folder)
    except (FileNotFoundError, NotADirectoryError) as exc:
        if not is_gone(root, relative):
            raise
        raise SourceGoneError(f"{relative} is no longer in {root}") from exc


def _grave_name(name: str, version: Signature) -> str:
    """Return what a file is called while it is removed: the same after a crash.

    Its name is part of it: two names of one file (hard links) go one after the other.
    """
    facts = f"{version.inode} {version.size_bytes} {version.mtime_ns} ".encode()
    return f"{TEMPORARY}delete-{hashlib.sha256(facts + os.fsencode(name)).hexdigest()[:16]}"


def _finish_delete(root: Path, relative: str, expected: Signature) -> None:
    """Remove what a crash left of an original that was copied away; leave its name alone."""
    parent, name = os.path.split(relative)
    grave = _grave_name(name, expected)
    left = (FileNotFoundError, NotADirectoryError, SourceChangedError)
    with contextlib.suppress(*left), opened_folder(root, parent) as folder:
        _bury(folder, grave, name, expected, relative)
        os.fsync(folder)


def _is_in(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _bury(folder: int, grave: str, name: str, expected: Signature, relative: str) -> None:
    """Remove what was renamed, or give a newcomer that was caught in its stead its name back."""
    caught = os.stat(grave, dir_fd=folder, follow_symlinks=False)
    if not sign(caught).is_version(expected):
        _put_back(os.fsencode(grave), folder, name, source_folder=folder)
        raise SourceChangedError(f"{relative} was written again")
    os.unlink(grave, dir_fd=folder)


def _check_version(folder: int, name: str, expected: Signature, relative: str) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or not sign(status).is_version(expected):
        raise SourceChangedError(f"{relative} was written again")


def _move_across(
    root: Path, relative: str, expected: Signature, target: Path, *, target_root: Path
) -> None:
    """Move between file systems: copy, check the copy, only then remove."""
    with opened_source(root, relative) as source:
        temporary = temporary_for(target, target_root)
        try:
            digest = hashlib.sha256()
            with temporary.open("xb") as writer:
                while chunk := os.read(source, COPY_BYTES):
                    digest.update(chunk)
                    writer.write(chunk)
                writer.flush()
                status = os.fstat(source)
                _copy_facts(status, writer.fileno())
                os.fsync(writer.fileno())
            if sign(status) != sign(os.fstat(source)) or not sign(status).is_version(expected):
                raise SourceChangedError(f"{relative} was written while it was copied")
            with temporary.open("rb") as reader:
                if hashlib.file_digest(reader, "sha256").digest() != digest.digest():
                    raise OSError(errno.EIO, "the copy differs from the original", str(target))
            _place_copy(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
    delete_original(root, relative, expected)


def _place_copy(temporary: Path, target: Path) -> None:
    """Place a copy; one that was placed before a crash serves as well."""
    try:
        place(temporary, target, overwrite=False)
    except NameTakenError:
        same_time = temporary.stat().st_mtime_ns == target.lstat().st_mtime_ns
        if not (same_time and not target.is_symlink() and same_content(temporary, target)):
            raise


def _copy_facts(status: os.stat_result, descriptor: int) -> None:
    """Give a copy the original's times, mode and, where allowed, owner."""
    with contextlib.suppress(OSError):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
