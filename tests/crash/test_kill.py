"""Killed at every step there is: nothing lost, nothing paid twice, all delivered in the end."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash.world import DONE, World, new_picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.crash.world import Run, Zygote

    Worlds = Callable[..., AbstractContextManager[World]]

pytestmark = pytest.mark.timeout(900)  # hundreds of runs each; every one has its own deadline
SHARDS = 8  # tests into which the longest sweep is cut, for several workers
STEPS_MAX = 2_000  # a run that has more will never be survived
STEPS_USUAL = 230  # of two images and a damaged one
STEPS_LEFT = 20  # that any recovery has
SECOND = 89  # the second kill comes so many steps later with each first one: all are met
# of the steps of a sweep that differs from the main one in few of them, every so many is taken:
# an odd number, so that it is now the beginning and now the end of one
STRIDE = 1 if os.environ.get("VENICE_WATCH_CRASH_ALL") else 3
# after each of these a recovery has something else to find
RECOVERIES = (
    "after ledger.enqueue",
    "after ledger.begin",
    "before spool.SpoolFile.commit",
    "after Path.rename",
    "after ledger.stage",
    "after place.publish",
    "after ledger.complete",
    "after originals.put_away",
)


def fill(world: World, **settings: object) -> None:
    """Write the configuration, and drop one image and a damaged one."""
    world.place.write(settle="50ms", **settings)
    world.drop(world.place.inbox / "a.png", new_picture())
    world.drop(world.place.inbox / "damaged.png", new_picture(sound=False))


def kill(world: World, **plan: object) -> "Run":
    """Run until the chosen step, and look."""
    run = world.once(**plan)
    assert run.code in (-signal.SIGKILL, *DONE), str(run)
    world.check()
    return run


def end(world: World) -> None:
    """Run undisturbed, and look at everything."""
    assert world.once().code in DONE
    world.check_end()


@pytest.mark.parametrize("shard", range(SHARDS))
def test_killed_twice(worlds: "Worlds", shard: int) -> None:
    """Killed at any step, and once more at some step of the recovery, all ends as it should."""
    for at in range(shard, STEPS_MAX, SHARDS):
        with worlds() as world:
            fill(world)
            world.drop(world.place.inbox / "sub" / "b.png", new_picture())
            first = kill(world, at=at)
            if not first.survived:
                kill(world, at=at * SECOND % max(STEPS_LEFT, STEPS_USUAL - at))
            end(world)
        if first.survived:
            return
    pytest.fail(f"still killed after {STEPS_MAX} steps")


@pytest.mark.parametrize("moment", RECOVERIES)
def test_killed_while_recovering(worlds: "Worlds", moment: str) -> None:
    """Killed at a moment that leaves much behind, then at any step of the recovery."""
    for at in range(RECOVERIES.index(moment) % STRIDE, STEPS_MAX, STRIDE):
        with worlds() as world:
            fill(world)
            assert not kill(world, moment=moment).survived
            second = kill(world, at=at)
            end(world)
        if second.survived:
            return
    pytest.fail(f"still killed after {STEPS_MAX} steps")


def sweep(worlds: "Worlds", first: int, settings: dict[str, object], **options: object) -> None:
    """Kill at the steps of one image's way, under other settings than the usual ones."""
    for at in range(first % STRIDE, STEPS_MAX, STRIDE):
        with worlds(**options) as world:
            lane = world.lanes[0]
            fill(world, **settings, quarantine=str(lane.quarantine), archive=str(lane.archive))
            if "output" in settings:
                world.leave_result(lane.outbox / "a.png")
            run = kill(world, at=at)
            end(world)
            end(world)  # what is dealt with stays so
        if run.survived:
            return
    pytest.fail(f"still killed after {STEPS_MAX} steps")


def test_originals_go_elsewhere(worlds: "Worlds", elsewhere: Path) -> None:
    """Killed while originals are copied to another file system, each arrives there once."""
    sweep(worlds, 0, {}, elsewhere=elsewhere)


@pytest.mark.parametrize("originals", ["delete", "keep"])
def test_originals_stay_or_go(worlds: "Worlds", originals: str) -> None:
    """Killed at any step, an original is deleted only after its result, or stays in its place."""
    sweep(worlds, 1, {"originals": originals}, originals=originals)


def test_overwrite(worlds: "Worlds") -> None:
    """Killed at any step, an older result is there whole until the newer one is."""
    sweep(worlds, 2, {"output": {"on_conflict": "overwrite"}})


def test_no_step_is_forgotten(worlds: "Worlds", zygote: "Zygote") -> None:
    """What must be a step is one, wherever it is called from."""
    assert Path(zygote.package).is_relative_to(Path(__file__).parents[2])
    with worlds() as world:
        fill(world)
        names = {name.partition(" ")[2] for name in world.once().names}
    assert names >= set(
        "ledger.enqueue ledger.claim ledger.begin ledger.stage ledger.complete ledger.retired "
        "ledger.discard ledger.recover place.publish place.write_report place.rename_noreplace "
        "originals.put_away spool.SpoolFile.__init__ spool.SpoolFile.write spool.SpoolFile.commit "
        "spool.write_sidecar pieces.write_pieces os.copy_file_range "
        "spool.clear_spool os.fsync Path.unlink Path.rename".split()
    ) | {"os.open to write"}
    assert names <= {*zygote.steps, *(name for name in names if name.startswith("ledger."))}


def test_a_whole_result_is_not_paid_again(worlds: "Worlds") -> None:
    """What was whole on the disk when the program died is delivered, and nothing is in doubt."""
    with worlds() as world:
        fill(world)
        assert not kill(world, moment="after Path.rename").survived
        end(world)
        sound = next(one for one in world.pictures.values() if one.sound)
        assert world.attempts(sound.sha256) == {"charged": 1}
