"""Tables of results: with lines on a terminal, plain elsewhere."""

from rich import box
from rich.console import Console
from rich.table import Table

from bench.results import Result

PLAIN_WIDTH = 250  # nothing is folded where nobody looks at a screen


def table(title: str, result: Result) -> None:
    """Print what a benchmark measured."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    # rows of one benchmark may be of several kinds: each has a table of its own
    kinds: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for row in result.rows:
        kinds.setdefault(tuple(row), []).append(row)
    console.print(f"\n{title}", style="bold")
    for names, rows in kinds.items():
        drawn = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII2)
        for name in names:
            text = any(isinstance(row[name], str) for row in rows)
            drawn.add_column(name.replace("_", " "), justify="left" if text else "right")
        for row in rows:
            drawn.add_row(*(_shown(row[name]) for name in names))
        console.print(drawn)
    for goal in result.goals:
        sign = "at least" if goal.least else "at most"
        verdict = "met" if goal.met else "missed"
        console.print(
            f"  {verdict:<7} {goal.what}: {goal.figure:g}, wanted {sign} {goal.limit:g}",
            highlight=False,
        )
    for skip in result.skipped:
        console.print(f"  skipped {skip.what}: {skip.why}", highlight=False)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
