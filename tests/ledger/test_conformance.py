"""What every engine of the ledger must keep: each verb, each refusal, each figure of money.

A second engine is added to the fixture `opened`; nothing here knows which one it talks to.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import hypothesis
import pytest
from hypothesis import strategies as st

from venice_watch.budget import Budget, Limit, Period
from venice_watch.errors import Code
from venice_watch.job import (
    ACTIVE,
    FINAL,
    Arrival,
    Attempt,
    Charge,
    Closing,
    Job,
    Retire,
    Signature,
    Source,
    State,
)
from venice_watch.ledger import (
    BudgetReachedError,
    Delivered,
    Delivery,
    Earlier,
    FolderCounts,
    Known,
    Ledger,
    NameReservedError,
    Order,
    Prior,
    Result,
    Spending,
    StaleError,
    UnderWayError,
    WorkMovedOnError,
)
from venice_watch.ledger.pauses import Pause

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]

NOW = 1_780_000_000.0
DAY = "2026-05-28"
EVE = "2026-05-27"
MONTH = "2026-05"
NEXT_MONTH_DAY = "2026-06-01"
FOLDERS = ("photos",)
WORK = b"w" * 32
OTHER_WORK = b"o" * 32
SHA = b"s" * 32
FREE = Closing(outcome="unsent", charge=Charge.NONE, message="refused")
PAID = Closing(outcome="succeeded", charge=Charge.CHARGED, status=200, request_id="ray")
UNKNOWN = Closing(outcome="doubtful", charge=Charge.UNKNOWN, message="no answer")
LOST = Closing(outcome="lost", charge=Charge.LOST, status=200, message="broken")
NAME_NOT_TEXT = os.fsdecode(b"caf\xe9 \xff.jpg")


def run(opened: Opener, scenario: Callable[[Ledger], Awaitable[None]]) -> None:
    """Run a scenario on an open ledger."""

    async def with_ledger() -> None:
        async with opened() as ledger:
            await scenario(ledger)

    asyncio.run(with_ledger())


def signature(version: int = 1) -> Signature:
    """Return one version of a file."""
    return Signature(
        device=2**40, inode=version, size_bytes=9, mtime_ns=1_700_000_000_123_456_789, ctime_ns=5
    )


def arrival(path: str = "cat.jpg", *, folder: str = "photos", version: int = 1) -> Arrival:
    """Return a file that has arrived."""
    return Arrival(folder=folder, path=path, signature=signature(version))


def order(work: bytes = WORK, microusd: int = 80_000) -> Order:
    """Return what a request asks for, by somebody who has seen all that was done before."""
    return Order(
        work_key=work,
        source_sha256=SHA,
        preset="photo",
        parameters='{"scale":2}',
        microusd=microusd,
        results=1_000,
        doubts=1_000,
    )


def result(
    path: str | None = "/out/cat.png",
    name: str = "1.png",
    *,
    exclusive: bool = True,
    size_bytes: int = 100,
) -> Result:
    """Return a result in the spool."""
    return Result(
        spool_name=name,
        path=path,
        width=800,
        height=600,
        scale=2.0,
        sha256=SHA,
        size_bytes=size_bytes,
        exclusive=exclusive,
    )


async def claim(ledger: Ledger, now: float = NOW) -> Job | None:
    """Take the next job of the one folder there is."""
    return await ledger.claim(now=now, only_folders=FOLDERS)


async def executing(ledger: Ledger, path: str = "cat.jpg", version: int = 1) -> Job:
    """Return a job that was just claimed."""
    assert await ledger.enqueue([arrival(path, version=version)], now=NOW) == [True]
    job = await claim(ledger)
    assert job is not None
    assert (job.path, job.state) == (path, State.EXECUTING)
    return job


async def sending(
    ledger: Ledger, path: str = "cat.jpg", work: bytes = WORK, microusd: int = 80_000
) -> tuple[Job, Attempt]:
    """Return a job with a request under way."""
    job = await executing(ledger, path)
    return job, await ledger.begin(job, order(work, microusd), day=DAY, now=NOW)


async def staged(ledger: Ledger, path: str = "cat.jpg", out: str = "/out/cat.png") -> Job:
    """Return a job whose result is in the spool."""
    job, attempt = await sending(ledger, path)
    spooled = result(out, f"{attempt.id}.png")
    return await ledger.stage(job, attempt, PAID, spooled, now=NOW)


async def completed(
    ledger: Ledger,
    retire: Retire = Retire.ARCHIVE,
    path: str = "cat.jpg",
    out: str = "/out/cat.png",
) -> Job:
    """Return a delivered job."""
    return await ledger.complete(await staged(ledger, path, out), retire=retire, now=NOW)


async def discarded(ledger: Ledger, path: str = "cat.jpg", code: Code = Code.CORRUPT) -> Job:
    """Return a job that was given up, its bytes known."""
    return await ledger.discard(
        await executing(ledger, path),
        None,
        None,
        code=code,
        message="no image",
        known=Known(source_sha256=SHA, preset="photo", parameters="{}"),
        now=NOW,
    )


async def put_back(ledger: Ledger, job: Job, until: float = NOW, *, counted: bool = False) -> Job:
    """Send a job back to wait."""
    return await ledger.retry(
        job, None, None, until=until, counted=counted, message="later", now=NOW
    )


async def doubts_of(ledger: Ledger, work: bytes = WORK) -> int:
    """Return how many requests for a piece of work are in doubt."""
    return (await ledger.prior(work)).doubts


async def present(ledger: Ledger, digest: str = "rules") -> dict[str, Signature]:
    """Return what is known of the folder."""
    return dict(await ledger.present("photos", rules_digest=digest))


# Arrivals.


def test_a_job_is_what_arrived(opened: Opener) -> None:
    """Every fact of an arrival comes back, any name and any figure included."""

    async def scenario(ledger: Ledger) -> None:
        one = Arrival(
            folder="photos",
            path=f"sub/{NAME_NOT_TEXT}",
            signature=Signature(
                device=2**62, inode=2**62, size_bytes=2**62, mtime_ns=-1, ctime_ns=2**62
            ),
            incomplete=True,
        )
        assert await ledger.enqueue([one], now=NOW) == [True]
        job = await claim(ledger, NOW + 1)
        assert job is not None
        assert (job.folder, job.path, job.signature) == (one.folder, one.path, one.signature)
        assert (job.incomplete, job.attempts) == (True, 0)
        assert (job.created_at, job.updated_at) == (NOW, NOW + 1)

    run(opened, scenario)


def test_one_active_job_a_path(opened: Opener) -> None:
    """A path has one job on its way at most, in each of the active states; others are free."""

    async def scenario(ledger: Ledger) -> None:
        again = [arrival(version=2)]
        assert await ledger.enqueue([arrival(), arrival()], now=NOW) == [True, False]
        job = await claim(ledger)
        assert job is not None
        assert await ledger.enqueue(again, now=NOW) == [False]
        attempt = await ledger.begin(job, order(), day=DAY, now=NOW)
        doubtful = await ledger.doubt(job, attempt, UNKNOWN, until=NOW, now=NOW)
        assert doubtful.state is State.IN_DOUBT
        assert await ledger.enqueue(again, now=NOW) == [False]
        job = await claim(ledger)
        assert job is not None
        attempt = await ledger.begin(job, order(), day=DAY, now=NOW)
        job = await ledger.stage(job, attempt, PAID, result(), now=NOW)
        assert await ledger.enqueue(again, now=NOW) == [False]
        await ledger.complete(job, retire=Retire.ARCHIVE, now=NOW)
        assert await ledger.enqueue(again, now=NOW) == [True]
        assert await ledger.enqueue([arrival("CAT.jpg"), arrival(folder="f")], now=NOW) == [
            True,
            True,
        ]

    run(opened, scenario)


def test_a_refused_arrival_changes_nothing(opened: Opener) -> None:
    """A new version of a file whose job is on its way leaves that job as it is."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await sending(ledger)
        await ledger.enqueue([arrival(version=2)], now=NOW)
        assert await present(ledger) == {"cat.jpg": signature(1)}
        await ledger.stage(job, attempt, PAID, result(), now=NOW)  # still the same generation

    run(opened, scenario)


# Claims.


def test_claims_go_by_priority_then_time(opened: Opener) -> None:
    """The highest priority comes first, then what has been due longest, then what came first."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.enqueue([arrival("late")], now=NOW + 5)
        await ledger.enqueue([arrival("a"), arrival("b")], now=NOW)
        await ledger.enqueue([replace(arrival("urgent"), priority=9)], now=NOW + 9)
        claimed = [await claim(ledger, NOW + 10) for _ in range(5)]
        assert [job and job.path for job in claimed] == ["urgent", "a", "b", "late", None]

    run(opened, scenario)


def test_claims_only_what_is_due(opened: Opener) -> None:
    """What waits until later, or in another folder, is not handed out; when it is due is told."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        await put_back(ledger, job, NOW + 60)
        assert await claim(ledger, NOW + 59) is None
        assert await ledger.claim(now=NOW + 99, only_folders=("other",)) is None
        assert await ledger.claim(now=NOW + 99, only_folders=()) is None
        assert await ledger.next_due_at(only_folders=FOLDERS) == NOW + 60
        assert await ledger.next_due_at(only_folders=("other",)) is None
        assert await ledger.next_due_at(only_folders=()) is None
        assert (await claim(ledger, NOW + 60)) is not None
        assert await ledger.next_due_at(only_folders=FOLDERS) is None

    run(opened, scenario)


def test_nothing_is_handed_out_twice(opened: Opener) -> None:
    """Of many who claim at once each gets another job, and nobody two."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.enqueue([arrival(f"{n}.jpg") for n in range(20)], now=NOW)
        claimed = await asyncio.gather(*(claim(ledger) for _ in range(30)))
        paths = [job.path for job in claimed if job is not None]
        assert len(paths) == len(set(paths)) == 20

    run(opened, scenario)


def test_doubts_come_last(opened: Opener) -> None:
    """What is in doubt is claimed after what waits with the same priority, before any lower."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await sending(ledger, "doubt")
        await ledger.doubt(job, attempt, UNKNOWN, until=NOW, now=NOW)
        await ledger.enqueue([replace(arrival("lower"), priority=-1)], now=NOW)
        await ledger.enqueue([arrival("late")], now=NOW + 9)
        await ledger.enqueue([replace(arrival("urgent"), priority=1)], now=NOW + 9)
        claimed = [await claim(ledger, NOW + 9) for _ in range(5)]
        assert [job and job.path for job in claimed] == ["urgent", "late", "doubt", "lower", None]

    run(opened, scenario)


def test_urgent_doubts_come_first(opened: Opener) -> None:
    """What is in doubt with a higher priority does not wait for the others; nor before its time."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.enqueue([replace(arrival("doubt"), priority=1)], now=NOW)
        job = await claim(ledger)
        assert job is not None
        attempt = await ledger.begin(job, order(), day=DAY, now=NOW)
        await ledger.doubt(job, attempt, UNKNOWN, until=NOW + 5, now=NOW)
        await ledger.enqueue([arrival("a"), arrival("b")], now=NOW)
        claimed = [await claim(ledger, NOW + 4), await claim(ledger, NOW + 5)]
        assert [job and job.path for job in claimed] == ["a", "doubt"]

    run(opened, scenario)


def test_claims_go_by_folder(opened: Opener) -> None:
    """The folder named first comes first, whatever waits elsewhere; one without work is passed."""

    async def scenario(ledger: Ledger) -> None:
        urgent = replace(arrival("urgent", folder="scans"), priority=9)
        await ledger.enqueue([urgent, arrival("old", folder="scans")], now=NOW - 99)
        await ledger.enqueue([arrival("a"), replace(arrival("b"), priority=1)], now=NOW)
        await ledger.enqueue([arrival("later", folder="late")], now=NOW + 1)
        await ledger.enqueue([arrival("nobody's", folder="other")], now=NOW)
        folders = ("empty", "late", "photos", "scans")
        claimed = [await ledger.claim(now=NOW, only_folders=folders) for _ in range(5)]
        assert [job and job.path for job in claimed] == ["b", "a", "urgent", "old", None]
        assert await ledger.claim(now=NOW + 9, only_folders=()) is None
        job = await ledger.claim(now=NOW + 9, only_folders=folders)
        assert job is not None
        assert job.path == "later"

    run(opened, scenario)


def test_doubts_of_a_folder_named_first(opened: Opener) -> None:
    """What is in doubt comes after what waits in a folder named later, but not for ever."""

    async def scenario(ledger: Ledger) -> None:
        for name in ("doubt", "long"):
            job, attempt = await sending(ledger, name, name.encode() * 8)
            until = NOW if name == "long" else NOW + 1_000
            await ledger.doubt(job, attempt, UNKNOWN, until=until, now=NOW)
        await ledger.enqueue([arrival(f"{n}", folder="scans") for n in range(3)], now=NOW)
        folders = ("photos", "scans")
        claimed = [
            await ledger.claim(now=at, only_folders=folders)
            for at in (NOW, NOW + 599, NOW + 601, NOW + 1_001, NOW + 1_001, NOW + 1_001)
        ]
        paths = [job and job.path for job in claimed]
        assert paths == ["0", "1", "long", "2", "doubt", None]

    run(opened, scenario)


def test_deliveries_come_first(opened: Opener) -> None:
    """A paid result that waits for its delivery precedes all folders, and may be of any of them."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.postpone(await staged(ledger), until=NOW, message="full", now=NOW)
        await ledger.enqueue([arrival("new", folder="scans")], now=NOW - 99)
        assert await ledger.claim(now=NOW, only_folders=("empty",)) is None
        claimed = [
            await ledger.claim(now=NOW, only_folders=("scans",), deliver_in=("x", "photos")),
            await ledger.claim(now=NOW, only_folders=("scans", "photos")),
            await ledger.claim(now=NOW, only_folders=("scans", "photos"), deliver_in=("photos",)),
        ]
        assert [job and (job.path, job.state) for job in claimed] == [
            ("cat.jpg", State.STAGED),
            ("new", State.EXECUTING),
            None,
        ]

    run(opened, scenario)


