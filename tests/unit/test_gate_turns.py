"""Whose turn it is, and what others who use the same key leave of the rate.

In a loop whose time jumps, see `gates`.
"""

import asyncio
import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.gates import LoopClock, Senders, opened, run, settle
from venice_watch.outcome import Rejected
from venice_watch.venice.gate import WINDOW_S, Gate
from venice_watch.venice.headers import Allowance, read_allowance
from venice_watch.venice.limits import Limits

PRIORITIES = {"urgent": 9, "usual": 0, "later": -3}


async def ranked(*, concurrency: int = 1, rate: int | None = None) -> Gate:
    """Return an open gate whose folders differ in priority."""
    gate = Gate(
        clock=LoopClock(),
        limits=Limits(
            concurrency=concurrency,
            folders={},
            requests_per_minute=rate,
            priorities=PRIORITIES,
        ),
    )
    await gate.lift()
    return gate


async def free_places(gate: Gate, most: int = 100) -> tuple[int, float]:
    """Return how many turns there are at once, and after how many seconds one more."""
    began_s = asyncio.get_running_loop().time()
    senders = Senders(gate)
    tasks = [asyncio.create_task(senders.send()) for _ in range(most)]
    await settle()
    at_once = len(senders.started_s)
    if at_once == most:
        return most, math.inf
    async with asyncio.timeout(WINDOW_S + 1):
        while len(senders.started_s) == at_once:  # noqa: ASYNC110 - time jumps
            await asyncio.sleep(0.25)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return at_once, senders.started_s[at_once] - began_s


# Priorities.


@pytest.mark.parametrize("rate", [None, 1])
def test_higher_priorities_first(rate: int | None) -> None:
    """Of those who wait the highest priority goes first, each in the order of asking."""

    async def scenario() -> list[object]:
        senders = Senders(await ranked(rate=rate))
        folders = ["usual", "later", "usual", "urgent", "unknown", "later", "urgent"]
        await asyncio.gather(
            senders.send("first", "later", seconds=1),
            *(senders.send((folder, n), folder, 1) for n, folder in enumerate(folders)),
        )
        return senders.order

    assert run(scenario()) == [
        "first",  # nobody else was there yet
        ("urgent", 3),
        ("urgent", 6),
        ("usual", 0),
        ("usual", 2),
        ("unknown", 4),
        ("later", 1),
        ("later", 5),
    ]


def test_overtaking_whoever_waits_for_the_rate() -> None:
    """Whoever waits for the rate is overtaken, at its very end, by a higher priority."""

    async def scenario() -> list[tuple[object, float]]:
        senders = Senders(await ranked(concurrency=9, rate=1))
        tasks = [asyncio.create_task(senders.send(n, "usual")) for n in range(3)]
        await asyncio.sleep(WINDOW_S - 1)
        tasks.append(asyncio.create_task(senders.send("urgent", "urgent")))
        await asyncio.gather(*tasks)
        return list(zip(senders.order, senders.started_s, strict=True))

    assert run(scenario()) == [
        (0, 0.0),
        ("urgent", pytest.approx(WINDOW_S)),
        (1, pytest.approx(2 * WINDOW_S)),
        (2, pytest.approx(3 * WINDOW_S)),
    ]


def test_a_full_folder_of_a_high_priority() -> None:
    """A folder at its own limit keeps nobody back, however high its priority is."""

    async def scenario() -> list[object]:
        gate = Gate(
            clock=LoopClock(),
            limits=Limits(
                concurrency=3,
                folders={"urgent": 1},
                requests_per_minute=None,
                priorities=PRIORITIES,
            ),
        )
        await gate.lift()
        senders = Senders(gate)
        await asyncio.gather(
            senders.send("u1", "urgent", 10),
            senders.send("u2", "urgent", 10),
            senders.send("l1", "later", 1),
            senders.send("l2", "later", 1),
            senders.send("l3", "later", 1),
        )
        return senders.order

    assert run(scenario()) == ["u1", "l1", "l2", "l3", "u2"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rate=st.sampled_from([None, 4]))
def test_cancelled_among_priorities(seed: int, rate: int | None) -> None:
    """Whoever is cancelled loses no turn for the others, and those keep their order."""

    async def scenario() -> tuple[list[tuple[int, int]], int]:
        chance = random.Random(seed)
        gate = await ranked(rate=rate)
        senders = Senders(gate)
        folders = [chance.choice([*PRIORITIES]) for _ in range(14)]
        ranks = [(-PRIORITIES[folder], n) for n, folder in enumerate(folders)]
        first = asyncio.create_task(senders.send(None, "usual", 5))
        await settle()
        tasks = [
            asyncio.create_task(senders.send(rank, folder, chance.random()))
            for rank, folder in zip(ranks, folders, strict=True)
        ]
        await settle()
        for task in chance.sample(tasks, 7):
            await asyncio.sleep(chance.choice([0, 1]))
            task.cancel()
        await asyncio.gather(first, *tasks, return_exceptions=True)
        done = [one for one in senders.order if isinstance(one, tuple)]
        return done, gate.in_flight

    done, left = run(scenario())
    assert len(done) >= 7
    assert done == sorted(done)
    assert left == 0


