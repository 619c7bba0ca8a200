"""A connection to the SQLite file: one writer thread, one durable transaction a verb.

WAL with `synchronous=FULL`: a commit that returned survives a power loss. The database file
belongs to one process (the state folder's lock sees to it); others open it read-only.
"""

import asyncio
import errno
import functools
import os
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from venice_watch.errors import StateTroubleError, StateUnusableError
from venice_watch.ledger import LedgerTroubleError

RETRY_S = 2.0  # between tries while the disk is in trouble
_DISK_TROUBLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)
BUSY_S = 10.0  # a reader may hold the file for a moment; nobody else writes

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Self = TypeVar("_Self", bound="Connection")


def verb(
    function: Callable[Concatenate[_Self, _P], _T],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]:
    """Make a coroutine of `function` that runs as one transaction in the writer's thread."""
    return _as_coroutine(function, waits=True)


def hasty_verb(
    function: Callable[Concatenate[_Self, _P], _T],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]:
    """Make a verb that raises LedgerTroubleError where another would wait for the disk.

    For what is true only now: hours later the caller would have to look again.
    """
    return _as_coroutine(function, waits=False)


def _as_coroutine(
    function: Callable[Concatenate[_Self, _P], _T], *, waits: bool
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]:
    @functools.wraps(function)
    async def call(self: _Self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        bound = functools.partial(function, self, *args, **kwargs)
        return await self.transact(bound, waits=waits)

    # mypy cannot see that the wrapper's `self` is positional
    return cast("Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _T]]", call)


class Connection:
    """An open SQLite file; use it as an async context manager."""

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        on_trouble: Callable[[str | None], None] = lambda _trouble: None,
    ) -> None:
        self.trouble: str | None = None  # why nothing can be written down
        self._on_trouble = on_trouble
        self._path = path
        self._read_only = read_only
        # one thread: SQLite has one writer, and a queue in front of it is fairer than its locks
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._db: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        """Open the file, bringing it to this version's schema."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._open)
        except BaseException:
            await loop.run_in_executor(self._thread, self._close)
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _open(self) -> None:
        mode = "ro" if self._read_only else "rw"
        try:
            if not self._read_only:
                self._path.touch(mode=0o600)
                self._path.chmod(0o600)  # SQLite gives its other files the mode of this one
            self._db = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.execute("PRAGMA foreign_keys = ON")
            if not self._read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
            _migrate(self._db, self._path, read_only=self._read_only)
        except (sqlite3.Error, OSError) as exc:
            kind = StateTroubleError if _may_pass(exc) else StateUnusableError
            raise kind(
                f"{self._path}: the ledger cannot be opened: {exc}. Check that the state folder "
                "is on a local disk with space left, and may be written by this user."
            ) from exc

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()

    async def transact(self, function: Callable[[], _T], *, waits: bool = True) -> _T:
        """Run `function` in the writer's thread, as one transaction.

        While the disk is full or fails, nothing can be written down and so nothing may go on:
        the verb waits and is tried again. It was rolled back, so that is safe. One that does not
        wait raises LedgerTroubleError.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                value, written = await loop.run_in_executor(self._thread, self._transact, function)
            except sqlite3.OperationalError as exc:
                if self._read_only or exc.sqlite_errorcode & 0xFF not in _DISK_TROUBLE:
                    raise
                self._tell(f"{self._path}: {exc}")
                if not waits:
                    raise LedgerTroubleError(f"{self._path}: {exc}") from exc
                await asyncio.sleep(RETRY_S)
            else:
                if written:  # what only reads says nothing of the disk
                    self._tell(None)
                return value

    def _tell(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_trouble(trouble)

    def _transact(self, function: Callable[[], _T]) -> tuple[_T, bool]:
        """Run a transaction; return what it gave, and whether anything was written."""
        assert self._db is not None, "the ledger is used inside its `async with`"
        changes = self._db.total_changes
        self._db.execute("BEGIN")  # one connection writes: nobody can come between
        try:
            value = function()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return value, self._db.total_changes != changes

    def _execute(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        assert self._db is not None
        return self._db.execute(sql, values)


def _may_pass(error: sqlite3.Error | OSError) -> bool:
    """Tell whether opening again later may help: a disk that is full or fails."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY)


def _migrate(db: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    """Bring the schema to this version, one numbered file after the other."""
    scripts = sorted(
        (
            entry
            for entry in resources.files(__package__).joinpath("migrations").iterdir()
            if entry.name.endswith(".sql")
        ),
        key=lambda entry: entry.name,
    )
    [(version,)] = db.execute("PRAGMA user_version")
    if version > len(scripts):
        raise StateUnusableError(
            f"{path}: this ledger was written by a newer venice-watch (schema {version}; this one "
            f"knows {len(scripts)}). Upgrade venice-watch, or name another state_dir."
        )
    if read_only and version < len(scripts):
        raise StateUnusableError(
            f"{path}: this ledger is of an older venice-watch (schema {version}; this one has "
            f"{len(scripts)}). Start the daemon once to bring it up to date."
        )
    if 0 < version < len(scripts):
        _back_up(db, path.with_name(f"{path.name}.schema-{version}.backup"))
    for number, script in enumerate(scripts[version:], start=version + 1):
        db.executescript(
            f"BEGIN IMMEDIATE;\n{script.read_text('utf-8')}\nPRAGMA user_version = {number};\n"
            "COMMIT;"
        )


def _back_up(db: sqlite3.Connection, target: Path) -> None:
    """Copy the ledger as it is; the copy has its name only once it is whole and on the disk."""
    temporary = target.with_name(f"{target.name}.part")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    copy = sqlite3.connect(temporary)
    try:
        db.backup(copy)  # SQLite syncs what it commits
    finally:
        copy.close()
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
