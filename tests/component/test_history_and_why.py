"""`history` and `why`: what was done, as a list and as the story of one file."""

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from venice_watch.cli import commands
from venice_watch.errors import StateUnusableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

HISTORY_KEYS = {
    "at", "ended", "folder", "path", "preset", "result", "result_size", "usd", "reused",
    "original", "code", "message", "frames", "results",
}  # fmt: skip
WHY_KEYS = {
    "folder", "path", "bytes", "sha256", "came_at", "changed_at", "state", "ended", "next", "code",
    "message", "preset", "parameters", "attempts", "usd", "reused", "doubts", "original", "result",
    "rule_now", "frame", "frames", "results",
}  # fmt: skip
LOCAL_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"


def _history(place: "Place", *arguments: str) -> list[dict[str, Any]]:
    program = place.run("history", "--json", *arguments)
    assert program.wait() == 0, program.stderr
    facts: list[dict[str, Any]] = json.loads(program.stdout)
    assert all(set(one) == HISTORY_KEYS for one in facts)
    return facts


def _why(place: "Place", file: object, code: int = 0) -> dict[str, Any]:
    """Ask within this process: it is asked often, and a process takes half a second to start."""
    with contextlib.chdir(place.root):
        done = CliRunner().invoke(
            commands, ["why", "--json", str(file), "--config", str(place.config)]
        )
    assert done.exit_code == code, done.output
    facts: dict[str, Any] = json.loads(done.stdout)
    assert set(facts) == {"file", "running", "jobs", "unknown"}
    assert all(set(one) == WHY_KEYS for one in facts["jobs"])
    assert facts["jobs"] or facts["unknown"]
    return facts


def _tell(place: "Place", file: object, code: int = 0) -> str:
    program = place.run("why", str(file))
    assert program.wait() == code, program.stderr
    return program.stdout


# --- history ------------------------------------------------------------------------------------


def test_history(place: "Place", draw: "Draw") -> None:
    """Newest first: upscaled, reused, quarantined, skipped, each with its cost and its place."""
    place.write(rules=[{"match": {"name": "*.webp"}, "skip": True}])
    for name, data in {
        "a.png": draw(1),
        "sub/again.png": draw(1),
        "small.png": draw(2, (40, 40)),
        "left.webp": draw(3, kind="WEBP"),
    }.items():
        place.drop(name, data)
        place.once()
    facts = _history(place)
    assert [(one["path"], one["ended"], one["usd"], one["reused"]) for one in facts] == [
        ("left.webp", "skipped", 0, False),
        ("small.png", "quarantined", 0, False),
        ("sub/again.png", "upscaled", 0, True),
        ("a.png", "upscaled", 0.02, False),
    ]
    assert facts[2]["result"] == str(place.outbox / "sub/again.png")
    assert facts[2]["result_size"] == {"width": 512, "height": 512}
    assert facts[1]["original"] == str(place.quarantine / "small.png")
    assert facts[1]["code"] == "too_small"
    lines = place.run("history", "--limit", "2").stdout.splitlines()
    assert len(lines) == 2
    assert re.match(rf"{LOCAL_TIME}  skipped      photos/left\.webp  ", lines[0])
    told = place.run("history").stdout
    assert "0.00 USD (reused)" in told
    assert f"photo, 512x512, 0.02 USD  -> {place.outbox / 'a.png'}" in told
    assert place.venice.totals()["upscales"] == 1


