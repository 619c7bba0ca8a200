"""What the simulator can be made: its weather, its clock, its ear; by request and by argument."""

import asyncio
import contextlib
import dataclasses
import random
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from tests.component.test_simulator import (
    command,
    picture,
    post,
    run,
    serving,
)
from venice_watch.simulator import (
    FAULTS,
    Scripted,
    Settings,
    Simulator,
    describe_settings,
    read_setting,
)
from venice_watch.simulator.script import UPSCALE_PATH, Script

DOCUMENT = Path(__file__).parents[2] / "docs" / "simulator.md"


# Turns and spells.


def test_every_third_request_fails() -> None:
    """`every` strikes each so-many-th request, counted from after those that pass."""

    async def scenario() -> None:
        async with serving(failures_max=None) as (simulator, client):
            entry = {"fault": "unavailable", "every": 3, "after": 1, "times": 2}
            await client.post(simulator.control_url + "/faults", json=[entry])
            statuses = [(await post(client)).status_code for _ in range(11)]
            assert statuses == [200, 200, 200, 503, 200, 200, 503, 200, 200, 200, 200]
            assert simulator.bill.totals.charges == 9

    run(scenario())


def test_a_spell_begins_with_the_first_request_and_comes_again() -> None:
    """Within `spell_s` the fault strikes, then there is peace for `rest_s`, and again."""
    clock_s = [1_000.0]
    storm = Scripted(fault="unavailable", times=None, after=1, spell_s=5, rest_s=15)
    script = Script((storm,), random.Random(1), lambda: clock_s[0])

    def strikes_at(now_s: float) -> bool:
        clock_s[0] = now_s
        return script.strike(UPSCALE_PATH) is not None

    assert not strikes_at(1_000), "the first one passes"
    assert [strikes_at(at) for at in (2_000, 2_004.9, 2_005, 2_019.9)] == [True, True, False, False]
    assert [strikes_at(at) for at in (2_020, 2_024.9, 2_025, 2_040)] == [True, True, False, True]


def test_a_spell_without_a_rest_does_not_come_again() -> None:
    """Without `rest_s` the weather stays good after one storm."""
    clock_s = [0.0]
    storm = Scripted(fault="unavailable", times=None, spell_s=5)
    script = Script((storm,), random.Random(1), lambda: clock_s[0])
    struck = []
    for clock_s[0] in (100, 104, 105, 1_000_000):
        struck.append(script.strike(UPSCALE_PATH) is not None)
    assert struck == [True, True, False, False]


def test_a_server_flaps() -> None:
    """A server that fails in spells is down, up, down and up again for whoever keeps asking."""

    async def scenario() -> None:
        async with serving(failures_max=None, pixels="nearest") as (simulator, client):
            entry = {"fault": "unavailable", "times": None, "spell_s": 0.1, "rest_s": 0.1}
            await client.post(simulator.control_url + "/faults", json=[entry])
            heard = [(await post(client)).status_code]
            async with asyncio.timeout(20):
                while len(heard) < 4:
                    status = (await post(client)).status_code
                    heard += [status] if status != heard[-1] else []
            assert heard == [503, 200, 503, 200]

    run(scenario())


# The clock.


@pytest.mark.parametrize("offset_s", [-120, 120])
def test_the_servers_clock_can_be_off(offset_s: int) -> None:
    """Date, reset and Retry-After go by the server's clock; the bill goes by this machine's."""

    async def scenario() -> None:
        async with serving(requests_per_minute=9, failure_headers="always") as (simulator, client):
            answer = await client.post(
                simulator.control_url + "/settings", json={"clock_offset_s": offset_s}
            )
            assert answer.json() == {"changed": ["clock_offset_s"]}
            simulator.script(Scripted(fault="overloaded", value="date"))
            headers = (await post(client)).headers
            server_s = time.time() + offset_s
            date_s = parsedate_to_datetime(headers["date"]).timestamp()
            assert abs(date_s - server_s) < 5
            retry_s = parsedate_to_datetime(headers["retry-after"]).timestamp()
            assert abs(retry_s - date_s - 30) <= 1
            assert abs(int(headers["x-ratelimit-reset-requests"]) / 1000 - server_s - 60) < 5
            assert abs(int(headers["x-ratelimit-resets"]) / 1000 - server_s - 30) < 5
            received_s = simulator.bill.upscales[0].received_wall_s
            assert received_s is not None
            assert abs(received_s - time.time()) < 5

    run(scenario())


