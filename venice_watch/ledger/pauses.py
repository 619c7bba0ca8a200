"""What a person lets wait: the verbs of the ledger for it, and what they give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Nothing new is sent for a folder (None: for any) until somebody resumes it."""

    folder: str | None
    by: str  # the user who said so
    since: float  # seconds since 1970

    def concerns(self, folder: str) -> bool:
        """Tell whether a folder waits for its end."""
        return self.folder in (None, folder)


class Pauses(Protocol):
    """The verbs of a ledger that remember pauses over restarts."""

    async def pause(self, folder: str | None, *, by: str, now: float) -> bool:
        """Let a folder wait, or all (None); False where it did already: who began it stays."""

    async def resume(self, folder: str | None) -> Sequence[Pause]:
        """End a folder's own pause, or (None) every pause there is; return what was ended."""

    async def pauses(self) -> Sequence[Pause]:
        """Return every pause, that of all folders first, then by folder."""
