"""What the kernel says of processes and of this machine: CPU, memory, wake-ups.

Rules: a process counts with all that it started. Only this user's processes can be read whole.
"""

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
_STAT_PARENT, _STAT_USER, _STAT_CHILDREN_END = 1, 11, 15  # after the name: man proc_pid_stat
_CPU_IDLE, _CPU_WAIT = 3, 4  # of the first line of /proc/stat
_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """CPU seconds that were used, of this machine as a whole; `at_s` is monotonic."""

    at_s: float
    cpu_s: float


def tree(pid: int) -> list[int]:
    """Return a process and all living ones that it started."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (facts := _stat(int(entry.name))) is not None:
            parents.setdefault(int(facts[_STAT_PARENT]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += parents.get(one, [])
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, of its children, and of those that ended."""
    ticks = 0
    for one in tree(pid):
        facts = _stat(one)
        if facts is not None:
            # user, system, and both of the children that were waited for
            ticks += sum(int(value) for value in facts[_STAT_USER:_STAT_CHILDREN_END])
    return ticks / TICKS_PER_S


def peak_mb(pid: int) -> float:
    """Return the sum of the largest memory that each living process of the tree has had."""
    return sum(_status(one, "VmHWM") for one in tree(pid)) * 1024 / _MB


def switches(pid: int) -> int:
    """Return how often the threads of a process and its children went to sleep so far."""
    return sum(
        _status(one, "voluntary_ctxt_switches", thread=thread.name)
        for one in tree(pid)
        for thread in (PROC / str(one) / "task").iterdir()
    )


def watches_inotify(pid: int) -> bool:
    """Tell whether a process or one that it started has an inotify watch."""
    for one in tree(pid):
        try:
            for entry in (PROC / str(one) / "fdinfo").iterdir():
                if "inotify wd:" in entry.read_text():
                    return True
        except OSError:
            continue  # it ended, or closed the file just now
    return False


def machine_cpu_s() -> float:
    """Return the CPU seconds that all processes of this machine used since it started."""
    fields = (PROC / "stat").read_text().splitlines()[0].split()[1:9]
    return sum(int(v) for n, v in enumerate(fields) if n not in {_CPU_IDLE, _CPU_WAIT}) / (
        TICKS_PER_S
    )


def describe() -> dict[str, object]:
    """Return what the figures were taken on."""
    memory = {
        line.split(":")[0]: int(line.split()[1])
        for line in (PROC / "meminfo").read_text().splitlines()
    }
    return {
        "system": platform.system(),
        "release": platform.release(),
        "processors": os.cpu_count(),
        "memory_mb": round(memory["MemTotal"] * 1024 / _MB),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "load": round(os.getloadavg()[0], 2),
    }


def _stat(pid: int) -> list[str] | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name may hold anything


def _status(pid: int, name: str, thread: str | None = None) -> int:
    """Return a number of a process's, or one of its threads', `status`; 0 where it ended."""
    place = PROC / str(pid) / ("status" if thread is None else f"task/{thread}/status")
    try:
        lines = place.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
