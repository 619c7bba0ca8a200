"""Where the API key comes from: a file, a systemd credential, or the environment; never argv.

The key is never part of a message, and what was read once is remembered for taking it out of
whatever is printed.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from venice_watch.errors import KeyUnusableError
from venice_watch.service.systemd import CREDENTIAL

KEY_BYTES_MAX = 4096  # a key is a line, not a file of something else
_KNOWN: set[str] = set()


def known_keys() -> frozenset[str]:
    """Return the keys that this process has read, and what else must not be seen."""
    return frozenset(_KNOWN)


def remember_secrets(secrets: Iterable[str]) -> None:
    """Take these out of whatever is printed, too."""
    _KNOWN.update(secrets)


def read_key(key_file: Path | None, environment: Mapping[str, str]) -> str:
    """Return the API key; KeyUnusableError says everywhere it was looked for."""
    return find_key(key_file, environment)[0]


def find_key(key_file: Path | None, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the API key and where it was found; see `read_key`."""
    tried = []
    for place in _places(key_file, environment):
        try:
            with place.open("rb") as file:
                text = file.read(KEY_BYTES_MAX)
        except OSError as exc:
            tried.append(f"{place}: {exc.strerror}")
            continue
        return _checked(text.decode("utf-8", "replace"), str(place)), str(place)
    if key := environment.get("VENICE_API_KEY", ""):
        return _checked(key, "VENICE_API_KEY"), "VENICE_API_KEY"
    looked = "; ".join(tried) or "no place for it is configured"
    raise KeyUnusableError(
        f"there is no API key ({looked}). Put it into a file that only venice-watch may read and "
        "name that file in `api.key_file`, or set VENICE_API_KEY_FILE or VENICE_API_KEY."
    )


def _places(key_file: Path | None, environment: Mapping[str, str]) -> Iterator[Path]:
    if key_file is not None:
        yield key_file
    if folder := environment.get("CREDENTIALS_DIRECTORY"):
        yield Path(folder) / CREDENTIAL
    if name := environment.get("VENICE_API_KEY_FILE"):
        yield Path(name)


def _checked(text: str, where: str) -> str:
    key = text.strip()
    if key:
        _KNOWN.add(key)
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise KeyUnusableError(
            f"{where} holds no API key: it must be one line of plain characters without spaces. "
            "Copy the key from Venice's settings page again."
        )
    return key


def readable_by_others(key_file: Path) -> bool:
    """Tell whether a key file may be read by users who are not its owner or group."""
    try:
        return bool(os.stat(key_file).st_mode & 0o004)  # noqa: PTH116 - one word either way
    except OSError:
        return False
