"""The HTTP client against a simulated Venice: every fault, how far it came, and no key in it."""

import asyncio
import dataclasses
import functools
import gzip
import io
import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.conftest import CannedServer
from venice_watch.images.png import PngVerifier
from venice_watch.job import Charge
from venice_watch.outcome import (
    AccountRefused,
    Doubtful,
    Lost,
    Outcome,
    Rejected,
    ServerFailed,
    Succeeded,
    Throttled,
    Unavailable,
    Unsent,
)
from venice_watch.parameters import Contract
from venice_watch.redact import REDACTED
from venice_watch.simulator import FAULTS, Scripted, Settings, Simulator
from venice_watch.venice import client as client_module
from venice_watch.venice.classify import Exchange, Phase, classify
from venice_watch.venice.client import Timeouts, Upload, VeniceClient, read_key_facts
from venice_watch.venice.figures import read_prices

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess

    Canned = Callable[..., AbstractAsyncContextManager[CannedServer]]

KEY = "sk-not-a-real-key-4711"
PATIENT = Timeouts(connect_s=10, write_s=10, read_s=10, total_s=30)
HASTY = dataclasses.replace(PATIENT, read_s=0.3)
SIDE = 256


class Verified:
    """A sink that keeps what it verified."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._verifier = PngVerifier()

    def write(self, data: bytes) -> None:
        """Take bytes of a PNG."""
        self._verifier.feed(data)
        self.data += data

    def finish(self) -> tuple[int, int]:
        """Return the size of the whole PNG."""
        facts = self._verifier.finish()
        return facts.width, facts.height


class Anything:
    """A sink that takes any bytes, and counts them."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self.size_bytes += len(data)

    def finish(self) -> tuple[int, int]:
        """Return what was wanted."""
        return SIDE * 2, SIDE * 2


