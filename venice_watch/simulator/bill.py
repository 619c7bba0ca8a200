"""The bill: what every request was, what became of it, and what it cost.

Rules: written by the server, read by tests, so that they assert money and not a client's log. Never
a key, only its fingerprint. Times are `time.monotonic()` of this machine (comparable between its
processes) unless the name says wall. Bounded: the oldest records go, the totals stay.
"""

import asyncio
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

RECORDS_MAX = 50_000  # the largest benchmark; about 1 kB each
FIELDS_MAX = 50  # the contract has six
VALUE_CHARS_MAX = 2_000  # a prompt has at most 1,500


@dataclass(slots=True, kw_only=True)
class Record:
    """One request, or one connection that was reset before it could be one (path "")."""

    number: int
    cf_ray: str
    first_byte_monotonic_s: float  # the request's first byte arrived
    method: str = ""
    path: str = ""
    upscale: bool = False
    key_fingerprint: str = ""
    in_flight: int = 0  # upscales under way when its head arrived, itself included
    received_monotonic_s: float | None = None  # the whole request was there
    received_wall_s: float | None = None
    image_sha256: str | None = None
    image_bytes: int = 0
    fields: dict[str, object] = field(default_factory=dict)
    width: int | None = None
    height: int | None = None
    scale: float | None = None  # the effective one
    status: int | None = None  # None: nothing was said
    fault: str | None = None
    charged_microusd: int = 0
    failed: bool = False  # spends the error budget
    finished_monotonic_s: float | None = None
    finished: bool = False  # the whole answer was handed to the socket


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over all records, those that are gone included."""

    connections: int = 0
    requests: int = 0
    upscales: int = 0
    received: int = 0  # upscales whose body has arrived
    finished: int = 0  # upscales whose answer has left
    closed: int = 0  # upscales that are over, one way or the other
    charges: int = 0
    charged_microusd: int = 0
    failed: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)


class Bill:
    """All records and their totals."""

    def __init__(self) -> None:
        self.records: deque[Record] = deque(maxlen=RECORDS_MAX)
        self.totals = Totals()
        self._changed = asyncio.Event()

    def clear(self) -> None:
        """Begin anew; requests under way stay counted as in flight."""
        in_flight = self.totals.in_flight
        self.records.clear()
        self.totals = Totals(in_flight=in_flight, in_flight_max=in_flight)
        self._tell()

    def open(self, record: Record) -> None:
        """Take up a request."""
        totals = self.totals
        totals.requests += 1
        if record.upscale:
            totals.upscales += 1
            totals.in_flight += 1
            totals.in_flight_max = max(totals.in_flight_max, totals.in_flight)
            record.in_flight = totals.in_flight
        self.records.append(record)
        self._tell()

    def receive(self, record: Record, *, now_s: float, now_wall_s: float) -> None:
        """Note that the whole request has arrived."""
        record.received_monotonic_s, record.received_wall_s = now_s, now_wall_s
        self.totals.received += record.upscale
        self._tell()

    def charge(self, record: Record, price_microusd: int) -> None:
        """Put a price on the bill."""
        record.charged_microusd = price_microusd
        self.totals.charges += 1
        self.totals.charged_microusd += price_microusd

    def close(self, record: Record, *, now_s: float, finished: bool) -> None:
        """Note how a request ended."""
        totals = self.totals
        record.finished_monotonic_s, record.finished = now_s, finished
        totals.failed += record.failed
        if record.status is not None:
            _add(totals.statuses, str(record.status))
        if record.fault is not None:
            _add(totals.faults, record.fault)
        if record.upscale:
            totals.in_flight -= 1
            totals.closed += 1
            totals.finished += finished
        self._tell()

    @property
    def upscales(self) -> tuple[Record, ...]:
        """Return the records that are upscales, in the order of their heads."""
        return tuple(record for record in self.records if record.upscale)

    @property
    def charged_usd(self) -> float:
        """Return the sum of all charges."""
        return self.totals.charged_microusd / 1_000_000

    async def wait_until(self, reached: Callable[[Totals], bool]) -> Totals:
        """Return the totals as soon as `reached` says so; wrap it in a timeout."""
        while not reached(self.totals):
            self._changed.clear()
            await self._changed.wait()
        return self.totals

    def as_json(self, *, after: int = 0) -> dict[str, object]:
        """Return totals and the records numbered above `after`, as JSON has them."""
        records = [dataclasses.asdict(record) for record in self.records if record.number > after]
        return {"totals": dataclasses.asdict(self.totals), "records": records}

    def _tell(self) -> None:
        self._changed.set()


def shown_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """Return a request's fields as the bill keeps them: bounded, and possible in JSON."""
    return {
        name[:VALUE_CHARS_MAX]: _shown(value) for name, value in list(fields.items())[:FIELDS_MAX]
    }


def _add(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _shown(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    return str(value)[:VALUE_CHARS_MAX] if isinstance(value, str | float) else "..."
