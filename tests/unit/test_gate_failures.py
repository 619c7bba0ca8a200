"""What failed, and how it keeps others back: the API refuses everybody who fails too often.

In a loop whose time jumps, see `gates`.
"""

import asyncio
import random
from collections.abc import Callable
from email.utils import formatdate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.gates import SUCCESS, Senders, opened, run
from venice_watch.outcome import (
    AccountRefused,
    Doubtful,
    Lost,
    Outcome,
    Rejected,
    ServerFailed,
    Throttle,
    Throttled,
    Unavailable,
    Unsent,
)
from venice_watch.venice.classify import Exchange, Phase, classify
from venice_watch.venice.gate import (
    BLAME_S,
    FAILURES_MAX,
    FAILURES_WINDOW_S,
    SERVICE_PAUSE_S,
    WINDOW_S,
    Gate,
)
from venice_watch.venice.headers import Allowance

BUDGET_S = 30.0  # the API's own window of failures
HARMLESS = (SUCCESS, Lost())  # what the API counts as no failure
FAILURES: tuple[Outcome, ...] = (
    Unsent(),
    Unavailable(),
    ServerFailed(),
    Doubtful(),
    Rejected(),
    AccountRefused(),
    *(Throttled(kind=kind, after_s=1) for kind in Throttle),
)


class Api:
    """A server that answers as it is told, and knows when it did."""

    def __init__(self, gate: Gate, answer: Callable[[], tuple[Outcome, float]]) -> None:
        self.gate = gate
        self.begun_s: list[float] = []
        self.failed_s: list[float] = []
        self.asking = 0
        self.worst = 0  # the most that was under way or had failed within the API's window
        self._answer = answer

    async def send(self, who: int) -> Outcome:
        """Send one request and report what it came to."""
        async with self.gate.turn("f") as turn:
            turn.use()
            self.begun_s.append(asyncio.get_running_loop().time())
            self._look()
            outcome, seconds = self._answer()
            await asyncio.sleep(seconds)
            if outcome not in HARMLESS:
                self._fail()
            await self.gate.report(outcome, who)
            if isinstance(outcome, AccountRefused):
                await self.gate.halt("a test")
        return outcome

    async def send_until_accepted(self, who: int, tries: int) -> None:
        """Send again and again, as a queue that is never empty does."""
        for _ in range(tries):
            if await self.send(who) in HARMLESS:
                return

    async def ask(self, *, rated: bool) -> None:
        """Ask for free, and let that fail too."""
        async with self.gate.question(rated=rated):
            self.asking += 1
            self._look()
            await asyncio.sleep(self._answer()[1])
            self._fail()
            self.gate.count_failure()
            self.asking -= 1

    def _fail(self) -> None:
        self.failed_s.append(asyncio.get_running_loop().time())

    def _look(self) -> None:
        since_s = asyncio.get_running_loop().time() - BUDGET_S
        failed = sum(at > since_s for at in self.failed_s)
        self.worst = max(self.worst, failed + self.gate.in_flight + self.asking)


def most_within(times_s: list[float], seconds: float) -> int:
    """Return the largest count in any span of so many seconds."""
    return max(
        (sum(first <= one < first + seconds for one in times_s) for first in times_s), default=0
    )


async def lift_now_and_then(gate: Gate) -> None:
    """Mend the account whenever it is refused."""
    while True:
        await asyncio.sleep(5)
        await gate.lift()


# Failures, and what is under way and may fail too.


