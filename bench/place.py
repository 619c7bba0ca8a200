"""Where a measurement takes place: a simulator, folders, and programs that watch an inbox.

Rules: every program is a process of its own, ended by its own id with all that it started. All
contestants get the same files in the same way, and know nothing of each other.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import machine
from bench.results import Row

ROOT = Path(__file__).parents[1]
RIVALS = Path(__file__).parent / "rivals"
KEY = "sk-bench-not-a-real-key"
ROLES = ("inbox", "outbox", "quarantine", "archive")
START_S = 60.0  # for a program to watch, on a busy machine
END_S = 30.0  # for a program to end after SIGTERM
POLL_S = 0.005  # between looks at a folder, which tells nobody when it changes
FOREIGN = ("VENICE", "NOTIFY_", "WATCHDOG_", "CREDENTIALS_")
OURS = "venice-watch"


class MissingError(Exception):
    """Something that a contestant needs is not installed: why, and what to run."""


def environment() -> dict[str, str]:
    """Return what programs are told: this checkout's package, nobody's key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1"}


def program(*arguments: str) -> list[str]:
    """Return the command line of this project's program."""
    return [sys.executable, "-m", "venice_watch", *arguments]


class Simulator:
    """A local Venice in a process of its own; use it as a context manager."""

    def __init__(self, *, latency_s: float, pixels: str = "canned") -> None:
        self._command = program("simulator", "--port", "0", "--latency", f"{latency_s}s")
        self._command += ["--rpm", "none", "--pixels", pixels]
        self._command += ["--set", "failures_max=none", "--set", "balance_usd=1000000"]
        # loopback must not go through anybody's proxy
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.base_url = ""

    def __enter__(self) -> Self:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            self._command,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        if not self.base_url:
            raise RuntimeError(f"the simulator ended with {self._process.wait()}")
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def cpu_s(self) -> float:
        """Return the CPU seconds that it used."""
        return machine.cpu_s(self._process.pid)

    def ask(self, method: str, name: str, body: object = None) -> dict[str, Any]:
        """Ask its control endpoint."""
        data = None if body is None else json.dumps(body).encode()
        url = self.base_url.removesuffix("/api/v1") + f"/_control/{name}"
        request = urllib.request.Request(url, data, method=method)  # noqa: S310 - loopback
        with self._opener.open(request, timeout=START_S) as answer:
            value: dict[str, Any] = json.load(answer)
            return value

    def upscales(self) -> list[dict[str, Any]]:
        """Return its records of upscales with an image, oldest first."""
        records = self.ask("GET", "bill")["records"]
        return [one for one in records if one["upscale"] and one["image_sha256"]]

    def totals(self) -> dict[str, Any]:
        """Return the sums of its bill."""
        totals: dict[str, Any] = self.ask("GET", "bill?after=999999999")["totals"]
        return totals

    def warm_up(self, picture: bytes) -> None:
        """Have the answer for pictures of this one's size made, so that nobody waits for it."""
        mark = "bench"
        head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        tail = f'\r\n--{mark}\r\nContent-Disposition: form-data; name="scale"\r\n\r\n2'
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.base_url}/image/upscale",
            head.encode() + picture + f"{tail}\r\n--{mark}--\r\n".encode(),
            headers={
                "Authorization": f"Bearer {KEY}",
                "Content-Type": f"multipart/form-data; boundary={mark}",
            },
        )
        with self._opener.open(request, timeout=START_S) as answer:
            answer.read()

    def reset(self) -> None:
        """Begin with an empty bill, once nothing is under way."""
        wait_until(lambda: not self.totals()["in_flight"], "the simulator has come to rest")
        self.ask("POST", "reset", {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folders and the configuration of one contestant in one measurement."""

    root: Path
    base_url: str
    concurrency: int = 4

    @property
    def inbox(self) -> Path:
        """Return where images are dropped."""
        return self.root / "inbox"

    @property
    def outbox(self) -> Path:
        """Return where results appear."""
        return self.root / "outbox"

    @property
    def state(self) -> Path:
        """Return our state folder."""
        return self.root / "state"

    @property
    def config(self) -> Path:
        """Return our configuration file."""
        return self.root / "venice-watch.yaml"

    def write(self, *folders: Row) -> "Place":
        """Make the folders and the configuration; what is not named has the program's defaults.

        `folders`: what each has of its own; none: there is one, with nothing of its own.
        """
        usual: Row = {"name": "bench", "preset": "bench", **{role: role for role in ROLES}}
        entries = [usual | folder for folder in folders or ({},)]
        for name in (str(entry[role]) for entry in entries for role in ROLES):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        key = self.root / "key"
        key.write_text(f"{KEY}\n")
        key.chmod(0o600)
        facts = {
            "api": {
                "base_url": self.base_url,
                "key_file": "key",
                "contract": "enhance",
                "concurrency": self.concurrency,
                "requests_per_minute": 6000,
            },
            "state_dir": "state",
            "presets": {"bench": {"scale": 2}},
            "folders": entries,
        }
        self.config.write_text(json.dumps(facts, indent=1))  # JSON is YAML
        self.config.chmod(0o600)
        return self

    def arguments(self) -> list[str]:
        """Return what the rival scripts are called with."""
        where = [str(self.inbox), str(self.outbox)]
        return [*where, str(self.concurrency), self.base_url, KEY]


class Running:
    """A program that was started, in a group of its own."""

    def __init__(self, command: list[str], place: Place, **more: str) -> None:
        self.name = " ".join(command[:4])
        self._log = (place.root / "log").open("wb")
        self.started_at_s = time.monotonic()
        self._process = subprocess.Popen(
            command,
            cwd=place.root,
            env=environment() | more,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Return its number."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Return the CPU seconds that it and all that it started used."""
        return machine.cpu_s(self.pid)

    def check(self) -> None:
        """Raise if it ended."""
        if (code := self._process.poll()) is not None:
            words = Path(self._log.name).read_text("utf-8", "replace")[-2_000:]
            raise RuntimeError(f"{self.name} ended with {code}: {words}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


def start_ours(place: Place) -> Running:
    """Start the daemon and return once it says that it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(place.root / "notify"))
        told.settimeout(START_S)
        running = Running(
            program("run", "--config", str(place.config), "--log-format", "json"),
            place,
            NOTIFY_SOCKET=str(place.root / "notify"),
        )
        try:
            while b"READY=1" not in told.recv(4096):
                pass
        except TimeoutError:
            running.check()
            running.end()
            raise
        finally:
            (place.root / "notify").unlink()
    return running


def start_curl(place: Place) -> Running:
    """Start `inotifywait | xargs curl` and return once it watches."""
    require("inotifywait", "inotify-tools")
    require("curl", "curl")
    return _start_rival(["sh", str(RIVALS / "curl.sh"), *place.arguments()], place)


def require(command: str, package: str) -> None:
    """Raise MissingError unless a command is installed."""
    if shutil.which(command) is None:
        raise MissingError(f"{command} is not installed: apt-get install {package}")


def start_threads(place: Place) -> Running:
    """Start the script with threads and return once it watches."""
    return _start_rival([sys.executable, str(RIVALS / "threads.py"), *place.arguments()], place)


def _start_rival(command: list[str], place: Place) -> Running:
    running = Running(command, place)

    def watches() -> bool:
        running.check()
        return machine.watches_inotify(running.pid)

    wait_until(watches, f"{command[1]} watches")
    return running


CONTESTANTS: Mapping[str, Callable[[Place], Running]] = {
    OURS: start_ours,
    "inotifywait | curl": start_curl,
    "watchdog and threads": start_threads,
}


@contextlib.contextmanager
def running(name: str, place: Place, *folders: Row) -> Iterator[Running]:
    """Yield a contestant that watches, and end it; its files are removed afterwards.

    `folders` are those of our configuration, as in `Place.write`.
    """
    place.write(*folders)
    one = CONTESTANTS[name](place)
    try:
        yield one
    finally:
        one.end(signal.SIGTERM if name == OURS else signal.SIGKILL)
        shutil.rmtree(place.root, ignore_errors=True)


def wait_until(
    condition: Callable[[], Any], what: str, *, limit_s: float = START_S, poll_s: float = POLL_S
) -> Any:  # noqa: ANN401 - whatever it waits for
    """Return the first true value of `condition`; raise TimeoutError naming what was waited for."""
    ends_at = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > ends_at:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(poll_s)
    return value
