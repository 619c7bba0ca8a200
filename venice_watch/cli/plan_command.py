"""`plan`: what would be sent now and what it would cost; sends nothing."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from venice_watch.cli.options import config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from venice_watch.cli.plan_cases import FolderPlan
    from venice_watch.cli.plan_report import Plan
    from venice_watch.cli.plan_terms import Terms
    from venice_watch.config.model import Config
    from venice_watch.job import Job
    from venice_watch.ledger import Ledger


@click.command("plan", short_help="Show what would be sent now and what it would cost.")
@config_option
@click.option("--offline", is_flag=True, help="Ask the API nothing: not the rate, not the price.")
@json_option
def plan_command(config_path: Path | None, *, offline: bool, as_json: bool) -> None:
    """Show what would be sent now, with which parameters, and what it would cost.

    Every image is looked at as the daemon would look at it. Nothing is sent, moved or written.
    """
    from venice_watch.cli.options import load_config
    from venice_watch.cli.plan_report import describe, facts

    config = load_config(config_path)
    plan = asyncio.run(_plan(config, offline=offline))
    click.echo(json.dumps(facts(plan), indent=2) if as_json else "\n".join(describe(plan)))
    if plan.terms.exit_code:
        raise click.exceptions.Exit(plan.terms.exit_code)


async def _plan(config: "Config", *, offline: bool) -> "Plan":
    from venice_watch.cli import plan_terms
    from venice_watch.cli.plan_report import Plan
    from venice_watch.cli.state import is_running, reading
    from venice_watch.intake.look import ignore_lease_breaks
    from venice_watch.views.pace import request_s
    from venice_watch.views.standings import standings

    ignore_lease_breaks()
    async with reading(config, "plan") as ledger:
        terms = plan_terms.assume(config) if offline else await plan_terms.ask(config)
        running = is_running(config)
        folders = await _look(config, ledger, terms, running=running)
        return Plan(
            config=config,
            terms=terms,
            offline=offline,
            running=running,
            folders=folders,
            budgets=await standings(config, ledger),
            request_s=await request_s(ledger),
        )


async def _look(
    config: "Config", ledger: "Ledger", terms: "Terms", *, running: bool
) -> "list[FolderPlan]":
    """Look at every file, in the order in which the daemon would; show how far it is."""
    from venice_watch.cli.plan_images import Planner
    from venice_watch.images import decoders
    from venice_watch.views.notation import when

    pauses = await ledger.pauses()
    plans: dict[str, tuple[FolderPlan, list[Job]]] = {}
    with decoders.opened() as those:
        planner = Planner(
            config,
            ledger,
            those,
            contract=terms.contract,
            prices=terms.prices,
            running=running,
            now=time.time(),
        )
        for folder in sorted(config.folders, key=lambda one: -one.priority):
            plan, jobs = plans[folder.name] = await planner.survey(folder)
            plan.held = next(
                (
                    f"paused by {one.by} since {when(one.since)}; `venice-watch resume` ends that"
                    for one in pauses
                    if one.concerns(folder.name)
                ),
                plan.held,
            )
        with _looking_bar(sum(len(jobs) for _, jobs in plans.values())) as advance:
            for plan, jobs in plans.values():
                for job in jobs:
                    await planner.decide(plan, job)
                    advance()
    return [plans[folder.name][0] for folder in config.folders]


class _looking_bar:  # noqa: N801 - used as a function
    """A progress bar on stderr, if that is a terminal; yields what to call after each image."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self._bar = Progress(
            "looking at images",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> "Callable[[], None]":
        self._bar.start()
        return lambda: self._bar.advance(self._task)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
