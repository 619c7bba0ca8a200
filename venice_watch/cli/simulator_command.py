"""`venice-watch simulator`: the local Venice server by itself.

Rules: nothing but click is imported until it runs (its --help must not load Pillow); stdout carries
one line, the base URL.
"""

import re

import click

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|)")

_HELP = """Run a local Venice: real pixels, invented money, faults on demand.

It prints its base URL and serves until Ctrl-C or SIGTERM. Any key is accepted, except ones that
begin with "bad". Nothing outside this machine can reach it.

\b
Point a configuration at it:
  $ venice-watch simulator --port 8770 --rpm 60 --fault server_error:0.1
  api:
    base_url: http://127.0.0.1:8770/api/v1     # in venice-watch.yaml
  $ VENICE_API_KEY=anything venice-watch run

\b
What it has seen and charged:
  $ curl http://127.0.0.1:8770/_control/bill
The next two requests fail:
  $ curl -d '[{"fault": "unavailable", "times": 2}]' http://127.0.0.1:8770/_control/faults

\b
A storm of 5 s in every minute, every third result paid for and lost, a clock two minutes late:
  $ venice-watch simulator --fault unavailable,spell_s=5,rest_s=55 \\
      --fault timeout_524,every=3 --set clock_offset_s=-120
docs/simulator.md explains faults, settings, bill and control endpoint.
"""


def _duration(_ctx: click.Context, _param: click.Parameter, text: str) -> float:
    """Return the seconds of 250ms, 1s, 1m or a plain number."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is no duration; write 250ms, 1s, 1m or 0.5")
    return float(match[1]) * _SECONDS[match[2]]


def _rate(_ctx: click.Context, _param: click.Parameter, text: str) -> int | None:
    """Return a whole number, or None for `none`."""
    if text.strip().lower() == "none":
        return None
    if not text.strip().isdecimal():
        raise click.BadParameter(f"{text!r} is no rate; write a whole number, or none")
    return int(text)


def _list_faults(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click calls it so
    """Print the table of faults and leave."""
    if not asked or ctx.resilient_parsing:
        return
    from venice_watch.simulator import FAULTS

    for fault in FAULTS.values():
        click.echo(f"{fault.name:<26}{fault.summary}")
    ctx.exit()


def _list_settings(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - likewise
    """Print the table of settings and leave."""
    if not asked or ctx.resilient_parsing:
        return
    from venice_watch.simulator import describe_settings

    for name, default, allowed in describe_settings():
        click.echo(f"{name:<24}{default:<12}{allowed}")
    ctx.exit()


@click.command("simulator", short_help="Run a local Venice, with faults on demand.", help=_HELP)
@click.option("--port", type=click.IntRange(0, 65_535), default=0, show_default="any free one")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--latency",
    callback=_duration,
    default="1s",
    metavar="TIME",
    show_default=True,
    help="Until the answer, at least: 250ms, 1s.",
)
@click.option(
    "--jitter", callback=_duration, default="0s", metavar="TIME", help="Up to so much more."
)
@click.option(
    "--rpm",
    callback=_rate,
    default="20",
    metavar="NUMBER|none",
    show_default=True,
    help="Upscales a minute.",
)
@click.option(
    "--contract",
    type=click.Choice(["enhance", "creativity"]),
    default="enhance",
    show_default=True,
    help="The older or the newer form of the API.",
)
@click.option(
    "--balance", type=click.FloatRange(min=0), default=100.0, show_default=True, help="In USD."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=VALUE][:PROBABILITY][,OPTION=VALUE...]",
    help="Fail so, always, by chance, in turns or in spells; can be given again.",
)
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="Name the faults.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change any setting, the other options' included; can be given again.",
)
@click.option(
    "--list-settings",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_settings,
    help="Name the settings, with defaults and what is allowed.",
)
@click.option("--seed", type=int, help="Make chance (faults, jitter) repeatable.")
@click.option(
    "--pixels",
    type=click.Choice(["real", "nearest", "canned"]),
    default="real",
    show_default=True,
    help="nearest is cheap; canned makes one for each size, for benchmarks.",
)
def simulator_command(
    *,
    port: int,
    host: str,
    latency: float,
    jitter: float,
    rpm: int | None,
    contract: str,
    balance: float,
    faults: tuple[str, ...],
    changes: tuple[str, ...],
    seed: int | None,
    pixels: str,
) -> None:
    """Make the settings and serve."""
    from venice_watch.simulator import Settings, parse_fault, read_setting, run

    values: dict[str, object] = {
        "host": host,
        "port": port,
        "latency_s": latency,
        "latency_jitter_s": jitter,
        "requests_per_minute": rpm,
        "contract": contract,
        "balance_usd": balance,
        "seed": seed,
        "pixels": pixels,
    }
    try:
        values |= dict(read_setting(text) for text in changes)
        values["faults"] = tuple(parse_fault(text) for text in faults)
        settings = Settings(**values)  # type: ignore[arg-type]  # it checks every one
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    try:
        run(settings)
    except OSError as exc:
        raise click.ClickException(
            f"cannot listen on {settings.host}:{settings.port}: {exc.strerror}; "
            "choose another --port"
        ) from exc
