"""Wraps every step of the program that changes a disk, so that each can be the last or can fail.

Rules: nothing is listed by hand. Every public function and method of `venice_watch.files`, every
system call that those modules make, and every transaction of the ledger is a step; new ones are
covered by themselves. Steps come from several threads and are counted under one lock.
"""

import errno
import functools
import importlib
import inspect
import mmap
import os
import pkgutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import venice_watch.files
import venice_watch.files.source
from venice_watch.ledger.connection import Connection
from venice_watch.ledger.counters import Counters
from venice_watch.ledger.questions import Questions

SHARED_BYTES = 1 << 20  # a run has a few hundred steps of some 50 bytes
COUNT_BYTES = 8
FAILURES_MAX = 12  # with a disk that is broken for ever a run goes on for ever: so far, no further

# what may only read: it cannot leave anything behind, but it can fail
CALLS_READING = ("lstat", "stat", "scandir", "fstat", "read")
CALLS_WRITING = (
    "copy_file_range", "fchown", "fchmod", "fsync", "link", "rename", "sendfile", "unlink", "utime",
    "write",
)  # fmt: skip
METHODS_READING = ("iterdir", "is_dir", "exists", "lstat", "stat")
METHODS_WRITING = ("chmod", "mkdir", "rename", "replace", "unlink")
# no OSError can come from these: the first by its own promise, the others touch no disk
NEVER_FAILING = frozenset(
    {
        "source.sign",
        "originals.report_of",
        "spool.SpoolFile.write",
        "spool.SpoolFile.close",
        "pieces.Span.__init__",
        "pieces.size_of",
    }
)


