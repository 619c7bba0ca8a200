"""The running daemon asked without the configuration being read whole.

To load and check that takes several times as long as the daemon's answer. All that is needed of it
is where the socket is; whatever is not as plain as can be is left to the long way.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from venice_watch.cli.options import find_config
from venice_watch.errors import VeniceWatchError

TEXT_BYTES_MAX = 1_000_000
_PLAIN = r"""("[^"\\$\n]+"|'[^'$\n]+'|[A-Za-z0-9/._][A-Za-z0-9/._-]*)"""
_STATE_DIR = re.compile(rf"^state_dir:[ \t]+{_PLAIN}[ \t]*(?:[ \t]#.*)?$", re.MULTILINE)


def ask_quickly(config_path: Path | None, request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return a running daemon's answer, or None where it cannot be had in this way."""
    from venice_watch.service.asking import ask

    try:
        path = find_config(config_path)
        with path.open(encoding="utf-8") as file:
            found = _STATE_DIR.findall(file.read(TEXT_BYTES_MAX))
        if len(found) != 1:
            return None
        return ask(path.absolute().parent / found[0].strip("\"'"), request)
    except (OSError, ValueError, VeniceWatchError):
        return None
