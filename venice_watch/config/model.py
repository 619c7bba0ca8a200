"""The configuration as values: one frozen model a section, each key with what it means.

Rules: a key of the file and its meaning stand here once, and the JSON Schema and the messages are
made from it; attributes carry their units, keys are the user's (`rescan` becomes `rescan_s`).
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from venice_watch.config import fields
from venice_watch.config.fields import Converted, Documented
from venice_watch.config.units import parse_duration
from venice_watch.parameters import PROMPT_CHARACTERS_MAX, RANGES, Parameters
from venice_watch.rules import Match, Rule

BASE_URL = "https://api.venice.ai/api/v1"
FOLDERS_MAX = 256  # each has its own observer; more would not be watched well
_COUNT_MAX = 1_000_000_000_000  # of pixels or bytes in a rule: beyond any image


class ContractChoice(StrEnum):
    """Which contract the server has, or to find out."""

    AUTO = "auto"
    ENHANCE = "enhance"
    CREATIVITY = "creativity"


class OnInDoubt(StrEnum):
    """What to do when a request may have been paid for and no result came."""

    RESEND_ONCE = "resend-once"
    HOLD = "hold"


class Originals(StrEnum):
    """What becomes of an original after success."""

    ARCHIVE = "archive"
    DELETE = "delete"
    KEEP = "keep"


class Watch(StrEnum):
    """How a folder is observed."""

    AUTO = "auto"
    NATIVE = "native"
    POLLING = "polling"


class UnknownFiles(StrEnum):
    """What becomes of files that are no images by ending or content."""

    IGNORE = "ignore"
    QUARANTINE = "quarantine"


class OnUnsupported(StrEnum):
    """What to do about a parameter that the server's contract does not have."""

    HOLD = "hold"
    DROP = "drop"


class Oversize(StrEnum):
    """What to do when a result would be larger than Venice allows."""

    REDUCE = "reduce"
    CLAMP = "clamp"
    REJECT = "reject"


class OnConflict(StrEnum):
    """What to do when a result's name is taken in the outbox."""

    RENAME = "rename"
    OVERWRITE = "overwrite"
    SKIP = "skip"


