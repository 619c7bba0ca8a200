"""Metadata in JPEG 2000 and in HEIC and AVIF. Sources: ISO/IEC 15444-1, 23008-12, XMP part 3."""

from venice_watch.images.harvest.basket import Basket, Blob
from venice_watch.images.harvest.boxes import Box, boxes, find

_UUID_BYTES = 16
_UUIDS: dict[bytes, Blob] = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"): "exif",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
    bytes.fromhex("09a14e97c0b442e0bebf36df6f0ce36f"): "iptc",
}
_PROFILE_METHODS = frozenset({2, 3})
_RESOLUTION = b"res "
_INCH_M = 0.0254
_FULL_BYTES = 4  # version and flags, before the contents of a full box
_EXTENTS_MAX = 64  # of an item; one is usual
_XMP_TYPE = b"application/rdf+xml"
_IN_FILE, _IN_META = 0, 1


def read_jp2(basket: Basket) -> None:
    """Put what a JPEG 2000's boxes say into `basket`; a bare codestream has none."""
    if basket.data[4:8] != b"jP  ":
        return
    for box in boxes(basket, 0, len(basket.data)):
        if box.kind == b"uuid":
            kind = _UUIDS.get(basket.data[box.start : box.start + _UUID_BYTES])
            if kind is not None:
                start = box.start + _UUID_BYTES
                basket.put(kind, basket.cut(start, box.end - start))
        elif box.kind == b"jp2h":
            _read_header(basket, box)


def _read_header(basket: Basket, header: Box) -> None:
    for box in boxes(basket, header.start, header.end):
        if box.kind == b"colr" and basket.data[box.start] in _PROFILE_METHODS:
            basket.put("icc", basket.cut(box.start + 3, box.end - box.start - 3))
        elif box.kind == _RESOLUTION:
            displayed = find(basket, box.start, box.end, b"resd")
            found = displayed or find(basket, box.start, box.end, b"resc")
            if found is not None:
                _read_resolution(basket, basket.data[found.start : found.end])


def _read_resolution(basket: Basket, body: bytes) -> None:
    """Read pixels a metre, down and across: numerators over denominators, and powers of ten."""
    if len(body) < 10:  # noqa: PLR2004 - four short numbers and two signed bytes
        return
    down_n, down_d, across_n, across_d = (int.from_bytes(body[at : at + 2]) for at in (0, 2, 4, 6))
    down_e, across_e = (int.from_bytes(body[at : at + 1], signed=True) for at in (8, 9))
    if down_d and across_d:
        across = across_n / across_d * 10.0**across_e * _INCH_M
        basket.put_dpi(across, down_n / down_d * 10.0**down_e * _INCH_M)


def read_heif(basket: Basket) -> None:
    """Put what the items and properties of a HEIC or AVIF say into `basket`."""
    meta = find(basket, 0, len(basket.data), b"meta")
    if meta is None:
        return
    start = meta.start + _FULL_BYTES
    parts = {box.kind: box for box in boxes(basket, start, meta.end)}
    if b"iprp" in parts:
        _read_profile(basket, parts[b"iprp"])
    if b"iinf" not in parts or b"iloc" not in parts:
        return
    items = _wanted_items(basket, parts[b"iinf"])
    if b"pitm" in parts and b"iref" in parts:
        for number in _describing_others(basket, parts[b"pitm"], parts[b"iref"]):
            items.pop(number, None)
    within = parts.get(b"idat")
    for number, pieces in _Locations(basket, parts[b"iloc"]).find(set(items)).items():
        body = _fetch(basket, pieces, within)
        if items[number] == "exif":
            skip = 4 + int.from_bytes(body[:4])  # to where the structure starts
            basket.put("exif", body[skip:])
        else:
            basket.put("xmp", body)


def _read_profile(basket: Basket, properties: Box) -> None:
    """Take the first profile; pictures in one file have the same one."""
    container = find(basket, properties.start, properties.end, b"ipco")
    if container is None:
        return
    for box in boxes(basket, container.start, container.end):
        kind = basket.data[box.start : box.start + 4]
        if box.kind == b"colr" and kind in {b"prof", b"rICC"} and not basket.has("icc"):
            basket.put("icc", basket.cut(box.start + 4, box.end - box.start - 4))


