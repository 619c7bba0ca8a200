"""What happens to an inbox while it is watched, and how work goes on by itself once it is mended.

Each test does something to the watched folder that a user's machine does, looks for its name in
`status` and in the log, mends it, and drops a file: it is done exactly once, within a rescan.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.component.conftest import DEADLINE_S, Place, Program, wait_until

if TYPE_CHECKING:
    Draw = Callable[..., bytes]

RESCAN_S = 3.0  # while something is wrong, whatever the folder says; else it says 2 s here
SLACK_S = 7.0  # for a machine that has other things to do
UNSHARE = ["unshare", "--user", "--map-root-user"]


@pytest.fixture
def mounted(place: Place) -> Iterator[Callable[..., None]]:
    """Return what mounts something for the time of a test; a tmpfs unless told."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount; run the tests as root")
    points: list[Path] = []

    def mount(point: Path, *command: str) -> None:
        words = [*command, str(point)] if command else ["mount", "-t", "tmpfs", "none", str(point)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine lets nobody mount: {done.stderr.strip()}")
        points.append(point)

    yield mount
    place.end()  # whoever still has files open there
    for point in reversed(points):
        subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)


def umount(point: Path, *options: str) -> None:
    """Unmount, as soon as nobody is looking into it any more."""

    def done() -> bool:
        words = ["umount", *options, str(point)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    wait_until(done, f"{point} can be unmounted")


def troubles(place: Place) -> dict[str, str]:
    """Return what `status` says is wrong."""
    facts = json.loads(place.run("status", "--json").stdout)
    return {one["subject"]: one["why"] for one in facts["troubles"]}


def wait_trouble(place: Place, subject: str, words: str) -> None:
    """Wait until `status` says this of that."""
    wait_until(
        lambda: words in troubles(place).get(subject, ""),
        f"{words!r} in what status says of {subject!r}",
    )


def wait_mended(place: Place) -> None:
    """Wait until `status` knows of nothing that is wrong."""
    wait_until(lambda: not troubles(place), "nothing is wrong any more")


def start(place: Place, **folder: object) -> Program:
    """Start the daemon on a folder that is looked through every two seconds."""
    place.write(rescan="2s", **folder)
    return place.ready()


def drop_and_wait(place: Place, name: str, data: bytes) -> None:
    """Drop a file; it is done within one rescan."""
    begun = time.monotonic()
    place.drop(name, data)
    place.wait_names("outbox", {name})
    assert time.monotonic() - begun < RESCAN_S + SLACK_S


def finish(place: Place, daemon: Program, names: set[str]) -> None:
    """Each of these was done exactly once, nothing else was, and nothing is wrong."""
    place.wait_names("outbox", names)
    wait_mended(place)
    assert daemon.stop() == 0
    assert place.names("outbox") == names
    assert place.names("quarantine") == set()
    assert place.venice.totals()["charges"] == len(names)
    assert not daemon.find("image.gone")


# --- the root ------------------------------------------------------------------------------------


def test_removed_and_made_again(place: Place, draw: "Draw") -> None:
    """An inbox that was removed is missed, and watched again once it is made again."""
    daemon = start(place)
    drop_and_wait(place, "a.png", draw(1))
    place.wait_names("archive", {"a.png"})
    place.inbox.rmdir()
    wait_trouble(place, "inbox of photos", "is not there")
    daemon.wait_event("folder.unreadable")
    place.inbox.mkdir()
    drop_and_wait(place, "b.png", draw(2))
    daemon.wait_event("folder.readable_again")
    daemon.wait_event("watch.attached_again")
    drop_and_wait(place, "c.png", draw(3))
    finish(place, daemon, {"a.png", "b.png", "c.png"})


@pytest.mark.parametrize("watch", ["auto", "polling"])
def test_renamed_away_and_back(place: Place, draw: "Draw", watch: str) -> None:
    """An inbox that is renamed away keeps its files waiting until it is back."""
    daemon = start(place, watch=watch, originals="keep", archive=None)
    drop_and_wait(place, "a.png", draw(1))
    away = place.root / "away"
    place.inbox.rename(away)
    wait_trouble(place, "inbox of photos", "is not there")
    (away / "b.png").write_bytes(draw(2))
    away.rename(place.inbox)
    place.wait_names("outbox", {"b.png"})
    drop_and_wait(place, "c.png", draw(3))
    finish(place, daemon, {"a.png", "b.png", "c.png"})


def test_replaced_between_two_looks(place: Place, draw: "Draw") -> None:
    """Another folder that took the inbox's place is watched, also if nobody saw it come."""
    daemon = start(place)
    drop_and_wait(place, "a.png", draw(1))
    place.wait_names("archive", {"a.png"})
    fresh = place.root / "fresh"
    fresh.mkdir()
    place.inbox.rename(place.root / "old")
    fresh.rename(place.inbox)
    drop_and_wait(place, "b.png", draw(2))
    assert daemon.wait_event("watch.lost")["reason"] == "another folder stands there now"
    daemon.wait_event("watch.attached_again")
    finish(place, daemon, {"a.png", "b.png"})


@pytest.mark.root
@pytest.mark.parametrize("options", [(), ("-l",)])
def test_unmounted_and_mounted_again(
    place: Place, draw: "Draw", mounted: Callable[..., None], options: tuple[str, ...]
) -> None:
    """An inbox whose share is away is not an empty one; its jobs wait, over restarts too."""
    disk = place.root / "disk"
    disk.mkdir()
    bind = ("mount", "--bind", str(disk))
    mounted(place.inbox, *bind)
    kept: dict[str, object] = {"originals": "keep", "archive": None}
    daemon = start(place, budget={"per_day_usd": 0.03}, **kept)
    drop_and_wait(place, "a.png", draw(1))
    place.drop("waits.png", draw(2))
    daemon.wait_event("budget.reached")
    umount(place.inbox, *options)
    wait_trouble(place, "inbox of photos", "is not mounted")
    assert "is not mounted" in daemon.wait_event("folder.unreadable")["error"]
    assert daemon.stop() == 0
    daemon = start(place, **kept)
    wait_trouble(place, "inbox of photos", "is not mounted")
    assert place.ask("SELECT state FROM jobs ORDER BY id") == [("completed",), ("available",)]
    mounted(place.inbox, *bind)
    drop_and_wait(place, "b.png", draw(3))
    finish(place, daemon, {"a.png", "waits.png", "b.png"})
    assert place.names("inbox") == {"a.png", "waits.png", "b.png"}


@pytest.mark.root
def test_tmpfs_mounted_again(place: Place, draw: "Draw", mounted: Callable[..., None]) -> None:
    """A new file system that has the numbers of the old one is watched anew."""
    mounted(place.inbox)
    daemon = start(place)
    drop_and_wait(place, "a.png", draw(1))
    place.wait_names("archive", {"a.png"})
    umount(place.inbox)
    mounted(place.inbox)
    drop_and_wait(place, "b.png", draw(2))
    daemon.wait_event("watch.lost")
    daemon.wait_event("watch.attached_again")
    finish(place, daemon, {"a.png", "b.png"})


@pytest.mark.root
def test_mounted_over(place: Place, draw: "Draw", mounted: Callable[..., None]) -> None:
    """What is mounted over the inbox is the inbox then; what it hid is not forgotten for it."""
    daemon = start(place, originals="keep", archive=None)
    drop_and_wait(place, "a.png", draw(1))
    drop_and_wait(place, "b.png", draw(2))
    mounted(place.inbox)
    drop_and_wait(place, "over.png", draw(3))
    daemon.wait_event("folder.remounted")
    drop_and_wait(place, "over2.png", draw(4))
    umount(place.inbox)
    drop_and_wait(place, "c.png", draw(5))
    daemon.wait_event("folder.remounted", 2)
    finish(place, daemon, {"a.png", "b.png", "over.png", "over2.png", "c.png"})
    assert place.ask("SELECT count(*) FROM jobs") == [(5,)]


@pytest.mark.root
def test_mounts_are_told_of(place: Place, draw: "Draw", mounted: Callable[..., None]) -> None:
    """What is mounted or unmounted is noticed at once, however far the next scan is."""
    mounted(place.inbox)
    place.write(rescan="1h")
    daemon = place.ready()
    drop_and_wait(place, "a.png", draw(1))
    place.wait_names("archive", {"a.png"})
    umount(place.inbox)
    wait_trouble(place, "inbox of photos", "is not mounted")
    mounted(place.inbox)
    drop_and_wait(place, "b.png", draw(2))
    place.wait_names("archive", {"b.png"})
    mounted(place.inbox)
    place.drop("c.png", draw(3))
    daemon.wait_event("folder.remounted")
    place.wait_names("outbox", {"c.png"})
    finish(place, daemon, {"a.png", "b.png", "c.png"})


def test_reader_that_dies(place: Place, draw: "Draw") -> None:
    """A folder archived and later pruned ends watchdog's reader: it is replaced by itself."""
    daemon = start(place)
    pruned = place.root / "pruned"
    pruned.mkdir()
    for round_number in range(3):
        (place.inbox / "A").mkdir()
        (place.inbox / "A").rename(pruned / "A")
        (place.inbox / "A").mkdir()
        (place.inbox / "A").rmdir()
        (pruned / "A").rmdir()
        drop_and_wait(place, f"{round_number}.png", draw(round_number))
    if daemon.find("library.log"):  # its last words
        daemon.wait_event("watch.lost")
    finish(place, daemon, {"0.png", "1.png", "2.png"})


@pytest.mark.root
def test_original_of_an_inbox_that_is_away(
    place: Place, draw: "Draw", mounted: Callable[..., None]
) -> None:
    """A result that comes while its inbox is away is delivered; the original is put away later."""
    disk = place.root / "disk"
    disk.mkdir()
    bind = ("mount", "--bind", str(disk))
    mounted(place.inbox, *bind)
    place.venice.change(latency_s=3.0)
    daemon = start(place)
    place.drop("a.png", draw(1))
    place.venice.wait(received=1)
    umount(place.inbox)
    place.wait_names("outbox", {"a.png"})
    assert "inbox is away" in daemon.wait_event("original.stuck")["error"]
    assert daemon.stop() == 0
    mounted(place.inbox, *bind)
    daemon = place.ready()
    place.wait_names("archive", {"a.png"})
    finish(place, daemon, {"a.png"})


def test_original_of_an_inbox_that_another_replaced(place: Place, draw: "Draw") -> None:
    """An inbox replaced while its image is sent and back later is not processed anew."""
    place.venice.change(latency_s=3.0)
    daemon = start(place, duplicates="process")
    place.drop("a.png", draw(1))
    place.venice.wait(received=1)
    away = place.root / "away"
    place.inbox.rename(away)
    place.inbox.mkdir()
    place.wait_names("outbox", {"a.png"})
    daemon.wait_event("original.hidden")
    place.inbox.rmdir()
    away.rename(place.inbox)
    place.venice.change(latency_s=0.02)
    drop_and_wait(place, "b.png", draw(2))
    place.wait_names("archive", {"a.png", "b.png"})
    finish(place, daemon, {"a.png", "b.png"})


@pytest.mark.root
def test_word_of_a_person(place: Place, draw: "Draw", mounted: Callable[..., None]) -> None:
    """An inbox that left its share for good is taken as it is on a person's word, given once."""
    mounted(place.inbox)
    daemon = start(place)
    drop_and_wait(place, "a.png", draw(1))
    place.wait_names("archive", {"a.png"})
    umount(place.inbox)
    wait_trouble(place, "inbox of photos", "is not mounted")
    place.drop(".venice-watch-here", b"")
    drop_and_wait(place, "b.png", draw(2))
    finish(place, daemon, {"a.png", "b.png"})
    daemon = place.ready()
    wait_until(lambda: not place.names("inbox"), "the word is taken away")
    finish(place, daemon, {"a.png", "b.png"})


@pytest.mark.root
@pytest.mark.parametrize("which", ["", "sub"])
def test_permission_taken_and_given_back(
    place: Place, draw: "Draw", as_nobody: Callable[[], Program], which: str
) -> None:
    """An inbox, or a folder in it, that may not be read is named, and read once it may be again."""
    (place.inbox / "sub").mkdir()
    place.write(rescan="2s", originals="keep", archive=None)
    daemon = as_nobody()
    drop_and_wait(place, "sub/a.png", draw(1))
    folder = place.inbox / which
    folder.chmod(0)
    place.drop("sub/b.png", draw(2))
    wait_trouble(place, "inbox of photos", "may not read it" if not which else "sub: Permission")
    daemon.wait_event("folder.unreadable")
    begun = time.monotonic()
    folder.chmod(0o777)
    place.wait_names("outbox", {"sub/b.png"})
    assert time.monotonic() - begun < RESCAN_S + SLACK_S
    drop_and_wait(place, "sub/c.png", draw(3))
    finish(place, daemon, {"sub/a.png", "sub/b.png", "sub/c.png"})


def test_once_with_an_inbox_that_is_away(place: Place, draw: "Draw") -> None:
    """`once` ends, says so, and leaves the jobs of an inbox that is away to the next time."""
    place.write(budget={"per_day_usd": 0.01})
    place.drop("a.png", draw(1))
    place.once()
    place.write()
    jobs = place.ask("SELECT count(*) FROM jobs")
    place.inbox.rename(place.root / "away")
    code, program = place.once()
    assert code != 0
    assert "is not there" in program.stdout
    (place.root / "away").rename(place.inbox)
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png"}
    assert jobs == place.ask("SELECT count(*) FROM jobs") == [(1,)]


# --- limits --------------------------------------------------------------------------------------


@pytest.fixture
def limited(place: Place) -> Callable[..., tuple[Program, Callable[..., None]]]:
    """Return what starts the daemon below limits of its own, and what changes them.

    A user namespace has its own table of limits, so nobody else on the machine notices.
    """
    if os.geteuid() != 0:
        pytest.skip("only root may set limits; run the tests as root")
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine has no user namespaces")

    def begin(**limits: int) -> tuple[Program, Callable[..., None]]:
        words = [
            f"echo {value} > /proc/sys/user/max_inotify_{name}" for name, value in limits.items()
        ]
        shell = ["sh", "-ec", "; ".join([*words, 'exec "$@"']), "sh"]
        place.write(rescan="2s")
        program = start_wrapped(place, [*UNSHARE, *shell])
        program.wait_event("daemon.ready")

        def change(**limits: int) -> None:
            for name, value in limits.items():
                setting = f"/proc/sys/user/max_inotify_{name}"
                enter = ["nsenter", "--user", f"--target={program.pid}", "sh", "-ec"]
                subprocess.run([*enter, f"echo {value} > {setting}"], check=True)

        return program, change

    return begin


def setting(limits: dict[str, int]) -> str:
    """Return the shell's words that set limits of the user namespace that it is in."""
    names = limits.items()
    return "; ".join(f"echo {value} > /proc/sys/user/max_inotify_{name}" for name, value in names)


def start_wrapped(place: Place, wrapper: list[str]) -> Program:
    """Start the daemon by another program, which becomes it."""
    arguments = ["run", "--config", str(place.config), "--log-format", "json"]
    program = Program(arguments, place.environment, place.root, wrapper=wrapper)
    place.programs.append(program)
    return program


@pytest.fixture
def as_nobody(place: Place) -> Callable[[], Program]:
    """Return what starts the daemon as a user whom permissions mean something to."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user; run the tests as root")

    def begin() -> Program:
        # with root's name and files, and without its right to read everything
        wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        program = start_wrapped(place, wrapper)
        program.wait_event("daemon.ready")
        return program

    return begin


@pytest.mark.root
def test_instances_exhausted(
    place: Place, draw: "Draw", limited: Callable[..., tuple[Program, Callable[..., None]]]
) -> None:
    """Without an inotify instance the inbox is scanned; `status` and the log say what to raise."""
    daemon, change = limited(instances=0)
    daemon.wait_event("folder.watching", by="polling")
    wait_trouble(place, "watch of photos", "sysctl -w user.max_inotify_instances=512")
    failed = daemon.wait_event("watch.failed")
    assert "instances is reached" in failed["error"]
    drop_and_wait(place, "a.png", draw(1))
    assert len(daemon.find("watch.failed")) == 1
    change(instances=8)
    daemon.wait_event("watch.attached_again")
    drop_and_wait(place, "b.png", draw(2))
    finish(place, daemon, {"a.png", "b.png"})


@pytest.mark.root
@pytest.mark.parametrize("room", [0, 3])
def test_watches_exhausted(
    place: Place,
    draw: "Draw",
    limited: Callable[..., tuple[Program, Callable[..., None]]],
    room: int,
) -> None:
    """Where not every folder can be watched, that is noticed although the library says nothing."""
    for number in range(6):
        (place.inbox / f"sub{number}").mkdir()
    daemon, change = limited(watches=room)
    wait_trouble(place, "watch of photos", "sysctl -w user.max_inotify_watches=524288")
    assert "watches is reached" in daemon.wait_event("watch.failed")["error"]
    names = {f"sub{number}/a.png" for number in range(6)}
    for number, name in enumerate(sorted(names)):
        place.drop(name, draw(number))
    place.wait_names("outbox", names)
    change(watches=1000)
    daemon.wait_event("watch.attached_again")
    drop_and_wait(place, "sub5/b.png", draw(8))
    finish(place, daemon, {*names, "sub5/b.png"})


@pytest.mark.root
def test_watches_exhausted_later(
    place: Place, draw: "Draw", limited: Callable[..., tuple[Program, Callable[..., None]]]
) -> None:
    """A folder that is made when the limit is reached is found out at the next scan."""
    daemon, change = limited(watches=2)
    daemon.wait_event("folder.watching", by="native")
    assert not troubles(place)
    for number in range(3):
        place.drop(f"sub{number}/a.png", draw(number))
    wait_trouble(place, "watch of photos", "sysctl -w")
    change(watches=1000)
    daemon.wait_event("watch.attached_again")
    drop_and_wait(place, "sub2/b.png", draw(8))
    finish(place, daemon, {"sub0/a.png", "sub1/a.png", "sub2/a.png", "sub2/b.png"})


# --- false alarms --------------------------------------------------------------------------------


def test_no_false_alarm(place: Place, draw: "Draw") -> None:
    """What programs do with files on a local disk is never taken for a blind watch."""
    if os.statvfs(place.inbox).f_flag & os.ST_NOATIME:
        pytest.skip("this file system keeps no times of access, by which a scan is seen here")
    place.write(rescan="1s", originals="keep", archive=None)
    daemon = place.ready()
    outside = place.root / "outside"
    names = set()

    def tree(number: int) -> None:
        for leaf in range(3):
            path = outside / f"t{number}" / f"f{leaf}" / "x.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(draw(10 * number + leaf))
            names.add(f"t{number}/f{leaf}/x.png")

    names |= {"slow.png", "again.png", "again-1.png"}
    place.drop("again.png", draw(200))
    with (place.inbox / "slow.png").open("wb") as slow:
        slow.write(draw(201))
        slow.flush()
        for number in range(4):
            tree(number)
            shutil.copytree(outside / f"t{number}", place.inbox / f"t{number}")
            tree(number + 4)
            (outside / f"t{number + 4}").rename(place.inbox / f"t{number + 4}")
            place.wait_names("outbox", {f"t{number + 4}/f2/x.png"})
            (place.inbox / f"gone{number}.png.part").write_bytes(b"x")
            (place.inbox / f"gone{number}.png.part").unlink()
            place.drop(f"{number}.txt", b"no image")
            if number == 2:
                place.drop("again.png", draw(202))
            # three scans later
            known = len(daemon.find("image.completed"))
            place.drop(f"turn{number}.png", draw(210 + number))
            names.add(f"turn{number}.png")
            daemon.wait_event("image.completed", known + 1)
            wait_scans(place, 3)
    place.wait_names("outbox", names)
    wait_scans(place, 3)
    finish(place, daemon, names)
    for event in ("watch.lost", "watch.missed", "watch.failed", "folder.unreadable"):
        assert not daemon.find(event)


def wait_scans(place: Place, count: int) -> None:
    """Wait until the inbox was looked through so many times more, each a second after the last.

    What the scan alone can see tells: the access time of the inbox, set back before each look.
    """
    for _ in range(count):
        status = place.inbox.stat()
        os.utime(place.inbox, ns=(0, status.st_mtime_ns))
        wait_until(lambda: place.inbox.stat().st_atime_ns != 0, "the inbox is looked through")


# --- files that come from elsewhere --------------------------------------------------------------


@pytest.mark.root
def test_fuse(place: Place, draw: "Draw", mounted: Callable[..., None]) -> None:
    """Files that come into a FUSE folder from behind are found within a rescan, without events."""
    if shutil.which("bindfs") is None:
        pytest.skip("apt-get install bindfs to install it")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no FUSE")
    behind = place.root / "behind"
    behind.mkdir()
    mounted(place.inbox, "bindfs", str(behind))
    daemon = start(place)
    watching = daemon.wait_event("folder.watching", by="polling")
    assert watching["file_system"].startswith("fuse")
    for number in range(4):
        begun = time.monotonic()
        (behind / f"{number}.png").write_bytes(draw(number))
        place.wait_names("outbox", {f"{number}.png"})
        assert time.monotonic() - begun < 2 * RESCAN_S + SLACK_S  # and the quiet time
    assert not daemon.find("watch.missed")
    finish(place, daemon, {f"{number}.png" for number in range(4)})


@pytest.mark.root
def test_overlay_written_from_below(
    place: Place, draw: "Draw", mounted: Callable[..., None]
) -> None:
    """Where files come again and again that no event told of, events are believed no longer."""
    lower, upper, work = (place.root / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounted(place.inbox, "mount", "-t", "overlay", "-o", options, "none")
    daemon = start(place)
    daemon.wait_event("folder.watching", by="native", file_system="overlay")
    names = set()
    ends_at = time.monotonic() + DEADLINE_S
    while not daemon.find("watch.failed"):
        assert time.monotonic() < ends_at, daemon.stderr
        names.add(name := f"{len(names)}.png")
        (upper / name).write_bytes(draw(len(names)))
        place.wait_names("outbox", {name})
    assert len(daemon.find("watch.missed")) == 3
    wait_trouble(place, "watch of photos", "the kernel does not tell of")
    (upper / "last.png").write_bytes(draw(99))
    place.wait_names("outbox", {"last.png"})
    assert daemon.stop() == 0
    assert place.venice.totals()["charges"] == len(names) + 1
