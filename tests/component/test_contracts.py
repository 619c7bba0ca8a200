"""The two contracts of the API: found out for free, and never paid for what is then ignored."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

PRESETS = {"gold": {"scale": 2, "enhance": True, "enhancePrompt": "gold"}}


def folder_of(place: "Place", name: str, **facts: object) -> dict[str, object]:
    """Make one more folder's folders, and return its part of the configuration."""
    section: dict[str, object] = {"name": name, "preset": "photo", "settle": "300ms"}
    for role in ("inbox", "outbox", "quarantine", "archive"):
        (place.root / name / role).mkdir(parents=True)
        section[role] = f"{name}/{role}"
    return section | facts


@pytest.mark.parametrize("contract", ["enhance", "creativity"])
def test_found_for_free(place: "Place", venice: "Venice", draw: "Draw", contract: str) -> None:
    """`auto` finds the server's contract with one request that costs nothing."""
    venice.change(contract=contract)
    place.write(api={"contract": "auto"})
    place.drop("a.png", draw(1))
    daemon = place.start()
    assert daemon.wait_event("account.ready")["contract"] == contract
    place.wait_names("archive", {"a.png"})
    assert daemon.stop() == 0
    totals = venice.totals()
    assert (totals["upscales"], totals["charges"], totals["failed"]) == (2, 1, 1)


@pytest.mark.parametrize("contract", ["auto", "creativity"])
def test_hold(place: "Place", venice: "Venice", draw: "Draw", contract: str) -> None:
    """A preset that the contract would ignore holds its folder, unpaid; the other folders go on."""
    venice.change(contract="creativity")
    place.write(
        api={"contract": contract},
        presets=PRESETS,
        folders=[folder_of(place, "golden", preset="gold"), folder_of(place, "plain")],
    )
    held = draw(1)
    (place.root / "golden/inbox/a.png").write_bytes(held)
    daemon = place.ready()
    reason = daemon.wait_event("folder.held", folder="golden")["reason"]
    for word in ("'gold'", "enhance", "enhancePrompt", "creativity", "on_unsupported: drop"):
        assert word in reason
    (place.root / "plain/inbox/b.png").write_bytes(draw(2))
    place.wait_names("plain/archive", {"b.png"})
    assert daemon.stop() == 0
    assert place.read("golden/inbox") == {"a.png": held}
    assert place.names("golden/outbox") == place.names("golden/quarantine") == set()
    assert venice.totals()["charges"] == 1


