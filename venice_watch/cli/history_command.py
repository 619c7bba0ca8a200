"""`history`: what was done, newest first, with what it cost and where the results are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.words import printable, usd_text
from venice_watch.views.history import LIMIT, LIMIT_MAX, history

if TYPE_CHECKING:
    from venice_watch.cli.asked import Source
    from venice_watch.ledger import Ledger


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
    from venice_watch.cli.asked import ask_or_read, say_source
    from venice_watch.cli.options import load_config
    from venice_watch.cli.state import as_usage
    from venice_watch.views.folders import UnknownFolderError

    config = load_config(config_path)

    async def read(ledger: "Ledger", _source: "Source") -> object:
        return await history(config, ledger, folder=folder, limit=limit)

    try:
        told = ask_or_read(config, {"verb": "history", "folder": folder, "limit": limit}, read)
    except UnknownFolderError as exc:
        raise as_usage(exc, "'--folder'") from exc
    say_source(told.source, as_json=as_json)
    facts = told.facts
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(map(_describe, facts)) if facts else "nothing was done yet")


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
