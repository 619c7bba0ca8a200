"""Corrections to an EXIF structure, made where its values stand: nothing in it moves.

Rules: maker notes point into the structure with offsets that only their maker knows, so no value
is relocated as long as there is one; what cannot be understood is left alone and never raises; a
byte that belongs to what is kept is not erased. A position that a camera also wrote into its maker
note stays there: nobody but the maker knows where. Sources: Exif 3.0, TIFF 6.0.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from fractions import Fraction

from venice_watch.images import ifd
from venice_watch.images.ifd import Directory, Entry, Layout, Node

PREFIX = b"Exif\0\0"  # JPEG's and others' name for what follows
JPEG_BYTES_MAX = 65_533 - len(PREFIX)  # of a structure in an APP1 segment

_UPRIGHT = 1
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_MAKER_NOTE, _USER_COMMENT, _XMP = 0x927C, 0x9286, 0x02BC
_THUMBNAIL_PLACES = ((0x0201, 0x0202), (0x0111, 0x0117))  # (offsets, sizes): JPEG, strips
_STRIPS_MAX = 1_000
_SHORT_MAX, _LONG_MAX = 2**16 - 1, 2**32 - 1
_PADDING_BYTES = 3  # what may follow the last value
_EXPENDABLE_BYTES = 64  # a smaller value is not worth dropping

Range = tuple[int, int]  # (start, end), in bytes


def correct(
    exif: bytes, *, width: int, height: int, dpi_scale: float = 1.0, gps: bool = True
) -> bytes | None:
    """Return `exif` as it is true for an upright result of `width` x `height` pixels.

    The thumbnail goes; the resolution is multiplied by `dpi_scale`; without `gps` the position
    goes, and so does all of a structure in which it cannot be looked for, or which held nothing
    else (None).
    """
    data = bytearray(exif)
    _set_upright(data)
    found = _open(data)
    if found is None:
        return bytes(data) if gps else None
    layout, first = found
    inner = _child(data, layout, first, ifd.EXIF_POINTER)
    _set_whole(data, layout, first, {ifd.IMAGE_WIDTH: width, ifd.IMAGE_LENGTH: height})
    if inner is not None:
        _set_whole(data, layout, inner, {_PIXEL_X: width, _PIXEL_Y: height})
    if dpi_scale != 1.0:
        _scale_resolution(data, layout, first, dpi_scale)
    gone = _thumbnail_ranges(data, layout, first)
    _unlink_next(data, layout, first)
    unwanted = frozenset() if gps else frozenset({ifd.GPS_POINTER, _XMP})
    for directory in (first, *([inner] if inner else [])):
        gone += _remove(data, layout, directory, unwanted)
    _erase(data, layout, gone)
    return bytes(data) if _open(data) is not None else None


def read_dpi(exif: bytes) -> tuple[float, float] | None:
    """Return the resolution (across, down) in pixels an inch, if it is stated."""
    found = _open(exif)
    return None if found is None else ifd.read_dpi(exif, *found)


def fit(exif: bytes, size_bytes_max: int) -> bytes | None:
    """Return `exif` in at most `size_bytes_max` bytes, or None if nothing of use would be left.

    What is unused goes first, then the maker note, the user's comment, and whatever is largest.
    """
    found = None if len(exif) <= size_bytes_max else _open(exif)
    if found is None:
        return exif if len(exif) <= size_bytes_max else None
    layout, first = found
    tree = ifd.copy_tree(
        exif,
        layout,
        first,
        keep=lambda _: True,
        cut=_Purse(exif).cut,
    )
    for _ in range(ifd.ENTRIES_MAX):
        if not _has_maker_note(tree):  # else a written one would have moved
            written = ifd.write_tree(tree, layout.order)
            if len(written) <= size_bytes_max:
                return written
        if not _drop_expendable(tree):
            return None
    return None


class _Purse:
    """Reads values out of a structure; overlapping ones cannot add up to more than it has."""

    def __init__(self, exif: bytes) -> None:
        self._exif = exif
        self._left_bytes = len(exif)

    def cut(self, at: int, size_bytes: int) -> bytes | None:
        self._left_bytes -= size_bytes
        return self._exif[at : at + size_bytes] if self._left_bytes >= 0 else None


def _open(data: bytes | bytearray) -> tuple[Layout, Directory] | None:
    """Return how a classic structure is written, and its first directory."""
    found = ifd.read_layout(data)
    if found is None or found[0].big:
        return None
    first = ifd.read_directory(data, *found)
    return None if first is None else (found[0], first)


def _child(
    data: bytes | bytearray, layout: Layout, directory: Directory, tag: int
) -> Directory | None:
    at = ifd.read_whole(data, layout, directory.find(tag))
    if at is None or at == directory.at:
        return None
    return ifd.read_directory(data, layout, at)


def _set_upright(data: bytearray) -> None:
    """State that the picture is upright, wherever and however a lenient reader finds it stated.

    Viewers turn pictures by directories that end too early and by numbers of any type.
    """
    found = ifd.read_layout(data)
    if found is None or found[0].big:
        return
    order, at = found[0].order, found[1]
    stated = int.from_bytes(data[at : at + 2], order)
    field = b"".join(n.to_bytes(size, order) for n, size in ((ifd.SHORT, 2), (1, 4), (_UPRIGHT, 2)))
    for start in range(at + 2, min(at + 2 + stated * 12, len(data) - 11), 12):
        if int.from_bytes(data[start : start + 2], order) == ifd.ORIENTATION:
            data[start + 2 : start + 12] = field + bytes(2)


def _set_whole(
    data: bytearray, layout: Layout, directory: Directory, values: dict[int, int]
) -> None:
    """Write whole numbers over those that are there; a short one that overflows becomes long."""
    for entry in directory.entries:
        value = values.get(entry.tag)
        if value is None or entry.count != 1 or entry.type not in {ifd.SHORT, ifd.LONG}:
            continue
        if entry.type == ifd.LONG or value > _SHORT_MAX:
            data[entry.at + 2 : entry.at + 4] = ifd.LONG.to_bytes(2, layout.order)
            field = min(value, _LONG_MAX).to_bytes(4, layout.order)
        else:
            field = value.to_bytes(2, layout.order) + bytes(2)
        data[entry.at + 8 : entry.at + 12] = field


def _scale_resolution(
    data: bytearray, layout: Layout, directory: Directory, dpi_scale: float
) -> None:
    places = set()  # some writers let both sides share one value
    for tag in (ifd.X_RESOLUTION, ifd.Y_RESOLUTION):
        entry = directory.find(tag)
        old = ifd.read_fraction(data, layout, entry)
        if entry is None or old is None or entry.value_at in places:
            continue
        places.add(entry.value_at)
        above, below = scaled_fraction(old, dpi_scale)
        field = above.to_bytes(4, layout.order) + below.to_bytes(4, layout.order)
        data[entry.value_at : entry.value_at + 8] = field


def scaled_fraction(old: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return `old` times `factor` with both numbers below 2**32, as near as may be."""
    exact = Fraction(*old) * Fraction(factor).limit_denominator(1_000_000)
    if exact >= _LONG_MAX:
        return _LONG_MAX, 1
    room = _LONG_MAX if exact <= 1 else int(_LONG_MAX / exact)
    near = exact.limit_denominator(max(1, room))
    return (near.numerator, near.denominator) if 0 < near.numerator <= _LONG_MAX else old


