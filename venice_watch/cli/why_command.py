"""`why FILE`: everything that is known of one file, as a story; or why nothing is."""

import asyncio
import json
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.history_command import ending, is_reused, paid_microusd
from venice_watch.cli.located import Located, locate, roots_of, spellings
from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.words import printable, usd, usd_text, when, when_or_none
from venice_watch.job import SPENT, Attempt, Charge, Job, Retire, State
from venice_watch.ledger import Delivery
from venice_watch.naming import REPORT_SUFFIX

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.ledger import Ledger

JOBS_MAX = 20  # versions of one file that are told
MATCHES_MAX = 1_000  # jobs looked through for them: other files may have names that end so
UNKNOWN = 1
_MONEY = {
    Charge.RESERVED: "reserved, under way",
    Charge.NONE: "nothing charged",
    Charge.CHARGED: "charged",
    Charge.UNKNOWN: "in doubt: may have been charged",
    Charge.LOST: "charged, and no usable result came",
}


@click.command("why", short_help="Tell everything that is known of one file.")
@config_option
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def why_command(config_path: Path | None, file: Path, *, as_json: bool) -> None:
    """Tell everything that is known of FILE, or why nothing is.

    FILE is an original, a result or a report, wherever it is now; or a path or name in an inbox.
    Exit code 1 if nothing is known of it.
    """
    from venice_watch.cli.options import load_config

    config = load_config(config_path)
    facts = asyncio.run(_read(config, file))
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_describe(facts)))
    if not facts["jobs"]:
        raise click.exceptions.Exit(UNKNOWN)


async def _read(config: "Config", file: Path) -> dict[str, Any]:
    from venice_watch.cli.state import is_running, reading
    from venice_watch.cli.why_rules import rule_now
    from venice_watch.cli.why_unknown import reasons
    from venice_watch.intake.look import ignore_lease_breaks

    ignore_lease_breaks()
    running = is_running(config)
    async with reading(config, "why") as ledger:
        owed = {job.id for job in await ledger.owed()}
        jobs = await _find(config, ledger, file)
        told = [await _job_facts(ledger, job, running=running, owed=job.id in owed) for job in jobs]
    if told:  # the newest one alone: it is read for that
        told[0]["rule_now"] = await asyncio.to_thread(rule_now, config, jobs[0])
    newcomers = await asyncio.to_thread(_newcomers, config, jobs) if jobs else [file]
    unknown = [
        reason
        for path in newcomers
        for reason in await asyncio.to_thread(reasons, config, path, running=running)
    ]
    return {"file": str(file), "running": running, "jobs": told, "unknown": unknown}


def _newcomers(config: "Config", jobs: list[Job]) -> list[Path]:
    """Return the files in inboxes, under the names of these jobs, that are of none of them."""
    from venice_watch.intake.look import sign_path

    inboxes = {folder.name: folder.inbox for folder in config.folders}
    found = []
    for folder, path in dict.fromkeys((job.folder, job.path) for job in jobs):
        signature = sign_path(inboxes[folder], path) if folder in inboxes else None
        known = [job.signature for job in jobs if (job.folder, job.path) == (folder, path)]
        if signature is not None and not any(one.is_version(signature) for one in known):
            found.append(inboxes[folder] / path)
    return found


async def _find(config: "Config", ledger: "Ledger", file: Path) -> list[Job]:
    """Return the jobs of the file that a person means, newest first."""
    places = locate(config, file)
    found: dict[int, Job] = {}
    for one in places:
        found |= await _find_located(ledger, one)
    if not places and not file.is_absolute():
        for place in _guess(config, file):
            found |= {job.id: job for job in await _look_up(ledger, str(file), place)}
    for place in spellings(file) if not places else ():
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


# --- the story -----------------------------------------------------------------------------------


def _describe(facts: dict[str, Any]) -> list[str]:
    if not facts["jobs"]:
        lines = [f"nothing is known of {facts['file']}:", *(f"  {why}" for why in facts["unknown"])]
        return [printable(line) for line in lines]
    lines = []
    if facts["unknown"]:
        lines = ["there is a version that is not known yet:"]
        lines += [printable(f"  {why}") for why in facts["unknown"]]
        lines.append("")
    for number, job in enumerate(facts["jobs"]):
        lines += [""] if number else []
        lines += [printable(line) for line in _describe_job(job)]
    if len(facts["jobs"]) == JOBS_MAX:
        lines += ["", f"the newest {JOBS_MAX} are shown"]
    return lines


def _describe_job(job: dict[str, Any]) -> list[str]:
    state = job["ended"] or job["state"].replace("_", " ")
    code = f" ({job['code']})" if job["code"] and job["code"] != state else ""
    lines = [
        f"{job['folder']}/{job['path']}: {state}{code} since {job['changed_at']}",
        f"  came      {job['came_at']}, {job['bytes']:,} bytes",
        *([f"  frame     {job['frame']} of {job['frames']}"] if job["frames"] > 1 else []),
    ]
    if job["message"]:
        lines.append(f"  because   {job['message']}")
    if job["next"]:
        lines.append(f"  next      {job['next']}")
    if job["preset"]:
        asked = ", ".join(f"{name} {value}" for name, value in (job["parameters"] or {}).items())
        lines.append(f"  preset    {job['preset']}" + (f": {asked}" if asked else ""))
    if job["rule_now"]:
        lines.append(f"  rules     {_describe_rule(job['rule_now'])}")
    lines += [f"  request   {_which(job, one)}{_describe_attempt(one)}" for one in job["attempts"]]
    if job["reused"]:
        lines.append("  request   none: the same image was paid for before, its result was reused")
    elif job["attempts"]:
        lines.append(f"  cost      {usd_text(round(job['usd'] * 1_000_000))} USD")
    if job["doubts"]:
        lines.append(f"  doubts    {job['doubts']} request(s) for this image may have been charged")
    lines += _describe_places(job)
    if job["sha256"]:
        lines.append(f"  sha256    {job['sha256']}")
    return lines


def _describe_rule(now: dict[str, Any]) -> str:
    if now["message"]:
        return f"as they are now: {now['message']}"
    which = "no rule matches" if now["rule"] is None else f"rule {now['rule']} matches"
    return f"as they are now, {which}: preset {now['preset']}"


def _which(job: dict[str, Any], attempt: dict[str, Any]) -> str:
    return f"frame {attempt['frame']}, " if job["frames"] > 1 else ""


def _describe_attempt(one: dict[str, Any]) -> str:
    status = "" if one["status"] is None else f" HTTP {one['status']},"
    outcome = (one["outcome"] or "under way").replace("_", " ")
    line = f"{one['at']}{status} {outcome}, {_MONEY[Charge(one['charge'])]}"
    if one["usd"]:
        line += f" {usd_text(round(one['usd'] * 1_000_000))} USD"
    if one["request_id"]:
        line += f", request id {one['request_id']}"
    return line + (f": {one['message']}" if one["message"] else "")


def _describe_places(job: dict[str, Any]) -> list[str]:
    results = job["results"] or [job["result"]]
    lines = []
    for name, place in (*(("result", one) for one in results), ("original", job["original"])):
        if place is not None:
            size = f" {place['width']}x{place['height']}" if place.get("width") else ""
            there = "" if place["there"] else " (no longer there)"
            lines.append(f"  {name:<9} {place['path']}{size}{there}")
    return lines
