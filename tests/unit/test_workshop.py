"""The processes that decode: what they answer, and what becomes of one that dies, hangs or lies."""

import contextlib
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images import channel
from venice_watch.images.workshop import NoWorkerError, WorkerBugError, Workshop

CPU_S = 20
THIRTY_MEGAPIXELS = (6_000, 5_000)
DEADLINE_S = 30.0


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    """Return a workshop of one process."""
    shop = Workshop(1)
    yield shop
    shop.close()


def encoded(size: tuple[int, int] = (300, 300), kind: str = "PNG") -> bytes:
    """Return the bytes of a picture that takes little room."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (1, 2, 3)).save(buffer, kind, compression="tiff_deflate")
    return buffer.getvalue()


def look(shop: Workshop, data: bytes) -> dict[str, object]:
    """Ask for what a picture's header says."""
    with channel.lent(data) as descriptor:
        return shop.run("look", [descriptor], cpu_s=CPU_S, bytes_max=10**6).facts


def prepare(shop: Workshop, data: bytes, size: tuple[int, int], *, cpu_s: int = CPU_S) -> int:
    """Ask for what to send of a picture; return how many bytes that is."""
    with channel.lent(data) as descriptor:
        reply = shop.run(
            "prepare",
            [descriptor],
            cpu_s=cpu_s,
            bytes_max=10**8,
            probe=look(shop, data)["probe"],
            position=0,
            width=size[0],
            height=size[1],
            flatten=None,
        )
    return len(reply.data or b"")


def workers() -> list[int]:
    """Return the processes that this one has begun and that decode."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == os.getpid() and b"venice_watch.images.worker" in words:
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], object]) -> object:
    """Wait until something is so; return what it is."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        os.sched_yield()
    pytest.fail("it did not come about")


def at_work() -> list[int]:
    """Return those of our processes that were lent a file: they have a task."""
    found = []
    for pid in workers():
        with contextlib.suppress(OSError):
            links = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
            if any("memfd:venice-watch" in str(link) for link in links):
                found.append(pid)
    return found


@contextlib.contextmanager
def strikes(number: int) -> Iterator[set[int]]:
    """Send a signal to whichever process of ours has a task; yield the processes that got it."""
    struck: set[int] = set()
    stopped = threading.Event()

    def strike() -> None:
        while not stopped.is_set():
            for pid in at_work():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                struck.add(pid)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        yield struck
    finally:
        stopped.set()
        striker.join()


def test_answers(workshop: Workshop) -> None:
    """A task's answer has its facts, and a picture that is none is refused in its own words."""
    assert look(workshop, encoded())["probe"]["width"] == 300  # type: ignore[index] # facts
    with pytest.raises(ImageRefusedError, match="is no image") as refused:
        look(workshop, b"no picture at all")
    assert refused.value.code is Code.CORRUPT
    assert len(workers()) == 1


def test_dies_once(workshop: Workshop) -> None:
    """A process that is killed during its task costs a second try, and no picture."""
    workshop.warm_up()
    (first,) = workers()
    os.kill(first, signal.SIGSTOP)  # so that it cannot be done before it is killed
    threading.Timer(0.2, os.kill, (first, signal.SIGKILL)).start()
    assert look(workshop, encoded())["probe"]
    assert workers() != [first]


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGSEGV, Code.CORRUPT, "crashed over it, twice"),
        (signal.SIGKILL, Code.TOO_LARGE, "was killed, twice"),
    ],
)
def test_dies_twice(workshop: Workshop, number: int, code: Code, words: str) -> None:
    """A picture that ends its process twice is refused; the next one has a process again."""
    picture = encoded(THIRTY_MEGAPIXELS, "JPEG2000")
    found = look(workshop, picture)["probe"]
    with (
        channel.lent(picture) as descriptor,
        pytest.raises(ImageRefusedError, match=words) as refused,
        strikes(number) as struck,
    ):
        workshop.run(
            "prepare",
            [descriptor],
            cpu_s=CPU_S,
            bytes_max=10**8,
            probe=found,
            position=0,
            width=THIRTY_MEGAPIXELS[0],
            height=THIRTY_MEGAPIXELS[1],
            flatten=None,
        )
    assert refused.value.code is code
    assert len(struck) == 2
    assert look(workshop, encoded())["probe"]


