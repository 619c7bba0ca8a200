"""A configuration file to a `Config`, or to every mistake in it.

Rules: one pass for the YAML, one for each key by itself, one for the keys together, and nothing
stops before the last; the file is read once and checked for who may write it.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from venice_watch.config import checks, nodes, presets, report
from venice_watch.config.findings import Finding
from venice_watch.config.model import Config, ConfigFile
from venice_watch.config.nodes import Document
from venice_watch.config.places import Surroundings
from venice_watch.errors import ConfigError, Problem

_AS_WRITTEN = ("presets", "set")  # here null means something: the parameter is not set


def load(path: Path, *, environment: Mapping[str, str], uid: int | None = None) -> Config:
    """Read and check a configuration file.

    With `uid` the file must belong to that user or to root. Raises ConfigError with every problem.
    """
    try:
        text, status = _read(path)
    except OSError as exc:
        message = f"cannot be read ({exc.strerror}); `venice-watch init` writes a new one"
        raise _refused(path, message) from exc
    except UnicodeDecodeError as exc:
        raise _refused(path, "is not UTF-8 text; save it as such") from exc
    writers = _find_other_writers(path, status, uid)
    try:
        config = loads(text, path, environment)
    except ConfigError as exc:
        raise ConfigError((*writers, *exc.problems)) from exc
    if writers:
        raise ConfigError(writers)
    return config


def loads(text: str, path: Path, environment: Mapping[str, str]) -> Config:
    """Check a configuration's text; `path` is what relative paths and messages refer to.

    Raises ConfigError with every problem.
    """
    document = nodes.parse(text)
    if document.unreadable:
        raise ConfigError(report.problems(document, (), path))
    if document.empty or document.value is None:
        finding = Finding(path=(), message="is empty; `venice-watch init` writes one to start from")
        raise ConfigError(report.problems(document, (finding,), path))
    root = document.value
    if not isinstance(root, dict):
        finding = Finding(path=(), message="must be a mapping (key: value) at the top")
        raise ConfigError(report.problems(document, (finding,), path))
    surroundings = Surroundings(directory=path.absolute().parent, environment=environment)
    return _build(document, _without_nulls(root), path, surroundings)


def _build(
    document: Document, root: dict[str, object], path: Path, surroundings: Surroundings
) -> Config:
    resolved = presets.resolve(root.get("presets"))
    findings = [*resolved.findings, *checks.find(root, resolved, surroundings)]
    by_name = MappingProxyType(resolved.usable)
    try:
        checked = ConfigFile.model_validate({**root, "presets": by_name}, context=surroundings)
    except ValidationError as exc:
        findings.extend(report.from_validation(exc))
        raise ConfigError(report.problems(document, findings, path)) from None
    if found := report.problems(document, findings, path):
        raise ConfigError(found)
    values = {name: getattr(checked, name) for name in ConfigFile.model_fields}
    return Config.model_construct(path=path, **values)


def _without_nulls(section: dict[str, object]) -> dict[str, object]:
    """Leave out keys without a value (`archive:`): they are not set."""
    return {
        key: value if key in _AS_WRITTEN else _inner_without_nulls(value)
        for key, value in section.items()
        if value is not None
    }


def _inner_without_nulls(value: object) -> object:
    match value:
        case dict():
            return _without_nulls(value)
        case list():
            return [_inner_without_nulls(item) for item in value]
        case _:
            return value


def _read(path: Path) -> tuple[str, os.stat_result]:
    # Without O_NONBLOCK a FIFO would hold us here for ever; it is refused a line later.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - there is a descriptor, not a path
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        data = file.read(nodes.TEXT_BYTES_MAX + 1)
    return data.decode("utf-8-sig"), status


def _find_other_writers(path: Path, status: os.stat_result, uid: int | None) -> tuple[Problem, ...]:
    found = []
    if status.st_mode & stat.S_IWOTH:
        found.append(
            "everybody may write this file, and could send your images elsewhere; chmod o-w"
        )
    if uid is not None and status.st_uid not in (0, uid):
        found.append(
            f"belongs to user {status.st_uid}, who could change it under the service "
            f"(user {uid}); chown it to root or to that user"
        )
    return tuple(Problem(file=str(path), line=1, column=1, key="", message=it) for it in found)


def _refused(path: Path, message: str) -> ConfigError:
    problem = Problem(file=str(path), line=1, column=1, key="", message=message)
    return ConfigError((problem,))
