"""When is a file complete? One pure decision from what the kernel, the content and time tell.

Three witnesses: whether a process on this machine still has the file open for writing, whether
the content's own end is there, and how long nothing changed between our own looks at it (never
its mtime against the wall clock: copies keep old times, and a NAS's clock may be wrong).
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

QUICK_S = 0.15  # unchanged this long is enough where kernel and content are certain, no event came
WRITER_LOOK_S = 0.25  # while somebody writes, look again this soon
MISSING_LOOK_S = 1.0  # while the end is missing
ZEROS_FACTOR = 10  # a tail of zeros may be a black edge or a file not yet filled: wait longer


class Writer(Enum):
    """Whether a local process has the file open for writing."""

    SOME = auto()
    NONE = auto()
    UNKNOWN = auto()  # cannot be asked: a network mount, or another owner's file


class End(Enum):
    """What the content says of its own end."""

    WHOLE = auto()
    MISSING = auto()
    ZEROS = auto()  # a format without an end of its own, and the last bytes are all zero
    UNKNOWN = auto()  # a format without an end of its own, or bytes after the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The folder's waiting times."""

    settle_s: float
    incomplete_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Not yet; a look in `after_s` may tell more."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Its end is missing, and nobody has touched it for `incomplete_after`."""


Verdict = Complete | LookAgain | GiveUp


def decide(
    *,
    size_bytes: int,
    unchanged_s: float,
    announced: bool,
    writer: Writer,
    end: End,
    policy: Policy,
) -> Verdict:
    """Return whether a file unchanged for `unchanged_s` may be taken.

    `announced`: an event told of it, such as that it was closed or moved in.
    """
    if writer is Writer.SOME:
        return LookAgain(after_s=WRITER_LOOK_S)
    if size_bytes == 0 or end is End.MISSING:
        if unchanged_s >= policy.incomplete_after_s:
            return GiveUp()
        left_s = policy.incomplete_after_s - unchanged_s
        return LookAgain(after_s=min(MISSING_LOOK_S, left_s))
    match end:
        case End.WHOLE:
            quick_s = 0.0 if announced else QUICK_S
            needed_s = quick_s if writer is Writer.NONE else policy.settle_s
        case End.UNKNOWN:
            needed_s = policy.settle_s
        case End.ZEROS:
            needed_s = policy.settle_s * ZEROS_FACTOR
        case _:
            assert_never(end)
    if unchanged_s >= needed_s:
        return Complete()
    return LookAgain(after_s=needed_s - unchanged_s)
