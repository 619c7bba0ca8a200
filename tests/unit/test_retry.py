"""What becomes of a request that failed: every outcome, before and after its limits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.errors import Code
from venice_watch.outcome import (
    AccountRefused,
    Doubtful,
    Failure,
    Lost,
    Rejected,
    ServerFailed,
    Throttle,
    Throttled,
    Unavailable,
    Unsent,
)
from venice_watch.retry import Decision, Discard, Halt, Past, Policy, Resend, RetryAt, decide

POLICY = Policy(attempts_max=6, base_s=1.0, max_s=120.0, resend_in_doubt=True)
HOLD = Policy(attempts_max=6, base_s=1.0, max_s=120.0, resend_in_doubt=False)
FIRST = Past(attempts=0, failures=0, server_failures=0, doubts=0)
MONEY_GONE = (Doubtful(words="no answer", status=None), Lost(words="broken", status=200))
chances = st.floats(0, 1, exclude_max=True)
failures = st.one_of(
    st.builds(Unsent),
    st.builds(Throttled, kind=st.sampled_from(Throttle), after_s=st.floats(1, 120)),
    st.builds(Unavailable, after_s=st.none() | st.floats(1, 120)),
    st.builds(ServerFailed),
    st.builds(Rejected),
    st.builds(AccountRefused),
    st.builds(Doubtful),
    st.builds(Lost),
)
pasts = st.builds(
    Past,
    attempts=st.integers(0, 10_000),
    failures=st.integers(0, 10_000),
    server_failures=st.integers(0, 10),
    doubts=st.integers(0, 10),
)


def after(
    outcome: Failure,
    past: Past = FIRST,
    policy: Policy = POLICY,
    *,
    down: bool = False,
    chance: float = 0.5,
) -> Decision:
    """Decide with the usual policy."""
    return decide(outcome, past, policy, blames_service=down, chance=chance)


def test_account() -> None:
    """A refused account stops everybody and blames no image, whatever went before."""
    late = Past(attempts=99, failures=99, server_failures=9, doubts=9)
    assert after(AccountRefused(words="HTTP 402: empty"), late) == Halt(reason="HTTP 402: empty")


def test_throttled() -> None:
    """A 429 waits for as long as the server says, and costs no attempt, ever."""
    throttled = Throttled(kind=Throttle.RATE, after_s=17.5)
    late = Past(attempts=99, failures=99, server_failures=9, doubts=9)
    assert after(throttled, late) == RetryAt(after_s=17.5, counted=False)


def test_rejected() -> None:
    """A refused image is given up at once, with the server's words and status."""
    verdict = after(Rejected(words="the image is corrupt", status=422))
    assert verdict == Discard(
        code=Code.REJECTED, message="Venice refused it (HTTP 422): the image is corrupt"
    )


@pytest.mark.parametrize("outcome", MONEY_GONE)
def test_one_resend(outcome: Failure) -> None:
    """Work whose money is in doubt is sent once more, and not a third time."""
    assert after(outcome) == Resend(after_s=0.5)
    again = after(outcome, Past(attempts=1, failures=1, server_failures=0, doubts=1))
    assert isinstance(again, Discard)
    assert again.code is Code.IN_DOUBT
    assert "second time" in again.message


@pytest.mark.parametrize("outcome", MONEY_GONE)
def test_hold(outcome: Failure) -> None:
    """With `on_in_doubt: hold` nothing that may have been charged is ever sent again."""
    verdict = after(outcome, policy=HOLD)
    assert isinstance(verdict, Discard)
    assert verdict.code is Code.IN_DOUBT
    assert "`hold`" in verdict.message


def test_doubt_outlives_an_outage() -> None:
    """An outage is no reason to send doubtful work a third time."""
    verdict = after(Doubtful(), replace(FIRST, doubts=1), down=True)
    assert isinstance(verdict, Discard)


def test_lost_says_that_it_was_charged() -> None:
    """The message tells what certainly cost money from what may have."""
    held = [after(outcome, policy=HOLD) for outcome in MONEY_GONE]
    messages = [verdict.message for verdict in held if isinstance(verdict, Discard)]
    assert ["may have been" in message for message in messages] == [True, False]


def test_server_failed() -> None:
    """A 500 is tried again after 30 s and after 120 s, then the image is given up as failed."""
    outcome = ServerFailed(words="UPSCALE_FAILED", status=500)
    seen = [
        after(outcome, Past(attempts=count, failures=count, server_failures=count, doubts=0))
        for count in range(3)
    ]
    assert seen[:2] == [RetryAt(after_s=30.0, counted=True), RetryAt(after_s=120.0, counted=True)]
    assert isinstance(seen[2], Discard)
    assert seen[2].code is Code.FAILED
    assert "3 times (HTTP 500): UPSCALE_FAILED" in seen[2].message


def test_attempts_bind_every_counted_retry() -> None:
    """`attempts: 1` means one attempt, after a 500 as well."""
    once = Policy(attempts_max=1, base_s=1.0, max_s=120.0, resend_in_doubt=True)
    for outcome in (ServerFailed(), Unsent(), Unavailable()):
        assert isinstance(after(outcome, policy=once), Discard), outcome


@pytest.mark.parametrize("outcome", [Unsent(words="refused"), Unavailable(words="at capacity")])
def test_gives_up(outcome: Failure) -> None:
    """The last allowed attempt is the last, and the message says that nothing was charged."""
    fifth = after(outcome, Past(attempts=4, failures=4, server_failures=0, doubts=0))
    assert isinstance(fifth, RetryAt)
    assert fifth.counted
    sixth = after(outcome, Past(attempts=5, failures=5, server_failures=0, doubts=0))
    assert isinstance(sixth, Discard)
    assert sixth.code is Code.FAILED
    assert "gave up after 6 attempts" in sixth.message
    assert "Nothing was charged" in sixth.message


