"""The command line as people and scripts meet it: mistakes, checks, exit codes, what it prints."""

import contextlib
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

FIVE_MISTAKES = """\
api:
  concurency: 4
  requests_per_minute: many
state_dir: state
presets:
  photo: {scale: 9}
folders:
  - name: photos
    inbox: inbox
    outbox: outbox
    quarantine: quarantine
    archive: archive
    preset: foto
    settle: 2 parsecs
"""
HEAVY = ("httpx", "PIL", "rich", "yaml", "pydantic", "watchdog", "structlog", "sqlite3")
COMMANDS = tuple(
    "demo init check plan run once status history spend why retry simulator schema".split()
)


def test_five_mistakes(place: "Place") -> None:
    """Every mistake is told at once, each with file, line and column, and the exit code is 78."""
    place.config.write_text(FIVE_MISTAKES)
    for command in ("run", "check"):
        program = place.run(command)
        assert program.wait() == 78
        lines = program.stderr.splitlines()
        assert len(lines) == 5, program.stderr
        found = [re.search(r"venice-watch\.yaml:(\d+):(\d+): (\S+): ", line) for line in lines]
        assert [(int(one[1]), one[3]) for one in found if one] == [
            (2, "api.concurency"),
            (3, "api.requests_per_minute"),
            (6, "presets.photo.scale"),
            (13, "folders.photos.preset"),
            (14, "folders.photos.settle"),
        ]
        assert "concurrency" in lines[0]  # did you mean
        assert "photo" in lines[3].rpartition("foto")[2]
    assert not place.state.exists()


def test_key_in_the_file(place: "Place") -> None:
    """A key written into the configuration is refused, and not repeated."""
    place.config.write_text(place.config.read_text().replace('"key_file"', '"key"', 1))
    text = place.config.read_text().replace('"key": "key"', '"key": "sk-in-the-file-815"')
    place.config.write_text(text)
    program = place.run("once")
    assert program.wait() == 78
    assert "key_file" in program.stderr
    assert "sk-in-the-file-815" not in program.stderr + program.stdout


def test_no_configuration(place: "Place") -> None:
    """Without a configuration the message says where it was looked for and how to make one."""
    place.config.unlink()
    program = place.start_bare("once")
    assert program.wait() == 78
    assert "venice-watch init" in program.stderr
    named = place.start_bare("check", "--config", "other.yaml")
    assert named.wait() == 78
    assert "other.yaml" in named.stderr


def test_no_key(place: "Place") -> None:
    """Without a key the exit code is 77 and the message names every place that was tried."""
    place.environment |= {
        "CREDENTIALS_DIRECTORY": str(place.root / "credentials"),
        "VENICE_API_KEY_FILE": str(place.root / "another-key"),
    }
    place.key_file.unlink()
    place.drop("a.png", b"")
    for command in ("once", "run"):
        program = place.run(command)
        assert program.wait() == 77
        for tried in (str(place.key_file), "credentials/venice-api-key", "another-key"):
            assert tried in program.stderr
        assert "VENICE_API_KEY" in program.stderr
    assert place.names("inbox") == {"a.png"}


@pytest.mark.parametrize("text", ["", "two words", "two\nlines"], ids=["none", "words", "lines"])
def test_no_good_key(place: "Place", text: str) -> None:
    """A key file that holds no key is refused with its name, without its content."""
    place.key_file.write_text(text)
    program = place.run("once")
    assert program.wait() == 77
    assert str(place.key_file) in program.stderr
    assert not text.strip() or text.strip() not in program.stderr


