"""One image's passage through the line: what is known of it so far, and the parts it needs."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.config.model import Config, Folder
from venice_watch.intake.tracker import Tracker
from venice_watch.job import Attempt, Job
from venice_watch.ledger import Ledger
from venice_watch.rules import Choice
from venice_watch.venice.account import Account
from venice_watch.venice.client import VeniceClient
from venice_watch.venice.gate import Gate

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A folder that waits for a person: why, and until when nothing more is tried."""

    why: str
    until: float  # monotonic

    def __str__(self) -> str:
        return self.why


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a run did: shown by `once` and `demo`, and decides their exit code."""

    completed: int = 0
    quarantined: int = 0
    skipped: int = 0
    spent_microusd: int = 0
    held: dict[str, Hold] = field(default_factory=dict)  # by folder
    stuck: dict[int, str] = field(default_factory=dict)  # job: why its original stays
    held_images: dict[tuple[str, str], str] = field(default_factory=dict)  # folder, path: why
    undelivered: dict[tuple[str, str], str] = field(default_factory=dict)  # folder, path: why

    def settle(self, folder: str, path: str) -> None:
        """Forget what kept an image from going on: it has ended, one way or another."""
        self.held_images.pop((folder, path), None)
        self.undelivered.pop((folder, path), None)


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
    workers: ThreadPoolExecutor  # few: decoded images are large
    clock: Clock
    log: FilteringBoundLogger
    tally: Tally = field(default_factory=Tally)

    async def decode(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function on pixels outside the loop, few at a time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.workers, lambda: function(*args, **kwargs))


@dataclass(slots=True, kw_only=True)
class Passage:
    """One job on its way; `job` is always as the ledger has it."""

    folder: Folder
    job: Job
    log: FilteringBoundLogger
    source_sha256: bytes | None = None
    kind: str = ""  # the format, as far as the first bytes tell
    choice: Choice | None = None
    attempt: Attempt | None = None  # open: its money's fate is not written down yet

    @property
    def key(self) -> tuple[str, str]:
        """Return what the tally knows the image by."""
        return self.folder.name, self.job.path

    @classmethod
    def of(cls, parts: Parts, folder: Folder, job: Job) -> "Passage":
        """Begin a passage, with a log that names the file."""
        log = parts.log.bind(folder=folder.name, path=job.path)
        return cls(folder=folder, job=job, log=log)
