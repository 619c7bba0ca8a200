"""One client's socket: requests read by h11, answers written in every way, sound or not.

Rules: knows HTTP, not Venice. Every wait has a limit. A client that goes away is GoneError, one
that does not speak HTTP is MalformedError; both end the connection and nothing else.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

import h11

from venice_watch.simulator.answers import Answer, Delivery
from venice_watch.simulator.memory import Lease

HEAD_BYTES_MAX = 32_768  # h11's limit for a head, and ours
UPLOAD_BYTES_MAX = 40_000_000  # the largest form that can be right is 35 MB
READ_BYTES = 262_144
WRITE_BYTES = 262_144  # a slow client holds one such slice in the transport
READ_STALL_S = 60.0  # silence in the middle of a request
WRITE_STALL_S = 120.0  # a client that does not read
LINGER_S = 2.0  # as proxies do, only shorter
DRIP_PIECES = 100
SERVER_NAME = "venice-watch-simulator"


class GoneError(Exception):
    """The client closed, was reset, or fell silent."""


class MalformedError(Exception):
    """What arrives is not HTTP; `status` is what to say to it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"not HTTP: {status}")
        self.status = status


class TooLargeError(Exception):
    """The body is larger than UPLOAD_BYTES_MAX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A request without its body; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    first_byte_s: float  # monotonic

    @property
    def content_length(self) -> int:
        """Return the announced length, 0 where there is none."""
        return int(self.headers.get("content-length", "0"))  # h11 has checked that it is a number


class Connection:
    """A connection from accept to close; `date` says what time it is, or to leave it unsaid."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        date: Callable[[], str | None],
    ) -> None:
        self._date = date
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._stale = False
        self._bodiless = False  # the answer to HEAD announces a body and has none
        # drain() then means: handed to the kernel, all of it.
        writer.transport.set_write_buffer_limits(high=0)

    async def wait_request(self, idle_s: float) -> Head | None:
        """Return the next request's head; None once there will be none."""
        first_byte_s = time.monotonic() if self._http.trailing_data[0] else None
        while True:
            event = self._next_event()
            if isinstance(event, h11.Request):
                self._bodiless = event.method == b"HEAD"
                return _read_head(event, first_byte_s or time.monotonic())
            if event is not h11.NEED_DATA:
                return None
            received = await self._read(idle_s if first_byte_s is None else READ_STALL_S)
            if not received:
                return None
            if self._stale:
                self.reset()
                return None
            first_byte_s = first_byte_s or time.monotonic()
            self._http.receive_data(received)

    async def read_body(self, lease: Lease, stop_bytes: int | None = None) -> bytearray:
        """Return the whole body, or the first `stop_bytes` of it, counted on `lease`."""
        if self._http.they_are_waiting_for_100_continue:
            proceed = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._http.send(proceed) or b"")
        body = bytearray()
        while stop_bytes is None or len(body) < stop_bytes:
            event = self._next_event()
            if isinstance(event, h11.EndOfMessage):
                break
            if isinstance(event, h11.Data):
                if len(body) + len(event.data) > UPLOAD_BYTES_MAX:
                    raise TooLargeError
                lease.hold(len(event.data))
                body += event.data
                continue
            received = await self._read(READ_STALL_S)
            if not received:
                raise GoneError
            self._http.receive_data(received)
        return body

    async def send(self, answer: Answer) -> bool:
        """Write `answer` as its delivery says; return whether all of it left."""
        head, body = self._head(answer), answer.body
        half = body[: len(body) // 2]
        match answer.delivery:
            case Delivery.WHOLE | Delivery.WHOLE_STALE | Delivery.WHOLE_CHUNKED:
                chunked = answer.delivery is Delivery.WHOLE_CHUNKED
                await self._send_framed(answer.status, head, body, body, chunked=chunked)
                await self._write(self._http.send(h11.EndOfMessage()) or b"")
                self._stale = answer.delivery is Delivery.WHOLE_STALE
                return True
            case Delivery.DRIP:
                await self._drip(answer, head)
                return True
            case Delivery.WHOLE_CLOSE | Delivery.TRUNCATED_CLOSE:
                whole = answer.delivery is Delivery.WHOLE_CLOSE
                await self._write(_close_delimited_head(answer.status, head))
                await self._write(body if whole else half)
                self.finish()
                return whole
            case Delivery.TRUNCATED | Delivery.TRUNCATED_CHUNKED:
                chunked = answer.delivery is Delivery.TRUNCATED_CHUNKED
                await self._send_framed(answer.status, head, body, half, chunked=chunked)
                self.finish()
            case Delivery.STALL:
                await self._send_framed(answer.status, head, body, half, chunked=False)
                await self._wait_gone()
            case Delivery.HANG:
                await self._wait_gone()
            case Delivery.NOTHING:
                self.finish()
        return False

    def renew(self) -> bool:
        """Make ready for another request; return whether there can be one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def can_answer(self) -> bool:
        """Say whether an answer can still be begun."""
        states = {h11.IDLE, h11.SEND_RESPONSE}
        return self._http.our_state in states and not self._writer.is_closing()

    async def linger(self) -> None:
        """After an answer to a half-read request: end our side, throw the rest of theirs away.

        Closing with bytes unread resets the connection, and clients lose the answer over it.
        """
        if self._http.their_state is h11.DONE or self._writer.is_closing():
            return
        with contextlib.suppress(GoneError, OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                await self._wait_gone()

    def finish(self) -> None:
        """Close in order, or at once where the client no longer reads."""
        if self._writer.transport.get_write_buffer_size():
            self._writer.transport.abort()
        self._writer.close()

    def reset(self) -> None:
        """Close with a reset: the peer gets ECONNRESET."""
        own: socket.socket | None = self._writer.get_extra_info("socket")
        if own is not None and not self._writer.is_closing():
            _make_resetting(own)
        self._writer.transport.abort()

    def _head(self, answer: Answer) -> list[tuple[str, str]]:
        """Return the headers of an answer, its framing apart."""
        head = [*answer.headers, ("Server", SERVER_NAME)]
        if (date := self._date()) is not None:
            head.append(("Date", date))
        if answer.media:
            head.append(("Content-Type", answer.media))
        if answer.closes:
            head.append(("Connection", "close"))
        return head

    def _next_event(self) -> object:
        """Return what h11 makes of the bytes so far."""
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as exc:
            raise MalformedError(exc.error_status_hint) from exc

    async def _send_framed(
        self, status: int, head: list[tuple[str, str]], body: bytes, sent: bytes, *, chunked: bool
    ) -> None:
        """Write a head that announces `body`, and `sent` of it."""
        framing = (
            ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
        )
        response = h11.Response(
            status_code=status, headers=[*head, framing], reason=_reason(status)
        )
        await self._write(self._http.send(response) or b"")
        for start in range(0, 0 if self._bodiless else len(sent), WRITE_BYTES):
            piece = h11.Data(data=sent[start : start + WRITE_BYTES])
            await self._write(self._http.send(piece) or b"")

    async def _drip(self, answer: Answer, head: list[tuple[str, str]]) -> None:
        """Write a whole answer in small pieces over `drip_s`."""
        await self._send_framed(answer.status, head, answer.body, b"", chunked=False)
        step = max(1, -(-len(answer.body) // DRIP_PIECES))
        for start in range(0, len(answer.body), step):
            await asyncio.sleep(answer.drip_s / DRIP_PIECES)
            piece = h11.Data(data=answer.body[start : start + step])
            await self._write(self._http.send(piece) or b"")
        await self._write(self._http.send(h11.EndOfMessage()) or b"")

    async def _wait_gone(self) -> None:
        """Return when the client has closed, throwing away what it says."""
        while await self._read(None):
            pass

    async def _read(self, limit_s: float | None) -> bytes:
        try:
            async with asyncio.timeout(limit_s):
                return await self._reader.read(READ_BYTES)
        except (OSError, TimeoutError) as exc:
            raise GoneError from exc

    async def _write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            async with asyncio.timeout(WRITE_STALL_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as exc:
            raise GoneError from exc


def reset(own: socket.socket) -> None:
    """Close a connection that nobody serves yet with a reset."""
    _make_resetting(own)
    own.close()


def _make_resetting(own: socket.socket) -> None:
    """Let the coming close, whoever does it, be a reset."""
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_head(request: h11.Request, first_byte_s: float) -> Head:
    """Return the head in text; h11 has checked its form."""
    path, _, query = request.target.decode("latin-1").partition("?")
    return Head(
        method=request.method.decode("ascii"),
        path=path,
        query=dict(parse_qsl(query)),
        headers={
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in request.headers
        },
        first_byte_s=first_byte_s,
    )


def _reason(status: int) -> bytes:
    """Return the words after the status; the proxy's own statuses have none."""
    known = {entry.value for entry in HTTPStatus}
    return HTTPStatus(status).phrase.encode() if status in known else b""


def _close_delimited_head(status: int, head: list[tuple[str, str]]) -> bytes:
    """Return a head without a length, by hand: h11 would turn it into chunks."""
    lines = [f"HTTP/1.1 {status} {_reason(status).decode()}"]
    lines += [f"{name}: {value}" for name, value in [*head, ("Connection", "close")]]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
