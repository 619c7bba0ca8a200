"""What a job is: one version of one file on its way, its states, and every step between them.

`TRANSITIONS` is the only list of steps there is: the ledger's engines compare-and-set along it,
and the diagram in the documentation is made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a job stands, in the terms of the durable queues."""

    AVAILABLE = "available"  # waiting, perhaps until `available_at`
    EXECUTING = "executing"  # somebody works on it
    IN_DOUBT = "in_doubt"  # may have been charged, no result; waits for its one resend
    STAGED = "staged"  # the paid result is safe in the spool
    COMPLETED = "completed"  # the result is in the outbox
    DISCARDED = "discarded"  # given up; its file belongs in the quarantine
    CANCELLED = "cancelled"  # its file went away, changed, or is to be skipped


ACTIVE = (State.AVAILABLE, State.EXECUTING, State.IN_DOUBT, State.STAGED)
FINAL = (State.COMPLETED, State.DISCARDED, State.CANCELLED)


class Verb(StrEnum):
    """What may happen to a job."""

    CLAIM = "claim"
    RETRY = "retry"  # again later, counted as an attempt or not (a snooze)
    DOUBT = "doubt"  # the money's fate is unknown: one resend is allowed
    STAGE = "stage"
    ADVANCE = "advance"  # a frame is delivered; the file has another one
    COMPLETE = "complete"
    DISCARD = "discard"
    CANCEL = "cancel"
    REQUEUE = "requeue"  # a person's: the only way out of a final state


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A step: allowed from any of `sources`, ending in `target`."""

    sources: tuple[State, ...]
    target: State


TRANSITIONS: Mapping[Verb, Transition] = MappingProxyType(
    {
        Verb.CLAIM: Transition(
            sources=(State.AVAILABLE, State.IN_DOUBT),
            target=State.EXECUTING,
        ),
        Verb.RETRY: Transition(sources=(State.EXECUTING,), target=State.AVAILABLE),
        Verb.DOUBT: Transition(sources=(State.EXECUTING,), target=State.IN_DOUBT),
        Verb.STAGE: Transition(sources=(State.EXECUTING,), target=State.STAGED),
        Verb.ADVANCE: Transition(sources=(State.STAGED,), target=State.AVAILABLE),
        Verb.COMPLETE: Transition(sources=(State.STAGED,), target=State.COMPLETED),
        Verb.DISCARD: Transition(
            sources=(State.EXECUTING, State.STAGED),
            target=State.DISCARDED,
        ),
        Verb.CANCEL: Transition(sources=(State.EXECUTING,), target=State.CANCELLED),
        Verb.REQUEUE: Transition(sources=FINAL, target=State.AVAILABLE),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Which version of a file: two stat results with one signature saw the same bytes.

    `ctime_ns` tells a rewrite that kept its mtime, but also changes with a rename or a chmod, so
    it serves only between two looks at a file that nobody moved.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    def is_version(self, other: "Signature") -> bool:
        """Tell whether both are one version of one file, renamed or not."""
        return (self.inode, self.size_bytes, self.mtime_ns) == (
            other.inode,
            other.size_bytes,
            other.mtime_ns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What picture an original holds, and what was sent of it; sizes in pixels, upright."""

    kind: str  # the format, by content
    width: int
    height: int
    sent_width: int
    sent_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A file that intake found complete (or gave up waiting for: `incomplete`)."""

    folder: str
    path: str  # relative to the inbox; may hold surrogate escapes (names that are not UTF-8)
    signature: Signature
    priority: int = 0
    incomplete: bool = False


class Retire(StrEnum):
    """What becomes of the original at the end of its way."""

    ARCHIVE = "archive"
    DELETE = "delete"
    KEEP = "keep"  # stays in the inbox, remembered
    QUARANTINE = "quarantine"
    NONE = "none"  # there is nothing to put away: the file is gone, or is another one now


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A row of the ledger."""

    id: int
    folder: str
    path: str
    state: State
    generation: int  # goes up with every step: the fencing token
    signature: Signature
    incomplete: bool
    attempts: int  # of the frame in work: those that count against `retries.attempts`
    available_at: float  # inf: it waits for no time, but for a twin or a delivery
    created_at: float
    updated_at: float
    frame: int = 0  # in work, from 0; those before are delivered
    frames: int = 1  # of the file that are wanted, as far as is known
    preset: str | None = None
    parameters: str | None = None  # JSON, by the API's names
    source_sha256: bytes | None = None
    work_key: bytes | None = None
    code: str | None = None
    message: str | None = None
    spool_name: str | None = None
    result_path: str | None = None  # absolute, in the outbox; None until a name is found
    result_width: int | None = None
    result_height: int | None = None
    result_scale: float | None = None  # what it really came to
    original_path: str | None = None  # absolute: where the original went
    retire: Retire | None = None
    source: Source | None = None  # None until it is ordered

    @property
    def has_next_frame(self) -> bool:
        """Tell whether another frame of the file is to come after the one in work."""
        return self.frame + 1 < self.frames


class Charge(StrEnum):
    """What became of an attempt's money."""

    RESERVED = "reserved"  # the attempt is open
    NONE = "none"
    CHARGED = "charged"
    UNKNOWN = "unknown"  # in doubt: counts as spent
    LOST = "lost"  # charged, and no usable result came


SPENT = (Charge.CHARGED, Charge.UNKNOWN, Charge.LOST)  # what counts as paid, once it has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request that may cost money, from before its first byte to what became of it."""

    id: int
    job_id: int
    work_key: bytes
    started_at: float
    ended_at: float | None
    charge: Charge
    microusd: int
    frame: int = 0  # of its job, from 0
    outcome: str | None = None
    status: int | None = None
    request_id: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """How an attempt ended; `message` holds no secret (the client's border saw to it)."""

    outcome: str
    charge: Charge
    microusd: int | None = None  # what it came to, where that is less than was reserved
    status: int | None = None
    request_id: str | None = None
    message: str | None = None
