"""What the account may do: learned for free, from a simulated Venice in a process of its own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import capture_logs

from venice_watch.outcome import Doubtful
from venice_watch.parameters import Contract
from venice_watch.venice.account import KEEP_S, Account
from venice_watch.venice.client import Timeouts, VeniceClient
from venice_watch.venice.gate import FAILURES_MAX, FAILURES_WINDOW_S, WINDOW_S, Gate
from venice_watch.venice.limits import Limits

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
    sent_ages_s: Sequence[float] = (),
    failed_ages_s: Sequence[float] = (),
) -> AsyncIterator[Scene]:
    """Run an account against a server; an earlier process sent and failed before."""
    gate = Gate(clock=clock, limits=Limits(concurrency=4, folders={}, requests_per_minute=rate))
    gate.remember(sent_ages_s, failed_ages_s)
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


# Whether the server is there at all.

SERVICE_PAUSE_S = 5.0
LIMITS = "/api_keys/rate_limits"


async def is_reachable(scene: Scene, failures: int) -> bool:
    """Let the service fail so often in a row, and ask whether it is there."""
    for who in range(failures):
        await scene.gate.report(Doubtful(), who)
    return await scene.account.is_reachable()


@pytest.mark.parametrize(
    ("fault", "reachable"),
    [
        (None, True),
        ("server_error", False),
        ("unavailable_html", False),
        ("bad_gateway", False),
        ("close_after_body", False),
        ("rate_limited", True),  # it is there, and the image is told the same
        ("bad_request", True),
    ],
)
def test_reachable(
    simulator: "SimulatorProcess", clock: "FakeClock", fault: str | None, *, reachable: bool
) -> None:
    """A free endpoint that worked before and now fails means: no image need be in doubt."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock, contract=Contract.ENHANCE) as scene:
            await scene.wait_open()
            if fault is not None:
                await asyncio.to_thread(simulator.script, {"fault": fault, "path": LIMITS})
            clock.jump(FAILURES_WINDOW_S)
            assert await is_reachable(scene, 5) is reachable
            assert scene.gate.paused_s == (SERVICE_PAUSE_S if reachable else 2 * SERVICE_PAUSE_S)
            assert scene.gate.failures_in_a_row == (5 if reachable else 6)
            assert scene.gate.halted is None

    asyncio.run(scenario())
    assert simulator.bill()["totals"]["upscales"] == 0


def test_not_reachable_any_more(canned: "Canned", clock: "FakeClock") -> None:
    """A server that is gone altogether is not reachable, and each try waits longer."""

    async def scenario() -> None:
        body = json.dumps(GOOD).encode()
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(canned(body))
            scene = await stack.enter_async_context(
                watching(server.base_url, clock, contract=Contract.ENHANCE)
            )
            await scene.wait_open()
            assert await is_reachable(scene, 5)
            assert server.listener is not None
            server.listener.close()
            pauses_s = []
            for _ in range(6):
                clock.jump(200)
                assert not await is_reachable(scene, 0)
                pauses_s.append(scene.gate.paused_s)
            assert pauses_s == [10.0, 20.0, 40.0, 80.0, 120.0, 120.0]

    asyncio.run(scenario())


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops", "302 Found"])
def test_endpoint_that_never_worked(canned: "Canned", clock: "FakeClock", status: str) -> None:
    """A free endpoint that never worked says nothing: the next image has to tell."""

    async def scenario() -> None:
        async with (
            canned(b"{}", head=f"HTTP/1.1 {status}") as server,
            watching(server.base_url, clock, contract=Contract.ENHANCE) as scene,
        ):
            await scene.account.wait_asked()
            for _ in range(3):
                clock.jump(200)
                assert await is_reachable(scene, 5)

    asyncio.run(scenario())


