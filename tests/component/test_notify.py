"""Notices and pings, from a real daemon to real receivers: who is told what, who is not harmed."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.component.conftest import draw, wait_until
from tests.component.receivers import Got, Receiver, receiving

if TYPE_CHECKING:
    from tests.component.conftest import Place, Venice

TOPIC = "a-topic-that-nobody-else-knows"
TOKEN = "tk_token-for-the-topic"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver that takes everything."""
    with receiving() as one:
        yield one


def configure(place: "Place", **facts: object) -> None:
    """Add keys to the top of a place's configuration."""
    config = json.loads(place.config.read_text())
    place.config.write_text(json.dumps({**config, **facts}))


def hook(receiver: Receiver, **options: object) -> dict[str, object]:
    """Return an entry of `notify` for a webhook."""
    return {"webhook": f"{receiver.url}/{TOPIC}", **options}


def notices(receiver: Receiver, kind: str) -> list[dict[str, Any]]:
    """Return the notices of a kind that a webhook got."""
    bodies = [json.loads(got.body) for got in list(receiver.got)]
    return [body for body in bodies if body["kind"] == kind]


def wait_notice(receiver: Receiver, kind: str, *, mended: bool = False) -> dict[str, Any]:
    """Return the first notice of a kind, once it is there."""

    def find() -> list[dict[str, Any]]:
        return [one for one in notices(receiver, kind) if one["mended"] is mended]

    notice: dict[str, Any] = wait_until(find, f"a notice about {kind}, mended: {mended}")[0]
    return notice


def wait_got(receiver: Receiver, path: str) -> Got:
    """Return the first request for a path, once it is there."""
    got: list[Got] = wait_until(
        lambda: [one for one in list(receiver.got) if one.path == path], f"a request for {path}"
    )
    return got[0]


def test_a_refused_key_and_its_mending_are_told_once(
    place: "Place", venice: "Venice", receiver: Receiver
) -> None:
    """A revoked key is told with what to do, and once mended that too; neither again."""
    configure(place, notify=[hook(receiver)])
    daemon = place.ready()
    daemon.wait_event("account.ready")
    venice.change(keys=["another"])
    place.drop_many(3)
    notice = wait_notice(receiver, "key")
    assert "Venice does not accept the account" in notice["title"]
    assert "`venice-watch check` says what to do" in notice["message"]
    assert "401" in notice["message"]
    venice.change(keys=None)
    wait_notice(receiver, "key", mended=True)
    place.wait_names("outbox", {"p000.png", "p001.png", "p002.png"})
    assert daemon.stop() == 0
    assert [one["mended"] for one in notices(receiver, "key")] == [False, True]


def test_quarantined_files_are_gathered(place: "Place", receiver: Receiver) -> None:
    """The first bad file is told at once, the next ones together, with their reasons."""
    configure(place, notify=[hook(receiver, on="quarantine", digest="10s")])
    daemon = place.ready()
    place.drop("first.jpg", b"no image at all")
    first = wait_notice(receiver, "quarantine")
    assert first["message"].startswith("1 file was quarantined in photos: 1 corrupt; the newest: ")
    for number in range(4):
        place.drop(f"{number}.jpg", b"nor is this %d" % number)
    place.drop("small.png", draw(9, size=(20, 20)))
    daemon.wait_event("image.quarantined", times=6)
    wait_until(lambda: len(notices(receiver, "quarantine")) == 2, "the digest")
    digest = notices(receiver, "quarantine")[1]["message"]
    assert "5 files were quarantined in photos: 4 corrupt, 1 too_small; the newest: " in digest
    assert "`venice-watch retry`" in digest
    assert {one["kind"] for one in map(json.loads, (got.body for got in receiver.got))} == {
        "quarantine"
    }


