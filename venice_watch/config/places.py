"""Folders, files and addresses as a configuration writes them, made absolute and safe.

Rules: relative to the configuration's folder; `${VAR}` and `${VAR:-default}` are expanded here and
nowhere else; messages show what was written, never what a variable holds or who may log in.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from venice_watch.config.findings import ValueRefusedError
from venice_watch.parameters import looks_like_key, shown

PATH_BYTES_MAX = 4_095  # PATH_MAX without its terminating zero
PART_BYTES_MAX = 255  # of one component
ADDRESS_CHARACTERS_MAX = 2_000  # of a base_url

_VARIABLE = re.compile(r"\$\{(?P<inside>[^{}]*)\}?")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)
_KEY_CHARACTERS = re.compile(r"[A-Za-z0-9_\-.+=~]{24,}|Bearer\s.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the words of a configuration are relative to."""

    directory: Path  # absolute
    environment: Mapping[str, str]


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace `${VAR}` and `${VAR:-default}`, which also serves for an empty one."""

    def value(found: re.Match[str]) -> str:
        parts = _INSIDE.fullmatch(found["inside"]) if found[0].endswith("}") else None
        if parts is None:
            raise ValueRefusedError(f"{shown(found[0])} is no variable; write ${{NAME}}")
        name, default = parts["name"], parts["default"]
        held = environment.get(name)
        if default is not None:
            return held or default
        if held is None:
            raise ValueRefusedError(
                f"the variable {shown(name)} is not set; set it, or write ${{NAME:-default}}"
            )
        return held

    return _VARIABLE.sub(value, text)


def read_path(value: object, surroundings: Surroundings) -> Path:
    """Return an absolute path, or raise ValueRefusedError."""
    if not isinstance(value, str):
        raise ValueRefusedError(f"must be a path, not {shown(value)}; put it in quotes")
    if value.startswith("~"):
        raise ValueRefusedError("`~` is not expanded; write the whole path, ${HOME}/..., or ./~...")
    text = expand(value, surroundings.environment)
    if not text:
        raise ValueRefusedError("is empty; write a path")
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError as exc:
        raise ValueRefusedError("is no possible path: half of a surrogate pair is in it") from exc
    if b"\0" in data or "\n" in text:
        raise ValueRefusedError("is no sensible path: a NUL or a line break is in it")
    path = surroundings.directory / text
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise ValueRefusedError(
            f"is longer than the {PATH_BYTES_MAX:,} bytes of a path; shorten it"
        )
    if any(len(os.fsencode(part)) > PART_BYTES_MAX for part in path.parts):
        raise ValueRefusedError(f"has a part of more than {PART_BYTES_MAX} bytes; shorten it")
    return path


def read_key_file(value: object, surroundings: Surroundings) -> Path:
    """Return the path of the file with the key; raise ValueRefusedError if it is the key."""
    if isinstance(value, str) and _KEY_CHARACTERS.fullmatch(value.strip()):
        there = surroundings.directory / value.strip()
        if not os.path.exists(there):  # noqa: PTH110 - Path.exists raises on a name too long
            raise ValueRefusedError(
                "looks like a key, and there is no such file; put the key into a file that only "
                "the service may read, and name that file here (./name, if this is one to come)"
            )
    return read_path(value, surroundings)


def read_base_url(value: object, surroundings: Surroundings) -> str:
    """Return the API's address without a slash at its end, or raise ValueRefusedError."""
    if not isinstance(value, str):
        raise ValueRefusedError(f"must be an address, not {shown(value)}")
    text = expand(value, surroundings.environment)
    if len(text) > ADDRESS_CHARACTERS_MAX:
        raise ValueRefusedError(f"is longer than {ADDRESS_CHARACTERS_MAX:,} characters; shorten it")
    if not text.isprintable() or " " in text or "\\" in text:
        raise ValueRefusedError("contains a space, a backslash or a control character; take it out")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueRefusedError(
            "is no address; write it like https://api.venice.ai/api/v1"
        ) from exc
    if problem := _find_address_problem(parts, host, value):
        raise ValueRefusedError(problem)
    return text.rstrip("/")


def _find_address_problem(parts: SplitResult, host: str | None, written: str) -> str | None:
    if "@" in parts.netloc:
        return "must not contain a user or password; the key has its own place (api.key_file)"
    if parts.query or parts.fragment:
        return "must end with its path; take off what follows `?` or `#`"
    if parts.scheme not in ("http", "https") or not host:
        example = "write it like https://api.venice.ai/api/v1"
        known = "" if looks_like_key(written) else f", and {shown(written)} is not one"
        return f"must be an http or https address{known}; {example}"
    if parts.scheme == "http" and not is_loopback(host):
        return (
            "plain http would send the key readable over the network; "
            "write https:// (http is for this machine only)"
        )
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def real(path: Path) -> Path:
    """Return where a path really leads, whether or not it exists."""
    return Path(os.path.realpath(path))