# What counts against the rate, and when.


def test_counted_again_when_the_body_has_left() -> None:
    """A slow upload counts from its end: that is when a server may count it."""

    async def scenario() -> list[float]:
        gate = await opened(rate=2)
        async with gate.turn("f") as turn:
            turn.use()
            await asyncio.sleep(10)
            turn.use()
            turn.use()
        senders = Senders(gate)
        await senders.send_all(2)
        return senders.started_s

    assert run(scenario()) == [pytest.approx(10.0), pytest.approx(10.0 + WINDOW_S)]


@pytest.mark.parametrize("upload_s", [0.0, 30.0, WINDOW_S + 9])
def test_an_upload_counts_once(upload_s: float) -> None:
    """However long an upload takes, it counts as one request, and not twice."""

    async def scenario() -> tuple[int, float]:
        gate = await opened(rate=5)
        async with gate.turn("f") as turn:
            turn.use()
            await asyncio.sleep(upload_s)
            turn.use()
        return await free_places(gate)

    assert run(scenario()) == (4, pytest.approx(WINDOW_S))


def test_a_rated_question_counts() -> None:
    """A question to the address whose requests are counted takes a place in the rate."""

    async def scenario() -> tuple[int, float]:
        gate = await opened(rate=5)
        async with gate.question(rated=True):
            await asyncio.sleep(1)
        return await free_places(gate, 5)

    assert run(scenario()) == (4, pytest.approx(WINDOW_S - 1))


def test_an_unrated_question_counts_nothing() -> None:
    """A question to an address whose requests are not counted takes no place."""

    async def scenario() -> tuple[int, float]:
        gate = await opened(rate=5)
        async with gate.question():
            pass
        return await free_places(gate, 5)

    assert run(scenario()) == (5, math.inf)


# What an answer says is left.


def test_others_use_the_same_key() -> None:
    """What others sent takes their places, until the API's window turns."""

    async def scenario() -> tuple[int, float]:
        gate = await opened()
        await Senders(gate).send_all(3)
        await gate.learn(Allowance(limit=20, remaining=10, reset_s=40.0))
        return await free_places(gate)

    assert run(scenario()) == (10, pytest.approx(40.0))


def test_the_same_word_again_adds_nothing() -> None:
    """Others' requests are not counted twice, and ours are not taken for theirs."""

    async def scenario() -> tuple[int, float]:
        gate = await opened(rate=20)
        allowance = Allowance(limit=20, remaining=15, reset_s=50.0)
        for _ in range(4):
            await gate.learn(allowance)
        await Senders(gate).send_all(5)
        await gate.learn(replace(allowance, remaining=10))
        return await free_places(gate)

    assert run(scenario()) == (10, pytest.approx(50.0))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-requests": "0"},  # until when?
        {"x-ratelimit-reset-requests": "30"},
        {"x-ratelimit-remaining-requests": "none", "x-ratelimit-reset-requests": "30"},
        {"x-ratelimit-remaining-requests": "-4", "x-ratelimit-reset-requests": "30"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"},
        {"x-ratelimit-remaining-requests": "999999", "x-ratelimit-reset-requests": "30"},
        {"x-ratelimit-remaining-requests": "20", "x-ratelimit-reset-requests": "30"},
    ],
)
def test_garbage_takes_nothing(headers: dict[str, str]) -> None:
    """What is missing, garbage, or more than there is, leaves the rate as it is known."""

    async def scenario() -> tuple[int, float]:
        gate = await opened(rate=20)
        await gate.learn(read_allowance(headers, LoopClock().now()))
        return await free_places(gate)

    assert run(scenario()) == (20, pytest.approx(WINDOW_S))


@pytest.mark.parametrize(
    ("reset", "expected_s"),
    [("0", 1.0), ("-50", 1.0), ("1700000000", 1.0), ("1700000000000", 1.0), ("99999", 62.0)],
)
def test_odd_resets(reset: str, expected_s: float) -> None:
    """A reset in the past holds for a second only; one far away for a window at most."""
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}

    async def scenario() -> tuple[int, float]:
        gate = await opened(rate=20)
        await gate.learn(read_allowance(headers, LoopClock().now()))
        return await free_places(gate)

    assert run(scenario()) == (0, pytest.approx(expected_s))


