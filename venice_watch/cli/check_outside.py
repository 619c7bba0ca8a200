"""What `check` finds out of notices and web server: files, addresses, and what a test brings."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from venice_watch.cli.check_finding import Finding
from venice_watch.cli.words import printable

if TYPE_CHECKING:
    from venice_watch.config.model import Config
    from venice_watch.config.outside import Receiver
    from venice_watch.notify.post import Answer


def check_outside(config: "Config") -> Iterator[Finding]:
    """Look at what can be known of receivers and web server without asking anybody."""
    from venice_watch.notify.post import read_token

    for number, receiver in enumerate(config.notify):
        yield from _check_receiver(f"notify.{number}", receiver)
    web = config.web
    if web.listen is None:
        return
    message = f"{web.listen}, {'for callers with the token' if web.token_file else 'for everybody'}"
    try:
        if web.token_file is not None:
            read_token(web.token_file)
    except OSError as exc:
        message = f"{exc.filename}: {exc.strerror}. Nobody is served without it."
        yield Finding(level="error", subject="web", message=message)
    else:
        where = "on this machine" if web.listen.is_loopback else "on the network"
        yield Finding(level="ok", subject="web", message=f"{message} {where}")


def _check_receiver(subject: str, receiver: "Receiver") -> Iterator[Finding]:
    from venice_watch.notify.post import find_unknown, read_headers

    try:
        read_headers(receiver)
    except OSError as exc:
        message = f"{exc.filename}: {exc.strerror}. Nothing is sent to {receiver.name} without it."
        yield Finding(level="error", subject=subject, message=message)
        return
    if unknown := find_unknown(receiver):
        message = f"Apprise does not know {unknown}://...; see its list of services"
        yield Finding(level="error", subject=subject, message=message)
        return
    if any(address.readable for address in receiver.addresses):
        message = f"{receiver.name}: plain http can be read on its way; use https where there is"
        yield Finding(level="warning", subject=subject, message=message)
    told = "" if receiver.via == "ping" else f" is told of {', '.join(receiver.on)}"
    yield Finding(level="ok", subject=subject, message=f"{receiver.name}{told}")


async def try_receivers(config: "Config") -> list[Finding]:
    """Send one test to each receiver, and tell what came back."""
    findings = []
    for number, receiver in enumerate(config.notify):
        answer = await _try(receiver)
        words = f" It said: {printable(answer.words[:300])}" if answer.words else ""
        if answer.arrived:
            level, message = "ok", f"{receiver.name} took the test.{words}"
        else:
            level, message = "error", f"{receiver.name}: {printable(str(answer.trouble))}.{words}"
        findings.append(Finding(level=level, subject=f"notify.{number}", message=message))
    return findings


async def _try(receiver: "Receiver") -> "Answer":
    from venice_watch.notify.post import Line, trial

    line = Line(receiver)
    try:
        if receiver.via == "ping":
            return await line.ping("", "a test of `venice-watch check --notify`")
        return await line.send(trial(time.time()))
    finally:
        await line.close()
