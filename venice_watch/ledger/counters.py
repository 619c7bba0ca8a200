"""How things stand, by the SQLite ledger: counts kept beside the jobs, and what a person paused."""

from typing import Any

from venice_watch.job import State
from venice_watch.ledger import FolderCounts
from venice_watch.ledger.connection import Connection, verb
from venice_watch.ledger.pauses import Pause

EVERY = ""  # in the table, the name of no folder


class Counters(Connection):
    """Sums, and pauses as they are; see `Ledger` and `Pauses` for what each verb promises."""

    @verb
    def counts(self) -> dict[str, FolderCounts]:
        """Return the counts of every folder the ledger has seen."""
        facts: dict[str, dict[str, Any]] = {}
        for folder, state, code, put_away, jobs, ahead in self._execute(
            "SELECT folder, state, code, put_away, jobs, frames_ahead FROM counts "
            "WHERE jobs > 0 ORDER BY folder, state, code"
        ):
            one = facts.setdefault(folder, {"quarantined": 0, "quarantine": {}, "frames_ahead": 0})
            one[state] = one.get(state, 0) + jobs
            if state not in (State.COMPLETED, State.DISCARDED, State.CANCELLED):
                one["frames_ahead"] += ahead
            if state == State.DISCARDED and put_away:
                one["quarantined"] += jobs
                one["quarantine"][code] = jobs
        for folder, one in facts.items():
            [(one["oldest_waiting_at"],)] = self._execute(
                "SELECT min(created_at) FROM jobs WHERE folder = ? "
                "AND state IN ('available', 'in_doubt')",
                (folder,),
            )
        for folder, spent in self._execute(
            "SELECT folder, sum(microusd) FROM spending "
            "WHERE charge IN ('charged', 'unknown', 'lost') GROUP BY folder"
        ):
            facts.setdefault(folder, {})["spent_microusd"] = spent
        return {folder: FolderCounts(**values) for folder, values in facts.items()}

    @verb
    def waiting(self) -> dict[str, int]:
        """Return how many images of each folder are not paid for yet, each frame of a file one."""
        rows = self._execute(
            # the frame in work of a staged one is paid for
            "SELECT folder, sum(jobs * (state <> 'staged') + frames_ahead) FROM counts "
            "WHERE state IN ('available', 'executing', 'in_doubt', 'staged') GROUP BY folder"
        )
        return {folder: int(count) for folder, count in rows if count}

    @verb
    def durations(self, *, limit: int) -> list[float]:
        """Return how long the latest requests that succeeded took, in seconds."""
        rows = self._execute(
            "SELECT ended_at - started_at, outcome FROM attempts ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return [max(0.0, took_s) for took_s, outcome in rows if outcome == "succeeded"]

    @verb
    def pauses(self) -> list[Pause]:
        """Return every pause, that of all folders first, then by folder."""
        return self._pauses()

    def _pauses(self) -> list[Pause]:
        rows = self._execute("SELECT folder, by, since FROM pauses ORDER BY folder")
        return [
            Pause(folder=None if folder == EVERY else folder, by=by, since=since)
            for folder, by, since in rows
        ]
