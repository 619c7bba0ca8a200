"""The engines that must pass the ledger's conformance suite."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from venice_watch.ledger import Ledger
from venice_watch.ledger.sqlite import SqliteLedger

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]


@pytest.fixture(params=["sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Return what opens the ledger of this test, again and again, on each engine there is."""
    engines: dict[str, Opener] = {"sqlite": lambda: SqliteLedger(tmp_path / "ledger.db")}
    return engines[request.param]
