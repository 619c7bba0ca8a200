"""The command line: argv to exit code, and the only place where parts are put together.

Rules: data goes to stdout, the log and everything said to a person to stderr; nothing heavy is
imported before a command needs it.
"""

import os
import sys

import click

from venice_watch import __version__
from venice_watch.cli.check_command import check_command
from venice_watch.cli.demo_command import demo_command
from venice_watch.cli.history_command import history_command
from venice_watch.cli.init_command import init_command
from venice_watch.cli.pause_commands import pause_command, resume_command
from venice_watch.cli.plan_command import plan_command
from venice_watch.cli.retry_command import retry_command
from venice_watch.cli.run_commands import once_command, run_command
from venice_watch.cli.schema_command import schema_command
from venice_watch.cli.service_command import service_command
from venice_watch.cli.simulator_command import simulator_command
from venice_watch.cli.spend_command import spend_command
from venice_watch.cli.status_command import status_command
from venice_watch.cli.why_command import why_command
from venice_watch.errors import VeniceWatchError

BUG = 70
INTERRUPTED = 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `venice-watch demo`: it needs no key, no network and no configuration.",
)
@click.version_option(__version__, prog_name="venice-watch")
def commands() -> None:
    """Watch folders and upscale every image dropped into them with Venice's image API.

    Exit codes: 0 done; 1 something was quarantined or failed; 2 usage; 69 the API cannot be
    reached or refuses the key; 70 a bug; 75 try again later; 77 no permission; 78 configuration.
    """


for _command in (
    demo_command,
    init_command,
    check_command,
    plan_command,
    run_command,
    once_command,
    status_command,
    history_command,
    spend_command,
    why_command,
    pause_command,
    resume_command,
    retry_command,
    simulator_command,
    schema_command,
    service_command,
):
    commands.add_command(_command)


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
