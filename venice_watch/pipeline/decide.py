"""What is decided about a failed request: from the outcome, the ledger's memory, and the policy."""

import math
import random
from collections.abc import Sequence

from venice_watch import retry
from venice_watch.config.model import OnInDoubt
from venice_watch.errors import Code
from venice_watch.job import Attempt, Charge
from venice_watch.outcome import AccountRefused, Blame, Failure, Rejected, Unavailable, Unsent
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.venice.gate import DrainingError

UNTOLD_S = 30.0  # before a refused image is sent again whose contract could not be asked for
POISON = frozenset({403, 404, 405})  # what a firewall says of bytes that it does not like
POISON_REFUSALS = 5  # of one image, and another got through since the last but one
UNCHARGED = frozenset({Unsent.name, Unavailable.name})  # what is simply tried again


async def decide(
    parts: Parts, passage: Passage, attempt: Attempt, failure: Failure
) -> retry.Decision:
    """Return what becomes of the image; asks for the contract where that may be to blame."""
    blamed = await _find_blamed(parts, passage, attempt, failure)
    if blamed is not None:
        return blamed
    attempts = await parts.ledger.attempts(passage.job)
    # every frame of a file is an image of its own
    earlier = [one for one in attempts if one.id != attempt.id and one.frame == attempt.frame]
    if isinstance(failure, AccountRefused) and _is_poison(parts, failure, earlier):
        return retry.Discard(
            code=Code.REJECTED,
            message=f"Venice, or something in front of it, refused it {len(earlier) + 1} times as "
            f"if the account were to blame ({failure.words}), and took others meanwhile.",
        )
    # the same bytes are other work once the server's contract is known: the image's own count, too
    own_doubts = sum(one.charge in (Charge.UNKNOWN, Charge.LOST) for one in earlier)
    past = retry.Past(
        attempts=passage.job.attempts,
        failures=sum(one.outcome in UNCHARGED for one in earlier),
        server_failures=sum(one.outcome == "server_failed" for one in earlier),
        doubts=max(own_doubts, (await parts.ledger.prior(attempt.work_key)).doubts),
    )
    retries = parts.config.api.retries
    policy = retry.Policy(
        attempts_max=retries.attempts,
        base_s=retries.base_s,
        max_s=retries.max_s,
        resend_in_doubt=parts.config.api.on_in_doubt is OnInDoubt.RESEND_ONCE,
    )
    chance = random.random()  # noqa: S311 - spreads retries, guards nothing
    blames_service = parts.gate.blames_service(passage.job.id)
    return retry.decide(failure, past, policy, blames_service=blames_service, chance=chance)


async def _find_blamed(
    parts: Parts, passage: Passage, attempt: Attempt, failure: Failure
) -> retry.RetryAt | retry.HoldFolder | None:
    """Return what to do about a refusal that is the contract's fault; None if it is not."""
    if not isinstance(failure, Rejected) or failure.blames is Blame.IMAGE:
        return None
    try:
        told = await parts.account.look_for_contract(sent_at=attempt.started_at)
    except DrainingError:  # nothing is decided in a hurry: the next start sends it again
        return retry.RetryAt(after_s=0.0, counted=False)
    if parts.account.contract != passage.contract:
        return retry.RetryAt(after_s=0.0, counted=False)
    if failure.blames is Blame.FIELD:
        preset = passage.choice.preset if passage.choice else passage.folder.preset
        return retry.HoldFolder(
            reason=f"the server refuses what preset {preset!r} sets: {failure.words}. Nothing was "
            "charged. Change the preset, or `api.contract`."
        )
    retries = parts.config.api.retries
    if not told and passage.job.attempts + 1 < retries.attempts:
        return retry.RetryAt(after_s=min(UNTOLD_S, retries.max_s), counted=True)
    return None


def _is_poison(parts: Parts, failure: AccountRefused, earlier: Sequence[Attempt]) -> bool:
    """Tell whether an image alone makes the account look refused, as to a firewall it may.

    Each such refusal holds up everybody. A 402 may be true of a dear image alone, and ends.
    """
    refused = [one for one in earlier if one.outcome == AccountRefused.name]
    if failure.status not in POISON or len(refused) + 1 < POISON_REFUSALS:
        return False
    return parts.account.succeeded_at > (refused[-1].ended_at or math.inf)
