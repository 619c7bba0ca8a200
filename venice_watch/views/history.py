"""What was done, newest first: how each image ended, what it cost, where its result is."""

from typing import TYPE_CHECKING, Any

from venice_watch.job import SPENT, Attempt, Charge, Job, State
from venice_watch.views.folders import UnknownFolderError
from venice_watch.views.notation import usd, when

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.ledger import Delivery, Ledger

LIMIT = 20  # unless somebody asks for another
LIMIT_MAX = 100_000  # images; more is a question for the ledger's own file


async def history(
    config: "Config", ledger: "Ledger", *, folder: str | None = None, limit: int = LIMIT
) -> list[dict[str, Any]]:
    """Return the facts of what has ended, newest first. Raises UnknownFolderError."""
    names = {one.name for one in config.folders}
    if folder is not None and folder not in names:
        names |= set(await ledger.counts())  # one that is no longer configured has a past
        if folder not in names:
            raise UnknownFolderError(folder, names)
    jobs = await ledger.recent(limit=limit, folder=folder, ended=True)
    return [
        job_facts(job, await ledger.attempts(job), await ledger.deliveries(job)) for job in jobs
    ]


def ending(job: Job) -> str:
    """Return how a job ended, in a word."""
    match job.state:
        case State.COMPLETED:
            return "upscaled"
        case State.DISCARDED:
            return "quarantined"
        case State.CANCELLED:
            return job.code or "cancelled"  # skipped, gone, changed
        case _:
            return job.state.value


def paid_microusd(attempts: list[Attempt]) -> int:
    """Return what requests cost, in doubt included."""
    return sum(attempt.microusd for attempt in attempts if attempt.charge in SPENT)


def is_reused(job: Job, attempts: list[Attempt]) -> bool:
    """Tell whether a result was delivered that an earlier image had paid for."""
    has_result = job.state in (State.COMPLETED, State.STAGED) and job.spool_name is not None
    return has_result and not any(attempt.charge is Charge.CHARGED for attempt in attempts)


def job_facts(job: Job, attempts: list[Attempt], deliveries: "list[Delivery]") -> dict[str, Any]:
    """Return what `--json` says of one job."""
    size = None
    if job.result_width is not None and job.result_height is not None:
        size = {"width": job.result_width, "height": job.result_height}
    return {
        "at": when(job.updated_at),
        "ended": ending(job),
        "folder": job.folder,
        "path": job.path,
        "preset": job.preset,
        "result": job.result_path if job.state is State.COMPLETED else None,
        "result_size": size,
        "frames": job.frames,
        "results": [one.path for one in deliveries],
        "usd": usd(paid_microusd(attempts)),
        "reused": is_reused(job, attempts),
        "original": job.original_path,
        "code": job.code,
        "message": job.message,
    }