def test_killed_while_idle() -> None:
    """Processes that were killed while they had nothing to do are nobody's picture's fault."""
    shop = Workshop(2)
    with contextlib.closing(shop):
        pictures = [encoded(THIRTY_MEGAPIXELS, "TIFF")] * 2
        threads = [
            threading.Thread(target=prepare, args=(shop, data, THIRTY_MEGAPIXELS))
            for data in pictures
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        idle = workers()
        assert len(idle) == 2
        for pid in idle:
            os.kill(pid, signal.SIGKILL)
        assert look(shop, encoded())["probe"]


def test_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that lacks a part of itself refuses no picture: there is nobody to ask."""
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    shop = Workshop(1)
    with contextlib.closing(shop), pytest.raises(NoWorkerError, match="exit code 7"):
        look(shop, encoded())


def test_imports_nothing_from_where_it_was_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program that lies in the folder somebody works in, an inbox perhaps, is not run."""
    (tmp_path / "traceback.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    shop = Workshop(1)
    with contextlib.closing(shop):
        assert look(shop, encoded())["probe"]


def test_works_below_an_administrators_limit() -> None:
    """A limit on CPU time that only root may lift is kept to, and no reason to fail."""
    program = (
        "import os, resource\n"
        "from venice_watch.images import worker\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (500, 500))\n"
        "os.geteuid() or os.setresuid(65_534, 65_534, 65_534)\n"  # root may lift any limit
        "for seconds in (5, 1_000):\n"
        "    worker._limit_time(seconds)\n"
        "    print(*resource.getrlimit(resource.RLIMIT_CPU))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (soft, hard), last = (line.split() for line in done.stdout.splitlines())
    assert 5 < int(soft) < 500
    assert hard == "500"
    assert last == ["500", "500"]


def test_takes_too_long(workshop: Workshop) -> None:
    """A task that takes more CPU time than it may is ended, and is not tried again."""
    film = io.BytesIO()
    first, second = (Image.effect_noise((300, 300), sigma) for sigma in (20, 90))
    first.save(film, "GIF", save_all=True, append_images=[second])
    back_and_forth = [(0, 300, 300), (1, 300, 300)] * 20_000  # minutes
    with (
        channel.lent(film.getvalue()) as descriptor,
        pytest.raises(ImageRefusedError, match="busy for more than 0 s"),
    ):
        workshop.run("check_frames", [descriptor], cpu_s=0, kind="gif", frames=back_and_forth)


def test_takes_too_much_memory(workshop: Workshop) -> None:
    """A picture that needs more memory than a process may have is refused; the process goes on."""
    picture = encoded(THIRTY_MEGAPIXELS, "TIFF")
    look(workshop, picture)
    (pid,) = workers()
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (used + 30_000_000, used + 30_000_000))
    with pytest.raises(ImageRefusedError, match="not enough memory") as refused:
        prepare(workshop, picture, THIRTY_MEGAPIXELS)
    assert refused.value.code is Code.TOO_LARGE
    assert workers() == [pid]


def test_a_bug_is_told(workshop: Workshop) -> None:
    """An error that nobody foresaw comes with its traceback, and the process goes on."""
    with pytest.raises(WorkerBugError, match="IndexError"):
        workshop.run("look", [], cpu_s=CPU_S)
    assert look(workshop, encoded())["probe"]


def test_the_parent_goes() -> None:
    """A process ends by itself when its parent has gone."""
    shop = Workshop(1)
    shop.warm_up()
    shop._idle[0]._line.close()
    shop._idle[0]._process.wait(timeout=DEADLINE_S)


def test_has_no_secrets(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is not told the key, nor the manager's socket, and ignores a group's SIGTERM."""
    monkeypatch.setenv("VENICE_API_KEY", "sk-secret")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    look(workshop, encoded())
    (pid,) = workers()
    told = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"sk-secret" not in told
    assert b"NOTIFY_SOCKET" not in told
    os.kill(pid, signal.SIGTERM)
    assert look(workshop, encoded())["probe"]
    assert workers() == [pid]


def test_spare_ones_end() -> None:
    """Of several idle processes one is kept."""
    shop = Workshop(2)
    picture = encoded(THIRTY_MEGAPIXELS, "TIFF")
    work = (shop, picture, THIRTY_MEGAPIXELS)
    threads = [threading.Thread(target=prepare, args=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shop.trim()
    assert len(workers()) == 1
    shop.close()
    assert not workers()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00\x00\x00\x05abc",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x04nope",
        b"\x00\x00\x00\x02\xff\xfe",
    ],
)
def test_messages_that_are_none(message: bytes) -> None:
    """What is no message counts as the end of the line."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(message)
        theirs.close()
        with pytest.raises(channel.ChannelClosedError):
            channel.receive(ours)


def test_more_data_than_expected() -> None:
    """Data that are longer than the task could make them are not read."""
    with channel.lent(b"x" * 1_001) as descriptor, pytest.raises(channel.ChannelClosedError):
        channel.read_all(descriptor, 1_000)


def test_upgraded_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of another version than ours is given no task: both must mean the same."""
    monkeypatch.setattr("venice_watch.images.workshop.__version__", "0.0.9")
    with contextlib.closing(Workshop(1)) as shop:
        with pytest.raises(OSError, match=r"upgraded from 0\.0\.9 to .* restart it"):
            look(shop, encoded())
        assert not workers()
