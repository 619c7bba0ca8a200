"""The facts of a view: from the running daemon, or from the ledger where none answers.

Rules: the daemon is asked first, because it knows more and may be asked by users who must not read
the ledger; that it is there and stays silent is said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from venice_watch.errors import StateUnusableError

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.ledger import Ledger

USAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """From whom something is known."""

    running: bool  # somebody works on the state folder
    trouble: str | None = None  # why he did not tell it himself


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known, and from whom."""

    facts: Any
    source: Source


def ask_or_read(
    config: "Config",
    request: Mapping[str, Any],
    read: "Callable[[Ledger, Source], Awaitable[Any]]",
) -> Told:
    """Return the answer to a request, or what `read` makes of the ledger where none is had.

    Raises StateUnusableError where neither may be had, and a usage error for what does not exist.
    """
    from venice_watch.cli.state import as_usage, is_running, reading
    from venice_watch.service.asking import NobodyAnswersError, RefusedError, ask

    try:
        return Told(facts=ask(config.state_dir, request), source=Source(running=True))
    except RefusedError as exc:
        if exc.code == USAGE:
            raise as_usage(exc, "'--folder'") from exc
        source = Source(running=True, trouble=str(exc))
    except NobodyAnswersError as exc:
        running = is_running(config)
        source = Source(running=running, trouble=str(exc) if running else None)

    async def go() -> Any:  # noqa: ANN401 - whatever the view gives
        async with reading(config, request["verb"]) as ledger:
            return await read(ledger, source)

    try:
        return Told(facts=asyncio.run(go()), source=source)
    except StateUnusableError as exc:
        if source.trouble is None:
            raise
        raise StateUnusableError(f"{source.trouble} And {exc}") from exc


def say_source(source: Source, *, as_json: bool) -> None:
    """Say on stderr where facts come from, if it is not the running daemon."""
    if source.trouble is not None:
        click.echo(f"{source.trouble} What follows is read from the ledger.", err=True)
    elif not source.running and not as_json:
        click.echo("nothing is running: start it with `venice-watch run`", err=True)
