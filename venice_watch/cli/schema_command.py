"""`schema`: the configuration's JSON Schema, for editors."""

import click


@click.command("schema", short_help="Print the configuration's JSON Schema.")
def schema_command() -> None:
    """Print the JSON Schema of the configuration, for editors that check YAML."""
    from venice_watch.config.schema import text

    click.echo(text(), nl=False)
