"""The systemd unit: clean, hardened, in step with the code, and the daemon lives under it."""

import ctypes.util
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from venice_watch.cli.options import CONFIG_PLACES
from venice_watch.config.load import load
from venice_watch.config.units import parse_duration
from venice_watch.daemon import health, life
from venice_watch.errors import ConfigError, KeyUnusableError, StateLockedError
from venice_watch.service.systemd import CREDENTIAL
from venice_watch.service.unit import read_shipped

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "venice-watch.service"
TEMPLATE = ROOT / "systemd" / "venice-watch@.service"
EXPOSURE_MAX = 15  # tenths; systemd calls 1.5 "OK", and an unprotected service has 9.6
WAIT_S = 30.0

# Restricts itself as the unit says, then becomes the daemon. It kills where the unit only refuses:
# a system call that is missing from the filter cannot hide behind a fallback.
RESTRICTED = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
filter = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x80000000)))  # KILL_PROCESS
names = sys.argv[1].split()
for name in names:
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        allow = ctypes.c_uint32(0x7FFF0000)
        assert seccomp.seccomp_rule_add(filter, allow, number, ctypes.c_uint(0)) == 0, name
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
libc.prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE: as MemoryDenyWriteExecute=, where the kernel has it
assert seccomp.seccomp_load(filter) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""

# Has a picture decoded in a process of its own, with its limits and its lent memory.
DECODES = """\
import io
from PIL import Image
from venice_watch.images import decoders
out = io.BytesIO()
Image.effect_noise((400, 300), 80).save(out, "TIFF")
with decoders.opened() as those:
    found, _ = those.look(out.getvalue())
    made = those.prepare(out.getvalue(), found, position=0, width=200, height=150)
print(found.width, Image.open(io.BytesIO(made.data)).size)
"""


@pytest.fixture
def analyze() -> str:
    """Return the path of systemd-analyze."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is missing; to install it: apt-get install systemd")
    return found


@pytest.fixture
def settings() -> dict[str, list[str]]:
    """Return the unit's settings, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("name", [UNIT.name, "venice-watch@scans.service"])
def test_systemd_finds_no_fault(
    analyze: str, settings: dict[str, list[str]], tmp_path: Path, name: str
) -> None:
    """`systemd-analyze verify` says nothing about the units, once their program is installed."""
    program = shlex.split(settings["ExecStart"][0])[0]
    shipped = UNIT if name == UNIT.name else TEMPLATE
    text = shipped.read_text(encoding="utf-8").replace(program, sys.executable)
    installed = tmp_path / name
    installed.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", installed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda path: path.name)
