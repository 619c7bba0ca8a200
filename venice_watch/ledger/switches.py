"""A person's switches in the SQLite ledger: what is to wait, and what goes on."""

from venice_watch.ledger.connection import verb
from venice_watch.ledger.counters import EVERY
from venice_watch.ledger.pauses import Pause
from venice_watch.ledger.steps import Steps


class Switches(Steps):
    """The verbs that begin and end a pause; see `Pauses` for what each promises."""

    @verb
    def pause(self, folder: str | None, *, by: str, now: float) -> bool:
        """Let a folder wait, or all."""
        cursor = self._execute(
            "INSERT INTO pauses (folder, by, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (EVERY if folder is None else folder, by, now),
        )
        return cursor.rowcount == 1

    @verb
    def resume(self, folder: str | None) -> list[Pause]:
        """End a folder's own pause, or every pause there is."""
        ended = [one for one in self._pauses() if folder is None or one.folder == folder]
        for one in ended:
            name = EVERY if one.folder is None else one.folder
            self._execute("DELETE FROM pauses WHERE folder = ?", (name,))
        return ended
