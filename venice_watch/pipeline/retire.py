"""Out of the inbox: what becomes of an original once its image has ended, and of its report.

Every step may be done again after a crash and finds what was done before.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from venice_watch import __version__, naming
from venice_watch.config.model import Folder
from venice_watch.errors import Code, VeniceWatchError
from venice_watch.files import originals
from venice_watch.files.source import (
    SourceChangedError,
    SourceGoneError,
    UnsafeSourceError,
    check_version,
    find_retouched,
)
from venice_watch.intake.look import is_written
from venice_watch.intake.tracker import Tracker
from venice_watch.job import SPENT, Attempt, Job, Retire, Signature
from venice_watch.ledger import StaleError
from venice_watch.pipeline.passage import Parts, Passage

QUARANTINED_NAME_BYTES_MAX = naming.NAME_BYTES_MAX - len("-99999" + naming.REPORT_SUFFIX)


class NoArchiveError(VeniceWatchError):
    """An original is owed to an archive that is no longer configured."""


class StillWrittenError(VeniceWatchError):
    """A program has the original open for writing: what it writes must not go with it."""


async def retire(parts: Parts, passage: Passage) -> None:
    """Put the original of an ended job away; what cannot be done now is owed."""
    job, folder = passage.job, passage.folder
    tracker = parts.trackers[folder.name]
    report = None
    if job.retire is Retire.QUARANTINE:
        report = report_for(job, await parts.ledger.attempts(job))
    try:
        for root in _targets_of(folder, job):
            await parts.mounted.require(root)
        if job.retire is Retire.KEEP:
            job = await _follow_kept(tracker, folder, job)
        where = await asyncio.to_thread(_put_away_retouched, folder, job, report)
        original_path = None if where is None else str(where)
        await parts.ledger.retired(job, original_path=original_path, now=parts.clock.now())
    except StaleError as exc:
        passage.log.warning("job.moved_on", error=str(exc))
    except (SourceGoneError, SourceChangedError, UnsafeSourceError) as exc:
        await _conclude(parts, passage, tracker, str(exc))
    except (OSError, VeniceWatchError) as exc:
        _keep_owed(parts, passage, str(exc))
    else:
        parts.tally.stuck.pop(job.id, None)
        if job.retire is not Retire.KEEP:
            tracker.left(job.path)


async def _conclude(parts: Parts, passage: Passage, tracker: Tracker, reason: str) -> None:
    """End an original's way where it is not there, unless its inbox is not there either."""
    job, tally = passage.job, parts.tally
    if await tracker.root.look() is None:
        _keep_owed(parts, passage, f"the inbox is away: {tracker.root.trouble}")
        return
    tally.stuck.pop(job.id, None)
    if tracker.is_hidden(job.path):
        # no trouble: the folder that was there may never come back, and that is nobody's loss
        if job.id not in tally.hidden:
            passage.log.info("original.hidden", reason="another folder stands at the inbox")
        tally.hidden.add(job.id)
        return
    passage.log.warning("original.not_there", reason=reason)
    nothing = replace(job, retire=Retire.NONE)
    await parts.ledger.retired(nothing, original_path=None, now=parts.clock.now())
    tracker.look_again(job.path)


def _keep_owed(parts: Parts, passage: Passage, why: str) -> None:
    if parts.tally.stuck.get(passage.job.id) != why:
        passage.log.error("original.stuck", error=why, next="tried again by itself")
    parts.tally.stuck[passage.job.id] = why


def _targets_of(folder: Folder, job: Job) -> list[Path]:
    """Return where the original is to be put, if it is to move."""
    root = {Retire.ARCHIVE: folder.archive, Retire.QUARANTINE: folder.quarantine}.get(
        job.retire or Retire.NONE
    )
    return [] if root is None else [root]


async def _follow_kept(tracker: Tracker, folder: Folder, job: Job) -> Job:
    """Know an original that stays by the time that somebody has set since it was read."""
    found = await asyncio.to_thread(_find_kept, folder, job)
    if found is None:
        return job
    tracker.stays(job.path, found)
    return replace(job, signature=found)


def _find_kept(folder: Folder, job: Job) -> Signature | None:
    """Return the version of an original that stays, if only its time was set since; blocks."""
    with contextlib.suppress(OSError, VeniceWatchError):  # away, gone: the next scan tells
        try:
            check_version(folder.inbox, job.path, job.signature)
        except SourceChangedError:
            return _find_retouched(folder, job)
    return None