def test_the_date_can_be_left_out() -> None:
    """Without `send_date` no answer says what time it is, good or bad, the proxy's included."""

    async def scenario() -> None:
        async with serving(send_date=False) as (simulator, client):
            simulator.script(Scripted(fault="bad_gateway"))
            answers = [await post(client), await post(client), await client.get("/models")]
            assert [a.status_code for a in answers] == [502, 200, 200]
            assert not any("date" in a.headers for a in answers)
            simulator.change(send_date=True)
            assert "date" in (await post(client)).headers

    run(scenario())


# Nobody listens.


def connect(base_url: str) -> None:
    """Open a connection and close it; raise ConnectionRefusedError where nobody listens."""
    url = httpx.URL(base_url)
    socket.create_connection((url.host, url.port or 0), timeout=5).close()


def test_connections_can_be_refused_and_heard_again() -> None:
    """While nobody listens the kernel refuses; connections that are there are still served."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            control = simulator.control_url + "/settings"
            for _ in range(2):
                await client.post(control, json={"refused_s": 3_600})
                with pytest.raises(ConnectionRefusedError):
                    connect(simulator.base_url)
                assert (await post(client)).status_code == 200
            await client.post(control, json={"refused_s": 0})
            connect(simulator.base_url)
            await client.post(control, json={"refused_s": 3_600})
            await client.post(simulator.control_url + "/reset")
            connect(simulator.base_url)
            assert simulator.bill.totals.charges == 0

    run(scenario())


def test_a_refusal_ends_by_itself() -> None:
    """After `refused_s` whoever comes is served, on the same port."""

    async def scenario() -> None:
        async with serving(refused_s=0.2) as (simulator, client):
            with pytest.raises(httpx.ConnectError):
                await post(client)
            async with asyncio.timeout(10):
                while True:
                    try:
                        assert (await post(client)).status_code == 200
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0)  # the server's turn
            assert simulator.bill.totals.charges == 1

    run(scenario())


# What clients of the real API rely on.


def test_a_429_says_which_one_it_is() -> None:
    """The rate's refusal speaks of the rate, the error budget's of the error budget."""

    async def scenario() -> None:
        async with serving(requests_per_minute=1, failures_max=1) as (simulator, client):

            def families(answer: httpx.Response) -> tuple[int, bool, bool]:
                return (
                    answer.status_code,
                    "x-ratelimit-reset-requests" in answer.headers,
                    "x-ratelimit-resets" in answer.headers,
                )

            assert families(await post(client)) == (200, True, False)
            assert families(await post(client)) == (429, True, False)
            assert families(await post(client)) == (429, True, False)
            blocked = await client.get("/api_keys/rate_limits")
            assert families(blocked) == (429, False, True)
            assert blocked.headers["x-ratelimit-remaining"] == "0"
            assert 25 < int(blocked.headers["x-ratelimit-resets"]) / 1000 - time.time() <= 31
            simulator.reset()
            simulator.change(failures_max=None)
            simulator.script(Scripted(fault="error_budget"))
            scripted = await post(client)
            assert families(scripted) == (429, False, True)
            assert 25 < int(scripted.headers["x-ratelimit-resets"]) / 1000 - time.time() <= 31

    run(scenario())


def test_a_keys_own_limit_is_what_it_can_spend() -> None:
    """What is left of the key's limit is told where it is less than the balance."""

    async def scenario() -> None:
        async with serving(spend_limit_usd=0.05) as (simulator, client):
            told = [(await post(client)).headers["x-venice-balance-usd"] for _ in range(2)]
            assert told == ["0.05", "0.03"]
            limits = (await client.get("/api_keys/rate_limits")).json()["data"]
            assert limits["balances"]["USD"] == 0.01
            assert (await client.get("/billing/balance")).json()["balances"]["usd"] == 99.96
            simulator.change(balance_usd=0.005)
            limits = (await client.get("/api_keys/rate_limits")).json()["data"]
            assert limits["balances"]["USD"] == 0.005

    run(scenario())


