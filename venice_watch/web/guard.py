"""Who may ask: those that call us by our own name and, where there is a token, have it.

A page in somebody's browser can send requests to this machine too, under a name of its own that it
lets point here (DNS rebinding): so the name is looked at before anything else.
"""

import secrets
from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """Lets requests through to an application, or answers them itself; pure ASGI."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str | None) -> None:
        self._app = app
        self._hosts = LOCAL | frozenset(host.lower() for host in hosts)
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        here = (scope.get("server") or ("",))[0]
        if len(named) != 1 or bare_host(named[0]) not in self._hosts | {here}:
            return PlainTextResponse(
                "This is not a name of this server; add it to `web.hosts`.\n",
                HTTPStatus.MISDIRECTED_REQUEST,
            )
        if self._token is None:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        right = secrets.compare_digest(given.strip().encode(), self._token)
        if scheme.lower() == "bearer" and right:
            return None
        return PlainTextResponse(
            "A token is needed: the one in `web.token_file`.\n",
            HTTPStatus.UNAUTHORIZED,
            {"WWW-Authenticate": "Bearer"},
        )


def bare_host(host: str) -> str:
    """Return a Host header's name, without port and brackets, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name
