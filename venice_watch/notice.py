"""What people are told of, and when: troubles compared with what was told, gathered, damped; pure.

Rules: a trouble is told when it stands and again when it is over, not each time it is met; the
first of a kind goes out at once, what follows is gathered; nothing goes out more often than
`HOURLY_MAX`, and then later instead of never. Time is the wall clock's, so that it outlives us.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

HOURLY_MAX = 12  # notices to one receiver: a person reads no more
HOUR_S = 3600.0
MENDED_S = 20.0  # gone for so long before it counts as mended: what flaps is no news
AGAIN_S = 86_400.0  # what still stands is told again, whether or not there was a restart
LINES_MAX = 12  # in one notice; the rest is counted
TEXT_BYTES_MAX = 3_900  # ntfy makes a file of what has more than 4,096
LINE_CHARACTERS_MAX = 600  # file names have up to 255 bytes, a server's words a few hundred
TOLD_MAX = 1_000  # troubles remembered: 256 folders with a few each


class Kind(StrEnum):
    """What a notice is about; the words of `on`."""

    KEY = "key"
    BALANCE = "balance"
    BUDGET = "budget"
    FOLDER = "folder"
    QUARANTINE = "quarantine"
    DELIVERY = "delivery"
    DISK = "disk"
    PROGRAM = "program"
    SERVICE = "service"


USUAL = tuple(kind for kind in Kind if kind is not Kind.SERVICE)  # that is nobody's to mend
HEADINGS: Mapping[Kind, str] = {
    Kind.KEY: "Venice does not accept the account",
    Kind.BALANCE: "the balance is short",
    Kind.BUDGET: "a budget is reached",
    Kind.FOLDER: "a folder needs you",
    Kind.QUARANTINE: "images were quarantined",
    Kind.DELIVERY: "results cannot be delivered",
    Kind.DISK: "a disk cannot be written",
    Kind.PROGRAM: "the program was started again",
    Kind.SERVICE: "Venice's service is down",
}
ADVICE: Mapping[Kind, str] = {
    Kind.KEY: "Nothing is sent until that is mended; `venice-watch check` says what to do. It goes "
    "on by itself.",
    Kind.BUDGET: "Images wait in their inboxes. Raise the budget to go on sooner.",
    Kind.FOLDER: "Its images wait. See `venice-watch status`; it goes on by itself once mended.",
    Kind.QUARANTINE: "Each has a report beside it; `venice-watch retry` takes files back.",
    Kind.DELIVERY: "They are paid for and safe, and tried again by themselves once that is mended.",
}
MENDED: Mapping[Kind, str] = {
    Kind.KEY: "Venice accepts the account again.",
    Kind.BALANCE: "The balance covers what waits again.",
    Kind.BUDGET: "There is room again: {subject}.",
    Kind.FOLDER: "In order again: {subject}.",
    Kind.DELIVERY: "Delivered or put away again: {subject}.",
    Kind.DISK: "Can be written again: {subject}.",
    Kind.PROGRAM: "Moves again: {subject}.",
    Kind.SERVICE: "Venice's service is back.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What keeps work from going on: `kind` None is for `status` alone and told to nobody."""

    kind: Kind | None
    subject: str
    why: str
    group: str | None = None  # what it is told as one with: the images of a folder, say

    def __str__(self) -> str:
        return f"{self.subject}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Images of one folder that were given up for one reason since the last look."""

    folder: str
    code: str
    count: int
    newest: str  # in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message for a person."""

    kind: Kind
    title: str
    text: str
    mended: bool = False


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """What is to be told of one kind, as soon as it may be."""

    lines: dict[str, str] = field(default_factory=dict)  # by what they are about
    next_at: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Told:
    kind: Kind
    subject: str
    at: float
    gone_at: float | None = None
    met: bool = True  # by this process


