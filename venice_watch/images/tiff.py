"""TIFF structures: files of that format, and EXIF, which is one; only their first directory.

Rules: nothing that is there moves, because makers' notes count their offsets from the structure's
start; a directory that gets other entries is written anew at the end. Source: TIFF 6.0, section 2.
"""

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7  # types of values
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_NUMBER_BYTES = {
    3: 2,
    4: 4,
    5: 4,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 8,
    13: 4,
}  # of each half of a fraction
_UNSIGNED_END = 2**32
_HEADER_BYTES, _ENTRY_BYTES, _INLINE_BYTES = 8, 12, 4
EMPTY = b"II*\0\x08\0\0\0" + b"\0" * 6  # a structure that says nothing
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


class BrokenTiffError(ValueError):
    """A structure whose first directory cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value of a directory, its bytes in the structure's own order."""

    kind: int
    count: int
    data: bytes

    @classmethod
    def of_bytes(cls, data: bytes, kind: int = UNDEFINED) -> "Entry":
        """Return an entry that is bytes, whose order is nobody's business."""
        return cls(kind=kind, count=len(data), data=data)


def order_of(data: bytes) -> str:
    """Return the byte order of a structure, for `struct`. Raises BrokenTiffError."""
    order = _ORDERS.get(data[:4])
    if order is None:
        raise BrokenTiffError("it does not start as TIFF does")
    return order


def numbers(order: str, kind: int, *values: int) -> Entry:
    """Return an entry of whole numbers, SHORT or LONG."""
    letter = {SHORT: "H", LONG: "I"}[kind]
    data = struct.pack(f"{order}{len(values)}{letter}", *values)
    return Entry(kind=kind, count=len(values), data=data)


def whole_numbers(order: str, entry: Entry) -> tuple[int, ...]:
    """Return the values of a SHORT or LONG entry."""
    letter = {SHORT: "H", LONG: "I"}[entry.kind]
    return struct.unpack(f"{order}{entry.count}{letter}", entry.data)


def fraction(order: str, value: float) -> Entry:
    """Return an entry of one positive fraction, to within a part in a thousand millions."""
    above, below = Fraction(value).limit_denominator(10_000).as_integer_ratio()
    if not 0 < above < _UNSIGNED_END:
        above, below = max(1, min(round(value), _UNSIGNED_END - 1)), 1
    return Entry(kind=RATIONAL, count=1, data=struct.pack(f"{order}II", above, below))


def swapped(entry: Entry) -> Entry:
    """Return the same value in the other byte order."""
    width = _NUMBER_BYTES.get(entry.kind, 1)
    parts = (entry.data[at : at + width][::-1] for at in range(0, len(entry.data), width))
    return replace(entry, data=b"".join(parts))


def read_directory(data: bytes) -> dict[int, Entry]:
    """Return the first directory's entries by their tags; what cannot be read is left out.

    Raises BrokenTiffError.
    """
    order = order_of(data)
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        raw = [
            struct.unpack_from(f"{order}HHI4s", data, at + 2 + number * _ENTRY_BYTES)
            for number in range(count)
        ]
    except struct.error as exc:
        raise BrokenTiffError("its first directory is not there") from exc
    found = {}
    for tag, kind, number, inline in raw:
        size = _VALUE_BYTES.get(kind, 0) * number
        if size <= _INLINE_BYTES:
            value = inline[:size]
        else:
            (start,) = struct.unpack(f"{order}I", inline)
            value = data[start : start + size]
        if size and len(value) == size:
            found[tag] = Entry(kind=kind, count=number, data=value)
    return found


def with_directory(
    data: bytes,
    entries: Mapping[int, Entry],
    *,
    without: Collection[int] = (),
    last: bool = False,
) -> bytes:
    """Return the structure with these entries in its first directory, and some taken out.

    `last`: no other directory follows (in EXIF a thumbnail's does). Raises BrokenTiffError.
    """
    order = order_of(data)
    kept = {tag: one for tag, one in read_directory(data).items() if tag not in without}
    following = 0 if last else _next_of(data)
    body = memoryview(data)[_HEADER_BYTES:]
    return b"".join((data[:4], *_appended(order, body, {**kept, **entries}, following)))


def _next_of(data: bytes) -> int:
    """Return where the second directory is (a thumbnail's, in EXIF), or 0."""
    order = order_of(data)
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        (after,) = struct.unpack_from(f"{order}I", data, at + 2 + count * _ENTRY_BYTES)
    except struct.error:
        return 0
    return int(after) if after < len(data) else 0


def _appended(
    order: str, body: memoryview, entries: Mapping[int, Entry], following: int
) -> list[bytes | memoryview]:
    """Return what comes behind the first four bytes: where the directory is, the rest, and it."""
    pad = b"\0" * (len(body) % 2)
    at = _HEADER_BYTES + len(body) + len(pad)
    values_at = at + 2 + _ENTRY_BYTES * len(entries) + 4
    rows, values = [], b""
    for tag, one in sorted(entries.items()):
        if len(one.data) <= _INLINE_BYTES:
            inline = one.data.ljust(_INLINE_BYTES, b"\0")
        else:
            inline = struct.pack(f"{order}I", values_at + len(values))
            values += one.data + b"\0" * (len(one.data) % 2)
        rows.append(struct.pack(f"{order}HHI4s", tag, one.kind, one.count, inline))
    count, after = struct.pack(f"{order}H", len(rows)), struct.pack(f"{order}I", following)
    return [struct.pack(f"{order}I", at), body, pad, count, *rows, after, values]
