"""One claimed job, taken as far as it goes; a failure becomes one decision and one ledger verb."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from structlog.typing import FilteringBoundLogger

from venice_watch import naming, retry
from venice_watch.clock import Clock
from venice_watch.config.model import Config, Folder, OnConflict, OnInDoubt
from venice_watch.errors import Code, ImageRefusedError, VeniceWatchError
from venice_watch.files import originals, place, spool
from venice_watch.files.source import (
    SourceChangedError,
    SourceGoneError,
    UnsafeSourceError,
    read_source,
)
from venice_watch.images.png import BrokenPngError, PngVerifier, verify_file
from venice_watch.images.prepare import Prepared, prepare
from venice_watch.intake.tracker import Tracker
from venice_watch.job import Attempt, Charge, Closing, Job, Retire, State
from venice_watch.ledger import (
    Ledger,
    NameReservedError,
    OpenAttempt,
    Order,
    Result,
    StaleError,
)
from venice_watch.outcome import Doubtful, Failure, Outcome, Succeeded
from venice_watch.pipeline import consider, deliver
from venice_watch.pipeline.consider import Considered, HeldError, SkippedError
from venice_watch.pipeline.deliver import DeliveryError
from venice_watch.venice.account import Account
from venice_watch.venice.classify import Exchange, Phase, classify
from venice_watch.venice.client import Upload, VeniceClient
from venice_watch.venice.gate import DrainingError, Gate

HELD_S = 30.0  # between looks at a folder that waits for a person
TROUBLE_S = (1.0, 120.0)  # between these, doubling with every look, while a file cannot be read
DELIVERY_S = 10.0  # between tries to deliver while the outbox is in trouble
SPOOL_S = 5.0  # between tries to write a paid result while the spool's disk is full
BUG_S = 60.0  # before an image that met a bug of ours is tried again
WORKERS = 2  # images decoded at a time: memory and cores are bounded, requests are not held up

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SendFailedError(VeniceWatchError):
    """A request that brought no result: its outcome, and the attempt to close."""

    def __init__(self, attempt: Attempt, failure: Failure) -> None:
        super().__init__(failure.words)
        self.attempt = attempt
        self.failure = failure


@dataclass(slots=True, kw_only=True)
class Tally:
    """What this run did: shown by `once` and `demo`, and decides their exit code."""

    completed: int = 0
    quarantined: int = 0
    skipped: int = 0
    spent_microusd: int = 0
    held: dict[str, str] = field(default_factory=dict)  # folder: why
    undelivered: dict[str, str] = field(default_factory=dict)  # path: why


class VerifyingSink:
    """Writes an answer into the spool while checking that it is a whole PNG."""

    def __init__(self, file: spool.SpoolFile) -> None:
        self._file = file
        self._verifier = PngVerifier()

    def write(self, data: bytes) -> None:
        """Take the next bytes; raise BrokenPngError once they are no PNG."""
        self._verifier.feed(data)
        self._file.write(data)

    def finish(self) -> tuple[int, int]:
        """Return the image's (width, height)."""
        facts = self._verifier.finish()
        return facts.width, facts.height


