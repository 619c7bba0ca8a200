"""Latency: from a file's closing, or its rename into the inbox, to its request's first byte.

The first byte is the simulator's own observation. Idle: one file at a time, with nothing else to
do. Busy: a stream of files, with turns free for each.
"""

import hashlib
import time
from pathlib import Path

from bench import pictures, place
from bench.place import Place, Simulator
from bench.results import Result, Row, Setting, Skip, median, percentile

FILES, QUICK_FILES = 200, 5
IDLE_S = 0.15  # between two files when idle: longer than one takes
BUSY_S = 0.04  # between two files when busy: 25 a second
LATENCY_S = 0.05
BUSY_LATENCY_S = 0.5  # then about 13 requests are under way
CONCURRENCY = 32
P99 = 0.99
# a script that looks for closed files does not see renamed ones, and one that looks for created
# ones sends half a file
CLOSED_ONLY = "watchdog and threads"


def run(setting: Setting) -> Result:
    """Measure every contestant, closing and renaming, idle and busy."""
    result = Result()
    maker = pictures.PngMaker(pictures.drawing(pictures.MEGAPIXEL))
    files = QUICK_FILES if setting.quick else FILES * setting.repeat
    sources = [maker.make(number) for number in range(files)]
    with Simulator(latency_s=LATENCY_S) as simulator:
        simulator.warm_up(sources[0])
        for load, how in (("idle", "close"), ("idle", "rename"), ("busy", "close")):
            for name in place.CONTESTANTS:
                if how == "rename" and name == CLOSED_ONLY:
                    continue
                try:
                    row = _measure(name, load, how, setting.folder, simulator, sources)
                except place.MissingError as exc:
                    if not any(one.what == name for one in result.skipped):
                        result.skipped.append(Skip(what=name, why=str(exc)))
                else:
                    result.rows.append(row)
    return result


def _measure(
    name: str, load: str, how: str, folder: Path, simulator: Simulator, sources: list[bytes]
) -> Row:
    simulator.reset()
    simulator.ask(
        "POST", "settings", {"latency_s": LATENCY_S if load == "idle" else BUSY_LATENCY_S}
    )
    where = Place(root=folder / "place", base_url=simulator.base_url, concurrency=CONCURRENCY)
    pause_s = IDLE_S if load == "idle" else BUSY_S
    with place.running(name, where):
        done_at = {}
        for number, data in enumerate(sources):
            target = where.inbox / f"p{number:06}.png"
            if how == "close":
                target.write_bytes(data)
            else:
                aside = where.root / target.name
                aside.write_bytes(data)
                aside.rename(target)
            done_at[hashlib.sha256(data).hexdigest()] = time.monotonic()
            time.sleep(pause_s)
        place.wait_until(
            lambda: simulator.totals()["closed"] >= len(sources), f"{len(sources)} requests"
        )
        first_at = {
            one["image_sha256"]: one["first_byte_monotonic_s"] for one in simulator.upscales()
        }
    waits_ms = [1000 * (first_at[digest] - at) for digest, at in done_at.items()]
    return {
        "load": load,
        "how": how,
        "contestant": name,
        "files": len(waits_ms),
        "median_ms": median(waits_ms),
        "p99_ms": percentile(waits_ms, P99),
    }
