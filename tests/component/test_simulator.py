"""The simulator through its sockets: what it answers, and what it puts on the bill."""

import asyncio
import base64
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
import pytest
from PIL import Image

from venice_watch.simulator import FAULTS, Record, Scripted, Settings, Simulator, parse_fault
from venice_watch.simulator.account import Account, RefusalError
from venice_watch.simulator.contract import fit

KEY = "sk-not-a-real-key-4711"
BEARER = {"Authorization": f"Bearer {KEY}"}
T = TypeVar("T")

COMMAND = "from venice_watch.cli.simulator_command import simulator_command as c; c()"


def picture(width: int = 256, height: int = 256, mode: str = "RGB", kind: str = "PNG") -> bytes:
    """Return an image file with a little structure."""
    out = io.BytesIO()
    image = Image.linear_gradient("L").resize((width, height))
    if mode == "I;16":
        image = image.convert("I").point(lambda level: level * 257)
    image = image.convert(mode)
    image.save(out, kind)
    return out.getvalue()


def run(test: Coroutine[None, None, T]) -> T:
    """Run a test's coroutine to its end."""
    return asyncio.run(test)


def client_of(simulator: Simulator, timeout_s: float = 10) -> httpx.AsyncClient:
    """Return a client with a key; `verify` off, because certificates take 20 ms to load."""
    return httpx.AsyncClient(
        base_url=simulator.base_url, headers=BEARER, timeout=timeout_s, verify=False
    )


@asynccontextmanager
async def serving(
    **settings: object,
) -> AsyncIterator[tuple[Simulator, httpx.AsyncClient]]:
    """Give a quick simulator and a client with a key."""
    quick = {"latency_s": 0.0, "requests_per_minute": None} | settings
    async with (
        Simulator(Settings(**quick)) as simulator,
        client_of(simulator) as client,
    ):
        yield simulator, client


async def post(
    client: httpx.AsyncClient, image: bytes | None = None, **fields: str
) -> httpx.Response:
    """Send an image as multipart."""
    files = {"image": ("a.png", picture() if image is None else image, "image/png")}
    return await client.post("/image/upscale", files=files, data=fields)


