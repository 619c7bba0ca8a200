"""How results are written: their names, their format, and what they keep of the original."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from venice_watch.config import fields
from venice_watch.config.fields import LIST_ITEMS_MAX, Checked
from venice_watch.config.findings import ValueRefusedError
from venice_watch.config.section import Section
from venice_watch.parameters import nearest, shown

TIMES = "times"  # the one kind that no picture holds: the file's own time
METADATA_KINDS = ("exif", "xmp", "iptc", "icc", "dpi", "texts", TIMES)
KEEP, STRIP = "keep", "strip"
_COLOUR = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


class OnConflict(StrEnum):
    """What to do when a result's name is taken in the outbox."""

    RENAME = "rename"
    OVERWRITE = "overwrite"
    SKIP = "skip"


class OutputFormat(StrEnum):
    """Which file format results are written in."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"
    TIFF = "tiff"
    SOURCE = "source"


class Gps(StrEnum):
    """What to do with where a picture was taken."""

    KEEP = "keep"
    REMOVE = "remove"


class Dpi(StrEnum):
    """What to do with the resolution that a picture is to be printed at."""

    KEEP = "keep"
    SCALE = "scale"


def metadata_kinds() -> Checked:
    """Accept `keep`, `strip` (which becomes None), or a list of kinds; they become a set."""

    def check(value: object) -> frozenset[str] | None:
        if value == STRIP:
            return None
        if value == KEEP:
            return frozenset(METADATA_KINDS)
        if not isinstance(value, list) or not 1 <= len(value) <= LIST_ITEMS_MAX:
            known = ", ".join(METADATA_KINDS)
            hint = nearest(value, (KEEP, STRIP)) if isinstance(value, str) else ""
            raise ValueRefusedError(
                f"must be `keep`, `strip` or a list of {known}, not {shown(value)}{hint}"
            )
        for kind in value:
            if kind not in METADATA_KINDS:
                hint = nearest(kind, METADATA_KINDS) if isinstance(kind, str) else ""
                hint = hint or f"; there are {', '.join(METADATA_KINDS)}"
                raise ValueRefusedError(f"{shown(kind)} is no kind of metadata{hint}")
        return frozenset(value)

    kinds = {"type": "array", "minItems": 1, "items": {"enum": list(METADATA_KINDS)}}
    word = {"type": "string", "enum": [KEEP, STRIP]}
    return Checked(check=lambda value, _surroundings: check(value), schema={"anyOf": [word, kinds]})


def colour() -> Checked:
    """Accept a colour as `"#rrggbb"`; it becomes red, green and blue."""

    def check(value: object) -> tuple[int, ...]:
        found = _COLOUR.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise ValueRefusedError(
                f'must be a colour such as "#ffffff", in quotes, not {shown(value)}'
            )
        return tuple(int(pair, 16) for pair in found.groups())

    schema = {"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}
    return Checked(check=lambda value, _surroundings: check(value), schema=schema)


class Output(Section):
    """How results are written."""

    name: Annotated[str, fields.template()] = Field(
        default="{stem}.{ext}",
        description="The results' file names: {stem} {scale} {preset} {width} {height} {date} "
        "{counter} {frame} {source_ext} {ext}; must end with .{ext}.",
    )
    on_conflict: Annotated[OnConflict, fields.choice(OnConflict)] = Field(
        default=OnConflict.RENAME,
        description="When the name is taken: `rename` (a-1.png), `overwrite`, or `skip`.",
    )
    format: Annotated[OutputFormat, fields.choice(OutputFormat)] = Field(
        default=OutputFormat.PNG,
        description="`png` (as Venice answers, without loss), `jpeg`, `webp`, `avif`, `tiff`, or "
        "`source`: the original's own where that can be written, else png.",
    )
    quality: Annotated[int, fields.whole(1, 100)] = Field(
        default=92, description="Of jpeg, webp and avif; higher is larger and more faithful."
    )
    metadata: Annotated[frozenset[str] | None, metadata_kinds()] = Field(
        default=frozenset(METADATA_KINDS),
        description="What results keep of the original: `keep` (all), `strip` (nothing but the "
        "colour profile), or a list of exif, xmp, iptc, icc, dpi, texts, times.",
        json_schema_extra={"default": KEEP},
    )
    gps: Annotated[Gps, fields.choice(Gps)] = Field(
        default=Gps.KEEP, description="Where a picture was taken: `keep` or `remove`."
    )
    dpi: Annotated[Dpi, fields.choice(Dpi)] = Field(
        default=Dpi.KEEP,
        description="Print resolution: `keep` the number (prints grow), or `scale` it with the "
        "picture (prints stay as large as they were).",
    )
    provenance: Annotated[bool, fields.flag()] = Field(
        default=True,
        description="Write into each result what made it: program, preset, parameters, scale and "
        "the original's checksum. Never with `metadata: strip`.",
    )
    background: Annotated[tuple[int, int, int], colour()] = Field(
        default=(255, 255, 255),
        description='What transparency is laid on in formats that have none (jpeg): "#ffffff".',
        json_schema_extra={"default": "#ffffff"},
    )
    mode: Annotated[int, fields.mode()] = Field(
        default=0o664,
        description='Permissions of the results, octal and in quotes: "0664".',
        json_schema_extra={"default": "0664"},
    )

    @property
    def stripped(self) -> bool:
        """Tell whether a result says nothing but its colours."""
        return self.metadata is None

    @property
    def kinds(self) -> frozenset[str]:
        """Return the kinds of metadata that a result keeps; `times` is not among them."""
        return frozenset({"icc"}) if self.metadata is None else self.metadata - {TIMES}

    @property
    def keeps_times(self) -> bool:
        """Tell whether a result's file has the time of its original."""
        return self.metadata is not None and TIMES in self.metadata
