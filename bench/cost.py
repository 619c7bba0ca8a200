"""Cost: CPU and memory for an image, by size and kind, beside `xargs curl`.

The daemon's figures are those of its whole tree from READY on, per image: what it starts with is
in `starting`. curl's include its start, fork and exec, as whoever uses it pays them. What makes
the answers is left out on both sides.
"""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench import machine, pictures, place
from bench.place import OURS, Place, Simulator
from bench.results import Goal, Result, Row, Setting, Skip, tidy

CONCURRENCY = 4
LATENCY_S = 0.05
SAMPLE_S = 0.02
API_PIXELS_MAX = 16_777_216
CPU_MS_MAX = 12.0  # of the daemon, for a megapixel from PNG to PNG
CURL = "xargs curl"
# of the peak memory, with three times as many images waiting; the fewer are more than can be in
# flight and looked at ahead, else it would be those that are counted
GROWTH_MAX = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of source, and what its results are to be."""

    megapixels: int
    source: str  # png, a drawing; png, a photograph; jpeg
    output: str
    images: int
    quick_images: int


CASES = (
    Case(megapixels=1, source="png, a drawing", output="png", images=200, quick_images=4),
    Case(megapixels=1, source="png, a photograph", output="png", images=200, quick_images=2),
    Case(megapixels=1, source="jpeg", output="png", images=200, quick_images=2),
    Case(megapixels=1, source="png, a photograph", output="jpeg", images=60, quick_images=1),
    Case(megapixels=1, source="jpeg", output="jpeg", images=60, quick_images=2),
    Case(megapixels=8, source="png, a photograph", output="png", images=10, quick_images=1),
    Case(megapixels=8, source="png, a photograph", output="png", images=30, quick_images=1),
    Case(megapixels=8, source="jpeg", output="png", images=12, quick_images=0),
    Case(megapixels=8, source="jpeg", output="jpeg", images=12, quick_images=0),
    Case(megapixels=24, source="png, a photograph", output="png", images=6, quick_images=0),
    Case(megapixels=24, source="jpeg", output="png", images=6, quick_images=0),
    Case(megapixels=24, source="jpeg", output="jpeg", images=6, quick_images=0),
)


def run(setting: Setting) -> Result:
    """Measure every case, ours and curl's one after the other."""
    result = Result()
    formats = _formats()
    for case in CASES:
        images = case.quick_images if setting.quick else case.images
        if not images:
            continue
        if case.output not in formats:
            what = f"{case.megapixels} megapixels, {case.source} to {case.output}"
            result.skipped.append(Skip(what=what, why="this version has no such output.format"))
            continue
        _measure_case(result, case, images, setting.folder)
    _judge(result)
    return result


def _formats() -> list[str]:
    """Return the formats of results that this version's configuration knows."""
    text = subprocess.run(
        place.program("schema"), env=place.environment(), capture_output=True, check=True
    ).stdout
    definitions = json.loads(text).get("$defs", {})
    for name, facts in definitions.items():
        found = facts.get("properties", {}).get("format")
        if name.startswith("Output") and found is not None:
            reference = found.get("$ref", "").rpartition("/")[2]
            return list(definitions.get(reference, found).get("enum", []))
    return ["png"]


def _measure_case(result: Result, case: Case, images: int, folder: Path) -> None:
    size = pictures.SIDES[case.megapixels]
    drawn = case.source.endswith("drawing")
    picture = pictures.drawing(size) if drawn else pictures.photograph(size)
    jpeg = case.source == "jpeg"
    maker = pictures.JpegMaker(picture) if jpeg else pictures.PngMaker(picture)
    ready = folder / "ready"
    ready.mkdir()
    suffix = "jpg" if jpeg else "png"
    size_bytes = pictures.fill(ready, maker, images, suffix=suffix)
    facts: Row = {
        "megapixels": case.megapixels,
        "source": case.source,
        "output": case.output,
        "images": images,
        "source_bytes": size_bytes,
    }
    with Simulator(latency_s=LATENCY_S) as simulator:
        taken = size[0] * size[1] <= API_PIXELS_MAX  # as it is
        if taken:
            simulator.warm_up(maker.make(images))
        result.rows.append(facts | _measure_ours(case, simulator, ready, folder / "place"))
        if not taken:
            what = f"{CURL}, {case.megapixels} megapixels"
            result.skipped.append(Skip(what=what, why="the API refuses what curl would send"))
        elif case.output == "png":
            try:
                result.rows.append(facts | _measure_curl(simulator, ready, folder / "curl"))
            except place.MissingError as exc:
                if not any(one.what == CURL for one in result.skipped):
                    result.skipped.append(Skip(what=CURL, why=str(exc)))
    for file in ready.iterdir():
        file.unlink()
    ready.rmdir()


