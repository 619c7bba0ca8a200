"""Boxes, which the ISO's picture formats are made of. Sources: ISO/IEC 14496-12, 15444-1."""

from collections.abc import Iterator
from dataclasses import dataclass

from venice_watch.images.harvest.basket import Basket

_HEADER_BYTES, _LONG_HEADER_BYTES = 8, 16
_TO_THE_END, _LONG = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box: its type, and where its contents are."""

    kind: bytes
    start: int
    end: int


def boxes(basket: Basket, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two offsets; one that is cut short ends where its parent does."""
    data, at = basket.data, start
    end = min(end, len(data))
    while at + _HEADER_BYTES <= end:
        basket.step()
        size_bytes = int.from_bytes(data[at : at + 4])
        header_bytes = _HEADER_BYTES
        if size_bytes == _LONG:
            size_bytes = int.from_bytes(data[at + 8 : at + 16])
            header_bytes = _LONG_HEADER_BYTES
        elif size_bytes == _TO_THE_END:
            size_bytes = end - at
        if size_bytes < header_bytes:
            return
        yield Box(
            kind=data[at + 4 : at + 8],
            start=at + header_bytes,
            end=min(end, at + size_bytes),
        )
        at += size_bytes


def find(basket: Basket, start: int, end: int, kind: bytes) -> Box | None:
    """Return the first box of a type between two offsets."""
    return next((box for box in boxes(basket, start, end) if box.kind == kind), None)
