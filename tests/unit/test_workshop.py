"""The processes that decode: what they answer, and what becomes of one that dies, hangs or lies."""

import io
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images import channel
from venice_watch.images.workshop import WorkerBugError, Workshop

CPU_S = 20
FORTY_MEGAPIXELS = (8_000, 5_000)
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
    Image.new("RGB", size, (1, 2, 3)).save(buffer, kind)
    return buffer.getvalue()


def probe(
    shop: Workshop, data: bytes, *, cpu_s: int = CPU_S, check: int = 10**9
) -> dict[str, object]:
    """Ask for what a picture's header says."""
    with channel.lent(data) as descriptor:
        return shop.run("probe", [descriptor], cpu_s=cpu_s, check_pixels_max=check).facts


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


def test_answers(workshop: Workshop) -> None:
    """A task's answer has its facts, and a picture that is none is refused in its own words."""
    assert probe(workshop, encoded())["probe"]["width"] == 300  # type: ignore[index] # facts
    with pytest.raises(ImageRefusedError, match="is no image") as refused:
        probe(workshop, b"no picture at all")
    assert refused.value.code is Code.CORRUPT
    assert len(workers()) == 1


def test_dies_once(workshop: Workshop) -> None:
    """A process that is killed during its task costs a second try, and no picture."""
    workshop.warm_up()
    picture = encoded(FORTY_MEGAPIXELS)
    (first,) = workers()
    os.kill(first, signal.SIGSTOP)  # so that it cannot be done before it is killed
    threading.Timer(0.2, os.kill, (first, signal.SIGKILL)).start()
    assert probe(workshop, picture)["checked"] is True
    assert workers() != [first]


def test_dies_twice(workshop: Workshop) -> None:
    """A picture that ends its process twice is refused; the next one has a process again."""
    workshop.warm_up()
    killed: list[int] = []
    stopped = threading.Event()

    def kill_all() -> None:
        while not stopped.is_set():
            for pid in workers():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(ImageRefusedError, match="crashed over it, twice") as refused:
            probe(workshop, encoded(FORTY_MEGAPIXELS))
    finally:
        stopped.set()
        killer.join()
    assert refused.value.code is Code.CORRUPT
    assert len(set(killed)) >= 2
    assert probe(workshop, encoded())["checked"] is True


def test_takes_too_long(workshop: Workshop) -> None:
    """A task that takes more CPU time than it may is ended, and is not tried again."""
    with channel.lent(encoded(FORTY_MEGAPIXELS, "TIFF")) as descriptor:
        facts = workshop.run("probe", [descriptor], cpu_s=CPU_S, check_pixels_max=0).facts
        with pytest.raises(ImageRefusedError, match="busy for more than 0 s"):
            workshop.run(
                "prepare",
                [descriptor],
                cpu_s=0,
                bytes_max=10**8,
                probe=facts["probe"],
                width=FORTY_MEGAPIXELS[0],
                height=FORTY_MEGAPIXELS[1],
                frame=0,
                check=True,
            )


def test_takes_too_much_memory(workshop: Workshop) -> None:
    """A picture that needs more memory than a process may have is refused; the process goes on."""
    (pid,) = wait_for(lambda: workshop.warm_up() or workers())  # type: ignore[misc]
    probe(workshop, encoded())
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (used + 30_000_000, used + 30_000_000))
    with pytest.raises(ImageRefusedError, match="not enough memory") as refused:
        probe(workshop, encoded(FORTY_MEGAPIXELS))
    assert refused.value.code is Code.TOO_LARGE
    assert workers() == [pid]


def test_a_bug_is_told(workshop: Workshop) -> None:
    """An error that nobody foresaw comes with its traceback, and the process goes on."""
    with pytest.raises(WorkerBugError, match="IndexError"):
        workshop.run("probe", [], cpu_s=CPU_S, check_pixels_max=0)
    assert probe(workshop, encoded())["checked"] is True


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
    probe(workshop, encoded())
    (pid,) = workers()
    told = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"sk-secret" not in told
    assert b"NOTIFY_SOCKET" not in told
    os.kill(pid, signal.SIGTERM)
    assert probe(workshop, encoded())["checked"] is True
    assert workers() == [pid]


def test_spare_ones_end() -> None:
    """Of several idle processes one is kept."""
    shop = Workshop(2)
    pictures = [encoded(FORTY_MEGAPIXELS)] * 2
    threads = [threading.Thread(target=probe, args=(shop, data)) for data in pictures]
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
