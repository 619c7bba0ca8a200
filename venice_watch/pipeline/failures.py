"""What becomes of an image that did not get through: one decision, and one ledger verb for it."""

from collections.abc import Awaitable, Callable
from typing import Any, assert_never

from venice_watch import retry
from venice_watch.budget import turns_at
from venice_watch.errors import Code, ImageRefusedError
from venice_watch.files.source import SourceChangedError, SourceGoneError, UnsafeSourceError
from venice_watch.job import FINAL, Attempt, Charge, Closing, State
from venice_watch.ledger import (
    BudgetReachedError,
    Known,
    LedgerTroubleError,
    StaleError,
    UnderWayError,
    WorkMovedOnError,
)
from venice_watch.outcome import Doubtful, Failure
from venice_watch.pipeline.consider import (
    FolderHeldError,
    HeldError,
    SkippedError,
    rules_digest,
)
from venice_watch.pipeline.decide import decide
from venice_watch.pipeline.deliver import DeliveryError, ResultLostError
from venice_watch.pipeline.passage import Hold, Parts, Passage
from venice_watch.pipeline.paused import PausedError
from venice_watch.pipeline.retire import retire
from venice_watch.pipeline.send import (
    ContractChangedError,
    SendFailedError,
    ServiceDownError,
    adopt,
)
from venice_watch.rules import skips_undecoded
from venice_watch.venice.gate import DrainingError

HELD_S = 10.0  # between free looks at a folder that waits for a person
REFUSED_S = 300.0  # between requests of a folder whose parameters the server does not know
TROUBLE_S = (1.0, 120.0)  # between these while an image is held or cannot be read
DELIVERY_S = 10.0  # between tries to deliver while the outbox is in trouble
BUDGET_LOOK_S = 3600.0  # at most between two tries whether a budget has room again
BUG_S = 60.0  # before an image that met a bug of ours is tried again


async def settle(parts: Parts, passage: Passage, error: Exception) -> None:
    """Write down what becomes of an image whose way ended with `error`."""
    handler = next((made for kind, made in _HANDLERS if isinstance(error, kind)), _on_bug)
    if passage.attempt is not None and not isinstance(error, SendFailedError):
        handler = _on_bug_after_paying
    elif passage.job.state in FINAL:
        handler = _on_bug  # what is left of it is owed, and done by itself
    try:
        await handler(parts, passage, error)
    except StaleError as exc:
        passage.log.warning("job.moved_on", error=str(exc))


async def settle_open_attempt(
    parts: Parts, passage: Passage, attempt: Attempt, words: str, *, resend_after_s: float = 0.0
) -> None:
    """Settle a request whose end was never written down: adopt its result, or doubt it."""
    if not await adopt(parts, passage, attempt):
        failure = Doubtful(words=words)
        await settle_request(parts, passage, attempt, failure, resend_after_s=resend_after_s)


async def settle_request(
    parts: Parts,
    passage: Passage,
    attempt: Attempt,
    failure: Failure,
    *,
    resend_after_s: float = 0.0,
) -> None:
    """Decide on a failed request and close its attempt; a resend waits at least so long."""
    decision = await decide(parts, passage, attempt, failure)
    closing = Closing(
        outcome=failure.name,
        charge=failure.charge,
        status=failure.status,
        request_id=failure.request_id,
        message=failure.words,
    )
    if failure.charge in (Charge.UNKNOWN, Charge.LOST):
        parts.tally.spent_microusd += attempt.microusd
    passage.log.warning(
        "request.failed",
        outcome=failure.name,
        charge=failure.charge,
        status=failure.status,
        request_id=failure.request_id,
        words=failure.words,
        decision=type(decision).__name__,
    )
    now = parts.clock.now()
    ended = (attempt, closing)
    passage.attempt = None
    match decision:
        case retry.Discard():
            await _discard(parts, passage, decision.code, decision.message, ended=ended)
        case retry.Resend():
            until = now + max(resend_after_s, decision.after_s)
            passage.job = await parts.ledger.doubt(
                passage.job, attempt, closing, until=until, now=now
            )
        case retry.Halt():  # the gate was shut as soon as the answer was there
            await _put_back(parts, passage, failure.words, ended=ended)
        case retry.HoldFolder():
            error = FolderHeldError(decision.reason, REFUSED_S, refused=True)
            _hold_folder(parts, passage, error)
            await _put_back(parts, passage, failure.words, ended=ended)
        case retry.RetryAt():
            await _put_back(
                parts,
                passage,
                failure.words,
                after_s=decision.after_s,
                counted=decision.counted,
                ended=ended,
            )
        case _:
            assert_never(decision)


async def _put_back(
    parts: Parts,
    passage: Passage,
    why: str,
    *,
    after_s: float = 0.0,
    counted: bool = False,
    ended: tuple[Attempt, Closing] | None = None,
) -> None:
    """Let the image wait; only a counted failure costs it an attempt."""
    now = parts.clock.now()
    attempt, closing = ended or (None, None)
    passage.job = await parts.ledger.retry(
        passage.job,
        attempt,
        closing,
        until=now + after_s,
        counted=counted,
        message=why,
        now=now,
    )
    _give_back(parts, closing)


