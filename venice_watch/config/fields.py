"""The kinds of values a configuration holds: how each is checked, and how an editor is told.

Rules: one checker a kind, raising ValueRefusedError with a sentence for the user; pydantic does the
rest (required, unknown, nested, frozen), so no message is in a library's words.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from venice_watch import naming, rules
from venice_watch.config import places
from venice_watch.config.findings import ValueRefusedError
from venice_watch.config.places import Surroundings
from venice_watch.config.units import (
    PATTERN,
    parse_duration,
    parse_size,
    spell_duration,
    spell_size,
)
from venice_watch.parameters import nearest, quoted, shown

NAME_CHARACTERS_MAX = 64  # of folders and presets: they become labels and parts of file names
USD_MAX = 1_000_000  # of a budget or a price: more is a mistake
LIST_ITEMS_MAX = 1_000  # of patterns in one rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An annotation: validate with `check`, describe with a JSON Schema."""

    check: Callable[[object, Surroundings], object]
    schema: Mapping[str, object]

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)

    def _validate(self, value: object, info: ValidationInfo) -> object:
        assert isinstance(info.context, Surroundings)
        return self.check(value, info.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """An annotation: validate with `check`, describe as another type."""

    check: Callable[[object], object]
    like: Any

    def __get_pydantic_core_schema__(
        self, _source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=handler.generate_schema(self.like),
            python_schema=core_schema.no_info_plain_validator_function(self.check),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """An annotation: validate and describe as another type, then turn it into this one."""

    like: Any
    convert: Callable[[Any], object]

    def __get_pydantic_core_schema__(
        self, _source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        inner = handler.generate_schema(self.like)
        return core_schema.no_info_after_validator_function(self.convert, inner)


def _checked(check: Callable[[object], object], schema: Mapping[str, object]) -> Checked:
    return Checked(check=lambda value, _surroundings: check(value), schema=schema)


def whole(low: int, high: int, *, word: str | None = None) -> Checked:
    """Accept a whole number in a range, or the one `word`, which becomes None."""
    alternative = f"`{word}` or " if word else ""

    def check(value: object) -> int | None:
        if word is not None and value == word:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueRefusedError(
                f"must be {alternative}a whole number from {low:,} to {high:,}, not {shown(value)}"
            )
        if not low <= value <= high:
            raise ValueRefusedError(
                f"{shown(value)} is outside {low:,} to {high:,}; choose a number within"
            )
        return value

    number = {"type": "integer", "minimum": low, "maximum": high}
    return _checked(check, {"anyOf": [{"const": word}, number]} if word else number)


def duration(low: str, high: str) -> Checked:
    """Accept a duration in a range; it becomes seconds."""
    low_s, high_s = parse_duration(low), parse_duration(high)

    def check(value: object) -> float:
        seconds = parse_duration(value)
        if not low_s <= seconds <= high_s:
            raise ValueRefusedError(
                f"{shown(value)} is outside {spell_duration(low_s)} to {spell_duration(high_s)}; "
                "choose a duration within"
            )
        return seconds

    text = {"type": "string", "pattern": f"^(?=.){PATTERN}$"}
    return _checked(check, {"anyOf": [text, {"type": "number", "exclusiveMinimum": 0}]})


def size(low: str, high: str) -> Checked:
    """Accept a size in a range; it becomes bytes."""
    low_bytes, high_bytes = parse_size(low), parse_size(high)

    def check(value: object) -> int:
        size_bytes = parse_size(value)
        if not low_bytes <= size_bytes <= high_bytes:
            raise ValueRefusedError(
                f"{shown(value)} is outside {spell_size(low_bytes)} to {spell_size(high_bytes)}; "
                "choose a size within"
            )
        return size_bytes

    pattern = "^[0-9]+(\\.[0-9]+)? ?([kKmMgGtT]?[bB])?$"
    text = {"type": "string", "pattern": pattern}
    return _checked(check, {"anyOf": [text, {"type": "integer", "minimum": 0}]})


def usd() -> Checked:
    """Accept an amount of US dollars; it becomes millionths."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = "; take the quotes and the currency off" if isinstance(value, str) else ""
            raise ValueRefusedError(
                f"must be a number of US dollars, such as 5.00, not {shown(value)}{hint}"
            )
        if not 0 <= value <= USD_MAX:
            raise ValueRefusedError(
                f"{shown(value)} is outside 0 to {USD_MAX:,} USD; choose an amount within"
            )
        return round(value * 1_000_000)

    return _checked(check, {"type": "number", "minimum": 0, "maximum": USD_MAX})


def choice(options: type[StrEnum]) -> Checked:
    """Accept one word of a closed list."""
    words = [str(option) for option in options]

    def check(value: object) -> StrEnum:
        if isinstance(value, str) and value in words:
            return options(value)
        hint = nearest(value, words) if isinstance(value, str) else ""
        known = f"{', '.join(words[:-1])} or {words[-1]}"
        raise ValueRefusedError(f"must be {known}, not {shown(value)}{hint}")

    return _checked(check, {"type": "string", "enum": words})


def flag() -> Checked:
    """Accept true or false, and no other word for them."""

    def check(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueRefusedError(f"must be true or false, not {shown(value)}")

    return _checked(check, {"type": "boolean"})


def name() -> Checked:
    """Accept what a folder or a preset can be called."""
    pattern = r"^\S(.*\S)?$"
    schema = {
        "type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS_MAX, "pattern": pattern
    }  # fmt: skip
    return _checked(check_name, schema)


def check_name(value: object) -> str:
    """Return a folder's or preset's name, or raise ValueRefusedError."""
    if not isinstance(value, str):
        raise ValueRefusedError(f"must be text, not {shown(value)}; put it in quotes")
    if not 1 <= len(value) <= NAME_CHARACTERS_MAX:
        raise ValueRefusedError(
            f"has {len(value):,} characters; 1 to {NAME_CHARACTERS_MAX} are allowed"
        )
    wrong = {
        character for character in value if not character.isalnum() and character not in "-_. "
    }
    if wrong or value != value.strip() or not value.strip("."):
        raise ValueRefusedError(
            f"{quoted(value)} is no name; use letters, digits, `-`, `_`, `.` and spaces within"
        )
    return value


def text() -> Checked:
    """Accept any text; what it may be is checked against the rest of the file."""

    def check(value: object) -> str:
        if isinstance(value, str) and value:
            return value
        raise ValueRefusedError(f"must be text, not {shown(value)}; put it in quotes")

    return _checked(check, {"type": "string", "minLength": 1})


def path() -> Checked:
    """Accept a path; it becomes absolute."""
    return Checked(check=places.read_path, schema={"type": "string", "minLength": 1})


def key_file() -> Checked:
    """Accept a path that is not a key."""
    return Checked(check=places.read_key_file, schema={"type": "string", "minLength": 1})


def base_url() -> Checked:
    """Accept the address of the API."""
    schema = {"type": "string", "pattern": r"^(https?://|\$\{)"}
    return Checked(check=places.read_base_url, schema=schema)


def template() -> Checked:
    """Accept an output name template."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise ValueRefusedError(f"must be a template, not {shown(value)}; put it in quotes")
        if problems := naming.find_problems(value):
            raise ValueRefusedError(*problems)
        return value

    schema = {
        "type": "string", "maxLength": naming.TEMPLATE_CHARACTERS_MAX, "pattern": r"\.\{ext\}$"
    }  # fmt: skip
    return _checked(check, schema)


def mode() -> Checked:
    """Accept a file's permissions in octal digits, as text; nothing that gives privileges."""

    def check(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
            return int(value, 8)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 777:  # noqa: PLR2004 - three digits
            raise ValueRefusedError(f'must be octal digits in quotes; write "0{value:03}"')
        raise ValueRefusedError(
            f'must be three octal digits in quotes, such as "0664", not {shown(value)}'
        )

    return _checked(check, {"type": "string", "pattern": "^0?[0-7]{3}$"})


def patterns(*, least: int = 1) -> Checked:
    """Accept one glob or a list of `least` and more; they become a tuple."""

    def check(value: object) -> tuple[str, ...]:
        globs = () if value == [] and least == 0 else _one_or_more(value, "pattern")
        for pattern in globs:
            if not 1 <= len(pattern) <= rules.PATTERN_CHARACTERS_MAX:
                raise ValueRefusedError(
                    f"a pattern has 1 to {rules.PATTERN_CHARACTERS_MAX:,} characters, "
                    f"not {len(pattern):,}"
                )
        return globs

    return _checked(check, _one_or_more_schema({"type": "string", "minLength": 1}, least))


def formats() -> Checked:
    """Accept one image format or a list of them; they become a tuple of canonical names."""

    def check(value: object) -> tuple[str, ...]:
        names = tuple(map(rules.canonical_format, _one_or_more(value, "format")))
        for format_name in names:
            if format_name not in rules.FORMATS:
                hint = nearest(format_name, rules.FORMATS)
                known = hint or f"; there are {', '.join(rules.FORMATS)}"
                raise ValueRefusedError(f"{shown(format_name)} is no known format{known}")
        return names

    words = [*rules.FORMATS, *rules.FORMAT_ALIASES]
    return _checked(check, _one_or_more_schema({"type": "string", "enum": words}))


def check_mapping(value: object) -> Mapping[str, object]:
    """Return a mapping, or raise ValueRefusedError."""
    if isinstance(value, Mapping):
        return value
    raise ValueRefusedError(f"must be a mapping (key: value), not {shown(value)}")


def _one_or_more(value: object, word: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not 1 <= len(items) <= LIST_ITEMS_MAX:
        raise ValueRefusedError(f"must have 1 to {LIST_ITEMS_MAX:,} items, not {len(items):,}")
    for item in items:
        if not isinstance(item, str):
            raise ValueRefusedError(
                f"must be one {word} or a list of them, and {shown(item)} is none"
            )
    return tuple(items)


def _one_or_more_schema(item: Mapping[str, object], least: int = 1) -> dict[str, object]:
    return {"anyOf": [item, {"type": "array", "minItems": least, "items": item}]}
