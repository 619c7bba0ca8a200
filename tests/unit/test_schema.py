"""The JSON Schema that editors use is complete, explained, and what the project ships."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from venice_watch.config import schema
from venice_watch.config.load import loads
from venice_watch.parameters import find_problems

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = schema.schema()
PARAMETERS: dict[str, Any] = SCHEMA["$defs"]["ParametersSection"]["properties"]


def sections() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every section of the schema with its name."""
    yield "(top)", SCHEMA
    yield from SCHEMA["$defs"].items()


def test_the_file_is_current() -> None:
    """`schema.json` is what the models say."""
    assert (ROOT / "schema.json").read_text(encoding="utf-8") == schema.text()
    assert json.loads(schema.text()) == SCHEMA


def test_dialect() -> None:
    """The schema says which dialect it is in."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(("name", "section"), list(sections()))
def test_every_key_is_explained(name: str, section: dict[str, Any]) -> None:
    """Each section refuses unknown keys, and each key says what it means."""
    assert section["additionalProperties"] is False
    for key, entry in section["properties"].items():
        assert len(entry["description"]) >= 10, f"{name}.{key}"


def test_required() -> None:
    """What must be there is required, and nothing else."""
    required = {name: section.get("required", []) for name, section in sections()}
    assert required.pop("(top)") == ["state_dir", "folders"]
    assert required.pop("Folder") == ["name", "inbox", "outbox", "quarantine", "preset"]
    assert required.pop("RuleSection") == ["match"]
    assert not any(required.values())


def test_defaults_are_what_one_would_write() -> None:
    """Defaults are in the file's own notation, and a file that states them all means the same."""
    folder = {
        key: entry["default"]
        for key, entry in SCHEMA["$defs"]["Folder"]["properties"].items()
        if "default" in entry
    }
    assert folder["rescan"] == "30s"
    folder["output"] = _defaults("Output")
    api = _defaults("Api") | {"timeouts": _defaults("Timeouts"), "retries": _defaults("Retries")}
    minimal: dict[str, Any] = {"name": "f", "inbox": "/i", "outbox": "/o", "quarantine": "/q"}
    minimal |= {"archive": "/a", "preset": "p"}
    whole = {"state_dir": "/s", "presets": {"p": {}}, "folders": [minimal]}
    stated = whole | {"api": api, "folders": [folder | minimal]}
    where = Path("/x/c.yaml")
    assert loads(json.dumps(stated), where, {}) == loads(json.dumps(whole), where, {})


@pytest.mark.parametrize("name", ["scale", "enhanceCreativity", "replication", "creativity"])
def test_ranges_agree(name: str) -> None:
    """The schema's ranges are those that are enforced."""
    number = PARAMETERS[name]["anyOf"][0]
    for value, good in [
        (number["minimum"], True), (number["minimum"] - 0.001, False),
        (number["maximum"], True), (number["maximum"] + 0.001, False),
    ]:  # fmt: skip
        assert (find_problems({"enhance": True, name: value}) == []) is good


def test_parameters_agree() -> None:
    """The schema knows the parameters that are accepted, and a preset may also extend."""
    assert find_problems(dict.fromkeys(PARAMETERS)) == []
    preset = SCHEMA["$defs"]["PresetSection"]["properties"]
    assert preset.keys() == PARAMETERS.keys() | {"extends"}


def _defaults(name: str) -> dict[str, Any]:
    properties = SCHEMA["$defs"][name]["properties"]
    return {key: entry["default"] for key, entry in properties.items() if "default" in entry}