@functools.cache
def picture(side: int = SIDE) -> bytes:
    """Return a PNG without structure: nothing of it can be compressed."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(
        out, "PNG", compress_level=0
    )
    return out.getvalue()


def upload(data: bytes | None = None, **fields: str) -> Upload:
    """Return an image to send at scale 2."""
    return Upload(
        data=picture() if data is None else data,
        media_type="image/png",
        extension="png",
        fields={"scale": "2", **fields},
    )


def opened(base_url: str, timeouts: Timeouts = PATIENT, key: str = KEY) -> VeniceClient:
    """Return a client of a server."""
    return VeniceClient(base_url, key, timeouts, connections_max=4)


@asynccontextmanager
async def venice(timeouts: Timeouts = PATIENT) -> AsyncIterator[tuple[Simulator, VeniceClient]]:
    """Serve a quick simulator in this process, and open a client of it."""
    settings = Settings(
        latency_s=0.0, requests_per_minute=None, failures_max=None, pixels="nearest"
    )
    async with Simulator(settings) as simulator, opened(simulator.base_url, timeouts) as client:
        yield simulator, client


def judged(seen: Exchange) -> Outcome:
    """Return what an exchange about the usual picture came to."""
    wanted = (SIDE * 2, SIDE * 2)
    return classify(seen, wanted=wanted, sent=(SIDE, SIDE), now=time.time())


# Every fault.

FINE = Succeeded
OUTCOMES: dict[str, type] = {
    "rate_limited": Throttled,
    "overloaded": Throttled,
    "error_budget": Throttled,
    "unauthorized": AccountRefused,
    "payment_required": AccountRefused,
    "spend_limit": AccountRefused,
    "forbidden": AccountRefused,
    "bad_request": Rejected,
    "rejected": Rejected,
    "too_large_at_once": Rejected,
    "server_error": ServerFailed,
    "server_error_charged": ServerFailed,  # the server lies: nobody could tell
    "server_error_empty": Doubtful,
    "server_error_gzip": ServerFailed,
    "server_error_object": ServerFailed,
    "unavailable": Unavailable,
    "unavailable_html": Doubtful,
    "bad_gateway": Doubtful,
    "gateway_timeout": Doubtful,
    "timeout_524": Doubtful,
    "html_520": Doubtful,
    "html_521": Unsent,
    "html_522": Doubtful,
    "html_523": Unsent,
    "html_524": Doubtful,
    "html_525": Unsent,
    "html_526": Unsent,
    "ok_json": Doubtful,
    "ok_html": Doubtful,
    "ok_empty": Doubtful,
    "ok_jpeg_as_png": Lost,
    "ok_damaged": Lost,
    "ok_huge": Succeeded,
    "wrong_size": Lost,
    "whole_chunked": Succeeded,
    "whole_close": Succeeded,
    "truncated": Lost,
    "truncated_chunked": Lost,
    "truncated_close": Lost,
    "stall_in_body": Lost,
    "slow_drip": Succeeded,
    "reset_on_accept": Unsent,
    "reset_in_upload": Unsent,
    "close_after_body": Doubtful,
    "close_after_body_charged": Doubtful,
    "hang": Doubtful,
    "hang_charged": Doubtful,
    "stale_keepalive": Succeeded,
    "echo_key": Rejected,
    "echo_key_500": ServerFailed,
}
LYING = {"server_error_charged"}  # it says that it failed, and charges
HANGING = {"hang", "hang_charged", "stall_in_body"}
LARGE = {"reset_in_upload", "reset_on_accept"}  # more than socket buffers swallow
VALUES = {"slow_drip": "0.2"}


def test_every_fault_is_here() -> None:
    """Each fault that the simulator knows has its outcome in this table."""
    assert set(OUTCOMES) == set(FAULTS)


@pytest.mark.parametrize("name", OUTCOMES)
def test_fault(name: str) -> None:
    """Each fault is seen as what it is, and nothing that was charged is taken for free."""

    async def scenario() -> tuple[Exchange, int]:
        async with venice(HASTY if name in HANGING else PATIENT) as (simulator, client):
            simulator.script(Scripted(fault=name, value=VALUES.get(name)))
            sent = upload(picture(2_400) if name in LARGE else None)
            seen = await client.upscale(sent, Verified())
            return seen, simulator.bill.totals.charged_microusd

    seen, charged_microusd = asyncio.run(scenario())
    outcome = judged(seen)
    assert type(outcome) is OUTCOMES[name], outcome
    if name not in LYING:
        assert bool(charged_microusd) <= (outcome.charge is not Charge.NONE)
        assert (outcome.charge is Charge.NONE) <= (charged_microusd == 0)
    assert KEY not in repr(seen)
    assert KEY not in repr(outcome)


@pytest.mark.parametrize("name", ["echo_key", "echo_key_500"])
def test_echoed_key(name: str) -> None:
    """A key that the server repeats is replaced, and the words around it are kept."""

    async def scenario() -> Exchange:
        async with venice() as (simulator, client):
            simulator.script(Scripted(fault=name))
            return await client.upscale(upload(), Verified())

    words = judged(asyncio.run(scenario())).words
    assert words == f"Could not handle request, Authorization: Bearer {REDACTED}"


# How far it came.


def test_phases() -> None:
    """Refused, reset in the upload, silent, and whole: each is told from the others."""

    async def scenario() -> list[tuple[Phase, int | None]]:
        seen = []
        async with venice() as (simulator, client), opened(simulator.base_url, HASTY) as hasty:
            for fault in ("reset_in_upload", "close_after_body", "hang", "truncated"):
                simulator.script(Scripted(fault=fault))
                data = picture(2_400) if fault == "reset_in_upload" else None
                sender = hasty if fault == "hang" else client
                exchange = await sender.upscale(upload(data), Verified())
                seen.append((exchange.phase, exchange.status))
            exchange = await client.upscale(upload(), Verified())
            seen.append((exchange.phase, exchange.status))
            base_url = simulator.base_url
        async with opened(base_url) as client:  # nobody listens there any more
            exchange = await client.upscale(upload(), Verified())
            seen.append((exchange.phase, exchange.status))
        return seen

    assert asyncio.run(scenario()) == [
        (Phase.SENDING, None),
        (Phase.SENT, None),
        (Phase.SENT, None),
        (Phase.ANSWERING, 200),
        (Phase.ANSWERED, 200),
        (Phase.CONNECTING, None),
    ]


def test_unresolvable_name() -> None:
    """A host that has no address was reached by nothing."""

    async def scenario() -> Exchange:
        async with opened("http://no-such-host.invalid/api/v1") as client:
            return await client.upscale(upload(), Verified())

    seen = asyncio.run(scenario())
    assert (seen.phase, seen.status) == (Phase.CONNECTING, None)
    assert type(judged(seen)) is Unsent


def test_no_connection_is_used_twice() -> None:
    """A server that would drop a kept connection under the next request has none to drop."""

    async def scenario() -> tuple[list[Exchange], int]:
        async with venice() as (simulator, client):
            simulator.script(Scripted(fault="stale_keepalive"))
            seen = [await client.upscale(upload(), Verified()) for _ in range(2)]
            return seen, simulator.bill.totals.charges

    seen, charges = asyncio.run(scenario())
    outcomes = [judged(one) for one in seen]
    assert [type(one) for one in outcomes] == [Succeeded, Succeeded]
    assert charges == 2


def test_total_time() -> None:
    """The whole request has a limit of its own: a server that drips for ever is cut off."""

    async def scenario() -> tuple[Exchange, float]:
        async with venice(dataclasses.replace(PATIENT, total_s=1.5)) as (simulator, client):
            simulator.script(Scripted(fault="slow_drip", value="60"))
            started_s = time.monotonic()
            seen = await client.upscale(upload(), Verified())
            return seen, time.monotonic() - started_s

    seen, took_s = asyncio.run(scenario())
    assert took_s < 20
    assert "not done after 1.5 s" in (seen.error or "")
    assert type(judged(seen)) is Lost


def test_cancelled() -> None:
    """Cancelling a request ends it as cancelled, and the client serves the next one."""

    async def scenario() -> type:
        async with venice() as (simulator, client):
            simulator.script(Scripted(fault="hang"))
            task = asyncio.create_task(client.upscale(upload(), Verified()))
            await simulator.bill.wait_until(lambda totals: totals.received == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return type(judged(await client.upscale(upload(), Verified())))

    assert asyncio.run(scenario()) is Succeeded


# What is sent.


def test_result_arrives_whole(simulator: "SimulatorProcess") -> None:
    """The image in the sink is what another process made of exactly the bytes that were sent."""

    async def scenario() -> tuple[Exchange, bytes]:
        sink = Verified()
        async with opened(simulator.base_url) as client:
            return await client.upscale(upload(replication="0.35"), sink), bytes(sink.data)

    seen, data = asyncio.run(scenario())
    assert seen.size == (SIDE * 2, SIDE * 2)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == seen.size
    [record] = simulator.bill()["records"]
    assert record["image_bytes"] == len(picture())
    assert record["fields"] == {"scale": 2, "replication": 0.35}
    assert record["cf_ray"] == judged(seen).request_id
    assert record["charged_microusd"] == 20_000


def test_request_on_the_wire(canned: "Canned") -> None:
    """The request is HTTP/1.1 with a length, names no file of its owner, and wants no encoding."""

    async def scenario() -> bytes:
        async with canned(b"{}") as server, opened(server.base_url) as client:
            await client.upscale(upload(enhancePrompt="gold"), Verified())
            return server.requests[0]

    request = asyncio.run(scenario())
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.lower().decode().split("\r\n")
    assert lines[0] == "post /api/v1/image/upscale http/1.1"
    assert f"authorization: bearer {KEY}" in lines
    assert "accept-encoding: identity" in lines
    assert "accept: image/png, application/json" in lines
    assert f"content-length: {len(body)}" in lines
    assert any(line.startswith("user-agent: venice-watch/") for line in lines)
    assert b'name="image"; filename="image.png"' in body
    assert body.count(picture()) == 1
    assert b'name="enhancePrompt"\r\n\r\ngold\r\n' in body


def test_key_goes_nowhere_else(canned: "Canned") -> None:
    """A redirection is not followed: the key is for one address."""

    async def scenario() -> tuple[Outcome, int, int]:
        async with canned(b"{}") as other:
            head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {other.base_url}/image/upscale"
            async with canned(b"", head=head) as server, opened(server.base_url) as client:
                outcome = judged(await client.upscale(upload(), Verified()))
                await client.read_key_facts()
                return outcome, len(server.requests), len(other.requests)

    outcome, asked, elsewhere = asyncio.run(scenario())
    assert type(outcome) is AccountRefused
    assert "api.base_url" in outcome.words
    assert (asked, elsewhere) == (2, 0)


def test_no_proxy_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked for an address of this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def scenario() -> Exchange:
        async with venice() as (_, client):
            return await client.upscale(upload(), Verified())

    assert type(judged(asyncio.run(scenario()))) is Succeeded


# Secrets and strange answers.


@pytest.mark.parametrize(
    "body",
    [
        f'{{"error": "bad key {KEY}"}}'.encode(),
        f'{{"error": "bad key \\u0073{KEY[1:]}"}}'.encode(),
        f'{{"error": {{"message": "\\u0073{KEY[1:]}"}}}}'.encode(),
        f'{{"details": {{"{KEY}": {{"_errors": ["{KEY}"]}}}}}}'.encode(),
        f"<html><title>{KEY}</title>".encode(),
        f"plain {KEY}".encode(),
        b"x" * 65_530 + KEY.encode(),
    ],
)
@pytest.mark.parametrize("status", ["400 Bad Request", "500 Oops", "200 OK"])
def test_key_in_an_answer(canned: "Canned", body: bytes, status: str) -> None:
    """Wherever a server puts the key, escaped or not, nothing that leaves the client holds it."""
    head = f"HTTP/1.1 {status}\r\nCF-RAY: ray-{KEY}\r\nX-Other: {KEY}{KEY}"

    async def scenario() -> tuple[Exchange, object]:
        async with canned(body, head=head) as server, opened(server.base_url) as client:
            return await client.upscale(upload(), Anything()), await client.read_key_facts()

    seen, facts = asyncio.run(scenario())
    outcome = judged(seen)
    for text in (repr(seen), repr(outcome), repr(facts), seen.body.decode("latin-1")):
        assert KEY not in text
    assert outcome.request_id == f"ray-{REDACTED}"


def test_key_in_compressed_words(canned: "Canned") -> None:
    """Compressed words are read, and the key in them taken out."""
    body = gzip.compress(f'{{"error": "bad key {KEY}"}}'.encode())
    head = "HTTP/1.1 500 Oops\r\nContent-Encoding: gzip"

    async def scenario() -> Exchange:
        async with canned(body, head=head) as server, opened(server.base_url) as client:
            return await client.upscale(upload(), Verified())

    assert judged(asyncio.run(scenario())).words == f"bad key {REDACTED}"


@pytest.mark.parametrize(
    ("body", "head", "kind"),
    [
        (b"no gzip", "HTTP/1.1 500 Oops\r\nContent-Encoding: gzip", Doubtful),
        (b"no gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip", Doubtful),
        (b"{}", "HTTP/1.1 200 OK\r\nBad Header", Doubtful),
        (b"{}", "SSH-2.0-OpenSSH", Doubtful),
        (b"{" * 100_000, "HTTP/1.1 500 Oops", Doubtful),
        (b"", "HTTP/1.1 204 No Content", Doubtful),
        (b'{"queued": true}', "HTTP/1.1 202 Accepted", Doubtful),
        (b"\n" + b"{}", "HTTP/1.1 200 OK", Doubtful),
        (b"GIF89a", "HTTP/1.1 200 OK", Lost),
    ],
)
def test_strange_answers(canned: "Canned", body: bytes, head: str, kind: type) -> None:
    """Answers that are no HTTP, no gzip or no image end in an outcome, never in an exception."""

    async def scenario() -> Exchange:
        async with canned(body, head=head) as server, opened(server.base_url) as client:
            return await client.upscale(upload(), Verified())

    outcome = judged(asyncio.run(scenario()))
    assert type(outcome) is kind, outcome


@pytest.mark.parametrize("depth", [500, 800, 850, 900, 925, 950, 975, 1_000])
def test_deep_answers(canned: "Canned", depth: int) -> None:
    """JSON as deep as Python can barely read is survived, for images and for free requests."""
    body = b'{"error":' * depth + b"1" + b"}" * depth

    async def scenario() -> tuple[Exchange, client_module.KeyFacts]:
        head = "HTTP/1.1 400 Bad Request"
        async with canned(body, head=head) as server, opened(server.base_url) as client:
            await client.find_contract()
            return await client.upscale(upload(), Verified()), await client.read_key_facts()

    seen, facts = asyncio.run(scenario())
    assert type(judged(seen)) is Rejected
    assert facts.status == 400


def test_answer_without_end(monkeypatch: pytest.MonkeyPatch, canned: "Canned") -> None:
    """An image beyond the limit is not read to its end, and is lost."""
    monkeypatch.setattr(client_module, "ANSWER_BYTES_MAX", 1_000_000)

    async def scenario() -> tuple[Exchange, int]:
        sink = Anything()
        async with canned(b"\x89" * 8_000_000) as server, opened(server.base_url) as client:
            return await client.upscale(upload(), sink), sink.size_bytes

    seen, size_bytes = asyncio.run(scenario())
    assert "larger than 1,000,000 bytes" in judged(seen).words
    assert type(judged(seen)) is Lost
    assert size_bytes <= 1_000_000


def test_words_without_end(canned: "Canned") -> None:
    """Of an endless error only the beginning is read."""

    async def scenario() -> Exchange:
        head = "HTTP/1.1 500 Oops"
        async with canned(b"x" * 8_000_000, head=head) as server, opened(server.base_url) as one:
            return await one.upscale(upload(), Verified())

    seen = asyncio.run(scenario())
    assert len(seen.body) == 64 * 1024


def test_whole_image_on_a_broken_line() -> None:
    """An image that came to its own end is the result, whatever became of the connection."""
    image = picture(SIDE * 2)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(image) + 2}\r\n\r\n"
    canned = CannedServer(head.encode() + image, pause_s=0)  # and then it breaks off
    sink = Verified()

    async def scenario() -> Exchange:
        server = await asyncio.start_server(canned.accept, "127.0.0.1", 0)
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
        try:
            async with server, opened(base_url) as client:
                return await client.upscale(upload(), sink)
        finally:
            await canned.stop()

    seen = asyncio.run(scenario())
    assert seen.error
    assert type(judged(seen)) is Succeeded
    assert sink.data == image


# The free requests.


def test_free_answer_without_end(canned: "Canned", monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless answer to a free question no more is read than such answers have."""
    monkeypatch.setattr(client_module, "FREE_BYTES_MAX", 1_000_000)
    bomb = gzip.compress(bytes(50_000_000))

    async def scenario() -> tuple[client_module.KeyFacts, object]:
        head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip"
        async with canned(bomb, head=head) as server, opened(server.base_url) as client:
            return await client.read_key_facts(), await client.read_prices()

    facts, prices = asyncio.run(scenario())
    assert facts.status is None
    assert "larger than 1,000,000 bytes" in facts.words
    assert prices is None


