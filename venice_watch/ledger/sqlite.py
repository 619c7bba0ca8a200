"""The ledger on SQLite: one file, one writer thread, every verb one durable transaction.

Steps go along the table of transitions, compare-and-set on (id, state, generation).
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict

from venice_watch.job import (
    TRANSITIONS,
    Arrival,
    Attempt,
    Charge,
    Closing,
    Job,
    Retire,
    State,
    Verb,
)
from venice_watch.ledger import (
    Known,
    NameReservedError,
    OpenAttempt,
    Order,
    Result,
    StaleError,
)
from venice_watch.ledger.connection import verb
from venice_watch.ledger.questions import IN_HAND, Questions, marks
from venice_watch.ledger.rows import (
    ATTEMPT_COLUMNS,
    read_attempt,
)


class SqliteLedger(Questions):
    """The ledger's verbs on SQLite; see `Ledger` for what each promises."""

    def _step(self, job: Job, verb: Verb, *, now: float, **changes: object) -> Job:
        """Take one step of the table, if the job still stands where the caller saw it."""
        transition = TRANSITIONS[verb]
        if job.state not in transition.sources:
            raise StaleError(f"job {job.id} is {job.state}: no {verb} from there")
        return self._change(job, now=now, state=transition.target, **changes)

    def _change(self, job: Job, *, now: float, **changes: object) -> Job:
        changes |= {"generation": job.generation + 1, "updated_at": now}
        changes = {name: _storable(value) for name, value in changes.items()}
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

    def _close_attempt(
        self, job: Job, attempt: Attempt | None, closing: Closing | None, now: float
    ) -> None:
        if attempt is None:
            # a request that nobody spoke for again may have been charged
            self._execute(
                "UPDATE attempts SET ended_at = ?, charge = 'unknown', outcome = 'abandoned' "
                "WHERE job_id = ? AND ended_at IS NULL",
                (now, job.id),
            )
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
                _storable(closing.message),
                attempt.id,
            ),
        )
        if cursor.rowcount != 1:
            raise StaleError(f"attempt {attempt.id} has ended already")

    @verb
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

    @verb
    def claim(
        self, *, now: float, only_folders: Collection[str], deliver_in: Collection[str] = ()
    ) -> Job | None:
        """Take the next job that is due."""
        staged = self._next_due("'staged'", now, {*only_folders, *deliver_in})
        if staged is not None:
            return self._change(staged, now=now, available_at=IN_HAND)
        waiting = self._next_due("'available', 'in_doubt'", now, only_folders)
        return None if waiting is None else self._step(waiting, Verb.CLAIM, now=now)

    def _next_due(self, states: str, now: float, folders: Collection[str]) -> Job | None:
        jobs = self._jobs(
            f"WHERE state IN ({states}) AND available_at <= ? AND folder IN ({marks(folders)}) "
            "ORDER BY priority DESC, available_at, id LIMIT 1",
            (now, *folders),
        )
        return jobs[0] if jobs else None

    @verb
    def begin(self, job: Job, order: Order, *, now: float) -> Attempt:
        """Reserve the money and write the attempt down, before the first byte leaves."""
        open_one = self._execute(
            "SELECT id FROM attempts WHERE job_id = ? AND ended_at IS NULL", (job.id,)
        ).fetchone()
        if open_one is not None:
            raise StaleError(f"job {job.id} has a request under way, attempt {open_one[0]}")
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
            f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE id = ?",  # noqa: S608 - constants
            (cursor.lastrowid,),
        )
        return read_attempt(row)

    @verb
    def stage(
        self, job: Job, attempt: Attempt, closing: Closing, result: Result, *, now: float
    ) -> Job:
        """Record that the result is safe in the spool, and reserve its name in the outbox."""
        if result.exclusive and result.path is not None:
            self._reserve(job, result.path)
        self._close_attempt(job, attempt, closing, now)
        return self._step(
            job,
            Verb.STAGE,
            now=now,
            available_at=IN_HAND,
            spool_name=result.spool_name,
            result_path=None if result.path is None else os.fsencode(result.path),
            result_scale=result.scale,
            result_width=result.width,
            result_height=result.height,
        )

    @verb
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

    @verb
    def postpone(self, job: Job, *, until: float, message: str, now: float) -> Job:
        """Let a staged job wait: it could not be delivered."""
        assert job.state is State.STAGED
        return self._change(job, now=now, available_at=until, message=message)

    @verb
    def complete(self, job: Job, *, retire: Retire, now: float) -> Job:
        """Record the delivery; from here on the original may move."""
        return self._step(job, Verb.COMPLETE, now=now, retire=retire, code=None, message=None)

    @verb
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
        self._close_attempt(job, attempt, closing, now)
        attempts = job.attempts + int(counted)
        return self._step(
            job, Verb.RETRY, now=now, available_at=until, attempts=attempts, message=message
        )

    @verb
    def doubt(
        self, job: Job, attempt: Attempt, closing: Closing, *, until: float, now: float
    ) -> Job:
        """Close the attempt with its money unknown or lost, and let the one resend wait."""
        self._close_attempt(job, attempt, closing, now)
        return self._step(
            job,
            Verb.DOUBT,
            now=now,
            available_at=until,
            attempts=job.attempts + 1,
            message=closing.message,
        )

    @verb
    def discard(
        self,
        job: Job,
        attempt: Attempt | None,
        closing: Closing | None,
        *,
        code: str,
        message: str,
        known: Known,
        now: float,
    ) -> Job:
        """Give the job up; its file is owed to the quarantine."""
        self._close_attempt(job, attempt, closing, now)
        facts = {name: value for name, value in asdict(known).items() if value is not None}
        return self._step(
            job,
            Verb.DISCARD,
            now=now,
            code=code,
            message=message,
            retire=Retire.QUARANTINE,
            **facts,
        )

    @verb
    def cancel(
        self, job: Job, *, code: str, message: str, rules_digest: str | None, now: float
    ) -> Job:
        """End a job without a result."""
        self._close_attempt(job, None, None, now)
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

    @verb
    def retired(self, job: Job, *, original_path: str | None, now: float) -> None:
        """Record that the original is put away, or stays where it is."""
        self._change(
            job,
            now=now,
            present=job.retire is Retire.KEEP,
            original_path=None if original_path is None else os.fsencode(original_path),
        )

    @verb
    def forget_absent(self, folder: str, paths: Sequence[str], *, now: float) -> None:
        """Record that files which were dealt with and left in place are no longer there."""
        assert self._db is not None
        self._db.executemany(
            "UPDATE jobs SET present = 0, updated_at = ? WHERE folder = ? AND path = ? "
            "AND present = 1 AND state IN ('completed', 'cancelled')",
            [(now, folder, os.fsencode(path)) for path in paths],
        )

    @verb
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
            f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE ended_at IS NULL ORDER BY id"  # noqa: S608
        ).fetchall()
        attempts = [read_attempt(row) for row in rows]
        return [
            OpenAttempt(job=self._jobs("WHERE id = ?", (attempt.job_id,))[0], attempt=attempt)
            for attempt in attempts
        ]

    @verb
    def left_quarantine(self, job: Job, *, now: float) -> None:
        """Record that a quarantined file was taken back."""
        self._change(job, now=now, original_path=None)


def _storable(value: object) -> object:
    """Return a value that SQLite takes: a message may quote a name that is not UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if type(value) is str else value
