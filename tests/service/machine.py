"""A machine that boots: this one's own system below an overlay, with systemd as its process 1.

Rules: nothing of it reaches the disk or the network; all of it ends with the process that holds its
mounts. The program is mounted at /opt/venice-watch, because a service sees nobody's home.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
POLL_S = 0.05
LAUNCHER = f"""\
#!/bin/sh
export LD_LIBRARY_PATH=/opt/venice-watch/base/lib
export PYTHONPATH=/opt/venice-watch/source:/opt/venice-watch/packages
exec /opt/venice-watch/base/bin/python{sys.version_info[0]}.{sys.version_info[1]} \\
  -m venice_watch "$@"
"""
# What is mounted here is private to this shell, and gone with it.
BOOT = """\
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
rm -rf root/etc/machine-id root/etc/systemd/system root/etc/fstab
: > root/etc/machine-id
mkdir -p root/etc/systemd/system root/opt/venice-watch/bin
cat > root/opt/venice-watch/bin/venice-watch
chmod 755 root/opt root/opt/venice-watch root/opt/venice-watch/bin/venice-watch
exec systemd-nspawn --register=no --keep-unit --boot --private-network --link-journal=no \\
  --console=pipe --directory=root --machine=venice-watch-test "${@:2}" systemd.unit=basic.target
"""


class Machine:
    """A booted machine: commands in it, and its files."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def run(self, *command: str, check: bool = True, **options: Any) -> str:  # noqa: ANN401
        """Run a command in the machine as root, with its words as given; return what it says."""
        done = subprocess.run(
            ["nsenter", f"--target={self._leader}", "-m", "-u", "-i", "-n", "-p", "-C", *command],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            **{"env": {"PATH": os.environ["PATH"]}} | options,
        )
        if check and done.returncode:
            pytest.fail(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def path(self, inside: str) -> Path:
        """Return where a path of the machine lies for us."""
        return Path(f"/proc/{self._leader}/root", inside.lstrip("/"))

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the machine."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> str:
        """Return a unit's log."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def wait_for(self, unit: str, condition: Callable[[], Any], what: str) -> None:
        """Wait until a condition holds; where it does not, say what the unit's log says."""
        ends_at = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > ends_at:
                pytest.fail(f"not within {DEADLINE_S} s: {what}; the log:\n{self.journal(unit)}")
            time.sleep(POLL_S)


def _find_leader(ancestor: int) -> int | None:
    """Return the machine's process 1, as its number is out here."""
    for path in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line
            )
            if int(status["PPid"]) == ancestor and status["NSpid"].split()[-1] == "1":
                return int(status["Pid"])
    return None


def _why_not() -> str | None:
    """Return why no machine can be booted here."""
    if os.geteuid() != 0:
        return "only root can boot a machine; run the tests as root"
    for program, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            return f"{program} is missing; to install it: apt-get install {package}"
    return None


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """Yield a machine; skips, with words, where none can be booted."""
    if (why := _why_not()) is not None:
        pytest.skip(why)
    packages = Path(pytest.__file__).parents[1]
    binds = {ROOT: "source", Path(sys.base_prefix): "base", packages: "packages"}
    options = [f"--bind-ro={here}:/opt/venice-watch/{there}" for here, there in binds.items()]
    process = subprocess.Popen(
        ["unshare", "--mount", "bash", "-c", BOOT, "bash", str(folder), *options],
        env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(LAUNCHER)
    process.stdin.close()
    try:
        yield _wait_booted(process)
    finally:
        process.send_signal(signal.SIGTERM)  # nspawn then halts the machine
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def _wait_booted(process: "subprocess.Popen[str]") -> Machine:
    ends_at = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends_at:
        if process.poll() is not None:
            assert process.stdout is not None
            pytest.skip(f"no machine can be booted here: {process.stdout.read()[-500:]}")
        leader = _find_leader(process.pid)
        if leader is not None:
            machine = Machine(leader)
            if machine.run("systemctl", "is-system-running", check=False).split()[:1] in (
                ["running"],
                ["degraded"],
            ):
                return machine
        time.sleep(POLL_S)
    pytest.fail("the machine does not come up")
