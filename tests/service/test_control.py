"""The control socket: it answers its own user, and nobody can make it do anything else."""

import asyncio
import contextlib
import os
import resource
import socket
import stat
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from venice_watch.service import asking, control
from venice_watch.service.asking import NobodyAnswersError, RefusedError, ask
from venice_watch.service.control import (
    Answer,
    Caller,
    encode,
    serving,
)

T = TypeVar("T")
GARBAGE = (b"\n", b"{\n", b"[1]\n", b"\xff\xfe\x00\n", b"[" * 60_000 + b"\n", b'"x"\n', b"null\n")


async def echo(request: Mapping[str, Any], _caller: Caller) -> bytes:
    """Answer with what was asked."""
    return encode({"asked": dict(request)})


def served(state_dir: Path, scenario: Callable[[], Awaitable[T]], answer: Answer = echo) -> T:
    """Run a scenario beside a served socket."""

    async def run() -> T:
        async with serving(state_dir, answer):
            return await scenario()

    return asyncio.run(run())


def connect(state_dir: Path) -> socket.socket:
    """Return a raw connection."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(20)
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        client.connect(f"/proc/self/fd/{descriptor}/{asking.NAME}")
    finally:
        os.close(descriptor)
    return client


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Make sure that no descriptor stays open."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    yield
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise


@pytest.mark.usefixtures("descriptors")
def test_answers(tmp_path: Path) -> None:
    """A request gets its answer, and the socket is gone with whoever served it."""

    async def scenario() -> dict[str, Any]:
        mode = stat.S_IMODE((tmp_path / asking.NAME).stat().st_mode)
        assert mode == 0o660
        return await asyncio.to_thread(ask, tmp_path, {"verb": "x"})

    assert served(tmp_path, scenario) == {"asked": {"verb": "x"}}
    assert list(tmp_path.iterdir()) == []


def test_nobody_there(tmp_path: Path) -> None:
    """Where nobody serves, the error names the socket and says what to start."""
    with pytest.raises(NobodyAnswersError, match=r"control.*venice-watch run"):
        ask(tmp_path, {})


def test_left_by_a_dead_process(tmp_path: Path) -> None:
    """A socket that a dead process left is no obstacle."""
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(tmp_path / asking.NAME))
    dead.close()
    with pytest.raises(NobodyAnswersError, match="refused"):
        ask(tmp_path, {})

    async def scenario() -> dict[str, Any]:
        return await asyncio.to_thread(ask, tmp_path, {"verb": "x"})

    assert served(tmp_path, scenario) == {"asked": {"verb": "x"}}


@pytest.mark.usefixtures("descriptors")
def test_long_path(tmp_path: Path) -> None:
    """A state folder may have a longer path than a socket's name may be."""
    state_dir = tmp_path / ("long" * 50)
    state_dir.mkdir()

    async def scenario() -> dict[str, Any]:
        return await asyncio.to_thread(ask, state_dir, {"verb": "x"})

    assert served(state_dir, scenario) == {"asked": {"verb": "x"}}


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage(tmp_path: Path, garbage: bytes) -> None:
    """What is no request gets an error, and the next one its answer."""

    def send() -> bytes:
        with connect(tmp_path) as client:
            client.sendall(garbage)
            return client.recv(1_000)

    async def scenario() -> bytes:
        answer = await asyncio.to_thread(send)
        assert await asyncio.to_thread(ask, tmp_path, {}) == {"asked": {}}
        return answer

    assert b'"error"' in served(tmp_path, scenario)


@pytest.mark.usefixtures("descriptors")
def test_too_long(tmp_path: Path) -> None:
    """A line without end is cut off."""

    def send() -> bytes:
        with connect(tmp_path) as client:
            try:
                for _ in range(100):
                    client.sendall(b"x" * 65_536)
            except (BrokenPipeError, ConnectionResetError):
                return b"cut off"
            return client.recv(1_000)

    async def scenario() -> bytes:
        answer = await asyncio.to_thread(send)
        assert await asyncio.to_thread(ask, tmp_path, {}) == {"asked": {}}
        return answer

    assert served(tmp_path, scenario) != b""


@pytest.mark.usefixtures("descriptors")
def test_many_silent_callers(tmp_path: Path) -> None:
    """Callers who say nothing are bounded in number, and turned away in words beyond that."""

    def hold_open() -> bytes:
        silent = [connect(tmp_path) for _ in range(control.CALLERS_MAX)]
        try:
            with connect(tmp_path) as one_more:
                return one_more.recv(1_000)
        finally:
            for one in silent:
                one.close()

    async def scenario() -> bytes:
        answer = await asyncio.to_thread(hold_open)
        while True:  # until they are seen to have gone
            try:
                assert await asyncio.to_thread(ask, tmp_path, {}) == {"asked": {}}
            except (NobodyAnswersError, RefusedError):
                continue
            return answer

    assert b"try again" in served(tmp_path, scenario)