waiting_jobs = st.tuples(
    st.sampled_from("abc"),  # its folder
    st.integers(-1, 1),  # its priority
    st.integers(0, 3),  # when it came
)


@hypothesis.settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    jobs=st.lists(waiting_jobs, max_size=12),
    folders=st.permutations("abc").flatmap(lambda all_: st.integers(0, 3).map(lambda n: all_[:n])),
    now_s=st.integers(0, 4),
)
def test_claims_are_those_of_the_rule(
    anew: Callable[[], Opener], jobs: list[tuple[str, int, int]], folders: list[str], now_s: int
) -> None:
    """Claims go by the order of folders, then priority, then time, then coming, and nothing else.

    The next that is due later is the earliest of those folders.
    """

    async def scenario(ledger: Ledger) -> None:
        for number, (folder, priority, at_s) in enumerate(jobs):
            one = replace(arrival(str(number), folder=folder), priority=priority)
            await ledger.enqueue([one], now=NOW + at_s)
        expected = sorted(
            (folders.index(folder), -priority, at_s, number)
            for number, (folder, priority, at_s) in enumerate(jobs)
            if folder in folders and at_s <= now_s
        )
        found = []
        while (job := await ledger.claim(now=NOW + now_s, only_folders=folders)) is not None:
            found.append(job.path)
        assert found == [str(number) for *_, number in expected]
        later = [NOW + at_s for folder, _, at_s in jobs if folder in folders and at_s > now_s]
        assert await ledger.next_due_at(only_folders=folders) == min(later, default=None)

    run(anew(), scenario)


def test_next_due(opened: Opener) -> None:
    """The next time is that of a job that waits for one, deliveries of more folders included."""

    async def scenario(ledger: Ledger) -> None:
        assert await ledger.next_due_at(only_folders=FOLDERS, deliver_in=FOLDERS) is None
        await ledger.postpone(await staged(ledger), until=NOW + 7, message="full", now=NOW)
        await ledger.enqueue([arrival("a", folder="scans")], now=NOW + 9)
        for only, deliver, expected in (
            (("scans",), (), NOW + 9),
            (("scans",), ("photos",), NOW + 7),
            (("photos",), ("scans",), NOW + 7),
            ((), ("scans",), None),
            ((), ("scans", "photos"), NOW + 7),
            ((), (), None),
        ):
            assert await ledger.next_due_at(only_folders=only, deliver_in=deliver) == expected
        job = await ledger.claim(now=NOW + 7, only_folders=("photos",))
        assert job is not None, "and what is in hand waits for no time"
        assert await ledger.next_due_at(only_folders=("photos",)) is None

    run(opened, scenario)


# Compare and set.


def test_stale_steps_change_nothing(opened: Opener) -> None:
    """Whoever has an older generation of a job in hand cannot move it, whatever the verb."""

    async def scenario(ledger: Ledger) -> None:
        old = await executing(ledger)
        await put_back(ledger, old)
        job = await claim(ledger)
        assert job is not None
        attempt = await ledger.begin(job, order(), day=DAY, now=NOW)
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: ledger.begin(old, order(), day=DAY, now=NOW),
            lambda: ledger.stage(old, attempt, PAID, result(), now=NOW),
            lambda: put_back(ledger, old),
            lambda: ledger.doubt(old, attempt, UNKNOWN, until=NOW, now=NOW),
            lambda: ledger.discard(
                old, attempt, FREE, code="failed", message="", known=Known(), now=NOW
            ),
            lambda: ledger.discard(
                old, None, None, code="failed", message="", known=Known(), now=NOW
            ),
            lambda: ledger.cancel(old, code="gone", message="", rules_digest=None, now=NOW),
        ]
        for step in steps:
            with pytest.raises(StaleError):
                await step()
            [open_one] = await ledger.attempts(job)
            assert open_one == attempt, "a refused step ended the attempt"
        assert [one.state for one in await ledger.recent(limit=9)] == [State.EXECUTING]
        await ledger.stage(job, attempt, PAID, result(), now=NOW)

    run(opened, scenario)


def test_an_attempt_ends_once(opened: Opener) -> None:
    """An attempt that was closed cannot be closed again, and its job does not move."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await sending(ledger)
        await ledger.retry(job, attempt, FREE, until=NOW, counted=True, message="refused", now=NOW)
        job = await claim(ledger) or job
        with pytest.raises(StaleError):
            await ledger.doubt(job, attempt, UNKNOWN, until=NOW, now=NOW)
        [closed] = await ledger.attempts(job)
        assert closed.charge is Charge.NONE

    run(opened, scenario)


def test_only_steps_of_the_table(opened: Opener) -> None:
    """A verb from a state that the table does not allow is refused, and changes nothing."""

    async def scenario(ledger: Ledger) -> None:
        waiting = await put_back(ledger, await executing(ledger, "waiting"), NOW + 99)
        busy, attempt = await sending(ledger, "busy", b"b" * 32)
        done = await completed(ledger, path="done")
        bad = await discarded(ledger, "bad")
        spooled = await staged(ledger, "spooled", "/out/spooled.png")
        before = await ledger.recent(limit=9)
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: ledger.complete(busy, retire=Retire.DELETE, now=NOW),
            lambda: ledger.complete(waiting, retire=Retire.DELETE, now=NOW),
            lambda: ledger.advance(replace(busy, frames=2), now=NOW),
            lambda: ledger.advance(replace(waiting, frames=2), now=NOW),
            lambda: ledger.advance(replace(done, frames=2), now=NOW),
            lambda: ledger.advance(spooled, now=NOW),  # it has one frame
            lambda: put_back(ledger, spooled),
            lambda: put_back(ledger, done),
            lambda: ledger.doubt(spooled, attempt, UNKNOWN, until=NOW, now=NOW),
            lambda: ledger.stage(done, attempt, PAID, result("/out/x.png"), now=NOW),
            lambda: ledger.cancel(spooled, code="x", message="", rules_digest=None, now=NOW),
            lambda: ledger.cancel(bad, code="x", message="", rules_digest=None, now=NOW),
            lambda: ledger.discard(
                done, None, None, code="failed", message="", known=Known(), now=NOW
            ),
        ]
        for step in steps:
            with pytest.raises(StaleError):
                await step()
        assert await ledger.recent(limit=9) == before
        assert await ledger.attempts(busy) == [attempt]

    run(opened, scenario)


def test_one_request_at_a_time(opened: Opener) -> None:
    """A job with a request under way cannot begin another."""

    async def scenario(ledger: Ledger) -> None:
        job, _ = await sending(ledger)
        with pytest.raises(StaleError, match="under way"):
            await ledger.begin(job, order(), day=DAY, now=NOW)
        assert len(await ledger.attempts(job)) == 1

    run(opened, scenario)


def test_only_executing_jobs_begin(opened: Opener) -> None:
    """No request begins for a job that is staged, waits, or has ended."""

    async def scenario(ledger: Ledger) -> None:
        jobs = [
            await completed(ledger, path="a"),
            await discarded(ledger, path="b"),
            await staged(ledger, path="c", out="/out/c.png"),
            await put_back(ledger, await executing(ledger, "d"), NOW + 9),
        ]
        for job in jobs:
            with pytest.raises(StaleError):
                await ledger.begin(job, order(), day=DAY, now=NOW)

    run(opened, scenario)


# Money.


@pytest.mark.parametrize(
    ("closing", "charge", "microusd", "doubts"),
    [
        (FREE, Charge.NONE, 0, 0),
        (UNKNOWN, Charge.UNKNOWN, 80_000, 1),
        (LOST, Charge.LOST, 80_000, 1),
        (replace(PAID, microusd=20_000), Charge.CHARGED, 20_000, 0),
        (PAID, Charge.CHARGED, 80_000, 0),
    ],
)
def test_what_an_attempt_came_to(
    opened: Opener, closing: Closing, charge: Charge, microusd: int, doubts: int
) -> None:
    """The worst case is reserved; it is given back, settled or kept by what the request came to."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await sending(ledger)
        assert (attempt.charge, attempt.microusd) == (Charge.RESERVED, 80_000)
        assert (attempt.job_id, attempt.work_key) == (job.id, WORK)
        assert (attempt.started_at, attempt.ended_at) == (NOW, None)
        await ledger.retry(job, attempt, closing, until=NOW, counted=True, message="x", now=NOW + 3)
        [ended] = await ledger.attempts(job)
        assert (ended.charge, ended.microusd, ended.ended_at) == (charge, microusd, NOW + 3)
        assert ended.outcome == closing.outcome
        assert (ended.status, ended.request_id) == (closing.status, closing.request_id)
        assert ended.message == closing.message
        counts = await ledger.counts()
        assert counts["photos"].spent_microusd == microusd
        assert await doubts_of(ledger) == doubts
        assert await doubts_of(ledger, b"x" * 32) == 0

    run(opened, scenario)


@pytest.mark.parametrize("verb", ["retry", "discard", "cancel"])
def test_a_request_nobody_spoke_for_is_a_doubt(opened: Opener, verb: str) -> None:
    """A job that leaves without a word about its open request leaves that money in doubt."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await sending(ledger)
        if verb == "retry":
            await put_back(ledger, job)
        elif verb == "discard":
            await ledger.discard(
                job, None, None, code="failed", message="x", known=Known(), now=NOW
            )
        else:
            await ledger.cancel(job, code="gone", message="x", rules_digest=None, now=NOW)
        [ended] = await ledger.attempts(job)
        assert (ended.id, ended.charge, ended.ended_at) == (attempt.id, Charge.UNKNOWN, NOW)
        assert ended.microusd == 80_000
        assert await doubts_of(ledger) == 1
        assert await ledger.recover(now=NOW) == []

    run(opened, scenario)


def test_doubts_belong_to_the_work(opened: Opener) -> None:
    """Doubts are counted over all jobs that asked for the same work."""

    async def scenario(ledger: Ledger) -> None:
        for path in ("a", "b"):
            job, attempt = await sending(ledger, path)
            await ledger.discard(
                job, attempt, LOST, code="in_doubt", message="x", known=Known(), now=NOW
            )
        assert await doubts_of(ledger) == 2

    run(opened, scenario)


def test_rate_memory(opened: Opener) -> None:
    """When requests began is remembered, and counted questions too, whatever they came to."""

    async def scenario(ledger: Ledger) -> None:
        for path, at in (("a", NOW - 70), ("b", NOW), ("c", NOW - 5)):
            job = await executing(ledger, path)
            attempt = await ledger.begin(job, order(), day=DAY, now=at)
            await ledger.retry(
                job, attempt, FREE, until=NOW + 99, counted=True, message="x", now=NOW
            )
        assert await ledger.sent_since(NOW - 62) == [NOW - 5, NOW]
        assert await ledger.sent_since(NOW) == [NOW]
        for at in (NOW - 90_000, NOW - 3, NOW - 70):
            await ledger.note_question(now=at)
        assert await ledger.sent_since(NOW - 62) == [NOW - 5, NOW - 3, NOW]

    run(opened, scenario)


@pytest.mark.parametrize(
    ("closing", "failed"),
    [
        (FREE, False),  # no answer came: nobody knows of it
        (UNKNOWN, False),
        (Closing(outcome="unavailable", charge=Charge.NONE, status=503), True),
        (Closing(outcome="doubtful", charge=Charge.UNKNOWN, status=524), True),
        (Closing(outcome="rejected", charge=Charge.NONE, status=400), True),
        (Closing(outcome="throttled", charge=Charge.NONE, status=429), True),
        (LOST, False),  # the API sees a success
        (PAID, False),
        (Closing(outcome="adopted", charge=Charge.CHARGED, status=200), False),
    ],
)
def test_memory_of_failures(opened: Opener, closing: Closing, *, failed: bool) -> None:
    """When a failure was answered is remembered, oldest first; a success is not, nor silence."""

    async def scenario(ledger: Ledger) -> None:
        for path, begun_at, ended_at in (
            ("before", NOW - 90, NOW - 60),
            ("slow", NOW - 3_000, NOW - 5),
            ("quick", NOW - 21, NOW - 20),
        ):
            job = await executing(ledger, path)
            attempt = await ledger.begin(job, order(path.encode()), day=DAY, now=begun_at)
            if closing.charge is Charge.CHARGED:
                spooled = result(f"/out/{path}", f"{path}.png")
                await ledger.stage(job, attempt, closing, spooled, now=ended_at)
            elif closing.charge is Charge.NONE:
                await ledger.retry(
                    job, attempt, closing, until=9e9, counted=True, message="x", now=ended_at
                )
            else:
                await ledger.doubt(job, attempt, closing, until=9e9, now=ended_at)
        await sending(ledger, "under way", OTHER_WORK)
        assert await ledger.failed_since(NOW - 32) == ([NOW - 20, NOW - 5] if failed else [])
        assert await ledger.failed_since(NOW - 5) == ([NOW - 5] if failed else [])
        assert await ledger.failed_since(NOW) == []

    run(opened, scenario)


def test_waiting(opened: Opener) -> None:
    """What is not paid for yet is counted by folder: in hand, in doubt, parked or for later."""

    async def scenario(ledger: Ledger) -> None:
        assert await ledger.waiting() == {}
        await staged(ledger, "staged")
        await completed(ledger, path="done", out="/out/done.png")
        await discarded(ledger, "bad")
        job, attempt = await sending(ledger, "doubt", OTHER_WORK)
        await ledger.doubt(job, attempt, UNKNOWN, until=NOW, now=NOW)
        assert await ledger.waiting() == {"photos": 1}
        await ledger.enqueue([arrival("new")], now=NOW + 99)
        await sending(ledger, "under way", b"new work")
        twin = await executing(ledger, "twin")
        await ledger.park(twin, order(b"new work"), now=NOW)
        await ledger.enqueue([arrival(f"{n}", folder="scans") for n in range(3)], now=NOW)
        assert await ledger.waiting() == {"photos": 4, "scans": 3}

    run(opened, scenario)


def test_counted_and_not(opened: Opener) -> None:
    """A retry costs an attempt, a snooze none, a doubt one."""

    async def scenario(ledger: Ledger) -> None:
        job = await put_back(ledger, await executing(ledger), counted=True)
        assert (job.attempts, job.state, job.message) == (1, State.AVAILABLE, "later")
        job = await put_back(ledger, await claim(ledger) or job)
        assert job.attempts == 1
        job = await claim(ledger) or job
        attempt = await ledger.begin(job, order(), day=DAY, now=NOW)
        job = await ledger.doubt(job, attempt, UNKNOWN, until=NOW + 4, now=NOW)
        assert (job.attempts, job.available_at, job.message) == (2, NOW + 4, "no answer")
        assert job.state is State.IN_DOUBT

    run(opened, scenario)


# Staging and delivery.


def test_stage(opened: Opener) -> None:
    """A staged job knows its result, needs its spool file, and is in hand: nobody else's."""

    async def scenario(ledger: Ledger) -> None:
        job = await staged(ledger, out=f"/out/{NAME_NOT_TEXT}.png")
        assert job.state is State.STAGED
        assert job.result_path == f"/out/{NAME_NOT_TEXT}.png"
        assert (job.result_width, job.result_height) == (800, 600)
        assert (job.preset, job.parameters) == ("photo", '{"scale":2}')
        assert (job.source_sha256, job.work_key) == (SHA, WORK)
        assert await ledger.spooled() == [job.spool_name]
        assert await claim(ledger, NOW + 1e9) is None
        assert await ledger.next_due_at(only_folders=FOLDERS) is None

    run(opened, scenario)


