"""When what waits will have been sent."""

import pytest

from venice_watch.views.pace import eta_s


@pytest.mark.parametrize(
    ("images", "rate", "concurrency", "request_s", "pause_s", "expected"),
    [
        (0, None, 4, None, 9.0, 0.0),  # nothing waits
        (60, 20, 4, None, 0.0, 180.0),  # the rate alone is known
        (60, None, 4, 10.0, 0.0, 150.0),  # how long a request takes alone
        (60, 20, 4, 10.0, 0.0, 180.0),  # the slower of both: the rate
        (60, 20, 1, 10.0, 0.0, 600.0),  # the slower of both: one at a time
        (60, 20, 4, 10.0, 30.0, 210.0),  # behind a pause
        (60, None, 4, None, 0.0, None),  # nobody knows
        (60, None, 4, 0.0, 0.0, None),  # a clock that was set back has told of no time at all
    ],
)
def test_eta(
    images: int,
    rate: int | None,
    concurrency: int,
    request_s: float | None,
    pause_s: float,
    expected: float | None,
) -> None:
    """The rate decides, or how many are under way at once and for how long, by what is slower."""
    found = eta_s(
        images,
        requests_per_minute=rate,
        concurrency=concurrency,
        request_s=request_s,
        pause_s=pause_s,
    )
    assert found == expected
