"""Starting, stopping and dying: one daemon a state folder, nothing lost, nothing paid twice."""

import contextlib
import json
import os
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

PRICE = 20_000  # micro-USD for one image at scale 2
STORM_IMAGES = 24
STORM_KILLS = 5


def test_second_daemon(place: "Place", draw: "Draw") -> None:
    """A second daemon on one state folder exits 75 and names the first, which goes on."""
    first = place.ready()
    for command in ("run", "once"):
        second = place.run(command)
        assert second.wait() == 75
        assert f"process {first.pid}" in second.stderr
        assert str(place.state) in second.stderr
    status = place.run("status", "--json")
    assert json.loads(status.stdout)["running"]["pid"] == first.pid
    place.drop("a.png", draw(1))
    place.wait_names("outbox", {"a.png"})
    assert first.stop() == 0
    assert json.loads(place.run("status", "--json").stdout)["running"] is None


def test_after_sigkill(place: "Place", draw: "Draw") -> None:
    """A daemon that was killed leaves nothing that keeps the next one from starting."""
    assert place.ready().kill() == -signal.SIGKILL
    second = place.ready()
    place.drop("a.png", draw(1))
    place.wait_names("outbox", {"a.png"})
    assert second.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(place: "Place", venice: "Venice", number: int) -> None:
    """A signal lets what is in flight finish and begins nothing; the next start does the rest."""
    venice.change(latency_s=1.0)
    pictures = place.drop_many(10)
    daemon = place.start()
    venice.wait(received=4)
    daemon.signal(number)
    assert daemon.wait() == 0
    assert daemon.find("daemon.stopped")
    done = place.names("outbox")
    assert 4 <= len(done) < len(pictures)
    assert venice.totals()["charges"] == len(done) == len(place.names("archive"))
    venice.change(latency_s=0.0)
    assert place.once()[0] == 0
    assert place.names("outbox") == set(pictures)
    assert place.read("archive") == pictures
    assert venice.totals()["charges"] == len(pictures)
    assert place.money() == {"charged": len(pictures) * PRICE}


def test_stop_while_waiting(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A daemon that waits for a retry or for the account stops at once all the same."""
    venice.fail("overloaded", value="60", times=1)
    place.drop("a.png", draw(1))
    daemon = place.ready()
    daemon.wait_event("request.failed")
    begun_at = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun_at < 10
    assert place.names("inbox") == {"a.png"}


def test_sigkill_in_flight(place: "Place", venice: "Venice") -> None:
    """After a SIGKILL only what was in flight is in doubt, sent once more, and all arrives."""
    venice.change(latency_s=2.0)
    pictures = place.drop_many(6)
    daemon = place.start()
    venice.wait(received=4)
    daemon.kill()
    venice.change(latency_s=0.0)
    again = place.ready()
    place.wait_names("outbox", set(pictures))
    place.wait_names("archive", set(pictures))
    assert again.stop() == 0
    assert place.names("outbox") == set(pictures)
    assert place.read("archive") == pictures
    assert place.names("quarantine") == set()
    money = place.money()
    assert money == {"charged": 6 * PRICE, "unknown": 4 * PRICE}
    sent = [one["image_sha256"] for one in venice.upscales()]
    assert len(sent) == 10
    assert max(sent.count(one) for one in sent) == 2
    assert venice.totals()["charged_microusd"] <= sum(money.values())


def test_hold_in_doubt(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """With `on_in_doubt: hold` nothing is sent again: the image waits in the quarantine."""
    place.write(api={"on_in_doubt": "hold"})
    venice.change(latency_s=2.0)
    place.drop("a.png", draw(1))
    daemon = place.start()
    venice.wait(received=1)
    daemon.kill()
    assert place.once()[0] == 1
    report = place.report("a.png")
    assert report["code"] == "in_doubt"
    assert report["charged_usd"] == 0.02
    assert len(venice.upscales()) == 1


def test_sigkill_storm(place: "Place", venice: "Venice") -> None:
    """Killed again and again, every image arrives, paid once but for what was in doubt.

    One that was in doubt twice waits in the quarantine for its owner, who sends it once more.
    """
    venice.change(latency_s=0.3)
    pictures = place.drop_many(STORM_IMAGES)
    for _ in range(STORM_KILLS):
        seen = venice.totals()["received"]
        daemon = place.start()
        venice.wait(received=min(seen + 3, STORM_IMAGES))
        daemon.kill()
    place.once()
    for name in set(pictures) - place.names("outbox"):
        assert place.report(name)["code"] == "in_doubt"
        (place.quarantine / name).rename(place.inbox / name)
    code, program = place.once()
    assert code == 0, program.stdout
    assert place.names("outbox") == set(pictures)
    assert set(place.sizes().values()) == {(512, 512)}
    assert place.read("archive") == pictures
    assert place.names("inbox") == place.names("quarantine") == set()
    assert place.unaccounted() == set()
    [(doubts,)] = place.ask("SELECT count(*) FROM attempts WHERE charge = 'unknown'")
    assert 0 < doubts <= STORM_KILLS * 4
    totals = venice.totals()
    assert STORM_IMAGES <= totals["charges"] <= STORM_IMAGES + doubts
    money = place.money()
    assert money["charged"] == STORM_IMAGES * PRICE
    assert totals["charged_microusd"] <= sum(money.values())


def test_paid_result_waits_for_the_outbox(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A result whose outbox is away is kept over a SIGKILL, and delivered without paying again."""
    venice.change(latency_s=1.0)
    place.drop("a.png", draw(1))
    daemon = place.start()
    venice.wait(received=1)
    away = place.root / "away"
    place.outbox.rename(away)
    daemon.wait_event("delivery.failed")
    daemon.kill()
    again = place.ready()
    away.rename(place.outbox)
    place.wait_names("outbox", {"a.png"})
    place.wait_names("archive", {"a.png"})
    again.stop()
    assert venice.totals()["charges"] == 1
    assert place.money() == {"charged": PRICE}


def test_leftovers_are_cleared(place: "Place", draw: "Draw") -> None:
    """What a dead process left half-written is removed at the next start; nothing else is."""
    for role in ("outbox", "quarantine", "archive"):
        (place.root / role / ".venice-watch-0123456789abcdef").write_bytes(b"half")
        (place.root / role / "mine.txt").write_bytes(b"mine")
    (place.state / "spool").mkdir(parents=True)
    (place.state / "spool" / "77.png").write_bytes(b"half")
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"mine.txt", "a.png"}
    assert place.names("quarantine") == {"mine.txt"}
    assert place.names("archive") == {"mine.txt", "a.png"}
    assert place.unaccounted() == set()


