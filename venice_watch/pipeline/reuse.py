"""The same work again: answered from the earlier result, free, or not begun at all.

Identity is that of paid work: the very bytes that would be sent, the parameters, the contract.
`plan` asks the same deciders.
"""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from venice_watch.config.model import Duplicates, Folder, OnInDoubt
from venice_watch.errors import Code, ImageRefusedError
from venice_watch.files.spool import has_result, restore
from venice_watch.job import Job
from venice_watch.ledger import Earlier, Order, Prior, UnderWayError
from venice_watch.naming import NameFacts
from venice_watch.pipeline import deliver
from venice_watch.pipeline.consider import FolderHeldError, HeldError, SkippedError
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.pipeline.stage import stage
from venice_watch.retry import DOUBTS_MAX


async def reuse(parts: Parts, passage: Passage, order: Order) -> bool:
    """Stage the result of earlier work if there is one; False: it has to be paid for.

    Raises SkippedError, HeldError or UnderWayError, or ImageRefusedError where doubt forbids
    another request.
    """
    prior = passage.prior
    assert prior is not None, "asked for with the order"
    duplicates = await _duplicates(parts, passage, order)
    if prior.results:
        refuse_duplicate(duplicates)
    if duplicates is Duplicates.REUSE and await _stage_any(parts, passage, order, prior):
        return True
    refuse_another_doubt(parts.config.api.on_in_doubt, prior.doubts)
    if prior.under_way and order.alone:
        raise UnderWayError("the same image is on its way")
    if prior.results and duplicates is Duplicates.REUSE:
        passage.log.warning(
            "image.paid_again",
            reason="its earlier result is neither in the state folder nor where it was delivered",
        )
    return False


async def _duplicates(parts: Parts, passage: Passage, order: Order) -> Duplicates:
    """Return what to do if the work was done before.

    `skip` leaves files alone, not frames: one that repeats an earlier frame, or that was done
    before its file failed, must not keep the rest of the file from being done.
    """
    job, duplicates = passage.job, passage.folder.duplicates
    if duplicates is not Duplicates.SKIP or job.frames == 1:
        return duplicates
    if job.frame == 0 and await parts.ledger.is_finished(order.source_sha256, order.work_key):
        return Duplicates.SKIP
    return Duplicates.REUSE


def refuse_conflict_of_frames(
    folder: Folder, job: Job, facts: NameFacts, earlier: Sequence[Earlier]
) -> None:
    """Find out for free that a file's results would not be wanted, by its first frame; blocks.

    What lies under that name may be the frame's own, from before its file failed: then it goes on.
    Raises SkippedError.
    """
    path = deliver.result_path(folder, job, deliver.result_name(folder, facts, 0))
    if job.frame == 0 and not any(is_at(path, one) for one in earlier):
        deliver.refuse_conflict(folder, job, facts)


def refuse_duplicate(duplicates: Duplicates) -> None:
    """Leave work alone that was done before, where the folder says so. Raises SkippedError."""
    if duplicates is Duplicates.SKIP:
        raise SkippedError(
            "the same image was upscaled before with these parameters, and `duplicates` is `skip`"
        )


def refuse_another_doubt(on_in_doubt: OnInDoubt, doubts: int) -> None:
    """Refuse work that was in doubt as often as may be, whichever file it came from.

    Raises ImageRefusedError.
    """
    if doubts > (DOUBTS_MAX if on_in_doubt is OnInDoubt.RESEND_ONCE else 0):
        times = "once" if doubts == 1 else f"{doubts} times"
        raise ImageRefusedError(
            Code.IN_DOUBT,
            f"the same image was in doubt {times} already: it may have been charged, and no "
            "result came. It is not sent again by itself. Check your Venice bill, then take one of "
            "its files back (`venice-watch retry`) to send it once more.",
        )


async def _stage_any(parts: Parts, passage: Passage, order: Order, prior: Prior) -> bool:
    """Stage the first earlier result that can be had, looking again as long as they move."""
    while True:
        for earlier in prior.results:
            if await _stage_earlier(parts, passage, order, earlier):
                return True
        # it may have been given up in the spool just when it was delivered
        fresh = await parts.ledger.prior(order.work_key)
        if fresh.results == prior.results:
            return False
        prior = fresh


async def _stage_earlier(parts: Parts, passage: Passage, order: Order, earlier: Earlier) -> bool:
    """Stage an earlier result whose very bytes can still be had."""
    name = earlier.result.spool_name
    async with _pinned(parts, name):
        place = await _find(parts, earlier)
        if place is None:
            return False
        if place.parent != parts.spool:
            try:
                found = await asyncio.to_thread(
                    restore, parts.spool, name, place, sha256=earlier.result.sha256
                )
            except OSError as exc:
                raise FolderHeldError(
                    f"an earlier result of the same image cannot be copied from {place} to the "
                    f"spool {parts.spool}: {exc.strerror}. Make room, or mend the disk."
                ) from exc
            if not found:
                return False
        await stage(
            parts,
            passage,
            earlier.result,
            preset=order.preset,
            write_down=lambda result: parts.ledger.reuse(
                passage.job, order, result, now=parts.clock.now()
            ),
        )
    parts.tally.reused += 1
    passage.log.info("image.reused", result_of=name)
    return True


@contextlib.asynccontextmanager
async def _pinned(parts: Parts, name: str) -> AsyncIterator[None]:
    """Keep a result in the spool from being given up, as far as it is there."""
    async with parts.spool_lock:  # whoever gives it up just now has done so
        parts.pinned[name] += 1
    try:
        yield
    finally:
        parts.pinned[name] -= 1


async def _find(parts: Parts, earlier: Earlier) -> Path | None:
    """Return where the bytes of an earlier result are, or None if they are nowhere.

    Raises HeldError where that cannot be told: a share that is away may have them.
    """
    away: HeldError | None = None
    for place in places_of(parts.spool, earlier):
        try:
            for folder in parts.config.folders:
                if place.is_relative_to(folder.outbox):
                    await _require(parts, folder.outbox)
            if await asyncio.to_thread(is_at, place, earlier):
                return place
        except OSError as exc:
            away = HeldError(
                f"the same image was upscaled before, and its result at {place} cannot be read: "
                f"{exc.strerror}. Mend that, or remove the result to have it paid for again."
            )
    if away is not None:
        raise away
    return None


async def _require(parts: Parts, outbox: Path) -> None:
    """Raise OSError where an outbox is away, and tells nothing of what is in it."""
    await parts.mounted.require(outbox)
    if not await asyncio.to_thread(outbox.is_dir):
        raise FileNotFoundError(errno.ENOENT, "the folder is not there", str(outbox))


def places_of(spool: Path, earlier: Earlier) -> list[Path]:
    """Return where the bytes of an earlier result may be, the likeliest first."""
    kept = [spool / earlier.result.spool_name] if earlier.kept else []
    return [*kept, *map(Path, earlier.delivered)]


def is_at(place: Path, earlier: Earlier) -> bool:
    """Tell whether the bytes of an earlier result are at a place; blocks. Raises OSError."""
    result = earlier.result
    return has_result(place, sha256=result.sha256, size_bytes=result.size_bytes)
