"""The command line: argv to exit code, and the only place where parts are put together.

Rules: data goes to stdout, the log and everything said to a person to stderr; nothing heavy is
imported before a command needs it.
"""

import os
import sys
from importlib import import_module

import click

from venice_watch import __version__
from venice_watch.errors import VeniceWatchError

BUG = 70
INTERRUPTED = 130


# in the order in which they are listed: the module, and what it calls the command
_COMMANDS = {
    "demo": ("demo_command", "demo_command"),
    "init": ("init_command", "init_command"),
    "check": ("check_command", "check_command"),
    "plan": ("plan_command", "plan_command"),
    "run": ("run_commands", "run_command"),
    "once": ("run_commands", "once_command"),
    "status": ("status_command", "status_command"),
    "history": ("history_command", "history_command"),
    "spend": ("spend_command", "spend_command"),
    "why": ("why_command", "why_command"),
    "pause": ("pause_commands", "pause_command"),
    "resume": ("pause_commands", "resume_command"),
    "retry": ("retry_command", "retry_command"),
    "simulator": ("simulator_command", "simulator_command"),
    "schema": ("schema_command", "schema_command"),
    "service": ("service_command", "service_command"),
}


class _Commands(click.Group):
    """Loads a command when it is asked for: each would cost the others their time."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's own
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        found: click.Command = getattr(import_module(f"venice_watch.cli.{module}"), name)
        return found


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `venice-watch demo`: it needs no key, no network and no configuration.",
)
@click.version_option(__version__, prog_name="venice-watch")
def commands() -> None:
    """Watch folders and upscale every image dropped into them with Venice's image API.

    Exit codes: 0 done; 1 something was quarantined or failed; 2 usage; 69 the API cannot be
    reached or refuses the key; 70 a bug; 75 try again later; 77 no permission; 78 configuration.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # a file name need not be UTF-8, and must not end us
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    colour = False if os.environ.get("NO_COLOR") else None  # None: as the stream is a terminal
    try:
        code = commands.main(standalone_mode=False, color=colour) or 0
    except click.exceptions.Exit as exc:
        code = exc.exit_code
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # the reader of our output went away; keep the interpreter from saying so at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except VeniceWatchError as exc:
        click.echo(f"venice-watch: {_without_key(str(exc))}", err=True)
        code = exc.exit_code
    except Exception:  # noqa: BLE001 - the last place where it can be caught
        code = _report_bug()
    sys.exit(code)


def _report_bug() -> int:
    import traceback

    click.echo(_without_key(traceback.format_exc()), err=True)
    click.echo(
        "venice-watch: this is a bug; the lines above say where. No file is lost: start it again "
        "and it goes on. What was being sent is in doubt, and handled as `on_in_doubt` says.",
        err=True,
    )
    return BUG


def _without_key(text: str) -> str:
    from venice_watch.cli.key import known_keys
    from venice_watch.redact import Redactor

    return Redactor(known_keys()).text(text)
