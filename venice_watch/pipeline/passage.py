"""One image's passage through the line: what is known of it so far, and the parts it needs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from structlog.typing import FilteringBoundLogger

from venice_watch.budget import Budget, Limit
from venice_watch.clock import Clock
from venice_watch.config.model import Config, Folder
from venice_watch.images.decoders import Decoders
from venice_watch.images.metadata import Metadata
from venice_watch.intake.tracker import Tracker
from venice_watch.job import Attempt, Job, Source
from venice_watch.ledger import Ledger, Order, Prior
from venice_watch.parameters import Contract
from venice_watch.pipeline.frames import Wanted
from venice_watch.pipeline.mounted import MountedFolders
from venice_watch.pipeline.paused import Paused
from venice_watch.pipeline.room import Room
from venice_watch.rules import Choice
from venice_watch.service.exposition import SECONDS_BUCKETS, Histogram
from venice_watch.venice.account import Account
from venice_watch.venice.client import VeniceClient
from venice_watch.venice.gate import Gate

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A folder that waits, for a person or for its budget: why, and until when at least."""

    why: str
    until: float  # monotonic
    budget: Budget | None = None  # that was reached: goes on when it turns, or is given back to
    refused: bool = False  # by the server: only an image that it takes ends it

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A balance that does not cover what waits, at the price of each folder's own preset."""

    balance: float  # USD and DIEM together
    waiting: int  # images
    needed: float

    def __str__(self) -> str:
        return (
            f"the balance of {self.balance:.2f} will not cover the {self.waiting:,} images that "
            f"wait (about {self.needed:.2f}). What it covers is sent; add credit for the rest."
        )


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a run did: shown by `once` and `demo`, and decides their exit code."""

    completed: int = 0  # files
    results: int = 0  # delivered: one a file, or one a frame
    quarantined: int = 0
    skipped: int = 0
    reused: int = 0  # of the results: not paid for again
    spent_microusd: int = 0
    held: dict[str, Hold] = field(default_factory=dict)  # by folder
    stuck: dict[int, str] = field(default_factory=dict)  # job: why its original stays
    hidden: set[int] = field(default_factory=set)  # jobs whose original waits for its inbox
    held_images: dict[tuple[str, str], str] = field(default_factory=dict)  # folder, path: why
    undelivered: dict[tuple[str, str], str] = field(default_factory=dict)  # folder, path: why
    unwritten: dict[int, str] = field(default_factory=dict)  # attempt: why its result is in memory
    budgets: dict[Limit, Budget] = field(default_factory=dict)  # reached, and that was said
    shortfall: Shortfall | None = None  # that was said
    discarded: Counter[tuple[str, str]] = field(default_factory=Counter)  # folder, code
    newest: dict[str, str] = field(default_factory=dict)  # folder: the latest of them, in words
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)  # folder, outcome
    request_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS_BUCKETS))
    unheard: dict[str, str] = field(default_factory=dict)  # who is not told what, and why

    def settle(self, folder: str, path: str) -> None:
        """Forget what kept an image from going on: it has ended, one way or another."""
        self.held_images.pop((folder, path), None)
        self.undelivered.pop((folder, path), None)

    def give_up(self, folder: str, code: str, words: str) -> None:
        """Count an image that goes to the quarantine."""
        self.quarantined += 1
        self.discarded[folder, code] += 1
        self.newest[folder] = words

    def note_request(self, folder: str, outcome: str, seconds: float) -> None:
        """Count a request that has ended."""
        self.requests[folder, outcome] += 1
        self.request_seconds.add(seconds)

    def accepted(self, folder: str) -> None:
        """Note that the server took an image of a folder: it refuses its preset no longer."""
        hold = self.held.get(folder)
        if hold is not None and hold.refused:
            del self.held[folder]

    def forget_holds(self) -> None:
        """Let everything that waits for a person try again: there is another configuration."""
        self.held.clear()
        self.held_images.clear()

    def lift_budgets(self) -> None:
        """Let folders whose budget was reached try again: money was given back."""
        for folder in [name for name, hold in self.held.items() if hold.budget is not None]:
            del self.held[folder]

    def reopen(self, folder: str, budgets: Sequence[Budget]) -> list[Budget]:
        """Note that a folder spends; return the budgets that had been reached before these."""
        hold = self.held.get(folder)
        if hold is not None and hold.budget is not None:
            del self.held[folder]
        turned = [one for one in budgets if self.budgets.get(one.limit, one) != one]
        for budget in turned:
            del self.budgets[budget.limit]
        return turned


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the line works with; made once, by the daemon."""

    config: Config
    ledger: Ledger
    client: VeniceClient
    gate: Gate
    account: Account
    trackers: Mapping[str, Tracker]
    spool: Path
    spool_lock: asyncio.Lock  # while kept results are given up, or one is pinned
    in_line: dict[bytes, asyncio.Event]  # work that waits for its turn: told when it is sent
    paused: Paused  # folders of which nothing is sent
    pinned: Counter[str]  # results in the spool that somebody is about to use
    mounted: MountedFolders
    workers: ThreadPoolExecutor  # few: decoded images are large
    decoders: Decoders
    room: Room  # for originals that are read whole
    clock: Clock
    log: FilteringBoundLogger
    tally: Tally = field(default_factory=Tally)

    def folder_named(self, name: str) -> Folder | None:
        """Return a folder of the configuration, or None."""
        return next((folder for folder in self.config.folders if folder.name == name), None)

    def limits_of(self, folder: Folder) -> tuple[Limit, ...]:
        """Return what may be spent for a folder: of its own, and of all together."""
        return (*self.config.budget.limits(None), *folder.budget.limits(folder.name))

    async def decode(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function on pixels outside the loop, few at a time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.workers, lambda: function(*args, **kwargs))


@dataclass(slots=True, kw_only=True)
class Passage:
    """One job on its way; `job` is as the ledger has it."""

    folder: Folder
    job: Job
    log: FilteringBoundLogger
    source_sha256: bytes | None = None
    kind: str = ""  # the format, as far as the first bytes tell
    choice: Choice | None = None
    wanted: Wanted | None = None  # its frames
    metadata: Metadata | None = None  # what the original says beside its pixels, once read
    source: Source | None = None  # once admitted
    prior: Prior | None = None  # what was known of the same work when it was ordered
    order: Order | None = None
    contract: Contract | None = None  # that it was admitted for
    attempt: Attempt | None = None  # open: its money's fate is not written down yet

    @property
    def key(self) -> tuple[str, str]:
        """Return what the tally knows the image by."""
        return self.folder.name, self.job.path

    @classmethod
    def of(cls, parts: Parts, folder: Folder, job: Job) -> "Passage":
        """Begin a passage, with a log that names the file."""
        log = parts.log.bind(folder=folder.name, path=job.path)
        kind = job.source.kind if job.source is not None else ""
        passage = cls(folder=folder, job=job, log=log, kind=kind)
        passage.take_frames(job.frames)
        return passage

    def take_frames(self, count: int) -> None:
        """Know how many frames are wanted, before the ledger does: it is told with the order."""
        self.job = replace(self.job, frames=count)
        if count > 1:
            self.log = self.log.bind(frame=self.job.frame + 1, frames=count)

    def of_frame(self, words: str) -> str:
        """Return words about the image, with its frame where the file has several."""
        if self.job.frames == 1:
            return words
        return f"frame {self.job.frame + 1} of {self.job.frames}: {words}"
