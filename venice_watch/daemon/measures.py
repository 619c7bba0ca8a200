"""The metrics: every figure that monitoring is told, and what it means.

Rules: names by Prometheus' conventions; labels are folders, states and closed lists of words, never
files; counters are the ledger's where it knows them, and so outlive a restart.
"""

import asyncio
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from venice_watch import __version__
from venice_watch.budget import Limit, current
from venice_watch.config.model import Config
from venice_watch.job import Charge, State
from venice_watch.ledger import FolderCounts, Spending
from venice_watch.pipeline.passage import Parts
from venice_watch.service.exposition import Family, Sample, process_families, render
from venice_watch.venice.figures import read_credit

FRESH_S = 1.0  # many who ask at once are told the same
MICROUSD = 1_000_000

# name: kind, help
METRICS: Mapping[str, tuple[str, str]] = {
    "venice_watch_build_info": ("gauge", "1, with the version in a label."),
    "venice_watch_jobs": ("gauge", "Jobs by folder and state."),
    "venice_watch_queue_oldest_seconds": ("gauge", "For how long the oldest image has waited."),
    "venice_watch_requests_total": ("counter", "Paid requests by what they came to."),
    "venice_watch_request_seconds": ("histogram", "How long requests took, since the start."),
    "venice_watch_requests_in_flight": ("gauge", "Requests under way."),
    "venice_watch_requests_in_window": ("gauge", "Requests that count against the rate now."),
    "venice_watch_rate_limit": ("gauge", "Requests that the API allows in a minute."),
    "venice_watch_paused_seconds": ("gauge", "For how long nothing is sent, by the API's word."),
    "venice_watch_charged_usd_total": ("counter", "What was charged, by our own count."),
    "venice_watch_in_doubt_usd_total": ("counter", "What may have been charged for nothing."),
    "venice_watch_in_doubt_requests_total": ("counter", "Requests that may have been charged."),
    "venice_watch_budget_limit_usd": ("gauge", "A budget; without `folder` that of all."),
    "venice_watch_budget_spent_usd": ("gauge", "What counts against it in this period."),
    "venice_watch_balance_usd": ("gauge", "What the key can spend, as the API said last."),
    "venice_watch_account_usable": ("gauge", "1 if images may be sent, 0 if not."),
    "venice_watch_service_up": ("gauge", "0 while Venice fails again and again."),
    "venice_watch_folder_up": ("gauge", "1 if the inbox can be read."),
    "venice_watch_folder_held": ("gauge", "1 if a folder waits for a person or its budget."),
    "venice_watch_watch_native": ("gauge", "1 if the kernel tells of files, 0 if by scans."),
    "venice_watch_quarantined": ("gauge", "Files in the quarantine by reason."),
    "venice_watch_spool_bytes": ("gauge", "Size of the spool."),
    "venice_watch_troubles": ("gauge", "What `status` calls troubles."),
    "venice_watch_moving": ("gauge", "0 while something of this program stands still."),
    "venice_watch_notices_total": ("counter", "Notices by what became of them, since the start."),
}


class Measures:
    """Takes the figures; one at a time, and none twice within a second."""

    def __init__(
        self,
        parts: Callable[[], Parts],
        *,
        hang: Callable[[], str | None],
        troubles: Callable[[], int],
        notices: Callable[[], Mapping[str, int]],
    ) -> None:
        self._parts = parts
        self._hang = hang
        self._troubles = troubles
        self._notices = notices
        self._lock = asyncio.Lock()
        self._text, self._taken_at = "", float("-inf")
        self._before: Counter[tuple[str, str]] | None = None  # requests of earlier processes

    async def text(self) -> str:
        """Return all figures as Prometheus reads them."""
        async with self._lock:
            clock = self._parts().clock
            if clock.monotonic() - self._taken_at >= FRESH_S:
                self._text = render([*await self._families(), *process_families()])
                self._taken_at = clock.monotonic()
            return self._text

    async def _families(self) -> list[Family]:
        parts = self._parts()
        counts = await parts.ledger.counts()
        spending = await parts.ledger.spending()
        samples: dict[str, Iterable[Sample]] = {
            "venice_watch_build_info": [
                Sample(value=1, labels={"version": __version__, "python": _PYTHON})
            ],
            **_of_jobs(parts, counts),
            **_of_money(spending),
            **await _of_budgets(parts),
            **_of_gate(parts),
            **_of_folders(parts),
            "venice_watch_requests_total": await self._requests(parts),
            "venice_watch_request_seconds": parts.tally.request_seconds.samples(),
            "venice_watch_quarantined": [
                Sample(value=count, labels={"folder": folder, "code": code})
                for folder, those in counts.items()
                for code, count in those.quarantine.items()
            ],
            "venice_watch_spool_bytes": [
                Sample(value=await asyncio.to_thread(_size_bytes, parts.spool))
            ],
            "venice_watch_troubles": [Sample(value=self._troubles())],
            "venice_watch_moving": [Sample(value=self._hang() is None)],
            "venice_watch_notices_total": [
                Sample(value=count, labels={"outcome": word})
                for word, count in self._notices().items()
            ],
        }
        assert set(samples) == set(METRICS), "each metric has its meaning, and the reverse"
        return [
            Family(name=name, kind=kind, help=help_, samples=tuple(samples[name]))
            for name, (kind, help_) in METRICS.items()
        ]

    async def _requests(self, parts: Parts) -> list[Sample]:
        """Count all requests: the ledger's once, as a walk through it, and from then on ours."""
        if self._before is None:
            ours = Counter(parts.tally.requests)
            outcomes = Counter(await parts.ledger.outcomes())
            self._before = outcomes - ours  # never negative
        total = self._before + parts.tally.requests
        return [
            Sample(value=count, labels={"folder": folder, "outcome": outcome})
            for (folder, outcome), count in sorted(total.items())
        ]