def test_refused_while_the_service_is_down(
    simulator: "SimulatorProcess", clock: "FakeClock"
) -> None:
    """A key that is refused shuts the gate: that, too, is found out before an image is sent."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock, contract=Contract.ENHANCE) as scene:
            await scene.wait_open()
            await asyncio.to_thread(simulator.change, keys=["other"], failures_max=None)
            assert not await is_reachable(scene, 5)
            assert "HTTP 401" in (scene.gate.halted or "")
            await asyncio.to_thread(simulator.change, keys=["sk-good-key"])
            await scene.wait_open()

    asyncio.run(scenario())


# Failures and the rate hold questions back as well.


def test_probing_waits_for_failures(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """After a restart in the middle of failures the first question waits, too."""

    async def scenario() -> None:
        async with watching(
            simulator.base_url,
            clock,
            contract=Contract.ENHANCE,
            failed_ages_s=[10.0] * FAILURES_MAX,
        ) as scene:
            await scene.wait_open()

    asyncio.run(scenario())
    assert clock.slept_s == [FAILURES_WINDOW_S - 10]


@pytest.mark.parametrize("key", ["bad-key", "sk-good-key"])
def test_questions_never_fail_too_often(
    simulator: "SimulatorProcess", clock: "FakeClock", key: str
) -> None:
    """However often it is asked for free, and in vain, the API's limit of failures is kept."""
    asked_s: list[float] = []

    async def scenario() -> None:
        async with VeniceClient(simulator.base_url, key, TIMEOUTS, connections_max=2) as client:
            gate = Gate(clock=clock, limits=Limits(concurrency=1))
            log = structlog.get_logger()
            account = Account(client, gate, contract=None, clock=clock, log=log)
            for _ in range(2 * FAILURES_MAX):
                if key == "bad-key":
                    await account.is_reachable()
                else:  # the question for the contract is a failure to the API, whatever it says
                    await account.look_for_contract(sent_at=clock.now())
                asked_s.append(clock.monotonic())
                clock.jump(0.5)

    asyncio.run(scenario())
    for first, later in zip(asked_s, asked_s[FAILURES_MAX:], strict=False):
        assert later - first >= FAILURES_WINDOW_S - 1e-6
    assert len(clock.slept_s) == 1


def test_contract_question_waits_for_the_rate(
    simulator: "SimulatorProcess", clock: "FakeClock"
) -> None:
    """The server counts the question for the contract: after a restart it waits for room."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock, rate=3, sent_ages_s=[10.0] * 3) as scene:
            await scene.wait_open()

    asyncio.run(scenario())
    assert clock.slept_s == [WINDOW_S - 10]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "50"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "50"},
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "soon"},
    ],
)
def test_contract_question_counts(
    canned: "Canned", clock: "FakeClock", headers: dict[str, str]
) -> None:
    """The question for the contract takes a place in the rate, whatever the server says is left."""
    lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in headers.items())]

    async def scenario() -> None:
        async with (
            canned(b'{"error": "Invalid", "details": {}}', head="\r\n".join(lines)) as server,
            VeniceClient(server.base_url, "sk", TIMEOUTS, connections_max=2) as client,
        ):
            gate = Gate(clock=clock, limits=Limits(concurrency=1, requests_per_minute=1))
            await gate.lift()
            log = structlog.get_logger()
            account = Account(client, gate, contract=None, clock=clock, log=log)
            assert await account.look_for_contract(sent_at=clock.now())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), gate.turn("f"):
                    pass
            clock.jump(WINDOW_S)
            async with asyncio.timeout(DEADLINE_S), gate.turn("f"):
                pass

    asyncio.run(scenario())


# The contract, asked for again.


def questions(simulator: "SimulatorProcess") -> int:
    """Return how often the contract was asked for."""
    return sum(record["path"] == "/image/upscale" for record in simulator.bill()["records"])


def test_asked_once_for_many(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """Many that doubt the contract cause one question; who was sent before it causes none."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            clock.jump(60)
            sent_at = clock.now()
            clock.jump(1)
            many = [scene.account.look_for_contract(sent_at=sent_at - n) for n in range(7)]
            assert all(await asyncio.gather(*many))
            assert await asyncio.to_thread(questions, simulator) == 2
            clock.jump(5)
            assert await scene.account.look_for_contract(sent_at=clock.now() - 6.5)
            assert await asyncio.to_thread(questions, simulator) == 2
            assert await scene.account.look_for_contract(sent_at=clock.now() - 4.5)
            assert await asyncio.to_thread(questions, simulator) == 3

    asyncio.run(scenario())


