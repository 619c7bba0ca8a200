"""What is news: troubles that stand, images that were given up, and how the last process ended.

Rules: news are read from where `status` reads them, every `LOOK_S`, and never from the log, whose
level a user sets; what was told is remembered beside the ledger, so that a restart neither repeats
nor loses it.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from venice_watch import __version__
from venice_watch.daemon import report
from venice_watch.files.place import write_whole
from venice_watch.notice import Gatherer, Kind, Quarantined, Trouble
from venice_watch.notify.courier import Courier
from venice_watch.pipeline.passage import Parts

LOOK_S = 2.0  # the facts have no event of their own; a look costs microseconds
SURE_S = 60.0  # after the account was asked: until then a trouble may only not have been met yet
FILE_NAME = "notices.json"  # in the state folder
MEMORY_BYTES_MAX = 4_000_000  # 16 receivers with 1,000 troubles each


class News:
    """Looks what is new, and hands each receiver what it is to be told."""

    def __init__(
        self,
        parts: Callable[[], Parts],
        couriers: Sequence[Courier],
        *,
        hang: Callable[[], str | None],
        memory: Mapping[str, Any],
        seen: Counter[tuple[str, str]],
    ) -> None:
        self._parts = parts
        self._hang = hang
        self._couriers = couriers
        self._seen = seen  # images given up that were told of, or are about to be
        self._sure_at: float | None = None
        self._written = ""
        self._gatherers = [_gatherer(one, memory) for one in couriers]
        for word in how_it_ended(memory):
            for gatherer in self._gatherers:
                gatherer.add_word(word)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._parts().clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once, hand over what is due, and write down what was told."""
        parts = self._parts()
        now, sure = parts.clock.now(), self._is_sure(parts)
        standing, given_up = self._troubles(parts), list(self._given_up(parts))
        for courier, gatherer in zip(self._couriers, self._gatherers, strict=True):
            gatherer.compare(standing, now, sure=sure)
            gatherer.add_quarantined(given_up)
            for notice in gatherer.due(now):
                courier.hand_over(notice)
        await self.remember(stopped=False)

    async def remember(self, *, stopped: bool) -> None:
        """Write down what was told, if that has changed."""
        told = {
            _identity(courier): gatherer.memory()
            for courier, gatherer in zip(self._couriers, self._gatherers, strict=True)
        }
        facts = {"version": __version__, "stopped": stopped, "receivers": told}
        text = json.dumps(facts)
        if text != self._written:
            self._written = text
            await asyncio.to_thread(_write, self._parts().config.state_dir, text)

    def _is_sure(self, parts: Parts) -> bool:
        """Tell whether all that is wrong must have been met by now."""
        now = parts.clock.monotonic()
        if self._sure_at is None and parts.account.asked:
            self._sure_at = now + SURE_S
        return self._sure_at is not None and now >= self._sure_at

    def _troubles(self, parts: Parts) -> list[Trouble]:
        found = report.all_troubles(parts)
        hang = self._hang()
        if hang is not None:
            why = "stands still; systemd restarts it if that goes on. Please report it"
            found.append(Trouble(kind=Kind.PROGRAM, subject=hang, why=why))
        return found

    def _given_up(self, parts: Parts) -> Iterable[Quarantined]:
        for (folder, code), count in (parts.tally.discarded - self._seen).items():
            newest = parts.tally.newest[folder]
            yield Quarantined(folder=folder, code=code, count=count, newest=newest)
        self._seen.clear()
        self._seen.update(parts.tally.discarded)


def _gatherer(courier: Courier, memory: Mapping[str, Any]) -> Gatherer:
    on, digest_s = courier.receiver.on, courier.receiver.digest_s
    try:
        return Gatherer.recalled(on, digest_s, memory["receivers"][_identity(courier)])
    except (KeyError, ValueError, TypeError, AttributeError):
        return Gatherer(on, digest_s)  # a new receiver, or a file that somebody changed


def _identity(courier: Courier) -> str:
    """Return what a receiver is known by over a restart, without its address."""
    receiver = courier.receiver
    text = " ".join((receiver.via, *sorted(one.text for one in receiver.addresses)))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def how_it_ended(memory: Mapping[str, Any]) -> list[str]:
    """Return what is to be told of the process before this one."""
    found = []
    before = memory.get("version")
    if memory.get("stopped") is False:
        found.append(
            "It ended without being stopped (killed, out of memory, or a power cut) and was "
            "started again. No file is lost; what was being sent may be in doubt."
        )
    if isinstance(before, str) and before != __version__:
        found.append(f"It was updated from version {before[:40]} to {__version__}.")
    return found


def read_memory(state_dir: Path) -> dict[str, Any]:
    """Return what was told before; nothing where that cannot be read. Blocks."""
    try:
        with (state_dir / FILE_NAME).open("rb") as file:
            value = json.loads(file.read(MEMORY_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(state_dir: Path, text: str) -> None:
    try:
        write_whole(state_dir / FILE_NAME, text, mode=0o600)
    except OSError:
        return  # its disk is in trouble, which is told; at worst something is told twice
