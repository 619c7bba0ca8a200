"""From the spool to the outbox: nothing here is ever paid for.

Every step may be done again after a crash and finds what was done before.
"""

import asyncio
import shutil
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from venice_watch import naming
from venice_watch.config.model import Folder, Originals
from venice_watch.config.output import OnConflict
from venice_watch.errors import VeniceWatchError
from venice_watch.files import place
from venice_watch.files.spool import drop_spooled
from venice_watch.images.png import BrokenPngError, verify_file
from venice_watch.job import Job, Retire, State
from venice_watch.ledger import NameReservedError
from venice_watch.pipeline.consider import SkippedError
from venice_watch.pipeline.finish import Finished, finish
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.pipeline.retire import retire

NAMES_MAX = 100_000  # numbered names tried before giving up: a folder full of one name


class DeliveryError(VeniceWatchError):
    """A paid result could not be put into the outbox: it stays in the spool, staged."""


class ResultLostError(VeniceWatchError):
    """A paid result vanished from the spool: nothing can be delivered any more."""


RETIRE = {
    Originals.ARCHIVE: Retire.ARCHIVE,
    Originals.DELETE: Retire.DELETE,
    Originals.KEEP: Retire.KEEP,
}


def name_facts(
    job: Job, *, preset: str, scale: float, width: int, height: int, now: float, ext: str
) -> naming.NameFacts:
    """Return what an output name may speak of; `counter` is set while names are tried."""
    stem, extension = split_name(job.path)
    return naming.NameFacts(
        stem=stem,
        scale=scale,
        preset=preset,
        width=width,
        height=height,
        date=datetime.fromtimestamp(now).astimezone().strftime("%Y-%m-%d"),
        counter=1,
        frame=job.frame + 1,
        frames=job.frames,
        source_ext=extension,
        ext=ext,
    )


def split_name(path: str) -> tuple[str, str]:
    """Return a file name's stem and its ending without the dot."""
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return (stem, extension) if dot and stem else (name, "")


def result_path(folder: Folder, job: Job, name: str) -> Path:
    """Return where a result of this name belongs: the inbox's sub-folders are mirrored."""
    return folder.outbox / job.path.rpartition("/")[0] / name


def result_name(folder: Folder, facts: naming.NameFacts, number: int) -> str:
    """Return the n-th name to try for a result; `{counter}` counts where the template has it."""
    template = folder.output.name
    if "{counter" in template:
        return naming.render(template, replace(facts, counter=number + 1))
    name = naming.render(template, facts)
    return naming.numbered(name, number) if number else name


def refuse_conflict(folder: Folder, job: Job, facts: naming.NameFacts) -> None:
    """Find out for free that a result would not be wanted, with `on_conflict: skip`; blocks.

    Raises SkippedError.
    """
    if folder.output.on_conflict is OnConflict.SKIP:
        path = result_path(folder, job, result_name(folder, facts, 0))
        if is_taken(path):
            raise SkippedError(f"{path} is there already, and `on_conflict` is `skip`")


def is_taken(path: Path) -> bool:
    """Tell whether anything stands under a name, a broken link included."""
    return path.exists() or path.is_symlink()


async def deliver(parts: Parts, passage: Passage, *, resumed: bool) -> None:
    """Put a staged result into the outbox; after the last one the original where it belongs.

    `resumed`: it may have been published before a crash. Raises DeliveryError.
    """
    assert passage.job.spool_name is not None
    spooled = parts.spool / passage.job.spool_name
    if resumed:
        await _check_spooled(spooled)
    try:
        await parts.mounted.require(passage.folder.outbox)
        finished = await _publish(parts, passage, spooled, resumed=resumed)
    except OSError as exc:
        if not await asyncio.to_thread(spooled.exists):
            raise ResultLostError(f"the paid result {spooled} is gone from the spool") from exc
        where = exc.filename or passage.folder.outbox
        raise DeliveryError(f"{where}: {exc.strerror or exc}") from exc
    done, now = passage.job, parts.clock.now()
    delivered = finished.delivered_as(done.result_path or "")
    if done.has_next_frame:
        passage.job = await parts.ledger.advance(done, delivered=delivered, now=now)
    else:
        retire_as = RETIRE[passage.folder.originals]
        passage.job = await parts.ledger.complete(
            done, retire=retire_as, delivered=delivered, now=now
        )
        parts.tally.completed += 1
    parts.tally.results += 1
    parts.tally.settle(*passage.key)
    passage.log.info(
        "image.completed",
        result=done.result_path,
        size=f"{done.result_width}x{done.result_height}",
        preset=done.preset,
        seconds=round(parts.clock.now() - done.created_at, 2),
    )
    if passage.job.state is State.COMPLETED:
        await retire(parts, passage)
    try:
        await make_room(parts)
    except OSError as exc:
        parts.log.warning("spool.unreadable", spool=str(parts.spool), error=exc.strerror)


