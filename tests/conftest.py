"""What tests of every floor share: a clock whose time jumps, and a simulated Venice to talk to.

A test names the types of its fixtures under `if TYPE_CHECKING: from tests.conftest import ...`.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ANSWER_S = 30.0  # for one request to the control endpoint, on a busy machine
OTHER_FILE_SYSTEMS = (Path("/dev/shm"), Path("/tmp"), Path("/var/tmp"))
STOP_S = 20.0  # for the simulator to end after SIGTERM


# where others wait for the verdict it must not depend on chance; everywhere else chance finds more
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("VENICE_WATCH_CI"):
    hypothesis.settings.load_profile("ci")


class FakeClock:
    """A `venice_watch.clock.Clock` whose time stands still, but for jumps; sleeping is one."""

    def __init__(self, now: float = 1_780_000_000.0) -> None:
        self.slept_s: list[float] = []  # every sleep that was asked for
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        """Return seconds since 1970."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Jump at once, and let every other task have its turn."""
        self.slept_s.append(seconds)
        self.jump(seconds)
        await asyncio.sleep(0)

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0, "time does not go back; use set_wall for a clock that was set"
        self._now += seconds
        self._monotonic += seconds

    def set_wall(self, now: float) -> None:
        """Set the wall clock, as an administrator would; the monotonic one does not notice."""
        self._now = now


class SimulatorProcess:
    """A running `venice-watch simulator`: its address, its bill, its faults, its settings."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._control = base_url.removesuffix("/api/v1") + "/_control/"
        # loopback must not go through anybody's proxy
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def bill(self) -> dict[str, Any]:
        """Return its totals and records, see `venice_watch.simulator.bill`."""
        return self._ask("GET", "bill")

    def script(self, *entries: dict[str, object]) -> None:
        """Add faults for coming requests: {"fault": NAME, "times": 2}."""
        self._ask("POST", "faults", list(entries))

    def change(self, **settings: object) -> None:
        """Change settings by name."""
        self._ask("POST", "settings", settings)

    def reset(self) -> None:
        """Go back to the settings of the start, with an empty bill and no faults."""
        self._ask("POST", "reset", {})

    def _ask(self, method: str, name: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._control + name, data, method=method)
        with self._opener.open(request, timeout=ANSWER_S) as answer:
            value: dict[str, Any] = json.load(answer)
            return value


class CannedServer:
    """Answers every request with the same bytes: for what the simulator cannot be made to say."""

    def __init__(self, answer: bytes, pause_s: float) -> None:
        self.requests: list[bytes] = []
        self.base_url = ""
        self.listener: asyncio.Server | None = None  # close it, and nobody is there any more
        self._answer = answer
        self._pause_s = pause_s  # between the bytes of the answer; 0 sends it at once
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection in a task of its own."""
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def stop(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer_one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had seen enough
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        body = await reader.readexactly(int(length[1]) if length else 0)
        self.requests.append(head + body)
        step = 1 if self._pause_s else len(self._answer)
        for position in range(0, len(self._answer), step):
            writer.write(self._answer[position : position + step])
            await writer.drain()
            await asyncio.sleep(self._pause_s)


@contextlib.asynccontextmanager
async def canned_server(
    body: bytes, *, head: str = "HTTP/1.1 200 OK", pause_s: float = 0.0
) -> AsyncIterator[CannedServer]:
    """Serve `body` under `head` (status line and headers) on loopback."""
    lines = f"{head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    canned = CannedServer(lines.encode("latin-1") + body, pause_s)
    server = canned.listener = await asyncio.start_server(canned.accept, "127.0.0.1", 0)
    canned.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    try:
        async with server:
            yield canned
    finally:
        await canned.stop()


@pytest.fixture
def canned() -> Callable[..., AbstractAsyncContextManager[CannedServer]]:
    """Return the maker of servers that know one answer."""
    return canned_server


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Return an empty folder on another file system than `tmp_path`."""
    for root in OTHER_FILE_SYSTEMS:
        if root.is_dir() and root.stat().st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=root) as folder:
                yield Path(folder)
            return
    pytest.skip("there is only one file system to write to: /dev/shm and /tmp do not differ")


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock whose time jumps."""
    return FakeClock()


@pytest.fixture(scope="session")
def _simulator_process() -> Iterator[SimulatorProcess]:
    """Run one simulator for all tests of this worker, and end it by its own pid."""
    command = (sys.executable, "-m", "venice_watch", "simulator", "--port", "0")
    options = ("--latency", "0s", "--rpm", "none", "--pixels", "nearest", "--seed", "1")
    with (
        subprocess.Popen((*command, *options), stdout=subprocess.PIPE, text=True) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(_stop, process)
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        assert base_url, f"the simulator ended with {process.wait()}"
        yield SimulatorProcess(base_url)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        assert process.wait(STOP_S) == os.EX_OK, "the simulator did not end in order"
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.fixture
def simulator(_simulator_process: SimulatorProcess) -> SimulatorProcess:
    """Return a simulator without a past: no latency, no rate limit, cheap pixels."""
    _simulator_process.reset()
    return _simulator_process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skip for what CI should have (an install, root's rights) fail there."""
    report = yield
    reason = str(report.longrepr)
    missing = report.skipped and ("to install it" in reason or "run the tests as root" in reason)
    if missing and os.environ.get("VENICE_WATCH_CI"):
        report.outcome = "failed"
    return report
