"""A file that was seen and is not complete yet: when to look again, and what is in its way."""

from dataclasses import dataclass

from venice_watch.job import Signature

TROUBLE_LOOK_S = (1.0, 120.0)  # between these, doubling, while a file cannot be opened
REFUSED_LOOK_S = (1.0, 30.0)  # likewise, while the earlier version at that path is on its way


@dataclass(slots=True)
class Pending:
    """One such file."""

    signature: Signature
    changed_at: float  # monotonic, of the look that saw the present version first
    look_at: float
    troubles: int = 0  # times that it could not be opened, in a row
    refused: int = 0  # times that the ledger did not take it
    announced: bool = False  # by an event, at this version
    told: bool = False  # that its end is missing
    blocked: str = ""  # by whom or what, where only others can end it

    def opened(self, signature: Signature, now: float) -> None:
        """Note what a look found."""
        if signature != self.signature:
            self.signature, self.changed_at = signature, now
            self.told = self.announced = False
        self.troubles = 0

    def not_opened(self, why: str | None, now: float) -> None:
        """Look again later, and later each time."""
        self.look_at = now + _doubled(TROUBLE_LOOK_S, self.troubles)
        self.troubles += 1
        self.blocked = f"it cannot be opened: {why}"

    def not_taken(self, now: float) -> None:
        """Offer it again later, and later each time."""
        self.look_at = now + _doubled(REFUSED_LOOK_S, self.refused)
        self.refused += 1
        self.blocked = "an earlier version of it is on its way"


def _doubled(range_s: tuple[float, float], times: int) -> float:
    low_s, high_s = range_s
    return float(min(high_s, low_s * 2.0 ** min(times, 20)))  # far beyond any range
