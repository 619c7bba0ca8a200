"""Whether this process still moves; told to systemd: STATUS in words, WATCHDOG while it does.

Rules: a ping says that the loop turned, the ledger's thread answered, the threads for files are not
all stuck, and each inbox's watch moves or waits for something outside of this process. To wait for
a disk or a share is no hang: a restart would put requests under way in doubt, and mend no share.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from venice_watch.budget import Limit, Period, current, usd
from venice_watch.clock import Clock
from venice_watch.daemon import report
from venice_watch.pipeline.passage import Parts
from venice_watch.service.systemd import Notifier

STATUS_S = 5.0  # at least between two words about how things stand
ANSWER_S = 30.0  # for the ledger: a disk that has slept spins up in half of that
HANG_S = 60.0  # without a move
WAIT_S = 5.0  # of a call to a disk: whoever stands still may be waiting for that
HANG_LOOK_S = 5.0  # between looks whether a hang is over
JUDGE_S = 15.0  # between looks whether anything hangs, where systemd wants no ping
_P = ParamSpec("_P")
_T = TypeVar("_T")


class FileThreads(ThreadPoolExecutor):
    """Threads for files, which know since when each call has been under way."""

    def __init__(self, threads_max: int, clock: Clock) -> None:
        super().__init__(threads_max, thread_name_prefix="files")
        self.threads_max = threads_max
        self._clock = clock
        self._numbers = itertools.count()
        self._begun: dict[int, float] = {}

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        """Run a function in a thread."""
        number = next(self._numbers)

        def call() -> _T:
            self._begun[number] = self._clock.monotonic()
            try:
                return fn(*args, **kwargs)
            finally:
                del self._begun[number]

        return super().submit(call)

    def waiting_s(self) -> list[float]:
        """Return for how long each call has been under way, in seconds."""
        now = self._clock.monotonic()
        return [now - begun for begun in list(self._begun.values())]


def find_hang(
    *,
    ledger_s: float,
    calls_s: Collection[float],
    threads_max: int,
    still_s: Mapping[str, float],
) -> str | None:
    """Return what hangs although nothing outside of this process is waited for, or None.

    `ledger_s`: for how long a question to the ledger has had no answer. `calls_s`: for how long
    calls to disks have been under way. `still_s`: for how long a folder's watch has not moved.
    """
    if ledger_s >= ANSWER_S:
        return "the ledger"
    stuck = sum(one_s >= HANG_S for one_s in calls_s)
    if stuck >= threads_max:
        return "every thread for files"
    waits = any(one_s >= WAIT_S for one_s in calls_s)
    still = sorted(name for name, one_s in still_s.items() if one_s >= HANG_S)
    return f"the watch over {still[0]}" if still and not waits else None


class Health:
    """Keeps systemd told; made by the daemon."""

    def __init__(
        self,
        parts: Callable[[], Parts],  # another configuration makes others
        notifier: Notifier,
        *,
        threads: FileThreads,
        stirred: asyncio.Event,
    ) -> None:
        self._parts = parts
        self._notifier = notifier
        self._threads = threads
        self._stirred = stirred  # there may be something new to say
        self._question: asyncio.Task[str] | None = None
        self._asked_at = 0.0
        self._status = ""
        self._hang: str | None = None
        self._silent: frozenset[str] = frozenset()  # folders that were said to be

    @property
    def hang(self) -> str | None:
        """Return what stands still although nothing outside of this process is waited for."""
        return self._hang

    async def keep_told(self) -> None:
        """Judge until cancelled whether all moves, and tell systemd how things stand."""
        clock, every_s = self._parts().clock, self._notifier.watchdog_s or JUDGE_S
        ping_at = clock.monotonic()
        try:
            while True:
                status = await self._ask()
                self._judge()
                if self._hang is None and clock.monotonic() >= ping_at:
                    if self._notifier.watchdog_s is not None:
                        self._notifier.send(WATCHDOG=1)
                    ping_at = clock.monotonic() + every_s
                if status not in (None, self._status):
                    self._status = str(status)
                    self._notifier.send(STATUS=self._status)
                await self._wait(ping_at - clock.monotonic())
        finally:
            if self._question is not None:
                self._question.cancel()

    async def _wait(self, ping_s: float) -> None:
        """Wait for the next ping, or for news, which come a few seconds apart at least."""
        if self._hang is not None:
            await self._parts().clock.sleep(HANG_LOOK_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, ping_s)):
                await self._parts().clock.sleep(STATUS_S)
                await self._stirred.wait()
        self._stirred.clear()

    async def _ask(self) -> str | None:
        """Ask the ledger how things stand; None while it does not answer."""
        if self._question is None:
            self._question = asyncio.create_task(self._describe())
            self._asked_at = self._parts().clock.monotonic()
            await asyncio.wait({self._question}, timeout=ANSWER_S)
        if not self._question.done():
            return None
        question, self._question = self._question, None
        return question.result()

    async def _describe(self) -> str:
        parts = self._parts()
        today = current(
            Limit(folder=None, period=Period.DAY, microusd=0), parts.clock.now()
        )  # what was spent, whatever may be
        [spent_microusd] = await parts.ledger.spent([today])
        unpaid = sum((await parts.ledger.waiting()).values())
        in_flight = parts.gate.in_flight
        words = f"{max(0, unpaid - in_flight)} waiting, {in_flight} in flight"
        words += f", {usd(spent_microusd)} USD today"
        if parts.gate.halted is not None:
            return f"{words}; stopped: {parts.gate.halted}"
        troubled = report.troubles(parts)
        return (
            f"{words}; {len(troubled)} in trouble, see `venice-watch status`" if troubled else words
        )

    def _judge(self) -> None:
        """Find out whether anything hangs, and say so once."""
        parts, now = self._parts(), self._parts().clock.monotonic()
        # while its disk is in trouble the ledger makes everybody wait, and says so itself
        excused = parts.ledger.trouble is not None
        silent = {} if excused else report.silent_s(parts)
        hang = find_hang(
            ledger_s=0.0 if excused or self._question is None else now - self._asked_at,
            calls_s=self._threads.waiting_s(),
            threads_max=self._threads.threads_max,
            still_s=silent,
        )
        if hang != self._hang and hang is not None:
            parts.log.error("health.hangs", what=hang, next="systemd restarts it if that goes on")
        elif hang is None and self._hang is not None:
            parts.log.info("health.moves_again")
        self._hang = hang
        late = frozenset(name for name, one_s in silent.items() if one_s >= report.SILENT_S)
        for name in sorted(late - self._silent):
            parts.log.warning("folder.silent", folder=name, seconds=round(silent[name]))
        self._silent = late