def test_results_of_open_requests_are_kept(opened: Opener) -> None:
    """The spool keeps what a request under way may have written, until it is closed."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await sending(ledger)
        assert await ledger.spooled() == [f"{attempt.id}.png"]
        await ledger.retry(job, attempt, FREE, until=NOW, counted=True, message="refused", now=NOW)
        assert await ledger.spooled() == []

    run(opened, scenario)


def test_staged_without_a_name(opened: Opener) -> None:
    """Results whose names could not be found out yet are staged side by side, and named later."""

    async def scenario(ledger: Ledger) -> None:
        jobs = []
        for path in ("a", "b"):
            job, attempt = await sending(ledger, path)
            nameless = result(None, f"{attempt.id}.png")
            jobs.append(await ledger.stage(job, attempt, PAID, nameless, now=NOW))
        assert [job.result_path for job in jobs] == [None, None]
        assert [job.result_scale for job in jobs] == [2.0, 2.0]
        assert (await ledger.rename_result(jobs[0], "/out/a.png", now=NOW)).result_path
        with pytest.raises(NameReservedError):
            await ledger.rename_result(jobs[1], "/out/a.png", now=NOW)

    run(opened, scenario)


def test_a_name_is_reserved_until_delivery(opened: Opener) -> None:
    """Two staged results never have one name; the loser has staged nothing and may try again."""

    async def scenario(ledger: Ledger) -> None:
        first = await staged(ledger, "a", "/out/cat.png")
        job, attempt = await sending(ledger, "b")
        with pytest.raises(NameReservedError):
            await ledger.stage(job, attempt, PAID, result("/out/cat.png", "2.png"), now=NOW)
        [open_one] = await ledger.attempts(job)
        assert open_one.ended_at is None
        second = await ledger.stage(job, attempt, PAID, result("/out/b.png", "2.png"), now=NOW)
        with pytest.raises(NameReservedError):
            await ledger.rename_result(second, "/out/cat.png", now=NOW)
        assert (await ledger.rename_result(second, "/out/b.png", now=NOW)).generation > 0
        await ledger.complete(first, retire=Retire.ARCHIVE, now=NOW)
        second = (await ledger.recent(limit=9))[0]
        assert second.path == "b"
        renamed = await ledger.rename_result(second, "/out/cat.png", now=NOW)
        assert renamed.result_path == "/out/cat.png"

    run(opened, scenario)


def test_overwriting_folders_share_names(opened: Opener) -> None:
    """Where a folder overwrites, a name may be reserved twice."""

    async def scenario(ledger: Ledger) -> None:
        await staged(ledger, "a")
        job, attempt = await sending(ledger, "b")
        both = result(name="2.png", exclusive=False)
        await ledger.stage(job, attempt, PAID, both, now=NOW)
        assert sorted(await ledger.spooled()) == ["1.png", "2.png"]

    run(opened, scenario)


def test_postponed_delivery(opened: Opener) -> None:
    """A delivery that failed is handed out again when it is due: staged, once, never to be sent."""

    async def scenario(ledger: Ledger) -> None:
        job = await ledger.postpone(
            await staged(ledger), until=NOW + 10, message="outbox full", now=NOW
        )
        assert (job.state, job.message) == (State.STAGED, "outbox full")
        assert await claim(ledger, NOW + 9) is None
        assert await ledger.next_due_at(only_folders=FOLDERS) == NOW + 10
        again = await claim(ledger, NOW + 10)
        assert again is not None
        assert (again.state, again.spool_name) == (State.STAGED, job.spool_name)
        assert await claim(ledger, NOW + 1e9) is None
        with pytest.raises(StaleError):
            await ledger.complete(job, retire=Retire.KEEP, now=NOW)
        done = await ledger.complete(again, retire=Retire.KEEP, now=NOW)
        assert (done.state, done.message, done.code) == (State.COMPLETED, None, None)
        assert await ledger.spooled() == [job.spool_name]  # kept: it may serve again

    run(opened, scenario)


# Originals.


@pytest.mark.parametrize("retire", [Retire.ARCHIVE, Retire.DELETE])
def test_owed_until_put_away(opened: Opener, retire: Retire) -> None:
    """A delivered original is owed until it is put away, and known as long as it is there."""

    async def scenario(ledger: Ledger) -> None:
        job = await completed(ledger, retire)
        assert await ledger.owed() == [job]
        assert await present(ledger) == {"cat.jpg": signature()}
        await ledger.retired(job, original_path=f"/archive/{NAME_NOT_TEXT}", now=NOW)
        assert await ledger.owed() == []
        assert await present(ledger) == {}
        [after] = await ledger.recent(limit=1)
        assert after.original_path == f"/archive/{NAME_NOT_TEXT}"
        with pytest.raises(StaleError):
            await ledger.retired(job, original_path=None, now=NOW)

    run(opened, scenario)


def test_kept_originals_are_remembered(opened: Opener) -> None:
    """A kept original is known until it leaves or another version comes; it is never owed."""

    async def scenario(ledger: Ledger) -> None:
        job = await completed(ledger, Retire.KEEP)
        await ledger.retired(job, original_path=None, now=NOW)
        assert await ledger.owed() == []
        assert await present(ledger) == {"cat.jpg": signature()}
        await ledger.forget_absent("other", ["cat.jpg"], now=NOW)
        assert await present(ledger) == {"cat.jpg": signature()}
        await ledger.enqueue([arrival(version=2)], now=NOW)
        assert await present(ledger) == {"cat.jpg": signature(2)}

    run(opened, scenario)


def test_forget_absent(opened: Opener) -> None:
    """What left the inbox is forgotten, but nothing on its way or owed to the quarantine."""

    async def scenario(ledger: Ledger) -> None:
        kept = await completed(ledger, Retire.KEEP, "kept")
        await ledger.retired(kept, original_path=None, now=NOW)
        bad = await discarded(ledger, "bad")
        await executing(ledger, NAME_NOT_TEXT)
        paths = ["kept", "bad", NAME_NOT_TEXT]
        await ledger.forget_absent("photos", paths, now=NOW)
        assert set(await present(ledger)) == {"bad", NAME_NOT_TEXT}
        assert [job.id for job in await ledger.owed()] == [bad.id]

    run(opened, scenario)


def test_discarded(opened: Opener) -> None:
    """A job that was given up says why and what is known, and is owed to the quarantine."""

    async def scenario(ledger: Ledger) -> None:
        job = await discarded(ledger)
        assert (job.state, job.code, job.message) == (State.DISCARDED, "corrupt", "no image")
        assert (job.retire, job.preset) == (Retire.QUARANTINE, "photo")
        assert await ledger.owed() == [job]
        assert await ledger.quarantined(SHA) == []
        await ledger.retired(job, original_path="/quarantine/cat.jpg", now=NOW)
        [there] = await ledger.quarantined(SHA)
        assert there.original_path == "/quarantine/cat.jpg"
        assert (await ledger.counts())["photos"].quarantined == 1
        assert (await ledger.counts())["photos"].quarantine == {"corrupt": 1}
        await ledger.left_quarantine(there, back_at=NOW, now=NOW)
        assert await ledger.quarantined(SHA) == []
        assert (await ledger.counts())["photos"].quarantined == 0
        assert (await ledger.counts())["photos"].quarantine == {}

    run(opened, scenario)


def test_outcomes(opened: Opener) -> None:
    """Requests are counted by what they came to; one under way has come to nothing yet."""

    async def scenario(ledger: Ledger) -> None:
        assert await ledger.outcomes() == {}
        await sending(ledger, "open.jpg", b"o" * 32)
        assert await ledger.outcomes() == {}
        for number, closing in enumerate((FREE, FREE, UNKNOWN)):
            job, attempt = await sending(ledger, f"{number}.jpg", bytes([number]) * 32)
            await ledger.retry(
                job, attempt, closing, until=NOW + 9, counted=True, message="", now=NOW
            )
        ended = {("photos", FREE.outcome): 2, ("photos", UNKNOWN.outcome): 1}
        assert await ledger.outcomes() == ended

    run(opened, scenario)


def test_discard_keeps_what_was_known(opened: Opener) -> None:
    """Facts of an earlier attempt are not wiped by a discard that knows less."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await sending(ledger)
        job = await ledger.discard(
            job, attempt, UNKNOWN, code="in_doubt", message="x", known=Known(), now=NOW
        )
        assert (job.source_sha256, job.preset, job.work_key) == (SHA, "photo", WORK)

    run(opened, scenario)


def test_undeliverable(opened: Opener) -> None:
    """A staged job can be given up, too."""

    async def scenario(ledger: Ledger) -> None:
        job = await ledger.discard(
            await staged(ledger),
            None,
            None,
            code=Code.NOT_DELIVERED,
            message="x",
            known=Known(),
            now=NOW,
        )
        assert job.state is State.DISCARDED
        assert (await ledger.counts())["photos"].spent_microusd == 80_000

    run(opened, scenario)


def test_skipped_by_rules(opened: Opener) -> None:
    """A skipped file is remembered as long as the rules stay; other rules see it anew."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        job = await ledger.cancel(
            job, code="skipped", message="a rule", rules_digest="rules", now=NOW
        )
        assert (job.state, job.retire) == (State.CANCELLED, Retire.NONE)
        assert await present(ledger, "rules") == {"cat.jpg": signature()}
        assert await present(ledger, "other rules") == {}
        assert await ledger.owed() == []
        assert await ledger.enqueue([arrival()], now=NOW) == [True]
        assert await present(ledger, "other rules") == {"cat.jpg": signature()}

    run(opened, scenario)


def test_cancelled_is_forgotten(opened: Opener) -> None:
    """A file that went away or changed is not remembered: its next version is new."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.cancel(
            await executing(ledger), code="gone", message="x", rules_digest=None, now=NOW
        )
        assert await present(ledger) == {}

    run(opened, scenario)


def test_messages_quote_any_name(opened: Opener) -> None:
    """A message or a server's words with a name that is no text are kept, in letters that are."""

    async def scenario(ledger: Ledger) -> None:
        message = f"{NAME_NOT_TEXT}: no image"
        job, attempt = await sending(ledger)
        job = await ledger.retry(
            job,
            attempt,
            replace(FREE, message=message),
            until=NOW,
            counted=True,
            message=message,
            now=NOW,
        )
        assert job.message == r"caf\udce9 \udcff.jpg: no image"
        assert (await ledger.attempts(job))[0].message == job.message
        job = await claim(ledger) or job
        job = await ledger.discard(
            job, None, None, code="corrupt", message=message, known=Known(), now=NOW
        )
        assert job.message == r"caf\udce9 \udcff.jpg: no image"

    run(opened, scenario)


# Budgets.


def budget(microusd: int, days: str = DAY, folder: str | None = None) -> Budget:
    """Return the budget of a day or a month."""
    period = Period.DAY if days.count("-") == 2 else Period.MONTH
    return Budget(limit=Limit(folder=folder, period=period, microusd=microusd), days=days)