def test_a_folder_that_is_away_is_told_of(place: "Place", receiver: Receiver) -> None:
    """An inbox that vanishes is told of by name, and that it is back."""
    configure(place, notify=[hook(receiver)])
    place.ready()
    place.inbox.rename(place.root / "elsewhere")
    assert "inbox of photos: " in wait_notice(receiver, "folder")["message"]
    (place.root / "elsewhere").rename(place.inbox)
    assert "inbox of photos" in wait_notice(receiver, "folder", mended=True)["message"]


def test_a_reached_budget_is_told_of(place: "Place", receiver: Receiver) -> None:
    """A budget that is reached is told of once, whatever waits behind it."""
    configure(place, notify=[hook(receiver)], budget={"per_day_usd": 0.04})
    daemon = place.ready()
    place.drop_many(5)
    assert (
        "budget of all folders for this day: reached" in wait_notice(receiver, "budget")["message"]
    )
    assert daemon.stop() == 0
    assert len(notices(receiver, "budget")) == 1


def test_a_restart_does_not_repeat_what_stands(
    place: "Place", venice: "Venice", receiver: Receiver
) -> None:
    """What was told before a restart is not told again, and its mending is told after it."""
    configure(place, notify=[hook(receiver)])
    venice.change(keys=["another"])
    daemon = place.ready()
    wait_notice(receiver, "key")
    assert daemon.stop() == 0
    daemon = place.start()
    daemon.wait_event("account.unusable")
    place.inbox.rename(place.root / "elsewhere")
    wait_notice(receiver, "folder")  # later than the key would have been told again
    assert len(notices(receiver, "key")) == 1
    assert notices(receiver, "program") == []


def test_a_crash_is_told_of(place: "Place", receiver: Receiver) -> None:
    """After a kill the next start says that it ended without being stopped."""
    configure(place, notify=[hook(receiver)])
    daemon = place.ready()
    memory = place.state / "notices.json"
    wait_until(lambda: memory.exists() and "version" in memory.read_text(), "what was told")
    daemon.kill()
    place.ready()
    assert "ended without being stopped" in wait_notice(receiver, "program")["message"]


@pytest.mark.parametrize("mood", ["hang", "fail", "close", "refuse", "redirect"])
def test_a_bad_receiver_harms_nobody(
    place: "Place", venice: "Venice", receiver: Receiver, mood: str
) -> None:
    """Whatever one receiver does, images arrive, others are told, and `status` says who is not."""
    receiver.mood = mood
    with receiving() as other:
        receiver.elsewhere = f"{other.url}/followed"
        configure(place, notify=[hook(receiver), hook(other)])
        daemon = place.ready()
        place.drop("bad.jpg", b"no image at all")
        pictures = place.drop_many(3)
        wait_notice(other, "quarantine")
        place.wait_names("outbox", set(pictures))
        failed = daemon.wait_event("notify.undelivered")
        assert failed["receiver"] == "notify.0: webhook (127.0.0.1)"
        status = json.loads(place.run("status", "--json").stdout)
        [trouble] = [one for one in status["troubles"] if one["subject"].startswith("notify.0")]
        assert "notices do not arrive" in trouble["why"]
        assert "/followed" not in {got.path for got in other.got}
        assert daemon.stop() == 0
        assert len(daemon.find("notify.undelivered")) == 1
    assert venice.totals()["charged_microusd"] == 3 * 20_000
    assert TOPIC not in daemon.stderr
    assert TOPIC not in json.dumps(status)


def test_a_receiver_that_comes_back_gets_what_waited(place: "Place", receiver: Receiver) -> None:
    """A notice that failed is tried again until it arrives."""
    receiver.mood = "fail"
    configure(place, notify=[hook(receiver)])
    daemon = place.ready()
    place.drop("bad.jpg", b"no image at all")
    daemon.wait_event("notify.undelivered")
    receiver.mood = "ok"
    daemon.wait_event("notify.delivered_again")
    assert len({got.body for got in receiver.got}) == 1, "it is the very same notice"
    assert json.loads(place.run("status", "--json").stdout)["troubles"] == []


