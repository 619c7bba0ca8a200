"""Everything that is known of one file: each version, its requests, what is next; or why nothing.

Rules: the ledger is only read; whether files are there is looked up, and the newest version alone
is opened.
"""

import asyncio
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from venice_watch.images.decoders import Decoders
from venice_watch.intake.look import sign_path
from venice_watch.job import SPENT, Attempt, Charge, Job, Retire, State
from venice_watch.ledger import Delivery
from venice_watch.naming import REPORT_SUFFIX
from venice_watch.views.history import ending, is_reused, paid_microusd
from venice_watch.views.located import Located, locate, roots_of, spellings
from venice_watch.views.notation import usd, when, when_or_none
from venice_watch.views.rule_now import rule_now
from venice_watch.views.unknown import reasons

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.ledger import Ledger

JOBS_MAX = 20  # versions of one file that are told
MATCHES_MAX = 1_000  # jobs looked through for them: other files may have names that end so


async def why(
    config: "Config",
    ledger: "Ledger",
    file: Path,
    *,
    cwd: Path,
    decoders: Decoders,
    running: bool,
) -> dict[str, Any]:
    """Return the facts of the file that a person means who stands in the folder `cwd`.

    Call `look.ignore_lease_breaks` before, in the main thread.
    """
    owed = {job.id for job in await ledger.owed()}
    jobs = await _find(config, ledger, file, cwd)
    told = [await _job_facts(ledger, job, running=running, owed=job.id in owed) for job in jobs]
    if told:  # the newest one alone: it is read for that
        told[0]["rule_now"] = await asyncio.to_thread(rule_now, config, jobs[0], decoders)
    newcomers = await asyncio.to_thread(_newcomers, config, jobs) if jobs else [file]
    unknown = [
        reason
        for path in newcomers
        for reason in await asyncio.to_thread(reasons, config, path, cwd=cwd, running=running)
    ]
    return {"file": str(file), "running": running, "jobs": told, "unknown": unknown}


def _newcomers(config: "Config", jobs: list[Job]) -> list[Path]:
    """Return the files in inboxes, under the names of these jobs, that are of none of them."""
    inboxes = {folder.name: folder.inbox for folder in config.folders}
    found = []
    for folder, path in dict.fromkeys((job.folder, job.path) for job in jobs):
        signature = sign_path(inboxes[folder], path) if folder in inboxes else None
        known = [job.signature for job in jobs if (job.folder, job.path) == (folder, path)]
        if signature is not None and not any(one.is_version(signature) for one in known):
            found.append(inboxes[folder] / path)
    return found


async def _find(config: "Config", ledger: "Ledger", file: Path, cwd: Path) -> list[Job]:
    """Return the jobs of the file that a person means, newest first."""
    places = locate(config, cwd / file)
    found: dict[int, Job] = {}
    for one in places:
        found |= await _find_located(ledger, one)
    if not places and not file.is_absolute():
        for place in _guess(config, file):
            found |= {job.id: job for job in await _look_up(ledger, str(file), place)}
    for place in spellings(cwd / file) if not places else ():
        found |= {job.id: job for job in await _look_up(ledger, str(place), place)}
    return sorted(found.values(), key=lambda job: -job.id)[:JOBS_MAX]


async def _find_located(ledger: "Ledger", one: Located) -> dict[int, Job]:
    """Return the jobs of a file in one of a folder's roots."""
    place, relative = one.absolute, one.relative
    jobs = await _look_up(ledger, relative, place)
    exact = {job.id: job for job in jobs if str(place) in await _places(ledger, job)}
    if not exact and relative.endswith(REPORT_SUFFIX):
        place = Path(str(place).removesuffix(REPORT_SUFFIX))
        relative = relative.removesuffix(REPORT_SUFFIX)
        jobs = await _look_up(ledger, relative, place)
        exact = {job.id: job for job in jobs if job.original_path == str(place)}
    if exact and one.role != "inbox":
        return exact
    # what lay there once, or lies there now: by its path in the inbox
    return exact | {
        job.id: job for job in jobs if job.folder == one.folder.name and job.path == relative
    }


async def _places(ledger: "Ledger", job: Job) -> list[str | None]:
    """Return where the original and the results of a job were put."""
    results = [one.path for one in await ledger.deliveries(job)] if job.frames > 1 else []
    return [job.result_path, job.original_path, *results]


def _guess(config: "Config", file: Path) -> list[Path]:
    """Return where a bare name or path may be: in any root of any folder, as far as it is there."""
    guesses = [root / file for folder in config.folders for _, root in roots_of(folder)]
    original = Path(str(file).removesuffix(REPORT_SUFFIX))
    guesses += [folder.quarantine / original for folder in config.folders]
    return [file, *(guess for guess in dict.fromkeys(guesses) if os.path.lexists(guess))]


