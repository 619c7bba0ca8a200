"""What is begun next: due jobs of folders that have room, as long as nobody says stop.

Folders of a higher priority come first; those of one priority take turns.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from venice_watch.config.model import Folder
from venice_watch.job import Job
from venice_watch.pipeline import line
from venice_watch.pipeline.passage import Parts

LOOKAHEAD = 2  # images read and decoded while all turns are taken, so that none stays empty
DELIVERIES_MAX = 8  # results of one folder on their way out; an outbox that hangs stops there
_T = TypeVar("_T")


class Dispatcher:
    """Claims what is due and starts it, each job in a task of its own."""

    def __init__(self, parts: Parts, folders: Mapping[str, Folder], *, wake: asyncio.Event) -> None:
        self.wake = wake  # there may be something to begin
        self.stirred = asyncio.Event()  # something came, began or ended: how things stand changed
        self.stopping = asyncio.Event()
        self.in_hand: set[int] = set()  # jobs that a task works on
        self.tasks: set[asyncio.Task[None]] = set()
        self._parts = parts
        self._folders = folders
        self._busy: Counter[str] = Counter()  # images before or in their turn, by folder
        self._delivering: Counter[str] = Counter()  # results on their way out, by folder
        self._begun: Counter[str] = Counter()  # when a folder had its last turn: a number
        self._turns = itertools.count(1)

    def adopt(self, parts: Parts, folders: Mapping[str, Folder]) -> None:
        """Begin what is begun from now on by another configuration."""
        self._parts, self._folders = parts, folders
        self.wake.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self.stopping.set()
        self.wake.set()

    async def run(
        self, group: asyncio.TaskGroup, *, until: Callable[[], Coroutine[Any, Any, bool]] | None
    ) -> None:
        """Claim what is due and start it, until told to stop or `until` says so."""
        while not self.stopping.is_set():
            self.wake.clear()
            self.stirred.set()
            parts, folders = self._parts, self._folders
            job = await self._unless_stopping(self._claim())
            if job is None:
                if until is not None and await self._unless_stopping(until()):
                    return
                await self._unless_stopping(self._wait_for_work())
                continue
            folder = folders[job.folder]  # as it was when this was claimed
            self._busy[folder.name] += 1
            self._begun[folder.name] = next(self._turns)
            self.in_hand.add(job.id)
            task = group.create_task(self._work(parts, folder, job))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _unless_stopping(self, step: Coroutine[Any, Any, _T]) -> _T | None:
        """Take a step that may wait for the ledger's disk, but not beyond the word to stop.

        A claim that is written down after that is nobody's: the next start frees it.
        """
        task = asyncio.ensure_future(step)
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stopping.cancel()

    async def _claim(self) -> Job | None:
        return await self._parts.ledger.claim(
            now=self._parts.clock.now(),
            only_folders=self._open_folders(),
            deliver_in=self._deliverable_folders(),
        )

    def _deliverable_folders(self) -> list[str]:
        """Return the folders into which another result may be put; a held one too."""
        return [name for name in self._folders if self._delivering[name] < DELIVERIES_MAX]

    def _open_folders(self) -> list[str]:
        """Return the folders from which another image may be begun, whose turn it is first.

        A folder has as many images in work as it may have turns, and a few more, so that no turn
        stays empty; what waits for its own folder's limit, or behind a lower priority, is in
        nobody else's way.
        """
        ceiling = self._parts.config.api.concurrency
        now = self._parts.clock.monotonic()
        found = [
            name
            for name, folder in self._folders.items()
            if self._busy[name] < self._limit(folder) + LOOKAHEAD
            and self._useful(folder.priority) < ceiling + LOOKAHEAD
            and self._delivering[name] < DELIVERIES_MAX
            and self._may_try(name, now)
        ]
        return sorted(found, key=self._rank)

    def _rank(self, name: str) -> tuple[int, int, int]:
        """Return what the order of folders goes by: priority, then whose turn it is."""
        return (-self._folders[name].priority, self._busy[name], self._begun[name])

    def _limit(self, folder: Folder) -> int:
        ceiling = self._parts.config.api.concurrency
        return min(folder.concurrency or ceiling, ceiling)

    def _useful(self, priority: int) -> int:
        """Return how many images of this priority or a higher one could be sent at once."""
        return sum(
            min(self._busy[name], self._limit(folder))
            for name, folder in self._folders.items()
            if folder.priority >= priority
        )

    def _may_try(self, name: str, now: float) -> bool:
        """Tell whether a folder is not held, or may try one image to see whether it still is.

        One that is paused, or whose inbox is away, is not asked for files until that is over.
        """
        if self._parts.trackers[name].root.away or self._parts.paused.of(name) is not None:
            return False
        hold = self._parts.tally.held.get(name)
        return hold is None or (now >= hold.until and self._busy[name] == 0)

    async def _wait_for_work(self) -> None:
        """Wait for an arrival, a finished task, the next job's time, or the end of a hold."""
        due_at = await self._parts.ledger.next_due_at(
            only_folders=self._open_folders(), deliver_in=self._deliverable_folders()
        )
        waits_s = [] if due_at is None else [max(0.0, due_at - self._parts.clock.now())]
        now = self._parts.clock.monotonic()
        holds = self._parts.tally.held.values()
        waits_s += [hold.until - now for hold in holds if hold.until > now]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits_s, default=None)):
                await self.wake.wait()

    async def _work(self, parts: Parts, folder: Folder, job: Job) -> None:
        counters = [self._busy]

        def on_sent() -> None:
            counters.pop()[folder.name] -= 1
            self._delivering[folder.name] += 1
            counters.append(self._delivering)
            self.wake.set()

        try:
            await line.work(parts, folder, job, on_sent)
        except Exception:
            # what is under way elsewhere is paid for, and must not be cut off by this
            parts.log.exception("job.bug", folder=folder.name, path=job.path)
        finally:
            self.in_hand.discard(job.id)
            counters.pop()[folder.name] -= 1
            self.wake.set()