def _thumbnail_ranges(data: bytearray, layout: Layout, first: Directory) -> list[Range]:
    """Return everything the directories behind the first one own."""
    ranges: list[Range] = []
    seen = {first.at}
    at = first.next_at
    while at not in seen and len(seen) < ifd.DIRECTORIES_MAX:
        directory = ifd.read_directory(data, layout, at)
        if directory is None:
            break
        for below in _walk(data, layout, directory, seen):
            ranges += _ranges(data, layout, below)
        at = directory.next_at
    return ranges


def _unlink_next(data: bytearray, layout: Layout, first: Directory) -> None:
    """End the chain at the first directory, if what follows it is understood."""
    if first.next_at and ifd.read_directory(data, layout, first.next_at) is not None:
        data[first.end - 4 : first.end] = bytes(4)


def _remove(
    data: bytearray, layout: Layout, directory: Directory, unwanted: frozenset[int]
) -> list[Range]:
    """Take entries out of a directory, closing the gaps; return what they owned elsewhere."""
    out = [entry for entry in directory.entries if entry.tag in unwanted]
    if not out:
        return []
    gone: list[Range] = []
    for entry in out:
        gone += _value_ranges([entry])
        at = ifd.read_whole(data, layout, entry if entry.readable else None) or 0
        below = None
        if entry.tag in ifd.POINTERS and at != directory.at:
            below = ifd.read_directory(data, layout, at)
        if below is not None:
            gone += _ranges(data, layout, below)
    kept = [bytes(data[e.at : e.at + 12]) for e in directory.entries if e.tag not in unwanted]
    pointer = bytes(data[directory.entries[-1].at + 12 : directory.end])
    body = len(kept).to_bytes(2, layout.order) + b"".join(kept) + pointer
    data[directory.at : directory.end] = body.ljust(directory.end - directory.at, b"\0")
    return gone


