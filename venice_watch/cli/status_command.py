"""`status`: how things stand, read from the ledger without disturbing who writes it."""

import asyncio
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.errors import StateUnusableError

if TYPE_CHECKING:
    from venice_watch.budget import Budget
    from venice_watch.config.model import Config

RECENT = 5  # jobs shown


@click.command("status", short_help="Show what waits, is done, what it cost, what is wrong.")
@config_option
@json_option
def status_command(config_path: Path | None, *, as_json: bool) -> None:
    """Show what waits, what is under way, what is done, what it cost, and what is wrong."""
    from venice_watch.cli.options import load_config

    config = load_config(config_path)
    facts = asyncio.run(_read(config, there=_find_ledger(config)))
    click.echo(json.dumps(facts, indent=2) if as_json else _describe(facts))


def _find_ledger(config: "Config") -> bool:
    """Tell whether there is a ledger; StateUnusableError where this user may not look."""
    from venice_watch.daemon import LEDGER_NAME

    state_dir = config.state_dir
    if os.path.lexists(state_dir) and not os.access(state_dir, os.R_OK | os.X_OK):
        raise StateUnusableError(
            f"{state_dir} may not be read by this user. Run it as the user of the service, such "
            "as: sudo -u venice-watch venice-watch status"
        )
    return os.path.exists(state_dir / LEDGER_NAME)  # noqa: PTH110 - answers no where Path raises


async def _read(config: "Config", *, there: bool) -> dict[str, Any]:
    from venice_watch.daemon import LEDGER_NAME
    from venice_watch.ledger import FolderCounts
    from venice_watch.ledger.sqlite import SqliteLedger
    from venice_watch.service.lock import holder_of

    path = config.state_dir / LEDGER_NAME
    counts: dict[str, FolderCounts] = {}
    recent = []
    budgets = _budgets(config)
    spent = [0] * len(budgets)
    if there:
        async with SqliteLedger(path, read_only=True) as ledger:
            counts = await ledger.counts()
            recent = await ledger.recent(limit=RECENT)
            spent = await ledger.spent(budgets)
    holder = holder_of(config.state_dir)
    live = {} if holder is None else _ask_daemon(config)
    return {
        "running": None
        if holder is None
        else {"pid": holder.pid, "since": holder.since, "command": holder.command},
        "troubles": live.get("troubles", []),
        "halted": live.get("halted"),
        "requests_per_minute": live.get("requests_per_minute"),
        "contract": live.get("contract"),
        "folders": [
            _folder_facts(folder.name, counts.get(folder.name, FolderCounts()))
            for folder in config.folders
        ],
        "budgets": [
            {
                "folder": budget.limit.folder,
                "period": budget.limit.period,
                "days": budget.days,
                "limit_usd": budget.limit.microusd / 1_000_000,
                "spent_usd": microusd / 1_000_000,
            }
            for budget, microusd in zip(budgets, spent, strict=True)
        ],
        "spent_usd": sum(count.spent_microusd for count in counts.values()) / 1_000_000,
        "recent": [
            {
                "folder": job.folder,
                "path": job.path,
                "state": job.state,
                "code": job.code,
                "message": job.message,
                "at": datetime.fromtimestamp(job.updated_at).astimezone().isoformat("T", "seconds"),
            }
            for job in recent
        ],
    }


def _budgets(config: "Config") -> "list[Budget]":
    """Return every budget there is now: of all folders first."""
    from venice_watch.budget import current

    limits = [*config.budget.limits(None)]
    for folder in config.folders:
        limits += folder.budget.limits(folder.name)
    return [current(limit, time.time()) for limit in limits]


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
        "oldest_waiting": None
        if oldest is None
        else datetime.fromtimestamp(oldest).astimezone().isoformat("T", "seconds"),
        "spent_usd": counts.spent_microusd / 1_000_000,
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
        lines.insert(-1, _harmless(f"  ! {trouble['subject']}: {trouble['why']}"))
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
    if facts["budgets"]:
        lines += ["", "budgets:"]
    for budget in facts["budgets"]:
        whose = "all folders" if budget["folder"] is None else f"folder {budget['folder']}"
        left = max(0.0, budget["limit_usd"] - budget["spent_usd"])
        lines.append(
            f"  {whose}, {budget['days']}: {budget['spent_usd']:.2f} of {budget['limit_usd']:.2f} "
            f"USD spent or reserved, {left:.2f} left"
        )
    if facts["recent"]:
        lines += ["", "last:"]
    for job in facts["recent"]:
        why = f": {job['message']}" if job["message"] else ""
        line = f"  {job['at']}  {job['state']:<10} {job['folder']}/{job['path']}{why}"
        lines.append(_harmless(line))
    return "\n".join(lines)


def _harmless(line: str) -> str:
    """Return a line for a terminal: a file name may hold anything, line ends and escapes too."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