class Mode(StrEnum):
    """What happens at the chosen step."""

    KILL = "kill"  # the process dies, as by a power cut
    STOP = "stop"  # SIGTERM, as from systemd
    FAIL = "fail"  # the disk refuses


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen, and at which step (from 0); in KILL and STOP both ends of one count."""

    mode: Mode = Mode.KILL
    at: int | None = None  # None, and no moment: nothing happens, steps are only counted
    moment: str | None = None  # of KILL: "before" or "after" and a step's name; the first such
    error: int = 0  # of FAIL: an errno
    for_ever: bool = False  # of FAIL: the same part of the disk never comes back


class Recorder:
    """Counts steps into memory that outlives the process, and strikes at the chosen one."""

    def __init__(self, shared: mmap.mmap, plan: Plan) -> None:
        self._shared = shared
        self.plan = plan
        self._lock = threading.Lock()
        self._count = 0
        self._end = COUNT_BYTES
        self._failing: str | None = None  # the part of the disk that is broken
        self._failures = 0

    def enter(self, name: str, *, reads: bool) -> None:
        """Begin a step; it may be the last, or raise OSError in its stead."""
        if self.plan.mode is Mode.FAIL:
            if name not in NEVER_FAILING:
                self._fail_if_chosen(name)
        elif not reads:
            self._end_if_chosen(f"before {name}")

    def leave(self, name: str, *, reads: bool) -> None:
        """End a step."""
        if self.plan.mode is not Mode.FAIL and not reads:
            self._end_if_chosen(f"after {name}")

    def _end_if_chosen(self, moment: str) -> None:
        with self._lock:
            if self._note(moment):
                number = signal.SIGKILL if self.plan.mode is Mode.KILL else signal.SIGTERM
                os.kill(os.getpid(), number)

    def _fail_if_chosen(self, name: str) -> None:
        part = (name.partition(".")[0] == "ledger" and "ledger") or "files"
        with self._lock:
            if self._note(name):
                self._failing = part
            elif not (self.plan.for_ever and self._failing == part):
                return
            self._failures += 1
            if self._failures > FAILURES_MAX:
                os.kill(os.getpid(), signal.SIGKILL)
        if part == "ledger":
            raise _sqlite_error(self.plan.error)
        raise OSError(self.plan.error, os.strerror(self.plan.error), name)

    def _note(self, moment: str) -> bool:
        """Write a step down; tell whether it is the chosen one."""
        number = self._count
        self._count += 1
        line = f"{moment}\n".encode()
        if self._end + len(line) < len(self._shared):
            self._shared[self._end : self._end + len(line)] = line
            self._end += len(line)
        self._shared[:COUNT_BYTES] = self._count.to_bytes(COUNT_BYTES, "little")
        return number == self.plan.at or moment == self.plan.moment


def read_steps(shared: mmap.mmap) -> tuple[int, list[str]]:
    """Return how many steps a process made, and their names."""
    count = int.from_bytes(shared[:COUNT_BYTES], "little")
    names = shared[COUNT_BYTES:].split(b"\0", 1)[0].decode().splitlines()
    return count, names


def _sqlite_error(number: int) -> sqlite3.OperationalError:
    full = number == errno.ENOSPC
    error = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR
    return error


class Instruments:
    """The wrappers, put around everything once; they do nothing until a recorder is set."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        self.names: list[str] = []
        self._replaced: dict[int, tuple[Any, Any]] = {}  # id: the original, its wrapper
        modules = [
            importlib.import_module(f"{venice_watch.files.__name__}.{info.name}")
            for info in pkgutil.iter_modules(venice_watch.files.__path__)
        ]
        for module in modules:
            self._wrap_module(module)
        self._replace_references()
        for module in modules:
            module.os = _SystemCalls(self)
        self._wrap_paths({module.__name__ for module in modules})
        self._wrap_ledger()

    def _wrap(self, function: Callable[..., Any], name: str, *, reads: bool) -> Any:  # noqa: ANN401 - as transparent as can be
        @functools.wraps(function)
        def step(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - likewise
            recorder = self.recorder
            if recorder is None:
                return function(*args, **kwargs)
            recorder.enter(name, reads=reads)
            value = function(*args, **kwargs)
            recorder.leave(name, reads=reads)
            return value

        self.names.append(name)
        return step

    def _wrap_module(self, module: ModuleType) -> None:
        reads = module is venice_watch.files.source
        short = module.__name__.rpartition(".")[2]
        for name, value in list(vars(module).items()):
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                self._replaced[id(value)] = (
                    value,
                    self._wrap(value, f"{short}.{name}", reads=reads),
                )
            elif inspect.isclass(value) and not issubclass(value, BaseException):
                self._wrap_class(value, f"{short}.{name}", reads=reads)

    def _wrap_class(self, kind: type, prefix: str, *, reads: bool) -> None:
        for name, value in list(vars(kind).items()):
            if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_")):
                setattr(kind, name, self._wrap(value, f"{prefix}.{name}", reads=reads))

    def _replace_references(self) -> None:
        """Put the wrappers wherever a module imported the originals by name."""
        for module in [m for n, m in sys.modules.items() if n.startswith("venice_watch")]:
            for name, value in list(vars(module).items()):
                original, wrapper = self._replaced.get(id(value), (None, None))
                if original is value and wrapper is not None:
                    setattr(module, name, wrapper)

    def _wrap_paths(self, callers: set[str]) -> None:
        """Make steps of what those modules do by `Path`; what others do is left alone."""
        for name in (*METHODS_READING, *METHODS_WRITING, "open"):
            original = getattr(Path, name)
            reads = name in METHODS_READING
            wrapped = self._wrap(original, f"Path.{name}", reads=reads)

            def method(
                path: Path,
                *args: Any,  # noqa: ANN401 - pathlib's own
                _original: Callable[..., Any] = original,
                _wrapped: Callable[..., Any] = wrapped,
                **kwargs: Any,  # noqa: ANN401 - likewise
            ) -> Any:  # noqa: ANN401 - likewise
                ours = sys._getframe(1).f_globals.get("__name__") in callers
                return (_wrapped if ours else _original)(path, *args, **kwargs)

            setattr(Path, name, method)

    def _wrap_ledger(self) -> None:
        original = Connection._transact
        questions = frozenset(vars(Questions)) | frozenset(vars(Counters))

        def transact(ledger: Connection, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - a verb's own
            recorder = self.recorder
            if recorder is None:
                return original(ledger, function)
            verb = function.func.__name__  # type: ignore[attr-defined]  # `verb` made a partial
            name, reads = f"ledger.{verb}", verb in questions
            if recorder.plan.mode is not Mode.FAIL:
                recorder.enter(name, reads=reads)
                value = original(ledger, function)
                recorder.leave(name, reads=reads)
                return value

            def failing() -> Any:  # noqa: ANN401 - likewise
                value = function()
                recorder.enter(name, reads=reads)
                return value

            return original(ledger, failing)

        Connection._transact = transact  # type: ignore[method-assign]


class _SystemCalls:
    """The module `os` as the modules of `venice_watch.files` see it: its calls are steps."""

    def __init__(self, instruments: Instruments) -> None:
        for name in (*CALLS_READING, *CALLS_WRITING):
            wrapped = instruments._wrap(
                getattr(os, name), f"os.{name}", reads=name in CALLS_READING
            )
            setattr(self, name, wrapped)
        reading = instruments._wrap(os.open, "os.open to read", reads=True)
        writing = instruments._wrap(os.open, "os.open to write", reads=False)

        def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:  # noqa: ANN401 - os's own
            function = writing if flags & os.O_CREAT else reading
            return int(function(path, flags, *args, **kwargs))

        self.open = opened

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever `os` has
        return getattr(os, name)
