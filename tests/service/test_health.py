"""What systemd is told: pings as long as everything moves, and how things stand, in words."""

import asyncio
import contextlib
import io
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from PIL import Image

from venice_watch.clock import SystemClock
from venice_watch.config.load import loads
from venice_watch.daemon import Daemon, health, opened, report
from venice_watch.daemon.health import FileThreads, find_hang
from venice_watch.daemon.life import THREADS_MAX
from venice_watch.service.systemd import Notifier

if TYPE_CHECKING:
    from tests.conftest import FakeClock, SimulatorProcess

DEADLINE_S = 30.0
SHORT = {"ANSWER_S": 0.3, "HANG_S": 0.4, "WAIT_S": 0.1, "HANG_LOOK_S": 0.05, "STATUS_S": 0.05}
WATCHDOG_USEC = "200000"  # a ping each tenth of a second
SILENCE_S = 0.4  # four pings
CALM = {"ledger_s": 0.0, "calls_s": (), "threads_max": 4, "still_s": {}}


# --- the decision -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({}, None),
        ({"ledger_s": health.ANSWER_S - 1}, None),
        ({"ledger_s": health.ANSWER_S}, "the ledger"),
        ({"calls_s": [health.HANG_S] * 3}, None),
        ({"calls_s": [health.HANG_S] * 4}, "every thread for files"),
        ({"calls_s": [health.HANG_S] * 3 + [1.0]}, None),
        ({"still_s": {"a": health.HANG_S - 1}}, None),
        ({"still_s": {"b": health.HANG_S, "a": 1.0}}, "the watch over b"),
        ({"still_s": {"a": 9_999.0}, "calls_s": [health.WAIT_S]}, None),
        ({"still_s": {"a": 9_999.0}, "calls_s": [0.1]}, "the watch over a"),
    ],
)
def test_what_counts_as_a_hang(facts: dict[str, object], what: str | None) -> None:
    """Standing still is a hang unless it is for a disk that has not answered yet."""
    assert find_hang(**(CALM | facts)) == what  # type: ignore[arg-type]


def test_threads_know_their_calls(clock: "FakeClock") -> None:
    """A call is under way from its beginning to its end, however it ends."""
    go, begun = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert go.wait(DEADLINE_S)
        raise ValueError("its own")

    with FileThreads(1, clock) as threads:
        future, queued = threads.submit(call), threads.submit(lambda x: x, 5)
        assert begun.wait(DEADLINE_S)
        clock.jump(7)
        assert threads.waiting_s() == [7]  # what is queued has not begun
        go.set()
        with pytest.raises(ValueError, match="its own"):
            future.result(DEADLINE_S)
        assert queued.result(DEADLINE_S) == 5
    assert threads.waiting_s() == []


# --- the daemon ---------------------------------------------------------------------------------


class Systemd:
    """The other end of the notification socket, and the log."""

    def __init__(self, listener: socket.socket) -> None:
        self.log = io.StringIO()
        self._listener = listener

    async def receive(self) -> str:
        """Return the next message."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            return (await loop.sock_recv(self._listener, 4_096)).decode()

    async def wait_for(self, word: str) -> str:
        """Return the first message from now on that holds a word."""
        while word not in (message := await self.receive()):
            pass
        return message

    def drop(self) -> list[str]:
        """Return all messages that came until now."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._listener.recv(4_096).decode())
        return found

    async def wait_logged(self, *words: str) -> None:
        """Wait until a line of the log has all these words."""
        await wait_until(
            lambda: any(
                all(word in line for word in words) for line in self.log.getvalue().splitlines()
            )
        )


async def wait_until(condition: Callable[[], bool]) -> None:
    """Return when a condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """Yield a socket that listens where NOTIFY_SOCKET points."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)  # noqa: FBT003 - the library's own
        yield Systemd(listener)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hangs be told after tenths of seconds."""
    for name, value in SHORT.items():
        monkeypatch.setattr(health, name, value)
    monkeypatch.setattr(report, "SILENT_S", SHORT["HANG_S"])


@contextlib.asynccontextmanager
async def running(folder: Path, base_url: str, systemd: Systemd) -> AsyncIterator[Daemon]:
    """Yield a daemon that is watching, and drain it afterwards."""
    for name in ("inbox", "outbox", "quarantine", "originals"):
        (folder / name).mkdir()
    config = loads(
        f"api: {{base_url: '{base_url}'}}\nstate_dir: state\npresets: {{photo: {{scale: 2}}}}\n"
        "folders:\n  - {name: photos, inbox: inbox, outbox: outbox, quarantine: quarantine, "
        "archive: originals, preset: photo, settle: 100ms, rescan: 1h}\n",
        folder / "config.yaml",
        {},
    )
    log = structlog.wrap_logger(
        structlog.PrintLogger(systemd.log), processors=[structlog.processors.KeyValueRenderer()]
    )
    environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": WATCHDOG_USEC}
    async with opened(
        config,
        "a-key",
        command="run",
        clock=SystemClock(),
        log=log,
        notifier=Notifier(environment),
    ) as daemon:
        task = asyncio.create_task(daemon.run())
        await systemd.wait_for("READY=1")
        await systemd.wait_for("WATCHDOG=1")
        yield daemon
        daemon.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task


async def _is_withheld(systemd: Systemd, what: str) -> None:
    """Expect that a hang is said and no ping comes for as long as several would take."""
    await systemd.wait_logged("health.hangs", what)
    systemd.drop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SILENCE_S):
            await systemd.wait_for("WATCHDOG=1")


@pytest.mark.usefixtures("short")
def test_ledger_hangs(simulator: "SimulatorProcess", systemd: Systemd, tmp_path: Path) -> None:
    """While the ledger's thread is stuck no ping is sent; when it goes on, one is."""
    go = threading.Event()

    async def scenario() -> None:
        async with running(tmp_path, simulator.base_url, systemd) as daemon:
            stuck = asyncio.create_task(daemon._ledger.transact(lambda: go.wait(DEADLINE_S)))  # type: ignore[attr-defined]
            try:
                await _is_withheld(systemd, "the ledger")
            finally:
                go.set()
            await systemd.wait_for("WATCHDOG=1")
            await systemd.wait_logged("health.moves_again")
            assert await stuck

    asyncio.run(scenario())