class Line:
    """What one image's way needs; use `work` for a claimed job."""

    def __init__(
        self,
        config: Config,
        *,
        ledger: Ledger,
        client: VeniceClient,
        gate: Gate,
        account: Account,
        trackers: Mapping[str, Tracker],
        spool_folder: Path,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self.tally = Tally()
        self._config = config
        self._ledger = ledger
        self._client = client
        self._gate = gate
        self._account = account
        self._trackers = trackers
        self._spool = spool_folder
        self._clock = clock
        self._log = log
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="images")

    def close(self) -> None:
        """Let the workers go."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def _decode(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run an image function outside the loop, few at a time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, lambda: function(*args, **kwargs))

    # --- the line --------------------------------------------------------------------------------

    async def work(self, folder: Folder, job: Job) -> None:
        """Take a job as far as it goes, and write down where that is."""
        log = self._log.bind(folder=folder.name, path=job.path, job=job.id)
        try:
            await self._advance(folder, job)
        except StaleError as exc:
            log.warning("job.moved_on", error=str(exc))
        except DeliveryError as exc:
            await self._postpone(exc, log)
        except SendFailedError as exc:
            await self._settle_failure(folder, job, exc.attempt, exc.failure)
        except ImageRefusedError as exc:
            await self._discard(folder, job, exc.code, exc.message)
        except SkippedError as exc:
            await self._skip(folder, job, str(exc), log)
        except (SourceGoneError, SourceChangedError, UnsafeSourceError) as exc:
            await self._cancel(folder, job, exc, log)
        except DrainingError:
            await self._put_back(job, after_s=0.0, counted=False, why="stopped before it was sent")
        except HeldError as exc:
            await self._hold(folder, job, str(exc), log)
        except OSError as exc:
            await self._back_off(job, exc, log)
        except Exception as exc:
            log.exception("job.bug")
            await self._survive_bug(job, exc)

    async def _advance(self, folder: Folder, job: Job) -> None:
        if job.state is State.STAGED:
            await self._deliver(folder, job, resumed=True)
            return
        data = await self._read(folder, job)
        considered = await self._decode(
            consider.consider, self._config, folder, job, data, self._account.contract
        )
        self._check_result_name(folder, job, considered)
        await self._take_back_reports(considered.source_sha256)
        prepared = await self._decode(
            prepare,
            data,
            considered.probe,
            width=considered.fit.width,
            height=considered.fit.height,
        )
        del data
        staged = await self._send(folder, job, considered, prepared)
        await self._deliver(folder, staged, resumed=False)

    async def _read(self, folder: Folder, job: Job) -> bytes:
        if job.signature.size_bytes > consider.SOURCE_BYTES_MAX:
            raise ImageRefusedError(
                Code.TOO_LARGE,
                f"it has {job.signature.size_bytes:,} bytes; files of up to "
                f"{consider.SOURCE_BYTES_MAX:,} are converted for Venice. Save it smaller.",
            )
        return await asyncio.to_thread(read_source, folder.inbox, job.path, job.signature)

    async def _send(
        self, folder: Folder, job: Job, considered: Considered, prepared: Prepared
    ) -> Job:
        """Send one request and bring its result into the spool: the only place that costs money."""
        parameters, fit = considered.parameters, considered.fit
        order = Order(
            work_key=consider.work_key(prepared.data, parameters, self._account.contract),
            source_sha256=considered.source_sha256,
            preset=considered.preset,
            parameters=parameters.canonical(),
            microusd=self._account.price_microusd(parameters.scale),
        )
        upload = Upload(
            data=prepared.data,
            media_type=prepared.media_type,
            extension=prepared.extension,
            fields=parameters.to_fields(),
        )
        async with self._gate.turn(folder.name):
            attempt = await self._ledger.begin(job, order, now=self._clock.now())
            started_at = self._clock.monotonic()
            file = spool.SpoolFile(self._spool, spool_name(attempt))
            try:
                outcome = await self._request(upload, file, considered)
                if isinstance(outcome, Succeeded):
                    await self._commit(file)
            finally:
                file.close()
        if not isinstance(outcome, Succeeded):
            raise SendFailedError(attempt, outcome)
        self._account.succeeded()
        self.tally.held.pop(folder.name, None)
        effective = max(outcome.width / fit.width, outcome.height / fit.height)
        closing = Closing(
            outcome=outcome.name,
            charge=outcome.charge,
            microusd=min(order.microusd, self._account.price_microusd(round(effective, 2))),
            status=outcome.status,
            request_id=outcome.request_id,
        )
        staged = await self._stage(
            folder, job, attempt, closing, considered.preset, effective, outcome
        )
        self.tally.spent_microusd += closing.microusd or 0
        self._log.debug(
            "image.staged",
            folder=folder.name,
            path=job.path,
            seconds=round(self._clock.monotonic() - started_at, 3),
            request_id=outcome.request_id,
        )
        return staged

    async def _request(
        self, upload: Upload, file: spool.SpoolFile, considered: Considered
    ) -> Outcome:
        fit = considered.fit
        try:
            exchange = await self._client.upscale(upload, VerifyingSink(file))
        except Exception as exc:
            # a bug of ours, and the bytes may have left: the money's fate is unknown
            self._log.exception("request.bug")
            exchange = Exchange(phase=Phase.SENT, headers={}, error=type(exc).__name__)
        outcome = classify(
            exchange,
            wanted=(fit.result_width, fit.result_height),
            sent=(fit.width, fit.height),
            now=self._clock.now(),
        )
        await self._gate.report(outcome)
        limit = exchange.headers.get("x-ratelimit-limit-requests", "")
        if limit.isascii() and limit.isdigit() and int(limit) > 0:
            await self._gate.learn_rate(int(limit))
        return outcome

    async def _commit(self, file: spool.SpoolFile) -> None:
        """Make a paid result durable, however long our own disk takes to be mended."""
        told = False
        while True:
            try:
                await asyncio.to_thread(file.commit)
            except OSError as exc:
                if not told:
                    self._log.error("spool.unwritable", spool=str(self._spool), error=exc.strerror)
                    told = True
                await self._clock.sleep(SPOOL_S)
            else:
                return

    async def _stage(
        self,
        folder: Folder,
        job: Job,
        attempt: Attempt,
        closing: Closing,
        preset: str,
        scale: float,
        size: Succeeded,
    ) -> Job:
        """Write down that the result is safe, and reserve the first free name for it."""
        facts = deliver.name_facts(
            job,
            preset=preset,
            scale=round(scale, 2),
            width=size.width,
            height=size.height,
            now=self._clock.now(),
        )
        overwrite = folder.output.on_conflict is OnConflict.OVERWRITE
        for number in range(deliver.NAMES_MAX):
            path = deliver.result_path(folder, job, result_name(folder, facts, number))
            if not overwrite and await asyncio.to_thread(_exists, path):
                continue
            result = Result(
                spool_name=spool_name(attempt),
                path=str(path),
                width=size.width,
                height=size.height,
                exclusive=not overwrite,
            )
            try:
                return await self._ledger.stage(
                    job, attempt, closing, result, now=self._clock.now()
                )
            except NameReservedError:
                continue
        raise AssertionError("a folder full of one name")

    async def _deliver(self, folder: Folder, job: Job, *, resumed: bool) -> None:
        """Put a staged result into the outbox, then the original where it belongs."""
        assert job.spool_name is not None
        spooled = self._spool / job.spool_name
        try:
            job = await self._publish(folder, job, spooled, resumed=resumed)
        except OSError as exc:
            raise DeliveryError(job, f"{exc.strerror}: {exc.filename or folder.outbox}") from exc
        job = await self._ledger.complete(
            job, retire=deliver.RETIRE[folder.originals], now=self._clock.now()
        )
        await asyncio.to_thread(spool.drop_spooled, self._spool, spooled.name)
        self.tally.completed += 1
        self.tally.undelivered.pop(job.path, None)
        self._log.info(
            "image.completed",
            folder=folder.name,
            path=job.path,
            result=job.result_path,
            size=f"{job.result_width}x{job.result_height}",
            preset=job.preset,
            seconds=round(self._clock.now() - job.created_at, 2),
        )
        await self.retire(folder, job)

    async def _publish(self, folder: Folder, job: Job, spooled: Path, *, resumed: bool) -> Job:
        while True:
            try:
                await asyncio.to_thread(deliver.publish, folder, job, spooled)
            except place.NameTakenError:
                assert job.result_path is not None
                # a name reserved by this job, with these bytes: published before a crash
                if resumed and await asyncio.to_thread(
                    place.same_content, spooled, Path(job.result_path)
                ):
                    return job
                job = await deliver.reserve_next_name(self._ledger, job, self._clock)
            else:
                return job

    async def retire(self, folder: Folder, job: Job) -> None:
        """Put the original of an ended job away; what cannot be done now is owed."""
        attempts = await self._ledger.attempts(job)

        def report() -> dict[str, object]:
            return deliver.report_for(
                job, attempts, code=job.code or "", message=job.message or "", now=job.updated_at
            )

        try:
            where = await asyncio.to_thread(deliver.put_original_away, folder, job, report)
        except (SourceGoneError, SourceChangedError, UnsafeSourceError) as exc:
            self._log.warning(
                "original.not_there", folder=folder.name, path=job.path, reason=str(exc)
            )
            await self._ledger.retired(
                replace(job, retire=Retire.NONE), original_path=None, now=self._clock.now()
            )
            self._tracker(folder).look_again(job.path)
        except (OSError, VeniceWatchError) as exc:
            self._log.error(
                "original.stuck", folder=folder.name, path=job.path, error=str(exc), next="retried"
            )
        else:
            original_path = None if where is None else str(where)
            await self._ledger.retired(job, original_path=original_path, now=self._clock.now())
            if job.retire is not Retire.KEEP:
                self._tracker(folder).left(job.path)

    def _tracker(self, folder: Folder) -> Tracker:
        return self._trackers[folder.name]

    def _check_result_name(self, folder: Folder, job: Job, considered: Considered) -> None:
        """Find out for free that the result would not be wanted."""
        if folder.output.on_conflict is not OnConflict.SKIP:
            return
        fit = considered.fit
        facts = deliver.name_facts(
            job,
            preset=considered.preset,
            scale=fit.scale,
            width=fit.result_width,
            height=fit.result_height,
            now=self._clock.now(),
        )
        path = deliver.result_path(folder, job, result_name(folder, facts, 0))
        if _exists(path):
            raise SkippedError(f"{path} is there already, and `on_conflict` is `skip`")

    async def _take_back_reports(self, source_sha256: bytes) -> None:
        """Remove the reports of files that somebody moved from the quarantine into the inbox."""
        for earlier in await self._ledger.quarantined(source_sha256):
            assert earlier.original_path is not None
            original = Path(earlier.original_path)
            if not await asyncio.to_thread(_exists, original):
                await asyncio.to_thread(originals.remove_report, original)
                await self._ledger.left_quarantine(earlier, now=self._clock.now())

    # --- what becomes of failures ----------------------------------------------------------------

    async def _settle_failure(
        self, folder: Folder, job: Job, attempt: Attempt, failure: Failure
    ) -> None:
        """Turn a failed request into one decision, and the decision into one ledger verb."""
        past = await self._past(job, attempt)
        retries = self._config.api.retries
        decision = retry.decide(
            failure,
            past,
            retry.Policy(
                attempts_max=retries.attempts,
                base_s=retries.base_s,
                max_s=retries.max_s,
                resend_in_doubt=self._config.api.on_in_doubt is OnInDoubt.RESEND_ONCE,
            ),
            service_down=self._gate.service_down,
            chance=random.random(),  # noqa: S311 - spreads retries, guards nothing
        )
        closing = Closing(
            outcome=failure.name,
            charge=failure.charge,
            status=failure.status,
            request_id=failure.request_id,
            message=failure.words,
        )
        if failure.charge in (Charge.UNKNOWN, Charge.LOST):
            self.tally.spent_microusd += attempt.microusd
        self._log.warning(
            "request.failed",
            folder=folder.name,
            path=job.path,
            outcome=failure.name,
            charge=failure.charge,
            status=failure.status,
            request_id=failure.request_id,
            words=failure.words,
            decision=type(decision).__name__,
        )
        now = self._clock.now()
        match decision:
            case retry.Discard():
                await self._discard(
                    folder, job, decision.code, decision.message, attempt=attempt, closing=closing
                )
            case retry.Resend():
                await self._ledger.doubt(
                    job, attempt, closing, until=now + decision.after_s, now=now
                )
            case retry.Halt():
                await self._account.halt(decision.reason)
                await self._put_back(
                    job, after_s=0.0, counted=False, why=failure.words, ended=(attempt, closing)
                )
            case retry.RetryAt():
                await self._put_back(
                    job,
                    after_s=decision.after_s,
                    counted=decision.counted,
                    why=failure.words,
                    ended=(attempt, closing),
                )

    async def _past(self, job: Job, attempt: Attempt) -> retry.Past:
        earlier = [one for one in await self._ledger.attempts(job) if one.id != attempt.id]
        return retry.Past(
            attempts=job.attempts,
            server_failures=sum(one.outcome == "server_failed" for one in earlier),
            doubts=await self._ledger.doubts(attempt.work_key),
        )

    async def _put_back(
        self,
        job: Job,
        *,
        after_s: float,
        counted: bool,
        why: str,
        ended: tuple[Attempt, Closing] | None = None,
    ) -> None:
        now = self._clock.now()
        attempt, closing = ended or (None, None)
        await self._ledger.retry(
            job, attempt, closing, until=now + after_s, counted=counted, message=why, now=now
        )

    async def _discard(
        self,
        folder: Folder,
        job: Job,
        code: Code,
        message: str,
        *,
        attempt: Attempt | None = None,
        closing: Closing | None = None,
    ) -> None:
        """Give the image up: into the quarantine, with its report."""
        message = f"{job.path.rpartition('/')[2]}: {message}"
        job = await self._ledger.discard(
            job, attempt, closing, code=code, message=message, now=self._clock.now()
        )
        self.tally.quarantined += 1
        self._log.warning(
            "image.quarantined", folder=folder.name, path=job.path, code=code, reason=message
        )
        await self.retire(folder, job)

    async def _skip(self, folder: Folder, job: Job, why: str, log: FilteringBoundLogger) -> None:
        digest = consider.rules_digest(self._config, folder)
        await self._ledger.cancel(
            job, code="skipped", message=why, rules_digest=digest, now=self._clock.now()
        )
        self.tally.skipped += 1
        log.info("image.skipped", reason=why)

    async def _cancel(
        self, folder: Folder, job: Job, error: VeniceWatchError, log: FilteringBoundLogger
    ) -> None:
        code = "gone" if isinstance(error, SourceGoneError) else "changed"
        await self._ledger.cancel(
            job, code=code, message=str(error), rules_digest=None, now=self._clock.now()
        )
        log.info(f"image.{code}", reason=str(error))
        self._tracker(folder).look_again(job.path)

    async def _hold(self, folder: Folder, job: Job, why: str, log: FilteringBoundLogger) -> None:
        if self.tally.held.get(folder.name) != why:
            self.tally.held[folder.name] = why
            log.error("folder.held", reason=why)
        await self._put_back(job, after_s=HELD_S, counted=False, why=why)

    async def _back_off(self, job: Job, error: OSError, log: FilteringBoundLogger) -> None:
        low_s, high_s = TROUBLE_S
        # how long it has been waiting says how long to wait: no counter to keep
        age_s = self._clock.now() - job.created_at
        log.warning("file.unreadable", error=str(error))
        await self._put_back(
            job, after_s=min(high_s, max(low_s, age_s)), counted=False, why=str(error)
        )

    async def _postpone(self, error: DeliveryError, log: FilteringBoundLogger) -> None:
        now = self._clock.now()
        if error.job.path not in self.tally.undelivered:
            log.error("delivery.failed", error=str(error), next=f"again in {DELIVERY_S:g} s")
        self.tally.undelivered[error.job.path] = str(error)
        await self._ledger.postpone(error.job, until=now + DELIVERY_S, message=str(error), now=now)

    async def _survive_bug(self, job: Job, error: Exception) -> None:
        """Keep the daemon going: the image waits, counted, until it is given up."""
        try:
            await self._put_back(
                job, after_s=BUG_S, counted=True, why=f"internal error: {type(error).__name__}"
            )
        except StaleError:
            self._log.error("job.left_as_it_is", job=job.id)

    # --- after a death ---------------------------------------------------------------------------

    async def recover(self, folders: Mapping[str, Folder]) -> None:
        """Settle what the last process left: adopt whole results, doubt the rest, put away."""
        doubtful = await self._ledger.recover(now=self._clock.now())
        for one in doubtful:
            folder = folders.get(one.job.folder)
            if folder is None:
                self._log.warning("recover.folder_unknown", folder=one.job.folder)
            elif not await self._adopt(folder, one):
                failure = Doubtful(words="the daemon died while this request was under way")
                await self._settle_failure(folder, one.job, one.attempt, failure)
        await self.put_owed_away(folders)

    async def put_owed_away(self, folders: Mapping[str, Folder]) -> None:
        """Put away the originals of jobs that ended before they could be."""
        for job in await self._ledger.owed():
            folder = folders.get(job.folder)
            if folder is not None:
                await self.retire(folder, job)

    async def _adopt(self, folder: Folder, one: OpenAttempt) -> bool:
        """Stage a result that was whole in the spool before its attempt could be closed."""
        file = self._spool / spool_name(one.attempt)
        try:
            facts = await asyncio.to_thread(verify_file, file)
        except (OSError, BrokenPngError):
            return False
        size = Succeeded(width=facts.width, height=facts.height)
        closing = Closing(outcome="adopted", charge=Charge.CHARGED)
        preset = one.job.preset or folder.preset
        staged = await self._stage(
            folder, one.job, one.attempt, closing, preset, _scale_of(one.job), size
        )
        self.tally.spent_microusd += one.attempt.microusd
        now = self._clock.now()
        await self._ledger.postpone(staged, until=now, message="adopted after a death", now=now)
        return True


def spool_name(attempt: Attempt) -> str:
    """Return what an attempt's result is called in the spool."""
    return f"{attempt.id}.png"


def result_name(folder: Folder, facts: naming.NameFacts, number: int) -> str:
    """Return the n-th name to try for a result; `{counter}` counts where the template has it."""
    template = folder.output.name
    if "{counter" in template:
        return naming.render(template, replace(facts, counter=number + 1))
    name = naming.render(template, facts)
    return naming.numbered(name, number) if number else name


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _scale_of(job: Job) -> float:
    return float(json.loads(job.parameters or "{}").get("scale", 2))
