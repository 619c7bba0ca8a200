"""Corrections to an XMP packet: only what must change is rewritten, the rest keeps its bytes.

Rules: a packet is parsed once, by expat, for the offsets of what to change; a document type, and
with it every entity, is refused; depth and size are limited; what cannot be parsed is handed back
as it is. Sources: XMP specification parts 1 to 3, RDF/XML.
"""

import json
import re
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from venice_watch.images import exif
from venice_watch.images.xmp_walk import (
    EXIF_NS,
    PROVENANCE_NS,
    RDF_NS,
    Change,
    Edit,
    Survey,
    UnreadableError,
    Wishes,
    survey,
)

PACKET_BYTES_MAX = 16_000_000  # of one that is parsed
_TIFF_NS = "http://ns.adobe.com/tiff/1.0/"
_XAP_NS = "http://ns.adobe.com/xap/1.0/"
_NOTE_NS = "http://ns.adobe.com/xmp/note/"
_HEAD = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = b'\n<?xpacket end="w"?>'
_EMPTY = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="'
    + RDF_NS.encode()
    + b'">\n </rdf:RDF>\n</x:xmpmeta>'
)
_DECLARATION = re.compile(rb"\s*<\?xml\s[^>]*\?>\s*")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FRACTION = re.compile(r"\s*(\d{1,10})/(\d{1,10})\s*")
_ENCODINGS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)


def correct(
    packet: bytes,
    *,
    width: int,
    height: int,
    dpi_scale: float = 1.0,
    gps: bool = True,
    provenance: Mapping[str, object] | None = None,
) -> bytes | None:
    """Return `packet` as it is true for an upright result of `width` x `height` pixels.

    Thumbnails go; resolutions are multiplied by `dpi_scale`; without `gps` positions go, at any
    depth; `provenance` is recorded in place of an earlier record of ours. A packet that cannot be
    parsed comes back as it is, or not at all (None) if positions were to be removed.
    """
    changes = _changes(width=width, height=height, dpi_scale=dpi_scale)
    try:
        plain = _plain(packet)
        found = survey(plain, Wishes(changes=changes, gps=gps, provenance=provenance is not None))
    except UnreadableError:
        return packet if gps else None
    edits = found.edits
    if provenance is not None:
        edits = [*edits, _insertion(found, _record(provenance, about=found.about))]
    return _wrapped(_applied(plain, edits))


def build(provenance: Mapping[str, object]) -> bytes:
    """Return a packet that says nothing but `provenance`."""
    found = survey(_EMPTY, Wishes(changes={}, gps=True, provenance=True))
    return _wrapped(_applied(_EMPTY, [_insertion(found, _record(provenance, about=""))]))


def join(packet: bytes, extension: bytes) -> bytes:
    """Return `packet` with the descriptions of an extended packet in it.

    If one of them cannot be parsed, `packet` comes back as it is.
    """
    try:
        plain, more = _plain(packet), _plain(extension)
        nothing = Wishes(changes={(_NOTE_NS, "HasExtendedXMP"): _drop}, gps=True, provenance=False)
        found = survey(plain, nothing)
        descriptions = _descriptions(survey(more, nothing), more)
    except UnreadableError:
        return packet
    joined = _applied(plain, [*found.edits, _insertion(found, descriptions)])
    return joined if _is_readable(joined) else packet


def _changes(*, width: int, height: int, dpi_scale: float) -> dict[tuple[str, str], Change]:
    """Return how properties at the top of a packet are to read, by name; None drops one."""
    changes: dict[tuple[str, str], Change] = {
        (_TIFF_NS, "Orientation"): lambda _: "1",
        (_XAP_NS, "Thumbnails"): _drop,
        (_NOTE_NS, "HasExtendedXMP"): _drop,  # the extension has been joined, or was missing
    }
    for name in ((_TIFF_NS, "ImageWidth"), (EXIF_NS, "PixelXDimension")):
        changes[name] = lambda _: str(width)
    for name in ((_TIFF_NS, "ImageLength"), (EXIF_NS, "PixelYDimension")):
        changes[name] = lambda _: str(height)
    if dpi_scale != 1.0:
        for local in ("XResolution", "YResolution"):
            changes[_TIFF_NS, local] = lambda old: _scaled(old, dpi_scale)
    return changes


def _drop(_: str) -> None:
    """Take a property out."""


def _scaled(old: str, factor: float) -> str:
    fraction = _FRACTION.fullmatch(old)
    if fraction is None or not int(fraction[1]) or not int(fraction[2]):
        return old.strip()
    above, below = exif.scaled_fraction((int(fraction[1]), int(fraction[2])), factor)
    return f"{above}/{below}"


def _plain(packet: bytes) -> bytes:
    """Return a packet in UTF-8, without a byte order mark, padding zeros or declaration.

    Raises:
        UnreadableError: if it is too large, or not in the encoding it starts in.

    """
    if len(packet) > PACKET_BYTES_MAX:
        raise UnreadableError
    encoding = next((name for mark, name in _ENCODINGS if packet.startswith(mark)), "utf-8")
    try:
        text = packet.decode(encoding).strip("\0")
    except UnicodeDecodeError as exc:
        raise UnreadableError from exc
    plain = text.lstrip("\ufeff").encode()
    declaration = _DECLARATION.match(plain)
    return plain[declaration.end() :] if declaration else plain.lstrip()


def _wrapped(packet: bytes) -> bytes:
    return packet if packet.startswith(b"<?xpacket ") else _HEAD + packet.rstrip() + _TAIL


def _applied(packet: bytes, edits: list[Edit]) -> bytes:
    parts = []
    at = 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        parts += [packet[at:start], replacement]
        at = end
    return b"".join((*parts, packet[at:]))


def _insertion(found: Survey, descriptions: bytes) -> Edit:
    """Return the edit that puts `descriptions` at the end of the packet's RDF."""
    start, end = found.rdf_end
    if start == end:
        return start, end, descriptions
    return start, end, b">" + descriptions + b"</" + found.rdf_name + b">"  # it was empty: <RDF/>


def _record(provenance: Mapping[str, object], *, about: str) -> bytes:
    """Return a description of our own, about the same thing as the others of the packet."""
    fields = [f'<rdf:Description xmlns:rdf="{RDF_NS}" rdf:about={quoteattr(about)}']
    fields.append(f'xmlns:vw="{PROVENANCE_NS}"')
    for key, value in provenance.items():
        assert _NAME.fullmatch(key), f"{key!r} is no name that XML allows"
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        fields.append(f"vw:{key}={quoteattr(_NOT_XML.sub('', text))}")
    return f"{' '.join(fields)}/>".encode()


def _descriptions(found: Survey, packet: bytes) -> bytes:
    """Return what stands inside a packet's RDF, with the prefixes that were declared around it.

    Raises:
        UnreadableError: if that is too much.

    """
    parts = []
    left_bytes = PACKET_BYTES_MAX
    for one in found.descriptions:
        around = b"".join(
            raw for name, raw in found.declarations.items() if name not in one.declared
        )
        left_bytes -= len(around) + one.end - one.start
        if left_bytes < 0:  # many prefixes, repeated for many descriptions
            raise UnreadableError
        parts += [packet[one.start : one.name_end], around, packet[one.name_end : one.end]]
    return b"".join(parts)


def _is_readable(packet: bytes) -> bool:
    try:
        survey(packet, Wishes(changes={}, gps=True, provenance=False))
    except UnreadableError:
        return False
    return True
