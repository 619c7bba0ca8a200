"""How budgets stand: what was spent of each, and when it turns."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from venice_watch.budget import Budget, current, turns_at
from venice_watch.views.notation import usd, when

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a budget stands now."""

    budget: Budget
    spent_microusd: int  # in doubt and under way included
    turns_at: float

    @property
    def left_microusd(self) -> int:
        """Return what may still be spent."""
        return max(0, self.budget.limit.microusd - self.spent_microusd)

    def facts(self) -> dict[str, object]:
        """Return what `--json` says of it."""
        limit = self.budget.limit
        return {
            "folder": limit.folder,
            "period": limit.period,
            "days": self.budget.days,
            "limit_usd": usd(limit.microusd),
            "spent_usd": usd(self.spent_microusd),
            "left_usd": usd(self.left_microusd),
            "turns_at": when(self.turns_at),
        }


async def standings(config: "Config", ledger: "Ledger") -> list[Standing]:
    """Return how every budget of the configuration stands, those of all folders first."""
    now = time.time()
    limits = list(config.budget.limits(None))
    for folder in config.folders:
        limits += folder.budget.limits(folder.name)
    budgets = [current(limit, now) for limit in limits]
    spent = await ledger.spent(budgets)
    return [
        Standing(budget=budget, spent_microusd=microusd, turns_at=turns_at(budget.limit, now))
        for budget, microusd in zip(budgets, spent, strict=True)
    ]