@settings(max_examples=60, deadline=None)
@given(
    concurrency=st.integers(1, 9),
    rate=st.sampled_from([None, 20, 60]),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    longest_s=st.sampled_from([0.0, 1.0, 25.0, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_failures_stay_within_the_budget(
    concurrency: int, rate: int | None, share: float, longest_s: float, seed: int
) -> None:
    """Whatever comes back and whenever, what failed in 30 s and what is under way stay below 10."""
    chance = random.Random(seed)

    def answer() -> tuple[Outcome, float]:
        outcome = chance.choice(FAILURES) if chance.random() < share else chance.choice(HARMLESS)
        return outcome, chance.random() * longest_s

    async def scenario() -> Api:
        gate = await opened(concurrency=concurrency, rate=rate)
        api = Api(gate, answer)
        mending = asyncio.create_task(lift_now_and_then(gate))
        await asyncio.gather(*(api.send_until_accepted(who, 4) for who in range(30)))
        mending.cancel()
        return api

    api = run(scenario())
    assert api.worst <= FAILURES_MAX < 10
    assert most_within(api.failed_s, BUDGET_S) <= FAILURES_MAX


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_questions_count_as_well(seed: int, share: float) -> None:
    """Free questions that fail count, wait for room themselves, and go one beyond it at most."""
    chance = random.Random(seed)

    def answer() -> tuple[Outcome, float]:
        outcome = chance.choice(FAILURES) if chance.random() < share else SUCCESS
        return outcome, chance.random() * 20

    async def ask_again_and_again(api: Api) -> None:
        for _ in range(12):
            await asyncio.sleep(chance.random() * 20)
            await api.ask(rated=chance.random() < 0.5)

    async def scenario() -> Api:
        gate = await opened(concurrency=9, rate=chance.choice([None, 20]))
        api = Api(gate, answer)
        mending = asyncio.create_task(lift_now_and_then(gate))
        senders = [api.send_until_accepted(who, 3) for who in range(30)]
        await asyncio.gather(ask_again_and_again(api), *senders)
        mending.cancel()
        return api

    api = run(scenario())
    assert api.worst <= FAILURES_MAX + 1
    assert most_within(api.failed_s, BUDGET_S) <= FAILURES_MAX + 1


def test_one_volley_of_who_wants_more() -> None:
    """A concurrency above the limit is believed once; from its first failure on the limit holds."""

    async def scenario() -> tuple[Api, Api]:
        gate = await opened(concurrency=25)
        volley = Api(gate, lambda: (Unsent(), 1.0))
        await asyncio.gather(*(volley.send(who) for who in range(25)))
        later = Api(gate, lambda: (Rejected(), 1.0))
        await asyncio.gather(*(later.send(who) for who in range(40)))
        return volley, later

    volley, later = run(scenario())
    assert volley.begun_s == [0.0] * 25
    assert most_within(later.begun_s, BUDGET_S) <= FAILURES_MAX
    assert later.begun_s[0] > FAILURES_WINDOW_S - 1, "the volley has to leave the window"


def test_trust_comes_back() -> None:
    """Half a minute without a failure, and a larger concurrency is believed again."""

    async def scenario() -> list[int]:
        gate = await opened(concurrency=12)
        seen = []
        for failure in (False, True, True):
            if failure:
                await gate.report(Rejected())
            senders = Senders(gate)
            await senders.send_all(12, seconds=1)
            seen.append(senders.most)
        await asyncio.sleep(FAILURES_WINDOW_S)
        senders = Senders(gate)
        await senders.send_all(12, seconds=1)
        return [*seen, senders.most]

    assert run(scenario()) == [12, 8, 7, 12]


def test_failures_of_questions_take_places() -> None:
    """What failed for free leaves fewer places to images, until it has left the window."""

    async def scenario() -> list[float]:
        gate = await opened(concurrency=9)
        for _ in range(7):
            gate.count_failure()
        senders = Senders(gate)
        await senders.send_all(4, seconds=100)
        return senders.started_s

    assert run(scenario()) == [0.0, 0.0, *[pytest.approx(FAILURES_WINDOW_S)] * 2]


def test_questions_wait_for_failures() -> None:
    """A question that may fail waits as long as there is no room for one more failure."""

    async def scenario() -> list[float]:
        gate = await opened(concurrency=9)
        asked_s = []
        for _ in range(FAILURES_MAX + 2):
            async with gate.question():
                asked_s.append(asyncio.get_running_loop().time())
                gate.count_failure()
                await asyncio.sleep(1)
        return asked_s

    window_s = FAILURES_WINDOW_S
    assert run(scenario()) == pytest.approx([*range(FAILURES_MAX), window_s, window_s + 1])


def test_no_halt_keeps_a_question_back() -> None:
    """A refused account can be asked about; only a rated question waits for pauses and the rate."""

    async def scenario() -> list[float]:
        gate = await opened(rate=1)
        await gate.halt("HTTP 402")
        gate.pause(40)
        asked_s = []
        for rated in (False, True, False, True):
            async with gate.question(rated=rated):
                asked_s.append(asyncio.get_running_loop().time())
        return asked_s

    assert run(scenario()) == [0.0, pytest.approx(40), pytest.approx(40), pytest.approx(102)]


def test_a_question_beside_a_long_queue() -> None:
    """A rated question gets its place although images want every one, and takes it from them."""

    async def scenario() -> tuple[float, list[float]]:
        gate = await opened(concurrency=9, rate=3)
        senders = Senders(gate)
        sending = asyncio.gather(*(senders.send(seconds=n % 4) for n in range(12)))
        await asyncio.sleep(10)
        async with gate.question(rated=True):
            asked_s = asyncio.get_running_loop().time()
        await sending
        return asked_s, senders.started_s

    asked_s, started_s = run(scenario())
    assert asked_s < 2 * WINDOW_S
    assert most_within([asked_s, *started_s], 60.0) == 3
    assert len(started_s) == 12


@pytest.mark.parametrize("seed", range(5))
def test_a_question_beside_failures(seed: int) -> None:
    """A question gets its place although images, failing now and then, want every one."""
    chance = random.Random(seed)

    async def send_for_ever(gate: Gate, who: int) -> None:
        while True:
            async with gate.turn("f"):
                await asyncio.sleep(10 + chance.random())
                await gate.report(Rejected() if chance.random() < 0.3 else SUCCESS, who)

    async def scenario() -> None:
        gate = await opened(concurrency=9)
        senders = [asyncio.create_task(send_for_ever(gate, who)) for who in range(12)]
        await asyncio.sleep(60)
        async with asyncio.timeout(3 * FAILURES_WINDOW_S), gate.question():
            pass
        for sender in senders:
            sender.cancel()

    run(scenario())


def test_a_restart_forgets_no_failure() -> None:
    """What failed in an earlier process takes its place, and a clock set back cannot block."""

    async def scenario(ages_s: list[float]) -> list[float]:
        gate = await opened(concurrency=9)
        gate.remember([], ages_s)
        senders = Senders(gate)
        await senders.send_all(1)
        return senders.started_s

    assert run(scenario([20.0] * 8)) == [0.0]
    assert run(scenario([20.0] * 9)) == [pytest.approx(FAILURES_WINDOW_S - 20)]
    assert run(scenario([-86_400.0] * 9)) == [pytest.approx(FAILURES_WINDOW_S)]
    assert run(scenario([FAILURES_WINDOW_S] * 9)) == [0.0]


# After a refusal.


@pytest.mark.parametrize(
    "refusal", [AccountRefused(), *(Throttled(kind=kind, after_s=3) for kind in Throttle)]
)
def test_one_at_a_time_until_one_gets_through(refusal: Outcome) -> None:
    """After a refusal one request asks whether it is over; the first that gets through opens."""

    async def scenario(end: Outcome) -> tuple[int, int]:
        gate = await opened(concurrency=6)
        await gate.report(refusal)
        senders = Senders(gate)
        await senders.send_all(5, seconds=1)
        alone = senders.most
        await gate.report(end)
        await senders.send_all(12, seconds=1)
        return alone, senders.most

    assert run(scenario(SUCCESS)) in ((1, 6), (1, 3))  # an overload halves what is allowed
    assert run(scenario(Rejected())) in ((1, 6), (1, 3))
    assert run(scenario(Lost())) == (1, 1), "paid for and of no use is no end of trouble"
    assert run(scenario(Rejected()))[1] > 1
    for failure in (Unsent(), Doubtful(), ServerFailed(), refusal):
        assert run(scenario(failure)) == (1, 1), failure


def test_what_began_before_a_refusal_proves_nothing() -> None:
    """A success of a request that was under way when another was refused opens nothing."""

    async def scenario() -> tuple[int, int]:
        gate = await opened(concurrency=4)
        async with gate.turn("f") as early:
            await asyncio.sleep(5)
            await gate.report(Throttled(kind=Throttle.RATE, after_s=1))
            await asyncio.sleep(5)
            await gate.report(SUCCESS, begun_at=early.begun_at)
        senders = Senders(gate)
        await senders.send_all(4, seconds=1)
        alone = senders.most
        async with gate.turn("f") as late:
            await gate.report(SUCCESS, begun_at=late.begun_at)
        await senders.send_all(4, seconds=1)
        return alone, senders.most

    assert run(scenario()) == (1, 4)


@pytest.mark.parametrize(
    "named", [None, "0", "-5", "nan", "soon", "0.01", "1", formatdate(0, usegmt=True)]
)
@pytest.mark.parametrize("words", ["Rate limit exceeded", "overloaded", "too many failed attempts"])
def test_endless_refusals(named: str | None, words: str) -> None:
    """Where everything is refused for ever, nobody hammers, whatever Retry-After says."""

    def answer() -> tuple[Outcome, float]:
        headers = {} if named is None else {"retry-after": named}
        seen = Exchange(phase=Phase.ANSWERED, status=429, headers=headers, body=words.encode())
        return classify(seen, wanted=(2, 2), sent=(1, 1), now=1_780_000_000.0), 0.0

    async def scenario() -> Api:
        gate = await opened(concurrency=9)
        api = Api(gate, answer)
        await api.send(0)
        await asyncio.gather(*(api.send_until_accepted(who, 20) for who in range(9)))
        return api

    api = run(scenario())
    gaps_s = [later - one for one, later in zip(api.begun_s, api.begun_s[1:], strict=False)]
    assert min(gaps_s) >= 1.0
    assert api.worst <= FAILURES_MAX
    assert most_within(api.failed_s, BUDGET_S) <= FAILURES_MAX


@settings(max_examples=60, deadline=None)
@given(
    outcomes=st.lists(
        st.sampled_from(FAILURES)
        | st.builds(Throttled, kind=st.sampled_from(Throttle), after_s=st.floats(1, 120))
        | st.builds(Unavailable, after_s=st.none() | st.floats(1, 120))
        | st.just(SUCCESS),
        max_size=30,
    ),
    gap_s=st.floats(0, 10),
)
@example(outcomes=[Unsent()] * 30, gap_s=0.0)
def test_no_wait_is_longer_than_stated(outcomes: list[Outcome], gap_s: float) -> None:
    """Who stands alone waits for what was named, or for failures to be forgotten, not longer."""

    async def scenario() -> None:
        gate = await opened(concurrency=4)
        for outcome in outcomes:
            await gate.report(outcome, 1)
            await asyncio.sleep(gap_s)
        now_s, paused_s = asyncio.get_running_loop().time(), gate.paused_s
        named_s = [one.after_s or 0 for one in outcomes if isinstance(one, Throttled | Unavailable)]
        assert paused_s <= max(SERVICE_PAUSE_S[1], *named_s, 0)
        senders = Senders(gate)
        await senders.send_all(1)
        waited_s = senders.started_s[0] - now_s
        assert waited_s >= paused_s - 1e-6
        assert waited_s <= max(paused_s, FAILURES_WINDOW_S) + 0.01

    run(scenario())


# What the API says is left of its budget.


@pytest.mark.parametrize(
    ("left", "most"), [(0, 1), (1, 1), (3, 3), (9, 9), (10, 20), (20, 20), (None, 20)]
)
def test_few_failures_left(left: int | None, most: int) -> None:
    """Where the API grants few failures more, so few are under way: others use the key as well."""

    async def scenario() -> int:
        gate = await opened(concurrency=20)
        await gate.learn(Allowance(failures_left=left))
        senders = Senders(gate)
        await senders.send_all(20, seconds=1)
        return senders.most

    assert run(scenario()) == most


def test_few_failures_left_for_a_while() -> None:
    """A word about few failures holds for half a minute, or until the next; it ends by itself."""

    async def scenario() -> tuple[list[float], list[float]]:
        gate = await opened(concurrency=4)
        await gate.learn(Allowance(failures_left=2))
        await gate.learn(Allowance())  # says nothing of it
        senders = Senders(gate)
        await senders.send_all(4, seconds=100)
        await gate.learn(Allowance(failures_left=1))
        await gate.learn(Allowance(failures_left=15))
        began_s = asyncio.get_running_loop().time()
        again = Senders(gate)
        await again.send_all(4, seconds=100)
        return senders.started_s, [at - began_s for at in again.started_s]

    first, second = run(scenario())
    assert first == [0.0, 0.0, *[pytest.approx(FAILURES_WINDOW_S)] * 2]
    assert second == [0.0] * 4


# Whom a failure is blamed on.


def test_blame() -> None:
    """Three failures of others among the latest requests blame the service, not the next image."""

    async def scenario() -> list[bool]:
        gate = await opened()
        seen = [gate.blames_service(1)]
        for who in (2, 3):
            await gate.report(Unsent(), who)
        await gate.report(SUCCESS, 5)
        await gate.report(Unavailable(), 1)
        seen.append(gate.blames_service(1))
        await gate.report(Doubtful(), 4)
        assert not gate.service_down
        return [*seen, gate.blames_service(1), gate.blames_service(2), gate.blames_service(9)]

    assert run(scenario()) == [False, False, True, True, True]


def test_own_failures_blame_nobody_else() -> None:
    """An image that fails while all others get through has itself to blame."""

    async def scenario() -> bool:
        gate = await opened()
        for other in range(2, 12):
            await gate.report(ServerFailed(), 1)
            await gate.report(SUCCESS, other)
        return gate.blames_service(1)

    assert run(scenario()) is False


@pytest.mark.parametrize("refusal", [Rejected(), AccountRefused(), FAILURES[-1]])
def test_refusals_blame_no_service(refusal: Outcome) -> None:
    """What was refused says nothing against the service."""

    async def scenario() -> bool:
        gate = await opened()
        for who in range(9):
            await gate.report(refusal, who)
        return gate.blames_service(99)

    assert run(scenario()) is False


def test_blame_is_forgotten() -> None:
    """Failures of others are forgotten after a while, or once enough others got through."""

    async def scenario(seconds: float, successes: int) -> bool:
        gate = await opened()
        for who in range(4):
            await gate.report(Unsent(), who)
        await asyncio.sleep(seconds)
        for who in range(successes):
            await gate.report(SUCCESS, 100 + who)
        return gate.blames_service(99)

    assert run(scenario(BLAME_S - 1, 0)) is True
    assert run(scenario(BLAME_S, 0)) is False
    assert run(scenario(0, 17)) is True
    assert run(scenario(0, 18)) is False


def test_an_outage_blames_no_image() -> None:
    """While the service is down, not even the one that failed each time is to blame."""

    async def scenario() -> bool:
        gate = await opened()
        for _ in range(5):
            await gate.report(Unsent(), 1)
        return gate.service_down and gate.blames_service(1)

    assert run(scenario()) is True


def test_silence_about_what_is_free() -> None:
    """A server that does not answer what is free stays down, is counted once, and blames none."""

    async def scenario() -> tuple[list[float], int]:
        gate = await opened(concurrency=9)
        for who in range(5):
            await gate.report(Unsent(), who)
        pauses_s = []
        for _ in range(3):
            await asyncio.sleep(FAILURES_WINDOW_S * 10)
            gate.note_silence("HTTP 502")
            pauses_s.append(gate.paused_s)
        await asyncio.sleep(300)
        await gate.report(SUCCESS, 7)
        senders = Senders(gate)
        await senders.send_all(FAILURES_MAX, seconds=1)
        return pauses_s, senders.most

    assert run(scenario()) == ([10.0, 20.0, 40.0], FAILURES_MAX)
