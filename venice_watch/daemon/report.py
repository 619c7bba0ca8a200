"""How a run goes, how it ended, and how things stand, for those who show it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from venice_watch import __version__
from venice_watch.budget import turns_at
from venice_watch.job import ACTIVE
from venice_watch.ledger import FolderCounts
from venice_watch.ledger.pauses import Pause
from venice_watch.notice import Kind, Trouble
from venice_watch.pipeline.passage import Parts, Tally
from venice_watch.views.live import Live, LiveFolder

SILENT_S = 300.0  # of an inbox; to look through a large one on a slow share takes minutes
TROUBLES_MAX = 200  # told at once: whoever has more wants to see the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a run ended."""

    tally: Tally
    waiting: int  # jobs that could not be done now
    left: Mapping[str, str]  # files that could not be taken, and why
    refused: str | None  # why the account could not send
    troubles: Mapping[str, str]  # folder: why its inbox could not be read
    paused: Mapping[str, Pause]  # folder: who said that it is to wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands, for a progress bar."""

    total: int
    done: int
    in_flight: int
    note: str


def active(count: FolderCounts) -> int:
    """Return how many jobs have not ended."""
    return sum(getattr(count, state.value) for state in ACTIVE)


async def measure(parts: Parts) -> Progress:
    """Return how far a run is."""
    tally = parts.tally
    done = tally.results + tally.quarantined + tally.skipped
    counts = await parts.ledger.counts()
    ahead = sum(one.frames_ahead for name, one in counts.items() if name in parts.trackers)
    pending = sum(tracker.pending for tracker in parts.trackers.values())
    return Progress(
        total=done + await _waiting(parts) + ahead + pending,
        done=done,
        in_flight=parts.gate.in_flight,
        note=parts.gate.halted or "",
    )


async def summarise(parts: Parts, left: Mapping[str, str]) -> Summary:
    """Return how a run ended."""
    return Summary(
        tally=parts.tally,
        waiting=await _waiting(parts),
        left=left,
        refused=parts.account.refused,
        troubles={
            name: tracker.root.trouble
            for name, tracker in parts.trackers.items()
            if tracker.root.trouble is not None
        },
        paused={
            name: pause for name in parts.trackers if (pause := parts.paused.of(name)) is not None
        },
    )


async def can_go_on(parts: Parts) -> bool:
    """Tell whether anything is left that a run can do, with no task left that does it."""
    tally = parts.tally
    held = Counter(folder for folder, _path in tally.held_images)
    for name, count in (await parts.ledger.counts()).items():
        tracker = parts.trackers.get(name)
        if tracker is None or name in tally.held or tracker.root.away:
            continue
        staged = 0 if tally.undelivered else count.staged
        if parts.paused.of(name) is not None:
            unpaid = 0  # what is paid for is delivered all the same
        else:
            # what is executing was left behind: only a restart can settle it
            unpaid = active(count) - count.executing - count.staged - held[name]
        if staged + unpaid > 0:
            return True
    return False


async def _waiting(parts: Parts) -> int:
    counts = await parts.ledger.counts()
    return sum(active(count) for name, count in counts.items() if name in parts.trackers)


def live(parts: Parts, *, loaded_at: float) -> Live:
    """Return how things stand in this process; asks no disk."""
    return Live(
        version=__version__,
        config_file=str(parts.config.path),
        loaded_at=loaded_at,
        halted=parts.gate.halted,
        concurrency=parts.gate.concurrency,
        requests_per_minute=parts.gate.requests_per_minute,
        requests_last_minute=parts.gate.requests_last_minute,
        pause_s=parts.gate.paused_s,
        contract=parts.account.contract,
        balances=dict(parts.account.balances or {}),
        troubles=tuple((one.subject, one.why) for one in troubles(parts)),
        folders={name: _live_folder(parts, name) for name in parts.trackers},
    )


def _live_folder(parts: Parts, name: str) -> LiveFolder:
    tracker, hold = parts.trackers[name], parts.tally.held.get(name)
    scanned = tracker.scanned
    return LiveFolder(
        left_alone=dict(tracker.skipped),
        no_images=tracker.ignored,
        pending=tracker.pending,
        watched_by="native" if tracker.watch.native else "polling",
        polling_why=tracker.watch.polling_why,
        scanned_at=None if scanned is None else scanned.at,
        scan_s=None if scanned is None else scanned.took_s,
        scanned_files=None if scanned is None else scanned.files,
        held=None if hold is None else hold.why,
    )


