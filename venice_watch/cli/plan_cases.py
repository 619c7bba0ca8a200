"""What is planned for one file, and what was found out about it on the way there."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from venice_watch.config.model import Folder
from venice_watch.errors import Code
from venice_watch.images.probe import Probe, upright_size
from venice_watch.job import Job
from venice_watch.parameters import Parameters
from venice_watch.pipeline.consider import Admitted
from venice_watch.pipeline.frames import Wanted
from venice_watch.rules import Choice

BITS_RETURNED = 8  # a channel, of what the API returns
_OF_FRAMES = re.compile(r"^(first|frame [0-9]+) of [0-9]+ frames(, )?")


class Verdict(StrEnum):
    """What would become of a file."""

    SEND = "send"
    FREE = "free"  # the same work was paid for before
    SAME = "same"  # as another one of this plan, or as one under way: paid once
    SKIP = "skip"
    QUARANTINE = "quarantine"
    HOLD = "hold"
    INCOMPLETE = "incomplete"  # not yet whole, as far as can be seen
    UNDER_WAY = "under_way"
    DELIVER = "deliver"  # paid for and on its way to the outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One file, and what would be done with it."""

    path: str
    size_bytes: int
    verdict: Verdict
    message: str = ""
    code: Code | None = None  # of the quarantine
    rule: int | None = None  # 1-based; None: the default, or not that far
    preset: str | None = None
    parameters: Parameters | None = None
    format: str | None = None
    size: tuple[int, int] | None = None  # upright, in pixels
    sent_size: tuple[int, int] | None = None
    result_size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()  # what is done to the image before it is sent
    not_before: float | None = None  # it waits: until then it is not tried again
    frames: int = 1  # that are worked on; some of them may be done
    prices: tuple[int, ...] = ()  # micro-USD of each image or frame that is to be paid for

    @property
    def microusd(self) -> int:
        """Return what all of it would cost."""
        return sum(self.prices)


@dataclass(slots=True, kw_only=True)
class FolderPlan:
    """A folder's files, and what was left alone in it."""

    folder: Folder
    files: list[Planned] = field(default_factory=list)
    trouble: str | None = None  # why the inbox cannot be read
    held: str | None = None  # why all of the folder would have to wait
    done: int = 0  # files that were dealt with, and stay
    ignored: dict[str, int] = field(default_factory=dict)  # reason: how many names


@dataclass(slots=True, kw_only=True)
class Case:
    """What is found out about one file, as far as it goes."""

    job: Job
    now: float
    kind: str = ""
    probe: Probe | None = None
    choice: Choice | None = None
    wanted: Wanted | None = None
    admitted: Admitted | None = None  # the frame that comes next
    source_sha256: bytes = b""
    keys: tuple[bytes, ...] = ()  # of the paid work; several where the contract is not known

    def planned(self, verdict: Verdict, message: str = "", code: Code | None = None) -> Planned:
        """Return the plan for the file, as far as it is known."""
        choice, probe, admitted = self.choice, self.probe, self.admitted
        fit = None if admitted is None else admitted.fit
        parameters = None if choice is None or choice.skip else choice.parameters
        return Planned(
            path=self.job.path,
            size_bytes=self.job.signature.size_bytes,
            verdict=verdict,
            message=message,
            code=code,
            rule=None if choice is None or choice.rule is None else choice.rule + 1,
            preset=None if choice is None else choice.preset,
            parameters=parameters if admitted is None else admitted.parameters,
            format=None if probe is None else probe.format,
            size=None if probe is None else upright_size(probe),
            sent_size=None if fit is None else (fit.width, fit.height),
            result_size=None if fit is None else (fit.result_width, fit.result_height),
            notes=tuple(self._notes()),
            not_before=self._not_before(),
            frames=1 if self.wanted is None else len(self.wanted.frames),
        )

    def _not_before(self) -> float | None:
        due_at = self.job.available_at
        return due_at if self.now < due_at < math.inf else None  # else it waits for no time

    def _notes(self) -> Iterator[str]:
        if self.admitted is None or self.choice is None or self.probe is None:
            return
        note = self.admitted.prepared.note
        if self.wanted is not None and len(self.wanted.frames) > 1:
            yield f"{len(self.wanted.frames)} frames, each a result"
            note = _OF_FRAMES.sub("", note)
        if self.wanted is not None and self.wanted.left_out:
            yield f"left out, too small: page {', '.join(map(str, self.wanted.left_out))}"
        if note:
            yield note
        if self.probe.bits > BITS_RETURNED:
            yield f"{self.probe.bits} bits a channel become {BITS_RETURNED}"
        asked, sent = self.choice.parameters, self.admitted.parameters
        if sent.scale != asked.scale:
            yield f"scale lowered from {asked.scale:g} to {sent.scale:g} to fit"
        dropped = asked.as_mapping().keys() - sent.as_mapping().keys()
        if dropped:
            yield f"without {', '.join(sorted(dropped))}, which the server does not have"
