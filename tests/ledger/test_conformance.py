"""What every engine of the ledger must keep: each verb, each refusal, each figure of money.

A second engine is added to the fixture `opened`; nothing here knows which one it talks to.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest

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
    State,
)
from venice_watch.ledger import (
    FolderCounts,
    Known,
    Ledger,
    NameReservedError,
    Order,
    Result,
    StaleError,
)

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]

NOW = 1_780_000_000.0
FOLDERS = ("photos",)
WORK = b"w" * 32
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
    """Return what a request asks for."""
    return Order(
        work_key=work,
        source_sha256=SHA,
        preset="photo",
        parameters='{"scale":2}',
        microusd=microusd,
    )


def result(
    path: str | None = "/out/cat.png", name: str = "1.png", *, exclusive: bool = True
) -> Result:
    """Return a result in the spool."""
    return Result(spool_name=name, path=path, width=800, height=600, scale=2.0, exclusive=exclusive)


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


async def sending(ledger: Ledger, path: str = "cat.jpg") -> tuple[Job, Attempt]:
    """Return a job with a request under way."""
    job = await executing(ledger, path)
    return job, await ledger.begin(job, order(), now=NOW)


async def staged(ledger: Ledger, path: str = "cat.jpg", out: str = "/out/cat.png") -> Job:
    """Return a job whose result is in the spool."""
    job, attempt = await sending(ledger, path)
    spooled = result(out, f"{attempt.id}.png")
    return await ledger.stage(job, attempt, PAID, spooled, now=NOW)


async def completed(ledger: Ledger, retire: Retire = Retire.ARCHIVE, path: str = "cat.jpg") -> Job:
    """Return a delivered job."""
    return await ledger.complete(await staged(ledger, path), retire=retire, now=NOW)


async def discarded(ledger: Ledger, path: str = "cat.jpg") -> Job:
    """Return a job that was given up, its bytes known."""
    return await ledger.discard(
        await executing(ledger, path),
        None,
        None,
        code=Code.CORRUPT,
        message="no image",
        known=Known(source_sha256=SHA, preset="photo", parameters="{}"),
        now=NOW,
    )


async def put_back(ledger: Ledger, job: Job, until: float = NOW, *, counted: bool = False) -> Job:
    """Send a job back to wait."""
    return await ledger.retry(
        job, None, None, until=until, counted=counted, message="later", now=NOW
    )


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
        attempt = await ledger.begin(job, order(), now=NOW)
        doubtful = await ledger.doubt(job, attempt, UNKNOWN, until=NOW, now=NOW)
        assert doubtful.state is State.IN_DOUBT
        assert await ledger.enqueue(again, now=NOW) == [False]
        job = await claim(ledger)
        assert job is not None
        attempt = await ledger.begin(job, order(), now=NOW)
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


# Compare and set.


def test_stale_steps_change_nothing(opened: Opener) -> None:
    """Whoever has an older generation of a job in hand cannot move it, whatever the verb."""

    async def scenario(ledger: Ledger) -> None:
        old = await executing(ledger)
        await put_back(ledger, old)
        job = await claim(ledger)
        assert job is not None
        attempt = await ledger.begin(job, order(), now=NOW)
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: ledger.begin(old, order(), now=NOW),
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
        busy, attempt = await sending(ledger, "busy")
        done = await completed(ledger, path="done")
        bad = await discarded(ledger, "bad")
        spooled = await staged(ledger, "spooled", "/out/spooled.png")
        before = await ledger.recent(limit=9)
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: ledger.complete(busy, retire=Retire.DELETE, now=NOW),
            lambda: ledger.complete(waiting, retire=Retire.DELETE, now=NOW),
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
            await ledger.begin(job, order(), now=NOW)
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
                await ledger.begin(job, order(), now=NOW)

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
        assert await ledger.doubts(WORK) == doubts
        assert await ledger.doubts(b"x" * 32) == 0

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
        assert await ledger.doubts(WORK) == 1
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
        assert await ledger.doubts(WORK) == 2

    run(opened, scenario)


def test_rate_memory(opened: Opener) -> None:
    """When requests began is remembered, oldest first, whatever they came to."""

    async def scenario(ledger: Ledger) -> None:
        for path, at in (("a", NOW - 70), ("b", NOW), ("c", NOW - 5)):
            job = await executing(ledger, path)
            attempt = await ledger.begin(job, order(), now=at)
            await ledger.retry(
                job, attempt, FREE, until=NOW + 99, counted=True, message="x", now=NOW
            )
        assert await ledger.sent_since(NOW - 62) == [NOW - 5, NOW]
        assert await ledger.sent_since(NOW) == [NOW]

    run(opened, scenario)


def test_counted_and_not(opened: Opener) -> None:
    """A retry costs an attempt, a snooze none, a doubt one."""

    async def scenario(ledger: Ledger) -> None:
        job = await put_back(ledger, await executing(ledger), counted=True)
        assert (job.attempts, job.state, job.message) == (1, State.AVAILABLE, "later")
        job = await put_back(ledger, await claim(ledger) or job)
        assert job.attempts == 1
        job = await claim(ledger) or job
        attempt = await ledger.begin(job, order(), now=NOW)
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
        assert await ledger.spooled() == []

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
        await ledger.left_quarantine(there, now=NOW)
        assert await ledger.quarantined(SHA) == []
        assert (await ledger.counts())["photos"].quarantined == 0

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
        assert len(FolderCounts.__slots__) == len(ACTIVE) + len(FINAL) + 3

    run(opened, scenario)


def test_recent(opened: Opener) -> None:
    """The jobs that changed last come first, and no more than asked for."""

    async def scenario(ledger: Ledger) -> None:
        for number in range(4):
            await ledger.enqueue([arrival(f"{number}")], now=NOW + number)
        assert [job.path for job in await ledger.recent(limit=2)] == ["3", "2"]

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
            assert await ledger.doubts(WORK) == 1

    asyncio.run(before())
    asyncio.run(after())


def test_recovery_fences(opened: Opener) -> None:
    """A worker of before the death cannot move what was recovered."""

    async def scenario(ledger: Ledger) -> None:
        job = await executing(ledger)
        await ledger.recover(now=NOW)
        with pytest.raises(StaleError):
            await ledger.begin(job, order(), now=NOW)

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
