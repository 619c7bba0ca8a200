"""`POST /image/upscale`, top to bottom.

Rules: one way down, refusals leave it as RefusalError. The order is the real server's: key, error
budget, rate, form, fields, picture, money, work. The work overlaps with the latency, and an image
is paid for when it is done, whether or not anybody still listens.
"""

import asyncio
import hashlib
import time

from venice_watch.simulator import faults
from venice_watch.simulator.answers import Answer, Issue, RefusalError, error, invalid
from venice_watch.simulator.bill import Record, shown_fields
from venice_watch.simulator.connection import Head
from venice_watch.simulator.contract import (
    IMAGE_BYTES_MAX,
    PIXELS_MIN,
    SIDE_PX_MIN,
    Parameters,
    find_issues,
    fit,
    read_parameters,
)
from venice_watch.simulator.memory import Lease
from venice_watch.simulator.pixels import Flaw, Picture, UnreadableError, identify, render
from venice_watch.simulator.script import Incident
from venice_watch.simulator.settings import Settings
from venice_watch.simulator.submission import Submission, read_submission
from venice_watch.simulator.world import World

CANNED_SIZES_MAX = 16  # a benchmark has one or three
INLINE_BYTES = 262_144  # hashed in the loop below this: a thread costs more
ACCEPTED = {
    "enhance": frozenset({"JPEG", "PNG", "WEBP"}),
    "creativity": frozenset({"JPEG", "PNG", "WEBP", "AVIF"}),  # HEIC too, but Pillow cannot
}
STRENGTH_PERCENT = 60  # mild: before and after differ, and nobody is frightened
STRENGTH_ENHANCED_PERCENT = 140


async def note_submission(head: Head, body: bytearray, record: Record) -> Submission:
    """Read the form and write on the bill what was handed in, whatever comes of it."""
    submission = read_submission(head.headers.get("content-type", ""), body)
    record.fields = shown_fields(submission.fields)
    if submission.image is not None:
        record.image_bytes = len(submission.image)
        record.image_sha256 = await _hash(submission.image)
    return submission


async def upscale(
    world: World,
    head: Head,
    submission: Submission,
    record: Record,
    lease: Lease,
    incident: Incident | None,
) -> Answer:
    """Return the image enlarged and charge for it, or raise RefusalError.

    `incident` is one whose fault wants the work done: it decides about flaw and charge.
    """
    due_s = (record.received_monotonic_s or time.monotonic()) + world.latency_s()
    _check_access(world, head, record)
    parameters = check_form(submission, world.settings)
    image = submission.image
    assert image is not None, "a form without an image has issues"
    picture = check_picture(image, world.settings)
    record.width, record.height = picture.width, picture.height
    width, height, record.scale = _fit(picture, parameters, world.settings)
    price = world.account.price_microusd(record.scale)
    with world.account.reserve(price, record.key_fingerprint) as reservation:
        flaw = incident.fault.flaw if incident else Flaw.NONE
        png = await _work(world, image, (width, height), flaw, parameters)
        lease.hold(len(png))
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        if incident is None or incident.charged:
            reservation.settled = True
            world.bill.charge(record, price)
    return Answer(status=200, body=png, media="image/png")


def check_form(submission: Submission, settings: Settings) -> Parameters:
    """Return what is asked for; refuse forms and fields that the contract does not have."""
    if submission.problem is not None:
        raise RefusalError(submission.problem)
    missing = (Issue(field="image", code="invalid_type", message="Required"),)
    issues = find_issues(submission.fields, contract=settings.contract, strict=settings.strict)
    if submission.image is None:
        issues = missing + issues
    if issues:
        raise RefusalError(invalid(issues))
    return read_parameters(submission.fields)


def check_picture(image: bytes, settings: Settings) -> Picture:
    """Return what the image is; refuse what cannot be enlarged."""
    if len(image) > IMAGE_BYTES_MAX:
        raise RefusalError(error(413, "Image file size exceeds the limit of 25MB"))
    try:
        picture = identify(image)
    except UnreadableError as exc:
        raise RefusalError(_unreadable(exc)) from exc
    if settings.strict and picture.format not in ACCEPTED[settings.contract]:
        raise RefusalError(_unreadable(UnreadableError(known=False)))
    if picture.width * picture.height < PIXELS_MIN:
        raise RefusalError(error(400, f"Image must be at least {PIXELS_MIN} pixels"))
    if settings.contract == "creativity" and min(picture.width, picture.height) < SIDE_PX_MIN:
        raise RefusalError(error(400, f"Image must be at least {SIDE_PX_MIN}px on each side"))
    return picture


def _check_access(world: World, head: Head, record: Record) -> None:
    """Refuse who may not, not so often, or not now."""
    now_s = time.monotonic()
    settings = world.settings
    world.account.check_key(head.headers.get("authorization", ""))
    world.account.check_failures(now_s)
    if not settings.access_permitted:
        raise RefusalError(error(403, "Access to this API is disabled."))
    world.account.admit(now_s)
    most = settings.overloaded_concurrency
    if most is not None and record.in_flight > most:
        raise RefusalError(faults.overloaded(str(faults.OVERLOADED_RETRY_S)))


def _fit(picture: Picture, parameters: Parameters, settings: Settings) -> tuple[int, int, float]:
    """Return the result's size (px) and effective scale; refuse what fits at no scale."""
    fitted = fit(picture.width, picture.height, parameters.scale)
    if fitted is None:
        status = 422 if settings.contract == "enhance" else 400
        raise RefusalError(error(status, "Image is too large after scaling"))
    return fitted


async def _work(
    world: World, image: bytes, size: tuple[int, int], flaw: Flaw, parameters: Parameters
) -> bytes:
    """Return the result, made in a worker thread, or where that is wanted, made before.

    A canned one is of the right size and has another picture's pixels: everything else about the
    request is as it always is, so that what is measured is the client.
    """
    strength = STRENGTH_ENHANCED_PERCENT if parameters.enhance else STRENGTH_PERCENT
    pixels = world.settings.pixels
    canned = pixels == "canned" and flaw is Flaw.NONE
    if canned and size in world.canned:
        return world.canned[size]

    def make() -> bytes:
        return render(image, size, strength=strength, pixels=pixels, flaw=flaw)

    try:
        png = await asyncio.get_running_loop().run_in_executor(world.pool, make)
    except UnreadableError as exc:
        raise RefusalError(_unreadable(exc)) from exc
    if canned and len(world.canned) < CANNED_SIZES_MAX:
        world.canned[size] = png
    return png


def _unreadable(exc: UnreadableError) -> Answer:
    if exc.known:
        return error(400, "Image could not be processed: it may be corrupt")
    return error(400, "Unsupported image type")


async def _hash(image: bytes) -> str:
    if len(image) <= INLINE_BYTES:
        return hashlib.sha256(image).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, image)).hexdigest()
