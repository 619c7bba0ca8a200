"""Photoshop's image resources, in its own files and inside of JPEG and TIFF.

Source: Adobe Photoshop File Formats Specification (2019).
"""

from venice_watch.images.harvest.basket import Basket

_BLOCK_MARKS = (b"8BIM", b"MeSa", b"AgHg", b"PHUT", b"DCSR")
_BLOBS = {0x0404: "iptc", 0x0422: "exif", 0x0424: "xmp", 0x040F: "icc"}
_RESOLUTION = 0x03ED
_FIXED = 65_536.0  # 16.16, in pixels an inch whatever unit is shown
_HEADER_BYTES = 26
_OVERHEAD_BYTES = 12  # of an empty resource


def read(basket: Basket) -> None:
    """Put what a Photoshop file says into `basket`."""
    colours_bytes = int.from_bytes(basket.data[_HEADER_BYTES : _HEADER_BYTES + 4])
    at = _HEADER_BYTES + 4 + colours_bytes
    size_bytes = int.from_bytes(basket.data[at : at + 4])
    _read_blocks(basket, basket.data, at + 4, min(len(basket.data), at + 4 + size_bytes))


def read_resources(basket: Basket, resources: bytes) -> None:
    """Put what image resources say into `basket`."""
    _read_blocks(basket, resources, 0, len(resources))


def _read_blocks(basket: Basket, data: bytes, at: int, end: int) -> None:
    while at + _OVERHEAD_BYTES <= end and data[at : at + 4] in _BLOCK_MARKS:
        basket.step()
        number = int.from_bytes(data[at + 4 : at + 6])
        at += 6 + (data[at + 6] + 2) // 2 * 2  # a name, padded with its length to even
        size_bytes = int.from_bytes(data[at : at + 4])
        start = at + 4
        if start + size_bytes > end:
            return
        _take(basket, data, number, start, size_bytes)
        at = start + (size_bytes + 1) // 2 * 2


def _take(basket: Basket, data: bytes, number: int, start: int, size_bytes: int) -> None:
    if number == _RESOLUTION and size_bytes >= 12:  # noqa: PLR2004 - both sides with their units
        across = int.from_bytes(data[start : start + 4]) / _FIXED
        down = int.from_bytes(data[start + 8 : start + 12]) / _FIXED
        basket.put_dpi(across, down)
    match _BLOBS.get(number):
        case "exif" | "xmp" | "iptc" | "icc" as kind if not basket.has(kind):
            # Inside of another format the resources have been cut out and counted already.
            inside = data is not basket.data
            part = data[start : start + size_bytes] if inside else basket.cut(start, size_bytes)
            basket.put(kind, part)
        case _:
            pass
