"""How things stand: what waits, is under way, is done, what it cost, what is wrong."""

import time
from typing import TYPE_CHECKING, Any

from venice_watch.ledger import FolderCounts
from venice_watch.views.notation import usd, when, when_or_none
from venice_watch.views.pace import eta_s, request_s
from venice_watch.views.pausing import pause_facts
from venice_watch.views.standings import standings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from venice_watch.config.model import Config
    from venice_watch.job import Job
    from venice_watch.ledger import Ledger
    from venice_watch.ledger.pauses import Pause
    from venice_watch.service.lock import Holder
    from venice_watch.views.live import Live, LiveFolder

RECENT = 5  # jobs told


async def status(
    config: "Config",
    ledger: "Ledger",
    *,
    holder: "Holder | None",
    live: "Live | None" = None,
    trouble: str | None = None,
) -> dict[str, Any]:
    """Return the facts; `trouble` says why the daemon that runs did not tell them itself."""
    now = time.time()
    counts = await ledger.counts()
    pauses = await ledger.pauses()
    silent = [] if trouble is None else [{"subject": "daemon", "why": trouble}]
    of_all = next((one for one in pauses if one.folder is None), None)
    return {
        "running": None
        if holder is None
        else {"pid": holder.pid, "since": holder.since, "command": holder.command},
        "daemon": None
        if live is None
        else {
            "version": live.version,
            "config_file": live.config_file,
            "loaded_at": when(live.loaded_at),
        },
        "troubles": silent
        if live is None
        else [{"subject": subject, "why": why} for subject, why in live.troubles],
        "halted": None if live is None else live.halted,
        "paused": None if of_all is None else _paused_by(of_all),
        **_pace_facts(live),
        "eta_s": None if live is None else await _eta_s(config, ledger, live, pauses),
        "contract": None if live is None else live.contract,
        "balances": None if live is None else dict(live.balances),
        "folders": [
            _folder_facts(
                folder.name,
                counts.get(folder.name, FolderCounts()),
                None if live is None else live.folders.get(folder.name),
                next((one for one in pauses if one.concerns(folder.name)), None),
                now,
            )
            for folder in config.folders
        ],
        "budgets": [standing.facts() for standing in await standings(config, ledger)],
        "spent_usd": usd(sum(count.spent_microusd for count in counts.values())),
        "recent": [_job_facts(job) for job in await ledger.recent(limit=RECENT)],
    }


def _pace_facts(live: "Live | None") -> dict[str, Any]:
    names = ("requests_per_minute", "requests_last_minute", "concurrency", "paused_s")
    if live is None:
        return dict.fromkeys(names)
    pace = (live.requests_per_minute, live.requests_last_minute, live.concurrency)
    return dict(zip(names, (*pace, round(live.pause_s)), strict=True))


async def _eta_s(
    config: "Config", ledger: "Ledger", live: "Live", pauses: "Sequence[Pause]"
) -> float | None:
    """Return in how many seconds what may be sent will have been; None: nobody knows."""
    waiting = await ledger.waiting()
    names = [folder.name for folder in config.folders if folder.name in waiting]
    going = [name for name in names if _goes_on(name, live.folders, pauses)]
    if live.halted is not None or (names and not going):
        return None
    seconds = eta_s(
        sum(waiting[name] for name in going),
        requests_per_minute=live.requests_per_minute,
        concurrency=live.concurrency,
        request_s=await request_s(ledger),
        pause_s=live.pause_s,
    )
    return None if seconds is None else round(seconds, 1)


def _goes_on(name: str, live: "Mapping[str, LiveFolder]", pauses: "Sequence[Pause]") -> bool:
    held = name in live and live[name].held is not None
    return not held and not any(one.concerns(name) for one in pauses)


def _folder_facts(
    name: str, counts: FolderCounts, live: "LiveFolder | None", paused: "Pause | None", now: float
) -> dict[str, Any]:
    oldest = counts.oldest_waiting_at
    return {
        "name": name,
        "waiting": counts.available,
        "in_flight": counts.executing,
        "in_doubt": counts.in_doubt,
        "staged": counts.staged,
        "completed": counts.completed,
        "quarantined": counts.quarantined,
        "quarantine": dict(counts.quarantine),
        "cancelled": counts.cancelled,
        "oldest_waiting": when_or_none(oldest),
        "oldest_waiting_s": None if oldest is None else round(max(0.0, now - oldest)),
        "spent_usd": usd(counts.spent_microusd),
        "paused": None
        if paused is None
        else _paused_by(paused) | {"everything": paused.folder is None},
        "held": None if live is None else live.held,
        "pending": None if live is None else live.pending,
        "watch": None if live is None else {"by": live.watched_by, "why": live.polling_why},
        "last_scan": None
        if live is None or live.scanned_at is None
        else {"at": when(live.scanned_at), "took_s": live.scan_s, "files": live.scanned_files},
        "left_alone": None
        if live is None
        else {"names": dict(live.left_alone), "no_images": live.no_images},
    }


def _paused_by(one: "Pause") -> dict[str, Any]:
    facts = pause_facts(one)
    return {"by": facts["by"], "since": facts["since"]}


def _job_facts(job: "Job") -> dict[str, Any]:
    return {
        "folder": job.folder,
        "path": job.path,
        "state": job.state,
        "frame": job.frame + 1,
        "frames": job.frames,
        "code": job.code,
        "message": job.message,
        "at": when(job.updated_at),
    }
