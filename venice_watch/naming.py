"""What a result is called: the output name template, its filling in, and names that are taken.

Rules: a name is one component of a path and stays one, whatever a file or a preset is called; it is
never hidden and never one of ours (`.venice-watch...`); it fits into 255 bytes with its ending and
its number; bytes that are not UTF-8 (surrogate escapes) come through as they were.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from venice_watch.parameters import nearest, quoted

NAME_BYTES_MAX = 255  # of one component of a path: ext4, xfs, btrfs, tmpfs, SMB
REPORT_SUFFIX = ".error.json"  # behind the name of a quarantined file
SUFFIX_BYTES_MAX = 16  # of an ending worth keeping; what is longer is a name with a dot in it
TEMPLATE_CHARACTERS_MAX = 200  # leaves room for a stem

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_PADDED = re.compile(r"(counter|frame):0([1-9])")
# Control characters, the two Unicode line ends, the separator, and surrogates that no file name
# decodes to (only U+DC80..U+DCFF stand for bytes).
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029/\ud800-\udc7f\udd00-\udfff]")
_ENDING = ".{ext}"
FRAME_DIGITS_MIN = 2  # 01 to 99: most files have fewer, and sort among files that have more


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFacts:
    """What a template may speak of."""

    stem: str  # the source's name without folder and ending
    scale: float  # as sent
    preset: str
    width: int  # of the result, in pixels
    height: int
    date: str  # YYYY-MM-DD
    counter: int
    source_ext: str  # the source's ending, without the dot; may be empty
    ext: str  # the result's ending, without the dot
    frame: int = 1  # of the source, from 1
    frames: int = 1  # of the source that are worked on


def _frame(facts: NameFacts) -> str:
    """Return a frame's number, as wide as the last one's: names then sort as the frames do."""
    return f"{facts.frame:0{max(FRAME_DIGITS_MIN, len(str(facts.frames)))}}"


_FIELDS: Mapping[str, Callable[[NameFacts], str]] = MappingProxyType(
    {
        "stem": lambda facts: facts.stem,
        "scale": lambda facts: f"{facts.scale:g}",
        "preset": lambda facts: facts.preset,
        "width": lambda facts: str(facts.width),
        "height": lambda facts: str(facts.height),
        "date": lambda facts: facts.date,
        "counter": lambda facts: str(facts.counter),
        "frame": _frame,
        "source_ext": lambda facts: facts.source_ext,
        "ext": lambda facts: facts.ext,
    }
)


def find_problems(template: str) -> list[str]:
    """Return every mistake of a template, each saying what to do."""
    if not template:
        return ["is empty; the default is {stem}.{ext}"]
    found = list(_find_token_problems(template))
    if len(template) > TEMPLATE_CHARACTERS_MAX:
        found.append(f"has {len(template):,} characters; at most {TEMPLATE_CHARACTERS_MAX} fit")
    if "/" in template:
        found.append("may not contain `/`: sub-folders of the inbox are mirrored by themselves")
    if _HOSTILE.search(template.replace("/", "")):
        found.append("contains a control character; take it out")
    if template.startswith("."):
        found.append("may not start with a dot: the results would be hidden")
    if not template.endswith(_ENDING):
        found.append("must end with .{ext}, the ending of the result's format")
    return found


def render(template: str, facts: NameFacts) -> str:
    """Return the file name that a template without problems gives."""
    body, ending = template, ""
    if template.endswith(_ENDING):
        body = template.removesuffix(_ENDING)
        extension = _cut(_tame(facts.ext).replace(".", "_"), SUFFIX_BYTES_MAX - 1)
        ending = f".{extension}" if extension else ""
    if facts.frames > 1 and not _has_frame(template):
        body += "-{frame}"
    filled = _fill(body, facts, _tame(facts.stem))
    excess = _size_bytes(filled) + _size_bytes(ending) - NAME_BYTES_MAX
    if excess > 0:
        stem = _tame(facts.stem)
        filled = _fill(body, facts, _cut(stem, max(0, _size_bytes(stem) - excess)))
    return _cut(_visible(filled), max(1, NAME_BYTES_MAX - _size_bytes(ending))) + ending


def numbered(name: str, n: int) -> str:
    """Return the n-th other name (n >= 1) for a name that is taken: `a.png` gives `a-1.png`."""
    assert n >= 1, n
    stem, ending = _split(name)
    tail = f"-{n}{ending}"
    return _cut(stem, NAME_BYTES_MAX - _size_bytes(tail)) + tail


def shortened(name: str, size_bytes_max: int) -> str:
    """Return a name that leaves room for something behind it: its stem is cut, its ending kept."""
    stem, ending = _split(name)
    return _cut(stem, size_bytes_max - _size_bytes(ending)) + ending


def _split(name: str) -> tuple[str, str]:
    """Return a name's stem and its ending with the dot, "" where it has none worth keeping."""
    stem, dot, ending = name.rpartition(".")
    if not stem.strip(".") or _size_bytes(ending) > SUFFIX_BYTES_MAX:
        return name, ""
    return stem, dot + ending


def _find_token_problems(template: str) -> Iterator[str]:
    for token in _TOKEN.finditer(template):
        text, name = token[0], token[1]
        if text in ("{", "}"):
            yield f"has a single `{text}`; write `{text}{text}` for the character itself"
        elif name is not None and name not in _FIELDS and not _PADDED.fullmatch(name):
            yield _explain(name)


def _explain(name: str) -> str:
    plain = re.split(r"[.:!\[]", name, maxsplit=1)[0]
    if plain in ("counter", "frame") and ":" in name:
        return f"{{{plain}}} can be padded with zeros only, as in {{{plain}:04}}"
    if plain in _FIELDS and plain != name:
        return f"{{{plain}}} takes no format or attribute; write it by itself"
    known = " ".join(f"{{{field}}}" for field in _FIELDS)
    return f"unknown field {quoted(name)}{nearest(name, _FIELDS) or f'; there are {known}'}"


def _fill(template: str, facts: NameFacts, stem: str) -> str:
    def value(token: re.Match[str]) -> str:
        text, name = token[0], token[1]
        if name is None:
            return text[0] if text in ("{{", "}}") else text
        if name == "stem":
            return stem
        if padded := _PADDED.fullmatch(name):
            number = facts.counter if padded[1] == "counter" else facts.frame
            return f"{number:0{padded[2]}}"
        return _tame(_FIELDS[name](facts))

    return _TOKEN.sub(value, template)


def _has_frame(template: str) -> bool:
    names = [token[1] or "" for token in _TOKEN.finditer(template)]
    return any(name == "frame" or name.startswith("frame:") for name in names)


def _tame(value: str) -> str:
    return _HOSTILE.sub("_", value)


def _visible(name: str) -> str:
    bare = name.lstrip(".")
    return "_" * max(len(name) - len(bare), 0 if bare else 1) + bare


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _cut(text: str, size_bytes_max: int) -> str:
    """Shorten to a number of bytes without splitting a character."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) <= size_bytes_max:
        return text
    while text and _size_bytes(text) > size_bytes_max:
        # A character is at most four bytes: this never takes too many, and ends in few rounds.
        text = text[: len(text) - max(1, (_size_bytes(text) - size_bytes_max) // 4)]
    return text