async def exchange(simulator: Simulator, sent: bytes, limit_s: float = 5) -> bytes:
    """Send raw bytes and return everything until the end of the connection."""
    url = httpx.URL(simulator.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(limit_s):
            return await reader.read()
    finally:
        writer.close()


def size_of(body: bytes) -> tuple[int, int]:
    """Decode a PNG completely and return its size."""
    with Image.open(io.BytesIO(body), formats=("PNG",)) as image:
        image.load()
        return image.size


def is_sound(png: bytes) -> bool:
    """Say whether every chunk is whole, has the right CRC, and IEND is the last."""
    at, kind = 8, b""
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        kind, rest = png[at + 4 : at + 8], png[at + 8 + length : at + 12 + length]
        if zlib.crc32(png[at + 4 : at + 8 + length]).to_bytes(4, "big") != rest:
            return False
        at += 12 + length
    return at == len(png) and kind == b"IEND"


def form(*parts: tuple[str, bytes], boundary: str = "xYz") -> bytes:
    """Return a multipart body of (disposition, content)."""
    lines = [
        b"--%s\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n"
        % (boundary.encode(), disposition.encode(), content)
        for disposition, content in parts
    ]
    return b"".join(lines) + b"--%s--\r\n" % boundary.encode()


# Normal work.


def test_upscales_and_bills() -> None:
    """A good request gets real pixels, and one line on the bill with its price."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            answer = await post(client, picture(300, 256), scale="2", replication="0.35")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "image/png"
            assert re.fullmatch(r"[0-9a-f]{16}-SIM", answer.headers["cf-ray"])
            assert answer.headers["x-venice-balance-usd"] == "100.0"
            assert size_of(answer.content) == (600, 512)
            (record,) = simulator.bill.upscales
            assert record.charged_microusd == 20_000
            assert record.cf_ray == answer.headers["cf-ray"]
            assert record.image_sha256 == hashlib.sha256(picture(300, 256)).hexdigest()
            assert record.fields == {"scale": 2, "replication": 0.35}
            assert (record.width, record.height, record.scale) == (300, 256, 2)
            assert (record.status, record.finished, record.failed) == (200, True, False)
            assert record.key_fingerprint not in {"", KEY}
            assert simulator.bill.charged_usd == 0.02
            again = await post(client, scale="4")
            assert again.headers["x-venice-balance-usd"] == "99.98"
            assert again.headers["cf-ray"] != answer.headers["cf-ray"]
            assert simulator.bill.totals.charged_microusd == 100_000

    run(scenario())


def test_takes_json() -> None:
    """The image can come as raw base64 in JSON, with typed fields."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            image = base64.b64encode(picture()).decode()
            body = {"image": image, "scale": 1, "enhance": True, "enhancePrompt": "gold"}
            answer = await client.post("/image/upscale", json=body)
            assert size_of(answer.content) == (256, 256)
            assert answer.content != picture()
            assert simulator.bill.upscales[0].charged_microusd == 20_000
            for spoilt in ("data:image/png;base64," + image, "!" + image):
                body["image"] = spoilt
                refused = await client.post("/image/upscale", json=body)
                assert refused.json()["details"]["image"] == {"_errors": ["Invalid base64"]}
            assert simulator.bill.totals.charges == 1

    run(scenario())


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "disposition",
    [
        'name="image"; filename="a.png"',
        'name="image"; filename="na\\"me; name=scale.png"',
        'filename="günther 写真.png"; name="image"',
        "name=image; filename=a.png",
        "name=\"image\"; filename*=UTF-8''%e2%82%ac.png",
    ],
)
def test_takes_any_multipart(disposition: str, *, chunked: bool) -> None:
    """File names may be quoted, escaped and UTF-8; parts come in any order, chunked or not."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            body = form(
                ('name="scale"', b"3"), (disposition, picture()), ('name="enhance"', b"false")
            )

            async def pieces() -> AsyncIterator[bytes]:
                for start in range(0, len(body), 1000):
                    yield body[start : start + 1000]

            answer = await client.post(
                "/image/upscale",
                content=pieces() if chunked else body,
                headers={"Content-Type": 'multipart/form-data; boundary="xYz"'},
            )
            assert size_of(answer.content) == (768, 768)
            (record,) = simulator.bill.upscales
            assert record.image_sha256 == hashlib.sha256(picture()).hexdigest()
            assert record.fields == {"scale": 3, "enhance": "false"}
            assert record.charged_microusd == 80_000

    run(scenario())


@pytest.mark.parametrize(
    ("mode", "kind", "result"),
    [
        ("RGBA", "PNG", "RGBA"),
        ("LA", "PNG", "RGBA"),
        ("L", "PNG", "L"),
        ("1", "PNG", "L"),
        ("P", "PNG", "RGB"),
        ("I;16", "PNG", "L"),
        ("RGB", "WEBP", "RGB"),
        ("CMYK", "JPEG", "RGB"),
    ],
)
def test_keeps_alpha_and_eight_bits(mode: str, kind: str, result: str) -> None:
    """Whatever comes in, an 8-bit PNG goes out, with alpha where there was alpha."""

    async def scenario() -> None:
        async with serving() as (_, client):
            answer = await post(client, picture(mode=mode, kind=kind))
            assert answer.status_code == 200, answer.text
            with Image.open(io.BytesIO(answer.content)) as image:
                assert (image.format, image.mode, image.size) == ("PNG", result, (512, 512))
                grey = image.convert("L")
                low, high = grey.getextrema()
                assert 100 < grey.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)) < 160
                assert low < 30, "the gradient is still there"
                assert high > 220

    run(scenario())


def test_drops_metadata_and_ignores_orientation() -> None:
    """The result is made from the raw pixels: not turned, no EXIF, no profile."""

    async def scenario() -> None:
        image = Image.linear_gradient("L").resize((320, 256)).convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = 6
        out = io.BytesIO()
        image.save(out, "JPEG", exif=exif, icc_profile=b"profile")
        async with serving() as (_, client):
            answer = await post(client, out.getvalue())
            with Image.open(io.BytesIO(answer.content)) as result:
                assert result.size == (640, 512)
                assert not result.getexif()
                assert "icc_profile" not in result.info

    run(scenario())


def test_reduces_the_scale_to_fit() -> None:
    """A result that would be too large is made at the scale that fits, and priced by it."""

    async def scenario() -> None:
        async with serving(pixels="nearest") as (simulator, client):
            answer = await post(client, picture(3000, 3000, "1"), scale="4")
            assert size_of(answer.content) == (4096, 4096)
            (record,) = simulator.bill.upscales
            assert record.scale == pytest.approx(4096 / 3000)
            assert record.charged_microusd == 20_000
            over = await post(client, picture(4100, 4100, "1"), scale="4")
            assert (over.status_code, simulator.bill.totals.charges) == (422, 1)
            simulator.change(contract="creativity")
            assert (await post(client, picture(4100, 4100, "1"))).status_code == 400

    run(scenario())


def test_canned_results_are_made_once_for_each_size() -> None:
    """Another picture of the same size gets the same bytes, is on the bill as itself, and is paid.

    What is refused for its form or its header is refused all the same.
    """

    async def scenario() -> None:
        async with serving(pixels="canned") as (simulator, client):
            first = (await post(client, picture(300, 300, "L"))).content
            second = (await post(client, picture(300, 300, "RGB"))).content
            other = (await post(client, picture(300, 310))).content
            assert first == second
            assert (size_of(first), size_of(other)) == ((600, 600), (600, 620))
            records = simulator.bill.upscales
            assert len({record.image_sha256 for record in records}) == 3
            assert simulator.bill.totals.charges == 3
            assert (await post(client, b"no picture")).status_code == 400
            assert (await post(client, picture(300, 300), scale="9")).status_code == 400

    run(scenario())


@pytest.mark.parametrize(
    ("width", "height"), [(3000, 3000), (16_000, 999), (1000, 1055), (1, 70_000)]
)
def test_a_fitted_size_is_never_too_large(width: int, height: int) -> None:
    """The reduced result has at most the allowed pixels, and nearly all of them."""
    fitted = fit(width, height, 4)
    assert fitted is not None
    wide, high, scale = fitted
    assert wide * high <= 16_777_216
    assert scale == 4 or wide * high > 16_600_000


def test_latency_overlaps_with_the_work() -> None:
    """An answer takes at least the latency, and a work shorter than that adds nothing."""

    async def scenario() -> None:
        async with serving(latency_s=0.3) as (simulator, client):
            began_s = time.monotonic()
            answers = await asyncio.gather(*(post(client) for _ in range(4)))
            took_s = time.monotonic() - began_s
            assert [answer.status_code for answer in answers] == [200] * 4
            assert 0.3 <= took_s < 1
            assert simulator.bill.totals.in_flight_max == 4
            for record in simulator.bill.upscales:
                assert record.received_monotonic_s is not None
                assert record.finished_monotonic_s is not None
                assert record.first_byte_monotonic_s >= began_s
                assert record.finished_monotonic_s - record.received_monotonic_s >= 0.3

    run(scenario())


def test_sixty_four_at_once() -> None:
    """64 concurrent requests are all served, and each is charged once."""

    async def scenario() -> None:
        async with serving(pixels="nearest", latency_s=0.5) as (simulator, _):
            async with client_of(simulator, timeout_s=30) as client:
                images = [picture(256 + index, 256) for index in range(64)]
                answers = await asyncio.gather(*(post(client, image) for image in images))
            assert [size_of(a.content)[0] for a in answers] == [2 * (256 + n) for n in range(64)]
            totals = simulator.bill.totals
            assert (totals.charges, totals.finished, totals.in_flight) == (64, 64, 0)
            assert totals.in_flight_max == 64
            assert totals.charged_microusd == 64 * 20_000
            hashes = {record.image_sha256 for record in simulator.bill.upscales}
            assert hashes == {hashlib.sha256(image).hexdigest() for image in images}
            assert simulator._world.memory.held_bytes == 0

    run(scenario())


# The contracts.


@pytest.mark.parametrize(
    ("contract", "fields", "wrong"),
    [
        ("enhance", {"scale": 4}, None),
        ("enhance", {"scale": 1.5, "replication": None, "enhanceCreativity": 1}, None),
        ("enhance", {"scale": 1}, "scale"),
        ("enhance", {"scale": 1, "enhance": "true"}, None),
        ("enhance", {"scale": 0.99, "enhance": True}, "scale"),
        ("enhance", {"scale": 4.01}, "scale"),
        ("enhance", {"scale": "2"}, "scale"),
        ("enhance", {"scale": True, "enhance": True}, "scale"),
        ("enhance", {"scale": float("nan")}, "scale"),
        ("enhance", {"scale": 10**400}, "scale"),
        ("enhance", {"enhance": "yes"}, "enhance"),
        ("enhance", {"enhanceCreativity": 1.1}, "enhanceCreativity"),
        ("enhance", {"enhancePrompt": "x" * 1500}, None),
        ("enhance", {"enhancePrompt": "x" * 1501}, "enhancePrompt"),
        ("enhance", {"replication": -0.1}, "replication"),
        ("enhance", {"creativity": 0.01}, "_errors"),
        ("creativity", {"scale": 4, "creativity": 99}, None),
        ("creativity", {"scale": 1, "enhance": True}, "scale"),
        ("creativity", {"creativity": "much"}, "creativity"),
        ("creativity", {"enhancePrompt": "gold", "enhanceCreativity": 7}, None),
    ],
)
def test_fields_are_checked(contract: str, fields: dict[str, object], wrong: str | None) -> None:
    """Each contract accepts its own fields in range; `details` names the one that is wrong."""

    async def scenario() -> None:
        async with serving(contract=contract, pixels="nearest") as (simulator, client):
            body = {"image": base64.b64encode(picture()).decode(), **fields}
            answer = await client.post("/image/upscale", content=json.dumps(body))
            assert answer.status_code == 415, "JSON must say that it is"
            answer = await client.post(
                "/image/upscale",
                content=json.dumps(body),
                headers={"Content-Type": "application/json; charset=utf-8"},
            )
            record = simulator.bill.upscales[-1]
            if wrong is None:
                assert answer.status_code == 200, answer.text
                assert record.charged_microusd > 0
                return
            assert answer.status_code == 400
            said = answer.json()
            found = said["details"][wrong]
            assert found if wrong == "_errors" else found["_errors"]
            assert len(said["issues"]) == 1
            assert (record.charged_microusd, record.failed) == (0, True)

    run(scenario())


def test_the_probe_tells_the_contracts_apart() -> None:
    """The free probe is refused by both; only the older contract knows `enhanceCreativity`."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            for contract, knows in (("enhance", True), ("creativity", False)):
                simulator.change(contract=contract)
                answer = await client.post("/image/upscale", json={"enhanceCreativity": 7})
                assert answer.status_code == 400
                assert ("enhanceCreativity" in answer.text) is knows
                assert answer.json()["details"]["image"] == {"_errors": ["Required"]}
            assert simulator.bill.totals.charges == 0

    run(scenario())


