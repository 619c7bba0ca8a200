"""Metadata in a TIFF's first directory, made into an EXIF structure of their own.

Rules: what describes the picture is taken, what describes how it is stored is not. Maker notes are
taken by their bytes; those that point outside of themselves lose what they point to.
Sources: TIFF 6.0, TIFF/EP, Exif 3.0, XMP part 3.
"""

from venice_watch.images import ifd
from venice_watch.images.harvest import photoshop
from venice_watch.images.harvest.basket import Basket, Blob
from venice_watch.images.ifd import Directory, Entry, Layout

_PHOTOSHOP = 34_377
_BLOBS: dict[int, Blob] = {700: "xmp", 33_723: "iptc", 34_675: "icc"}
_DESCRIBES = frozenset(
    {
        269, 270, 271, 272, 274, 282, 283, 285, 296, 305, 306, 315, 316,  # TIFF 6.0
        18_246, 18_249, 40_091, 40_092, 40_093, 40_094, 40_095,  # Windows' rating and texts
        33_432, 33_434, 33_437, 34_850, 34_852, 34_855, 34_856, 34_858, 34_859,  # TIFF/EP
        36_867, 36_868, *range(37_377, 37_400), 41_483, 41_484,
    }
)  # fmt: skip
_RESOLUTION_TAGS = frozenset({ifd.X_RESOLUTION, ifd.Y_RESOLUTION, ifd.RESOLUTION_UNIT})
_TEXTS_LEFT_OUT = frozenset({333, 34_737})  # names of inks; what only GeoTIFF's numbers explain


def read(basket: Basket) -> None:
    """Put what a TIFF's first directory says into `basket`."""
    found = ifd.read_layout(basket.data)
    first = None if found is None else ifd.read_directory(basket.data, *found)
    if found is None or first is None:
        return
    layout = found[0]
    _put_structure(basket, layout, first)
    for tag, kind in _BLOBS.items():
        entry = first.find(tag)
        if entry is not None:
            basket.put(kind, basket.cut(entry.value_at, entry.size_bytes))
    dpi = ifd.read_dpi(basket.data, layout, first)
    if dpi is not None:
        basket.put_dpi(*dpi)
    resources = first.find(_PHOTOSHOP)
    if resources is not None:
        raw = basket.cut(resources.value_at, resources.size_bytes)
        photoshop.read_resources(basket, raw or b"")


def _put_structure(basket: Basket, layout: Layout, first: Directory) -> None:
    tree = ifd.copy_tree(basket.data, layout, first, keep=_describes, cut=basket.cut)
    if tree.children or not tree.fields.keys() <= _RESOLUTION_TAGS:  # the resolution is taken apart
        basket.put("exif", ifd.write_tree(tree, layout.order))


def _describes(entry: Entry) -> bool:
    """Say whether an entry is about the picture; unknown ones are if they are texts."""
    if entry.tag in _DESCRIBES:
        return True
    return entry.type == ifd.ASCII and entry.tag not in _TEXTS_LEFT_OUT
