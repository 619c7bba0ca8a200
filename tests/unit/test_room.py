"""Room for originals in memory: a limit for all, and no folder that keeps another one out."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from venice_watch.pipeline.room import Room


class Files:
    """Files that want in, each until it is told to leave."""

    def __init__(self, room: Room) -> None:
        self.inside: list[str] = []
        self._room = room
        self._leave: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, folder: str, size_bytes: int) -> None:
        """Let a file want in; return once nothing moves any more."""
        self._leave[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._stay(name, folder, size_bytes))
        await self._rest()

    async def leave(self, name: str) -> None:
        """Let a file go."""
        self._leave[name].set()
        await self._rest()

    async def give_up(self, name: str) -> None:
        """Cancel a file's task, wherever it is."""
        self._tasks[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks[name]
        await self._rest()

    async def _stay(self, name: str, folder: str, size_bytes: int) -> None:
        async with self._room.taken(folder, size_bytes):
            self.inside.append(name)
            await self._leave[name].wait()
            self.inside.remove(name)

    async def _rest(self) -> None:
        for _ in range(20):  # turns of the loop: more than anything here takes
            await asyncio.sleep(0)


def played(play: Callable[[Files], Awaitable[None]]) -> None:
    """Play with room for 100 bytes."""

    async def main() -> None:
        await play(Files(Room(100)))

    asyncio.run(main())


def test_as_many_as_fit() -> None:
    """Files of one folder come in as far as there is room, in their order."""

    async def play(files: Files) -> None:
        await files.come("a", "one", 60)
        await files.come("b", "one", 60)
        await files.come("c", "one", 10)
        assert files.inside == ["a"], "c would fit, but b was first"
        await files.leave("a")
        assert files.inside == ["b", "c"]

    played(play)


def test_a_folder_that_hangs_keeps_no_other_out() -> None:
    """While one folder's files stay for ever, those of another go on, one after another."""

    async def play(files: Files) -> None:
        await files.come("stuck", "hangs", 100)
        await files.come("behind", "hangs", 50)
        for name in ("a", "b"):
            await files.come(name, "other", 70)
        assert files.inside == ["stuck", "a"]
        await files.leave("a")
        assert files.inside == ["stuck", "b"]

    played(play)


def test_larger_than_the_room() -> None:
    """A file that never would fit comes in when nothing of its folder is inside, and alone."""

    async def play(files: Files) -> None:
        await files.come("small", "one", 1)
        await files.come("huge", "one", 1_000)
        await files.come("later", "one", 1)
        assert files.inside == ["small"]
        await files.leave("small")
        assert files.inside == ["huge"]
        await files.leave("huge")
        assert files.inside == ["later"]

    played(play)


@pytest.mark.parametrize("who", ["waiting", "inside"])
def test_cancelled(who: str) -> None:
    """A task that is cancelled, inside or before it is, takes no room with it."""

    async def play(files: Files) -> None:
        await files.come("inside", "one", 100)
        await files.come("waiting", "one", 100)
        await files.come("next", "one", 100)
        await files.give_up(who)
        await files.leave("inside")
        if who == "inside":
            await files.leave("waiting")
        assert files.inside[-1] == "next"

    played(play)
