"""What is promised of the money when machines die and disks fail, each promise once, end to end."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.component.conftest import Place, Program, Venice

    Draw = Callable[..., bytes]

PRICE = 20_000  # micro-USD for one image at scale 2
IN_FLIGHT, WAITING, KILLS = 8, 40, 5
FAKETIME = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
)


def crash_five_times(place: "Place", venice: "Venice") -> dict[str, bytes]:
    """Kill a daemon with eight requests in flight, five times in a row; return the pictures."""
    venice.change(latency_s=1.5)
    pictures = place.drop_many(IN_FLIGHT + WAITING)
    doubts = 0
    for _ in range(KILLS):
        seen = venice.totals()["received"]
        daemon = place.start()
        venice.wait(received=seen + IN_FLIGHT)
        daemon.kill()
        query = "SELECT count(*) FROM attempts WHERE ended_at IS NULL OR charge = 'unknown'"
        [(now,)] = place.ask(query)
        assert now - doubts <= IN_FLIGHT, "no more in doubt than were in flight"
        doubts = now
    venice.change(latency_s=0.05)
    return pictures


def test_killed_with_eight_in_flight(place: "Place", venice: "Venice") -> None:
    """Killed five times with 8 in flight and 40 waiting: at most 8 in doubt each, all delivered."""
    place.write(api={"concurrency": IN_FLIGHT})
    pictures = crash_five_times(place, venice)
    code, program = place.once()
    assert code == 0, program.stdout
    assert place.names("outbox") == set(pictures)
    assert place.read("archive") == pictures
    assert place.names("inbox") == place.names("quarantine") == set()
    money = place.money()
    assert money["charged"] == len(pictures) * PRICE
    doubts = money["unknown"] // PRICE
    assert doubts <= KILLS * IN_FLIGHT
    totals = venice.totals()
    assert len(pictures) <= totals["charges"] <= len(pictures) + doubts
    sent = [one["image_sha256"] for one in venice.upscales()]
    assert max(sent.count(one) for one in sent) <= 2


def test_killed_with_eight_in_flight_and_hold(place: "Place", venice: "Venice") -> None:
    """The same with `on_in_doubt: hold`: nothing is sent twice, what was in doubt waits."""
    place.write(api={"concurrency": IN_FLIGHT, "on_in_doubt": "hold"})
    pictures = crash_five_times(place, venice)
    place.once()
    sent = [one["image_sha256"] for one in venice.upscales()]
    assert len(sent) == len(set(sent)), "nothing was sent twice"
    held = {name for name in place.names("quarantine") if not name.endswith(".error.json")}
    assert held | place.names("outbox") == set(pictures)
    assert held & place.names("outbox") == set()
    assert len(held) <= KILLS * IN_FLIGHT
    assert {place.report(name)["code"] for name in held} == {"in_doubt"}
    money = place.money()
    assert money["charged"] == (len(pictures) - len(held)) * PRICE
    assert money["unknown"] == len(held) * PRICE
    assert money["charged"] <= venice.totals()["charged_microusd"] <= sum(money.values())


def test_killed_within_a_budget(place: "Place", venice: "Venice") -> None:
    """However often it is killed, a budget is never exceeded: what is in doubt counts as spent."""
    venice.change(latency_s=0.3)
    place.write(api={"concurrency": 4})
    facts = json.loads(place.config.read_text())
    facts["budget"] = {"per_day_usd": 0.30}
    place.config.write_text(json.dumps(facts))
    place.drop_many(30)
    for _ in range(3):
        seen = venice.totals()["received"]
        daemon = place.start()
        venice.wait(received=seen + 2)
        daemon.kill()
    assert place.once()[0] == 75
    assert venice.totals()["charged_microusd"] <= 15 * PRICE
    assert sum(place.money().values()) == 15 * PRICE


def test_terminated_with_eight_in_flight(place: "Place", venice: "Venice") -> None:
    """SIGTERM with 8 in flight ends when they are done: nothing in doubt, nothing paid twice."""
    venice.change(latency_s=1.5)
    place.write(api={"concurrency": IN_FLIGHT})
    pictures = place.drop_many(20)
    daemon = place.start()
    venice.wait(received=IN_FLIGHT)
    assert daemon.stop() == 0
    assert len(place.names("outbox")) == IN_FLIGHT
    assert place.money() == {"charged": IN_FLIGHT * PRICE}
    venice.change(latency_s=0.0)
    assert place.once()[0] == 0
    assert place.names("outbox") == set(pictures)
    assert venice.totals()["charges"] == len(pictures)


# --- the order of system calls -------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("strace") is None, reason="apt-get install strace to install it")
def test_order_of_system_calls(place: "Place", draw: "Draw") -> None:
    """For one image: each step is on the disk before the next, and the original moves last."""
    place.drop("a.png", draw(1))
    trace = place.root / "trace"
    calls = "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg,write,link"
    command = ["strace", "-f", "-y", "-s", "60", "-o", str(trace), "-e", f"trace={calls}"]
    program = [sys.executable, "-m", "venice_watch", "once", "--config", str(place.config)]
    done = subprocess.run(
        [*command, *program], env=place.environment, capture_output=True, timeout=110, check=False
    )
    if b"ptrace" in done.stderr:
        pytest.skip("this machine lets nobody trace processes")
    assert done.returncode == 0, done.stderr.decode()
    wanted = [
        r"fdatasync\(\d+<.*/ledger\.sqlite3-wal>",  # begin
        r'(sendto|write|sendmsg)\(.*"POST /api/v1/image/upscale',
        r"fsync\(\d+<.*/spool/[0-9a-f]{16}\.part>",
        r"rename.*\.part.*/spool/1\.png",
        r"fsync\(\d+<.*/spool>",
        r"fdatasync\(\d+<.*/ledger\.sqlite3-wal>",  # stage
        r"fsync\(\d+<.*/outbox/\.venice-watch-",
        r"renameat2\(.*/outbox/\.venice-watch-.*/outbox/a\.png",
        r"fsync\(\d+<.*/outbox>",
        r"fdatasync\(\d+<.*/ledger\.sqlite3-wal>",  # complete
        r'renameat2\(.*"a\.png".*/archive/a\.png',
        r"fsync\(\d+<.*/archive>",
        r"fsync\(\d+<.*/inbox>",
        r"fdatasync\(\d+<.*/ledger\.sqlite3-wal>",  # retired
    ]
    lines = trace.read_text(errors="replace").splitlines()
    at = 0
    for pattern in wanted:
        found = next((i for i in range(at, len(lines)) if re.search(pattern, lines[i])), None)
        assert found is not None, f"no {pattern} after line {at}:\n" + "\n".join(lines[at:])
        at = found + 1
    moves = [i for i, line in enumerate(lines) if re.search(r"/archive/a\.png", line)]
    published = next(
        i for i, line in enumerate(lines) if re.search(r"rename.*/outbox/a\.png", line)
    )
    assert min(moves) > published


# --- disks in trouble ----------------------------------------------------------------------------


def status_of(place: "Place") -> str:
    """Return what `status` says to a person."""
    return place.run("status").stdout


def wait_for_trouble(place: "Place", words: str) -> None:
    """Wait until `status` says what is wrong."""
    ends_at = time.monotonic() + 60
    while words not in (said := status_of(place)):
        assert time.monotonic() < ends_at, f"{words!r} is not in:\n{said}"


@pytest.fixture
def mounted(place: "Place") -> Iterator[Callable[..., Path]]:
    """Return what mounts a file system of its own on one of the place's folders."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount; run the tests as root")
    points: list[Path] = []

    def mount(point: Path, size: str = "64m") -> Path:
        point.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine lets nobody mount: {done.stderr.strip()}")
        points.append(point)
        return point

    yield mount
    place.end()  # whoever still has files open there
    for point in reversed(points):
        subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)


