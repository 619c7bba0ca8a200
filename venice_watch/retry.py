"""What to do after a failed request: one pure decision from the outcome and what went before.

Chance comes in as a number in [0, 1): waiting times are drawn with full jitter, so that many
waiting images do not come back at the same moment.
"""

from dataclasses import dataclass
from typing import assert_never

from venice_watch.errors import Code
from venice_watch.outcome import (
    AccountRefused,
    Doubtful,
    Failure,
    Lost,
    Rejected,
    ServerFailed,
    Throttled,
    Unavailable,
    Unsent,
)

UNAVAILABLE_S = (5.0, 120.0)  # between these after a 503, says the API's documentation
SERVER_FAILED_S = (30.0, 120.0)  # after the first and the second 500; there is no third retry
DOUBTS_MAX = 1  # resends of one piece of work, ever
EXPONENT_MAX = 30  # 2**30 s is beyond any limit; keeps the arithmetic finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The configuration's part in the decision."""

    attempts_max: int
    base_s: float
    max_s: float
    resend_in_doubt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the ledger remembers of the job and, for doubts, of its work."""

    attempts: int  # those that counted, before this one
    failures: int  # counted or not, that nobody was charged for: how long to wait
    server_failures: int  # before this one
    doubts: int  # before this one, whichever job had them


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAt:
    """Send again after `after_s`; `counted` tells a retry from a snooze."""

    after_s: float
    counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """Send once more although it may have been charged: the one resend there is."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Give the image up, with a reason for the person who dropped it."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Stop sending for everybody; the image keeps its place and loses no attempt."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldFolder:
    """Stop sending for the folder, whose settings are at fault; the image loses no attempt."""

    reason: str


Decision = RetryAt | Resend | Discard | Halt | HoldFolder


def decide(
    outcome: Failure, past: Past, policy: Policy, *, blames_service: bool, chance: float
) -> Decision:
    """Return what becomes of the image; `blames_service`: others fail just as well."""
    match outcome:
        case AccountRefused():
            return Halt(reason=outcome.words)
        case Throttled():
            return RetryAt(after_s=outcome.after_s, counted=False)
        case Rejected():
            return Discard(
                code=Code.REJECTED,
                message=f"Venice refused it (HTTP {outcome.status}): {outcome.words}",
            )
        case Doubtful() | Lost():
            return _decide_doubt(outcome, past, policy, chance=chance)
        case ServerFailed():
            return _decide_server_failed(outcome, past, policy)
        case Unsent():
            delay_s = chance * _backoff_s(past.failures, policy.base_s, policy.max_s)
        case Unavailable():
            low, high = UNAVAILABLE_S
            delay_s = low + chance * (_backoff_s(past.failures + 1, low, high) - low)
            delay_s = max(delay_s, min(outcome.after_s or 0.0, high))
        case _:
            assert_never(outcome)
    if blames_service:
        return RetryAt(after_s=delay_s, counted=False)
    if past.attempts + 1 >= policy.attempts_max:
        return Discard(
            code=Code.FAILED,
            message=f"gave up after {past.attempts + 1} attempts; the last one: {outcome.words}. "
            "Nothing was charged for it. Move the file back into the inbox to try again.",
        )
    return RetryAt(after_s=delay_s, counted=True)


def _backoff_s(failures: int, base_s: float, max_s: float) -> float:
    return min(max_s, base_s * 2.0 ** min(failures, EXPONENT_MAX))


def _decide_server_failed(outcome: ServerFailed, past: Past, policy: Policy) -> Decision:
    exhausted = past.attempts + 1 >= policy.attempts_max
    if exhausted or past.server_failures >= len(SERVER_FAILED_S):
        return Discard(
            code=Code.FAILED,
            message=f"Venice failed at it {past.server_failures + 1} times (HTTP "
            f"{outcome.status}): {outcome.words}. Move the file back into the inbox to try again.",
        )
    return RetryAt(after_s=SERVER_FAILED_S[past.server_failures], counted=True)


def _decide_doubt(
    outcome: Doubtful | Lost, past: Past, policy: Policy, *, chance: float
) -> Decision:
    charged = "was" if isinstance(outcome, Lost) else "may have been"
    if not policy.resend_in_doubt:
        return Discard(
            code=Code.IN_DOUBT,
            message=f"the request {charged} charged, and no usable result came: {outcome.words}. "
            "`on_in_doubt` is `hold`, so it was not sent again. Check your Venice bill, then "
            "move the file back into the inbox to send it once more.",
        )
    if past.doubts >= DOUBTS_MAX:
        return Discard(
            code=Code.IN_DOUBT,
            message=f"this was the second time that a request for it {charged} charged without "
            f"a usable result: {outcome.words}. It is not sent a third time by itself; check "
            "your Venice bill, then move the file back into the inbox to try again.",
        )
    return Resend(after_s=chance * policy.base_s)