def silent_s(parts: Parts) -> dict[str, float]:
    """Return for how long each folder's watch has waited for an answer, in seconds."""
    now = parts.clock.monotonic()
    return {
        name: now - tracker.moved_at
        for name, tracker in parts.trackers.items()
        if tracker.moved_at is not None
    }


def troubles(parts: Parts) -> list[Trouble]:
    """List what keeps work from going on, whoever has to mend it; the first `TROUBLES_MAX`."""
    return all_troubles(parts)[:TROUBLES_MAX]


def all_troubles(parts: Parts) -> list[Trouble]:
    """List every one of them."""
    tally = parts.tally
    found: list[Trouble] = []
    if parts.ledger.trouble is not None:
        why = f"{parts.ledger.trouble}. Everything waits: make room on its disk."
        found.append(Trouble(kind=Kind.DISK, subject="ledger", why=why))
    for words in sorted(set(tally.unwritten.values())):
        why = f"{words}. A paid result waits in memory: make room."
        found.append(Trouble(kind=Kind.DISK, subject="spool", why=why))
    if parts.gate.halted is not None:
        # not asked yet, or asked anew, is nobody's to mend
        kind = None if parts.account.refused is None else Kind.KEY
        found.append(Trouble(kind=kind, subject="account", why=parts.gate.halted))
    if tally.shortfall is not None:
        why = str(tally.shortfall)
        found.append(Trouble(kind=Kind.BALANCE, subject="balance", why=why))
    if parts.gate.service_down:
        why = f"{parts.gate.failures_in_a_row} requests in a row failed: {parts.gate.last_words}"
        why = f"{why}. One request at a time asks whether it is back."
        found.append(Trouble(kind=Kind.SERVICE, subject="service", why=why))
    found += _budget_troubles(parts)
    found += _inbox_troubles(parts)
    found += [
        Trouble(kind=Kind.FOLDER, subject=f"folder {name}", why=hold.why)
        for name, hold in tally.held.items()
        if hold.budget is None
    ]
    found += _image_troubles(tally)
    found += [
        Trouble(kind=None, subject=who, why=why) for who, why in sorted(tally.unheard.items())
    ]
    return found


def _budget_troubles(parts: Parts) -> list[Trouble]:
    found = []
    reached = {hold.budget for hold in parts.tally.held.values() if hold.budget is not None}
    for budget in sorted(reached, key=str):
        turn = turns_at(budget.limit, parts.clock.now())
        again = datetime.fromtimestamp(turn).astimezone().isoformat("T", "minutes")
        why = f"reached; sending goes on at {again}, or after a restart with a larger budget"
        subject = f"budget of {budget.whose} for this {budget.limit.period}"
        found.append(Trouble(kind=Kind.BUDGET, subject=subject, why=why))
    return found


def _image_troubles(tally: Tally) -> list[Trouble]:
    """List what is wrong with single files; of a kind and a folder they are told as one."""
    found = [
        Trouble(
            kind=Kind.FOLDER,
            subject=f"{folder}/{path}",
            why=why,
            group=f"images of folder {folder} that are held",
        )
        for (folder, path), why in tally.held_images.items()
    ]
    found += [
        Trouble(
            kind=Kind.DELIVERY,
            subject=f"{folder}/{path}",
            why=f"paid for and safe in the spool, but not delivered: {why}",
            group=f"results of folder {folder} that are not delivered",
        )
        for (folder, path), why in tally.undelivered.items()
    ]
    found += [
        Trouble(
            kind=Kind.DELIVERY,
            subject="an original",
            why=why,
            group="originals that could not be put away",
        )
        for why in tally.stuck.values()
    ]
    return found


def _inbox_troubles(parts: Parts) -> list[Trouble]:
    found = []
    for name, tracker in parts.trackers.items():
        if tracker.root.trouble is not None:
            why = tracker.root.trouble
            found.append(Trouble(kind=Kind.FOLDER, subject=f"inbox of {name}", why=why))
        if tracker.watch.trouble is not None:  # its files are found all the same
            why = tracker.watch.trouble
            found.append(Trouble(kind=None, subject=f"watch of {name}", why=why))
    for name, one_s in silent_s(parts).items():
        if one_s >= SILENT_S and parts.ledger.trouble is None:
            why = f"it has not answered for {round(one_s)} s. Its files wait: look at its share"
            found.append(Trouble(kind=Kind.FOLDER, subject=f"inbox of {name}", why=why))
    return found
