"""How commands say things to a person: names that do no harm, local times, money, tables.

Rules: a file name may hold anything, line ends and escapes included, and is printed harmlessly;
times are local with their offset.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from venice_watch import budget

CELL_CHARACTERS_MAX = 48  # a column grows to this; a longer cell pushes its own row only


def printable(text: str) -> str:
    """Return a text as one harmless line: what does not print is written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def when(moment: float) -> str:
    """Return a moment (seconds since 1970) as local ISO time with its offset."""
    return datetime.fromtimestamp(moment).astimezone().isoformat("T", "seconds")


def when_or_none(moment: float | None) -> str | None:
    """Return a moment as `when` does, or None."""
    return None if moment is None else when(moment)


def usd(microusd: int) -> float:
    """Return an amount in USD, for programs."""
    return microusd / 1_000_000


def usd_text(microusd: int) -> str:
    """Return an amount in USD as people write it: 1.00, 0.025."""
    return budget.usd(microusd)


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