@pytest.mark.parametrize("contract", Contract)
def test_find_contract(simulator: "SimulatorProcess", contract: Contract) -> None:
    """One request without an image tells the contracts apart, and costs nothing."""
    simulator.change(contract=str(contract))

    async def scenario() -> client_module.ContractAnswer:
        async with opened(simulator.base_url) as client:
            return await client.find_contract()

    answer = asyncio.run(scenario())
    assert (answer.contract, answer.status, answer.failed) == (contract, 400, False)
    assert simulator.bill()["totals"]["charges"] == 0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": []}', b'{"error": "x"}'])
@pytest.mark.parametrize(
    ("status", "failed"),
    [
        ("200 OK", False),
        ("404 Not Found", False),
        ("401 Unauthorized", True),
        ("429 Too Many Requests", True),
        ("500 Oops", True),
    ],
)
def test_contract_unknown(canned: "Canned", status: str, body: bytes, *, failed: bool) -> None:
    """A server that does not refuse the question as expected tells nothing of its contract."""

    async def scenario() -> tuple[client_module.ContractAnswer, object]:
        head = f"HTTP/1.1 {status}"
        async with canned(body, head=head) as server, opened(server.base_url) as client:
            return await client.find_contract(), await client.read_prices()

    answer, prices = asyncio.run(scenario())
    assert (answer.contract, answer.status, answer.failed) == (None, int(status[:3]), failed)
    assert prices is None


