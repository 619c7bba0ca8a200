"""Gates in a loop whose time jumps, and who waits before them.

Nothing here waits for real: the loop's selector jumps to the next timer, and fails the test where
everybody would wait for ever.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import TypeVar

from venice_watch.outcome import Succeeded
from venice_watch.venice.gate import Gate
from venice_watch.venice.limits import Limits

T = TypeVar("T")
SUCCESS = Succeeded(width=1, height=1)


class JumpingSelector(selectors.DefaultSelector):
    """Lets no time pass: what would be waited for is jumped over."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, after a jump to the next timer."""
        assert timeout is not None, "everybody waits, and nothing will ever wake them"
        self.now_s += max(0.0, timeout)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the sum of its jumps."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return seconds since the loop began."""
        return self._jumping.now_s


class LoopClock:
    """The clock of the running loop."""

    def now(self) -> float:
        """Return seconds since 1970, nearly."""
        return 1_780_000_000.0 + self.monotonic()

    def monotonic(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Jump."""
        await asyncio.sleep(seconds)


def run(scenario: Coroutine[None, None, T]) -> T:
    """Run a scenario in jumping time."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(scenario)


async def opened(
    *, concurrency: int = 100, rate: int | None = None, folders: Mapping[str, int] | None = None
) -> Gate:
    """Return a gate that nothing holds shut."""
    gate = Gate(
        clock=LoopClock(),
        limits=Limits(
            concurrency=concurrency,
            folders=folders or {},
            requests_per_minute=rate,
        ),
    )
    await gate.lift()
    return gate


class Senders:
    """Tasks that each want one turn, and what they got."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.started_s: list[float] = []
        self.order: list[object] = []
        self.most = 0

    async def send(self, name: object = None, folder: str = "f", seconds: float = 0.0) -> None:
        """Take one turn and keep it for a while."""
        async with self.gate.turn(folder) as turn:
            turn.use()
            self.started_s.append(asyncio.get_running_loop().time())
            self.order.append(name)
            self.most = max(self.most, self.gate.in_flight)
            await asyncio.sleep(seconds)

    async def send_all(self, count: int, *, folder: str = "f", seconds: float = 0.0) -> None:
        """Let so many want a turn at once."""
        await asyncio.gather(*(self.send(n, folder, seconds) for n in range(count)))


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)
