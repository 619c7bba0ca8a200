"""What was seen on the wire, and what it means for the money: every cell of the table."""

import itertools
import json
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from venice_watch.job import Charge
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
from venice_watch.simulator.answers import invalid
from venice_watch.simulator.contract import ContractName, find_issues
from venice_watch.venice.classify import (
    WORDS_MAX,
    Exchange,
    Phase,
    classify,
    describe,
    fits,
)

NOW = 1_780_000_000.0
PAGE = b"<!DOCTYPE html><html><head><title>502: Bad gateway</title></head></html>"
HTML = {"content-type": "text/html; charset=UTF-8"}
OWN = b'{"error": "in its own words"}'
SENT, WANTED = (400, 300), (800, 600)


def judge(
    status: int | None = None,
    body: bytes = b"",
    *,
    phase: Phase = Phase.ANSWERED,
    headers: dict[str, str] | None = None,
    size: tuple[int, int] | None = None,
    broken: str | None = None,
    error: str | None = None,
) -> Outcome:
    """Classify one exchange about an image of 400 x 300 at scale 2."""
    seen = Exchange(
        phase=phase,
        status=status,
        headers=headers or {},
        body=body,
        size=size,
        broken=broken,
        error=error,
    )
    return classify(seen, wanted=WANTED, sent=SENT, now=NOW)


# Silence.


@pytest.mark.parametrize(
    ("phase", "kind", "charge"),
    [
        (Phase.CONNECTING, Unsent, Charge.NONE),
        (Phase.SENDING, Unsent, Charge.NONE),
        (Phase.SENT, Doubtful, Charge.UNKNOWN),
        (Phase.ANSWERING, Doubtful, Charge.UNKNOWN),
        (Phase.ANSWERED, Doubtful, Charge.UNKNOWN),
    ],
)
def test_silence(phase: Phase, kind: type, charge: Charge) -> None:
    """Without an answer only a body that did not leave whole is certainly free."""
    outcome = judge(phase=phase, error="ConnectError: refused")
    assert type(outcome) is kind
    assert outcome.charge is charge
    assert "ConnectError: refused" in outcome.words
    assert outcome.status is None


# Every status, in the API's own words, in a proxy's, and in none.

TABLE: list[tuple[tuple[int, ...], type, type]] = [
    # statuses, in JSON, as a web page or empty
    ((400, 406, 413, 415, 418, 422), Rejected, Rejected),
    ((401, 402, 403), AccountRefused, AccountRefused),
    ((300, 301, 302, 303, 304, 307, 308, 404, 405, 407, 410), AccountRefused, AccountRefused),
    ((408, 409, 421, 425), Unsent, Unsent),
    ((429,), Throttled, Throttled),
    ((500,), ServerFailed, Doubtful),
    ((503,), Unavailable, Doubtful),
    ((501, 502, 504, 520, 522, 524, 530, 599), Doubtful, Doubtful),
    ((521, 523, 525, 526), Unsent, Unsent),
    ((200, 201, 202, 204, 206, 226), Doubtful, Doubtful),
]
CELLS = [
    (status, body, headers, kind)
    for statuses, own, foreign in TABLE
    for status in statuses
    for body, headers, kind in (
        (OWN, {"content-type": "application/json"}, own),
        (PAGE, HTML, foreign),
        (b"", {}, foreign),
        (OWN[:-3], {"content-type": "application/json"}, foreign),  # cut off
        (b"[]", {}, foreign),
        (b'"text"', {}, foreign),
    )
]


@pytest.mark.parametrize("phase", [Phase.ANSWERING, Phase.ANSWERED])
@pytest.mark.parametrize(("status", "body", "headers", "kind"), CELLS)
def test_status(
    phase: Phase, status: int, body: bytes, headers: dict[str, str], kind: type
) -> None:
    """Each status means one thing in the API's words, and perhaps another in a proxy's."""
    outcome = judge(status, body, phase=phase, headers={**headers, "cf-ray": "8f2-VIE"})
    assert type(outcome) is kind
    assert (outcome.status, outcome.request_id) == (status, "8f2-VIE")
    assert outcome.words
    assert outcome.words.isprintable()


