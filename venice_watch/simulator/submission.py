"""The body of an upscale request, read from either of its two forms.

Rules: pure; hostile bytes give a Submission with a `problem`, never an exception. In multipart
only the part's name matters: quoted, escaped and UTF-8 file names, any order of the parts.
"""

import base64
import json
import re
from dataclasses import dataclass, field

from venice_watch.simulator.answers import Answer, Issue, error, invalid
from venice_watch.simulator.contract import JSON_BYTES_MAX, typed

PARTS_MAX = 100  # the contract has six fields
PART_HEAD_BYTES_MAX = 8_192  # a file name is at most 255 bytes, tripled by percent escapes
TEXT_FIELDS = frozenset({"enhance", "enhancePrompt"})  # "7" is a fine prompt: not a number there

_PARAMETER = re.compile(r';\s*([\w*]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^;\s]*))')


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a client handed in; `problem` is the answer to a body that cannot be read."""

    image: bytes | None = None
    fields: dict[str, object] = field(default_factory=dict)
    problem: Answer | None = None


def read_submission(content_type: str, body: bytearray) -> Submission:
    """Return the picture and the fields of `body`."""
    media = content_type.partition(";")[0].strip().lower()
    if media == "multipart/form-data":
        return _read_multipart(content_type, body)
    if media == "application/json":
        return _read_json(body)
    return _unreadable(415, f"Unsupported content type: {media[:100] or 'none'}")


def _unreadable(status: int, text: str) -> Submission:
    return Submission(problem=error(status, text))


def _read_json(body: bytearray) -> Submission:
    if len(body) > JSON_BYTES_MAX:
        return _unreadable(413, "Request body too large")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return _unreadable(400, "Invalid JSON in request body")
    if not isinstance(fields, dict):
        return _unreadable(400, "Request body must be a JSON object")
    encoded = fields.pop("image", None)
    if encoded is None:
        return Submission(fields=fields)
    try:
        image = base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError):
        issue = Issue(field="image", code="invalid_string", message="Invalid base64")
        return Submission(fields=fields, problem=invalid([issue]))
    return Submission(image=image, fields=fields)


def _read_multipart(content_type: str, body: bytearray) -> Submission:
    boundary = _parameters(content_type).get("boundary", "")
    if not boundary:
        return _unreadable(400, "Multipart: Boundary not found")
    image: bytes | None = None
    fields: dict[str, object] = {}
    spans = _part_spans(body, b"--" + boundary.encode("latin-1", "replace"))
    if spans is None:
        return _unreadable(400, "Unexpected end of form")
    for start, end in spans:
        head_end = body.find(b"\r\n\r\n", start, min(end, start + PART_HEAD_BYTES_MAX))
        name = _part_name(body[start:head_end]) if head_end >= 0 else None
        if name is None:
            return _unreadable(400, "Malformed part header")
        content = bytes(memoryview(body)[min(head_end + 4, end) : end])
        if name == "image":
            image = content
        else:
            text = content.decode("utf-8", "replace")
            fields[name] = text if name in TEXT_FIELDS else typed(text)
    return Submission(image=image, fields=fields)


def _part_spans(body: bytearray, delimiter: bytes) -> list[tuple[int, int]] | None:
    """Return where each part's head begins and its content ends; None for a form without end."""
    spans: list[tuple[int, int]] = []
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:  # not found
        return None
    while len(spans) <= PARTS_MAX:
        at += len(delimiter)
        if body[at : at + 2] == b"--":
            return spans
        start = body.find(b"\r\n", at, at + PART_HEAD_BYTES_MAX)
        end = body.find(b"\r\n" + delimiter, max(start, 0))
        if start < 0 or end < 0:
            return None
        spans.append((start + 2, max(start + 2, end)))
        at = end + 2
    return None


def _part_name(head: bytearray) -> str | None:
    """Return the name in a part's Content-Disposition."""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "content-disposition":
            return _parameters(value).get("name")
    return None


def _parameters(header: str) -> dict[str, str]:
    """Return the `; name=value` pairs of a header, unquoted."""
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        for name, quoted, plain in _PARAMETER.findall(header)
    }