async def pay(
    ledger: Ledger,
    microusd: int,
    *,
    folder: str = "photos",
    day: str = DAY,
    closing: Closing | None = PAID,
) -> tuple[Job, Attempt]:
    """Begin a request for some new work, and end it unless `closing` is None."""
    path = os.urandom(8).hex()
    assert await ledger.enqueue([arrival(path, folder=folder)], now=NOW) == [True]
    job = await ledger.claim(now=NOW, only_folders=(folder,))
    assert job is not None
    wanted = order(path.encode(), microusd)
    attempt = await ledger.begin(job, wanted, day=day, now=NOW)
    if closing is not None:
        await ledger.discard(
            job, attempt, closing, code=Code.FAILED, message="x", known=Known(), now=NOW
        )
    return job, attempt


async def is_affordable(ledger: Ledger, microusd: int, *budgets: Budget, day: str = DAY) -> bool:
    """Tell whether a request may begin; it is taken back at once, at no cost."""
    job = await executing(ledger, os.urandom(8).hex())
    wanted = order(b"taken back", microusd)
    try:
        attempt = await ledger.begin(job, wanted, day=day, budgets=budgets, now=NOW)
    except BudgetReachedError:
        await ledger.cancel(job, code="gone", message="x", rules_digest=None, now=NOW)
        return False
    await ledger.discard(job, attempt, FREE, code="failed", message="x", known=Known(), now=NOW)
    return True


@pytest.mark.parametrize("closing", [None, PAID, UNKNOWN, LOST])
@pytest.mark.parametrize("days", [DAY, MONTH])
@pytest.mark.parametrize("folder", [None, "photos"])
def test_a_budget_is_kept_exactly(
    opened: Opener, closing: Closing | None, days: str, folder: str | None
) -> None:
    """A request may reach its budget and not pass it: reserved, paid, unknown and lost count."""

    async def scenario(ledger: Ledger) -> None:
        await pay(ledger, 60_000, closing=closing)
        assert await ledger.spent([budget(1, days, folder)]) == [60_000]
        assert not await is_affordable(ledger, 40_001, budget(100_000, days, folder))
        assert not await is_affordable(ledger, 40_000, budget(99_999, days, folder))
        assert await is_affordable(ledger, 40_000, budget(100_000, days, folder))
        assert not await is_affordable(ledger, 1, budget(0, days, folder))
        assert await is_affordable(ledger, 0, budget(60_000, days, folder))

    run(opened, scenario)


@pytest.mark.parametrize(
    ("closing", "left"), [(FREE, 100_000), (replace(PAID, microusd=20_000), 80_000)]
)
@pytest.mark.parametrize("days", [DAY, MONTH])
def test_a_budget_is_given_back(opened: Opener, closing: Closing, left: int, days: str) -> None:
    """What was reserved and not charged may be spent on others."""

    async def scenario(ledger: Ledger) -> None:
        await pay(ledger, 80_000, closing=closing)
        limit = budget(100_000, days)
        assert await ledger.spent([limit]) == [100_000 - left]
        assert not await is_affordable(ledger, left + 1, limit)
        assert await is_affordable(ledger, left, limit)

    run(opened, scenario)


def test_budgets_of_other_times(opened: Opener) -> None:
    """What was spent on another day or in another month counts for that one alone."""

    async def scenario(ledger: Ledger) -> None:
        spent = {
            "2025-05-28": 1,
            "2026-04-30": 2,
            "2026-05-01": 4,
            EVE: 8,
            DAY: 16,
            "2026-05-31": 32,
            NEXT_MONTH_DAY: 64,
            "2027-05-28": 128,
        }
        for day, microusd in spent.items():
            await pay(ledger, microusd, day=day)
        days = (*spent, MONTH, "2026-04", "2026-06", "2026-07", "2026-05-02")
        counted = await ledger.spent([budget(0, days) for days in days])
        assert counted == [*spent.values(), 4 + 8 + 16 + 32, 2, 64, 0, 0]
        assert await is_affordable(ledger, 5, budget(5, "2026-05-29"), day="2026-05-29")

    run(opened, scenario)


def test_over_midnight(opened: Opener) -> None:
    """A request belongs to the day on which it began, whenever it ends."""

    async def scenario(ledger: Ledger) -> None:
        job, attempt = await pay(ledger, 80_000, day=EVE, closing=None)
        await pay(ledger, 1, day=DAY)
        assert await ledger.spent([budget(0, EVE), budget(0)]) == [80_000, 1]
        await ledger.retry(
            job,
            attempt,
            replace(PAID, microusd=20_000),
            until=NOW,
            counted=True,
            message="x",
            now=NOW + 86_400,
        )
        assert await ledger.spent([budget(0, EVE), budget(0)]) == [20_000, 1]

    run(opened, scenario)


def test_budgets_of_folders(opened: Opener) -> None:
    """A folder's budget counts that folder; the total counts all, whatever their names hold."""

    async def scenario(ledger: Ledger) -> None:
        for number, folder in enumerate(("photos", "photos%", "Photos", "", "f\u00f6lder")):
            await pay(ledger, 10**number, folder=folder)
        budgets = [
            budget(0, days, folder)
            for days in (DAY, MONTH)
            for folder in ("photos", "photos%", "", "nobody", None)
        ]
        assert await ledger.spent(budgets) == [1, 10, 1_000, 0, 11_111] * 2
        assert await is_affordable(
            ledger, 1, budget(0, DAY, "nobody"), budget(2, DAY, "photos")
        ) is (False), "a budget that is named is kept"
        assert await is_affordable(ledger, 1, budget(2, DAY, "photos"))

    run(opened, scenario)


def test_every_budget_is_kept(opened: Opener) -> None:
    """Of several budgets the one that is reached is named, with what was spent and what to do."""

    async def scenario(ledger: Ledger) -> None:
        await pay(ledger, 60_000)
        job = await executing(ledger)
        wide, tight = budget(10**9, MONTH), budget(100_000, DAY, "photos")
        for budgets in ((wide, tight), (tight, wide)):
            with pytest.raises(BudgetReachedError) as caught:
                await ledger.begin(job, order(), day=DAY, budgets=budgets, now=NOW)
            assert (caught.value.budget, caught.value.spent_microusd) == (tight, 60_000)
            for words in ("folder 'photos'", "this day", "0.10 USD", "0.06", "0.08"):
                assert words in str(caught.value)

    run(opened, scenario)


def test_a_refused_request_changes_nothing(opened: Opener) -> None:
    """A job whose request was refused stands where it stood, and may go any way from there."""

    async def scenario(ledger: Ledger) -> None:
        await pay(ledger, 60_000)
        other, busy = await pay(ledger, 0, closing=None)
        job = await executing(ledger)
        before = (await ledger.recent(limit=9), await ledger.spending(), await ledger.spooled())
        refused = [budget(10**9, MONTH), budget(100_000)]
        with pytest.raises(BudgetReachedError):
            await ledger.begin(job, order(), day=DAY, budgets=refused, now=NOW + 5)
        with pytest.raises(UnderWayError):
            await ledger.begin(job, order(busy.work_key, 0), day=DAY, now=NOW + 5)
        after = (await ledger.recent(limit=9), await ledger.spending(), await ledger.spooled())
        assert after == before
        assert await ledger.attempts(job) == []
        assert await ledger.attempts(other) == [busy]
        assert await ledger.prior(WORK) == Prior(doubts=0, under_way=False, results=())
        assert await ledger.sent_since(NOW + 1) == []
        attempt = await ledger.begin(job, order(), day=DAY, now=NOW)
        await ledger.stage(job, attempt, PAID, result(), now=NOW)

    run(opened, scenario)


def test_stale_before_refused(opened: Opener) -> None:
    """Whoever has an older generation is told so, not that a budget is reached."""

    async def scenario(ledger: Ledger) -> None:
        old = await executing(ledger)
        await put_back(ledger, old, NOW + 99)
        with pytest.raises(StaleError):
            await ledger.begin(old, order(), day=DAY, budgets=[budget(0)], now=NOW)
        await sending(ledger, "busy")
        with pytest.raises(StaleError):
            await ledger.begin(old, order(), day=DAY, now=NOW)

    run(opened, scenario)


@pytest.mark.parametrize("affordable", [0, 1, 5, 16])
@pytest.mark.parametrize("days", [DAY, MONTH])
def test_a_budget_under_a_crowd(opened: Opener, affordable: int, days: str) -> None:
    """Of 16 who begin at once exactly as many may as the budget has left."""

    async def scenario(ledger: Ledger) -> None:
        jobs = [await executing(ledger, f"{number}") for number in range(16)]
        limit = budget(80_000 * affordable + 79_999, days)
        answers = await asyncio.gather(
            *(
                ledger.begin(job, order(job.path.encode()), day=DAY, budgets=[limit], now=NOW)
                for job in jobs
            ),
            return_exceptions=True,
        )
        begun = [one for one in answers if isinstance(one, Attempt)]
        refused = [one for one in answers if isinstance(one, BudgetReachedError)]
        assert (len(begun), len(refused)) == (affordable, 16 - affordable)
        assert await ledger.spent([limit]) == [80_000 * affordable]

    run(opened, scenario)


# The same work: one request at a time, and its result for all.


@pytest.mark.parametrize("end", ["stage", "retry", "doubt", "discard", "abandoned"])
def test_single_flight(opened: Opener, end: str) -> None:
    """While a request for some work is under way no other begins that must be alone."""

    async def scenario(ledger: Ledger) -> None:
        first, attempt = await sending(ledger, "a")
        second = await executing(ledger, "b")
        assert (await ledger.prior(WORK)).under_way
        assert not (await ledger.prior(OTHER_WORK)).under_way
        with pytest.raises(UnderWayError):
            await ledger.begin(second, order(), day=DAY, now=NOW)
        other = await executing(ledger, "c")
        await ledger.begin(other, order(OTHER_WORK), day=DAY, now=NOW)
        await close(ledger, first, attempt, end)
        assert not (await ledger.prior(WORK)).under_way
        await ledger.begin(second, order(), day=DAY, now=NOW)

    run(opened, scenario)


async def close(ledger: Ledger, job: Job, attempt: Attempt, end: str, now: float = NOW) -> None:
    """End a request in one of the ways there are; its job is not due again for long."""
    later = NOW + 1e6
    match end:
        case "stage":
            spooled = result(f"/out/{attempt.id}.png", f"{attempt.id}.png")
            await ledger.stage(job, attempt, PAID, spooled, now=now)
        case "retry":
            await ledger.retry(job, attempt, FREE, until=later, counted=True, message="x", now=now)
        case "doubt":
            await ledger.doubt(job, attempt, UNKNOWN, until=later, now=now)
        case "discard":
            await ledger.discard(
                job, attempt, LOST, code="failed", message="x", known=Known(), now=now
            )
        case "cancel":
            await ledger.cancel(job, code="gone", message="x", rules_digest=None, now=now)
        case "abandoned":
            await ledger.retry(job, None, None, until=later, counted=False, message="x", now=now)
        case _:
            raise AssertionError(end)


def test_two_at_a_time(opened: Opener) -> None:
    """An order that need not be alone begins beside another for the same work, and pays for it."""

    async def scenario(ledger: Ledger) -> None:
        first, attempt = await sending(ledger, "a")
        second = await executing(ledger, "b")
        beside = replace(order(), alone=False)
        other = await ledger.begin(second, beside, day=DAY, now=NOW)
        assert await ledger.spent([budget(0)]) == [160_000]
        await close(ledger, first, attempt, "stage")
        assert (await ledger.prior(WORK)).under_way
        await close(ledger, second, other, "stage")
        assert not (await ledger.prior(WORK)).under_way
        assert await ledger.spent([budget(0)]) == [160_000]

    run(opened, scenario)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("end", ["stage", "retry", "doubt", "discard"])
def test_work_that_moved_on(opened: Opener, end: str, *, alone: bool) -> None:
    """Who asked before the same work was done, or came into doubt, is told to ask again.

    A result concerns only those who want no second one; a doubt concerns everybody.
    """
    stale = replace(order(), results=0, doubts=0, alone=alone)

    async def scenario(ledger: Ledger) -> None:
        first, attempt = await sending(ledger, "a")
        second = await executing(ledger, "b")
        await close(ledger, first, attempt, end)
        prior = await ledger.prior(WORK)
        before = await ledger.spending()
        if end in ("doubt", "discard") or (end == "stage" and alone):
            with pytest.raises(WorkMovedOnError):
                await ledger.begin(second, stale, day=DAY, now=NOW)
            assert await ledger.spending() == before
        fresh = replace(stale, results=len(prior.results), doubts=prior.doubts)
        await ledger.begin(second, fresh, day=DAY, now=NOW)

    run(opened, scenario)


def test_pinned_results_are_not_given_up(opened: Opener) -> None:
    """A result that somebody is about to use is not given up, whatever room is wanted."""

    async def scenario(ledger: Ledger) -> None:
        names = [await delivered(ledger, f"{n}", f"/out/{n}", at=NOW + n) for n in range(3)]
        gone = await ledger.trim(kept_bytes_max=0, missing_bytes=10**9, pinned=[names[1]])
        assert gone == [names[0], names[2]]
        assert await ledger.spooled() == [names[1]]

    run(opened, scenario)


def test_single_flight_in_a_crowd(opened: Opener) -> None:
    """Of 16 who begin the same work at once one may."""

    async def scenario(ledger: Ledger) -> None:
        jobs = [await executing(ledger, f"{number}") for number in range(16)]
        answers = await asyncio.gather(
            *(ledger.begin(job, order(), day=DAY, now=NOW) for job in jobs),
            return_exceptions=True,
        )
        assert sum(isinstance(one, Attempt) for one in answers) == 1
        assert sum(isinstance(one, UnderWayError) for one in answers) == 15
        assert await ledger.spent([budget(0)]) == [80_000]

    run(opened, scenario)


