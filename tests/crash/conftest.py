"""Worlds to be crashed: a zygote and a simulator for all tests of a worker."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.component.conftest import Venice
from tests.crash.world import World, Zygote

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess

    Worlds = Callable[..., AbstractContextManager[World]]


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Return a process that runs `once` for milliseconds, and end it by its own pid."""
    zygote = Zygote(tmp_path_factory.mktemp("zygote") / "errors")
    yield zygote
    zygote.close()


@pytest.fixture
def worlds(tmp_path: Path, simulator: "SimulatorProcess", zygote: Zygote) -> "Worlds":
    """Return a maker of worlds; each is removed as soon as it turned out well."""
    numbers = itertools.count()
    venice = Venice(simulator)

    @contextmanager
    def make(*, originals: str = "archive", elsewhere: Path | None = None) -> Iterator[World]:
        venice.reset()
        venice.change(latency_s=0.0)
        root = tmp_path / f"world{next(numbers)}"
        root.mkdir()
        if elsewhere is not None:
            elsewhere /= root.name
            for role in ("quarantine", "archive"):
                (elsewhere / role).mkdir(parents=True)
        world = World(root, venice, zygote, originals=originals, elsewhere=elsewhere)
        with world.told():
            yield world
        shutil.rmtree(root)
        if elsewhere is not None:
            shutil.rmtree(elsewhere)

    return make
