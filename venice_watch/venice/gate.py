"""Who may send now: concurrency, rate, pauses and breakers, in one place for all folders.

A turn is given in the order in which it was asked for, folder limits aside. Waiting costs
nothing: whoever waits is woken by what it waits for, or by the time it was told.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping

from venice_watch.clock import Clock
from venice_watch.errors import VeniceWatchError
from venice_watch.outcome import (
    Doubtful,
    Outcome,
    ServerFailed,
    Succeeded,
    Throttle,
    Throttled,
    Unavailable,
    Unsent,
)

WINDOW_S = 62.0  # N requests in any 62 s keep N in any 60 s, jitter on the way included
DEFAULT_REQUESTS_PER_MINUTE = 20  # the API's documented default, where it does not say
FAILURES_IN_A_ROW_MAX = 5  # then the service is down, not the image bad
SERVICE_PAUSE_S = (5.0, 120.0)  # between these, doubling, while it is down


class DrainingError(VeniceWatchError):
    """Nothing more is sent: the program is about to stop."""


class _Waiter:
    __slots__ = ("folder", "told")

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.told = asyncio.Event()


class Turn:
    """A turn to send; one that is not used counts against no rate."""

    def __init__(self) -> None:
        self.used = False

    def use(self) -> None:
        """Note that a request goes out now."""
        self.used = True


class Gate:
    """Gives turns to send; `folder_limits` are the folders' own limits within the total."""

    def __init__(
        self,
        *,
        clock: Clock,
        concurrency: int,
        folder_limits: Mapping[str, int],
        requests_per_minute: int | None,
    ) -> None:
        self._clock = clock
        self._ceiling = concurrency
        self._allowed = float(concurrency)  # adapts below the ceiling
        self._folder_limits = folder_limits
        self._fixed_rate = requests_per_minute is not None
        self._rate = requests_per_minute  # None: not limited, as far as is known
        self._sent: deque[float] = deque()  # monotonic times within the window
        self._in_flight: Counter[str] = Counter()
        self._paused_until = 0.0
        self._failures_in_a_row = 0
        self._closed = False
        self._halted: str | None = "the API was not asked yet"
        self._waiting: list[_Waiter] = []  # in the order of asking
        self._open = asyncio.Event()  # not halted, or closed for good

    # --- what others may know --------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Return how many requests are under way."""
        return self._in_flight.total()

    @property
    def halted(self) -> str | None:
        """Return why nothing is sent for anybody, or None."""
        return self._halted

    @property
    def service_down(self) -> bool:
        """Tell whether the service failed so often in a row that no image is to blame."""
        return self._failures_in_a_row >= FAILURES_IN_A_ROW_MAX

    @property
    def failures_in_a_row(self) -> int:
        """Return how many requests failed since the last that did not."""
        return self._failures_in_a_row

    @property
    def requests_per_minute(self) -> int | None:
        """Return the rate that is kept to; None: no limit is known."""
        return self._rate

    # --- turns -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def turn(self, folder: str) -> AsyncIterator[Turn]:
        """Wait for a turn to send, and give it back at the end. Raises DrainingError.

        Whoever sends says so by `use`, before the first byte.
        """
        waiter = _Waiter(folder)
        self._waiting.append(waiter)
        try:
            while (wait_s := self._wait_s(waiter)) != 0:
                waiter.told.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await waiter.told.wait()
            sent_at = self._clock.monotonic()
            self._sent.append(sent_at)
            self._in_flight[folder] += 1
        finally:
            self._waiting.remove(waiter)
            self._tell()  # whoever was behind may be the next
        turn = Turn()
        try:
            yield turn
        finally:
            if not turn.used and sent_at in self._sent:
                self._sent.remove(sent_at)
            self._in_flight[folder] -= 1
            self._tell()

    async def wait_open(self) -> None:
        """Wait until the account may send, whatever else is in the way. Raises DrainingError."""
        await self._open.wait()
        if self._closed:
            raise DrainingError("the program is about to stop")

    def _wait_s(self, waiter: "_Waiter") -> float | None:
        """Return 0 for a turn now, seconds until one may be had, or None: when told."""
        if self._closed:
            raise DrainingError("the program is about to stop")
        if self._halted is not None:
            return None
        limit = 1 if self.service_down else max(1, int(self._allowed))
        if self.in_flight >= limit:
            return None
        if waiter is not next(filter(self._has_room, self._waiting), None):
            return None
        now = self._clock.monotonic()
        if self._paused_until > now:
            return self._paused_until - now
        while self._sent and self._sent[0] <= now - WINDOW_S:
            self._sent.popleft()
        if self._rate is not None and len(self._sent) >= self._rate:
            return self._sent[-self._rate] + WINDOW_S - now or 0.001
        return 0

    def _has_room(self, waiter: "_Waiter") -> bool:
        limit = self._folder_limits.get(waiter.folder)
        return limit is None or self._in_flight[waiter.folder] < limit

    def _tell(self) -> None:
        for waiter in self._waiting:
            waiter.told.set()

    # --- what changes them -----------------------------------------------------------------------

    def remember_sent(self, ages_s: Iterable[float]) -> None:
        """Take over how long ago an earlier process sent: a restart grants no fresh burst."""
        now = self._clock.monotonic()
        # a wall clock that was set back makes ages negative: as young as can be
        self._sent.extend(sorted(now - max(0.0, age_s) for age_s in ages_s))

    async def learn_rate(self, requests_per_minute: int | None) -> None:
        """Keep to the rate that the API names, unless the configuration fixed one."""
        if not self._fixed_rate and requests_per_minute != self._rate:
            self._rate = requests_per_minute
            self._tell()

    async def report(self, outcome: Outcome) -> None:
        """Adapt to what a request came to."""
        match outcome:
            case Succeeded():
                self._failures_in_a_row = 0
                self._allowed = min(self._ceiling, self._allowed + 1 / self._allowed)
            case Throttled():
                if outcome.kind is Throttle.OVERLOAD:
                    self._allowed = max(1.0, self._allowed / 2)
                elif self._rate is None and outcome.kind is Throttle.RATE:
                    await self.learn_rate(DEFAULT_REQUESTS_PER_MINUTE)
                self.pause(outcome.after_s)
            case Unsent() | Unavailable() | ServerFailed() | Doubtful():
                self._failures_in_a_row += 1
                if isinstance(outcome, Unavailable):
                    self._allowed = max(1.0, self._allowed / 2)
                if self.service_down:
                    low_s, high_s = SERVICE_PAUSE_S
                    beyond = min(self._failures_in_a_row - FAILURES_IN_A_ROW_MAX, 30)
                    self.pause(min(high_s, low_s * 2.0**beyond))
            case _:
                self._failures_in_a_row = 0
        self._tell()

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`; a longer pause stands."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    async def halt(self, reason: str) -> None:
        """Send nothing for anybody until lifted."""
        self._halted = reason
        if not self._closed:
            self._open.clear()
        self._tell()

    async def lift(self) -> None:
        """End a halt."""
        self._halted = None
        self._open.set()
        self._tell()

    async def close(self) -> None:
        """Give no more turns; who waits gets DrainingError."""
        self._closed = True
        self._open.set()
        self._tell()