def test_the_epoch_turns_at_midnight() -> None:
    """`nextEpochBegins` is the next midnight, UTC, by the server's clock."""

    async def scenario() -> None:
        async with serving(clock_offset_s=10 * 86_400) as (_, client):
            limits = (await client.get("/api_keys/rate_limits")).json()["data"]
            text = limits["nextEpochBegins"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00\.000Z", text)
            ahead = datetime.fromisoformat(text) - datetime.now(UTC)
            assert 10 * 86_400 - 5 < ahead.total_seconds() <= 11 * 86_400 + 5

    run(scenario())


# The command line.


@contextlib.contextmanager
def served_by_command(*arguments: str) -> Iterator[str]:
    """Give the base URL of a command that serves, and end it in order."""
    with command(*arguments) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            code = process.wait(10)
        assert code == 0


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Settings)])
def test_every_setting_can_be_an_argument(name: str) -> None:
    """`--list-settings` names every setting, and its default reads back as what it is."""
    shown = {listed: default for listed, default, _ in describe_settings()}
    if name == "faults":
        assert name not in shown, "it has an option of its own"
        return
    read, value = read_setting(f"{name}={shown[name]}")
    assert read == name
    assert Settings(**{name: value}) == Settings()


def test_a_setting_is_read_as_what_it_is() -> None:
    """Numbers, flags, nothing and lists are written as one would write them."""
    assert read_setting("clock_offset_s=-120") == ("clock_offset_s", -120)
    assert read_setting("spend_limit_usd=0.5") == ("spend_limit_usd", 0.5)
    assert read_setting("send_date = False") == ("send_date", False)
    assert read_setting("failures_max=none") == ("failures_max", None)
    assert read_setting("keys=a, 12") == ("keys", ("a", "12"))
    assert read_setting("keys=none") == ("keys", None)


def test_settings_and_faults_are_arguments_of_the_command() -> None:
    """What the control endpoint can change, `--set` and `--fault` can say at the start."""
    arguments = (
        "--latency=0s", "--rpm=5", "--set=keys=first,second", "--set=clock_offset_s=-120",
        "--set=reset_format=garbage", "--set=spend_limit_usd=0.03", "--set=latency_s=0.01",
        "--fault=unavailable,every=2,times=1",
    )  # fmt: skip
    with served_by_command(*arguments) as base_url, httpx.Client(base_url=base_url) as client:

        def answer(key: str) -> httpx.Response:
            files, headers = {"image": picture()}, {"Authorization": f"Bearer {key}"}
            return client.post("/image/upscale", files=files, headers=headers)

        first = answer("first")
        assert first.status_code == 200
        late_s = time.time() - parsedate_to_datetime(first.headers["date"]).timestamp()
        assert 115 < late_s < 125
        assert first.headers["x-ratelimit-reset-requests"] == "soon"
        statuses = [answer(key).status_code for key in ("first", "first", "second", "third")]
        assert statuses == [503, 402, 200, 401]


def test_a_command_can_begin_by_refusing() -> None:
    """The base URL is printed, the port is kept, and nobody is listened to."""
    with served_by_command("--set", "refused_s=3600") as base_url:
        with pytest.raises(ConnectionRefusedError):
            connect(base_url)
        port = httpx.URL(base_url).port
        with pytest.raises(OSError, match="in use"):
            run(Simulator(Settings(port=port or 0)).__aenter__())


# The document.


def rows(heading: str) -> dict[str, list[str]]:
    """Return the table below a heading of the document, by its first column's name."""
    below = DOCUMENT.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    lines = [line for line in below.split("\n## ")[0].splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_setting_is_documented() -> None:
    """docs/simulator.md has every setting with its default, and no others."""
    documented = {name: row[0].strip("`") for name, row in rows("Settings").items()}
    assert documented == {name: default for name, default, _ in describe_settings()}


def test_every_fault_is_documented() -> None:
    """docs/simulator.md has every fault with its summary, and no others."""
    documented = {name: row[0] for name, row in rows("Faults").items()}
    assert documented == {fault.name: fault.summary for fault in FAULTS.values()}


def test_every_option_of_a_fault_is_documented() -> None:
    """docs/simulator.md has every key of an entry of the script, and no others."""
    keys = {f.name for f in dataclasses.fields(Scripted)}
    assert set(rows("When a fault strikes")) == keys
