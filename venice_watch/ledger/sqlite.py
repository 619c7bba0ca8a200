"""The ledger on SQLite: one file, one writer thread, every verb one durable transaction.

WAL with `synchronous=FULL`: a commit that returned survives a power loss. The database file
belongs to one process (the state folder's lock sees to it); others open it read-only.
"""

import asyncio
import functools
import os
import sqlite3
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from venice_watch.errors import StateUnusableError
from venice_watch.job import (
    TRANSITIONS,
    Arrival,
    Attempt,
    Charge,
    Closing,
    Job,
    Retire,
    Signature,
    State,
    Verb,
)
from venice_watch.ledger import (
    FolderCounts,
    NameReservedError,
    OpenAttempt,
    Order,
    Result,
    StaleError,
)

IN_HAND = 9e12  # `available_at` of a staged job that somebody is delivering: never due
BUSY_S = 10.0  # a reader may hold the file for a moment; nobody else writes

_JOB_COLUMNS = (
    "id, folder, path, state, generation, device, inode, size_bytes, mtime_ns, ctime_ns, "
    "incomplete, attempts, available_at, created_at, updated_at, preset, parameters, "
    "source_sha256, work_key, code, message, spool_name, result_path, result_width, "
    "result_height, original_path, retire"
)
_ATTEMPT_COLUMNS = (
    "id, job_id, work_key, started_at, ended_at, charge, microusd, outcome, status, "
    "request_id, message"
)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _verb(
    function: Callable[Concatenate["SqliteLedger", _P], _T],
) -> Callable[Concatenate["SqliteLedger", _P], Coroutine[Any, Any, _T]]:
    """Make a coroutine of `function` that runs as one transaction in the writer's thread."""

    @functools.wraps(function)
    async def call(self: "SqliteLedger", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        bound = functools.partial(function, self, *args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._transact, bound)

    # mypy cannot see that the wrapper's `self` is positional
    return cast("Callable[Concatenate[SqliteLedger, _P], Coroutine[Any, Any, _T]]", call)


class SqliteLedger:
    """An open ledger; use it as an async context manager."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        # one thread: SQLite has one writer, and a queue in front of it is fairer than its locks
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._db: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        """Open the file, bringing it to this version's schema."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except BaseException:
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
        mode = "ro" if self._read_only else "rwc"
        try:
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
                self._path.chmod(0o600)
            _migrate(self._db, self._path, read_only=self._read_only)
        except sqlite3.Error as exc:
            raise StateUnusableError(
                f"{self._path}: the ledger cannot be opened: {exc}. Check that the state folder "
                "is on a local disk with space left, and may be written by this user."
            ) from exc

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()

    def _transact(self, function: Callable[[], _T]) -> _T:
        assert self._db is not None, "the ledger is used inside its `async with`"
        self._db.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
        try:
            value = function()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return value

    def _execute(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        assert self._db is not None
        return self._db.execute(sql, values)

    def _jobs(self, where: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Job]:
        rows = self._execute(f"SELECT {_JOB_COLUMNS} FROM jobs {where}", values)  # noqa: S608 - constants
        return [_job(row) for row in rows]

    def _step(self, job: Job, verb: Verb, *, now: float, **changes: object) -> Job:
        """Take one step of the table, if the job still stands where the caller saw it."""
        transition = TRANSITIONS[verb]
        assert job.state in transition.sources, f"{verb} from {job.state}"
        return self._change(job, now=now, state=transition.target, **changes)

    def _change(self, job: Job, *, now: float, **changes: object) -> Job:
        changes |= {"generation": job.generation + 1, "updated_at": now}
        columns = ", ".join(f"{name} = :{name}" for name in changes)
        cursor = self._execute(
            f"UPDATE jobs SET {columns} WHERE id = :_id AND state = :_state "  # noqa: S608 - our names
            "AND generation = :_generation",
            {**changes, "_id": job.id, "_state": job.state, "_generation": job.generation},
        )
        if cursor.rowcount != 1:
            raise StaleError(f"job {job.id} is no longer {job.state} at step {job.generation}")
        [changed] = self._jobs("WHERE id = ?", (job.id,))
        return changed

    def _close_attempt(self, attempt: Attempt | None, closing: Closing | None, now: float) -> None:
        if attempt is None:
            return
        assert closing is not None, "an attempt ends with what became of it"
        microusd = 0 if closing.charge is Charge.NONE else closing.microusd
        cursor = self._execute(
            "UPDATE attempts SET ended_at = ?, charge = ?, microusd = ifnull(?, microusd), "
            "outcome = ?, status = ?, request_id = ?, message = ? "
            "WHERE id = ? AND ended_at IS NULL",
            (
                now,
                closing.charge,
                microusd,
                closing.outcome,
                closing.status,
                closing.request_id,
                closing.message,
                attempt.id,
            ),
        )
        if cursor.rowcount != 1:
            raise StaleError(f"attempt {attempt.id} has ended already")

    @_verb
    def enqueue(self, arrivals: Sequence[Arrival], *, now: float) -> list[bool]:
        """Make a job of each file; False where one is on its way at that path already."""
        added = []
        for arrival in arrivals:
            path, signature = os.fsencode(arrival.path), arrival.signature
            # what was dealt with at that path was another version
            self._execute(
                "UPDATE jobs SET present = 0 WHERE folder = ? AND path = ? AND present = 1 "
                "AND state IN ('completed', 'discarded', 'cancelled')",
                (arrival.folder, path),
            )
            cursor = self._execute(
                "INSERT INTO jobs (folder, path, state, priority, available_at, device, inode, "
                "size_bytes, mtime_ns, ctime_ns, incomplete, created_at, updated_at) "
                "VALUES (?, ?, 'available', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    arrival.folder,
                    path,
                    arrival.priority,
                    now,
                    signature.device,
                    signature.inode,
                    signature.size_bytes,
                    signature.mtime_ns,
                    signature.ctime_ns,
                    arrival.incomplete,
                    now,
                    now,
                ),
            )
            added.append(cursor.rowcount == 1)
        return added

    @_verb
    def claim(self, *, now: float, only_folders: Collection[str]) -> Job | None:
        """Take the next job that is due."""
        jobs = self._jobs(
            "WHERE state IN ('available', 'in_doubt', 'staged') AND available_at <= ? "
            f"AND folder IN ({_marks(only_folders)}) "
            "ORDER BY priority DESC, available_at, id LIMIT 1",
            (now, *only_folders),
        )
        if not jobs:
            return None
        if jobs[0].state is State.STAGED:
            return self._change(jobs[0], now=now, available_at=IN_HAND)
        return self._step(jobs[0], Verb.CLAIM, now=now)

    @_verb
    def next_due_at(self, *, only_folders: Collection[str]) -> float | None:
        """Return when the next waiting job is due, or None."""
        [(due_at,)] = self._execute(
            "SELECT min(available_at) FROM jobs "  # noqa: S608 - question marks only
            "WHERE state IN ('available', 'in_doubt', 'staged') AND available_at < ? "
            f"AND folder IN ({_marks(only_folders)})",
            (IN_HAND, *only_folders),
        )
        return None if due_at is None else float(due_at)

    @_verb
    def begin(self, job: Job, order: Order, *, now: float) -> Attempt:
        """Reserve the money and write the attempt down, before the first byte leaves."""
        cursor = self._execute(
            "UPDATE jobs SET work_key = ?, source_sha256 = ?, preset = ?, parameters = ?, "
            "updated_at = ? WHERE id = ? AND state = 'executing' AND generation = ?",
            (
                order.work_key,
                order.source_sha256,
                order.preset,
                order.parameters,
                now,
                job.id,
                job.generation,
            ),
        )
        if cursor.rowcount != 1:
            raise StaleError(f"job {job.id} is no longer {job.state} at step {job.generation}")
        cursor = self._execute(
            "INSERT INTO attempts (job_id, work_key, folder, preset, started_at, charge, "
            "microusd) VALUES (?, ?, ?, ?, ?, 'reserved', ?)",
            (job.id, order.work_key, job.folder, order.preset, now, order.microusd),
        )
        [row] = self._execute(
            f"SELECT {_ATTEMPT_COLUMNS} FROM attempts WHERE id = ?",  # noqa: S608 - constants
            (cursor.lastrowid,),
        )
        return _attempt(row)

    @_verb
    def stage(
        self, job: Job, attempt: Attempt, closing: Closing, result: Result, *, now: float
    ) -> Job:
        """Record that the result is safe in the spool, and reserve its name in the outbox."""
        if result.exclusive:
            self._reserve(job, result.path)
        self._close_attempt(attempt, closing, now)
        return self._step(
            job,
            Verb.STAGE,
            now=now,
            available_at=IN_HAND,
            spool_name=result.spool_name,
            result_path=os.fsencode(result.path),
            result_width=result.width,
            result_height=result.height,
        )

    @_verb
    def rename_result(self, job: Job, path: str, *, now: float) -> Job:
        """Reserve another name for a staged result."""
        self._reserve(job, path)
        return self._change(job, now=now, result_path=os.fsencode(path))

    def _reserve(self, job: Job, path: str) -> None:
        taken = self._execute(
            "SELECT 1 FROM jobs WHERE result_path = ? AND state = 'staged' AND id <> ?",
            (os.fsencode(path), job.id),
        )
        if taken.fetchone() is not None:
            raise NameReservedError(path)

    @_verb
    def postpone(self, job: Job, *, until: float, message: str, now: float) -> Job:
        """Let a staged job wait: it could not be delivered."""
        assert job.state is State.STAGED
        return self._change(job, now=now, available_at=until, message=message)

    @_verb
    def complete(self, job: Job, *, retire: Retire, now: float) -> Job:
        """Record the delivery; from here on the original may move."""
        return self._step(job, Verb.COMPLETE, now=now, retire=retire, code=None, message=None)

    @_verb
    def retry(
        self,
        job: Job,
        attempt: Attempt | None,
        closing: Closing | None,
        *,
        until: float,
        counted: bool,
        message: str,
        now: float,
    ) -> Job:
        """Send the job back to wait; only a `counted` one costs it an attempt."""
        self._close_attempt(attempt, closing, now)
        attempts = job.attempts + int(counted)
        return self._step(
            job, Verb.RETRY, now=now, available_at=until, attempts=attempts, message=message
        )

    @_verb
    def doubt(
        self, job: Job, attempt: Attempt, closing: Closing, *, until: float, now: float
    ) -> Job:
        """Close the attempt with its money unknown or lost, and let the one resend wait."""
        self._close_attempt(attempt, closing, now)
        return self._step(
            job,
            Verb.DOUBT,
            now=now,
            available_at=until,
            attempts=job.attempts + 1,
            message=closing.message,
        )

    @_verb
    def discard(
        self,
        job: Job,
        attempt: Attempt | None,
        closing: Closing | None,
        *,
        code: str,
        message: str,
        now: float,
    ) -> Job:
        """Give the job up; its file is owed to the quarantine."""
        self._close_attempt(attempt, closing, now)
        return self._step(
            job, Verb.DISCARD, now=now, code=code, message=message, retire=Retire.QUARANTINE
        )

    @_verb
    def cancel(
        self, job: Job, *, code: str, message: str, rules_digest: str | None, now: float
    ) -> Job:
        """End a job without a result."""
        return self._step(
            job,
            Verb.CANCEL,
            now=now,
            code=code,
            message=message,
            present=rules_digest is not None,
            rules_digest=rules_digest,
            retire=Retire.NONE,
        )

    @_verb
    def retired(self, job: Job, *, original_path: str | None, now: float) -> None:
        """Record that the original is put away, or stays where it is."""
        self._change(
            job,
            now=now,
            present=job.retire is Retire.KEEP,
            original_path=None if original_path is None else os.fsencode(original_path),
        )

    @_verb
    def present(self, folder: str, *, rules_digest: str) -> Iterable[tuple[str, Signature]]:
        """Return path and version of each file that was dealt with or is on its way."""
        rows = self._execute(
            "SELECT path, device, inode, size_bytes, mtime_ns, ctime_ns FROM jobs "
            "WHERE folder = ? AND present = 1 AND ifnull(rules_digest, ?) = ?",
            (folder, rules_digest, rules_digest),
        )
        return [(os.fsdecode(row[0]), _signature(row[1:6])) for row in rows]

    @_verb
    def forget_absent(self, folder: str, paths: Sequence[str], *, now: float) -> None:
        """Record that files which were dealt with and left in place are no longer there."""
        assert self._db is not None
        self._db.executemany(
            "UPDATE jobs SET present = 0, updated_at = ? WHERE folder = ? AND path = ? "
            "AND present = 1 AND state IN ('completed', 'cancelled')",
            [(now, folder, os.fsencode(path)) for path in paths],
        )

    @_verb
    def owed(self) -> list[Job]:
        """Return ended jobs whose originals are not put away yet."""
        return self._jobs(
            "WHERE present = 1 AND retire IN ('archive', 'delete', 'quarantine') "
            "AND state IN ('completed', 'discarded') ORDER BY id"
        )

    @_verb
    def recover(self, *, now: float) -> list[OpenAttempt]:
        """Take over after a death; return what had a request under way."""
        self._execute(
            "UPDATE jobs SET state = 'available', generation = generation + 1, available_at = ?, "
            "updated_at = ? WHERE state = 'executing' AND id NOT IN "
            "(SELECT job_id FROM attempts WHERE ended_at IS NULL)",
            (now, now),
        )
        self._execute("UPDATE jobs SET available_at = ? WHERE state = 'staged'", (now,))
        rows = self._execute(
            f"SELECT {_ATTEMPT_COLUMNS} FROM attempts WHERE ended_at IS NULL ORDER BY id"  # noqa: S608
        ).fetchall()
        attempts = [_attempt(row) for row in rows]
        return [
            OpenAttempt(job=self._jobs("WHERE id = ?", (attempt.job_id,))[0], attempt=attempt)
            for attempt in attempts
        ]

    @_verb
    def spooled(self) -> list[str]:
        """Return the names in the spool that jobs still need."""
        rows = self._execute("SELECT spool_name FROM jobs WHERE state = 'staged'")
        return [row[0] for row in rows]

    @_verb
    def doubts(self, work_key: bytes) -> int:
        """Count the attempts at this work whose money is unknown or lost."""
        [(count,)] = self._execute(
            "SELECT count(*) FROM attempts WHERE work_key = ? AND charge IN ('unknown', 'lost')",
            (work_key,),
        )
        return int(count)

    @_verb
    def attempts(self, job: Job) -> list[Attempt]:
        """Return the job's attempts, oldest first."""
        rows = self._execute(
            f"SELECT {_ATTEMPT_COLUMNS} FROM attempts WHERE job_id = ? ORDER BY id",  # noqa: S608
            (job.id,),
        )
        return [_attempt(row) for row in rows]

    @_verb
    def sent_since(self, since: float) -> list[float]:
        """Return when requests were sent since `since`, oldest first."""
        rows = self._execute(
            "SELECT started_at FROM attempts WHERE started_at >= ? ORDER BY started_at", (since,)
        )
        return [float(row[0]) for row in rows]

    @_verb
    def quarantined(self, source_sha256: bytes) -> list[Job]:
        """Return discarded jobs of these bytes whose files were put into the quarantine."""
        return self._jobs(
            "WHERE source_sha256 = ? AND state = 'discarded' AND original_path IS NOT NULL",
            (source_sha256,),
        )

    @_verb
    def left_quarantine(self, job: Job, *, now: float) -> None:
        """Record that a quarantined file was taken back."""
        self._change(job, now=now, original_path=None)

    @_verb
    def counts(self) -> dict[str, FolderCounts]:
        """Return the counts of every folder the ledger has seen."""
        facts: dict[str, dict[str, Any]] = {}
        for folder, state, count in self._execute(
            "SELECT folder, state, count(*) FROM jobs GROUP BY folder, state"
        ):
            facts.setdefault(folder, {})[state] = count
        for folder, count, oldest in self._execute(
            "SELECT folder, sum(state = 'discarded' AND original_path IS NOT NULL), "
            "min(CASE WHEN state IN ('available', 'in_doubt') THEN created_at END) "
            "FROM jobs GROUP BY folder"
        ):
            facts[folder] |= {"quarantined": count, "oldest_waiting_at": oldest}
        for folder, spent in self._execute(
            "SELECT folder, sum(microusd) FROM attempts "
            "WHERE charge IN ('charged', 'unknown', 'lost') GROUP BY folder"
        ):
            facts.setdefault(folder, {})["spent_microusd"] = spent
        return {folder: FolderCounts(**values) for folder, values in facts.items()}

    @_verb
    def recent(self, *, limit: int) -> list[Job]:
        """Return the jobs that changed last, newest first."""
        return self._jobs("ORDER BY updated_at DESC, id DESC LIMIT ?", (limit,))


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
        with sqlite3.connect(path.with_name(f"{path.name}.schema-{version}.backup")) as backup:
            db.backup(backup)
        backup.close()
    for number, script in enumerate(scripts[version:], start=version + 1):
        db.executescript(
            f"BEGIN IMMEDIATE;\n{script.read_text('utf-8')}\nPRAGMA user_version = {number};\n"
            "COMMIT;"
        )


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _signature(row: Sequence[Any]) -> Signature:
    return Signature(
        device=row[0], inode=row[1], size_bytes=row[2], mtime_ns=row[3], ctime_ns=row[4]
    )


def _job(row: Sequence[Any]) -> Job:
    return Job(
        id=row[0],
        folder=row[1],
        path=os.fsdecode(row[2]),
        state=State(row[3]),
        generation=row[4],
        signature=_signature(row[5:10]),
        incomplete=bool(row[10]),
        attempts=row[11],
        available_at=row[12],
        created_at=row[13],
        updated_at=row[14],
        preset=row[15],
        parameters=row[16],
        source_sha256=row[17],
        work_key=row[18],
        code=row[19],
        message=row[20],
        spool_name=row[21],
        result_path=None if row[22] is None else os.fsdecode(row[22]),
        result_width=row[23],
        result_height=row[24],
        original_path=None if row[25] is None else os.fsdecode(row[25]),
        retire=None if row[26] is None else Retire(row[26]),
    )


def _attempt(row: Sequence[Any]) -> Attempt:
    return Attempt(
        id=row[0],
        job_id=row[1],
        work_key=row[2],
        started_at=row[3],
        ended_at=row[4],
        charge=Charge(row[5]),
        microusd=row[6],
        outcome=row[7],
        status=row[8],
        request_id=row[9],
        message=row[10],
    )