async def parked(ledger: Ledger, path: str, work: bytes = WORK) -> Job:
    """Return a job that waits for a request for the same work."""
    return await ledger.park(await executing(ledger, path), order(work), now=NOW)


@pytest.mark.parametrize("end", ["stage", "retry", "doubt", "discard", "cancel", "abandoned"])
def test_parked_until_the_request_ends(opened: Opener, end: str) -> None:
    """A parked job is never due while the request it waits for is under way, and then at once."""

    async def scenario(ledger: Ledger) -> None:
        sent, attempt = await sending(ledger, "sent")
        other_sent, other_attempt = await sending(ledger, "other sent", OTHER_WORK)
        jobs = [await parked(ledger, "a"), await parked(ledger, "b")]
        await parked(ledger, "other", OTHER_WORK)
        assert [(job.state, job.attempts) for job in jobs] == [(State.AVAILABLE, 0)] * 2
        assert (jobs[0].work_key, jobs[0].source_sha256) == (WORK, SHA)
        assert (jobs[0].preset, jobs[0].parameters) == ("photo", '{"scale":2}')
        assert jobs[0].message
        assert await claim(ledger, NOW + 1e9) is None
        assert await ledger.next_due_at(only_folders=FOLDERS) is None
        assert (await ledger.counts())["photos"].available == 3
        await close(ledger, sent, attempt, end, NOW + 7)
        assert await ledger.next_due_at(only_folders=FOLDERS) == NOW + 7
        claimed = [await claim(ledger, NOW + 7) for _ in range(3)]
        assert [job and job.path for job in claimed] == ["a", "b", None]
        await close(ledger, other_sent, other_attempt, end, NOW + 8)
        job = await claim(ledger, NOW + 8)
        assert job is not None
        assert job.path == "other"

    run(opened, scenario)


def test_parked_too_late(opened: Opener) -> None:
    """Whoever parks when the request has just ended is due at once: nobody would wake him."""

    async def scenario(ledger: Ledger) -> None:
        sent, attempt = await sending(ledger, "sent")
        job = await executing(ledger)
        with pytest.raises(UnderWayError):
            await ledger.begin(job, order(), day=DAY, now=NOW)
        await close(ledger, sent, attempt, "stage")
        await ledger.park(job, order(), now=NOW + 3)
        assert await ledger.next_due_at(only_folders=FOLDERS) == NOW + 3
        again = await claim(ledger, NOW + 3)
        assert again is not None
        assert (again.path, again.state) == ("cat.jpg", State.EXECUTING)

    run(opened, scenario)


def test_parked_and_died(opened: Opener) -> None:
    """After a death the parked are due, and may be parked again for what is still under way."""

    async def before() -> None:
        async with opened() as ledger:
            await sending(ledger, "sent")
            await parked(ledger, "cat.jpg")

    async def after() -> None:
        async with opened() as ledger:
            assert await claim(ledger, NOW + 50) is None
            [open_one] = await ledger.recover(now=NOW + 50)
            assert await ledger.next_due_at(only_folders=FOLDERS) == NOW + 50
            job = await claim(ledger, NOW + 50)
            assert job is not None
            assert job.path == "cat.jpg"
            with pytest.raises(UnderWayError):
                await ledger.begin(job, order(), day=DAY, now=NOW + 50)
            await ledger.park(job, order(), now=NOW + 50)
            assert await claim(ledger, NOW + 60) is None
            await ledger.doubt(
                open_one.job, open_one.attempt, UNKNOWN, until=NOW + 99, now=NOW + 60
            )
            job = await claim(ledger, NOW + 60)
            assert job is not None
            assert job.path == "cat.jpg"

    asyncio.run(before())
    asyncio.run(after())


def test_only_executing_jobs_are_parked_or_reuse(opened: Opener) -> None:
    """No other job is parked or takes an earlier result, and none of an older generation."""

    async def scenario(ledger: Ledger) -> None:
        old = await executing(ledger, "old")
        await put_back(ledger, old)
        assert await claim(ledger) is not None
        done = await completed(ledger, path="a")
        jobs = [
            old,
            done,
            await discarded(ledger, path="b"),
            await staged(ledger, path="c", out="/out/c.png"),
            await put_back(ledger, await executing(ledger, "d"), NOW + 9),
        ]
        earlier = result("/out/again.png", done.spool_name or "")
        before = await ledger.recent(limit=9)
        for job in jobs:
            with pytest.raises(StaleError):
                await ledger.park(job, order(), now=NOW + 1)
            with pytest.raises(StaleError):
                await ledger.reuse(job, order(), earlier, now=NOW + 1)
        assert await ledger.recent(limit=9) == before

    run(opened, scenario)


def test_no_second_way_while_sending(opened: Opener) -> None:
    """A job with a request of its own under way is neither parked nor takes an earlier result."""

    async def scenario(ledger: Ledger) -> None:
        done = await completed(ledger, path="a")
        job, attempt = await sending(ledger, "b")
        before = await ledger.recent(limit=9)
        with pytest.raises(StaleError):
            await ledger.park(job, order(), now=NOW + 1)
        earlier = result("/out/b.png", done.spool_name or "")
        with pytest.raises(StaleError):
            await ledger.reuse(job, order(), earlier, now=NOW + 1)
        assert await ledger.recent(limit=9) == before
        assert await ledger.attempts(job) == [attempt]

    run(opened, scenario)


@pytest.mark.parametrize("end", ["stage", "retry", "doubt", "discard"])
def test_only_its_own_request(opened: Opener, end: str) -> None:
    """A job cannot end the request of another one."""

    async def scenario(ledger: Ledger) -> None:
        owner, attempt = await sending(ledger, "a")
        job = await executing(ledger, "b")
        with pytest.raises(StaleError):
            await close(ledger, job, attempt, end)
        assert await ledger.attempts(owner) == [attempt]
        await close(ledger, owner, attempt, end)

    run(opened, scenario)


def test_reuse(opened: Opener) -> None:
    """Work that was done before is staged with its result, without a request and at no cost."""

    async def scenario(ledger: Ledger) -> None:
        done = await completed(ledger, path="a")
        spending, sent = await ledger.spending(), await ledger.sent_since(0)
        job = await executing(ledger, "b")
        earlier = result("/out/b.png", done.spool_name or "")
        job = await ledger.reuse(job, order(), earlier, now=NOW + 5)
        assert (job.state, job.attempts, job.updated_at) == (State.STAGED, 0, NOW + 5)
        assert (job.spool_name, job.result_path) == (done.spool_name, "/out/b.png")
        assert (job.result_width, job.result_height, job.result_scale) == (800, 600, 2.0)
        assert (job.work_key, job.source_sha256) == (WORK, SHA)
        assert (job.preset, job.parameters) == ("photo", '{"scale":2}')
        assert await ledger.attempts(job) == []
        assert await ledger.spending() == spending
        assert await ledger.sent_since(0) == sent
        assert await claim(ledger, NOW + 1e9) is None, "it is in hand"
        job = await ledger.complete(job, retire=Retire.ARCHIVE, now=NOW)
        assert (await ledger.prior(WORK)).results[0].delivered == (
            Delivered(path="/out/b.png"),
            Delivered(path="/out/cat.png"),
        )

    run(opened, scenario)


def test_reuse_of_nothing(opened: Opener) -> None:
    """A result that is unknown, or of other work, is not staged, and nothing changes."""

    async def scenario(ledger: Ledger) -> None:
        done = await completed(ledger, path="a")
        earlier = result("/out/b.png", done.spool_name or "")
        job = await executing(ledger, "b")
        before = (await ledger.recent(limit=9), await ledger.prior(WORK))
        with pytest.raises(StaleError):
            await ledger.reuse(job, order(), replace(earlier, spool_name="9.png"), now=NOW + 1)
        with pytest.raises(StaleError):
            await ledger.reuse(job, order(OTHER_WORK), earlier, now=NOW + 1)
        assert (await ledger.recent(limit=9), await ledger.prior(WORK)) == before
        assert (await ledger.reuse(job, order(), earlier, now=NOW)).state is State.STAGED

    run(opened, scenario)


def test_reuse_reserves_the_name(opened: Opener) -> None:
    """A result that serves again has its name for itself, unless the folder overwrites."""

    async def scenario(ledger: Ledger) -> None:
        first = await staged(ledger, "a", "/out/cat.png")
        job = await executing(ledger, "b")
        before = (await ledger.recent(limit=9), await ledger.prior(WORK))
        earlier = result("/out/cat.png", first.spool_name or "")
        with pytest.raises(NameReservedError):
            await ledger.reuse(job, order(), earlier, now=NOW + 1)
        assert (await ledger.recent(limit=9), await ledger.prior(WORK)) == before
        second = await ledger.reuse(job, order(), replace(earlier, path="/out/b.png"), now=NOW)
        job = await executing(ledger, "c")
        with pytest.raises(NameReservedError):
            await ledger.reuse(job, order(), replace(earlier, path="/out/b.png"), now=NOW)
        third = await ledger.reuse(job, order(), replace(earlier, exclusive=False), now=NOW)
        fourth = await executing(ledger, "d")
        fourth = await ledger.reuse(fourth, order(), replace(earlier, path=None), now=NOW)
        assert [second.result_path, third.result_path, fourth.result_path] == [
            "/out/b.png",
            "/out/cat.png",
            None,
        ]
        assert await ledger.spooled() == [first.spool_name]

    run(opened, scenario)


async def delivered(
    ledger: Ledger, path: str, out: str, *, at: float, work: bytes = WORK, size_bytes: int = 100
) -> str:
    """Pay for some work, deliver it, and return the result's name in the spool."""
    job, attempt = await sending(ledger, path, work)
    name = f"{attempt.id}.png"
    spooled = result(out, name, size_bytes=size_bytes)
    job = await ledger.stage(job, attempt, PAID, spooled, now=at)
    await ledger.complete(job, retire=Retire.KEEP, now=at)
    return name


async def reused(ledger: Ledger, path: str, out: str, name: str, *, at: float) -> Job:
    """Deliver an earlier result once more."""
    job = await executing(ledger, path)
    job = await ledger.reuse(job, order(), result(out, name), now=at)
    return await ledger.complete(job, retire=Retire.KEEP, now=at)


def test_prior(opened: Opener) -> None:
    """A work's results are told with every fact: those in the spool first, then the newest."""

    async def scenario(ledger: Ledger) -> None:
        assert await ledger.prior(WORK) == Prior(doubts=0, under_way=False, results=())
        job, attempt = await sending(ledger, "first")
        facts = Result(
            spool_name="first.png",
            path=f"/out/{NAME_NOT_TEXT}",
            width=7,
            height=5,
            scale=1.25,
            sha256=b"\0\xff" * 16,
            size_bytes=2**40,
        )
        await ledger.stage(job, attempt, PAID, facts, now=NOW)
        earlier = Earlier(
            result=replace(facts, path=None),
            kept=True,
            delivered=(),
        )
        assert (await ledger.prior(WORK)).results == (earlier,), "staged: not delivered yet"
        [job] = await ledger.recent(limit=1)
        await ledger.complete(job, retire=Retire.KEEP, now=NOW)
        earlier = replace(earlier, delivered=(Delivered(path=f"/out/{NAME_NOT_TEXT}"),))
        assert (await ledger.prior(WORK)).results == (earlier,)
        newer = await delivered(ledger, "newer", "/out/newer.png", at=NOW + 2)
        newest = await delivered(ledger, "newest", "/out/newest.png", at=NOW + 3)
        await delivered(ledger, "other", "/out/other.png", at=NOW + 9, work=OTHER_WORK)
        names = [one.result.spool_name for one in (await ledger.prior(WORK)).results]
        assert names == [newest, newer, "first.png"]
        await ledger.trim(kept_bytes_max=10**18, missing_bytes=2**40)
        assert await ledger.trim(kept_bytes_max=2**50, missing_bytes=1) == [newer]
        results = (await ledger.prior(WORK)).results
        assert [(one.result.spool_name, one.kept) for one in results] == [
            (newest, True),
            (newer, False),
            ("first.png", False),
        ]
        assert results[2] == replace(earlier, kept=False)
        await reused(ledger, "again", "/out/again.png", "first.png", at=NOW + 1)
        results = (await ledger.prior(WORK)).results
        assert [(one.result.spool_name, one.kept) for one in results] == [
            (newest, True),
            ("first.png", True),
            (newer, False),
        ]
        assert results[1].delivered == (
            Delivered(path="/out/again.png"),
            Delivered(path=f"/out/{NAME_NOT_TEXT}"),
        )

    run(opened, scenario)


def test_delivered_in_another_form(opened: Opener) -> None:
    """A file that is not the result's own bytes is told with its digest and its size."""

    async def scenario(ledger: Ledger) -> None:
        other = Delivered(path="/out/cat.png", sha256=b"\0\xff" * 16, size_bytes=2**40)
        job = await staged(ledger)
        await ledger.complete(job, retire=Retire.KEEP, delivered=other, now=NOW)
        [earlier] = (await ledger.prior(WORK)).results
        assert earlier.delivered == (other,)

    run(opened, scenario)


