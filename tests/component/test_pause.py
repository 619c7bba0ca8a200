"""Pausing: nothing new is sent, nothing that is paid for waits, and a restart changes neither."""

import json
import os
import pwd
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from venice_watch.service.asking import ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.conftest import Place, Program, Venice

    Draw = Callable[..., bytes]

ME = pwd.getpwuid(os.getuid()).pw_name
STRANGER, MEMBER = 54_321, 54_322  # numbers that no user has


def folders(place: "Place", *names: str, **more: object) -> list[dict[str, object]]:
    """Return folders beside each other, each in one of its own."""
    made: list[dict[str, object]] = []
    for name in names:
        one: dict[str, object] = {"name": name, "preset": "photo", "settle": "300ms", **more}
        for role in ("inbox", "outbox", "quarantine", "archive"):
            (place.root / name / role).mkdir(parents=True)
            one[role] = f"{name}/{role}"
        made.append(one)
    return made


def facts_of(program: "Program") -> Any:  # noqa: ANN401 - any JSON
    """Return what a command printed for programs."""
    assert program.wait() == 0, program.stderr
    return json.loads(program.stdout)


def test_while_many_wait(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """What is in flight is delivered, what stands in line is put back, and nothing is begun."""
    venice.change(latency_s=2.0)
    place.write(folders=folders(place, "photos", "other"))
    inbox, outbox = place.root / "photos/inbox", place.root / "photos/outbox"
    for number in range(24):
        (inbox / f"{number}.png").write_bytes(draw(number))
    daemon = place.start()
    venice.wait(received=4)
    place.wait_rows("SELECT 1 FROM jobs WHERE state = 'executing'", 6)  # two stand in line
    facts = facts_of(place.run("pause", "photos", "--json"))
    assert facts["changed"]
    assert [(one["folder"], one["by"]) for one in facts["pauses"]] == [("photos", ME)]
    assert daemon.wait_event("folder.paused", folder="photos", by=ME)
    place.wait_rows("SELECT 1 FROM jobs WHERE state = 'completed'", 4)
    place.wait_rows("SELECT 1 FROM jobs WHERE message LIKE '%paused by%'", 2)
    place.wait_names("photos/archive", {path.name for path in outbox.iterdir()})
    assert place.ask("SELECT DISTINCT attempts FROM jobs WHERE state = 'available'") == [(0,)]
    assert place.ask("SELECT state, count(*) FROM jobs GROUP BY state") == [
        ("available", 20),
        ("completed", 4),
    ]
    (place.root / "other/inbox/on.png").write_bytes(draw(99))  # the others go on
    place.wait_names("other/outbox", {"on.png"})
    assert venice.totals()["received"] == 5
    assert len(list(outbox.iterdir())) == 4
    facts_of(place.run("resume", "photos", "--json"))
    assert daemon.wait_event("folder.resumed", folder="photos", by=ME)
    place.wait_names("photos/outbox", {f"{number}.png" for number in range(24)})
    assert len(venice.charged()) == len(set(venice.charged())) == 25
    assert daemon.stop() == 0


def test_over_a_death_and_a_reload(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A pause outlives kill -9 and another configuration, with who began it and when."""
    shape = folders(place, "photos", "other")
    place.write(folders=shape)
    daemon = place.ready()
    assert place.run("pause", "photos").stdout.startswith("photos is paused")
    [before] = json.loads(place.run("pause", "photos", "--json").stdout)["pauses"]
    (place.root / "photos/inbox/a.png").write_bytes(draw(1))
    place.wait_rows("SELECT 1 FROM jobs", 1)
    daemon.kill()
    daemon = place.ready()
    place.write(folders=[{**one, "priority": 3} for one in shape])
    daemon.signal(signal.SIGHUP)
    daemon.wait_event("config.reloaded")
    (place.root / "other/inbox/b.png").write_bytes(draw(2))
    place.wait_names("other/outbox", {"b.png"})
    assert venice.totals()["received"] == 1
    facts = facts_of(place.run("status", "--json"))
    assert facts["paused"] is None
    paused = {one["name"]: one["paused"] for one in facts["folders"]}
    assert paused["other"] is None
    assert paused["photos"] == {"by": ME, "since": before["since"], "everything": False}
    assert f"photos is paused, by {ME}" in place.run("status").stdout
    assert facts["eta_s"] is None, "what waits is paused: nobody knows when it is done"
    assert place.run("resume").stdout.startswith("photos goes on")
    place.wait_names("photos/outbox", {"a.png"})
    assert daemon.stop() == 0


def test_without_a_daemon(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Where nothing runs the ledger is told; `once` and `plan` say it, and 75 is try again."""
    place.drop("a.png", draw(1))
    assert facts_of(place.run("pause", "--json"))["changed"]
    assert f"was paused already, by {ME}" in place.run("pause").stdout
    code, once = place.once()
    assert code == 75
    assert f"folder photos is paused, by {ME}" in once.stdout
    assert venice.totals()["received"] == 0
    assert "a.png" in place.names("inbox")
    plan = json.loads(place.run("plan", "--offline", "--json").stdout)
    assert plan["folders"][0]["held"].startswith(f"paused by {ME}")
    status = place.run("status")
    assert f"everything is paused, by {ME}" in status.stdout
    resumed = place.run("resume")
    assert resumed.wait() == 0
    assert resumed.stdout.startswith("everything goes on")
    assert place.run("resume").stdout == "nothing was paused\n"
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png"}


def test_what_is_paid_for_is_delivered(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """`once` on a paused folder delivers what an earlier run had paid for."""
    venice.change(latency_s=1.5)
    place.drop("a.png", draw(1))
    daemon = place.start()
    venice.wait(received=1)
    away = place.outbox.rename(place.root / "away")
    daemon.wait_event("delivery.failed")
    assert daemon.stop() == 0
    away.rename(place.outbox)
    place.drop("b.png", draw(2))
    assert place.run("pause").wait() == 0
    code, once = place.once()
    assert code == 75, once.stdout
    assert place.names("outbox") == {"a.png"}
    assert place.names("inbox") == {"b.png"}
    assert venice.totals()["received"] == 1


@pytest.mark.parametrize("running", [True, False])
def test_words(place: "Place", *, running: bool) -> None:
    """An unknown folder is a usage error with the nearest; everything's pause is no folder's."""
    if running:
        place.ready()
    for verb in ("pause", "resume"):
        program = place.run(verb, "fotos")
        assert program.wait() == 2
        assert "there is no folder 'fotos'; did you mean `photos`?" in program.stderr
    assert place.run("pause").wait() == 0
    alone = place.run("resume", "photos")
    assert alone.wait() == 1
    assert "was not paused by itself" in alone.stdout
    assert f"photos still waits: everything is paused, by {ME}" in alone.stdout
    assert place.run("pause", "photos").wait() == 0
    assert place.run("resume").stdout.count("goes on") == 2


# --- who may -------------------------------------------------------------------------------------

AS = """
import json, os, sys
uid, gid, groups, state, request = json.loads(sys.argv[1])
sys.path[:0] = json.loads(sys.argv[2])
from venice_watch.service.asking import ask
os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
from pathlib import Path
try:
    print(json.dumps(ask(Path(state), request)))
except Exception as exc:
    print(json.dumps({"raised": type(exc).__name__, "says": str(exc)}))
"""


def ask_as(uid: int, groups: list[int], state: "Path", request: dict[str, object]) -> Any:  # noqa: ANN401 - any JSON
    """Ask as a user of these groups, from a process of his own."""
    who = json.dumps([uid, uid, groups, str(state), request])
    command = [sys.executable, "-c", AS, who, json.dumps(sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.mark.root
def test_who_may(place: "Place", draw: "Draw") -> None:
    """A member of the daemon's group asks and pauses; others, and the ledger, stay out of reach."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user; run the tests as root")
    daemon = place.ready()
    group = os.getegid()
    for above in (place.root, *place.root.parents):
        if "pytest-" in str(above):
            above.chmod(above.stat().st_mode | 0o011)
    place.drop("a.png", draw(1))
    place.wait_names("outbox", {"a.png"})
    asked = {"verb": "history"}
    assert len(ask_as(MEMBER, [group], place.state, asked)) == 1
    assert ask_as(MEMBER, [group], place.state, {"verb": "pause"})["pauses"][0]["by"] == str(MEMBER)
    assert daemon.wait_event("folder.paused", by=str(MEMBER))
    assert ask_as(MEMBER, [group], place.state, {"verb": "resume"})["changed"]
    taken = ask_as(MEMBER, [group], place.state, {"verb": "retry", "all": True})
    assert "only the user of the service" in taken["says"]
    assert ask_as(STRANGER, [], place.state, asked)["raised"] == "NobodyAnswersError"
    (place.state / "control").chmod(0o666)
    place.state.chmod(0o711)
    assert "this user may not" in ask_as(STRANGER, [], place.state, asked)["says"]
    assert ask(place.state, {"verb": "resume"}) == {
        "folder": None, "changed": False, "ended": [], "pauses": [],
    }  # fmt: skip
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.state.iterdir()}
    assert not {name for name, mode in modes.items() if mode & 0o077} - {"control", "lock"}
    assert daemon.stop() == 0


def test_state_folder_modes(place: "Place") -> None:
    """A new state folder lets the group in, and no more; one that is there keeps its mode."""
    assert place.run("pause").wait() == 0
    assert place.state.stat().st_mode & 0o777 == 0o710
    place.state.chmod(0o700)
    assert place.once()[0] == 0
    assert place.state.stat().st_mode & 0o777 == 0o700