def test_it_is_hardened(analyze: str, unit: Path) -> None:
    """`systemd-analyze security` finds an exposure of at most 1.5."""
    command = [analyze, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager"]
    done = subprocess.run([*command, unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1_000:] + done.stderr
    assert "Overall exposure level" in done.stdout


def test_the_template_differs_in_names_only() -> None:
    """What is set for one service is set for each of several, but for the instance's name."""

    def read(path: Path) -> list[str]:
        text = path.read_text(encoding="utf-8").split("\n[Unit]\n")[1]
        return [line for line in text.splitlines() if not line.startswith("#")]

    pairs = zip(read(UNIT), read(TEMPLATE), strict=True)
    different = [(one, other) for one, other in pairs if one != other]
    assert all("%i" in other and "%i" not in one for one, other in different)
    assert {one.split("=")[0] for one, _ in different} == {
        "Description",
        "RequiresMountsFor",
        "ExecStart",
        "StateDirectory",
        "ReadWritePaths",
    }


def test_the_files_are_those_that_the_package_has() -> None:
    """systemd/ shows what `service install` writes: one text, in two places."""
    shown = {path.name: path.read_text(encoding="utf-8") for path in UNIT.parent.iterdir()}
    assert shown == {name: read_shipped(name) for name in shown}
    assert len(shown) == 4


def test_every_setting_is_in_step_with_the_code(settings: dict[str, list[str]]) -> None:
    """Places, names and exit codes in the unit are those the program has."""
    assert Path(shlex.split(settings["ExecStart"][0])[-1]) in CONFIG_PLACES
    assert settings["LoadCredential"][0].split(":")[0] == CREDENTIAL
    never_again = settings["RestartPreventExitStatus"][0].split()
    assert {str(ConfigError.exit_code), str(KeyUnusableError.exit_code)} <= set(never_again)
    assert str(StateLockedError.exit_code) not in never_again
    assert settings["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert settings["LimitCORE"] == ["0"]  # a core would hold the key


def test_its_times_leave_the_daemon_room(settings: dict[str, list[str]]) -> None:
    """A stop waits longer than a drain lasts, and the watchdog longer than between two words."""
    assert parse_duration(settings["TimeoutStopSec"][0]) > life.GRACE_S
    assert parse_duration(settings["WatchdogSec"][0]) > 2 * health.ANSWER_S + health.HANG_S


def test_the_example_configuration_fits(settings: dict[str, list[str]]) -> None:
    """Every folder of the example configuration may be written under the unit."""
    example = load(ROOT / "config.example.yaml", environment={}, uid=os.getuid())
    [state] = settings["StateDirectory"]
    assert example.state_dir == Path("/var/lib") / state
    writable = [Path(path) for value in settings["ReadWritePaths"] for path in value.split()]
    assert settings["RequiresMountsFor"] == settings["ReadWritePaths"]
    for folder in example.folders:
        for path in (folder.inbox, folder.outbox, folder.quarantine, folder.archive):
            assert path is not None
            assert any(path.is_relative_to(one) for one in writable), path


def _allowed(analyze: str, values: list[str]) -> list[str]:
    """Return the system calls that SystemCallFilter= lines leave."""
    allowed: set[str] = set()
    for value in values:
        taken_away = value.startswith("~")
        named = {one for name in value.removeprefix("~").split() for one in _expand(analyze, name)}
        allowed = allowed - named if taken_away else allowed | named
    return sorted(allowed)


def _expand(analyze: str, name: str) -> Iterator[str]:
    if not name.startswith("@"):
        yield name
        return
    command = [analyze, "--no-pager", "syscall-filter", name]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines()[1:]:
        if (word := line.strip()) and not word.startswith("#"):
            yield from _expand(analyze, word)


@pytest.fixture
def notify(tmp_path: Path) -> Iterator[socket.socket]:
    """Yield a socket that listens where NOTIFY_SOCKET points."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(WAIT_S)
        yield listener


def _wait_for(notify: socket.socket, word: str) -> None:
    """Read what the daemon tells systemd until a message holds `word`."""
    while word not in notify.recv(4_096).decode():
        pass


def _configure(folder: Path, base_url: str) -> Path:
    """Write a configuration without a key, and make its folders."""
    for name in ("inbox", "outbox", "quarantine", "originals", "credentials"):
        (folder / name).mkdir()
    (folder / "credentials" / CREDENTIAL).write_text("a-key-without-any-value\n")
    config = folder / "config.yaml"
    config.write_text(
        f"api: {{base_url: '{base_url}'}}\nstate_dir: state\npresets: {{photo: {{scale: 2}}}}\n"
        "folders:\n  - {name: photos, inbox: inbox, outbox: outbox, quarantine: quarantine, "
        "archive: originals, preset: photo, settle: 100ms}\n"
    )
    return config


def test_the_daemon_lives_under_its_restrictions(
    analyze: str,
    settings: dict[str, list[str]],
    simulator: "SimulatorProcess",
    notify: socket.socket,
    tmp_path: Path,
) -> None:
    """Under the unit's system call filter an image is watched for, upscaled and archived."""
    if ctypes.util.find_library("seccomp") is None:
        pytest.skip("libseccomp is missing; to install it: apt-get install libseccomp2")
    config = _configure(tmp_path, simulator.base_url)
    arguments = shlex.split(settings["ExecStart"][0])[1:-1]
    environment = os.environ | {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "400000",
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
    }
    names = " ".join(_allowed(analyze, settings["SystemCallFilter"]))
    program = [sys.executable, "-m", "venice_watch", *arguments, str(config)]
    with subprocess.Popen(
        [sys.executable, "-c", RESTRICTED, names, *program],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _wait_for(notify, "READY=1")
            Image.effect_noise((300, 300), 80).save(tmp_path / "inbox" / "noise.png")
            _wait_for(notify, "STATUS=0 waiting, 0 in flight, 0.02 USD today")
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert "by=native" in log
    assert [path.name for path in (tmp_path / "outbox").iterdir()] == ["noise.png"]
    assert [path.name for path in (tmp_path / "originals").iterdir()] == ["noise.png"]


def test_pictures_are_decoded_under_its_restrictions(
    analyze: str, settings: dict[str, list[str]]
) -> None:
    """Under the unit's system call filter a process that decodes starts, limits itself, answers."""
    if ctypes.util.find_library("seccomp") is None:
        pytest.skip("libseccomp is missing; to install it: apt-get install libseccomp2")
    names = " ".join(_allowed(analyze, settings["SystemCallFilter"]))
    done = subprocess.run(
        [sys.executable, "-c", RESTRICTED, names, sys.executable, "-c", DECODES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stdout) == (0, "400 (200, 150)\n"), done.stderr


def test_a_hang_leaves_where_it_hung(
    simulator: "SimulatorProcess", notify: socket.socket, tmp_path: Path
) -> None:
    """SIGABRT, systemd's word to a service that hangs, leaves each thread's place and no key."""
    config = _configure(tmp_path, simulator.base_url)
    environment = os.environ | {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "venice_watch", "run", "--config", str(config)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),  # noqa: PLW1509
    ) as process:
        try:
            _wait_for(notify, "READY=1")
            process.send_signal(signal.SIGABRT)
            _, log = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in log
    assert "run_commands.py" in log
    assert "a-key-without-any-value" not in log
