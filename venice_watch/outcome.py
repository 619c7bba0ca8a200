"""What a request came to, as a closed set, each with what it means for the money.

The client's table (`venice.classify`) makes these from what was seen on the wire; `retry` decides
on them. `words` are the server's own, already free of secrets and cut to a readable length.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from venice_watch.job import Charge


class Throttle(StrEnum):
    """Which of the API's three kinds of 429 was met."""

    RATE = "rate"
    OVERLOAD = "overload"
    ERROR_BUDGET = "error_budget"


class Blame(StrEnum):
    """What a refusal is said to be about."""

    IMAGE = "image"
    VALUE = "value"  # of one of the parameters
    FIELD = "field"  # one that the server does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    words: str = ""
    status: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded(_Answer):
    """200 and a whole, fitting image."""

    name: ClassVar[str] = "succeeded"
    charge: ClassVar[Charge] = Charge.CHARGED
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent(_Answer):
    """The request did not leave whole, or a proxy says it reached nobody."""

    name: ClassVar[str] = "unsent"
    charge: ClassVar[Charge] = Charge.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled(_Answer):
    """429: asked to wait; nobody's fault and no attempt."""

    name: ClassVar[str] = "throttled"
    charge: ClassVar[Charge] = Charge.NONE
    kind: Throttle
    after_s: float  # what the server named, made sane


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable(_Answer):
    """503 in the API's own words: at capacity or offline."""

    name: ClassVar[str] = "unavailable"
    charge: ClassVar[Charge] = Charge.NONE
    after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFailed(_Answer):
    """500 in the API's own words: it failed at this image, and says so."""

    name: ClassVar[str] = "server_failed"
    charge: ClassVar[Charge] = Charge.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(_Answer):
    """400, 413, 415, 422: this request will never be accepted."""

    name: ClassVar[str] = "rejected"
    charge: ClassVar[Charge] = Charge.NONE
    blames: Blame = Blame.IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRefused(_Answer):
    """401, 402, 403, or an address that is not the API's: no image can be sent, by anybody."""

    name: ClassVar[str] = "account_refused"
    charge: ClassVar[Charge] = Charge.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubtful(_Answer):
    """The whole request went out, and what came back does not say whether it was charged."""

    name: ClassVar[str] = "doubtful"
    charge: ClassVar[Charge] = Charge.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(_Answer):
    """200, so charged, but the image is broken, short, or has the wrong size."""

    name: ClassVar[str] = "lost"
    charge: ClassVar[Charge] = Charge.LOST


Failure = (
    Unsent | Throttled | Unavailable | ServerFailed | Rejected | AccountRefused | Doubtful | Lost
)
Outcome = Succeeded | Failure
