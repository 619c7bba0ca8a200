"""Metadata in a PNG's chunks.

Sources: PNG 3rd edition, XMP part 3, what ImageMagick and exiftool write.
"""

import re
from collections.abc import Iterator

from venice_watch.images.harvest import photoshop
from venice_watch.images.harvest.basket import Basket, decode

_SIGNATURE_BYTES, _OVERHEAD_BYTES = 8, 12
_WANTED = frozenset({b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"iCCP", b"pHYs"})
_XMP_KEYWORD = "XML:com.adobe.xmp"
_RAW = "Raw profile type "
_RAW_DIGITS = re.compile(r"\s*[^\n]{1,80}\n\s{0,80}([0-9]{1,10})\s(.*)", re.DOTALL)
_METRE = 1
_INCH_M = 0.0254
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"


def read(basket: Basket) -> None:
    """Put what a PNG's chunks say into `basket`; its own places count before older conventions."""
    raws: list[tuple[str, str]] = []
    for kind, body in _chunks(basket):
        if kind == b"eXIf":
            basket.put("exif", body)
        elif kind == b"pHYs":
            _read_resolution(basket, body)
        elif kind == b"iCCP":
            packed = body.partition(b"\0")[2]
            basket.put("icc", basket.inflate(packed[1:]))
        else:
            keyword, text = _text_of(basket, kind, body)
            if keyword == _XMP_KEYWORD:
                basket.put("xmp", text.encode())
            elif keyword.startswith(_RAW):
                raws.append((keyword, text))
            else:
                basket.put_text(keyword, text)
    for keyword, text in raws:
        _read_raw(basket, keyword, text)


def _chunks(basket: Basket) -> Iterator[tuple[bytes, bytes]]:
    data, at = basket.data, _SIGNATURE_BYTES
    while at + _OVERHEAD_BYTES <= len(data):
        basket.step()
        size_bytes = int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        if kind in _WANTED:
            body = basket.cut(at + 8, size_bytes)
            if body is not None:
                yield kind, body
        at += _OVERHEAD_BYTES + size_bytes


def _read_resolution(basket: Basket, body: bytes) -> None:
    if len(body) == 9 and body[8] == _METRE:  # noqa: PLR2004 - two numbers and a unit
        across, down = int.from_bytes(body[:4]), int.from_bytes(body[4:8])
        basket.put_dpi(across * _INCH_M, down * _INCH_M)


def _text_of(basket: Basket, kind: bytes, body: bytes) -> tuple[str, str]:
    """Return (keyword, text) of a text chunk; the text is empty if it cannot be read."""
    raw_keyword, _, rest = body.partition(b"\0")
    keyword = raw_keyword.decode("latin-1")
    if kind == b"tEXt":
        return keyword, rest.decode("latin-1")
    if kind == b"zTXt":
        return keyword, (basket.inflate(rest[1:]) or b"").decode("latin-1")
    packed = rest[:1] == b"\1"
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # behind language and translation
    return keyword, decode((basket.inflate(text) or b"") if packed else text)


def _read_raw(basket: Basket, keyword: str, text: str) -> None:
    """Read a profile written as hexadecimal digits behind its name and length."""
    digits = _RAW_DIGITS.match(text)
    try:
        raw = bytes.fromhex(digits[2])[: int(digits[1])] if digits else b""
    except ValueError:
        raw = b""
    if not raw:
        basket.put_text(keyword, text)
        return
    match keyword.removeprefix(_RAW).lower():
        case "exif" | "app1" if raw.startswith(_XMP_MARK):
            basket.put("xmp", raw.removeprefix(_XMP_MARK))
        case "exif" | "app1":
            basket.put("exif", raw)
        case "xmp":
            basket.put("xmp", raw.removeprefix(_XMP_MARK))
        case "iptc" | "8bim" if raw.startswith((b"8BIM", b"Photoshop 3.0\0")):
            photoshop.read_resources(basket, raw.removeprefix(b"Photoshop 3.0\0"))
        case "iptc":
            basket.put("iptc", raw)
        case "icc" | "icm":
            basket.put("icc", raw)
        case _:
            basket.put_text(keyword, text)
