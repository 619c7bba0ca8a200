"""One turn to send, and the mark that it leaves in the rate's window."""

from venice_watch.clock import Clock
from venice_watch.venice.window import SlidingWindow


class Turn:
    """A turn to send; one that is not used counts against no rate."""

    def __init__(self, sent: SlidingWindow, clock: Clock) -> None:
        self._sent = sent
        self._clock = clock
        self._at = self.begun_at = clock.monotonic()
        self._used = False
        sent.add(self._at)

    def use(self) -> None:
        """Note that a request goes out now, or is still going out.

        Called again when the whole body has left: a server may count it only then.
        """
        self._used = True
        self._sent.discard(self._at)
        self._at = self._clock.monotonic()
        self._sent.add(self._at)

    def end(self) -> None:
        """Give the turn back; one that was not used leaves no trace."""
        if not self._used:
            self._sent.discard(self._at)
