"""Minutes within seconds: the program and a simulated Venice, both under a clock that runs faster.

Rules: every process that is started here lives in one common time, so that a restart finds the
wall clock where the last process left it; the test itself stays in ours. What is measured is read
from the bill, whose times are in hurried seconds. Only what waits in an event loop or for the
kernel is hurried (a lock with a timeout is not), hence the polling of folders.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests.component.conftest import Place, Program, Venice, wait_until
from tests.conftest import STOP_S, SimulatorProcess

FAKETIME = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
)


class Hurry:
    """A common time that runs `speed` times as fast as ours."""

    def __init__(self, speed: int) -> None:
        library = next((path for path in FAKETIME if path.exists()), None)
        if library is None:
            pytest.skip("apt-get install faketime to install it")
        self.speed = speed
        self._library = str(library)
        self._began_at = time.time()

    def environment(self, off_s: float = 0.0) -> dict[str, str]:
        """Return what puts a process that is started now into the common time, or off it."""
        ahead_s = (time.time() - self._began_at) * (self.speed - 1) + off_s
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME": f"{ahead_s:+.3f} x{self.speed}",
            "NO_FAKE_STAT": "1",  # what files say of themselves stays true
        }

    def sleep(self, seconds: float) -> None:
        """Let so many hurried seconds pass: for what a test does at its times, not to wait."""
        time.sleep(seconds / self.speed)


class HurriedVenice(Venice):
    """A simulated Venice in the common time; `reset` is not needed, it is nobody else's."""

    def __init__(self, simulator: SimulatorProcess, hurry: Hurry) -> None:
        super().__init__(simulator)
        self.hurry = hurry

    def records(self) -> list[dict[str, Any]]:
        """Return the whole bill, oldest first."""
        records: list[dict[str, Any]] = self.bill()["records"]
        return records

    def posts(self) -> list[float]:
        """Return when each request to the address that costs money was there, in order."""
        return sorted(one["received_monotonic_s"] for one in self.records() if one["upscale"])

    def failures(self) -> list[float]:
        """Return when each failure was answered that the API counts, in order."""
        return sorted(one["finished_monotonic_s"] for one in self.records() if one["failed"])

    def heal(self) -> None:
        """End all scripted faults, also where one of them strikes whoever connects."""

        def told() -> bool:
            with contextlib.suppress(OSError):
                self._simulator._ask("DELETE", "faults")
                return True
            return False

        wait_until(told, "the simulator is whole again")


class HurriedPlace(Place):
    """A user in the common time; the waits are the program's own, unless told otherwise."""

    def __init__(self, root: Path, venice: HurriedVenice) -> None:
        self.hurry = venice.hurry
        super().__init__(root, venice)

    def write(
        self,
        *,
        api: Mapping[str, object] | None = None,
        presets: Mapping[str, object] | None = None,
        folders: list[dict[str, object]] | None = None,
        **folder: object,
    ) -> None:
        """Write the configuration with the waits of a real one."""
        patient: dict[str, object] = {
            "timeouts": {},
            "retries": {},
            "requests_per_minute": "auto",
        }
        facts: dict[str, object] = {"watch": "polling", "settle": "1s", **folder}
        super().write(api=patient | dict(api or {}), presets=presets, folders=folders, **facts)

    def start_bare(self, *arguments: str) -> Program:
        """Start any command within the common time."""
        self.environment |= self.hurry.environment()
        return super().start_bare(*arguments)


def most_within(times: Sequence[float], window_s: float) -> int:
    """Return how many of these times (in order) lie within one window, at most."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


@contextlib.contextmanager
def hurried_venice(speed: int, *options: str, off_s: float = 0.0) -> Iterator[HurriedVenice]:
    """Run a simulator of its own in a common time that begins now; its clock may be off."""
    hurry = Hurry(speed)
    command = [sys.executable, "-m", "venice_watch", "simulator", "--pixels", "nearest", *options]
    environment = os.environ | hurry.environment(off_s)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield HurriedVenice(SimulatorProcess(process.stdout.readline().strip()), hurry)
        finally:
            process.terminate()
            assert process.wait(STOP_S) == os.EX_OK, "the simulator did not end in order"


class Jitter:
    """A way to a server on which every request takes up to `most_s` longer, by chance."""

    def __init__(self, base_url: str, most_s: float, seed: int) -> None:
        self._target = base_url.split("/")[2].split(":")
        self._most_s = most_s
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0)
        )
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/api/v1"
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection's bytes both ways until either side has had enough."""
        there, back = await asyncio.open_connection(*self._target)
        answered = asyncio.Event()  # what comes next from the client is another request
        answered.set()

        async def carry_there() -> None:
            while data := await reader.read(65_536):
                if answered.is_set():
                    answered.clear()
                    await asyncio.sleep(self._chance.uniform(0, self._most_s))
                back.write(data)
                await back.drain()

        async def carry_back() -> None:
            while data := await there.read(65_536):
                answered.set()
                writer.write(data)
                await writer.drain()

        ways = [asyncio.ensure_future(carry_there()), asyncio.ensure_future(carry_back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, back):
                end.close()
