"""How a run goes and how it ended, for those who show it."""

from collections.abc import Mapping
from dataclasses import dataclass

from venice_watch.pipeline.passage import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a run ended."""

    tally: Tally
    waiting: int  # jobs that could not be done now
    left: Mapping[str, str]  # files that could not be taken, and why
    refused: str | None  # why the account could not send
    troubles: Mapping[str, str]  # folder: why its inbox could not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands, for a progress bar."""

    total: int
    done: int
    in_flight: int
    note: str
