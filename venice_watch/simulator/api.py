"""The endpoints under `/api/v1`: from a request to its answer and its line on the bill.

Rules: the server hands in a head and a way to read the body; what comes out is an Answer. Faults
are carried out here, failures counted here, headers put on here: once, for all endpoints.
"""

import asyncio
import dataclasses
import secrets
import time

from venice_watch.simulator.account import fingerprint, read_key
from venice_watch.simulator.answers import Answer, RefusalError, data, error
from venice_watch.simulator.bill import Record
from venice_watch.simulator.connection import Connection, Head, MalformedError, TooLargeError
from venice_watch.simulator.contract import IMAGE_BYTES_MAX
from venice_watch.simulator.faults import Scene, Stage
from venice_watch.simulator.memory import Lease, OverCapacityError
from venice_watch.simulator.script import UPSCALE_PATH, Incident
from venice_watch.simulator.submission import Submission
from venice_watch.simulator.upscale import note_submission, upscale
from venice_watch.simulator.world import World

API_PREFIX = "/api/v1"
MODELS_PATH = "/models"
LIMITS_PATH = "/api_keys/rate_limits"
BALANCE_PATH = "/billing/balance"
METHODS = {UPSCALE_PATH: "POST", MODELS_PATH: "GET", LIMITS_PATH: "GET", BALANCE_PATH: "GET"}
DATA_CENTRE = "SIM"
RESET_AFTER_BYTES = 65_536  # reset_in_upload: half of the body, but never later than this


async def serve_api(world: World, connection: Connection, head: Head) -> None:
    """Answer one request and write its line on the bill; may raise what Connection raises."""
    record = _open_record(world, head)
    finished = False
    with world.memory.lease() as lease:
        try:
            answer = await _decide(world, connection, head, record, lease)
            if answer is None:
                connection.reset()
                return
            finished = await connection.send(answer)
        finally:
            world.bill.close(record, now_s=time.monotonic(), finished=finished)


def note_reset(world: World, incident: Incident) -> None:
    """Write a connection that never became a request on the bill."""
    now_s = time.monotonic()
    record = Record(
        number=world.next_number(),
        cf_ray=new_cf_ray(),
        first_byte_monotonic_s=now_s,
        fault=incident.fault.name,
    )
    world.bill.open(record)
    world.bill.close(record, now_s=now_s, finished=False)


def new_cf_ray() -> str:
    """Return an id of the form that the proxy in front gives every answer."""
    return f"{secrets.token_hex(8)}-{DATA_CENTRE}"


def _open_record(world: World, head: Head) -> Record:
    path = head.path.removeprefix(API_PREFIX)
    record = Record(
        number=world.next_number(),
        cf_ray=new_cf_ray(),
        first_byte_monotonic_s=head.first_byte_s,
        method=head.method,
        path=path,
        upscale=path == UPSCALE_PATH and head.method == METHODS[UPSCALE_PATH],
        key_fingerprint=fingerprint(read_key(head.headers.get("authorization", ""))),
    )
    world.bill.open(record)
    return record


async def _decide(
    world: World, connection: Connection, head: Head, record: Record, lease: Lease
) -> Answer | None:
    """Return the answer with its headers, counted; None where the connection is to be reset."""
    spendable = world.account.spendable_microusd(record.key_fingerprint)
    incident = world.script.strike(record.path)
    if incident is not None and incident.fault.stage is Stage.UPLOAD:
        record.fault = incident.fault.name
        half = head.content_length // 2 or RESET_AFTER_BYTES
        await connection.read_body(lease, stop_bytes=min(half, RESET_AFTER_BYTES))
        return None
    try:
        answer = await _answer(world, connection, head, record, lease, incident)
    except RefusalError as refusal:
        answer = refusal.answer
    except MalformedError as exc:
        answer = dataclasses.replace(error(exc.status, "Bad request"), closes=True)
    except TooLargeError:
        answer = dataclasses.replace(error(413, "Request body too large"), closes=True)
    except OverCapacityError:
        answer = dataclasses.replace(error(503, "The simulator's memory is full"), closes=True)
    if not answer.silent:
        record.status = answer.status
    if answer.failed:
        record.failed = True
        world.account.count_failure(time.monotonic())
    return _dress(world, answer, record, spendable)


