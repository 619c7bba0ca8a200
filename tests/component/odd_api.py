"""A fake API, for answers that the simulator cannot be made to give: odd headers, sizes and delays.

It is no model of Venice: it knows one picture, takes every key, and keeps no bill but a count. Use
it only where the simulator does not serve. One request a connection, on loopback.
"""

import json
import re
import socketserver
import threading
import time
from typing import cast

Headers = list[tuple[bytes, bytes]]

RATE = json.dumps(
    {
        "data": {
            "accessPermitted": True,
            "balances": {"USD": 10},
            "rateLimits": [
                {"apiModelId": "upscaler", "rateLimits": [{"amount": 6000, "type": "RPM"}]}
            ],
        }
    }
).encode()
OLDER_CONTRACT = json.dumps(
    {"error": "Invalid", "details": {"_errors": [], "enhanceCreativity": {"_errors": ["<= 1"]}}}
).encode()


class OddApi(socketserver.ThreadingTCPServer):
    """Answers as its attributes say, and remembers every request."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Connection)
        self.base_url = f"http://{host}:{self.server_address[1]}/api/v1"
        self.image = b""  # what each paid request is answered with
        self.free_wait_s = 0.0  # before an answer to a request that costs nothing
        self.free_headers: Headers = []
        self.key_answer = (b"200 OK", RATE)  # to the question for rate and balances
        self.contract_answer = (b"400 Bad Request", OLDER_CONTRACT)  # to an upscale without image
        self.paid_headers: Headers = []
        self.disliked = b"\0never\0"  # a request with these bytes in it is answered 403
        self.heads: list[bytes] = []
        self.paid: list[bytes] = []  # the bodies of the requests answered with the image
        self._lock = threading.Lock()

    def answer(self, head: bytes, body: bytes) -> bytes:
        """Return the whole answer to a request."""
        with self._lock:
            self.heads.append(head)
            is_upscale = b"/image/upscale" in head.split(b"\r\n", 1)[0]
            is_paid = is_upscale and b"multipart/form-data" in head
            if is_paid and self.disliked not in body:
                self.paid.append(body)
        if is_paid and self.disliked in body:
            return _written(b"403 Forbidden", b"text/html", b"<title>Blocked</title>", [])
        if is_paid:
            return _written(b"200 OK", b"image/png", self.image, self.paid_headers)
        time.sleep(self.free_wait_s)
        if is_upscale:
            status, words = self.contract_answer
        elif b"/api_keys/rate_limits" in head:
            status, words = self.key_answer
        else:
            status, words = b"404 Not Found", b"{}"
        return _written(status, b"application/json", words, self.free_headers)


def _written(status: bytes, kind: bytes, body: bytes, headers: Headers) -> bytes:
    usual = [
        (b"Content-Type", kind),
        (b"Content-Length", str(len(body)).encode()),
        (b"Connection", b"close"),
    ]
    lines = [b"HTTP/1.1 " + status, *(name + b": " + value for name, value in usual + headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class _Connection(socketserver.StreamRequestHandler):
    """Reads one whole request and writes one answer."""

    def handle(self) -> None:
        """Serve the connection."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return  # somebody only looked whether we listen
            head += line
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = self.rfile.read(int(length[1]) if length else 0)
        self.wfile.write(cast("OddApi", self.server).answer(head, body))
