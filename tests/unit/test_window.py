"""The sliding window: exact, against a naive model that forgets nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from venice_watch.venice.window import SlidingWindow

SECONDS = 62.0
START = 1_000.0
SOON_S = 0.001  # the shortest wait there is, and what rounding may cost
# whole numbers meet the edges; others meet the rounding
spans_s = st.integers(0, 130).map(float) | st.floats(0, 130)


class Windows(RuleBasedStateMachine):
    """Two windows that live through the same: ours, and a list of all that ever happened."""

    def __init__(self) -> None:
        super().__init__()
        self.window = SlidingWindow(SECONDS)
        self.model: list[float] = []
        self.now = START

    def inside(self, at: float) -> list[float]:
        """Return what the model has within the window that ends at a time, in order."""
        return sorted(one for one in self.model if one > at - SECONDS)

    @rule(seconds=spans_s)
    def pass_time(self, seconds: float) -> None:
        """Let time pass, over the whole window or a part of it."""
        self.now += seconds

    @rule(age_s=st.just(0.0) | spans_s)
    def add(self, age_s: float) -> None:
        """Add what happened now or a while ago, perhaps too long ago."""
        self.window.add(self.now - age_s)
        self.model.append(self.now - age_s)

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """Forget one of those there are or were, or one that never was."""
        at = data.draw(st.sampled_from([*self.model, self.now + 1.0]))
        self.window.discard(at)
        if at in self.model:
            self.model.remove(at)

    @invariant()
    def counts(self) -> None:
        """Both count the same."""
        assert self.window.count(self.now) == len(self.inside(self.now))

    @rule(most=st.integers(1, 12))
    def wait(self, most: int) -> None:
        """Wait as long as it takes for room to come, and no longer."""
        wait_s = self.window.wait_s(most, self.now)
        there = self.inside(self.now)
        if len(there) < most:
            assert wait_s == 0.0
            return
        expected_s = there[-most] + SECONDS - self.now
        assert wait_s == pytest.approx(max(SOON_S, expected_s))
        assert len(self.inside(self.now + wait_s + SOON_S)) < most
        if wait_s > 2 * SOON_S:
            assert len(self.inside(self.now + wait_s - SOON_S)) >= most

    @rule()
    def oldest(self) -> None:
        """See when there is one fewer; never where there is none."""
        leaves_s = self.window.oldest_leaves_s(self.now)
        there = self.inside(self.now)
        if not there:
            assert leaves_s is None
        else:
            assert leaves_s == pytest.approx(max(SOON_S, there[0] + SECONDS - self.now))


TestWindows = Windows.TestCase


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=30), st.integers(1, 5))
def test_waiting_ends(times: list[float], most: int) -> None:
    """Who waits as long as was said, again and again, has room after a few times at most."""
    window = SlidingWindow(SECONDS)
    for at in times:
        window.add(at)
    now = max(times)
    for _ in range(4):  # rounding asks for a second and a third look
        wait_s = window.wait_s(most, now)
        if wait_s == 0:
            break
        now += wait_s
    assert window.count(now) < most


def test_edges() -> None:
    """What happened exactly the window's length ago has left it; a millisecond later is inside."""
    window = SlidingWindow(SECONDS)
    window.add(START)
    assert window.count(START + SECONDS - SOON_S) == 1
    assert window.count(START + SECONDS) == 0


def test_no_wait_of_nothing() -> None:
    """A wait is never so short that who waits would ask again at the same moment for ever."""
    window = SlidingWindow(SECONDS)
    window.add(0.1 + 0.2)
    now = math.nextafter(0.1 + 0.2 + SECONDS, 0)
    assert window.count(now) == 1
    assert window.wait_s(1, now) == SOON_S
    assert window.oldest_leaves_s(now) == SOON_S


def test_memory_is_bounded() -> None:
    """Where nobody asks for the count, because no rate is known, nothing piles up either."""
    window = SlidingWindow(SECONDS)
    for second in range(10_000):
        window.add(float(second))
    assert len(window._times) <= SECONDS


def test_many_at_once() -> None:
    """So many at a time are added as one by one, but quickly: a stranger names the number."""
    window = SlidingWindow(SECONDS)
    window.add(START + 1)
    window.add(START, times=999_999)
    assert window.count(START + 1) == 1_000_000
    assert window.wait_s(2, START + 1) == SECONDS - 1
    assert window.count(START + SECONDS) == 1