def remount(point: Path, *options: str) -> None:
    """Change the options of a mount."""
    command = ["mount", "-o", ",".join(("remount", *options)), str(point)]
    subprocess.run(command, check=True, capture_output=True)


def finish(place: "Place", daemon: "Program", names: set[str]) -> None:
    """Wait until all are done and stop."""
    place.wait_names("outbox", names)
    place.wait_names("archive", names)
    assert status_of(place).count("  ! ") == 0
    assert daemon.stop() == 0


@pytest.mark.root
def test_full_spool(
    place: "Place", venice: "Venice", draw: "Draw", mounted: Callable[..., Path]
) -> None:
    """With the spool's disk full nothing is sent, and what is just coming is not paid again."""
    mounted(place.state)
    venice.change(latency_s=1.0)
    place.drop("a.png", draw(1))
    daemon = place.start()
    venice.wait(received=1)
    filler = place.state / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass
    wait_for_trouble(place, "waits")
    place.drop("b.png", draw(2))
    filler.unlink()
    finish(place, daemon, {"a.png", "b.png"})
    assert venice.totals()["charges"] == 2
    assert place.money() == {"charged": 2 * PRICE}


@pytest.mark.root
def test_spool_without_room(
    place: "Place", venice: "Venice", draw: "Draw", mounted: Callable[..., Path]
) -> None:
    """Where a result could not be kept, its folder is held before anything is paid."""
    mounted(place.state)
    daemon = place.ready()
    filler = place.state / "filler"
    filler.write_bytes(bytes(52 << 20))
    place.drop("a.png", draw(1))
    daemon.wait_event("folder.held")
    wait_for_trouble(place, "MB left")
    assert venice.upscales() == []
    filler.unlink()
    finish(place, daemon, {"a.png"})
    assert venice.totals()["charges"] == 1


