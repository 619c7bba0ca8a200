"""The commands that work: `run` goes on for years, `once` does what waits and ends."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from venice_watch.cli.options import config_option, log_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from venice_watch.config.model import Config
    from venice_watch.daemon import Progress, Summary
    from venice_watch.daemon.reload import Load
    from venice_watch.service.logs import LogRedactor

SOME_FAILED = 1
UNREACHABLE = 69
LATER = 75


@click.command("run", short_help="Watch and work until stopped: the daemon.")
@config_option
@log_options
def run_command(config_path: Path | None, log_level: str, log_format: str) -> None:
    """Watch the folders and work until stopped.

    SIGTERM finishes what is under way; SIGHUP reads the configuration again.
    """
    import faulthandler

    from venice_watch.cli.key import known_keys
    from venice_watch.service.logs import LogRedactor

    faulthandler.enable()  # systemd's watchdog sends SIGABRT: the log then says where it hung
    redactor = LogRedactor(())
    config, key, log = _begin(config_path, log_level, log_format, redactor)

    def load() -> "tuple[Config, str]":
        loaded, its_key = _load(config.path)
        redactor.add(known_keys())
        return loaded, its_key

    asyncio.run(_run(config, key, log, load))


@click.command("once", short_help="Do what waits now, then exit.")
@config_option
@log_options
def once_command(config_path: Path | None, log_level: str, log_format: str) -> None:
    """Do what waits now, with a progress bar on a terminal, then exit.

    Exit code 1 if something was quarantined, 69 if the API could not be used, 75 if something
    has to wait.
    """
    bar = sys.stderr.isatty() and log_format == "auto"
    config, key, log = _begin(config_path, "error" if bar else log_level, log_format)
    summary = asyncio.run(run_once(config, key, log, bar=bar))
    click.echo(describe(summary))
    raise click.exceptions.Exit(exit_code(summary))


def _load(config_path: Path | None) -> "tuple[Config, str]":
    from venice_watch.cli.key import read_key
    from venice_watch.cli.options import load_config

    config = load_config(config_path)
    return config, read_key(config.api.key_file, os.environ)


def _begin(
    config_path: Path | None,
    log_level: str,
    log_format: str,
    redactor: "LogRedactor | None" = None,
) -> "tuple[Config, str, FilteringBoundLogger]":
    from venice_watch.cli.key import known_keys
    from venice_watch.service.logs import configure

    config, key = _load(config_path)
    return (
        config,
        key,
        configure(
            secrets=known_keys(),
            redactor=redactor,
            level=log_level,
            style=log_format,
            colours=not os.environ.get("NO_COLOR"),
        ),
    )


async def _run(config: "Config", key: str, log: "FilteringBoundLogger", load: "Load") -> None:
    from venice_watch.clock import SystemClock
    from venice_watch.daemon import opened
    from venice_watch.service.systemd import Notifier

    clock, notifier = SystemClock(), Notifier(os.environ)
    async with opened(
        config, key, command="run", clock=clock, log=log, notifier=notifier, load=load
    ) as daemon:
        await daemon.run()
    log.info("daemon.stopped")


async def run_once(
    config: "Config", key: str, log: "FilteringBoundLogger", *, bar: bool
) -> "Summary":
    """Run `once`, with a bar on stderr if asked for."""
    from venice_watch.clock import SystemClock
    from venice_watch.daemon import opened
    from venice_watch.service.systemd import Notifier

    async with opened(
        config, key, command="once", clock=SystemClock(), log=log, notifier=Notifier({})
    ) as daemon:
        if not bar:
            return await daemon.once()
        with progress_bar() as show:
            return await daemon.once(show)


class progress_bar:  # noqa: N801 - used as a function
    """A progress bar on stderr, as a context manager that yields what to call with progress."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._bar = Progress(
            TextColumn("[bold]upscaling"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            Elapsed(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("upscaling", total=None, note="")

    def __enter__(self) -> "Callable[[Progress], None]":
        """Show the bar."""
        self._bar.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def _show(self, progress: "Progress") -> None:
        note = progress.note or f"{progress.in_flight} in flight"
        self._bar.update(self._task, total=progress.total, completed=progress.done, note=note)


def exit_code(summary: "Summary") -> int:
    """Return what `once` exits with."""
    if summary.refused is not None and (summary.waiting or not summary.tally.completed):
        return UNREACHABLE
    tally = summary.tally
    held = any(hold.budget is None for hold in tally.held.values())
    if tally.quarantined or held or tally.held_images or tally.stuck or summary.troubles:
        return SOME_FAILED
    if summary.waiting or summary.left or summary.tally.undelivered:
        return LATER
    return 0


def describe(summary: "Summary") -> str:
    """Return what a run came to, in words."""
    from venice_watch.views.notation import when

    tally = summary.tally
    usd = tally.spent_microusd / 1_000_000
    details = [f"{tally.results} results"] if tally.results != tally.completed else []
    details += [f"{tally.reused} of them from earlier results, free"] if tally.reused else []
    told = f" ({', '.join(details)})" if details else ""
    lines = [f"{tally.completed} upscaled{told}, {tally.quarantined} quarantined, {usd:.2f} USD"]
    if tally.skipped:
        lines.append(f"{tally.skipped} skipped, as the configuration says")
    if summary.refused is not None:
        lines.append(f"the API could not be used: {summary.refused}")
    for folder, why in summary.troubles.items():
        lines.append(f"folder {folder} could not be read: {why}")
    for folder, pause in summary.paused.items():
        lines.append(
            f"folder {folder} is paused, by {pause.by} since {when(pause.since)}; "
            "`venice-watch resume` lets it go on"
        )
    for folder, hold in tally.held.items():
        lines.append(f"folder {folder} {'waits' if hold.budget else 'is held'}: {hold.why}")
    lines += [f"an original could not be put away: {why}" for why in tally.stuck.values()]
    lines += [f"{path} is held: {why}" for (_folder, path), why in tally.held_images.items()]
    for (_folder, path), why in tally.undelivered.items():
        lines.append(f"{path} is paid for and safe in the spool, but not delivered: {why}")
    if summary.waiting:
        lines.append(f"{summary.waiting} waiting; they are done when it runs again")
    lines += [f"{path} was left where it is: {why}" for path, why in summary.left.items()]
    return "\n".join(lines)
