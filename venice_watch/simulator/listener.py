"""The listening socket, and the times when nobody listens.

Rules: while nobody listens the port stays ours: a socket that is bound and does not listen refuses
connections, as a server that is down does. Connections that are there already go on.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

BACKLOG = 512

Accept = Callable[[socket.socket], None]


class Listener:
    """One port of this machine; `accept` gets the socket of whoever comes."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept
        self._socket: socket.socket | None = None
        self._listening = False
        self._timer: asyncio.TimerHandle | None = None  # the end of a refusal
        self.host, self.port = "", 0  # as they are, once open

    def open(self, host: str, port: int, *, refused_s: float) -> None:
        """Take the port (0: any free one), and listen after `refused_s`; raise OSError."""
        self.host = "127.0.0.1" if host == "localhost" else host
        self.port = port
        self.port = self._bind().getsockname()[1]
        self.refuse(refused_s)

    def refuse(self, refused_s: float) -> None:
        """Refuse new connections from now on for so long; 0 ends it."""
        self._forget_timer()
        if refused_s <= 0:
            self._listen()
            return
        if self._listening:
            self._stop()
            self._bind()
        self._timer = asyncio.get_running_loop().call_later(refused_s, self._listen)

    def close(self) -> None:
        """Give the port back."""
        self._forget_timer()
        self._stop()

    def _bind(self) -> socket.socket:
        """Take the port without listening."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        own = self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # connections of before, still open or in TIME_WAIT, must not keep us from it
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind((self.host, self.port))
            # and nobody else is to share it with us before we listen
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        except OSError:
            own.close()
            raise
        return own

    def _listen(self) -> None:
        if self._listening:
            return
        assert self._socket is not None, "it is bound"
        # the connections inherit it, or they would keep us from the port later
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(self._socket, self._take)
        self._listening = True

    def _take(self) -> None:
        """Hand over everybody who waits."""
        assert self._socket is not None, "it listens"
        # the latter: gone before we came, or no descriptor left; others may have more luck
        with contextlib.suppress(BlockingIOError, OSError):
            for _ in range(BACKLOG):
                one, _ = self._socket.accept()
                one.setblocking(False)  # noqa: FBT003 - the socket module's own signature
                self._accept(one)

    def _stop(self) -> None:
        if self._socket is None:
            return
        if self._listening:
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket, self._listening = None, False

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
