"""The processes that decode, as the daemon sees them: give a task, get an answer or a refusal.

Rules: a picture that ends its process is tried once more in a new one (the machine may have been
out of memory, or all of us stopped) and is refused then; one that uses up its CPU time is refused
at once. No picture answers for a process that ended while it was idle, or that does not start at
all. One process stays, so that a picture dropped after a quiet night does not wait for it.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from venice_watch import __version__
from venice_watch.errors import Code, ImageRefusedError, VeniceWatchError
from venice_watch.images import channel

TASKS_MAX = 500  # of one process; what a decoder leaks goes with it
PATIENCE = 10  # a task may take this many times its CPU time on a machine that is busy
PATIENCE_S = 20.0  # and this much longer: it may be swapped out
END_MS = 200  # for a process that was told to end, or has just died
START_S = 60.0  # to load what it needs from a slow disk
# What the daemon is told by its environment, and a decoder must not be.
_PRIVATE = ("VENICE_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")


class NoWorkerError(OSError):
    """No process can be had: the machine is in trouble or the program is, and no picture is."""


class WorkerBugError(VeniceWatchError):
    """A task failed in a way that nobody foresaw: its traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a task came to."""

    facts: dict[str, object]
    data: bytes | None


class _DiedError(Exception):
    """A process ended during its task, by itself or because it did not answer."""

    def __init__(self, why: str, *, busy: bool, killed: bool) -> None:
        super().__init__(why)
        self.busy = busy  # its CPU time was up
        self.killed = killed  # by somebody else, most likely for the memory it took


class Process(Protocol):
    """What is known of a process: subprocess.Popen's part of it."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""

    def wait(self) -> int:
        """Return its exit code once it has ended."""

    def kill(self) -> None:
        """End it."""


class Worker:
    """One process, and our end of the line to it."""

    def __init__(self, line: socket.socket, process: Process) -> None:
        self._line = line
        self._process = process
        self.tasks = 0

    @property
    def has_ended(self) -> bool:
        """Tell whether the process is there no more, as far as is known."""
        return self._process.poll() is not None

    def wait_ready(self) -> None:
        """Wait until it can be given tasks. Raises NoWorkerError."""
        self._line.settimeout(START_S)
        try:
            hello, _ = channel.receive(self._line)
        except (TimeoutError, channel.ChannelClosedError) as exc:
            code = self.end()
            raise NoWorkerError(
                f"the process that decodes pictures does not start (exit code {code}). Look for "
                "memory and processes that this user may have, and at the installation: `python "
                "-m venice_watch.images.worker` says what is missing."
            ) from exc
        if hello.get("version") != __version__:
            self.end()
            raise NoWorkerError(
                f"venice-watch was upgraded from {__version__} to {hello.get('version')} while it "
                "runs; restart it. Everything waits until then."
            )

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
            raise _DiedError(
                f"exit code {code}" if code is not None else str(exc),
                busy=code == -signal.SIGXCPU,
                killed=code == -signal.SIGKILL,
            ) from exc
        if "refused" in answer:
            raise ImageRefusedError(Code(str(answer["refused"])), str(answer["message"]))
        if "bug" in answer:
            raise WorkerBugError(str(answer["bug"]))
        found = answer["facts"]
        assert isinstance(found, dict), "an answer has facts"
        return Reply(facts=found, data=data)

    def end(self) -> int | None:
        """Close the line, and end the process if it does not; return its exit code if it did."""
        self._line.close()
        if self._process.poll() is not None or _ends(self._process.pid):
            return self._process.wait()  # of itself
        self._process.kill()
        self._process.wait()
        return None


def _ends(pid: int) -> bool:
    """Tell whether a process ends before long."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # an old kernel, or one without room for another descriptor
        return False
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        return bool(ended.poll(END_MS))
    finally:
        os.close(descriptor)


def hire() -> Worker:
    """Begin a process; blocks until it is ready. Raises NoWorkerError, or OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "venice_watch.images.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders print there whatever they think of a file
        )
    worker = Worker(ours, process)
    worker.wait_ready()
    return worker


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
        Raises ImageRefusedError, also for what ends a process twice, WorkerBugError, or OSError
        where there is no process to be had.
        """
        with self._free:
            try:
                worker = self._take()
                return self._try(worker, task, descriptors, facts, cpu_s=cpu_s, bytes_max=bytes_max)
            except _DiedError as first:
                if first.busy:
                    raise _refusal(first, cpu_s) from first
            try:
                # a new one: those that are idle may have been killed together
                worker = hire()
                return self._try(worker, task, descriptors, facts, cpu_s=cpu_s, bytes_max=bytes_max)
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
        worker: Worker,
        task: str,
        descriptors: Sequence[int],
        facts: dict[str, object],
        *,
        cpu_s: int,
        bytes_max: int,
    ) -> Reply:
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
        while True:
            with self._lock:
                if not self._idle:
                    break
                worker = self._idle.pop()  # the warmest
            if not worker.has_ended:
                return worker
            worker.end()
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
    # `-P` keeps it from importing what lies in the folder the program was started in (an inbox,
    # say); what it is to import is this very package, wherever its parent found it
    places = (inherited.get("PYTHONPATH"), str(Path(__file__).parents[2]))
    inherited["PYTHONPATH"] = os.pathsep.join(one for one in places if one)
    # buffers of pixels go back to the system as soon as they are freed
    return inherited | {"MALLOC_MMAP_THRESHOLD_": "1000000"}


def _refusal(died: _DiedError, cpu_s: int) -> ImageRefusedError:
    if died.busy:
        return ImageRefusedError(
            Code.CORRUPT,
            f"It kept its decoder busy for more than {cpu_s} s, which is made to happen or damage. "
            "Save it again in an image editor.",
        )
    if died.killed:
        return ImageRefusedError(
            Code.TOO_LARGE,
            "The process that decodes it was killed, twice: the machine, or what this program may "
            "have of it, is short of memory. Give it more, or reduce the image, and take it back.",
        )
    return ImageRefusedError(
        Code.CORRUPT,
        f"Its decoder crashed over it, twice ({died}): it is damaged, or made to do that. Save it "
        "again in an image editor.",
    )