def test_once_tells_of_the_hold(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """`once` exits 1 with the reason of a hold; under another preset the folder goes on."""
    venice.change(contract="creativity")
    place.write(api={"contract": "auto"}, presets=PRESETS, preset="gold")
    place.drop("a.png", draw(1))
    code, program = place.once()
    assert code == 1
    assert "folder photos is held: preset 'gold'" in program.stdout
    assert place.names("inbox") == {"a.png"}
    place.write(api={"contract": "auto"})
    place.drop("b.png", draw(2))
    daemon = place.ready()
    place.wait_names("outbox", {"b.png"})
    assert daemon.stop() == 0


def test_drop(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """With `on_unsupported: drop` only what the contract knows is sent."""
    venice.change(contract="creativity")
    place.write(api={"contract": "auto"}, presets=PRESETS, preset="gold", on_unsupported="drop")
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    [record] = venice.upscales()
    assert record["fields"] == {"scale": 2}
    assert place.names("outbox") == {"a.png"}


def test_parameters_arrive(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """What a preset says is what the server gets, in the contract that has it."""
    gold = PRESETS["gold"] | {"enhanceCreativity": 0.25, "replication": 0.75}
    place.write(presets={"gold": gold}, preset="gold")
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    [record] = venice.upscales()
    sent = {name: str(value).lower() for name, value in record["fields"].items()}
    assert sent == {
        "scale": "2",
        "enhance": "true",
        "enhanceCreativity": "0.25",
        "enhancePrompt": "gold",
        "replication": "0.75",
    }


def test_configured_contract_is_wrong(place: "Place", venice: "Venice") -> None:
    """A field that the server does not know is no image's fault: its folder waits, told once."""
    place.write(api={"contract": "creativity"}, presets={"photo": {"scale": 2, "creativity": 0.01}})
    pictures = place.drop_many(6)
    code, program = place.once()
    assert code == 1
    assert place.read("inbox") == pictures
    [held] = [event for event in program.events if event["event"] == "folder.held"]
    assert "'photo'" in held["reason"]
    assert "'creativity'" in held["reason"]
    totals = venice.totals()
    assert totals["charges"] == 0
    assert totals["upscales"] <= 4, "one for each of those under way when the first was refused"


def test_server_takes_its_contract_back(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A server that goes back to the older contract is found out by its refusal, at no cost."""
    venice.change(contract="creativity")
    presets = {"photo": {"scale": 2, "creativity": 0.01}, "plain": {"scale": 2}}
    place.write(api={"contract": "auto"}, presets=presets, on_unsupported="drop")
    place.drop("a.png", draw(1))
    daemon = place.ready()
    place.wait_names("outbox", {"a.png"})
    venice.change(contract="enhance")
    place.drop("b.png", draw(2))
    place.wait_names("outbox", {"b.png"})
    daemon.wait_event("account.contract_changed")
    assert daemon.stop() == 0
    assert place.names("quarantine") == set()
    assert venice.totals()["charges"] == 2


def test_server_moves_on(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A value that the newer contract has no more is refused, and holds its folder from then on."""
    place.write(api={"contract": "auto"}, presets={"photo": {"scale": 1, "enhance": True}})
    place.drop("a.png", draw(1))
    daemon = place.ready()
    place.wait_names("outbox", {"a.png"})
    venice.change(contract="creativity")
    place.drop("b.png", draw(2))
    daemon.wait_event("account.contract_changed")
    daemon.wait_event("folder.held")
    assert daemon.stop() == 0
    assert place.names("inbox") == {"b.png"}
    assert venice.totals()["charges"] == 1


def test_contract_that_cannot_be_asked_for(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """An image is not given up for a contract that a busy server could not be asked for."""
    place.write(api={"contract": "auto"}, presets={"photo": {"scale": 1, "enhance": True}})
    place.drop("a.png", draw(1))
    daemon = place.ready()
    place.wait_names("outbox", {"a.png"})
    venice.change(contract="creativity")
    venice.fail("unavailable", after=1)  # the image is refused, and then the question fails
    place.drop("b.png", draw(2))
    daemon.wait_event("request.failed", decision="RetryAt", outcome="rejected")
    daemon.wait_event("account.contract_changed")
    daemon.wait_event("folder.held")
    assert daemon.stop() == 0
    assert place.names("inbox") == {"b.png"}
    assert venice.totals()["charges"] == 1


def test_preset_that_is_taken_again(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A refused preset holds its folder, new arrivals included; a restart looks anew."""
    place.write(api={"contract": "creativity"}, presets={"photo": {"scale": 2, "creativity": 0.01}})
    place.drop("a.png", draw(1))
    daemon = place.ready()
    daemon.wait_event("folder.held")
    place.drop("b.png", draw(2))
    assert daemon.stop() == 0
    venice.change(contract="creativity")
    daemon = place.ready()
    place.wait_names("outbox", {"a.png", "b.png"})
    assert daemon.find("folder.held") == []
    assert daemon.stop() == 0
    assert venice.totals()["charges"] == 2


def test_doubt_from_before_the_contract_was_known(place: "Place", venice: "Venice") -> None:
    """An image is resent once, ever, whatever is learned of the contract between two doubts."""
    place.write(api={"contract": "auto"})
    picture = place.draw(1)
    place.drop("a.png", picture)
    venice.fail("rejected")  # the question for the contract: it stays unknown
    venice.fail("hang_charged")
    daemon = place.start()
    assert daemon.wait_event("account.ready")["contract"] == "unknown"
    venice.wait(charges=1)
    daemon.kill()
    venice.fail("timeout_524", times=None, after=1)  # the question is answered this time
    daemon = place.start()
    assert daemon.wait_event("account.ready")["contract"] == "enhance"
    place.wait_names("quarantine", {"a.png", "a.png.error.json"})
    assert daemon.stop() == 0
    assert place.report("a.png")["code"] == "in_doubt"
    assert place.read("quarantine")["a.png"] == picture
    assert venice.totals()["charges"] == 2
