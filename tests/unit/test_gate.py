"""Who may send when: rates, limits, pauses and breakers, in a loop whose time jumps."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.gates import SUCCESS, LoopClock, Senders, opened, run, settle
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
from venice_watch.venice.gate import FAILURES_MAX, FAILURES_WINDOW_S, WINDOW_S, DrainingError, Gate
from venice_watch.venice.limits import Limits

MINUTE_S = 60.0


def most_in_a_minute(times_s: Sequence[float]) -> int:
    """Return the largest count in any 60 s that began with a request."""
    return max(sum(first <= later < first + MINUTE_S for later in times_s) for first in times_s)


# Rate.


@pytest.mark.parametrize("rate", [1, 2, 20, 60])
def test_rate(rate: int) -> None:
    """Never more than the rate in any minute, and not much fewer either."""

    async def scenario() -> list[float]:
        senders = Senders(await opened(rate=rate))
        await senders.send_all(rate * 3 + 1)
        return senders.started_s

    times_s = run(scenario())
    assert most_in_a_minute(times_s) == rate
    assert times_s[-1] == pytest.approx(3 * WINDOW_S)


@settings(max_examples=40, deadline=None)
@given(
    rate=st.integers(1, 8),
    gaps_s=st.lists(st.floats(0, 40), min_size=1, max_size=40),
    ages_s=st.lists(st.floats(-100, 100), max_size=20),
)
def test_rate_always(rate: int, gaps_s: list[float], ages_s: list[float]) -> None:
    """Whenever requests come, and whatever was sent before, no minute holds more than the rate."""

    async def scenario() -> list[float]:
        gate = await opened(rate=rate)
        gate.remember(ages_s)
        senders = Senders(gate)
        async with asyncio.TaskGroup() as group:
            for gap_s in gaps_s:
                await asyncio.sleep(gap_s)
                group.create_task(senders.send())
        return senders.started_s

    times_s = run(scenario())
    before_s = sorted(-max(0.0, age_s) for age_s in ages_s)
    for moment in times_s:
        window = [t for t in before_s + times_s if moment - MINUTE_S < t <= moment]
        assert len(window) <= max(rate, sum(t in before_s for t in window))


def test_restart_grants_no_burst() -> None:
    """What an earlier process sent counts, and a wall clock that was set back cannot block."""

    async def scenario(ages_s: list[float]) -> list[float]:
        gate = await opened(rate=2)
        gate.remember(ages_s)
        senders = Senders(gate)
        await senders.send_all(1)
        return senders.started_s

    assert run(scenario([50.0, 10.0])) == [pytest.approx(12.0)]
    assert run(scenario([70.0, 10.0])) == [0.0]
    assert run(scenario([-86_400.0, -86_400.0])) == [pytest.approx(WINDOW_S)]


def test_lower_rate_at_once() -> None:
    """A rate that the API names later counts what went out before it was known."""

    async def scenario() -> list[float]:
        gate = await opened(rate=None)
        senders = Senders(gate)
        await senders.send_all(10)
        await gate.learn_rate(5)
        await senders.send_all(1)
        return senders.started_s

    times_s = run(scenario())
    assert times_s[:10] == [0.0] * 10
    assert times_s[10] == pytest.approx(WINDOW_S)


def test_higher_rate_wakes() -> None:
    """Who waits for the rate goes on as soon as a higher one is named."""

    async def scenario() -> tuple[float, int | None]:
        gate = await opened(rate=None)
        await gate.learn_rate(1)
        senders = Senders(gate)
        waiting = asyncio.gather(senders.send(), senders.send())
        await asyncio.sleep(5)
        await gate.learn_rate(2)
        await waiting
        return senders.started_s[1], gate.requests_per_minute

    started_s, rate = run(scenario())
    assert started_s == pytest.approx(5.0)
    assert rate == 2


def test_configured_rate_stands() -> None:
    """A rate that the configuration fixed is not changed by what the API says."""

    async def scenario() -> int | None:
        gate = await opened(rate=7)
        await gate.learn_rate(600)
        await gate.report(Throttled(kind=Throttle.RATE, after_s=1))
        return gate.requests_per_minute

    assert run(scenario()) == 7


def test_unknown_rate_is_learned_from_a_refusal() -> None:
    """A 429 from an API that never named its rate means the documented 20 a minute."""

    async def scenario() -> tuple[int | None, int | None]:
        gate = await opened(rate=None)
        await gate.report(Throttled(kind=Throttle.OVERLOAD, after_s=1))
        overloaded = gate.requests_per_minute
        await gate.report(Throttled(kind=Throttle.RATE, after_s=1))
        return overloaded, gate.requests_per_minute

    assert run(scenario()) == (None, 20)


def test_refusal_leaves_a_known_rate() -> None:
    """A 429 from an API that named its rate changes nothing about it."""

    async def scenario() -> int | None:
        gate = await opened(rate=None)
        await gate.learn_rate(60)
        await gate.report(Throttled(kind=Throttle.RATE, after_s=1))
        return gate.requests_per_minute

    assert run(scenario()) == 60


# Concurrency.


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency(concurrency: int) -> None:
    """No more than the ceiling are under way at once, and as many as that are."""

    async def scenario() -> tuple[int, float]:
        senders = Senders(await opened(concurrency=concurrency))
        await senders.send_all(concurrency * 4, seconds=10)
        return senders.most, asyncio.get_running_loop().time()

    most, ended_s = run(scenario())
    assert most == concurrency
    assert ended_s == pytest.approx(40.0)


def test_folder_limits() -> None:
    """A folder at its own limit waits, and those of other folders pass it."""

    async def scenario() -> list[object]:
        gate = await opened(concurrency=3, folders={"slow": 1})
        senders = Senders(gate)
        await asyncio.gather(
            senders.send("s1", "slow", 10),
            senders.send("s2", "slow", 10),
            senders.send("q1", "quick", 1),
            senders.send("q2", "quick", 1),
            senders.send("q3", "quick", 1),
        )
        return senders.order

    assert run(scenario()) == ["s1", "q1", "q2", "q3", "s2"]


@pytest.mark.parametrize("rate", [None, 1])
def test_first_come_first_served(rate: int | None) -> None:
    """Turns are given in the order of asking, whether slots or the rate are short."""

    async def scenario() -> list[object]:
        senders = Senders(await opened(concurrency=2, rate=rate))
        await senders.send_all(9, seconds=1)
        return senders.order

    assert run(scenario()) == list(range(9))


def test_nobody_overtakes() -> None:
    """One who gives a turn back and asks again at once stands behind those who waited."""

    async def scenario() -> list[object]:
        gate = await opened(concurrency=1)
        senders = Senders(gate)

        async def greedy() -> None:
            for _ in range(3):
                await senders.send("greedy", seconds=1)

        await asyncio.gather(greedy(), senders.send("patient", seconds=1))
        return senders.order

    assert run(scenario()) == ["greedy", "patient", "greedy", "greedy"]


def test_adapts_to_overload() -> None:
    """Overload halves what is allowed; successes bring it back to the ceiling."""

    async def most(gate: Gate) -> int:
        senders = Senders(gate)
        await senders.send_all(20, seconds=1)
        return senders.most

    async def scenario() -> list[int]:
        gate = await opened(concurrency=8)
        seen = [await most(gate)]
        for _ in range(5):
            await gate.report(Throttled(kind=Throttle.OVERLOAD, after_s=1))
            seen.append(await most(gate))  # one at a time until one gets through, and
            await gate.report(SUCCESS)
            await asyncio.sleep(FAILURES_WINDOW_S)  # fewer while a failure is remembered
            seen.append(await most(gate))
        for _ in range(60):
            await gate.report(SUCCESS)
        return [*seen, await most(gate)]

    assert run(scenario()) == [8, 1, 4, 1, 2, 1, 2, 1, 2, 1, 2, 8]


def test_recovery_wakes() -> None:
    """Who waits for a slot goes on as soon as a success allows one more, not at the next end."""

    async def scenario() -> list[float]:
        gate = await opened(concurrency=2)
        await gate.report(Throttled(kind=Throttle.OVERLOAD, after_s=0))
        senders = Senders(gate)
        both = asyncio.gather(senders.send(seconds=100), senders.send(seconds=100))
        await asyncio.sleep(10)
        assert len(senders.started_s) == 1
        await gate.report(SUCCESS)
        await both
        return senders.started_s

    assert run(scenario()) == [0.0, pytest.approx(10.0)]


# Cancellation.


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_cancellation_loses_no_turn(seed: int) -> None:
    """Whoever is cancelled, waiting or sending, leaves the gate as if they had never been."""

    async def scenario() -> tuple[int, int, int]:
        chance = random.Random(seed)
        gate = await opened(concurrency=2, folders={"a": 1})
        senders = Senders(gate)
        tasks = [asyncio.create_task(senders.send(n, chance.choice("ab"), 1)) for n in range(12)]
        await asyncio.sleep(chance.random() * 3)
        for task in chance.sample(tasks, 6):
            task.cancel()
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random())
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left = gate.in_flight
        await senders.send_all(4, seconds=1)  # the loop's selector fails where a turn was lost
        done = sum(not task.cancelled() for task in tasks)
        return left, done, senders.most

    left, done, most = run(scenario())
    assert left == 0
    assert done >= 6
    assert most <= 2


def test_cancelled_waiter_gives_nothing_away() -> None:
    """A request that was cancelled while it waited counts neither as sent nor as under way."""

    async def scenario() -> tuple[int, float]:
        gate = await opened(rate=2)
        senders = Senders(gate)
        await senders.send()
        halted = asyncio.Event()
        await gate.halt("a test")
        waiting = asyncio.create_task(senders.send())
        await settle()
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        assert not halted.is_set()
        await gate.lift()
        await senders.send()
        return gate.in_flight, asyncio.get_running_loop().time()

    assert run(scenario()) == (0, 0.0)


def test_failure_gives_the_turn_back() -> None:
    """An exception in a turn passes through, and the next one gets it."""

    async def scenario() -> int:
        gate = await opened(concurrency=1)
        with pytest.raises(RuntimeError, match="boom"):
            async with gate.turn("f"):
                raise RuntimeError("boom")
        await Senders(gate).send()
        return gate.in_flight

    assert run(scenario()) == 0


def test_unused_turn_counts_against_no_rate() -> None:
    """A turn in which nothing was sent is given back whole; one that was used is not."""

    async def scenario() -> list[float]:
        gate = await opened(concurrency=1, rate=1)
        started_s = []
        for used in (False, False, True, True):
            async with gate.turn("f") as turn:
                started_s.append(asyncio.get_running_loop().time())
                if used:
                    turn.use()
        return [at - started_s[0] for at in started_s]

    assert run(scenario()) == pytest.approx([0.0, 0.0, 0.0, 62.0], abs=0.1)


# Pauses, halts and the end.


def test_pause() -> None:
    """A pause holds everybody until its end, and a shorter one does not cut it short."""

    async def scenario() -> list[float]:
        gate = await opened()
        gate.pause(30)
        gate.pause(5)
        senders = Senders(gate)
        await senders.send_all(2)
        return senders.started_s

    assert run(scenario()) == [pytest.approx(30.0)] * 2


def test_longer_pause_while_waiting() -> None:
    """Who waits for a pause to end waits for a longer one that came meanwhile."""

    async def scenario() -> list[float]:
        gate = await opened()
        gate.pause(10)
        senders = Senders(gate)
        waiting = asyncio.create_task(senders.send())
        await asyncio.sleep(5)
        gate.pause(60)
        await waiting
        return senders.started_s

    assert run(scenario()) == [pytest.approx(65.0)]


@pytest.mark.parametrize("kind", Throttle)
def test_throttle_pauses_everybody(kind: Throttle) -> None:
    """Each kind of 429 stops every folder for as long as it names."""

    async def scenario() -> list[float]:
        gate = await opened(rate=100)
        await gate.report(Throttled(kind=kind, after_s=40))
        senders = Senders(gate)
        await asyncio.gather(senders.send(folder="a"), senders.send(folder="b"))
        return senders.started_s

    assert run(scenario()) == [pytest.approx(40.0)] * 2


def test_shut_until_asked() -> None:
    """A new gate is shut: nothing is paid for before the API was asked once."""

    async def scenario() -> tuple[list[float], str | None]:
        gate = Gate(clock=LoopClock(), limits=Limits(concurrency=1))
        assert gate.halted is not None
        senders = Senders(gate)
        waiting = asyncio.create_task(senders.send())
        await asyncio.sleep(100)
        assert senders.started_s == []
        await gate.lift()
        await waiting
        return senders.started_s, gate.halted

    started_s, halted = run(scenario())
    assert started_s == [pytest.approx(100.0)]
    assert halted is None


def test_halt_stops_those_who_wait() -> None:
    """A halt catches those who wait for the rate, too; requests under way go on."""

    async def scenario() -> tuple[list[float], str | None, int]:
        gate = await opened(rate=1)
        senders = Senders(gate)
        running = asyncio.create_task(senders.send("running", seconds=500))
        await settle()
        waiting = asyncio.create_task(senders.send("waiting"))
        await asyncio.sleep(10)
        await gate.halt("HTTP 402: empty")
        await asyncio.sleep(200)
        reason, in_flight = gate.halted, gate.in_flight
        await gate.lift()
        await asyncio.gather(running, waiting)
        return senders.started_s, reason, in_flight

    started_s, reason, in_flight = run(scenario())
    assert started_s == [0.0, pytest.approx(210.0)]
    assert (reason, in_flight) == ("HTTP 402: empty", 1)


def test_close() -> None:
    """Closing turns away who waits and who comes; requests under way end in peace."""

    async def scenario() -> tuple[list[object], list[str]]:
        gate = await opened(concurrency=1)
        senders = Senders(gate)
        running = asyncio.create_task(senders.send("running", seconds=10))
        waiting = [asyncio.create_task(senders.send(n)) for n in range(3)]
        await settle()
        await gate.close()
        ends = await asyncio.gather(running, *waiting, return_exceptions=True)
        assert asyncio.get_running_loop().time() == pytest.approx(10.0)
        with pytest.raises(DrainingError):
            await senders.send()
        return senders.order, [type(end).__name__ for end in ends]

    order, ends = run(scenario())
    assert order == ["running"]
    assert ends == ["NoneType", *["DrainingError"] * 3]


def test_close_while_halted() -> None:
    """Who waits for an account to be mended is let go at the end, too."""

    async def scenario() -> None:
        gate = await opened()
        await gate.halt("HTTP 401")
        waiting = asyncio.create_task(Senders(gate).send())
        await settle()
        await gate.close()
        with pytest.raises(DrainingError):
            await waiting

    run(scenario())


@pytest.mark.parametrize("rated", [False, True])
def test_close_ends_questions(*, rated: bool) -> None:
    """A question that waits for its time is let go at the end, and none is asked any more."""

    async def scenario() -> None:
        gate = await opened(rate=1)
        gate.pause(1_000)
        for _ in range(FAILURES_MAX):
            gate.count_failure()

        async def ask() -> None:
            async with gate.question(rated=rated):
                pass

        waiting = asyncio.create_task(ask())
        await settle()
        assert not waiting.done()
        await gate.close()
        with pytest.raises(DrainingError):
            await waiting
        with pytest.raises(DrainingError):
            await ask()
        assert asyncio.get_running_loop().time() == 0

    run(scenario())


def test_wait_open() -> None:
    """Whoever waits for the account alone goes on when it is lifted, and ends with the gate."""

    async def scenario() -> float:
        gate = await opened(rate=1)
        gate.pause(1_000)
        await gate.wait_open()  # a pause is not the account's
        await gate.halt("HTTP 402")
        waiting = asyncio.create_task(gate.wait_open())
        await asyncio.sleep(7)
        assert not waiting.done()
        await gate.lift()
        await waiting
        lifted_s = asyncio.get_running_loop().time()
        await gate.halt("HTTP 402")
        waiting = asyncio.create_task(gate.wait_open())
        await settle()
        await gate.close()
        await gate.halt("too late")
        with pytest.raises(DrainingError):
            await waiting
        with pytest.raises(DrainingError):
            await gate.wait_open()
        return lifted_s

    assert run(scenario()) == pytest.approx(7.0)


@pytest.mark.parametrize("failure", [Unsent(), Unavailable(), ServerFailed(), Doubtful(), Lost()])
def test_breaker(failure: Outcome) -> None:
    """Five failures in a row mean the service: one probe at a time, after a growing pause."""

    async def scenario() -> tuple[list[bool], list[int], int]:
        gate = await opened(concurrency=4)
        down, pauses_s = [], []
        for _ in range(12):
            await gate.report(failure)
            down.append(gate.service_down)
            started_s = asyncio.get_running_loop().time()
            senders = Senders(gate)
            await senders.send_all(3, seconds=0.001)
            pauses_s.append(round(senders.started_s[0] - started_s))
        return down, pauses_s, senders.most

    down, pauses_s, most = run(scenario())
    assert down == [False] * 4 + [True] * 8
    assert pauses_s == [0, 0, 0, 0, 5, 10, 20, 40, 80, 120, 120, 120]
    assert most == 1


@pytest.mark.parametrize(
    ("outcome", "count"),
    [
        (SUCCESS, 0),
        (Rejected(), 0),
        (AccountRefused(), 0),
        (Throttled(kind=Throttle.RATE, after_s=1), 4),
    ],
)
def test_breaker_resets(outcome: Outcome, count: int) -> None:
    """Any real answer ends the row of failures; being asked to wait says nothing of it."""

    async def scenario() -> int:
        gate = await opened()
        for _ in range(4):
            await gate.report(Unsent())
        await gate.report(outcome)
        return gate.failures_in_a_row

    assert run(scenario()) == count


def test_one_success_opens_the_breaker() -> None:
    """After an outage the first success lets everybody go on."""

    async def scenario() -> tuple[bool, int]:
        gate = await opened(concurrency=3)
        for _ in range(9):
            await gate.report(Unsent())
        await Senders(gate).send()
        await gate.report(SUCCESS)
        senders = Senders(gate)
        await senders.send_all(6, seconds=1)
        return gate.service_down, senders.most

    assert run(scenario()) == (False, 3)


def test_jumping_loop_tells_a_deadlock() -> None:
    """The tests' own loop fails where nothing would ever happen again."""
    never: Callable[[], Coroutine[None, None, object]] = asyncio.Event().wait
    with pytest.raises(AssertionError, match="nothing will ever wake them"):
        run(never())