@pytest.mark.parametrize("outcome", [Unsent(), Unavailable()])
def test_outage_blames_no_image(outcome: Failure) -> None:
    """While the service is down no attempt is counted, and no image is given up."""
    verdict = after(outcome, replace(FIRST, attempts=500, failures=500), down=True)
    assert isinstance(verdict, RetryAt)
    assert not verdict.counted


@pytest.mark.parametrize(
    ("attempts", "most_s"), [(0, 1.0), (1, 2.0), (2, 4.0), (6, 64.0), (7, 120.0), (10_000, 120.0)]
)
def test_backoff(attempts: int, most_s: float) -> None:
    """Waiting doubles up to its limit, and chance spreads it over the whole span."""
    past = Past(attempts=attempts, failures=attempts, server_failures=0, doubts=0)
    policy = Policy(attempts_max=100_000, base_s=1.0, max_s=120.0, resend_in_doubt=True)
    assert after(Unsent(), past, policy, chance=0.0) == RetryAt(after_s=0.0, counted=True)
    assert after(Unsent(), past, policy, chance=0.25) == RetryAt(after_s=most_s / 4, counted=True)


@pytest.mark.parametrize(
    ("named_s", "chance", "expected_s"), [(None, 0.0, 5.0), (60.0, 0.0, 60.0), (9e9, 0.0, 120.0)]
)
def test_unavailable_waits(named_s: float | None, chance: float, expected_s: float) -> None:
    """A 503 waits at least 5 s or what the server names, and never above 120 s."""
    verdict = after(Unavailable(after_s=named_s), chance=chance)
    assert verdict == RetryAt(after_s=expected_s, counted=True)


@pytest.mark.parametrize(
    ("failures_before", "least_s", "most_s"),
    [(0, 5.0, 10.0), (1, 5.0, 20.0), (3, 5.0, 80.0), (4, 5.0, 120.0), (10_000, 5.0, 120.0)],
)
def test_unavailable_spreads(failures_before: int, least_s: float, most_s: float) -> None:
    """Those whom one 503 met come back spread out: the first time between 5 and 10 s, then more."""
    past = replace(FIRST, failures=failures_before)
    for chance in (0.0, 0.25, 0.5, 1.0):
        verdict = after(Unavailable(), past, chance=chance)
        assert isinstance(verdict, RetryAt)
        assert verdict.after_s == pytest.approx(least_s + chance * (most_s - least_s))


def test_named_wait_is_a_minimum() -> None:
    """What a 503 names is waited for, and longer where the backoff says so."""
    assert after(Unavailable(after_s=7.0), chance=0.9) == RetryAt(after_s=9.5, counted=True)
    assert after(Unavailable(after_s=30.0), chance=0.9) == RetryAt(after_s=30.0, counted=True)


@pytest.mark.parametrize("outcome", [Unsent(), Unavailable()])
def test_backoff_goes_by_failures(outcome: Failure) -> None:
    """Waiting grows with all that failed, counted or not; giving up goes by what was counted."""
    seen = [after(outcome, replace(FIRST, failures=count)) for count in (0, 3, 99)]
    assert all(isinstance(verdict, RetryAt) and verdict.counted for verdict in seen)
    waits_s = [verdict.after_s for verdict in seen if isinstance(verdict, RetryAt)]
    assert waits_s == sorted(set(waits_s))
    assert after(outcome, replace(FIRST, attempts=4)) == after(outcome)
    assert isinstance(after(outcome, replace(FIRST, attempts=5)), Discard)


def test_outages_grow_longer_too() -> None:
    """While others fail as well, an image waits ever longer, and no attempt is counted."""
    waits_s = []
    for failures_before in range(9):
        past = replace(FIRST, attempts=5, failures=failures_before)
        verdict = after(Unsent(), past, down=True, chance=0.5)
        assert isinstance(verdict, RetryAt)
        assert not verdict.counted
        waits_s.append(verdict.after_s)
    assert waits_s == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize("outcome", [Rejected(status=400), ServerFailed(), *MONEY_GONE])
def test_no_outage_excuses_an_answer(outcome: Failure) -> None:
    """What was said of this image, or may have been charged, is the same in an outage."""
    assert after(outcome, down=True) == after(outcome)


@given(outcome=failures, past=pasts, down=st.booleans(), chance=chances, hold=st.booleans())
def test_always(outcome: Failure, past: Past, *, down: bool, chance: float, hold: bool) -> None:
    """Waits are finite, and only a doubt below its limit is ever sent again as a doubt."""
    verdict = after(outcome, past, HOLD if hold else POLICY, down=down, chance=chance)
    if isinstance(verdict, RetryAt | Resend):
        assert 0 <= verdict.after_s <= 120.0
    if isinstance(verdict, Resend):
        assert not hold
        assert past.doubts == 0
    if isinstance(outcome, Doubtful | Lost):
        assert isinstance(verdict, Resend | Discard)
    if isinstance(outcome, Unavailable):
        assert isinstance(verdict, Discard | RetryAt)
        assert isinstance(verdict, Discard) or verdict.after_s >= max(5.0, outcome.after_s or 0.0)
    if isinstance(outcome, Unsent | Unavailable) and down:
        assert isinstance(verdict, RetryAt)
    if isinstance(verdict, RetryAt) and verdict.counted:
        assert past.attempts + 1 < POLICY.attempts_max