class Section(BaseModel):
    """What every section has in common: nothing unknown, nothing changeable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _seconds(alias: str, default: str, description: str) -> Any:  # noqa: ANN401 - a field's default
    return Field(
        default=parse_duration(default),
        alias=alias,
        description=description,
        json_schema_extra={"default": default},
    )


class Timeouts(Section):
    """How long a request may take."""

    connect_s: Annotated[float, fields.duration("10ms", "1h")] = _seconds(
        "connect", "10s", "To reach the server."
    )
    write_s: Annotated[float, fields.duration("10ms", "1h")] = _seconds(
        "write", "60s", "Without a byte of the image going out."
    )
    read_s: Annotated[float, fields.duration("10ms", "1h")] = _seconds(
        "read", "180s", "Without a byte of the answer coming in; Venice thinks before the first."
    )
    total_s: Annotated[float, fields.duration("10ms", "1d")] = _seconds(
        "total", "300s", "For the whole request."
    )


class Retries(Section):
    """How often and how patiently a request is tried again."""

    attempts: Annotated[int, fields.whole(1, 100)] = Field(
        default=6, description="Requests for one image, the first included, before it is given up."
    )
    base_s: Annotated[float, fields.duration("1ms", "1h")] = _seconds(
        "base", "1s", "The first wait; each next may be twice as long, by chance shorter."
    )
    max_s: Annotated[float, fields.duration("1ms", "1d")] = _seconds(
        "max", "2m", "The longest wait between two attempts."
    )


class Api(Section):
    """The Venice API: where, with which key, how fast."""

    base_url: Annotated[str, fields.base_url()] = Field(
        default=BASE_URL,
        description="The API's address; https, or http on this machine. ${VAR} is expanded.",
    )
    key_file: Annotated[Path | None, fields.key_file()] = Field(
        default=None,
        description="File that holds the API key. Without it: $CREDENTIALS_DIRECTORY/"
        "venice-api-key, VENICE_API_KEY_FILE, VENICE_API_KEY. The key itself is refused here.",
    )
    contract: Annotated[ContractChoice, fields.choice(ContractChoice)] = Field(
        default=ContractChoice.AUTO,
        description="Which parameters the server knows: `auto` asks it (free of charge), "
        "`enhance` and `creativity` are the two published contracts.",
    )
    concurrency: Annotated[int, fields.whole(1, 64)] = Field(
        default=4, description="Requests in flight at most, all folders together."
    )
    requests_per_minute: Annotated[int | None, fields.whole(1, 6_000, word="auto")] = Field(
        default=None,
        description="`auto` (what the API says) or a number.",
        json_schema_extra={"default": "auto"},
    )
    on_in_doubt: Annotated[OnInDoubt, fields.choice(OnInDoubt)] = Field(
        default=OnInDoubt.RESEND_ONCE,
        description="When a request may have been paid for and no result came: `resend-once` "
        "risks paying twice for that image, once; `hold` puts it into quarantine.",
    )
    timeouts: Timeouts = Field(
        default_factory=Timeouts, description="Limits to the time a request takes."
    )
    retries: Retries = Field(
        default_factory=Retries, description="How often, how patiently to try again."
    )


class Output(Section):
    """How results are written."""

    name: Annotated[str, fields.template()] = Field(
        default="{stem}.{ext}",
        description="The results' file names: {stem} {scale} {preset} {width} {height} {date} "
        "{counter} {source_ext} {ext}; must end with .{ext}.",
    )
    on_conflict: Annotated[OnConflict, fields.choice(OnConflict)] = Field(
        default=OnConflict.RENAME,
        description="When the name is taken: `rename` (a-1.png), `overwrite`, or `skip`.",
    )
    mode: Annotated[int, fields.mode()] = Field(
        default=0o664,
        description='Permissions of the results, octal and in quotes: "0664".',
        json_schema_extra={"default": "0664"},
    )


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


def _to_rule(section: RuleSection) -> Rule:
    conditions = {key: getattr(section.match, key) for key in MatchSection.model_fields}
    return Rule(
        match=Match(**conditions),
        preset=section.preset,
        set=MappingProxyType(dict(section.set)),
        skip=section.skip,
    )


class Folder(Section):
    """One inbox and where its images go."""

    name: Annotated[str, fields.name()] = Field(
        description="A short name for commands and messages: letters, digits, `-`, `_`, `.`, space."
    )
    inbox: Annotated[Path, fields.path()] = Field(description="The folder to watch.")
    outbox: Annotated[Path, fields.path()] = Field(description="Where results appear.")
    quarantine: Annotated[Path, fields.path()] = Field(
        description="Where images that failed are put, each with a report beside it."
    )
    archive: Annotated[Path | None, fields.path()] = Field(
        default=None, description="Where originals go; required with `originals: archive`."
    )
    originals: Annotated[Originals, fields.choice(Originals)] = Field(
        default=Originals.ARCHIVE,
        description="After success: `archive`, `delete`, or `keep` (leave in place, remember).",
    )
    recursive: Annotated[bool, fields.flag()] = Field(
        default=True, description="Watch sub-folders too; they are mirrored wherever files go."
    )
    preset: Annotated[str, fields.text()] = Field(
        description="The preset that applies when no rule does."
    )
    rules: tuple[Annotated[Rule, Converted(like=RuleSection, convert=_to_rule)], ...] = Field(
        default=(), description="What to do with which images; the first match wins."
    )
    folder_presets: Annotated[bool, fields.flag()] = Field(
        default=False,
        description="Let a `.venice-watch.yaml` in the inbox (and below) set preset and "
        "parameters.",
    )
    concurrency: Annotated[int | None, fields.whole(1, 64)] = Field(
        default=None, description="Requests in flight for this folder, within api.concurrency."
    )
    priority: Annotated[int, fields.whole(-100, 100)] = Field(
        default=0, description="Folders with a higher one are served first."
    )
    watch: Annotated[Watch, fields.choice(Watch)] = Field(
        default=Watch.AUTO,
        description="`auto`, `native` (the kernel's events), or `polling` (network shares).",
    )
    rescan_s: Annotated[float, fields.duration("1s", "1d")] = _seconds(
        "rescan", "30s", "How often the whole inbox is looked through, whatever events said."
    )
    settle_s: Annotated[float, fields.duration("50ms", "1d")] = _seconds(
        "settle", "2s", "How long a file must not change before it counts as complete."
    )
    incomplete_after_s: Annotated[float, fields.duration("1s", "30d")] = _seconds(
        "incomplete_after",
        "10m",
        "How long to wait for the rest of a file whose end is missing.",
    )
    unknown_files: Annotated[UnknownFiles, fields.choice(UnknownFiles)] = Field(
        default=UnknownFiles.IGNORE,
        description="Files that are no images: `ignore` (left alone, counted) or `quarantine`.",
    )
    on_unsupported: Annotated[OnUnsupported, fields.choice(OnUnsupported)] = Field(
        default=OnUnsupported.HOLD,
        description="A parameter the server does not know: `hold` the folder, or `drop` it.",
    )
    oversize: Annotated[Oversize, fields.choice(Oversize)] = Field(
        default=Oversize.REDUCE,
        description="A result above Venice's 16.8 megapixels: `reduce` (shrink the source), "
        "`clamp` (lower the scale), or `reject`.",
    )
    output: Output = Field(
        default_factory=Output, description="The results' names and permissions."
    )


def _as_resolved(value: object) -> object:
    """Pass presets that `presets.resolve` has made; pydantic has nothing to add."""
    return value


class ConfigFile(Section):
    """The whole configuration, as a file may state it."""

    api: Api = Field(default_factory=Api, description="The Venice API: where, which key, how fast.")
    state_dir: Annotated[Path, fields.path()] = Field(
        description="Journal and spool; on a local disk, outside every inbox."
    )
    presets: Annotated[
        Mapping[str, Parameters], Documented(check=_as_resolved, like=dict[str, PresetSection])
    ] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="Sets of parameters by name.",
        json_schema_extra={"default": {}},
    )
    folders: tuple[Folder, ...] = Field(
        description="The inboxes to watch; at least one.",
        json_schema_extra={"minItems": 1, "maxItems": FOLDERS_MAX},
    )


class Config(ConfigFile):
    """A checked configuration and the file it came from."""

    path: Path
