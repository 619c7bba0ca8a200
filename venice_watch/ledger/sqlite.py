"""The ledger on SQLite: one file, one writer thread, every verb one durable transaction.

Steps go along the table of transitions, compare-and-set on (id, state, generation).
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict

from venice_watch.budget import Budget
from venice_watch.errors import Code
from venice_watch.job import (
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
    BudgetReachedError,
    Delivered,
    Known,
    OpenAttempt,
    Order,
    Result,
    StaleError,
    UnderWayError,
    WorkMovedOnError,
)
from venice_watch.ledger.connection import hasty_verb, verb
from venice_watch.ledger.rows import (
    ATTEMPT_COLUMNS,
    IN_HAND,
    JOB_COLUMNS,
    PARKED,
    read_attempt,
    read_job,
)
from venice_watch.ledger.switches import Switches

WAIT_S_MAX = 86_400.0  # the longest that can be configured between two attempts
QUESTIONS_S = 86_400.0  # for how long free questions are remembered; the rate needs a minute
RESEND_WAITS_S = 600.0  # at most, for what else is due in its folders


class SqliteLedger(Switches):
    """The ledger's verbs on SQLite; see `Ledger` for what each promises."""

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
        self, *, now: float, only_folders: Sequence[str], deliver_in: Sequence[str] = ()
    ) -> Job | None:
        """Take the next job that is due."""
        staged = self._next_due(State.STAGED, now, [*only_folders, *deliver_in])
        if staged is not None:
            return self._change(staged[1], now=now, available_at=IN_HAND)
        waiting = self._next_due(State.AVAILABLE, now, only_folders)
        doubtful = self._next_due(State.IN_DOUBT, now, only_folders)
        # what is in doubt comes last: should we die again, it would be in doubt twice. But not for
        # ever: a folder may never be empty.
        if doubtful is not None and (
            waiting is None
            or doubtful[0] > waiting[0]
            or doubtful[1].available_at < now - RESEND_WAITS_S
        ):
            waiting = doubtful
        return None if waiting is None else self._step(waiting[1], Verb.CLAIM, now=now)

    def _next_due(self, state: State, now: float, folders: Sequence[str]) -> tuple[int, Job] | None:
        """Return the priority and the job that is due first, of the folder that is named first."""
        for folder in folders:
            row = self._execute(
                f"SELECT priority, {JOB_COLUMNS} FROM jobs "  # noqa: S608 - constants
                # both conditions: by the first SQLite sees that the index of what waits will do
                f"WHERE state IN ('available', 'in_doubt', 'staged') AND state = '{state}' "
                "AND folder = ? AND available_at <= ? "
                "ORDER BY priority DESC, available_at, id LIMIT 1",
                (folder, now),
            ).fetchone()
            if row is not None:
                return row[0], read_job(row[1:])
        return None

    @hasty_verb
    def begin(
        self, job: Job, order: Order, *, day: str, budgets: Sequence[Budget] = (), now: float
    ) -> Attempt:
        """Reserve the money and write the attempt down, before the first byte leaves."""
        self._take_order(job, order, now)  # first: who comes too late is told so; undone if refused
        if order.alone and self._is_under_way(order.work_key):
            raise UnderWayError(f"the work of job {job.id} is under way for another one")
        if self._count_doubts(order.work_key) > order.doubts or (
            order.alone and self._count_results(order.work_key) > order.results
        ):
            raise WorkMovedOnError("the same image was sent for another file meanwhile")
        for budget in budgets:
            spent = self._spent(budget)
            if spent + order.microusd > budget.limit.microusd:
                raise BudgetReachedError(
                    budget, spent_microusd=spent, wanted_microusd=order.microusd
                )
        cursor = self._execute(
            "INSERT INTO attempts (job_id, frame, work_key, folder, preset, started_at, day, "
            "charge, microusd) VALUES (?, ?, ?, ?, ?, ?, ?, 'reserved', ?)",
            (job.id, job.frame, order.work_key, job.folder, order.preset, now, day, order.microusd),
        )
        self._account(
            (day, job.folder, order.preset), Charge.RESERVED, requests=1, microusd=order.microusd
        )
        [row] = self._execute(
            f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE id = ?",  # noqa: S608 - constants
            (cursor.lastrowid,),
        )
        return read_attempt(row)

    @verb
    def park(self, job: Job, order: Order, *, now: float) -> Job:
        """Let a job wait until no request for the same work is under way."""
        self._take_order(job, order, now)
        until = PARKED if self._is_under_way(order.work_key) else now
        return self._step(
            job, Verb.RETRY, now=now, available_at=until, message="the same image is on its way"
        )

    @verb
    def stage(
        self, job: Job, attempt: Attempt, closing: Closing, result: Result, *, now: float
    ) -> Job:
        """Record that the result is safe in the spool, and reserve its name in the outbox."""
        self._close_attempt(job, attempt, closing, now)
        self._add_result(attempt.work_key, result, now=now)
        return self._stage(job, result, now=now)

    @verb
    def reuse(
        self, job: Job, order: Order, result: Result, *, made_of: str | None = None, now: float
    ) -> Job:
        """Stage a job with the result of earlier work, whose file is in the spool again."""
        self._take_order(job, order, now)
        name = made_of or result.spool_name
        cursor = self._execute(
            "UPDATE results SET kept = ?, used_at = ? WHERE spool_name = ? AND work_key = ?",
            (made_of is None, now, name, order.work_key),
        )
        if cursor.rowcount != 1:
            raise StaleError(f"there is no result {name} of the work of job {job.id}")
        if made_of is not None:
            self._add_result(order.work_key, result, now=now)
        return self._stage(job, result, now=now)

    @verb
    def trim(
        self, *, kept_bytes_max: int, missing_bytes: int = 0, pinned: Collection[str] = ()
    ) -> list[str]:
        """Give up kept results, the longest unused first; return the names to remove."""
        [(kept_bytes,)] = self._execute(
            "SELECT ifnull(sum(size_bytes), 0) FROM results WHERE kept = 1"
        )
        excess_bytes = max(kept_bytes - kept_bytes_max, missing_bytes)
        given_up: list[str] = []
        if excess_bytes <= 0:
            return given_up
        rows = self._execute(
            "SELECT spool_name, size_bytes FROM results WHERE kept = 1 AND spool_name NOT IN "
            "(SELECT spool_name FROM jobs WHERE state = 'staged') ORDER BY used_at"
        ).fetchall()
        for name, size_bytes in rows:
            if excess_bytes <= 0:
                break
            if name in pinned:
                continue
            self._execute("UPDATE results SET kept = 0 WHERE spool_name = ?", (name,))
            given_up.append(name)
            excess_bytes -= size_bytes
        return given_up

    @verb
    def rename_result(self, job: Job, path: str, *, now: float) -> Job:
        """Reserve another name for a staged result."""
        self._reserve(job, path)
        return self._change(job, now=now, result_path=os.fsencode(path))

    @verb
    def postpone(self, job: Job, *, until: float, message: str, now: float) -> Job:
        """Let a staged job wait: it could not be delivered."""
        assert job.state is State.STAGED
        return self._change(job, now=now, available_at=until, message=message)

    @verb
    def advance(self, job: Job, *, delivered: Delivered | None = None, now: float) -> Job:
        """Record the delivery of a frame that is not the file's last; the next one waits."""
        return self._advance(job, delivered, now=now)

    @verb
    def complete(
        self, job: Job, *, retire: Retire, delivered: Delivered | None = None, now: float
    ) -> Job:
        """Record the delivery; from here on the original may move."""
        return self._step(
            job,
            Verb.COMPLETE,
            now=now,
            retire=retire,
            code=None,
            message=None,
            delivered_sha256=delivered and delivered.sha256,
            delivered_size_bytes=delivered and delivered.size_bytes,
        )

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
            mtime_ns=job.signature.mtime_ns,
            ctime_ns=job.signature.ctime_ns,
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
        self._execute(
            # parked ones too; and those of a clock that was far ahead, and was put right
            "UPDATE jobs SET available_at = ? WHERE state = 'staged' OR "
            "state IN ('available', 'in_doubt') AND available_at > ?",
            (now, now + WAIT_S_MAX),
        )
        rows = self._execute(
            f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE ended_at IS NULL ORDER BY id"  # noqa: S608
        ).fetchall()
        attempts = [read_attempt(row) for row in rows]
        return [
            OpenAttempt(job=self._jobs("WHERE id = ?", (attempt.job_id,))[0], attempt=attempt)
            for attempt in attempts
        ]

    @verb
    def left_quarantine(self, job: Job, *, back_at: float, now: float) -> None:
        """Record that a person took a quarantined file back: its work may be paid for again."""
        self._change(job, now=now, original_path=None)
        if job.code == Code.IN_DOUBT and job.work_key is not None:
            self._execute(
                "UPDATE attempts SET pardoned = 1 WHERE work_key = ? "
                "AND charge IN ('unknown', 'lost') AND started_at <= ?",
                (job.work_key, back_at),
            )

    @verb
    def note_question(self, *, now: float) -> None:
        """Write down that a free question is about to be asked."""
        self._execute("DELETE FROM questions WHERE asked_at < ?", (now - QUESTIONS_S,))
        self._execute("INSERT INTO questions (asked_at) VALUES (?)", (now,))

    @verb
    def remember_mount(self, path: str, mount_point: str) -> None:
        """Record where a folder's file system is mounted."""
        self._execute(
            "INSERT INTO mounts (path, mount_point) VALUES (?, ?) ON CONFLICT DO UPDATE SET "
            "mount_point = excluded.mount_point",
            (os.fsencode(path), os.fsencode(mount_point)),
        )
