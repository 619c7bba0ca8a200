"""Growth: what a ledger of a million jobs slows down, and what a job takes on the disk.

The verbs run in this process on the real engine, and are measured by CPU as well as by the clock:
what waits for the disk is the same for every size, and would hide the rest.
"""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import ledgers, machine, place
from bench.place import Place, Simulator
from bench.results import Goal, Result, Row, Setting, median, tidy
from venice_watch.ledger.sqlite import SqliteLedger

JOBS, QUICK_JOBS = (1_000, 10_000, 100_000, 1_000_000), (1_000, 3_000)
TIMES, QUICK_TIMES = 200, 10  # for what takes less than a millisecond
FEW_TIMES, QUICK_FEW_TIMES = 5, 1  # for what takes longer, or a process
GROWTH_MAX = 2.0
JOB_BYTES_MAX = 1_000.0
# by the promise; a claim waits for the disk, whose moods are not the ledger's
PROMISED = frozenset({"claim_cpu_ms", "prior_cpu_ms", "status_ms"})
Measured = Callable[[int], Awaitable[object]]


def run(setting: Setting) -> Result:
    """Measure every size."""
    found: dict[int, dict[str, float]] = {}
    with Simulator(latency_s=0.0) as simulator:
        for jobs in QUICK_JOBS if setting.quick else JOBS:
            where = Place(root=setting.folder / f"place{jobs}", base_url=simulator.base_url)
            where.write()
            where.state.mkdir(mode=0o700)
            file = where.state / "ledger.sqlite3"
            asyncio.run(ledgers.make(file, jobs))
            found[jobs] = {"bytes_per_job": tidy(file.stat().st_size / jobs)}
            found[jobs] |= asyncio.run(_verbs(file, jobs, setting))
            found[jobs] |= _commands(where, setting)
            shutil.rmtree(where.root)
    return _compare(found)


def _compare(found: dict[int, dict[str, float]]) -> Result:
    """Return one row for each figure, with its growth from the smallest ledger to the largest."""
    result = Result()
    first, last = min(found), max(found)
    for name in found[first]:
        ratio = tidy(found[last][name] / max(0.001, found[first][name]))
        values: Row = {f"jobs_{jobs}": figures[name] for jobs, figures in found.items()}
        result.rows.append({"what": name} | values | {"growth": ratio})
        if name in PROMISED:
            what = f"{name}, {last:,} jobs over {first:,}"
            result.goals.append(Goal(what=what, figure=ratio, limit=GROWTH_MAX))
    size = found[last]["bytes_per_job"]
    result.goals.append(Goal(what="bytes for a done job", figure=size, limit=JOB_BYTES_MAX))
    return result


async def _verbs(file: Path, jobs: int, setting: Setting) -> dict[str, float]:
    times = QUICK_TIMES if setting.quick else TIMES
    few = QUICK_FEW_TIMES if setting.quick else FEW_TIMES * setting.repeat
    now = time.time()
    folders = [ledgers.FOLDER]
    async with SqliteLedger(file) as ledger:
        done = jobs - ledgers.WAITING
        row = await _measure("claim", times, lambda _: ledger.claim(now=now, only_folders=folders))
        row |= await _measure(
            "prior", times, lambda n: ledger.prior(ledgers.work_key(n * 7919 % done))
        )
        row |= await _measure("prior_new", times, lambda n: ledger.prior(n.to_bytes(32)))
        row |= await _measure("next_due", times, lambda _: ledger.next_due_at(only_folders=folders))
        row |= await _measure("trim", times, lambda _: ledger.trim(kept_bytes_max=10**12))
        row |= await _measure("counts", few, lambda _: ledger.counts())
        row |= await _measure("waiting", few, lambda _: ledger.waiting())
        row |= await _measure("recover", few, lambda _: ledger.recover(now=now))
        row |= await _measure("owed", few, lambda _: ledger.owed())
        row |= await _measure("recent", few, lambda _: ledger.recent(limit=5))
        row |= await _measure("spending", few, lambda _: ledger.spending(since_day="2026-01-01"))
        row |= await _measure("find", few, lambda _: _find(ledger))
        return row | await _measure(
            "present", few, lambda _: ledger.present(ledgers.FOLDER, rules_digest="x")
        )


def _find(ledger: SqliteLedger) -> Awaitable[object]:
    return ledger.find(path="IMG_0000001.jpg", place="/nowhere", limit=20)


async def _measure(name: str, times: int, verb: Measured) -> dict[str, float]:
    """Return the medians of a verb by the wall clock and by this process's CPU."""
    took_ms, cpu_ms = [], []
    await verb(0)
    for number in range(1, times + 1):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        await verb(number)
        took_ms.append(1000 * (time.perf_counter() - began_s))
        cpu_ms.append(1000 * (time.process_time() - began_cpu_s))
    return {f"{name}_ms": median(took_ms), f"{name}_cpu_ms": median(cpu_ms)}


def _commands(where: Place, setting: Setting) -> dict[str, float]:
    """Measure what a person runs, and the daemon until it is ready."""
    times = QUICK_FEW_TIMES if setting.quick else FEW_TIMES * setting.repeat
    status_ms, ready_ms, memory_mb = [], [], 0.0
    for _ in range(times):
        began_s = time.perf_counter()
        subprocess.run(
            place.program("status", "--json", "--config", str(where.config)),
            env=place.environment(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        status_ms.append(1000 * (time.perf_counter() - began_s))
    for _ in range(times):
        running = place.start_ours(where)
        ready_ms.append(1000 * (time.monotonic() - running.started_at_s))
        memory_mb = max(memory_mb, machine.peak_mb(running.pid))
        running.end(signal.SIGTERM)
    return {
        "status_ms": median(status_ms),
        "ready_ms": median(ready_ms),
        "ready_peak_mb": tidy(memory_mb),
    }