_PYTHON = platform.python_version()


def _of_jobs(parts: Parts, counts: Mapping[str, FolderCounts]) -> dict[str, list[Sample]]:
    known = {name: counts.get(name, FolderCounts()) for name in {*counts, *parts.trackers}}
    now = parts.clock.now()
    return {
        "venice_watch_jobs": [
            Sample(value=getattr(count, state.value), labels={"folder": name, "state": state})
            for name, count in sorted(known.items())
            for state in State
        ],
        "venice_watch_queue_oldest_seconds": [
            Sample(value=max(0.0, now - (count.oldest_waiting_at or now)), labels={"folder": name})
            for name, count in sorted(known.items())
        ],
    }


def _of_money(spending: Iterable[Spending]) -> dict[str, list[Sample]]:
    charged: Counter[str] = Counter()
    doubtful: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    for one in spending:
        charged[one.folder] += one.microusd if one.charge is Charge.CHARGED else 0
        in_doubt = one.charge in (Charge.UNKNOWN, Charge.LOST)
        doubtful[one.folder] += one.microusd if in_doubt else 0
        requests[one.folder] += one.requests if in_doubt else 0
    return {
        "venice_watch_charged_usd_total": _by_folder(charged, MICROUSD),
        "venice_watch_in_doubt_usd_total": _by_folder(doubtful, MICROUSD),
        "venice_watch_in_doubt_requests_total": _by_folder(requests),
    }


def _by_folder(values: Mapping[str, float], divisor: int = 1) -> list[Sample]:
    return [
        Sample(value=value / divisor, labels={"folder": name})
        for name, value in sorted(values.items())
    ]


async def _of_budgets(parts: Parts) -> dict[str, list[Sample]]:
    limits = list(_limits(parts.config))
    now = parts.clock.now()
    spent = await parts.ledger.spent([current(limit, now) for limit in limits]) if limits else []
    labels = [
        ({} if limit.folder is None else {"folder": limit.folder}) | {"period": str(limit.period)}
        for limit in limits
    ]
    return {
        "venice_watch_budget_limit_usd": [
            Sample(value=limit.microusd / MICROUSD, labels=label)
            for limit, label in zip(limits, labels, strict=True)
        ],
        "venice_watch_budget_spent_usd": [
            Sample(value=microusd / MICROUSD, labels=label)
            for microusd, label in zip(spent, labels, strict=True)
        ],
    }


def _limits(config: Config) -> Iterator[Limit]:
    yield from config.budget.limits(None)
    for folder in config.folders:
        yield from folder.budget.limits(folder.name)


def _of_gate(parts: Parts) -> dict[str, list[Sample]]:
    gate, balance = parts.gate, read_credit(parts.account.balances)
    rate = gate.requests_per_minute
    return {
        "venice_watch_requests_in_flight": [Sample(value=gate.in_flight)],
        "venice_watch_requests_in_window": [Sample(value=gate.requests_last_minute)],
        "venice_watch_rate_limit": [] if rate is None else [Sample(value=rate)],
        "venice_watch_paused_seconds": [Sample(value=gate.paused_s)],
        "venice_watch_balance_usd": [] if balance is None else [Sample(value=balance)],
        "venice_watch_account_usable": [Sample(value=gate.halted is None)],
        "venice_watch_service_up": [Sample(value=not gate.service_down)],
    }


def _of_folders(parts: Parts) -> dict[str, list[Sample]]:
    trackers, held = sorted(parts.trackers.items()), parts.tally.held
    return {
        "venice_watch_folder_up": [
            Sample(value=tracker.root.trouble is None, labels={"folder": name})
            for name, tracker in trackers
        ],
        "venice_watch_folder_held": [
            Sample(value=name in held, labels={"folder": name}) for name, _ in trackers
        ],
        "venice_watch_watch_native": [
            Sample(value=tracker.watch.native, labels={"folder": name})
            for name, tracker in trackers
        ],
    }


def _size_bytes(folder: Path) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # delivered meanwhile
    except OSError:
        return 0  # `status` and the log say what is wrong with it
    return total
