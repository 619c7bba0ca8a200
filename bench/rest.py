"""At rest: wake-ups and CPU of a daemon with ten empty inboxes, and with many files that are done.

A wake-up is a look, every 50 ms, that found that any thread had slept and gone on since the last.
What is wanted: the rescans (ten folders that began together look together) and the words to
systemd. For done files: what a rescan costs.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from bench import backlog, ledgers, machine, pictures, place
from bench.place import Place, Running, Simulator
from bench.results import Goal, Result, Row, Setting, tidy

FOLDERS = 10
WINDOW_S, QUICK_WINDOW_S = 90.0, 3.0
WARM_UP_S, QUICK_WARM_UP_S = 10.0, 0.5  # after READY, before anything is counted
LOOK_S = 0.05
RESCAN_S = 30.0  # the default
PING_S = 10.0  # between words to systemd
DONE_FILES, QUICK_DONE_FILES = 100_000, 200
DONE_RESCAN_S = 10
DONE_WINDOW_S, QUICK_DONE_WINDOW_S = 90.0, 3.0

_DONE = """INSERT INTO jobs (folder, path, state, generation, available_at, device, inode,
 size_bytes, mtime_ns, ctime_ns, present, retire, preset, parameters, source_sha256, work_key,
 spool_name, result_path, result_width, result_height, result_scale, created_at, updated_at)
 VALUES ('bench', ?, 'completed', 5, 0, ?, ?, ?, ?, ?, 1, 'keep', 'bench', ?, ?, ?, ?, ?, 512, 512,
 2.0, 0, 0)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What was seen in a window."""

    switches: int  # threads that went to sleep
    cpu_s: float
    wakeups: int


def run(setting: Setting) -> Result:
    """Measure both."""
    result = Result()
    with Simulator(latency_s=0.0) as simulator:
        result.rows.append(_measure_empty(simulator, setting))
        result.rows.append(_measure_done(simulator, setting))
    if not setting.quick:
        row = result.rows[0]
        result.goals.append(
            Goal(
                what="wake-ups a minute, ten empty inboxes",
                figure=float(str(row["wakeups_per_minute"])),
                limit=float(str(row["wanted_per_minute"])),
            )
        )
    return result


def _measure_empty(simulator: Simulator, setting: Setting) -> Row:
    where = Place(root=setting.folder / "place", base_url=simulator.base_url)
    folders: list[Row] = [
        {"name": f"bench{n}", "watch": "native", **{role: f"{role}{n}" for role in place.ROLES}}
        for n in range(FOLDERS)
    ]
    where.write(*folders)
    window_s = QUICK_WINDOW_S if setting.quick else WINDOW_S
    rest, peak_mb = _rest(where, window_s, setting)
    shutil.rmtree(where.root)
    minutes = window_s / 60
    return {
        "folders": FOLDERS,
        "window_s": window_s,
        "wakeups_per_minute": tidy(rest.wakeups / minutes),
        "wanted_per_minute": tidy(60 / RESCAN_S + 60 / PING_S),
        "switches_per_minute": tidy(rest.switches / minutes),
        "cpu_ms_per_minute": tidy(1000 * rest.cpu_s / minutes),
        "peak_mb": tidy(peak_mb),
    }


def _measure_done(simulator: Simulator, setting: Setting) -> Row:
    where = Place(root=setting.folder / "place", base_url=simulator.base_url)
    where.write({"originals": "keep", "rescan": f"{DONE_RESCAN_S}s"})
    maker = pictures.PngMaker(pictures.photograph(pictures.SMALL, grain=0).point(lambda _: 99))
    files = QUICK_DONE_FILES if setting.quick else DONE_FILES
    place.start_ours(where).end()  # the ledger, with nothing in it
    backlog.drop(where.inbox, maker, files)
    _remember(where)
    window_s = QUICK_DONE_WINDOW_S if setting.quick else DONE_WINDOW_S
    rest, peak_mb = _rest(where, window_s, setting)
    asked = simulator.totals()["upscales"]
    shutil.rmtree(where.root)
    return {
        "done_files": files,
        "requests": asked,  # none: all of them are known
        "window_s": window_s,
        "cpu_s_per_rescan": tidy(rest.cpu_s / window_s * DONE_RESCAN_S),
        "peak_mb": tidy(peak_mb),
    }


def _remember(where: Place) -> None:
    """Let every file in the inbox be one that is done and stays."""
    with contextlib.closing(sqlite3.connect(where.state / "ledger.sqlite3")) as db, db:
        db.executemany(_DONE, (_done(where.inbox, n, file) for n, file in _files(where.inbox)))


def _files(inbox: Path) -> list[tuple[int, Path]]:
    return list(enumerate(sorted(path for path in inbox.rglob("*") if path.is_file()), start=1))


def _done(inbox: Path, number: int, file: Path) -> tuple[object, ...]:
    facts = file.stat()
    path = os.fsencode(file.relative_to(inbox))
    version = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    key = ledgers.work_key(number)
    result = os.fsencode(inbox.with_name("outbox") / os.fsdecode(path))
    return (path, *version, ledgers.PARAMETERS, key, key, f"{number}.png", result)


def _rest(where: Place, window_s: float, setting: Setting) -> tuple[Rest, float]:
    """Start the daemon, let it come to rest, and watch it for a while; also its peak memory."""
    running = place.start_ours(where)
    try:
        time.sleep(QUICK_WARM_UP_S if setting.quick else WARM_UP_S)
        running.check()
        return _watch(running, window_s), machine.peak_mb(running.pid)
    finally:
        running.end()


def _watch(running: Running, window_s: float) -> Rest:
    began_at = time.monotonic()
    cpu_s = running.cpu_s()
    first = last = machine.switches(running.pid)
    wakeups, was_active = 0, False
    while time.monotonic() - began_at < window_s:
        seen = machine.switches(running.pid)
        wakeups += seen != last and not was_active  # one spell may last for several looks
        was_active, last = seen != last, seen
        time.sleep(LOOK_S)
    return Rest(switches=last - first, cpu_s=running.cpu_s() - cpu_s, wakeups=wakeups)
