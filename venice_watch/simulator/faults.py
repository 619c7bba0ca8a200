"""Everything that can go wrong on purpose: one entry in a table for each.

Rules: a fault says where in a request it strikes, whether the image is paid for all the same, and
what is answered; carrying it out is the server's business. `value` comes from the script
(`overloaded=86400`) and means what the entry says. Unknown names are errors.
"""

import dataclasses
import difflib
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from enum import StrEnum

from venice_watch.simulator.answers import (
    PROXY_TITLES,
    Answer,
    Delivery,
    data,
    error,
    proxy_page,
)
from venice_watch.simulator.pixels import Flaw

OVERLOADED_RETRY_S = 30  # what Venice says by default
PROXY_OWN_MIN = 520  # from here on the statuses are the proxy's own
DRIP_S = 5.0
DRIP_S_MAX = 3_600.0


class Stage(StrEnum):
    """Where a fault strikes."""

    ACCEPT = "accept"  # before a byte is read; no path is known, every connection counts
    HEAD = "head"  # after the head, the body unread
    UPLOAD = "upload"  # in the middle of the body
    ANSWER = "answer"  # after the whole request


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a fault's answer can be made of."""

    value: str | None
    authorization: str
    now_wall_s: float
    good: Answer | None  # the right answer, where the work was done


Play = Callable[[Scene], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail."""

    name: str
    summary: str
    play: Play
    stage: Stage = Stage.ANSWER
    charged: bool = False  # the image is made and paid for; implies the work
    alters: bool = False  # the answer is made from the good one; implies the work
    slow: bool = False  # without work, it comes after the usual latency
    flaw: Flaw = Flaw.NONE
    check_value: Callable[[str], object] | None = None  # raises ValueError; None: takes no value


def find_fault(name: str) -> Fault:
    """Return the table's entry; raise ValueError with the nearest name."""
    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(FAULTS))}"
        raise ValueError(f"fault {name!r} is not known; {hint}")
    return FAULTS[name]


def error_budget(failures_max: int) -> Answer:
    """Return the refusal of everything after too many failures; it does not count again."""
    text = (
        f"Too many failed attempts (> {failures_max}) resulting in a non-success status code. "
        "Please wait 30s and try again."
    )
    return dataclasses.replace(error(429, text), blocks=True)


def overloaded(retry_after: str) -> Answer:
    """Return the refusal of a model that has too much to do."""
    text = "The model is currently overloaded. Please try again later."
    return error(429, text, ("Retry-After", retry_after))


def payment_required() -> Answer:
    """Return the refusal of an empty account."""
    return error(402, "Insufficient USD or Diem balance to complete request.")


def spend_limit() -> Answer:
    """Return the refusal of a key that has spent its own allowance."""
    return error(402, "API key USD spend limit exceeded.")


def _says(status: int, text: str) -> Play:
    return lambda _: error(status, text)


def _page(status: int) -> Play:
    return lambda _: proxy_page(status)


def _delivered(delivery: Delivery) -> Play:
    return lambda scene: dataclasses.replace(_good(scene), delivery=delivery)


def _instead(media: str, body: bytes) -> Play:
    return lambda scene: dataclasses.replace(_good(scene), media=media, body=body)


def _good(scene: Scene) -> Answer:
    assert scene.good is not None, "a fault that alters the answer implies the work"
    return scene.good


def _silent(delivery: Delivery) -> Play:
    return lambda _: Answer(status=200, delivery=delivery, bare=True)


def _overloaded(scene: Scene) -> Answer:
    value = scene.value or str(OVERLOADED_RETRY_S)
    if value == "date":
        value = formatdate(scene.now_wall_s + OVERLOADED_RETRY_S, usegmt=True)
    return overloaded(value)


def _check_retry_after(value: str) -> object:
    return value == "date" or int(value)


def _drip(scene: Scene) -> Answer:
    drip_s = float(scene.value or DRIP_S)
    return dataclasses.replace(_good(scene), delivery=Delivery.DRIP, drip_s=drip_s)


def _check_drip(value: str) -> object:
    if not 0 <= float(value) <= DRIP_S_MAX:
        raise ValueError(f"{value!r}; give seconds from 0 to {DRIP_S_MAX:g}")
    return value


def _echo(status: int) -> Play:
    def play(scene: Scene) -> Answer:
        return error(status, f"Could not handle request, Authorization: {scene.authorization}")

    return play


def _gzipped(_: Scene) -> Answer:
    plain = error(500, "INFERENCE_FAILED")
    headers = (("Content-Encoding", "gzip"),)
    return dataclasses.replace(plain, body=gzip.compress(plain.body, mtime=0), headers=headers)


def _object(_: Scene) -> Answer:
    return data(
        {
            "error": {
                "message": "Inference failed",
                "type": "server_error",
                "param": None,
                "code": "INFERENCE_FAILED",
            }
        },
        500,
    )


def _too_large(_: Scene) -> Answer:
    return dataclasses.replace(error(413, "Request entity too large"), closes=True)


def _refuse(_: Scene) -> Answer:
    return Answer(status=200, delivery=Delivery.NOTHING, bare=True)


