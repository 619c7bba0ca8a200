"""The watch over one inbox: whether the kernel's events can be had and believed, and why not.

Events are had where the file system is one whose events were measured to be right, or the user
asks for them. The watch is begun again when another folder stands there, when the kernel ended it,
or when it turns out to be blind. Where it cannot be had, the caller scans more often, and here it
is tried again: `trouble` says why.
"""

import asyncio
import contextlib
import errno
import math
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.config.model import Folder, Watch
from venice_watch.intake import look, mounts
from venice_watch.intake.junk import Names
from venice_watch.intake.observer import NativeObserver
from venice_watch.intake.root import Standing

ATTACH_S = (1.0, 30.0)  # between these, doubling, while events cannot be had
HOLE_LOOK_S = 2.0  # a folder made while it was scanned is watched by then
EVIDENCE_S = 2.0  # the slowest event is here by then
MISSES_MAX = 3  # in a row; then files come from where the kernel does not see them
DISTRUST_S = 600.0  # before events are tried again where they were missed so often
SETTINGS = Path("/proc/sys")
# What to raise, and to how much at least: the first is the kernel's own table of limits, the second
# that of the user namespace, which a container may have lower.
LIMITS = {
    errno.ENOSPC: ("watches", "fs.inotify.max_user_watches", "user.max_inotify_watches", 524_288),
    errno.EMFILE: ("instances", "fs.inotify.max_user_instances", "user.max_inotify_instances", 512),
}


