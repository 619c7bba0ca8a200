"""Metadata in a WebP's chunks. Source: WebP Container Specification."""

from venice_watch.images.harvest.basket import Basket, Blob

_HEADER_BYTES, _CHUNK_HEADER_BYTES = 12, 8
_BLOBS: dict[bytes, Blob] = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc"}


def read(basket: Basket) -> None:
    """Put what a WebP's chunks say into `basket`."""
    data, at = basket.data, _HEADER_BYTES
    while at + _CHUNK_HEADER_BYTES <= len(data):
        basket.step()
        size_bytes = int.from_bytes(data[at + 4 : at + 8], "little")
        kind = _BLOBS.get(data[at : at + 4])
        if kind is not None:
            basket.put(kind, basket.cut(at + _CHUNK_HEADER_BYTES, size_bytes))
        at += _CHUNK_HEADER_BYTES + size_bytes + size_bytes % 2
