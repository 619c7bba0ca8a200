"""The log: structlog events on stderr, for people on a terminal, as `key=value` for a journal.

The last step before anything is written takes secrets out, by value, wherever they stand:
fields, exceptions, tracebacks. The standard library's own log is led the same way.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from venice_watch.redact import Redactor

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class LogRedactor(Redactor):
    """Takes secrets out of whatever is about to be written; a structlog processor."""

    def value(self, value: object) -> object:
        """Return a value without secrets, however deep they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", "backslashreplace"))
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(inner) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))

    def __call__(
        self, _logger: WrappedLogger, _method: str, event: EventDict
    ) -> MutableMapping[str, Any]:
        """Serve as a structlog processor."""
        return {key: self.value(value) for key, value in event.items()}


def configure(
    *,
    secrets: Iterable[str] = (),
    redactor: LogRedactor | None = None,
    level: str = "info",
    style: str = "auto",
    colours: bool = True,
    stream: TextIO | None = None,
) -> FilteringBoundLogger:
    """Set the log up and return it; `style` is auto, console, logfmt or json.

    `redactor`: one that the caller keeps, to add secrets that turn up later.
    """
    stream = stream or sys.stderr
    if style == "auto":
        style = "console" if stream.isatty() else "logfmt"
    redactor = redactor or LogRedactor(())
    redactor.add(secrets)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redactor,  # the last before rendering: nothing is added after it
    ]
    structlog.configure(
        processors=[*shared, _renderer(style, colours=colours)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    log: FilteringBoundLogger = structlog.get_logger()
    _lead_standard_log(log)
    return log


def _renderer(style: str, *, colours: bool) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=True, default=str)
    return _Lines(colours=colours and style == "console")


class _Lines:
    """Renders one event as one line: time, level, event, key=value; a traceback below it."""

    _COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31"}  # noqa: RUF012

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        fields = dict(event)
        when = str(fields.pop("timestamp", ""))
        level = str(fields.pop("level", "info"))
        name = str(fields.pop("event", ""))
        trace = fields.pop("exception", None)
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        shown = f"{level:<7}"
        if self._colours:
            shown = f"\x1b[{self._COLOURS.get(level, '0')}m{shown}\x1b[0m"
            when = when[11:19]
        line = f"{when} {shown} {name} {pairs}".rstrip()
        return f"{line}\n{_harmless(str(trace))}" if trace else line


def _harmless(text: str) -> str:
    """Return lines without what moves a terminal's cursor: they may quote file names."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _quoted(value: object) -> str:
    """Return a value as one word: file names may hold spaces, quotes, newlines, anything."""
    if isinstance(value, str):
        plain = value and value.isprintable() and not set(value) & set(' "=')
        return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(value, default=str)


class _Bridge(logging.Handler):
    """Leads the standard library's log into ours."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # a library's mistake must not end what it does
            message = str(record.msg)
        self._log.log(
            min(record.levelno // 10, 5) * 10,  # structlog knows the five usual levels only
            "library.log",
            logger=record.name,
            message=message,
            exc_info=record.exc_info or None,
        )


def _lead_standard_log(log: FilteringBoundLogger) -> None:
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge(log))
    root.setLevel(logging.WARNING)
    logging.getLogger("watchdog.observers.inotify").addFilter(_is_news)
    for chatty in ("httpx", "httpcore", "watchdog", "asyncio", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def lead_threads(log: FilteringBoundLogger) -> None:
    """Let a library's thread that dies say so in the log, as one event; for the whole process."""

    def on_death(death: threading.ExceptHookArgs) -> None:
        name = "unknown" if death.thread is None else death.thread.name
        message = f"its thread died of {death.exc_type.__name__}: {death.exc_value}"
        log.log(logging.WARNING, "library.log", logger=name, message=message)

    threading.excepthook = on_death


def _is_news(record: logging.LogRecord) -> bool:
    """Tell watchdog's warnings from what it says whenever it is stopped."""
    return "thread is inactive" not in record.getMessage()