def test_a_result_made_of_another(opened: Opener) -> None:
    """What is made anew of a delivered file is a result of the same work, beside the first one."""

    async def scenario(ledger: Ledger) -> None:
        first = await delivered(ledger, "a", "/out/a.png", at=NOW)
        assert await ledger.trim(kept_bytes_max=0) == [first]
        job = await executing(ledger, "b")
        made = replace(result("/out/b.png", "again.png"), sha256=b"\1" * 32, size_bytes=7)
        for order_of, made_of in ((order(OTHER_WORK), first), (order(), "nothing.png")):
            with pytest.raises(StaleError):
                await ledger.reuse(job, order_of, made, made_of=made_of, now=NOW + 1)
        job = await ledger.reuse(job, order(), made, made_of=first, now=NOW + 1)
        assert job.spool_name == "again.png"
        assert await ledger.spooled() == ["again.png"]
        newest, oldest = (await ledger.prior(WORK)).results
        assert (newest.result, newest.kept) == (replace(made, path=None), True)
        assert (oldest.result.spool_name, oldest.kept) == (first, False)
        assert oldest.delivered == (Delivered(path="/out/a.png"),)

    run(opened, scenario)


def test_what_was_ordered_of_which_picture(opened: Opener) -> None:
    """A job knows what picture its original holds from its order on, over a restart too."""
    source = Source(kind="tiff", width=4_000, height=3, sent_width=2_000, sent_height=2)

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        assert job.source is None
        attempt = await ledger.begin(job, replace(order(), source=source), day=DAY, now=NOW)
        [one] = await ledger.recover(now=NOW)
        assert one.job.source == source
        job = await ledger.stage(job, attempt, PAID, result(), now=NOW)
        assert job.source == source

    run(opened, scenario)


def test_staged(opened: Opener) -> None:
    """The jobs that wait for their delivery are told, and no others."""

    async def scenario(ledger: Ledger) -> None:
        await completed(ledger, path="a", out="/out/a.png")
        await executing(ledger, "b")
        assert await ledger.staged() == []
        job = await staged(ledger, "c", "/out/c.png")
        assert await ledger.staged() == [job.id]

    run(opened, scenario)


def test_doubts_of_every_job(opened: Opener) -> None:
    """A work's doubts count over all jobs; paid and free requests are none."""

    async def scenario(ledger: Ledger) -> None:
        for number, end in enumerate(["doubt", "discard", "cancel", "abandoned", "retry", "stage"]):
            job, attempt = await sending(ledger, f"{number}")
            await close(ledger, job, attempt, end)
        assert await doubts_of(ledger) == 4
        assert await doubts_of(ledger, OTHER_WORK) == 0

    run(opened, scenario)


@pytest.mark.parametrize("code", [Code.IN_DOUBT, Code.FAILED, Code.NOT_DELIVERED])
def test_pardon(opened: Opener, code: Code) -> None:
    """Whoever takes a file in doubt back from the quarantine lets that work be paid for again."""

    async def scenario(ledger: Ledger) -> None:
        for path, work in (("a", WORK), ("b", WORK), ("c", OTHER_WORK)):
            job, attempt = await sending(ledger, path, work)
            job = await ledger.discard(
                job, attempt, LOST, code=code, message="x", known=Known(), now=NOW
            )
            await ledger.retired(job, original_path=f"/quarantine/{path}", now=NOW)
        before = await ledger.spending()
        [job] = [job for job in await ledger.quarantined(SHA) if job.path == "a"]
        await ledger.left_quarantine(job, back_at=NOW, now=NOW)
        assert await doubts_of(ledger) == (0 if code is Code.IN_DOUBT else 2)
        assert await doubts_of(ledger, OTHER_WORK) == 1
        assert await ledger.spending() == before, "the money is spent all the same"
        assert [attempt.charge for attempt in await ledger.attempts(job)] == [Charge.LOST]
        job, attempt = await sending(ledger, "d")
        await close(ledger, job, attempt, "doubt")
        assert await doubts_of(ledger) == (1 if code is Code.IN_DOUBT else 3), "a new one counts"

    run(opened, scenario)


def test_pardon_of_what_was_before(opened: Opener) -> None:
    """A file taken back pardons no doubt that came after it was back: that is nobody's word."""

    async def scenario(ledger: Ledger) -> None:
        for path in ("a", "b"):
            job, attempt = await sending(ledger, path)
            job = await ledger.discard(
                job, attempt, LOST, code=Code.IN_DOUBT, message="x", known=Known(), now=NOW
            )
            await ledger.retired(job, original_path=f"/quarantine/{path}", now=NOW)
        job = await executing(ledger, "again")
        attempt = await ledger.begin(job, order(), day=DAY, now=NOW + 10)
        await close(ledger, job, attempt, "doubt", now=NOW + 11)
        for job in await ledger.quarantined(SHA):
            await ledger.left_quarantine(job, back_at=NOW + 9, now=NOW + 12)
        assert await doubts_of(ledger) == 1

    run(opened, scenario)


def test_pardon_by_what_was_known(opened: Opener) -> None:
    """A file that was never sent, for the doubts of others, is pardoned by its known work."""

    async def scenario(ledger: Ledger) -> None:
        sent, attempt = await sending(ledger, "sent")
        await close(ledger, sent, attempt, "discard")
        job = await ledger.discard(
            await executing(ledger),
            None,
            None,
            code=Code.IN_DOUBT,
            message="x",
            known=Known(source_sha256=SHA, work_key=WORK),
            now=NOW,
        )
        assert job.work_key == WORK
        await ledger.retired(job, original_path="/quarantine/cat.jpg", now=NOW)
        [job] = await ledger.quarantined(SHA)
        await ledger.left_quarantine(job, back_at=NOW, now=NOW)
        assert await doubts_of(ledger) == 0
        with pytest.raises(StaleError):
            await ledger.left_quarantine(job, back_at=NOW, now=NOW)

    run(opened, scenario)


# What is kept in the spool.


def test_trim(opened: Opener) -> None:
    """Kept results go once they are too many, the longest unused first; to be used is to stay."""

    async def scenario(ledger: Ledger) -> None:
        names = [await delivered(ledger, f"{at}", f"/out/{at}.png", at=NOW + at) for at in range(5)]
        assert sorted(await ledger.spooled()) == sorted(names)
        assert await ledger.trim(kept_bytes_max=500) == []
        await reused(ledger, "again", "/out/again.png", names[0], at=NOW + 9)
        assert await ledger.trim(kept_bytes_max=499) == [names[1]]
        assert sorted(await ledger.spooled()) == sorted([names[0], *names[2:]])
        assert await ledger.trim(kept_bytes_max=400) == []
        assert await ledger.trim(kept_bytes_max=101) == [names[2], names[3], names[4]]
        assert await ledger.spooled() == [names[0]]
        assert await ledger.trim(kept_bytes_max=0) == [names[0]]
        assert await ledger.spooled() == []
        assert await ledger.trim(kept_bytes_max=0) == []

    run(opened, scenario)


def test_trim_for_room(opened: Opener) -> None:
    """As much is given up as is missing, or as is too much, whichever is more."""

    async def scenario(ledger: Ledger) -> None:
        names = [await delivered(ledger, f"{at}", f"/out/{at}.png", at=NOW + at) for at in range(6)]
        assert await ledger.trim(kept_bytes_max=10**9, missing_bytes=101) == names[:2]
        assert await ledger.trim(kept_bytes_max=300, missing_bytes=1) == names[2:3]
        assert await ledger.trim(kept_bytes_max=200, missing_bytes=1) == names[3:4]
        assert await ledger.trim(kept_bytes_max=200, missing_bytes=0) == []
        assert await ledger.trim(kept_bytes_max=10**9, missing_bytes=10**9) == names[4:]

    run(opened, scenario)


def test_staged_results_stay(opened: Opener) -> None:
    """What a staged job needs is not given up, whoever paid for it, but counts as kept."""

    async def scenario(ledger: Ledger) -> None:
        needed = await delivered(ledger, "a", "/out/a.png", at=NOW)
        free = await delivered(ledger, "b", "/out/b.png", at=NOW + 1)
        job = await executing(ledger, "c")
        again = await ledger.reuse(job, order(), result("/out/c.png", needed), now=NOW - 1)
        own = await staged(ledger, "d", "/out/d.png")
        _, attempt = await sending(ledger, "e")
        kept = {needed, own.spool_name, f"{attempt.id}.png"}
        assert await ledger.trim(kept_bytes_max=299) == [free]
        assert await ledger.trim(kept_bytes_max=0, missing_bytes=10**9) == []
        assert set(await ledger.spooled()) == kept
        await ledger.complete(again, retire=Retire.KEEP, now=NOW)
        assert await ledger.trim(kept_bytes_max=0) == [needed]
        assert set(await ledger.spooled()) == kept - {needed}

    run(opened, scenario)


def test_reuse_keeps_again(opened: Opener) -> None:
    """A result that was given up and put back into the spool is needed and kept again."""

    async def scenario(ledger: Ledger) -> None:
        name = await delivered(ledger, "a", "/out/a.png", at=NOW)
        assert await ledger.trim(kept_bytes_max=0) == [name]
        assert await ledger.spooled() == []
        await reused(ledger, "b", "/out/b.png", name, at=NOW + 1)
        assert await ledger.spooled() == [name]
        [earlier] = (await ledger.prior(WORK)).results
        assert earlier.kept
        assert await ledger.trim(kept_bytes_max=0) == [name]

    run(opened, scenario)


# Files with several frames.


def frame_work(number: int) -> bytes:
    """Return the work that a frame is, from 0."""
    return bytes([number]) * 32


def film_order(number: int, frames: int = 3) -> Order:
    """Return what is asked for a frame, from 0, of a file that has several."""
    return replace(order(frame_work(number)), frames=frames)


async def staged_frame(ledger: Ledger, job: Job, *, frames: int = 3, out: str = "/out/a") -> Job:
    """Return a claimed job with the result of its present frame in the spool."""
    attempt = await ledger.begin(job, film_order(job.frame, frames), day=DAY, now=NOW)
    spooled = result(f"{out}-{job.frame}.png", f"{attempt.id}.png")
    return await ledger.stage(job, attempt, PAID, spooled, now=NOW)


async def finished_film(ledger: Ledger, path: str, *, frames: int = 3, out: str = "/out/a") -> Job:
    """Return a job whose frames are all delivered."""
    job = await executing(ledger, path)
    for _ in range(frames - 1):
        await ledger.advance(await staged_frame(ledger, job, frames=frames, out=out), now=NOW)
        job = await claim(ledger) or job
    job = await staged_frame(ledger, job, frames=frames, out=out)
    return await ledger.complete(job, retire=Retire.KEEP, now=NOW)


def test_advance(opened: Opener) -> None:
    """After a frame the next one waits, with nothing left of the one before."""

    async def scenario(ledger: Ledger) -> None:
        job = await put_back(ledger, await executing(ledger), counted=True)
        before = await staged_frame(ledger, await claim(ledger) or job)
        assert (before.frame, before.frames, before.attempts) == (0, 3, 1)
        after = await ledger.advance(before, now=NOW + 5)
        assert (after.frame, after.frames, after.attempts) == (1, 3, 0)
        assert (after.state, after.generation) == (State.AVAILABLE, before.generation + 1)
        facts = (after.work_key, after.spool_name, after.result_path, after.result_width)
        assert facts == (None, None, None, None)
        assert (after.code, after.message, after.result_scale) == (None, None, None)
        assert (after.id, after.path, after.source_sha256) == (before.id, "cat.jpg", SHA)
        assert after.updated_at == NOW + 5
        assert await ledger.owed() == []
        with pytest.raises(StaleError):
            await ledger.advance(before, now=NOW)
        assert [one.frame for one in await ledger.deliveries(after)] == [0]

    run(opened, scenario)


def test_the_last_frame_is_no_step_to_another(opened: Opener) -> None:
    """Behind the last frame there is none: that file completes."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        for _ in range(2):
            await ledger.advance(await staged_frame(ledger, job), now=NOW)
            job = await claim(ledger) or job
        last = await staged_frame(ledger, job)
        assert (last.frame, last.has_next_frame) == (2, False)
        with pytest.raises(StaleError, match="its last"):
            await ledger.advance(last, now=NOW)
        done = await ledger.complete(last, retire=Retire.ARCHIVE, now=NOW)
        assert done.state is State.COMPLETED
        assert [job.id for job in await ledger.owed()] == [done.id]

    run(opened, scenario)


def test_the_next_frame_comes_before_other_files(opened: Opener) -> None:
    """A file is finished before others of its priority are begun, however long they wait."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger, "film")
        await ledger.enqueue([arrival("older")], now=NOW - 1e6)
        await ledger.enqueue([replace(arrival("urgent"), priority=1)], now=NOW)
        await ledger.advance(await staged_frame(ledger, job), now=NOW)
        due_at = await ledger.next_due_at(only_folders=FOLDERS)
        assert due_at is not None
        assert due_at <= NOW
        claimed = [await claim(ledger) for _ in range(3)]
        assert [one.path for one in claimed if one] == ["urgent", "film", "older"]

    run(opened, scenario)


