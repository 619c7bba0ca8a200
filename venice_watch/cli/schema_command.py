"""`schema`: the configuration's JSON Schema, for editors."""

import click


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the configuration, for editors that check YAML."""
    from venice_watch.config.schema import text

    click.echo(text(), nl=False)
