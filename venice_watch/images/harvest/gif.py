"""Metadata in a GIF's extensions. Sources: GIF89a; XMP part 3; ICC.1, annex B."""

from venice_watch.images.harvest.basket import Basket

_HEADER_BYTES = 13
_IMAGE, _EXTENSION = 0x2C, 0x21
_APPLICATION, _COMMENT = 0xFF, 0xFE
_NAME_BYTES = 11  # of an application
_XMP, _ICC = b"XMP DataXMP", b"ICCRGBG1012"
_XMP_END = b"\x01\xff\xfe\xfd\xfc"  # the trailer that lets readers of sub-blocks find the end


def read(basket: Basket) -> None:
    """Put what a GIF's extensions say into `basket`."""
    data = basket.data
    at = _HEADER_BYTES + _palette_bytes(data[10:11])
    while at < len(data):
        basket.step()
        if data[at] == _IMAGE:
            at = _skip(basket, at + 11 + _palette_bytes(data[at + 9 : at + 10]))
        elif data[at] == _EXTENSION:
            at = _read_extension(basket, at + 2, label=data[at + 1])
        else:
            return  # the trailer, or no GIF any more


def _palette_bytes(flags: bytes) -> int:
    packed = flags[0] if flags else 0
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _skip(basket: Basket, at: int) -> int:
    """Return the offset behind a chain of sub-blocks."""
    data = basket.data
    while at < len(data) and data[at]:
        basket.step()
        at += 1 + data[at]
    return at + 1


def _read_extension(basket: Basket, at: int, *, label: int) -> int:
    """Read an extension whose first sub-block is at `at`; return the offset behind it."""
    end = _skip(basket, at)
    if label == _COMMENT:
        basket.put_comment(_joined(basket, at, end))
    name = basket.data[at + 1 : at + 1 + _NAME_BYTES] if label == _APPLICATION else b""
    start = at + 1 + _NAME_BYTES
    if name == _XMP:  # no sub-blocks at all, though its trailer makes it look so
        trailer = basket.data.find(_XMP_END, start, end)
        if trailer >= 0:
            basket.put("xmp", basket.cut(start, trailer - start))
    elif name == _ICC:
        basket.put("icc", _joined(basket, start, end))
    return end


def _joined(basket: Basket, at: int, end: int) -> bytes | None:
    """Return the contents of a chain of sub-blocks; with their lengths it is 1/255 larger."""
    raw = basket.cut(at, min(end, len(basket.data)) - at)
    if raw is None:
        return None
    parts = []
    at = 0
    while at < len(raw) and raw[at]:
        parts.append(raw[at + 1 : at + 1 + raw[at]])
        at += 1 + raw[at]
    return b"".join(parts)
