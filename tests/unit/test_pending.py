"""When a file that cannot be taken yet is looked at again."""

from collections.abc import Callable

import pytest

from venice_watch.intake.pending import REFUSED_LOOK_S, TROUBLE_LOOK_S, Pending
from venice_watch.job import Signature

AT = Signature(device=1, inode=2, size_bytes=3, mtime_ns=4, ctime_ns=5)


@pytest.mark.parametrize(
    ("step", "range_s"),
    [
        (lambda entry, now: entry.not_taken(now), REFUSED_LOOK_S),
        (lambda entry, now: entry.not_opened("Permission denied", now), TROUBLE_LOOK_S),
    ],
    ids=["not taken", "not opened"],
)
def test_patience_grows(
    step: Callable[[Pending, float], None], range_s: tuple[float, float]
) -> None:
    """Each look that is in vain is followed by a wait twice as long, up to a limit."""
    entry = Pending(signature=AT, changed_at=0.0, look_at=0.0)
    waits = []
    for now in range(40):
        step(entry, float(now))
        waits.append(entry.look_at - now)
    low_s, high_s = range_s
    assert waits[:3] == [low_s, 2 * low_s, 4 * low_s]
    assert waits[-1] == high_s
    assert waits == sorted(waits)
    assert entry.blocked


def test_opened_again() -> None:
    """A file that was opened is looked at as patiently as a new one, and by its new version."""
    entry = Pending(signature=AT, changed_at=0.0, look_at=0.0, announced=True, told=True)
    entry.not_opened("Permission denied", 1.0)
    entry.opened(AT, 2.0)
    assert (entry.troubles, entry.changed_at, entry.announced) == (0, 0.0, True)
    later = Signature(device=1, inode=2, size_bytes=9, mtime_ns=4, ctime_ns=5)
    entry.opened(later, 3.0)
    assert (entry.signature, entry.changed_at) == (later, 3.0)
    assert not entry.announced
    assert not entry.told
