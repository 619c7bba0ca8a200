"""The ledger's questions on SQLite: verbs that read and change nothing."""

import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from venice_watch.budget import Budget
from venice_watch.job import ACTIVE, FINAL, Attempt, Charge, Job, Signature, State
from venice_watch.ledger import Delivered, Delivery, Earlier, Prior, Result, Spending
from venice_watch.ledger.connection import verb
from venice_watch.ledger.counters import Counters
from venice_watch.ledger.rows import (
    ATTEMPT_COLUMNS,
    JOB_COLUMNS,
    PARKED,
    read_attempt,
    read_job,
    read_signature,
)

REQUEST_S_MAX = 3600.0  # no request takes longer
PLACES_MAX = 64  # deliveries of one work that are looked through for its bytes
_SPENT = "charge IN ('reserved', 'charged', 'unknown', 'lost')"  # what a budget counts


class Questions(Counters):
    """What may be asked; see `Ledger` for what each answers."""

    def _jobs(self, where: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Job]:
        rows = self._execute(f"SELECT {JOB_COLUMNS} FROM jobs {where}", values)  # noqa: S608 - constants
        return [read_job(row) for row in rows]

    @verb
    def next_due_at(
        self, *, only_folders: Collection[str], deliver_in: Collection[str] = ()
    ) -> float | None:
        """Return when the next waiting job is due, or None."""
        due_at = [
            self._execute(
                # a list of states within a list: by the first the index of what waits will do
                "SELECT min(available_at) FROM jobs "  # noqa: S608 - constants and question marks
                "WHERE state IN ('available', 'in_doubt', 'staged') "
                f"AND state IN ({states}) AND folder IN ({marks(folders)}) AND available_at < ?",
                (*folders, PARKED),
            ).fetchone()[0]
            for states, folders in (
                ("'available', 'in_doubt'", only_folders),
                ("'staged'", {*only_folders, *deliver_in}),
            )
        ]
        return min((float(at) for at in due_at if at is not None), default=None)

    @verb
    def present(self, folder: str, *, rules_digest: str) -> Iterable[tuple[str, Signature]]:
        """Return path and version of each file that was dealt with or is on its way."""
        rows = self._execute(
            "SELECT path, device, inode, size_bytes, mtime_ns, ctime_ns FROM jobs "
            "WHERE folder = ? AND present = 1 AND ifnull(rules_digest, ?) = ?",
            (folder, rules_digest, rules_digest),
        )
        return [(os.fsdecode(row[0]), read_signature(row[1:6])) for row in rows]

    @verb
    def owed(self) -> list[Job]:
        """Return ended jobs whose originals are not put away yet."""
        return self._jobs(
            "WHERE present = 1 AND retire IN ('archive', 'delete', 'quarantine') "
            "AND state IN ('completed', 'discarded') ORDER BY id"
        )

    @verb
    def spooled(self) -> list[str]:
        """Return the names in the spool that jobs still need."""
        rows = self._execute(
            "SELECT spool_name FROM jobs WHERE state = 'staged' "
            "UNION SELECT spool_name FROM results WHERE kept = 1 "
            "UNION SELECT id || '.png' FROM attempts WHERE ended_at IS NULL"
        )
        return [row[0] for row in rows]

    @verb
    def staged(self) -> list[int]:
        """Return the ids of the jobs whose results wait for their delivery."""
        return [row[0] for row in self._execute("SELECT id FROM jobs WHERE state = 'staged'")]

    @verb
    def prior(self, work_key: bytes) -> Prior:
        """Return what is known of a piece of work."""
        rows = self._execute(
            "SELECT spool_name, kept, sha256, size_bytes, width, height, scale FROM results "
            "WHERE work_key = ? ORDER BY kept DESC, used_at DESC",
            (work_key,),
        ).fetchall()
        delivered = self._execute(
            "SELECT spool_name, result_path, delivered_sha256, delivered_size_bytes, id FROM jobs "
            "WHERE work_key = ? AND state = 'completed' AND result_path IS NOT NULL "
            "UNION ALL SELECT spool_name, result_path, delivered_sha256, delivered_size_bytes, "
            "job_id FROM deliveries WHERE work_key = ? ORDER BY 5 DESC LIMIT ?",
            (work_key, work_key, PLACES_MAX),
        ).fetchall()
        return Prior(
            doubts=self._count_doubts(work_key),
            under_way=self._is_under_way(work_key),
            results=tuple(
                Earlier(
                    result=Result(
                        spool_name=name,
                        width=width,
                        height=height,
                        scale=scale,
                        sha256=sha256,
                        size_bytes=size_bytes,
                    ),
                    kept=bool(kept),
                    delivered=tuple(
                        Delivered(path=os.fsdecode(at), sha256=digest, size_bytes=size)
                        for of, at, digest, size, _ in delivered
                        if of == name
                    ),
                )
                for name, kept, sha256, size_bytes, width, height, scale in rows
            ),
        )

    def _count_doubts(self, work_key: bytes) -> int:
        [(doubts,)] = self._execute(
            "SELECT count(*) FROM attempts WHERE work_key = ? AND charge IN ('unknown', 'lost') "
            "AND pardoned = 0",
            (work_key,),
        )
        return int(doubts)

    def _count_results(self, work_key: bytes) -> int:
        [(results,)] = self._execute("SELECT count(*) FROM results WHERE work_key = ?", (work_key,))
        return int(results)

    def _is_under_way(self, work_key: bytes) -> bool:
        found = self._execute(
            "SELECT 1 FROM attempts WHERE work_key = ? AND ended_at IS NULL", (work_key,)
        )
        return found.fetchone() is not None

    @verb
    def spent(self, budgets: Sequence[Budget]) -> list[int]:
        """Return what counts against each budget, in micro-USD."""
        return [self._spent(budget) for budget in budgets]

    def _spent(self, budget: Budget) -> int:
        folder = budget.limit.folder
        [(microusd,)] = self._execute(
            # `~` comes behind every digit and dash
            f"SELECT ifnull(sum(microusd), 0) FROM spending WHERE day >= ? AND day < ? || '~' "  # noqa: S608
            f"AND {_SPENT} AND ifnull(?, folder) = folder",
            (budget.days, budget.days, folder),
        )
        return int(microusd)

    @verb
    def spending(self, *, since_day: str = "") -> list[Spending]:
        """Return the sums of every day from `since_day` on, oldest first."""
        rows = self._execute(
            "SELECT day, folder, preset, charge, requests, microusd FROM spending "
            "WHERE day >= ? AND requests > 0 ORDER BY day, folder, preset, charge",
            (since_day,),
        )
        return [
            Spending(
                day=day,
                folder=folder,
                preset=preset,
                charge=Charge(charge),
                requests=requests,
                microusd=microusd,
            )
            for day, folder, preset, charge, requests, microusd in rows
        ]

    @verb
    def active(self, folder: str) -> list[Job]:
        """Return a folder's jobs that have not ended, in the order of their coming."""
        return self._jobs(
            # spelled out, so that SQLite sees that the index of active jobs will do
            "WHERE folder = ? AND state IN ('available', 'executing', 'in_doubt', 'staged') "
            "ORDER BY id",
            (folder,),
        )

    @verb
    def find(self, *, path: str, place: str, limit: int) -> list[Job]:
        """Return the jobs of one file, newest first."""
        wanted, at = os.fsencode(path), os.fsencode(place)
        below = b"/" + wanted
        return self._jobs(
            "WHERE path = :path OR substr(path, -:length) = :below OR result_path = :at "
            "OR original_path = :at "
            "OR id IN (SELECT job_id FROM deliveries WHERE result_path = :at) "
            "ORDER BY id DESC LIMIT :limit",
            {"path": wanted, "below": below, "length": len(below), "at": at, "limit": limit},
        )

    @verb
    def mounts(self) -> dict[str, str]:
        """Return where each folder's file system was mounted when it was last used."""
        rows = self._execute("SELECT path, mount_point FROM mounts")
        return {os.fsdecode(path): os.fsdecode(mount_point) for path, mount_point in rows}

    @verb
    def attempts(self, job: Job) -> list[Attempt]:
        """Return the job's attempts, oldest first."""
        rows = self._execute(
            f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE job_id = ? ORDER BY id",  # noqa: S608
            (job.id,),
        )
        return [read_attempt(row) for row in rows]

    @verb
    def deliveries(self, job: Job) -> list[Delivery]:
        """Return what is in the outbox of a file with several frames, in their order."""
        rows = self._execute(
            "SELECT frame, result_path, result_width, result_height FROM deliveries "
            "WHERE job_id = ? ORDER BY frame",
            (job.id,),
        )
        found = [
            Delivery(frame=frame, path=os.fsdecode(path), width=width, height=height)
            for frame, path, width, height in rows
        ]
        if job.state is State.COMPLETED and job.frames > 1:
            assert job.result_path is not None, "delivered"
            assert job.result_width is not None, "delivered"
            assert job.result_height is not None, "delivered"
            last = Delivery(
                frame=job.frame,
                path=job.result_path,
                width=job.result_width,
                height=job.result_height,
            )
            found.append(last)
        return found

    @verb
    def is_finished(self, source_sha256: bytes, work_key: bytes) -> bool:
        """Tell whether all frames of a file of these bytes were delivered before."""
        found = self._execute(
            "SELECT 1 FROM deliveries JOIN jobs ON jobs.id = job_id WHERE deliveries.work_key = ? "
            "AND deliveries.frame = 0 AND source_sha256 = ? AND state = 'completed'",
            (work_key, source_sha256),
        )
        return found.fetchone() is not None

    @verb
    def sent_since(self, since: float) -> list[float]:
        """Return when requests and such questions were sent since `since`, oldest first."""
        rows = self._execute(
            "SELECT started_at FROM attempts WHERE started_at >= ? "
            "UNION ALL SELECT asked_at FROM questions WHERE asked_at >= ? ORDER BY 1",
            (since, since),
        )
        return [float(row[0]) for row in rows]

    @verb
    def failed_since(self, since: float) -> list[float]:
        """Return when requests were answered by a failure since `since`, oldest first."""
        rows = self._execute(
            # one that ended lately began within the hour: no timeout is longer
            "SELECT ended_at FROM attempts WHERE started_at >= ? AND ended_at >= ? "
            # where no answer came, as after a death, the API need not have counted anything
            "AND status IS NOT NULL AND outcome NOT IN ('succeeded', 'adopted', 'lost') "
            "ORDER BY ended_at",
            (since - REQUEST_S_MAX, since),
        )
        return [float(row[0]) for row in rows]

    @verb
    def quarantined(self, source_sha256: bytes) -> list[Job]:
        """Return discarded jobs of these bytes whose files were put into the quarantine."""
        return self._jobs(
            "WHERE source_sha256 = ? AND state = 'discarded' AND original_path IS NOT NULL",
            (source_sha256,),
        )

    @verb
    def outcomes(self) -> dict[tuple[str, str], int]:
        """Return how many requests of each folder came to what; a walk through all of them."""
        rows = self._execute(
            "SELECT folder, outcome, count(*) FROM attempts WHERE outcome IS NOT NULL GROUP BY 1, 2"
        )
        return {(folder, outcome): int(count) for folder, outcome, count in rows}

    @verb
    def recent(self, *, limit: int, folder: str | None = None, ended: bool = False) -> list[Job]:
        """Return the jobs that changed last, newest first; `ended`: only those that have."""
        states = FINAL if ended else (*ACTIVE, *FINAL)
        return self._jobs(
            f"WHERE state IN ({marks(states)}) AND ifnull(?, folder) = folder "
            "ORDER BY updated_at DESC, id DESC LIMIT ?",
            (*states, folder, limit),
        )


def marks(values: Collection[str]) -> str:
    """Return as many question marks as there are values."""
    return ", ".join("?" * len(values))
