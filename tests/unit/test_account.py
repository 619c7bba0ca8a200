"""What the account may do: learned for free, from a simulated Venice in a process of its own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import capture_logs

from venice_watch.parameters import Contract
from venice_watch.venice.account import Account
from venice_watch.venice.client import Timeouts, VeniceClient
from venice_watch.venice.gate import Gate

if TYPE_CHECKING:
    from tests.conftest import CannedServer, FakeClock, SimulatorProcess

    Canned = Callable[..., AbstractAsyncContextManager[CannedServer]]

TIMEOUTS = Timeouts(connect_s=5, write_s=5, read_s=5, total_s=10)
DEADLINE_S = 20.0
GOOD = {"data": {"accessPermitted": True, "balances": {"USD": 1.0, "DIEM": 0}}}


class Scene:
    """An account, its gate, and the task that keeps them in step."""

    def __init__(self, account: Account, gate: Gate, clock: "FakeClock") -> None:
        self.account = account
        self.gate = gate
        self.clock = clock

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Let real requests come and go until a condition is true."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - the other end is a process
                await asyncio.sleep(0.001)

    async def wait_open(self) -> None:
        """Wait until images may be sent."""
        await self.wait(lambda: self.gate.halted is None)


@contextlib.asynccontextmanager
async def watching(
    base_url: str,
    clock: "FakeClock",
    *,
    key: str = "sk-good-key",
    contract: Contract | None = None,
    rate: int | None = None,
) -> AsyncIterator[Scene]:
    """Run an account against a server."""
    gate = Gate(clock=clock, concurrency=4, folder_limits={}, requests_per_minute=rate)
    async with VeniceClient(base_url, key, TIMEOUTS, connections_max=2) as client:
        log = structlog.get_logger()
        account = Account(client, gate, contract=contract, clock=clock, log=log)
        task = asyncio.create_task(account.run())
        try:
            yield Scene(account, gate, clock)
        finally:
            assert not task.done(), f"the account's task ended: {task}"
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture(autouse=True)
def events() -> Iterator[list[MutableMapping[str, object]]]:
    """Return what was logged, kept off the terminal."""
    with capture_logs() as captured:
        yield captured


@pytest.mark.parametrize("contract", Contract)
def test_ready(simulator: "SimulatorProcess", clock: "FakeClock", contract: Contract) -> None:
    """Rate, prices and contract are learned before the gate opens, and nothing is charged."""
    simulator.change(
        requests_per_minute=37, price_2x_usd=0.03, price_4x_usd=0.09, contract=str(contract)
    )

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            assert not scene.account.asked
            await scene.account.wait_asked()
            assert scene.gate.halted is None
            assert scene.gate.requests_per_minute == 37
            assert scene.account.contract is contract
            assert scene.account.refused is None
            prices = [scene.account.price_microusd(scale) for scale in (1, 2, 2.01, 4)]
            assert prices == [30_000, 30_000, 90_000, 90_000]

    asyncio.run(scenario())
    assert simulator.bill()["totals"]["charges"] == 0
    assert simulator.bill()["totals"]["failed"] == 1  # the one that tells the contracts apart


def test_question_for_the_contract_takes_a_place(
    simulator: "SimulatorProcess", clock: "FakeClock"
) -> None:
    """The API counts the question for the contract, and so do we, whatever headers say is left."""
    simulator.change(requests_per_minute=5)

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            for _ in range(4):
                async with scene.gate.turn("a") as turn:
                    turn.use()
            async with asyncio.timeout(0.05), scene.gate.turn("a"):
                pass

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())
    assert simulator.bill()["totals"]["statuses"] == {"200": 2, "400": 1}


def test_configured_contract_costs_no_failure(
    simulator: "SimulatorProcess", clock: "FakeClock"
) -> None:
    """A contract that the configuration names is not asked for."""

    async def scenario() -> None:
        contract = Contract.CREATIVITY
        async with watching(simulator.base_url, clock, contract=contract) as scene:
            await scene.account.wait_asked()
            assert scene.account.contract is contract

    asyncio.run(scenario())
    assert simulator.bill()["totals"]["failed"] == 0


def test_bad_key(
    simulator: "SimulatorProcess",
    clock: "FakeClock",
    events: list[MutableMapping[str, object]],
) -> None:
    """A refused key keeps the gate shut, is told once, and asked about ever less often."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock, key="bad-key") as scene:
            await scene.account.wait_asked()
            await scene.wait(lambda: len(clock.slept_s) >= 9)
            assert scene.gate.halted is not None
            assert "HTTP 401" in (scene.account.refused or "")

    asyncio.run(scenario())
    assert [event["event"] for event in events] == ["account.unusable"]
    assert clock.slept_s[:7] == [5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 120.0]


