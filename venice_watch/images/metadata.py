"""What a picture's file says beside its pixels, apart from any file format."""

import ast
from dataclasses import astuple, dataclass

KINDS = frozenset({"exif", "xmp", "iptc", "icc", "dpi", "texts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Everything beside the pixels that a result is to keep, as it stands in the original."""

    exif: bytes | None = None  # a TIFF structure, without the `Exif\0\0` that JPEG puts before it
    xmp: bytes | None = None  # a packet, extended parts joined
    iptc: bytes | None = None  # IIM datasets
    icc: bytes | None = None  # the colour profile of the pixels that are sent
    dpi: tuple[float, float] | None = None  # across, down
    texts: tuple[tuple[str, str], ...] = ()  # (keyword, text): PNG's text chunks, comments


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRules:
    """What of it a result is to keep."""

    kinds: frozenset[str] = KINDS
    gps: bool = True  # where it was taken, wherever that is written
    dpi_scaled: bool = False  # by the scale: the print stays as large as the original's


def dumps(metadata: Metadata) -> bytes:
    """Return it as bytes (to be replaced)."""
    return repr(astuple(metadata)).encode()


def loads(data: bytes) -> Metadata:
    """Return it from bytes (to be replaced). Raises ValueError."""
    return Metadata(**dict(zip(Metadata.__slots__, ast.literal_eval(data.decode()), strict=True)))
