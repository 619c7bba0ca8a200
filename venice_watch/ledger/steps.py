"""What the SQLite ledger's verbs are made of: one step of a job, one entry in the accounts.

Nothing here is a transaction of its own; a verb calls it within its own.
"""

import os
from dataclasses import astuple

from venice_watch.job import TRANSITIONS, Attempt, Charge, Closing, Job, Verb
from venice_watch.ledger import Delivered, NameReservedError, Order, Result, StaleError
from venice_watch.ledger.questions import Questions
from venice_watch.ledger.rows import IN_HAND

AT_ONCE = 0.0  # due before all that waits: a file is finished before another one is begun
# what a job knows of the frame in work, and forgets when the next one's turn has come
_OF_ONE_FRAME = (
    "work_key",
    "code",
    "message",
    "spool_name",
    "result_path",
    "result_width",
    "result_height",
    "result_scale",
)


class Steps(Questions):
    """Steps along the table of transitions, and the money that goes with them."""

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
        """End the job's request, if one is under way, and settle its money."""
        if attempt is None:
            # a request that nobody spoke for again may have been charged
            closing = Closing(outcome="abandoned", charge=Charge.UNKNOWN)
            condition: str = "job_id = ?"
            which: tuple[int, ...] = (job.id,)
        else:
            assert closing is not None, "an attempt ends with what became of it"
            condition, which = "job_id = ? AND id = ?", (job.id, attempt.id)
        rows = self._execute(
            "SELECT id, day, folder, preset, microusd, work_key FROM attempts "  # noqa: S608 - ours
            f"WHERE {condition} AND ended_at IS NULL",
            which,
        ).fetchall()
        if attempt is not None and not rows:
            raise StaleError(f"attempt {attempt.id} of job {job.id} has ended already")
        for open_id, day, folder, preset, reserved, work_key in rows:
            settled = reserved if closing.microusd is None else closing.microusd
            settled = 0 if closing.charge is Charge.NONE else settled
            self._execute(
                "UPDATE attempts SET ended_at = ?, charge = ?, microusd = ?, outcome = ?, "
                "status = ?, request_id = ?, message = ? WHERE id = ?",
                (
                    now,
                    closing.charge,
                    settled,
                    closing.outcome,
                    closing.status,
                    closing.request_id,
                    _storable(closing.message),
                    open_id,
                ),
            )
            self._account((day, folder, preset), Charge.RESERVED, requests=-1, microusd=-reserved)
            self._account((day, folder, preset), closing.charge, requests=1, microusd=settled)
            self._execute(
                "UPDATE jobs SET available_at = ? WHERE work_key = ? AND state = 'available' "
                "AND available_at = 8e12",
                (now, work_key),
            )

    def _account(
        self, where: tuple[str, str, str], charge: Charge, *, requests: int, microusd: int
    ) -> None:
        """Add to the sums of a day, folder and preset."""
        self._execute(
            "INSERT INTO spending (day, folder, preset, charge, requests, microusd) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "requests = requests + excluded.requests, microusd = microusd + excluded.microusd",
            (*where, charge, requests, microusd),
        )

    def _take_order(self, job: Job, order: Order, now: float) -> None:
        """Note what is asked for; no step of the job, which has no request under way."""
        open_one = self._execute(
            "SELECT id FROM attempts WHERE job_id = ? AND ended_at IS NULL", (job.id,)
        ).fetchone()
        if open_one is not None:
            raise StaleError(f"job {job.id} has a request under way, attempt {open_one[0]}")
        cursor = self._execute(
            "UPDATE jobs SET work_key = ?, source_sha256 = ?, preset = ?, parameters = ?, "
            "source_kind = ?, source_width = ?, source_height = ?, sent_width = ?, "
            "sent_height = ?, frames = ?, updated_at = ? "
            "WHERE id = ? AND state = 'executing' AND generation = ?",
            (
                order.work_key,
                order.source_sha256,
                order.preset,
                order.parameters,
                *(astuple(order.source) if order.source is not None else (None,) * 5),
                order.frames,
                now,
                job.id,
                job.generation,
            ),
        )
        if cursor.rowcount != 1:
            raise StaleError(f"job {job.id} is no longer {job.state} at step {job.generation}")

    def _add_result(self, work_key: bytes, result: Result, *, now: float) -> None:
        """Note a result whose file is in the spool."""
        self._execute(
            "INSERT INTO results (spool_name, work_key, sha256, size_bytes, kept, width, height, "
            "scale, used_at) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",
            (
                result.spool_name,
                work_key,
                result.sha256,
                result.size_bytes,
                result.width,
                result.height,
                result.scale,
                now,
            ),
        )

    def _stage(self, job: Job, result: Result, *, now: float) -> Job:
        if result.exclusive and result.path is not None:
            self._reserve(job, result.path)
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

    def _advance(self, job: Job, delivered: Delivered | None, *, now: float) -> Job:
        """Put a frame's result on record, and make the job that of the next frame."""
        if not job.has_next_frame:
            raise StaleError(f"frame {job.frame} of job {job.id} is its last")
        advanced = self._step(
            job,
            Verb.ADVANCE,
            now=now,
            available_at=AT_ONCE,
            frame=job.frame + 1,
            attempts=0,
            **dict.fromkeys(_OF_ONE_FRAME),
        )
        self._execute(
            "INSERT INTO deliveries (job_id, frame, work_key, spool_name, result_path, "
            "result_width, result_height, delivered_sha256, delivered_size_bytes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                job.id,
                job.frame,
                job.work_key,
                job.spool_name,
                None if job.result_path is None else os.fsencode(job.result_path),
                job.result_width,
                job.result_height,
                delivered and delivered.sha256,
                delivered and delivered.size_bytes,
            ),
        )
        return advanced

    def _reserve(self, job: Job, path: str) -> None:
        taken = self._execute(
            "SELECT 1 FROM jobs WHERE result_path = ? AND state = 'staged' AND id <> ?",
            (os.fsencode(path), job.id),
        )
        if taken.fetchone() is not None:
            raise NameReservedError(path)


def _storable(value: object) -> object:
    """Return a value that SQLite takes: a message may quote a name that is not UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if type(value) is str else value
