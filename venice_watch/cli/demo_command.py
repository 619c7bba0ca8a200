"""`demo`: the real daemon against the built-in simulator, in a folder of its own, without a key."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.daemon import Daemon
    from venice_watch.job import Job

LATENCY = "1200ms"  # of the simulated API: long enough to see something happen
DROP_S = 0.5  # between two drops, as somebody drags them in
DEMO_S_MAX = 90.0  # then something is wrong, and the demo says so
SHOW_S = 0.1  # between two pictures of the progress
PORT_S_MAX = 20.0  # for the simulator's first word
DAMAGED = "damaged.png"
KEY = "demo-key-without-any-value"

CONFIG = """\
# The configuration of this demo. Point `base_url` at https://api.venice.ai/api/v1 and name your
# `key_file`, and the same file works for real.
api:
  base_url: {base_url}
  concurrency: 3
state_dir: state
presets:
  photo: {{scale: 2, replication: 0.35}}
  poster: {{extends: photo, scale: 4}}
folders:
  - name: demo
    inbox: inbox
    outbox: outbox
    quarantine: quarantine
    archive: originals
    preset: photo
    settle: 500ms
    rules:
      - {{match: {{name: "*poster*"}}, preset: poster}}
"""


@click.command("demo", short_help="See it work in 20 seconds, without a key or network.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in this folder. Default: a new one below the system's temporary folder.",
)
def demo_command(keep: Path | None) -> None:
    """See it work in 20 seconds: no key, no network, no configuration, nothing paid.

    Makes pictures, drops them into a watched folder, and upscales them with a local simulation
    of the API. Ends with a before-and-after sheet.
    """
    folder = keep.absolute() if keep else Path(tempfile.mkdtemp(prefix="venice-watch-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise click.ClickException(f"{folder}: {exc.strerror}; name another folder") from exc
    if keep and folder.exists() and any(folder.iterdir()):
        message = f"{folder} is not empty; name a new folder, so that nothing of yours is touched"
        raise click.ClickException(message)
    failed = asyncio.run(_demonstrate(folder))
    raise click.exceptions.Exit(1 if failed else 0)


class _Simulator:
    """The simulated API in a process of its own, as a context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "venice_watch", "simulator", "--port", "0"]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, "--latency", LATENCY, "--rpm", "none"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.base_url = ""

    def __enter__(self) -> Self:
        """Wait until it says where it listens."""
        import select

        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PORT_S_MAX)
        self.base_url = self._process.stdout.readline().strip() if ready else ""
        if not self.base_url:
            self._process.kill()
            raise click.ClickException("the simulator did not start; try `venice-watch simulator`")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def plan_a_throttle(self) -> None:
        """Let the third image meet a 429."""
        import httpx

        control = self.base_url.removesuffix("/api/v1") + "/_control/faults"
        # after the request that finds out the contract, and two images
        fault = {"fault": "overloaded", "value": "2", "times": 1, "after": 3}
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(control, json=[fault])).raise_for_status()


