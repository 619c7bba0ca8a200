"""docs/commands.md has every key that `--json` prints, and no other."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from venice_watch.cli.plan_cases import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place

    Draw = Callable[..., bytes]

TEXT = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
OPEN = {
    "prices_usd",
    "balances",
    "ignored",
    "parameters",
    "names",
    "quarantine",
}  # their keys are others' names
VALUES = {  # words in the tables that are no keys
    "check": {"ok", "warning", "error"},
    "plan": {"enhance", "creativity", "configuration", "api", "unknown", "default", "spend"},
    "history": {"upscaled", "quarantined", "skipped", "gone", "changed"},
    "spend": set(),
    "why": {"history"},
}
KEYS_OF_BUDGETS = {"period", "days", "limit_usd", "spent_usd", "left_usd", "turns_at", "folder"}


def _section(command: str) -> str:
    return TEXT.split(f"\n## {command}\n", 1)[1].split("\n## ")[0]


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _keys(one)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in OPEN:
                yield from _keys(inner)


@pytest.mark.parametrize("command", ["check", "plan", "history", "spend", "why"])
def test_every_key_is_documented(place: "Place", draw: "Draw", command: str) -> None:
    """The tables of a command's section name exactly the keys that it prints."""
    place.write(budget={"per_day_usd": 1})
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    place.drop("b.png", draw(2))
    printed = set(_keys(json.loads(place.run(command, "--json", *_arguments(command)).stdout)))
    if command == "spend":
        printed |= set(_keys(json.loads(place.run("spend", "--json", "--by", "month").stdout)))
    section = _section(command)
    if command == "check":
        _, section = section.split("`--json` is a list", 1)
    if command == "plan":
        verdicts, section = section.split("`--json` is one object", 1)
        assert set(re.findall(r"^\| `(\w+)`", verdicts, re.MULTILINE)) == set(Verdict)
        printed -= set(Verdict)
        printed -= KEYS_OF_BUDGETS  # spend's
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    documented = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert documented - VALUES[command] == printed


def test_every_key_of_status_is_documented(place: "Place", draw: "Draw") -> None:
    """So does that of `status`, of one with a budget that is reached, a pause and a quarantine."""
    place.write(budget={"per_day_usd": 0.03})
    place.drop("a.png", draw(1))
    place.drop("bad.png", b"no image")
    daemon = place.ready()
    place.wait_names("outbox", {"a.png"})
    place.wait_names("quarantine", {"bad.png"})
    place.drop("b.png", draw(2))
    daemon.wait_event("budget.reached")
    assert place.run("pause", "photos").wait() == 0
    facts = json.loads(place.run("status", "--json").stdout)
    assert facts["folders"][0]["quarantine"] == {"corrupt": 1}
    assert "budget" in facts["folders"][0]["held"]
    assert facts["folders"][0]["oldest_waiting_s"] >= 0
    assert facts["requests_last_minute"] == 1
    # of all folders alone
    printed = set(_keys(facts)) - (KEYS_OF_BUDGETS - {"folder", "spent_usd"})
    rows = [line for line in _section("status").splitlines() if line.startswith("| `")]
    documented = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert documented - {"plan", "spend", "native", "polling"} == printed
    keys = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows))
    assert set(facts) | set(facts["folders"][0]) == set(keys)


def test_every_key_of_a_pause_is_documented(place: "Place") -> None:
    """So do those of `pause` and `resume`."""
    printed = set(_keys(json.loads(place.run("pause", "--json").stdout)))
    printed |= set(_keys(json.loads(place.run("resume", "--json").stdout)))
    rows = [line for line in _section("pause, resume").splitlines() if line.startswith("| `")]
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} - {"resume"} == printed


def test_every_subject_of_check_is_documented(place: "Place") -> None:
    """The table of `check` names exactly what it looks at, online and offline."""
    rows = re.findall(r"^\| `(\w+)`( \*)? \|", _section("check").split("`--json`")[0], re.MULTILINE)
    for arguments, documented in (
        ((), {name for name, _ in rows}),
        (("--offline",), {name for name, online in rows if not online}),
    ):
        found = json.loads(place.run("check", "--json", *arguments).stdout)
        assert {one["subject"].split()[0] for one in found} == documented


def _arguments(command: str) -> tuple[str, ...]:
    return ("a.png",) if command == "why" else ()
