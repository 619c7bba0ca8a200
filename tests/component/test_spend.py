"""`spend`: the sums are those of the bill, by whatever is asked for, and the budgets stand."""

import json
import re
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

SUMS = {"requests", "charged_usd", "in_doubt_usd", "lost_usd", "open_usd", "total_usd"}


def _spend(place: "Place", *arguments: str) -> dict[str, Any]:
    program = place.run("spend", "--json", *arguments)
    assert program.wait() == 0, program.stderr
    facts: dict[str, Any] = json.loads(program.stdout)
    assert set(facts) == {"since", "by", "total", "budgets"}
    return facts


def _work(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Pay for three images: one at 4x, one after a loss; another one is free of charge."""
    place.write(
        presets={"poster": {"scale": 4}},
        rules=[{"match": {"name": "*poster*"}, "preset": "poster"}],
        budget={"per_day_usd": 1, "per_month_usd": 2},
    )
    place.drop("poster.png", draw(1))
    assert place.once()[0] == 0
    venice.fail("truncated", times=1)
    place.drop("a.png", draw(2))
    assert place.once()[0] == 0
    venice.fail("bad_request", times=1)
    place.drop("b.png", draw(3))
    assert place.once()[0] == 1


def test_the_sums_are_the_bill(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Charged and lost are what the server charged; each table adds up to the total."""
    _work(place, venice, draw)
    facts = _spend(place)
    total = facts["total"]
    assert set(total) == SUMS
    assert total["requests"] == 4
    assert total["charged_usd"] == pytest.approx(0.10)
    assert total["lost_usd"] == pytest.approx(0.02)
    assert total["in_doubt_usd"] == total["open_usd"] == 0
    assert total["total_usd"] == pytest.approx(venice.totals()["charged_microusd"] / 1e6)
    assert set(facts["by"]) == {"day", "folder", "preset"}
    for kind, rows in facts["by"].items():
        assert all(set(row) == {kind, *SUMS} for row in rows)
        for name in SUMS:
            assert sum(row[name] for row in rows) == pytest.approx(total[name])
    assert {row["preset"] for row in facts["by"]["preset"]} == {"photo", "poster"}
    day, month = facts["budgets"]
    assert (day["folder"], day["period"], day["limit_usd"]) == ("photos", "day", 1)
    assert day["spent_usd"] == month["spent_usd"] == pytest.approx(0.12)
    assert month["left_usd"] == pytest.approx(1.88)
    turns = datetime.fromisoformat(day["turns_at"])
    assert (turns.hour, turns.minute, turns.tzinfo is None) == (0, 0, False)


def test_by_and_since(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """One table by what is asked for, from the day on that is named."""
    _work(place, venice, draw)
    today = place.ask("SELECT max(day) FROM spending")[0][0]
    assert set(_spend(place, "--by", "folder")["by"]) == {"folder"}
    months = _spend(place, "--by", "month")
    assert months["since"] is None
    assert [row["month"] for row in months["by"]["month"]] == [today[:7]]
    tomorrow = (date.fromisoformat(today) + timedelta(days=1)).isoformat()
    later = _spend(place, "--since", tomorrow)
    assert later["total"]["requests"] == 0
    assert later["budgets"][0]["spent_usd"] == pytest.approx(0.12)  # whatever is shown
    assert _spend(place, "--since", today)["total"]["requests"] == 4


def test_what_a_person_sees(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Tables, the total, and a sentence for each budget."""
    _work(place, venice, draw)
    text = place.run("spend").stdout
    assert re.search(r"^photos +4 +0\.10 +0\.00 +0\.02 +0\.00 +0\.12$", text, re.MULTILINE)
    assert re.search(r"^4 requests since \d{4}-\d\d-\d\d, 0\.12 USD$", text, re.MULTILINE)
    assert "budget of folder 'photos' for this day: 0.12 of 1.00 USD spent, 0.88 left" in text


def test_open_and_in_doubt(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """What is under way counts as open, and as in doubt once nobody can tell any more."""
    timeouts = {"read": "60s", "total": "90s"}
    place.write(api={"on_in_doubt": "hold", "timeouts": timeouts})
    venice.fail("hang", times=1)
    daemon = place.ready()
    place.drop("a.png", draw(1))
    venice.wait(in_flight=1)
    assert _spend(place)["total"]["open_usd"] == pytest.approx(0.02)
    daemon.kill()
    assert place.once()[0] == 1
    total = _spend(place)["total"]
    assert (total["open_usd"], total["in_doubt_usd"]) == (0, pytest.approx(0.02))
    assert "0.02 of them in doubt" in place.run("spend").stdout


def test_nothing_yet(place: "Place") -> None:
    """Without a ledger nothing was spent, which is no error, and no ledger is made."""
    program = place.run("spend")
    assert program.wait() == 0
    assert "no request was made" in program.stdout
    assert "no budget is set" in program.stdout
    assert _spend(place)["total"]["total_usd"] == 0
    assert not place.state.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "'yesterday' is no date; write it as 2026-11-01"),
        (("--since", "2026-02-30"), "no date"),
        (("--since", "2026-W01-1"), "no date"),
        (("--by", "colour"), "'colour' is not one of"),
    ],
)
def test_wrong_input(place: "Place", arguments: tuple[str, ...], said: str) -> None:
    """A date that is none, or an unknown sum, is a usage error."""
    program = place.run("spend", *arguments)
    assert program.wait() == 2
    assert said in program.stderr
