"""The spool: where a paid result is made safe before anything else happens to it."""

import contextlib
import os
import re
import secrets
import threading
from pathlib import Path

from venice_watch.files.place import sync_folder

OURS = re.compile(r"[0-9]+\.png|[0-9a-f]{16}\.part")  # what may be removed from the folder


class SpoolFile:
    """A result on its way into the spool: written piece by piece, then committed or dropped.

    It is opened before anything is paid, so that a disk in trouble costs nothing. From then on
    the bytes are paid for: when the disk is full, `write` keeps them in memory and `commit` tries
    again, as often as the caller likes.
    """

    def __init__(self, spool: Path) -> None:
        self._folder = spool
        self._temporary = spool / f"{secrets.token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._temporary, flags, 0o600)
        self._held: list[bytes] = []
        self._lock = threading.Lock()  # a cancelled task closes while a thread may still write
        self._closed = False

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

    def commit(self, name: str) -> None:
        """Make the file durable as `name`: fsync, rename, fsync of the folder.

        Raises OSError; call again once the disk is mended.
        """
        with self._lock:
            if self._closed:
                return
            self._write_held()
            os.fsync(self._descriptor)
            if self._temporary.exists():
                self._temporary.rename(self._folder / name)
            sync_folder(self._folder)

    def close(self) -> None:
        """Close the file, and remove what was not committed."""
        with self._lock:
            if not self._closed:
                os.close(self._descriptor)
            self._closed = True
        with contextlib.suppress(OSError):  # a leftover is cleared at the next start
            self._temporary.unlink()


def drop_spooled(spool: Path, name: str) -> None:
    """Remove a delivered result from the spool."""
    (spool / name).unlink(missing_ok=True)


def clear_spool(spool: Path, keep: frozenset[str]) -> int:
    """Remove results that no job refers to, and nothing else; return how many files went."""
    removed = 0
    for entry in list(spool.iterdir()):
        ours = OURS.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink()
        if ours and entry.name not in keep:
            entry.unlink()
            removed += 1
    return removed
