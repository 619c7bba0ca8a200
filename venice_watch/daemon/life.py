"""The daemon's life: recover, watch, work, drain.

One `asyncio.TaskGroup` holds everything that runs; the first unexpected error ends it all, and a
restart recovers. `run` goes on until told to stop; `once` ends when nothing is left to do.
"""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.config.model import Config, ContractChoice, Folder
from venice_watch.daemon import balance, report
from venice_watch.daemon.answers import Answers, Opener
from venice_watch.daemon.dispatch import Dispatcher
from venice_watch.daemon.health import FileThreads, Health
from venice_watch.daemon.memory import return_large_blocks
from venice_watch.daemon.outside import Outside
from venice_watch.daemon.reload import Reloader
from venice_watch.daemon.report import Progress, Summary
from venice_watch.daemon.watchers import Watchers
from venice_watch.errors import VeniceWatchError
from venice_watch.files.place import clear_leftovers
from venice_watch.files.spool import clear_spool
from venice_watch.images.decoders import Decoders
from venice_watch.images.workshop import Workshop
from venice_watch.intake.look import ignore_lease_breaks
from venice_watch.intake.mounts import ACCEPTANCE
from venice_watch.job import Job
from venice_watch.ledger import Ledger
from venice_watch.parameters import Contract
from venice_watch.pipeline import line
from venice_watch.pipeline.finish import sidecar_names
from venice_watch.pipeline.mounted import MountedFolders
from venice_watch.pipeline.passage import Parts
from venice_watch.pipeline.paused import Paused
from venice_watch.pipeline.room import Room
from venice_watch.service.control import Caller
from venice_watch.service.logs import lead_threads
from venice_watch.service.systemd import Notifier
from venice_watch.venice.account import Account
from venice_watch.venice.client import VeniceClient
from venice_watch.venice.gate import FAILURES_IN_A_ROW_MAX, FAILURES_WINDOW_S, WINDOW_S, Gate
from venice_watch.venice.limits import Limits

SPOOL_NAME = "spool"
THREADS_MAX = 64  # for files: a hung share keeps some of them
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S = 330.0  # for requests under way at the end: longer than the longest one may take
OWED_S = 60.0  # between tries to put originals away
UNREACHABLE_PROBES_MAX = 3  # `once` gives up after the service failed so often while it was down
WORKERS = 2  # images decoded at a time: memory and cores are bounded
READY_S = 20.0  # for the inboxes to be watched before READY is sent all the same


def limits_of(config: Config) -> Limits:
    """Return what a configuration allows the gate."""
    return Limits(
        concurrency=config.api.concurrency,
        folders={one.name: one.concurrency for one in config.folders if one.concurrency},
        requests_per_minute=config.api.requests_per_minute,
        priorities={one.name: one.priority for one in config.folders},
    )


def contract_of(config: Config) -> Contract | None:
    """Return the configured contract, or None where it is to be found out."""
    chosen = config.api.contract
    return None if chosen is ContractChoice.AUTO else Contract(chosen.value)


