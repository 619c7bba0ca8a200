"""The spool: where a paid result is made safe before anything else happens to it."""

import contextlib
import os
from pathlib import Path

from venice_watch.files.place import sync_folder


class SpoolFile:
    """A result on its way into the spool: written piece by piece, then committed or dropped.

    The bytes are paid for: when the disk is full, `write` keeps them in memory and `commit` tries
    again, as often as the caller likes.
    """

    def __init__(self, spool: Path, name: str) -> None:
        self._folder = spool
        self._temporary = spool / f"{name}.part"
        self.path = spool / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._temporary, flags, 0o600)
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Append `data`; never fails."""
        self._held.append(data)
        with contextlib.suppress(OSError):
            self._write_held()

    def _write_held(self) -> None:
        while self._held:
            written = os.write(self._descriptor, self._held[0])
            self._held[0] = self._held[0][written:]
            if not self._held[0]:
                del self._held[0]

    def commit(self) -> None:
        """Make the file durable under its final name: fsync, rename, fsync of the folder.

        Raises OSError; call again once the disk is mended.
        """
        self._write_held()
        os.fsync(self._descriptor)
        if self._temporary.exists():
            self._temporary.rename(self.path)
        sync_folder(self._folder)

    def close(self) -> None:
        """Close the file, and remove what was not committed."""
        os.close(self._descriptor)
        self._temporary.unlink(missing_ok=True)


def drop_spooled(spool: Path, name: str) -> None:
    """Remove a delivered result from the spool."""
    (spool / name).unlink(missing_ok=True)


def clear_spool(spool: Path, keep: frozenset[str]) -> int:
    """Remove what no job refers to; return how many files went."""
    removed = 0
    for entry in list(spool.iterdir()):
        if entry.name not in keep and not entry.is_dir():  # no folder is ours
            entry.unlink()
            removed += 1
    return removed