def test_lax_takes_more() -> None:
    """Without `strict` the older contract ignores what it does not know."""

    async def scenario() -> None:
        async with serving(strict=False) as (_, client):
            assert (await post(client, creativity="0.01")).status_code == 200
            assert (await post(client, picture(kind="BMP"))).status_code == 200

    run(scenario())


@pytest.mark.parametrize(
    ("image", "status", "says"),
    [
        (picture(256, 255), 400, "65536"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 400, "Unsupported"),
        (b"hello, I am a text", 400, "Unsupported"),
        (b"", 400, "Unsupported"),
        (picture(kind="GIF"), 400, "Unsupported"),
        (picture()[:200], 400, "corrupt"),
        (b"\xff\xd8\xff\xe0" + bytes(100), 400, "corrupt"),
        (picture() + bytes(25_000_000), 413, "25MB"),
    ],
    ids=["small", "svg", "text", "empty", "gif", "truncated", "corrupt", "large"],
)
def test_unfit_images_are_refused(image: bytes, status: int, says: str) -> None:
    """An image that cannot be enlarged is refused with the reason, and costs nothing."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            answer = await post(client, image)
            assert answer.status_code == status
            assert says in answer.json()["error"]
            (record,) = simulator.bill.upscales
            assert (record.charged_microusd, record.failed) == (0, True)
            assert record.image_sha256 == hashlib.sha256(image).hexdigest()

    run(scenario())


def test_a_thin_image_is_refused_by_the_newer_contract() -> None:
    """Only the newer contract wants 64 px on each side."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            assert (await post(client, picture(63, 1100))).status_code == 200
            simulator.change(contract="creativity")
            assert (await post(client, picture(63, 1100))).status_code == 400

    run(scenario())


def test_too_large_can_be_refused_at_once() -> None:
    """With `too_large: at_once` 413 comes before the body, and the connection ends."""

    async def scenario() -> None:
        async with serving(too_large="at_once") as (simulator, _):
            head = (
                "POST /api/v1/image/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: 25000001\r\n\r\n"
            )
            heard = await exchange(simulator, head.encode())
            assert heard.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in heard.lower()
            (record,) = simulator.bill.upscales
            assert (record.status, record.received_monotonic_s) == (413, None)

    run(scenario())


