"""What only a running daemon knows: it is asked for, and never written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFolder:
    """How the watch over an inbox goes, and why nothing of it is sent."""

    left_alone: Mapping[str, int]  # names that are never touched, by the reason
    no_images: int
    pending: int  # files that are seen and not complete yet
    watched_by: str  # native or polling
    polling_why: str | None = None
    scanned_at: float | None = None  # when the last whole look began, in seconds since 1970
    scan_s: float | None = None  # how long it took
    scanned_files: int | None = None
    held: str | None = None  # why nothing of it is sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """How things stand in the process that works."""

    version: str
    config_file: str
    loaded_at: float  # when that was read, in seconds since 1970
    halted: str | None  # why nothing is sent for anybody
    concurrency: int  # requests that may be under way at once now
    requests_per_minute: int | None  # None: no limit is known
    requests_last_minute: int
    pause_s: float  # how long the API wants nothing to be sent
    contract: str | None
    balances: Mapping[str, float]
    troubles: tuple[tuple[str, str], ...]  # subject, and what is wrong
    folders: Mapping[str, LiveFolder] = field(default_factory=dict)
