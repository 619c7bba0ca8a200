"""What the server says: an answer as a value, and the shapes of Venice's errors.

Rules: an answer knows its bytes and how they are to be delivered; it does not know sockets.
`bare` answers come from before the key was accepted, or from the proxy in front: they carry no
rate and balance headers. `blocks` marks the error budget's own refusal: it spends no more of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

PROXY_TITLES = {
    502: "Bad gateway",
    503: "Service temporarily unavailable",
    504: "Gateway time-out",
    520: "Web server is returning an unknown error",
    521: "Web server is down",
    522: "Connection timed out",
    523: "Origin is unreachable",
    524: "A timeout occurred",
    525: "SSL handshake failed",
    526: "Invalid SSL certificate",
}


class Delivery(StrEnum):
    """How the bytes of an answer reach the client."""

    WHOLE = "whole"  # with Content-Length
    WHOLE_CHUNKED = "whole_chunked"
    WHOLE_CLOSE = "whole_close"  # ends where the connection ends
    WHOLE_STALE = "whole_stale"  # whole; the next request on this connection is met by a reset
    TRUNCATED = "truncated"  # half of what Content-Length says, then the end
    TRUNCATED_CHUNKED = "truncated_chunked"
    TRUNCATED_CLOSE = "truncated_close"  # only the picture itself can tell
    STALL = "stall"  # half, then silence
    DRIP = "drip"  # whole, in small pieces
    NOTHING = "nothing"  # closed without a byte
    HANG = "hang"  # open without a byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status, its bytes, and how they travel."""

    status: int
    body: bytes = b""
    media: str = "application/json"  # "": no Content-Type
    headers: tuple[tuple[str, str], ...] = ()
    bare: bool = False
    blocks: bool = False
    closes: bool = False  # the connection ends after it
    delivery: Delivery = Delivery.WHOLE
    drip_s: float = 0.0  # how long a DRIP takes in all

    @property
    def failed(self) -> bool:
        """Say whether it spends the error budget."""
        return self.status >= HTTPStatus.BAD_REQUEST and not self.blocks and not self.silent

    @property
    def silent(self) -> bool:
        """Say whether the client hears nothing at all."""
        return self.delivery in {Delivery.NOTHING, Delivery.HANG}


class RefusalError(Exception):
    """The way out of a request that cannot be served, carrying the answer to it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"refused with {answer.status}")
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One thing wrong with one field; `field` None means the whole object."""

    field: str | None
    code: str
    message: str


def data(value: object, status: int = 200) -> Answer:
    """Return `value` as JSON."""
    return Answer(status=status, body=json.dumps(value).encode())


def error(status: int, text: str, *headers: tuple[str, str], bare: bool = False) -> Answer:
    """Return the common shape of an error, `{"error": text}`."""
    body = json.dumps({"error": text}, ensure_ascii=False).encode()
    return Answer(status=status, body=body, headers=headers, bare=bare)


def invalid(issues: Sequence[Issue]) -> Answer:
    """Return the shape of a validation error: `details` by field, `issues` in order."""
    own = [issue.message for issue in issues if issue.field is None]
    details: dict[str, object] = {"_errors": own}
    for issue in issues:
        if issue.field is not None:
            messages = [other.message for other in issues if other.field == issue.field]
            details[issue.field] = {"_errors": messages}
    listed = [
        {"code": issue.code, "path": [issue.field] if issue.field else [], "message": issue.message}
        for issue in issues
    ]
    return data(
        {
            "error": "Invalid request parameters",
            "details": details,
            "issues": listed,
        },
        400,
    )


def proxy_page(status: int) -> Answer:
    """Return the page of the proxy in front, for a server that it cannot hear."""
    title = PROXY_TITLES[status]
    body = (
        "<!DOCTYPE html>\n<html><head>"
        f"<title>venice.ai | {status}: {title}</title></head>\n"
        f"<body><h1>Error {status}</h1><p>{title}</p></body></html>\n"
    ).encode()
    return Answer(status=status, body=body, media="text/html; charset=UTF-8", bare=True)
