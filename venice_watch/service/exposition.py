"""Figures in the text that Prometheus reads (exposition format 0.0.4), and figures of the process.

See https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

import contextlib
import math
import os
import resource
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS_BUCKETS = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)  # of a request


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line: `suffix` is what a histogram puts behind the name."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All samples of one metric."""

    name: str
    kind: str  # counter, gauge, histogram
    help: str
    samples: tuple[Sample, ...]


class Histogram:
    """Counts values by size."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[Sample]:
        """Yield what is to be told: every bucket counts those before it too."""
        total = 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            total += count
            yield Sample(value=total, labels={"le": _number(bound)}, suffix="_bucket")
        yield Sample(value=self._sum, suffix="_sum")
        yield Sample(value=total, suffix="_count")


def render(families: Sequence[Family]) -> str:
    """Return the text of all that has samples."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {_escaped(family.help)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += [_line(family.name, sample) for sample in family.samples]
    return "\n".join(lines) + "\n"


def _line(name: str, sample: Sample) -> str:
    inner = ",".join(f'{key}="{_quoted(value)}"' for key, value in sample.labels.items())
    labels = f"{{{inner}}}" if inner else ""
    return f"{name}{sample.suffix}{labels} {_number(sample.value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no UTF-8
    return _escaped(whole).replace('"', '\\"')


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def process_families() -> list[Family]:
    """Return what this process uses, by the names that Prometheus' own clients have."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = [
        ("process_cpu_seconds_total", "counter", "Processor time.", usage.ru_utime + usage.ru_stime)
    ]
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
        rss, size = int(pages[1]), int(pages[0])
        page_bytes = resource.getpagesize()
        found.append(("process_resident_memory_bytes", "gauge", "Memory in use.", rss * page_bytes))
        found.append(("process_virtual_memory_bytes", "gauge", "Address space.", size * page_bytes))
        # the name of the program, in brackets, may have spaces
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK") + _booted_at()
        help_ = "When the process began, in seconds since 1970."
        found.append(("process_start_time_seconds", "gauge", help_, round(started, 2)))
        count = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
        found.append(("process_open_fds", "gauge", "Open files.", count))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    found.append(("process_max_fds", "gauge", "Files that may be open.", limit))
    return [
        Family(name=name, kind=kind, help=help_, samples=(Sample(value=value),))
        for name, kind, help_, value in found
    ]


def _booted_at() -> float:
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