def test_asked_again_under_another_clock(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """A wall clock that was set back does not keep the contract from being asked for."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            clock.jump(60)
            clock.set_wall(clock.now() - 86_400)
            await scene.account.look_for_contract(sent_at=clock.now())
            assert await asyncio.to_thread(questions, simulator) == 2
            clock.jump(60)
            sent_at = clock.now()
            clock.set_wall(clock.now() - 86_400)  # while it is under way
            await scene.account.look_for_contract(sent_at=sent_at)
            assert await asyncio.to_thread(questions, simulator) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize("after", Contract)
def test_change_of_contract(
    simulator: "SimulatorProcess",
    clock: "FakeClock",
    events: list[MutableMapping[str, object]],
    after: Contract,
) -> None:
    """A server that has changed its contract is told of, once, with both names."""
    before = next(one for one in Contract if one is not after)
    simulator.change(contract=str(before))

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            await asyncio.to_thread(simulator.change, contract=str(after))
            for _ in range(2):
                clock.jump(60)
                assert await scene.account.look_for_contract(sent_at=clock.now())
                assert scene.account.contract is after

    asyncio.run(scenario())
    changes = [event for event in events if event["event"] == "account.contract_changed"]
    assert [(event["before"], event["now"]) for event in changes] == [(before, after)]


@pytest.mark.parametrize("fault", ["overloaded", "unavailable", "bad_gateway", "close_after_body"])
def test_a_busy_server_tells_no_contract(
    simulator: "SimulatorProcess", clock: "FakeClock", fault: str
) -> None:
    """A question that brought no answer says so to all who wait, and leaves what was known."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            clock.jump(60)
            sent_at = clock.now()
            clock.jump(1)
            await asyncio.to_thread(simulator.script, {"fault": fault})
            many = [scene.account.look_for_contract(sent_at=sent_at) for _ in range(3)]
            assert await asyncio.gather(*many) == [False] * 3
            assert scene.account.contract is Contract.ENHANCE
            assert await asyncio.to_thread(questions, simulator) == 2
            clock.jump(60)
            assert await scene.account.look_for_contract(sent_at=clock.now())

    asyncio.run(scenario())


def test_a_configured_contract_is_never_asked_for(
    simulator: "SimulatorProcess", clock: "FakeClock"
) -> None:
    """Nobody asks for a contract that the configuration names, whoever doubts it."""

    async def scenario() -> None:
        contract = Contract.CREATIVITY
        async with watching(simulator.base_url, clock, contract=contract) as scene:
            await scene.wait_open()
            clock.jump(60)
            assert await scene.account.look_for_contract(sent_at=clock.now())
            assert scene.account.contract is contract

    asyncio.run(scenario())
    assert questions(simulator) == 0


def test_kept_current(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """Every hour contract and prices are asked for anew, but not while the gate is shut."""

    async def scenario() -> None:
        async with watching(simulator.base_url, clock) as scene:
            await scene.wait_open()
            await scene.gate.halt("a test")
            keeping = asyncio.create_task(scene.account.keep_current())
            await scene.wait(lambda: len(clock.slept_s) >= 3)
            assert await asyncio.to_thread(questions, simulator) == 1
            await asyncio.to_thread(simulator.change, contract="creativity", price_2x_usd=0.05)
            await scene.gate.lift()
            await scene.wait(lambda: scene.account.price_microusd(2) == 50_000)
            assert scene.account.contract is Contract.CREATIVITY
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    asyncio.run(scenario())
    assert set(clock.slept_s) == {KEEP_S}


# Balances.


def test_balances(simulator: "SimulatorProcess", clock: "FakeClock") -> None:
    """What the key can spend is what was said last, by the endpoint or by any answer's headers."""
    simulator.change(balance_usd=12.5)

    async def scenario() -> None:
        async with watching(simulator.base_url, clock, contract=Contract.ENHANCE) as scene:
            assert scene.account.balances == {}
            await scene.wait_open()
            assert scene.account.balances == {"USD": 12.5, "DIEM": 0}
            await scene.account.learn({"x-venice-balance-usd": "12.48"})
            assert scene.account.balances == {"USD": 12.48, "DIEM": 0}
            await scene.account.learn({"x-venice-balance-usd": "nan", "x-other": "1"})
            await scene.account.learn({})
            assert scene.account.balances == {"USD": 12.48, "DIEM": 0}
            await asyncio.to_thread(simulator.change, balance_usd=3)
            await scene.account.is_reachable()
            assert scene.account.balances == {"USD": 3, "DIEM": 0}

    asyncio.run(scenario())


def test_balances_that_are_not_told(canned: "Canned", clock: "FakeClock") -> None:
    """An endpoint that says nothing of the balance does not make the headers' word forgotten."""

    async def scenario() -> None:
        async with (
            canned(b'{"data": {"accessPermitted": true}}') as server,
            watching(server.base_url, clock, contract=Contract.ENHANCE) as scene,
        ):
            await scene.wait_open()
            await scene.account.learn({"x-venice-balance-diem": "7"})
            await scene.account.is_reachable()
            assert scene.account.balances == {"DIEM": 7}

    asyncio.run(scenario())