def test_history_counts_every_attempt(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """What was lost on the way to a result is part of what it cost."""
    venice.fail("truncated", times=1)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert _history(place)[0]["usd"] == pytest.approx(0.04)


def test_history_of_a_folder(place: "Place", draw: "Draw") -> None:
    """--folder shows one folder's; a misspelt one is a usage error that names the nearest."""
    assert "nothing was done yet" in place.run("history").stdout
    place.drop("a.png", draw(1))
    place.once()
    assert len(_history(place, "--folder", "photos")) == 1
    program = place.run("history", "--folder", "fotos")
    assert program.wait() == 2
    assert "there is no folder 'fotos'; did you mean `photos`?" in program.stderr
    assert place.run("history", "--limit", "0").wait() == 2
    # a folder that is no longer configured has a past all the same
    place.write(name="pictures")
    assert len(_history(place, "--folder", "photos")) == 1
    assert _history(place, "--folder", "pictures") == []


def test_without_a_configuration(place: "Place") -> None:
    """Without a configuration each of these says so, as every command does."""
    place.config.unlink()
    for command in (["history"], ["why", "a.png"], ["plan"], ["spend"], ["retry", "--all"]):
        program = place.start_bare(*command)
        assert program.wait() == 78
        assert "venice-watch init" in program.stderr


@pytest.mark.parametrize("command", [["history"], ["why", "a.png"], ["plan"], ["spend"]])
def test_another_users_state(
    place: "Place", monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Somebody else's state folder is refused with the way to go about it."""
    place.state.mkdir()
    allowed = os.access
    # the interpreter of these tests need not be open to another user, so the answer is made up
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != place.state and allowed(path, mode)
    )
    done = CliRunner().invoke(commands, [*command, "--config", str(place.config)])
    assert isinstance(done.exception, StateUnusableError)
    assert done.exception.exit_code == 77
    assert f"sudo -u venice-watch venice-watch {command[0]}" in str(done.exception)


# --- why: what is known -------------------------------------------------------------------------


def test_every_name_of_a_file(place: "Place", draw: "Draw") -> None:
    """Original, result, place in the inbox, path in it, bare name: all lead to the same story."""
    place.drop("sub/a.jpg", draw(1, kind="JPEG"))
    place.drop("other.png", draw(2))
    place.once()
    names = (
        place.archive / "sub/a.jpg",
        place.outbox / "sub/a.png",
        place.inbox / "sub/a.jpg",
        "archive/sub/a.jpg",
        "inbox/../outbox/sub/a.png",
        "sub/a.jpg",
        "sub/a.png",
        "a.jpg",
    )
    for name in names:
        [job] = _why(place, name)["jobs"]
        assert job["path"] == "sub/a.jpg", name
    assert job["ended"] == "upscaled"
    assert job["parameters"] == {"scale": 2}
    assert job["result"] == {
        "path": str(place.outbox / "sub/a.png"),
        "there": True,
        "width": 512,
        "height": 512,
    }
    assert job["original"] == {"path": str(place.archive / "sub/a.jpg"), "there": True}
    [attempt] = job["attempts"]
    assert (attempt["status"], attempt["charge"], attempt["usd"]) == (200, "charged", 0.02)
    assert attempt["request_id"]
    (place.outbox / "sub/a.png").unlink()
    told = _tell(place, place.outbox / "sub/a.png")
    assert "HTTP 200, succeeded, charged 0.02 USD, request id " in told
    assert "sub/a.png 512x512 (no longer there)" in told


def test_the_inbox_itself_is_exact(place: "Place", draw: "Draw") -> None:
    """A file in the inbox is itself and no namesake in a sub-folder."""
    place.drop("sub/a.png", draw(1))
    place.once()
    facts = _why(place, place.inbox / "a.png", code=1)
    assert facts["jobs"] == []
    assert "No such file" in facts["unknown"][0]


def test_quarantined(place: "Place", draw: "Draw") -> None:
    """A quarantined file and its report tell why it is there, and how it comes back."""
    place.drop("small.png", draw(1, (40, 40)))
    place.once()
    for name in ("small.png", "small.png.error.json"):
        for path in (place.quarantine / name, name):
            [job] = _why(place, path)["jobs"]
            assert (job["ended"], job["code"]) == ("quarantined", "too_small")
            assert "retry" in job["next"]
    told = _tell(place, "small.png")
    assert "photos/small.png: quarantined (too_small) since " in told
    assert "1,600 pixels" in told


def test_versions(place: "Place", draw: "Draw") -> None:
    """Every version that was dropped under a name is told, the newest first."""
    for number in (1, 2, 1):
        place.drop("a.png", draw(number))
        place.once()
    jobs = _why(place, place.inbox / "a.png")["jobs"]
    assert [job["reused"] for job in jobs] == [True, False, False]
    assert jobs[0]["sha256"] == jobs[2]["sha256"] != jobs[1]["sha256"]
    assert "its result was reused" in _tell(place, "a.png")
    assert _why(place, "a.png")["unknown"] == []
    place.drop("a.png", b"")
    told = _tell(place, "a.png")
    assert told.startswith("there is a version that is not known yet:\n")
    assert f"{place.inbox / 'a.png'}: it is empty; " in told
    assert "photos/a.png: upscaled" in told


def test_which_rule(place: "Place", draw: "Draw") -> None:
    """Which rule applies is told by the rules as they are now, wherever the file went."""
    rules: list[dict[str, object]] = [
        {"match": {"name": "*.webp"}, "skip": True},
        {"match": {"name": "*poster*"}, "preset": "poster"},
    ]
    place.write(presets={"poster": {"scale": 4}}, rules=rules)
    for name, kind in (("plain.png", "PNG"), ("poster.png", "PNG"), ("left.webp", "WEBP")):
        place.drop(name, draw(len(name), kind=kind))
    place.drop("words.jpg", b"no picture")
    place.once()
    assert _why(place, "plain.png")["jobs"][0]["rule_now"] == {
        "rule": None,
        "preset": "photo",
        "message": None,
    }
    assert "rules     as they are now, rule 2 matches: preset poster" in _tell(place, "poster.png")
    assert "as they are now: rule 1 of the folder says skip" in _tell(place, "left.webp")
    assert "no rule was reached" in _why(place, "words.jpg")["jobs"][0]["rule_now"]["message"]


def test_while_it_waits(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """While it is under way, and after the process died, the next step is told."""
    place.write(api={"timeouts": {"read": "60s", "total": "90s"}})
    venice.fail("hang", times=1)
    daemon = place.ready()
    place.drop("a.png", draw(1))
    venice.wait(in_flight=1)
    facts = _why(place, "a.png")
    [job] = facts["jobs"]
    assert facts["running"]
    assert (job["state"], job["next"]) == ("executing", "it is being worked on")
    assert job["attempts"][0]["charge"] == "reserved"
    daemon.kill()
    assert "but nothing runs now" in _tell(place, "a.png")


def test_in_doubt(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A request that may have been charged is told as a doubt, with the server's words."""
    place.write(api={"on_in_doubt": "hold"})
    venice.fail("gateway_timeout", times=1)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 1
    [job] = _why(place, "a.png")["jobs"]
    assert (job["code"], job["doubts"], job["usd"]) == ("in_doubt", 1, 0.02)
    told = _tell(place, "a.png")
    assert "HTTP 504, doubtful, in doubt: may have been charged 0.02 USD" in told


def test_odd_names(place: "Place", draw: "Draw") -> None:
    """A name that is not UTF-8, with line ends and escapes, is found and does no harm."""
    name = "a\n\x1b[31m\udcff.png"
    place.drop(name, draw(1))
    place.once()
    told = _tell(place, place.inbox / name)
    assert r"photos/a\n\x1b[31m\udcff.png: upscaled" in told
    assert "\x1b" not in told
    assert _why(place, name)["jobs"][0]["path"] == name
    assert "\x1b" not in place.run("history").stdout


# --- why: what is not known ---------------------------------------------------------------------


def test_why_nothing_is_known(place: "Place", draw: "Draw") -> None:
    """Without a job the reason is in the file's place, name, kind or state."""
    outside = place.root / "outside.png"
    outside.write_bytes(draw(1))
    said = {
        outside: f"in none of the configured folders; the inboxes are {place.inbox}",
        place.root / "nothing.png": "there is no such file",
        place.drop(".hidden.png", draw(1)): "never touched (hidden)",
        place.drop("x.part", draw(1)): "never touched (temporary)",
        place.drop("@eaDir/x.png", draw(1)): "the folder @eaDir is hidden, a system's",
        place.drop("notes.txt", b"words"): "it is no image",
        place.drop("empty.png", b""): "it is empty; it is quarantined if nobody writes to it",
        place.drop("half.png", draw(1)[:300]): "its end is missing",
        place.drop("new.png", draw(1)): "nothing runs that would see it",
        place.outbox / "foreign.png": "there is no such file in the outbox",
    }
    link = place.inbox / "link.png"
    link.symlink_to(outside)
    said[link] = "is a link, and links are not followed"
    (place.archive / "foreign.png").write_bytes(draw(1))
    said[place.archive / "foreign.png"] = "was not put there by this state folder's work"
    for path, words in said.items():
        facts = _why(place, path, code=1)
        assert words in " ".join(facts["unknown"]), path
    assert "nothing is known of notes.txt:\n" in _tell(place, "notes.txt", code=1)
    assert not place.ledger.exists()
    with (place.inbox / "open.png").open("wb") as writer:
        writer.write(draw(2))
        writer.flush()
        assert "still writing" in _tell(place, place.inbox / "open.png", code=1)


def test_not_recursive(place: "Place", draw: "Draw") -> None:
    """A sub-folder of an inbox without sub-folders is told."""
    place.write(recursive=False)
    path = place.drop("sub/a.png", draw(1))
    assert "`recursive` of this folder is off" in _tell(place, path, code=1)
