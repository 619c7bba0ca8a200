"""What was spent, by day, month, folder or preset, and how the budgets stand."""

import time
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from venice_watch.budget import day_of
from venice_watch.job import Charge
from venice_watch.views.notation import usd
from venice_watch.views.standings import standings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from venice_watch.config.model import Config
    from venice_watch.ledger import Ledger, Spending

DAYS = 31  # counted unless told since when
SHOWN = ("day", "folder", "preset")  # unless told by what
KEYS: "Mapping[str, Callable[[Spending], str]]" = {
    "day": lambda one: one.day,
    "folder": lambda one: one.folder,
    "preset": lambda one: one.preset,
    "month": lambda one: one.day[:7],
}


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


async def spend(
    config: "Config", ledger: "Ledger", *, by: str | None = None, since: str | None = None
) -> dict[str, Any]:
    """Return the sums by one of `KEYS`, or by the usual ones, from the day `since` on."""
    if since is None and by != "month":
        today = date.fromisoformat(day_of(time.time()))
        since = (today - timedelta(days=DAYS - 1)).isoformat()
    rows = await ledger.spending(since_day=since or "")
    sums = {kind: _sum(rows, KEYS[kind]) for kind in (SHOWN if by is None else (by,))}
    return {
        "since": since,
        "by": {
            kind: [{kind: name, **one.facts()} for name, one in named.items()]
            for kind, named in sums.items()
        },
        "total": _sum(rows, lambda _one: "total").get("total", Sums()).facts(),
        "budgets": [one.facts() for one in await standings(config, ledger)],
    }


def _sum(rows: "Iterable[Spending]", key: "Callable[[Spending], str]") -> dict[str, Sums]:
    sums: dict[str, Sums] = {}
    for row in rows:
        sums.setdefault(key(row), Sums()).add(row)
    return dict(sorted(sums.items()))
