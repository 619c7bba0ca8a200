"""The systemd unit for one configuration: the one that is shipped, and a drop-in with its folders.

Rules: pure, and nothing of the key or of the environment is in it. systemd reads its settings in
three ways (lists of paths, a command, a credential's path), and each has its own way of quoting.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from venice_watch.config.model import Config, Folder
from venice_watch.errors import VeniceWatchError
from venice_watch.service.systemd import CREDENTIAL

USER = "venice-watch"
UNIT = "venice-watch.service"
DROP_IN = "50-configuration.conf"  # what `systemctl edit` writes sorts behind it
KEY_FILE = Path("/etc/venice-watch/key")
STATE_PARENT = Path("/var/lib")
HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))  # what ProtectHome= takes away
TEMPORARY = tuple(map(Path, ("/tmp", "/var/tmp")))  # noqa: S108 - what PrivateTmp= takes away
EXAMPLES = ("RequiresMountsFor=/srv/photos", "ReadWritePaths=/srv/photos")
PARTS_MIN = 3  # of a folder that may be writable as a whole: /srv/photos, not /srv


class UnitUnusableError(VeniceWatchError):
    """What systemd cannot be told, or may not be."""

    exit_code = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the unit depends on beside the configuration."""

    program: Path  # the venv's own venice-watch
    runtime: tuple[Path, ...]  # folders that the program is read from
    user: str
    group: str


def read_shipped(name: str) -> str:
    """Return a file that the package ships for systemd."""
    return resources.files(__package__).joinpath("units", name).read_text("utf-8")


def render_files(config: Config, service: Service) -> dict[str, str]:
    """Return {path below the root: text} of everything that makes the service."""
    shipped = read_shipped(UNIT).splitlines(keepends=True)
    # a list of dependencies cannot be emptied by a drop-in: the example must not be there at all
    unit = "".join(line for line in shipped if line.rstrip() not in EXAMPLES)
    files = {
        f"etc/systemd/system/{UNIT}": unit,
        f"etc/systemd/system/{UNIT}.d/{DROP_IN}": render_drop_in(config, service),
    }
    if service.user == USER:
        files["etc/sysusers.d/venice-watch.conf"] = read_shipped("venice-watch.sysusers")
        files["etc/tmpfiles.d/venice-watch.conf"] = read_shipped("venice-watch.tmpfiles")
    return files


def render_drop_in(config: Config, service: Service) -> str:
    """Return the settings of the unit that this configuration decides."""
    own_state = config.state_dir.parent == STATE_PARENT
    others = [] if own_state else [config.state_dir]
    if config.metrics_file is not None:
        others.append(config.metrics_file.parent)
    writable = find_writable(config.folders, others)
    key_file = config.api.key_file or KEY_FILE
    lines = [
        "# Made by `venice-watch service install` from the configuration; run it again when its",
        "# folders have changed. Settings of your own: `systemctl edit venice-watch`.",
        "",
        "[Unit]",
        *(f"RequiresMountsFor={quote_path(path)}" for path in (*writable, config.state_dir)),
        "",
        "[Service]",
        "ExecStart=",
        f"ExecStart={quote_command([service.program, 'run', '--config', config.path])}",
        f"User={service.user}",
        f"Group={service.group}",
        "LoadCredential=",
        f"LoadCredential={CREDENTIAL}:{quote_credential(key_file)}",
        *_state_lines(config.state_dir, own_state=own_state),
        "# Inboxes too, whatever becomes of originals: what fails is moved to the quarantine.",
        *(f"ReadWritePaths={quote_path(path)}" for path in writable),
        *_hidden_lines(writable, (*service.runtime, config.path.parent)),
    ]
    return "\n".join(lines) + "\n"


def find_writable(folders: Iterable[Folder], others: Iterable[Path] = ()) -> list[Path]:
    """Return the fewest paths that hold every folder that is written to.

    Each becomes a mount of its own, and a move between two mounts is a copy: so the folder that
    holds all of an inbox's, where there is one that is not too much to give.
    """
    found: set[Path] = set(others)
    for folder in folders:
        roles = [folder.inbox, folder.outbox, folder.quarantine, folder.archive]
        places = [path for path in roles if path is not None]
        parent = Path(os.path.commonpath(places))
        found |= {parent} if _may_be_given(parent) else set(places)
    return sorted(path for path in found if not any(above in found for above in path.parents))


def _may_be_given(path: Path) -> bool:
    """Tell whether a folder is narrow enough: neither near the root nor somebody's whole home."""
    return len(path.parts) >= PARTS_MIN and not any(path.parent == home for home in HOMES)


def _state_lines(state_dir: Path, *, own_state: bool) -> list[str]:
    if own_state:
        return [f"StateDirectory={quote_path(Path(state_dir.name))}"]
    return [
        "# The state folder is none that systemd makes: it must be there, and the service's own.",
        "StateDirectory=",
    ]


def _hidden_lines(writable: Sequence[Path], read: Sequence[Path]) -> list[str]:
    """Return what shows places that the unit hides: homes and temporary folders."""
    lines = []
    shown = [path for path in writable if _is_below(path, HOMES)]
    seen = [path for path in read if _is_below(path, HOMES)]
    if shown or seen:
        lines += [
            "# Of the homes only these can be seen.",
            "ProtectHome=tmpfs",
            *(f"BindReadOnlyPaths={quote_path(path)}" for path in seen),
            *(f"BindPaths={quote_path(path)}" for path in shown),
        ]
    if any(_is_below(path, TEMPORARY) for path in (*writable, *read)):
        lines += ["# A folder lies in /tmp, which others can write to.", "PrivateTmp=no"]
    return lines


def _is_below(path: Path, places: Iterable[Path]) -> bool:
    return any(path.is_relative_to(place) for place in places)


# --- quoting ------------------------------------------------------------------------------------


def quote_path(path: Path) -> str:
    """Return a path as one word of a list: a backslash takes the next character as it is."""
    return _quote(_text(path))


def quote_command(words: Sequence[Path | str]) -> str:
    """Return a command whose words are taken as they are."""
    program, *arguments = (_text(word) for word in words)
    if "$" in program:
        raise UnitUnusableError(
            f"the program's path has a $ in it, which systemd would expand: {program}. Make the "
            "virtual environment elsewhere, such as in /opt/venice-watch."
        )
    plain = [_quote(program), *(_quote(one.replace("$", "$$")) for one in arguments)]
    return " ".join(plain)


def quote_credential(path: Path) -> str:
    """Return the path of a credential, which systemd reads to the end of the line, unquoted."""
    text = _text(path)
    if text != text.strip() or text.endswith("\\"):
        raise UnitUnusableError(
            f"the key file's name ends or begins with what systemd takes away: {text!r}. Rename it."
        )
    return text.replace("%", "%%")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = text.isascii() and all(one.isalnum() or one in "/._-+@=,%" for one in text)
    return escaped if plain and text else f'"{escaped}"'


def _text(path: Path | str) -> str:
    text = str(path)
    if not text.isprintable():  # line ends, control characters, bytes that are no text
        raise UnitUnusableError(
            f"a path holds what cannot stand in a unit: {text!r}. Rename it to printable UTF-8."
        )
    return text
