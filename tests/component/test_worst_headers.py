"""What a server says of times, at its worst: no hot loop, and no wait longer than is stated."""

import base64
import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.component.conftest import KEY, draw
from tests.component.hurry import HurriedPlace, HurriedVenice, hurried_venice, most_within
from venice_watch.simulator.account import fingerprint

SPEED = 40
PRICE = 20_000  # micro-USD for one image at scale 2
WINDOW_S = 62.0  # no wait for a rate is longer
RETRY_AFTER_MAX_S = 120.0  # and none for anything else
SLACK_S = 12.0  # of hurried time: 0.3 s of ours, for a busy machine
VOLLEY = 4  # requests under way at once
OURS = fingerprint(KEY)
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(params=[120.0, -120.0], ids=["ahead", "behind"])
def venice(request: pytest.FixtureRequest) -> Iterator[HurriedVenice]:
    """Return a simulator whose clock is two minutes off."""
    off_s: float = request.param
    with hurried_venice(SPEED, "--latency", "0.5s", "--rpm", "none", off_s=off_s) as venice:
        yield venice


@pytest.fixture
def place(tmp_path: Path, venice: HurriedVenice) -> Iterator[HurriedPlace]:
    """Return a user of that Venice."""
    place = HurriedPlace(tmp_path, venice)
    place.write(api={"concurrency": VOLLEY})
    yield place
    place.end()


class Rounds:
    """Sends images round after round, and returns what each round's requests met."""

    def __init__(self, place: HurriedPlace, venice: HurriedVenice) -> None:
        self._place, self._venice = place, venice
        self._names: set[str] = set()
        self._records = 0
        self.daemon = place.ready()
        self.daemon.wait_event("account.ready")

    def drop(self, count: int) -> None:
        """Drop so many new images."""
        for _ in range(count):
            number = len(self._names)
            self._names.add(f"{number}.png")
            self._place.drop(f"{number}.png", draw(number + 1))

    def finish(self) -> list[dict[str, Any]]:
        """Wait until all images are done; return the bill's new records of images."""
        self._place.wait_names("archive", self._names)
        records = [one for one in self._venice.upscales() if one["key_fingerprint"] == OURS]
        new, self._records = records[self._records :], len(records)
        return new

    def end(self) -> None:
        """Stop, and look whether everything was delivered and paid for once."""
        assert self.daemon.stop() == 0
        assert self._place.names("outbox") == self._names
        assert self._place.names("quarantine") == set()
        charged = [
            one["image_sha256"]
            for one in self._venice.upscales()
            if one["charged_microusd"] and one["key_fingerprint"] == OURS
        ]
        assert len(charged) == len(set(charged)) == len(self._names)
        assert self._place.money()["charged"] == len(self._names) * PRICE


def times_of(records: Sequence[dict[str, Any]]) -> list[float]:
    """Return when these requests were there, in order."""
    return sorted(one["received_monotonic_s"] for one in records)


def longest_gap_s(records: Sequence[dict[str, Any]]) -> float:
    """Return the longest time without a request, between the first and the last."""
    return max(later - at for at, later in pairwise(times_of(records)))


def is_calm(records: Sequence[dict[str, Any]]) -> bool:
    """Tell whether refused requests came no faster than one a second, but for a first volley."""
    refused = times_of([one for one in records if one["status"] == 429])
    return most_within(refused[VOLLEY - 1 :], 10.0) <= 10


def use_key(venice: HurriedVenice, count: int) -> None:
    """Let somebody else send so many images on the same account."""
    for number in range(count):
        image = base64.b64encode(draw(1000 + number)).decode()
        request = urllib.request.Request(
            f"{venice.base_url}/image/upscale",
            json.dumps({"image": image, "scale": 2}).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer sk-somebody-else"},
        )
        with NO_PROXY.open(request, timeout=60) as answer:
            assert answer.status == 200


ORDERS = {
    "ahead": ("seconds", "garbage", "ms"),
    "behind": ("ms", "past", "seconds", "missing"),
}


def test_reset_headers(
    place: HurriedPlace, venice: HurriedVenice, request: pytest.FixtureRequest
) -> None:
    """Somebody else uses the key too: whatever the headers say, we ask seldom, and in time."""
    venice.change(requests_per_minute=20)
    rounds = Rounds(place, venice)
    for reset_format in ORDERS[request.node.callspec.id]:
        venice.change(reset_format=reset_format)
        use_key(venice, 8)
        venice.fail("rate_limited", after=6)
        rounds.drop(20)
        records = rounds.finish()
        refused = [one["fault"] for one in records if one["status"] == 429]
        venice.hurry.sleep(60)  # nothing of this is left in anybody's window
        assert is_calm(records), reset_format
        assert longest_gap_s(records) <= WINDOW_S + SLACK_S, reset_format
        if reset_format in {"seconds", "ms"}:
            assert refused == ["rate_limited"], "what is left was told, and was kept to"
    assert most_within(venice.failures(), 30.0) <= 10
    rounds.end()


def test_retry_after(place: HurriedPlace, venice: HurriedVenice) -> None:
    """Retry-After is kept to between a second and two minutes, by the server's own clock."""
    rounds = Rounds(place, venice)
    for value, least_s, most_s in (
        ("0", 1.0, 1.0),
        ("date", 28.0, 31.0),  # half a minute from now, on the server's clock
        ("86400", RETRY_AFTER_MAX_S, RETRY_AFTER_MAX_S),
    ):
        venice.fail("overloaded", value=value)
        rounds.drop(1)
        refused, sent = rounds.finish()
        waited_s = sent["first_byte_monotonic_s"] - refused["finished_monotonic_s"]
        assert least_s - 0.5 <= waited_s <= most_s + SLACK_S, value
    rounds.end()


def test_no_hot_loop(place: HurriedPlace, venice: HurriedVenice) -> None:
    """A server that always says "at once" is asked a few times a minute, not all the time."""
    rounds = Rounds(place, venice)
    venice.fail("overloaded", value="0", times=None)
    rounds.drop(12)
    venice.wait(failed=10)
    venice.hurry.sleep(60)
    venice.heal()
    records = rounds.finish()
    assert is_calm(records)
    assert most_within(venice.failures(), 30.0) <= 10
    rounds.end()


def test_stopped_while_a_question_waits(place: HurriedPlace, venice: HurriedVenice) -> None:
    """Who must stop does not wait for the time of a question, be it for two minutes."""
    presets = {"photo": {"scale": 1, "enhance": True}}  # the newer contract has neither
    place.write(api={"contract": "auto"}, presets=presets)
    rounds = Rounds(place, venice)
    rounds.drop(1)
    rounds.finish()
    venice.change(contract="creativity")
    venice.fail("overloaded", value="86400")
    for number in (1, 2):  # one has to wait, and so has the question that the other one raises
        place.drop(f"late-{number}.png", draw(number + 100))
    venice.wait(failed=3)
    began = time.monotonic()
    assert rounds.daemon.stop() == 0
    stopped_s = (time.monotonic() - began) * SPEED
    assert stopped_s < RETRY_AFTER_MAX_S / 2
    assert place.names("inbox") == {"late-1.png", "late-2.png"}
    assert place.names("quarantine") == set()
