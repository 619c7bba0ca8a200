"""Where a path that a person named lies: in which folder of the configuration, as what.

Rules: paths are compared as they are written and with the links on the way resolved; nothing is
opened.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from venice_watch.config.model import Config, Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A path below one of a folder's roots."""

    folder: "Folder"
    role: str  # inbox, outbox, quarantine, archive
    root: Path
    relative: str

    @property
    def absolute(self) -> Path:
        """Return the path as the ledger writes it."""
        return self.root / self.relative


def roots_of(folder: "Folder") -> Iterator[tuple[str, Path]]:
    """Yield (role, path) of a folder's roots."""
    yield "inbox", folder.inbox
    yield "outbox", folder.outbox
    yield "quarantine", folder.quarantine
    if folder.archive is not None:
        yield "archive", folder.archive


def spellings(path: Path) -> tuple[Path, ...]:
    """Return the absolute path as it is written, and with the links on the way to it resolved."""
    written = Path(os.path.abspath(path))  # noqa: PTH100 - resolves `..` without following links
    return tuple(dict.fromkeys((written, Path(os.path.realpath(written.parent), written.name))))


def locate(config: "Config", path: Path) -> list[Located]:
    """Return where a path lies; several where folders share a root; the innermost roots only."""
    found = [
        Located(folder=folder, role=role, root=root, relative=str(one.relative_to(within)))
        for folder in config.folders
        for role, root in roots_of(folder)
        for within in spellings(root)
        for one in spellings(path)
        if one != within and one.is_relative_to(within)
    ]
    deepest = max((len(one.root.parts) for one in found), default=0)
    unique = {(one.folder.name, one.role, one.relative): one for one in found}
    return [one for one in unique.values() if len(one.root.parts) == deepest]
