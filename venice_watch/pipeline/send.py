"""The one place that costs money: a turn, an attempt written down, one request, its result safe."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from venice_watch.budget import current, day_of
from venice_watch.config.model import Duplicates
from venice_watch.errors import VeniceWatchError
from venice_watch.files.source import check_version
from venice_watch.files.spool import SpoolFile, SpoolLostError
from venice_watch.images.png import BrokenPngError, PngVerifier, verify_file
from venice_watch.job import Attempt, Charge, Closing, Job
from venice_watch.ledger import Order, Result, WorkMovedOnError
from venice_watch.outcome import (
    AccountRefused,
    Doubtful,
    Failure,
    Lost,
    Outcome,
    Succeeded,
)
from venice_watch.parameters import SCALE_DEFAULT
from venice_watch.pipeline.consider import Admitted, FolderHeldError, work_key
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.pipeline.paused import PausedError
from venice_watch.pipeline.stage import stage
from venice_watch.venice.classify import classify
from venice_watch.venice.client import Upload
from venice_watch.venice.turn import Turn

SPOOL_S = 5.0  # between tries to write a paid result while the spool's disk is in trouble


class SendFailedError(VeniceWatchError):
    """A request that brought no result: what it came to, and the attempt to close."""

    def __init__(self, attempt: Attempt, failure: Failure) -> None:
        super().__init__(failure.words)
        self.attempt = attempt
        self.failure = failure


class ContractChangedError(VeniceWatchError):
    """What was admitted was admitted for another contract."""


class ServiceDownError(VeniceWatchError):
    """The server does not even answer what is free."""


async def send(parts: Parts, passage: Passage, admitted: Admitted, order: Order) -> None:
    """Send one request and stage its result.

    Raises SendFailedError, or before anything is paid DrainingError, SourceGoneError,
    SourceChangedError, ContractChangedError, ServiceDownError, FolderHeldError, PausedError,
    or what the ledger's `begin` does.
    From `begin` on `passage.attempt` is the open attempt: whatever is raised then, it must be
    closed.
    """
    try:
        file = await asyncio.to_thread(SpoolFile, parts.spool)
    except OSError as exc:
        raise FolderHeldError(f"the spool {parts.spool} cannot be written: {exc.strerror}") from exc
    try:
        async with (
            _lined_up(parts, order) as leave_line,
            parts.gate.turn(passage.folder.name, begun=passage.job.frame > 0) as turn,
        ):
            await _look_once_more(parts, passage, admitted)
            attempt = passage.attempt = await _begin(parts, passage, order)
            turn.use()
            leave_line()
            outcome = await _request(parts, passage, admitted, file, turn)
            if isinstance(outcome, Succeeded):
                outcome = await _commit(parts, file, attempt, outcome)
    finally:
        file.close()
    if not isinstance(outcome, Succeeded):
        raise SendFailedError(attempt, outcome)
    parts.account.succeeded()
    parts.tally.accepted(passage.folder.name)
    fit = admitted.fit
    scale = true_scale(outcome.width, outcome.height, fit.width, fit.height)
    spooled = Result(
        spool_name=spool_name(attempt),
        width=outcome.width,
        height=outcome.height,
        scale=scale,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
    )
    closing = Closing(
        outcome=outcome.name,
        charge=outcome.charge,
        microusd=min(order.microusd, parts.account.price_microusd(scale)),
        status=outcome.status,
        request_id=outcome.request_id,
    )
    await _stage_paid(parts, passage, attempt, closing, spooled)


@contextlib.asynccontextmanager
async def _lined_up(parts: Parts, order: Order) -> AsyncIterator[Callable[[], None]]:
    """Let one image stand in line for the same work; yield what it calls once it is sent.

    Whoever comes second waits until then, and raises WorkMovedOnError: it is to ask again.
    """
    ahead = parts.in_line.get(order.work_key) if order.alone else None
    if ahead is not None:
        await ahead.wait()
        raise WorkMovedOnError("the same image stood in line for another file")
    gone = asyncio.Event()
    if order.alone:
        parts.in_line[order.work_key] = gone

    def leave() -> None:
        gone.set()
        if parts.in_line.get(order.work_key) is gone:
            del parts.in_line[order.work_key]

    try:
        yield leave
    finally:
        leave()


async def _begin(parts: Parts, passage: Passage, order: Order) -> Attempt:
    """Write the request down, within every budget there is."""
    now = parts.clock.now()
    budgets = [current(limit, now) for limit in parts.limits_of(passage.folder)]
    attempt = await parts.ledger.begin(
        passage.job, order, day=day_of(now), budgets=budgets, now=now
    )
    for budget in parts.tally.reopen(passage.folder.name, budgets):
        parts.log.info(
            "budget.open_again", budget=budget.whose, period=budget.limit.period, days=budget.days
        )
    return attempt


def true_scale(width: int, height: int, sent_width: int, sent_height: int) -> float:
    """Return what a request's scale really came to: the server may have reduced it."""
    return round(max(width / sent_width, height / sent_height), 2)


