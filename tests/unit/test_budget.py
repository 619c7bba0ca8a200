"""When a day and a month begin for a budget, on every clock there is, and how money is written."""

import calendar
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import strategies as st

from venice_watch.budget import Limit, Period, current, day_of, turns_at, usd

DAILY = Limit(folder=None, period=Period.DAY, microusd=1)
MONTHLY = Limit(folder="photos", period=Period.MONTH, microusd=1)
# with daylight saving at night, at midnight (a day without its first hour), at 30 minutes, without
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/Santiago",
    "America/Nuuk",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
)
SetZone = Callable[[str], None]


@pytest.fixture
def set_zone() -> Iterator[SetZone]:
    """Return what sets this process's time zone; it is as before afterwards."""
    if not Path("/usr/share/zoneinfo/UTC").exists():
        pytest.skip("no time zones are known here: tzdata is missing, ask apt-get to install it")
    before = os.environ.get("TZ")

    def set_to(name: str) -> None:
        os.environ["TZ"] = name
        time.tzset()

    yield set_to
    if before is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = before
    time.tzset()


def at(text: str, zone: str, *, fold: int = 0) -> float:
    """Return the moment that a clock in a zone shows; `fold` 1: for the second time."""
    shown = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return shown.timestamp()


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("moment", "day", "tomorrow", "next_month"),
    [
        ("2026-11-25T12:00", "2026-11-25", "2026-11-26", "2026-12-01"),
        ("2026-11-25T00:00", "2026-11-25", "2026-11-26", "2026-12-01"),
        ("2026-11-25T23:59:59.999", "2026-11-25", "2026-11-26", "2026-12-01"),
        ("2026-11-30T23:59:59", "2026-11-30", "2026-12-01", "2026-12-01"),
        ("2026-12-01T00:00", "2026-12-01", "2026-12-02", "2027-01-01"),
        ("2026-12-31T23:59:59", "2026-12-31", "2027-01-01", "2027-01-01"),
        ("2027-01-01T00:00", "2027-01-01", "2027-01-02", "2027-02-01"),
        ("2027-01-31T08:00", "2027-01-31", "2027-02-01", "2027-02-01"),
        ("2027-02-28T08:00", "2027-02-28", "2027-03-01", "2027-03-01"),
        ("2028-02-01T08:00", "2028-02-01", "2028-02-02", "2028-03-01"),
        ("2028-02-28T08:00", "2028-02-28", "2028-02-29", "2028-03-01"),
        ("2028-02-29T23:59:59", "2028-02-29", "2028-03-01", "2028-03-01"),
        ("2100-02-28T08:00", "2100-02-28", "2100-03-01", "2100-03-01"),
    ],
)
def test_days_and_months(
    set_zone: SetZone, zone: str, moment: str, day: str, tomorrow: str, next_month: str
) -> None:
    """A day lasts from midnight to midnight on the owner's clock, a month from first to first."""
    set_zone(zone)
    now = at(moment, zone)
    assert day_of(now) == day
    assert current(DAILY, now).days == day
    assert current(MONTHLY, now).days == day[:7]
    assert turns_at(DAILY, now) == at(f"{tomorrow}T00:00", zone)
    assert turns_at(MONTHLY, now) == at(f"{next_month}T00:00", zone)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-10-26", 24),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Africa/Cairo", "2026-04-24", 23),  # there is no midnight: the day begins at one
        ("Africa/Cairo", "2026-04-23", 24),
        ("Africa/Cairo", "2026-10-29", 25),  # 23 o'clock comes twice
        ("America/Havana", "2026-03-08", 23),  # as in Cairo
        ("America/Havana", "2026-11-01", 25),  # midnight comes twice: the first one counts
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("UTC", "2026-03-29", 24),
    ],
)
def test_daylight_saving(set_zone: SetZone, zone: str, day: str, hours: float) -> None:
    """A day on which the clocks change is shorter or longer, and no moment of it is missed."""
    set_zone(zone)
    noon = at(f"{day}T12:00", zone)
    ends = turns_at(DAILY, noon)
    begins = turns_at(DAILY, noon - 86_400)
    assert (ends - begins) / 3_600 == hours
    for moment in (begins, (begins + ends) / 2, ends - 0.001):
        assert day_of(moment) == day
        assert turns_at(DAILY, moment) == ends
    assert day_of(begins - 0.001) < day < day_of(ends)