def _wanted_items(basket: Basket, info: Box) -> dict[int, Blob]:
    """Return the kinds of metadata by the number of the item that holds them."""
    data, items = basket.data, dict[int, Blob]()
    count_bytes = 4 if data[info.start] else 2
    for box in boxes(basket, info.start + _FULL_BYTES + count_bytes, info.end):
        version = data[box.start] if box.kind == b"infe" else 0
        if version not in {2, 3}:
            continue  # older ones have no types
        number_bytes = 2 if version == 2 else 4  # noqa: PLR2004 - as the format says
        at = box.start + _FULL_BYTES
        number = int.from_bytes(data[at : at + number_bytes])
        at += number_bytes + 2
        kind = data[at : at + 4]
        strings = data[at + 4 : min(box.end, at + 4 + 256)].split(b"\0")
        if kind == b"Exif":
            items[number] = "exif"
        elif kind == b"mime" and len(strings) > 1 and strings[1] == _XMP_TYPE:
            items[number] = "xmp"
    return items


def _describing_others(basket: Basket, primary: Box, references: Box) -> set[int]:
    """Return the items that describe a depth map, a gain map or the like, and not the picture."""
    data = basket.data
    picture = int.from_bytes(data[primary.start + _FULL_BYTES : primary.end])
    wide = 4 if data[references.start] else 2
    others: set[int] = set()
    for box in boxes(basket, references.start + _FULL_BYTES, references.end):
        if box.kind == b"cdsc":
            numbers = [
                int.from_bytes(data[at : at + wide])
                for at in (box.start, *range(box.start + wide + 2, box.end, wide))
            ]
            if picture not in numbers[1:]:
                others.add(numbers[0])
    return others


class _Locations:
    """Reads the table of where items are: numbers whose sizes are stated in front."""

    def __init__(self, basket: Basket, table: Box) -> None:
        self._basket = basket
        self._end = table.end
        self._version = basket.data[table.start]
        self._at = table.start + _FULL_BYTES
        sizes = self._number(2)
        self._offset_bytes, self._length_bytes = sizes >> 12, sizes >> 8 & 15
        self._base_bytes = sizes >> 4 & 15
        self._index_bytes = sizes & 15 if self._version else 0

    def find(self, wanted: set[int]) -> dict[int, list[tuple[int, int, int]]]:
        """Return (where, offset, size in bytes) of each piece of the wanted items."""
        wide = 2 if self._version < 2 else 4  # noqa: PLR2004 - as the format says
        found: dict[int, list[tuple[int, int, int]]] = {}
        for _ in range(self._number(wide)):
            self._basket.step()
            number = self._number(wide)
            where = self._number(2) & 15 if self._version else _IN_FILE
            elsewhere = self._number(2)
            base = self._number(self._base_bytes)
            pieces = [self._piece(where, base) for _ in range(self._number(2))]
            if number in wanted and not elsewhere and len(pieces) <= _EXTENTS_MAX:
                found[number] = pieces
        return found

    def _piece(self, where: int, base: int) -> tuple[int, int, int]:
        self._basket.step()
        self._number(self._index_bytes)
        offset = self._number(self._offset_bytes)
        return where, base + offset, self._number(self._length_bytes)

    def _number(self, size_bytes: int) -> int:
        at, self._at = self._at, self._at + size_bytes
        if self._at > self._end:
            raise IndexError
        return int.from_bytes(self._basket.data[at : self._at])


def _fetch(basket: Basket, pieces: list[tuple[int, int, int]], within: Box | None) -> bytes:
    """Return an item's bytes; empty if a piece is missing. A size of 0 is all there is."""
    parts: list[bytes] = []
    for where, offset, size_bytes in pieces:
        start, end = 0, len(basket.data)
        if where == _IN_META and within is not None:
            start, end = within.start, within.end
        elif where != _IN_FILE:
            return b""
        at = start + offset
        part = basket.cut(at, size_bytes or end - at) if at + size_bytes <= end else None
        if part is None:
            return b""
        parts.append(part)
    return b"".join(parts)
