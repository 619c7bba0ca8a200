"""What can be asked of the API for one image: the parameters, their limits, their price.

Rules: names are the API's own wherever a user or a server sees them; a parameter that is not set is
never sent; every mistake of a set is found at once, before anything is paid for. The figures are
Venice's documentation of `POST /image/upscale`, as read in July 2026.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Self

PIXELS_MIN = 65_536  # of an image: 256 x 256, the documented minimum
SIDE_MIN_PX = 64  # of an image: not documented, but clients report a refusal below it
RESULT_PIXELS_MAX = 16_777_216  # of a result: 4096 x 4096, the documented maximum
UPLOAD_BYTES_MAX = 25_000_000  # "25 MB", read the careful way
PROMPT_CHARACTERS_MAX = 1_500  # of `enhancePrompt`, documented

PRICE_2X_MICROUSD = 20_000  # up to and including twofold, enhancing alone included
PRICE_4X_MICROUSD = 80_000  # anything above twofold
PRICES: Mapping[str, int] = MappingProxyType({"2x": PRICE_2X_MICROUSD, "4x": PRICE_4X_MICROUSD})

SCALE_DEFAULT = 2.0  # documented
SCALE_TWOFOLD = 2  # the last scale at the lower price, and the smallest of the newer contract

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "scale": (1, 4),
        "enhanceCreativity": (0, 1),
        "replication": (0, 1),
        "creativity": (0, 0.02),  # the server clamps silently; we would rather say so
    }
)

_ATTRIBUTES = MappingProxyType(
    {
        "scale": "scale",
        "enhance": "enhance",
        "enhanceCreativity": "enhance_creativity",
        "enhancePrompt": "enhance_prompt",
        "replication": "replication",
        "creativity": "creativity",
    }
)
NAMES = tuple(_ATTRIBUTES)

SHOWN_CHARACTERS_MAX = 60  # of a value in a message: enough to find it, too little to flood a log
SHOWN_BITS_MAX = 128  # of a whole number in a message; longer ones are described
_TOKEN = re.compile(r"[A-Za-z0-9_\-.+=~]{24,}")  # the alphabet and the least length of API keys


class Contract(StrEnum):
    """Which of the endpoint's two published sets of parameters a server understands."""

    ENHANCE = "enhance"
    CREATIVITY = "creativity"


