"""Write venice-watch.1 from the commands themselves: `python man/build.py > man/venice-watch.1`.

groff's man(7); no date, so that the page changes with the commands only.
"""

import re
import sys
from collections.abc import Iterator

import click

from venice_watch import __version__
from venice_watch.cli import commands

ENVIRONMENT = {
    "VENICE_WATCH_CONFIG": "The configuration, where --config does not name it.",
    "VENICE_API_KEY_FILE": "A file that holds the API key, where api.key_file names none.",
    "VENICE_API_KEY": "The API key, where no file holds it.",
    "NO_COLOR": "If set, nothing is coloured.",
}
FILES = {
    "./venice-watch.yaml, /etc/venice-watch/config.yaml": "The configuration, in this order.",
    "/etc/venice-watch/key": "The API key, for root alone; systemd hands it to the service.",
    "/var/lib/venice-watch": "The ledger and the spool of the service.",
}


def escape(text: str) -> str:
    """Return text that roff takes as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\`").replace("'", "\\(aq")
    text = text.replace("~", "\\(ti").replace("^", "\\(ha")
    return re.sub(r"^(?=\.)", r"\\&", text, flags=re.MULTILINE)


def paragraphs(text: str) -> Iterator[str]:
    """Yield a help text's paragraphs as lines of roff, each sentence on one of its own."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        words = " ".join(paragraph.replace("\b", "").split())
        yield from escape(words).replace(". ", ".\n").split("\n")


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield a command's options."""
    for parameter in command.get_params(context):
        if not isinstance(parameter, click.Option) or parameter.name == "help":
            continue
        names, words = parameter.get_help_record(context) or ("", "")
        if names:
            yield ".TP"
            yield f".B {escape(names)}"
            yield from paragraphs(words)


def sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield a command and what is below it; a group is a heading for its own."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, "it is listed"
            yield from sections(inner, click.Context(inner, info_name=name, parent=context))
        return
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    yield f".SS {escape(usage)}"
    yield from paragraphs(command.help or "")
    yield from options(command, context)


def table(heading: str, rows: dict[str, str]) -> Iterator[str]:
    """Yield a section of names and what they are."""
    yield f".SH {heading}"
    for name, words in rows.items():
        yield ".TP"
        yield f".B {escape(name)}"
        yield from paragraphs(words)


def page() -> str:
    """Return the whole page."""
    context = click.Context(commands, info_name="venice-watch")
    about, _, codes = (commands.help or "").partition("Exit codes: ")
    lines = [
        '.\\" Made by man/build.py; do not edit.',
        f'.TH VENICE\\-WATCH 1 "" "venice\\-watch {__version__}" "User Commands"',
        ".SH NAME",
        "venice\\-watch \\- upscale every image dropped into watched folders with Venice\\(aqs API",
        ".SH SYNOPSIS",
        ".B venice\\-watch",
        ".I COMMAND",
        "[\\fIOPTION\\fR]...",
        ".SH DESCRIPTION",
        *paragraphs(about),
        *paragraphs(commands.epilog or ""),
        ".SH COMMANDS",
        *sections(commands, context),
        *table("ENVIRONMENT", ENVIRONMENT),
        *table("FILES", FILES),
        ".SH EXIT STATUS",
        *paragraphs(codes.strip()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