def _measure_ours(case: Case, simulator: Simulator, ready: Path, root: Path) -> Row:
    where = Place(root=root, base_url=simulator.base_url, concurrency=CONCURRENCY)
    output: Row = {} if case.output == "png" else {"output": {"format": case.output}}
    simulator.reset()
    sources = sorted(ready.iterdir())
    with place.running(OURS, where, output) as running:
        cpu_s = running.cpu_s()
        for source in sources:
            source.rename(where.inbox / source.name)
        place.wait_until(
            lambda: len(list((where.root / "archive").iterdir())) >= len(sources),
            f"{len(sources)} originals in the archive",
            limit_s=600.0,
            poll_s=0.05,
        )
        cpu_s = running.cpu_s() - cpu_s
        peak_mb = machine.peak_mb(running.pid)
        answer = max(entry.stat().st_size for entry in where.outbox.iterdir())
        for source in (where.root / "archive").iterdir():
            source.rename(ready / source.name)
    return {
        "contestant": OURS,
        "result_bytes": answer,
        "cpu_ms_per_image": tidy(1000 * cpu_s / len(sources)),
        "peak_mb": tidy(peak_mb),
    }


def _measure_curl(simulator: Simulator, ready: Path, root: Path) -> Row:
    place.require("curl", "curl")
    outbox = root / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    sources = sorted(ready.iterdir())
    curl = ["curl", "-sS", "-o", f"{outbox}/{{}}", "-H", f"Authorization: Bearer {place.KEY}"]
    curl += ["-F", f"image=@{ready}/{{}}", "-F", "scale=2", f"{simulator.base_url}/image/upscale"]
    names = "\n".join(source.name for source in sources).encode()
    process = subprocess.Popen(
        ["xargs", "-P", str(CONCURRENCY), "-I{}", *curl],
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(names)
    process.stdin.close()
    pid, status, peak_mb = 0, 0, 0.0
    while not pid:
        # sampled: what the kernel would tell at the end counts this program's memory as well
        peak_mb = max(peak_mb, machine.peak_mb(process.pid))
        time.sleep(SAMPLE_S)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)  # with all that it waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"xargs curl ended with {process.returncode}")
    answer = max(entry.stat().st_size for entry in outbox.iterdir())
    for file in outbox.iterdir():
        file.unlink()
    return {
        "contestant": CURL,
        "result_bytes": answer,
        "cpu_ms_per_image": tidy(1000 * (usage.ru_utime + usage.ru_stime) / len(sources)),
        "peak_mb": tidy(peak_mb),
    }


def _judge(result: Result) -> None:
    """Compare with curl and with the goals, for a megapixel from PNG to PNG."""
    for ours in result.rows:
        if ours["contestant"] != OURS or ours["megapixels"] != 1 or ours["output"] != "png":
            continue
        cpu_ms = float(str(ours["cpu_ms_per_image"]))
        what = f"CPU ms, 1 megapixel, {ours['source']}"
        if ours["source"] != "jpeg":
            result.goals.append(Goal(what=what, figure=cpu_ms, limit=CPU_MS_MAX))
        for other in result.rows:
            if other["contestant"] == CURL and _same_source(ours, other):
                limit = float(str(other["cpu_ms_per_image"]))
                result.goals.append(Goal(what=f"{what}, than curl", figure=cpu_ms, limit=limit))
    few_and_many = [
        float(str(row["peak_mb"]))
        for row in result.rows
        if row["contestant"] == OURS
        and row["megapixels"] == 8  # noqa: PLR2004 - the case with few and with many
        and row["source"] == "png, a photograph"
    ]
    if len(few_and_many) > 1 and result.rows[-1]["megapixels"] != 1:
        few, many = few_and_many
        what = "peak memory with 30 waiting, over that with 10"
        result.goals.append(Goal(what=what, figure=tidy(many / few), limit=GROWTH_MAX))


def _same_source(one: Row, other: Row) -> bool:
    names = ("megapixels", "source", "images", "output")
    return all(one[name] == other[name] for name in names)
