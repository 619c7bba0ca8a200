"""TIFF structures with another first directory: EXIF that carries more, and whole TIFF files.

Rules: nothing that is there moves, because makers' notes count their offsets from the structure's
start; a directory that gets other fields is written anew at the end. Source: TIFF 6.0, section 2.
"""

import struct
from collections.abc import Collection, Mapping
from dataclasses import replace
from fractions import Fraction

from venice_watch.images.ifd import (
    LONG,
    RATIONAL,
    SHORT,
    Directory,
    Field,
    Order,
    read_directory,
    read_layout,
)

UNDEFINED = 7  # a value that is bytes, in nobody's order
EMPTY = b"II*\0\x08\0\0\0" + b"\0" * 6  # a structure that says nothing
_HEADER_BYTES, _FIELD_BYTES, _INLINE_BYTES = 8, 12, 4
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
}  # of a fraction: each half
_FRACTION_BELOW_MAX = 10_000
_LONG_MAX = 2**32 - 1


class BrokenTiffError(ValueError):
    """A structure whose first directory cannot be read."""


def order_of(data: bytes) -> Order:
    """Return the byte order of a structure. Raises BrokenTiffError."""
    return _first(data)[0]


def read_fields(data: bytes) -> dict[int, Field]:
    """Return the first directory's fields by their tags; what cannot be read is left out.

    Raises BrokenTiffError.
    """
    _, directory = _first(data)
    return {
        one.tag: Field(
            type=one.type,
            count=one.count,
            value=data[one.value_at : one.value_at + one.size_bytes],
        )
        for one in (directory.entries if directory else ())
        if one.readable
    }


def with_fields(
    data: bytes,
    fields: Mapping[int, Field],
    *,
    without: Collection[int] = (),
    last: bool = False,
) -> bytes:
    """Return the structure with these fields in its first directory, and some taken out.

    `last`: no other directory follows (in EXIF a thumbnail's does). Raises BrokenTiffError.
    """
    order, directory = _first(data)
    kept = {tag: one for tag, one in read_fields(data).items() if tag not in without}
    following = 0 if directory is None or last else directory.next_at
    body = memoryview(data)[_HEADER_BYTES:]
    return b"".join((data[:4], *_appended(order, body, {**kept, **fields}, following)))


def of_bytes(data: bytes, kind: int = UNDEFINED) -> Field:
    """Return a field that is bytes."""
    return Field(type=kind, count=len(data), value=data)


def of_numbers(order: Order, kind: int, *values: int) -> Field:
    """Return a field of whole numbers, SHORT or LONG."""
    width = _NUMBER_BYTES[kind]
    data = b"".join(value.to_bytes(width, order) for value in values)
    return Field(type=kind, count=len(values), value=data)


def of_fraction(order: Order, value: float) -> Field:
    """Return a field of one positive fraction."""
    near = Fraction(value).limit_denominator(_FRACTION_BELOW_MAX)
    above, below = near.numerator, near.denominator
    if not 0 < above <= _LONG_MAX:
        above, below = min(max(round(value), 1), _LONG_MAX), 1
    data = above.to_bytes(4, order) + below.to_bytes(4, order)
    return Field(type=RATIONAL, count=1, value=data)


def whole_numbers(order: Order, one: Field) -> list[int]:
    """Return the values of a SHORT or LONG field."""
    assert one.type in (SHORT, LONG), "strips are counted in these"
    width = _NUMBER_BYTES[one.type]
    return [
        int.from_bytes(one.value[at : at + width], order) for at in range(0, len(one.value), width)
    ]


def swapped(one: Field) -> Field:
    """Return the same value in the other byte order."""
    width = _NUMBER_BYTES.get(one.type, 1)
    parts = (one.value[at : at + width][::-1] for at in range(0, len(one.value), width))
    return replace(one, value=b"".join(parts))


def _first(data: bytes) -> tuple[Order, Directory | None]:
    found = read_layout(data)
    if found is None or found[0].big:
        raise BrokenTiffError("it does not start as TIFF does")
    layout, at = found
    return layout.order, read_directory(data, layout, at)


def _appended(
    order: Order, body: memoryview, fields: Mapping[int, Field], following: int
) -> list[bytes | memoryview]:
    """Return what comes behind the first four bytes: where the directory is, the rest, and it."""
    letter = "<" if order == "little" else ">"
    pad = b"\0" * (len(body) % 2)
    at = _HEADER_BYTES + len(body) + len(pad)
    values_at = at + 2 + _FIELD_BYTES * len(fields) + 4
    rows, values = [], bytearray()
    for tag, one in sorted(fields.items()):
        inline = one.value.ljust(_INLINE_BYTES, b"\0")
        if len(inline) > _INLINE_BYTES:
            inline = struct.pack(f"{letter}I", values_at + len(values))
            values += one.value + b"\0" * (len(one.value) % 2)
        rows.append(struct.pack(f"{letter}HHI4s", tag, one.type, one.count, inline))
    count, after = struct.pack(f"{letter}H", len(rows)), struct.pack(f"{letter}I", following)
    return [struct.pack(f"{letter}I", at), body, pad, count, *rows, after, bytes(values)]
