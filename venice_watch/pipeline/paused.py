"""What a person lets wait, as this process goes by it; the ledger remembers it over restarts.

Rules: a pause holds from the moment in which it is asked for, so that nothing is begun while it is
written down; the end of one holds once it is written down.
"""

from venice_watch.errors import VeniceWatchError
from venice_watch.ledger.pauses import Pause, Pauses


class PausedError(VeniceWatchError):
    """A folder was paused after its image had been prepared."""

    def __init__(self, pause: Pause) -> None:
        whose = "everything" if pause.folder is None else "the folder"
        super().__init__(f"{whose} was paused by {pause.by}")


class Paused:
    """The pauses there are: `Pauses`, and an answer without waiting."""

    def __init__(self, ledger: Pauses) -> None:
        self._ledger = ledger
        self._known: dict[str | None, Pause] = {}

    async def load(self) -> None:
        """Go by what an earlier process was told."""
        self._known = {one.folder: one for one in await self._ledger.pauses()}

    def of(self, folder: str) -> Pause | None:
        """Return the pause that a folder waits for, or None."""
        return self._known.get(None) or self._known.get(folder)

    async def pause(self, folder: str | None, *, by: str, now: float) -> bool:
        """Let a folder wait, or all (None); False where it did already."""
        before = self._known.get(folder)
        self._known.setdefault(folder, Pause(folder=folder, by=by, since=now))
        try:
            return await self._ledger.pause(folder, by=by, now=now)
        except Exception:
            if before is None:  # it is not written down, so nobody is told that it holds
                self._known.pop(folder, None)
            raise

    async def resume(self, folder: str | None) -> list[Pause]:
        """End a folder's own pause, or (None) every one; return what was ended."""
        ended = list(await self._ledger.resume(folder))
        for one in ended:
            self._known.pop(one.folder, None)
        return ended

    async def pauses(self) -> list[Pause]:
        """Return every pause there is."""
        return list(await self._ledger.pauses())
