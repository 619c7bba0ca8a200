"""The control socket: one line of JSON in, one line of JSON out, for this user and root alone.

It lies in the state folder. Whoever connects is asked for by the kernel (SO_PEERCRED); what is
sent is limited in length and time; what goes wrong with one caller is nobody else's business.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from venice_watch.errors import VeniceWatchError

NAME = "control"
LINE_BYTES_MAX = 64 * 1024  # of a request; ours have a few dozen
ANSWER_BYTES_MAX = 16 * 1024 * 1024  # hundreds of folders, each with its troubles
CALLERS_MAX = 32  # at a time; more are turned away
CALL_S = 10.0  # for a whole request
CLIENT_S = 5.0  # for the daemon's answer
MODE = 0o660
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7)

Answer = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class NobodyAnswersError(VeniceWatchError):
    """No daemon runs on this state folder, or it does not answer."""

    exit_code = 75


@contextlib.asynccontextmanager
async def serving(state_dir: Path, answer: Answer) -> AsyncIterator[None]:
    """Serve the socket while inside; `answer` gets a request and gives what is sent back."""
    callers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(reader, writer, answer, busy=len(callers) >= CALLERS_MAX))
        callers.add(task)
        task.add_done_callback(callers.discard)

    with _bound(state_dir) as listener:
        server = await asyncio.start_unix_server(accept, sock=listener, limit=LINE_BYTES_MAX)
        try:
            yield
        finally:
            server.close()
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)


@contextlib.contextmanager
def _bound(state_dir: Path) -> Iterator[socket.socket]:
    """Yield a socket bound in the state folder; one that a dead process left is replaced."""
    with _opened(state_dir) as folder:
        (state_dir / NAME).unlink(missing_ok=True)  # we hold the folder's lock
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.bind(f"{folder}/{NAME}")
            (state_dir / NAME).chmod(MODE)
            yield listener
        finally:
            listener.close()
            with contextlib.suppress(OSError):
                (state_dir / NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(state_dir: Path) -> Iterator[str]:
    """Yield a short name for the folder: a socket's name has at most 107 bytes."""
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer, *, busy: bool
) -> None:
    try:
        async with asyncio.timeout(CALL_S):
            reply = await _reply(reader, writer, answer, busy=busy)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        pass  # a caller who says nothing, too much, or goes away
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _reply(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer, *, busy: bool
) -> Mapping[str, Any]:
    if busy:
        return {"error": f"more than {CALLERS_MAX} callers at a time; try again"}
    # read before it is refused: closing on what was not read would take the answer away as well
    line = await reader.readline()
    peer = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    if uid not in (0, os.getuid()):
        return {"error": "this user may not; ask as the user of the service, or as root"}
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return {"error": "not a line of JSON"}
    if not isinstance(request, dict):
        return {"error": "not a JSON object"}
    return await answer(request)


def ask(state_dir: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the daemon's answer; blocks for a moment. Raises NobodyAnswersError."""
    try:
        with (
            _opened(state_dir) as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
        ):
            client.settimeout(CLIENT_S)
            client.connect(f"{folder}/{NAME}")
            client.sendall(json.dumps(request).encode() + b"\n")
            data = bytearray()
            while not data.endswith(b"\n") and len(data) <= ANSWER_BYTES_MAX:
                piece = client.recv(1 << 16)
                if not piece:
                    break
                data += piece
        value = json.loads(data)
    except (OSError, ValueError) as exc:
        raise NobodyAnswersError(
            f"no daemon answers on {state_dir / NAME}: {exc}. Start it with `venice-watch run`."
        ) from exc
    if not isinstance(value, dict) or "error" in value:
        raise NobodyAnswersError(f"the daemon refused: {value}")
    return value
