"""Metadata in formats that have little: BMP, Targa, PPM.

Sources: Microsoft's BITMAPV5HEADER, TGA 2.0, netpbm.
"""

import re

from venice_watch.images.harvest.basket import Basket

_INCH_M = 0.0254
_INFO_AT = 14  # behind a BMP's file header
_INFO_BYTES_MIN, _V5_BYTES = 40, 124
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_TGA_EXTENSION_BYTES = 495
_TGA_TEXTS = (("Author", 2, 41), ("Job", 379, 41), ("Software", 426, 41))  # in the extension
_TGA_COMMENT = (43, 4, 81)  # where, how many lines, and their size
_PPM_HEADER = re.compile(rb"P[1-6Ff]\s(?:\s*(?:#[^\r\n]*|[-+.\d]+)\s){1,64}")
_PPM_COMMENT = re.compile(rb"#[ \t]*([^\r\n]*)")


def read_bmp(basket: Basket) -> None:
    """Put a BMP's resolution and embedded profile into `basket`."""
    data = basket.data
    info_bytes = int.from_bytes(data[_INFO_AT : _INFO_AT + 4], "little")
    if info_bytes < _INFO_BYTES_MIN:
        return
    across, down = (int.from_bytes(data[at : at + 4], "little") for at in (38, 42))
    basket.put_dpi(across * _INCH_M, down * _INCH_M)
    if info_bytes >= _V5_BYTES and data[70:74] == b"DEBM":  # "MBED", little-endian
        at, size_bytes = (int.from_bytes(data[at : at + 4], "little") for at in (126, 130))
        basket.put("icc", basket.cut(_INFO_AT + at, size_bytes))


def read_tga(basket: Basket) -> None:
    """Put what a Targa's extension and its identification say into `basket`."""
    data = basket.data
    basket.put_comment(basket.cut(18, data[0]))
    footer = data[-26:]
    at = int.from_bytes(footer[:4], "little")
    if footer[8:] != _TGA_FOOTER or not at:
        return
    extension = basket.cut(at, _TGA_EXTENSION_BYTES) or b""
    for keyword, start, size_bytes in _TGA_TEXTS:
        basket.put_text(keyword, _line(extension, start, size_bytes))
    start, count, size_bytes = _TGA_COMMENT
    lines = (_line(extension, start + n * size_bytes, size_bytes) for n in range(count))
    basket.put_text("Comment", "\n".join(line for line in lines if line))


def read_ppm(basket: Basket) -> None:
    """Put the comments in a PPM's header into `basket`."""
    header = _PPM_HEADER.match(basket.data, 0, 65_536)
    for comment in _PPM_COMMENT.findall(header[0] if header else b""):
        basket.put_comment(comment)


def _line(extension: bytes, start: int, size_bytes: int) -> str:
    text = extension[start : start + size_bytes].partition(b"\0")[0]
    return text.decode("latin-1").strip()
