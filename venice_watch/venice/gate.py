"""Who may send now: concurrency, rate, pauses and breakers, in one place for all folders.

A turn is given by priority, to files that are begun first, then in the order in which it was asked
for, folder limits aside.
Waiting costs nothing: whoever waits is woken by what it waits for, or by the time it was told.
"""

import asyncio
import bisect
import contextlib
import itertools
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable

from venice_watch.clock import Clock
from venice_watch.errors import VeniceWatchError
from venice_watch.outcome import (
    AccountRefused,
    Doubtful,
    Lost,
    Outcome,
    Rejected,
    ServerFailed,
    Succeeded,
    Throttle,
    Throttled,
    Unavailable,
    Unsent,
)
from venice_watch.venice.headers import Allowance
from venice_watch.venice.limits import Limits
from venice_watch.venice.turn import Turn
from venice_watch.venice.window import SlidingWindow

WINDOW_S = 62.0  # N requests in any 62 s keep N in any 60 s, jitter on the way included
DEFAULT_REQUESTS_PER_MINUTE = 20  # the API's documented default, where it does not say
FAILURES_IN_A_ROW_MAX = 5  # then the service is down, not the image bad
SERVICE_PAUSE_S = (5.0, 120.0)  # between these, doubling, while it is down
# The API blocks who failed more than 20 times in 30 s. What is under way may fail too, so both
# together stay below half of that.
FAILURES_WINDOW_S = 32.0
FAILURES_MAX = 9
BLAME_OUTCOMES = 20  # of the latest requests ...
BLAME_FAILURES = 3  # ... so many failures of others blame the service for the next one
BLAME_S = 600.0  # how long that is remembered


class DrainingError(VeniceWatchError):
    """Nothing more is sent: the program is about to stop."""


class _Waiter:
    __slots__ = ("folder", "rank", "told")

    def __init__(self, folder: str, rank: tuple[int, bool, int]) -> None:
        self.folder = folder
        self.rank = rank  # priority, whether it is the first frame, then the order of asking
        self.told = asyncio.Event()


