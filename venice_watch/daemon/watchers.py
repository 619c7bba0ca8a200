"""The trackers of the configuration that holds now, each in a task of its own."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.config.model import Config, Folder
from venice_watch.intake.tracker import Tracker
from venice_watch.ledger import Ledger
from venice_watch.pipeline.consider import rules_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What another configuration changes about the folders, by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class Watchers:
    """Begins, keeps and ends trackers as configurations come."""

    def __init__(
        self,
        config: Config,
        *,
        ledger: Ledger,
        clock: Clock,
        log: FilteringBoundLogger,
        on_arrival: Callable[[], None],
        on_return: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._on_arrival = on_arrival
        self._on_return = on_return
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._digests: dict[str, str] = {}
        self.by_folder: Mapping[str, Tracker] = {}
        for folder in config.folders:
            self._make(config, folder)

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Watch every folder that is not watched yet."""
        for name, tracker in self.by_folder.items():
            if name not in self._tasks:
                self._tasks[name] = group.create_task(tracker.run())

    async def end(self) -> None:
        """Stop watching."""
        await self._end(list(self._tasks))

    async def adopt(self, config: Config) -> Change:
        """Keep the trackers of folders that stay as they are, and make those of the others anew."""
        before = {name: tracker.folder for name, tracker in self.by_folder.items()}
        after = {folder.name: folder for folder in config.folders}
        change = Change(
            added=tuple(name for name in after if name not in before),
            removed=tuple(name for name in before if name not in after),
            changed=tuple(
                name
                for name, folder in after.items()
                if name in before
                and (folder, rules_digest(config, folder)) != (before[name], self._digests[name])
            ),
        )
        # all that ends has ended before anything begins: two folders may change places
        await self._end([*change.removed, *change.changed])
        kept = self.by_folder
        self.by_folder = {}
        for name, folder in after.items():
            if name in change.added or name in change.changed:
                self._make(config, folder)
            else:
                self.by_folder = {**self.by_folder, name: kept[name]}
        return change

    def _make(self, config: Config, folder: Folder) -> None:
        self._digests[folder.name] = digest = rules_digest(config, folder)
        tracker = Tracker(
            folder,
            rules_digest=digest,
            ledger=self._ledger,
            clock=self._clock,
            log=self._log,
            on_arrival=self._on_arrival,
            on_return=self._on_return,
        )
        self.by_folder = {**self.by_folder, folder.name: tracker}

    async def _end(self, names: list[str]) -> None:
        ending = [self._tasks.pop(name) for name in names if name in self._tasks]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
