"""Metadata in a JPEG's segments, up to its first scan.

Sources: JPEG, JFIF 1.02, Exif 3.0, XMP part 3, ICC.1.
"""

import re
import struct

from venice_watch.images import exif, ifd, xmp
from venice_watch.images.harvest import photoshop
from venice_watch.images.harvest.basket import Basket

_SOS, _EOI, _COM, _APP0, _APP1, _APP2, _APP13 = 0xDA, 0xD9, 0xFE, 0xE0, 0xE1, 0xE2, 0xED
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_ICC = b"ICC_PROFILE\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_JFIF = b"JFIF\0"
_MORE_GUID = re.compile(rb"HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})")
_INCHES = {1: 1.0, 2: 2.54}  # JFIF's unit to a factor; 0 is an aspect ratio


def read(basket: Basket) -> None:
    """Put what a JPEG's segments say into `basket`."""
    segments: dict[int, list[bytes]] = {marker: [] for marker in (_APP1, _APP2, _APP13)}
    comments: list[bytes] = []
    data, at = basket.data, 2
    while (at := data.find(b"\xff", at)) >= 0:
        basket.step()
        marker = data[at + 1] if at + 1 < len(data) else _EOI
        if marker in {_SOS, _EOI}:
            break
        if marker in {0x00, 0xFF} or marker in _BARE:
            at += 1 if marker == 0xFF else 2  # noqa: PLR2004 - a fill byte
            continue
        size_bytes = int.from_bytes(data[at + 2 : at + 4])
        if marker == _APP0:
            _read_jfif(basket, data[at + 4 : at + 2 + size_bytes])
        elif marker == _COM:
            comments.append(basket.cut(at + 4, size_bytes - 2) or b"")
        elif marker in segments:
            segments[marker].append(basket.cut(at + 4, size_bytes - 2) or b"")
        at += 2 + max(2, size_bytes)
    basket.put("exif", _join_exif(segments[_APP1]))
    basket.put("xmp", _join_xmp(segments[_APP1]))
    basket.put("icc", _join_profile(segments[_APP2]))
    resources = [s.removeprefix(_PHOTOSHOP) for s in segments[_APP13] if s.startswith(_PHOTOSHOP)]
    photoshop.read_resources(basket, b"".join(resources))
    for comment in comments:
        basket.put_comment(comment)


def _read_jfif(basket: Basket, body: bytes) -> None:
    if body.startswith(_JFIF) and len(body) >= 12 and body[7] in _INCHES:  # noqa: PLR2004
        across, down = struct.unpack_from(">HH", body, 8)
        basket.put_dpi(across * _INCHES[body[7]], down * _INCHES[body[7]])


def _join_exif(segments: list[bytes]) -> bytes | None:
    """Join an EXIF structure with segments that continue it, as some cameras write them."""
    parts: list[bytes] = []
    for segment in segments:
        part = segment.removeprefix(exif.PREFIX)
        if part == segment:
            continue
        if parts and ifd.read_layout(part) is not None:
            break  # another structure
        parts.append(part)
    return b"".join(parts) or None


def _join_xmp(segments: list[bytes]) -> bytes | None:
    packet = next((s.removeprefix(_XMP) for s in segments if s.startswith(_XMP)), None)
    if packet is None:
        return None
    guid = _MORE_GUID.search(packet)
    if guid is None:
        return packet
    head = _XMP_MORE + guid[1]
    extension = _join_extension([s.removeprefix(head) for s in segments if s.startswith(head)])
    return packet if extension is None else xmp.join(packet, extension)


def _join_extension(parts: list[bytes]) -> bytes | None:
    """Put the parts of an extended packet in order; None if one is missing."""
    placed = {int.from_bytes(part[4:8]): part[8:] for part in parts}
    whole = b"".join(placed[at] for at in sorted(placed))
    at = 0
    for start in sorted(placed):
        if start != at:
            return None
        at += len(placed[start])
    return whole if parts and int.from_bytes(parts[0][:4]) == len(whole) else None


def _join_profile(segments: list[bytes]) -> bytes | None:
    """Put the parts of a colour profile in order; None if one is missing."""
    parts = [s.removeprefix(_ICC) for s in segments if s.startswith(_ICC)]
    placed = {part[0]: part[2:] for part in parts if len(part) > 1}
    if not placed:
        return None
    count = parts[0][1] or len(placed)
    whole = sorted(placed) == list(range(1, count + 1)) or count == 1
    return b"".join(placed[number] for number in sorted(placed)) if whole else None
