"""TIFF directories (IFDs), which EXIF is made of as well: read with distrust, and written afresh.

Rules: a directory that does not fit into its data, or has an absurd number of entries, is not
there; an entry whose value does not fit is listed and marked. Nothing here follows pointers that
it was not asked to follow. Sources: TIFF 6.0, BigTIFF (2004), Exif 3.0.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

HEADER_BYTES = 8  # of the classic kind: order, version, where the first directory is
ENTRIES_MAX = 1_000  # of a directory; cameras write up to about a hundred
DIRECTORIES_MAX = 32  # followed from one picture; five are usual

MAKE, ORIENTATION = 0x010F, 0x0112
IMAGE_WIDTH, IMAGE_LENGTH = 0x0100, 0x0101
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
EXIF_POINTER, GPS_POINTER, INTEROP_POINTER, SUB_POINTER = 0x8769, 0x8825, 0xA005, 0x014A
POINTERS = frozenset({EXIF_POINTER, GPS_POINTER, INTEROP_POINTER})
UNIT_INCH, UNIT_CENTIMETRE = 2, 3

BYTE, ASCII, SHORT, LONG, RATIONAL = 1, 2, 3, 4, 5
_SIZES_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES_BYTES |= {16: 8, 17: 8, 18: 8, 129: 1}  # BigTIFF's long ones; Exif 3.0's UTF-8
_CLASSIC_OF_LONG = {16: 4, 17: 9, 18: 13}
_CLASSIC, _BIG = 42, 43
_CENTIMETRES = 2.54  # in an inch

Order = Literal["little", "big"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a TIFF structure writes its numbers."""

    order: Order
    big: bool  # BigTIFF: 64-bit offsets

    @property
    def offset_bytes(self) -> int:
        """Return the size of an offset, which is also the size of a value that stands inline."""
        return 8 if self.big else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a directory."""

    tag: int
    type: int
    count: int  # of values
    at: int  # where the entry itself is
    value_at: int  # where its value is, in the entry or elsewhere
    size_bytes: int  # of the value; 0 if its type is unknown
    readable: bool  # the type is known and the value lies inside the data


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """One directory, and what comes after it."""

    at: int
    entries: tuple[Entry, ...]
    end: int  # behind the pointer to the next directory
    next_at: int  # 0: this is the last

    def find(self, tag: int) -> Entry | None:
        """Return the first readable entry for `tag`."""
        return next((e for e in self.entries if e.tag == tag and e.readable), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A value apart from its place in a file, in the byte order of where it came from."""

    type: int
    count: int
    value: bytes


@dataclass(slots=True, kw_only=True)
class Node:
    """A directory apart from its place in a file."""

    fields: dict[int, Field] = field(default_factory=dict)
    children: dict[int, "Node"] = field(default_factory=dict)


def read_layout(data: bytes | bytearray) -> tuple[Layout, int] | None:
    """Return how `data` are written and where their first directory is; None: they are no TIFF."""
    order: Order
    if len(data) < HEADER_BYTES:
        return None
    if data[:2] == b"II":
        order = "little"
    elif data[:2] == b"MM":
        order = "big"
    else:
        return None
    version = int.from_bytes(data[2:4], order)
    if version == _CLASSIC:
        return Layout(order=order, big=False), int.from_bytes(data[4:8], order)
    if version == _BIG:
        return Layout(order=order, big=True), int.from_bytes(data[8:16], order)
    return None


def read_directory(data: bytes | bytearray, layout: Layout, at: int) -> Directory | None:
    """Return the directory at `at`, or None if there cannot be one."""
    count_bytes, entry_bytes = (8, 20) if layout.big else (2, 12)
    count = int.from_bytes(data[at : at + count_bytes], layout.order)
    next_field_at = at + count_bytes + count * entry_bytes
    if at < HEADER_BYTES or not 0 < count <= ENTRIES_MAX or next_field_at > len(data):
        return None
    starts = range(at + count_bytes, next_field_at, entry_bytes)
    end = min(next_field_at + layout.offset_bytes, len(data))  # some leave out the last pointer
    whole = end == next_field_at + layout.offset_bytes
    return Directory(
        at=at,
        entries=tuple(_read_entry(data, layout, start) for start in starts),
        end=end,
        next_at=int.from_bytes(data[next_field_at:end], layout.order) if whole else 0,
    )


def read_whole(data: bytes | bytearray, layout: Layout, entry: Entry | None) -> int | None:
    """Return the first value of `entry`, if it is a whole number without a sign."""
    if entry is None or not entry.count or entry.type not in {BYTE, SHORT, LONG, 13, 16, 18}:
        return None
    size = _SIZES_BYTES[entry.type]
    return int.from_bytes(data[entry.value_at : entry.value_at + size], layout.order)


def read_fraction(
    data: bytes | bytearray, layout: Layout, entry: Entry | None
) -> tuple[int, int] | None:
    """Return the first value of `entry` as (numerator, denominator), if it is a positive one."""
    if entry is None or entry.type != RATIONAL or not entry.count:
        return None
    at = entry.value_at
    above = int.from_bytes(data[at : at + 4], layout.order)
    below = int.from_bytes(data[at + 4 : at + 8], layout.order)
    return (above, below) if above and below else None


