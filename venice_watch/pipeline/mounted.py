"""Whether a folder that images are put into is the one it was: an unmounted share is not.

A mount point whose share is away is an empty folder like any other, and what is put there is
hidden as soon as the share comes back. So the ledger remembers where each folder's file system was
mounted; one that is mounted higher up now is away.
"""

import asyncio
import errno
import os
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from venice_watch.files.place import TEMPORARY
from venice_watch.intake.mounts import mount_of
from venice_watch.ledger import Ledger

ACCEPTANCE = f"{TEMPORARY}here"  # a person's word that a folder is right as it is


class MountedFolders:
    """Remembers of each folder where its file system is mounted."""

    def __init__(self, ledger: Ledger, log: FilteringBoundLogger) -> None:
        self._ledger = ledger
        self._log = log
        self._mounts: dict[str, str] | None = None
        self._devices: dict[str, int] = {}  # as it was when all was well: saves a look

    async def require(self, root: Path) -> None:
        """Raise OSError (ENODEV) unless the folder is the one that it was."""
        device = await asyncio.to_thread(_device_of, root)
        name = str(root)
        if device is None or device == self._devices.get(name):
            return  # what is not there at all fails by itself, where it is used
        if self._mounts is None:
            self._mounts = await self._ledger.mounts()
        earlier = self._mounts.get(name)
        mount_point = (await asyncio.to_thread(mount_of, root))[0]
        if earlier is not None and len(earlier) > len(mount_point):
            accepted = root / ACCEPTANCE
            if not await asyncio.to_thread(os.path.lexists, accepted):
                raise OSError(
                    errno.ENODEV,
                    f"its file system is not mounted: until now there was one at {earlier}. Mount "
                    f"it; or, if this folder is right as it is, make an empty file {accepted}",
                    name,
                )
            self._log.warning("folder.accepted", root=name, mounted_before=earlier)
        if earlier != mount_point:
            self._mounts[name] = mount_point
            await self._ledger.remember_mount(name, mount_point)
        self._devices[name] = device


def _device_of(root: Path) -> int | None:
    try:
        return root.stat().st_dev
    except OSError:
        return None