def spool_name(attempt: Attempt) -> str:
    """Return what an attempt's result is called in the spool."""
    return f"{attempt.id}.png"


async def adopt(parts: Parts, passage: Passage, attempt: Attempt) -> bool:
    """Stage a result that is whole in the spool though its attempt was never closed."""
    spooled = await asyncio.to_thread(_find_whole, parts.spool, passage.job, attempt)
    if spooled is None:
        return False
    await _stage_paid(parts, passage, attempt, _adopted(attempt), spooled)
    now = parts.clock.now()
    passage.job = await parts.ledger.postpone(
        passage.job, until=now, message="adopted from the spool", now=now
    )
    passage.log.info("image.adopted", attempt=attempt.id)
    return True


async def settle_stranger(parts: Parts, job: Job, attempt: Attempt, words: str) -> None:
    """Settle a request for a folder that the configuration no longer has.

    Its result, or its one resend, waits for the folder; the money and others' work do not.
    """
    now = parts.clock.now()
    spooled = await asyncio.to_thread(_find_whole, parts.spool, job, attempt)
    if spooled is None:
        closing = Closing(outcome=Doubtful.name, charge=Doubtful.charge, message=words)
        await parts.ledger.doubt(job, attempt, closing, until=now, now=now)
        return
    job = await parts.ledger.stage(job, attempt, _adopted(attempt), spooled, now=now)
    await parts.ledger.postpone(job, until=now, message=words, now=now)


def _adopted(attempt: Attempt) -> Closing:
    return Closing(
        outcome="adopted", charge=Charge.CHARGED, microusd=attempt.microusd, status=HTTPStatus.OK
    )


def _find_whole(spool: Path, job: Job, attempt: Attempt) -> Result | None:
    """Return an attempt's result if it is whole in the spool; blocks."""
    path = spool / spool_name(attempt)
    try:
        facts = verify_file(path)
        with path.open("rb") as file:
            sha256, size_bytes = hashlib.file_digest(file, "sha256").digest(), file.tell()
    except (OSError, BrokenPngError):
        return None
    scale = float(json.loads(job.parameters or "{}").get("scale", SCALE_DEFAULT))
    if job.source is not None:
        scale = true_scale(facts.width, facts.height, job.source.sent_width, job.source.sent_height)
    return Result(
        spool_name=path.name,
        width=facts.width,
        height=facts.height,
        scale=scale,
        sha256=sha256,
        size_bytes=size_bytes,
    )


async def _look_once_more(parts: Parts, passage: Passage, admitted: Admitted) -> None:
    """Make sure, just before it is paid, that it is still wanted as it was admitted."""
    await asyncio.to_thread(
        check_version, passage.folder.inbox, passage.job.path, passage.job.signature
    )
    if parts.account.contract != admitted.contract:
        raise ContractChangedError("the server's contract was found out meanwhile")
    hold = parts.tally.held.get(passage.folder.name)
    if hold is not None and hold.refused and (left_s := hold.until - parts.clock.monotonic()) > 0:
        raise FolderHeldError(hold.why, left_s, refused=True)  # it would be refused just as well
    if parts.gate.service_down and not await parts.account.is_reachable():
        raise ServiceDownError("the server does not answer")  # no image need be in doubt for that
    # last, with nothing to wait for between it and the attempt: whoever has paused a folder is told
    # so once no attempt can begin any more
    if (pause := parts.paused.of(passage.folder.name)) is not None:
        raise PausedError(pause)


