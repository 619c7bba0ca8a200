"""Backlogs: starting with many files waiting.

From the start of the process, with nothing prepared: the time to the first request, until every
file is a job in the ledger (it was looked at twice by then), and the most memory until then.
Nothing is answered meanwhile, so that it is the looking that is measured.
"""

import contextlib
import shutil
import signal
import sqlite3
import time
from pathlib import Path

from bench import machine, pictures, place
from bench.place import Place, Simulator
from bench.results import Goal, Result, Row, Setting, tidy

COUNTS, QUICK_COUNTS = (1_000, 10_000, 100_000), (100,)
FOLDER_FILES = 1_000  # in each sub-folder
ANSWER_S = 3_000.0
LIMIT_S = 300.0
FIRST_REQUEST_S_MAX, SCAN_S_MAX, MEMORY_MB_MAX, JOB_BYTES_MAX = 1.0, 5.0, 200.0, 1_000.0


def run(setting: Setting) -> Result:
    """Measure every size of backlog."""
    result = Result()
    maker = pictures.PngMaker(pictures.photograph(pictures.SMALL, grain=0).point(lambda _: 99))
    with Simulator(latency_s=ANSWER_S) as simulator:
        for count in QUICK_COUNTS if setting.quick else COUNTS:
            where = Place(root=setting.folder / f"place{count}", base_url=simulator.base_url)
            where.write()
            drop(where.inbox, maker, count)
            result.rows += [_measure(where, simulator, count) for _ in range(setting.repeat)]
            shutil.rmtree(where.root)
    largest = result.rows[-1]
    for what, figure, limit in (
        ("seconds to the first request", "first_request_s", FIRST_REQUEST_S_MAX),
        ("seconds until all are jobs", "all_jobs_s", SCAN_S_MAX),
        ("peak memory in MB", "peak_mb", MEMORY_MB_MAX),
        ("bytes in the ledger for each waiting job", "bytes_per_job", JOB_BYTES_MAX),
    ):
        files = f"{largest['files']:,} files"
        found = float(str(largest[figure]))
        result.goals.append(Goal(what=f"{what}, {files}", figure=found, limit=limit))
    return result


def drop(inbox: Path, maker: pictures.PngMaker, count: int) -> None:
    """Write so many different small pictures, some to a folder."""
    for number in range(count):
        folder = inbox / f"f{number // FOLDER_FILES:04}"
        if number % FOLDER_FILES == 0:
            folder.mkdir()
        (folder / f"p{number:06}.png").write_bytes(maker.make(number))


def _measure(where: Place, simulator: Simulator, count: int) -> Row:
    shutil.rmtree(where.state, ignore_errors=True)
    simulator.ask("POST", "reset", {})
    running = place.start_ours(where)
    ready_s = time.monotonic() - running.started_at_s
    try:
        first = place.wait_until(simulator.upscales, "the first request", limit_s=LIMIT_S)[0]
        first_request_s = first["first_byte_monotonic_s"] - running.started_at_s
        place.wait_until(
            lambda: jobs(where) >= count, f"{count:,} jobs", limit_s=LIMIT_S, poll_s=0.05
        )
        all_jobs_s = time.monotonic() - running.started_at_s
        cpu_s, peak_mb = running.cpu_s(), machine.peak_mb(running.pid)
    finally:
        running.end(signal.SIGKILL)  # as a power cut would: nobody waits for the answers
    with contextlib.closing(sqlite3.connect(where.state / "ledger.sqlite3")) as db:
        [(pages,)] = db.execute(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        )
    return {
        "files": count,
        "ready_s": tidy(ready_s),
        "first_request_s": tidy(first_request_s),
        "all_jobs_s": tidy(all_jobs_s),
        "cpu_s": tidy(cpu_s),
        "peak_mb": tidy(peak_mb),
        "bytes_per_job": tidy(pages / count),
    }


def jobs(where: Place) -> int:
    """Return how many jobs the ledger has; no job is ever removed from it."""
    with contextlib.closing(
        sqlite3.connect(f"file:{where.state / 'ledger.sqlite3'}?mode=ro", uri=True, timeout=10.0)
    ) as db:
        [(last,)] = db.execute("SELECT ifnull(max(id), 0) FROM jobs")
    return int(last)