def read_dpi(
    data: bytes | bytearray, layout: Layout, directory: Directory
) -> tuple[float, float] | None:
    """Return the resolution (across, down) that a directory states, in pixels an inch."""
    across = read_fraction(data, layout, directory.find(X_RESOLUTION))
    down = read_fraction(data, layout, directory.find(Y_RESOLUTION)) or across
    unit = read_whole(data, layout, directory.find(RESOLUTION_UNIT)) or UNIT_INCH
    if across is None or down is None or unit not in {UNIT_INCH, UNIT_CENTIMETRE}:
        return None
    factor = _CENTIMETRES if unit == UNIT_CENTIMETRE else 1.0
    return across[0] / across[1] * factor, down[0] / down[1] * factor


def copy_tree(
    data: bytes,
    layout: Layout,
    directory: Directory,
    *,
    keep: Callable[[Entry], bool],
    cut: Callable[[int, int], bytes | None],
    _seen: set[int] | None = None,
) -> Node:
    """Take a directory and the EXIF, GPS and interoperability directories below it out of `data`.

    `keep` chooses among the entries of this directory alone; `cut` reads (offset, size in bytes)
    and may refuse.
    """
    seen = _seen if _seen is not None else set()
    seen.add(directory.at)
    node = Node()
    for entry in directory.entries:
        if entry.tag in POINTERS:
            at = read_whole(data, layout, entry if entry.readable else None) or 0
            child = None if at in seen else read_directory(data, layout, at)
            if child is not None and len(seen) < DIRECTORIES_MAX:
                node.children[entry.tag] = copy_tree(
                    data, layout, child, keep=_everything, cut=cut, _seen=seen
                )
        elif entry.readable and entry.tag not in node.fields and keep(entry):
            value = cut(entry.value_at, entry.size_bytes)
            made = None if value is None else _classic(entry, value, layout.order)
            if made is not None:
                node.fields[entry.tag] = made
    return node


def write_tree(node: Node, order: Order) -> bytes:
    """Return a classic TIFF structure of `node`, whose values are in that byte order."""
    out = bytearray((b"II" if order == "little" else b"MM") + _CLASSIC.to_bytes(2, order))
    out += (8).to_bytes(4, order)
    _write(out, node, order)
    return bytes(out)


def _read_entry(data: bytes | bytearray, layout: Layout, at: int) -> Entry:
    wide = layout.offset_bytes
    tag = int.from_bytes(data[at : at + 2], layout.order)
    kind = int.from_bytes(data[at + 2 : at + 4], layout.order)
    count = int.from_bytes(data[at + 4 : at + 4 + wide], layout.order)
    size_bytes = _SIZES_BYTES.get(kind, 0) * count
    value_at = at + 4 + wide
    if size_bytes > wide:
        value_at = int.from_bytes(data[value_at : value_at + wide], layout.order)
    return Entry(
        tag=tag,
        type=kind,
        count=count,
        at=at,
        value_at=value_at,
        size_bytes=size_bytes,
        readable=kind in _SIZES_BYTES and value_at + size_bytes <= len(data),
    )


def _everything(_: Entry) -> bool:
    return True


def _classic(entry: Entry, value: bytes, order: Order) -> Field | None:
    """Return a value as classic TIFF has it; None for a number that needs 64 bits."""
    if entry.type not in _CLASSIC_OF_LONG:
        return Field(type=entry.type, count=entry.count, value=value)
    signed = entry.type == 17  # noqa: PLR2004 - SLONG8
    halves = []
    for at in range(0, len(value), 8):
        number = int.from_bytes(value[at : at + 8], order, signed=signed)
        if not (-(2**31) <= number < 2**31 if signed else number < 2**32):
            return None
        halves.append(number.to_bytes(4, order, signed=signed))
    kind = _CLASSIC_OF_LONG[entry.type]
    return Field(type=kind, count=entry.count, value=b"".join(halves))


def _write(out: bytearray, node: Node, order: Order) -> None:
    """Append a directory, its values and its children, in this order."""
    at = len(out)
    tags = sorted({*node.fields, *node.children})
    out += bytes(2 + 12 * len(tags) + 4)
    out[at : at + 2] = len(tags).to_bytes(2, order)
    places = {tag: at + 2 + 12 * number for number, tag in enumerate(tags)}
    for tag, value in sorted(node.fields.items()):
        if tag not in node.children:
            _write_field(out, places[tag], tag, value, order)
    for tag, child in sorted(node.children.items()):
        pointer = Field(type=LONG, count=1, value=len(out).to_bytes(4, order))
        _write_field(out, places[tag], tag, pointer, order)
        _write(out, child, order)


def _write_field(out: bytearray, at: int, tag: int, value: Field, order: Order) -> None:
    head = tag.to_bytes(2, order) + value.type.to_bytes(2, order) + value.count.to_bytes(4, order)
    inline = value.value
    if len(inline) > 4:  # noqa: PLR2004 - the size of an offset
        inline = len(out).to_bytes(4, order)
        out += value.value + bytes(len(value.value) % 2)  # values start at even offsets
    out[at : at + 12] = head + inline.ljust(4, b"\0")
