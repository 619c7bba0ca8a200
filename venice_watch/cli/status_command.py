"""`status`: how things stand, from the running daemon, or read from the ledger where none tells."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from venice_watch.cli.asked import Source
    from venice_watch.config.model import Config
    from venice_watch.ledger import Ledger

WATCH_S = 2.0  # between two looks, unless told


@click.command("status", short_help="Show what waits, is done, what it cost, what is wrong.")
@config_option
@click.option(
    "--watch",
    "watch_s",
    type=click.FloatRange(0.1, 86_400),
    is_flag=False,
    flag_value=WATCH_S,
    metavar="[SECONDS]",
    help="Show it anew every SECONDS (2 if not given), until Ctrl-C.",
)
@json_option
def status_command(config_path: Path | None, watch_s: float | None, *, as_json: bool) -> None:
    """Show what waits, what is under way, what is done, what it cost, and what is wrong."""
    from venice_watch.cli.options import load_config
    from venice_watch.cli.quick import ask_quickly
    from venice_watch.cli.status_report import describe

    def show() -> str:
        facts = ask_quickly(config_path, {"verb": "status"}) or _ask(load_config(config_path))
        if not as_json:
            return "\n".join(describe(facts))
        # of a stream of them each is one line, so that whoever reads it sees where one ends
        return json.dumps(facts, indent=2 if watch_s is None else None)

    if watch_s is None:
        click.echo(show())
        return
    try:
        if sys.stdout.isatty() and not as_json:
            _show_in_place(show, watch_s)
        else:
            _show_in_turn(show, watch_s, gap="" if as_json else "\n")
    except KeyboardInterrupt:
        return  # that is how it ends


def _ask(config: "Config") -> dict[str, Any]:
    from venice_watch.cli.asked import ask_or_read
    from venice_watch.service.lock import holder_of
    from venice_watch.views.status import status

    async def read(ledger: "Ledger", source: "Source") -> dict[str, Any]:
        holder = holder_of(config.state_dir)
        return await status(config, ledger, holder=holder, trouble=source.trouble)

    facts: dict[str, Any] = ask_or_read(config, {"verb": "status"}, read).facts
    return facts


def _show_in_place(show: "Callable[[], str]", every_s: float) -> None:
    """Show it on a terminal, over what was shown before."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            live.update(Text(show(), no_wrap=True, overflow="ellipsis"), refresh=True)
            time.sleep(every_s)


def _show_in_turn(show: "Callable[[], str]", every_s: float, *, gap: str) -> None:
    while True:
        click.echo(show() + gap)
        time.sleep(every_s)