def test_unknown_paths_and_methods() -> None:
    """What does not exist is said to not exist, in JSON."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            for method, path, status in (
                ("GET", "/nothing", 404),
                ("GET", "/image/upscale", 405),
                ("POST", "/models", 405),
            ):
                answer = await client.request(method, path)
                assert (answer.status_code, list(answer.json())) == (status, ["error"])
                assert answer.headers["cf-ray"].endswith("-SIM")
            head = b"HEAD /api/v1/models HTTP/1.1\r\nHost: x\r\n"
            twice = await exchange(simulator, head + b"\r\n" + head + b"Connection: close\r\n\r\n")
            assert twice.count(b"HTTP/1.1 405 ") == 2
            assert b"{" not in twice, "the answer to HEAD has no body"
            root = str(client.base_url).removesuffix("/api/v1/")
            assert (await client.get(root + "/models")).status_code == 404

    run(scenario())


def test_free_endpoints() -> None:
    """Prices, rate limit and balance are there to be read, and cost nothing."""

    async def scenario() -> None:
        async with serving(requests_per_minute=7, price_4x_usd=0.09) as (simulator, client):
            (model,) = (await client.get("/models", params={"type": "upscale"})).json()["data"]
            assert model["model_spec"]["pricing"]["upscale"]["2x"]["usd"] == 0.02
            assert model["model_spec"]["pricing"]["upscale"]["4x"]["usd"] == 0.09
            limits = (await client.get("/api_keys/rate_limits")).json()["data"]
            assert limits["rateLimits"] == [
                {"apiModelId": "upscaler", "rateLimits": [{"amount": 7, "type": "RPM"}]}
            ]
            assert limits["balances"] == {"USD": 100.0, "DIEM": 0}
            assert limits["accessPermitted"] is True
            assert limits["keyExpiration"] is None
            simulator.change(key_expires="2030-01-31T00:00:00Z")
            ends = (await client.get("/api_keys/rate_limits")).json()["data"]["keyExpiration"]
            assert ends == "2030-01-31T00:00:00Z"
            assert (await client.get("/billing/balance")).json()["balances"]["usd"] == 100.0
            totals = simulator.bill.totals
            assert (totals.requests, totals.upscales, totals.charges) == (4, 0, 0)

    run(scenario())


# The account.


def test_keys_are_checked() -> None:
    """No key is 402, a bad one 401, a disabled account 403 for what costs money only."""

    async def scenario() -> None:
        async with serving() as (simulator, client):

            async def status(path: str = "/api_keys/rate_limits", **headers: str) -> int:
                del client.headers["Authorization"]
                try:
                    return (await client.get(path, headers=headers)).status_code
                finally:
                    client.headers.update(BEARER)

            assert await status() == 402
            assert await status(Authorization="Basic abc") == 402
            assert await status(Authorization="Bearer bad-one") == 401
            assert await status(Authorization=f"Bearer {KEY}") == 200
            assert await status("/models") == 200
            simulator.change(keys=["other"])
            assert (await post(client)).status_code == 401
            assert await status(Authorization="Bearer other") == 200
            simulator.change(keys=None, access_permitted=False)
            assert (await post(client)).status_code == 403
            limits = await client.get("/api_keys/rate_limits")
            assert limits.json()["data"]["accessPermitted"] is False
            assert simulator.bill.totals.charges == 0

    run(scenario())


def test_the_balance_runs_out_with_several_in_flight() -> None:
    """Several at once cannot spend the same dollar: the rest are refused with 402."""

    async def scenario() -> None:
        async with serving(balance_usd=0.05, latency_s=0.2) as (simulator, client):
            answers = await asyncio.gather(*(post(client) for _ in range(5)))
            assert sorted(a.status_code for a in answers) == [200, 200, 402, 402, 402]
            assert simulator.bill.totals.charged_microusd == 40_000
            assert (await client.get("/billing/balance")).json()["balances"]["usd"] == 0.01
            simulator.change(balance_usd=0.05)
            assert (await post(client)).status_code == 200
            limit = simulator.bill.charged_usd + 0.02
            simulator.change(balance_usd=10, spend_limit_usd=limit)
            assert (await post(client)).status_code == 200
            refused = await post(client)
            assert (refused.status_code, "spend limit" in refused.text) == (402, True)

    run(scenario())


def test_an_uncharged_work_gives_its_price_back() -> None:
    """A price that was taken for work that came to nothing returns to the balance."""

    async def scenario() -> None:
        async with serving(balance_usd=0.02) as (simulator, client):
            simulator.script(Scripted(fault="truncated", charged=False))
            with pytest.raises(httpx.RemoteProtocolError):
                await post(client)
            truncated_png = picture(400, 400)[:-40]
            assert (await post(client, truncated_png)).status_code == 400
            assert (await post(client)).status_code == 200
            assert [r.charged_microusd for r in simulator.bill.upscales] == [0, 0, 20_000]

    run(scenario())


def test_the_rate_is_limited() -> None:
    """Beyond N in a window the answer is 429, free of charge, and the headers count down."""

    async def scenario() -> None:
        async with serving(requests_per_minute=2, reset_format="ms") as (simulator, client):
            answers = [await post(client) for _ in range(3)]
            assert [a.status_code for a in answers] == [200, 200, 429]
            remaining = [a.headers["x-ratelimit-remaining-requests"] for a in answers]
            assert remaining == ["1", "0", "0"]
            assert {a.headers["x-ratelimit-limit-requests"] for a in answers} == {"2"}
            reset_s = int(answers[-1].headers["x-ratelimit-reset-requests"]) / 1000
            assert 50 < reset_s - time.time() <= 60.1
            assert answers[-1].json() == {"error": "Rate limit exceeded"}
            assert simulator.bill.totals.charges == 2
            simulator.change(rate_window_s=0.01)
            assert (await post(client)).status_code == 200

    run(scenario())


def test_the_rate_window_slides() -> None:
    """A place comes free when its request has left the window, not at the turn of a minute."""
    account = Account(Settings(requests_per_minute=2))
    account.admit(0.0)
    account.admit(30.0)
    with pytest.raises(RefusalError):
        account.admit(59.9)
    account.admit(60.0)
    with pytest.raises(RefusalError):
        account.admit(89.9)
    account.admit(90.0)


@pytest.mark.parametrize(
    ("reset_format", "pattern"),
    [("seconds", r"\d{10}"), ("ms", r"\d{13}"), ("past", r"\d{10}"), ("garbage", r"soon")],
)
def test_reset_headers_come_in_every_form(reset_format: str, pattern: str) -> None:
    """The reset header is in seconds, in milliseconds, in the past, or nonsense."""

    async def scenario() -> None:
        async with serving(requests_per_minute=9, reset_format=reset_format) as (_, client):
            reset = (await post(client)).headers["x-ratelimit-reset-requests"]
            assert re.fullmatch(pattern, reset)
            if reset_format == "past":
                assert int(reset) < time.time() - 60
            if reset_format == "seconds":
                assert 58 < int(reset) - time.time() <= 62

    run(scenario())


def test_rate_headers_can_be_missing() -> None:
    """With `missing` no header speaks of the request rate."""

    async def scenario() -> None:
        async with serving(requests_per_minute=9, reset_format="missing") as (_, client):
            headers = (await post(client)).headers
            assert "x-venice-balance-usd" in headers
            assert not [name for name in headers if name.endswith("-requests")]

    run(scenario())


def test_the_error_budget_blocks_everything() -> None:
    """One failure too many blocks good requests too, for a while, and then begins anew."""

    async def scenario() -> None:
        settings = {"failures_max": 3, "failures_block_s": 3600, "failure_headers": "always"}
        async with serving(**settings) as (simulator, client):
            for left in ("2", "1", "0"):
                assert (await post(client, b"x")).headers["x-ratelimit-remaining"] == left
            assert (await post(client)).status_code == 200, "three failures are allowed"
            await post(client, b"x")
            for path in ("/api_keys/rate_limits", "/models"):
                blocked = await client.get(path)
                assert blocked.status_code == 429
                assert blocked.json()["error"].startswith("Too many failed attempts (> 3)")
            assert (await post(client)).status_code == 429
            assert simulator.bill.totals.failed == 4, "the block itself does not count"

    run(scenario())


def test_the_block_ends() -> None:
    """After the block the error budget is whole again; old failures leave their window."""
    account = Account(Settings(failures_max=1))
    for now_s in (0.0, 31.0, 32.0):
        account.check_failures(now_s)
        account.count_failure(now_s)
    with pytest.raises(RefusalError):
        account.check_failures(61.9)
    account.check_failures(62.0)
    account.count_failure(62.0)
    account.check_failures(62.0)
    account = Account(Settings(failures_max=1, failures_window_s=3_600))
    for now_s in (0.0, 1.0, 31.0):
        account.count_failure(now_s)
    account.check_failures(31.0)


def test_overload_refuses_what_is_too_much() -> None:
    """More upscales at once than the model takes are answered 429 with Retry-After."""

    async def scenario() -> None:
        async with serving(overloaded_concurrency=2, latency_s=0.3) as (simulator, client):
            answers = await asyncio.gather(*(post(client) for _ in range(3)))
            assert sorted(a.status_code for a in answers) == [200, 200, 429]
            refused = next(a for a in answers if a.status_code == 429)
            assert refused.headers["retry-after"] == "30"
            assert simulator.bill.totals.charges == 2

    run(scenario())


# Faults.

GONE = "the connection ends early"
SILENT = "nothing is heard"
HEARD: dict[str, int | str] = {
    "rate_limited": 429, "overloaded": 429, "error_budget": 429, "unauthorized": 401,
    "payment_required": 402, "spend_limit": 402, "forbidden": 403, "bad_request": 400,
    "rejected": 422, "too_large_at_once": 413, "server_error": 500, "server_error_charged": 500,
    "server_error_empty": 500, "server_error_gzip": 500, "server_error_object": 500,
    "unavailable": 503, "unavailable_html": 503, "bad_gateway": 502, "gateway_timeout": 504,
    "timeout_524": 524, **{f"html_{status}": status for status in range(520, 527)},
    "ok_json": 200, "ok_html": 200, "ok_empty": 200, "ok_jpeg_as_png": 200, "ok_damaged": 200,
    "ok_huge": 200, "wrong_size": 200, "whole_chunked": 200, "whole_close": 200,
    "truncated": GONE, "truncated_chunked": GONE, "truncated_close": 200, "stall_in_body": SILENT,
    "slow_drip": 200, "reset_on_accept": GONE, "reset_in_upload": GONE, "close_after_body": GONE,
    "close_after_body_charged": GONE, "hang": SILENT, "hang_charged": SILENT,
    "stale_keepalive": 200, "echo_key": 400, "echo_key_500": 500,
}  # fmt: skip
PAID = {
    "server_error_charged", "timeout_524", "ok_json", "ok_html", "ok_empty", "ok_jpeg_as_png",
    "ok_damaged", "ok_huge", "wrong_size", "whole_chunked", "whole_close", "truncated",
    "truncated_chunked", "truncated_close", "stall_in_body", "slow_drip",
    "close_after_body_charged", "hang_charged", "stale_keepalive",
}  # fmt: skip


async def hear(client: httpx.AsyncClient) -> httpx.Response | str:
    """Send an image and return what becomes of it."""
    try:
        return await post(client)
    except httpx.TimeoutException:
        return SILENT
    except httpx.TransportError:
        return GONE


@pytest.mark.parametrize("name", sorted(HEARD))
def test_every_fault_does_as_it_says(name: str) -> None:
    """A scripted fault strikes once, costs what its entry says, and the next request is well."""

    async def scenario() -> tuple[httpx.Response | str, Record]:
        async with serving() as (simulator, client):
            simulator.script(Scripted(fault=name, value="0" if name == "slow_drip" else None))
            client.timeout = httpx.Timeout(0.3 if HEARD[name] == SILENT else 10)
            heard = await hear(client)
            async with asyncio.timeout(5):
                await simulator.bill.wait_until(lambda totals: sum(totals.faults.values()) == 1)
            struck = simulator.bill.records[0]
            async with client_of(simulator) as fresh:
                assert (await post(fresh)).status_code == 200
            assert simulator.bill.totals.charges == 1 + (name in PAID)
            assert simulator.bill.totals.in_flight == 0
            return heard, struck

    heard, record = run(scenario())
    assert (heard if isinstance(heard, str) else heard.status_code) == HEARD[name]
    assert record.fault == name
    assert record.charged_microusd == (20_000 if name in PAID else 0)
    assert record.status == (
        None if FAULTS[name].stage != "answer" and heard == GONE else record.status
    )
    refused = isinstance(HEARD[name], int) and HEARD[name] != 200 and name != "error_budget"
    assert record.failed is refused
    cut = HEARD[name] in {GONE, SILENT} or name == "truncated_close"
    assert record.finished is not cut


def test_every_fault_has_its_expectation() -> None:
    """No fault is added without a line in the table above."""
    assert set(HEARD) == set(FAULTS)


async def heard_with(*entries: Scripted) -> httpx.Response:
    """Return what a good request is answered under a script."""
    async with serving() as (simulator, client):
        simulator.script(*entries)
        return await post(client)


@pytest.mark.parametrize(
    ("name", "size", "kind"),
    [
        ("wrong_size", (256, 256), "PNG"),
        ("ok_jpeg_as_png", (512, 512), "JPEG"),
        ("ok_huge", (512, 512), "PNG"),
        ("whole_chunked", (512, 512), "PNG"),
        ("whole_close", (512, 512), "PNG"),
        ("stale_keepalive", (512, 512), "PNG"),
    ],
)
def test_pictures_are_wrong_in_one_point_only(name: str, size: tuple[int, int], kind: str) -> None:
    """A flawed or oddly delivered result is a decodable picture under image/png."""
    answer = run(heard_with(Scripted(fault=name)))
    assert answer.headers["content-type"] == "image/png"
    assert (len(answer.content) >= 79_000_000) is (name == "ok_huge")
    assert ("content-length" in answer.headers) is (name not in {"whole_chunked", "whole_close"})
    with Image.open(io.BytesIO(answer.content)) as image:
        image.load()
        assert (image.size, image.format) == (size, kind)


@pytest.mark.parametrize("name", ["ok_damaged", "truncated_close", "ok_empty"])
def test_broken_pictures_only_show_in_their_bytes(name: str) -> None:
    """A 200 with image/png and no protocol error, whose PNG is not whole and in order."""
    answer = run(heard_with(Scripted(fault=name)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert not is_sound(answer.content)
    assert is_sound(run(heard_with()).content)


def test_overloaded_speaks_every_dialect() -> None:
    """Retry-After comes in seconds, as a date, as 0 or as a day."""
    for value, expected in ((None, "30"), ("0", "0"), ("86400", "86400")):
        answer = run(heard_with(Scripted(fault="overloaded", value=value)))
        assert answer.headers["retry-after"] == expected
    answer = run(heard_with(Scripted(fault="overloaded", value="date")))
    until = parsedate_to_datetime(answer.headers["retry-after"]).timestamp()
    assert 25 < until - time.time() <= 30


def test_error_bodies_come_in_every_form() -> None:
    """Errors are an object, gzip, empty, or the proxy's page without Venice's headers."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            names = (
                "server_error_object",
                "server_error_gzip",
                "server_error_empty",
                "bad_gateway",
            )
            simulator.script(*(Scripted(fault=name) for name in names))
            an_object, zipped, empty, page = [await post(client) for _ in names]
            assert an_object.json()["error"]["code"] == "INFERENCE_FAILED"
            assert zipped.headers["content-encoding"] == "gzip"
            assert zipped.json() == {"error": "INFERENCE_FAILED"}
            assert (empty.content, "content-type" in empty.headers) == (b"", False)
            assert page.headers["content-type"].startswith("text/html")
            assert "502" in page.text
            assert "x-venice-balance-usd" not in page.headers
            assert "cf-ray" in page.headers

    run(scenario())


