"""Files made of pieces: the right bytes whichever way they are copied."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from venice_watch.files import pieces
from venice_watch.files.pieces import Piece, Span, digest_of, read_pieces, size_of, write_pieces

DATA = os.urandom(3_000_007)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    """Return a descriptor of a file with DATA."""
    (tmp_path / "source").write_bytes(DATA)
    descriptor = os.open(tmp_path / "source", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def made(source: int, path: Path, wanted: list[Piece]) -> bytes:
    """Write a file of pieces and return what is in it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_pieces(source, descriptor, wanted)
    finally:
        os.close(descriptor)
    return path.read_bytes()


def expected(wanted: list[Piece]) -> bytes:
    """Return what a file of these pieces holds, found in another way."""
    return b"".join(one if isinstance(one, bytes) else DATA[one.start : one.end] for one in wanted)


PIECES = st.lists(
    st.binary(max_size=9)
    | st.tuples(st.integers(0, len(DATA)), st.integers(0, len(DATA))).map(
        lambda ends: Span(start=min(ends), end=max(ends))
    ),
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(wanted=PIECES)
def test_any_pieces(source: int, tmp_path: Path, wanted: list[Piece]) -> None:
    """What is written, read, hashed and counted is what the pieces say, in their order."""
    whole = expected(wanted)
    assert made(source, tmp_path / "target", wanted) == whole
    assert b"".join(read_pieces(source, wanted)) == whole
    assert digest_of(source, wanted) == hashlib.sha256(whole).digest()
    assert size_of(wanted) == len(whole)


class Calls:
    """Stands before `os` for the module: counts what passes, and refuses what it is told to."""

    def __init__(self, refused: dict[str, int]) -> None:
        self.passed_bytes = 0
        self.made: set[str] = set()
        self._refused = refused

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever `os` has
        call: Callable[..., Any] = getattr(os, name)
        if name not in {"copy_file_range", "sendfile", "pread", "read", "write"}:
            return call

        def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as it is
            self.made.add(name)
            if name in self._refused:
                raise OSError(self._refused[name], os.strerror(self._refused[name]))
            value = call(*args, **kwargs)
            if name in {"pread", "read"}:
                self.passed_bytes += len(value)
            elif name == "write":
                self.passed_bytes += value
            return value

        return counted


WANTED: list[Piece] = [Span(start=0, end=33), b"block", Span(start=33, end=len(DATA))]


@pytest.mark.parametrize(
    ("refused", "last"),
    [
        ({}, "copy_file_range"),
        ({"copy_file_range": errno.EXDEV}, "sendfile"),
        ({"copy_file_range": errno.EPERM}, "sendfile"),
        ({"copy_file_range": errno.ENOSYS, "sendfile": errno.EINVAL}, "pread"),
    ],
)
def test_ways(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: dict[str, int], last: str
) -> None:
    """Where the kernel cannot copy in one way, the next is taken; the bytes are the same."""
    calls = Calls(refused)
    monkeypatch.setattr(pieces, "os", calls)
    assert made(source, tmp_path / "target", WANTED) == expected(WANTED)
    assert last in calls.made
    if last != "pread":
        assert calls.passed_bytes == len(b"block"), "what is copied passes through the kernel alone"


@pytest.mark.parametrize("call", ["copy_file_range", "sendfile", "write"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_disk_in_trouble(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """A disk that is full or fails is told as such, whichever way was being tried."""
    before = {"sendfile": {"copy_file_range": errno.ENOSYS}}.get(call, {})
    monkeypatch.setattr(pieces, "os", Calls({**before, call: number}))
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        made(source, tmp_path / "target", WANTED)
    assert caught.value.errno == number


@pytest.mark.parametrize("refused", [{}, {"copy_file_range": errno.ENOSYS}])
def test_never_shorter(
    source: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: dict[str, int]
) -> None:
    """A file that ends before its span does is an error, and not a shorter file."""
    monkeypatch.setattr(pieces, "os", Calls(refused))
    span = Span(start=len(DATA) - 9, end=len(DATA) + 1)
    with pytest.raises(OSError, match="ends before it should"):
        made(source, tmp_path / "target", [span])
    with pytest.raises(OSError, match="ends before it should"):
        list(read_pieces(source, [span]))


def test_onto_another_file_system(source: int, elsewhere: Path) -> None:
    """A copy to another file system has the same bytes."""
    assert made(source, elsewhere / "target", WANTED) == expected(WANTED)
