"""The line: one claimed job, taken as far as it goes; and what a dead process left on it."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from venice_watch import naming
from venice_watch.config.model import Folder
from venice_watch.files.source import read_source
from venice_watch.images.probe import Probe
from venice_watch.images.signature import identify
from venice_watch.job import FINAL, Job, Source, State
from venice_watch.ledger import Order
from venice_watch.pipeline import consider, deliver, failures, finish, frames, retire
from venice_watch.pipeline.consider import Admitted, FolderHeldError
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.pipeline.reuse import refuse_conflict_of_frames, reuse
from venice_watch.pipeline.send import order_of, send, settle_stranger

# Whatever else waits is found and sent before what is in doubt: where the daemon dies again and
# again, the same few images must not be in doubt twice.
RESEND_AFTER_DEATH_S = 5.0


async def work(
    parts: Parts, folder: Folder, job: Job, on_sent: Callable[[], None] = lambda: None
) -> None:
    """Take a claimed job as far as it goes, and write down where that is.

    `on_sent` is called when nothing is left but its delivery, which takes nobody's turn.
    """
    passage = Passage.of(parts, folder, job)
    try:
        await _advance(parts, passage, on_sent)
    except Exception as exc:  # noqa: BLE001 - the one place where failures become decisions
        await failures.settle(parts, passage, exc)
    if passage.job.state in FINAL:
        await finish.forget_metadata(parts, passage)


async def _advance(parts: Parts, passage: Passage, on_sent: Callable[[], None]) -> None:
    if passage.job.state is State.STAGED:
        on_sent()
        await deliver.deliver(parts, passage, resumed=True)
        return
    admitted = await _prepare(parts, passage)
    order = await _order(parts, passage, admitted)
    await finish.keep_metadata(parts, passage)
    if not await reuse(parts, passage, order):
        await send(parts, passage, admitted, order)
    del admitted  # the result is on the disk
    _tell_what_is_left_out(passage)
    on_sent()
    await deliver.deliver(parts, passage, resumed=False)


def _tell_what_is_left_out(passage: Passage) -> None:
    assert passage.wanted is not None, "found before it was sent"
    if passage.wanted.left_out and passage.job.frame == 0:
        passage.log.warning(
            "image.pages_left_out",
            pages=list(passage.wanted.left_out),
            reason="too small for Venice",
        )


async def _prepare(parts: Parts, passage: Passage) -> Admitted:
    """Look at the file, and return what will be sent; its own bytes need not stay in memory."""
    async with parts.room.taken(passage.folder.name, passage.job.signature.size_bytes):
        data = await _read(passage)
        await retire.remove_answered_reports(parts, passage)
        found = await _choose(parts, passage, data)
        if parts.gate.is_open:
            return await _admit(parts, passage, data, found)
    del data  # it may take hours
    await parts.gate.wait_open()  # the server's contract is known then, or cannot be
    async with parts.room.taken(passage.folder.name, passage.job.signature.size_bytes):
        return await _admit(parts, passage, await _read(passage), found)


async def _read(passage: Passage) -> bytes:
    signature = passage.job.signature
    consider.refuse_size(signature.size_bytes)

    def read() -> tuple[bytes, bytes]:
        data = read_source(passage.folder.inbox, passage.job.path, signature)
        return data, hashlib.sha256(data).digest()

    data, passage.source_sha256 = await asyncio.to_thread(read)
    return data


async def _choose(parts: Parts, passage: Passage, data: bytes) -> Probe:
    passage.kind = identify(data) or ""
    found, passage.metadata = await parts.decode(consider.look, parts.decoders, passage.job, data)
    # the folder's own file may be on a share that hangs, which must not take a decoder's place
    passage.choice = await asyncio.to_thread(
        consider.choose, parts.config, passage.folder, passage.job, found
    )
    passage.wanted = await parts.decode(
        frames.find, parts.decoders, passage.folder, passage.job, data, found
    )
    return found


async def _admit(parts: Parts, passage: Passage, data: bytes, probe: Probe) -> Admitted:
    assert passage.choice is not None
    assert passage.wanted is not None
    admitted = await parts.decode(
        consider.admit,
        parts.decoders,
        passage.folder,
        data,
        probe,
        passage.choice,
        parts.account.contract,
        passage.wanted,
        passage.job.frame,
    )
    if admitted.prepared.converted and passage.metadata is not None:
        passage.metadata = replace(passage.metadata, icc=admitted.prepared.profile)
    passage.take_frames(len(passage.wanted.frames))
    passage.contract = admitted.contract
    frame = passage.wanted.frames[passage.job.frame]
    passage.source = Source(
        kind=probe.format,
        width=frame.width,
        height=frame.height,
        sent_width=admitted.fit.width,
        sent_height=admitted.fit.height,
    )
    await _hold_unless_ready(parts, passage, admitted)
    for (name, path), why in parts.tally.undelivered.items():
        if name == passage.folder.name:
            raise FolderHeldError(f"a result waits for the outbox already ({path}): {why}")
    if passage.job.frames == 1:
        facts = _name_facts(parts, passage, admitted)
        await asyncio.to_thread(deliver.refuse_conflict, passage.folder, passage.job, facts)
    hold = parts.tally.held.get(passage.folder.name)
    if hold is not None and hold.budget is None and not hold.refused:
        del parts.tally.held[passage.folder.name]
    parts.tally.held_images.pop(passage.key, None)
    return admitted


def _name_facts(parts: Parts, passage: Passage, admitted: Admitted) -> naming.NameFacts:
    assert passage.choice is not None, "chosen before it is admitted"
    return deliver.name_facts(
        passage.job,
        preset=passage.choice.preset,
        scale=admitted.fit.scale,
        width=admitted.fit.result_width,
        height=admitted.fit.result_height,
        now=parts.clock.now(),
        ext=finish.extension_of(
            passage.folder,
            passage.kind,
            width=admitted.fit.result_width,
            height=admitted.fit.result_height,
        ),
    )


async def _order(parts: Parts, passage: Passage, admitted: Admitted) -> Order:
    """Return what will be asked for, with what is known of the same work."""
    order = order_of(parts, passage, admitted)
    passage.prior = prior = await parts.ledger.prior(order.work_key)
    passage.order = replace(order, results=len(prior.results), doubts=prior.doubts)
    if passage.job.frames > 1:
        facts = _name_facts(parts, passage, admitted)
        await asyncio.to_thread(
            refuse_conflict_of_frames, passage.folder, passage.job, facts, prior.results
        )
    return passage.order


async def _hold_unless_ready(parts: Parts, passage: Passage, admitted: Admitted) -> None:
    """Hold the folder before paying for what could not be kept, or not delivered."""
    folder = passage.folder
    for root in consider.targets(folder).values():
        try:
            await parts.mounted.require(root)
        except OSError as exc:
            raise FolderHeldError(f"{root}: {exc.strerror}") from exc
    most_bytes = consider.result_bytes_max(admitted.fit) * parts.config.api.concurrency
    try:
        await deliver.make_room(parts, most_bytes + consider.SPOOL_SPARE_BYTES)
    except OSError as exc:
        raise FolderHeldError(f"the spool {parts.spool} cannot be read: {exc.strerror}") from exc
    await asyncio.to_thread(
        consider.hold_unless_ready,
        folder,
        passage.job,
        admitted.fit,
        parts.spool,
        spool_bytes=most_bytes + consider.SPOOL_SPARE_BYTES,
    )


# --- after a death -------------------------------------------------------------------------------


async def recover(parts: Parts, folders: Mapping[str, Folder]) -> None:
    """Settle what the last process left: adopt whole results, doubt the rest, put away."""
    words = "the daemon died while this request was under way"
    for one in await parts.ledger.recover(now=parts.clock.now()):
        folder = folders.get(one.job.folder)
        try:
            if folder is None:
                parts.log.warning(
                    "recover.folder_unknown", folder=one.job.folder, path=one.job.path
                )
                await settle_stranger(parts, one.job, one.attempt, words)
                continue
            passage = Passage.of(parts, folder, one.job)
            passage.attempt = one.attempt
            await failures.settle_open_attempt(
                parts,
                passage,
                one.attempt,
                words,
                resend_after_s=RESEND_AFTER_DEATH_S,
            )
        except Exception as exc:
            parts.log.error("recover.bug", folder=one.job.folder, path=one.job.path, exc_info=exc)
    await put_owed_away(parts, folders)
    with contextlib.suppress(OSError):  # it is looked at again before anything is sent
        await deliver.make_room(parts)  # the limit may be a lower one now


async def put_owed_away(
    parts: Parts, folders: Mapping[str, Folder], *, without: Collection[int] = ()
) -> None:
    """Put away the originals of jobs that ended before they could be.

    `without` are the jobs that somebody is putting away right now.
    """
    owed = await parts.ledger.owed()
    for left in parts.tally.stuck.keys() - {job.id for job in owed} - set(without):
        del parts.tally.stuck[left]  # another version came there, or nothing is
    for job in owed:
        folder = folders.get(job.folder)
        if folder is None or job.id in without:
            continue
        passage = Passage.of(parts, folder, job)
        try:
            await retire.retire(parts, passage)
        except Exception as exc:
            passage.log.error("job.bug", exc_info=exc)
