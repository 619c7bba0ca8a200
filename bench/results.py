"""What benchmarks hand back: rows of figures, what was left out and why, and goals.

Rules: a figure's name ends with its unit; a ratio has none. Goals are told and never enforced.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a benchmark is run: `quick` shows that it works, and measures little."""

    folder: Path  # empty, on a local disk
    quick: bool
    repeat: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Something that was not measured, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that should be at most, or at least, so much."""

    what: str
    figure: float
    limit: float
    least: bool = False  # the figure should be at least `limit`, not at most

    @property
    def met(self) -> bool:
        """Tell whether it is."""
        return self.figure >= self.limit if self.least else self.figure <= self.limit


@dataclass(slots=True, kw_only=True)
class Result:
    """What one benchmark measured."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "rows": self.rows,
            "skipped": [{"what": one.what, "why": one.why} for one in self.skipped],
            "goals": [
                {
                    "what": one.what,
                    "figure": one.figure,
                    "limit": one.limit,
                    "kind": "at least" if one.least else "at most",
                    "met": one.met,
                }
                for one in self.goals
            ],
        }


def median(values: Iterable[float]) -> float:
    """Return the middle one, rounded for people."""
    return tidy(statistics.median(values))


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    ordered = sorted(values)
    return tidy(ordered[min(len(ordered) - 1, int(share * len(ordered)))])


def tidy(value: float) -> float:
    """Return a figure without digits that mean nothing."""
    return float(f"{value:.4g}")
