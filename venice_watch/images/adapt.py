"""What a result is to say of itself, from what its original said (to be replaced)."""

import json
from collections.abc import Mapping
from dataclasses import replace

from PIL import Image

from venice_watch.images.metadata import Metadata, MetadataRules

_SPACE = slice(16, 20)


def icc_for(icc: bytes | None, *, grey_result: bool) -> bytes | None:
    """Return a profile if it is one for such pixels."""
    fits = icc is not None and icc[_SPACE] == (b"GRAY" if grey_result else b"RGB ")
    return icc if fits else None


def adapt(
    found: Metadata,
    rules: MetadataRules,
    *,
    width: int,  # noqa: ARG001
    height: int,  # noqa: ARG001
    scale: float,
    provenance: Mapping[str, object] | None,
) -> Metadata:
    """Return what a result says."""
    kept = Metadata(**{kind: getattr(found, kind) for kind in rules.kinds})
    exif = kept.exif
    if exif is not None:
        tags = Image.Exif()
        tags.load(exif)
        tags[274] = 1
        if not rules.gps:
            tags.pop(34853, None)
        exif = tags.tobytes().removeprefix(b"Exif\0\0")
    dpi = kept.dpi
    if dpi is not None and rules.dpi_scaled:
        dpi = (dpi[0] * scale, dpi[1] * scale)
    texts = kept.texts
    if provenance is not None:
        texts = (*texts, ("venice-watch", json.dumps(provenance, sort_keys=True)))
    return replace(kept, exif=exif, dpi=dpi, texts=texts)
