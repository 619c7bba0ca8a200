"""Pausing and resuming, by whoever keeps the pauses: a running daemon, or the ledger itself."""

from typing import TYPE_CHECKING, Any

from venice_watch.views.folders import UnknownFolderError
from venice_watch.views.notation import when

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.ledger.pauses import Pause, Pauses


async def pause(
    config: "Config", keeper: "Pauses", folder: str | None, *, by: str, now: float
) -> dict[str, Any]:
    """Let a folder wait, or all (None); return what was changed. Raises UnknownFolderError."""
    names = [one.name for one in config.folders]
    if folder is not None and folder not in names:
        raise UnknownFolderError(folder, names)
    changed = await keeper.pause(folder, by=by, now=now)
    return {"folder": folder, "changed": changed, "pauses": await _all(keeper)}


async def resume(config: "Config", keeper: "Pauses", folder: str | None) -> dict[str, Any]:
    """End a folder's own pause, or (None) every one; return what was changed.

    One that is paused and no longer configured can be named. Raises UnknownFolderError.
    """
    names = {one.name for one in config.folders}
    names |= {one.folder for one in await keeper.pauses() if one.folder is not None}
    if folder is not None and folder not in names:
        raise UnknownFolderError(folder, names)
    ended = [pause_facts(one) for one in await keeper.resume(folder)]
    return {
        "folder": folder,
        "changed": bool(ended),
        "ended": ended,
        "pauses": await _all(keeper),
    }


async def _all(keeper: "Pauses") -> list[dict[str, Any]]:
    return [pause_facts(one) for one in await keeper.pauses()]


def pause_facts(one: "Pause") -> dict[str, Any]:
    """Return what is told of a pause; `folder` None: of all folders."""
    return {"folder": one.folder, "by": one.by, "since": when(one.since)}
