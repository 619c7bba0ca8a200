"""Notices on their way to one receiver: a short queue, tried again with patience, dropped at last.

Rules: whoever hands a notice over never waits; a receiver that hangs or fails for hours costs one
task and one queue; a failure is said once, and stands until something arrives.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.config.outside import Receiver
from venice_watch.notice import Notice
from venice_watch.notify.post import Answer, Line, Message

QUEUE_MAX = 32  # notices for one receiver: hours of them; then the oldest goes
WAITS_S = (2.0, 10.0, 60.0, 300.0, 600.0)  # before each next try; the last one from then on
KEPT_S = 6 * 3600.0  # after that a notice is no news


class Courier:
    """Carries notices to one receiver."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        name: str,  # to call it by where others may read
        clock: Clock,
        log: FilteringBoundLogger,
        on_trouble: Callable[[str, str | None], None],
    ) -> None:
        self.receiver = receiver
        self.name = name
        self.sent = 0
        self.dropped = 0
        self._line = Line(receiver)
        self._clock = clock
        self._log = log
        self._on_trouble = on_trouble
        self._trouble: str | None = None
        self._queue: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def hand_over(self, notice: Notice) -> None:
        """Take a notice; it is sent as soon as may be."""
        while len(self._queue) >= QUEUE_MAX:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(Message(notice=notice, at=self._clock.now()))
        self._empty.clear()
        self._wake.set()

    async def run(self) -> None:
        """Carry until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._carry(self._queue[0])
                self._empty.set()
        finally:
            await self._line.close()

    async def wait_empty(self, most_s: float) -> None:
        """Wait until everything was carried, but not longer than `most_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._empty.wait()

    async def _carry(self, message: Message) -> None:
        """Try until it arrives, is refused for good, or is too old."""
        tries = 0
        while message in self._queue:  # it may have been dropped for newer ones meanwhile
            answer = await self._line.send(message)
            self._note(answer)
            age_s = self._clock.now() - message.at
            if not answer.arrived and not answer.final and age_s < KEPT_S:
                await self._clock.sleep(WAITS_S[min(tries, len(WAITS_S) - 1)])
                tries += 1
                continue
            with contextlib.suppress(ValueError):
                self._queue.remove(message)
                self.sent += answer.arrived
                self.dropped += not answer.arrived
            return

    def _note(self, answer: Answer) -> None:
        if answer.trouble is not None and self._trouble is None:
            self._log.warning("notify.undelivered", receiver=self.name, error=answer.trouble)
        elif answer.trouble is None and self._trouble is not None:
            self._log.info("notify.delivered_again", receiver=self.name)
        self._trouble = answer.trouble
        lost = f"; {self.dropped} were given up" if self.dropped else ""
        words = "Work goes on. See whether the receiver is there and the address is right"
        told = None if answer.arrived else f"notices do not arrive: {answer.trouble}{lost}. {words}"
        self._on_trouble(self.name, told)
