"""The spool: where a paid result is made safe before anything else happens to it."""

import contextlib
import hashlib
import os
import re
import secrets
import stat
import threading
from pathlib import Path

from venice_watch.errors import VeniceWatchError
from venice_watch.files.pieces import COPY_BYTES, Span, digest_of, read_pieces, write_pieces
from venice_watch.files.place import sync_folder

# what may be removed from the folder: results, those made of delivered files, sidecars, parts
OURS = re.compile(r"[0-9]+(-[0-9]+-again)?\.png|[0-9]+\.meta|[0-9a-f]{16}\.part")
PNG_HEADER_BYTES = 33  # its signature and its IHDR chunk: the same for every PNG


class SpoolLostError(VeniceWatchError):
    """The disk lost a result that it had taken: it is paid for and gone."""


class SpoolFile:
    """A result on its way into the spool: written piece by piece, then committed or dropped.

    It is opened before anything is paid, so that a disk in trouble costs nothing. From then on
    the bytes are paid for: when the disk is full, `write` keeps them in memory and `commit` tries
    again, as often as the caller likes.
    """

    def __init__(self, spool: Path) -> None:
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._folder = spool
        self._temporary, self._descriptor = self._open()
        self._held: list[bytes] = []
        self._distrusted = False  # a sync failed: what it said of earlier pages is not known
        self._lock = threading.Lock()  # a cancelled task closes while a thread may still write
        self._closed = False

    @property
    def sha256(self) -> bytes:
        """Return the digest of what was written so far."""
        return self._digest.digest()

    def _open(self) -> tuple[Path, int]:
        path = self._folder / f"{secrets.token_hex(8)}.part"
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """Append `data`; never fails."""
        self._digest.update(data)
        self.size_bytes += len(data)
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

        Raises OSError, and then call again once the disk is mended; SpoolLostError.
        """
        with self._lock:
            if self._closed:
                return
            self._write_held()
            if self._distrusted:
                self._write_anew()
            try:
                os.fsync(self._descriptor)
            except OSError:
                # the kernel tells a failed write once, and calls the pages clean from then on
                self._distrusted = True
                raise
            if self._temporary.exists():
                self._temporary.rename(self._folder / name)
            sync_folder(self._folder)

    def _write_anew(self) -> None:
        """Copy what was written into a new file, and make sure that it is what was written."""
        path, descriptor = self._open()
        digest = hashlib.sha256()
        try:
            at = 0
            while piece := os.pread(self._descriptor, COPY_BYTES, at):
                at += len(piece)
                digest.update(piece)
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        if digest.digest() != self.sha256:
            os.close(descriptor)
            raise SpoolLostError(f"{path}: the disk lost a result that it had taken")
        os.close(self._descriptor)
        with contextlib.suppress(OSError):  # a leftover is cleared at the next start
            self._temporary.unlink(missing_ok=True)
        self._temporary, self._descriptor, self._distrusted = path, descriptor, False

    def close(self) -> None:
        """Close the file, and remove what was not committed."""
        with self._lock:
            if not self._closed:
                os.close(self._descriptor)
            self._closed = True
        with contextlib.suppress(OSError):  # a leftover is cleared at the next start
            self._temporary.unlink()


def has_result(path: Path, *, sha256: bytes, size_bytes: int) -> bool:
    """Tell whether a regular file holds exactly these bytes, and perhaps a block of metadata.

    That stands behind a PNG's header. Raises OSError where it cannot be told.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    added_bytes = status.st_size - size_bytes
    if not stat.S_ISREG(status.st_mode) or added_bytes < 0:
        return False
    with path.open("rb") as file:
        return digest_of(file.fileno(), _without_block(status.st_size, added_bytes)) == sha256


def restore(spool: Path, name: str, source: Path, *, sha256: bytes, size_bytes: int) -> bool:
    """Copy a delivered result back into the spool; False if it is no longer those bytes.

    A block of metadata behind its header is left out. Raises OSError where either is in trouble.
    """
    file = SpoolFile(spool)
    try:
        with source.open("rb") as reader:
            there_bytes = os.fstat(reader.fileno()).st_size
            if there_bytes < size_bytes:
                return False
            pieces = _without_block(there_bytes, there_bytes - size_bytes)
            for piece in read_pieces(reader.fileno(), pieces):
                file.write(piece)
        if file.sha256 != sha256:
            return False
        file.commit(name)
    finally:
        file.close()
    return True


def add_result(spool: Path, name: str, data: bytes) -> bytes:
    """Make a result durable that is in memory; return its digest. Raises OSError."""
    file = SpoolFile(spool)
    try:
        file.write(data)
        file.commit(name)
        return file.sha256
    finally:
        file.close()


def _without_block(there_bytes: int, added_bytes: int) -> tuple[Span, ...]:
    """Return what is left of a delivered PNG without the block behind its header."""
    if not added_bytes:
        return (Span(start=0, end=there_bytes),)
    at = min(PNG_HEADER_BYTES, there_bytes - added_bytes)
    return Span(start=0, end=at), Span(start=at + added_bytes, end=there_bytes)


def write_sidecar(spool: Path, name: str, data: bytes) -> None:
    """Make what belongs to a result durable beside it, before the result is there.

    Raises OSError; what was written is then worth nothing.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(spool / name, flags, 0o600)
    try:
        write_pieces(descriptor, descriptor, (data,))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(spool)


def read_sidecar(spool: Path, name: str) -> bytes | None:
    """Return what belongs to a result, or None if there is nothing. Raises OSError."""
    try:
        return (spool / name).read_bytes()
    except FileNotFoundError:
        return None


def drop_spooled(spool: Path, name: str) -> None:
    """Remove a result, or what belongs to one, from the spool."""
    (spool / name).unlink(missing_ok=True)


def clear_spool(spool: Path, keep: frozenset[str]) -> int:
    """Remove what no job refers to, and nothing that is not ours; return how many files went."""
    removed = 0
    for entry in list(spool.iterdir()):
        ours = OURS.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink()
        if ours and entry.name not in keep:
            entry.unlink()
            removed += 1
    return removed
