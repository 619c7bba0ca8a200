"""The same work again: answered from the earlier result, free, or not begun at all.

Identity is that of paid work: the very bytes that would be sent, the parameters, the contract.
"""

import asyncio
from pathlib import Path

from venice_watch.config.model import Duplicates, OnInDoubt
from venice_watch.errors import Code, ImageRefusedError
from venice_watch.files.spool import has_result, restore
from venice_watch.ledger import Earlier, Order, Prior, Result, UnderWayError
from venice_watch.pipeline.consider import SkippedError
from venice_watch.pipeline.passage import Parts, Passage
from venice_watch.pipeline.stage import stage
from venice_watch.retry import DOUBTS_MAX


async def reuse(parts: Parts, passage: Passage, order: Order) -> bool:
    """Stage the result of earlier work if there is one; False: it has to be paid for.

    Raises SkippedError, UnderWayError, or ImageRefusedError where doubt forbids another request.
    """
    prior = await parts.ledger.prior(order.work_key)
    duplicates = passage.folder.duplicates
    if duplicates is Duplicates.SKIP and prior.results:
        raise SkippedError(
            "the same image was upscaled before with these parameters, and `duplicates` is `skip`"
        )
    if duplicates is Duplicates.REUSE:
        for earlier in prior.results:
            if await _stage_earlier(parts, passage, order, earlier):
                return True
    _refuse_another_doubt(parts, prior)
    if prior.under_way and order.alone:
        raise UnderWayError("the same image is on its way")
    if prior.results and duplicates is Duplicates.REUSE:
        passage.log.warning(
            "image.paid_again",
            reason="its earlier result is neither in the state folder nor where it was delivered",
        )
    return False


async def _stage_earlier(parts: Parts, passage: Passage, order: Order, earlier: Earlier) -> bool:
    """Stage an earlier result whose very bytes can still be had."""
    async with parts.spool_lock:  # nobody may give it up meanwhile
        if not await asyncio.to_thread(_fetch, parts.spool, earlier):
            return False
        spooled = Result(
            spool_name=earlier.spool_name,
            width=earlier.width,
            height=earlier.height,
            scale=earlier.scale,
            sha256=earlier.sha256,
            size_bytes=earlier.size_bytes,
        )
        await stage(
            parts,
            passage,
            spooled,
            preset=order.preset,
            write_down=lambda result: parts.ledger.reuse(
                passage.job, order, result, now=parts.clock.now()
            ),
        )
    parts.tally.reused += 1
    passage.log.info("image.reused", result_of=earlier.spool_name)
    return True


def _fetch(spool: Path, earlier: Earlier) -> bool:
    """Make sure that the result is in the spool, from an outbox if need be; blocks."""
    sha256, size_bytes = earlier.sha256, earlier.size_bytes
    if earlier.kept and has_result(
        spool / earlier.spool_name, sha256=sha256, size_bytes=size_bytes
    ):
        return True
    try:
        return any(
            restore(spool, earlier.spool_name, Path(at), sha256=sha256, size_bytes=size_bytes)
            for at in earlier.delivered
        )
    except OSError:
        return False  # the spool is in trouble: nothing is begun there either


def _refuse_another_doubt(parts: Parts, prior: Prior) -> None:
    """Refuse work that was in doubt as often as may be, whichever file it came from."""
    may_resend = parts.config.api.on_in_doubt is OnInDoubt.RESEND_ONCE
    if prior.doubts > (DOUBTS_MAX if may_resend else 0):
        times = "once" if prior.doubts == 1 else f"{prior.doubts} times"
        raise ImageRefusedError(
            Code.IN_DOUBT,
            f"the same image was in doubt {times} already: it may have been charged, and no "
            "result came. It is not sent again by itself. Check your Venice bill, then move this "
            "file and the earlier one back from the quarantine to send it once more.",
        )
