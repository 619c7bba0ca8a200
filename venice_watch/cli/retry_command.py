"""`retry`: takes quarantined files back into their inboxes, where they are new images."""

from pathlib import Path

import click

from venice_watch.cli.options import config_option
from venice_watch.cli.words import printable

SOME_STAYED = 1


@click.command("retry", short_help="Take quarantined files back into the inbox.")
@config_option
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--all", "take_all", is_flag=True, help="All quarantined files that have a report.")
@click.option("--folder", "name", metavar="NAME", help="Only this folder's.")
def retry_command(
    config_path: Path | None, files: tuple[Path, ...], name: str | None, *, take_all: bool
) -> None:
    """Take quarantined files back into the inbox, where they are new images.

    FILE is the quarantined file, its report, or its name or path in the quarantine. Moving a file
    back by hand does the same.
    """
    from venice_watch.cli.options import load_config
    from venice_watch.cli.state import folder_named, is_running
    from venice_watch.views.retry import take_back

    if bool(files) == take_all:
        raise click.UsageError("name files, or give --all" if not files else "FILE or --all?")
    config = load_config(config_path)
    folders = config.folders if name is None else (folder_named(config, name),)
    moved = stayed = 0
    for one in take_back(config, folders, files, cwd=Path.cwd()):
        moved, stayed = moved + one["back"], stayed + (not one["back"])
        if one["back"]:
            warning = f"; {one['message']}" if one["message"] else ""
            line = f"{one['folder']}: {one['path']} is back in the inbox{warning}"
        else:
            line = f"{one['file']} stays: {one['message']}"
        click.echo(printable(line))
    if not moved and not stayed:
        click.echo("nothing is in the quarantine")
    if moved and not is_running(config):
        click.echo(
            "nothing runs that would take them: start `venice-watch run`, or `venice-watch once`",
            err=True,
        )
    if stayed:
        raise click.exceptions.Exit(SOME_STAYED)
