"""What commands read beside a running daemon, or without one: its ledger, and who runs.

Rules: the ledger is only read; that there is none means that nothing was done yet.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from venice_watch.errors import StateUnusableError, VeniceWatchError
from venice_watch.views import folders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from venice_watch.config.model import Config, Folder
    from venice_watch.ledger import Ledger


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


def folder_named(config: "Config", name: str) -> "Folder":
    """Return the folder of the configuration with this name, or end with a usage error."""
    try:
        return folders.folder_named(config, name)
    except folders.UnknownFolderError as exc:
        raise as_usage(exc, "'--folder'") from exc


def as_usage(error: VeniceWatchError, hint: str) -> click.BadParameter:
    """Return the usage error that a folder's wrong name is."""
    return click.BadParameter(str(error), param_hint=hint)