async def _stage_paid(
    parts: Parts, passage: Passage, attempt: Attempt, closing: Closing, spooled: Result
) -> None:
    """Write down that what was paid for is safe."""
    job = passage.job
    preset = passage.choice.preset if passage.choice else job.preset or passage.folder.preset
    await stage(
        parts,
        passage,
        spooled,
        preset=preset,
        write_down=lambda result: parts.ledger.stage(
            job, attempt, closing, result, now=parts.clock.now()
        ),
    )
    passage.attempt = None
    parts.tally.spent_microusd += closing.microusd or 0
    if closing.microusd != attempt.microusd:
        parts.tally.lift_budgets()


class _VerifyingSink:
    """Writes an answer into the spool while checking that it is a whole PNG."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._verifier = PngVerifier()

    def write(self, data: bytes) -> None:
        """Take the next bytes; raise BrokenPngError once they are no PNG."""
        self._verifier.feed(data)
        self._file.write(data)

    def finish(self) -> tuple[int, int]:
        """Return the image's (width, height)."""
        facts = self._verifier.finish()
        return facts.width, facts.height


def order_of(parts: Parts, passage: Passage, admitted: Admitted) -> Order:
    """Return what will be asked for, and what it may cost at most."""
    assert passage.choice is not None, "chosen before it is sent"
    assert passage.source_sha256 is not None, "read before it is sent"
    parameters = admitted.parameters
    return Order(
        work_key=work_key(admitted.prepared.data, parameters, admitted.contract),
        source_sha256=passage.source_sha256,
        preset=passage.choice.preset,
        parameters=parameters.canonical(),
        microusd=parts.account.price_microusd(parameters.scale),
        frames=passage.job.frames,
        alone=passage.folder.duplicates is not Duplicates.PROCESS,
        source=passage.source,
    )


async def _request(
    parts: Parts, passage: Passage, admitted: Admitted, file: SpoolFile, turn: Turn
) -> Outcome:
    prepared, fit = admitted.prepared, admitted.fit
    upload = Upload(
        data=prepared.data,
        media_type=prepared.media_type,
        extension=prepared.extension,
        fields=admitted.parameters.to_fields(),
    )
    begun_at = parts.clock.monotonic()
    exchange = await parts.client.upscale(upload, _VerifyingSink(file), turn.use)
    took_s = parts.clock.monotonic() - begun_at
    if exchange.bug is not None:
        passage.log.error("request.bug", exc_info=exchange.bug)
    outcome = classify(
        exchange,
        wanted=(fit.result_width, fit.result_height),
        sent=(fit.width, fit.height),
        now=parts.clock.now(),
    )
    parts.tally.note_request(passage.folder.name, outcome.name, took_s)
    # once more, after the JSON around it is gone: what is written down holds no key
    outcome = replace(outcome, words=parts.client.redact(outcome.words))
    # before the turn is given back: who comes next is to know what this one met
    await parts.gate.report(outcome, passage.job.id, begun_at=turn.begun_at)
    if isinstance(outcome, AccountRefused):
        await parts.account.halt(outcome.words)
    await parts.account.learn(exchange.headers)
    return outcome


async def _commit(
    parts: Parts, file: SpoolFile, attempt: Attempt, outcome: Succeeded
) -> Succeeded | Lost:
    """Make a paid result durable, however long our own disk takes to be mended."""
    while True:
        try:
            await asyncio.to_thread(file.commit, spool_name(attempt))
        except OSError as exc:
            if attempt.id not in parts.tally.unwritten:
                parts.log.error(
                    "spool.unwritable",
                    spool=str(parts.spool),
                    error=exc.strerror,
                    next="the paid result is held in memory and written once there is room",
                )
            parts.tally.unwritten[attempt.id] = f"{parts.spool}: {exc.strerror}"
            await parts.clock.sleep(SPOOL_S)
        except SpoolLostError as exc:
            parts.tally.unwritten.pop(attempt.id, None)
            return Lost(words=str(exc), status=outcome.status, request_id=outcome.request_id)
        else:
            parts.tally.unwritten.pop(attempt.id, None)
            return outcome
