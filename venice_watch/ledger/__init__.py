"""The ledger: what this program remembers, so that nothing is lost and nothing is paid twice.

`Ledger` is what an engine must do. Every verb is one transaction, durable when it returns, and
compare-and-set: a step from a state or generation that is no longer true raises `StaleError`
and changes nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from venice_watch.budget import Budget, usd
from venice_watch.errors import VeniceWatchError
from venice_watch.job import Arrival, Attempt, Charge, Closing, Job, Retire, Signature, Source
from venice_watch.ledger.pauses import Pauses

FILE_NAME = "ledger.sqlite3"  # in the state folder


class StaleError(VeniceWatchError):
    """The job moved on without the caller: its step was refused."""


class NameReservedError(VeniceWatchError):
    """Another staged result will have that name in the outbox."""


class UnderWayError(VeniceWatchError):
    """A request for the very same work is under way."""


class WorkMovedOnError(VeniceWatchError):
    """The same work was done, or came into doubt, since the caller asked about it."""


class LedgerTroubleError(VeniceWatchError):
    """The ledger cannot be written just now, and this step must not wait for it."""


class BudgetReachedError(VeniceWatchError):
    """A request would cost more than a budget has left."""

    def __init__(self, budget: Budget, *, spent_microusd: int, wanted_microusd: int) -> None:
        super().__init__(
            f"the budget of {budget.whose} for this {budget.limit.period} is "
            f"{usd(budget.limit.microusd)} USD; {usd(spent_microusd)} are spent, in doubt or "
            f"under way, and the next image may cost {usd(wanted_microusd)}. It goes on by itself "
            f"when the next {budget.limit.period} begins, or after a restart with a larger budget"
        )
        self.budget = budget
        self.spent_microusd = spent_microusd


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a request will ask for; `work_key` identifies the work wherever it comes from."""

    work_key: bytes
    source_sha256: bytes
    preset: str
    parameters: str
    microusd: int  # the worst case, reserved
    frames: int = 1  # of the file that are wanted
    alone: bool = True  # no other request for the same work may be under way
    results: int = 0  # of the same work, as `prior` told: more of them mean that it is done
    doubts: int = 0  # likewise: more of them may forbid the request
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was found out about an image before it was given up; None: not that far."""

    source_sha256: bytes | None = None
    preset: str | None = None
    parameters: str | None = None
    work_key: bytes | None = None
    frames: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A verified result in the spool, and the name it will have in the outbox."""

    spool_name: str
    width: int
    height: int
    scale: float  # what it really came to
    sha256: bytes
    size_bytes: int
    path: str | None = None  # absolute, in the outbox; None where it could not be found out yet
    exclusive: bool = True  # False: the folder overwrites, so a name may be reserved twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The result of one frame of a file that has several, in the outbox."""

    frame: int  # from 0
    path: str  # absolute
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A file in an outbox that shows a result.

    Without a digest it holds the very bytes of the result, perhaps with a block of metadata put in;
    with one it is another file, from which the result's pixels can be had.
    """

    path: str  # absolute
    sha256: bytes | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A paid result of earlier work, and where its bytes may still be."""

    result: Result
    kept: bool  # its file is in the spool
    delivered: tuple[Delivered, ...]  # the newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known of a piece of work, whichever job it was done for."""

    doubts: int  # requests whose money is unknown or lost, and that nobody has seen to
    under_way: bool
    results: tuple[Earlier, ...]  # the newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What the requests of one day, folder and preset came to, one row a fate of the money."""

    day: str  # local, as 2026-11-25
    folder: str
    preset: str
    charge: Charge
    requests: int
    microusd: int


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
    frames_ahead: int = 0  # of files on their way, beside the one in work of each
    quarantined: int = 0  # discarded, and their files still where they were put
    quarantine: Mapping[str, int] = field(default_factory=dict)  # those, by code
    oldest_waiting_at: float | None = None
    spent_microusd: int = 0  # charged, unknown and lost


