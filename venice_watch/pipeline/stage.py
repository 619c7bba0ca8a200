"""Writing down that a result is safe in the spool, with the first free name in the outbox."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from venice_watch.config.model import OnConflict
from venice_watch.job import Job
from venice_watch.ledger import NameReservedError, Result
from venice_watch.pipeline import deliver
from venice_watch.pipeline.passage import Parts, Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A verified result in the spool."""

    name: str
    width: int  # pixels
    height: int
    scale: float  # what it really came to
    sha256: bytes
    size_bytes: int


async def stage(
    parts: Parts,
    passage: Passage,
    spooled: Spooled,
    *,
    preset: str,
    write_down: Callable[[Result], Awaitable[Job]],
) -> None:
    """Write down that the result is safe, with a name where one can be found.

    An outbox in trouble is no reason to forget what is paid: the name is then found later.
    """
    taken = set[str]()
    facts = deliver.name_facts(
        passage.job,
        preset=preset,
        scale=spooled.scale,
        width=spooled.width,
        height=spooled.height,
        now=parts.clock.now(),
    )
    while True:
        try:
            path = await asyncio.to_thread(
                deliver.find_name, passage.folder, passage.job, facts, taken
            )
        except OSError:
            path = None
        result = Result(
            spool_name=spooled.name,
            path=path,
            width=spooled.width,
            height=spooled.height,
            scale=spooled.scale,
            sha256=spooled.sha256,
            size_bytes=spooled.size_bytes,
            exclusive=passage.folder.output.on_conflict is not OnConflict.OVERWRITE,
        )
        try:
            passage.job = await write_down(result)
        except NameReservedError:
            assert path is not None, "only a name can be reserved"
            taken.add(path)
        else:
            return