@pytest.mark.parametrize(
    "source", ["CREDENTIALS_DIRECTORY", "VENICE_API_KEY_FILE", "VENICE_API_KEY"]
)
def test_where_the_key_is(place: "Place", venice: "Venice", draw: "Draw", source: str) -> None:
    """The key comes from systemd's credentials, a named file, or the environment alike."""
    venice.change(keys=["sk-the-right-one"])
    place.write(api={"key_file": None})
    (place.root / "venice-api-key").write_text("sk-the-right-one\r\n")
    place.environment[source] = {
        "CREDENTIALS_DIRECTORY": str(place.root),
        "VENICE_API_KEY_FILE": str(place.root / "venice-api-key"),
        "VENICE_API_KEY": "sk-the-right-one",
    }[source]
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png"}


@pytest.mark.parametrize("role", ["inbox", "outbox", "quarantine", "archive"])
def test_missing_folder(place: "Place", draw: "Draw", venice: "Venice", role: str) -> None:
    """A folder that is not there is an error of `check`; nothing is sent, made, or lost for it.

    It may be the mount point of a share that is away.
    """
    (place.root / role).rmdir()
    check = place.run("check", "--offline")
    assert check.wait() == 1
    assert f"the {role} {place.root / role} is not there" in check.stdout
    if role == "inbox":
        code, _ = place.once()
        assert code != 0
    else:
        data = draw(1)
        place.drop("a.png", data)
        place.once()
        kept = place.read("inbox") | (place.read("archive") if role != "archive" else {})
        assert kept == {"a.png": data}
    assert not (place.root / role).exists()
    assert venice.totals()["charges"] <= 1


def test_init(place: "Place") -> None:
    """`init` writes a configuration that `check --offline` likes once there is a key."""
    folder = place.root / "new"
    made = place.start_bare("init", str(folder))
    assert made.wait() == 0
    assert {path.name for path in folder.iterdir()} == {
        "venice-watch.yaml", "inbox", "outbox", "quarantine", "originals", "state",
    }  # fmt: skip
    again = place.start_bare("init", str(folder))
    assert again.wait() == 1
    assert "is there already" in again.stderr
    config = ("--config", str(folder / "venice-watch.yaml"))
    without = place.start_bare("check", "--offline", *config)
    assert without.wait() == 1
    assert "there is no API key" in without.stdout
    (folder / "key").write_text("sk-mine")
    (folder / "key").chmod(0o600)
    good = place.start_bare("check", "--offline", *config)
    assert good.wait() == 0, good.stdout


def test_check(place: "Place", venice: "Venice") -> None:
    """`check` tells the account, the rate, the contract and the prices, and spends nothing."""
    place.write(api={"contract": "auto", "requests_per_minute": "auto"})
    venice.change(requests_per_minute=60, balance_usd=12.5)
    text, facts = place.run("check"), place.run("check", "--json")
    assert (text.wait(), facts.wait()) == (0, 0)
    for words in ("60 requests a minute", "12.5 USD", "enhance", "2x 0.02 USD", "4x 0.08 USD"):
        assert words in text.stdout
    findings = json.loads(facts.stdout)
    assert {one["level"] for one in findings} == {"ok"}
    assert {"configuration", "state_dir", "folder photos", "inotify", "key", "account",
            "rate", "balance", "contract", "prices", "clock",
            } == {one["subject"] for one in findings}  # fmt: skip
    assert venice.totals()["charges"] == 0
    assert venice.upscales() == []
    assert not place.ledger.exists()


def test_check_refused(place: "Place", venice: "Venice") -> None:
    """`check` exits 69 when the key is refused, and when nobody answers."""
    venice.change(keys=["another"])
    refused = place.run("check")
    assert refused.wait() == 69
    assert "Authentication failed" in refused.stdout
    place.write(api={"base_url": "http://127.0.0.1:9/api/v1"})
    silent = place.run("check")
    assert silent.wait() == 69
    assert "127.0.0.1:9" in silent.stdout


def test_once_with_nothing_to_do(place: "Place") -> None:
    """`once` on an empty inbox exits 0 and says so; it writes no colour into a pipe."""
    program = place.start_bare("once", "--config", str(place.config))
    assert program.wait() == 0
    assert program.stdout == "0 upscaled, 0 quarantined, 0.00 USD\n"
    assert "\x1b" not in program.stderr