_ENTRIES = (
    # Rate.
    Fault(name="rate_limited", summary="429, the request rate",
          play=_says(429, "Rate limit exceeded")),
    Fault(name="overloaded", summary="429 with Retry-After: =30 (seconds), =0, =86400, =date",
          play=_overloaded, check_value=_check_retry_after),
    Fault(name="error_budget", summary="429, too many failed attempts",
          play=lambda _: error_budget(20)),
    # Account.
    Fault(name="unauthorized", summary="401", play=_says(401, "Authentication failed")),
    Fault(name="payment_required", summary="402, no balance", play=lambda _: payment_required()),
    Fault(name="spend_limit", summary="402, the key's own limit", play=lambda _: spend_limit()),
    Fault(name="forbidden", summary="403", play=_says(403, "Access to this API is disabled.")),
    # The image.
    Fault(name="bad_request", summary="400, details as plain text",
          play=lambda _: data({"error": "Bad request", "details": "Could not read image"}, 400)),
    Fault(name="rejected", summary="422, content policy",
          play=_says(422, "Your image violates the content policy.")),
    Fault(name="too_large_at_once", summary="413 before the body is read, then closed",
          stage=Stage.HEAD, play=_too_large),
    # The server.
    Fault(name="server_error", summary="500 JSON", slow=True, play=_says(500, "UPSCALE_FAILED")),
    Fault(name="server_error_charged", summary="500 JSON, charged", charged=True,
          play=_says(500, "INFERENCE_FAILED")),
    Fault(name="server_error_empty", summary="500 without a body", slow=True,
          play=lambda _: Answer(status=500, media="")),
    Fault(name="server_error_gzip", summary="500 JSON, gzip", slow=True, play=_gzipped),
    Fault(name="server_error_object", summary="500, error is an object", slow=True, play=_object),
    Fault(name="unavailable", summary="503 JSON",
          play=_says(503, "The model is at capacity. Please try again later.")),
    # The proxy in front.
    Fault(name="unavailable_html", summary="503 HTML", play=_page(503)),
    Fault(name="bad_gateway", summary="502 HTML", slow=True, play=_page(502)),
    Fault(name="gateway_timeout", summary="504 HTML", slow=True, play=_page(504)),
    Fault(name="timeout_524", summary="524 HTML, charged", charged=True, play=_page(524)),
    *(Fault(name=f"html_{status}", summary=f"{status} HTML", slow=True, play=_page(status))
      for status in PROXY_TITLES if status >= PROXY_OWN_MIN),
    # 200, and yet no result. Charged: the worst case is the one to be ready for.
    Fault(name="ok_json", summary="200 with JSON, charged", charged=True, alters=True,
          play=_instead("application/json", json.dumps({"status": "queued"}).encode())),
    Fault(name="ok_html", summary="200 with HTML, charged", charged=True, alters=True,
          play=_instead("text/html", b"<!DOCTYPE html><title>Please wait</title>\n")),
    Fault(name="ok_empty", summary="200 image/png with nothing in it, charged", charged=True,
          alters=True, play=_instead("image/png", b"")),
    Fault(name="ok_jpeg_as_png", summary="200, a JPEG called image/png, charged", charged=True,
          alters=True, flaw=Flaw.JPEG, play=_good),
    Fault(name="ok_damaged", summary="200, one byte of the PNG changed, charged", charged=True,
          alters=True, flaw=Flaw.DAMAGED, play=_good),
    Fault(name="ok_huge", summary="200, a sound PNG padded to 80 MB, charged", charged=True,
          alters=True, flaw=Flaw.HUGE, play=_good),
    Fault(name="wrong_size", summary="200, half the size, charged", charged=True, alters=True,
          flaw=Flaw.SMALLER, play=_good),
    # The wire.
    Fault(name="whole_chunked", summary="in order, chunked", charged=True, alters=True,
          play=_delivered(Delivery.WHOLE_CHUNKED)),
    Fault(name="whole_close", summary="in order, ends with the connection", charged=True,
          alters=True, play=_delivered(Delivery.WHOLE_CLOSE)),
    Fault(name="truncated", summary="half of Content-Length, charged", charged=True, alters=True,
          play=_delivered(Delivery.TRUNCATED)),
    Fault(name="truncated_chunked", summary="half, chunked, charged", charged=True, alters=True,
          play=_delivered(Delivery.TRUNCATED_CHUNKED)),
    Fault(name="truncated_close", summary="half, ends with the connection, charged", charged=True,
          alters=True, play=_delivered(Delivery.TRUNCATED_CLOSE)),
    Fault(name="stall_in_body", summary="half, then silence, charged", charged=True, alters=True,
          play=_delivered(Delivery.STALL)),
    Fault(name="slow_drip", summary="in order, over =5 seconds, charged", charged=True,
          alters=True, play=_drip, check_value=_check_drip),
    Fault(name="reset_on_accept", summary="RST for a new connection", stage=Stage.ACCEPT,
          play=_refuse),
    Fault(name="reset_in_upload", summary="RST in the middle of the body", stage=Stage.UPLOAD,
          play=_refuse),
    Fault(name="close_after_body", summary="closed without an answer",
          play=_silent(Delivery.NOTHING)),
    Fault(name="close_after_body_charged", summary="closed without an answer, charged",
          charged=True, play=_silent(Delivery.NOTHING)),
    Fault(name="hang", summary="no answer, ever", play=_silent(Delivery.HANG)),
    Fault(name="hang_charged", summary="no answer, ever; charged", charged=True,
          play=_silent(Delivery.HANG)),
    Fault(name="stale_keepalive", summary="in order; RST when the connection is used again",
          charged=True, alters=True, play=_delivered(Delivery.WHOLE_STALE)),
    # Secrets.
    Fault(name="echo_key", summary="400 that repeats the Authorization header", play=_echo(400)),
    Fault(name="echo_key_500", summary="500 that repeats the Authorization header",
          play=_echo(500)),
)  # fmt: skip

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ENTRIES}
