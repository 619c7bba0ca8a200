"""Budgets: never a cent above, however many are under way, and on by itself when there is room."""

import json
from typing import TYPE_CHECKING

from venice_watch.budget import Budget, Limit, Period
from venice_watch.pipeline.passage import Hold, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.component.conftest import Place, Venice

PRICE = 20_000  # micro-USD for one image at scale 2


def with_budget(place: "Place", budget: "Mapping[str, object]") -> None:
    """Give the whole configuration a budget."""
    facts = json.loads(place.config.read_text())
    facts["budget"] = budget
    place.config.write_text(json.dumps(facts))


def test_one_dollar_is_fifty_images(place: "Place", venice: "Venice") -> None:
    """With 1.00 USD, 0.02 each, 16 at a time and 200 images, exactly 50 are charged."""
    venice.change(latency_s=0.1)
    place.write(api={"concurrency": 16})
    with_budget(place, {"per_day_usd": 1.00})
    pictures = place.drop_many(200)
    code, program = place.once()
    assert code == 75, program.stdout
    assert "budget of all folders" in program.stdout
    assert venice.totals()["charges"] == 50
    assert len(venice.upscales()) == 50
    assert len(place.names("outbox")) == 50
    assert place.names("inbox") == set(pictures) - place.names("outbox")
    assert place.names("quarantine") == set()
    assert len(program.find("budget.reached")) == 1
    code, _ = place.once()
    assert code == 75
    assert venice.totals()["charges"] == 50


def test_money_that_is_given_back_is_spent(place: "Place", venice: "Venice") -> None:
    """Requests that fail without a charge give their money back, and the budget is used up."""
    venice.change(latency_s=0.1)
    place.write(api={"concurrency": 8})
    with_budget(place, {"per_month_usd": 0.20})
    venice.fail("html_521", times=6)
    place.drop_many(16)
    assert place.once()[0] == 75
    assert venice.totals()["charges"] == 10
    assert len(place.names("outbox")) == 10


def test_doubt_counts_as_spent(place: "Place", venice: "Venice") -> None:
    """What may have been charged leaves that much less in the budget."""
    with_budget(place, {"per_day_usd": 0.06})
    venice.fail("timeout_524", times=1)
    place.drop_many(4)
    assert place.once()[0] == 75
    assert sum(place.money().values()) == 3 * PRICE
    assert len(venice.upscales()) == 3


def test_a_folders_own_budget(place: "Place", venice: "Venice") -> None:
    """One folder's budget stops that folder alone."""
    folders = []
    for name in ("small", "large"):
        facts: dict[str, object] = {"name": name, "preset": "photo", "settle": "300ms"}
        for role in ("inbox", "outbox", "quarantine", "archive"):
            (place.root / name / role).mkdir(parents=True)
            facts[role] = f"{name}/{role}"
        folders.append(facts)
    folders[0]["budget"] = {"per_day_usd": 0.05}
    place.write(folders=folders)
    for number in range(5):
        for offset, name in ((0, "small"), (10, "large")):
            path = place.root / name / "inbox" / f"{number}.png"
            path.write_bytes(place.draw(number + offset))
    assert place.once()[0] == 75
    assert len(place.names("small/outbox")) == 2
    assert len(place.names("large/outbox")) == 5
    assert venice.totals()["charges"] == 7


def test_a_raised_budget(place: "Place", venice: "Venice") -> None:
    """After the budget was raised the waiting images are done; results paid before stay paid."""
    with_budget(place, {"per_day_usd": 0.04})
    pictures = place.drop_many(4)
    assert place.once()[0] == 75
    with_budget(place, {"per_day_usd": 1})
    assert place.once()[0] == 0
    assert place.names("outbox") == set(pictures)
    assert venice.totals()["charges"] == 4


def test_dearer_images_by_their_own_price(place: "Place", venice: "Venice") -> None:
    """A budget that is too small for one image lets none through, and says what one costs."""
    place.write(presets={"photo": {"scale": 4}})
    with_budget(place, {"per_day_usd": 0.07})
    place.drop_many(2)
    code, program = place.once()
    assert code == 75
    assert "0.08" in program.stdout
    assert venice.upscales() == []


def test_the_daemon_goes_on_while_it_waits(place: "Place", venice: "Venice") -> None:
    """A daemon at its budget says so once, tells `status` until when, and stops as always."""
    with_budget(place, {"per_day_usd": 0.02})
    place.drop_many(3)
    daemon = place.ready()
    daemon.wait_event("budget.reached")
    status = json.loads(place.run("status", "--json").stdout)
    [trouble] = [one for one in status["troubles"] if "budget" in one["subject"]]
    assert "goes on at" in trouble["why"]
    assert status["budgets"][0]["spent_usd"] == 0.02
    assert daemon.stop() == 0
    assert len(daemon.find("budget.reached")) == 1
    assert venice.totals()["charges"] == 1


def test_a_request_lifts_no_other_hold() -> None:
    """A request that begins reopens its folder's budget, and no hold for another reason."""
    limit = Limit(folder=None, period=Period.DAY, microusd=1)
    budget = Budget(limit=limit, days="2026-11-25")
    tally = Tally()
    tally.held["photos"] = Hold(why="the outbox is full", until=0.0)
    tally.reopen("photos", [budget])
    assert "photos" in tally.held
    tally.held["photos"] = Hold(why="reached", until=0.0, budget=budget)
    tally.reopen("photos", [budget])
    assert tally.held == {}
