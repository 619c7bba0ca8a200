"""What an original says beside its pixels (to be replaced)."""

from PIL import IptcImagePlugin

from venice_watch.errors import ImageRefusedError
from venice_watch.images.decoder import decoding, open_image
from venice_watch.images.metadata import Metadata
from venice_watch.images.signature import RASTERS


def harvest(data: bytes, kind: str) -> Metadata:
    """Return what can be read."""
    if kind not in RASTERS:
        return Metadata()
    try:
        with decoding(data, kind), open_image(data, kind) as image:
            image.load()
            info = dict(image.info)
            exif = info.get("exif") or (image.getexif().tobytes() if image.getexif() else None)
            iptc = info.get("photoshop", {}).get(0x0404)
            if iptc is None and kind == "tiff":
                iptc = image.tag_v2.get(IptcImagePlugin and 33723)  # type: ignore[attr-defined]
            dpi = info.get("dpi")
            return Metadata(
                exif=exif.removeprefix(b"Exif\0\0") if exif else None,
                xmp=info.get("xmp"),
                iptc=iptc,
                icc=info.get("icc_profile"),
                dpi=None if dpi is None else (float(dpi[0]), float(dpi[1])),
                texts=tuple(getattr(image, "text", {}).items()),
            )
    except ImageRefusedError:
        return Metadata()
