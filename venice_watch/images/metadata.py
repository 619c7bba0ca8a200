"""What a picture's file says beside its pixels, apart from any file format; and how it is stored.

Rules: the stored form is only ever read by this program, and is still read with distrust: each
length is checked, and a checksum tells damage from change.
"""

import json
import math
import zlib
from dataclasses import dataclass

KINDS = frozenset({"exif", "xmp", "iptc", "icc", "dpi", "texts"})

_MAGIC = b"venice-watch metadata 1\n"
_LENGTH_BYTES = _CHECKSUM_BYTES = 4
_BLOBS = ("exif", "xmp", "iptc", "icc")  # stored as they are, in this order, behind the header


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
    """Return `metadata` as bytes that `loads` understands."""
    blobs = {name: getattr(metadata, name) for name in _BLOBS}
    present = {name: blob for name, blob in blobs.items() if blob is not None}
    header = {
        "sizes_bytes": {name: len(blob) for name, blob in present.items()},
        "dpi": metadata.dpi,
        "texts": metadata.texts,
    }
    head = json.dumps(header).encode()
    body = b"".join((_MAGIC, len(head).to_bytes(_LENGTH_BYTES), head, *present.values()))
    return body + zlib.crc32(body).to_bytes(_CHECKSUM_BYTES)


def loads(data: bytes) -> Metadata:
    """Return what `dumps` made `data` of.

    Raises:
        ValueError: if `data` are not what `dumps` wrote.

    """
    at = len(_MAGIC) + _LENGTH_BYTES
    if len(data) < at + _CHECKSUM_BYTES or not data.startswith(_MAGIC):
        raise ValueError(f"these {len(data):,} bytes are no stored metadata; read the file again")
    body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(_CHECKSUM_BYTES) != checksum:
        raise ValueError("the checksum of the stored metadata is wrong; read the file again")
    head_end = at + int.from_bytes(body[len(_MAGIC) : at])
    try:
        header = json.loads(body[at:head_end])
        blobs = _split(body[head_end:], header["sizes_bytes"])
        dpi, texts = _read_dpi(header["dpi"]), _read_texts(header["texts"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"the stored metadata make no sense ({exc}); read the file again") from exc
    return Metadata(dpi=dpi, texts=texts, **blobs)


def _split(rest: bytes, sizes_bytes: dict[str, object]) -> dict[str, bytes]:
    blobs = {}
    at = 0
    for name, size in sizes_bytes.items():
        if name not in _BLOBS or type(size) is not int or not 0 <= size <= len(rest) - at:
            raise ValueError(f"{name} of {size!r} bytes, with {len(rest) - at:,} left")
        blobs[name] = rest[at : at + size]
        at += size
    if at != len(rest):
        raise ValueError(f"{len(rest) - at:,} bytes too many")
    return blobs


def _read_dpi(stored: object) -> tuple[float, float] | None:
    if stored is None:
        return None
    match stored:
        case [int() | float() as across, int() | float() as down]:
            if all(math.isfinite(value) and value > 0 for value in (across, down)):
                return float(across), float(down)
    raise ValueError(f"a resolution of {stored!r}")


def _read_texts(stored: list[list[object]]) -> tuple[tuple[str, str], ...]:
    texts = []
    for pair in stored:
        match pair:
            case [str() as keyword, str() as text]:
                texts.append((keyword, text))
            case _:
                raise ValueError("a text that is no pair")
    return tuple(texts)
