"""`spend`: what was spent, by day, month, folder or preset, and how the budgets stand."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.words import printable, table, usd, usd_text
from venice_watch.job import Charge

if TYPE_CHECKING:
    from venice_watch.cli.state import Standing
    from venice_watch.config.model import Config
    from venice_watch.ledger import Spending

DAYS = 31  # shown unless told since when
SHOWN = ("day", "folder", "preset")  # unless told by what
_KEYS: "Mapping[str, Callable[[Spending], str]]" = {
    "day": lambda one: one.day,
    "folder": lambda one: one.folder,
    "preset": lambda one: one.preset,
    "month": lambda one: one.day[:7],
}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(slots=True)
class Sums:
    """What requests came to."""

    requests: int = 0
    charged: int = 0  # micro-USD, like those below
    unknown: int = 0
    lost: int = 0
    reserved: int = 0

    @property
    def total(self) -> int:
        """Return what counts as spent, in micro-USD."""
        return self.charged + self.unknown + self.lost + self.reserved

    def add(self, one: "Spending") -> None:
        """Count what one row of the accounts says."""
        self.requests += one.requests
        if one.charge is not Charge.NONE:
            setattr(self, one.charge.value, getattr(self, one.charge.value) + one.microusd)

    def facts(self) -> dict[str, object]:
        """Return what `--json` says."""
        return {
            "requests": self.requests,
            "charged_usd": usd(self.charged),
            "in_doubt_usd": usd(self.unknown),
            "lost_usd": usd(self.lost),
            "open_usd": usd(self.reserved),
            "total_usd": usd(self.total),
        }

    def cells(self) -> list[str]:
        """Return what a table says."""
        amounts = (self.charged, self.unknown, self.lost, self.reserved, self.total)
        return [f"{self.requests:,}", *map(usd_text, amounts)]


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
@click.option("--by", type=click.Choice(list(_KEYS)), help="One table only: sums by this.")
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
    from venice_watch.cli.options import load_config

    config = load_config(config_path)
    if since is None and by != "month":
        since = (_today() - timedelta(days=DAYS - 1)).isoformat()
    rows, budgets = asyncio.run(_read(config, since or ""))
    kinds = SHOWN if by is None else (by,)
    sums = {kind: _sum(rows, _KEYS[kind]) for kind in kinds}
    total = _sum(rows, lambda _one: "total").get("total", Sums())
    if as_json:
        facts = _facts(since, sums, total, budgets)
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(_describe(since, sums, total, budgets)))


def _today() -> date:
    return date.today()  # noqa: DTZ011 - budgets go by the owner's days


async def _read(config: "Config", since: str) -> "tuple[list[Spending], list[Standing]]":
    from venice_watch.cli.state import reading, standings

    async with reading(config, "spend") as ledger:
        return await ledger.spending(since_day=since), await standings(config, ledger)


def _sum(rows: "Iterable[Spending]", key: "Callable[[Spending], str]") -> dict[str, Sums]:
    sums: dict[str, Sums] = {}
    for row in rows:
        sums.setdefault(key(row), Sums()).add(row)
    return dict(sorted(sums.items()))


def _facts(
    since: str | None,
    sums: Mapping[str, Mapping[str, Sums]],
    total: Sums,
    budgets: "list[Standing]",
) -> dict[str, Any]:
    return {
        "since": since,
        "by": {
            kind: [{kind: name, **one.facts()} for name, one in named.items()]
            for kind, named in sums.items()
        },
        "total": total.facts(),
        "budgets": [one.facts() for one in budgets],
    }


def _describe(
    since: str | None,
    sums: Mapping[str, Mapping[str, Sums]],
    total: Sums,
    budgets: "list[Standing]",
) -> list[str]:
    begun = "" if since is None else f" since {since}"
    lines = []
    if not total.requests:
        lines.append(f"no request was made{begun}")
    else:
        for kind, named in sums.items():
            head = (kind, "requests", "charged", "in doubt", "lost", "open", "total USD")
            rows = [[name, *one.cells()] for name, one in named.items()]
            lines += [*table(head, rows, right=range(1, len(head))), ""]
        lines.append(
            f"{total.requests:,} requests{begun}, {usd_text(total.total)} USD"
            + (f", {usd_text(total.unknown)} of them in doubt" if total.unknown else "")
        )
    lines += [printable(str(one)) for one in budgets]
    if not budgets:
        lines.append("no budget is set; see `budget` in the configuration")
    return lines
