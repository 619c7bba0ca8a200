"""Starting: what a command costs before it does anything, beside Python itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import place
from bench.place import Place, Simulator
from bench.results import Result, Setting, median, tidy

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES, QUICK_TIMES = 11, 1
PYTHON = "python -c pass"


def run(setting: Setting) -> Result:
    """Measure every command, taking turns, so that a busy spell meets them all."""
    times = QUICK_TIMES if setting.quick else TIMES * setting.repeat
    with Simulator(latency_s=0.0) as simulator:
        where = Place(root=setting.folder / "place", base_url=simulator.base_url).write()
        place.start_ours(where).end()  # there is a ledger then, and Python's caches are warm
        config = ["--config", str(where.config)]
        commands: dict[str, Callable[[], tuple[float, float]]] = {
            PYTHON: lambda: _time([sys.executable, "-c", "pass"], where.root),
            "--help": lambda: _time(place.program("--help"), where.root),
            "status": lambda: _time(place.program("status", *config), where.root),
            "check --offline": lambda: _time(
                place.program("check", "--offline", *config), where.root
            ),
            "run, until READY": lambda: _time_ready(where),
        }
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(times):
            for name, measure in commands.items():
                took[name].append(measure())
    result = Result()
    python_cpu_ms = median(cpu for _, cpu in took[PYTHON])
    for name, figures in took.items():
        cpu_ms = median(cpu for _, cpu in figures)
        result.rows.append(
            {
                "command": name,
                "wall_ms": median(wall for wall, _ in figures),
                "cpu_ms": cpu_ms,
                "cpu_of_python": tidy(cpu_ms / python_cpu_ms),
            }
        )
    return result


def _time(command: list[str], folder: Path) -> tuple[float, float]:
    """Return the milliseconds, and those of CPU, of a command from its start to its end."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)
    wall_ms = 1000 * (time.perf_counter() - began_s)
    process.returncode = 0  # it was waited for
    return wall_ms, 1000 * (usage.ru_utime + usage.ru_stime)


def _time_ready(where: Place) -> tuple[float, float]:
    """Return the same of the daemon, until it says that it is ready."""
    running = place.start_ours(where)
    wall_ms = 1000 * (time.monotonic() - running.started_at_s)
    cpu_ms = 1000 * running.cpu_s()
    running.end(signal.SIGTERM)
    return wall_ms, cpu_ms
