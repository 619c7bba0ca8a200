"""One line of what `check` says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: str  # ok, warning, error
    subject: str
    message: str
