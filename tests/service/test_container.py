"""The container's scripts under a plain shell, with real users and as a real process 1."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from venice_watch.config.units import parse_duration
from venice_watch.daemon import life

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess

ROOT = Path(__file__).parents[2]
ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"
HEALTH = ROOT / "docker" / "health.sh"
DEADLINE_S = 60.0
SHOW = "#!/bin/sh\nid -u; id -g; id -G; grep CapEff /proc/self/status; printf '%s|' \"$@\"\n"
REAL = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m venice_watch "$@"\n'
CAP_LEASE = 1 << 28


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that every user may enter, with `bin` on the path and a `state`."""
    with tempfile.TemporaryDirectory(prefix="venice-watch-container-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        for inner in ("bin", "state"):
            (path / inner).mkdir()
        yield path


def install(folder: Path, program: str) -> None:
    """Put a program called venice-watch on the path; users other than root cannot run ours here."""
    path = folder / "bin" / "venice-watch"
    path.write_text(program)
    path.chmod(0o755)


def surroundings(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a container."""
    own = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return own | {"VENICE_WATCH_STATE": str(folder / "state")} | dict(more)


def enter(
    folder: Path, *arguments: str, wrapper: tuple[str, ...] = (), **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run the entrypoint under a plain shell."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user; run the tests as root")
    if shutil.which("dash") is None:
        pytest.skip("dash is missing; to install it: apt-get install dash")
    return subprocess.run(
        [*wrapper, "dash", ENTRYPOINT, *arguments],
        env=surroundings(folder, environment),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_becomes_the_owner(folder: Path) -> None:
    """As root it becomes PUID:PGID, with CAP_LEASE and nothing else; words stay as they are."""
    install(folder, SHOW)
    os.chown(folder / "state", 1234, 5678)
    done = enter(folder, "run", "--config", "a b", PUID="1234", PGID="5678")
    assert done.returncode == 0, done.stderr
    uid, gid, groups, capabilities, words = done.stdout.split("\n")
    assert (uid, gid, groups, words) == ("1234", "5678", "5678", "run|--config|a b|")
    assert int(capabilities.split()[1], 16) == CAP_LEASE


def test_without_the_right_to_leases(folder: Path) -> None:
    """Where the container has no CAP_LEASE to give, it works without."""
    install(folder, SHOW)
    os.chown(folder / "state", 1234, 1234)
    wrapper = ("setpriv", "--bounding-set=-lease", "--inh-caps=-all", "--")
    done = enter(folder, "run", PUID="1234", wrapper=wrapper)
    assert done.stdout.split("\n")[:2] == ["1234", "1234"], done.stderr
    assert int(done.stdout.split("\n")[3].split()[1], 16) == 0


def test_stays_who_it_is(folder: Path) -> None:
    """As anybody but root it changes nothing."""
    install(folder, SHOW)
    wrapper = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--")
    if not os.access(ROOT, os.X_OK) or any(not p.stat().st_mode & 1 for p in ROOT.parents):
        pytest.skip("another user may not read this checkout")
    done = enter(folder, "check", PUID="77", wrapper=wrapper)
    assert done.stdout.split("\n")[0] == "1234", done.stderr


@pytest.mark.parametrize("number", ["me", "-1", "1;id"])
def test_odd_numbers(folder: Path, number: str) -> None:
    """What is no number is refused with words."""
    install(folder, SHOW)
    done = enter(folder, "run", PUID=number)
    assert (done.returncode, done.stdout) == (78, "")
    assert "PUID and PGID must be numbers" in done.stderr


def test_state_of_somebody_else(folder: Path) -> None:
    """A state folder that may not be written is told of with the command that mends it."""
    install(folder, SHOW)
    (folder / "state").chmod(0o755)
    done = enter(folder, "run", PUID="1234", PGID="99")
    assert (done.returncode, done.stdout) == (77, "")
    assert "chown -R 1234:99 ." in done.stderr


def _configure(folder: Path, base_url: str) -> Path:
    for name in ("inbox", "outbox", "quarantine", "originals"):
        (folder / name).mkdir()
    config = folder / "config.yaml"
    config.write_text(
        f"api: {{base_url: '{base_url}'}}\nstate_dir: state\npresets: {{photo: {{scale: 2}}}}\n"
        "folders:\n  - {name: photos, inbox: inbox, outbox: outbox, quarantine: quarantine, "
        "archive: originals, preset: photo}\n"
    )
    return config


def test_process_1(simulator: "SimulatorProcess", folder: Path) -> None:
    """As process 1 of its own name space it is healthy, drains on SIGTERM, and is then not."""
    if os.geteuid() != 0:
        pytest.skip("only root makes a name space of processes; run the tests as root")
    install(folder, REAL)
    config = _configure(folder, simulator.base_url)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(folder / "notify"))
    notify.settimeout(DEADLINE_S)
    own = {
        "PUID": "0",
        "VENICE_WATCH_CONFIG": str(config),
        "VENICE_API_KEY": "a-key-without-any-value",
        "NOTIFY_SOCKET": str(folder / "notify"),
    }
    environment = surroundings(folder, own)
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "dash", ENTRYPOINT]
    with (
        notify,
        subprocess.Popen(
            [*command, "run"], env=environment, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            while "READY=1" not in notify.recv(4_096).decode():
                pass
            assert _is_healthy(environment)
            [child] = _children(process.pid)
            os.kill(child, signal.SIGTERM)
            _, log = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert re.search(r"daemon\.stopped", log)
    assert not _is_healthy(environment)


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # it ended meanwhile
        if int(parent) == pid:
            found.append(int(path.parent.name))
    return found


def _is_healthy(environment: Mapping[str, str]) -> bool:
    done = subprocess.run(
        ["dash", HEALTH], env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode == 0) == (done.stderr == ""), done
    return done.returncode == 0


def test_the_example_fits_the_entrypoint() -> None:
    """compose.yaml waits for a drain, and gives exactly the rights that the entrypoint needs."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["venice-watch"]
    assert parse_duration(service["stop_grace_period"]) > life.GRACE_S
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert set(service["cap_add"]) == {"SETUID", "SETGID", "SETPCAP", "LEASE"}
    assert all(str(service["environment"][name]).isdecimal() for name in ("PUID", "PGID"))


def test_the_example_s_rights_are_enough(folder: Path) -> None:
    """With the capabilities of compose.yaml, and no others, the entrypoint becomes the owner."""
    install(folder, SHOW)
    os.chown(folder / "state", 1234, 1234)
    kept = "-all,+setuid,+setgid,+setpcap,+lease"
    wrapper = ("setpriv", f"--bounding-set={kept}", "--inh-caps=-all", "--no-new-privs", "--")
    done = enter(folder, "run", PUID="1234", wrapper=wrapper)
    assert done.stdout.split("\n")[0] == "1234", done.stderr
    assert int(done.stdout.split("\n")[3].split()[1], 16) == CAP_LEASE