def test_attempts_know_their_frame(opened: Opener) -> None:
    """All requests of a file are its job's, and each says for which frame it was."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        await ledger.advance(await staged_frame(ledger, job), now=NOW)
        job = await claim(ledger) or job
        attempt = await ledger.begin(job, film_order(1), day=DAY, now=NOW)
        await ledger.doubt(job, attempt, UNKNOWN, until=NOW, now=NOW)
        job = await claim(ledger) or job
        assert (job.attempts, job.frame) == (1, 1)
        await staged_frame(ledger, job)
        attempts = await ledger.attempts(job)
        assert [(one.frame, one.charge) for one in attempts] == [
            (0, Charge.CHARGED),
            (1, Charge.UNKNOWN),
            (1, Charge.CHARGED),
        ]

    run(opened, scenario)


def test_what_is_delivered_of_a_film(opened: Opener) -> None:
    """The results of all frames are found: by the job, by the work, and by where they lie."""

    async def scenario(ledger: Ledger) -> None:
        done = await finished_film(ledger, "film", out=f"/out/{NAME_NOT_TEXT}")
        names = [f"/out/{NAME_NOT_TEXT}-{number}.png" for number in range(3)]
        assert await ledger.deliveries(done) == [
            Delivery(frame=number, path=name, width=800, height=600)
            for number, name in enumerate(names)
        ]
        for number, name in enumerate(names):
            [earlier] = (await ledger.prior(frame_work(number))).results
            assert earlier.delivered == (Delivered(path=name),)
            assert [job.id for job in await ledger.find(path="x", place=name, limit=9)] == [done.id]
        assert await ledger.deliveries(await completed(ledger, path="single")) == []

    run(opened, scenario)


def test_finished(opened: Opener) -> None:
    """A file counts as finished once its last frame is delivered; others with its first do not."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger, "begun")
        await ledger.advance(await staged_frame(ledger, job), now=NOW)
        assert not await ledger.is_finished(SHA, frame_work(0))
        job = await claim(ledger) or job
        await ledger.advance(await staged_frame(ledger, job), now=NOW)
        job = await staged_frame(ledger, await claim(ledger) or job)
        await ledger.complete(job, retire=Retire.ARCHIVE, now=NOW)
        assert await ledger.is_finished(SHA, frame_work(0))
        assert not await ledger.is_finished(SHA, frame_work(1))
        assert not await ledger.is_finished(b"x" * 32, frame_work(0))

    run(opened, scenario)


def test_frames_that_wait(opened: Opener) -> None:
    """What is still to be paid for and to be delivered is counted by frames."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.enqueue([arrival("other", folder="scans")], now=NOW)
        job = await executing(ledger)
        assert await ledger.waiting() == {"photos": 1, "scans": 1}  # nobody has looked yet
        job = await staged_frame(ledger, job)
        assert await ledger.waiting() == {"photos": 2, "scans": 1}
        assert (await ledger.counts())["photos"] == FolderCounts(
            staged=1, frames_ahead=2, spent_microusd=80_000
        )
        await ledger.advance(job, now=NOW)
        assert await ledger.waiting() == {"photos": 2, "scans": 1}
        assert (await ledger.counts())["photos"].frames_ahead == 1
        job = await claim(ledger) or job
        await ledger.discard(
            job, None, None, code="failed", message="", known=Known(frames=3), now=NOW
        )
        assert await ledger.waiting() == {"scans": 1}
        assert (await ledger.counts())["photos"].frames_ahead == 0

    run(opened, scenario)


def test_recovery_in_the_middle_of_a_film(opened: Opener) -> None:
    """After a death a file goes on at the frame it had come to, with that frame's request."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        await ledger.advance(await staged_frame(ledger, job), now=NOW)
        job = await claim(ledger) or job
        attempt = await ledger.begin(job, film_order(1), day=DAY, now=NOW)
        [open_one] = await ledger.recover(now=NOW)
        assert (open_one.job.frame, open_one.job.frames) == (1, 3)
        assert open_one.attempt == attempt
        assert attempt.frame == 1
        spooled = result("/out/a-1.png", f"{attempt.id}.png")
        job = await ledger.stage(open_one.job, attempt, PAID, spooled, now=NOW)
        assert (await ledger.advance(job, now=NOW)).frame == 2

    run(opened, scenario)


# The accounts.

ENDS = ("stage", "retry", "doubt", "discard", "abandoned", "cancel")
STEPS = st.one_of(
    st.tuples(
        st.just("begin"),
        st.sampled_from(["photos", "scans"]),
        st.sampled_from([EVE, DAY, NEXT_MONTH_DAY]),
        st.sampled_from(["photo", "line art"]),
        st.integers(0, 3),  # a piece of work
        st.integers(0, 200_000),  # micro-USD
    ),
    st.tuples(
        st.just("close"),
        st.integers(0, 9),  # which
        st.sampled_from(ENDS),
        st.sampled_from([charge for charge in Charge if charge is not Charge.RESERVED]),
        st.none() | st.floats(0, 1),  # of what was reserved
    ),
    st.tuples(st.just("die")),
)
LIMITS = (
    budget(150_000),
    budget(400_000, MONTH),
    budget(120_000, DAY, "photos"),
    budget(300_000, NEXT_MONTH_DAY, "scans"),
)


class Books:
    """A second account of what the ledger was told, kept by hand."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.begun: dict[int, tuple[str, str, str, int]] = {}  # attempt: day, folder, preset, job
        self.open: dict[int, tuple[Job, Attempt]] = {}

    async def check(self, ledger: Ledger) -> None:
        """Compare the sums with the attempts they are of."""
        sums: dict[tuple[str, str, str, Charge], list[int]] = {}
        seen = set()
        for job in self.jobs.values():
            for attempt in await ledger.attempts(job):
                day, folder, preset, job_id = self.begun[attempt.id]
                assert job_id == job.id
                total = sums.setdefault((day, folder, preset, attempt.charge), [0, 0])
                total[0] += 1
                total[1] += attempt.microusd
                assert (attempt.ended_at is None) == (attempt.id in self.open)
                seen.add(attempt.id)
        assert seen == set(self.begun)
        entries = await ledger.spending()
        assert entries == [
            Spending(
                day=day, folder=folder, preset=preset, charge=charge, requests=count, microusd=sum_
            )
            for (day, folder, preset, charge), (count, sum_) in sorted(sums.items())
        ]
        assert await ledger.spending(since_day=DAY) == [one for one in entries if one.day >= DAY]
        assert await ledger.spent(LIMITS) == [counted(limit, entries) for limit in LIMITS]
        assert all(counted(limit, entries) <= limit.limit.microusd for limit in LIMITS)
        spent = {name: counts.spent_microusd for name, counts in (await ledger.counts()).items()}
        for name, microusd in spent.items():
            ended = [one for one in entries if one.charge is not Charge.RESERVED]
            assert microusd == sum(one.microusd for one in ended if one.folder == name)


def counted(limit: Budget, entries: list[Spending]) -> int:
    """Return what counts against a budget, the plain way."""
    return sum(
        one.microusd
        for one in entries
        if one.day.startswith(limit.days)
        and limit.limit.folder in (None, one.folder)
        and one.charge is not Charge.NONE
    )


async def keep_books(ledger: Ledger, books: Books, number: int, step: tuple[object, ...]) -> None:
    """Take one step, and write it into the books."""
    match step:
        case ("begin", str(folder), str(day), str(preset), int(work), int(microusd)):
            await ledger.enqueue([arrival(f"{number}", folder=folder)], now=NOW)
            job = await ledger.claim(now=NOW, only_folders=(folder,))
            assert job is not None
            assert job.path == f"{number}"
            wanted = replace(order(bytes([work]), microusd), preset=preset)
            begun = ledger.begin(job, wanted, day=day, budgets=LIMITS, now=NOW)
            [answer] = await asyncio.gather(begun, return_exceptions=True)
            if isinstance(answer, Attempt):
                books.begun[answer.id] = (day, folder, preset, job.id)
                books.open[answer.id] = (job, answer)
            else:
                await check_refusal(ledger, books, wanted, answer)
                await ledger.cancel(job, code="gone", message="x", rules_digest=None, now=NOW)
            books.jobs[job.id] = job
        case ("close", int(which), str(end), Charge() as charge, part) if books.open:
            chosen = sorted(books.open)[which % len(books.open)]
            job, attempt = books.open.pop(chosen)
            microusd = round(attempt.microusd * part) if isinstance(part, float) else None
            closing = Closing(outcome="x", charge=charge, microusd=microusd)
            await close_with(ledger, job, attempt, end, closing)
        case ("die",):
            recovered = await ledger.recover(now=NOW)
            assert {one.attempt.id for one in recovered} == set(books.open)
            while await ledger.claim(now=NOW, only_folders=("photos", "scans")) is not None:
                pass  # what is due again must not be taken for the next arrival
        case _:
            pass


async def check_refusal(
    ledger: Ledger, books: Books, wanted: Order, refusal: BaseException
) -> None:
    """See that a request was refused with reason."""
    if isinstance(refusal, BudgetReachedError):
        spent = counted(refusal.budget, await ledger.spending())
        assert refusal.spent_microusd == spent
        assert spent + wanted.microusd > refusal.budget.limit.microusd
    else:
        assert isinstance(refusal, UnderWayError)
        assert wanted.work_key in {attempt.work_key for _, attempt in books.open.values()}


async def close_with(
    ledger: Ledger, job: Job, attempt: Attempt, end: str, closing: Closing
) -> None:
    """End a request with any fate of its money."""
    later = NOW + 1e6
    match end:
        case "stage":
            spooled = result(None, f"{attempt.id}.png")
            await ledger.stage(job, attempt, closing, spooled, now=NOW)
        case "retry":
            await ledger.retry(
                job, attempt, closing, until=later, counted=True, message="x", now=NOW
            )
        case "doubt":
            await ledger.doubt(job, attempt, closing, until=later, now=NOW)
        case "discard":
            await ledger.discard(
                job, attempt, closing, code="failed", message="x", known=Known(), now=NOW
            )
        case _:
            await close(ledger, job, attempt, end)


@hypothesis.settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(steps=st.lists(STEPS, max_size=30))
def test_the_sums_are_those_of_the_requests(
    anew: Callable[[], Opener], steps: list[tuple[object, ...]]
) -> None:
    """At any time the sums are those over all requests, and no budget is ever passed."""

    async def scenario(ledger: Ledger) -> None:
        books = Books()
        for number, step in enumerate(steps):
            await keep_books(ledger, books, number, step)
            await books.check(ledger)

    run(anew(), scenario)


def test_spending(opened: Opener) -> None:
    """What was spent is told by day, folder, preset and fate, from a day on, oldest first."""

    async def scenario(ledger: Ledger) -> None:
        assert await ledger.spending() == []
        await pay(ledger, 5, day=DAY, closing=FREE)
        await pay(ledger, 7, day=EVE)
        await pay(ledger, 8, day=EVE)
        await pay(ledger, 9, folder="scans", day=DAY, closing=None)

        def entry(day: str, folder: str, charge: Charge, requests: int, microusd: int) -> Spending:
            return Spending(
                day=day,
                folder=folder,
                preset="photo",
                charge=charge,
                requests=requests,
                microusd=microusd,
            )

        today = [
            entry(DAY, "photos", Charge.NONE, 1, 0),
            entry(DAY, "scans", Charge.RESERVED, 1, 9),
        ]
        assert await ledger.spending() == [entry(EVE, "photos", Charge.CHARGED, 2, 15), *today]
        assert await ledger.spending(since_day=DAY) == today
        assert await ledger.spending(since_day="2026-05-29") == []

    run(opened, scenario)


# Questions.


def test_active(opened: Opener) -> None:
    """A folder's jobs that have not ended are told in the order of their coming."""

    async def scenario(ledger: Ledger) -> None:
        await completed(ledger, path="done")
        await discarded(ledger, "bad")
        await ledger.cancel(
            await executing(ledger, "gone"), code="x", message="x", rules_digest=None, now=NOW
        )
        job, attempt = await sending(ledger, "doubt")
        await ledger.doubt(job, attempt, UNKNOWN, until=NOW + 99, now=NOW)
        await staged(ledger, "spooled", "/out/2.png")
        await executing(ledger, "busy")
        await ledger.enqueue([replace(arrival("later"), priority=9)], now=NOW + 7)
        await ledger.enqueue([arrival("elsewhere", folder="other")], now=NOW)
        assert [(job.path, job.state) for job in await ledger.active("photos")] == [
            ("doubt", State.IN_DOUBT),
            ("spooled", State.STAGED),
            ("busy", State.EXECUTING),
            ("later", State.AVAILABLE),
        ]
        assert [job.path for job in await ledger.active("other")] == ["elsewhere"]
        assert await ledger.active("nobody") == []

    run(opened, scenario)


async def found(ledger: Ledger, path: str, place: str = "/nowhere", limit: int = 9) -> list[str]:
    """Return the paths of the jobs that are found."""
    jobs = await ledger.find(path=path, place=place, limit=limit)
    return [job.path for job in jobs]


def test_find_by_path(opened: Opener) -> None:
    """A job is found by its whole path or the end of it, by whole names only, newest first."""

    async def scenario(ledger: Ledger) -> None:
        paths = ["b.jpg", "ab.jpg", "sub/b.jpg", "x/sub/b.jpg", "b.jpg/c", "B.jpg", "x%b.jpg"]
        await ledger.enqueue([arrival(path) for path in paths], now=NOW)
        assert await found(ledger, "b.jpg") == ["x/sub/b.jpg", "sub/b.jpg", "b.jpg"]
        assert await found(ledger, "sub/b.jpg") == ["x/sub/b.jpg", "sub/b.jpg"]
        assert await found(ledger, "x/sub/b.jpg") == ["x/sub/b.jpg"]
        assert await found(ledger, "ab.jpg") == ["ab.jpg"]
        assert await found(ledger, "b.jpg", limit=2) == ["x/sub/b.jpg", "sub/b.jpg"]
        for nothing in (".jpg", "jpg", "ub/b.jpg", "%", "_.jpg", "*", "b.jp", "x", "/b.jpg", ""):
            assert await found(ledger, nothing) == [], nothing
        await ledger.enqueue([arrival("b.jpg", folder="other", version=2)], now=NOW)
        jobs = await ledger.find(path="b.jpg", place="/nowhere", limit=1)
        assert [job.folder for job in jobs] == ["other"]

    run(opened, scenario)