def test_key_facts(simulator: "SimulatorProcess") -> None:
    """The free endpoint's figures are read: the upscaler's rate, balances, permission."""
    simulator.change(requests_per_minute=33, balance_usd=12.5)

    async def scenario() -> client_module.KeyFacts:
        async with opened(simulator.base_url) as client:
            return await client.read_key_facts()

    facts = asyncio.run(scenario())
    assert facts.usable
    assert facts.requests_per_minute == 33
    assert facts.balances == {"USD": 12.5, "DIEM": 0.0}


def test_prices(simulator: "SimulatorProcess") -> None:
    """The price list is read in millionths of a dollar, both sizes or none; nothing is free."""
    simulator.change(price_2x_usd=0.035, price_4x_usd=0.5)

    async def scenario() -> object:
        async with opened(simulator.base_url) as client:
            return await client.read_prices()

    assert asyncio.run(scenario()) == {"2x": 35_000, "4x": 500_000}
    for usd in (None, 0, 0.0, -0.01, "0.02", True, float("nan"), 10**400):
        prices = {"2x": {"usd": 0.02}, "4x": {"usd": usd}}
        listed = {"data": [{"model_spec": {"pricing": {"upscale": prices}}}]}
        assert read_prices(listed) is None, usd


def test_rate_of_the_right_model() -> None:
    """The upscaler's own limit counts; without one, the lowest that is named."""

    def models(*amounts: tuple[str, object, str]) -> bytes:
        limits = [
            {"apiModelId": name, "rateLimits": [{"amount": amount, "type": kind}]}
            for name, amount, kind in amounts
        ]
        return json.dumps({"data": {"rateLimits": limits}}).encode()

    def rate(*amounts: tuple[str, object, str]) -> int | None:
        return read_key_facts(200, {}, models(*amounts)).requests_per_minute

    assert rate(("flux", 5, "RPM"), ("upscaler", 20, "RPM")) == 20
    assert rate(("flux", 30, "RPM"), ("sd", 10, "RPM")) == 10
    assert rate(("upscaler", 20, "RPD")) is None
    assert rate(("upscaler", 0, "RPM")) is None
    assert rate(("upscaler", "20", "RPM")) is None
    assert rate() is None


