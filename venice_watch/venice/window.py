"""A sliding window: what happened within its last seconds, and when there is room again.

Exact, unlike a bucket, which lets twice the rate into one window. Times are monotonic seconds and
are given by the caller.
"""

import bisect


class SlidingWindow:
    """The times of what happened within the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: list[float] = []  # in order

    def add(self, at: float, *, times: int = 1) -> None:
        """Note that something happened, so many times; it may have been a while ago."""
        place = bisect.bisect_right(self._times, at)
        self._times[place:place] = [at] * times
        if self._times:
            self.count(self._times[-1])  # forgets: where no rate is known, nobody asks for a count

    def discard(self, at: float) -> None:
        """Forget one that was added, unless it has left the window already."""
        place = bisect.bisect_left(self._times, at)
        if place < len(self._times) and self._times[place] == at:
            del self._times[place]

    def count(self, now: float) -> int:
        """Return how much happened within the window that ends now."""
        gone = bisect.bisect_right(self._times, now - self._seconds)
        del self._times[:gone]
        return len(self._times)

    def wait_s(self, most: int, now: float) -> float:
        """Return the seconds until fewer than `most` (at least 1) are in the window."""
        if self.count(now) < most:
            return 0.0
        # never 0: a time that rounding puts at the very edge would be asked for again at once
        return max(0.001, self._times[-most] + self._seconds - now)

    def oldest_leaves_s(self, now: float) -> float | None:
        """Return the seconds until there is one fewer, or None where there are none."""
        return self.wait_s(count, now) if (count := self.count(now)) else None
