"""The control endpoint under `/_control`: read the bill, script faults, change the world.

Rules: for tests and demonstrations on this machine only, hence no password. Mistakes are answered
400 with the sentence that a test's author needs.
"""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable

from venice_watch.simulator.answers import Answer, data, error
from venice_watch.simulator.bill import Totals
from venice_watch.simulator.connection import Head
from venice_watch.simulator.script import read_scripted
from venice_watch.simulator.world import World

CONTROL_PREFIX = "/_control/"
WAIT_S_DEFAULT = 10.0
WAIT_S_MAX = 600.0

Handler = Callable[[World, Head, bytes], Awaitable[Answer]]


async def answer_control(world: World, head: Head, body: bytes) -> Answer:
    """Return what a control request is answered."""
    handler = _HANDLERS.get((head.method, head.path.removeprefix(CONTROL_PREFIX)))
    if handler is None:
        known = ", ".join(f"{method} {CONTROL_PREFIX}{name}" for method, name in _HANDLERS)
        return error(404, f"no {head.method} {head.path}; there are {known}")
    try:
        return await handler(world, head, body)
    except (ValueError, TypeError, RecursionError) as exc:
        return error(400, str(exc))


async def _health(_world: World, _head: Head, _body: bytes) -> Answer:
    return data({"ok": True})


async def _bill(world: World, head: Head, _body: bytes) -> Answer:
    """Answer the bill; `?after=NUMBER` leaves the older records out."""
    return data(world.bill.as_json(after=int(head.query.get("after", "0"))))


async def _wait(world: World, head: Head, _body: bytes) -> Answer:
    """Answer the totals once each named one is at least so much: `?received=2&timeout_s=5`."""
    numbers = {f.name for f in dataclasses.fields(Totals) if f.type is int}
    wanted = dict(head.query)
    limit_s = min(float(wanted.pop("timeout_s", WAIT_S_DEFAULT)), WAIT_S_MAX)
    unknown = sorted(set(wanted) - numbers)
    if unknown or not wanted:
        raise ValueError(f"cannot wait for {unknown}; there are {', '.join(sorted(numbers))}")
    least = {name: int(value) for name, value in wanted.items()}

    def reached(totals: Totals) -> bool:
        return all(getattr(totals, name) >= value for name, value in least.items())

    try:
        async with asyncio.timeout(limit_s):
            totals = await world.bill.wait_until(reached)
    except TimeoutError:
        return data({"error": "not reached", **dataclasses.asdict(world.bill.totals)}, 408)
    return data(dataclasses.asdict(totals))


async def _script(world: World, _head: Head, body: bytes) -> Answer:
    """Add the entries of a JSON list to the script, all or none."""
    entries = json.loads(body)
    if not isinstance(entries, list):
        raise ValueError('give a list: [{"fault": "server_error", "times": 2}]')  # noqa: TRY004 - the user's value
    world.script.extend([read_scripted(entry) for entry in entries])
    return data({"scripted": len(entries)})


async def _clear_script(world: World, _head: Head, _body: bytes) -> Answer:
    world.script.clear()
    return data({"scripted": 0})


async def _settings(world: World, _head: Head, body: bytes) -> Answer:
    """Change settings: a JSON object with the names of Settings."""
    patch = json.loads(body)
    if not isinstance(patch, dict):
        raise ValueError('give an object: {"latency_s": 0.2}')  # noqa: TRY004 - the user's value
    world.change(patch)
    return data({"changed": sorted(patch)})


async def _reset(world: World, _head: Head, _body: bytes) -> Answer:
    world.reset()
    return data({"ok": True})


_HANDLERS: dict[tuple[str, str], Handler] = {
    ("GET", "health"): _health,
    ("GET", "bill"): _bill,
    ("GET", "wait"): _wait,
    ("POST", "faults"): _script,
    ("DELETE", "faults"): _clear_script,
    ("POST", "settings"): _settings,
    ("POST", "reset"): _reset,
}
