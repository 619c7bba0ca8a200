"""Messages to and from a process that decodes: facts as JSON, bytes by descriptor.

Rules: nothing that comes in is trusted: lengths are limited, facts are plain JSON (no pickle), and
bytes are read from memory files whose size is looked at first.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence

HEADER_BYTES_MAX = 1_000_000  # facts about one image; a message about one is below 1 kB
DESCRIPTORS_MAX = 4
_LENGTH_BYTES = 4


class ChannelClosedError(Exception):
    """The other side has gone."""


def send(channel: socket.socket, facts: dict[str, object], descriptors: Sequence[int] = ()) -> None:
    """Send one message; blocks. Raises ChannelClosedError, or TimeoutError."""
    body = json.dumps(facts).encode()
    assert len(body) <= HEADER_BYTES_MAX, "our own facts are small"
    assert len(descriptors) <= DESCRIPTORS_MAX, "a task has few files"
    message = len(body).to_bytes(_LENGTH_BYTES) + body
    try:
        sent = socket.send_fds(channel, [message], list(descriptors))
        channel.sendall(message[sent:])
    except TimeoutError:
        raise
    except OSError as exc:
        raise ChannelClosedError(str(exc)) from exc


def receive(channel: socket.socket) -> tuple[dict[str, object], list[int]]:
    """Return the next message and its descriptors, which are the caller's to close; blocks.

    Raises ChannelClosedError, also for what is no message, or TimeoutError.
    """
    descriptors: list[int] = []
    try:
        facts = json.loads(_receive_all(channel, descriptors))
        if isinstance(facts, dict):
            return facts, descriptors
        raise ChannelClosedError("a message that is none")  # noqa: TRY301 - as what is no JSON
    except (OSError, ValueError, ChannelClosedError) as exc:
        for descriptor in descriptors:
            os.close(descriptor)
        if isinstance(exc, TimeoutError | ChannelClosedError):
            raise
        raise ChannelClosedError(str(exc)) from exc


def _receive_all(channel: socket.socket, descriptors: list[int]) -> bytes:
    """Return a message's bytes, and add its descriptors to the list as they come."""
    head, wanted = b"", _LENGTH_BYTES
    while len(head) < wanted:
        piece, found, flags, _ = socket.recv_fds(channel, wanted - len(head), DESCRIPTORS_MAX)
        descriptors += found
        if not piece or flags & socket.MSG_CTRUNC or len(descriptors) > DESCRIPTORS_MAX:
            raise ChannelClosedError("it has gone")
        head += piece
        if len(head) == _LENGTH_BYTES:
            wanted += int.from_bytes(head)
            if wanted > _LENGTH_BYTES + HEADER_BYTES_MAX:
                raise ChannelClosedError("a message that is too long")
    return head[_LENGTH_BYTES:]


@contextlib.contextmanager
def lent(data: bytes) -> Iterator[int]:
    """Yield a descriptor of a memory file that holds `data`, for one message."""
    descriptor = os.memfd_create("venice-watch", os.MFD_CLOEXEC)
    try:
        write_all(descriptor, data)
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however often that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_all(descriptor: int, size_bytes_max: int) -> bytes:
    """Return what a descriptor's file holds, from its start.

    Raises ChannelClosedError where that is more than was to be expected.
    """
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes > size_bytes_max:
        raise ChannelClosedError(f"{size_bytes:,} bytes, where at most {size_bytes_max:,} may come")
    with open(os.dup(descriptor), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        file.seek(0)
        return file.read(size_bytes)
