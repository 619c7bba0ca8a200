"""`spend`: what was spent, by day, month, folder or preset, and how the budgets stand."""

import json
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.words import amount, describe_budget, printable, table
from venice_watch.views.spend import KEYS, spend

if TYPE_CHECKING:
    from venice_watch.cli.asked import Source
    from venice_watch.ledger import Ledger

_COLUMNS = ("charged_usd", "in_doubt_usd", "lost_usd", "open_usd", "total_usd")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _since(_ctx: click.Context, _param: click.Parameter, text: str | None) -> str | None:
    """Return a day as 2026-11-25."""
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass  # the 30th of February
    raise click.BadParameter(f"{text!r} is no date; write it as 2026-11-01")


@click.command("spend", short_help="Show what was spent, and how the budgets stand.")
@config_option
@click.option("--by", type=click.Choice(list(KEYS)), help="One table only: sums by this.")
@click.option(
    "--since",
    callback=_since,
    metavar="DATE",
    help="Count from this day on, as 2026-11-01. Default: the last 31 days; by month: all.",
)
@json_option
def spend_command(
    config_path: Path | None, by: str | None, since: str | None, *, as_json: bool
) -> None:
    """Show what was spent by day, folder and preset, and how the budgets stand.

    `in doubt` may have been charged, `lost` was charged and brought no usable result, `open` is
    under way. All of it counts as spent.
    """
    from venice_watch.cli.asked import ask_or_read, say_source
    from venice_watch.cli.options import load_config

    config = load_config(config_path)

    async def read(ledger: "Ledger", _source: "Source") -> object:
        return await spend(config, ledger, by=by, since=since)

    told = ask_or_read(config, {"verb": "spend", "by": by, "since": since}, read)
    say_source(told.source, as_json=as_json)
    click.echo(json.dumps(told.facts, indent=2) if as_json else "\n".join(_describe(told.facts)))


def _describe(facts: dict[str, Any]) -> list[str]:
    total = facts["total"]
    begun = "" if facts["since"] is None else f" since {facts['since']}"
    lines = []
    if not total["requests"]:
        lines.append(f"no request was made{begun}")
    else:
        for kind, sums in facts["by"].items():
            head = (kind, "requests", "charged", "in doubt", "lost", "open", "total USD")
            rows = [[one[kind], f"{one['requests']:,}", *_amounts(one)] for one in sums]
            lines += [*table(head, rows, right=range(1, len(head))), ""]
        lines.append(
            f"{total['requests']:,} requests{begun}, {amount(total['total_usd'])} USD"
            + (f", {amount(total['in_doubt_usd'])} of them in doubt" * bool(total["in_doubt_usd"]))
        )
    lines += [printable(describe_budget(one)) for one in facts["budgets"]]
    if not facts["budgets"]:
        lines.append("no budget is set; see `budget` in the configuration")
    return lines


def _amounts(sums: dict[str, Any]) -> list[str]:
    return [amount(sums[column]) for column in _COLUMNS]
