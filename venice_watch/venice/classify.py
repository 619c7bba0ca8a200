"""The table from what was seen on the wire to what it means: pure, and closed.

One question decides: can the server have charged for it? Sources: the API's documentation and
the behaviour its clients record. 4xx and 503 in the API's own words were not charged; whatever a
proxy says after the whole request went out tells nothing about the money.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, auto

from venice_watch.outcome import (
    AccountRefused,
    Blame,
    Doubtful,
    Lost,
    Outcome,
    Rejected,
    ServerFailed,
    Succeeded,
    Throttle,
    Throttled,
    Unavailable,
    Unsent,
)
from venice_watch.parameters import NAMES, RESULT_PIXELS_MAX
from venice_watch.venice.headers import read_reset_s, read_wait_s

WORDS_MAX = 500  # characters of the server's words that are kept
RATE_WAIT_S = 5.0  # after a 429 that names no time
OVERLOAD_WAIT_S = 30.0  # the API's own default
ERROR_BUDGET_WAIT_S = 30.0  # everything is refused for 30 s
REFUSED_BY_PROXY = frozenset({521, 523, 525, 526})  # it never reached the API
REDUCED_FROM_PIXELS = RESULT_PIXELS_MAX * 3 // 4  # a smaller result needs no reduction
TRY_AGAIN = frozenset({408, 409, 421, 425})  # the server did not come to look at the image
ACCOUNT = frozenset({401, 402, 403})
UNKNOWN_FIELD = re.compile(
    r"unrecogni[sz]ed key|unknown (?:field|parameter|key)|additional propert", re.IGNORECASE
)
PARAMETER_NAMED = re.compile(rf"\b(?:{'|'.join(NAMES)}): ")  # as `describe` puts a field's errors
NOT_THE_API = frozenset({*range(300, 400), 404, 405, 407, 410})


class Phase(IntEnum):
    """How far a request came."""

    CONNECTING = auto()
    SENDING = auto()
    SENT = auto()  # the whole body went out
    ANSWERING = auto()  # the status line and headers came
    ANSWERED = auto()  # the whole body came


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What was seen of one request, free of secrets."""

    phase: Phase
    status: int | None = None
    sent_whole: bool = True  # False: an answer came before the whole body had left
    headers: Mapping[str, str]  # lower-case names
    body: bytes = b""  # the beginning of an answer that is no image
    size: tuple[int, int] | None = None  # of a whole, verified image
    broken: str | None = None  # why the image is no whole PNG
    error: str | None = None  # what the transport said
    bug: Exception | None = None  # what went wrong on our side


def classify(
    exchange: Exchange, *, wanted: tuple[int, int], sent: tuple[int, int], now: float
) -> Outcome:
    """Return what an upscale request came to.

    `wanted` is the result's (width, height) as asked for, `sent` the source's.
    """
    request_id = exchange.headers.get("cf-ray")
    if exchange.status is None:
        return _classify_silence(exchange)
    words = describe(exchange.headers, exchange.body)
    words = words or exchange.error or f"HTTP {exchange.status}"
    if exchange.status == 200:  # noqa: PLR2004
        outcome = _classify_success(exchange, words, wanted, sent)
    elif exchange.status == 429:  # noqa: PLR2004
        outcome = _classify_throttle(exchange.headers, words, now)
    elif exchange.status < 300:  # noqa: PLR2004 - accepted, and yet no image
        outcome = Doubtful(words=f"HTTP {exchange.status} without an image: {words}")
    elif exchange.status < 500:  # noqa: PLR2004
        outcome = _classify_refusal(exchange.status, words)
    else:
        outcome = _classify_failure(exchange, words, now)
    return replace(outcome, status=exchange.status, request_id=request_id)


def _classify_silence(exchange: Exchange) -> Outcome:
    words = exchange.error or "the connection ended"
    if exchange.phase < Phase.SENT:
        return Unsent(words=words)
    return Doubtful(words=f"no answer after the whole request was sent: {words}")


def _classify_success(
    exchange: Exchange, words: str, wanted: tuple[int, int], sent: tuple[int, int]
) -> Outcome:
    """Judge a 200: it was charged if it carries an image, and may have been if it does not."""
    if exchange.size is not None:
        width, height = exchange.size
        if fits(exchange.size, wanted, sent):
            return Succeeded(width=width, height=height)
        return Lost(
            words=f"the result is {width} x {height}, and {wanted[0]} x {wanted[1]} was asked for"
        )
    if exchange.broken is not None:
        return Lost(words=f"the result is no whole PNG: {exchange.broken}")
    return Doubtful(words=f"HTTP 200 without an image: {words}")