@pytest.fixture
def notify() -> "Iterator[socket.socket]":
    """Return a socket as systemd has it; its name is short, as sockets' names must be."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
    ):
        server.bind(str(Path(folder) / "notify"))
        server.settimeout(30)
        yield server


def receive(server: socket.socket) -> dict[str, str]:
    """Return the variables of the next message."""
    return dict(line.split("=", 1) for line in server.recv(4096).decode().splitlines())


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_systemd(place: "Place", notify: socket.socket, abstract: bool) -> None:  # noqa: FBT001 - pytest's way
    """Systemd is told of readiness, of life as often as it asks, of the state, and of the end."""
    address = notify.getsockname()
    if abstract:
        address = f"@venice-watch-test-{os.getpid()}"
        notify.close()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind("\0" + address[1:])
        notify.settimeout(30)
    place.environment |= {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    daemon = place.start()
    first = receive(notify)
    assert first["READY"] == "1"
    assert first["STATUS"]
    asked_at = time.monotonic()
    heard: list[str] = []
    while heard.count("WATCHDOG") < 2 or "STATUS" not in heard:
        heard += receive(notify)
    assert time.monotonic() - asked_at < 5
    assert daemon.stop() == 0
    rest = [receive(notify)]
    while "STOPPING" not in rest[-1]:
        rest.append(receive(notify))
    assert rest[-1]["STOPPING"] == "1"
    notify.close()


def test_watchdog_of_another_process(place: "Place", notify: socket.socket) -> None:
    """A watchdog that systemd keeps for another process is not fed any sooner."""
    place.environment |= {
        "NOTIFY_SOCKET": notify.getsockname(),
        "WATCHDOG_USEC": "200000",
        "WATCHDOG_PID": "1",
    }
    daemon = place.start()
    assert receive(notify)["READY"] == "1"
    place.drop("no-image.txt", b"")
    notify.settimeout(1.0)
    heard: list[str] = []
    with contextlib.suppress(TimeoutError):  # what stands is told; nothing else is due for long
        while True:
            heard += receive(notify)
    assert set(heard) <= {"STATUS"}
    assert daemon.stop() == 0
