"""A balance that runs out: what it covers is sent, the rest waits, and both are told."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.component.conftest import Place, Venice

PRICE = 20_000  # micro-USD for one image at scale 2


def test_balance_runs_out(place: "Place", venice: "Venice") -> None:
    """Three images are covered: three arrive, the others wait untouched, and credit ends that."""
    venice.change(balance_usd=0.07, latency_s=0.3)
    pictures = place.drop_many(8)
    daemon = place.ready()
    short = daemon.wait_event("account.balance_short")
    assert short["balance"] < short["needed"] == short["waiting"] * 0.02
    daemon.wait_event("account.unusable")
    assert len(place.names("outbox")) == 3
    assert len(place.names("inbox")) == 5
    shown = place.run("status").stdout
    assert "! balance: the balance of 0.0" in shown
    assert "the balance is used up: 0.01 USD, 0 DIEM, and an image costs 0.02" in shown
    assert json.loads(place.run("status", "--json").stdout)["balances"]["USD"] == 0.01
    refused = venice.totals()["failed"]
    assert refused <= 4, "no more than were under way"
    venice.change(balance_usd=5.0)
    place.wait_names("outbox", set(pictures))
    daemon.wait_event("account.balance_enough")
    assert daemon.stop() == 0
    totals = venice.totals()
    assert totals["failed"] == refused
    assert totals["charged_microusd"] == 8 * PRICE
    assert place.names("quarantine") == set()
