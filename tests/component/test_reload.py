"""Another configuration for a daemon that works: SIGHUP, and what it changes and leaves alone."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.component.conftest import Place, Program, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[..., bytes]

ROLES = ("inbox", "outbox", "quarantine", "archive")


def reload(daemon: Program, times: int = 1) -> dict[str, Any]:
    """Have the configuration read again; return what the log says of it."""
    daemon.signal(signal.SIGHUP)
    return daemon.wait_event("config.reloaded", times)


def folder(place: Place, name: str, **facts: object) -> dict[str, object]:
    """Return another folder of the configuration, and make what it needs."""
    found: dict[str, object] = {"name": name, "preset": "photo", "settle": "300ms"}
    for role in ROLES:
        path = place.root / name / role
        path.mkdir(parents=True, exist_ok=True)
        found[role] = f"{name}/{role}"
    return found | facts


def usual(**facts: object) -> dict[str, object]:
    """Return the folder that every place has."""
    found: dict[str, object] = {"name": "photos", "preset": "photo", "settle": "300ms"}
    return found | {role: role for role in ROLES} | facts


def test_folder_added(place: Place, draw: "Draw") -> None:
    """A folder that was added is watched, what lay in it before included."""
    daemon = place.ready()
    place.write(folders=[usual(), folder(place, "more")])
    (place.root / "more/inbox/a.png").write_bytes(draw(1))
    said = reload(daemon)
    assert (said["added"], said["removed"], said["changed"]) == (["more"], [], [])
    place.wait_names("more/outbox", {"a.png"})
    (place.root / "more/inbox/b.png").write_bytes(draw(2))
    place.wait_names("more/outbox", {"b.png"})
    place.drop("c.png", draw(3))
    place.wait_names("outbox", {"c.png"})
    assert daemon.stop() == 0
    assert place.venice.totals()["charges"] == 3


def test_folder_removed(place: Place, draw: "Draw") -> None:
    """What is under way for a folder that goes is delivered; nothing else of it is begun."""
    place.write(folders=[usual(), folder(place, "more", concurrency=1)])
    place.venice.change(latency_s=1.5)
    daemon = place.ready()
    (place.root / "more/inbox/a.png").write_bytes(draw(1))
    place.venice.wait(received=1)
    place.write(folders=[usual()])
    assert reload(daemon)["removed"] == ["more"]
    (place.root / "more/inbox/b.png").write_bytes(draw(2))
    place.wait_names("more/outbox", {"a.png"})
    place.wait_names("more/archive", {"a.png"})
    place.drop("c.png", draw(3))
    place.wait_names("outbox", {"c.png"})
    assert daemon.stop() == 0
    assert place.names("more/inbox") == {"b.png"}
    assert place.venice.totals()["charges"] == 2


def test_folder_changed(place: Place, draw: "Draw") -> None:
    """What is under way goes where it was to go; what comes later goes by the new settings."""
    (place.root / "other").mkdir()
    place.venice.change(latency_s=1.5)
    daemon = place.ready()
    place.drop("a.png", draw(1))
    place.venice.wait(received=1)
    place.write(outbox="other", presets={"photo": {"scale": 3}})
    assert reload(daemon)["changed"] == ["photos"]
    place.drop("b.png", draw(2))
    place.wait_names("other", {"b.png"})
    place.wait_names("outbox", {"a.png"})
    place.wait_names("archive", {"a.png", "b.png"})
    assert daemon.stop() == 0
    sent = [json.loads(row[0])["scale"] for row in place.ask("SELECT parameters FROM jobs")]
    assert sorted(sent) == [2, 3]
    assert place.venice.totals()["charges"] == 2


def test_invalid(place: Place, draw: "Draw") -> None:
    """A file with a mistake changes nothing, and the log says where the mistake is."""
    daemon = place.ready()
    good = place.config.read_text()
    place.config.write_text(good.replace('"preset": "photo"', '"preset": "foto"'))
    daemon.signal(signal.SIGHUP)
    said = daemon.wait_event("config.refused")["error"]
    line = 1 + good[: good.index('"preset": "photo"')].count("\n")
    assert f"{place.config}:{line}:" in said
    assert "did you mean `photo`" in said
    place.drop("a.png", draw(1))
    place.wait_names("outbox", {"a.png"})
    place.config.write_text(good)
    reload(daemon)
    assert daemon.stop() == 0


def test_state_dir(place: Place, draw: "Draw") -> None:
    """A change that a running daemon cannot take is refused, saying so."""
    daemon = place.ready()
    place.config.write_text(place.config.read_text().replace('"state"', '"elsewhere"'))
    daemon.signal(signal.SIGHUP)
    assert "takes a restart" in daemon.wait_event("config.refused")["error"]
    place.drop("a.png", draw(1))
    place.wait_names("outbox", {"a.png"})
    assert daemon.stop() == 0
    assert not (place.root / "elsewhere").exists()


def test_another_key(place: Place, draw: "Draw") -> None:
    """A key that was exchanged is used from the reload on, also where the old one was refused."""
    old = place.key_file.read_text().strip()
    place.key_file.write_text("bad-key-of-nobody\n")
    daemon = place.start()
    daemon.wait_event("account.unusable")
    place.drop("a.png", draw(1))
    place.key_file.write_text(old + "\n")
    reload(daemon)
    daemon.wait_event("account.ready")
    place.wait_names("outbox", {"a.png"})
    assert daemon.stop() == 0
    assert old not in daemon.stderr


def test_preset_mended(place: Place, draw: "Draw") -> None:
    """A folder that was held for its preset goes on as soon as that is mended."""
    place.write(api={"contract": "creativity"}, presets={"photo": {"scale": 2, "replication": 0.4}})
    daemon = place.ready()
    place.drop("a.png", draw(1))
    daemon.wait_event("folder.held")
    place.write(api={"contract": "creativity"}, presets={"photo": {"scale": 2}})
    reload(daemon)
    place.drop("b.png", draw(2))
    place.wait_names("outbox", {"b.png"})
    assert daemon.stop() == 0


def test_more_at_a_time(place: Place) -> None:
    """A higher limit of requests holds at once, for what waits already."""
    place.write(api={"concurrency": 1})
    place.venice.change(latency_s=3.0)
    daemon = place.ready()
    place.drop_many(6)
    place.venice.wait(received=1)
    place.write(api={"concurrency": 6})
    reload(daemon)
    wait_until(lambda: place.venice.totals()["in_flight_max"] >= 5, "five at a time")
    place.wait_names("archive", {f"p{n:03}.png" for n in range(6)})
    assert daemon.stop() == 0
    assert place.venice.totals()["charges"] == 6


def open_files(daemon: Program) -> int:
    """Return how many descriptors a daemon has."""
    return sum(1 for _ in Path(f"/proc/{daemon.pid}/fd").iterdir())


def threads(daemon: Program) -> int:
    """Return how many threads a daemon has."""
    return sum(1 for _ in Path(f"/proc/{daemon.pid}/task").iterdir())


@pytest.mark.timeout(300)
def test_many_reloads_under_load(place: Place, draw: "Draw") -> None:
    """A hundred reloads while images come: none is lost or paid twice, and nothing grows."""
    variants: list[dict[str, Any]] = [
        {"folders": [usual(), folder(place, "more")]},
        {"folders": [usual(priority=3, rescan="5s")], "api": {"concurrency": 7}},
        {"folders": [usual(), folder(place, "more", settle="350ms")]},
        {"folders": [folder(place, "more"), usual()], "api": {"timeouts": {"read": "12s"}}},
    ]
    place.write(**variants[0])
    daemon = place.ready()
    before: tuple[int, int] | None = None
    inboxes = (place.inbox, place.root / "more/inbox")
    for number in range(100):
        for which, inbox in enumerate(inboxes):
            (inbox / f"{number}.png").write_bytes(draw(2 * number + which))
        place.write(**variants[number % 4])
        reload(daemon, number + 1)
        if number == 19:
            before = open_files(daemon), threads(daemon)
    place.write(**variants[0])
    reload(daemon, 101)
    names = {f"{number}.png" for number in range(100)}
    for role in ("", "more/"):
        place.wait_names(f"{role}archive", names)
    assert before is not None
    wait_until(lambda: open_files(daemon) <= before[0] + 4, "no more descriptors than before")
    assert threads(daemon) <= max(before[1] + 4, 70)  # the pool of threads has a limit of its own
    assert daemon.stop() == 0
    for role in ("", "more/"):
        assert place.names(f"{role}outbox") == names
        assert place.names(f"{role}inbox") == set()
    assert place.venice.totals()["charges"] == 200
