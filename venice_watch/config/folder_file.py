"""The small file that may lie in an inbox (`.venice-watch.yaml`): a preset and parameters.

Rules: whoever may drop images may write it, so it can choose among what the configuration offers
and set parameters within the API's limits, and nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from venice_watch.config import nodes, report
from venice_watch.config.findings import Finding
from venice_watch.config.presets import ANYTHING_GOES
from venice_watch.errors import ConfigError
from venice_watch.parameters import NAMES, Parameters, find_problems, merged, nearest, quoted, shown

NAME = ".venice-watch.yaml"
TEXT_BYTES_MAX = 65_536  # it has at most seven keys, one of them a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFile:
    """What an inbox asks for: `preset` instead of the folder's, `parameters` laid over it."""

    preset: str | None
    parameters: Mapping[str, object]  # API names; null takes a value away


def loads(text: str, where: Path | str, presets: Mapping[str, Parameters]) -> FolderFile:
    """Check the text of a folder file; raises ConfigError with every problem."""
    document = nodes.parse(text, size_bytes_max=TEXT_BYTES_MAX)
    root = {} if document.value is None else document.value
    if document.unreadable or not isinstance(root, dict):
        message = "must be a mapping (key: value), such as scale: 4"
        findings = () if document.unreadable else (Finding(path=(), message=message),)
        raise ConfigError(report.problems(document, findings, where))
    if found := report.problems(document, _find(root, presets), where):
        raise ConfigError(found)
    parameters = {key: value for key, value in root.items() if key != "preset"}
    return FolderFile(preset=root.get("preset"), parameters=MappingProxyType(parameters))


def _find(root: Mapping[str, object], presets: Mapping[str, Parameters]) -> Iterator[Finding]:
    name = root.get("preset")
    beneath: Mapping[str, object] = ANYTHING_GOES
    if isinstance(name, str) and name in presets:
        beneath = presets[name].as_mapping()
    elif isinstance(name, str):
        hint = nearest(name, presets) or "; ask for one in the configuration"
        yield Finding(path=("preset",), message=f"there is no preset {quoted(name)}{hint}")
    elif name is not None:
        message = f"must be the name of a preset, not {shown(name)}"
        yield Finding(path=("preset",), message=message)
    parameters = {key: value for key, value in root.items() if key != "preset"}
    for key, message in find_problems(merged(beneath, parameters)):
        if key not in NAMES:
            known = ("preset", *NAMES)
            hint = nearest(key, known) or f"; there are {', '.join(known)}"
            yield Finding(path=(key,), message=f"unknown key{hint}", on_key=True)
        else:
            yield Finding(path=(key,), message=message)
