"""The control socket: one line of JSON in, one line of JSON out.

It lies in the state folder, for root, the daemon's own user, and the members of the daemon's group.
Who calls is asked of the kernel (SO_PEERCRED, SO_PEERGROUPS); what is sent is limited in length and
time; what goes wrong with one caller is nobody else's business. While an answer is being made the
caller gets a space now and then, which JSON allows, and so knows that somebody is there.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from venice_watch.service.asking import (
    ANSWER_BYTES_MAX,
    ANSWER_S,
    LATER,
    LINE_BYTES_MAX,
    NAME,
    NOT_PERMITTED,
    USAGE,
    opened,
)

CALLERS_MAX = 32  # at a time; more are turned away
PATIENT_MAX = 32  # of those whose answer takes longer, beside them
REFUSED_MAX = 128  # that are told so at a time; beyond that they are cut off
BACKLOG = 1_024  # that are not accepted yet; beyond that `connect` fails at once
READ_S = 5.0  # for a whole request
SPACE_S = 1.0  # between the spaces that say that somebody is there
WRITE_S = 10.0  # for a caller to take it
MODE = 0o660
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7)
_SO_PEERGROUPS = 59  # unix(7); Python has no name for it
_GROUPS_BYTES_MAX = 1024  # of 4 bytes each; who is in more is known by the first group alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, as the kernel says."""

    uid: int
    owner: bool  # root, or the daemon's own user; else a member of its group


Answer = Callable[[Mapping[str, Any], Caller], Awaitable[bytes]]


def encode(value: object) -> bytes:
    """Return an answer as a line; an error where it would be too long for one."""
    if isinstance(value, list):
        # one by one: to encode millions of bytes in one go would hold up every other thread
        pieces, size_bytes = [], 0
        for one in value:
            pieces.append(json.dumps(one).encode())
            size_bytes += len(pieces[-1]) + 1
            if size_bytes > ANSWER_BYTES_MAX:
                break
        line = b"[" + b",".join(pieces) + b"]"
    else:
        line = json.dumps(value).encode()
    if len(line) > ANSWER_BYTES_MAX:
        words = f"the answer has more than {ANSWER_BYTES_MAX >> 20} MiB; ask for less, or fewer."
        return error(words, LATER)
    return line


def error(words: str, code: int) -> bytes:
    """Return the answer that says why there is none."""
    return json.dumps({"error": words, "code": code}).encode()


@contextlib.asynccontextmanager
async def serving(state_dir: Path, answer: Answer) -> AsyncIterator[None]:
    """Serve the socket while inside; `answer` gets a request and gives the line to send back."""
    desk = _Desk(answer)
    with _bound(state_dir) as listener:
        server = await asyncio.start_unix_server(
            desk.accept, sock=listener, limit=LINE_BYTES_MAX, backlog=BACKLOG
        )
        try:
            yield
        finally:
            server.close()
            await desk.close()


class _Desk:
    """Serves callers, each in a task of its own."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._callers = 0  # whose request is read, or answered at once
        self._patient = 0  # who wait for a longer answer: they are in nobody's way
        self._refused = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._callers >= CALLERS_MAX:
                await self._turn_away(reader, writer)
            else:
                line = await self._reply(reader, writer)
                async with asyncio.timeout(WRITE_S):
                    writer.write(line + b"\n")
                    await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            pass  # a caller who says nothing, too much, or goes away
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refused >= REFUSED_MAX:
            return
        self._refused += 1
        try:
            # closing on what was not read would take the answer away as well
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SPACE_S / 10):
                    await reader.readline()
            words = f"the daemon has more than {CALLERS_MAX} callers at a time; try again."
            writer.write(error(words, LATER) + b"\n")
        finally:
            self._refused -= 1

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        self._callers += 1
        waits = False
        try:
            async with asyncio.timeout(READ_S):
                line = await reader.readline()
            caller = _identify(writer.get_extra_info("socket"))
            if caller is None:
                words = (
                    "this user may not; ask as the user of the service, as a member of its group, "
                    "or as root."
                )
                return error(words, NOT_PERMITTED)
            request = _parse(line)
            if isinstance(request, str):
                return error(request, USAGE)
            task = asyncio.ensure_future(self._answer(request, caller))
            try:
                await asyncio.wait({task}, timeout=SPACE_S)
                if not task.done():
                    if self._patient >= PATIENT_MAX:
                        return error("too many others wait for long answers; try again.", LATER)
                    self._callers, self._patient, waits = self._callers - 1, self._patient + 1, True
                    await _keep_patient(task, writer)
                return task.result()
            finally:
                task.cancel()
        finally:
            if waits:
                self._patient -= 1
            else:
                self._callers -= 1


async def _keep_patient(task: asyncio.Future[bytes], writer: asyncio.StreamWriter) -> None:
    """Wait for an answer, and let the caller know now and then that it comes."""
    async with asyncio.timeout(ANSWER_S):
        while not task.done():
            writer.write(b" ")
            await writer.drain()
            await asyncio.wait({task}, timeout=SPACE_S)


def _identify(peer: socket.socket) -> Caller | None:
    """Return who is at the other end, or None for somebody who gets nothing."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, gid = _CREDENTIALS.unpack(raw)
    if uid in (0, os.geteuid()):
        return Caller(uid=uid, owner=True)
    groups = b""
    with contextlib.suppress(OSError):  # more than fit
        groups = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES_MAX)
    member = os.getegid() in (gid, *(one for (one,) in struct.iter_unpack("I", groups)))
    return Caller(uid=uid, owner=False) if member else None


def _parse(line: bytes) -> Mapping[str, Any] | str:
    """Return a request, or what is wrong with it."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return "not a line of JSON"
    return request if isinstance(request, dict) else "not a JSON object"


@contextlib.contextmanager
def _bound(state_dir: Path) -> Iterator[socket.socket]:
    """Yield a socket bound in the state folder; one that a dead process left is replaced."""
    with opened(state_dir) as folder:
        (state_dir / NAME).unlink(missing_ok=True)  # we hold the folder's lock
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.bind(f"{folder}/{NAME}")
            if (state_dir / NAME).stat().st_gid != os.getegid():
                with contextlib.suppress(OSError):  # the folder handed down another group
                    os.chown(state_dir / NAME, -1, os.getegid())
            (state_dir / NAME).chmod(MODE)
            yield listener
        finally:
            listener.close()
            with contextlib.suppress(OSError):
                (state_dir / NAME).unlink(missing_ok=True)