class Gate:
    """Gives turns to send."""

    def __init__(self, *, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._allowed = float(limits.concurrency)  # adapts below the ceiling
        self._rate = limits.requests_per_minute  # None: not limited, as far as is known
        self._sent = SlidingWindow(WINDOW_S)
        self._failed = SlidingWindow(FAILURES_WINDOW_S)  # free questions included
        self._struck_at = -math.inf  # when an image's request failed last
        self._few_left: tuple[int, float] = (0, -math.inf)  # failures the API grants, until when
        self._in_flight: Counter[str] = Counter()
        self._paused_until = 0.0
        self._trial_from: float | None = None  # one at a time, until one from then on gets through
        self._failures_in_a_row = 0
        self._last_words = ""  # of the latest of them
        self._latest: deque[tuple[float, int | None]] = deque(maxlen=BLAME_OUTCOMES)
        self._closed = asyncio.Event()  # no more turns are given
        self._halted: str | None = "the API was not asked yet"
        self._questions = 0  # that wait to be asked: they are few, and go before images
        self._numbers = itertools.count()
        self._waiting: list[_Waiter] = []  # in the order of their turns
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
    def paused_s(self) -> float:
        """Return for how many seconds nothing is sent because the API asked for it, or is down."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    @property
    def service_down(self) -> bool:
        """Tell whether the service failed so often in a row that no image is to blame."""
        return self._failures_in_a_row >= FAILURES_IN_A_ROW_MAX

    @property
    def failures_in_a_row(self) -> int:
        """Return how many requests failed since the last that did not."""
        return self._failures_in_a_row

    @property
    def last_words(self) -> str:
        """Return what was said to the last of them."""
        return self._last_words

    @property
    def requests_per_minute(self) -> int | None:
        """Return the rate that is kept to; None: no limit is known."""
        return self._rate

    @property
    def requests_last_minute(self) -> int:
        """Return how many requests the rate counts now, others' by the same key included."""
        return self._sent.count(self._clock.monotonic())

    @property
    def concurrency(self) -> int:
        """Return how many requests may be under way at once now."""
        return max(1, self._limit(self._clock.monotonic()))

    def blames_service(self, who: int) -> bool:
        """Tell whether a failure of `who` says nothing about it: others fail just as well."""
        after = self._clock.monotonic() - BLAME_S
        others = sum(one not in (None, who) and at > after for at, one in self._latest)
        return self.service_down or others >= BLAME_FAILURES

    # --- turns -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def turn(self, folder: str, *, begun: bool = False) -> AsyncIterator[Turn]:
        """Wait for a turn to send, and give it back at the end. Raises DrainingError.

        `begun`: earlier frames of the file are delivered; it goes before others of its priority.
        Whoever sends says so by `use`, before the first byte.
        """
        rank = (-self._limits.priorities.get(folder, 0), not begun, next(self._numbers))
        waiter = _Waiter(folder, rank)
        bisect.insort(self._waiting, waiter, key=lambda one: one.rank)
        try:
            while (wait_s := self._wait_s(waiter)) != 0:
                waiter.told.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await waiter.told.wait()
            turn = Turn(self._sent, self._clock)
            self._in_flight[folder] += 1
        finally:
            self._waiting.remove(waiter)
            self._tell()  # whoever was behind may be the next
        try:
            yield turn
        finally:
            turn.end()
            self._in_flight[folder] -= 1
            self._tell()

    @property
    def is_open(self) -> bool:
        """Tell whether the account may send."""
        return self._halted is None and not self._closed.is_set()

    async def wait_open(self) -> None:
        """Wait until the account may send, whatever else is in the way. Raises DrainingError."""
        await self._open.wait()
        if self._closed.is_set():
            raise DrainingError("the program is about to stop")

    @contextlib.asynccontextmanager
    async def question(self, *, rated: bool = False) -> AsyncIterator[Turn]:
        """Wait until a free question may be asked, which no halt keeps back.

        A `rated` one goes to the address whose requests the API counts. Raises DrainingError.
        """
        self._questions += 1
        try:
            while (wait_s := self._wait_to_ask_s(rated=rated)) != 0:
                await self._sleep_unless_closed(wait_s)
        finally:
            self._questions -= 1
            self._tell()
        turn = Turn(self._sent, self._clock)
        if rated:
            turn.use()
        try:
            yield turn
        finally:
            turn.end()

    def _wait_to_ask_s(self, *, rated: bool) -> float:
        if self._closed.is_set():
            raise DrainingError("the program is about to stop")
        now = self._clock.monotonic()
        most = max(1, FAILURES_MAX - self.in_flight)  # they may fail as well
        wait_s = self._failed.wait_s(most, now)
        return max(wait_s, self._wait_for_rate_s(now)) if rated else wait_s

    async def _sleep_unless_closed(self, seconds: float) -> None:
        waits = (self._clock.sleep(seconds), self._closed.wait())
        tasks = [asyncio.ensure_future(one) for one in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _wait_s(self, waiter: _Waiter) -> float | None:
        """Return 0 for a turn now, seconds until one may be had, or None: when told."""
        if self._closed.is_set():
            raise DrainingError("the program is about to stop")
        if self._halted is not None or self._questions:
            return None
        if waiter is not next(filter(self._has_room, self._waiting), None):
            return None
        now = self._clock.monotonic()
        if self.in_flight >= max(1, self._limit(now)):
            return self._limit_may_rise_s(now)
        return max(self._wait_for_rate_s(now), self._failed.wait_s(FAILURES_MAX, now))

    def _wait_for_rate_s(self, now: float) -> float:
        """Return the seconds until pauses and rate allow one more request."""
        wait_s = max(0.0, self._paused_until - now)
        return wait_s if self._rate is None else max(wait_s, self._sent.wait_s(self._rate, now))

    def _limit(self, now: float) -> int:
        """Return how many may be under way."""
        limit = (
            1 if self._trial_from is not None or self.service_down else max(1, int(self._allowed))
        )
        few, until = self._few_left
        if now < until:
            limit = min(limit, max(1, few))
        # who configures more than the API may be failed at once trusts it, until it fails
        trusted = limit > FAILURES_MAX and self._struck_at <= now - FAILURES_WINDOW_S
        return limit if trusted else min(limit, FAILURES_MAX - self._failed.count(now))

    def _limit_may_rise_s(self, now: float) -> float | None:
        """Return the seconds until the limit may rise by time alone, or None."""
        forgotten_s = self._failed.oldest_leaves_s(now)
        _, until = self._few_left
        return forgotten_s if now >= until else min(until - now, forgotten_s or math.inf)

    def _has_room(self, waiter: _Waiter) -> bool:
        limit = self._limits.folders.get(waiter.folder)
        return limit is None or self._in_flight[waiter.folder] < limit

    def _tell(self) -> None:
        for waiter in self._waiting:
            waiter.told.set()

    # --- what changes them -----------------------------------------------------------------------

    def remember(self, sent_ages_s: Iterable[float], failed_ages_s: Iterable[float] = ()) -> None:
        """Take over how long ago an earlier process sent and failed: a restart forgets nothing."""
        now = self._clock.monotonic()
        # a wall clock that was set back makes ages negative: as young as can be
        for age_s in sent_ages_s:
            self._sent.add(now - max(0.0, age_s))
        for age_s in failed_ages_s:
            self._failed.add(now - max(0.0, age_s))

    def adopt(self, limits: Limits) -> None:
        """Go by other limits from now on; what was learned of rate and failures stays."""
        if self._allowed >= self._limits.concurrency:
            self._allowed = float(limits.concurrency)  # nothing has lowered it
        self._allowed = min(self._allowed, limits.concurrency)
        self._rate = limits.requests_per_minute or self._rate
        self._limits = limits
        self._tell()

    async def learn_rate(self, requests_per_minute: int | None) -> None:
        """Keep to the rate that the API names, unless the configuration fixed one."""
        if self._limits.requests_per_minute is None and requests_per_minute != self._rate:
            self._rate = requests_per_minute
            self._tell()

    async def learn(self, allowance: Allowance) -> None:
        """Keep to what an answer says is left: others may use the same key."""
        now = self._clock.monotonic()
        if allowance.limit is not None:
            await self.learn_rate(allowance.limit)
        if allowance.remaining is not None and allowance.reset_s is not None and self._rate:
            elsewhere = self._rate - allowance.remaining - self._sent.count(now)
            if elsewhere > 0:  # they leave the window when the API's own turns
                leaving_at = now + min(WINDOW_S, allowance.reset_s)
                self._sent.add(leaving_at - WINDOW_S, times=elsewhere)
        if allowance.failures_left is not None:
            few = allowance.failures_left <= FAILURES_MAX
            self._few_left = (
                allowance.failures_left,
                now + FAILURES_WINDOW_S if few else -math.inf,
            )
        self._tell()

    async def report(
        self, outcome: Outcome, who: int | None = None, *, begun_at: float | None = None
    ) -> None:
        """Adapt to what a request came to; `who` sent it, and when."""
        if not isinstance(outcome, Succeeded | Lost):
            self.count_failure()
            self._struck_at = self._clock.monotonic()
        match outcome:
            case Succeeded():
                self._note_answer(begun_at)
                self._allowed = min(self._limits.concurrency, self._allowed + 1 / self._allowed)
            case Rejected():
                self._note_answer(begun_at)
            case AccountRefused():
                self._failures_in_a_row = 0
                self._trial_from = self._clock.monotonic()
            case Throttled():
                self._trial_from = self._clock.monotonic()
                if outcome.kind is Throttle.OVERLOAD:
                    self._allowed = max(1.0, self._allowed / 2)
                elif self._rate is None and outcome.kind is Throttle.RATE:
                    await self.learn_rate(DEFAULT_REQUESTS_PER_MINUTE)
                self.pause(outcome.after_s)
            case Unsent() | Unavailable() | ServerFailed() | Doubtful() | Lost():
                self._latest.append((self._clock.monotonic(), who))
                if isinstance(outcome, Unavailable):
                    self._allowed = max(1.0, self._allowed / 2)
                    self.pause(outcome.after_s or 0.0)
                self.note_silence(outcome.words)
        self._tell()

    def _note_answer(self, begun_at: float | None) -> None:
        """Note that the service does its work, whatever it thinks of the image."""
        self._latest.append((self._clock.monotonic(), None))
        self._failures_in_a_row = 0
        # one that was under way when the trouble began does not say that it is over
        if self._trial_from is not None and (begun_at is None or begun_at >= self._trial_from):
            self._trial_from = None

    def note_silence(self, words: str) -> None:
        """Note that the service does not do its work; once it is down, wait ever longer."""
        self._failures_in_a_row += 1
        self._last_words = words
        if self.service_down:
            low_s, high_s = SERVICE_PAUSE_S
            beyond = min(self._failures_in_a_row - FAILURES_IN_A_ROW_MAX, 30)
            self.pause(min(high_s, low_s * 2.0**beyond))

    def count_failure(self) -> None:
        """Count an answer, to whatever question, against the API's limit of failures."""
        self._failed.add(self._clock.monotonic())

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`; a longer pause stands."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    async def halt(self, reason: str) -> None:
        """Send nothing for anybody until lifted."""
        self._halted = reason
        if not self._closed.is_set():
            self._open.clear()
        self._tell()

    async def lift(self) -> None:
        """End a halt."""
        self._halted = None
        self._open.set()
        self._tell()

    async def close(self) -> None:
        """Give no more turns; who waits gets DrainingError."""
        self._closed.set()
        self._open.set()
        self._tell()
