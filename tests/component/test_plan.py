"""`plan`: what it foretells is what `once` then does and pays, and it sends nothing itself."""

import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

KEYS = {
    "offline", "running", "contract", "contract_from", "requests_per_minute", "rate_from",
    "prices_usd", "balances", "credit_usd", "api_trouble", "folders", "totals", "budgets",
    "warnings",
}  # fmt: skip
FILE_KEYS = {
    "path", "bytes", "verdict", "code", "message", "rule", "preset", "parameters", "format",
    "size", "sent_size", "result_size", "notes", "not_before", "usd", "frames",
}  # fmt: skip


def _plan(place: "Place", *arguments: str, code: int = 0) -> dict[str, Any]:
    program = place.run("plan", "--json", *arguments)
    assert program.wait() == code, program.stderr
    facts: dict[str, Any] = json.loads(program.stdout)
    assert set(facts) == KEYS
    return facts


def _files(facts: dict[str, Any], folder: int = 0) -> dict[str, dict[str, Any]]:
    files = {one["path"]: one for one in facts["folders"][folder]["files"]}
    assert all(set(one) == FILE_KEYS for one in files.values())
    return files


def _verdicts(facts: dict[str, Any], folder: int = 0) -> dict[str, str]:
    return {path: one["verdict"] for path, one in _files(facts, folder).items()}


