"""`why FILE`: everything that is known of one file, as a story; or why nothing is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.words import printable, usd_text
from venice_watch.job import Charge

if TYPE_CHECKING:
    from venice_watch.cli.asked import Source
    from venice_watch.ledger import Ledger

JOBS_SHOWN = 20  # as the view tells at most
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
    from venice_watch.cli.asked import ask_or_read, say_source
    from venice_watch.cli.options import load_config
    from venice_watch.images import decoders
    from venice_watch.intake.look import ignore_lease_breaks
    from venice_watch.views.why import why

    ignore_lease_breaks()
    config, cwd = load_config(config_path), Path.cwd()

    async def read(ledger: "Ledger", source: "Source") -> object:
        with decoders.opened() as those:
            return await why(config, ledger, file, cwd=cwd, decoders=those, running=source.running)

    told = ask_or_read(config, {"verb": "why", "file": str(file), "cwd": str(cwd)}, read)
    if told.source.trouble is not None:
        say_source(told.source, as_json=as_json)  # that nothing runs is part of the story
    facts = told.facts
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_describe(facts)))
    if not facts["jobs"]:
        raise click.exceptions.Exit(UNKNOWN)


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
    if len(facts["jobs"]) == JOBS_SHOWN:
        lines += ["", f"the newest {JOBS_SHOWN} are shown"]
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
