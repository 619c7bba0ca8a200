"""The example configuration works, is complete, and explains every key."""

import re
from pathlib import Path
from typing import Any

import pytest

from venice_watch.config import nodes, schema
from venice_watch.config.findings import KeyPath
from venice_watch.config.load import load, loads
from venice_watch.parameters import price_microusd

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
DOCUMENT = nodes.parse(TEXT)
SCHEMA: dict[str, Any] = schema.schema()


def keys(node: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return every key of a schema, by the keys above it, without indices and preset names."""
    if "$ref" in node:
        return keys(SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[1]], path)
    found = set[tuple[str, ...]]()
    for key, inner in node.get("properties", {}).items():
        found |= {(*path, key)} | keys(inner, (*path, key))
    for inner in (node.get("items"), node.get("additionalProperties")):
        if isinstance(inner, dict):
            found |= keys(inner, path)
    return found


def present() -> set[tuple[str, ...]]:
    """Return every key of the example, by the same names."""
    return {plain(path) for path in DOCUMENT.keys}


def plain(path: KeyPath) -> tuple[str, ...]:
    """Leave the indices and preset names out of a path."""
    steps = [step for step in path if isinstance(step, str)]
    if steps[0] == "presets":
        steps[1:2] = []
    return tuple(steps)


# A rule may set any parameter; the presets show and explain them all.
SET = {path for path in keys(SCHEMA) if path[:3] == ("folders", "rules", "set") and path[3:]}


def test_loads(tmp_path: Path) -> None:
    """The example is a valid configuration, and one may copy it as it is."""
    copy = tmp_path / "venice-watch.yaml"
    copy.write_text(TEXT, encoding="utf-8")
    copy.chmod(0o644)
    config = load(copy, environment={})
    assert [folder.name for folder in config.folders] == ["photos"]
    assert config.folders[0].inbox.is_relative_to("/srv/photos")


def test_modeline() -> None:
    """Editors find the schema by the first line."""
    assert TEXT.splitlines()[0] == "# yaml-language-server: $schema=./schema.json"
    assert (EXAMPLE.parent / "schema.json").is_file()


def test_complete() -> None:
    """Every key that is accepted is in the example, and no other."""
    accepted = keys(SCHEMA)
    assert accepted - present() - SET == set()
    assert present() - accepted == set()


@pytest.mark.parametrize("path", sorted(present() - SET), ids=".".join)
def test_explained(path: tuple[str, ...]) -> None:
    """Where a key stands for the first time it has a comment beside it or above it."""
    lines = TEXT.splitlines()
    places = [mark.line - 1 for at, mark in DOCUMENT.keys.items() if plain(at) == path]
    assert any(_is_explained(lines, place) for place in places)


@pytest.mark.parametrize(
    "path", [("api", "on_in_doubt"), ("folders", "oversize"), ("folders", "originals")]
)
def test_choices_are_listed(path: tuple[str, str]) -> None:
    """For a closed choice the example says what can be chosen."""
    section = SCHEMA["$defs"]["Api" if path[0] == "api" else "Folder"]
    [line] = [i for i, text in enumerate(TEXT.splitlines()) if re.match(rf" +{path[1]}: ", text)]
    above = "\n".join(TEXT.splitlines()[line - 5 : line])
    assert all(word in above for word in section["properties"][path[1]]["enum"])


def test_states_the_defaults() -> None:
    """What the example shows as a default is the default."""
    config = loads(TEXT, EXAMPLE, {})
    [folder] = config.folders
    smallest = loads(
        "state_dir: /s\npresets: {photo: {}}\nfolders: [{name: photos, inbox: /i, outbox: /o, "
        "quarantine: /q, archive: /a, preset: photo}]",
        EXAMPLE,
        {},
    )
    [bare] = smallest.folders
    shown_only = {"inbox", "outbox", "quarantine", "archive", "rules", "concurrency", "budget"}
    assert folder.model_dump(exclude=shown_only) == bare.model_dump(exclude=shown_only)
    of_the_api = {"key_file", "prices"}
    assert config.api.model_dump(exclude=of_the_api) == smallest.api.model_dump(exclude=of_the_api)
    assert config.keep_results == smallest.keep_results
    assert config.api.prices.twofold_microusd == price_microusd(2)
    assert config.api.prices.fourfold_microusd == price_microusd(4)


def _is_explained(lines: list[str], place: int) -> bool:
    if " # " in lines[place]:
        return True
    return place > 0 and lines[place - 1].lstrip().startswith("#")