def _animation() -> bytes:
    frames = [Image.new("RGB", (300, 300), (n * 80, 20, 60)) for n in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def _mix(place: "Place", draw: "Draw") -> dict[str, str]:
    """Drop one file of every kind; return the verdict that each deserves."""
    place.write(
        presets={"poster": {"scale": 4}},
        rules=[
            {"match": {"name": "*poster*"}, "preset": "poster"},
            {"match": {"name": "*.webp"}, "skip": True},
        ],
    )
    place.drop("done.png", draw(1))
    code, _ = place.once()
    assert code == 0
    place.drop("again.png", draw(1))
    place.drop("good.png", draw(2))
    place.drop("twin.png", draw(2))
    broken = bytearray(draw(3))
    broken[len(broken) // 2] ^= 0xFF
    place.drop("broken.png", bytes(broken))
    place.drop("words.jpg", b"no picture at all")
    place.drop("small.png", draw(4, (40, 40)))
    place.drop("left.webp", draw(5, kind="WEBP"))
    place.drop("sub/a poster.jpg", draw(6, kind="JPEG"))
    place.drop("large.png", draw(7, (2100, 2100)))
    place.drop("moving.gif", _animation())
    place.drop("notes.txt", b"for myself")
    place.drop(".hidden.png", draw(8))
    return {
        "again.png": "free",
        "good.png": "send",
        "twin.png": "same",
        "words.jpg": "quarantine",
        "broken.png": "quarantine",
        "small.png": "quarantine",
        "left.webp": "skip",
        "sub/a poster.jpg": "send",
        "large.png": "send",
        "moving.gif": "send",
    }


def test_the_prediction_comes_true(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Of a mixed inbox `once` sends, pays, delivers, refuses and leaves just what was planned."""
    deserved = _mix(place, draw)
    before, inbox = venice.totals(), place.read("inbox")
    paid_before = place.money()["charged"]

    facts = _plan(place)

    assert venice.totals()["upscales"] == before["upscales"]
    assert place.read("inbox") == inbox
    assert _verdicts(facts) == deserved
    files = _files(facts)
    totals = facts["totals"]
    assert {verdict: totals[verdict] for verdict in ("send", "free", "same", "skip", "hold")} == {
        "send": 4,
        "free": 1,
        "same": 1,
        "skip": 1,
        "hold": 0,
    }
    assert totals["usd"] == pytest.approx(0.14)  # three at 0.02, one at 0.08
    assert (
        files["sub/a poster.jpg"] | {"rule": 1, "preset": "poster", "usd": 0.08}
        == files["sub/a poster.jpg"]
    )
    assert files["good.png"]["rule"] is None
    assert files["good.png"]["parameters"] == {"scale": 2}
    assert files["left.webp"]["message"] == "rule 2 of the folder says skip"
    assert files["twin.png"]["message"] == "the same as photos/good.png"
    assert "reduced from 2100 x 2100" in " ".join(files["large.png"]["notes"])
    assert "first of 3 frames" in " ".join(files["moving.gif"]["notes"])
    assert facts["folders"][0]["ignored"] == {"hidden": 1, "no image": 1}

    code, program = place.once()

    assert code == 1, program.stderr  # something was quarantined
    assert place.money()["charged"] - paid_before == round(totals["usd"] * 1_000_000)
    sizes = place.sizes()
    assert sizes.pop("done.png") == (512, 512)
    expected = {
        path.rpartition(".")[0] + ".png": (
            one["result_size"]["width"],
            one["result_size"]["height"],
        )
        for path, one in files.items()
        if one["verdict"] in ("send", "free", "same")
    }
    assert sizes == expected
    refused = {path: one["code"] for path, one in files.items() if one["verdict"] == "quarantine"}
    assert {path: place.report(path)["code"] for path in refused} == refused
    assert place.names("inbox") == {"left.webp", "notes.txt", ".hidden.png"}

    after = _plan(place)
    assert _files(after) == {}
    assert after["folders"][0]["done"] == 1  # left.webp
    assert after["totals"]["usd"] == 0


def test_what_a_person_sees(place: "Place", draw: "Draw") -> None:
    """The table has a line a file, the sums follow, names do no harm, and nothing ran before."""
    place.write(presets={"poster": {"scale": 4}}, budget={"per_day_usd": 0.03})
    for number in range(52):
        place.drop(f"p{number:02}.png", draw(number + 1))
    place.drop("a\nb\x1b[31m\udcff.png", draw(90))
    program = place.run("plan")
    assert program.wait() == 0
    lines = program.stdout.splitlines()
    assert lines[0] == f"photos: {place.inbox}"
    assert any(line.startswith(r"a\nb\x1b[31m\udcff.png") for line in lines)
    assert "... and 3 more (--json lists all)" in lines
    assert "53 images to send for 1.06 USD" in program.stdout
    assert "1 of these 53 images fit, the rest waits" in program.stdout
    assert "6,000 requests a minute (set in the configuration), 4 at once" in program.stdout
    assert "2x 0.02 USD, 4x 0.08 USD" in program.stdout
    assert program.stderr == ""
    assert not place.ledger.exists()


def test_rate_and_balance_of_the_api(place: "Place", venice: "Venice") -> None:
    """The API's rate makes the time, its prices the sum, and a balance that is short is told."""
    venice.change(requests_per_minute=3, balance_usd=0.05)
    place.write(api={"requests_per_minute": "auto", "contract": "auto"})
    place.drop_many(7)
    facts = _plan(place)
    assert (facts["requests_per_minute"], facts["rate_from"]) == (3, "api")
    assert (facts["contract"], facts["contract_from"]) == ("enhance", "api")
    assert 120 <= facts["totals"]["seconds"] < 200  # 3 at once, 3 a minute later, 1 after two
    assert facts["balances"] == {"USD": 0.05, "DIEM": 0}
    assert facts["credit_usd"] == pytest.approx(0.05)
    [warning] = facts["warnings"]
    assert warning.startswith(
        "7 images wait and cost 0.14 USD, and the balance of 0.05 USD does not cover that"
    )
    assert "Add credit at Venice" in warning
    venice.change(balance_usd=0.14)
    assert _plan(place)["warnings"] == []  # to the cent
    assert venice.totals()["charged_microusd"] == 0


def test_own_prices(place: "Place", draw: "Draw") -> None:
    """The prices of the configuration stand, whatever the API says."""
    place.write(api={"prices": {"2x": 0.015}})
    place.drop("a.png", draw(1))
    facts = _plan(place)
    assert facts["prices_usd"] == {"2x": 0.015, "4x": 0.08}
    assert facts["totals"]["usd"] == pytest.approx(0.015)


def test_offline(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Offline nothing is asked and no key needed; what an unknown contract may lack is held."""
    place.write(
        api={"contract": "auto", "requests_per_minute": "auto"},
        presets={"photo": {"scale": 2}, "sharp": {"scale": 2, "replication": 0.3}},
        rules=[{"match": {"name": "*sharp*"}, "preset": "sharp"}],
    )
    place.drop("done.png", draw(1))
    assert place.once()[0] == 0
    place.key_file.unlink()
    requests = venice.totals()["requests"]
    place.drop("plain.png", draw(2))
    place.drop("sharp.png", draw(3))
    place.drop("again.png", draw(1))
    facts = _plan(place, "--offline")
    assert venice.totals()["requests"] == requests
    assert _verdicts(facts) == {"plain.png": "send", "sharp.png": "hold", "again.png": "free"}
    assert (facts["contract"], facts["rate_from"]) == (None, "default")
    assert "api.contract" in facts["warnings"][0]
    assert "one of the API's contracts" in facts["folders"][0]["held"]


def test_without_a_key_or_an_api(place: "Place", draw: "Draw") -> None:
    """Online a missing key is 1 and an API out of reach 69, as for `check`; the plan is there."""
    place.drop("a.png", draw(1))
    place.write(api={"base_url": "http://127.0.0.1:9/api/v1"})
    facts = _plan(place, code=69)
    assert _verdicts(facts) == {"a.png": "send"}
    assert facts["api_trouble"]
    place.key_file.unlink()
    facts = _plan(place, code=1)
    assert "VENICE_API_KEY" in facts["api_trouble"]
    assert facts["totals"]["send"] == 1


@pytest.mark.parametrize("duplicates", ["skip", "process"])
def test_duplicates(place: "Place", draw: "Draw", duplicates: str) -> None:
    """`skip` leaves the same image alone, and `process` pays again; both as planned."""
    place.write(duplicates=duplicates)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    place.drop("b.png", draw(1))
    place.drop("c.png", draw(2))
    place.drop("d.png", draw(2))
    facts = _plan(place)
    again = "skip" if duplicates == "skip" else "send"
    assert _verdicts(facts) == {"b.png": again, "c.png": "send", "d.png": again}
    paid = place.money()["charged"]
    place.once()
    assert place.money()["charged"] - paid == round(facts["totals"]["usd"] * 1_000_000)
    left = place.names("inbox")
    # which of two twins comes first is chance
    assert left in ([{"b.png", "c.png"}, {"b.png", "d.png"}] if duplicates == "skip" else [set()])


def test_a_result_that_was_moved_away(place: "Place", draw: "Draw") -> None:
    """The same image is paid again once its result is neither kept nor where it was delivered."""
    place.config.write_text(
        json.dumps(json.loads(place.config.read_text()) | {"keep_results": "0"})
    )
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    place.drop("b.png", draw(1))
    [file] = _files(_plan(place)).values()
    assert (file["verdict"], file["message"]) == (
        "free",
        f"its result is there already: {place.outbox / 'a.png'}",
    )
    (place.outbox / "a.png").rename(place.root / "moved.png")
    assert _verdicts(_plan(place)) == {"b.png": "send"}


def test_files_that_are_not_whole(place: "Place", draw: "Draw") -> None:
    """What is still written, empty or without its end is not complete, and costs nothing."""
    place.drop("empty.png", b"")
    place.drop("half.png", draw(1)[:300])
    with (place.inbox / "open.png").open("wb") as writer:
        writer.write(draw(2))
        writer.flush()
        facts = _plan(place)
    assert _verdicts(facts) == dict.fromkeys(("empty.png", "half.png", "open.png"), "incomplete")
    assert "still writing" in _files(facts)["open.png"]["message"]


def test_held(place: "Place", draw: "Draw") -> None:
    """A result that could not be delivered holds the folder, with the daemon's words."""
    place.drop("a.png", draw(1))
    place.outbox.rmdir()
    facts = _plan(place)
    assert _verdicts(facts) == {"a.png": "hold"}
    assert "is not there" in facts["folders"][0]["held"]
    place.outbox.mkdir()
    place.write(output={"on_conflict": "skip"})
    (place.outbox / "a.png").write_bytes(b"mine")
    assert _verdicts(_plan(place)) == {"a.png": "skip"}


def test_beside_a_daemon(place: "Place", venice: "Venice") -> None:
    """While images wait and are under way the plan tells them apart, and disturbs nobody."""
    place.write(api={"concurrency": 1})
    venice.change(latency_s=5.0)
    daemon = place.ready()
    pictures = place.drop_many(3)
    venice.wait(in_flight=1)
    place.wait_rows("SELECT id FROM jobs", 3)
    verdicts = Counter(_verdicts(_plan(place)).values())
    # those behind may be claimed already, and wait for their turn
    assert verdicts["under_way"] >= 1
    assert verdicts["under_way"] + verdicts["send"] == len(pictures)
    venice.change(latency_s=0.0)
    place.wait_names("outbox", set(pictures))
    assert daemon.stop() == 0
    assert venice.totals()["upscales"] == 3


def test_two_folders(place: "Place", draw: "Draw") -> None:
    """Each folder has its own table; the same image in both is paid once, for the first served."""
    for name in ("in2", "out2"):
        (place.root / name).mkdir()
    common = {"preset": "photo", "quarantine": "quarantine", "archive": "archive"}
    place.write(
        folders=[
            {"name": "one", "inbox": "inbox", "outbox": "outbox", **common},
            {"name": "two", "inbox": "in2", "outbox": "out2", "priority": 5, **common},
        ]
    )
    place.drop("a.png", draw(1))
    (place.root / "in2" / "b.png").write_bytes(draw(1))
    facts = _plan(place)
    assert [one["name"] for one in facts["folders"]] == ["one", "two"]
    assert _verdicts(facts, 0) == {"a.png": "same"}
    assert _verdicts(facts, 1) == {"b.png": "send"}
    assert facts["totals"]["usd"] == pytest.approx(0.02)


def test_unreadable_inbox(place: "Place") -> None:
    """An inbox that is away is told, and no reason to fail."""
    place.inbox.rmdir()
    facts = _plan(place)
    assert "No such file" in facts["folders"][0]["trouble"]
    assert facts["totals"]["send"] == 0