class Keeper:
    """Keeps one inbox watched, and knows how far its events can be believed."""

    def __init__(
        self,
        folder: Folder,
        *,
        clock: Clock,
        log: FilteringBoundLogger,
        wake: Callable[[], None],
    ) -> None:
        self.trouble: str | None = None  # why there are no events although there should be
        self._folder = folder
        self._names = Names.of(folder)
        self._clock = clock
        self._log = log
        self._wake = wake
        self._begun = False  # `once` looks, and watches nothing
        self._kind = "unknown"
        self._observer: NativeObserver | None = None
        self._starting: NativeObserver | None = None
        self._identity: tuple[int, int] | None = None  # of what is watched
        self._attach_at = 0.0
        self._failures = 0
        self._told = False  # that the watch was lost or cannot be had
        self._holes: frozenset[str] = frozenset()  # folders that were not watched at the last look
        self._rebuilt = False  # for holes that are still to be looked at again
        self._settled = False  # a whole scan was taken under this watch: what is new has events
        self._unannounced: dict[str, float] = {}  # file: when a scan found it, and no event had
        self._expected: set[str] = set()  # files that a scan will find anew, and rightly
        self._announced = False  # any file, since the last scan
        self._misses = 0
        self._distrusted = False

    @property
    def native(self) -> bool:
        """Tell whether events say where to look."""
        return self._observer is not None

    @property
    def polling_why(self) -> str | None:
        """Return why the inbox is looked through instead; None: it is watched."""
        if self.native:
            return None
        if self.trouble is not None:
            return self.trouble
        if self._folder.watch is Watch.POLLING:
            return "`watch: polling` says so"
        if not self._wanted:
            return f"of a file system of the kind {self._kind} the kernel does not tell everything"
        return "the watch has not begun"

    @property
    def trusted(self) -> bool:
        """Tell whether the kernel sees every writer: the file system is local."""
        return self._kind in mounts.TRUSTED and not self._distrusted

    @property
    def _wanted(self) -> bool:
        match self._folder.watch:
            case Watch.AUTO:
                return self._kind in mounts.TRUSTED
            case chosen:
                return chosen is Watch.NATIVE

    # --- having it -------------------------------------------------------------------------------

    async def begin(self, standing: Standing | None) -> None:
        """Begin to watch, at once or as soon as there is something to be watched."""
        self._begun = True
        if standing is not None:
            await self.attend(standing)

    async def attend(self, standing: Standing) -> None:
        """Begin, or begin again, to watch what stands there now, where that is due."""
        self._kind = standing.kind
        if not self._begun or not self._wanted:
            await self.detach()
            self.trouble, self._told = None, False
            return
        if self._observer is not None:
            reason = await self._why_lost(self._observer, standing)
            if reason is None:
                return
            await self._rebuild(reason)
        elif self._identity not in (None, standing.identity):
            self._attach_at = 0.0  # another file system has other limits
        if self._clock.monotonic() >= self._attach_at:
            await self._attach(standing)

    async def detach(self) -> None:
        """End the watch."""
        self.pause()
        ending = [one for one in (self._observer, self._starting) if one is not None]
        self._observer = self._starting = None
        for observer in ending:
            await asyncio.to_thread(observer.stop)

    def pause(self) -> None:
        """Take nothing for evidence until a whole scan was taken again."""
        self._settled = False
        self._unannounced.clear()

    async def _why_lost(self, observer: NativeObserver, standing: Standing) -> str | None:
        if standing.identity != self._identity:
            return "another folder stands there now"
        if not await asyncio.to_thread(observer.is_alive):
            return "the kernel ended it, or its thread died"
        return None

    async def _rebuild(self, reason: str) -> None:
        self._log.warning("watch.lost", reason=reason)
        self._told = True
        self._attach_at = 0.0
        await self.detach()

    async def _attach(self, standing: Standing) -> None:
        observer = NativeObserver(self._folder.inbox, asyncio.get_running_loop(), self._wake)
        self._identity = standing.identity
        self._distrusted = False
        self._starting = observer
        try:
            await asyncio.to_thread(observer.start, recursive=self._folder.recursive)
        except (OSError, RuntimeError) as exc:  # the kernel's limits, or no more threads
            await self._give_up(say(exc))
        else:
            self._observer, self._starting = observer, None

    async def _give_up(self, why: str, *, wait_s: float | None = None) -> None:
        """Let the inbox be scanned instead, and try again later."""
        if wait_s is None:
            low_s, high_s = ATTACH_S
            wait_s = min(high_s, low_s * 2.0**self._failures)
            self._failures += 1
        if why != self.trouble:
            self._log.warning("watch.failed", error=why, instead="polling")
        self._told = True
        self.trouble = why
        self._attach_at = self._clock.monotonic() + wait_s
        await self.detach()

    # --- believing it ----------------------------------------------------------------------------

    def take_hints(self) -> tuple[dict[str, bool], bool]:
        """Return {path: is it a folder} that events told of, and whether some were lost."""
        if self._observer is None:
            return {}, False
        hints, overflowed = self._observer.take_hints()
        if overflowed:
            self.pause()
        # our own moves are told of too, and prove nothing about files that come
        self._announced = self._announced or any(
            look.is_ours(path, recursive=True, names=self._names)
            for path, is_folder in hints.items()
            if not is_folder
        )
        folders = tuple(
            f"{path}/" if path else "" for path, is_folder in hints.items() if is_folder
        )
        for path in list(self._unannounced):
            if path in hints or path.startswith(folders):
                del self._unannounced[path]
        return hints, overflowed

    def expect(self, path: str) -> None:
        """Do not wonder when a scan finds this file anew: it was there all the time."""
        self._expected.add(path)

    async def judge(
        self,
        *,
        folders: Collection[str],
        found: Iterable[str],
        pending: Collection[str],
        complete: bool,
    ) -> float:
        """Compare a scan with what events told; return after how long to scan again at the latest.

        `folders` are those that the scan looked into, `found` the files that were new to us,
        `pending` those that are not complete yet.
        """
        if self._observer is None:
            return math.inf
        again_s = await self._judge_holes(self._observer, folders)
        if self._observer is not None:
            await self._judge_evidence(found, pending)
        self._settled = complete and self._observer is not None
        self._announced = False
        return again_s

    async def _judge_holes(self, observer: NativeObserver, folders: Collection[str]) -> float:
        """Look for folders that are not watched: at the limit watchdog leaves them out silently."""
        missing = frozenset(await asyncio.to_thread(observer.unwatched, folders))
        lasting = missing & self._holes
        self._holes = missing
        if not missing:
            self._rebuilt = False
            self._succeed()
            return math.inf
        error = await asyncio.to_thread(observer.try_watch, min(lasting or missing))
        if error is not None and error.errno in LIMITS:
            await self._give_up(say(error))
        elif lasting and self._rebuilt:
            await self._give_up(f"{len(lasting)} folders cannot be watched, such as {min(lasting)}")
        elif lasting:
            await self._rebuild(f"{len(lasting)} folders were not watched, such as {min(lasting)}")
            self._rebuilt = True
            return 0.0
        return HOLE_LOOK_S

    def _succeed(self) -> None:
        self._failures = 0
        self.trouble = None
        if self._told:
            self._told = False
            self._log.info("watch.attached_again")

    async def _judge_evidence(self, found: Iterable[str], pending: Collection[str]) -> None:
        """Count files that were taken, and that no event had told of."""
        now = self._clock.monotonic()
        # who still writes will be told of when the file is closed
        missed = [
            path
            for path, at in self._unannounced.items()
            if path not in pending and now - at >= EVIDENCE_S
        ]
        for path in missed:
            del self._unannounced[path]
        if self._settled:
            self._unannounced |= {path: now for path in found if path not in self._expected}
        self._expected.clear()
        if missed:
            await self._distrust(missed)
        elif self._announced:
            self._misses = 0

    async def _distrust(self, missed: list[str]) -> None:
        self._misses += 1
        self._log.warning("watch.missed", files=len(missed), such_as=missed[0])
        if self._misses < MISSES_MAX:
            await self._rebuild("files came that no event had told of")
            return
        self._misses = MISSES_MAX - 1  # when it is tried again, once more is enough
        await self._give_up(
            "files come that the kernel does not tell of, as when they are written on another "
            f"machine; the last one was {missed[0]}",
            wait_s=DISTRUST_S,
        )
        self._distrusted = True


def say(error: OSError | RuntimeError) -> str:
    """Say why there is no watch, and where a limit is reached, what to run."""
    if not isinstance(error, OSError) or error.errno not in LIMITS:
        return str(error)
    if error.errno == errno.EMFILE and not _may_open():
        return "this process has too many files open: raise its LimitNOFILE"
    what, kernels, users, least = LIMITS[error.errno]
    limits = [(limit, name) for name in (users, kernels) if (limit := _read(name)) is not None]
    if not limits:
        return f"the limit of inotify {what} is reached: raise {kernels}"
    # equal outside of containers, where the kernel's own name is the one to use
    limit, name = min(limits, key=lambda one: (one[0], one[1] == users))
    return (
        f"the limit of {limit:,} inotify {what} is reached, so files are found by scans alone. "
        f"Run: sysctl -w {name}={max(least, 2 * limit)}"
    )


def _read(name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((SETTINGS / name.replace(".", "/")).read_text())
    return None


def _may_open() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
