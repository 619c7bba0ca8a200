"""The configuration as values: one frozen model a section, each key with what it means.

Rules: a key of the file and its meaning stand here once, and the JSON Schema and the messages are
made from it; attributes carry their units, keys are the user's (`rescan` becomes `rescan_s`).
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from venice_watch.budget import Limit, Period
from venice_watch.config import fields
from venice_watch.config.fields import Converted, Documented
from venice_watch.config.output import Output
from venice_watch.config.outside import Receiver, ReceiverSection, Web, to_receiver
from venice_watch.config.rule_model import PresetSection, RuleSection, to_rule
from venice_watch.config.section import Section, seconds
from venice_watch.config.units import parse_size
from venice_watch.parameters import Parameters
from venice_watch.rules import Rule

BASE_URL = "https://api.venice.ai/api/v1"
FOLDERS_MAX = 256  # each has its own observer; more would not be watched well


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


class Alpha(StrEnum):
    """What is sent of a picture with transparency."""

    KEEP = "keep"
    FLATTEN = "flatten"


class Duplicates(StrEnum):
    """What to do with an image that was upscaled before, with the same parameters."""

    REUSE = "reuse"
    SKIP = "skip"
    PROCESS = "process"


class Frames(StrEnum):
    """Which frames of an animation, or pages of a document, are upscaled."""

    FIRST = "first"
    ALL = "all"
    REJECT = "reject"


class Timeouts(Section):
    """How long a request may take."""

    connect_s: Annotated[float, fields.duration("10ms", "1h")] = seconds(
        "connect", "10s", "To reach the server."
    )
    write_s: Annotated[float, fields.duration("10ms", "1h")] = seconds(
        "write", "60s", "Without a byte of the image going out."
    )
    read_s: Annotated[float, fields.duration("10ms", "1h")] = seconds(
        "read", "180s", "Without a byte of the answer coming in; Venice thinks before the first."
    )
    total_s: Annotated[float, fields.duration("10ms", "1d")] = seconds(
        "total", "300s", "For the whole request."
    )


class Retries(Section):
    """How often and how patiently a request is tried again."""

    attempts: Annotated[int, fields.whole(1, 100)] = Field(
        default=6, description="Requests for one image, the first included, before it is given up."
    )
    base_s: Annotated[float, fields.duration("1ms", "1h")] = seconds(
        "base", "1s", "The first wait; each next may be twice as long, by chance shorter."
    )
    max_s: Annotated[float, fields.duration("1ms", "1d")] = seconds(
        "max", "2m", "The longest wait between two attempts."
    )


class Prices(Section):
    """What one image costs, in USD by its effective scale."""

    twofold_microusd: Annotated[int | None, fields.usd()] = Field(
        default=None, alias="2x", description="Up to and including scale 2, in USD."
    )
    fourfold_microusd: Annotated[int | None, fields.usd()] = Field(
        default=None, alias="4x", description="Above scale 2, in USD."
    )

    def by_name(self) -> dict[str, int]:
        """Return the prices that are set, in micro-USD by the API's names for them."""
        named = {"2x": self.twofold_microusd, "4x": self.fourfold_microusd}
        return {name: price for name, price in named.items() if price is not None}


