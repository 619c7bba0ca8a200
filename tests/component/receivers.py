"""A receiver of notices on loopback: notes what it gets, and answers as it is told to."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_S = 60.0  # longer than any of these tests waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """One request, as it came."""

    path: str
    headers: Mapping[str, str]
    body: str


class Receiver:
    """What a receiver got; `mood` is ok, fail, refuse, hang, close or redirect."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.mood = "ok"
        self.elsewhere = ""  # where `redirect` points
        self.got: list[Got] = []
        self.release = threading.Event()  # ends what hangs


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length).decode()
            receiver.got.append(Got(path=self.path, headers=dict(self.headers), body=body))
            match receiver.mood:
                case "hang":
                    receiver.release.wait(HANG_S)
                case "close":
                    self.close_connection = True
                case "redirect":
                    self.answer(302, Location=receiver.elsewhere)
                case mood:
                    self.answer({"ok": 200, "fail": 500, "refuse": 403}[mood])

        do_GET = do_POST  # noqa: N815 - the base class's names

        def answer(self, status: int, **headers: str) -> None:
            words = b"thanks, as you said: " + self.path.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(words)))
            self.end_headers()
            self.wfile.write(words)

        def log_message(self, *_: object) -> None:
            pass  # nobody reads it

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.release.set()
            server.shutdown()
            thread.join()