def _give_back(parts: Parts, closing: Closing | None) -> None:
    """Let folders that wait for their budget try again, where a request has cost nothing."""
    if closing is not None and closing.charge is Charge.NONE:
        parts.tally.lift_budgets()


async def _discard(
    parts: Parts,
    passage: Passage,
    code: Code,
    reason: str,
    *,
    ended: tuple[Attempt, Closing] | None = None,
) -> None:
    """Give the image up: into the quarantine, with its report."""
    attempt, closing = ended or (None, None)
    reason = passage.of_frame(reason)
    message = f"{passage.job.path.rpartition('/')[2]}: {reason}"
    choice = passage.choice
    known = Known(
        source_sha256=passage.source_sha256,
        preset=choice.preset if choice else None,
        parameters=choice.parameters.canonical() if choice else None,
        work_key=passage.order.work_key if passage.order else None,
        frames=passage.job.frames,
    )
    passage.job = await parts.ledger.discard(
        passage.job,
        attempt,
        closing,
        code=code,
        message=message,
        known=known,
        now=parts.clock.now(),
    )
    _give_back(parts, closing)
    parts.tally.settle(*passage.key)
    parts.tally.give_up(passage.folder.name, code, message)
    passage.log.warning("image.quarantined", code=code, reason=message)
    await retire(parts, passage)


async def _on_send_failed(parts: Parts, passage: Passage, error: SendFailedError) -> None:
    await settle_request(parts, passage, error.attempt, error.failure)


async def _on_refused(parts: Parts, passage: Passage, error: ImageRefusedError) -> None:
    signature = passage.job.signature
    if passage.choice is None and skips_undecoded(
        passage.folder.rules,
        name=passage.job.path,
        kind=passage.kind,
        size_bytes=signature.size_bytes,
    ):
        await _on_skipped(parts, passage, SkippedError("a rule of the folder says skip"))
        return
    await _discard(parts, passage, error.code, error.message)


async def _on_undelivered(parts: Parts, passage: Passage, error: DeliveryError) -> None:
    key, now = passage.key, parts.clock.now()
    if key not in parts.tally.undelivered:
        passage.log.error("delivery.failed", error=str(error), next="tried again by itself")
    parts.tally.undelivered[key] = str(error)
    passage.job = await parts.ledger.postpone(
        passage.job, until=now + DELIVERY_S, message=str(error), now=now
    )


async def _on_skipped(parts: Parts, passage: Passage, error: SkippedError) -> None:
    digest = rules_digest(parts.config, passage.folder)
    await _cancel(parts, passage, "skipped", error, digest=digest)
    parts.tally.skipped += 1
    passage.log.info("image.skipped", reason=str(error))


async def _waits_for_inbox(parts: Parts, passage: Passage) -> bool:
    """Put the image back where its inbox is away: its file is neither gone nor changed then.

    Nothing is begun of that folder until the inbox is back, so it need not wait on top of that.
    """
    if await parts.trackers[passage.folder.name].root.look() is not None:
        return False
    await _put_back(parts, passage, "its inbox is away")
    return True


async def _on_gone(parts: Parts, passage: Passage, error: SourceGoneError) -> None:
    if await _waits_for_inbox(parts, passage):
        return
    await _cancel(parts, passage, "gone", error)
    passage.log.info("image.gone", reason=str(error))


async def _on_changed(parts: Parts, passage: Passage, error: Exception) -> None:
    if await _waits_for_inbox(parts, passage):
        return
    await _cancel(parts, passage, "changed", error)
    passage.log.info("image.changed", reason=str(error))


async def _cancel(
    parts: Parts, passage: Passage, code: str, error: Exception, *, digest: str | None = None
) -> None:
    passage.job = await parts.ledger.cancel(
        passage.job, code=code, message=str(error), rules_digest=digest, now=parts.clock.now()
    )
    parts.tally.settle(*passage.key)
    if digest is None:
        parts.trackers[passage.folder.name].look_again(passage.job.path)


async def _on_draining(parts: Parts, passage: Passage, _error: DrainingError) -> None:
    await _put_back(parts, passage, "stopped before it was sent")


async def _on_not_now(
    parts: Parts, passage: Passage, error: LedgerTroubleError | ServiceDownError | PausedError
) -> None:
    await _put_back(parts, passage, str(error))


async def _on_considered_again(
    parts: Parts, passage: Passage, error: ContractChangedError | WorkMovedOnError
) -> None:
    passage.log.info("image.considered_again", reason=str(error))
    await _put_back(parts, passage, str(error))


async def _on_under_way(parts: Parts, passage: Passage, _error: UnderWayError) -> None:
    """Wait for the other one: its result will serve for this one too."""
    assert passage.order is not None, "only an order can be under way"
    passage.job = await parts.ledger.park(passage.job, passage.order, now=parts.clock.now())
    passage.log.info("image.waits_for_twin")


