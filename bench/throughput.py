"""Throughput: how near a burst of images comes to the ideal, ceil(N / C) x L.

The time runs from the first file's copying into the inbox to the last whole result in the outbox.
"""

import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from bench import machine, pictures, place
from bench.place import OURS, Place, Simulator
from bench.results import Goal, Result, Row, Setting, Skip, median, tidy

IDEAL_S = 16.0  # of each measurement: what it begins and ends with hardly counts
CASES = ((4, 2.0, 0.97), (8, 1.0, 0.97), (16, 0.5, 0.97), (64, 0.5, 0.90))  # C, L in s, goal
QUICK_CASES = ((4, 0.2, 0.97),)
QUICK_IDEAL_S = 0.4
LOOK_S = 0.02  # between looks for results: a thousandth of the ideal
PATIENCE = 20  # a contestant may take this many times the ideal


def run(setting: Setting) -> Result:
    """Measure every contestant, one after the other, in every case."""
    result = Result()
    maker = pictures.PngMaker(pictures.drawing(pictures.MEGAPIXEL))
    ideal_s = QUICK_IDEAL_S if setting.quick else IDEAL_S
    for concurrency, latency_s, goal in QUICK_CASES if setting.quick else CASES:
        images = concurrency * round(ideal_s / latency_s)
        ready = setting.folder / "ready"
        ready.mkdir()
        size_bytes = pictures.fill(ready, maker, images)
        with Simulator(latency_s=latency_s) as simulator:
            simulator.warm_up(maker.make(0))
            rows: dict[str, list[Row]] = {}
            for _ in range(setting.repeat):
                for name in place.CONTESTANTS:
                    where = Place(
                        root=setting.folder / "place",
                        base_url=simulator.base_url,
                        concurrency=concurrency,
                    )
                    try:
                        row = _measure(name, where, simulator, ready, latency_s)
                    except place.MissingError as exc:
                        if not any(one.what == name for one in result.skipped):
                            result.skipped.append(Skip(what=name, why=str(exc)))
                        continue
                    rows.setdefault(name, []).append(row)
        shutil.rmtree(ready)
        facts = {
            "concurrency": concurrency,
            "latency_s": latency_s,
            "images": images,
            "source_bytes": size_bytes,
        }
        result.rows += [facts | _middle(name, several) for name, several in rows.items()]
        _judge(result, rows, goal, f"C = {concurrency}, L = {latency_s:g} s")
    return result


def _measure(name: str, where: Place, simulator: Simulator, ready: Path, latency_s: float) -> Row:
    simulator.reset()
    sources = sorted(ready.iterdir())
    ideal_s = math.ceil(len(sources) / where.concurrency) * latency_s
    with place.running(name, where) as running:
        cpu_s, simulator_cpu_s = running.cpu_s(), simulator.cpu_s()
        all_cpu_s = machine.machine_cpu_s()
        begun_at = time.monotonic()
        for source in sources:
            shutil.copyfile(source, where.inbox / source.name)
        makespan_s = _wait_whole(where.outbox, len(sources), begun_at, ideal_s * PATIENCE)
        cpu_s = running.cpu_s() - cpu_s
        simulator_cpu_s = simulator.cpu_s() - simulator_cpu_s
        others_s = machine.machine_cpu_s() - all_cpu_s - cpu_s - simulator_cpu_s
        totals = simulator.totals()
    return {
        "ideal_s": ideal_s,
        "makespan_s": makespan_s,
        "efficiency": ideal_s / makespan_s,
        "in_flight_max": totals["in_flight_max"],
        "requests": totals["upscales"],
        "cpu_ms_per_image": 1000 * cpu_s / len(sources),
        "simulator_ms_per_image": 1000 * simulator_cpu_s / len(sources),
        # what else ran on this machine: near to all processors, the figures say little
        "others_cpus": max(0.0, others_s) / makespan_s,
    }


def _wait_whole(outbox: Path, count: int, begun_at: float, limit_s: float) -> float:
    """Wait until all results are there; return the seconds since `begun_at`.

    With canned answers all have one size, so one that is not whole shows.
    """

    def whole() -> bool:
        with os.scandir(outbox) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        if len(names) < count:
            return False
        return len({(outbox / name).stat().st_size for name in names}) == 1

    # seldom, as measures go: looking costs CPU that the contestants could use
    place.wait_until(whole, f"{count} results", limit_s=limit_s, poll_s=LOOK_S)
    return time.monotonic() - begun_at


def _middle(name: str, several: Sequence[Row]) -> Row:
    """Return the median of each figure, and the worst efficiency."""
    names = several[0].keys()
    row: Row = {"contestant": name}
    row |= {key: median(float(str(one[key])) for one in several) for key in names}
    worst = min(float(str(one["efficiency"])) for one in several)
    return row | {"efficiency_worst": tidy(worst)}


def _judge(result: Result, rows: dict[str, list[Row]], goal: float, case: str) -> None:
    efficiency = {
        name: median(float(str(one["efficiency"])) for one in several)
        for name, several in rows.items()
    }
    ours = efficiency.pop(OURS)
    result.goals.append(Goal(what=f"efficiency, {case}", figure=ours, limit=goal, least=True))
    result.goals += [
        Goal(what=f"efficiency, {case}, than {name}", figure=ours, limit=other, least=True)
        for name, other in efficiency.items()
    ]
