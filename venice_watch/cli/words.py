"""How commands say things to a person: names that do no harm, money, durations, tables.

Rules: a file name may hold anything, line ends and escapes included, and is printed harmlessly.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from venice_watch import budget

CELL_CHARACTERS_MAX = 48  # a column grows to this; a longer cell pushes its own row only


def printable(text: str) -> str:
    """Return a text as one harmless line: what does not print is written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def usd_text(microusd: int) -> str:
    """Return an amount in USD as people write it: 1.00, 0.025."""
    return budget.usd(microusd)


def amount(amount_usd: float) -> str:
    """Return an amount of a view's facts as people write it."""
    return usd_text(round(amount_usd * 1_000_000))


def describe_budget(facts: Mapping[str, Any]) -> str:
    """Return how a budget stands, in words, from a view's facts of it."""
    period = facts["period"]
    whose = "all folders" if facts["folder"] is None else f"folder {facts['folder']!r}"
    return (
        f"budget of {whose} for this {period}: {amount(facts['spent_usd'])} of "
        f"{amount(facts['limit_usd'])} USD spent, {amount(facts['left_usd'])} left; "
        f"the next {period} begins at {facts['turns_at']}"
    )


def duration(seconds: float) -> str:
    """Return a duration in the two largest units that matter: 45 s, 3 min, 2 h 5 min."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days} d {hours_left} h"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return `1 image`, `2 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()
) -> list[str]:
    """Return lines of aligned columns; those of the indices `right` end at one place."""
    cells = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [
        min(CELL_CHARACTERS_MAX, max(len(row[column]) for row in cells))
        for column in range(len(head))
    ]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