class Gatherer:
    """Decides what one receiver is told; `memory` and `recalled` carry it over a restart."""

    def __init__(self, on: Iterable[Kind], digest_s: float) -> None:
        self._on = frozenset(on)
        self._digest_s = digest_s
        self._told: dict[str, _Told] = {}
        self._waiting: dict[tuple[Kind, bool], _Waiting] = {}  # whether it is over
        self._quarantined: dict[str, Counter[str]] = {}  # by folder: codes
        self._sent: list[float] = []

    # --- what happened ---------------------------------------------------------------------------

    def compare(self, troubles: Iterable[Trouble], now: float, *, sure: bool = True) -> None:
        """Take over which troubles stand.

        Unless `sure`, what an earlier process told may only not have been met yet by this one.
        """
        standing = self._by_key(troubles)
        for key, group in standing.items():
            self._note_standing(key, group, now)
        for key in [key for key in self._told if key not in standing]:
            self._note_gone(key, now, sure=sure)

    def _by_key(self, troubles: Iterable[Trouble]) -> dict[str, list[Trouble]]:
        standing: dict[str, list[Trouble]] = {}
        for one in troubles:
            if one.kind in self._on:
                standing.setdefault(f"{one.kind} {one.group or one.subject}", []).append(one)
        return standing

    def _note_standing(self, key: str, group: list[Trouble], now: float) -> None:
        first, kind = group[0], group[0].kind
        assert kind is not None, "only what somebody is told of has a key"
        subject = first.group or first.subject
        told = self._told.get(key)
        # a wall clock that was set back must not silence it for long
        if told is not None and now - AGAIN_S < told.at <= now:
            told.gone_at, told.met = None, True
            return
        if told is None and len(self._told) >= TOLD_MAX:
            return
        again = "" if told is None else " (still)"
        head = f"{subject}, {len(group)} in all, such as {first}" if first.group else str(first)
        self._told[key] = _Told(kind=kind, subject=subject, at=now)
        self._bucket(kind, mended=True).lines.pop(key, None)
        self._bucket(kind).lines[key] = f"{head}{again}"

    def _note_gone(self, key: str, now: float, *, sure: bool) -> None:
        told = self._told[key]
        if told.gone_at is None or told.gone_at > now or not (sure or told.met):
            told.gone_at = now
        if now - told.gone_at < MENDED_S:
            return
        del self._told[key]
        if self._bucket(told.kind).lines.pop(key, None) is None:  # else nobody has heard of it
            words = MENDED.get(told.kind, "Over: {subject}.")
            self._bucket(told.kind, mended=True).lines[key] = words.format(subject=told.subject)

    def add_quarantined(self, many: Iterable[Quarantined]) -> None:
        """Count images that were given up."""
        if Kind.QUARANTINE not in self._on:
            return
        for one in many:
            codes = self._quarantined.setdefault(one.folder, Counter())
            codes[one.code] += one.count
            total = codes.total()
            which = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
            files = "1 file was" if total == 1 else f"{total:,} files were"
            self._bucket(Kind.QUARANTINE).lines[one.folder] = (
                f"{files} quarantined in {one.folder}: {which}; the newest: {one.newest}"
            )

    def add_word(self, word: str) -> None:
        """Tell something about the program itself."""
        if Kind.PROGRAM in self._on:
            self._bucket(Kind.PROGRAM).lines[word] = word

    def _bucket(self, kind: Kind, *, mended: bool = False) -> _Waiting:
        return self._waiting.setdefault((kind, mended), _Waiting())

    # --- what is told ----------------------------------------------------------------------------

    def due(self, now: float) -> list[Notice]:
        """Return what is to be sent now, and count it as sent."""
        found = []
        for (kind, mended), waiting in self._waiting.items():
            waiting.next_at = min(waiting.next_at, now + self._digest_s)  # the clock was set back
            if waiting.lines and now >= waiting.next_at and self._may_send(now):
                found.append(_compose(kind, list(waiting.lines.values()), mended=mended))
                waiting.lines.clear()
                waiting.next_at = now + self._digest_s
                self._sent.append(now)
                if kind is Kind.QUARANTINE:
                    self._quarantined.clear()
        return found

    def _may_send(self, now: float) -> bool:
        self._sent = [at for at in self._sent if now - HOUR_S < at <= now]
        return len(self._sent) < HOURLY_MAX

    # --- over a restart --------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Return what must outlive this process, ready for JSON."""
        return {
            "told": {key: [one.kind, one.subject, one.at] for key, one in self._told.items()},
            "waiting": [
                [kind, mended, waiting.next_at, waiting.lines]
                for (kind, mended), waiting in self._waiting.items()
            ],
            "quarantined": self._quarantined,
            "sent": self._sent,
        }

    @classmethod
    def recalled(cls, on: Iterable[Kind], digest_s: float, memory: Mapping[str, Any]) -> Self:
        """Return one that goes on from a `memory`.

        Raises ValueError, KeyError, TypeError or AttributeError where it is none.
        """
        made = cls(on, digest_s)
        for key, (kind, subject, at) in memory["told"].items():
            if kind in made._on:
                made._told[key] = _Told(
                    kind=Kind(kind), subject=str(subject), at=float(at), met=False
                )
        for kind, mended, next_at, lines in memory["waiting"]:
            if kind in made._on:
                texts = {str(key): str(line) for key, line in lines.items()}
                waiting = _Waiting(lines=texts, next_at=float(next_at))
                made._waiting[Kind(kind), bool(mended)] = waiting
        codes = memory["quarantined"].items()
        made._quarantined = {str(name): Counter(counts) for name, counts in codes}
        made._sent = [float(at) for at in memory["sent"]]
        return made


def _compose(kind: Kind, lines: list[str], *, mended: bool) -> Notice:
    shown = [_line(one) for one in lines[:LINES_MAX]]
    if len(lines) > LINES_MAX:
        shown.append(f"... and {len(lines) - LINES_MAX:,} more; see `venice-watch status`.")
    if not mended and kind in ADVICE:
        shown.append(ADVICE[kind])
    text = "\n".join(shown).encode()[:TEXT_BYTES_MAX].decode(errors="ignore")
    title = f"over: {HEADINGS[kind]}" if mended else HEADINGS[kind]
    return Notice(kind=kind, title=title, text=text, mended=mended)


def _line(text: str) -> str:
    """Return one line: file names may hold line ends, and bytes that are no UTF-8."""
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return plain if len(plain) <= LINE_CHARACTERS_MAX else f"{plain[:LINE_CHARACTERS_MAX]}..."