@given(status=st.integers(100, 999), body=st.sampled_from([OWN, PAGE, b""]))
def test_never_free_without_its_word(status: int, body: bytes) -> None:
    """No status is taken for free but a refusal, a wait, and the API's or the proxy's word."""
    outcome = judge(status, body)
    if outcome.charge is Charge.NONE and not 300 <= status < 500:
        assert status in (521, 523, 525, 526) or (status in (500, 503) and body == OWN)
    assert outcome.charge is not Charge.CHARGED


# 200.


def test_success() -> None:
    """A whole image of the wanted size was charged, and is the result."""
    outcome = judge(200, size=(800, 600), headers={"cf-ray": "abc"})
    assert outcome == Succeeded(
        width=800, height=600, words="HTTP 200", status=200, request_id="abc"
    ) or outcome == Succeeded(width=800, height=600, status=200, request_id="abc")
    assert outcome.charge is Charge.CHARGED


@pytest.mark.parametrize("size", [(800, 600), (799, 600), (801, 601), (801, 599)])
def test_size_in_order(size: tuple[int, int]) -> None:
    """A side may be off by one: servers round either way."""
    assert isinstance(judge(200, size=size), Succeeded)


@pytest.mark.parametrize(
    "size",
    [
        (400, 300),
        (200, 150),
        (1600, 1200),
        (600, 800),
        (800, 500),
        (802, 600),
        (802, 601),
        (801, 602),
        (640, 480),
        (1, 1),
    ],
)
def test_size_out_of_order(size: tuple[int, int]) -> None:
    """Any other size was charged and is of no use."""
    outcome = judge(200, size=size)
    assert isinstance(outcome, Lost)
    assert outcome.charge is Charge.LOST
    assert f"{size[0]} x {size[1]}" in outcome.words


@pytest.mark.parametrize("error", [None, "ReadTimeout"])
def test_broken_image(error: str | None) -> None:
    """An image that is cut off or damaged was charged and is lost."""
    outcome = judge(200, broken="the answer ended early", error=error)
    assert isinstance(outcome, Lost)
    assert "ended early" in outcome.words


@pytest.mark.parametrize(
    ("size", "fitting"),
    [
        ((4_800, 3_400), True),
        ((4_500, 3_188), True),
        ((4_500, 3_187), True),
        ((2_402, 1_701), True),
        ((2_400, 1_700), False),  # what was sent
        ((1_200, 850), False),
        ((4_500, 3_180), False),
        ((4_801, 3_402), False),
        ((4_802, 3_401), False),
        ((5_000, 3_542), False),
        ((3_188, 4_500), False),
    ],
)
def test_reduced_near_the_limit(size: tuple[int, int], *, fitting: bool) -> None:
    """A result near the limit may be reduced in proportion, but never down to its source."""
    assert fits(size, (4_800, 3_400), (2_400, 1_700)) is fitting


@given(
    width=st.integers(64, 3_000),
    height=st.integers(64, 3_000),
    scale=st.integers(100, 400),
    reduced=st.floats(0.1, 1),
)
def test_reduced_in_proportion(width: int, height: int, scale: int, reduced: float) -> None:
    """A reduction that rounds either way fits where there was a reason for it."""
    wanted = round(width * scale / 100), round(height * scale / 100)
    size = int(wanted[0] * reduced), int(wanted[1] * reduced)
    close = abs(size[0] - wanted[0]) <= 1 and abs(size[1] - wanted[1]) <= 1
    believed = wanted[0] * wanted[1] >= 12_582_912 and size[0] > width and size[1] > height
    assert fits(size, wanted, (width, height)) is (believed or close)


def test_enhanced_only() -> None:
    """An image of its own size is a result only where no more was asked for."""
    assert fits((400, 300), (400, 300), (400, 300))
    assert fits((399, 301), (400, 300), (400, 300))
    assert not fits((400, 300), (500, 375), (400, 300))


# 429, three kinds.


