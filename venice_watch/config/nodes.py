"""YAML text to plain values, with the place of each in the file.

Rules: booleans and numbers as in YAML 1.2 (`yes` is a text, `0664` is refused rather than guessed);
duplicate keys, tags, merge keys and second documents are mistakes; size, depth, aliases and the
number of values are limited; all mistakes that leave the rest readable are found together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import yaml

from venice_watch.config.findings import Finding, KeyPath, Mark

TEXT_BYTES_MAX = 1_048_576  # of a configuration: some 10,000 folders; a megabyte parses in seconds
DEPTH_MAX = 32  # of nesting: the format itself needs seven
ALIASES_MAX = 100  # uses of `*name`: plenty by hand, few enough to bound what they unfold to
VALUES_MAX = 100_000  # after aliases are unfolded: a megabyte of real settings has fewer
NUMBER_CHARACTERS_MAX = 40  # of a number: more is no setting

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_CONSTANTS: Mapping[str, bool | float | None] = MappingProxyType(
    {
        **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
        **dict.fromkeys(("true", "True", "TRUE"), True),
        **dict.fromkeys(("false", "False", "FALSE"), False),
        **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
        **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
        **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    }
)


class Broken:
    """Stands where a value could not be read; its mistake has been noted."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN: Final = Broken()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a text says, where it says it, and what is wrong with it as YAML.

    `value` is made of dict, list, str, int, float, bool, None and BROKEN. With `unreadable` there
    is no value at all, and the findings tell why.
    """

    value: object = None
    keys: Mapping[KeyPath, Mark]
    values: Mapping[KeyPath, Mark]
    findings: tuple[Finding, ...]
    broken: frozenset[KeyPath] = frozenset()
    unreadable: bool = False
    empty: bool = False

    def mark(self, finding: Finding) -> Mark:
        """Return the place of a finding, or of the nearest thing around it."""
        if finding.mark is not None:
            return finding.mark
        path = finding.path
        if finding.on_key and path in self.keys:
            return self.keys[path]
        if path in self.values:
            return self.values[path]
        while path:
            path = path[:-1]
            if path in self.keys:
                return self.keys[path]
            if path in self.values:
                return self.values[path]
        return Mark(line=1, column=1)

    def hides(self, finding: Finding) -> bool:
        """Say whether a finding only follows from a value that could not be read."""
        end = len(finding.path) + (0 if finding.on_key else 1)
        return any(finding.path[:n] in self.broken for n in range(1, end))


def parse(text: str, *, size_bytes_max: int = TEXT_BYTES_MAX) -> Document:
    """Read YAML text; never raises, whatever the text."""
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > size_bytes_max:
        message = (
            f"{size_bytes:,} bytes are more than the {size_bytes_max:,} a configuration may have; "
            "shorten it"
        )
        return _unreadable(message, Mark(line=1, column=1))
    try:
        return _read(_Loader(text))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        message = "contains a character that YAML does not allow; write it as an escape, or not"
        return _unreadable(message, Mark(line=line, column=column))
    except _LimitError as error:
        return _unreadable(str(error), error.place)


class _LimitError(Exception):
    def __init__(self, message: str, place: Mark) -> None:
        super().__init__(message)
        self.place = place


class _Loader(yaml.SafeLoader):
    """Composes nodes within limits; the pure-Python scanner, which survives deep nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.aliases = 0
        self.tagged: set[int] = set()  # id() of nodes; they live as long as their root

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        place = _mark(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > ALIASES_MAX:
                raise _LimitError(f"more than {ALIASES_MAX} aliases; write the values out", place)
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise _LimitError(f"nested deeper than {DEPTH_MAX} levels; flatten it", place)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]  # the stubs say int
        self.depth -= 1
        if node is not None and getattr(event, "tag", None) is not None:
            self.tagged.add(id(node))
        return node


