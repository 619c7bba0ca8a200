"""Writing down that a result is safe in the spool, with the first free name in the outbox."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from venice_watch.config.output import OnConflict
from venice_watch.job import Job
from venice_watch.ledger import NameReservedError, Result
from venice_watch.pipeline import deliver, finish
from venice_watch.pipeline.passage import Parts, Passage


async def stage(
    parts: Parts,
    passage: Passage,
    spooled: Result,
    *,
    preset: str,
    write_down: Callable[[Result], Awaitable[Job]],
) -> None:
    """Write down that the result is safe, with a name where one can be found.

    `spooled` has none yet. An outbox in trouble is no reason to forget what is paid: the name is
    then found later.
    """
    taken = set[str]()
    facts = deliver.name_facts(
        passage.job,
        preset=preset,
        scale=spooled.scale,
        width=spooled.width,
        height=spooled.height,
        now=parts.clock.now(),
        ext=finish.extension_of(
            passage.folder, passage.kind, width=spooled.width, height=spooled.height
        ),
    )
    while True:
        try:
            path = await asyncio.to_thread(
                deliver.find_name, passage.folder, passage.job, facts, taken
            )
        except OSError:
            path = None
        overwrites = passage.folder.output.on_conflict is OnConflict.OVERWRITE
        result = replace(spooled, path=path, exclusive=not overwrites)
        try:
            passage.job = await write_down(result)
        except NameReservedError:
            assert path is not None, "only a name can be reserved"
            taken.add(path)
        else:
            return