@pytest.mark.root
def test_read_only_outbox(
    place: "Place", venice: "Venice", draw: "Draw", mounted: Callable[..., Path]
) -> None:
    """A result whose outbox became read-only waits; the next image is not even sent."""
    mounted(place.outbox)
    venice.change(latency_s=1.0)
    place.drop("a.png", draw(1))
    daemon = place.start()
    venice.wait(received=1)
    remount(place.outbox, "ro")
    daemon.wait_event("delivery.failed")
    place.drop("b.png", draw(2))
    daemon.wait_event("folder.held")
    wait_for_trouble(place, "Read-only file system")
    remount(place.outbox, "rw")
    finish(place, daemon, {"a.png", "b.png"})
    assert venice.totals()["charges"] == 2


@pytest.mark.root
@pytest.mark.parametrize("restarted", [False, True])
def test_unmounted_outbox(
    place: "Place",
    venice: "Venice",
    draw: "Draw",
    mounted: Callable[..., Path],
    *,
    restarted: bool,
) -> None:
    """Nothing is put below the mount point of an outbox that is away, after a restart neither."""
    mounted(place.outbox)
    place.drop("first.png", draw(3))
    daemon = place.ready()
    place.wait_names("archive", {"first.png"})
    venice.change(latency_s=1.0)
    place.drop("a.png", draw(1))
    venice.wait(received=2)
    subprocess.run(["umount", "-l", str(place.outbox)], check=True)
    daemon.wait_event("delivery.failed")
    if restarted:
        daemon.stop()
        daemon = place.ready()
    place.drop("b.png", draw(2))
    wait_for_trouble(place, "is not mounted")
    daemon.wait_event("folder.held")
    assert place.names("outbox") == set()
    assert venice.totals()["charges"] == 2
    mounted(place.outbox)
    finish(place, daemon, {"a.png", "b.png"})
    assert venice.totals()["charges"] == 3


@pytest.mark.root
def test_accepted_outbox(
    place: "Place", venice: "Venice", draw: "Draw", mounted: Callable[..., Path]
) -> None:
    """Who moves an outbox off its share for good says so once, by an empty file."""
    mounted(place.outbox)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    subprocess.run(["umount", str(place.outbox)], check=True)
    place.drop("b.png", draw(2))
    code, program = place.once()
    assert code == 1
    assert ".venice-watch-here" in program.stdout
    (place.outbox / ".venice-watch-here").touch()
    assert place.once()[0] == 0
    place.drop("c.png", draw(4))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"b.png", "c.png"}
    assert venice.totals()["charges"] == 3


@pytest.mark.root
def test_full_ledger(place: "Place", venice: "Venice", mounted: Callable[..., Path]) -> None:
    """While the ledger's disk is full everything waits, says so, and goes on by itself."""
    mounted(place.state)
    daemon = place.ready()
    fillers = []
    for number in range(200):  # to the last byte, and a few inodes of slack
        filler = place.state / f"filler{number}"
        fillers.append(filler)
        try:
            filler.write_bytes(bytes(1 << 20))
        except OSError:
            break
    place.drop_many(3)
    daemon.wait_event("ledger.unwritable")
    wait_for_trouble(place, "ledger")
    assert venice.upscales() == []
    for filler in fillers:
        filler.unlink(missing_ok=True)
    finish(place, daemon, {"p000.png", "p001.png", "p002.png"})
    assert venice.totals()["charges"] == 3


