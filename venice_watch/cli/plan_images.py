"""What would be done with each file of an inbox now: the daemon's own decisions, nothing sent.

Rules: the same functions decide here and in the pipeline; one image is in memory at a time; the
ledger is only read.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from venice_watch.cli.plan_cases import Case, FolderPlan, Planned, Verdict
from venice_watch.config.model import Config, Duplicates, Folder
from venice_watch.config.model import UnknownFiles as Unknown
from venice_watch.errors import ImageRefusedError
from venice_watch.files.source import (
    SourceChangedError,
    SourceGoneError,
    UnsafeSourceError,
    read_source,
)
from venice_watch.images.decoders import Decoders
from venice_watch.images.signature import identify
from venice_watch.intake import look, mounts
from venice_watch.intake.junk import Names
from venice_watch.job import Job, Signature, State
from venice_watch.ledger import Earlier, Ledger, Prior
from venice_watch.naming import NameFacts
from venice_watch.parameters import Contract, price_microusd
from venice_watch.pipeline import consider, deliver, finish, frames, retire, reuse
from venice_watch.pipeline.consider import Admitted, FolderHeldError, HeldError, SkippedError
from venice_watch.rules import skips_undecoded
from venice_watch.settle import End, Writer

INTERRUPTED = "it was interrupted: the next start delivers its result, or sends it once more"


class Planner:
    """Plans folder after folder; what one would pay for is free for the next."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        decoders: Decoders,
        *,
        contract: Contract | None,
        prices: Mapping[str, int],
        running: bool,
        now: float,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._decoders = decoders
        self._contract = contract
        self._prices = prices
        self._running = running
        self._now = now
        self._spool = config.state_dir / "spool"
        self._to_send: dict[bytes, str] = {}  # paid work of this plan: whose file it is
        self._mounts: Mapping[str, str] = {}
        self._kept_bytes = 0  # of kept results, which make room where it is needed

    async def survey(self, folder: Folder) -> "tuple[FolderPlan, list[Job]]":
        """Look through an inbox; return a plan with what is decided already, and what is not."""
        self._mounts = await self._ledger.mounts()
        self._kept_bytes = await asyncio.to_thread(_size_bytes, self._spool)
        plan = FolderPlan(folder=folder)
        try:
            found = await asyncio.to_thread(self._scan, folder)
        except OSError as exc:
            plan.trouble = f"{folder.inbox}: {exc.strerror}"
            return plan, await self._take_active(plan, {})
        plan.trouble = "; ".join(found.troubles[:3]) or None
        plan.ignored = {why: number for why, number in found.skipped.items() if why != "our own"}
        jobs = await self._take_active(plan, found.files)
        known = dict(
            await self._ledger.present(
                folder.name, rules_digest=consider.rules_digest(self._config, folder)
            )
        )
        kind = await asyncio.to_thread(mounts.file_system_of, folder.inbox)
        for path, signature in sorted(found.files.items()):
            version = known.get(path)
            if version is None or not version.is_version(signature):
                new = await asyncio.to_thread(
                    self._examine, plan, path, signature, trusted=kind in mounts.TRUSTED
                )
                jobs += [] if new is None else [new]
        waiting = {job.path for job in await self._ledger.active(folder.name)}
        plan.done = sum(path in found.files for path in known.keys() - waiting)
        return plan, jobs

    async def _take_active(self, plan: FolderPlan, files: Mapping[str, Signature]) -> list[Job]:
        """Decide on what is paid for or being sent; return the jobs that wait with their files."""
        waiting = []
        for job in await self._ledger.active(plan.folder.name):
            case = Case(job=job, now=self._now)
            ahead = job.frames - job.frame - 1
            follow = f"{ahead} more frames follow, and are not counted here" if ahead else ""
            if job.state is State.STAGED:
                plan.files.append(case.planned(Verdict.DELIVER, job.message or follow))
            elif job.state is State.EXECUTING and await self._is_in_hand(job):
                said = follow if self._running else INTERRUPTED
                plan.files.append(case.planned(Verdict.UNDER_WAY, said))
            elif (there := files.get(job.path)) is not None and job.signature.is_version(there):
                waiting.append(job)
        return waiting

    async def _is_in_hand(self, job: Job) -> bool:
        """Tell whether a request for it is open, or somebody works on it."""
        return self._running or any(
            attempt.ended_at is None for attempt in await self._ledger.attempts(job)
        )

    def _examine(
        self, plan: FolderPlan, path: str, signature: Signature, *, trusted: bool
    ) -> Job | None:
        """Judge a file that nobody took yet; return it as the job that it would be."""
        folder = plan.folder
        try:
            sample = look.examine(folder.inbox, path, trusted=trusted)
        except OSError as exc:
            job = _job(folder, path, signature, self._now)
            message = f"it cannot be opened: {exc.strerror}"
            plan.files.append(Case(job=job, now=self._now).planned(Verdict.HOLD, message))
            return None
        if sample is None:
            return None
        job = _job(folder, path, sample.signature, self._now)
        if not sample.candidate:
            if folder.unknown_files is Unknown.IGNORE:
                plan.ignored["no image"] = plan.ignored.get("no image", 0) + 1
                return None
            return job
        if sample.writer is Writer.SOME:
            message = "a program is still writing it"
        elif sample.signature.size_bytes == 0 or sample.end is End.MISSING:
            what = "its end is missing" if sample.signature.size_bytes else "it is empty"
            message = (
                f"{what}; quarantined if nobody writes to it for "
                f"{folder.incomplete_after_s:g} s (`once` waits {folder.settle_s:g} s)"
            )
        else:
            return job
        plan.files.append(Case(job=job, now=self._now).planned(Verdict.INCOMPLETE, message))
        return None

    async def decide(self, plan: FolderPlan, job: Job) -> None:
        """Add one file to the plan, with what the pipeline would do with it."""
        case = Case(job=job, now=self._now)
        try:
            await asyncio.to_thread(self._consider, plan.folder, case)
            planned = await self._pay(plan.folder, case)
        except ImageRefusedError as exc:
            planned = self._refuse(plan.folder, case, exc)
        except SkippedError as exc:
            planned = case.planned(Verdict.SKIP, str(exc))
        except HeldError as exc:
            planned = case.planned(Verdict.HOLD, str(exc))
            if isinstance(exc, FolderHeldError):
                plan.held = plan.held or str(exc)
        except (SourceGoneError, SourceChangedError, UnsafeSourceError) as exc:
            planned = case.planned(Verdict.INCOMPLETE, str(exc))
        except OSError as exc:
            planned = case.planned(Verdict.HOLD, f"it cannot be read: {exc.strerror or exc}")
        plan.files.append(planned)

    def _refuse(self, folder: Folder, case: Case, error: ImageRefusedError) -> Planned:
        job = case.job
        if case.choice is None and skips_undecoded(
            folder.rules, name=job.path, kind=case.kind, size_bytes=job.signature.size_bytes
        ):
            return case.planned(Verdict.SKIP, "a rule of the folder says skip")
        return case.planned(Verdict.QUARANTINE, error.message, error.code)

    def _consider(self, folder: Folder, case: Case) -> None:
        """Read and decode the file; keep what was found, not the pixels. Blocks."""
        job = case.job
        consider.refuse_size(job.signature.size_bytes)
        data = read_source(folder.inbox, job.path, job.signature)
        case.source_sha256 = hashlib.sha256(data).digest()
        case.kind = identify(data) or ""
        case.probe, _ = consider.look(self._decoders, job, data)
        case.choice = consider.choose(self._config, folder, job, case.probe)
        case.wanted = frames.find(self._decoders, folder, job, data, case.probe)
        admitted = self._admit(folder, case, data, job.frame)
        case.keys = self._keys(admitted)
        case.admitted = replace(admitted, prepared=replace(admitted.prepared, data=b""))
        case.job = replace(job, frames=len(case.wanted.frames))
        self._hold_unless_ready(folder, case)
        if case.job.frames == 1:
            deliver.refuse_conflict(folder, case.job, self._name_facts(folder, case))

    def _admit(self, folder: Folder, case: Case, data: bytes, number: int) -> Admitted:
        assert case.probe is not None, "looked at before"
        assert case.choice is not None, "chosen before"
        assert case.wanted is not None, "found before"
        return consider.admit(
            self._decoders,
            folder,
            data,
            case.probe,
            case.choice,
            self._contract,
            case.wanted,
            number,
        )

    def _keys(self, admitted: Admitted) -> tuple[bytes, ...]:
        contracts = (None, *Contract) if self._contract is None else (self._contract,)
        return tuple(
            consider.work_key(admitted.prepared.data, admitted.parameters, contract)
            for contract in contracts
        )

    def _name_facts(self, folder: Folder, case: Case) -> NameFacts:
        assert case.choice is not None, "chosen before"
        assert case.admitted is not None, "admitted before"
        fit = case.admitted.fit
        return deliver.name_facts(
            case.job,
            preset=case.choice.preset,
            scale=fit.scale,
            width=fit.result_width,
            height=fit.result_height,
            now=self._now,
            ext=finish.extension_of(
                folder, case.kind, width=fit.result_width, height=fit.result_height
            ),
        )

    def _scan(self, folder: Folder) -> look.Survey:
        _, away = mounts.look_at(folder.inbox, self._mounts.get(str(folder.inbox)))
        if away is not None:
            raise OSError(errno.ENODEV, away)
        return look.scan(
            folder.inbox,
            recursive=folder.recursive,
            names=Names.of(folder),
        )

    def _hold_unless_ready(self, folder: Folder, case: Case) -> None:
        assert case.admitted is not None, "admitted before"
        for root in consider.targets(folder).values():
            if root.is_dir() and (away := mounts.look_at(root, self._mounts.get(str(root)))[1]):
                raise FolderHeldError(f"{root}: {away}")
        spool = self._spool
        wanted = consider.result_bytes_max(case.admitted.fit) * self._config.api.concurrency
        consider.hold_unless_ready(
            folder,
            case.job,
            case.admitted.fit,
            next(one for one in (spool, *spool.parents) if os.path.exists(one)),  # noqa: PTH110 - never raises
            spool_bytes=max(0, wanted + consider.SPOOL_SPARE_BYTES - self._kept_bytes),
        )

    async def _pay(self, folder: Folder, case: Case) -> Planned:
        """Decide whether the work has to be paid for."""
        assert case.admitted is not None, "admitted before"
        priors = [await self._ledger.prior(key) for key in case.keys]
        results = [result for prior in priors for result in prior.results]
        if case.job.frames > 1:
            return await self._pay_frames(folder, case, priors, results)
        twin = self._to_send.get(case.keys[0])
        if results or twin is not None:
            reuse.refuse_duplicate(folder.duplicates)
        if folder.duplicates is Duplicates.REUSE:
            for result in results:
                if at := await asyncio.to_thread(self._find_result, result):
                    return case.planned(Verdict.FREE, f"its result is there already: {at}")
        await self._refuse_another_doubt(case, priors)
        if folder.duplicates is not Duplicates.PROCESS:
            if any(prior.under_way for prior in priors):
                return case.planned(Verdict.SAME, "the same image is on its way")
            if twin is not None:
                return case.planned(Verdict.SAME, f"the same as {twin}")
        self._to_send.setdefault(case.keys[0], f"{folder.name}/{case.job.path}")
        price = price_microusd(case.admitted.parameters.scale, self._prices)
        doubt = case.job.state is State.IN_DOUBT
        message = "once more: the first request may have been charged" if doubt else ""
        return replace(case.planned(Verdict.SEND, message), prices=(price,))

    async def _pay_frames(
        self, folder: Folder, case: Case, priors: list[Prior], results: list[Earlier]
    ) -> Planned:
        """Decide which frames of a file have to be paid for; `results` are of the next one."""
        job, duplicates = case.job, folder.duplicates
        await asyncio.to_thread(
            reuse.refuse_conflict_of_frames, folder, job, self._name_facts(folder, case), results
        )
        for key in case.keys if results and not job.frame else ():
            if await self._ledger.is_finished(case.source_sha256, key):
                reuse.refuse_duplicate(duplicates)
        await self._refuse_another_doubt(case, priors)
        whole = hashlib.sha256(case.source_sha256 + case.keys[0]).digest()
        if duplicates is not Duplicates.PROCESS and (twin := self._to_send.get(whole)):
            return case.planned(Verdict.SAME, f"the same as {twin}")
        self._to_send.setdefault(whole, f"{folder.name}/{job.path}")
        if results and duplicates is not Duplicates.PROCESS:
            prices = await self._price_unpaid(folder, case)
        else:
            prices = self._price_all(folder, case)
        if not prices:
            return case.planned(Verdict.FREE, "its results are there already")
        left = "" if len(prices) == job.frames else f"{len(prices)} frames are still to be paid for"
        return replace(case.planned(Verdict.SEND, left), prices=tuple(prices))

    def _price_all(self, folder: Folder, case: Case) -> list[int]:
        """Return the price of the next frame and of all that follow, by their sizes."""
        assert case.choice is not None, "chosen before"
        assert case.wanted is not None, "found before"
        parameters = consider.keep_to_contract(folder, case.choice, self._contract)
        fit_of = consider.fitting(folder, parameters, self._contract)
        return [
            price_microusd(fit_of(frame.width, frame.height).scale, self._prices)
            for frame in case.wanted.frames[case.job.frame :]
        ]

    async def _price_unpaid(self, folder: Folder, case: Case) -> list[int]:
        """Return the prices of the frames without a result, decoding each."""
        job = case.job
        data = await asyncio.to_thread(read_source, folder.inbox, job.path, job.signature)
        prices = []
        for number in range(job.frame, job.frames):
            admitted = await asyncio.to_thread(self._admit, folder, case, data, number)
            priors = [await self._ledger.prior(key) for key in self._keys(admitted)]
            places = [
                await asyncio.to_thread(self._find_result, result)
                for prior in priors
                for result in prior.results
            ]
            if not any(places):
                prices.append(price_microusd(admitted.parameters.scale, self._prices))
        return prices

    def _find_result(self, earlier: Earlier) -> str | None:
        """Return where the bytes of an earlier result are, or None; blocks. Raises HeldError."""
        away = ""
        for place in reuse.places_of(self._spool, earlier):
            try:
                for folder in self._config.folders:
                    if Path(place.path).is_relative_to(folder.outbox):
                        mounted = self._mounts.get(str(folder.outbox))
                        away = mounts.look_at(folder.outbox, mounted)[1] or away
                if reuse.is_at(place, earlier):
                    return place.path
            except OSError as exc:
                away = f"it cannot be read: {exc.strerror}"
        if away:
            raise HeldError(f"the same image was upscaled before; of its result: {away}")
        return None

    async def _refuse_another_doubt(self, case: Case, priors: list[Prior]) -> None:
        """Refuse work that was in doubt too often, unless its file was taken back since."""
        earlier = await self._ledger.quarantined(case.source_sha256)
        if not await asyncio.to_thread(_left_quarantine, case.job, earlier):
            doubts = max(prior.doubts for prior in priors)
            reuse.refuse_another_doubt(self._config.api.on_in_doubt, doubts)


def _job(folder: Folder, path: str, signature: Signature, now: float) -> Job:
    """Return the job that a file would be."""
    return Job(
        id=0,
        folder=folder.name,
        path=path,
        state=State.AVAILABLE,
        generation=0,
        signature=signature,
        incomplete=False,
        attempts=0,
        available_at=now,
        created_at=now,
        updated_at=now,
    )


def _size_bytes(folder: Path) -> int:
    """Return the size of a folder's files, as far as it can be had; blocks."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except OSError:
        return 0


def _left_quarantine(job: Job, earlier: list[Job]) -> bool:
    """Tell whether this file is one of these, taken back, and its doubts with it; blocks."""
    return any(
        one.original_path
        and retire.is_taken_back(job, one)
        and not os.path.lexists(one.original_path)
        for one in earlier
    )