@pytest.mark.parametrize("name", ["echo_key", "echo_key_500"])
def test_the_key_can_be_echoed_and_is_not_kept(name: str) -> None:
    """The answer repeats the key, so that clients can prove redaction; the bill never has it."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            simulator.script(Scripted(fault=name))
            assert f"Bearer {KEY}" in (await post(client)).text
            bill = await client.get(simulator.control_url + "/bill")
            assert bill.json()["records"][0]["fault"] == name
            assert KEY not in bill.text
            simulator.change(keys=[KEY])
            assert KEY not in repr(simulator._world.settings)

    run(scenario())


@pytest.mark.parametrize("name", ["reset_on_accept", "reset_in_upload"])
def test_a_reset_is_a_reset(name: str) -> None:
    """The peer gets ECONNRESET, not an orderly end."""

    async def scenario() -> None:
        async with serving() as (simulator, _):
            simulator.script(Scripted(fault=name))
            head = b"POST /api/v1/image/upscale HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
            with pytest.raises(ConnectionResetError):
                await exchange(simulator, head + bytes(5000))
            (record,) = simulator.bill.records
            assert (record.fault, record.charged_microusd) == (name, 0)
            assert record.received_monotonic_s is None

    run(scenario())


def test_a_stale_connection_is_reset_when_used_again() -> None:
    """After a good answer the next request on the same connection meets a reset, and no bill."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            simulator.script(Scripted(fault="stale_keepalive"))
            assert (await post(client)).status_code == 200
            assert await hear(client) == GONE
            assert simulator.bill.totals.upscales == 1

    run(scenario())