@pytest.mark.root
@pytest.mark.parametrize("under_way", [False, True])
def test_stopped_with_a_full_ledger(
    place: "Place", venice: "Venice", mounted: Callable[..., Path], *, under_way: bool
) -> None:
    """A full ledger keeps nobody from stopping the daemon while no paid result is in its hands."""
    mounted(place.state)
    venice.fail("unavailable", times=1)
    place.drop_many(1)
    daemon = place.ready()
    daemon.wait_event("request.failed")
    if under_way:
        venice.change(latency_s=1.0)
        place.drop("b.png", place.draw(9))
        venice.wait(received=2)
    for number in range(200):
        try:
            (place.state / f"filler{number}").write_bytes(bytes(1 << 20))
        except OSError:
            break
    daemon.wait_event("ledger.unwritable")
    daemon.signal(signal.SIGTERM)
    if under_way:
        daemon.wait_event("daemon.draining")
        for filler in place.state.glob("filler*"):
            filler.unlink()
    assert daemon.wait() == 0
    assert len(daemon.find("ledger.unwritable")) == 1


@pytest.mark.root
def test_bind_mount(
    place: "Place", venice: "Venice", draw: "Draw", mounted: Callable[..., Path]
) -> None:
    """A mount within one file system, as a service of systemd has it, is no share that can go."""
    assert mounted, "only root"
    subprocess.run(["mount", "--bind", str(place.outbox), str(place.outbox)], check=True)
    try:
        place.drop("a.png", draw(1))
        assert place.once()[0] == 0
    finally:
        subprocess.run(["umount", str(place.outbox)], check=True)
    place.drop("b.png", draw(2))
    code, program = place.once()
    assert code == 0, program.stdout
    assert venice.totals()["charges"] == 2


@pytest.mark.root
def test_bind_mount_of_another_folder(
    place: "Place", venice: "Venice", draw: "Draw", mounted: Callable[..., Path]
) -> None:
    """An outbox that is another folder of the same file system is missed when it is away."""
    assert mounted, "only root"
    real = place.root / "real"
    real.mkdir()
    bind = ["mount", "--bind", str(real), str(place.outbox)]
    subprocess.run(bind, check=True)
    try:
        place.drop("a.png", draw(1))
        daemon = place.ready()
        place.wait_names("archive", {"a.png"})
        subprocess.run(["umount", str(place.outbox)], check=True)
        place.drop("b.png", draw(2))
        wait_for_trouble(place, "is not mounted")
        assert place.names("outbox") == set()
        subprocess.run(bind, check=True)
        finish(place, daemon, {"a.png", "b.png"})
    finally:
        subprocess.run(["umount", "-l", str(place.outbox)], capture_output=True, check=False)
    assert venice.totals()["charges"] == 2


# --- a budget's period turns ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "start"), [("per_day_usd", "2026-03-14"), ("per_month_usd", "2026-02-28")]
)
def test_a_budget_turns_at_midnight(
    place: "Place", venice: "Venice", draw: "Draw", period: str, start: str
) -> None:
    """What waits for its budget is sent by itself when the next day or month begins."""
    library = next((path for path in FAKETIME if path.exists()), None)
    if library is None:
        pytest.skip("apt-get install faketime to install it")
    place.write(watch="polling")  # watchdog's own waiting does not bear a time that is faked
    facts = json.loads(place.config.read_text())
    facts["budget"] = {period: 0.02}
    place.config.write_text(json.dumps(facts))
    place.environment |= {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"@{start} 23:59:50",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "Europe/Berlin",
    }
    place.drop("a.png", draw(1))
    place.drop("b.png", draw(2))
    daemon = place.ready()
    reached = daemon.wait_event("budget.reached")
    assert 0 < reached["goes_on_in_s"] <= 10
    assert len(place.names("outbox")) <= 1
    daemon.wait_event("budget.open_again")
    place.wait_names("outbox", {"a.png", "b.png"})
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert venice.totals()["charges"] == 2
    days = [day for (day,) in place.ask("SELECT day FROM attempts ORDER BY id")]
    assert days[0] == start
    assert days[1] > start