def throttled(text: str, **headers: str) -> Throttled:
    """Return what a 429 with these words and headers means."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    outcome = judge(429, json.dumps({"error": text}).encode(), headers=named)
    assert isinstance(outcome, Throttled)
    return outcome


def test_error_budget() -> None:
    """Too many failures stop everything for 30 s, whatever the headers say."""
    words = "Too many failed attempts (> 20) resulting in a non-success status code."
    outcome = throttled(words, retry_after="1")
    assert (outcome.kind, outcome.after_s) == (Throttle.ERROR_BUDGET, 30.0)


@pytest.mark.parametrize("words", ["The model is currently overloaded.", "At capacity"])
def test_overload(words: str) -> None:
    """An overloaded model waits for Retry-After, or the API's own default of 30 s."""
    assert throttled(words).after_s == 30.0
    named = throttled(words, retry_after="12", x_ratelimit_reset_requests=f"{NOW + 99:.0f}")
    assert (named.kind, named.after_s) == (Throttle.OVERLOAD, 12.0)


def test_rate() -> None:
    """The request rate waits for Retry-After, else for the reset, else for 5 s."""
    reset = f"{NOW + 42:.0f}"
    both = throttled("Rate limit exceeded", retry_after="7", x_ratelimit_reset_requests=reset)
    assert (both.kind, both.after_s) == (Throttle.RATE, 7.0)
    only = throttled("Rate limit exceeded", x_ratelimit_reset_requests=reset)
    assert only.after_s == pytest.approx(42.0)
    assert throttled("Rate limit exceeded").after_s == 5.0
    assert judge(429).after_s == 5.0  # type: ignore[union-attr]  # an empty 429 is the rate's


# What a refusal blames.

ZOD_3_UNKNOWN = "Unrecognized key(s) in object: 'creativity'"
ZOD_4_UNKNOWN = 'Unrecognized key: "creativity"'


def details(own: tuple[str, ...] = (), **fields: str) -> bytes:
    """Return a validation error as Zod formats it."""
    entries = {name: {"_errors": [words]} for name, words in fields.items()}
    return json.dumps(
        {"error": "Invalid request parameters", "details": {"_errors": own, **entries}}
    ).encode()


@pytest.mark.parametrize(
    ("body", "blames"),
    [
        (details((ZOD_3_UNKNOWN,)), Blame.FIELD),
        (details((ZOD_4_UNKNOWN,)), Blame.FIELD),
        (details(('Unrecognized keys: "enhance", "replication"',)), Blame.FIELD),
        (details((ZOD_3_UNKNOWN,), scale="Number must be greater than or equal to 2"), Blame.FIELD),
        (b'{"error": "Unknown field: replication"}', Blame.FIELD),
        (b'{"error": "unknown parameter `enhance`"}', Blame.FIELD),
        (b'{"error": "body must NOT have additional properties"}', Blame.FIELD),
        (details(scale="Number must be greater than or equal to 2"), Blame.VALUE),
        (details(scale="Too small: expected number to be >=2"), Blame.VALUE),
        (details(scale="Scale must be greater than 1 when enhance is false"), Blame.VALUE),
        (details(enhancePrompt="String must contain at most 1500 character(s)"), Blame.VALUE),
        (details(creativity="Expected number, received string", image="Required"), Blame.VALUE),
        (details(image="Required"), Blame.IMAGE),
        (details(), Blame.IMAGE),
        (b'{"error": "Image could not be processed: it may be corrupt"}', Blame.IMAGE),
        (b'{"error": "Image is too large after scaling"}', Blame.IMAGE),
        (b'{"error": "Image must be at least 65536 pixels"}', Blame.IMAGE),
        (b'{"error": "Upscaled image violates the content policy"}', Blame.IMAGE),
        (b'{"error": "nothing of my scale"}', Blame.IMAGE),
        (b"", Blame.IMAGE),
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_blame(status: int, body: bytes, blames: Blame) -> None:
    """A refusal speaks of a field nobody knows, of a parameter's value, or of the image."""
    outcome = judge(status, body)
    assert isinstance(outcome, Rejected)
    assert outcome.blames is blames


@pytest.mark.parametrize("contract", get_args(ContractName))
@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 1.0},
        {"scale": 9.0},
        {"scale": "x"},
        {"scale": 1.0, "enhance": "true"},
        {"enhance": "perhaps"},
        {"enhanceCreativity": 7.0},
        {"enhancePrompt": "x" * 2_000},
        {"replication": -1.0},
        {"creativity": 0.01},
        {"creativity": "much"},
        {"sharpness": 1.0},
    ],
)
def test_blame_of_what_the_simulator_says(
    contract: ContractName, fields: dict[str, object]
) -> None:
    """Each refusal of parameters, by either contract, is understood: no image is blamed for it."""
    issues = find_issues(fields, contract=contract, strict=True)
    outcome = judge(400, invalid(issues).body)
    assert isinstance(outcome, Rejected)
    unknown = any(issue.field is None for issue in issues)
    refused = Blame.FIELD if unknown else Blame.VALUE
    assert outcome.blames is (refused if issues else Blame.IMAGE)