def test_a_charged_fault_needs_a_good_request() -> None:
    """A request that would be refused is refused: there is no price for it."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            simulator.script(Scripted(fault="timeout_524"))
            assert (await post(client, b"text")).status_code == 400
            (record,) = simulator.bill.upscales
            assert (record.fault, record.charged_microusd) == (None, 0)

    run(scenario())


def test_a_client_that_leaves_pays_all_the_same() -> None:
    """The work goes on when nobody listens any more, and is charged."""

    async def scenario() -> None:
        async with serving(latency_s=0.5) as (simulator, client):
            client.timeout = httpx.Timeout(0.2)
            assert await hear(client) == SILENT
            async with asyncio.timeout(5):
                totals = await simulator.bill.wait_until(lambda totals: totals.closed == 1)
            assert (totals.charges, totals.in_flight) == (1, 0)

    run(scenario())


# The script.


def test_a_script_is_played_in_order() -> None:
    """Entries strike one after the other, as often as they say, after as many as they say."""

    async def scenario() -> None:
        async with serving(failures_max=None) as (simulator, client):
            script = [
                {"fault": "server_error", "times": 2, "after": 1},
                {"fault": "unavailable"},
                {"fault": "bad_gateway", "path": "/models"},
            ]
            answer = await client.post(simulator.control_url + "/faults", json=script)
            assert answer.json() == {"scripted": 3}
            statuses = [(await post(client)).status_code for _ in range(5)]
            assert statuses == [503, 500, 500, 200, 200]
            assert (await client.get("/models")).status_code == 502
            assert simulator.bill.totals.faults == {
                "unavailable": 1, "server_error": 2, "bad_gateway": 1
            }  # fmt: skip
            await client.post(
                simulator.control_url + "/faults", json=[{"fault": "hang", "times": None}]
            )
            await client.delete(simulator.control_url + "/faults")
            assert (await post(client)).status_code == 200

    run(scenario())


def test_chance_is_repeatable() -> None:
    """The same seed gives the same faults, about as many as the probability says."""

    async def scenario() -> list[int]:
        faults = (parse_fault("unavailable:0.5"),)
        async with serving(faults=faults, seed=1, failures_max=None) as (_, client):
            return [(await client.post("/image/upscale")).status_code for _ in range(40)]

    first = run(scenario())
    assert first == run(scenario())
    assert 10 < first.count(503) < 30


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"fault": "unavailible"}, "did you mean 'unavailable'"),
        ({"fault": "hang", "tims": 1}, "unknown: tims"),
        ({"fault": "hang", "times": 0}, "times"),
        ({"fault": "hang", "after": None}, "after"),
        ({"fault": "hang", "probability": 2}, "probability"),
        ({"fault": "hang", "every": 0}, "every"),
        ({"fault": "hang", "every": None}, "every"),
        ({"fault": "hang", "spell_s": 0}, "spell_s"),
        ({"fault": "hang", "spell_s": "5"}, "spell_s"),
        ({"fault": "hang", "spell_s": 5, "rest_s": 100_000}, "rest_s"),
        ({"fault": "hang", "rest_s": 5}, "give spell_s too"),
        ({"fault": "hang", "path": "models"}, "path"),
        ({"fault": "hang", "value": "1"}, "takes none"),
        ({"fault": "overloaded", "value": "soon"}, "soon"),
        ({"fault": "truncated", "path": "/models"}, "needs an image"),
        ({"fault": "reset_in_upload", "charged": True}, "charge"),
        ("hang", "object"),
    ],
)
def test_mistakes_in_a_script_are_explained(entry: object, says: str) -> None:
    """A wrong entry is refused with a sentence, and nothing of its list is taken."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            url = simulator.control_url + "/faults"
            answer = await client.post(url, json=[{"fault": "unavailable"}, entry])
            assert answer.status_code == 400
            assert says in answer.json()["error"]
            assert (await post(client)).status_code == 200

    run(scenario())


