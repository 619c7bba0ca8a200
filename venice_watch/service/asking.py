"""Asking a running daemon over its control socket; quick to load, for it answers quickly."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from venice_watch.errors import VeniceWatchError

NAME = "control"
LINE_BYTES_MAX = 64 * 1024  # of a request; ours have a few dozen
ANSWER_BYTES_MAX = 16 * 1024 * 1024  # hundreds of folders, each with its troubles
ANSWER_S = 120.0  # for an answer: a picture of the largest size decodes in less
CLIENT_S = 5.0  # for the daemon's next byte
USAGE, NOT_PERMITTED, LATER, BUG = 2, 77, 75, 70  # exit codes that errors carry


class NobodyAnswersError(VeniceWatchError):
    """No daemon runs on this state folder, or it does not answer."""

    exit_code = LATER


class RefusedError(VeniceWatchError):
    """The daemon answered with an error; `code` is the exit code for it."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


def ask(state_dir: Path, request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return the daemon's answer; blocks for it. Raises NobodyAnswersError or RefusedError."""
    try:
        with (
            opened(state_dir) as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
        ):
            client.settimeout(CLIENT_S)
            client.connect(f"{folder}/{NAME}")
            client.sendall(json.dumps(request).encode() + b"\n")
            value = json.loads(_receive(client))
    except (OSError, ValueError, RecursionError) as exc:
        raise NobodyAnswersError(
            f"no daemon answers on {state_dir / NAME}: {exc}. Start it with `venice-watch run`."
        ) from exc
    if isinstance(value, dict) and "error" in value:
        raise RefusedError(f"the daemon says: {value['error']}", int(value.get("code", BUG)))
    return value


def _receive(client: socket.socket) -> bytes:
    """Return a line; TimeoutError where nobody is there any more."""
    ends_at = time.monotonic() + ANSWER_S
    data = bytearray()
    while not data.endswith(b"\n") and len(data) <= ANSWER_BYTES_MAX + LINE_BYTES_MAX:
        piece = client.recv(1 << 16)
        if not piece:
            break
        data += piece
        if time.monotonic() > ends_at:
            raise TimeoutError("its answer takes too long")
    return bytes(data)


@contextlib.contextmanager
def opened(state_dir: Path) -> Iterator[str]:
    """Yield a short name for the folder: a socket's name has at most 107 bytes.

    A group may enter the folder without reading it.
    """
    descriptor = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