def _read(loader: _Loader) -> Document:
    reader = _Reader(tagged=loader.tagged)
    node: yaml.Node | None = None
    try:
        if loader.check_node():
            node = loader.get_node()
            if loader.check_node():
                place = _mark(loader.peek_event().start_mark)  # type: ignore[no-untyped-call]
                message = "a second document starts here; keep one, and drop the `---`"
                reader.findings.append(Finding(path=(), message=message, mark=place))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _mark(mark) if mark else Mark(line=1, column=1)
        return _unreadable(f"not valid YAML: {_explain(error)}", place)
    except (ValueError, OverflowError):  # chr() in an escape like "\UFFFFFFFF"
        place = _mark(loader.get_mark())
        return _unreadable("not valid YAML: an escape or number that means nothing", place)
    finally:
        loader.dispose()
    value = None if node is None else reader.read(node, ())
    return Document(
        value=value,
        keys=reader.keys,
        values=reader.values,
        findings=tuple(reader.findings),
        broken=frozenset(reader.broken),
        empty=node is None,
    )


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Turns nodes into values, collecting their places and mistakes."""

    tagged: set[int]
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    broken: set[KeyPath] = field(default_factory=set)
    count: int = 0

    def read(self, node: yaml.Node, path: KeyPath) -> object:
        place = self.values[path] = _mark(node.start_mark)
        self.count += 1
        if self.count > VALUES_MAX:
            raise _LimitError(
                f"more than {VALUES_MAX:,} values, aliases unfolded; shorten it", place
            )
        if len(path) > DEPTH_MAX:
            raise _LimitError("an alias contains itself; write the values out", place)
        if id(node) in self.tagged:
            return self._break(path, "tags (`!...`) are not supported; leave it out")
        match node:
            case yaml.MappingNode():
                return self._read_mapping(node, path)
            case yaml.SequenceNode():
                return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._read_scalar(node, path)
        raise AssertionError(node)

    def _read_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, item in node.value:
            place = _mark(key.start_mark)
            if not isinstance(key, yaml.ScalarNode) or id(key) in self.tagged:
                message = "a key must be plain text"
                self.findings.append(Finding(path=path, message=message, mark=place))
            elif key.value == "<<" and key.style is None:
                message = "merge keys are not supported; presets have `extends`"
                self.findings.append(Finding(path=(*path, "<<"), message=message, mark=place))
            elif key.value in result:
                first = self.keys[*path, key.value]
                message = f"duplicate key; it stands in line {first.line} already; keep one"
                here = (*path, key.value)
                self.findings.append(Finding(path=here, message=message, mark=place))
            else:
                here = (*path, key.value)
                self.keys[here] = place
                result[key.value] = self.read(item, here)
        return result

    def _read_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        try:
            # JSON writes some characters as two escapes, and YAML is to take all JSON.
            text = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            return self._break(path, "half of a surrogate pair is no text; write the character")
        if node.style is not None:
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _LEADING_ZERO.fullmatch(text):
            # The number itself is not said: it may be a key.
            message = (
                "starts with a zero, which is octal to some and decimal to others; "
                'put it in quotes, as in "0664"'
            )
            return self._break(path, message)
        if not _FLOAT.fullmatch(text) and not _INTEGER.fullmatch(text):
            return text
        if len(text) > NUMBER_CHARACTERS_MAX:
            return self._break(path, "a number of too many digits; quote it if it is a text")
        return int(text) if _INTEGER.fullmatch(text) else float(text)

    def _break(self, path: KeyPath, message: str) -> Broken:
        self.findings.append(Finding(path=path, message=message))
        self.broken.add(path)
        return BROKEN


def _unreadable(message: str, place: Mark) -> Document:
    finding = Finding(path=(), message=message, mark=place)
    return Document(keys={}, values={}, findings=(finding,), unreadable=True)


def _explain(error: yaml.MarkedYAMLError) -> str:
    # The names of aliases and anchors are cut off: a text that begins with `*` may be a secret.
    problem = re.sub(r"(alias|anchor|handle) .*", r"\1", error.problem or "cannot be read")
    return f"{error.context}, {problem}" if error.context else problem


def _mark(mark: yaml.Mark) -> Mark:
    return Mark(line=mark.line + 1, column=mark.column + 1)