def test_a_fixed_rate_and_what_is_left() -> None:
    """A rate that is fixed stays, but no more is sent than the API says is left."""

    async def scenario(remaining: int) -> tuple[int, int | None]:
        gate = await opened(rate=10)
        await Senders(gate).send_all(1)
        await gate.learn(Allowance(limit=600, remaining=remaining, reset_s=30.0))
        places, _ = await free_places(gate)
        return places, gate.requests_per_minute

    assert run(scenario(599)) == (9, 10)
    assert run(scenario(4)) == (4, 10)
    assert run(scenario(0)) == (0, 10)


def test_an_unknown_rate_and_what_is_left() -> None:
    """Where no rate is known, what is left of it says nothing; a limit in the headers names it."""

    async def scenario(limit: int | None) -> tuple[int, float]:
        gate = await opened(rate=None)
        await gate.learn(Allowance(limit=limit, remaining=3, reset_s=20.0))
        return await free_places(gate, 30)

    assert run(scenario(None)) == (30, math.inf)
    assert run(scenario(8)) == (3, pytest.approx(20.0))


@settings(max_examples=40, deadline=None)
@given(
    rate=st.integers(1, 30),
    words=st.lists(
        st.tuples(st.integers(0, 40), st.floats(1, 62), st.floats(0, 20)), min_size=1, max_size=12
    ),
)
def test_never_more_than_is_left(rate: int, words: list[tuple[int, float, float]]) -> None:
    """Right after an answer no more go out than it says are left, nor than the rate allows."""

    async def scenario() -> None:
        gate = await opened(rate=rate)
        senders = Senders(gate)
        waiting = [asyncio.create_task(senders.send()) for _ in range(len(words) * 40)]
        await settle()
        for remaining, reset_s, gap_s in words:
            before = len(senders.started_s)
            await gate.learn(Allowance(remaining=remaining, reset_s=reset_s))
            await settle()
            assert len(senders.started_s) - before <= remaining
            await asyncio.sleep(gap_s)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(scenario())


# How much of the rate is used.


@pytest.mark.parametrize("latency_s", [1.0, 10.0])
@pytest.mark.parametrize("restart_after", [None, 55])
def test_the_rate_is_used(latency_s: float, restart_after: int | None) -> None:
    """With enough to do, 95 % of the rate is used or more, over a restart as well."""
    rate, images, upload_s = 20, 150, 0.4
    begun_s: list[float] = []  # as the ledger has them

    async def send(gate: Gate, places: asyncio.Semaphore) -> None:
        async with places, gate.turn("f") as turn:
            begun_s.append(asyncio.get_running_loop().time())
            turn.use()
            await asyncio.sleep(upload_s)
            turn.use()
            await asyncio.sleep(latency_s)

    async def scenario() -> None:
        lots = [images] if restart_after is None else [restart_after, images - restart_after]
        for lot in lots:
            gate = await opened(concurrency=8, rate=rate)
            now_s = asyncio.get_running_loop().time()
            gate.remember(now_s - at for at in begun_s)
            places = asyncio.Semaphore(10)  # the dispatcher begins no more than that
            await asyncio.gather(*(send(gate, places) for _ in range(lot)))

    run(scenario())
    used = (images - 1) / (begun_s[-1] - begun_s[0]) * 60
    assert used >= 0.95 * rate
    for first, later in zip(begun_s, begun_s[rate:], strict=False):
        assert later - first > 60


def test_failures_do_not_stop_the_work() -> None:
    """One bad image in ten costs little of the rate."""

    async def scenario() -> float:
        gate = await opened(concurrency=8, rate=20)
        numbers = itertools.count()

        async def send() -> None:
            async with gate.turn("f") as turn:
                turn.use()
                await asyncio.sleep(5)
                if next(numbers) % 10 == 0:
                    await gate.report(Rejected(), 1)

        await asyncio.gather(*(send() for _ in range(100)))
        return 100 / asyncio.get_running_loop().time() * 60

    assert run(scenario()) >= 19


def test_other_limits() -> None:
    """Other limits count at once for who waits; what the API taught of its rate stays."""

    async def scenario() -> list[tuple[int, int | None]]:
        gate = await opened(concurrency=2)
        await gate.learn_rate(30)
        senders = Senders(gate)
        tasks = [asyncio.create_task(senders.send(seconds=900.0)) for _ in range(20)]
        found = []
        for limits in (
            Limits(concurrency=5),
            Limits(concurrency=5, folders={"f": 1}, requests_per_minute=12),
            Limits(concurrency=7),
        ):
            await settle()
            found.append((len(senders.started_s), gate.requests_per_minute))
            gate.adopt(limits)
        await settle()
        found.append((len(senders.started_s), gate.requests_per_minute))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return found

    assert run(scenario()) == [(2, 30), (5, 30), (5, 12), (7, 12)]
