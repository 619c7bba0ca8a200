"""The process that decodes: hostile pictures meet C code here, and nothing else is here to be had.

`python -m venice_watch.images.worker DESCRIPTOR` serves one task after another until its parent
has gone. It has no key, no network business and no files but those it is lent; its memory, its
time and what it may write are limited. Whatever happens to it, the daemon is untouched.
"""

import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable

from venice_watch import __version__
from venice_watch.errors import Code, ImageRefusedError
from venice_watch.images import channel
from venice_watch.images.tasks import TASKS, Answer

MEMORY_BYTES_MAX = 1_600_000_000  # of address space: the largest image that is decoded, and change
WRITTEN_BYTES_MAX = 1_000_000_000  # a result of 16.8 megapixels in any format is far below
DESCRIPTORS_MAX = 32


def main() -> None:
    """Serve until the parent has gone."""
    confine()
    parent = socket.socket(fileno=int(sys.argv[1]))
    channel.send(parent, {"version": __version__})
    serve(parent)


def confine() -> None:
    """Give away what no task needs."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a group: the parent decides
        signal.signal(number, signal.SIG_IGN)
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES_MAX),
        (resource.RLIMIT_FSIZE, WRITTEN_BYTES_MAX),
        (resource.RLIMIT_NOFILE, DESCRIPTORS_MAX),
        (resource.RLIMIT_CORE, 0),  # a picture is private, and so is what was made of it
    ):
        hard = resource.getrlimit(limit)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (allowed, allowed))


def serve(parent: socket.socket) -> None:
    """Do one task after another."""
    while True:
        try:
            facts, descriptors = channel.receive(parent)
        except channel.ChannelClosedError:
            return
        try:
            _limit_time(facts.pop("cpu_s"))
            _answer(parent, TASKS[str(facts.pop("task"))], facts, descriptors)
        except channel.ChannelClosedError:
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _limit_time(cpu_s: object) -> None:
    """Let the kernel end this process when the task takes longer than it may."""
    assert isinstance(cpu_s, int), "the parent says so"
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + cpu_s
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]  # may be one of the administrator's
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _answer(
    parent: socket.socket,
    task: Callable[..., Answer],
    facts: dict[str, object],
    descriptors: list[int],
) -> None:
    try:
        answer = task(descriptors, **facts)
    except ImageRefusedError as exc:
        channel.send(parent, {"refused": exc.code.value, "message": exc.message})
    except MemoryError:
        words = "There is not enough memory to work on it. Reduce it first."
        channel.send(parent, {"refused": Code.TOO_LARGE.value, "message": words})
    except Exception:  # noqa: BLE001 - told to the parent, which raises it
        channel.send(parent, {"bug": traceback.format_exc()[-channel.HEADER_BYTES_MAX // 4 :]})
    else:
        if answer.data is None:
            channel.send(parent, {"facts": answer.facts})
        else:
            with channel.lent(answer.data) as descriptor:
                channel.send(parent, {"facts": answer.facts}, [descriptor])


if __name__ == "__main__":
    main()