@pytest.mark.usefixtures("short")
def test_threads_hang(simulator: "SimulatorProcess", systemd: Systemd, tmp_path: Path) -> None:
    """When every thread for files is stuck no ping is sent; one that is free is enough."""
    go = threading.Event()

    async def scenario() -> None:
        async with running(tmp_path, simulator.base_url, systemd) as daemon:
            calls = [
                asyncio.create_task(asyncio.to_thread(go.wait, DEADLINE_S))
                for _ in range(THREADS_MAX - 1)
            ]
            await wait_until(
                lambda: len(calls) == sum(s > SHORT["HANG_S"] for s in daemon._threads.waiting_s())
            )
            systemd.drop()
            await systemd.wait_for("WATCHDOG=1")
            calls.append(asyncio.create_task(asyncio.to_thread(go.wait, DEADLINE_S)))
            try:
                await _is_withheld(systemd, "every thread for files")
            finally:
                go.set()
            await systemd.wait_for("WATCHDOG=1")
            assert all(await asyncio.gather(*calls))

    asyncio.run(scenario())


@pytest.mark.usefixtures("short")
def test_watch_hangs(simulator: "SimulatorProcess", systemd: Systemd, tmp_path: Path) -> None:
    """When a folder's watch stands still for nothing no ping is sent, until it moves again."""

    async def scenario() -> None:
        async with running(tmp_path, simulator.base_url, systemd) as daemon:
            tracker = daemon._watchers.by_folder["photos"]
            await wait_until(lambda: tracker._rescan_at > 0.0 and tracker.moved_at is None)
            tracker.moved_at = 0.0
            await _is_withheld(systemd, "the watch over photos")
            Image.new("RGB", (300, 300)).save(tmp_path / "inbox" / "a.png")
            await systemd.wait_for("WATCHDOG=1")

    asyncio.run(scenario())


@pytest.mark.usefixtures("short")
def test_share_hangs(simulator: "SimulatorProcess", systemd: Systemd, tmp_path: Path) -> None:
    """A watch that waits for a share that hangs is told of, and no reason to be killed."""
    go = threading.Event()

    async def scenario() -> None:
        async with running(tmp_path, simulator.base_url, systemd) as daemon:
            call = asyncio.create_task(asyncio.to_thread(go.wait, DEADLINE_S))
            await wait_until(lambda: max(daemon._threads.waiting_s(), default=0) > SHORT["WAIT_S"])
            daemon._watchers.by_folder["photos"].moved_at = 0.0
            try:
                await systemd.wait_logged("folder.silent", "photos")
                systemd.drop()
                await systemd.wait_for("WATCHDOG=1")
                assert "health.hangs" not in systemd.log.getvalue()
                [trouble] = report.troubles(daemon._parts)
                assert trouble.subject == "inbox of photos"
                assert "has not answered for" in trouble.why
            finally:
                go.set()
            assert await call

    asyncio.run(scenario())


def test_words(simulator: "SimulatorProcess", systemd: Systemd, tmp_path: Path) -> None:
    """The status says in words what waits, what is under way and what was spent today."""

    async def scenario() -> None:
        async with running(tmp_path, simulator.base_url, systemd):
            Image.effect_noise((300, 300), 80).save(tmp_path / "inbox" / "a.png")
            await systemd.wait_for("STATUS=0 waiting, 0 in flight, 0.02 USD today")

    asyncio.run(scenario())


@pytest.mark.usefixtures("short")
def test_rest(simulator: "SimulatorProcess", systemd: Systemd, tmp_path: Path) -> None:
    """At rest there is nothing but the ping."""

    async def scenario() -> list[str]:
        async with running(tmp_path, simulator.base_url, systemd):
            while await systemd.receive() != "STATUS=0 waiting, 0 in flight, 0.00 USD today":
                pass  # it began with the account not asked yet
            return [await systemd.receive() for _ in range(10)]

    assert set(asyncio.run(scenario())) == {"WATCHDOG=1"}


def test_reload_is_told(systemd: Systemd, tmp_path: Path) -> None:
    """A reload is told with its moment on the clock that systemd compares it with."""
    before_s = SystemClock().monotonic()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).reloading()
    [message] = systemd.drop()
    reloading, moment = message.split("\n")
    name, _, usec = moment.partition("=")
    assert (reloading, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before_s <= int(usec) / 1e6 + 1e-6 <= SystemClock().monotonic() + 1e-6


def test_a_status_is_one_line(systemd: Systemd, tmp_path: Path) -> None:
    """What others wrote cannot send variables of its own."""
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).send(STATUS="a\nREADY=1 \udc80")
    assert systemd.drop() == ["STATUS=a READY=1 \\udc80"]