def _find_retouched(folder: Folder, job: Job) -> Signature | None:
    if job.source_sha256 is None:
        return None
    return find_retouched(folder.inbox, job.path, job.signature, job.source_sha256)


def _put_away_retouched(
    folder: Folder, job: Job, report: Mapping[str, object] | None
) -> Path | None:
    """Put the original away, also where somebody has set its time since it was read; blocks."""
    if job.retire is not Retire.KEEP and is_written(folder.inbox, job.path):
        raise StillWrittenError(
            f"a program has {job.path} open for writing; it stays until that has closed it"
        )
    try:
        return put_original_away(folder, job, report)
    except SourceChangedError:
        found = _find_retouched(folder, job)
        if found is None:
            raise
    return put_original_away(folder, replace(job, signature=found), report)


def put_original_away(folder: Folder, job: Job, report: Mapping[str, object] | None) -> Path | None:
    """Do with the original what its job's end asks for; return where it is now. Blocks.

    Raises SourceGoneError, SourceChangedError, or OSError where the target is in trouble.
    """
    parent, _, name = job.path.rpartition("/")
    if job.retire is Retire.QUARANTINE:
        name = naming.shortened(name, QUARANTINED_NAME_BYTES_MAX)

    def name_for(number: int) -> str:
        numbered = naming.numbered(name, number) if number else name
        return f"{parent}/{numbered}" if parent else numbered

    match job.retire:
        case Retire.ARCHIVE:
            if folder.archive is None:
                raise NoArchiveError(
                    f"{job.path} was done when originals went to an archive, and folder "
                    f"{folder.name!r} has none any more. It stays in the inbox; name an archive "
                    "to have it moved, or move it yourself."
                )
            return originals.put_away(
                folder.inbox,
                job.path,
                job.signature,
                target_root=folder.archive,
                name_for=name_for,
            )
        case Retire.QUARANTINE:
            return originals.put_away(
                folder.inbox,
                job.path,
                job.signature,
                target_root=folder.quarantine,
                name_for=name_for,
                report=report,
            )
        case Retire.DELETE:
            originals.delete_original(folder.inbox, job.path, job.signature)
            return None
        case _:
            return None


def report_for(job: Job, attempts: Sequence[Attempt]) -> dict[str, object]:
    """Return the report that lies beside a quarantined file."""
    spent = sum(attempt.microusd for attempt in attempts if attempt.charge in SPENT)
    return {
        "code": job.code,
        "message": job.message,
        "source": job.path,
        "folder": job.folder,
        "preset": job.preset,
        "parameters": None if job.parameters is None else json.loads(job.parameters),
        "attempts": [
            {
                "at": _time_text(attempt.started_at),
                "status": attempt.status,
                "outcome": attempt.outcome,
                "charge": attempt.charge,
                "message": attempt.message,
                "request_id": attempt.request_id,
            }
            for attempt in attempts
        ],
        "charged_usd": spent / 1_000_000,
        "at": _time_text(job.updated_at),
        "version": __version__,
        "job": f"{job.id}-{round(job.created_at * 1e6)}",  # tells two ledgers' jobs apart
    }


def _time_text(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")


def is_taken_back(job: Job, earlier: Job) -> bool:
    """Tell whether a file may be the one that was quarantined: moved, or copied with its time."""
    now, then = job.signature, earlier.signature
    return (now.size_bytes, now.mtime_ns) == (then.size_bytes, then.mtime_ns)


async def remove_answered_reports(parts: Parts, passage: Passage) -> None:
    """Remove the reports of files that somebody took back from the quarantine."""
    assert passage.source_sha256 is not None, "read before"
    for earlier in await parts.ledger.quarantined(passage.source_sha256):
        assert earlier.original_path is not None
        original = Path(earlier.original_path)
        folder = parts.folder_named(earlier.folder)
        # a quarantine that is not mounted, or no longer known, tells nothing about what is in it
        if folder is None or await _is_away(parts, folder.quarantine):
            continue
        if earlier.code == Code.IN_DOUBT and not is_taken_back(passage.job, earlier):
            continue  # deleted, or renamed: nobody's word that it may be paid for again
        if not await asyncio.to_thread(os.path.lexists, original):
            await asyncio.to_thread(originals.remove_report, original)
            with contextlib.suppress(StaleError):  # another copy of it saw the same
                await parts.ledger.left_quarantine(
                    earlier, back_at=passage.job.created_at, now=parts.clock.now()
                )


async def _is_away(parts: Parts, root: Path) -> bool:
    try:
        await parts.mounted.require(root)
    except OSError:
        return True
    return not await asyncio.to_thread(root.is_dir)