async def _look_up(ledger: "Ledger", path: str, place: Path) -> list[Job]:
    return await ledger.find(path=path, place=str(place), limit=MATCHES_MAX)


# --- facts ---------------------------------------------------------------------------------------


async def _job_facts(ledger: "Ledger", job: Job, *, running: bool, owed: bool) -> dict[str, Any]:
    attempts = await ledger.attempts(job)
    ended = job.state in (State.COMPLETED, State.DISCARDED, State.CANCELLED)
    doubts = 0 if job.work_key is None else (await ledger.prior(job.work_key)).doubts
    return {
        "folder": job.folder,
        "path": job.path,
        "bytes": job.signature.size_bytes,
        "sha256": None if job.source_sha256 is None else job.source_sha256.hex(),
        "came_at": when(job.created_at),
        "changed_at": when(job.updated_at),
        "state": job.state,
        "ended": ending(job) if ended else None,
        "next": _next(job, running=running, owed=owed),
        "code": job.code,
        "message": job.message,
        "frame": job.frame + 1,
        "frames": job.frames,
        "preset": job.preset,
        "parameters": None if job.parameters is None else json.loads(job.parameters),
        "rule_now": None,
        "attempts": [_attempt_facts(attempt) for attempt in attempts],
        "usd": usd(paid_microusd(attempts)),
        "reused": is_reused(job, attempts),
        "doubts": doubts,
        "original": _original_facts(job),
        "result": _result_facts(job),
        "results": [_delivery_facts(one) for one in await ledger.deliveries(job)],
    }


def _attempt_facts(attempt: Attempt) -> dict[str, Any]:
    return {
        "frame": attempt.frame + 1,
        "at": when(attempt.started_at),
        "ended_at": when_or_none(attempt.ended_at),
        "status": attempt.status,
        "outcome": attempt.outcome,
        "charge": attempt.charge,
        "usd": usd(attempt.microusd) if attempt.charge in (*SPENT, Charge.RESERVED) else 0.0,
        "request_id": attempt.request_id,
        "message": attempt.message,
    }


def _original_facts(job: Job) -> dict[str, Any] | None:
    if job.original_path is None:
        return None
    return {"path": job.original_path, "there": os.path.lexists(job.original_path)}


def _result_facts(job: Job) -> dict[str, Any] | None:
    if job.state is not State.COMPLETED or job.result_path is None:
        return None
    return {
        "path": job.result_path,
        "there": os.path.lexists(job.result_path),
        "width": job.result_width,
        "height": job.result_height,
    }


def _delivery_facts(one: Delivery) -> dict[str, Any]:
    return {
        "frame": one.frame + 1,
        "path": one.path,
        "there": os.path.lexists(one.path),
        "width": one.width,
        "height": one.height,
    }


def _next(job: Job, *, running: bool, owed: bool) -> str | None:
    """Say what happens next, and when; None: nothing more."""
    if job.state is State.DISCARDED and not owed:
        if job.original_path is None or not os.path.lexists(job.original_path):
            return None
        return "it stays in the quarantine; `venice-watch retry` takes it back"
    said = _next_by_itself(job, owed=owed)
    if said is None or running:
        return said
    return f"{said}; but nothing runs now: start `venice-watch run`, or `venice-watch once`"


def _next_by_itself(job: Job, *, owed: bool) -> str | None:
    due = job.available_at > time.time()
    match job.state:
        case State.AVAILABLE if job.available_at == math.inf:
            return "it waits for another file with the same image, whose result will do for both"
        case State.AVAILABLE if due:
            return f"it is tried again at {when(job.available_at)}"
        case State.AVAILABLE:
            return "it waits for its turn"
        case State.EXECUTING:
            return "it is being worked on"
        case State.IN_DOUBT:
            at = f" at {when(job.available_at)}" if due else ""
            return f"it is sent once more{at}, because nobody can tell whether it was charged"
        case State.STAGED if job.available_at == math.inf:
            return "its result is safe in the state folder, and on its way to the outbox"
        case State.STAGED:
            at = f" at {when(job.available_at)}" if due else ""
            return f"its result is safe in the state folder, and is delivered{at}"
        case _ if owed:
            where = "quarantine" if job.retire is Retire.QUARANTINE else "archive"
            where = "out of the inbox" if job.retire is Retire.DELETE else f"into the {where}"
            return f"the original is still to be moved {where}"
        case _:
            return None
