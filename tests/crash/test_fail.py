"""A disk that fails at any step, once or from then on: all waits, and goes on once it is mended."""

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.crash.world import DONE, World, new_picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Worlds = Callable[..., AbstractContextManager[World]]

pytestmark = pytest.mark.timeout(900)  # hundreds of runs each; every one has its own deadline
STEPS_MAX = 2_000  # a run that has more will never be through
ERRORS = (errno.ENOSPC, errno.EIO)
STRIDE = 1 if os.environ.get("VENICE_WATCH_CRASH_ALL") else 2  # every so many steps


def sweep(worlds: "Worlds", error: int, *, for_ever: bool) -> None:
    """Let the disk fail at the steps of one image's way, and mend it."""
    for at in range(ERRORS.index(error) % STRIDE, STEPS_MAX, STRIDE):
        with worlds() as world:
            world.place.write(settle="50ms")
            world.drop(world.place.inbox / "a.png", new_picture())
            world.drop(world.place.inbox / "damaged.png", new_picture(sound=False))
            run = world.once(mode="fail", at=at, error=error, for_ever=for_ever)
            assert run.code in ((*DONE, -signal.SIGKILL) if for_ever else DONE), str(run)
            world.check()
            assert world.once().code in DONE
            world.check_end()
        if run.count <= at:
            return
    pytest.fail(f"still failing after {STEPS_MAX} steps")


@pytest.mark.parametrize("error", ERRORS)
def test_once(worlds: "Worlds", error: int) -> None:
    """What failed once is done again, by itself or at the next start, and nothing is paid twice."""
    sweep(worlds, error, for_ever=False)


@pytest.mark.parametrize("error", ERRORS)
def test_for_ever(worlds: "Worlds", error: int) -> None:
    """What cannot be written stays where it is until the disk is mended, and is then done."""
    sweep(worlds, error, for_ever=True)
