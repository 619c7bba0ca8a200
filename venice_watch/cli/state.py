"""What commands read beside a running daemon, or without one: its ledger, who runs, the budgets.

Rules: the ledger is only read; that there is none means that nothing was done yet.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from venice_watch.budget import Budget, current, turns_at
from venice_watch.cli.words import usd, usd_text, when
from venice_watch.errors import StateUnusableError
from venice_watch.parameters import nearest

if TYPE_CHECKING:
    from venice_watch.config.model import Config, Folder
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

    def __str__(self) -> str:
        limit = self.budget.limit
        return (
            f"budget of {self.budget.whose} for this {limit.period}: "
            f"{usd_text(self.spent_microusd)} of {usd_text(limit.microusd)} USD spent, "
            f"{usd_text(self.left_microusd)} left; the next {limit.period} begins at "
            f"{when(self.turns_at)}"
        )


def find_ledger(config: "Config", command: str) -> Path | None:
    """Return where the ledger is, or None; StateUnusableError where this user may not look."""
    from venice_watch.ledger import FILE_NAME

    state_dir = config.state_dir
    if os.path.lexists(state_dir) and not os.access(state_dir, os.R_OK | os.X_OK):
        raise StateUnusableError(
            f"{state_dir} may not be read by this user. Run it as the user of the service, such "
            f"as: sudo -u venice-watch venice-watch {command}"
        )
    path = state_dir / FILE_NAME
    return path if os.path.exists(path) else None  # noqa: PTH110 - answers no where Path raises


@contextlib.asynccontextmanager
async def reading(config: "Config", command: str) -> "AsyncIterator[Ledger]":
    """Yield the ledger, read-only; an empty one where nothing was done yet."""
    from venice_watch.ledger import FILE_NAME
    from venice_watch.ledger.sqlite import SqliteLedger

    path = find_ledger(config, command)
    if path is not None:
        async with SqliteLedger(path, read_only=True) as ledger:
            yield ledger
        return
    with tempfile.TemporaryDirectory(prefix="venice-watch-") as empty:
        async with SqliteLedger(Path(empty, FILE_NAME)) as ledger:
            yield ledger


def is_running(config: "Config") -> bool:
    """Tell whether a process works on the state folder now."""
    from venice_watch.service.lock import holder_of

    return holder_of(config.state_dir) is not None


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


def folder_named(config: "Config", name: str) -> "Folder":
    """Return the folder of the configuration with this name, or end with a usage error."""
    for folder in config.folders:
        if folder.name == name:
            return folder
    raise unknown_folder(name, [folder.name for folder in config.folders])


def unknown_folder(name: str, known: Iterable[str]) -> click.BadParameter:
    """Return the error that says which folders there are."""
    names = sorted(known)
    hint = nearest(name, names) or f"; there are {', '.join(names)}"
    return click.BadParameter(f"there is no folder {name!r}{hint}", param_hint="'--folder'")
