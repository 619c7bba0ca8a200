"""The one module that knows watchdog: what it leaves behind, and when it knows itself blind."""

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest

from venice_watch.intake.observer import NativeObserver

DEADLINE_S = 10.0


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_failed_watch_leaves_nothing(tmp_path: Path) -> None:
    """An inbox that cannot be watched costs no descriptor and no thread, however often tried."""

    async def main() -> None:
        observer = NativeObserver(tmp_path / "away", asyncio.get_running_loop(), lambda: None)
        for round_number in range(12):
            if round_number == 2:  # the first rounds may start what the library keeps
                before = _descriptors(), threading.active_count()
            with contextlib.suppress(OSError):
                observer.start(recursive=True)
            observer.stop()
        assert (_descriptors(), threading.active_count()) == before

    asyncio.run(main())


def test_hints_tell_where(tmp_path: Path) -> None:
    """A file written and a folder moved in are told, each with what it is."""

    async def main() -> None:
        told = asyncio.Event()
        (inbox := tmp_path / "inbox").mkdir()
        (tmp_path / "tree").mkdir()
        observer = NativeObserver(inbox, asyncio.get_running_loop(), told.set)
        await asyncio.to_thread(observer.start, recursive=True)
        try:
            (inbox / "a.png").write_bytes(b"x")
            (tmp_path / "tree").rename(inbox / "tree")
            seen: dict[str, bool] = {}
            async with asyncio.timeout(DEADLINE_S):
                while not {"a.png", "tree"} <= seen.keys():
                    await told.wait()
                    told.clear()
                    seen |= observer.take_hints()[0]
            assert seen["a.png"] is False
            assert seen["tree"] is True
        finally:
            await asyncio.to_thread(observer.stop)

    asyncio.run(main())


def _time_hint(place: Path) -> float:
    """Return how many seconds after a file was moved out the next one is told of."""

    async def main() -> float:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        (inbox := place / "inbox").mkdir()
        (inbox / "old.png").write_bytes(b"x")
        observer = NativeObserver(inbox, loop, told.set)
        await asyncio.to_thread(observer.start, recursive=True)
        try:
            (inbox / "old.png").rename(place / "old.png")
            began_s = loop.time()
            (inbox / "new.png").write_bytes(b"x")
            async with asyncio.timeout(DEADLINE_S):
                while "new.png" not in observer.take_hints()[0]:
                    await told.wait()
                    told.clear()
            return loop.time() - began_s
        finally:
            await asyncio.to_thread(observer.stop)

    return asyncio.run(main())


def test_files_moved_out_hold_up_nothing(tmp_path: Path) -> None:
    """What leaves the inbox, as every original does, does not keep back what is told after it."""
    places = [tmp_path / str(number) for number in range(3)]
    for place in places:
        place.mkdir()
    # watchdog's own pause is half a second; the best of three, for a machine that is busy
    assert min(_time_hint(place) for place in places) < 0.25


def test_dead_reader_is_noticed(tmp_path: Path) -> None:
    """When the thread that reads the kernel's events is gone, the watch does not pass for alive."""

    async def main() -> None:
        observer = NativeObserver(tmp_path, asyncio.get_running_loop(), lambda: None)
        await asyncio.to_thread(observer.start, recursive=True)
        try:
            assert observer.is_alive()
            assert observer._observer is not None
            [emitter] = observer._observer.emitters
            reader = emitter._inotify_fd  # type: ignore[attr-defined]
            reader.stop()
            await asyncio.to_thread(reader.join, DEADLINE_S)
            assert not observer.is_alive()
        finally:
            await asyncio.to_thread(observer.stop)

    asyncio.run(main())


@pytest.mark.parametrize("anew", [True, False])
def test_another_root_is_noticed(tmp_path: Path, anew: bool) -> None:  # noqa: FBT001 - pytest's way
    """A root that was renamed away is no longer watched, whether or not there is a new one."""

    async def main() -> None:
        (inbox := tmp_path / "inbox").mkdir()
        observer = NativeObserver(inbox, asyncio.get_running_loop(), lambda: None)
        await asyncio.to_thread(observer.start, recursive=True)
        try:
            assert observer.is_alive()
            inbox.rename(tmp_path / "elsewhere")
            if anew:
                inbox.mkdir()
            assert not observer.is_alive()
        finally:
            await asyncio.to_thread(observer.stop)

    asyncio.run(main())


def test_folders_that_are_not_watched(tmp_path: Path) -> None:
    """It tells which folders it watches, and why the kernel would not watch another one."""

    async def main() -> None:
        (tmp_path / "sub" / "leaf").mkdir(parents=True)
        observer = NativeObserver(tmp_path, asyncio.get_running_loop(), lambda: None)
        await asyncio.to_thread(observer.start, recursive=True)
        try:
            assert observer.unwatched(["", "sub", "sub/leaf", "other"]) == ["other"]
            assert observer.try_watch("sub") is None
            refused = observer.try_watch("other")
            assert isinstance(refused, FileNotFoundError)
            assert observer.unwatched(["", "sub", "sub/leaf"]) == []
        finally:
            await asyncio.to_thread(observer.stop)
        assert observer.unwatched([""]) == [""]

    asyncio.run(main())
