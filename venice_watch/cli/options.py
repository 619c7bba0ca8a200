"""Options that several commands share, and finding the configuration."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from venice_watch.errors import ConfigError, Problem

if TYPE_CHECKING:
    from venice_watch.config.model import Config

CONFIG_PLACES = (Path("venice-watch.yaml"), Path("/etc/venice-watch/config.yaml"))

config_option = click.option(
    "--config",
    "-c",
    "config_path",
    envvar="VENICE_WATCH_CONFIG",
    type=click.Path(path_type=Path),
    help="The configuration. Default: ./venice-watch.yaml, then /etc/venice-watch/config.yaml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --log-level and --log-format."""
    command = click.option(
        "--log-format",
        type=click.Choice(["auto", "console", "logfmt", "json"]),
        default="auto",
        show_default=True,
        help="auto: coloured on a terminal, key=value elsewhere.",
    )(command)
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
    )(command)


def find_config(path: Path | None) -> Path:
    """Return the named configuration, or the first of the usual places."""
    if path is None:
        path = next((place for place in CONFIG_PLACES if _is_there(place)), None)
    if path is None:
        places = " or ".join(str(place) for place in CONFIG_PLACES)
        message = (
            f"there is no configuration at {places}. Make one with `venice-watch init`, or name "
            "yours with --config."
        )
        problem = Problem(file=str(CONFIG_PLACES[0]), line=1, column=1, key="", message=message)
        raise ConfigError((problem,))
    return path


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:
        return True  # where this user may not look; reading it will say so


def load_config(path: Path | None) -> "Config":
    """Load the named configuration, or the first of the usual places."""
    from venice_watch.cli.key import remember_secrets
    from venice_watch.config.load import load
    from venice_watch.config.outside import secrets_of

    config = load(find_config(path), environment=os.environ, uid=os.getuid())
    remember_secrets(secrets_of(config))
    return config
