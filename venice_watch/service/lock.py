"""One process per state folder: an exclusive lock that ends with the process, however it ends."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from venice_watch.errors import StateLockedError, StateUnusableError

NAME = "lock"
TRIES, TRY_S = 5, 0.1  # somebody who only asks who holds it is gone by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the lock."""

    pid: int
    since: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} (venice-watch {self.command}, since {self.since})"


@contextlib.contextmanager
def locked(state_dir: Path, command: str) -> Iterator[None]:
    """Hold the state folder's lock; StateLockedError names who has it."""
    path = state_dir / NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise StateUnusableError(
            f"{path}: {exc.strerror}. The state folder must exist and belong to the user that "
            "venice-watch runs as."
        ) from exc
    try:
        if not _lock(descriptor):
            holder = _read(descriptor) or "another process"
            raise StateLockedError(
                f"the state folder {state_dir} is in use by {holder}"
                ". Two daemons must not share one; stop it first, or name another `state_dir`."
            )
        os.ftruncate(descriptor, 0)
        facts = {
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": command,
        }
        with contextlib.suppress(OSError):  # a full disk: who holds it stays unsaid, not unheld
            os.write(descriptor, json.dumps(facts).encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock, patient for the moment in which `holder_of` looks at it."""
    for _ in range(TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_S)
        else:
            return True
    return False


def holder_of(state_dir: Path) -> Holder | None:
    """Return who holds the lock now, or None."""
    try:
        descriptor = os.open(state_dir / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor) or Holder(pid=0, since="unknown", command="?")
    finally:
        os.close(descriptor)
    return None


def _read(descriptor: int) -> Holder | None:
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0))
        return Holder(
            pid=int(facts["pid"]), since=str(facts["since"]), command=str(facts["command"])
        )
    except (ValueError, KeyError, TypeError):
        return None
