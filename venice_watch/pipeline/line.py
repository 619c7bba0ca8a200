"""The line: one claimed job, taken as far as it goes; and what a dead process left on it."""

import asyncio
import hashlib
import json
from collections.abc import Mapping

from venice_watch.config.model import Folder, OnConflict
from venice_watch.errors import Code, ImageRefusedError
from venice_watch.files.source import read_source
from venice_watch.images.png import BrokenPngError, verify_file
from venice_watch.images.probe import Probe
from venice_watch.job import Charge, Closing, Job, State
from venice_watch.ledger import OpenAttempt
from venice_watch.outcome import Doubtful, Succeeded
from venice_watch.pipeline import consider, deliver, failures
from venice_watch.pipeline.consider import Admitted, SkippedError
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.pipeline.send import result_name, send, spool_name, stage


async def work(parts: Parts, folder: Folder, job: Job) -> None:
    """Take a claimed job as far as it goes, and write down where that is."""
    passage = Passage.of(parts, folder, job)
    try:
        await _advance(parts, passage)
    except Exception as exc:  # noqa: BLE001 - the one place where failures become decisions
        await failures.settle(parts, passage, exc)


async def _advance(parts: Parts, passage: Passage) -> None:
    if passage.job.state is State.STAGED:
        await deliver.deliver(parts, passage, resumed=True)
        return
    data = await _read(passage)
    await deliver.remove_answered_reports(parts, _sha256(passage))
    probe = await _choose(parts, passage, data)
    await asyncio.to_thread(consider.hold_unless_ready, passage.folder, parts.spool)
    admitted = await _admit(parts, passage, data, probe)
    del data  # what is sent is in `admitted`; a converted original need not stay in memory
    await send(parts, passage, admitted)
    await deliver.deliver(parts, passage, resumed=False)


async def _read(passage: Passage) -> bytes:
    signature = passage.job.signature
    if signature.size_bytes > consider.SOURCE_BYTES_MAX:
        raise ImageRefusedError(
            Code.TOO_LARGE,
            f"It has {signature.size_bytes:,} bytes; files of up to "
            f"{consider.SOURCE_BYTES_MAX:,} are converted for Venice. Save it smaller.",
        )

    def read() -> tuple[bytes, bytes]:
        data = read_source(passage.folder.inbox, passage.job.path, signature)
        return data, hashlib.sha256(data).digest()

    data, passage.source_sha256 = await asyncio.to_thread(read)
    return data


def _sha256(passage: Passage) -> bytes:
    assert passage.source_sha256 is not None
    return passage.source_sha256


async def _choose(parts: Parts, passage: Passage, data: bytes) -> Probe:
    probe, passage.choice = await parts.decode(
        consider.choose, parts.config, passage.folder, passage.job, data
    )
    return probe


async def _admit(parts: Parts, passage: Passage, data: bytes, probe: Probe) -> Admitted:
    assert passage.choice is not None
    admitted = await parts.decode(
        consider.admit, passage.folder, data, probe, passage.choice, parts.account.contract
    )
    if passage.folder.output.on_conflict is OnConflict.SKIP:
        await asyncio.to_thread(_skip_what_is_there, parts, passage, admitted)
    return admitted


def _skip_what_is_there(parts: Parts, passage: Passage, admitted: Admitted) -> None:
    """Find out for free that the result would not be wanted."""
    assert passage.choice is not None
    facts = deliver.name_facts(
        passage.job,
        preset=passage.choice.preset,
        scale=admitted.fit.scale,
        width=admitted.fit.result_width,
        height=admitted.fit.result_height,
        now=parts.clock.now(),
    )
    name = result_name(passage.folder, facts, 0)
    path = deliver.result_path(passage.folder, passage.job, name)
    if deliver.is_taken(path):
        raise SkippedError(f"{path} is there already, and `on_conflict` is `skip`")


# --- after a death -------------------------------------------------------------------------------


async def recover(parts: Parts, folders: Mapping[str, Folder]) -> None:
    """Settle what the last process left: adopt whole results, doubt the rest, put away."""
    for one in await parts.ledger.recover(now=parts.clock.now()):
        folder = folders.get(one.job.folder)
        if folder is None:
            parts.log.warning("recover.folder_unknown", folder=one.job.folder, path=one.job.path)
            continue
        passage = Passage.of(parts, folder, one.job)
        if not await _adopt(parts, passage, one):
            failure = Doubtful(words="the daemon died while this request was under way")
            await failures.settle_request(parts, passage, one.attempt, failure)
    await put_owed_away(parts, folders)


async def put_owed_away(parts: Parts, folders: Mapping[str, Folder]) -> None:
    """Put away the originals of jobs that ended before they could be."""
    for job in await parts.ledger.owed():
        folder = folders.get(job.folder)
        if folder is not None:
            await deliver.retire(parts, Passage.of(parts, folder, job))


async def _adopt(parts: Parts, passage: Passage, one: OpenAttempt) -> bool:
    """Stage a result that was whole in the spool before its attempt could be closed."""
    try:
        facts = await asyncio.to_thread(verify_file, parts.spool / spool_name(one.attempt))
    except (OSError, BrokenPngError):
        return False
    closing = Closing(
        outcome="adopted", charge=Charge.CHARGED, microusd=one.attempt.microusd, status=200
    )
    size = Succeeded(width=facts.width, height=facts.height)
    scale = float(json.loads(one.job.parameters or "{}").get("scale", 2))
    await stage(parts, passage, one.attempt, closing, size=size, scale=scale)
    now = parts.clock.now()
    await parts.ledger.postpone(
        passage.job, until=now, message="adopted after the daemon had died", now=now
    )
    passage.log.info("image.adopted", attempt=one.attempt.id)
    return True
