"""`service print|install`: the systemd unit with this configuration's folders in it.

Rules: the key is never read, and nothing of the environment is printed or written: the service has
neither, so the configuration is read here as it will be read there.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.cli.options import config_option, find_config
from venice_watch.errors import VeniceWatchError

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.service.unit import Service

BOOTED = Path("/run/systemd/system")  # sd_booted(3)
MODE = 0o644
NAME_HELP = "of the service; it is made for you if it is the default."


class NotInstalledError(VeniceWatchError):
    """The unit cannot be installed here, by this user."""

    exit_code = 77


def _service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        config_option,
        click.option("--user", default="venice-watch", show_default=True, help=f"User {NAME_HELP}"),
        click.option("--group", help="Group of the service. Default: as the user."),
    ):
        command = decorate(command)
    return command


@click.group("service", short_help="Print or install the systemd unit.")
def service_command() -> None:
    """Print or install the systemd unit, with the folders of this configuration."""


@service_command.command("print")
@_service_options
def print_command(config_path: Path | None, user: str, group: str | None) -> None:
    """Print every file that `install` would write; change nothing."""
    from venice_watch.service.unit import render_files

    config, service = _prepare(config_path, user, group)
    for path, text in render_files(config, service).items():
        click.echo(f"# --- /{path}\n{text}")
    _warn(config, service)


@service_command.command("install")
@_service_options
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Write below this folder instead of / (for packages and tests).",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written.")
def install_command(
    config_path: Path | None, user: str, group: str | None, root: Path | None, *, dry_run: bool
) -> None:
    """Write the unit and say what to run next. What is as it should be is left alone."""
    from venice_watch.service.unit import render_files

    if root is None and not dry_run:
        _require_systemd()
    config, service = _prepare(config_path, user, group)
    changed = False
    for path, text in render_files(config, service).items():
        what = _place((root or Path("/")) / path, text, dry_run=dry_run)
        changed |= what != "unchanged"
        click.echo(f"{what:<9}  {(root or Path('/')) / path}")
    _warn(config, service)
    if root is None:
        click.echo("\n" + "\n".join(_next_steps(service, changed=changed)))


def _prepare(config_path: Path | None, user: str, group: str | None) -> "tuple[Config, Service]":
    from venice_watch.config.load import load
    from venice_watch.service.unit import Service

    for name in (user, group or user):
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise click.BadParameter(f"{name!r} is no name of a user or group")
    # without variables: the service has none of this shell's
    config = load(find_config(config_path).absolute(), environment={}, uid=os.getuid())
    program = Path(sys.prefix, "bin", "venice-watch")
    package = Path(__file__).parents[2]  # elsewhere than in the prefix where it is editable
    runtime = {Path(sys.prefix), Path(os.path.realpath(sys.base_prefix)), package}
    return config, Service(
        program=program, runtime=tuple(sorted(runtime)), user=user, group=group or user
    )


def _require_systemd() -> None:
    if not BOOTED.is_dir():
        raise NotInstalledError(
            "systemd does not run here. `venice-watch service print` shows the unit; for a "
            "container see docs/install-container.md."
        )
    if os.geteuid() != 0:
        raise NotInstalledError(
            "only root may install a unit. Run it with sudo and the whole path of the program: "
            f"sudo {Path(sys.prefix, 'bin', 'venice-watch')} service install"
        )


def _place(target: Path, text: str, *, dry_run: bool) -> str:
    """Write a file whole or not at all, if it is not there as it should be; say what was done."""
    try:
        before = target.read_text("utf-8")
    except FileNotFoundError:
        before = None
    except (OSError, UnicodeDecodeError):
        before = ""
    if before == text:
        return "unchanged"
    if not dry_run:
        temporary = target.with_name(f".venice-watch-{target.name}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, "utf-8")
            temporary.chmod(MODE)
            temporary.replace(target)
        except OSError as exc:
            temporary.unlink(missing_ok=True)
            raise NotInstalledError(
                f"{target}: {exc.strerror}. Nothing of it was changed."
            ) from exc
    return "new" if before is None else "changed"


def _next_steps(service: "Service", *, changed: bool) -> Iterator[str]:
    from venice_watch.service.unit import USER

    if not changed:
        yield "Everything is as it should be. After a change of the configuration alone:"
        yield "  systemctl restart venice-watch"
        return
    yield "Next:"
    if service.user == USER:
        yield "  systemd-sysusers && systemd-tmpfiles --create"
    yield "  systemctl daemon-reload && systemctl enable --now venice-watch"
    yield "  journalctl -fu venice-watch"


def _warn(config: "Config", service: "Service") -> None:
    for warning in _find_warnings(config, service, os.environ):
        click.echo(f"warning: {warning}", err=True)


def _find_warnings(
    config: "Config", service: "Service", environment: Mapping[str, str]
) -> Iterator[str]:
    """Yield what will keep the service from working, each with what to do."""
    from venice_watch.service.unit import KEY_FILE, find_writable

    key_file = config.api.key_file or KEY_FILE
    try:
        if stat.S_IMODE(key_file.stat().st_mode) & 0o044:
            yield f"{key_file} may be read by others: chmod 600 {key_file}"
    except PermissionError:
        pass  # root will see it
    except OSError as exc:
        named = [name for name in ("VENICE_API_KEY", "VENICE_API_KEY_FILE") if name in environment]
        shell = f" {' and '.join(named)} is known to this shell only." if named else ""
        yield (
            f"{key_file}: {exc.strerror}.{shell} Put the key into that file, for root alone: "
            f"install -m 600 /dev/stdin {key_file}   (paste it, Enter, Ctrl-D)"
        )
    if not service.program.exists():
        yield f"there is no {service.program}: install the package into that environment"
    try:
        mode = stat.S_IMODE(config.path.stat().st_mode)
    except OSError:
        mode = 0o644
    if not mode & 0o044:
        yield (
            f"{config.path} may be read by its owner alone: chgrp {service.group} and chmod 640, "
            "so that the service may read it too"
        )
    for path in find_writable(config.folders):
        if not path.is_dir():
            yield f"{path} is not there; the service fails with 226/NAMESPACE until it is"
