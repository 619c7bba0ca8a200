"""The program as its users run it: real processes, real folders, and a simulated Venice beside it.

Rules: a `Place` is one user's configuration and folders; every process that it starts is ended by
its own pid. Waiting is for a condition, with a deadline. At the end of each test no process may
have met a bug of ours.
"""

import contextlib
import io
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess

DEADLINE_S = 60.0  # for any one condition; the slowest takes a third of it on a busy machine
POLL_S = 0.02  # between looks at a folder, which tells nobody when it changes
KEY = "sk-not-a-real-key-4711"
FOREIGN = ("VENICE", "NOTIFY_", "WATCHDOG_", "CREDENTIALS_", "NO_COLOR", "FORCE_COLOR")
ROLES = ("inbox", "outbox", "quarantine", "archive")


def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:  # noqa: ANN401 - whatever it waits for
    """Return the first true value of `condition`; fail naming what was waited for."""
    ends_at = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > ends_at:
            pytest.fail(f"not within {deadline_s:g} s: {what}")
        time.sleep(POLL_S)
    return value


def draw(
    number: int = 0,
    size: tuple[int, int] = (256, 256),
    kind: str = "PNG",
    **options: Any,  # noqa: ANN401 - Pillow's own
) -> bytes:
    """Return an image file; each number has its own content, always the same."""
    gradient = Image.linear_gradient("L").resize(size)
    flat = Image.new("L", size, number * 37 % 256)
    other = Image.new("L", size, number // 256 * 11 % 256)
    out = io.BytesIO()
    Image.merge("RGB", (gradient, flat, other)).save(out, kind, **options)
    return out.getvalue()


class Venice:
    """The simulator in the words of these tests: what it saw, what it charged, how it fails."""

    def __init__(self, simulator: "SimulatorProcess") -> None:
        self.base_url = simulator.base_url
        self.bill = simulator.bill
        self.change = simulator.change
        self._simulator = simulator

    def reset(self) -> None:
        """Make it a new one, once nothing of an earlier test is under way.

        No error budget: it is no concern of most tests. A little latency, so that requests meet.
        """
        wait_until(lambda: not self.totals()["in_flight"], "the simulator has come to rest")
        self._simulator.reset()
        self.change(failures_max=None, latency_s=0.02)

    def totals(self) -> dict[str, Any]:
        """Return the sums of the bill."""
        totals: dict[str, Any] = self._simulator.bill()["totals"]
        return totals

    def upscales(self) -> list[dict[str, Any]]:
        """Return the bill's records of upscales that brought an image, oldest first."""
        records = self._simulator.bill()["records"]
        return [record for record in records if record["upscale"] and record["image_sha256"]]

    def charged(self) -> list[str]:
        """Return the sha256 of each image that was charged for, oldest first."""
        return [one["image_sha256"] for one in self.upscales() if one["charged_microusd"]]

    def fail(self, fault: str, **entry: object) -> None:
        """Script one fault; see the simulator's `Scripted`."""
        self._simulator.script({"fault": fault, **entry})

    def wait(self, **totals: int) -> None:
        """Wait until each named total is at least so much."""
        wait_until(
            lambda: all(self.totals()[name] >= value for name, value in totals.items()),
            f"the simulator saw {totals}",
        )


class Program:
    """A running `venice-watch`: its log as it comes, and its end."""

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        folder: Path,
        *,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "venice_watch", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.events: list[dict[str, Any]] = []
        self._out = b""
        self._err = b""
        self._ended = False
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read_out),
            threading.Thread(target=self._read_err),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Return the process's number."""
        return self.process.pid

    @property
    def stdout(self) -> str:
        """Return what it wrote for programs; whole once it has ended."""
        return self._out.decode()

    @property
    def stderr(self) -> str:
        """Return its log so far."""
        return self._err.decode()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            self._out = stream.read()

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._changed:
                    self._err += line
                    with contextlib.suppress(ValueError):  # other formats, tracebacks
                        event = json.loads(line)
                        self.events.append(event if isinstance(event, dict) else {})
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def find(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """Return the log's events of this name that have these fields."""
        wanted = {"event": name, **fields}
        with self._changed:  # an RLock: `wait_event` holds it already
            return [
                event
                for event in self.events
                if all(event.get(key) == value for key, value in wanted.items())
            ]

    def wait_event(self, name: str, times: int = 1, **fields: object) -> dict[str, Any]:
        """Return the log's `times`-th event of this name and fields; it needs `json` lines."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or len(self.find(name, **fields)) >= times, DEADLINE_S
            )
            found = self.find(name, **fields)
        if len(found) < times:
            pytest.fail(f"{len(found)} of {times} {name} {fields}; the log:\n{self.stderr}")
        return found[times - 1]

    def wait(self) -> int:
        """Return its exit code once it has ended by itself."""
        try:
            code = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.arguments} does not end; the log:\n{self.stderr}")
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return code

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """Ask it to finish, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> int:
        """End it as a power cut would."""
        self.process.kill()
        return self.wait()


class Place:
    """One user's configuration and folders; `write` states what differs from the usual."""

    def __init__(self, root: Path, venice: Venice) -> None:
        self.root = root
        self.venice = venice
        self.config = root / "venice-watch.yaml"
        self.state = root / "state"
        self.ledger = self.state / "ledger.sqlite3"
        for role in ROLES:
            (root / role).mkdir()
        self.inbox, self.outbox, self.quarantine, self.archive = (root / role for role in ROLES)
        self.key_file = root / "key"
        self.key_file.write_text(KEY + "\n")
        self.key_file.chmod(0o600)
        self.programs: list[Program] = []
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
        } | {"HOME": str(root)}
        self.write()

    # --- before ----------------------------------------------------------------------------------

    def write(
        self,
        *,
        api: Mapping[str, object] | None = None,
        presets: Mapping[str, object] | None = None,
        folders: list[dict[str, object]] | None = None,
        **folder: object,
    ) -> None:
        """Write the configuration: quick where the API is slow, one folder unless told."""
        usual_api: dict[str, object] = {
            "base_url": self.venice.base_url,
            "key_file": "key",
            "contract": "enhance",
            "requests_per_minute": 6000,
            "timeouts": {"connect": "2s", "write": "10s", "read": "10s", "total": "30s"},
            "retries": {"attempts": 6, "base": "10ms", "max": "50ms"},
        }
        one: dict[str, object] = {"name": "photos", "preset": "photo", "settle": "300ms"}
        one |= {role: role for role in ROLES} | folder
        facts = {
            "api": usual_api | dict(api or {}),
            "state_dir": "state",
            "presets": {"photo": {"scale": 2}, **(presets or {})},
            "folders": [one] if folders is None else folders,
        }
        self.config.write_text(json.dumps(facts, indent=1))  # JSON is YAML

    def drop(self, name: str, data: bytes) -> Path:
        """Write a file into the inbox as `cp` does; sub-folders are made."""
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def draw(self, number: int) -> bytes:
        """Return the picture of this number."""
        return draw(number)

    def drop_many(self, count: int, **options: Any) -> dict[str, bytes]:  # noqa: ANN401 - `draw`'s
        """Drop so many different pictures; return them by name."""
        pictures = {f"p{n:03}.png": draw(n + 1, **options) for n in range(count)}
        for name, data in pictures.items():
            self.drop(name, data)
        return pictures

    # --- running ---------------------------------------------------------------------------------

    def start(self, command: str = "run", *arguments: str, log: str = "json") -> Program:
        """Start a command that works, and return at once."""
        return self.start_bare(
            command, "--config", str(self.config), "--log-format", log, *arguments
        )

    def start_bare(self, *arguments: str) -> Program:
        """Start any command with nothing added."""
        program = Program(list(arguments), self.environment, self.root)
        self.programs.append(program)
        return program

    def run(self, *arguments: str) -> Program:
        """Run any command with this configuration to its end."""
        program = self.start_bare(*arguments, "--config", str(self.config))
        program.wait()
        return program

    def once(self, *arguments: str) -> tuple[int, Program]:
        """Run `once` to its end."""
        program = self.start("once", *arguments)
        return program.wait(), program

    def ready(self) -> Program:
        """Start the daemon and wait until it watches."""
        program = self.start()
        program.wait_event("daemon.ready")
        return program

    # --- after -----------------------------------------------------------------------------------

    def read(self, role: str) -> dict[str, bytes]:
        """Return every file of a folder: its relative name and its bytes."""
        root = self.root / role
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }

    def names(self, role: str) -> set[str]:
        """Return the relative names of all that is in a folder, folders excepted."""
        root = self.root / role
        return {
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_symlink() or not path.is_dir()
        }

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Decode every result; return the (width, height) of each by its name."""
        sizes = {}
        for name in sorted(self.names("outbox")):
            with Image.open(self.outbox / name) as image:
                image.load()
                sizes[name] = image.size
        return sizes

    def report(self, name: str) -> dict[str, Any]:
        """Return the report beside a quarantined file."""
        facts: dict[str, Any] = json.loads((self.quarantine / f"{name}.error.json").read_text())
        return facts

    def wait_names(self, role: str, names: set[str]) -> None:
        """Wait until these are in a folder, whatever else is."""
        ends_at = time.monotonic() + DEADLINE_S
        while missing := names - self.names(role):
            if time.monotonic() > ends_at:
                log = self.programs[-1].stderr if self.programs else ""
                pytest.fail(f"{sorted(missing)} never came into the {role}; the log:\n{log}")
            time.sleep(POLL_S)

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the ledger's file."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=DEADLINE_S)
        ) as connection:
            return connection.execute(query, values).fetchall()

    def wait_rows(self, query: str, count: int) -> None:
        """Wait until a query of the ledger has so many rows."""
        wait_until(lambda: len(self.ask(query)) >= count, f"{count} rows of {query}")

    def unaccounted(self) -> set[str]:
        """Return what is in the spool and no kept result: what is on its way, or left over."""
        kept = {name for (name,) in self.ask("SELECT spool_name FROM results WHERE kept = 1")}
        assert kept <= self.names("state/spool")
        waiting = {name for (name,) in self.ask("SELECT spool_name FROM jobs WHERE state='staged'")}
        return self.names("state/spool") - (kept - waiting)

    def money(self) -> dict[str, int]:
        """Return the ledger's micro-USD by what became of them."""
        return dict(self.ask("SELECT charge, sum(microusd) FROM attempts GROUP BY charge"))

    def end(self) -> None:
        """End what still runs, and look for bugs in every log."""
        for program in self.programs:
            if program.process.poll() is None:
                program.kill()
        bugs = [event for one in self.programs for event in one.events if "exception" in event]
        traces = [one.stderr for one in self.programs if "Traceback (most recent" in one.stderr]
        assert not bugs, bugs
        assert not traces, "\n".join(traces)


@pytest.fixture(name="draw")
def draw_fixture() -> Callable[..., bytes]:
    """Return the maker of pictures."""
    return draw


@pytest.fixture
def venice(simulator: "SimulatorProcess") -> Venice:
    """Return a simulator without a past."""
    venice = Venice(simulator)
    venice.reset()
    return venice


@pytest.fixture
def place_of(tmp_path: Path, venice: Venice) -> Iterator[Callable[[], Place]]:
    """Return a maker of places, for tests that need several."""
    places: list[Place] = []
    numbers = itertools.count()

    def make() -> Place:
        root = tmp_path / f"place{next(numbers)}"
        root.mkdir()
        places.append(Place(root, venice))
        return places[-1]

    yield make
    for place in places:
        place.end()


@pytest.fixture
def place(place_of: Callable[[], Place]) -> Place:
    """Return one user's folders, configured and empty."""
    return place_of()