def _classify_refusal(status: int, words: str) -> Outcome:
    """Judge a 3xx or 4xx: nothing was charged; whose fault is it?"""
    if status in ACCOUNT:
        return AccountRefused(words=f"HTTP {status}: {words}")
    if status in NOT_THE_API:
        return AccountRefused(
            words=f"HTTP {status} from the upscale address: {words}. Check `api.base_url`."
        )
    if status in TRY_AGAIN:
        return Unsent(words=f"HTTP {status}: {words}")
    return Rejected(words=words, blames=_find_blame(words))


def _find_blame(words: str) -> Blame:
    """Tell what a refusal is about: another contract may be behind one about parameters."""
    if UNKNOWN_FIELD.search(words):
        return Blame.FIELD
    return Blame.VALUE if PARAMETER_NAMED.search(words) else Blame.IMAGE


def _classify_failure(exchange: Exchange, words: str, now: float) -> Outcome:
    """Judge a 5xx: in the API's own words it was not charged; in a proxy's it is unknown."""
    own_words = parse_json(exchange.body) is not None
    if exchange.status in REFUSED_BY_PROXY:
        return Unsent(words=f"HTTP {exchange.status} from the proxy in front: {words}")
    if exchange.status == 503 and own_words:  # noqa: PLR2004
        return Unavailable(words=words, after_s=read_wait_s(exchange.headers, now))
    if exchange.status == 500 and own_words:  # noqa: PLR2004
        return ServerFailed(words=words)
    if not exchange.sent_whole:
        return Unsent(words=f"HTTP {exchange.status} before the whole request was sent: {words}")
    return Doubtful(words=f"HTTP {exchange.status}: {words}")


def _classify_throttle(headers: Mapping[str, str], words: str, now: float) -> Throttled:
    lower = words.lower()
    if "failed attempts" in lower:
        return Throttled(words=words, kind=Throttle.ERROR_BUDGET, after_s=ERROR_BUDGET_WAIT_S)
    named_s = read_wait_s(headers, now)
    if "overload" in lower or "capacity" in lower:
        after_s = OVERLOAD_WAIT_S if named_s is None else named_s
        return Throttled(words=words, kind=Throttle.OVERLOAD, after_s=after_s)
    if named_s is None:
        named_s = read_reset_s(headers, now)
    after_s = RATE_WAIT_S if named_s is None else named_s
    return Throttled(words=words, kind=Throttle.RATE, after_s=after_s)


def fits(size: tuple[int, int], wanted: tuple[int, int], sent: tuple[int, int]) -> bool:
    """Tell whether a result is as asked for, or reduced in proportion (the server may).

    A side may be off by one pixel: servers round either way. A reduction is believed only near
    the API's limit, and never down to what was sent: anything else is not what was paid for.
    """
    (width, height), (wanted_width, wanted_height) = size, wanted
    if abs(width - wanted_width) <= 1 and abs(height - wanted_height) <= 1:
        return True
    if width > wanted_width + 1 or height > wanted_height + 1:
        return False
    near_limit = wanted_width * wanted_height >= REDUCED_FROM_PIXELS
    if not near_limit or width <= sent[0] or height <= sent[1]:
        return False
    off_height = abs(height - width * wanted_height / wanted_width)
    off_width = abs(width - height * wanted_width / wanted_height)
    return min(off_height, off_width) <= 1


def parse_json(body: bytes) -> dict[str, object] | None:
    """Return a JSON object, or None where the body is anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def describe(headers: Mapping[str, str], body: bytes) -> str:
    """Return the server's words in one readable line."""
    value = parse_json(body)
    if value is None:
        return _describe_text(headers, body)
    error = value.get("error")
    parts = []
    if isinstance(error, dict):
        parts.append(str(error.get("message") or error.get("code") or ""))
    elif error:
        parts.append(str(error))
    elif value.get("message"):
        parts.append(str(value["message"]))
    details = value.get("details")
    if isinstance(details, str):
        parts.append(details)
    elif isinstance(details, dict):
        own = details.get("_errors")  # of the request as a whole: fields it does not know
        parts += map(str, own) if isinstance(own, list) else ()
        parts += [
            f"{key}: {', '.join(map(str, entry['_errors']))}"
            for key, entry in details.items()
            if isinstance(entry, dict) and isinstance(entry.get("_errors"), list)
        ]
    return _one_line("; ".join(part for part in parts if part))


def is_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether an answer is a web page: not the API's, but of something in front of it."""
    return "html" in headers.get("content-type", "") or body.lstrip()[:1] == b"<"


def _describe_text(headers: Mapping[str, str], body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    if is_page(headers, body):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
        text = f"a web page, {title.group(1)!r}" if title else "a web page"
    return _one_line(text)


def _one_line(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= WORDS_MAX else text[: WORDS_MAX - 1] + "…"