def test_faults_are_read_from_the_command_line() -> None:
    """NAME, =VALUE and :PROBABILITY make an entry without end; options follow after commas."""
    parsed = parse_fault("overloaded=86400:0.25")
    assert parsed == Scripted(fault="overloaded", value="86400", probability=0.25, times=None)
    assert parse_fault("hang") == Scripted(fault="hang", times=None)
    parsed = parse_fault("bad_gateway,times=2,after=1,every=3,charged=true")
    assert parsed == Scripted(fault="bad_gateway", times=2, after=1, every=3, charged=True)
    parsed = parse_fault("overloaded=0:0.5, spell_s=5, rest_s=0.5, path=/models")
    assert parsed == Scripted(
        fault="overloaded", value="0", probability=0.5, spell_s=5, rest_s=0.5, path="/models",
        times=None,
    )  # fmt: skip
    with pytest.raises(ValueError, match="probability"):
        parse_fault("hang:often")


# The control endpoint.


def test_settings_can_change_while_running() -> None:
    """A patch applies to the next request; a reset goes back to the start."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            control = simulator.control_url
            answer = await client.post(
                control + "/settings", json={"requests_per_minute": 1, "balance_usd": 0.03}
            )
            assert answer.json() == {"changed": ["balance_usd", "requests_per_minute"]}
            assert [(await post(client)).status_code for _ in range(2)] == [200, 429]
            assert (await client.post(control + "/reset")).json() == {"ok": True}
            assert simulator.bill.totals.requests == 0
            assert [(await post(client)).status_code for _ in range(2)] == [200, 200]

    run(scenario())


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ({"latency": 1}, "did you mean 'latency_s'"),
        ({"latency_s": "1s"}, "latency_s"),
        ({"latency_s": True}, "latency_s"),
        ({"requests_per_minute": 1.5}, "whole number"),
        ({"contract": "new"}, "creativity"),
        ({"strict": 1}, "true or false"),
        ({"keys": [""]}, "keys"),
        ({"key_expires": 2030}, "key_expires"),
        ({"host": "127.0.0.2"}, "cannot change|while running"),
        ([], "object"),
    ],
)
def test_mistakes_in_a_patch_are_explained(patch: object, says: str) -> None:
    """A wrong setting is refused with a sentence, and nothing changes."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            before = simulator._world.settings
            answer = await client.post(simulator.control_url + "/settings", json=patch)
            assert answer.status_code == 400
            assert re.search(says, answer.json()["error"])
            assert simulator._world.settings == before

    run(scenario())


def test_a_test_can_wait_for_the_bill() -> None:
    """`wait` answers as soon as the totals are reached, and 408 when they are not."""

    async def scenario() -> None:
        async with serving(latency_s=30) as (simulator, client):
            sent = asyncio.create_task(hear(client))
            url = simulator.control_url + "/wait"
            reached = await client.get(url, params={"received": 1})
            assert (reached.status_code, reached.json()["in_flight"]) == (200, 1)
            late = await client.get(url, params={"received": 2, "timeout_s": 0.05})
            assert late.status_code == 408
            wrong = await client.get(url, params={"recieved": 2})
            assert (wrong.status_code, "received" in wrong.json()["error"]) == (400, True)
            sent.cancel()

    run(scenario())