async def _on_budget_reached(parts: Parts, passage: Passage, error: BudgetReachedError) -> None:
    """Let the folder wait until the period turns; say once that this budget is reached."""
    now, budget = parts.clock.now(), error.budget
    turns_in_s = max(0.0, turns_at(budget.limit, now) - now)
    if parts.tally.budgets.get(budget.limit) != budget:
        parts.tally.budgets[budget.limit] = budget
        parts.log.warning(
            "budget.reached",
            budget=budget.whose,
            period=budget.limit.period,
            limit_usd=budget.limit.microusd / 1_000_000,
            spent_usd=error.spent_microusd / 1_000_000,
            goes_on_in_s=round(turns_in_s),
        )
    wait_s = min(BUDGET_LOOK_S, turns_in_s)  # a wall clock may be set meanwhile
    until = parts.clock.monotonic() + wait_s
    parts.tally.held[passage.folder.name] = Hold(why=str(error), until=until, budget=budget)
    await _put_back(parts, passage, str(error))


async def _on_result_lost(parts: Parts, passage: Passage, error: ResultLostError) -> None:
    reason = f"{error}, so it cannot be delivered. Move the file back to pay for it again."
    await _discard(parts, passage, Code.NOT_DELIVERED, reason)


async def _on_folder_held(parts: Parts, passage: Passage, error: FolderHeldError) -> None:
    """Hold all of the folder: no use in reading the next image only to put it back."""
    _hold_folder(parts, passage, error)
    await _put_back(parts, passage, str(error))


def _hold_folder(parts: Parts, passage: Passage, error: FolderHeldError) -> None:
    name = passage.folder.name
    earlier = parts.tally.held.get(name)
    if earlier is None or earlier.why != str(error):
        passage.log.error("folder.held", reason=str(error))
    look_s = HELD_S if error.look_s is None else error.look_s
    until = parts.clock.monotonic() + look_s
    parts.tally.held[name] = Hold(why=str(error), until=until, refused=error.refused)


async def _on_held(parts: Parts, passage: Passage, error: HeldError) -> None:
    key = passage.key
    if parts.tally.held_images.get(key) != str(error):
        passage.log.error("image.held", reason=str(error))
    await _put_back_held(parts, passage, str(error))


async def _put_back_held(parts: Parts, passage: Passage, why: str) -> None:
    """Let an image wait for somebody: as long as it has waited already, within limits."""
    parts.tally.held_images[passage.key] = why
    low_s, high_s = TROUBLE_S
    after_s = min(high_s, max(low_s, parts.clock.now() - passage.job.created_at))
    await _put_back(parts, passage, why, after_s=after_s)


async def _on_unreadable(parts: Parts, passage: Passage, error: OSError) -> None:
    if await _waits_for_inbox(parts, passage):
        return
    if passage.key not in parts.tally.held_images:
        passage.log.warning("file.unreadable", error=str(error))
    await _put_back_held(parts, passage, str(error))


async def _on_bug(parts: Parts, passage: Passage, error: Exception) -> None:
    """Keep the daemon going: the image waits, counted, and is given up in the end."""
    passage.log.error("job.bug", exc_info=error)
    why = f"an internal error: {type(error).__name__}; the log says more"
    if passage.job.state is State.STAGED:
        await _on_undelivered(parts, passage, DeliveryError(why))
    elif passage.job.state is State.EXECUTING:
        if passage.job.attempts + 1 >= parts.config.api.retries.attempts:
            await _discard(parts, passage, Code.FAILED, why)
        else:
            await _put_back(parts, passage, why, after_s=BUG_S, counted=True)


async def _on_bug_after_paying(parts: Parts, passage: Passage, error: Exception) -> None:
    """Never send again what may be paid for: its result is adopted, or it is in doubt."""
    assert passage.attempt is not None, "the caller looked"
    passage.log.error("request.bug", exc_info=error)
    words = f"an internal error while it was under way: {type(error).__name__}"
    await settle_open_attempt(parts, passage, passage.attempt, words)


_Handler = Callable[[Parts, Passage, Any], Awaitable[None]]
_HANDLERS: tuple[tuple[type[Exception], _Handler], ...] = (
    (SendFailedError, _on_send_failed),
    (ImageRefusedError, _on_refused),
    (DeliveryError, _on_undelivered),
    (SkippedError, _on_skipped),
    (SourceGoneError, _on_gone),
    (SourceChangedError, _on_changed),
    (UnsafeSourceError, _on_changed),
    (DrainingError, _on_draining),
    (ContractChangedError, _on_considered_again),
    (ServiceDownError, _on_not_now),
    (PausedError, _on_not_now),
    (WorkMovedOnError, _on_considered_again),
    (LedgerTroubleError, _on_not_now),
    (ResultLostError, _on_result_lost),
    (UnderWayError, _on_under_way),
    (BudgetReachedError, _on_budget_reached),
    (FolderHeldError, _on_folder_held),
    (HeldError, _on_held),
    (OSError, _on_unreadable),
)