async def _demonstrate(folder: Path) -> bool:
    from venice_watch.cli.pictures import draw_pictures
    from venice_watch.clock import SystemClock
    from venice_watch.config.load import loads
    from venice_watch.daemon import opened
    from venice_watch.service.logs import configure
    from venice_watch.service.systemd import Notifier

    started_at = time.monotonic()
    click.echo(f"Working in {folder}\n")
    for name in ("inbox", "outbox", "quarantine", "originals", "drawn"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pictures = await asyncio.to_thread(draw_pictures, folder / "drawn")
    pictures.insert(3, _damage(pictures[1], folder / "drawn" / DAMAGED))
    with _Simulator() as simulator, (folder / "log.txt").open("w", encoding="utf-8") as log_file:
        text = CONFIG.format(base_url=simulator.base_url)
        (folder / "venice-watch.yaml").write_text(text, encoding="utf-8")
        config = loads(text, folder / "venice-watch.yaml", {})
        log = configure(secrets=(KEY,), style="logfmt", stream=log_file)
        await simulator.plan_a_throttle()
        async with opened(
            config,
            KEY,
            command="demo",
            clock=SystemClock(),
            log=log,
            notifier=Notifier({}),
        ) as daemon:
            jobs = await _drop_and_watch(daemon, config, pictures)
    shutil.rmtree(folder / "drawn")
    return await asyncio.to_thread(_conclude, folder, jobs, time.monotonic() - started_at)


def _damage(picture: Path, target: Path) -> Path:
    """Make a picture that a disk or a line has damaged."""
    data = bytearray(picture.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    target.write_bytes(data)
    return target


async def _drop_and_watch(
    daemon: "Daemon", config: "Config", pictures: Sequence[Path]
) -> "list[Job]":
    """Run the daemon, drop the pictures one by one, and show what becomes of them."""
    inbox = config.folders[0].inbox
    running = asyncio.create_task(daemon.run())
    display = _live_display() if sys.stdout.isatty() else _plain_display()
    ends_at = time.monotonic() + DEMO_S_MAX
    waiting = list(pictures)
    next_drop_at = time.monotonic()
    jobs: list[Job] = []
    with display as show:
        while len([job for job in jobs if _is_over(job)]) < len(pictures):
            now = time.monotonic()
            if now > ends_at or running.done():
                break
            if waiting and now >= next_drop_at:
                await asyncio.to_thread(shutil.copy, waiting.pop(0), inbox)
                next_drop_at = now + DROP_S
            jobs = await daemon.recent_jobs(limit=len(pictures) * 2)
            show(pictures, jobs)
            await asyncio.sleep(SHOW_S)
    daemon.stop()
    await running
    return sorted(jobs, key=lambda job: job.id)


def _is_over(job: "Job") -> bool:
    return job.state in ("completed", "discarded", "cancelled") and job.original_path is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    name: str
    state: str
    detail: str
    colour: str


def _line(picture: Path, job: "Job | None") -> _Line:
    """Describe where one picture is."""
    if job is None:
        return _Line(name=picture.name, state="", detail="", colour="dim")
    if job.state == "completed":
        detail = f"{job.result_width} x {job.result_height}, preset {job.preset}"
        return _Line(name=picture.name, state="upscaled", detail=detail, colour="green")
    if job.state == "discarded":
        return _Line(name=picture.name, state="quarantined", detail=str(job.code), colour="red")
    if job.state == "available" and job.message:
        detail = job.message.split(".")[0]
        return _Line(name=picture.name, state="waiting", detail=detail, colour="yellow")
    words = {"executing": "sending", "staged": "delivering", "in_doubt": "in doubt"}
    state = words.get(job.state.value, "waiting")
    return _Line(name=picture.name, state=state, detail="", colour="cyan")


def _lines(pictures: Sequence[Path], jobs: "Sequence[Job]") -> list[_Line]:
    by_path = {job.path: job for job in sorted(jobs, key=lambda job: job.id)}
    return [_line(picture, by_path.get(picture.name)) for picture in pictures]


@contextlib.contextmanager
def _live_display() -> Iterator[Any]:
    from rich.live import Live
    from rich.table import Table

    with Live(refresh_per_second=10) as live:

        def show(pictures: Sequence[Path], jobs: "Sequence[Job]") -> None:
            table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
            for line in _lines(pictures, jobs):
                state = f"[{line.colour}]{line.state}[/]"
                table.add_row(line.name, state, f"[dim]{line.detail}[/]")
            live.update(table)

        yield show


@contextlib.contextmanager
def _plain_display() -> Iterator[Any]:
    said: set[tuple[str, str]] = set()

    def show(pictures: Sequence[Path], jobs: "Sequence[Job]") -> None:
        for line in _lines(pictures, jobs):
            if line.state and (line.name, line.state) not in said:
                said.add((line.name, line.state))
                click.echo(f"  {line.name:<22} {line.state:<12} {line.detail}".rstrip())

    yield show


def _conclude(folder: Path, jobs: "Sequence[Job]", seconds: float) -> bool:
    """Say where everything went; return whether something did not go as it should."""
    from venice_watch.cli.pictures import ContactRow, make_contact_sheet

    done = [job for job in jobs if job.state == "completed"]
    failed = [job for job in jobs if job.state == "discarded"]
    rows = [
        ContactRow(
            title=job.path,
            before=Path(job.original_path or ""),
            after=Path(job.result_path or ""),
            caption=f"scale {json.loads(job.parameters or '{}').get('scale')}, preset {job.preset}",
        )
        for job in done
    ]
    usd = sum(_usd(job) for job in done)
    sheet = folder / "before-and-after.png"
    make_contact_sheet(
        rows,
        sheet,
        title="venice-watch",
        footer=f"{len(done)} pictures, {usd:.2f} USD at Venice's prices; upscaled here by a "
        "simulation, so nothing was sent and nothing paid",
    )
    click.echo()
    click.echo(f"{len(done)} upscaled, {len(failed)} quarantined, in {seconds:.0f} s")
    for job in failed:
        click.echo(f"  {job.message}")
    click.echo(f"It would have cost {usd:.2f} USD; this was a simulation and cost nothing.\n")
    for words, path in (
        ("results", folder / "outbox"),
        ("originals", folder / "originals"),
        ("quarantine", folder / "quarantine"),
        ("configuration", folder / "venice-watch.yaml"),
        ("log", folder / "log.txt"),
        ("before and after", sheet),
    ):
        click.echo(f"  {words:<18}{path}{os.sep if path.is_dir() else ''}")
    click.echo("\nNext: `venice-watch init` makes a folder and a configuration of your own.")
    return len(failed) != 1 or not done or len(done) + len(failed) != len(jobs)


def _usd(job: "Job") -> float:
    from venice_watch.parameters import price_microusd

    scale = json.loads(job.parameters or "{}").get("scale", 2)
    return price_microusd(float(scale)) / 1_000_000
