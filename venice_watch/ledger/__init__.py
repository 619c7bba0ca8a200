"""The ledger: what this program remembers, so that nothing is lost and nothing is paid twice.

`Ledger` is what an engine must do. Every verb is one transaction, durable when it returns, and
compare-and-set: a step from a state or generation that is no longer true raises `StaleError`
and changes nothing.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from venice_watch.errors import VeniceWatchError
from venice_watch.job import Arrival, Attempt, Closing, Job, Retire, Signature


class StaleError(VeniceWatchError):
    """The job moved on without the caller: its step was refused."""


class NameReservedError(VeniceWatchError):
    """Another staged result will have that name in the outbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a request will ask for; `work_key` identifies the work wherever it comes from."""

    work_key: bytes
    source_sha256: bytes
    preset: str
    parameters: str
    microusd: int  # the worst case, reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was found out about an image before it was given up; None: not that far."""

    source_sha256: bytes | None = None
    preset: str | None = None
    parameters: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A verified result in the spool, and the name it will have in the outbox."""

    spool_name: str
    path: str | None  # absolute, in the outbox; None where it could not be found out yet
    width: int
    height: int
    scale: float  # what it really came to
    exclusive: bool = True  # False: the folder overwrites, so a name may be reserved twice


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAttempt:
    """A request whose end was never written down: the process died."""

    job: Job
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderCounts:
    """How many of a folder's jobs stand where."""

    available: int = 0
    executing: int = 0
    in_doubt: int = 0
    staged: int = 0
    completed: int = 0
    discarded: int = 0
    cancelled: int = 0
    quarantined: int = 0  # discarded, and their files still where they were put
    oldest_waiting_at: float | None = None
    spent_microusd: int = 0  # charged, unknown and lost


class Ledger(Protocol):
    """What every engine does; see `tests/ledger` for what it must keep."""

    async def enqueue(self, arrivals: Sequence[Arrival], *, now: float) -> list[bool]:
        """Make a job of each file; False where one is on its way at that path already."""

    async def claim(
        self, *, now: float, only_folders: Collection[str], deliver_in: Collection[str] = ()
    ) -> Job | None:
        """Take the next job that is due: available and in doubt ones become executing.

        A staged one (its delivery failed before) comes first and is handed out as it is, once;
        also from the folders `deliver_in`.
        """

    async def next_due_at(
        self, *, only_folders: Collection[str], deliver_in: Collection[str] = ()
    ) -> float | None:
        """Return when the next waiting job is due, or None."""

    async def begin(self, job: Job, order: Order, *, now: float) -> Attempt:
        """Reserve the money and write the attempt down, before the first byte leaves."""

    async def stage(
        self, job: Job, attempt: Attempt, closing: Closing, result: Result, *, now: float
    ) -> Job:
        """Record that the result is safe in the spool; NameReservedError if its name is not free.

        `result.path` is reserved until the job completes.
        """

    async def rename_result(self, job: Job, path: str, *, now: float) -> Job:
        """Reserve another name for a staged result: a file of the first name turned up."""

    async def postpone(self, job: Job, *, until: float, message: str, now: float) -> Job:
        """Let a staged job wait: it could not be delivered."""

    async def complete(self, job: Job, *, retire: Retire, now: float) -> Job:
        """Record the delivery; from here on the original may move."""

    async def retry(
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

    async def doubt(
        self, job: Job, attempt: Attempt, closing: Closing, *, until: float, now: float
    ) -> Job:
        """Close the attempt with its money unknown or lost, and let the one resend wait."""

    async def discard(
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

    async def cancel(
        self, job: Job, *, code: str, message: str, rules_digest: str | None, now: float
    ) -> Job:
        """End a job without a result.

        With a `rules_digest` its file stays and is remembered, as long as the rules are the same.
        """

    async def retired(self, job: Job, *, original_path: str | None, now: float) -> None:
        """Record that the original is put away (None: it stays where it is, or is gone)."""

    async def present(self, folder: str, *, rules_digest: str) -> Iterable[tuple[str, Signature]]:
        """Return path and version of each file that was dealt with or is on its way.

        Files skipped by other rules than those of `rules_digest` are left out.
        """

    async def forget_absent(self, folder: str, paths: Sequence[str], *, now: float) -> None:
        """Record that files which were dealt with and left in place are no longer there."""

    async def owed(self) -> list[Job]:
        """Return ended jobs whose originals are not put away yet."""

    async def recover(self, *, now: float) -> list[OpenAttempt]:
        """Take over after a death and return the requests that were under way.

        Executing jobs without an open attempt wait again; staged ones are due at once.
        """

    async def spooled(self) -> list[str]:
        """Return the names in the spool that jobs still need."""

    async def doubts(self, work_key: bytes) -> int:
        """Count the attempts at this work whose money is unknown or lost."""

    async def attempts(self, job: Job) -> list[Attempt]:
        """Return the job's attempts, oldest first."""

    async def sent_since(self, since: float) -> list[float]:
        """Return when requests were sent since `since`, oldest first: the rate's memory."""

    async def quarantined(self, source_sha256: bytes) -> list[Job]:
        """Return discarded jobs of these bytes whose files were put into the quarantine."""

    async def left_quarantine(self, job: Job, *, now: float) -> None:
        """Record that a quarantined file was taken back."""

    async def counts(self) -> dict[str, FolderCounts]:
        """Return the counts of every folder the ledger has seen."""

    async def recent(self, *, limit: int) -> list[Job]:
        """Return the jobs that changed last, newest first."""