def test_ntfy_and_files_of_secrets(place: "Place", receiver: Receiver) -> None:
    """Ntfy gets plain text under a title, its priority, and the token from its file."""
    token, headers = place.root / "token", place.root / "headers"
    token.write_text(TOKEN + "\n")
    headers.write_text("# of the proxy\nX-Proxy: let-me-through\n")
    entry = {"ntfy": f"{receiver.url}/{TOPIC}", "priority": "high", "token_file": str(token)}
    configure(place, notify=[entry | {"headers_file": str(headers)}])
    daemon = place.ready()
    place.drop("b\nad.jpg", b"no image at all")
    got = wait_got(receiver, f"/{TOPIC}")
    assert got.headers["Authorization"] == f"Bearer {TOKEN}"
    assert got.headers["X-Proxy"] == "let-me-through"
    assert got.headers["Priority"] == "high"
    assert got.headers["Title"].endswith("images were quarantined")
    assert "b\N{REPLACEMENT CHARACTER}ad.jpg" in got.body
    daemon.stop()
    assert TOKEN not in daemon.stderr


def test_pings(place: "Place", venice: "Venice", receiver: Receiver) -> None:
    """A dead man's switch hears of the start, of health, of what is wrong, and of the stop."""
    venice.change(keys=["another"])
    configure(place, notify=[{"ping": f"{receiver.url}/uuid?a=b", "every": "10s"}])
    daemon = place.ready()
    assert wait_got(receiver, "/uuid/start?a=b").body == "started"
    assert "nothing can be sent: HTTP 401" in wait_got(receiver, "/uuid/fail?a=b").body
    venice.change(keys=None)
    assert wait_got(receiver, "/uuid?a=b").body == "all is well"
    assert daemon.stop() == 0
    assert receiver.got[-1].body == "stopped on purpose"


def test_reload_changes_who_is_told(place: "Place", receiver: Receiver) -> None:
    """SIGHUP takes other receivers; what was given up before they were there is not theirs."""
    daemon = place.ready()
    place.drop("early.jpg", b"no image at all")
    daemon.wait_event("image.quarantined")
    configure(place, notify=[hook(receiver)])
    daemon.signal(1)
    daemon.wait_event("config.reloaded")
    memory = place.state / "notices.json"
    wait_until(memory.exists, "the new receiver is there")
    place.drop("late.jpg", b"no image either")
    assert "1 file was quarantined" in wait_notice(receiver, "quarantine")["message"]
    assert "late.jpg" in wait_notice(receiver, "quarantine")["message"]


def test_check_tries_each_receiver(place: "Place", receiver: Receiver) -> None:
    """`check --notify` sends one test to each, and says what came back without the address."""
    configure(
        place,
        notify=[
            hook(receiver),
            {"ntfy": f"{receiver.url}/{TOPIC}", "token_file": str(place.root / "nothing")},
            {"ping": f"{receiver.url}/{TOPIC}"},
            {"apprise": [receiver.url.replace("http:", "json:") + f"/{TOPIC}"]},
        ],
    )
    check = place.run("check", "--notify", "--json")
    found: dict[str, list[dict[str, str]]] = {}
    for one in json.loads(check.stdout):
        found.setdefault(one["subject"], []).append(one)
    assert check.wait() == 1, "a file is missing"
    assert "took the test. It said: thanks, as you said" in found["notify.0"][1]["message"]
    assert "No such file" in found["notify.1"][0]["message"]
    assert found["notify.1"][1]["level"] == "error"
    assert "took the test" in found["notify.2"][1]["message"]
    assert "apprise (json) took the test" in found["notify.3"][1]["message"]
    assert TOPIC not in check.stdout + check.stderr
    assert len(receiver.got) == 3
    assert place.run("check", "--notify", "--offline").wait() == 2
