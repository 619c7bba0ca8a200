"""Findings to problems: where each stands in the file, what its key is called, in what order.

Rules: a problem is said once; what only follows from an unreadable value is not said at all; the
library's errors are put into our words; a key's value is never among them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from venice_watch.config.findings import Finding, KeyPath, Mark
from venice_watch.config.model import (
    Api,
    BudgetSection,
    ConfigFile,
    Folder,
    Prices,
    Retries,
    Timeouts,
)
from venice_watch.config.nodes import Document
from venice_watch.config.output import Output
from venice_watch.config.outside import ReceiverSection, Web
from venice_watch.config.rule_model import MatchSection, RuleSection
from venice_watch.config.section import Section
from venice_watch.errors import Problem
from venice_watch.parameters import SHOWN_CHARACTERS_MAX, nearest

PROBLEMS_MAX = 1_000  # reported at once; whoever has more wants to see the first

_SECRET_NAMES = frozenset(
    {
        "key", "apikey", "veniceapikey", "venicekey", "token", "apitoken", "accesstoken",
        "authorization", "bearer", "secret", "password", "credential", "credentials",
    }
)  # fmt: skip
# Sections by the keys that lead to them, list indices left out.
_SECTIONS: Mapping[tuple[str, ...], type[Section]] = {
    (): ConfigFile,
    ("api",): Api,
    ("api", "timeouts"): Timeouts,
    ("api", "retries"): Retries,
    ("api", "prices"): Prices,
    ("budget",): BudgetSection,
    ("folders", "budget"): BudgetSection,
    ("folders",): Folder,
    ("folders", "rules"): RuleSection,
    ("folders", "rules", "match"): MatchSection,
    ("folders", "output"): Output,
    ("notify",): ReceiverSection,
    ("web",): Web,
}


def from_validation(error: ValidationError) -> Iterator[Finding]:
    """Yield what pydantic found, in our words."""
    for detail in error.errors(include_url=False, include_input=True):
        if detail["type"] == "value_error":
            for message in detail["ctx"]["error"].args:
                yield Finding(path=detail["loc"], message=message)
        else:
            yield _translate(detail)


def problems(
    document: Document, findings: Iterable[Finding], file: Path | str
) -> tuple[Problem, ...]:
    """Return the problems of a file, in its order, each once."""
    kept = {
        Problem(
            file=str(file),
            line=mark.line,
            column=mark.column,
            key=dotted(finding.path, document.value),
            message=finding.message,
        )
        for finding, mark in _placed(document, findings)
    }
    ordered = sorted(kept, key=lambda it: (it.line, it.column, it.key, it.message))
    if len(ordered) > PROBLEMS_MAX:
        rest = f"... and {len(ordered) - PROBLEMS_MAX:,} more mistakes after this place"
        return (*ordered[:PROBLEMS_MAX], replace(ordered[PROBLEMS_MAX], key="", message=rest))
    return tuple(ordered)


def dotted(path: KeyPath, root: object) -> str:
    """Return the dotted key of a path; a folder goes by its name if it has one."""
    parts = []
    for i, step in enumerate(path):
        named = _folder_name(root, step) if path[:1] == ("folders",) and i == 1 else None
        parts.append(_printable(named if named is not None else str(step)))
    return ".".join(parts)


def _placed(document: Document, findings: Iterable[Finding]) -> Iterator[tuple[Finding, Mark]]:
    for finding in document.findings:
        yield finding, document.mark(finding)
    for finding in findings:
        if not document.hides(finding):
            yield finding, document.mark(finding)


def _folder_name(root: object, step: str | int) -> str | None:
    listed = root.get("folders") if isinstance(root, Mapping) else None
    folder = listed[step] if isinstance(listed, list) and isinstance(step, int) else None
    name = folder.get("name") if isinstance(folder, Mapping) else None
    return name if isinstance(name, str) and name else None


def _printable(text: str) -> str:
    short = text[:SHOWN_CHARACTERS_MAX]
    return short if short.isprintable() else repr(short)


def _translate(detail: ErrorDetails) -> Finding:
    path: KeyPath = detail["loc"]
    match detail["type"]:
        case "missing":
            return Finding(path=path, message="is missing and required; add it")
        case "extra_forbidden":
            return Finding(path=path, message=_explain_unknown(path), on_key=True)
        case "model_type" | "model_attributes_type" | "dict_type":
            given = "a list" if isinstance(detail["input"], list) else "a single value"
            return Finding(path=path, message=f"must be a mapping (key: value), not {given}")
        case "tuple_type" | "list_type":
            return Finding(path=path, message="must be a list; begin each item with `-`")
        case _:
            return Finding(path=path, message=detail["msg"])


def _explain_unknown(path: KeyPath) -> str:
    key = str(path[-1])
    around = tuple(step for step in path[:-1] if isinstance(step, str))
    if around in ((), ("api",)) and re.sub(r"[^a-z]", "", key.lower()) in _SECRET_NAMES:
        return (
            "a key does not belong in the configuration; put it into a file that only the "
            "service may read and name that in api.key_file, or set VENICE_API_KEY; "
            "if others have seen this file, make a new key"
        )
    section = _SECTIONS[around]
    known = [field.alias or name for name, field in section.model_fields.items()]
    hint = nearest(key, known) or f"; there are {', '.join(known)}"
    return f"unknown key{hint}"
