"""Killed at every step there is: nothing lost, nothing paid twice, all delivered in the end."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.world import World, new_picture

if TYPE_CHECKING:
    from tests.crash.world import Run, Zygote

    Worlds = Callable[..., AbstractContextManager[World]]

SHARDS = 8  # tests into which one sweep is cut, for several workers
STEPS_MAX = 2_000  # a run that has more will never be survived
SECOND = 89  # steps the second kill is moved by with each first one: prime, so that all are met
RUNS_TO_END = 3  # clean ones: a name may be reserved by a job that is done only then


def fill(world: World, *, images: int) -> None:
    """Drop images, the second of them into a sub-folder, and a damaged one."""
    for name in ("a.png", "sub/b.png", "c.png")[:images]:
        world.drop(world.place.inbox / name, new_picture())
    world.drop(world.place.inbox / "damaged.png", new_picture(sound=False))


def kill(world: World, **plan: object) -> "Run":
    """Run until the chosen step, and look."""
    run = world.once(**plan)
    assert run.code in (-signal.SIGKILL, 0, 1, 75), run
    world.check()
    return run


def end(world: World) -> None:
    """Run undisturbed until nothing is left."""
    world.once()
    world.check_end()


@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_twice(worlds: "Worlds", shard: int) -> None:
    """Killed at any step, and once more at any step of the recovery, all ends as it should."""
    for at in range(shard, STEPS_MAX, SHARDS):
        with worlds() as world:
            world.place.write(settle="50ms")
            fill(world, images=2)
            first = kill(world, at=at)
            if not first.survived:
                kill(world, at=at * SECOND % max(20, 230 - at))
            end(world)
        if first.survived:
            return
    pytest.fail(f"still killed after {STEPS_MAX} steps")
