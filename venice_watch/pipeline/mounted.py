"""Whether a folder that images are put into is the one it was: an unmounted share is not.

A mount point whose share is away is an empty folder like any other, and what is put there is
hidden as soon as the share comes back. So the ledger remembers where each folder was mounted; one
that is mounted higher up now is away.
"""

import asyncio
import errno
from pathlib import Path

from venice_watch.intake.mounts import look_at
from venice_watch.ledger import Ledger


class MountedFolders:
    """Remembers of each folder where its file system is mounted."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._mounts: dict[str, str] | None = None
        self._identities: dict[str, tuple[int, int]] = {}  # when all was well: saves a look

    async def require(self, root: Path) -> None:
        """Raise OSError (ENODEV) unless the folder is the one that it was."""
        identity = await asyncio.to_thread(_identify, root)
        name = str(root)
        if identity is None or identity == self._identities.get(name):
            return  # what is not there at all fails by itself, where it is used
        if self._mounts is None:
            self._mounts = await self._ledger.mounts()
        mount_point, why = await asyncio.to_thread(look_at, root, self._mounts.get(name))
        if why is not None:
            raise OSError(errno.ENODEV, why, name)
        if self._mounts.get(name) != mount_point:
            self._mounts[name] = mount_point
            await self._ledger.remember_mount(name, mount_point)
        self._identities[name] = identity


def _identify(root: Path) -> tuple[int, int] | None:
    try:
        status = root.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
