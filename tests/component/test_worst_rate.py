"""The API's rate and its failures at their worst, over minutes that pass within seconds."""

import signal
import statistics
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.component.conftest import wait_until
from tests.component.hurry import (
    HurriedPlace,
    HurriedVenice,
    Jitter,
    hurried_venice,
    most_within,
)

PRICE = 20_000  # micro-USD for one image at scale 2
RATE = 20  # requests a minute, the API's own default
USED_MIN = 0.95  # of the rate
JITTER_S = 1.5
FAILURES_MAX = 10  # in any 30 s; the API blocks who has more than 20


@pytest.fixture
def venice(request: pytest.FixtureRequest) -> Iterator[HurriedVenice]:
    """Return a simulator of the documented limits; the parameter is how fast time runs."""
    with hurried_venice(getattr(request, "param", 20), "--latency", "1s", "--seed", "1") as venice:
        yield venice


@pytest.fixture
def place(tmp_path: Path, venice: HurriedVenice) -> Iterator[HurriedPlace]:
    """Return a user of that Venice."""
    place = HurriedPlace(tmp_path, venice)
    yield place
    place.end()


def rate_used(sent: list[float]) -> float:
    """Return the share of the rate that was used.

    Each request is compared with the one that had its place in the window two minutes before: so
    how long it takes to send a whole window's requests is no waste.
    """
    span = 2 * RATE
    mean_s = statistics.mean(later - at for at, later in zip(sent, sent[span:], strict=False))
    return span / (mean_s * RATE / 60)


@pytest.mark.parametrize(
    ("venice", "number", "contract", "used_min"),
    [
        (6, signal.SIGTERM, "enhance", USED_MIN),
        (8, signal.SIGKILL, "auto", USED_MIN),  # the free questions for the contract count as well
    ],
    indirect=["venice"],
    ids=["terminated", "killed"],
)
def test_rate(
    place: HurriedPlace,
    venice: HurriedVenice,
    number: signal.Signals,
    contract: str,
    used_min: float,
) -> None:
    """60 images at 20 a minute, over a bad line and a restart: never more, and hardly fewer."""
    with Jitter(venice.base_url, JITTER_S / venice.hurry.speed, seed=1) as way:
        place.write(api={"base_url": way.base_url, "concurrency": 8, "contract": contract})
        pictures = place.drop_many(60)
        daemon = place.ready()
        venice.wait(received=RATE)  # the first minute is used up, and some are under way
        daemon.signal(number)
        daemon.wait()
        place.ready()
        place.wait_names("archive", set(pictures))
    assert place.names("outbox") == set(pictures)
    assert place.names("quarantine") == place.names("inbox") == set()
    posts = venice.posts()
    assert most_within(posts, 60.0) <= RATE
    assert set(venice.totals()["statuses"]) <= {"200", "400"}, "no 429 was seen"
    sent = [at for (at,) in place.ask("SELECT started_at FROM attempts ORDER BY started_at")]
    assert rate_used(sent if contract == "enhance" else posts) >= used_min
    money = place.money()
    assert money["charged"] == 60 * PRICE
    assert money.get("unknown", 0) <= 8 * PRICE
    assert venice.totals()["charged_microusd"] <= sum(money.values())


# --- storms ---------------------------------------------------------------------------------------


def storm(venice: HurriedVenice, share: float) -> None:
    """Let so many of the requests fail, as many by a 503 as by a 429."""
    first = share / 2
    venice.fail("unavailable", times=None, probability=first)
    venice.fail("overloaded", times=None, probability=first / (1 - first), value="5")


def flap(venice: HurriedVenice) -> None:
    """Five minutes in which one request of three fails."""
    storm(venice, 1 / 3)
    venice.hurry.sleep(300)
    venice.heal()


def come_and_go(venice: HurriedVenice) -> None:
    """Five minutes in which all requests fail for 20 seconds, and none for 40."""
    for _ in range(5):
        storm(venice, 1)
        venice.hurry.sleep(20)
        venice.heal()
        venice.hurry.sleep(40)