def test_the_bill_can_be_read_in_parts() -> None:
    """`after` leaves the older records out; control requests are not on the bill."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            control = simulator.control_url
            assert (await client.get(control + "/health")).json() == {"ok": True}
            for _ in range(3):
                await client.get("/models")
            bill = (await client.get(control + "/bill", params={"after": 2})).json()
            assert bill["totals"]["requests"] == 3
            assert [record["number"] for record in bill["records"]] == [3]
            assert bill["totals"]["statuses"] == {"200": 3}
            assert (await client.get(control + "/nothing")).status_code == 404

    run(scenario())


# Hostile clients.

UPSCALE = b"POST /api/v1/image/upscale HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 100_000,
        b"GET [ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        UPSCALE + b"Content-Length: nine\r\n\r\n",
        UPSCALE + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        UPSCALE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        UPSCALE + b"Transfer-Encoding: chunked\r\n\r\n" + b"2625A01\r\n" + bytes(40_000_001),
    ],
    ids=["tls", "long-head", "bad-target", "length", "two-lengths", "chunk", "over-the-cap"],
)
def test_nonsense_ends_its_own_connection_only(sent: bytes) -> None:
    """Bytes that are no request, or too many, are refused, and others are served."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            failures: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, c: failures.append(c))
            try:
                heard = await exchange(simulator, sent)
            except ConnectionError:
                heard = b""
            assert heard == b"" or re.match(rb"HTTP/1.1 4\d\d ", heard)
            assert (await post(client)).status_code == 200
            assert failures == []
            assert simulator.bill.totals.in_flight == 0
            assert simulator._world.memory.held_bytes == 0

    run(scenario())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=xYz", b""),
        ("multipart/form-data; boundary=xYz", b"--xYz"),
        ("multipart/form-data; boundary=xYz", b"--xYz\r\n"),
        ("multipart/form-data; boundary=xYz", b"--xYz\r\n\r\n\r\n--xYz--"),
        ("multipart/form-data; boundary=xYz", form(('name="image"', picture()))[:-9]),
        ("multipart/form-data; boundary=xYz", form(*[('name="a"', b"")] * 200)),
        ("multipart/form-data; boundary=xYz", form(("filename=a", b"x"))),
        ("multipart/form-data; boundary=\xff", b"--\xff--"),
        ("application/json", b"[" * 100_000),
        ("application/json", b"9" * 10_000),
        ("application/json", b'{"image": 7}'),
        ("application/json", b'{"image": "\xff"}'),
        ("application/json", b'{"image": "' + b"A" * 35_000_000 + b'"}'),
        ("text/plain", b"hello"),
    ],
)
def test_malformed_forms_are_refused(kind: str, body: bytes) -> None:
    """A body that is no form is a 4xx in JSON, never a crash."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            answer = await client.post(
                "/image/upscale", content=body, headers={"Content-Type": kind.encode("latin-1")}
            )
            assert answer.status_code in {400, 413, 415}
            assert answer.json()["error"]
            assert simulator.bill.totals.failed == 1
            assert (await post(client)).status_code == 200

    run(scenario())


def test_a_client_that_breaks_off_is_noted() -> None:
    """An upload that ends early is on the bill, without a status or a charge."""

    async def scenario() -> None:
        async with serving() as (simulator, _):
            url = httpx.URL(simulator.base_url)
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(UPSCALE + b"Content-Length: 9000\r\n\r\n" + bytes(100))
            await writer.drain()
            await simulator.bill.wait_until(lambda totals: totals.upscales == 1)
            writer.close()
            async with asyncio.timeout(5):
                await simulator.bill.wait_until(lambda totals: totals.closed == 1)
            (record,) = simulator.bill.upscales
            assert (record.status, record.charged_microusd, record.finished) == (None, 0, False)

    run(scenario())


def test_a_malformed_body_is_on_the_bill() -> None:
    """A body that breaks HTTP is answered 400, and counts as a failure."""

    async def scenario() -> None:
        async with serving() as (simulator, _):
            sent = UPSCALE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
            assert (await exchange(simulator, sent)).startswith(b"HTTP/1.1 400 ")
            (record,) = simulator.bill.upscales
            assert (record.status, record.failed, record.charged_microusd) == (400, True, 0)

    run(scenario())


def test_asks_for_a_body_that_waits_to_be_asked_for() -> None:
    """`Expect: 100-continue` is answered before the body is read."""

    async def scenario() -> None:
        async with serving() as (simulator, _):
            url = httpx.URL(simulator.base_url)
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(UPSCALE + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
            writer.write(b"{}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 415 ")
            writer.close()

    run(scenario())


def test_memory_is_bounded() -> None:
    """Where uploads together would hold too much, one is told to come again, uncharged."""

    async def scenario() -> None:
        async with serving() as (simulator, client):
            simulator._world.memory.bytes_max = 50_000
            assert (await post(client, os.urandom(60_000))).status_code == 503
            assert (await post(client)).status_code == 200
            simulator._world.memory.bytes_max = len(picture()) + 1_000
            assert (await post(client)).status_code == 503, "the result has no room"
            assert simulator.bill.totals.charges == 1
            assert simulator._world.memory.held_bytes == 0

    run(scenario())


def test_an_idle_connection_is_closed() -> None:
    """A connection without a request ends after the keep-alive time."""

    async def scenario() -> None:
        async with serving(keep_alive_s=0.05) as (simulator, _):
            assert await exchange(simulator, b"") == b""

    run(scenario())


def test_leaving_ends_everything_under_way() -> None:
    """The end of the simulator cuts hanging requests and frees the port."""

    async def scenario() -> None:
        faults = (Scripted(fault="hang"),)
        async with httpx.AsyncClient(headers=BEARER) as client:
            async with Simulator(Settings(faults=faults)) as simulator:
                client.base_url = httpx.URL(simulator.base_url)
                hanging = asyncio.create_task(hear(client))
                await simulator.bill.wait_until(lambda totals: totals.received == 1)
            assert await hanging == GONE
            assert simulator.bill.totals.in_flight == 0
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=1)

    run(scenario())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_only_loopback_is_listened_on(host: str) -> None:
    """Addresses that others can reach are refused."""
    with pytest.raises(ValueError, match="loopback"):
        Settings(host=host)


# The command.


def command(*arguments: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_told(number: signal.Signals) -> None:
    """It prints one line, the base URL, serves, and ends with 0 on a signal."""
    with command("--rpm", "none", "--latency", "10ms", "--fault", "unavailable") as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/v1", base_url)
        answer = httpx.post(base_url + "/image/upscale", files={"image": picture()}, headers=BEARER)
        assert answer.status_code == 503
        port = base_url.split(":")[2].split("/")[0]
        second = subprocess.run(
            [sys.executable, "-c", COMMAND, "--port", port],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (second.returncode, second.stdout) == (1, "")
        assert "choose another --port" in second.stderr
        process.send_signal(number)
        rest, said = process.communicate(timeout=10)
        assert (process.returncode, rest) == (0, "")
        assert "1 upscales, 0 charged" in said


def test_help_loads_nothing_heavy() -> None:
    """--help shows how to use it without importing Pillow, h11 or the simulator."""
    code = (
        "import sys; from click.testing import CliRunner;"
        "from venice_watch.cli.simulator_command import simulator_command as c;"
        "r = CliRunner().invoke(c, ['--help']); assert r.exit_code == 0; print(r.output);"
        "print({'PIL', 'h11', 'venice_watch.simulator'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "base_url: http://127.0.0.1:8770/api/v1" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rpm", "many"], "'many' is no rate"),
        (["--latency", "1h"], "'1h' is no duration"),
        (["--fault", "hangs"], "did you mean 'hang'"),
        (["--fault", "hang,evry=3"], "known: after, charged, every"),
        (["--fault", "hang,every"], "write every=VALUE"),
        (["--set", "clock_ofset_s=-120"], "did you mean 'clock_offset_s'"),
        (["--set", "faults=hang"], "not a setting"),
        (["--set", "send_date"], "write send_date=VALUE"),
        (["--set", "failures_max=2.5"], "whole number"),
        (["--set", "host=0.0.0.0"], "not loopback"),
        (["--host", "0.0.0.0"], "not loopback"),
    ],
)
def test_mistakes_on_the_command_line_are_usage_errors(arguments: list[str], says: str) -> None:
    """A wrong option is exit code 2 and a sentence on stderr."""
    with command(*arguments) as process:
        out, said = process.communicate(timeout=10)
        assert (process.returncode, out) == (2, "")
        assert says in said