class Ledger(Pauses, Protocol):
    """What every engine does; see `tests/ledger` for what it must keep."""

    trouble: str | None  # why nothing can be written down just now

    async def enqueue(self, arrivals: Sequence[Arrival], *, now: float) -> list[bool]:
        """Make a job of each file; False where one is on its way at that path already."""

    async def claim(
        self, *, now: float, only_folders: Sequence[str], deliver_in: Sequence[str] = ()
    ) -> Job | None:
        """Take the next job that is due: available and in doubt ones become executing.

        Of the folder that is named first, its highest priority first. A staged one (its delivery
        failed before) precedes them all and is handed out as it is, once; also from the folders
        `deliver_in`.
        """

    async def next_due_at(
        self, *, only_folders: Collection[str], deliver_in: Collection[str] = ()
    ) -> float | None:
        """Return when the next waiting job is due, or None."""

    async def begin(
        self, job: Job, order: Order, *, day: str, budgets: Sequence[Budget] = (), now: float
    ) -> Attempt:
        """Reserve the money and write the attempt down, before the first byte leaves.

        `day` is today's, local. Raises BudgetReachedError, WorkMovedOnError, UnderWayError for an
        order that must be alone, or LedgerTroubleError; nothing has changed then.
        """

    async def park(self, job: Job, order: Order, *, now: float) -> Job:
        """Let a job wait until no request for the same work is under way."""

    async def reuse(
        self, job: Job, order: Order, result: Result, *, made_of: str | None = None, now: float
    ) -> Job:
        """Stage a job with the result of earlier work, whose file is in the spool again.

        With `made_of` (the name in the spool of an earlier result) it is a new one, made of a file
        that shows that one. NameReservedError as in `stage`; StaleError if there is no such result.
        """

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

    async def advance(self, job: Job, *, delivered: Delivered | None = None, now: float) -> Job:
        """Record the delivery of a frame that is not the file's last; the next one waits.

        It is due before whatever waits in its folder, with no attempts and no result yet.
        `delivered` as in `complete`.
        """

    async def complete(
        self, job: Job, *, retire: Retire, delivered: Delivered | None = None, now: float
    ) -> Job:
        """Record the delivery; from here on the original may move.

        `delivered` is given where the file in the outbox is not the result's own bytes.
        """

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
        """Record that the original is put away (None: it stays where it is, or is gone).

        Its times are those of `job`: somebody may have set them since it was read.
        """

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

        Executing jobs without an open attempt wait again; staged ones are due at once, and so is
        what would wait for longer than anything may: a clock that was ahead has been put right.
        """

    async def spooled(self) -> list[str]:
        """Return the names in the spool that jobs still need."""

    async def staged(self) -> list[int]:
        """Return the ids of the jobs whose results wait for their delivery."""

    async def trim(
        self, *, kept_bytes_max: int, missing_bytes: int = 0, pinned: Collection[str] = ()
    ) -> list[str]:
        """Give up kept results, the longest unused first; return the names to remove.

        As many as it takes to keep at most `kept_bytes_max`, and to free `missing_bytes`. What a
        staged job needs stays, and so do those `pinned`.
        """

    async def prior(self, work_key: bytes) -> Prior:
        """Return what is known of a piece of work."""

    async def attempts(self, job: Job) -> list[Attempt]:
        """Return the job's attempts, oldest first."""

    async def deliveries(self, job: Job) -> list[Delivery]:
        """Return what is in the outbox of a file with several frames, in their order."""

    async def is_finished(self, source_sha256: bytes, work_key: bytes) -> bool:
        """Tell whether all frames of a file of these bytes were delivered before.

        `work_key` is that of its first frame.
        """

    async def note_question(self, *, now: float) -> None:
        """Write down that a free question is about to be asked that counts against the rate."""

    async def sent_since(self, since: float) -> list[float]:
        """Return when requests and such questions were sent since `since`, oldest first."""

    async def failed_since(self, since: float) -> list[float]:
        """Return when requests were answered by a failure since `since`, oldest first."""

    async def waiting(self) -> dict[str, int]:
        """Return how many images of each folder are not paid for yet, each frame of a file one."""

    async def durations(self, *, limit: int) -> list[float]:
        """Return how long those of the latest `limit` requests took that succeeded, in seconds."""

    async def quarantined(self, source_sha256: bytes) -> list[Job]:
        """Return discarded jobs of these bytes whose files were put into the quarantine."""

    async def left_quarantine(self, job: Job, *, back_at: float, now: float) -> None:
        """Record that a person took a quarantined file back: its work may be paid for again.

        That pardons the doubts from before it was back (`back_at`); later ones count.
        """

    async def spent(self, budgets: Sequence[Budget]) -> list[int]:
        """Return what counts against each budget, in micro-USD."""

    async def spending(self, *, since_day: str = "") -> list[Spending]:
        """Return the sums of every day from `since_day` on, oldest first."""

    async def active(self, folder: str) -> list[Job]:
        """Return a folder's jobs that have not ended, in the order of their coming."""

    async def find(self, *, path: str, place: str, limit: int) -> list[Job]:
        """Return the jobs of one file, newest first.

        Those whose path in the inbox is or ends with `path`, and those whose result or original
        lies at the absolute path `place`.
        """

    async def mounts(self) -> dict[str, str]:
        """Return where each folder's file system was mounted when it was last used."""

    async def remember_mount(self, path: str, mount_point: str) -> None:
        """Record where a folder's file system is mounted."""

    async def counts(self) -> dict[str, FolderCounts]:
        """Return the counts of every folder the ledger has seen."""

    async def outcomes(self) -> dict[tuple[str, str], int]:
        """Return how many requests of each folder came to what; a walk through all of them."""

    async def recent(
        self, *, limit: int, folder: str | None = None, ended: bool = False
    ) -> list[Job]:
        """Return the jobs that changed last, newest first; `ended`: only those that have."""
