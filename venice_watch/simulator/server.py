"""The simulator as a whole: listens, serves, and leaves nothing behind.

Rules: one task a connection, all of them ended on exit; a client's misbehaviour ends its own
connection, a mistake of ours is reported to the loop and ends no other.
"""

import asyncio
import contextlib
import dataclasses
import functools
import signal
import socket
import sys
from types import TracebackType
from typing import Self

from venice_watch.simulator.answers import error
from venice_watch.simulator.api import API_PREFIX, note_reset, serve_api
from venice_watch.simulator.bill import Bill
from venice_watch.simulator.connection import (
    Connection,
    GoneError,
    Head,
    MalformedError,
    TooLargeError,
    reset,
)
from venice_watch.simulator.control import CONTROL_PREFIX, answer_control
from venice_watch.simulator.listener import Listener
from venice_watch.simulator.memory import OverCapacityError
from venice_watch.simulator.script import Scripted
from venice_watch.simulator.settings import Settings
from venice_watch.simulator.world import World

CONNECTIONS_MAX = 512  # eight times the most that any client of ours opens


class Simulator:
    """A Venice on loopback, from `async with` to its end."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._listener = Listener(self._accept)
        self._world = World(settings or Settings(), self._listener.refuse)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        settings = self._world.settings
        self._listener.open(settings.host, settings.port, refused_s=settings.refused_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._listener.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stop = functools.partial(self._world.pool.shutdown, wait=True, cancel_futures=True)
        await asyncio.to_thread(stop)

    @property
    def base_url(self) -> str:
        """Return the API's root, for a configuration's `api.base_url`."""
        return self._root + API_PREFIX

    @property
    def control_url(self) -> str:
        """Return the control endpoint's root."""
        return self._root + CONTROL_PREFIX.rstrip("/")

    @property
    def bill(self) -> Bill:
        """Return what was asked for and charged so far."""
        return self._world.bill

    def script(self, *entries: Scripted) -> None:
        """Add faults that coming requests meet."""
        self._world.script.extend(entries)

    def change(self, **patch: object) -> None:
        """Change settings by name from now on; raise ValueError naming what is wrong."""
        self._world.change(patch)

    def reset(self) -> None:
        """Go back to the settings and faults of the start, with an empty bill."""
        self._world.reset()

    @property
    def _root(self) -> str:
        host, port = self._listener.host, self._listener.port
        assert port, "__aenter__ has run"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _accept(self, one: socket.socket) -> None:
        """Begin a connection's task, or reset the connection."""
        self._world.bill.totals.connections += 1
        incident = self._world.script.strike_accept()
        if incident is not None:
            note_reset(self._world, incident)
        if incident is not None or len(self._tasks) >= CONNECTIONS_MAX:
            reset(one)
            return
        task = asyncio.create_task(self._serve(one))
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    async def _serve(self, one: socket.socket) -> None:
        """Serve a connection's requests, one after another."""
        connection = Connection(*await asyncio.open_connection(sock=one), self._world.date)
        try:
            while head := await connection.wait_request(self._world.settings.keep_alive_s):
                if head.path.startswith(CONTROL_PREFIX):
                    await self._serve_control(connection, head)
                else:
                    await serve_api(self._world, connection, head)
                if not connection.renew():
                    await connection.linger()
                    break
        except MalformedError as exc:
            await _complain(connection, exc)
        except GoneError:
            pass  # its bill says so
        finally:
            connection.finish()

    async def _serve_control(self, connection: Connection, head: Head) -> None:
        with self._world.memory.lease() as lease:
            try:
                body = await connection.read_body(lease)
            except (TooLargeError, OverCapacityError):
                return  # the connection ends with its body unread
            await connection.send(await answer_control(self._world, head, bytes(body)))

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Drop an ended connection; a mistake of ours must not pass in silence."""
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            context = {"message": "simulator: a connection failed", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(context)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; print the base URL, one line, when ready."""
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(settings) as simulator:
        sys.stdout.write(simulator.base_url + "\n")
        sys.stdout.flush()
        sys.stderr.write(f"simulating Venice ({settings.contract}); Ctrl-C ends it\n")
        await stop.wait()
        totals = simulator.bill.totals
        usd = simulator.bill.charged_usd
        sys.stderr.write(f"{totals.upscales} upscales, {totals.charges} charged, {usd:.2f} USD\n")


async def _complain(connection: Connection, exc: MalformedError) -> None:
    """Tell a client that does not speak HTTP, if it still listens."""
    if not connection.can_answer():
        return
    with contextlib.suppress(GoneError):
        answer = error(exc.status, "Bad request")
        await connection.send(dataclasses.replace(answer, closes=True))
        await connection.linger()
