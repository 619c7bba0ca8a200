"""The benchmarks run, and hand back what is written down about them; how fast is no test's say."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHEAP = ("throughput", "latency", "backlog", "growth", "starting")
OURS = "venice-watch"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the benchmarks as a user does, from the top of the project."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Run the cheap ones once; return what was printed, and the JSON."""
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "figures.json"
    done = run(*CHEAP, "--quick", "--json", str(file), "--folder", str(folder))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == [file.name], "nothing is left behind"
    report: dict[str, Any] = json.loads(file.read_text())
    return done.stdout, report


@pytest.mark.timeout(300)
def test_json(quick: tuple[str, dict[str, Any]]) -> None:
    """The JSON names the machine and has rows, goals and what was skipped of each benchmark."""
    printed, report = quick
    assert set(report) == {"format", "quick", "machine", "benchmarks"}
    assert (report["format"], report["quick"]) == (1, True)
    assert report["machine"]["processors"] >= 1
    assert tuple(report["benchmarks"]) == CHEAP
    for name, facts in report["benchmarks"].items():
        assert set(facts) == {"took_s", "rows", "skipped", "goals"}
        assert facts["rows"], name
        for row in facts["rows"]:
            assert all(isinstance(value, (int, float, str)) for value in row.values()), row
        for goal in facts["goals"]:
            assert set(goal) == {"what", "figure", "limit", "kind", "met"}
            least = goal["kind"] == "at least"
            higher = goal["figure"] >= goal["limit"]
            assert goal["met"] == (higher if least else goal["figure"] <= goal["limit"])
        assert f"{name}: " in printed


@pytest.mark.timeout(300)
def test_figures_are_of_real_work(quick: tuple[str, dict[str, Any]]) -> None:
    """Every image that was dropped was sent once, and what was waited for took its time."""
    rows = {name: facts["rows"] for name, facts in quick[1]["benchmarks"].items()}
    ours, *others = rows["throughput"]
    assert ours["contestant"] == OURS
    for row in (ours, *others):
        assert row["requests"] == row["images"] == 8
        assert row["in_flight_max"] <= row["concurrency"]
        assert 0 < row["efficiency"] < 1, "nobody is faster than the server"
    assert {(row["load"], row["how"]) for row in rows["latency"] if row["contestant"] == OURS} == {
        ("idle", "close"),
        ("idle", "rename"),
        ("busy", "close"),
    }
    assert all(0 < row["median_ms"] <= row["p99_ms"] for row in rows["latency"])
    [backlog] = rows["backlog"]
    assert backlog["files"] == 100
    assert 0 < backlog["first_request_s"] <= backlog["all_jobs_s"] + 60
    growth = {row["what"]: row for row in rows["growth"]}
    assert {"claim_cpu_ms", "prior_cpu_ms", "status_ms", "bytes_per_job"} <= growth.keys()
    assert growth["bytes_per_job"]["jobs_3000"] > 100
    python, *commands = rows["starting"]
    assert python["cpu_of_python"] == 1
    assert all(row["cpu_ms"] > python["cpu_ms"] for row in commands)


def test_unknown_name() -> None:
    """A name that is no benchmark is refused with those that are."""
    done = run("thruput")
    assert done.returncode == 2
    assert "thruput is no benchmark; choose from throughput, latency" in done.stderr


def test_page_names_every_benchmark() -> None:
    """The page about performance has a section for each benchmark, and for no other."""
    told = run("--help").stdout
    names = re.findall(r"^  (\w+) +\S", told.partition("unless named):")[2], re.MULTILINE)
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    assert set(CHEAP) < set(names)
    assert re.findall(r"^### `(\w+)`", page, re.MULTILINE) == names
