"""The two contracts of the endpoint: which fields, in which ranges, to which size and price.

Rules: pure; sources are the published schemas, old (`enhance`) and new (`creativity`). The old one
rejects fields it does not know, the new one ignores them without a word. The server lowers the
scale until the result fits, and the price follows the scale that was used.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from venice_watch.simulator.answers import Issue

ContractName = Literal["enhance", "creativity"]

PIXELS_MIN = 65_536
PIXELS_RESULT_MAX = 16_777_216
SIDE_PX_MIN = 64  # the newer contract only
IMAGE_BYTES_MAX = 25_000_000  # "25 MB", read as the smaller of the two meanings
JSON_BYTES_MAX = 35_000_000
PROMPT_CHARS_MAX = 1_500
SCALE_DEFAULT = 2.0
CHEAP_SCALE_MAX = 2.0  # the price of 2x holds up to here, that of 4x above
ISSUES_MAX = 100  # a hostile form has thousands of fields; nobody reads more

Check = Callable[[object], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a valid request asks for."""

    scale: float
    enhance: bool


def find_issues(
    fields: Mapping[str, object], *, contract: ContractName, strict: bool
) -> tuple[Issue, ...]:
    """Return everything wrong with `fields` (`image` apart), in the order of the contract.

    Multipart has no types: its numbers have been through `typed` before they come here.
    """
    checks = CHECKS[contract]
    issues = [
        Issue(field=name, code="invalid", message=message)
        for name, check in checks.items()
        if name in fields and (message := check(fields[name])) is not None
    ]
    if contract == "enhance":
        issues.extend(_scale_issues(fields, found=any(i.field == "scale" for i in issues)))
        unknown = [name for name in fields if name not in checks]
        if unknown and strict:
            names = ", ".join(f"'{name[:100]}'" for name in unknown[:ISSUES_MAX])
            message = f"Unrecognized key(s) in object: {names}"
            issues.append(Issue(field=None, code="unrecognized_keys", message=message))
    return tuple(issues)


def read_parameters(fields: Mapping[str, object]) -> Parameters:
    """Return what fields without issues ask for."""
    scale = fields.get("scale", SCALE_DEFAULT)
    assert isinstance(scale, int | float)
    return Parameters(scale=float(scale), enhance=_boolean(fields.get("enhance", False)) is True)


def typed(text: str) -> object:
    """Return the number that a multipart text stands for, or the text."""
    try:
        return float(text)
    except ValueError:
        return text


def fit(width: int, height: int, scale: float) -> tuple[int, int, float] | None:
    """Return the result's width, height (px) and effective scale; None where nothing fits."""
    scale_max = math.sqrt(PIXELS_RESULT_MAX / (width * height))
    if scale_max < 1:
        return None
    effective = min(scale, scale_max)
    wide, high = max(1, round(width * effective)), max(1, round(height * effective))
    if wide * high > PIXELS_RESULT_MAX:
        wide, high = max(1, int(width * effective)), max(1, int(height * effective))
    return wide, high, effective


def _scale_issues(fields: Mapping[str, object], *, found: bool) -> list[Issue]:
    """Apply the rule that 1 only enhances (after the range: one complaint a field is enough)."""
    if found or fields.get("scale", SCALE_DEFAULT) != 1:
        return []
    if _boolean(fields.get("enhance", False)) is True:
        return []
    message = "Scale must be greater than 1 when enhance is false"
    return [Issue(field="scale", code="custom", message=message)]


def _boolean(value: object) -> bool | None:
    """Return the truth that `value` spells, None if it spells none."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


def _number(least: float, most: float, *, nullable: bool) -> Check:
    def check(value: object) -> str | None:
        if value is None and nullable:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"Expected number, received {_kind(value)}"
        if value < least:
            return f"Number must be greater than or equal to {least:g}"
        if value > most:
            return f"Number must be less than or equal to {most:g}"
        return None if value == value else "Expected number, received nan"  # noqa: PLR0124 - NaN

    return check


def _check_boolean(value: object) -> str | None:
    if _boolean(value) is None:
        return f"Expected boolean, received {_kind(value)}"
    return None


def _check_prompt(value: object) -> str | None:
    if not isinstance(value, str):
        return f"Expected string, received {_kind(value)}"
    if len(value) > PROMPT_CHARS_MAX:
        return f"String must contain at most {PROMPT_CHARS_MAX} character(s)"
    return None


def _kind(value: object) -> str:
    """Return the name that JSON has for a type."""
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


CHECKS: dict[ContractName, dict[str, Check]] = {
    "enhance": {
        "scale": _number(1, 4, nullable=False),
        "enhance": _check_boolean,
        "enhanceCreativity": _number(0, 1, nullable=True),
        "enhancePrompt": _check_prompt,
        "replication": _number(0, 1, nullable=True),
    },
    "creativity": {
        "scale": _number(2, 4, nullable=False),
        "creativity": _number(-math.inf, math.inf, nullable=True),  # clamped, never refused
    },
}
