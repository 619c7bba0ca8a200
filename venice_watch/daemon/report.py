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
        troubles=tuple(troubles(parts)),
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


def troubles(parts: Parts) -> list[tuple[str, str]]:
    """List what keeps work from going on, whoever has to mend it."""
    tally = parts.tally
    found: list[tuple[str, str]] = []
    if parts.ledger.trouble is not None:
        found.append(
            ("ledger", f"{parts.ledger.trouble}. Everything waits: make room on its disk.")
        )
    found += [
        ("spool", f"{why}. A paid result waits in memory: make room.")
        for why in sorted(set(tally.unwritten.values()))
    ]
    if parts.gate.halted is not None:
        found.append(("account", parts.gate.halted))
    if tally.shortfall is not None:
        found.append(("balance", str(tally.shortfall)))
    if parts.gate.service_down:
        why = f"{parts.gate.failures_in_a_row} requests in a row failed: {parts.gate.last_words}"
        found.append(("service", f"{why}. One request at a time asks whether it is back."))
    reached = {hold.budget for hold in tally.held.values() if hold.budget is not None}
    for budget in sorted(reached, key=str):
        turn = turns_at(budget.limit, parts.clock.now())
        again = datetime.fromtimestamp(turn).astimezone().isoformat("T", "minutes")
        why = f"reached; sending goes on at {again}, or after a restart with a larger budget"
        found.append((f"budget of {budget.whose} for this {budget.limit.period}", why))
    found += _inbox_troubles(parts)
    found += [
        (f"folder {name}", hold.why) for name, hold in tally.held.items() if hold.budget is None
    ]
    found += [(f"{folder}/{path}", why) for (folder, path), why in tally.held_images.items()]
    found += [
        (f"{folder}/{path}", f"paid for and safe in the spool, but not delivered: {why}")
        for (folder, path), why in tally.undelivered.items()
    ]
    found += [("an original", why) for why in tally.stuck.values()]
    return found[:TROUBLES_MAX]


def _inbox_troubles(parts: Parts) -> list[tuple[str, str]]:
    found = []
    for name, tracker in parts.trackers.items():
        if tracker.root.trouble is not None:
            found.append((f"inbox of {name}", tracker.root.trouble))
        if tracker.watch.trouble is not None:
            found.append((f"watch of {name}", tracker.watch.trouble))
    for name, one_s in silent_s(parts).items():
        if one_s >= SILENT_S and parts.ledger.trouble is None:
            why = f"it has not answered for {round(one_s)} s. Its files wait: look at its share"
            found.append((f"inbox of {name}", why))
    return found