class Daemon:
    """One process's work on one configuration; use `opened`."""

    def __init__(
        self,
        config: Config,
        *,
        ledger: Ledger,
        client: VeniceClient,
        clock: Clock,
        log: FilteringBoundLogger,
        notifier: Notifier,
        opener: Opener,
        reloader: Reloader | None = None,
    ) -> None:
        self._reloader = reloader
        self._reload_wanted = asyncio.Event()
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._notifier = notifier
        self._folders = config.folders_by_name()
        self._wake = asyncio.Event()
        self._owed_wake = asyncio.Event()  # an inbox is back: what it owes can be put away
        self._gate = Gate(clock=clock, limits=limits_of(config))
        self._account = Account(
            client,
            self._gate,
            contract=contract_of(config),
            clock=clock,
            log=log,
            prices=config.api.prices.by_name(),
            before_question=lambda: ledger.note_question(now=clock.now()),
        )
        self._watchers = Watchers(
            config,
            ledger=ledger,
            clock=clock,
            log=log,
            on_arrival=self._wake.set,
            on_return=self._owed_wake.set,
        )
        self._workshop = Workshop(WORKERS)
        self._parts = Parts(
            config=config,
            ledger=ledger,
            client=client,
            gate=self._gate,
            account=self._account,
            trackers=self._watchers.by_folder,
            spool=config.state_dir / SPOOL_NAME,
            spool_lock=asyncio.Lock(),
            in_line={},
            paused=Paused(ledger),
            pinned=Counter(),
            mounted=MountedFolders(ledger),
            workers=ThreadPoolExecutor(WORKERS, thread_name_prefix="images"),
            decoders=Decoders(self._workshop),
            room=Room(),
            clock=clock,
            log=log,
        )
        self._dispatcher = Dispatcher(self._parts, self._folders, wake=self._wake)
        self._answers = Answers(lambda: self._parts, opener=opener, on_change=self._wake.set)
        self._threads = FileThreads(THREADS_MAX, clock)
        self._health = Health(
            lambda: self._parts,
            notifier,
            threads=self._threads,
            stirred=self._dispatcher.stirred,
        )
        self._outside = Outside(lambda: self._parts, self._health)

    # --- running ---------------------------------------------------------------------------------

    async def run(self) -> Summary:
        """Watch and work until SIGTERM or SIGINT, then drain."""
        await self._recover()
        with self._signals():
            async with asyncio.TaskGroup() as group:
                self._watchers.begin(group)
                helpers = [group.create_task(self._account.run())]
                helpers.append(group.create_task(self._account.keep_current()))
                helpers.append(group.create_task(balance.keep_watched(lambda: self._parts)))
                helpers.append(group.create_task(self._keep_owed()))
                helpers.append(group.create_task(self._keep_notified()))
                helpers.append(group.create_task(self._keep_reloaded(group)))
                helpers.append(group.create_task(self._outside.run()))
                await self._dispatcher.run(group, until=None)
                await self._drain(helpers)
        return await report.summarise(self._parts, {})

    async def once(self, show: Callable[[Progress], None] | None = None) -> Summary:
        """Do what waits now, then return; `show` is called now and then with how far it is."""
        await self._recover()
        with self._signals():
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(self._account.run()),
                    group.create_task(balance.keep_watched(lambda: self._parts)),
                ]
                if show is not None:
                    helpers.append(group.create_task(self._keep_showing(show)))
                scans = [
                    group.create_task(tracker.run_once())
                    for tracker in self._watchers.by_folder.values()
                ]
                asked = group.create_task(self._account.wait_asked())
                for task in (*scans, asked):
                    task.add_done_callback(lambda _task: self._wake.set())
                await self._dispatcher.run(group, until=lambda: self._is_done([*scans, asked]))
                await self._drain([*helpers, asked, *scans])
        if show is not None:
            show(await report.measure(self._parts))
        finished = [scan.result() for scan in scans if not scan.cancelled()]
        left = {path: why for found in finished for path, why in found.items()}
        return await report.summarise(self._parts, left)

    async def recent_jobs(self, *, limit: int) -> list[Job]:
        """Return the jobs that changed last, newest first."""
        return await self._ledger.recent(limit=limit)

    async def answer(self, request: Mapping[str, Any], caller: Caller) -> bytes:
        """Answer one request of the control socket."""
        return await self._answers.answer(request, caller)

    def stop(self) -> None:
        """Begin to drain."""
        self._dispatcher.stop()

    async def _recover(self) -> None:
        return_large_blocks()
        ignore_lease_breaks()
        lead_threads(self._log)
        spool = self._parts.spool
        # a share that hangs holds up its own folder's files, not everybody's
        asyncio.get_running_loop().set_default_executor(self._threads)
        for folder in self._parts.config.folders:
            await self._clear_leftovers(folder)
        await self._parts.paused.load()
        now = self._clock.now()
        sent = await self._ledger.sent_since(now - WINDOW_S)
        failed = await self._ledger.failed_since(now - FAILURES_WINDOW_S)
        self._gate.remember([now - at for at in sent], [now - at for at in failed])
        await line.recover(self._parts, self._folders)
        await self._tell_of_unknown()
        keep = {*await self._ledger.spooled(), *sidecar_names(await self._ledger.staged())}
        try:
            await asyncio.to_thread(clear_spool, spool, frozenset(keep))
        except OSError as exc:
            self._log.warning("leftovers.stay", folder=SPOOL_NAME, error=str(exc))

    async def _clear_leftovers(self, folder: Folder) -> None:
        if (await self._watchers.by_folder[folder.name].root.look()) is not None:
            # where it was mounted is remembered anew: the word was for once, not for ever
            with contextlib.suppress(OSError):
                await asyncio.to_thread((folder.inbox / ACCEPTANCE).unlink)
        for root in (folder.outbox, folder.quarantine, folder.archive):
            if root is None:
                continue
            try:
                await self._parts.mounted.require(root)
                await asyncio.to_thread(clear_leftovers, root)
            except OSError as exc:
                self._log.warning("leftovers.stay", folder=folder.name, error=str(exc))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP and self._reloader is not None:
            self._reload_wanted.set()
            return
        if self._dispatcher.stopping.is_set() and number == signal.SIGINT:
            # the second Ctrl-C of somebody who does not want to wait: what is under way is
            # written down as in doubt at the next start
            for task in self._dispatcher.tasks:
                task.cancel()
            return
        self._log.info("daemon.stopping", signal=signal.Signals(number).name)
        self.stop()

    async def _drain(self, helpers: Sequence[asyncio.Task[Any]]) -> None:
        """Finish what is under way, begin nothing, and stop the rest."""
        self._outside.stopping = True
        self._notifier.send(STOPPING=1, STATUS="finishing what is under way")
        await self._gate.close()
        if self._dispatcher.tasks:
            self._log.info("daemon.draining", under_way=len(self._dispatcher.tasks))
            longest_s = self._parts.config.api.timeouts.total_s + 30.0
            _, late = await asyncio.wait(self._dispatcher.tasks, timeout=max(GRACE_S, longest_s))
            for task in late:
                task.cancel()
        for helper in helpers:
            helper.cancel()
        await self._watchers.end()
        self._answers.close()
        self._parts.workers.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._workshop.close)

    async def _is_done(self, beginnings: Sequence[asyncio.Task[Any]]) -> bool:
        """Tell whether `once` has nothing left that can go on."""
        failures_max = FAILURES_IN_A_ROW_MAX + UNREACHABLE_PROBES_MAX
        down = self._gate.failures_in_a_row >= failures_max
        if self._account.asked and (self._gate.halted is not None or down):
            return not self._gate.in_flight
        if self._dispatcher.tasks or not all(task.done() for task in beginnings):
            return False
        paused = self._parts.paused
        due_at = await self._ledger.next_due_at(
            only_folders=[name for name in self._folders if paused.of(name) is None],
            deliver_in=list(self._folders),
        )
        if due_at is None:
            return True  # what is left waits for no time: only a restart can settle it
        return not await report.can_go_on(self._parts)

    # --- another configuration -------------------------------------------------------------------

    async def _keep_reloaded(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            self._notifier.reloading()
            try:
                await self._reload(group)
            except VeniceWatchError as exc:
                self._log.error(
                    "config.refused", error=str(exc), next="what holds is the one from before"
                )
            self._notifier.send(READY=1)

    async def _reload(self, group: asyncio.TaskGroup) -> None:
        """Go by the file as it is now; what is under way goes on by what held when it began."""
        assert self._reloader is not None, "only `run` reloads"
        loaded = await self._reloader.load(self._parts.config)
        client = self._reloader.client_for(loaded)
        change = await self._watchers.adopt(loaded.config)
        before = self._parts
        self._parts = replace(
            before, config=loaded.config, client=client, trackers=self._watchers.by_folder
        )
        self._answers.loaded()
        before.tally.forget_holds()
        self._folders = loaded.config.folders_by_name()
        for name in change.added:
            await self._clear_leftovers(self._folders[name])
        self._watchers.begin(group)
        self._gate.adopt(limits_of(loaded.config))
        await self._account.adopt(
            client,
            contract=contract_of(loaded.config),
            prices=loaded.config.api.prices.by_name(),
            ask=loaded.asks_anew,
        )
        self._dispatcher.adopt(self._parts, self._folders)
        self._outside.adopt()
        self._log.info(
            "config.reloaded",
            file=str(loaded.config.path),
            added=change.added,
            removed=change.removed,
            changed=change.changed,
        )
        await self._tell_of_unknown()

    async def _tell_of_unknown(self) -> None:
        for name, count in (await self._ledger.counts()).items():
            if name not in self._folders and report.active(count):
                self._log.warning("folder.unknown", folder=name, jobs=report.active(count))

    # --- beside the work -------------------------------------------------------------------------

    async def _keep_owed(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OWED_S):
                    await self._owed_wake.wait()
            self._owed_wake.clear()
            await asyncio.to_thread(self._workshop.trim)
            await line.put_owed_away(self._parts, self._folders, without=self._dispatcher.in_hand)

    async def _keep_notified(self) -> None:
        """Tell systemd that the loop turns, and how things stand."""
        watching = [
            asyncio.create_task(one.wait_begun()) for one in self._watchers.by_folder.values()
        ]
        # a share that hangs must not keep the others from being called ready
        await asyncio.wait(watching, timeout=READY_S)
        self._notifier.send(READY=1, STATUS="watching")
        self._outside.ready.set()
        self._log.info("daemon.ready", folders=list(self._folders))
        await self._health.keep_told()

    async def _keep_showing(self, show: Callable[[Progress], None]) -> None:
        while True:
            show(await report.measure(self._parts))
            await self._clock.sleep(0.2)
