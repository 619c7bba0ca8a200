"""What the API's headers say, and what garbage in them does not."""

from email.utils import formatdate

import pytest

from venice_watch.venice.headers import Allowance, read_allowance, read_reset_s, read_wait_s

NOW = 1_780_000_000.0


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("30", 30.0),
        (" 2.5 ", 2.5),
        ("0", 1.0),
        ("-5", 1.0),
        ("86400", 120.0),
        ("1e999", 120.0),
        ("nan", 1.0),
        ("", None),
        ("soon", None),
        ("30, 30", None),
        ("Wed, 99 Foo 2026 07:28:00 GMT", None),
        ("1 Jan 2026 00:00:00 +9999999999999999", None),
        (formatdate(NOW + 40, usegmt=True), 40.0),
        (formatdate(NOW + 40), 40.0),  # ends in -0000: a date without a zone
        (formatdate(NOW - 40, usegmt=True), 1.0),
        (formatdate(NOW + 86_400, usegmt=True), 120.0),
    ],
)
def test_retry_after(text: str, expected_s: float | None) -> None:
    """Retry-After is seconds or a date, kept between 1 and 120 s; garbage names nothing."""
    assert read_wait_s({"retry-after": text}, NOW) == expected_s


@pytest.mark.parametrize("off_s", [-120.0, 120.0, 86_400.0])
def test_wrong_clock(off_s: float) -> None:
    """Dates count by the server's clock where it tells it: ours may be minutes off."""
    headers = {
        "date": formatdate(NOW, usegmt=True),
        "retry-after": formatdate(NOW + 40, usegmt=True),
        "x-ratelimit-reset-requests": f"{NOW + 50:.0f}",
    }
    assert read_wait_s(headers, NOW + off_s) == 40.0
    assert read_reset_s(headers, NOW + off_s) == 50.0


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        (f"{NOW + 20:.0f}", 20.0),
        (f"{(NOW + 20) * 1000:.0f}", 20.0),  # seen on the wire in milliseconds
        (f"{NOW - 20:.0f}", 1.0),
        (f"{(NOW - 20) * 1000:.0f}", 1.0),
        (f"{(NOW + 9_999) * 1000:.0f}", 62.0),
        ("30", 30.0),  # a duration
        ("30000", 30.0),
        ("0", 1.0),
        ("-7", 1.0),
        ("inf", None),
        ("nan", None),
        ("garbage", None),
        ("", None),
    ],
)
def test_reset(text: str, expected_s: float | None) -> None:
    """The reset is a Unix time in seconds or milliseconds; the past and garbage do no harm."""
    found = read_reset_s({"x-ratelimit-reset-requests": text}, NOW)
    assert found == (None if expected_s is None else pytest.approx(expected_s))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20", 20),
        (" 60 ", 60),
        ("0", None),
        ("-1", None),
        ("1.5", None),
        ("\u00b2", None),
        ("\u0662", None),
        ("9" * 5_000, None),
        ("unlimited", None),
        ("", None),
    ],
)
def test_limit(text: str, expected: int | None) -> None:
    """A limit is a plain whole number of requests; anything else names none."""
    assert read_allowance({"x-ratelimit-limit-requests": text}, NOW).limit == expected
    assert read_allowance({}, NOW) == Allowance()