@pytest.mark.parametrize(
    ("expiration", "expires_at"),
    [
        (None, math.inf),
        ("2033-05-18T03:33:20Z", 2e9),
        ("2033-05-18T03:33:20.000Z", 2e9),
        ("2033-05-18T05:33:20+02:00", 2e9),
        ("2033-05-18", 1_999_987_200),
        ("9999-12-31T23:59:59Z", math.inf),
        ("0001-01-01T00:00:00Z", None),
        ("soon", None),
        ("", None),
        (2e9, None),
        (["2033-05-18"], None),
    ],
)
def test_when_a_key_ends(expiration: object, expires_at: float | None) -> None:
    """The day a key ends is read with its zone; null is for ever, and nonsense says nothing."""
    body = json.dumps({"data": {"keyExpiration": expiration}}).encode()
    assert read_key_facts(200, {}, body).expires_at == expires_at
    assert read_key_facts(200, {}, b'{"data": {}}').expires_at is None


@pytest.mark.parametrize("status", [200, 401, 503])
def test_the_servers_clock(status: int) -> None:
    """Every answer's Date is read, and one without or with nonsense tells no time."""
    dated = {"date": "Wed, 18 May 2033 03:33:20 GMT"}
    assert read_key_facts(status, dated, b"{}").server_time == 2e9
    assert read_key_facts(status, {"date": "tomorrow"}, b"{}").server_time is None
    assert read_key_facts(status, {}, b"{}").server_time is None


