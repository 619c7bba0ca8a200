"""All that requests share: settings, account, bill, script, memory, threads.

Rules: one object with one lifetime, made by the server and handed down; nothing here is global.
"""

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

from venice_watch.simulator.account import Account
from venice_watch.simulator.bill import Bill
from venice_watch.simulator.memory import Memory
from venice_watch.simulator.script import Script
from venice_watch.simulator.settings import Settings


class World:
    """The state of one simulator; `refuse` lets nobody connect for so many seconds."""

    def __init__(self, settings: Settings, refuse: Callable[[float], None]) -> None:
        self._refuse = refuse
        self._first_settings = settings
        self.settings = settings
        self.chance = random.Random(settings.seed)  # noqa: S311 - faults and jitter, no secrets
        self.account = Account(settings)
        self.script = Script(settings.faults, self.chance)
        self.bill = Bill()
        self.memory = Memory()
        self.canned: dict[tuple[int, int], bytes] = {}  # results by size, with `pixels: canned`
        self.pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="pixels")
        self._number = 0

    def change(self, patch: Mapping[str, object]) -> None:
        """Apply a change of settings from now on; raise ValueError naming what is wrong.

        A given `balance_usd` is what there is from now on, even if it is the figure of the start,
        and a given `refused_s` begins now.
        """
        self.settings = self.settings.changed(patch)
        self.account.change(self.settings)
        if "balance_usd" in patch:
            self.account.refill()
        if "refused_s" in patch:
            self._refuse(self.settings.refused_s)

    def reset(self) -> None:
        """Go back to the start: settings, script, account, bill (record numbers go on).

        Whoever connects is heard, also where the start's settings refused it for a while.
        """
        self._refuse(0.0)
        self.settings = self._first_settings
        self.account = Account(self.settings)
        self.script = Script(self.settings.faults, self.chance)
        self.bill.clear()

    def next_number(self) -> int:
        """Return the number of a new record, from 1."""
        self._number += 1
        return self._number

    def wall_s(self) -> float:
        """Return what the server's clock says, right or wrong, in seconds since 1970."""
        return time.time() + self.settings.clock_offset_s

    def date(self) -> str | None:
        """Return the Date header's text, None where it is left out."""
        return formatdate(self.wall_s(), usegmt=True) if self.settings.send_date else None

    def latency_s(self) -> float:
        """Return how long this one answer takes at least."""
        jitter_s = self.settings.latency_jitter_s
        return self.settings.latency_s + (self.chance.uniform(0, jitter_s) if jitter_s else 0)
