"""The engines that must pass the ledger's conformance suite."""

import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from venice_watch.ledger import Ledger
from venice_watch.ledger.sqlite import SqliteLedger

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]


@pytest.fixture(params=["sqlite"])
def anew(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Opener]:
    """Return what makes an empty ledger, on each engine there is, and returns what opens it."""
    numbers = itertools.count()

    def make() -> Opener:
        folder = tmp_path / f"ledger-{next(numbers)}"
        folder.mkdir()
        engines: dict[str, Opener] = {"sqlite": lambda: SqliteLedger(folder / "ledger.db")}
        return engines[request.param]

    return make


@pytest.fixture
def opened(anew: Callable[[], Opener]) -> Opener:
    """Return what opens the ledger of this test, again and again, on each engine there is."""
    return anew()
