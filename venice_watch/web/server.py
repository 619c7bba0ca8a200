"""The sockets of the web server: HTTP/1.1, few connections, little patience.

Uvicorn's protocol without its server, which has signal handlers and wakes up ten times a second.
What it does not limit is limited here: connections, and the time until a request is whole.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from venice_watch.config.outside import Listen
from venice_watch.web.guard import Guard

CONNECTIONS_MAX = 64  # at a time; whoever comes then is turned away
BACKLOG = 64  # connections that the kernel keeps until they are taken
HEADER_BYTES_MAX = 16 * 1024  # of a request's head
REQUEST_S = 10.0  # from the connection, or the answer before, to a whole request
KEEP_ALIVE_S = 5.0
END_S = 1.0  # for answers under way when it stops


class _Protocol(H11Protocol):
    """One connection, with limits."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.more_body:
            self._expect_nothing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # also what was answered and is not read by the other side ends by this
        self._expect_request()

    def _expect_request(self) -> None:
        self._expect_nothing()
        self._late = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


@contextlib.asynccontextmanager
async def serving(
    listen: Listen, routes: Sequence[BaseRoute], *, hosts: Sequence[str], token: str | None
) -> AsyncIterator[str]:
    """Serve routes while inside; yield the address, as `127.0.0.1:8765`.

    Raises OSError where it cannot listen there.
    """
    app = Guard(
        Starlette(routes=list(routes), exception_handlers={HTTPException: _plain}),
        hosts=(*hosts, listen.host),
        token=token,
    )
    config = Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(KEEP_ALIVE_S),
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
    )
    config.load()
    # what strangers send amiss is no news
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    state = ServerState()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: _Protocol(config, state, {}), listen.host, listen.port, backlog=BACKLOG
    )
    try:
        host, port = listener.sockets[0].getsockname()[:2]
        yield str(Listen(host=host, port=port))
    finally:
        listener.close()
        await _end(state)


async def _end(state: ServerState) -> None:
    """Let answers under way go out, and end every connection."""
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=END_S)
    for task in list(state.tasks):
        task.cancel()
    for connection in list(state.connections):
        connection.transport.abort()


def _plain(_request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else HTTPStatus.NOT_FOUND
    headers = exc.headers if isinstance(exc, HTTPException) else None
    return PlainTextResponse(f"{HTTPStatus(status).phrase}\n", status, headers)
