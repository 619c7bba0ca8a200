"""What a result says beside its pixels, made of what its original said.

Rules: a kind is kept or not, as the rules say; what is kept is true for the result: upright, of its
size and resolution. IPTC has places by name and no coordinates, so it needs no correction. A
position in a camera's maker note stays, as `images.exif` explains.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from venice_watch.images import exif, xmp
from venice_watch.images.metadata import Metadata, MetadataRules

_PLACE = re.compile(r"gps|latitude|longt?itude", re.IGNORECASE)
_PLACED = re.compile(
    r"(?:gps\w*|latitude|longt?itude)[^\w]{0,16}(?:\w[^\w]{1,4})?\d", re.IGNORECASE
)


def adapt(
    found: Metadata,
    rules: MetadataRules,
    *,
    width: int,
    height: int,
    scale: float,
    provenance: Mapping[str, object] | None,
) -> Metadata:
    """Return what a result of `width` x `height` pixels, `scale` times its original's, is to say.

    `provenance` is recorded in the XMP, which is made if there is none; it is no kind that rules
    leave out. A part that cannot be cleaned of positions is dropped if they are to go.
    """
    kept = _choose(found, rules)
    dpi_scale = scale if rules.dpi_scaled else 1.0
    structure, packet, dpi = kept.exif, kept.xmp, kept.dpi
    if structure is not None:
        structure = exif.correct(
            structure, width=width, height=height, dpi_scale=dpi_scale, gps=rules.gps
        )
    if packet is not None:
        packet = xmp.correct(
            packet,
            width=width,
            height=height,
            dpi_scale=dpi_scale,
            gps=rules.gps,
            provenance=provenance,
        )
    if packet is None and provenance is not None:
        packet = xmp.build(provenance)
    if dpi is not None:
        dpi = (dpi[0] * dpi_scale, dpi[1] * dpi_scale)
    return replace(kept, exif=structure, xmp=packet, dpi=dpi)


def _choose(found: Metadata, rules: MetadataRules) -> Metadata:
    """Leave out the kinds that are not wanted, and texts that name a position."""
    kinds = rules.kinds
    texts = found.texts if "texts" in kinds else ()
    if not rules.gps:
        texts = tuple(
            (keyword, text)
            for keyword, text in texts
            if not _PLACE.search(keyword) and not _PLACED.search(text)
        )
    return Metadata(
        exif=found.exif if "exif" in kinds else None,
        xmp=found.xmp if "xmp" in kinds else None,
        iptc=found.iptc if "iptc" in kinds else None,
        icc=found.icc if "icc" in kinds else None,
        dpi=found.dpi if "dpi" in kinds else None,
        texts=texts,
    )
