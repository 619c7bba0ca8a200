"""The only module that knows watchdog: it turns native events into hints where to look sooner.

Nothing else is asked of watchdog: what a hint misses, the next scan finds. The event mask is
narrowed, because our own reading makes events too and would overflow the queue with them.
"""

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.inotify_c import CallbackId
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, EventEmitter
    from watchdog.observers.inotify import InotifyWatchGroup
    from watchdog.observers.inotify_c import InotifyEvent, WatchDescriptor

EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
HINTS_MAX = 10_000  # kept while nobody reads them; beyond that a scan is cheaper
STOP_S = 5.0  # a dead reader thread must not hold us up
# Each original that we move out of an inbox holds up all events behind it for so long, while
# watchdog waits for the other half of a rename (half a second, if it is let). The two halves of one
# come together. Its class is not public; the narrow version range and a test keep this in step.
InotifyMoveEventGrouper.delay = 0.01


class NativeObserver:
    """Watches one root with inotify; `wake` is called on the loop when there are new hints."""

    def __init__(
        self, root: Path, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]
    ) -> None:
        # events of files directly in a linked root are lost: watch the real folder
        self._root = os.path.realpath(root)
        self._loop = loop
        self._wake = wake
        self._hints: deque[tuple[str, bool]] = deque()
        self._overflowed = False
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()  # who is cancelled while it starts stops it all the same
        self._stopped = False

    def start(self, *, recursive: bool) -> None:
        """Begin to watch; blocks while the tree is walked. Raises OSError at the limits."""
        with self._lock:
            if self._stopped:
                return
            self._identity = _identify(self._root)
            # from here on it has descriptors and a thread, whether or not the rest succeeds
            self._observer = observer = Observer()
            observer.schedule(
                _Handler(self._take), self._root, recursive=recursive, event_filter=EVENTS
            )
            observer.start()

    def stop(self) -> None:
        """End watching for good; blocks for a moment."""
        with self._lock:
            self._stopped = True
            observer, self._observer = self._observer, None
        if observer is not None:
            with contextlib.suppress(Exception):  # stop() raises what killed its threads
                observer.stop()
            if observer.is_alive():
                observer.join(STOP_S)

    def is_alive(self) -> bool:
        """Tell whether all threads run, and what they watch still is the root."""
        observer = self._observer
        return (
            observer is not None
            and observer.is_alive()
            and all(emitter.is_alive() and _reads(emitter) for emitter in observer.emitters)
            and _identify(self._root) == self._identity
            and not self.unwatched([""])  # the kernel takes watches away when it unmounts
        )

    def unwatched(self, folders: Iterable[str]) -> list[str]:
        """Return which of these folders below the root are not watched."""
        watched: set[bytes] = set()
        for group in self._groups():
            with group._lock:  # noqa: SLF001 - watchdog does not say
                # a folder that may not be read is entered as number -1
                table = group._active_callbacks_by_path.items()  # noqa: SLF001 - likewise
                watched |= {path for path, number in table if number != -1}
        root = os.fsencode(self._root)
        return [one for one in folders if _below(root, one) not in watched]

    def try_watch(self, folder: str) -> OSError | None:
        """Return the kernel's answer to watching a folder that is not watched, None if it may be.

        Its events are not reported all the same: the watch is to be begun again.
        """
        path = _below(os.fsencode(self._root), folder)
        for group in self._groups():
            reader = group._inotify_fd  # noqa: SLF001 - watchdog keeps such errors to itself
            callback = _Nobody()
            try:
                number = reader.add_callback(path, group.event_mask, callback, callback.id)
            except OSError as exc:
                return exc
            reader.remove_callbacks([(number, callback.id)])
        return None

    def _groups(self) -> "list[InotifyWatchGroup]":
        emitters = () if self._observer is None else self._observer.emitters
        groups = (getattr(emitter, "_inotify", None) for emitter in emitters)
        return [group for group in groups if group is not None]

    def take_hints(self) -> tuple[dict[str, bool], bool]:
        """Return {path below the root: is it a folder} since the last call.

        The second value tells whether some were thrown away.
        """
        hints: dict[str, bool] = {}
        while self._hints:
            path, is_folder = self._hints.popleft()
            hints[path] = is_folder
        overflowed, self._overflowed = self._overflowed, False
        return hints, overflowed

    def _take(self, event: FileSystemEvent) -> None:
        """Remember where something happened (watchdog's thread)."""
        path = os.fsdecode(event.dest_path or event.src_path)
        relative = os.path.relpath(path, self._root)
        if relative.startswith(".."):  # moved out
            return
        if len(self._hints) >= HINTS_MAX:
            self._overflowed = True
        else:
            self._hints.append(("" if relative == "." else relative, event.is_directory))
        with contextlib.suppress(RuntimeError):  # the loop closes while a last event comes in
            self._loop.call_soon_threadsafe(self._wake)


class _Nobody:
    """Whom watchdog tells of what happens in a folder that is only watched for a trial."""

    def __init__(self) -> None:
        self.id = CallbackId(id(self))

    def on_event(self, event: "InotifyEvent") -> None:
        """Hear of an event."""

    def on_watch_deleted(self, wd: "WatchDescriptor") -> None:
        """Hear that the watch ended."""

    def on_queue_overflow(self) -> None:
        """Hear that events were lost."""


class _Handler(FileSystemEventHandler):
    """Hands events on; whatever went wrong there must not end watchdog's thread."""

    def __init__(self, take: Callable[[FileSystemEvent], None]) -> None:
        self._take = take

    def dispatch(self, event: FileSystemEvent) -> None:
        with contextlib.suppress(Exception):
            self._take(event)


def _reads(emitter: "EventEmitter") -> bool:
    """Tell whether the thread that reads the kernel's events lives.

    watchdog does not say: its own `is_alive` stays True after the reader died. The attribute is
    private; the narrow version range and a test keep it in step.
    """
    reader = getattr(emitter, "_inotify_fd", None)
    return reader is None or reader.is_alive()


def _below(root: bytes, folder: str) -> bytes:
    return os.path.join(root, os.fsencode(folder)) if folder else root  # noqa: PTH118 - bytes


def _identify(root: str) -> tuple[int, int] | None:
    """Return which folder a path leads to now, or None."""
    try:
        status = os.stat(root)  # noqa: PTH116 - a descriptor's worth of facts
    except OSError:
        return None
    return status.st_dev, status.st_ino
