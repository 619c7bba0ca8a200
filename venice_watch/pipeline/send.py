"""The one place that costs money: a turn, an attempt written down, one request, its result safe."""

import asyncio
from dataclasses import replace

from venice_watch import naming
from venice_watch.config.model import Folder, OnConflict
from venice_watch.errors import VeniceWatchError
from venice_watch.files.spool import SpoolFile
from venice_watch.images.png import PngVerifier
from venice_watch.job import Attempt, Closing
from venice_watch.ledger import NameReservedError, Order, Result
from venice_watch.outcome import Failure, Outcome, Succeeded
from venice_watch.pipeline import deliver
from venice_watch.pipeline.consider import Admitted, work_key
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.venice.classify import Exchange, Phase, classify
from venice_watch.venice.client import Upload

SPOOL_S = 5.0  # between tries to write a paid result while the spool's disk is in trouble


class SendFailedError(VeniceWatchError):
    """A request that brought no result: what it came to, and the attempt to close."""

    def __init__(self, attempt: Attempt, failure: Failure) -> None:
        super().__init__(failure.words)
        self.attempt = attempt
        self.failure = failure


async def send(parts: Parts, passage: Passage, admitted: Admitted) -> None:
    """Send one request and stage its result. Raises SendFailedError or DrainingError."""
    order = _order(parts, passage, admitted)
    async with parts.gate.turn(passage.folder.name):
        attempt = await parts.ledger.begin(passage.job, order, now=parts.clock.now())
        file = await asyncio.to_thread(SpoolFile, parts.spool, spool_name(attempt))
        try:
            outcome = await _request(parts, passage, admitted, file)
            if isinstance(outcome, Succeeded):
                await _commit(parts, file)
        finally:
            file.close()
    if not isinstance(outcome, Succeeded):
        raise SendFailedError(attempt, outcome)
    parts.account.succeeded()
    parts.tally.held.pop(passage.folder.name, None)
    fit = admitted.fit
    scale = round(max(outcome.width / fit.width, outcome.height / fit.height), 2)
    closing = Closing(
        outcome=outcome.name,
        charge=outcome.charge,
        microusd=min(order.microusd, parts.account.price_microusd(scale)),
        status=outcome.status,
        request_id=outcome.request_id,
    )
    await stage(parts, passage, attempt, closing, size=outcome, scale=scale)


def spool_name(attempt: Attempt) -> str:
    """Return what an attempt's result is called in the spool."""
    return f"{attempt.id}.png"


async def stage(
    parts: Parts,
    passage: Passage,
    attempt: Attempt,
    closing: Closing,
    *,
    size: Succeeded,
    scale: float,
) -> None:
    """Write down that the result is safe, and reserve the first free name for it."""
    folder, job = passage.folder, passage.job
    facts = deliver.name_facts(
        job,
        preset=passage.choice.preset if passage.choice else job.preset or folder.preset,
        scale=scale,
        width=size.width,
        height=size.height,
        now=parts.clock.now(),
    )
    overwrite = folder.output.on_conflict is OnConflict.OVERWRITE
    for number in range(deliver.NAMES_MAX):
        path = deliver.result_path(folder, job, result_name(folder, facts, number))
        if not overwrite and await asyncio.to_thread(deliver.is_taken, path):
            continue
        result = Result(
            spool_name=spool_name(attempt),
            path=str(path),
            width=size.width,
            height=size.height,
            exclusive=not overwrite,
        )
        try:
            passage.job = await parts.ledger.stage(
                job, attempt, closing, result, now=parts.clock.now()
            )
        except NameReservedError:
            continue
        parts.tally.spent_microusd += closing.microusd or 0
        return
    raise AssertionError(f"{deliver.NAMES_MAX} files of one name in {folder.outbox}")


def result_name(folder: Folder, facts: naming.NameFacts, number: int) -> str:
    """Return the n-th name to try for a result; `{counter}` counts where the template has it."""
    template = folder.output.name
    if "{counter" in template:
        return naming.render(template, replace(facts, counter=number + 1))
    name = naming.render(template, facts)
    return naming.numbered(name, number) if number else name


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


def _order(parts: Parts, passage: Passage, admitted: Admitted) -> Order:
    assert passage.choice is not None, "chosen before it is sent"
    assert passage.source_sha256 is not None, "read before it is sent"
    parameters = admitted.parameters
    return Order(
        work_key=work_key(admitted.prepared.data, parameters, parts.account.contract),
        source_sha256=passage.source_sha256,
        preset=passage.choice.preset,
        parameters=parameters.canonical(),
        microusd=parts.account.price_microusd(parameters.scale),
    )


async def _request(parts: Parts, passage: Passage, admitted: Admitted, file: SpoolFile) -> Outcome:
    prepared, fit = admitted.prepared, admitted.fit
    upload = Upload(
        data=prepared.data,
        media_type=prepared.media_type,
        extension=prepared.extension,
        fields=admitted.parameters.to_fields(),
    )
    try:
        exchange = await parts.client.upscale(upload, _VerifyingSink(file))
    except Exception as exc:
        # a bug of ours: the money's fate is unknown, and the attempt must be closed as that
        passage.log.error("request.bug", exc_info=exc)
        exchange = Exchange(phase=Phase.SENT, headers={}, error=type(exc).__name__)
    outcome = classify(
        exchange,
        wanted=(fit.result_width, fit.result_height),
        sent=(fit.width, fit.height),
        now=parts.clock.now(),
    )
    # once more, after the JSON around it is gone: what is written down holds no key
    outcome = replace(outcome, words=parts.client.redact(outcome.words))
    await parts.gate.report(outcome)
    limit = exchange.headers.get("x-ratelimit-limit-requests", "")
    if limit.isascii() and limit.isdigit() and int(limit) > 0:
        await parts.gate.learn_rate(int(limit))
    return outcome


async def _commit(parts: Parts, file: SpoolFile) -> None:
    """Make a paid result durable, however long our own disk takes to be mended."""
    told = False
    while True:
        try:
            await asyncio.to_thread(file.commit)
        except OSError as exc:
            if not told:
                parts.log.error(
                    "spool.unwritable",
                    spool=str(parts.spool),
                    error=exc.strerror,
                    next="the paid result is held in memory and written once there is room",
                )
                told = True
            await parts.clock.sleep(SPOOL_S)
        else:
            return