@pytest.mark.parametrize("fold", [0, 1])
def test_an_hour_that_comes_twice(set_zone: SetZone, fold: int) -> None:
    """Both times the clock shows half past midnight in Havana, the day and its end are the same."""
    set_zone("America/Havana")
    now = at("2026-11-01T00:30", "America/Havana", fold=fold)
    assert day_of(now) == "2026-11-01"
    assert turns_at(DAILY, now) == at("2026-11-02T00:00", "America/Havana")
    assert turns_at(MONTHLY, now) == at("2026-12-01T00:00", "America/Havana")


def test_a_month_that_begins_without_midnight(set_zone: SetZone) -> None:
    """Where daylight saving began at midnight on the first, the month began at one o'clock."""
    set_zone("Asia/Amman")
    now = at("2011-03-31T12:00", "Asia/Amman")
    assert turns_at(MONTHLY, now) == datetime(2011, 3, 31, 22, tzinfo=UTC).timestamp()
    assert current(MONTHLY, turns_at(MONTHLY, now)).days == "2011-04"


def test_a_day_that_was_left_out(set_zone: SetZone) -> None:
    """Samoa went from 29 to 31 December 2011: the day after the first is the second."""
    set_zone("Pacific/Apia")
    now = at("2011-12-29T12:00", "Pacific/Apia")
    assert day_of(turns_at(DAILY, now)) == "2011-12-31"
    assert day_of(turns_at(DAILY, now) - 1) == "2011-12-29"


@hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    zone=st.sampled_from(ZONES),
    now=st.datetimes(datetime(2012, 1, 2), datetime(2037, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - hypothesis wants them naive
        datetime.timestamp
    ),
    limit=st.sampled_from([DAILY, MONTHLY]),
)
def test_turns_once(set_zone: SetZone, zone: str, now: float, limit: Limit) -> None:
    """At any moment, anywhere: a period lasts until its end and not a millisecond longer."""
    set_zone(zone)
    end = turns_at(limit, now)
    assert now < end <= now + 31 * 86_400 + 7_200
    assert current(limit, end - 0.001) == current(limit, now)
    assert current(limit, end).days > current(limit, now).days
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    assert day_of(now) == local.date().isoformat()


def test_every_day_of_four_years(set_zone: SetZone) -> None:
    """Going from turn to turn meets each day once, and each month once."""
    set_zone("Europe/Berlin")
    now, last = at("2027-01-01T00:00", "Europe/Berlin"), at("2031-01-01T00:00", "Europe/Berlin")
    days, months, moment = [], [], now
    while moment < last:
        days.append(day_of(moment))
        moment = turns_at(DAILY, moment)
    first = datetime(2027, 1, 1, tzinfo=UTC)
    assert days == [
        (first + timedelta(days=number)).date().isoformat()
        for number in range(sum(365 + calendar.isleap(year) for year in range(2027, 2031)))
    ]
    moment = now
    while moment < last:
        months.append(current(MONTHLY, moment).days)
        moment = turns_at(MONTHLY, moment)
    assert months == [f"{year}-{month:02}" for year in range(2027, 2031) for month in range(1, 13)]


def test_a_budget_says_whose_it_is() -> None:
    """A budget keeps its limit, and names its folder or all of them."""
    now = 1_780_000_000.0
    assert current(DAILY, now).limit is DAILY
    assert current(DAILY, now).whose == "all folders"
    assert current(MONTHLY, now).whose == "folder 'photos'"


@pytest.mark.parametrize(
    ("microusd", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (999, "0.000999"),
        (10_000, "0.01"),
        (20_000, "0.02"),
        (25_000, "0.025"),
        (100_000, "0.10"),
        (999_999, "0.999999"),
        (1_000_000, "1.00"),
        (1_500_000, "1.50"),
        (10_000_000, "10.00"),
        (100_000_000, "100.00"),
        (1_234_567_890, "1234.56789"),
        (10**15 + 1, "1000000000.000001"),
        (-20_000, "-0.02"),
    ],
)
def test_usd(microusd: int, text: str) -> None:
    """An amount has its cents, and finer places only where it has them."""
    assert usd(microusd) == text


@hypothesis.given(st.integers(0, 10**15))
def test_usd_is_exact(microusd: int) -> None:
    """No part of an amount is lost in writing it."""
    whole, _, decimals = usd(microusd).partition(".")
    assert int(whole) * 1_000_000 + int(decimals.ljust(6, "0")) == microusd
    assert len(decimals) == 2 or not decimals.endswith("0")
