"""What a configuration allows the gate; another may come while requests are under way."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The configured limits."""

    concurrency: int  # requests under way, all folders together
    folders: Mapping[str, int] = field(default_factory=dict)  # the folders' own, within the total
    requests_per_minute: int | None = None  # None: what the API says
    priorities: Mapping[str, int] = field(default_factory=dict)  # by folder; 0 where it has none