@pytest.mark.parametrize("name", [NAME_NOT_TEXT, "\U0001f408 \u00e9.jpg", "a'b\"c\\d\n.jpg"])
def test_find_any_name(opened: Opener, name: str) -> None:
    """Names that are no text, or of many bytes a letter, are found like any other."""

    async def scenario(ledger: Ledger) -> None:
        await ledger.enqueue([arrival(f"x{name}"), arrival(name), arrival(f"s/{name}")], now=NOW)
        assert await found(ledger, name) == [f"s/{name}", name]
        assert await found(ledger, f"s/{name}") == [f"s/{name}"]
        assert await found(ledger, name[1:]) == []
        await staged_at(ledger, name)
        assert await found(ledger, "?", f"/out/{name}") == [f"of {name}"]

    run(opened, scenario)


async def staged_at(ledger: Ledger, name: str) -> None:
    """Stage a job whose result has this name."""
    await ledger.enqueue([replace(arrival(f"of {name}"), priority=9)], now=NOW)
    job = await claim(ledger)
    assert job is not None
    attempt = await ledger.begin(job, order(), day=DAY, now=NOW)
    await ledger.stage(job, attempt, PAID, result(f"/out/{name}"), now=NOW)


def test_find_by_place(opened: Opener) -> None:
    """A job is found by where its result lies and by where its original went, exactly."""

    async def scenario(ledger: Ledger) -> None:
        first = await ledger.complete(
            await staged(ledger, "a.jpg", "/out/cat.png"), retire=Retire.ARCHIVE, now=NOW
        )
        await ledger.retired(first, original_path="/archive/a.jpg", now=NOW)
        bad = await discarded(ledger, "b.jpg")
        await ledger.retired(bad, original_path=f"/quarantine/{NAME_NOT_TEXT}", now=NOW)
        await staged(ledger, "c.jpg", "/out/cat.png")
        assert await found(ledger, "-", "/out/cat.png") == ["c.jpg", "a.jpg"]
        assert await found(ledger, "-", "/archive/a.jpg") == ["a.jpg"]
        assert await found(ledger, "-", f"/quarantine/{NAME_NOT_TEXT}") == ["b.jpg"]
        assert await found(ledger, "b.jpg", "/archive/a.jpg") == ["b.jpg", "a.jpg"]
        assert await found(ledger, "a.jpg", "/archive/a.jpg") == ["a.jpg"], "found once"
        for nothing in ("cat.png", "/out", "/out/cat.pn", "ut/cat.png", "/OUT/cat.png", ""):
            assert await found(ledger, "-", nothing) == [], nothing

    run(opened, scenario)


def test_mounts(opened: Opener) -> None:
    """Where a folder's file system was mounted is remembered, any names, the last word last."""

    async def before() -> None:
        async with opened() as ledger:
            assert await ledger.mounts() == {}
            await ledger.remember_mount("/mnt/a/in", "/mnt/a")
            await ledger.remember_mount(f"/mnt/{NAME_NOT_TEXT}", f"/{NAME_NOT_TEXT}")
            await ledger.remember_mount("/mnt/a/in", "/mnt")
            await ledger.remember_mount("/mnt/a", "/")

    async def after() -> None:
        async with opened() as ledger:
            assert await ledger.mounts() == {
                "/mnt/a/in": "/mnt",
                "/mnt/a": "/",
                f"/mnt/{NAME_NOT_TEXT}": f"/{NAME_NOT_TEXT}",
            }

    asyncio.run(before())
    asyncio.run(after())


def test_no_trouble(opened: Opener) -> None:
    """A ledger that can write says that there is no trouble."""

    async def scenario(ledger: Ledger) -> None:
        await executing(ledger)
        assert ledger.trouble is None

    run(opened, scenario)


# Figures.


def test_counts(opened: Opener) -> None:
    """Every state of every folder is counted, with what was spent and who waits longest."""

    async def scenario(ledger: Ledger) -> None:
        assert await ledger.counts() == {}
        await completed(ledger, path="done")
        await staged(ledger, "spooled", "/out/2.png")
        await discarded(ledger, "bad")
        await ledger.cancel(
            await executing(ledger, "gone"), code="x", message="x", rules_digest=None, now=NOW
        )
        job, attempt = await sending(ledger, "doubt")
        await ledger.doubt(job, attempt, UNKNOWN, until=NOW + 99, now=NOW)
        await executing(ledger, "busy")
        await ledger.enqueue([arrival("later")], now=NOW + 7)
        await ledger.enqueue([arrival(folder="other")], now=NOW + 3)
        assert await ledger.counts() == {
            "photos": FolderCounts(
                available=1,
                executing=1,
                in_doubt=1,
                staged=1,
                completed=1,
                discarded=1,
                cancelled=1,
                oldest_waiting_at=NOW,
                spent_microusd=240_000,
            ),
            "other": FolderCounts(available=1, oldest_waiting_at=NOW + 3),
        }
        assert len(FolderCounts.__slots__) == len(ACTIVE) + len(FINAL) + 5

    run(opened, scenario)


def test_counts_of_the_quarantine(opened: Opener) -> None:
    """What lies in the quarantine is counted by its code, until a person takes it back."""

    async def scenario(ledger: Ledger) -> None:
        jobs = [
            await discarded(ledger, path, code=code)
            for path, code in (("a", Code.CORRUPT), ("b", Code.CORRUPT), ("c", Code.TOO_SMALL))
        ]
        assert (await ledger.counts())["photos"].quarantine == {}
        for job in jobs:
            await ledger.retired(job, original_path=f"/quarantine/{job.path}", now=NOW)
        counts = (await ledger.counts())["photos"]
        assert (counts.quarantine, counts.quarantined) == ({"corrupt": 2, "too_small": 1}, 3)
        [job] = [one for one in await ledger.quarantined(SHA) if one.path == "a"]
        await ledger.left_quarantine(job, back_at=NOW, now=NOW)
        assert (await ledger.counts())["photos"].quarantine == {"corrupt": 1, "too_small": 1}

    run(opened, scenario)


def test_durations(opened: Opener) -> None:
    """How long requests took is told of those among the latest that succeeded."""

    async def scenario(ledger: Ledger) -> None:
        assert await ledger.durations(limit=9) == []
        for number, (took_s, closing) in enumerate(((4.0, PAID), (9.0, UNKNOWN), (-1.0, PAID))):
            work = bytes([number]) * 32
            job, attempt = await sending(ledger, f"{number}", work=work)
            if closing is PAID:
                spooled = result(f"/out/{number}.png", f"{number}.png")
                await ledger.stage(job, attempt, closing, spooled, now=NOW + took_s)
            else:
                await ledger.doubt(job, attempt, closing, until=NOW, now=NOW + took_s)
        assert await ledger.durations(limit=9) == [0.0, 4.0]  # a clock that was set back
        assert await ledger.durations(limit=2) == [0.0]

    run(opened, scenario)


# Pauses.


def test_pauses(opened: Opener) -> None:
    """A pause stays as it was begun, over restarts, until it is ended; nobody's end says so."""
    of_all = Pause(folder=None, by="anna", since=NOW)
    of_one = Pause(folder="photos", by="bea", since=NOW + 1)

    async def begin(ledger: Ledger) -> None:
        assert await ledger.pauses() == []
        assert await ledger.pause("photos", by="bea", now=NOW + 1)
        assert await ledger.pause(None, by="anna", now=NOW)
        assert not await ledger.pause("photos", by="anna", now=NOW + 2)
        assert not await ledger.pause(None, by="bea", now=NOW + 2)
        assert await ledger.pauses() == [of_all, of_one]

    async def end(ledger: Ledger) -> None:
        assert await ledger.pauses() == [of_all, of_one]
        assert await ledger.resume("scans") == []
        assert await ledger.resume("photos") == [of_one]
        assert await ledger.resume("photos") == []
        assert await ledger.pauses() == [of_all]
        assert await ledger.pause("photos", by="bea", now=NOW + 1)
        assert await ledger.resume(None) == [of_all, of_one]
        assert await ledger.pauses() == []

    run(opened, begin)
    run(opened, end)
    assert of_all.concerns("photos")
    assert of_one.concerns("photos")
    assert not of_one.concerns("scans")


def test_recent(opened: Opener) -> None:
    """The jobs that changed last come first, and no more than asked for."""

    async def scenario(ledger: Ledger) -> None:
        for number in range(4):
            await ledger.enqueue([arrival(f"{number}")], now=NOW + number)
        assert [job.path for job in await ledger.recent(limit=2)] == ["3", "2"]

    run(opened, scenario)


def test_recent_of_some(opened: Opener) -> None:
    """One may ask for the jobs of one folder, for those that have ended, or for both."""

    async def scenario(ledger: Ledger) -> None:
        await completed(ledger, path="done")
        await discarded(ledger, "bad")
        await ledger.cancel(
            await executing(ledger, "gone"), code="x", message="x", rules_digest=None, now=NOW + 1
        )
        await staged(ledger, "spooled", "/out/2.png")
        await ledger.enqueue([arrival("waits")], now=NOW + 2)
        other = arrival("other", folder="scans")
        await ledger.enqueue([other], now=NOW + 3)
        job = await ledger.claim(now=NOW + 3, only_folders=("scans",))
        assert job is not None
        await ledger.cancel(job, code="x", message="x", rules_digest=None, now=NOW + 3)

        async def paths(limit: int = 9, folder: str | None = None, *, ended: bool = False) -> str:
            jobs = await ledger.recent(limit=limit, folder=folder, ended=ended)
            return " ".join(job.path for job in jobs)

        assert await paths() == "other waits gone spooled bad done"
        assert await paths(folder="photos") == "waits gone spooled bad done"
        assert await paths(folder="photos", ended=True) == "gone bad done"
        assert await paths(ended=True) == "other gone bad done"
        assert await paths(2, ended=True) == "other gone"
        assert await paths(1, "photos", ended=True) == "gone"
        assert await paths(folder="scans") == "other"
        assert await paths(folder="nobody") == ""
        assert await paths(0) == ""

    run(opened, scenario)


# After a death.


def test_recovery(opened: Opener) -> None:
    """After a death work waits again, staged results are due, and open requests are reported."""

    async def before() -> None:
        async with opened() as ledger:
            await completed(ledger, path="owed")
            await staged(ledger, "spooled", "/out/spooled.png")
            await sending(ledger, "sent")
            await executing(ledger, "read")

    async def after() -> None:
        async with opened() as ledger:
            [open_one] = await ledger.recover(now=NOW + 100)
            assert open_one.job.path == "sent"
            assert open_one.job.state is State.EXECUTING
            assert open_one.attempt.charge is Charge.RESERVED
            assert [job.path for job in await ledger.owed()] == ["owed"]
            claimed = [await claim(ledger, NOW + 100) for _ in range(3)]
            assert {(job.path, job.state) for job in claimed if job} == {
                ("spooled", State.STAGED),
                ("read", State.EXECUTING),
            }
            job = await ledger.doubt(
                open_one.job, open_one.attempt, UNKNOWN, until=NOW, now=NOW + 100
            )
            assert job.state is State.IN_DOUBT
            assert await doubts_of(ledger) == 1

    asyncio.run(before())
    asyncio.run(after())


def test_recovery_after_a_wrong_clock(opened: Opener) -> None:
    """What was to wait by a clock that was years ahead is due; what waits by rights goes on so."""

    async def scenario(ledger: Ledger) -> None:
        waits = {"ahead": NOW + 1e8, "day": NOW + 86_400, "soon": NOW + 5}
        for path, until in waits.items():
            job = await executing(ledger, path)
            await ledger.retry(job, None, None, until=until, counted=False, message="", now=NOW)
        job, attempt = await sending(ledger, "doubted")
        await ledger.doubt(job, attempt, UNKNOWN, until=NOW + 1e8, now=NOW)
        await ledger.recover(now=NOW)
        due = {job.path: job.available_at for job in await ledger.active("photos")}
        assert due == waits | {"ahead": NOW, "doubted": NOW}

    run(opened, scenario)


def test_recovery_fences(opened: Opener) -> None:
    """A worker of before the death cannot move what was recovered."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        await ledger.recover(now=NOW)
        with pytest.raises(StaleError):
            await ledger.begin(job, order(), day=DAY, now=NOW)

    run(opened, scenario)


def test_recovery_again(opened: Opener) -> None:
    """Dying during recovery loses nothing: doing it again finds the same."""

    async def scenario(ledger: Ledger) -> None:
        await sending(ledger, "sent")
        first = await ledger.recover(now=NOW)
        assert await ledger.recover(now=NOW) == first

    run(opened, scenario)


def test_everything_is_there_again(opened: Opener) -> None:
    """What a verb returned is what the next process reads."""

    async def before() -> list[Job]:
        async with opened() as ledger:
            return [
                await staged(ledger, "a", "/out/a.png"),
                await discarded(ledger, NAME_NOT_TEXT),
                await completed(ledger, Retire.DELETE, "c"),
            ]

    async def after() -> list[Job]:
        async with opened() as ledger:
            return sorted(await ledger.recent(limit=9), key=lambda job: job.id)

    assert asyncio.run(before()) == asyncio.run(after())
