"""Folders by their names, and the word for one that does not exist."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from venice_watch.errors import VeniceWatchError

if TYPE_CHECKING:
    from venice_watch.config.model import Config, Folder


class UnknownFolderError(VeniceWatchError):
    """A name that no folder has; its text names the nearest, or all there are."""

    exit_code: ClassVar[int] = 2

    def __init__(self, name: str, known: Iterable[str]) -> None:
        from venice_watch.parameters import nearest

        names = sorted(known)
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        super().__init__(f"there is no folder {name!r}{hint}")


def folder_named(config: "Config", name: str) -> "Folder":
    """Return the folder of the configuration with this name. Raises UnknownFolderError."""
    for folder in config.folders:
        if folder.name == name:
            return folder
    raise UnknownFolderError(name, [folder.name for folder in config.folders])