_LACKED = MappingProxyType(
    {
        Contract.ENHANCE: ("creativity",),
        Contract.CREATIVITY: ("enhance", "enhanceCreativity", "enhancePrompt", "replication"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """One checked set of parameters; None means not set, and not sent."""

    scale: float = SCALE_DEFAULT
    enhance: bool | None = None
    enhance_creativity: float | None = None
    enhance_prompt: str | None = None
    replication: float | None = None
    creativity: float | None = None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """Build from API names and values in which `find_problems` finds nothing."""
        return cls(
            **{
                _ATTRIBUTES[name]: _typed(name, value)
                for name, value in mapping.items()
                if value is not None
            }  # type: ignore[arg-type]  # find_problems has seen to the types
        )

    def as_mapping(self) -> dict[str, bool | int | float | str]:
        """Return what is set, by API names, the scale always; whole numbers as ints."""
        values = {name: getattr(self, attribute) for name, attribute in _ATTRIBUTES.items()}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    def to_fields(self) -> dict[str, str]:
        """Return the text parts of a multipart body."""
        return {name: _text(value) for name, value in self.as_mapping().items()}

    def canonical(self) -> str:
        """Return JSON text that is the same for equal sets."""
        return json.dumps(self.as_mapping(), sort_keys=True, separators=(",", ":"))

    def identity(self) -> str:
        """Return text that is the same for equal work: part of what paid work is known by."""
        # `enhance: false` is documented as what applies without it
        return replace(self, enhance=self.enhance or None).canonical()

    def unsupported(self, contract: Contract) -> tuple[str, ...]:
        """Return the API names of what is set here and a server of `contract` does not know."""
        present = self.as_mapping()
        lacked = tuple(name for name in _LACKED[contract] if name in present)
        if contract is Contract.CREATIVITY and self.scale < SCALE_TWOFOLD:
            return ("scale", *lacked)
        return lacked

    def without(self, names: Iterable[str]) -> Self:
        """Return a copy with the parameters of these API names not set."""
        changes = {_ATTRIBUTES[name]: SCALE_DEFAULT if name == "scale" else None for name in names}
        return replace(self, **changes)  # type: ignore[arg-type]  # one mapping, several types


def price_microusd(scale: float, prices: Mapping[str, int] = PRICES) -> int:
    """Return the price of one image at its effective scale, in millionths of a USD.

    `prices` by the API's names: `{**PRICES, **(the API's), **(the configuration's)}`.
    """
    return prices["2x" if scale <= SCALE_TWOFOLD else "4x"]


def merged(*layers: Mapping[str, object]) -> dict[str, object]:
    """Lay mappings of parameters over each other, the last on top; its null means not set."""
    result: dict[str, object] = {}
    for layer in layers:
        result.update(layer)
    return result


def find_problems(mapping: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return every mistake of one whole set, as (API name, what is wrong and what to do)."""
    found = [
        (name, message)
        for name, value in mapping.items()
        if (message := _find_problem(name, value)) is not None
    ]
    wrong = {name for name, _ in found}
    if not wrong & {"scale", "enhance"} and _stands_still(mapping):
        message = (
            "1 changes nothing unless the image is enhanced; "
            "set `enhance: true` as well, or a scale above 1"
        )
        found.append(("scale", message))
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a ready "; did you mean `x`?" for a mistyped word, or nothing."""
    by_folded = {name.casefold(): name for name in known}
    folded = word[:SHOWN_CHARACTERS_MAX].casefold()  # difflib is quadratic
    near = difflib.get_close_matches(folded, by_folded, n=1)
    return f"; did you mean `{by_folded[near[0]]}`?" if near else ""


def quoted(text: str) -> str:
    """Return a name, or another text that is no secret, as a message may show it."""
    short = text[:SHOWN_CHARACTERS_MAX]
    return repr(short) + ("..." if short != text else "")


def shown(value: object) -> str:
    """Return a value as a message may show it: short, printable, and never an API key."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > SHOWN_BITS_MAX:
            return "a number of very many digits"
        case int() | float():
            return str(value)
        case str() if looks_like_key(value):
            return "a text that may be a key (not shown)"
        case str():
            return quoted(value)
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def looks_like_key(text: str) -> bool:
    """Say whether a text holds what could be an API key: a long token of letters and digits."""
    return any(
        any(map(str.isdigit, token)) and any(map(str.isalpha, token))
        for token in _TOKEN.findall(text)
    )


def _find_problem(name: str, value: object) -> str | None:
    if name not in _ATTRIBUTES:
        known = ", ".join(NAMES)
        return f"unknown parameter{nearest(str(name), NAMES) or f'; the API has {known}'}"
    if value is None:
        return None
    if name == "enhance":
        return _find_flag_problem(value)
    if name == "enhancePrompt":
        return _find_prompt_problem(value)
    return _find_number_problem(value, *RANGES[name])


def _find_flag_problem(value: object) -> str | None:
    if isinstance(value, bool) or value in ("true", "false"):
        return None
    return f"must be true or false, not {shown(value)}"


def _find_prompt_problem(value: object) -> str | None:
    if not isinstance(value, str):
        return f"must be text, not {shown(value)}; put it in quotes"
    if len(value) > PROMPT_CHARACTERS_MAX:
        return (
            f"has {len(value):,} characters, and Venice allows {PROMPT_CHARACTERS_MAX:,}; "
            f"shorten it by {len(value) - PROMPT_CHARACTERS_MAX:,}"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair in it and cannot be sent; write the character itself"
    return None


def _find_number_problem(value: object, low: float, high: float) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = "; take the quotes off" if isinstance(value, str) and _is_number(value) else ""
        return f"must be a number from {low:g} to {high:g}, not {shown(value)}{hint}"
    if not low <= value <= high:
        return f"{shown(value)} is outside {low:g} to {high:g}; choose a number within"
    return None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}", text) is not None


def _stands_still(mapping: Mapping[str, object]) -> bool:
    return mapping.get("scale") == 1 and mapping.get("enhance") not in (True, "true")


def _typed(name: str, value: object) -> bool | float | str:
    match value:
        case bool():
            return value
        case int() | float():
            return float(value)
        case "true" | "false" if name == "enhance":  # a prompt may be any word
            return value == "true"
        case str():
            return value
    raise AssertionError(value)


def _plain(value: bool | float | str) -> bool | int | float | str:  # noqa: FBT001 - any value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: bool | float | str) -> str:  # noqa: FBT001 - any value
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{Decimal(repr(value)):f}"  # never 1e-05
        case _:
            return str(value)
