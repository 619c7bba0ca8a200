"""`history`: what was done, newest first, with what it cost and where the results are."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.words import printable, usd, usd_text, when
from venice_watch.job import SPENT, Attempt, Charge, Job, State
from venice_watch.ledger import Delivery

if TYPE_CHECKING:
    from venice_watch.config.model import Config

LIMIT = 20
LIMIT_MAX = 100_000  # lines; more is a question for the ledger's own file


@click.command("history", short_help="Show what was done, newest first.")
@config_option
@click.option("--folder", metavar="NAME", help="Only this folder's.")
@click.option(
    "--limit",
    type=click.IntRange(1, LIMIT_MAX),
    default=LIMIT,
    show_default=True,
    help="So many at most.",
)
@json_option
def history_command(
    config_path: Path | None, folder: str | None, limit: int, *, as_json: bool
) -> None:
    """Show what was done, newest first: what it cost, where the result is, why if there is none."""
    from venice_watch.cli.options import load_config

    config = load_config(config_path)
    facts = asyncio.run(_read(config, folder, limit))
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(map(_describe, facts)) if facts else "nothing was done yet")


async def _read(config: "Config", folder: str | None, limit: int) -> list[dict[str, Any]]:
    from venice_watch.cli.state import reading, unknown_folder

    names = {one.name for one in config.folders}
    async with reading(config, "history") as ledger:
        if folder is not None and folder not in names:
            names |= set(await ledger.counts())  # one that is no longer configured has a past
            if folder not in names:
                raise unknown_folder(folder, names)
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


def job_facts(job: Job, attempts: list[Attempt], deliveries: list[Delivery]) -> dict[str, Any]:
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


def _describe(facts: dict[str, Any]) -> str:
    size = facts["result_size"]
    cost = f"{usd_text(round(facts['usd'] * 1_000_000))} USD"
    results = facts["results"]
    told = [
        facts["preset"] or "",
        f"{len(results)} of {facts['frames']} frames" if facts["frames"] > 1 else "",
        f"{size['width']}x{size['height']}" if size else "",
        f"{cost} (reused)" if facts["reused"] else cost,
    ]
    line = f"{facts['at']}  {facts['ended']:<11}  {facts['folder']}/{facts['path']}"
    line += "  " + ", ".join(one for one in told if one)
    if results:
        line += f"  -> {results[0]}" + (f" to {results[-1]}" if len(results) > 1 else "")
    elif facts["result"]:
        line += f"  -> {facts['result']}"
    if facts["message"]:
        line += f"  ({facts['message']})"
    return printable(line)