@pytest.mark.parametrize("venice", [30], indirect=True)
@pytest.mark.parametrize("weather", [flap, come_and_go])
def test_storm(
    place: HurriedPlace, venice: HurriedVenice, weather: Callable[[HurriedVenice], None]
) -> None:
    """200 images in five minutes of 503 and 429: all delivered, few failures, none paid twice."""
    venice.change(requests_per_minute=None)
    pictures = place.drop_many(200)
    daemon = place.ready()
    weather(venice)
    place.wait_names("archive", set(pictures))
    assert daemon.stop() == 0
    assert place.names("outbox") == set(pictures)
    assert place.read("archive") == pictures
    assert place.names("quarantine") == place.names("inbox") == set()
    charged = venice.charged()
    assert len(charged) == len(set(charged)) == len(pictures)
    assert place.money() == {"charged": len(pictures) * PRICE, "none": 0}
    faults = venice.totals()["faults"]
    assert faults["unavailable"] + faults["overloaded"] > 20, "there was a storm"
    assert min(faults["unavailable"], faults["overloaded"]) >= 5, "of both kinds"
    assert most_within(venice.failures(), 30.0) <= FAILURES_MAX


# --- the account ----------------------------------------------------------------------------------

CONCURRENCY = 4
PROBE_MAX_S = 120.0  # between two questions, doubling from 5
TROUBLES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "revoked": ({"keys": ["another"]}, {"keys": None}),
    "balance": ({"balance_usd": 0.01}, {"balance_usd": 10.0}),
    "spend_limit": ({"spend_limit_usd": 0.0}, {"spend_limit_usd": None}),
    "denied": ({"access_permitted": False}, {"access_permitted": True}),
}


@pytest.mark.parametrize("venice", [30], indirect=True)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_account(place: HurriedPlace, venice: HurriedVenice, trouble: str) -> None:
    """Refused with 100 waiting: few requests fail, every image waits, and it goes on by itself."""
    struck, mended = TROUBLES[trouble]
    venice.change(requests_per_minute=None)
    place.write(api={"concurrency": CONCURRENCY})
    pictures = place.drop_many(110)
    daemon = place.ready()
    venice.wait(charges=10)
    venice.change(**struck)
    daemon.wait_event("account.refused")
    wait_until(lambda: len(asked(venice)) >= 4, "it was asked after 5, 10 and 20 seconds")
    waiting = place.names("inbox")
    assert len(waiting) >= 90
    assert waiting | place.names("archive") == set(pictures)
    assert place.names("quarantine") == set()
    probes = asked(venice)
    venice.change(**mended)
    place.wait_names("archive", set(pictures))
    assert place.read("archive") == pictures
    assert place.ask("SELECT DISTINCT attempts FROM jobs") == [(0,)]
    assert daemon.stop() == 0
    # the key's own limit shows in no free answer: one image at a time has to tell
    hidden = len(asked(venice)) - 2 if trouble == "spend_limit" else 0
    refused = sum(not one["charged_microusd"] for one in venice.upscales())
    assert refused <= CONCURRENCY + hidden
    assert venice.totals()["charges"] == len(set(venice.charged())) == len(pictures)
    assert most_within(venice.failures(), 30.0) <= FAILURES_MAX
    went_on_at = next(
        one["first_byte_monotonic_s"]
        for one in venice.upscales()
        if one["charged_microusd"] and one["first_byte_monotonic_s"] > probes[-1]
    )
    waits_s = [later - at for at, later in pairwise(asked(venice))]
    assert max(waits_s) <= PROBE_MAX_S + 5
    assert 0 < went_on_at - asked(venice)[-1] < 5, "it went on as soon as that could be known"


def asked(venice: HurriedVenice) -> list[float]:
    """Return when the free question for the key was asked."""
    path = "/api_keys/rate_limits"
    return [one["first_byte_monotonic_s"] for one in venice.records() if one["path"] == path]
