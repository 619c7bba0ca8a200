"""A dead man's switch: it raises the alarm when this program falls silent, or says that it is ill.

It speaks as Healthchecks does: the bare address is success, /start and /fail are put behind it.
"""

import asyncio
import contextlib
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.config.outside import Receiver
from venice_watch.notify.post import Line

LOOK_S = 5.0  # between looks whether something is wrong: that is told at once
WORDS = "Work goes on, but its monitor is not told. See whether the address is right"


class Pulse:
    """Pings one switch."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        name: str,  # to call it by where others may read
        clock: Clock,
        log: FilteringBoundLogger,
        illness: Callable[[], str | None],
        on_trouble: Callable[[str, str | None], None],
    ) -> None:
        self.receiver = receiver
        self.name = name
        self._line = Line(receiver)
        self._clock = clock
        self._log = log
        self._illness = illness  # why not all is well, or None
        self._on_trouble = on_trouble
        self._trouble: str | None = None

    async def run(self) -> None:
        """Ping until cancelled."""
        await self._ping("start", "started")
        while True:
            ill = self._illness()
            if ill is None:
                await self._ping("", "all is well")
            else:
                await self._ping("fail", ill)
            await self._wait(ill)

    async def stop(self, most_s: float) -> None:
        """Say that it stops on purpose, and close; takes at most `most_s`.

        That is a success: a restart is no alarm, and one that stays away is, once it is due.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(most_s):
                    await self._line.ping("", "stopped on purpose")
        finally:
            await self._line.close()

    async def _wait(self, ill: str | None) -> None:
        """Wait for the next ping, or until it is ill, well, or ill of something else."""
        due_at = self._clock.monotonic() + self.receiver.every_s
        while (left_s := due_at - self._clock.monotonic()) > 0 and self._illness() == ill:
            await self._clock.sleep(min(LOOK_S, left_s))

    async def _ping(self, word: str, text: str) -> None:
        answer = await self._line.ping(word, text)
        if answer.trouble is not None and self._trouble is None:
            self._log.warning("notify.undelivered", receiver=self.name, error=answer.trouble)
        elif answer.trouble is None and self._trouble is not None:
            self._log.info("notify.delivered_again", receiver=self.name)
        self._trouble = answer.trouble
        self._on_trouble(self.name, answer.trouble and f"pings fail: {answer.trouble}. {WORDS}")
