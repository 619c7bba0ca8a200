"""From the spool to the outbox, and the original out of the inbox: nothing here is ever paid for.

Every step may be done again after a crash and finds what was done before.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from venice_watch import __version__, naming
from venice_watch.clock import Clock
from venice_watch.config.model import Folder, OnConflict, Originals
from venice_watch.errors import VeniceWatchError
from venice_watch.files import originals, place
from venice_watch.job import Attempt, Charge, Job, Retire
from venice_watch.ledger import Ledger, NameReservedError

NAMES_MAX = 100_000  # numbered names tried before giving up: a folder full of one name


class DeliveryError(VeniceWatchError):
    """A paid result could not be put into the outbox: it stays in the spool, staged."""

    def __init__(self, job: Job, why: str) -> None:
        super().__init__(why)
        self.job = job


RETIRE = {
    Originals.ARCHIVE: Retire.ARCHIVE,
    Originals.DELETE: Retire.DELETE,
    Originals.KEEP: Retire.KEEP,
}


def name_facts(
    job: Job, *, preset: str, scale: float, width: int, height: int, now: float
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
        source_ext=extension,
        ext="png",
    )


def split_name(path: str) -> tuple[str, str]:
    """Return a file name's stem and its ending without the dot."""
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return (stem, extension) if dot and stem else (name, "")


def result_path(folder: Folder, job: Job, name: str) -> Path:
    """Return where a result of this name belongs: the inbox's sub-folders are mirrored."""
    return folder.outbox / job.path.rpartition("/")[0] / name


def report_for(
    job: Job, attempts: Sequence[Attempt], *, code: str, message: str, now: float
) -> dict[str, object]:
    """Return the report that lies beside a quarantined file."""
    spent = sum(
        attempt.microusd
        for attempt in attempts
        if attempt.charge in (Charge.CHARGED, Charge.UNKNOWN, Charge.LOST)
    )
    return {
        "code": code,
        "message": message,
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
        "at": _time_text(now),
        "version": __version__,
        "job": job.id,
    }


def _time_text(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")


def publish(folder: Folder, job: Job, spooled: Path) -> None:
    """Put the staged result into the outbox under its reserved name; blocks.

    Raises NameTakenError, or OSError where the outbox is in trouble.
    """
    assert job.result_path is not None
    place.publish(
        spooled,
        Path(job.result_path),
        root=folder.outbox,
        mode=folder.output.mode,
        overwrite=folder.output.on_conflict is OnConflict.OVERWRITE,
    )


async def reserve_next_name(ledger: Ledger, job: Job, clock: Clock) -> Job:
    """Reserve the next free numbered name for a staged result whose name is taken."""
    assert job.result_path is not None
    first = Path(job.result_path)
    for number in range(1, NAMES_MAX):
        candidate = first.with_name(naming.numbered(first.name, number))
        if candidate.exists() or candidate.is_symlink():
            continue
        try:
            return await ledger.rename_result(job, str(candidate), now=clock.now())
        except NameReservedError:
            continue
    raise DeliveryError(job, f"{first.parent}: no free name for {first.name}")


def put_original_away(
    folder: Folder, job: Job, report: Callable[[], dict[str, object]]
) -> Path | None:
    """Do with the original what its job's end asks for; return where it is now. Blocks.

    Raises SourceGoneError, SourceChangedError, or OSError where the target is in trouble.
    """
    parent, _, name = job.path.rpartition("/")

    def name_for(number: int) -> str:
        numbered = naming.numbered(name, number) if number else name
        return f"{parent}/{numbered}" if parent else numbered

    match job.retire:
        case Retire.ARCHIVE:
            assert folder.archive is not None, "checked with the configuration"
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
                report=report(),
            )
        case Retire.DELETE:
            originals.delete_original(folder.inbox, job.path, job.signature)
            return None
        case _:
            return None