async def _check_spooled(spooled: Path) -> None:
    """Make sure after a crash that the disk has what was written to it.

    Raises ResultLostError; an OSError is nobody's last word and left to the delivery.
    """
    try:
        await asyncio.to_thread(verify_file, spooled)
    except BrokenPngError as exc:
        raise ResultLostError(f"the paid result {spooled} was damaged on the disk: {exc}") from exc
    except OSError:
        return


async def make_room(parts: Parts, wanted_bytes: int = 0) -> None:
    """Give up kept results beyond the configuration's limit, and for `wanted_bytes` of free disk.

    What cannot be removed now is removed at the next start.
    """
    async with parts.spool_lock:
        usage = await asyncio.to_thread(shutil.disk_usage, parts.spool)
        names = await parts.ledger.trim(
            kept_bytes_max=parts.config.keep_results,
            missing_bytes=max(0, wanted_bytes - usage.free),
            pinned=+parts.pinned,
        )
        for name in names:
            try:
                await asyncio.to_thread(drop_spooled, parts.spool, name)
            except OSError as exc:
                parts.log.warning("spool.leftover", file=name, error=exc.strerror)


async def _publish(parts: Parts, passage: Passage, spooled: Path, *, resumed: bool) -> Finished:
    """Let the finished result appear under its reserved name, or the next free one."""
    output = passage.folder.output
    # before the work of finishing: an outbox in trouble is tried again and again
    await asyncio.to_thread(place.make_folders, passage.folder.outbox, passage.folder.outbox)
    finished = await finish(parts, passage, spooled)
    taken: set[str] = set()
    while True:
        path = passage.job.result_path
        # there is none where it could not be found when the result was staged, and another one
        # where the format turned out to be, or was made, another
        if path is None or path in taken or not path.endswith(f".{finished.extension}"):
            path = await _reserve_name(parts, passage, taken, finished.extension)
        try:
            await asyncio.to_thread(
                place.publish,
                spooled,
                Path(path),
                finished.pieces,
                root=passage.folder.outbox,
                mode=output.mode,
                mtime_ns=passage.job.signature.mtime_ns if output.keeps_times else None,
                overwrite=output.on_conflict is OnConflict.OVERWRITE,
            )
        except place.NameTakenError:
            # a name reserved by this job, with these bytes: published before a crash, or as a frame
            # by an earlier job of the file, which could not be finished
            if (resumed or passage.job.frames > 1) and await asyncio.to_thread(
                place.is_published, spooled, Path(path), finished.pieces
            ):
                return finished
            taken.add(path)
        else:
            return finished


async def _reserve_name(parts: Parts, passage: Passage, taken: set[str], ext: str) -> str:
    """Reserve the first free name that is not in `taken` for a staged result."""
    job = passage.job
    assert job.result_width is not None, "known since it was staged"
    assert job.result_height is not None, "known since it was staged"
    facts = name_facts(
        job,
        preset=job.preset or passage.folder.preset,
        scale=job.result_scale or 1.0,
        width=job.result_width,
        height=job.result_height,
        now=parts.clock.now(),
        ext=ext,
    )
    while True:
        path = await asyncio.to_thread(find_name, passage.folder, job, facts, taken)
        if path is None:
            raise DeliveryError(f"{passage.folder.outbox}: no free name for {job.path}")
        try:
            passage.job = await parts.ledger.rename_result(job, path, now=parts.clock.now())
        except NameReservedError:
            taken.add(path)
        else:
            return path


def find_name(
    folder: Folder, job: Job, facts: naming.NameFacts, taken: Collection[str]
) -> str | None:
    """Return the first name that is free on disk and not in `taken`, or None; blocks.

    A frame's very first name is tried all the same: its result may lie there already.
    """
    overwrite = folder.output.on_conflict is OnConflict.OVERWRITE
    for number in range(NAMES_MAX):
        path = result_path(folder, job, result_name(folder, facts, number))
        tried = overwrite or (number == 0 and job.frames > 1)
        if str(path) not in taken and (tried or not is_taken(path)):
            return str(path)
    return None
