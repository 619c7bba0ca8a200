"""What every section of the configuration has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from venice_watch.config.units import parse_duration


class Section(BaseModel):
    """What every section has in common: nothing unknown, nothing changeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def seconds(alias: str, default: str, description: str) -> Any:  # noqa: ANN401 - a field's default
    """Return the default of a key that is a duration; its attribute counts seconds."""
    return Field(
        default=parse_duration(default),
        alias=alias,
        description=description,
        json_schema_extra={"default": default},
    )