@pytest.mark.parametrize(
    ("broken", "mended", "words"),
    [
        ({"balance_usd": 0.0}, {"balance_usd": 5.0}, "the balance is used up"),
        ({"access_permitted": False}, {"access_permitted": True}, "not permitted"),
        ({"keys": ["other"]}, {"keys": ["sk-good-key"]}, "HTTP 401"),
    ],
)
def test_mended(
    simulator: "SimulatorProcess",
    clock: "FakeClock",
    broken: dict[str, object],
    mended: dict[str, object],
    words: str,
) -> None:
    """An account that cannot send is probed until somebody mends it, and then goes on by itself."""
    simulator.change(**broken, failures_max=None)

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.account.wait_asked()
            assert words in (scene.account.refused or "")
            assert scene.gate.halted == scene.account.refused
            await asyncio.to_thread(simulator.change, **mended)
            await scene.wait_open()
            assert scene.account.refused is None

    asyncio.run(scenario())


def test_unreachable(clock: "FakeClock") -> None:
    """An API that cannot be reached keeps the gate shut, with the reason in words."""

    async def scenario() -> None:
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        async with watching(f"http://127.0.0.1:{port}/api/v1", clock) as scene:
            await scene.account.wait_asked()
            assert "ConnectError" in (scene.account.refused or "")
            assert scene.gate.halted is not None

    asyncio.run(scenario())


def test_halt(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """A refusal in mid-work shuts the gate; it opens again after a wait and a good answer."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            assert clock.slept_s == []
            await scene.account.halt("HTTP 402: spend limit")
            assert scene.gate.halted == scene.account.refused == "HTTP 402: spend limit"
            await scene.wait_open()
            assert scene.account.refused is None
            await scene.account.halt("again")
            await scene.wait_open()
            scene.account.succeeded()
            await scene.account.halt("and again")
            await scene.wait_open()

    asyncio.run(scenario())
    assert clock.slept_s == [5.0, 10.0, 5.0]


def test_halt_during_a_probe(canned: "Canned", clock: "FakeClock") -> None:
    """A refusal that comes while the account is being asked is followed by another question."""

    async def scenario() -> None:
        body = json.dumps(GOOD).encode()
        async with (
            canned(body, pause_s=0.001) as server,
            watching(server.base_url, clock, contract=Contract.ENHANCE) as scene,
        ):
            await scene.wait(lambda: len(server.requests) == 1)
            await scene.account.halt("HTTP 402: in flight")
            await scene.wait(lambda: sum(b"rate_limits" in one for one in server.requests) == 2)
            await scene.wait_open()

    asyncio.run(scenario())


def test_learned_rate_stands(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """A rate learned from headers is not forgotten by an API that names none when asked."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            assert scene.gate.requests_per_minute is None
            await scene.gate.learn_rate(20)
            await scene.account.halt("HTTP 402")
            await scene.wait_open()
            assert scene.gate.requests_per_minute == 20

    asyncio.run(scenario())


def test_configured_rate_stands(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """A rate in the configuration is kept to, whatever the API says."""
    simulator.change(requests_per_minute=500)

    async def scenario() -> None:
        async with watching(simulator.base_url, clock, rate=3) as scene:
            await scene.wait_open()
            assert scene.gate.requests_per_minute == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("status", ["404 Not Found", "405 Not Allowed", "501 Not Implemented"])
def test_no_such_endpoint(canned: "Canned", clock: "FakeClock", status: str) -> None:
    """A server without the free endpoint says nothing against the key: the gate opens."""

    async def scenario() -> None:
        async with (
            canned(b'{"error": "no"}', head=f"HTTP/1.1 {status}") as server,
            watching(server.base_url, clock, contract=Contract.ENHANCE) as scene,
        ):
            await scene.wait_open()
            assert scene.account.refused is None
            assert scene.account.price_microusd(2) == 20_000

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"rateLimits": [{"rateLimits": [{"amount": 1e999, "type": "RPM"}]}]}}',
        b'{"data": {"balances": {"USD": 1' + b"0" * 400 + b', "DIEM": NaN}}}',
        b'{"data": [{"model_spec": {"pricing": {"upscale": {"2x": {"usd": 1e999}, "4x": 1}}}}]}',
        b'{"data": [{"model_spec": {"pricing": {"upscale": {"2x": {"usd": -1}, "4x": {"usd": 1}}}}}]}',  # noqa: E501
        b'{"data": {"rateLimits": {"a": 1}, "balances": [1], "accessPermitted": "yes"}}',
        b'{"data": 7}',
        b"{}",
    ],
)
def test_strange_numbers(canned: "Canned", clock: "FakeClock", body: bytes) -> None:
    """Infinite, negative and misplaced numbers teach nothing, and stop nothing."""

    async def scenario() -> None:
        async with (
            canned(body) as server,
            watching(server.base_url, clock, rate=None) as scene,
        ):
            await scene.wait_open()
            assert scene.gate.requests_per_minute is None
            assert scene.account.price_microusd(2) == 20_000

    asyncio.run(scenario())
