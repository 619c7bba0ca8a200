"""Looks at an inbox and brings back facts: what is in it, and how one file stands.

No decision and no waiting here; all functions block, so they are called in a thread. Links are
never followed, and nothing but regular files is ever opened.
"""

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from venice_watch.clock import Clock
from venice_watch.files.source import (
    SourceGoneError,
    UnsafeSourceError,
    opened_folder,
    opened_source,
    sign,
)
from venice_watch.intake import mounts
from venice_watch.intake.content import HEAD_BYTES, find_end, is_candidate
from venice_watch.intake.junk import USUAL, Names
from venice_watch.job import Signature
from venice_watch.settle import End, Writer

DEPTH_MAX = 64  # folders inside folders; deeper is a loop or a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """That a whole scan took place."""

    at: float  # when it began, in seconds since 1970
    took_s: float
    files: int


@dataclass(slots=True, kw_only=True)
class Survey:
    """What one scan found; `complete` is False where a folder could not be read."""

    devices: set[int] = field(default_factory=set)  # that folders and files were found on
    folders: list[str] = field(default_factory=list)  # that were looked into; the root is ""
    files: dict[str, Signature] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    examples: dict[str, str] = field(default_factory=dict)  # reason: a name that was skipped
    odd: dict[str, str] = field(default_factory=dict)  # path: what it is and what to do

    def skip(self, reason: str, path: str) -> None:
        """Count a name that is not for us."""
        self.skipped[reason] += 1
        if reason != "our own":
            self.examples.setdefault(reason, path)

    def absent(self, known: Mapping[str, Signature]) -> list[str]:
        """Return which files are gone; one whose file system was not seen may only be away."""
        return [
            path
            for path, signature in known.items()
            if path not in self.files and signature.device in self.devices
        ]

    def summarise(self, clock: Clock, began_at: float) -> Scanned:
        """Return when this scan was, which began at `began_at` (monotonic) and has just ended."""
        took_s = clock.monotonic() - began_at
        return Scanned(at=clock.now() - took_s, took_s=round(took_s, 3), files=len(self.files))

    @property
    def complete(self) -> bool:
        """Tell whether everything could be read."""
        return not self.troubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How one file stands right now."""

    signature: Signature
    candidate: bool
    writer: Writer
    end: End


def ignore_lease_breaks() -> None:
    """Keep the process alive when somebody opens a file for writing while we ask about it."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def scan(root: Path, relative: str = "", *, recursive: bool, names: Names = USUAL) -> Survey:
    """Return the regular files below `root`/`relative`; raise OSError if that cannot be read."""
    survey = Survey()
    waiting = [relative]
    while waiting:
        folder = waiting.pop()
        try:
            with opened_folder(root, folder) as descriptor:
                waiting += _scan_folder(descriptor, folder, survey, names, recursive=recursive)
            survey.folders.append(folder)
        except OSError as exc:
            if folder == relative:
                raise
            if exc.errno != errno.ENOENT:  # removed meanwhile: nothing is missed
                survey.troubles.append(f"{folder}: {exc.strerror}")
    return survey


def _scan_folder(
    descriptor: int, folder: str, survey: Survey, names: Names, *, recursive: bool
) -> list[str]:
    """Add the folder's files to the survey and return its sub-folders."""
    inner = []
    survey.devices.add(os.fstat(descriptor).st_dev)
    with os.scandir(descriptor) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink():
                survey.skipped["symbolic link"] += 1
                survey.odd[path] = "a symbolic link: copy the file itself into the inbox"
            elif entry.is_dir(follow_symlinks=False):
                if names.skips_folder(entry.name):
                    survey.skip("system folder", path)
                elif recursive and path.count("/") >= DEPTH_MAX:
                    survey.skip(f"more than {DEPTH_MAX} folders deep", path)
                elif recursive:
                    inner.append(path)
            elif reason := names.skip_reason(entry.name):
                survey.skip(reason, path)
            else:
                _add_file(entry, path, survey)
    return inner


def _add_file(entry: os.DirEntry[str], path: str, survey: Survey) -> None:
    with contextlib.suppress(FileNotFoundError):  # it left between two system calls
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            survey.files[path] = sign(status)
            survey.devices.add(status.st_dev)  # overlays have their files elsewhere
        else:
            survey.skipped["not a regular file"] += 1
            survey.odd[path] = "not a regular file (a pipe, socket or device): remove it"


def is_ours(path: str, *, recursive: bool, names: Names = USUAL) -> bool:
    """Tell whether a path below the inbox is one that a scan would report, by its names."""
    *folders, name = path.split("/")
    if (folders and not recursive) or names.skip_reason(name):
        return False
    return not any(names.skips_folder(folder) for folder in folders)


def sign_path(root: Path, path: str) -> Signature | None:
    """Return the version of a regular file, or None where there is none."""
    parent, name = os.path.split(path)
    try:
        with opened_folder(root, parent) as folder:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return sign(status) if stat.S_ISREG(status.st_mode) else None


def examine(root: Path, path: str, *, trusted: bool) -> Sample | None:
    """Return how a file stands, or None where it is gone; OSError where it cannot be opened.

    `trusted`: the kernel sees every writer, because the file system is local.
    """
    try:
        with opened_source(root, path) as descriptor:
            signature = sign(os.fstat(descriptor))
            head = os.pread(descriptor, HEAD_BYTES, 0)
            return Sample(
                signature=signature,
                candidate=is_candidate(path.rpartition("/")[2], head),
                writer=ask_for_writers(descriptor) if trusted else Writer.UNKNOWN,
                end=find_end(descriptor, signature.size_bytes),
            )
    except (SourceGoneError, UnsafeSourceError):
        return None


def is_written(root: Path, path: str) -> bool:
    """Tell whether a process on this machine has a file open for writing, as far as is known."""
    if mounts.file_system_of(root) not in mounts.TRUSTED:
        return False  # a network mount refuses leases for reasons of its own
    try:
        with opened_source(root, path) as descriptor:
            return ask_for_writers(descriptor) is Writer.SOME
    except (OSError, SourceGoneError, UnsafeSourceError):
        return False


def ask_for_writers(descriptor: int) -> Writer:
    """Ask the kernel whether any process has this open file open for writing.

    A read lease is refused while one has; it is given back at once. Needs to own the file or
    CAP_LEASE, else the answer is UNKNOWN.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        return Writer.SOME if exc.errno == errno.EAGAIN else Writer.UNKNOWN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return Writer.NONE
