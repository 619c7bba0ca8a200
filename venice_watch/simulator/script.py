"""Which request meets which fault.

Rules: an entry counts the requests it matches, lets `after` of them pass, then strikes each
`every`-th at most `times` (None: without end), with `probability`, and with `spell_s` only in
spells. The first entry that strikes wins. Chance and the clock come in as arguments.
"""

import dataclasses
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from venice_watch.simulator.faults import Fault, Stage, find_fault
from venice_watch.simulator.scalars import read_scalar

UPSCALE_PATH = "/image/upscale"
ANY_PATH = "*"
ENTRIES_MAX = 10_000  # a scripted storm; more is a mistake
SPELL_S_MAX = 86_400.0  # a day of storm is weather enough
TEXTS = frozenset({"value", "path"})  # "30" is a fine value: not a number there


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """One entry of the script; `charged` overrides what the fault's table entry says.

    A spell begins with the first request that the entry could strike, lasts `spell_s`, and comes
    again after `rest_s` of peace; without `rest_s` it does not come again.
    """

    fault: str
    times: int | None = 1
    after: int = 0
    every: int = 1
    spell_s: float | None = None  # None: there is no end to it
    rest_s: float | None = None
    probability: float = 1.0
    path: str = UPSCALE_PATH  # below the API's root; "*" is any
    value: str | None = None
    charged: bool | None = None

    def __post_init__(self) -> None:
        fault = find_fault(self.fault)
        for name, least in (("times", 1), ("after", 0), ("every", 1)):
            number = getattr(self, name)
            if (number is not None or name != "times") and (
                isinstance(number, bool) or not isinstance(number, int) or number < least
            ):
                raise ValueError(f"{self.fault}: {name} is {number!r}; give at least {least}")
        self._check_spell()
        chance = self.probability
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise ValueError(f"{self.fault}: probability is {chance!r}; give a number from 0 to 1")
        if not isinstance(self.path, str) or not (self.path == ANY_PATH or self.path[:1] == "/"):
            raise ValueError(f'{self.fault}: path is {self.path!r}; give "/..." or "*"')
        self._check_charge(fault)
        self._check_value(fault)

    def _check_spell(self) -> None:
        for name in ("spell_s", "rest_s"):
            length = getattr(self, name)
            if length is not None and (
                isinstance(length, bool)
                or not isinstance(length, int | float)
                or not 0 < length <= SPELL_S_MAX
            ):
                raise ValueError(
                    f"{self.fault}: {name} is {length!r}; give seconds, at most {SPELL_S_MAX:g}"
                )
        if self.rest_s is not None and self.spell_s is None:
            raise ValueError(f"{self.fault}: rest_s is the peace between spells; give spell_s too")

    def _check_charge(self, fault: Fault) -> None:
        if self.charged is not None and not isinstance(self.charged, bool):
            raise ValueError(f"{self.fault}: charged is {self.charged!r}; it is true or false")
        if self.charged and fault.stage is not Stage.ANSWER:
            raise ValueError(f"{self.fault}: it strikes before there is anything to charge for")
        if self.path != UPSCALE_PATH and (fault.alters or fault.charged or self.charged):
            raise ValueError(f"{self.fault}: it needs an image; use path {UPSCALE_PATH}")

    def _check_value(self, fault: Fault) -> None:
        if self.value is None:
            return
        if fault.check_value is None or not isinstance(self.value, str):
            raise ValueError(f"{self.fault}: value {self.value!r}; it takes none, or a text")
        try:
            fault.check_value(self.value)
        except ValueError as exc:
            raise ValueError(f"{self.fault}: value {self.value!r}; {fault.summary}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A fault that strikes one request."""

    fault: Fault
    value: str | None
    charged: bool

    @property
    def works(self) -> bool:
        """Say whether the image is made at all."""
        return self.charged or self.fault.alters


def read_scripted(entry: object) -> Scripted:
    """Return the entry that a JSON object describes; raise ValueError."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("fault"), str):
        raise ValueError('an entry is an object with at least {"fault": NAME}')  # noqa: TRY004 - the user's value
    known = {f.name for f in dataclasses.fields(Scripted)}
    unknown = sorted(str(name) for name in entry if name not in known)
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return Scripted(**entry)


def parse_fault(text: str) -> Scripted:
    """Return the entry that `NAME[=VALUE][:PROBABILITY][,OPTION=VALUE...]` describes.

    The options are those of an entry; without `times` it has no end. Raises ValueError.
    """
    spec, *options = text.split(",")
    spec, colon, chance = spec.partition(":")
    name, equals, value = spec.partition("=")
    entry: dict[str, object] = {"fault": name, "times": None}
    if equals:
        entry["value"] = value
    if colon:
        entry["probability"] = read_scalar(chance)
    for option in options:
        key, equals, value = option.strip().partition("=")
        if not equals:
            raise ValueError(f"{text}: {option!r} is no option; write {option.strip()}=VALUE")
        entry[key] = value if key in TEXTS else read_scalar(value)
    return read_scripted(entry)


class Script:
    """The entries, with what each has seen and done."""

    def __init__(
        self,
        entries: Iterable[Scripted],
        chance: random.Random,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries: list[_Running] = []
        self._chance = chance
        self._now = now
        self.extend(entries)

    def extend(self, entries: Iterable[Scripted]) -> None:
        """Add entries behind those that are there; drop the used ones."""
        kept = [running for running in self._entries if not running.spent]
        kept.extend(_Running(entry) for entry in entries)
        if len(kept) > ENTRIES_MAX:
            raise ValueError(f"{len(kept)} entries; at most {ENTRIES_MAX}: use times")
        self._entries = kept

    def clear(self) -> None:
        """Forget all entries."""
        self._entries = []

    def strike_accept(self) -> Incident | None:
        """Return what a new connection meets."""
        return self._strike(
            [r for r in self._entries if find_fault(r.entry.fault).stage is Stage.ACCEPT]
        )

    def strike(self, path: str) -> Incident | None:
        """Return what a request for `path` (below the API's root) meets."""
        return self._strike(
            [
                r
                for r in self._entries
                if find_fault(r.entry.fault).stage is not Stage.ACCEPT
                and r.entry.path in {path, ANY_PATH}
            ]
        )

    def _strike(self, matching: "list[_Running]") -> Incident | None:
        now_s = self._now()
        for running in matching:
            running.see(now_s)
        for running in matching:
            entry = running.entry
            if running.spent or not running.is_due(now_s):
                continue
            if entry.probability < 1 and self._chance.random() >= entry.probability:
                continue
            running.struck += 1
            fault = find_fault(entry.fault)
            charged = fault.charged if entry.charged is None else entry.charged
            return Incident(fault=fault, value=entry.value, charged=charged)
        return None


class _Running:
    """One entry and its counters."""

    __slots__ = ("began_s", "entry", "seen", "struck")

    def __init__(self, entry: Scripted) -> None:
        self.entry = entry
        self.seen = 0
        self.struck = 0
        self.began_s = 0.0  # when the first request came that it could strike

    @property
    def spent(self) -> bool:
        return self.entry.times is not None and self.struck >= self.entry.times

    def see(self, now_s: float) -> None:
        """Count a request that matches."""
        self.seen += 1
        if self.seen == self.entry.after + 1:
            self.began_s = now_s

    def is_due(self, now_s: float) -> bool:
        """Say whether the turn of the request just seen, and the time, are right to strike."""
        turn = self.seen - self.entry.after
        if turn < 1 or turn % self.entry.every:
            return False
        spell_s, rest_s = self.entry.spell_s, self.entry.rest_s
        if spell_s is None:
            return True
        since_s = now_s - self.began_s
        return (since_s if rest_s is None else since_s % (spell_s + rest_s)) < spell_s