def _erase(data: bytearray, layout: Layout, gone: list[Range]) -> None:
    """Zero what nothing refers to any more, and cut it off where it is the end."""
    found = _open(data)
    kept: list[Range] = [(0, 8)]
    if found is not None:  # None: its last entry was taken out, and nothing is left
        for directory in _walk(data, found[0], found[1], set()):
            kept += _ranges(data, layout, directory)
    for start, end in reversed(_without(_merged(gone), _merged(kept))):
        data[start:end] = bytes(end - start)
        if end + _PADDING_BYTES >= len(data) and not any(data[end:]):
            del data[start:]


def _walk(
    data: bytes | bytearray, layout: Layout, directory: Directory, seen: set[int]
) -> Iterator[Directory]:
    """Yield a directory and those it points to, each once."""
    waiting = [directory]
    while waiting and len(seen) < ifd.DIRECTORIES_MAX:
        here = waiting.pop()
        if here.at in seen:
            continue
        seen.add(here.at)
        yield here
        for tag in (*ifd.POINTERS, ifd.SUB_POINTER):
            below = _child(data, layout, here, tag)
            if below is not None:
                waiting.append(below)


def _ranges(data: bytes | bytearray, layout: Layout, directory: Directory) -> list[Range]:
    """Return what a directory owns: itself, its values, and pictures that its values point to."""
    ranges = [(directory.at, directory.end), *_value_ranges(directory.entries)]
    for offsets_tag, sizes_tag in _THUMBNAIL_PLACES:
        starts = _wholes(data, layout, directory.find(offsets_tag))
        sizes = _wholes(data, layout, directory.find(sizes_tag))
        ranges += [
            (start, start + size)
            for start, size in zip(starts, sizes, strict=False)
            if start + size <= len(data)
        ]
    return ranges


def _value_ranges(entries: Iterable[Entry]) -> list[Range]:
    return [(e.value_at, e.value_at + e.size_bytes) for e in entries if e.readable]


def _wholes(data: bytes | bytearray, layout: Layout, entry: Entry | None) -> list[int]:
    if entry is None or entry.type not in {ifd.SHORT, ifd.LONG} or entry.count > _STRIPS_MAX:
        return []
    step = 2 if entry.type == ifd.SHORT else 4
    places = range(entry.value_at, entry.value_at + entry.size_bytes, step)
    return [int.from_bytes(data[at : at + step], layout.order) for at in places]


def _merged(ranges: list[Range]) -> list[Range]:
    """Return the same bytes as ranges that are sorted and apart."""
    out: list[Range] = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _without(ranges: list[Range], kept: list[Range]) -> list[Range]:
    """Return the bytes of `ranges` that are not in `kept`; both are sorted and apart."""
    out: list[Range] = []
    ends = [end for _, end in kept]
    for start, end in ranges:
        at = start
        for kept_start, kept_end in kept[bisect_right(ends, start) :]:
            if kept_start >= end:
                break
            out.append((at, kept_start))
            at = kept_end
        out.append((at, end))
    return [(start, end) for start, end in out if start < end]


def _has_maker_note(tree: Node) -> bool:
    return any(_MAKER_NOTE in node.fields for node in (tree, *tree.children.values()))


def _drop_expendable(tree: Node) -> bool:
    """Drop the next thing that a reader can do without; return False if nothing is left to drop."""
    nodes = (tree, *tree.children.values())
    for tag in (_MAKER_NOTE, _USER_COMMENT):
        for node in nodes:
            if node.fields.pop(tag, None) is not None:
                return True
    sizes = [(len(f.value), tag, node) for node in nodes for tag, f in node.fields.items()]
    size_bytes, tag, largest = max(sizes, key=lambda found: found[0], default=(0, 0, tree))
    if size_bytes < _EXPENDABLE_BYTES:
        return False
    del largest.fields[tag]
    return True
