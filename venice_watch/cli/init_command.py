"""`init`: a commented configuration and its folders, ready to be tried."""

from pathlib import Path

import click

NAME = "venice-watch.yaml"
FOLDERS = ("inbox", "outbox", "quarantine", "originals")

TEMPLATE = """\
# venice-watch: drop images into inbox/, find them upscaled in outbox/.
# Every key, with its default and what it means: config.example.yaml in the project, or
# `venice-watch schema`. Check this file with `venice-watch check`.

api:
  # A file that holds your Venice API key and nothing else (chmod 600). Never the key itself.
  key_file: key
  concurrency: 4              # requests under way at the same time

state_dir: state              # the journal and results on their way; a local disk

budget: {per_day_usd: 1.00}   # what may be spent in a day; take it out for no limit

presets:                      # rule sets by name; parameters have the API's own names
  photo: {scale: 2}
  poster: {extends: photo, scale: 4}

folders:
  - name: images
    inbox: inbox              # drop images here, sub-folders too
    outbox: outbox            # results appear here, whole or not at all
    quarantine: quarantine    # what failed, each with a report that says why
    archive: originals        # where an original goes after success
    preset: photo
    rules:                    # the first that matches wins
      - {match: {name: "*poster*"}, preset: poster}
"""


@click.command("init", short_help="Write a commented configuration and make its folders.")
@click.argument("directory", type=click.Path(path_type=Path), default=".")
def init_command(directory: Path) -> None:
    """Write a commented configuration into DIRECTORY and make its folders."""
    target = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
        for name in FOLDERS:
            (directory / name).mkdir(exist_ok=True)
        (directory / "state").mkdir(exist_ok=True, mode=0o710)  # the group: only to enter
    except FileExistsError as exc:
        raise click.ClickException(
            f"{exc.filename} is there already, and is left as it is. Name another folder, or "
            "remove it first."
        ) from exc
    except OSError as exc:
        raise click.ClickException(f"{exc.filename}: {exc.strerror}") from exc
    key = directory / "key"
    click.echo(f"Wrote {target} and the folders {', '.join(FOLDERS)} beside it.\n")
    click.echo("Next:")
    click.echo(f"  1. put your Venice API key into {key}, and run  chmod 600 {key}")
    click.echo(f"  2. venice-watch check --config {target}")
    click.echo(
        f"  3. venice-watch run --config {target}   and drop an image into {directory}/inbox"
    )
