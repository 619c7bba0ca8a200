"""Killed at every step of a file with several frames: none paid twice, none delivered twice."""

import errno
import io
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.crash.world import DONE, REPORT, TEMPORARY, World, files_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.crash.world import Run

    Worlds = Callable[..., AbstractContextManager[World]]

pytestmark = pytest.mark.timeout(900)  # hundreds of runs; every one has its own deadline
STEPS_MAX = 2_000  # a run that has more will never be survived
STRIDE = 1 if os.environ.get("VENICE_WATCH_CRASH_ALL") else 3  # an odd number: see test_kill
SECOND = 31  # the second kill comes so many steps later with each first one
STEPS_SECOND = 150  # of a recovery, in which it comes
COLOURS = ((250, 10, 10), (10, 250, 10), (10, 10, 250))
NAMES = tuple(f"a-{number:02}.png" for number in range(1, len(COLOURS) + 1))


def draw_film() -> bytes:
    """Return an animation with a frame of each colour."""
    out = io.BytesIO()
    first, *rest = [Image.new("RGB", (256, 256), colour) for colour in COLOURS]
    first.save(out, "GIF", save_all=True, append_images=rest)
    return out.getvalue()


FILM = draw_film()


def fill(world: World) -> None:
    """Write the configuration, and drop an animation."""
    world.place.write(settle="50ms", frames="all")
    world.place.drop("a.gif", FILM)


def check(world: World) -> None:
    """Assert what holds at any moment: one original, whole results, each frame paid once."""
    [lane] = world.lanes
    homes = [path for home in lane.homes for path in files_below(home)]
    originals = [one for one in homes if not one.name.endswith(REPORT)]
    assert [path.read_bytes() for path in originals] == [FILM], originals
    for path in files_below(lane.outbox):
        if not path.name.startswith(TEMPORARY):
            assert path.name in NAMES, f"delivered twice, or under a wrong name: {path}"
            with Image.open(path) as image:
                image.load()
                assert image.size == (512, 512)
                found = image.convert("RGB").getpixel((9, 9))
            assert found == COLOURS[NAMES.index(path.name)], f"{path} is another frame"
    charges, _ = world.bill()
    doubts = world.ask("SELECT count(*) FROM attempts WHERE charge NOT IN ('none', 'charged')")
    paid = world.ask("SELECT frame, count(*) FROM attempts WHERE charge = 'charged' GROUP BY 1")
    assert len(charges) <= len(COLOURS)
    assert sum(charges.values()) <= len(charges) + (doubts[0][0] if doubts else 0)
    assert set(Counter(dict(paid)).values()) <= {1}, f"a frame was paid for twice: {paid}"
    world._check_log()


def kill(world: World, **plan: object) -> "Run":
    """Run until the chosen step, and look."""
    run = world.once(**plan)
    assert run.code in (-signal.SIGKILL, *DONE), str(run)
    check(world)
    return run


def end(world: World) -> None:
    """Run undisturbed, and look at where everything is."""
    assert world.once().code in DONE
    [lane] = world.lanes
    in_doubt = lane.quarantine / "a.gif"
    if in_doubt.exists():  # killed twice while one frame was being sent
        [(most,)] = world.ask(
            "SELECT max(doubts) FROM (SELECT count(*) AS doubts FROM attempts "
            "WHERE charge = 'unknown' GROUP BY frame)"
        )
        assert most == 2
        in_doubt.rename(lane.inbox / "a.gif")
        assert world.once().code in DONE
    check(world)
    world.check_nothing_left()
    assert [path.name for path in files_below(lane.outbox)] == list(NAMES)
    assert [path.name for path in files_below(lane.archive or lane.inbox)] == ["a.gif"]


@pytest.mark.parametrize("shard", range(2))
def test_killed(worlds: "Worlds", shard: int) -> None:
    """Killed at any step, and some of the recoveries too, the file is finished all the same."""
    for at in range(shard * STRIDE, STEPS_MAX, 2 * STRIDE):
        with worlds() as world:
            fill(world)
            first = kill(world, at=at)
            if not first.survived and at % 2 == shard:
                kill(world, at=at * SECOND % STEPS_SECOND)
            end(world)
        if first.survived:
            assert "after ledger.advance" in first.names
            return
    pytest.fail(f"still killed after {STEPS_MAX} steps")


@pytest.mark.parametrize(
    "moment",
    ["after place.publish", "before ledger.advance", "after ledger.advance", "after ledger.stage"],
)
def test_killed_between_frames(worlds: "Worlds", moment: str) -> None:
    """Killed as one frame is done and the next not begun, nothing is in doubt or paid again."""
    with worlds() as world:
        fill(world)
        assert not kill(world, moment=moment).survived
        inodes = {path.name: path.stat().st_ino for path in files_below(world.lanes[0].outbox)}
        end(world)
        for path in files_below(world.lanes[0].outbox):
            assert inodes.get(path.name, path.stat().st_ino) == path.stat().st_ino
        assert sum(world.bill()[0].values()) == len(COLOURS)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_bad_disk(worlds: "Worlds", error: int) -> None:
    """What a disk refuses once is done again, and no frame is paid or delivered twice."""
    for at in range(error % 7, STEPS_MAX, 4 * STRIDE):
        with worlds() as world:
            fill(world)
            run = world.once(mode="fail", at=at, error=error)
            assert run.code in DONE, str(run)
            check(world)
            end(world)
        if run.count <= at:
            return
    pytest.fail(f"still failing after {STEPS_MAX} steps")
