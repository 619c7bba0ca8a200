"""The JSON Schema of the configuration, made from the models, for editors."""

import json
from typing import Any

from venice_watch.config.model import ConfigFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12); `schema.json` in the project is this."""
    made = ConfigFile.model_json_schema(by_alias=True, mode="validation")
    described = _tidied(made)
    described["title"] = "venice-watch configuration"
    return {"$schema": DIALECT, **described}


def text() -> str:
    """Return the schema as the text of `schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _tidied(node: Any) -> Any:  # noqa: ANN401 - any JSON
    """Leave out what the library adds and editors show to nobody's use: titles, null defaults."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _tidied(value) for name, value in inner.items()}
        if key in ("properties", "$defs")
        else _tidied(inner)
        for key, inner in node.items()
        if key != "title" and (key, inner) != ("default", None)
    }