def test_once_while_somebody_writes(place: "Place", draw: "Draw") -> None:
    """`once` leaves a file that is being written, names it, and exits 75."""
    data = draw(1)
    with (place.inbox / "busy.png").open("wb") as writer:
        writer.write(data)
        writer.flush()
        code, program = place.once()
    assert code == 75
    assert "busy.png was left where it is" in program.stdout
    assert place.read("inbox") == {"busy.png": data}


def test_once_while_unreachable(place: "Place") -> None:
    """`once` exits 69 when nobody answers, and every file stays in the inbox."""
    place.write(api={"base_url": "http://127.0.0.1:9/api/v1"})
    before = place.drop_many(3)
    code, program = place.once()
    assert code == 69
    assert "the API could not be used" in program.stdout
    assert place.read("inbox") == before
    assert place.names("outbox") == place.names("quarantine") == set()


def test_demo(place: "Place") -> None:
    """`demo` on a pipe exits 0, tells where each image went and what it would have cost."""
    keep = place.root / "demo"
    program = place.start_bare("demo", "--keep", str(keep))
    assert program.wait() == 0, program.stdout
    assert "8 upscaled, 1 quarantined" in program.stdout
    assert re.search(r"It would have cost 0\.\d\d USD", program.stdout)
    assert "\x1b" not in program.stdout
    assert len(list((keep / "outbox").iterdir())) == 8
    assert {path.name for path in (keep / "quarantine").iterdir()} == {
        "damaged.png", "damaged.png.error.json",
    }  # fmt: skip
    assert (keep / "before-and-after.png").stat().st_size > 10_000
    again = place.start_bare("demo", "--keep", str(keep))
    assert again.wait() == 1
    assert "is not empty" in again.stderr


def test_schema(place: "Place") -> None:
    """`schema` prints JSON that names every part of the configuration."""
    program = place.start_bare("schema")
    assert program.wait() == 0
    schema = json.loads(program.stdout)
    assert {"api", "state_dir", "presets", "folders"} <= set(schema["properties"])


def run_on_terminal(place: "Place", *arguments: str, **environment: str) -> str:
    """Run a command whose output is a terminal; return what it showed."""
    ours, theirs = os.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "venice_watch", *arguments, "--config", str(place.config)],
        cwd=place.root,
        env=place.environment | {"TERM": "xterm-256color"} | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO: the last one has closed it
            while data := os.read(ours, 65_536):
                shown += data
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize(
    "command",
    [["check", "--offline"], ["once"], ["once", "--log-format", "console"]],
    ids=["check", "bar", "log"],
)
def test_colours(place: "Place", command: list[str]) -> None:
    """Colours are shown on a terminal, and nowhere once NO_COLOR is set."""
    colour = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|9[0-7])[0-9;]*m")
    place.drop_many(2)
    assert colour.search(run_on_terminal(place, *command))
    place.drop_many(2)
    assert not colour.search(run_on_terminal(place, *command, NO_COLOR="1"))


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=["", *COMMANDS])
def test_help_is_quick(arguments: list[str]) -> None:
    """Help imports nothing that a command needs only for its work."""
    code = (
        "import sys\n"
        "from venice_watch.cli import main\n"
        f"sys.argv = ['venice-watch', *{arguments!r}, '--help']\n"
        "try:\n    main()\n"
        "finally:\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    print(','.join(heavy), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.startswith("Usage: venice-watch")
    assert done.stderr.strip() == ""


def test_usage(place: "Place") -> None:
    """A command or option that is not there exits 2."""
    for arguments in (("fly",), ("once", "--fly"), ("run", "--log-level", "loud")):
        program = place.start_bare(*arguments)
        assert program.wait() == 2
        assert "Usage" in program.stderr
