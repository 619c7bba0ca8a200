"""What a daemon stands on: its state folder, the lock on it, its ledger, a line to the API."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from venice_watch.clock import Clock
from venice_watch.config.model import Config
from venice_watch.daemon.life import SPOOL_NAME, Daemon
from venice_watch.daemon.reload import Load, Reloader, client_for
from venice_watch.errors import StateUnusableError
from venice_watch.intake.mounts import NETWORK, file_system_of
from venice_watch.ledger import FILE_NAME
from venice_watch.ledger.sqlite import SqliteLedger
from venice_watch.service.control import serving
from venice_watch.service.lock import locked
from venice_watch.service.systemd import Notifier

STATE_MODE = 0o710


@contextlib.asynccontextmanager
async def opened(
    config: Config,
    key: str,
    *,
    command: str,
    clock: Clock,
    log: FilteringBoundLogger,
    notifier: Notifier,
    load: Load | None = None,
) -> AsyncIterator[Daemon]:
    """Yield a daemon that holds the state folder's lock, its ledger and a connection pool.

    `load` reads the configuration again, where SIGHUP is to do that.
    """
    prepare_state(config.state_dir)
    with locked(config.state_dir, command):
        async with (
            SqliteLedger(
                config.state_dir / FILE_NAME,
                on_trouble=lambda trouble: _report_ledger(log, trouble),
            ) as ledger,
            client_for(config.api, key) as client,
            contextlib.AsyncExitStack() as stack,
        ):
            reloader = None if load is None else Reloader(load, config, key, client)
            daemon = Daemon(
                config,
                ledger=ledger,
                client=client,
                clock=clock,
                log=log,
                notifier=notifier,
                opener=lambda: SqliteLedger(config.state_dir / FILE_NAME, read_only=True),
                reloader=reloader,
            )
            try:
                await stack.enter_async_context(serving(config.state_dir, daemon.answer))
            except OSError as exc:  # a file system without sockets: `status` says less
                log.warning("control.unavailable", error=str(exc))
            yield daemon


def _report_ledger(log: FilteringBoundLogger, trouble: str | None) -> None:
    if trouble is None:
        log.info("ledger.writable_again")
    else:
        log.error(
            "ledger.unwritable",
            error=trouble,
            next="everything waits; make room on its disk, or mend it",
        )


def prepare_state(state_dir: Path) -> None:
    """Make the state folder and its spool, for this user alone.

    Its group may enter a folder that is made here, and nothing in it is the group's but the control
    socket. One that is there already keeps its mode: a person may have chosen it.
    """
    existing = next(path for path in (state_dir, *state_dir.parents) if os.path.exists(path))  # noqa: PTH110 - never raises
    kind = file_system_of(existing)
    if kind in NETWORK:
        raise StateUnusableError(
            f"{state_dir} is on a network file system ({kind}), where a journal is not safe. Name "
            "a folder on a local disk in `state_dir`."
        )
    try:
        state_dir.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            state_dir.mkdir(mode=0o700)
            state_dir.chmod(STATE_MODE)  # whatever the umask
        (state_dir / SPOOL_NAME).mkdir(exist_ok=True, mode=0o700)
    except OSError as exc:
        raise StateUnusableError(
            f"{state_dir}: {exc.strerror}. The state folder must be one that venice-watch may "
            "make and write; see `state_dir` in the configuration."
        ) from exc
