"""Reading originals: regular files below the inbox, no link followed, one version at a time."""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from venice_watch.errors import VeniceWatchError
from venice_watch.job import Signature

READ_BYTES = 1 << 24  # at a time


class SourceGoneError(VeniceWatchError):
    """The source is no longer where it was."""


class SourceChangedError(VeniceWatchError):
    """Another version stands where the source was."""


class UnsafeSourceError(VeniceWatchError):
    """Not a regular file reached without links: left alone."""


def sign(status: os.stat_result) -> Signature:
    """Return which version of a file a stat result saw."""
    return Signature(
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )


@contextlib.contextmanager
def opened_folder(root: Path, relative: str) -> Iterator[int]:
    """Yield a descriptor of the folder `relative` below `root`, no link followed on the way."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    try:
        for part in [part for part in relative.split("/") if part]:
            inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_source(root: Path, relative: str) -> Iterator[int]:
    """Yield a descriptor of the regular file `relative` below `root`, no link followed.

    Raises SourceGoneError, UnsafeSourceError, or the OSError of a folder in trouble.
    """
    parent, name = os.path.split(relative)
    # O_NONBLOCK: opening a named pipe must not wait for its writer
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with opened_folder(root, parent) as folder:
            descriptor = os.open(name, flags, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError) as exc:
        if not root.is_dir():
            raise  # the share is away: nothing is known of the file
        raise SourceGoneError(f"{relative} is no longer in {root}") from exc
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            raise UnsafeSourceError(f"{relative} is not a regular file") from exc
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnsafeSourceError(f"{relative} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def is_gone(root: Path, relative: str) -> bool:
    """Tell whether a file is missing from an inbox that is itself there."""
    parent, name = os.path.split(relative)
    try:
        with opened_folder(root, parent) as folder:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return root.is_dir()
    return False


def check_version(root: Path, relative: str, expected: Signature) -> None:
    """Raise unless this very version of the file is still there."""
    with opened_source(root, relative) as descriptor:
        if not sign(os.fstat(descriptor)).is_version(expected):
            raise SourceChangedError(f"{relative} was written again")


def find_retouched(
    root: Path, relative: str, expected: Signature, sha256: bytes
) -> Signature | None:
    """Return the version of a file whose time was set anew and whose bytes are the same, or None.

    unzip and others close a file first and set its time then.
    """
    with opened_source(root, relative) as descriptor:
        now = sign(os.fstat(descriptor))
        if (now.inode, now.size_bytes) != (expected.inode, expected.size_bytes):
            return None
        with os.fdopen(os.dup(descriptor), "rb") as file:
            same = hashlib.file_digest(file, "sha256").digest() == sha256
        return now if same and sign(os.fstat(descriptor)) == now else None


def read_source(root: Path, relative: str, expected: Signature) -> bytes:
    """Return the bytes of one version of a file, or raise that it is gone or another one."""
    with opened_source(root, relative) as descriptor:
        before = sign(os.fstat(descriptor))
        if not before.is_version(expected):
            raise SourceChangedError(f"{relative} was written again")
        # one read as a rule, which is then joined without being copied
        chunks = [os.read(descriptor, before.size_bytes + 1)]
        while chunks[-1] and (chunk := os.read(descriptor, READ_BYTES)):
            chunks.append(chunk)
        data = b"".join(chunks)
        if sign(os.fstat(descriptor)) != before or len(data) != before.size_bytes:
            if is_gone(root, relative):  # its last name going is a change as well
                raise SourceGoneError(f"{relative} left {root} while it was read")
            raise SourceChangedError(f"{relative} was written while it was read")
        return data
