"""The log: one line an event, any value harmless, and never a secret."""

import base64
import io
import json
import logging
import os
import re
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.typing import FilteringBoundLogger

from venice_watch.redact import REDACTED, WITHHELD, Redactor
from venice_watch.service.logs import configure

SECRET = "sk-not-a-real-key-4711"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give the process its own log back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def opened(style: str = "logfmt", level: str = "info") -> tuple[FilteringBoundLogger, io.StringIO]:
    """Return a log that knows a secret, and what it writes to."""
    stream = io.StringIO()
    return configure(secrets=[SECRET], style=style, level=level, stream=stream), stream


def fail(error: Exception, cause: Exception | None = None) -> None:
    """Fail as somebody else's code does."""
    raise error from cause


def test_one_line() -> None:
    """An event is one line: time, level, name, and its fields as words."""
    log, stream = opened()
    log.info("image.completed", path="a b.jpg", size="2x2", count=3, plain="word", nothing=None)
    line = stream.getvalue()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z info    image\.completed "
        r'path="a b\.jpg" size=2x2 count=3 plain=word nothing=null\n',
        line,
    )


@given(name=st.text(max_size=40), value=st.text(max_size=20) | st.binary(max_size=20))
def test_any_value_is_one_word(name: str, value: str | bytes) -> None:
    """Whatever a file is called, its event stays one printable line."""
    log, stream = opened()
    log.warning("file.skipped", path=name, other=[value])
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.count("file.skipped") >= 1


def test_json() -> None:
    """In JSON an event is one object, with names that are no text escaped."""
    log, stream = opened("json")
    log.error("image.quarantined", path=os.fsdecode(b"caf\xe9.jpg"), facts={"a": [1, None]})
    event = json.loads(stream.getvalue())
    assert event["event"] == "image.quarantined"
    assert event["level"] == "error"
    assert event["path"] == "caf\udce9.jpg"
    assert event["facts"] == {"a": [1, None]}
    assert stream.getvalue().isascii()


def test_levels() -> None:
    """What is below the level is not written."""
    log, stream = opened(level="warning")
    log.info("image.completed")
    log.warning("job.moved_on")
    assert "image.completed" not in stream.getvalue()
    assert "job.moved_on" in stream.getvalue()


@pytest.mark.parametrize("style", ["logfmt", "json", "console"])
def test_no_secret_anywhere(style: str) -> None:
    """A key is taken out of fields, keys, bytes, objects, exceptions and tracebacks."""
    log, stream = opened(style)
    log = log.bind(bound=SECRET)
    try:
        fail(RuntimeError(f"sent {SECRET}"), ValueError(SECRET))
    except RuntimeError as exc:
        log.exception(
            "job.bug",
            text=f"x{SECRET}y",
            deep={SECRET: [(SECRET,), {SECRET}]},
            raw=SECRET.encode(),
            error=exc,
        )
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count(REDACTED) >= 7
    assert "RuntimeError" in stream.getvalue()


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_no_secret_from_libraries(style: str) -> None:
    """What libraries log and warn of goes the same way."""
    log, stream = opened(style)
    logging.getLogger("some.library").warning("request with %s", SECRET)
    try:
        fail(OSError(SECRET))
    except OSError:
        logging.getLogger("some.library").exception("failed")
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count(REDACTED) >= 2
    assert "some.library" in stream.getvalue()
    assert log is not None


@pytest.mark.parametrize(
    ("level", "shown"),
    [(25, ""), (30, "warning"), (35, "warning"), (40, "error"), (50, "critical"), (99, "critical")],
)
def test_any_level_of_a_library(level: int, shown: str) -> None:
    """Levels of a library's own are rounded down; below a warning nothing is written."""
    _, stream = opened("json")
    logging.getLogger("some.library").log(level, "words")
    lines = stream.getvalue().splitlines()
    assert [json.loads(line)["level"] for line in lines] == ([shown] if shown else [])


def test_a_librarys_mistake() -> None:
    """A library that logs nonsense is written down, and not stopped."""
    root = logging.getLogger()
    root.handlers[:] = []  # pytest's own would complain first
    _, stream = opened()
    logging.getLogger("some.library").warning("bad %d", "format")
    assert 'message="bad %d"' in stream.getvalue()


def test_configured_again() -> None:
    """Setting the log up again, as a reload does, doubles nothing."""
    opened()
    _, stream = opened()
    logging.getLogger("some.library").warning("once")
    assert stream.getvalue().count("once") == 1


def test_tracebacks_are_harmless() -> None:
    """A traceback keeps its lines, and what would move a terminal's cursor is spelled out."""
    log, stream = opened()
    try:
        fail(RuntimeError("name \x1b[2J\r of a file"))
    except RuntimeError:
        log.exception("job.bug")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert r"name \x1b[2J\r of a file" in stream.getvalue()
    assert stream.getvalue().count("\n") > 3


def test_longest_secret_first() -> None:
    """A secret that is part of another one leaves no rest of it."""
    redactor = Redactor(["abcd", "abcd-efgh"])
    assert redactor.text("abcd-efgh abcd") == f"{REDACTED} {REDACTED}"


def test_short_secrets() -> None:
    """A secret of a few letters would be found everywhere; an empty one as well."""
    redactor = Redactor(["", "abc"])
    assert redactor.text("abcabc") == "abcabc"


def test_colours_only_for_people() -> None:
    """Colours are for a terminal's style alone."""
    plain, colours = opened("logfmt"), opened("console")
    plain[0].error("image.quarantined")
    colours[0].error("image.quarantined")
    assert "\x1b[31m" in colours[1].getvalue()
    assert "\x1b" not in plain[1].getvalue()


def test_automatic_style() -> None:
    """Without a terminal the style is that of a journal."""
    log, stream = opened("auto")
    log.info("image.completed", path="x")
    assert "\x1b" not in stream.getvalue()
    assert "image.completed path=x" in stream.getvalue()


# Words of strangers.


@pytest.mark.parametrize(
    "disguised",
    [
        SECRET.upper(),
        SECRET[::-1],
        SECRET.encode().hex(),
        "-".join(SECRET),
        "\n".join(SECRET),
        SECRET.replace("-", "\\u002d"),
        "\\u0073" + SECRET[1:],
        "\\\\u0073" + SECRET[1:],
        "%73" + SECRET[1:],
        "%2573" + SECRET[1:],
        "&#115;" + SECRET[1:],
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(b"x" + SECRET.encode() + b"y").decode(),
        base64.b64encode(b"xy" + SECRET.encode() + b"z").decode(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
    ],
)
def test_disguised_secret(disguised: str) -> None:
    """Words that hold the key in any usual disguise are withheld as a whole."""
    assert Redactor([SECRET]).words(f"bad key: {disguised} (400)") == WITHHELD


def test_plain_secret_in_words() -> None:
    """The key as it is, is replaced, and the words around it are kept."""
    assert Redactor([SECRET]).words(f"bad key {SECRET}!") == f"bad key {REDACTED}!"


@given(text=st.text(max_size=200))
def test_words_without_a_secret(text: str) -> None:
    """Words that hold no key come out as they went in."""
    assert Redactor([SECRET]).words(text) == text
