"""How a run goes, how it ended, and how things stand, for those who show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from venice_watch.budget import turns_at
from venice_watch.job import ACTIVE
from venice_watch.ledger import FolderCounts
from venice_watch.pipeline.passage import Parts, Tally

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
    )


async def _waiting(parts: Parts) -> int:
    counts = await parts.ledger.counts()
    return sum(active(count) for name, count in counts.items() if name in parts.trackers)


def describe(parts: Parts) -> dict[str, Any]:
    """Return how things stand in this process, as `status` tells it; asks no disk."""
    return {
        "halted": parts.gate.halted,
        "in_flight": parts.gate.in_flight,
        "requests_per_minute": parts.gate.requests_per_minute,
        "contract": parts.account.contract,
        "paused_s": round(parts.gate.paused_s),
        "balances": dict(parts.account.balances),
        "left_alone": {
            name: {"names": dict(tracker.skipped), "no_images": tracker.ignored}
            for name, tracker in parts.trackers.items()
        },
        "troubles": [{"subject": subject, "why": why} for subject, why in troubles(parts)],
    }


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
