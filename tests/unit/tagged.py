"""Pictures with metadata, made here, and what exiftool reads in them."""

import io
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from PIL import Image

Order = Literal["little", "big"]
ORDERS: tuple[Order, Order] = ("little", "big")
MAKER_NOTE = b"MAKER\0note, with offsets that only its maker knows: \x12\x34\x56\x78"
THUMBNAIL = b"\xff\xd8\xff\xdbthe thumbnail's own bytes" * 9 + b"\xff\xd9"
LATITUDE = struct.pack("<6I", 48, 1, 51, 1, 2999, 100)

Value = tuple[int, int, bytes]  # type, count, bytes in the structure's order


def picture(plugin: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    """Return a small picture."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((24, 16)).convert(mode).save(buffer, plugin, **options)
    return buffer.getvalue()


def whole(order: Order, number: int, *, wide: bool = False) -> Value:
    """Return a SHORT or LONG value."""
    return (4, 1, number.to_bytes(4, order)) if wide else (3, 1, number.to_bytes(2, order))


def ratio(order: Order, above: int, below: int) -> Value:
    """Return a RATIONAL value."""
    return 5, 1, above.to_bytes(4, order) + below.to_bytes(4, order)


def directory(order: Order, at: int, fields: dict[int, Value], next_at: int = 0) -> bytes:
    """Return a directory that stands at `at`, its values behind it."""
    values = bytearray()
    entries = b""
    values_at = at + 2 + 12 * len(fields) + 4
    for tag, (kind, count, value) in sorted(fields.items()):
        inline = value
        if len(value) > 4:
            inline = (values_at + len(values)).to_bytes(4, order)
            values += value + bytes(len(value) % 2)
        entries += tag.to_bytes(2, order) + kind.to_bytes(2, order) + count.to_bytes(4, order)
        entries += inline.ljust(4, b"\0")
    head = len(fields).to_bytes(2, order)
    return head + entries + next_at.to_bytes(4, order) + bytes(values)


def structure(order: Order, *, orientation: bool = True) -> bytes:
    """Return an EXIF structure as a camera writes it, each directory at a round offset."""
    first = {
        0x010F: (2, 6, b"Maker\0"),
        0x011A: ratio(order, 72, 1),
        0x011B: ratio(order, 72, 1),
        0x0128: whole(order, 2),
        0x8769: whole(order, 256, wide=True),
        0x8825: whole(order, 512, wide=True),
    }
    if orientation:
        first[0x0112] = whole(order, 6)
    inner = {
        0x9003: (2, 20, b"2024:05:06 07:08:09\0"),
        0x927C: (7, len(MAKER_NOTE), MAKER_NOTE),
        0x9286: (7, 20, b"ASCII\0\0\0a comment\0\0\0"),
        0xA002: whole(order, 4000),
        0xA003: whole(order, 3000),
    }
    place = {0x0001: (2, 2, b"N\0"), 0x0002: (5, 3, LATITUDE)}
    small = {
        0x0103: whole(order, 6),
        0x0201: whole(order, 1024, wide=True),
        0x0202: whole(order, len(THUMBNAIL), wide=True),
    }
    mark = b"II" if order == "little" else b"MM"
    out = bytearray(mark + (42).to_bytes(2, order) + (8).to_bytes(4, order))
    parts = [(8, first, 768), (256, inner, 0), (512, place, 0), (768, small, 0)]
    for at, fields, next_at in parts:
        out = out.ljust(at, b"\0") + directory(order, at, fields, next_at)
    return bytes(out.ljust(1024, b"\0") + THUMBNAIL)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> bytes:
    """Return a PNG with these chunks before its pixels."""
    plain = picture()
    return plain[:33] + b"".join(chunks) + plain[33:]


def segment(marker: int, body: bytes) -> bytes:
    """Return a JPEG segment."""
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def jpeg_with(*segments: bytes) -> bytes:
    """Return a JPEG with these segments in front, and no JFIF."""
    plain = picture("JPEG")
    return plain[:2] + b"".join(segments) + plain[20:]


def packet(attributes: str = "", elements: str = "", *, wrapped: bool = True) -> bytes:
    """Return an XMP packet whose one description has these attributes and elements."""
    spaces = {
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "tiff": "http://ns.adobe.com/tiff/1.0/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "dc": "http://purl.org/dc/elements/1.1/",
    }
    names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in spaces.items())
    text = (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {names}><rdf:Description '
        f'rdf:about="" {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta>'
    )
    if wrapped:
        text = f'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>{text}<?xpacket end="w"?>'
    return text.encode()


def exiftool(*arguments: str, data: bytes) -> bytes:
    """Let exiftool read `data`, and return what it writes."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("to install it: apt-get install libimage-exiftool-perl")
    bare = data[:4] in {b"II*\0", b"MM\0*"}  # without this ending it would pass for a whole TIFF
    with tempfile.NamedTemporaryFile(suffix=".exif" if bare else "") as file:
        file.write(data)
        file.flush()
        done = subprocess.run(
            [program, *arguments, file.name], capture_output=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def written(*arguments: str, data: bytes) -> bytes:
    """Let exiftool write tags into `data`, and return the file."""
    return exiftool(*arguments, "-o", "-", data=data)


def said(data: bytes) -> dict[str, Any]:
    """Return what exiftool finds in `data`, by group and name, as numbers where it can."""
    answer = json.loads(exiftool("-j", "-G1", "-n", "-b", data=data))[0]
    assert isinstance(answer, dict)
    return answer


def faults(data: bytes) -> str:
    """Return what exiftool finds wrong with `data`; minor things, as other makers', are none."""
    found = exiftool("-validate", "-warning", "-error", "-a", "-s3", data=data).decode()
    lines = [line for line in found.splitlines() if "[minor]" not in line and "minor)" not in line]
    return "; ".join(line for line in lines if line != "OK")


@contextmanager
def counted_calls() -> Iterator[Callable[[], int]]:
    """Count the calls that are made inside: work, and not time, which a busy machine stretches."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)
