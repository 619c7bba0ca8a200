"""`status`: how things stand, read from the ledger without disturbing who writes it."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.state import reading, standings
from venice_watch.cli.words import printable, usd, usd_text, when, when_or_none

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.job import Job

RECENT = 5  # jobs shown


@click.command("status", short_help="Show what waits, is done, what it cost, what is wrong.")
@config_option
@json_option
def status_command(config_path: Path | None, *, as_json: bool) -> None:
    """Show what waits, what is under way, what is done, what it cost, and what is wrong."""
    from venice_watch.cli.options import load_config

    config = load_config(config_path)
    facts = asyncio.run(_read(config))
    click.echo(json.dumps(facts, indent=2) if as_json else _describe(facts))


async def _read(config: "Config") -> dict[str, Any]:
    from venice_watch.ledger import FolderCounts
    from venice_watch.service.lock import holder_of

    async with reading(config, "status") as ledger:
        counts = await ledger.counts()
        recent = await ledger.recent(limit=RECENT)
        budgets = await standings(config, ledger)
    holder = holder_of(config.state_dir)
    live = {} if holder is None else _ask_daemon(config)
    return {
        "running": None
        if holder is None
        else {"pid": holder.pid, "since": holder.since, "command": holder.command},
        "troubles": live.get("troubles", []),
        "halted": live.get("halted"),
        "requests_per_minute": live.get("requests_per_minute"),
        "paused_s": live.get("paused_s"),
        "contract": live.get("contract"),
        "balances": live.get("balances"),
        "folders": [
            _folder_facts(folder.name, counts.get(folder.name, FolderCounts()))
            | {"left_alone": live.get("left_alone", {}).get(folder.name)}
            for folder in config.folders
        ],
        "budgets": [standing.facts() for standing in budgets],
        "spent_usd": usd(sum(count.spent_microusd for count in counts.values())),
        "recent": [_job_facts(job) for job in recent],
    }


def _job_facts(job: "Job") -> dict[str, Any]:
    return {
        "folder": job.folder,
        "path": job.path,
        "state": job.state,
        "frame": job.frame + 1,
        "frames": job.frames,
        "code": job.code,
        "message": job.message,
        "at": when(job.updated_at),
    }


def _ask_daemon(config: "Config") -> dict[str, Any]:
    """Return what only the running process knows; one that does not answer is a trouble."""
    from venice_watch.service.control import NobodyAnswersError, ask

    try:
        return ask(config.state_dir, {"verb": "status"})
    except NobodyAnswersError as exc:
        return {"troubles": [{"subject": "daemon", "why": str(exc)}]}


def _folder_facts(name: str, counts: Any) -> dict[str, Any]:  # noqa: ANN401 - keeps the import lazy
    oldest = counts.oldest_waiting_at
    return {
        "name": name,
        "waiting": counts.available,
        "in_flight": counts.executing,
        "in_doubt": counts.in_doubt,
        "staged": counts.staged,
        "completed": counts.completed,
        "quarantined": counts.quarantined,
        "cancelled": counts.cancelled,
        "oldest_waiting": when_or_none(oldest),
        "spent_usd": usd(counts.spent_microusd),
    }


def _describe(facts: dict[str, Any]) -> str:
    running = facts["running"]
    lines = [
        "nothing is running: start it with `venice-watch run`"
        if running is None
        else f"running since {running['since']} (process {running['pid']}, {running['command']})",
        "",
    ]
    for trouble in facts["troubles"]:
        lines.insert(-1, printable(f"  ! {trouble['subject']}: {trouble['why']}"))
    width = max((len(folder["name"]) for folder in facts["folders"]), default=6)
    lines.append(
        f"{'folder':<{width}}  waiting  in flight  in doubt  to deliver  done  quarantined      USD"
    )
    lines += [
        f"{folder['name']:<{width}}  {folder['waiting']:>7}  {folder['in_flight']:>9}  "
        f"{folder['in_doubt']:>8}  {folder['staged']:>10}  {folder['completed']:>4}  "
        f"{folder['quarantined']:>11}  {folder['spent_usd']:>7.2f}"
        for folder in facts["folders"]
    ]
    lines += filter(None, map(_describe_left_alone, facts["folders"]))
    if facts["contract"] is not None or facts["balances"]:
        lines += ["", _describe_account(facts)]
    if facts["budgets"]:
        lines += ["", "budgets:"]
    for budget in facts["budgets"]:
        whose = "all folders" if budget["folder"] is None else f"folder {budget['folder']}"
        lines.append(
            f"  {whose}, {budget['days']}: {_amount(budget['spent_usd'])} of "
            f"{_amount(budget['limit_usd'])} USD spent or under way, "
            f"{_amount(budget['left_usd'])} left"
        )
    if facts["recent"]:
        lines += ["", "last:"]
    for job in facts["recent"]:
        why = f": {job['message']}" if job["message"] else ""
        frame = f", frame {job['frame']} of {job['frames']}" if job["frames"] > 1 else ""
        line = f"  {job['at']}  {job['state']:<10} {job['folder']}/{job['path']}{frame}{why}"
        lines.append(printable(line))
    return "\n".join(lines)


def _describe_left_alone(folder: dict[str, Any]) -> str | None:
    """Say what lies in an inbox and is not touched."""
    left = folder["left_alone"] or {"names": {}, "no_images": 0}
    parts = [f"{count:,} {reason}" for reason, count in sorted(left["names"].items())]
    if left["no_images"]:
        parts.append(f"{left['no_images']:,} no image")
    return f"  left alone in {folder['name']}: {', '.join(parts)}" if parts else None


def _describe_account(facts: dict[str, Any]) -> str:
    rate = facts["requests_per_minute"]
    parts = ["no limit of requests a minute is known" if rate is None else f"{rate} a minute"]
    if facts["paused_s"]:
        parts.append(f"paused, {facts['paused_s']} s more")
    parts.append(f"contract {facts['contract'] or 'unknown'}")
    balances = ", ".join(
        f"{amount:.2f} {name}" for name, amount in (facts["balances"] or {}).items()
    )
    parts.append(f"balance {balances or 'not told'}")
    return f"account: {'; '.join(parts)}"


def _amount(amount_usd: float) -> str:
    return usd_text(round(amount_usd * 1_000_000))
