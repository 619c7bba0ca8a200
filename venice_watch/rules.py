"""Which preset and parameters an image gets: the folder's rules, the first match winning.

Rules: pure; names are matched without regard to case or to how an accent is composed; whatever is
merged is checked again as a whole, because a value that is right by itself can be wrong in company.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from types import MappingProxyType

from venice_watch.errors import VeniceWatchError
from venice_watch.parameters import Parameters, find_problems, merged, nearest

FORMATS = (
    "jpeg", "png", "webp", "gif", "tiff", "bmp", "heic", "avif", "jp2", "psd",
    "jxl", "ico", "icns", "tga", "ppm", "pcx", "dds", "svg", "dng", "exr",
)  # fmt: skip
FORMAT_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "jpg": "jpeg",
        "jpe": "jpeg",
        "tif": "tiff",
        "heif": "heic",
        "jpeg2000": "jp2",
        "j2k": "jp2",
        "dib": "bmp",
    }
)
PATTERN_CHARACTERS_MAX = 1_000  # more than any path needs
_PATTERNS_KEPT = 1_024  # compiled pattern parts; more than any configuration has

_NOTHING: Mapping[str, object] = MappingProxyType({})


class PresetUnusableError(VeniceWatchError):
    """A preset and what was laid over it make no request that Venice would take."""

    exit_code = 78

    def __init__(self, *, preset: str, rule: int | None, problems: tuple[str, ...]) -> None:
        where = f'preset "{preset}"' + ("" if rule is None else f" with what rules[{rule}] sets")
        super().__init__(f"{where} cannot be used: {'; '.join(problems)}. Mend the configuration.")
        self.preset = preset
        self.rule = rule
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of an image before anything is decided about it."""

    name: str  # path relative to the inbox, with `/` between the parts
    format: str  # of its content, e.g. jpeg
    width: int  # pixels, as it will be seen
    height: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The conditions of a rule: all that are given must hold; limits are inclusive."""

    name: tuple[str, ...] = ()  # globs, any of them; with a `/` for the whole relative path
    format: tuple[str, ...] = ()  # any of them
    pixels_min: int | None = None
    pixels_max: int | None = None
    width_min: int | None = None
    width_max: int | None = None
    height_min: int | None = None
    height_max: int | None = None
    bytes_min: int | None = None
    bytes_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to do with the images that match."""

    match: Match = field(default_factory=Match)
    preset: str | None = None  # instead of the folder's
    # API names; laid over the preset, where null takes away
    set: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    skip: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen for one image; with `skip` it stays where it is, untouched."""

    preset: str
    parameters: Parameters
    skip: bool = False
    rule: int | None = None  # index of the rule that matched


def choose(
    rules: Sequence[Rule],
    facts: Facts,
    *,
    default_preset: str,
    presets: Mapping[str, Parameters],
    overlay: Mapping[str, object] = _NOTHING,
) -> Choice:
    """Return what the first matching rule, or else the default, makes of an image.

    `overlay` (an inbox's own parameters) belongs to the default preset: a rule that names another
    preset replaces both. Raises PresetUnusableError if the outcome is no valid request.
    """
    index = next((i for i, rule in enumerate(rules) if matches(rule.match, facts)), None)
    return outcome(rules, index, default_preset=default_preset, presets=presets, overlay=overlay)


def outcome(
    rules: Sequence[Rule],
    index: int | None,
    *,
    default_preset: str,
    presets: Mapping[str, Parameters],
    overlay: Mapping[str, object] = _NOTHING,
) -> Choice:
    """Return what the rule of this index (None: the default) makes of every image it matches.

    `overlay` and PresetUnusableError as in `choose`.
    """
    rule = Rule() if index is None else rules[index]
    if rule.skip:
        return Choice(preset=default_preset, parameters=Parameters(), skip=True, rule=index)
    preset = rule.preset or default_preset
    if preset not in presets:
        problem = f"there is no such preset{nearest(preset, presets)}"
        raise PresetUnusableError(preset=preset, rule=index, problems=(problem,))
    base = presets[preset].as_mapping()
    mapping = merged(base, _NOTHING if rule.preset else overlay, rule.set)
    if problems := find_problems(mapping):
        lines = tuple(f"{name}: {message}" for name, message in problems)
        raise PresetUnusableError(preset=preset, rule=index, problems=lines)
    return Choice(preset=preset, parameters=Parameters.from_mapping(mapping), rule=index)


def skips_undecoded(rules: Sequence[Rule], *, name: str, kind: str, size_bytes: int) -> bool:
    """Say whether a file is to be skipped, whatever its pixels are.

    For files that cannot be read: `kind` is the format as far as the first bytes tell, or empty.
    """
    facts = Facts(name=name, format=kind, width=0, height=0, size_bytes=size_bytes)
    for rule in rules:
        known = replace(
            rule.match,
            pixels_min=None,
            pixels_max=None,
            width_min=None,
            width_max=None,
            height_min=None,
            height_max=None,
        )
        if not matches(known, facts):
            continue
        return rule.skip and known == rule.match  # else its pixels would decide
    return False


def matches(match: Match, facts: Facts) -> bool:
    """Say whether every condition holds."""
    return (
        (not match.name or any(_matches_name(pattern, facts.name) for pattern in match.name))
        and (not match.format or canonical_format(facts.format) in _canonical(match.format))
        and _within(facts.width * facts.height, match.pixels_min, match.pixels_max)
        and _within(facts.width, match.width_min, match.width_max)
        and _within(facts.height, match.height_min, match.height_max)
        and _within(facts.size_bytes, match.bytes_min, match.bytes_max)
    )


def canonical_format(name: str) -> str:
    """Return the one name of a format: `JPG` is `jpeg`."""
    lowered = name.lower()
    return FORMAT_ALIASES.get(lowered, lowered)


def _canonical(names: tuple[str, ...]) -> set[str]:
    return {canonical_format(name) for name in names}


def _within(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _matches_name(pattern: str, name: str) -> bool:
    parts = unicodedata.normalize("NFC", name).split("/")
    wanted = unicodedata.normalize("NFC", pattern).removeprefix("/").split("/")
    return _matches_parts(wanted, parts) if "/" in pattern else _matches_part(wanted[0], parts[-1])


def _matches_parts(pattern: list[str], parts: list[str]) -> bool:
    """Match part by part; `**` stands for any number of folders.

    Only the last `**` is ever tried again, as with `*` in a plain glob, so the work is bounded by
    the product of the lengths whatever the pattern.
    """
    at, here, star, resume = 0, 0, -1, 0
    while here < len(parts):
        if at < len(pattern) and pattern[at] == "**":
            star, resume = at, here
            at += 1
        elif at < len(pattern) and _matches_part(pattern[at], parts[here]):
            at, here = at + 1, here + 1
        elif star >= 0:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return at == len(pattern)


def _matches_part(pattern: str, part: str) -> bool:
    return _compiled(pattern).match(part) is not None


@functools.lru_cache(maxsize=_PATTERNS_KEPT)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.IGNORECASE)