def test_a_web_page_is_no_api() -> None:
    """A web page is told from the API's own words by its type or its first character."""
    page = {"content-type": "text/html; charset=utf-8"}
    assert read_key_facts(200, page, b"Log in first").is_page
    assert read_key_facts(502, {}, b"\n<html></html>").is_page
    assert not read_key_facts(401, page, b'{"error": "no"}').is_page
    assert not read_key_facts(200, page, b'{"data": {}}').is_page
    assert not read_key_facts(500, {}, b"").is_page


def test_free_requests_end(canned: "Canned", monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that drips its answer cannot hold up what the gate waits for."""
    monkeypatch.setattr(client_module, "FREE_TIMEOUT_S", 0.2)

    async def scenario() -> tuple[client_module.KeyFacts, object, client_module.ContractAnswer]:
        async with canned(b"x" * 500, pause_s=0.05) as server, opened(server.base_url) as client:
            return (
                await client.read_key_facts(),
                await client.read_prices(),
                await client.find_contract(),
            )

    facts, prices, contract = asyncio.run(scenario())
    assert facts.status is None
    assert "not done after 0.2 s" in facts.words
    assert prices is None
    assert (contract.contract, contract.status, contract.failed) == (None, None, True)
    assert contract.words


def test_unreachable() -> None:
    """Without a server the free requests say so, and raise nothing."""

    async def scenario() -> tuple[client_module.KeyFacts, object, client_module.ContractAnswer]:
        async with venice() as (simulator, _):
            base_url = simulator.base_url
        async with opened(base_url) as client:
            return (
                await client.read_key_facts(),
                await client.read_prices(),
                await client.find_contract(),
            )

    facts, prices, contract = asyncio.run(scenario())
    assert facts.status is None
    assert not facts.usable
    assert facts.words
    assert prices is None
    assert (contract.contract, contract.status, contract.failed) == (None, None, True)
    assert contract.words
