"""The key is nowhere but where the user put it, whatever the server says and however it fails."""

import base64
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Program, Venice

    Draw = Callable[..., bytes]

KEY = "sk+Recognisable/Key=4711%xyz"  # other letters when it is encoded for an address
FORMATS = ("json", "logfmt", "console")


def spellings(key: str) -> set[bytes]:
    """Return the ways in which a key may leak: plain, quoted, in JSON, and in base64."""
    found = {key, urllib.parse.quote(key), urllib.parse.quote(key, safe="")}
    found |= {urllib.parse.quote_plus(key), key.replace("/", "\\/"), key[4:-4]}
    for offset in range(3):  # base64 of a text that holds it, wherever it begins
        encoded = base64.b64encode(b"x" * offset + key.encode())
        found |= {encoded[4:-4].decode(), base64.urlsafe_b64encode(encoded)[4:-4].decode()}
    return {one.encode() for one in found}


def written_by(place: "Place") -> dict[str, bytes]:
    """Return all that the program wrote: files of every kind, and its two streams."""
    files = {
        str(path.relative_to(place.root)): path.read_bytes()
        for path in place.root.rglob("*")
        if path.is_file() and path != place.key_file
    }
    for number, program in enumerate(place.programs):
        files[f"stdout of {number}"] = program.stdout.encode()
        files[f"stderr of {number}"] = program.stderr.encode()
    return files


def find_leaks(place: "Place") -> dict[str, bytes]:
    """Return where the key was found, and in which spelling."""
    return {
        where: spelling
        for where, data in written_by(place).items()
        for spelling in spellings(KEY)
        if spelling in data
    }


def command_line(program: "Program") -> bytes:
    """Return what every user of the machine sees of a process."""
    return Path(f"/proc/{program.pid}/cmdline").read_bytes()


@pytest.fixture
def secret(place: "Place") -> "Place":
    """Return a place with a recognisable key."""
    place.key_file.write_text(KEY + "\n")
    return place


def test_the_search_finds(secret: "Place") -> None:
    """The search for leaks finds a key in every spelling that matters."""
    for number, text in enumerate(
        (
            KEY.encode(),
            base64.b64encode(b"Authorization: Bearer " + KEY.encode()),
            urllib.parse.quote(KEY).encode(),
        )
    ):
        leak = secret.state.with_name(f"leak{number}")
        leak.write_bytes(b"before " + text + b" behind")
        assert set(find_leaks(secret)) == {leak.name}
        leak.unlink()


@pytest.mark.parametrize("log", FORMATS)
def test_server_that_repeats_it(secret: "Place", venice: "Venice", draw: "Draw", log: str) -> None:
    """A server that repeats the key in its errors does not get it into reports, ledger or log."""
    venice.fail("echo_key", times=1)
    venice.fail("echo_key_500", times=1)
    for number in range(3):
        secret.drop(f"{number}.png", draw(number))
    program = secret.start("run", "--log-level", "debug", log=log)
    venice.wait(closed=3)
    secret.wait_rows("SELECT 1 FROM attempts WHERE ended_at IS NOT NULL", 3)
    secret.wait_rows("SELECT 1 FROM jobs WHERE state = 'discarded' AND retire IS NOT NULL", 1)
    assert KEY.encode() not in command_line(program)
    assert b"Bearer" not in Path(f"/proc/{program.pid}/cmdline").read_bytes()
    live = find_leaks(secret)  # the write-ahead log is still beside the ledger
    assert (secret.state / "ledger.sqlite3-wal").exists()
    assert secret.run("status").wait() == 0
    assert program.stop() == 0
    assert live == find_leaks(secret) == {}
    said = program.stderr + "".join(
        (secret.quarantine / name).read_text()
        for name in secret.names("quarantine")
        if name.endswith(".error.json")
    )
    assert "Could not handle request" in said  # the words came through, the key did not
    assert "[key removed]" in said


@pytest.mark.parametrize(
    "trouble", ["refused key", "nobody there", "no api", "garbage", "bad key file"]
)
def test_troubles(secret: "Place", venice: "Venice", draw: "Draw", trouble: str) -> None:
    """Neither a refused key, nor a dead or foreign server, nor a bad key file makes it visible."""
    match trouble:
        case "refused key":
            venice.change(keys=["another"])
        case "nobody there":
            secret.write(api={"base_url": "http://127.0.0.1:9/api/v1"})
        case "no api":
            secret.write(api={"base_url": venice.base_url.replace("/api/v1", "/nothing")})
        case "garbage":
            for fault in ("ok_json", "ok_html", "truncated", "server_error_gzip", "html_520"):
                venice.fail(fault, times=1)
            venice.fail("reset_in_upload", times=1)
        case _:
            secret.key_file.write_text(KEY + " and more\n")
    secret.drop("a.png", draw(1))
    if trouble == "garbage":
        secret.drop("b.png", draw(2))
        daemon = secret.start("run", "--log-level", "debug")
        venice.wait(closed=4)
        daemon.stop()
    else:
        once = secret.start("once", "--log-level", "debug")
        assert once.wait() in (1, 69, 77), once.stdout
        check = secret.run("check")
        assert check.wait() in (1, 69)
    assert find_leaks(secret) == {}


def test_environment_is_not_passed_on(secret: "Place", venice: "Venice", draw: "Draw") -> None:
    """A key from the environment is as secret as one from a file."""
    venice.fail("echo_key", times=1)
    secret.write(api={"key_file": None})
    secret.key_file.unlink()
    secret.environment["VENICE_API_KEY"] = KEY
    secret.drop("a.png", draw(1))
    code, program = secret.once("--log-level", "debug")
    assert code == 1
    assert secret.report("a.png")["code"] == "rejected"
    assert "[key removed]" in program.stderr
    assert find_leaks(secret) == {}


def test_state_is_private(secret: "Place", draw: "Draw") -> None:
    """The spool is for this user alone; the state folder's group may pass, to the socket."""
    secret.drop("a.png", draw(1))
    assert secret.once()[0] == 0
    assert secret.state.stat().st_mode & 0o067 == 0
    assert (secret.state / "spool").stat().st_mode & 0o077 == 0