def test_a_thousand_half_open(tmp_path: Path) -> None:
    """A thousand connections that say nothing, or half a line, end by themselves; one asks on."""

    async def scenario() -> dict[str, Any]:
        silent = await asyncio.to_thread(lambda: [connect(tmp_path) for _ in range(1_000)])
        assert len(silent) > 10 * control.CALLERS_MAX
        for one in silent[::2]:
            with contextlib.suppress(OSError):
                one.send(b'{"verb": "st')
        for one in silent:
            one.close()
        while True:  # until they are seen to have gone
            with contextlib.suppress(NobodyAnswersError, RefusedError):
                value: dict[str, Any] = await asyncio.to_thread(ask, tmp_path, {"verb": "x"})
                return value

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    try:
        assert served(tmp_path, scenario) == {"asked": {"verb": "x"}}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("descriptors")
def test_slow_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer keeps its caller's patience, and is in the way of nobody's short one."""
    monkeypatch.setattr(control, "SPACE_S", 0.05)
    monkeypatch.setattr(asking, "CLIENT_S", 0.5)

    async def scenario() -> list[object]:
        released = asyncio.Event()
        asked = 0

        async def answer(request: Mapping[str, Any], _caller: Caller) -> bytes:
            nonlocal asked
            if request["verb"] == "slow":
                asked += 1
                await released.wait()
            return encode({"asked": dict(request)})

        async with serving(tmp_path, answer):
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(control.PATIENT_MAX + 4) as threads:

                def call(verb: str) -> asyncio.Future[object]:
                    return loop.run_in_executor(threads, ask, tmp_path, {"verb": verb})

                slow = []
                for _ in range(control.PATIENT_MAX):
                    slow.append(call("slow"))
                    while asked < len(slow):  # noqa: ASYNC110 - one after the other
                        await asyncio.sleep(0.001)
                    await call("quick")
                await asyncio.sleep(2 * asking.CLIENT_S)  # longer than a silent one is borne
                with pytest.raises(RefusedError, match="too many others"):
                    await call("slow")
                released.set()
                return list(await asyncio.gather(*slow))

    answers = asyncio.run(scenario())
    assert answers == [{"asked": {"verb": "slow"}}] * control.PATIENT_MAX


def test_hung_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose loop stands still is given up after a few seconds, in words."""
    monkeypatch.setattr(asking, "CLIENT_S", 0.2)
    hung = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    hung.bind(str(tmp_path / asking.NAME))
    hung.listen()
    with hung, pytest.raises(NobodyAnswersError, match="timed out"):
        ask(tmp_path, {"verb": "status"})


def test_too_long_an_answer(tmp_path: Path) -> None:
    """An answer that nobody would take is an error that says so; a long one arrives whole."""
    assert b"16 MiB" in encode([{"x": "y" * 1_000}] * 20_000)
    assert b"16 MiB" in encode({"x": "y" * 20_000_000})
    rows = [{"x": "y" * 1_000}] * 15_000

    async def answer(_request: Mapping[str, Any], _caller: Caller) -> bytes:
        return encode(rows)

    async def scenario() -> object:
        value: object = await asyncio.to_thread(ask, tmp_path, {})
        return value

    assert served(tmp_path, scenario, answer) == rows


def test_other_user(tmp_path: Path) -> None:
    """A user who is neither the service's nor root gets nothing, even if let through the door."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user; run the tests as root")
    perl = "/usr/bin/perl"  # every Debian has it, and every user may run it
    if not Path(perl).exists():
        pytest.skip("apt-get install perl-base to install it")
    program = (
        "use IO::Socket::UNIX; my $c = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!;"
        'print $c "{}\\n"; $c->flush; print scalar <$c>;'
    )

    def call() -> str:
        path = tmp_path / asking.NAME
        path.chmod(0o666)
        for folder in (tmp_path, *tmp_path.parents):
            if stat.S_IMODE(folder.stat().st_mode) == 0o700 and "pytest-" in str(folder):
                folder.chmod(0o755)  # not what lies above pytest's own: /tmp is sticky
        done = subprocess.run(
            [perl, "-e", program, str(path)],
            user=65_534,
            group=65_534,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    async def scenario() -> str:
        return await asyncio.to_thread(call)

    said = served(tmp_path, scenario)
    assert "this user may not" in said
