"""`pause` and `resume`: let a folder, or everything, wait; remembered over restarts."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, json_option
from venice_watch.cli.words import printable
from venice_watch.errors import StateUnusableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from venice_watch.config.model import Config
    from venice_watch.ledger import Ledger

STILL_WAITS = 1
USAGE = 2


@click.command("pause", short_help="Send nothing new, for a folder or for all.")
@config_option
@click.argument("folder", required=False)
@json_option
def pause_command(config_path: Path | None, folder: str | None, *, as_json: bool) -> None:
    """Send nothing new for FOLDER, or for any, until `resume`; a restart does not end it.

    What is being sent is finished, and what is paid for is delivered. The daemon need not run.
    """
    from venice_watch.cli.options import load_config
    from venice_watch.views import pausing

    config = load_config(config_path)

    async def change(ledger: "Ledger", by: str) -> dict[str, Any]:
        return await pausing.pause(config, ledger, folder, by=by, now=time.time())

    facts = _ask_or_change(config, {"verb": "pause", "folder": folder}, change)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    what = "everything" if folder is None else folder
    if facts["changed"]:
        click.echo(printable(f"{what} is paused: nothing new is sent until `resume`"))
    else:
        [one] = [one for one in facts["pauses"] if one["folder"] == folder]
        click.echo(printable(f"{what} was paused already, by {one['by']} since {one['since']}"))


@click.command("resume", short_help="Go on sending, for a folder or for all.")
@config_option
@click.argument("folder", required=False)
@json_option
def resume_command(config_path: Path | None, folder: str | None, *, as_json: bool) -> None:
    """Go on sending for FOLDER; without one, for every folder, whoever paused which.

    Exit code 1 if FOLDER still waits because everything is paused.
    """
    from venice_watch.cli.options import load_config
    from venice_watch.views import pausing

    config = load_config(config_path)

    async def change(ledger: "Ledger", _by: str) -> dict[str, Any]:
        return await pausing.resume(config, ledger, folder)

    facts = _ask_or_change(config, {"verb": "resume", "folder": folder}, change)
    of_all = next((one for one in facts["pauses"] if one["folder"] is None), None)
    click.echo(json.dumps(facts, indent=2) if as_json else _describe_resumed(facts, of_all))
    if of_all is not None:
        raise click.exceptions.Exit(STILL_WAITS)


def _describe_resumed(facts: dict[str, Any], of_all: dict[str, Any] | None) -> str:
    folder = facts["folder"]
    lines = [
        f"{one['folder'] or 'everything'} goes on; {one['by']} had paused it since {one['since']}"
        for one in facts["ended"]
    ]
    if not lines:
        lines = ["nothing was paused" if folder is None else f"{folder} was not paused by itself"]
    if of_all is not None:
        lines.append(
            f"{folder} still waits: everything is paused, by {of_all['by']} since "
            f"{of_all['since']}. `venice-watch resume` ends that."
        )
    return "\n".join(map(printable, lines))


def _ask_or_change(
    config: "Config",
    request: dict[str, Any],
    change: "Callable[[Ledger, str], Awaitable[dict[str, Any]]]",
) -> dict[str, Any]:
    """Let the daemon do it, which then goes by it at once; else write it down ourselves.

    Raises RefusedError or NobodyAnswersError where a daemon runs and does not do it.
    """
    from venice_watch.cli.state import as_usage, is_running
    from venice_watch.service.asking import NobodyAnswersError, RefusedError, ask
    from venice_watch.views.folders import UnknownFolderError

    try:
        facts: dict[str, Any] = ask(config.state_dir, request)
    except RefusedError as exc:
        if exc.code == USAGE:
            raise as_usage(exc, "'[FOLDER]'") from exc
        raise
    except NobodyAnswersError:
        if is_running(config):
            raise
    else:
        return facts
    try:
        return _change(config, request["verb"], change)
    except UnknownFolderError as exc:
        raise as_usage(exc, "'[FOLDER]'") from exc


def _change(
    config: "Config",
    verb: str,
    change: "Callable[[Ledger, str], Awaitable[dict[str, Any]]]",
) -> dict[str, Any]:
    """Change the ledger of a daemon that does not run, holding its place."""
    from venice_watch.daemon.answers import name_of
    from venice_watch.daemon.state import prepare_state
    from venice_watch.ledger import FILE_NAME
    from venice_watch.ledger.sqlite import SqliteLedger
    from venice_watch.service.lock import locked

    by = name_of(os.getuid())
    _become_owner(config.state_dir)
    prepare_state(config.state_dir)

    async def go() -> dict[str, Any]:
        async with SqliteLedger(config.state_dir / FILE_NAME) as ledger:
            return await change(ledger, by)

    with locked(config.state_dir, verb):
        return asyncio.run(go())


def _become_owner(state_dir: Path) -> None:
    """As root, write as the user whom the state folder belongs to: he is to read it tomorrow."""
    if os.geteuid() != 0:
        return
    try:
        status = state_dir.stat()
        if status.st_uid != 0:
            os.setgroups([])
            os.setresgid(status.st_gid, status.st_gid, status.st_gid)
            os.setresuid(status.st_uid, status.st_uid, status.st_uid)
    except FileNotFoundError:
        return  # it is made as whoever makes it
    except OSError as exc:
        raise StateUnusableError(
            f"{state_dir} cannot be written as its owner: {exc.strerror}. Run it as that user."
        ) from exc
