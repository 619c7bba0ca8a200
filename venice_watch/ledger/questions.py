"""The ledger's questions on SQLite: verbs that read and change nothing."""

import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from venice_watch.job import Attempt, Job, Signature
from venice_watch.ledger import FolderCounts
from venice_watch.ledger.connection import Connection, verb
from venice_watch.ledger.rows import (
    ATTEMPT_COLUMNS,
    JOB_COLUMNS,
    read_attempt,
    read_job,
    read_signature,
)

IN_HAND = 9e12  # `available_at` of a staged job that somebody is delivering: never due


class Questions(Connection):
    """What may be asked; see `Ledger` for what each answers."""

    def _jobs(self, where: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Job]:
        rows = self._execute(f"SELECT {JOB_COLUMNS} FROM jobs {where}", values)  # noqa: S608 - constants
        return [read_job(row) for row in rows]

    @verb
    def next_due_at(
        self, *, only_folders: Collection[str], deliver_in: Collection[str] = ()
    ) -> float | None:
        """Return when the next waiting job is due, or None."""
        [(due_at,)] = self._execute(
            "SELECT min(available_at) FROM jobs "  # noqa: S608 - question marks only
            "WHERE state IN ('available', 'in_doubt', 'staged') AND available_at < ? "
            f"AND (folder IN ({marks(only_folders)}) "
            f"OR state = 'staged' AND folder IN ({marks(deliver_in)}))",
            (IN_HAND, *only_folders, *deliver_in),
        )
        return None if due_at is None else float(due_at)

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
            "UNION SELECT id || '.png' FROM attempts WHERE ended_at IS NULL"
        )
        return [row[0] for row in rows]

    @verb
    def doubts(self, work_key: bytes) -> int:
        """Count the attempts at this work whose money is unknown or lost."""
        [(count,)] = self._execute(
            "SELECT count(*) FROM attempts WHERE work_key = ? AND charge IN ('unknown', 'lost')",
            (work_key,),
        )
        return int(count)

    @verb
    def attempts(self, job: Job) -> list[Attempt]:
        """Return the job's attempts, oldest first."""
        rows = self._execute(
            f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE job_id = ? ORDER BY id",  # noqa: S608
            (job.id,),
        )
        return [read_attempt(row) for row in rows]

    @verb
    def sent_since(self, since: float) -> list[float]:
        """Return when requests were sent since `since`, oldest first."""
        rows = self._execute(
            "SELECT started_at FROM attempts WHERE started_at >= ? ORDER BY started_at", (since,)
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

    @verb
    def recent(self, *, limit: int) -> list[Job]:
        """Return the jobs that changed last, newest first."""
        return self._jobs("ORDER BY updated_at DESC, id DESC LIMIT ?", (limit,))


def marks(values: Collection[str]) -> str:
    """Return as many question marks as there are values."""
    return ", ".join("?" * len(values))
