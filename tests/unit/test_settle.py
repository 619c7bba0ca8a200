"""When a file is complete: what the kernel, the content and time say together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.settle import Complete, End, GiveUp, LookAgain, Policy, Verdict, Writer, decide

POLICY = Policy(settle_s=2.0, incomplete_after_s=600.0)
SIZE = 1_000


def judge(
    unchanged_s: float,
    writer: Writer,
    end: End,
    *,
    size_bytes: int = SIZE,
    announced: bool = False,
) -> Verdict:
    """Decide with the usual policy."""
    return decide(
        size_bytes=size_bytes,
        unchanged_s=unchanged_s,
        announced=announced,
        writer=writer,
        end=end,
        policy=POLICY,
    )


@pytest.mark.parametrize(
    ("writer", "end", "needed_s"),
    [
        (Writer.NONE, End.WHOLE, 0.15),
        (Writer.UNKNOWN, End.WHOLE, 2.0),
        (Writer.NONE, End.UNKNOWN, 2.0),
        (Writer.UNKNOWN, End.UNKNOWN, 2.0),
        (Writer.NONE, End.ZEROS, 20.0),
        (Writer.UNKNOWN, End.ZEROS, 20.0),
    ],
)
def test_quiet_time(writer: Writer, end: End, needed_s: float) -> None:
    """A file is taken at its quiet time and not before, the surer the witnesses the sooner."""
    early = judge(needed_s - 0.125, writer, end)
    assert isinstance(early, LookAgain)
    assert early.after_s == pytest.approx(0.125)
    assert judge(needed_s, writer, end) == Complete()


def test_announced() -> None:
    """What an event told of is taken at once where kernel and content are certain, else not."""
    assert judge(0.0, Writer.NONE, End.WHOLE, announced=True) == Complete()
    for writer, end in ((Writer.UNKNOWN, End.WHOLE), (Writer.NONE, End.UNKNOWN)):
        assert judge(1.5, writer, end, announced=True) == LookAgain(after_s=0.5)
    assert judge(0.0, Writer.NONE, End.MISSING, announced=True) == LookAgain(after_s=1.0)
    assert judge(9.0, Writer.SOME, End.WHOLE, announced=True) == LookAgain(after_s=0.25)


@pytest.mark.parametrize("end", End)
def test_never_under_a_writer(end: End) -> None:
    """A file that somebody has open for writing is never taken nor given up."""
    assert judge(1e9, Writer.SOME, end) == LookAgain(after_s=0.25)
    assert judge(1e9, Writer.SOME, end, size_bytes=0) == LookAgain(after_s=0.25)


@pytest.mark.parametrize("writer", [Writer.NONE, Writer.UNKNOWN])
@pytest.mark.parametrize(
    ("end", "size_bytes"), [(End.MISSING, SIZE), (End.WHOLE, 0), (End.UNKNOWN, 0), (End.ZEROS, 0)]
)
def test_incomplete(writer: Writer, end: End, size_bytes: int) -> None:
    """An empty file, or one without its end, waits for its writer and is then given up."""
    assert judge(0, writer, end, size_bytes=size_bytes) == LookAgain(after_s=1.0)
    assert judge(599.5, writer, end, size_bytes=size_bytes) == LookAgain(after_s=0.5)
    assert judge(600.0, writer, end, size_bytes=size_bytes) == GiveUp()


@given(
    unchanged_s=st.floats(0, 1e9),
    writer=st.sampled_from(Writer),
    end=st.sampled_from(End),
    size_bytes=st.integers(0, 10),
)
def test_always_comes_to_an_end(
    unchanged_s: float, writer: Writer, end: End, size_bytes: int
) -> None:
    """A look is never at once again, and looking when told leads to an end without a writer."""
    verdict = judge(unchanged_s, writer, end, size_bytes=size_bytes)
    looks = 0
    while isinstance(verdict, LookAgain) and writer is not Writer.SOME:
        assert verdict.after_s > 0
        unchanged_s += max(verdict.after_s, 1e-6)
        looks += 1
        assert looks < 1_000
        verdict = judge(unchanged_s, writer, end, size_bytes=size_bytes)
    if size_bytes == 0 or end is End.MISSING:
        assert not isinstance(verdict, Complete)
