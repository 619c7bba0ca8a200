"""Whose images are sent first: folders of one priority take turns, a higher one overtakes."""

import hashlib
import io
import itertools
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.component.conftest import Place, Program, Venice

MANY = 1_000
FEW = 10
LATENCY_S = 0.1


def draw_small(number: int) -> bytes:
    """Return a picture that is made and read quickly, each number its own."""
    out = io.BytesIO()
    colour = (number % 256, number // 256, 77)
    Image.new("RGB", (256, 256), colour).save(out, "PNG", compress_level=1)
    return out.getvalue()


class Crowd:
    """Several folders, and which of them each picture is from."""

    def __init__(self, place: "Place", venice: "Venice", **folders: dict[str, object]) -> None:
        self.place = place
        self.venice = venice
        self.facts = [self._make(name, facts) for name, facts in folders.items()]
        self._owners: dict[str, str] = {}
        self._numbers = itertools.count()

    def _make(self, name: str, facts: dict[str, object]) -> dict[str, object]:
        section: dict[str, object] = {"name": name, "preset": "photo", "settle": "300ms"}
        for role in ("inbox", "outbox", "quarantine", "archive"):
            (self.place.root / name / role).mkdir(parents=True)
            section[role] = f"{name}/{role}"
        return section | facts

    def drop(self, folder: str, count: int) -> None:
        """Drop so many pictures into a folder's inbox."""
        for number in itertools.islice(self._numbers, count):
            data = draw_small(number)
            self._owners[hashlib.sha256(data).hexdigest()] = folder
            (self.place.root / folder / "inbox" / f"{number:04}.png").write_bytes(data)

    def order(self) -> list[str]:
        """Return the folder of each image that the API saw, in the order of their coming."""
        return [self._owners[one["image_sha256"]] for one in self.venice.upscales()]

    def wait_done(self, folder: str, count: int, program: "Program") -> None:
        """Wait until so many of a folder are delivered."""
        program.wait_event("image.completed", count, folder=folder)


def test_few_beside_many(place: "Place", venice: "Venice") -> None:
    """Ten images beside a thousand that were there before are done after about twice ten."""
    venice.change(latency_s=LATENCY_S)
    crowd = Crowd(place, venice, many={}, few={})
    place.write(api={"concurrency": 2}, folders=crowd.facts)
    crowd.drop("many", MANY)
    daemon = place.ready()
    crowd.wait_done("many", 1, daemon)
    before = len(crowd.order())
    crowd.drop("few", FEW)
    crowd.wait_done("few", FEW, daemon)
    assert daemon.stop() == 0
    order = crowd.order()
    first = order.index("few")
    last = len(order) - 1 - order[::-1].index("few")
    # what was in line when the first of the few came, and then every second one
    assert last - first < 2 * FEW + 4, order[before : last + 1]
    assert venice.totals()["in_flight_max"] <= 2


def test_three_folders_share(place: "Place", venice: "Venice") -> None:
    """Folders of one priority share, whichever has more and whichever is named first."""
    venice.change(latency_s=LATENCY_S)
    crowd = Crowd(place, venice, first={}, second={}, third={})
    place.write(api={"concurrency": 2}, folders=crowd.facts)
    for folder, count in (("first", 40), ("second", 60), ("third", 12)):
        crowd.drop(folder, count)
    assert place.once()[0] == 0
    order = crowd.order()
    place_of_last = len(order) - 1 - order[::-1].index("third")
    assert place_of_last < 3 * 12 + 12, order
    assert len(order) == 112


@pytest.mark.parametrize("limit", [None, 1])
def test_overtaking(place: "Place", venice: "Venice", limit: int | None) -> None:
    """What is more urgent overtakes all that waits while the API asks everybody to wait."""
    venice.change(latency_s=LATENCY_S)
    own = {} if limit is None else {"concurrency": limit}
    crowd = Crowd(place, venice, many={}, urgent={"priority": 5, **own})
    place.write(api={"concurrency": 2}, folders=crowd.facts)
    crowd.drop("many", 30)
    daemon = place.ready()
    crowd.wait_done("many", 4, daemon)
    venice.fail("overloaded", value="8")
    daemon.wait_event("request.failed", outcome="throttled")
    crowd.drop("urgent", 3)
    crowd.wait_done("urgent", 3, daemon)
    crowd.wait_done("many", 30, daemon)
    assert daemon.stop() == 0
    records = venice.upscales()
    refused = next(n for n, one in enumerate(records) if one["status"] == 429)
    order = crowd.order()
    first = order.index("urgent")
    assert first <= refused + 2, "one more was under way"
    # one turn at a time is all that a limit of its own leaves it; the other is for the rest
    assert order[first : first + (3 if limit is None else 5)].count("urgent") == 3
