"""One inbox: knows of every file in it whether it is dealt with, awaited, or none of our business.

Events and scans end here alike. A file is `known` (in the ledger, at this version), `pending`
(seen, not yet complete) or `ignored` (no image); a version that is none of these is new. What a
scan cannot see is never concluded from: a root that is gone or empty of everything it had is a
share that is away, not an inbox that was emptied. Files are left here; which folder it is and who
tells of changes is known in `root` and `watch`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from structlog.typing import FilteringBoundLogger

from venice_watch import settle
from venice_watch.clock import Clock
from venice_watch.config.model import Folder, UnknownFiles
from venice_watch.intake import look
from venice_watch.intake.junk import Names
from venice_watch.intake.pending import Pending
from venice_watch.intake.root import InboxRoot, identify
from venice_watch.intake.watch import Keeper
from venice_watch.job import Arrival, Signature
from venice_watch.ledger import Ledger

EXAMINED_AT_ONCE = 256  # files looked at in one trip to a thread, enqueued in one transaction
RESCAN_SHARE = 10  # a scan takes at most a tenth of the time
POLLING_RESCAN_S = 3.0  # where events cannot be trusted
BUG_S = 1.0  # of rest after one
UNFINISHED_TOLD_S = 20.0  # before it is said that a file's end does not come
SOON_S = 1.0  # after a file that was expected was not there


class Tracker:
    """Watches one inbox and hands its complete files to the ledger."""

    def __init__(
        self,
        folder: Folder,
        *,
        rules_digest: str,
        ledger: Ledger,
        clock: Clock,
        log: FilteringBoundLogger,
        on_arrival: Callable[[], None],
        on_return: Callable[[], None],
    ) -> None:
        self.folder = folder
        self.moved_at: float | None = None  # the last step of a walk (monotonic); None: at rest
        self.scanned: look.Scanned | None = None  # the last whole scan
        self.skipped: Mapping[str, int] = {}  # names that the last whole scan left alone, by why
        self._how: dict[str, Any] = {"recursive": folder.recursive, "names": Names.of(folder)}
        self._rules_digest = rules_digest
        self._ledger = ledger
        self._clock = clock
        self._log = log.bind(folder=folder.name)
        self._on_arrival = on_arrival
        self._on_return = on_return
        self._known: dict[str, Signature] = {}
        self._ignored: dict[str, Signature] = {}
        self._pending: dict[str, Pending] = {}
        self._odd_told: set[str] = set()
        self._reasons_told: set[str] = set()
        self._hidden: set[str] = set()  # known files that another folder's coming took from sight
        self._identity: tuple[int, int] | None = None  # of the folder that was scanned last
        self._wake = asyncio.Event()
        self._begun = asyncio.Event()
        self._rescan_at = self._rest_until = 0.0
        self.root = InboxRoot(folder.inbox, ledger, log=self._log, wake=self._wake.set)
        self.watch = Keeper(folder, clock=clock, log=self._log, wake=self._wake.set)

    @property
    def pending(self) -> int:
        """Return how many files were seen and are not complete yet."""
        return len(self._pending)

    @property
    def ignored(self) -> int:
        """Return how many files are left alone because they are no images."""
        return len(self._ignored)

    def look_again(self, path: str) -> None:
        """Forget what was known of a file: it left, or another version stands there."""
        self._known.pop(path, None)
        self.watch.expect(path)
        soon = max(self._clock.monotonic() + SOON_S, self._rest_until)
        self._rescan_at = min(self._rescan_at, soon)
        self._wake.set()

    def stays(self, path: str, signature: Signature) -> None:
        """Know a file that was dealt with and stays, by its present version."""
        self._known[path] = signature

    def left(self, path: str) -> None:
        """Forget a file that was moved out of the inbox."""
        self._known.pop(path, None)

    def is_hidden(self, path: str) -> bool:
        """Tell whether a known file is out of sight because another folder stands at the inbox."""
        return path in self._hidden or not self.root.is_at(self._identity)

    async def wait_begun(self) -> None:
        """Wait until the inbox is watched: what is dropped from now on is announced."""
        await self._begun.wait()

    async def run(self) -> None:
        """Watch until cancelled."""
        self.root.watch_mounts()
        try:
            self._move()
            await self._begin()
            await self._begin_watch()
            self._begun.set()
            while True:
                try:
                    self._move()
                    await self._step()
                except Exception:  # noqa: BLE001 - the watch goes on
                    # one odd file must not end the watch over all others
                    self._log.exception("folder.bug")
                    await self._clock.sleep(BUG_S)
                self.moved_at = None
                await self._wait_due()
        finally:
            self.root.close()
            await self.watch.detach()

    async def run_once(self) -> dict[str, str]:
        """Hand over what is complete now, then return the files that were left and why not."""
        await self._begin()
        await self._step(once=True)
        started_at = self._clock.monotonic()  # a large or slow inbox has been scanned by now
        patience_s = 2 * self.folder.settle_s + 1.0
        while any(not entry.blocked for entry in self._pending.values()):
            if self._clock.monotonic() - started_at > patience_s:
                break
            due_at = min(entry.look_at for entry in self._pending.values())
            await self._clock.sleep(max(0.01, due_at - self._clock.monotonic()))
            await self._step(once=True)
        return {
            path: entry.blocked or "it is still changing"
            for path, entry in sorted(self._pending.items())
        }

    # --- watching --------------------------------------------------------------------------------

    async def _begin(self) -> None:
        known = await self._ledger.present(self.folder.name, rules_digest=self._rules_digest)
        self._known = dict(known)

    async def _begin_watch(self) -> None:
        standing = await self.root.look()
        await self.watch.begin(standing)
        mode = "native" if self.watch.native else "polling"
        kind = "unknown" if standing is None else standing.kind
        self._log.info("folder.watching", inbox=str(self.folder.inbox), by=mode, file_system=kind)

    def _move(self) -> None:
        self.moved_at = self._clock.monotonic()

    async def _wait_due(self) -> None:
        due_at = min([self._rescan_at, *(entry.look_at for entry in self._pending.values())])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due_at - self._clock.monotonic())):
                await self._wake.wait()
        self._wake.clear()

    # --- one step --------------------------------------------------------------------------------

    async def _step(self, *, once: bool = False) -> None:
        hints, overflowed = self.watch.take_hints()
        if await self.root.is_another() or overflowed or self._clock.monotonic() >= self._rescan_at:
            await self._rescan()
        elif hints and not self.root.away:
            await self._follow(hints)
        if self.root.away:  # what is there will be found anew, and what is not may come back
            self._pending.clear()
            self._rescan_at = min(self._rescan_at, self._clock.monotonic() + POLLING_RESCAN_S)
        await self._examine_due(once=once)

    async def _rescan(self) -> None:
        started_at = self._clock.monotonic()
        wanted_s = self.folder.rescan_s
        standing = await self.root.look()
        if standing is None:
            self.watch.pause()
        else:
            await self.watch.attend(standing)  # before the scan: nothing comes in between
            try:
                survey, identity = await asyncio.to_thread(self._scan)
            except OSError as exc:
                self.root.report(f"{self.folder.inbox}: {exc.strerror}", away=True)
            else:
                self.scanned = survey.summarise(self._clock, started_at)
                again_s = 0.0  # another folder came while this one was looked through
                if identity == standing.identity:
                    again_s = await self._take_survey(survey, identity)
                wanted_s = min(wanted_s, again_s)
        if not self.watch.native or self.root.trouble is not None:
            wanted_s = min(wanted_s, POLLING_RESCAN_S)
        ended_at = self._clock.monotonic()
        self._rest_until = ended_at + RESCAN_SHARE * (ended_at - started_at)
        self._rescan_at = max(ended_at + wanted_s, self._rest_until)

    def _scan(self) -> tuple[look.Survey, tuple[int, int]]:
        return look.scan(self.folder.inbox, **self._how), identify(self.folder.inbox)

    async def _take_survey(self, survey: look.Survey, identity: tuple[int, int]) -> float:
        """Compare a whole scan with what is remembered; return how long it may be to the next."""
        if self.root.trouble is not None:
            self._on_arrival()  # its jobs have waited
            self._on_return()
            for entry in self._pending.values():  # what could not be opened may be mended too
                entry.look_at = 0.0 if entry.troubles else entry.look_at
        self.root.report("; ".join(survey.troubles[:3]) or None)
        for path, reason in survey.odd.items():
            if path not in self._odd_told:
                self._log.info("file.skipped", path=path, reason=reason)
        self._odd_told = set(survey.odd)
        self.skipped = survey.skipped
        for reason, path in survey.examples.items():
            if reason not in self._reasons_told:
                self._reasons_told.add(reason)
                self._log.info("names.skipped", reason=reason, such_as=path)
        seen = (self._known, self._pending, self._ignored)
        found = [path for path in survey.files if not any(path in some for some in seen)]
        for path, signature in survey.files.items():
            self._note(path, signature)
        before, self._identity = self._identity, identity
        if before not in (None, identity):
            # something else stands there: look at it, conclude nothing about the rest
            self._log.warning("folder.remounted", inbox=str(self.folder.inbox))
            self._hidden = self._known.keys() - survey.files.keys()
            self._on_return()
        elif survey.complete:
            self._hidden -= survey.files.keys()
            await self._forget_absent(survey)
        return await self.watch.judge(
            folders=survey.folders, found=found, pending=self._pending, complete=survey.complete
        )

    async def _forget_absent(self, survey: look.Survey) -> None:
        for kept in (self._pending, self._ignored):
            for absent in [path for path in kept if path not in survey.files]:
                del kept[absent]
        gone = survey.absent(self._known)
        if len(gone) < len(self._known) and (
            gone := [one for one in gone if one not in self._hidden]
        ):
            for path in gone:
                del self._known[path]
            await self._ledger.forget_absent(self.folder.name, gone, now=self._clock.now())

    async def _follow(self, hints: dict[str, bool]) -> None:
        """Look where events said that something happened."""
        inbox = self.folder.inbox
        for path, is_folder in hints.items():
            self._move()
            if not is_folder:
                if look.is_ours(path, **self._how):
                    signature = await asyncio.to_thread(look.sign_path, inbox, path)
                    if signature is not None:
                        self._note(path, signature, announced=True)
            elif self.folder.recursive and look.is_ours(f"{path}/x", **self._how):
                with contextlib.suppress(OSError):  # the next scan tells
                    survey = await asyncio.to_thread(look.scan, inbox, path, **self._how)
                    for found, signature in survey.files.items():
                        self._note(found, signature)

    def _note(self, path: str, signature: Signature, *, announced: bool = False) -> None:
        """Remember a sighting; a version that nobody knows becomes pending."""
        if (known := self._known.get(path)) is not None and known.is_version(signature):
            return
        if self._ignored.get(path) == signature:
            return
        pending = self._pending.get(path)
        now = self._clock.monotonic()
        if pending is None or pending.signature != signature:
            self._pending[path] = pending = Pending(
                signature=signature, changed_at=now, look_at=now
            )
        if announced:  # it was closed, perhaps: no need to wait for the next look
            pending.announced, pending.look_at = True, now

    # --- pending files ---------------------------------------------------------------------------

    async def _examine_due(self, *, once: bool) -> None:
        now = self._clock.monotonic()
        due = [path for path, entry in self._pending.items() if entry.look_at <= now]
        for start in range(0, len(due), EXAMINED_AT_ONCE):
            self._move()
            batch = due[start : start + EXAMINED_AT_ONCE]
            samples = await asyncio.to_thread(self._examine, batch)
            arrivals = []
            for path, sample in samples.items():
                arrival = self._judge(path, sample, once=once)
                if arrival is not None:
                    arrivals.append(arrival)
            await self._hand_over(arrivals)

    def _examine(self, paths: list[str]) -> dict[str, look.Sample | OSError | None]:
        samples: dict[str, look.Sample | OSError | None] = {}
        for path in paths:
            try:
                samples[path] = look.examine(self.folder.inbox, path, trusted=self.watch.trusted)
            except OSError as exc:
                samples[path] = exc
        return samples

    def _judge(
        self, path: str, sample: look.Sample | OSError | None, *, once: bool
    ) -> Arrival | None:
        """Decide on one pending file; return it if it is to be taken."""
        entry = self._pending.get(path)
        if entry is None:
            return None
        if sample is None:
            del self._pending[path]
            return None
        if isinstance(sample, OSError):
            if entry.troubles == 0:
                self._log.warning("file.unreadable", path=path, error=sample.strerror)
            entry.not_opened(sample.strerror, self._clock.monotonic())
            return None
        if (known := self._known.get(path)) is not None and known.is_version(sample.signature):
            del self._pending[path]  # it is what was dealt with
            return None
        now = self._clock.monotonic()
        entry.opened(sample.signature, now)
        if not sample.candidate and self.folder.unknown_files is UnknownFiles.IGNORE:
            del self._pending[path]
            self._ignored[path] = sample.signature
            return None
        verdict = settle.decide(
            # an empty file that is no image is simply ignored, not waited for
            size_bytes=entry.signature.size_bytes if sample.candidate else 1,
            unchanged_s=now - entry.changed_at,
            announced=entry.announced,
            writer=sample.writer,
            end=sample.end if sample.candidate else settle.End.UNKNOWN,
            policy=self._policy(sample, once=once),
        )
        match verdict:
            case settle.LookAgain():
                entry.look_at = now + verdict.after_s
                writing = sample.writer is settle.Writer.SOME
                entry.blocked = "a program is still writing it" if writing else ""
                self._tell_of_waiting(path, entry, sample)
                return None
            case _:
                return Arrival(
                    folder=self.folder.name,
                    path=path,
                    signature=entry.signature,
                    priority=self.folder.priority,
                    incomplete=isinstance(verdict, settle.GiveUp) and sample.candidate,
                )

    def _tell_of_waiting(self, path: str, entry: Pending, sample: look.Sample) -> None:
        """Say once that a file seems to have been left unfinished."""
        unchanged_s = self._clock.monotonic() - entry.changed_at
        whole = sample.signature.size_bytes > 0 and sample.end is not settle.End.MISSING
        if whole or not sample.candidate or unchanged_s < UNFINISHED_TOLD_S or entry.told:
            return
        entry.told = True
        self._log.warning(
            "file.unfinished",
            path=path,
            bytes=sample.signature.size_bytes,
            waiting="for its end",
            quarantined_after_s=self.folder.incomplete_after_s,
        )

    def _policy(self, sample: look.Sample, *, once: bool) -> settle.Policy:
        incomplete_after_s = self.folder.incomplete_after_s
        if once and sample.writer is settle.Writer.NONE:
            # nobody is writing, and nobody will be here in ten minutes
            incomplete_after_s = min(incomplete_after_s, self.folder.settle_s)
        return settle.Policy(settle_s=self.folder.settle_s, incomplete_after_s=incomplete_after_s)

    async def _hand_over(self, arrivals: list[Arrival]) -> None:
        if not arrivals:
            return
        added = await self._ledger.enqueue(arrivals, now=self._clock.now())
        for arrival, is_new in zip(arrivals, added, strict=True):
            entry = self._pending.get(arrival.path)
            if entry is None or entry.signature != arrival.signature:
                continue  # it changed while it was written down; the job will find out
            if is_new:
                del self._pending[arrival.path]
                self._known[arrival.path] = arrival.signature
            else:
                entry.not_taken(self._clock.monotonic())
        if any(added):
            self._on_arrival()
