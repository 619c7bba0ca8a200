"""One walk through an XMP packet: where in its bytes is what is to change.

Rules: no document type, no entities of its own, limited depth; nothing is built in memory but the
list of changes. A property is looked for where RDF/XML allows it, as an attribute and an element.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

RDF_NS = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
EXIF_NS = "http://ns.adobe.com/exif/1.0/"
PROVENANCE_NS = "https://venice-watch.invalid/ns/1.0/"
DEPTH_MAX = 100  # of elements; the deepest structures of editors have about 20
ELEMENTS_MAX = 200_000  # a second or two of work; at 100 bytes each they are a packet of 20 MB

_GEO_NS = "http://www.w3.org/2003/01/geo/wgs84_pos#"
_PLACE = re.compile("gps|latitude|longt?itude", re.IGNORECASE)  # a drone maker's spelling too
_SEPARATOR = "\x1f"  # cannot be part of a name in XML
_TEXT_CHARS_MAX = 1_000  # of a property that is looked at
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_TAG_END = re.compile(rb"\s*/?>")

Change = Callable[[str], str | None]  # the old text to the new one; None: take it out
Edit = tuple[int, int, bytes]  # (start, end, what stands there instead)
Name = tuple[str, str]  # (namespace, local name)

_DESCRIPTION, _RDF, _ABOUT = (RDF_NS, "Description"), (RDF_NS, "RDF"), (RDF_NS, "about")


class UnreadableError(Exception):
    """A packet that is no XML, no XMP, or made to do harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to change."""

    changes: dict[Name, Change]  # of properties at the top
    gps: bool  # False: positions go, wherever they are
    provenance: bool  # True: an earlier record of ours goes


@dataclass(slots=True, kw_only=True)
class Description:
    """Where a description at the top is."""

    start: int
    name_end: int
    end: int
    declared: frozenset[bytes]  # prefixes, by itself


@dataclass(slots=True, kw_only=True)
class Survey:
    """What was found, by byte offsets."""

    edits: list[Edit] = field(default_factory=list)
    rdf_end: tuple[int, int] = (0, 0)  # where its content ends; or the `/>` it consists of
    rdf_name: bytes = b""  # with its prefix
    about: str = ""  # what the packet describes; all descriptions must agree on it
    declarations: dict[bytes, bytes] = field(default_factory=dict)  # of prefixes, down to the RDF
    descriptions: list[Description] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Pending:
    """An element that is to change, while its content goes by."""

    depth: int
    start: int
    content_start: int
    is_empty: bool  # written <name/>
    change: Change
    text: list[str] = field(default_factory=list)


def survey(packet: bytes, wishes: Wishes) -> Survey:
    """Return where in `packet` (UTF-8) the wishes are to be fulfilled.

    Raises:
        UnreadableError: if it cannot be parsed, has a document type or no RDF, or is too deep.

    """
    walk = _Walk(packet, wishes)
    try:
        walk.run()
    except expat.ExpatError as exc:
        raise UnreadableError from exc
    if not walk.found.rdf_name:
        raise UnreadableError
    return walk.found


class _Walk:
    """Expat's callbacks; the parser knows where it is, the stack in what."""

    def __init__(self, packet: bytes, wishes: Wishes) -> None:
        self.found = Survey()
        self._packet = packet
        self._wishes = wishes
        self._stack: list[Name] = []
        self._empties: list[bool] = []
        self._elements_left = ELEMENTS_MAX
        self._pending: _Pending | None = None
        self._done: set[Name] = set()
        self._rdf_depth = 0  # 0: not inside of it
        self._parser = parser = expat.ParserCreate("UTF-8", _SEPARATOR)
        parser.ordered_attributes = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def run(self) -> None:
        """Walk through the packet."""
        self._parser.Parse(self._packet, True)  # noqa: FBT003 - expat's own signature

    def _refuse(self, *_: object) -> None:
        raise UnreadableError

    def _start(self, raw_name: str, raw_attributes: list[str]) -> None:
        name = _split(raw_name)
        self._elements_left -= 1
        if len(self._stack) >= DEPTH_MAX or self._elements_left < 0:
            raise UnreadableError
        start = self._parser.CurrentByteIndex
        tag = _Tag(self._packet, start) if self._needs_tag(name, raw_attributes) else None
        self._empties.append(tag is not None and tag.is_empty)
        at_top = self._is_in_description()
        self._stack.append(name)
        if tag is None or self._pending is not None:
            return
        if name == _RDF and not self.found.rdf_name:
            self._open_rdf(tag)
        elif self._is_in_description():
            self._open_description(tag, raw_attributes)
        elif not self.found.rdf_name:
            self.found.declarations |= tag.declarations
        change = self._change_of(name, at_top=at_top)
        if change is not None:
            self._pending = _Pending(
                depth=len(self._stack),
                start=start,
                content_start=tag.end,
                is_empty=tag.is_empty,
                change=change,
            )
        elif self._pending is None:
            self._read_attributes(tag, raw_attributes)

    def _needs_tag(self, name: Name, raw_attributes: list[str]) -> bool:
        """Say whether a tag's bytes must be looked at; most of them need not."""
        if self._pending is not None:
            return False
        return (
            len(raw_attributes) > 0
            or not self.found.rdf_name
            or len(self._stack) == self._rdf_depth
            or self._change_of(name, at_top=self._is_in_description()) is not None
        )

    def _is_in_description(self) -> bool:
        """Say whether what was opened last is a description at the top."""
        inside = self._rdf_depth and len(self._stack) == self._rdf_depth + 1
        return bool(inside) and self._stack[-1] == _DESCRIPTION

    def _change_of(self, name: Name, *, at_top: bool) -> Change | None:
        if not self._wishes.gps and (name[0] == _GEO_NS or _PLACE.search(name[1])):
            return _gone
        if not at_top:
            return None
        if self._wishes.provenance and name[0] == PROVENANCE_NS:
            return _gone
        change = self._wishes.changes.get(name)
        if change is not None and name in self._done:
            return _gone  # said twice, which RDF forbids
        return change

    def _open_rdf(self, tag: "_Tag") -> None:
        self._rdf_depth = len(self._stack)
        self.found.rdf_name = tag.name
        self.found.declarations |= tag.declarations
        if tag.is_empty:
            self.found.rdf_end = (tag.body_end, tag.end)

    def _open_description(self, tag: "_Tag", raw_attributes: list[str]) -> None:
        """Note a description; drop one that consists of our own record."""
        pairs = zip(raw_attributes[::2], raw_attributes[1::2], strict=True)
        values = {_split(raw_name): value for raw_name, value in pairs}
        if not self.found.descriptions:
            self.found.about = values.get(_ABOUT, values.get(("", "about"), ""))
        declared = frozenset(tag.declarations)
        self.found.descriptions.append(
            Description(start=tag.start, name_end=tag.name_end, end=tag.end, declared=declared)
        )
        ours = {name for name in values if name[0] == PROVENANCE_NS}
        if self._wishes.provenance and tag.is_empty and ours and ours | {_ABOUT} >= values.keys():
            self._pending = _Pending(
                depth=len(self._stack),
                start=tag.start,
                content_start=tag.end,
                is_empty=True,
                change=_gone,
            )

    def _read_attributes(self, tag: "_Tag", raw_attributes: list[str]) -> None:
        at_top = self._is_in_description()
        values = zip(raw_attributes[::2], raw_attributes[1::2], strict=True)
        for (raw_name, old), (start, value_start, end) in zip(values, tag.attributes, strict=True):
            name = _split(raw_name)
            change = self._change_of(name, at_top=at_top) if name[0] else None
            if change is None:
                continue
            self._done.add(name)
            new = change(old)
            if new is None:
                self.found.edits.append((start, end, b""))
            else:
                self.found.edits.append((value_start, end, quoteattr(new).encode()))

    def _text(self, text: str) -> None:
        pending = self._pending
        if pending is not None and len(pending.text) < _TEXT_CHARS_MAX:
            pending.text.append(text[:_TEXT_CHARS_MAX])

    def _end(self, _: str) -> None:
        at = self._parser.CurrentByteIndex
        depth = len(self._stack)
        is_description = self._is_in_description()
        name = self._stack.pop()
        was_empty = self._empties.pop()
        if self._pending is not None and self._pending.depth == depth:
            self._settle(self._pending, name, at)
            self._pending = None
        elif self._rdf_depth == depth:
            self._rdf_depth = 0
            if not was_empty:
                self.found.rdf_end = (at, at)
        if is_description and not was_empty:
            self.found.descriptions[-1].end = self._packet.index(b">", at) + 1

    def _settle(self, pending: _Pending, name: Name, at: int) -> None:
        """Note the change to an element, now that all of it is known."""
        end = pending.content_start if pending.is_empty else self._packet.index(b">", at) + 1
        new = pending.change("".join(pending.text))
        if new is None:
            self.found.edits.append((pending.start, end, b""))
        elif not pending.is_empty:
            self._done.add(name)
            self.found.edits.append((pending.content_start, at, escape(new).encode()))


class _Tag:
    """The bytes of a start tag that expat has found to be well-formed."""

    def __init__(self, packet: bytes, start: int) -> None:
        self.start = start
        self.attributes: list[tuple[int, int, int]] = []  # start with its space, value, end
        self.declarations: dict[bytes, bytes] = {}  # by prefix, each with its space
        at = start + 1
        while packet[at : at + 1] not in b" \t\r\n/>":
            at += 1
        self.name_end = at
        self.name = packet[start + 1 : at]
        while (found := _ATTRIBUTE.match(packet, at)) is not None:
            if found[1] == b"xmlns" or found[1].startswith(b"xmlns:"):
                self.declarations[found[1]] = found[0]
            else:
                self.attributes.append((found.start(), found.start(2), found.end()))
            at = found.end()
        ending = _TAG_END.match(packet, at)
        assert ending is not None, "expat took this for a start tag"
        self.body_end = at
        self.end = ending.end()
        self.is_empty = packet[self.end - 2 : self.end] == b"/>"


def _split(raw_name: str) -> Name:
    namespace, _, local = raw_name.rpartition(_SEPARATOR)
    return namespace, local


def _gone(_: str) -> None:
    """Take it out."""