class BudgetSection(Section):
    """What may be spent; what is in doubt counts as spent."""

    per_day_microusd: Annotated[int | None, fields.usd()] = Field(
        default=None,
        alias="per_day_usd",
        description="In a day of local time, in USD. Reached: sending waits for the next day.",
    )
    per_month_microusd: Annotated[int | None, fields.usd()] = Field(
        default=None,
        alias="per_month_usd",
        description="In a calendar month, in USD. Reached: sending waits for the next month.",
    )

    def limits(self, folder: str | None) -> tuple[Limit, ...]:
        """Return what is limited, for one folder or (None) for all together."""
        amounts = ((Period.DAY, self.per_day_microusd), (Period.MONTH, self.per_month_microusd))
        return tuple(
            Limit(folder=folder, period=period, microusd=amount)
            for period, amount in amounts
            if amount is not None
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
    prices: Prices = Field(
        default_factory=Prices,
        description="What an image costs, instead of what the API says.",
    )
    timeouts: Timeouts = Field(
        default_factory=Timeouts, description="Limits to the time a request takes."
    )
    retries: Retries = Field(
        default_factory=Retries, description="How often, how patiently to try again."
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
    rules: tuple[Annotated[Rule, Converted(like=RuleSection, convert=to_rule)], ...] = Field(
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
    rescan_s: Annotated[float, fields.duration("1s", "1d")] = seconds(
        "rescan", "30s", "How often the whole inbox is looked through, whatever events said."
    )
    settle_s: Annotated[float, fields.duration("50ms", "1d")] = seconds(
        "settle", "2s", "How long a file must not change before it counts as complete."
    )
    incomplete_after_s: Annotated[float, fields.duration("1s", "30d")] = seconds(
        "incomplete_after",
        "10m",
        "How long to wait for the rest of a file whose end is missing.",
    )
    unknown_files: Annotated[UnknownFiles, fields.choice(UnknownFiles)] = Field(
        default=UnknownFiles.IGNORE,
        description="Files that are no images: `ignore` (left alone, counted) or `quarantine`.",
    )
    skip_names: Annotated[tuple[str, ...], fields.patterns(least=0)] = Field(
        default=(),
        description="Patterns of file and folder names that are left alone, beside the usual ones.",
    )
    take_names: Annotated[tuple[str, ...], fields.patterns(least=0)] = Field(
        default=(),
        description="Patterns of names that are taken although they look hidden or temporary.",
    )
    frames: Annotated[Frames, fields.choice(Frames)] = Field(
        default=Frames.FIRST,
        description="Animated and multi-page files: the `first` frame, `all` of them (a result and "
        "a price each), or `reject`.",
    )
    frames_max: Annotated[int, fields.whole(1, 10_000)] = Field(
        default=100,
        description="With `frames: all`, a file with more goes to quarantine, unpaid.",
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
    alpha: Annotated[Alpha, fields.choice(Alpha)] = Field(
        default=Alpha.KEEP,
        description="A picture with transparency: `keep` (send it so), or `flatten` (lay it on "
        "output.background first).",
    )
    duplicates: Annotated[Duplicates, fields.choice(Duplicates)] = Field(
        default=Duplicates.REUSE,
        description="An image that was upscaled before with these parameters: `reuse` (deliver "
        "the earlier result, free), `skip` (leave it in the inbox), or `process` (pay again).",
    )
    budget: BudgetSection = Field(
        default_factory=BudgetSection, description="What may be spent for this folder."
    )
    output: Output = Field(
        default_factory=Output, description="The results' names, format, metadata and permissions."
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
    keep_results: Annotated[int, fields.size("0", "100TB")] = Field(
        default=parse_size("2GB"),
        description="How much of the latest results is kept in state_dir, so that a duplicate is "
        "free although its result was moved or changed; 0 keeps none.",
        json_schema_extra={"default": "2GB"},
    )
    budget: BudgetSection = Field(
        default_factory=BudgetSection, description="What may be spent, all folders together."
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
    notify: tuple[
        Annotated[Receiver, Converted(like=ReceiverSection, convert=to_receiver)], ...
    ] = Field(default=(), description="Who is told when something needs a person.")
    web: Web = Field(default_factory=Web, description="The web server: for monitoring.")
    metrics_file: Annotated[Path | None, fields.path()] = Field(
        default=None,
        description="File that gets the metrics every minute, for node_exporter's textfile "
        "collector; its name ends with .prom.",
    )


class Config(ConfigFile):
    """A checked configuration and the file it came from."""

    path: Path

    def folders_by_name(self) -> dict[str, Folder]:
        """Return the folders, each under its name."""
        return {folder.name: folder for folder in self.folders}
