"""A file that was seen in an inbox and is not complete yet: what the looks at it told."""

from dataclasses import dataclass

from venice_watch.job import Signature


@dataclass(slots=True)
class Pending:
    """A file that was seen and is not complete yet."""

    signature: Signature
    changed_at: float  # monotonic, of the look that saw the present version first
    look_at: float
    troubles: int = 0
    announced: bool = False  # by an event, at this version
    told: bool = False  # that its end is missing
    blocked: str = ""  # by whom or what, where only others can end it