# Waiting times.


def test_unavailable_names_its_wait() -> None:
    """A 503 hands on what it asks for, and nothing where it asks for nothing."""
    named = judge(503, OWN, headers={"retry-after": "33"})
    assert isinstance(named, Unavailable)
    assert named.after_s == 33.0
    silent = judge(503, OWN)
    assert isinstance(silent, Unavailable)
    assert silent.after_s is None


# Words.


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "text"}', "text"),
        (b'{"error": {"message": "m", "type": "t", "param": null, "code": "C"}}', "m"),
        (b'{"error": {"code": "C"}}', "C"),
        (b'{"message": "m"}', "m"),
        (b'{"error": "e", "details": "plain"}', "e; plain"),
        (
            b'{"error": "e", "details": {"_errors": [], "scale": {"_errors": ["a", "b"]}}}',
            "e; scale: a, b",
        ),
        (b'{"error": "a\\n\\u001b[31mred\\u2028b\\ud800"}', "a [31mred b"),
        (PAGE, "a web page, '502: Bad gateway'"),
        (b"<p>no title", "a web page"),
        (b" plain\r\n text ", "plain text"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"{}", ""),
        (b"", ""),
    ],
)
def test_words(body: bytes, words: str) -> None:
    """The server's words come out in one printable line, whatever shape they had."""
    assert describe({}, body) == words


def test_words_are_bounded() -> None:
    """A flood of words is cut, and says so."""
    words = describe({}, json.dumps({"error": "x" * 10_000}).encode())
    assert len(words) == WORDS_MAX
    assert words.endswith("…")


@pytest.mark.parametrize("depth", [10, 500, 900, 980, 990, 995, 1_000, 100_000])
@pytest.mark.parametrize(
    ("before", "opening", "closing", "after"),
    [
        (b'{"error":', b"[", b"]", b"}"),
        (b'{"error":{"message":', b'{"a":', b"}", b"}}"),
        (b'{"details":{"a":{"_errors":[', b"[", b"]", b"]}}}"),
    ],
)
def test_deep_words(
    depth: int, before: bytes, opening: bytes, closing: bytes, after: bytes
) -> None:
    """JSON of any depth is survived."""
    inner = b"1" if opening == b'{"a":' else b""
    body = before + opening * depth + inner + closing * depth + after
    assert len(describe({}, body)) <= WORDS_MAX


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "details", "message", "code", "_errors", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40) | (
    st.integers(-(10**30), 10**30).map(str)
)


@given(
    phase=st.sampled_from(Phase),
    status=st.none() | st.integers(100, 999),
    body=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(
        st.sampled_from(
            ["retry-after", "date", "x-ratelimit-reset-requests", "content-type", "cf-ray"]
        ),
        header_values,
    ),
)
@example(Phase.ANSWERED, 429, b"", {"retry-after": "1 Jan 2026 0:0:0 -0000"})
@example(Phase.ANSWERED, 429, b"", {"retry-after": "Mon, 31 Dec 9999 23:59:59 -2359"})
def test_anything(phase: Phase, status: int | None, body: bytes, headers: dict[str, str]) -> None:
    """Whatever a server says is classified, with bounded waits and printable words."""
    outcome = judge(status, body, phase=phase, headers=headers)
    assert outcome.words.isprintable()
    if isinstance(outcome, Throttled | Unavailable) and outcome.after_s is not None:
        assert 1.0 <= outcome.after_s <= 120.0
    assert outcome.status == status


def test_table_is_complete() -> None:
    """The documentation's statuses all have their cell here."""
    documented = {200, 400, 401, 402, 403, 413, 415, 422, 429, 500, 502, 503, 504, *range(520, 527)}
    assert documented <= set(itertools.chain.from_iterable(row[0] for row in TABLE))
