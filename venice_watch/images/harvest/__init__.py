"""Metadata out of files of every kind, read with distrust and within limits.

Rules: what cannot be read is left out, and never a reason to refuse a picture; the first of its
kind wins; nothing is corrected here (`images.adapt` does that).
"""

import struct
import zlib
from contextlib import suppress

from venice_watch.images import exif
from venice_watch.images.harvest import bitmaps, gif, iso, jpeg, photoshop, png, tiff, webp
from venice_watch.images.harvest.basket import Basket
from venice_watch.images.metadata import Metadata

_READERS = {
    "jpeg": jpeg.read,
    "png": png.read,
    "webp": webp.read,
    "gif": gif.read,
    "tiff": tiff.read,
    "bmp": bitmaps.read_bmp,
    "tga": bitmaps.read_tga,
    "ppm": bitmaps.read_ppm,
    "jp2": iso.read_jp2,
    "avif": iso.read_heif,
    "heic": iso.read_heif,
    "psd": photoshop.read,
}
# What damage raises; each reader's bounds are checked, and this is the net below them.
_DAMAGE = (ValueError, IndexError, OverflowError, struct.error, zlib.error)


def harvest(data: bytes, kind: str) -> Metadata:
    """Return what `data`, a file of the format `kind`, says beside its pixels.

    `kind` is a key of `signature.RASTERS`, or "heic". Never raises for what is in `data`. At most
    `basket.METADATA_BYTES_MAX` bytes are taken out of it.
    """
    basket = Basket(data)
    reader = _READERS.get(kind)
    if reader is not None:
        with suppress(*_DAMAGE):
            reader(basket)
    if basket.dpi is None and basket.exif is not None:
        stated = exif.read_dpi(basket.exif)
        if stated is not None:
            basket.put_dpi(*stated)
    return basket.metadata()
