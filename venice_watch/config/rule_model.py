"""Presets and rules as a configuration writes them: which images, and with which parameters."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from venice_watch.config import fields
from venice_watch.config.fields import Documented
from venice_watch.config.section import Section
from venice_watch.parameters import PROMPT_CHARACTERS_MAX, RANGES
from venice_watch.rules import Match, Rule

_COUNT_MAX = 1_000_000_000_000  # of pixels or bytes in a rule: beyond any image


def _limit(description: str) -> Any:  # noqa: ANN401 - a field's default
    return Field(default=None, description=description)


_Count = Annotated[int | None, fields.whole(0, _COUNT_MAX)]


class MatchSection(Section):
    """The conditions of a rule: all that are given must hold."""

    name: Annotated[tuple[str, ...], fields.patterns()] = Field(
        default=(),
        description="Pattern (or list) for the file's name, case ignored; with a `/` in it, for "
        "its path within the inbox, `**` standing for any folders.",
    )
    format: Annotated[tuple[str, ...], fields.formats()] = Field(
        default=(), description="Image format (or list), by content: jpeg, png, webp, gif, ..."
    )
    pixels_min: _Count = _limit("Width times height at least.")
    pixels_max: _Count = _limit("Width times height at most.")
    width_min: _Count = _limit("Width in pixels at least.")
    width_max: _Count = _limit("Width in pixels at most.")
    height_min: _Count = _limit("Height in pixels at least.")
    height_max: _Count = _limit("Height in pixels at most.")
    bytes_min: _Count = _limit("File size in bytes at least.")
    bytes_max: _Count = _limit("File size in bytes at most.")


def _range(name: str) -> dict[str, object]:
    low, high = RANGES[name]
    return {"anyOf": [{"type": "number", "minimum": low, "maximum": high}, {"type": "null"}]}


class ParametersSection(Section):
    """Parameters of the upscaler by the API's own names; null stands for not set.

    Serves the schema only: what may be in it is decided by `parameters.find_problems`.
    """

    scale: float | None = Field(
        default=2,
        description="How much larger, 1 to 4; 1 only with `enhance: true`. Above 2 costs more.",
        json_schema_extra=_range("scale"),  # type: ignore[arg-type]  # plain JSON
    )
    enhance: bool | str | None = Field(
        default=None,
        description="Let the model improve the image (contract `enhance`).",
        json_schema_extra={"anyOf": [{"enum": [True, False, "true", "false"]}, {"type": "null"}]},
    )
    enhance_creativity: float | None = Field(
        default=None,
        alias="enhanceCreativity",
        description="How freely the enhancement may invent, 0 to 1 (contract `enhance`).",
        json_schema_extra=_range("enhanceCreativity"),  # type: ignore[arg-type]  # plain JSON
    )
    enhance_prompt: str | None = Field(
        default=None,
        alias="enhancePrompt",
        max_length=PROMPT_CHARACTERS_MAX,
        description="The style to enhance towards, in a few words (contract `enhance`).",
    )
    replication: float | None = Field(
        default=None,
        description="How much of lines and noise to keep, 0 to 1 (contract `enhance`).",
        json_schema_extra=_range("replication"),  # type: ignore[arg-type]  # plain JSON
    )
    creativity: float | None = Field(
        default=None,
        description="How freely the model may invent, 0 to 0.02 (contract `creativity`).",
        json_schema_extra=_range("creativity"),  # type: ignore[arg-type]  # plain JSON
    )


class PresetSection(ParametersSection):
    """A named set of parameters."""

    extends: str | None = Field(
        default=None, description="Another preset, whose parameters apply where this one has none."
    )


class RuleSection(Section):
    """One rule: which images, and what to do with them."""

    match: MatchSection = Field(description="The images it is for; at least one condition.")
    preset: Annotated[str | None, fields.text()] = Field(
        default=None, description="The preset to use instead of the folder's."
    )
    set: Annotated[
        Mapping[str, object], Documented(check=fields.check_mapping, like=ParametersSection)
    ] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="Parameters to lay over the preset; null takes one away.",
        json_schema_extra={"default": {}},
    )
    skip: Annotated[bool, fields.flag()] = Field(
        default=False, description="Leave these images where they are."
    )


def to_rule(section: RuleSection) -> Rule:
    """Return the rule that a section describes."""
    conditions = {key: getattr(section.match, key) for key in MatchSection.model_fields}
    return Rule(
        match=Match(**conditions),
        preset=section.preset,
        set=MappingProxyType(dict(section.set)),
        skip=section.skip,
    )
