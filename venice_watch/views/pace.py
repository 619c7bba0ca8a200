"""How fast work goes: how long a request takes, and when what waits will have been sent."""

from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from venice_watch.ledger import Ledger

LATEST = 40  # requests from which is learned how long one takes


async def request_s(ledger: "Ledger") -> float | None:
    """Return how long the latest successful requests took, in the middle; None: nobody knows."""
    took = await ledger.durations(limit=LATEST)
    return median(took) if took else None


def eta_s(
    images: int,
    *,
    requests_per_minute: int | None,
    concurrency: int,
    request_s: float | None,
    pause_s: float = 0.0,
) -> float | None:
    """Return in how many seconds so many images will have been sent; None: nobody knows.

    The rate decides, or how many may be under way at once (`concurrency`) and for how long,
    whichever is slower; `pause_s` passes before.
    """
    if not images:
        return 0.0
    paces = [] if requests_per_minute is None else [requests_per_minute / 60]
    paces += [concurrency / request_s] if request_s else []
    return pause_s + images / min(paces) if paces else None
