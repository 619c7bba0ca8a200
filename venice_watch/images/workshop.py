"""The processes that decode, as the daemon sees them: give a task, get an answer or a refusal.

Rules: a picture that ends its process, or keeps it busy for too long, is tried once more in a new
one (the machine may have been out of memory) and is refused then; nobody else's task is touched.
One process stays, so that a picture dropped after a quiet night does not wait for it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from venice_watch.errors import Code, ImageRefusedError, VeniceWatchError
from venice_watch.images import channel

TASKS_MAX = 500  # of one process; what a decoder leaks goes with it
PATIENCE = 10  # a task may take this many times its CPU time on a machine that is busy
PATIENCE_S = 20.0  # and this much longer: to start on a slow disk
# What the daemon is told by its environment, and a decoder must not be.
_PRIVATE = ("VENICE_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")


class WorkerBugError(VeniceWatchError):
    """A task failed in a way that nobody foresaw: its traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a task came to."""

    facts: dict[str, object]
    data: bytes | None


class _DiedError(Exception):
    """A process ended during its task: `busy` when its time was up."""

    def __init__(self, why: str, *, busy: bool) -> None:
        super().__init__(why)
        self.busy = busy


class Process(Protocol):
    """What is known of a process: subprocess.Popen's part of it."""

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code; raises subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """End it."""


class Worker:
    """One process, and our end of the line to it."""

    def __init__(self, line: socket.socket, process: Process) -> None:
        self._line = line
        self._process = process
        self.tasks = 0

    def do(
        self, facts: dict[str, object], descriptors: Sequence[int], *, cpu_s: int, bytes_max: int
    ) -> Reply:
        """Have a task done; blocks. Raises ImageRefusedError, WorkerBugError or _DiedError."""
        self.tasks += 1
        self._line.settimeout(PATIENCE_S + PATIENCE * cpu_s)
        try:
            channel.send(self._line, facts | {"cpu_s": cpu_s}, descriptors)
            answer, lent = channel.receive(self._line)
            try:
                data = channel.read_all(lent[0], bytes_max) if lent else None
            finally:
                for descriptor in lent:
                    os.close(descriptor)
        except (TimeoutError, channel.ChannelClosedError) as exc:
            code = self.end()
            busy = isinstance(exc, TimeoutError) or code == -signal.SIGXCPU
            raise _DiedError(f"{exc} (exit code {code})", busy=busy) from exc
        if "refused" in answer:
            raise ImageRefusedError(Code(str(answer["refused"])), str(answer["message"]))
        if "bug" in answer:
            raise WorkerBugError(str(answer["bug"]))
        found = answer["facts"]
        assert isinstance(found, dict), "an answer has facts"
        return Reply(facts=found, data=data)

    def end(self) -> int:
        """Close the line, end the process and return its exit code."""
        self._line.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=0.2)  # it may just have ended of itself
        self._process.kill()
        return self._process.wait()


def hire() -> Worker:
    """Begin a process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "venice_watch.images.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders print there whatever they think of a file
        )
    return Worker(ours, process)


class Workshop:
    """At most `size` processes; safe to use from as many threads."""

    def __init__(self, size: int) -> None:
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._closed = False

    def warm_up(self) -> None:
        """Have a process ready; blocks."""
        self._give_back(self._take())

    def run(
        self,
        task: str,
        descriptors: Sequence[int] = (),
        *,
        cpu_s: int,
        bytes_max: int = 0,
        **facts: object,
    ) -> Reply:
        """Have a task done; blocks while all are busy.

        `cpu_s`: seconds of CPU that it may take. `bytes_max`: of the answer's data.
        Raises ImageRefusedError, also for what ends a process twice, or WorkerBugError.
        """
        with self._free:
            try:
                return self._try(task, descriptors, facts, cpu_s=cpu_s, bytes_max=bytes_max)
            except _DiedError as first:
                if first.busy:
                    raise _refusal(first, cpu_s) from first
            try:
                return self._try(task, descriptors, facts, cpu_s=cpu_s, bytes_max=bytes_max)
            except _DiedError as second:
                raise _refusal(second, cpu_s) from second

    def trim(self) -> None:
        """End all but one of the processes that are idle."""
        with self._lock:
            spare, self._idle = self._idle[1:], self._idle[:1]
        for worker in spare:
            worker.end()

    def close(self) -> None:
        """End every process that is idle, and the others after their task."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def _try(
        self,
        task: str,
        descriptors: Sequence[int],
        facts: dict[str, object],
        *,
        cpu_s: int,
        bytes_max: int,
    ) -> Reply:
        worker = self._take()
        try:
            reply = worker.do(facts | {"task": task}, descriptors, cpu_s=cpu_s, bytes_max=bytes_max)
        except (ImageRefusedError, WorkerBugError):
            self._give_back(worker)
            raise
        except BaseException:
            worker.end()
            raise
        self._give_back(worker)
        return reply

    def _take(self) -> Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()  # the warmest
        return hire()

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            keep = not self._closed and worker.tasks < TASKS_MAX
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.end()


def _environment() -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_PRIVATE)}
    # buffers of pixels go back to the system as soon as they are freed
    return inherited | {"MALLOC_MMAP_THRESHOLD_": "1000000"}


def _refusal(died: _DiedError, cpu_s: int) -> ImageRefusedError:
    if died.busy:
        return ImageRefusedError(
            Code.CORRUPT,
            f"It kept its decoder busy for more than {cpu_s} s, which is made to happen or damage. "
            "Save it again in an image editor.",
        )
    return ImageRefusedError(
        Code.CORRUPT,
        f"Its decoder crashed over it, twice ({died}): it is damaged, or made to do that. Save it "
        "again in an image editor.",
    )
