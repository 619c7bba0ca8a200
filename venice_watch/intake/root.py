"""The root of an inbox: which folder it is, and whether it is the one that it was.

A mount point whose share is away is an empty folder like any other, so the ledger remembers where
each inbox was mounted. One that is mounted higher up now is away, unless this process has worked in
that very folder before: then what had been mounted over it was taken away again.
"""

import asyncio
import contextlib
import errno
import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from venice_watch.intake import mounts
from venice_watch.ledger import Ledger

WORDS = {
    errno.ENOENT: "it is not there. Make it, or mount its share",
    errno.ENOTDIR: "it is no folder, or below what is none. Make it one",
    errno.EACCES: "this user may not read it. Give it the right to read and enter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Which folder a path leads to."""

    identity: tuple[int, int]  # device and inode
    mount_point: str
    kind: str  # of file system


class InboxRoot:
    """Knows whether an inbox is the folder that it was, and says so when it is not."""

    def __init__(
        self, path: Path, ledger: Ledger, *, log: FilteringBoundLogger, wake: Callable[[], None]
    ) -> None:
        self.trouble: str | None = None  # why the inbox, or a part of it, cannot be read
        self.away = False  # all of it: its files wait, and nothing is concluded about them
        self._path = path
        self._ledger = ledger
        self._log = log
        self._wake = wake
        self._table: MountTable | None = None
        self._mounts_changed = False
        self._asked = False
        self._earlier: str | None = None  # where it was mounted when it was last used
        self._used: set[tuple[int, int]] = set()  # folders that this process worked in
        self._last: Standing | None = None

    async def look(self) -> Standing | None:
        """Return which folder the inbox is, or None, having said so, where it is away."""
        self._mounts_changed = False
        try:
            self._last = await self._find()
        except OSError as exc:
            self._last = None
            self.report(f"{self._path}: {exc.strerror}", away=True)
        return self._last

    def is_at(self, identity: tuple[int, int] | None) -> bool:
        """Tell whether the last look found this folder; None: none was looked through yet."""
        return identity is None or (self._last is not None and self._last.identity == identity)

    async def is_another(self) -> bool:
        """Tell whether a mount has changed meanwhile, and the inbox is another one for it."""
        if not self._mounts_changed:
            return False
        before = self._last
        return await self.look() != before

    def report(self, trouble: str | None, *, away: bool = False) -> None:
        """Note how a look at the inbox ended, and say it if that is news."""
        if away != self.away:
            self.away = away
            self._wake()
        if trouble == self.trouble:
            return
        if trouble is None:
            self._log.info("folder.readable_again", inbox=str(self._path))
        else:
            self._log.error("folder.unreadable", inbox=str(self._path), error=trouble)
        self.trouble = trouble

    def watch_mounts(self) -> None:
        """Be told of every mount; where that cannot be had, the next scan finds out."""
        with contextlib.suppress(OSError):
            self._table = MountTable(self._on_mounts)

    def close(self) -> None:
        """End being told."""
        if self._table is not None:
            self._table.close()

    def _on_mounts(self) -> None:
        self._mounts_changed = True
        self._wake()

    async def _find(self) -> Standing:
        """Return which folder it is; raise OSError where that is away or cannot be read."""
        if not self._asked:
            self._earlier = (await self._ledger.mounts()).get(str(self._path))
            self._asked = True
        standing, why = await asyncio.to_thread(self._look)
        if why is not None and standing.identity not in self._used:
            raise OSError(errno.ENODEV, why, str(self._path))
        self._used.add(standing.identity)
        if self._earlier != standing.mount_point:
            await self._ledger.remember_mount(str(self._path), standing.mount_point)
            self._earlier = standing.mount_point
        return standing

    def _look(self) -> tuple[Standing, str | None]:
        try:
            identity = identify(self._path)
        except OSError as exc:
            words = WORDS.get(exc.errno or 0, exc.strerror)
            raise OSError(exc.errno, words, str(self._path)) from exc
        mount_point, why = mounts.look_at(self._path, self._earlier)
        kind = mounts.file_system_of(self._path)
        return Standing(identity=identity, mount_point=mount_point, kind=kind), why


def identify(path: Path) -> tuple[int, int]:
    """Return device and inode of a folder that can be read; raise OSError where it cannot."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        os.stat(".", dir_fd=descriptor)  # reading is not enough: it must be entered too
    finally:
        os.close(descriptor)
    return status.st_dev, status.st_ino


class MountTable:
    """Calls back on the loop whenever anything is mounted or unmounted."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._poll = select.epoll()
        # the kernel always calls the table readable, and says by POLLPRI that it has changed: the
        # loop cannot tell these apart, so it watches a poll that waits for the latter only
        self._table = os.open(mounts.MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        self._poll.register(self._table, select.EPOLLPRI)
        self._loop.add_reader(self._poll.fileno(), self._take)

    def _take(self) -> None:
        self._poll.poll(0)
        self._on_change()

    def close(self) -> None:
        """End it."""
        self._loop.remove_reader(self._poll.fileno())
        self._poll.close()
        os.close(self._table)
