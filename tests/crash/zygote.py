"""Runs `venice-watch once` in a forked child for each line of its stdin, and tells how it went.

The interpreter and everything that is imported start once, so that a run costs milliseconds and
hundreds of crashes are affordable. A child is ended by itself, or by its own alarm. No threads
and no event loop here: it is forked from.
"""

import asyncio
import functools
import gc
import importlib
import json
import mmap
import os
import pkgutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from instruments import SHARED_BYTES, Instruments, Mode, Plan, Recorder, read_steps
from PIL import Image

import venice_watch
from venice_watch import retry, settle
from venice_watch.cli.key import read_key
from venice_watch.cli.options import load_config
from venice_watch.cli.run_commands import exit_code, run_once
from venice_watch.daemon import life
from venice_watch.errors import VeniceWatchError
from venice_watch.images import worker, workshop
from venice_watch.intake import pending, tracker
from venice_watch.ledger import connection
from venice_watch.pipeline import failures, line, send
from venice_watch.service import logs
from venice_watch.venice import account, classify, gate, headers

DIED = 70  # of an error that nobody caught; a restart must be enough to go on
SHORT_S = 0.01  # instead of the seconds that a person's disk is given

# what httpx imports when it first sends
LOADED_LATE = ("anyio._backends._asyncio", "httpcore", "importlib.readers")
# no image is worth waiting for here: each wait is as short as it can be
SHORTENED = (
    (settle, "QUICK_S", SHORT_S),
    (settle, "WRITER_LOOK_S", SHORT_S),
    (tracker, "SOON_S", SHORT_S),
    (pending, "TROUBLE_LOOK_S", (SHORT_S, SHORT_S)),
    (pending, "REFUSED_LOOK_S", (SHORT_S, SHORT_S)),
    (connection, "RETRY_S", SHORT_S),
    (send, "SPOOL_S", SHORT_S),
    (failures, "HELD_S", SHORT_S),
    (failures, "TROUBLE_S", (SHORT_S, SHORT_S)),
    (failures, "DELIVERY_S", SHORT_S),
    (failures, "BUG_S", SHORT_S),
    (line, "RESEND_AFTER_DEATH_S", SHORT_S),
    (classify, "RATE_WAIT_S", SHORT_S),
    (headers, "WAIT_MIN_S", SHORT_S),
    (gate, "FAILURES_WINDOW_S", SHORT_S),
    (gate, "SERVICE_PAUSE_S", (SHORT_S, SHORT_S)),
    (retry, "UNAVAILABLE_S", (SHORT_S, SHORT_S)),
    (retry, "SERVER_FAILED_S", (SHORT_S, SHORT_S)),
    (account, "PROBE_S", (SHORT_S, SHORT_S)),
    (life, "OWED_S", SHORT_S),
)


def main() -> None:
    """Answer each request in turn, until stdin ends."""
    for info in pkgutil.walk_packages(venice_watch.__path__, "venice_watch."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)  # else each child would, when it needs it
    for module, name, value in SHORTENED:
        assert hasattr(module, name), f"{module.__name__}.{name} is gone"
        setattr(module, name, value)
    for name in LOADED_LATE:
        importlib.import_module(name)
    Image.init()
    # a context that loads the system's certificates costs as much as the rest of a run
    ssl.create_default_context = functools.cache(ssl.create_default_context)
    httpx.AsyncClient()
    instruments = Instruments()
    shared = mmap.mmap(-1, SHARED_BYTES)
    gc.collect()
    gc.freeze()  # what all children share is not copied by looking at it
    say({"package": venice_watch.__file__, "steps": instruments.names})
    for text in sys.stdin:
        request = json.loads(text)
        say({"number": request["number"]} | serve(request, instruments, shared))


def say(answer: Mapping[str, object]) -> None:
    """Write one line for whoever asked."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve(
    request: Mapping[str, Any], instruments: Instruments, shared: mmap.mmap
) -> dict[str, object]:
    """Run one child to its end."""
    shared[:] = bytes(len(shared))
    ours, theirs = socket.socketpair()
    decoder = fork(lambda: decode_for(theirs, ours))
    theirs.close()
    pid = fork(lambda: run(request, instruments, shared, ours))
    ours.close()  # so that the decoder ends with the other child
    _, status = os.waitpid(pid, 0)
    os.waitpid(decoder, 0)
    count, names = read_steps(shared)
    return {
        "code": os.waitstatus_to_exitcode(status),  # negative: the signal that ended it
        "count": count,
        "names": names,
    }


def fork(work: Callable[[], int]) -> int:
    """Do something in a child, which ends with the exit code; return its number."""
    pid = os.fork()
    if pid == 0:
        code = DIED
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


def decode_for(line: socket.socket, other: socket.socket) -> int:
    """Be the process that decodes: one begun anew costs as much as the rest of a run."""
    other.close()
    worker.confine()
    worker.serve(line)
    return 0


class Stranger:
    """The decoding process as its user sees it, who has not begun it."""

    pid = -1  # nobody's

    def poll(self) -> int | None:
        """Say that it runs."""
        return None

    def wait(self) -> int:
        """Say that it ended: it does as soon as its line is closed."""
        return 0

    def kill(self) -> None:
        """Leave that to the line as well."""


def run(
    request: Mapping[str, Any], instruments: Instruments, shared: mmap.mmap, line: socket.socket
) -> int:
    """Do what `venice-watch once` does, in this process; return its exit code."""
    begun = iter([workshop.Worker(line, Stranger())])
    hire = workshop.hire
    workshop.hire = lambda: next(begun, None) or hire()
    signal.setitimer(signal.ITIMER_REAL, request["deadline_s"])  # ends this child, if need be
    os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdin.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    plan = request["plan"]
    with Path(request["log"]).open("a", encoding="utf-8", buffering=1) as stream:
        try:
            config = load_config(Path(request["config"]))
            key = read_key(config.api.key_file, {})
            log = logs.configure(secrets=(key,), style="json", stream=stream)
            log.info("test.begins", plan=plan)
            instruments.recorder = Recorder(shared, Plan(**plan | {"mode": Mode(plan["mode"])}))
            summary = asyncio.run(run_once(config, key, log, bar=False))
        except VeniceWatchError as exc:
            log.error("test.refused", error=str(exc))
            return exc.exit_code
        except Exception:
            log.exception("test.died")
            return DIED
        instruments.recorder = None
        log.info("test.ends", tally=str(summary.tally), waiting=summary.waiting)
        return exit_code(summary)


if __name__ == "__main__":
    main()
