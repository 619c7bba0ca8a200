"""The engines that must pass the ledger's conformance suite."""

import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from venice_watch.ledger import Ledger
from venice_watch.ledger.sqlite import SqliteLedger

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]


class CheckedLedger(SqliteLedger):
    """A ledger that is looked through at its end: each sum beside the jobs is what they add to."""

    async def __aexit__(self, *raised: object) -> None:
        """Compare, then close."""
        if raised[0] is None:
            kept, added = await self.transact(self._sums)
            assert kept == added
        await super().__aexit__(*raised)  # type: ignore[arg-type]

    def _sums(self) -> tuple[list[Any], list[Any]]:
        kept = self._execute("SELECT * FROM counts WHERE jobs <> 0 OR frames_ahead <> 0 ORDER BY 1")
        added = self._execute(
            "SELECT folder, state, ifnull(code, ''), original_path IS NOT NULL, count(*), "
            "sum(frames - frame - 1) FROM jobs GROUP BY 1, 2, 3, 4"
        )
        return sorted(kept.fetchall()), sorted(added.fetchall())


@pytest.fixture(params=["sqlite"])
def anew(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Opener]:
    """Return what makes an empty ledger, on each engine there is, and returns what opens it."""
    numbers = itertools.count()

    def make() -> Opener:
        folder = tmp_path / f"ledger-{next(numbers)}"
        folder.mkdir()
        engines: dict[str, Opener] = {"sqlite": lambda: CheckedLedger(folder / "ledger.db")}
        return engines[request.param]

    return make


@pytest.fixture
def opened(anew: Callable[[], Opener]) -> Opener:
    """Return what opens the ledger of this test, again and again, on each engine there is."""
    return anew()
