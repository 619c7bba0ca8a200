"""Asking the daemon: its answer is what the ledger would say and more; one that hangs is no end."""

import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from venice_watch.service.asking import RefusedError, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]


def printed(place: "Place", *arguments: str) -> Any:  # noqa: ANN401 - any JSON
    """Return what a command prints for programs."""
    return json.loads(place.run(*arguments, "--json").stdout)


def test_the_same_with_and_without(place: "Place", draw: "Draw") -> None:
    """History, spend and why say the same, whether the daemon tells it or the ledger is read."""
    place.drop("sub/a.png", draw(1))
    place.drop("bad.png", b"no image")
    daemon = place.ready()
    place.wait_names("archive", {"sub/a.png"})
    place.wait_names("quarantine", {"bad.png.error.json"})
    questions = (
        ("history",),
        ("history", "--folder", "photos", "--limit", "1"),
        ("spend", "--by", "preset"),
        ("why", "inbox/sub/a.png"),  # from where the caller stands
        ("why", "bad.png"),
        ("why", "/nowhere/x.png"),
    )
    live = [printed(place, *question) for question in questions]
    assert ask(place.state, {"verb": "history"}) == live[0]
    [found] = live[3]["jobs"]
    assert (found["path"], found["state"], found["rule_now"]["preset"]) == (
        "sub/a.png",
        "completed",
        "photo",
    )
    assert daemon.stop() == 0
    dead = [printed(place, *question) for question in questions]
    for one in (*live, *dead):
        if isinstance(one, dict) and "running" in one:
            one["running"] = one["unknown"] = None
        for job in one["jobs"] if isinstance(one, dict) and "jobs" in one else []:
            job["next"] = None  # that nothing runs is said there
    assert live == dead
    assert "nothing is running" in place.run("history").stderr


def test_status_of_a_daemon(place: "Place", venice: "Venice") -> None:
    """It tells of the watch, the last scan, the pace and the configuration that holds."""
    venice.change(latency_s=1.0)
    place.write(api={"concurrency": 1}, watch="polling")
    place.drop_many(6)
    daemon = place.ready()
    place.wait_rows("SELECT 1 FROM jobs WHERE state = 'completed'", 1)
    facts = printed(place, "status")
    [folder] = facts["folders"]
    assert folder["watch"] == {"by": "polling", "why": "`watch: polling` says so"}
    assert folder["last_scan"]["files"] >= 1
    assert (facts["concurrency"], facts["requests_per_minute"]) == (1, 6000)
    assert facts["requests_last_minute"] >= 1
    assert 0.5 < facts["eta_s"] < 20, "five at most, of a second or two each"
    assert facts["daemon"]["config_file"] == str(place.config)
    shown = place.run("status").stdout
    assert "photos is looked through, not watched: `watch: polling` says so" in shown
    assert "requests in the last minute; up to 1 at once; what waits takes about" in shown
    place.wait_names("outbox", {f"p00{n}.png" for n in range(6)})
    assert daemon.stop() == 0
    assert printed(place, "status")["eta_s"] is None


def test_a_daemon_that_hangs(place: "Place", draw: "Draw") -> None:
    """While it stands still, the ledger is read, and that is said; a pause is refused."""
    place.drop("a.png", draw(1))
    daemon = place.ready()
    place.wait_names("archive", {"a.png"})
    daemon.signal(signal.SIGSTOP)
    try:
        facts = printed(place, "status")
        [trouble] = facts["troubles"]
        assert trouble["subject"] == "daemon"
        assert "timed out" in trouble["why"]
        assert facts["running"]["pid"] == daemon.pid
        assert facts["folders"][0]["completed"] == 1
        history = place.run("history")
        assert "a.png" in history.stdout
        assert "What follows is read from the ledger." in history.stderr
        assert place.run("pause").wait() == 75
    finally:
        daemon.signal(signal.SIGCONT)
    assert place.run("pause").wait() == 0
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "no such verb"),
        ({"verb": ["status"]}, "no such verb"),
        ({"verb": "history", "limit": 0}, "limit is 0"),
        ({"verb": "history", "limit": True}, "limit is True"),
        ({"verb": "history", "folder": "fotos"}, "did you mean `photos`"),
        ({"verb": "history", "folder": {"a": 1}}, "is a name or null"),
        ({"verb": "why"}, "file is None"),
        ({"verb": "why", "file": "a\0b"}, "is a path"),
        ({"verb": "why", "file": "\ud800"}, "is a path"),
        ({"verb": "spend", "by": "year"}, "is one of day"),
        ({"verb": "spend", "since": "2026-02-30"}, "is a day"),
        ({"verb": "pause", "folder": "fotos"}, "did you mean `photos`"),
        ({"verb": "retry"}, "files is a list"),
        ({"verb": "retry", "files": ["x"], "all": True}, "files is a list"),
    ],
)
def test_odd_requests(place: "Place", request_: dict[str, object], says: str) -> None:
    """A request that is none says what is wrong with it, and the daemon goes on."""
    daemon = place.ready()
    with pytest.raises(RefusedError) as refused:
        ask(place.state, request_)
    assert says in str(refused.value)
    assert refused.value.code == 2
    assert ask(place.state, {"verb": "status"})["running"]["pid"] == daemon.pid
    assert not daemon.find("control.bug")


def test_retry_by_the_daemon(place: "Place") -> None:
    """It takes a file back as the command does, and says why another stays."""
    place.drop("sub/bad.png", b"no image")
    place.ready()
    place.wait_names("quarantine", {"sub/bad.png.error.json"})
    request = {"verb": "retry", "files": ["bad.png", "none.png"]}
    back, stays = ask(place.state, request)
    assert (back["back"], back["folder"], back["path"]) == (True, "photos", "sub/bad.png")
    assert (stays["back"], stays["path"]) == (False, None)
    assert "no such file in the quarantine" in stays["message"]


def watch(place: "Place", *arguments: str, terminal: bool, until: bytes) -> tuple[bytes, int]:
    """Watch the status until something is shown, then press Ctrl-C; return what was, and the code.

    On a terminal that is its own: Ctrl-C is a byte there.
    """
    command = [sys.executable, "-m", "venice_watch", "status", "--watch", "0.2", *arguments]
    command += ["--config", str(place.config)]
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env={**place.environment, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"},
        cwd=place.root,
    )
    os.close(theirs)
    seen = b""
    try:
        while seen.count(until) < 3:
            seen += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    finally:
        process.kill()
        os.close(ours)
    return seen, code


def test_watch_in_place(place: "Place") -> None:
    """On a terminal `status --watch` is drawn over what was there, and Ctrl-C ends it with 0."""
    place.ready()
    seen, code = watch(place, terminal=True, until=b"running since")
    assert code == 0
    assert b"\x1b[1A\x1b[2K" in seen, "the cursor goes up and clears what was"
    assert b"Traceback" not in seen


def test_watch_in_turn(place: "Place") -> None:
    """Elsewhere it is one block after another, and with --json one line each."""
    seen, code = watch(place, terminal=False, until=b"nothing is running")
    assert (code, b"\x1b" in seen) == (0, False)
    seen, code = watch(place, "--json", terminal=False, until=b"\n")
    assert code == 0
    assert [json.loads(line)["running"] for line in seen.splitlines()[:3]] == [None] * 3