async def _answer(
    world: World,
    connection: Connection,
    head: Head,
    record: Record,
    lease: Lease,
    incident: Incident | None,
) -> Answer:
    """Return the answer to a request, with the work done that it needs."""
    if incident is not None and incident.fault.stage is Stage.HEAD:
        return _play(world, incident, head, record)
    if record.upscale and world.settings.too_large == "at_once":
        _refuse_by_length(head)
    submission = await _receive(world, connection, head, record, lease)
    if incident is not None and not incident.works:
        if incident.fault.slow:
            await asyncio.sleep(world.latency_s())
        return _play(world, incident, head, record)
    if submission is None:
        return _look_up(world, head, record)
    good = await upscale(world, head, submission, record, lease, incident)
    return good if incident is None else _play(world, incident, head, record, good)


async def _receive(
    world: World, connection: Connection, head: Head, record: Record, lease: Lease
) -> Submission | None:
    """Read the body to its end; return the form that it is, if it is to be one."""
    body = await connection.read_body(lease)
    world.bill.receive(record, now_s=time.monotonic(), now_wall_s=time.time())
    return await note_submission(head, body, record) if record.upscale else None


def _refuse_by_length(head: Head) -> None:
    """Refuse by the announced length, without reading; the connection ends."""
    if head.content_length > IMAGE_BYTES_MAX:
        raise RefusalError(
            dataclasses.replace(error(413, "Request entity too large", bare=True), closes=True)
        )


def _play(
    world: World, incident: Incident, head: Head, record: Record, good: Answer | None = None
) -> Answer:
    """Return what the fault answers, and put its name on the bill."""
    record.fault = incident.fault.name
    scene = Scene(
        value=incident.value,
        authorization=head.headers.get("authorization", ""),
        now_wall_s=world.wall_s(),
        good=good,
    )
    return incident.fault.play(scene)


def _look_up(world: World, head: Head, record: Record) -> Answer:
    """Return the answer of the endpoints that cost nothing."""
    expected = METHODS.get(record.path) if head.path.startswith(API_PREFIX) else None
    if expected is None:
        return error(404, "Not found", bare=True)
    if head.method != expected:
        return error(405, "Method not allowed", ("Allow", expected), bare=True)
    if record.path == MODELS_PATH:
        world.account.check_failures(time.monotonic())
        return _models(world, head)
    world.account.check_key(head.headers.get("authorization", ""))
    world.account.check_failures(time.monotonic())
    if record.path == LIMITS_PATH:
        return world.account.describe(record.key_fingerprint, world.wall_s())
    return world.account.describe_balance()


def _models(world: World, head: Head) -> Answer:
    """Return the upscaler and its prices; other types of models this server does not have."""
    settings = world.settings
    upscaler = {
        "id": "upscaler",
        "object": "model",
        "type": "upscale",
        "owned_by": "venice.ai",
        "model_spec": {
            "name": "Upscaler",
            "offline": False,
            "pricing": {
                "upscale": {
                    "2x": {"usd": settings.price_2x_usd, "diem": settings.price_2x_usd},
                    "4x": {"usd": settings.price_4x_usd, "diem": settings.price_4x_usd},
                }
            },
        },
    }
    wanted = head.query.get("type", "text")
    models = [upscaler] if wanted in {"upscale", "all"} else []
    return data({"object": "list", "type": wanted, "data": models})


def _dress(world: World, answer: Answer, record: Record, spendable_microusd: int) -> Answer:
    """Return the answer with the headers that every one, or every known client's one, has."""
    headers = (*answer.headers, ("CF-RAY", record.cf_ray))
    if record.key_fingerprint and not answer.bare:
        headers += world.account.headers(
            time.monotonic(),
            world.wall_s(),
            spendable_microusd=spendable_microusd,
            blocked=answer.blocks,
        )
    return dataclasses.replace(answer, headers=headers)
