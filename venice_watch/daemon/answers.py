"""What the daemon answers over its control socket: the facts of the views, and a person's word.

Rules: a request is not trusted, whoever sent it; views read the ledger by a connection and in a
thread of their own, so that no question holds up the work, or a question of another kind.
"""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from datetime import date
from pathlib import Path
from typing import Any

from venice_watch.daemon import report
from venice_watch.errors import VeniceWatchError
from venice_watch.ledger import Ledger
from venice_watch.pipeline.passage import Parts
from venice_watch.service.asking import NOT_PERMITTED, USAGE
from venice_watch.service.control import Caller, encode, error
from venice_watch.service.lock import holder_of
from venice_watch.views import pausing
from venice_watch.views.folders import folder_named
from venice_watch.views.history import LIMIT, LIMIT_MAX, history
from venice_watch.views.retry import take_back
from venice_watch.views.spend import KEYS, spend
from venice_watch.views.status import status
from venice_watch.views.why import why

SLOW = 2  # long answers that are made at a time: others wait, and nobody waits for them
VERBS = ("status", "history", "why", "spend", "pause", "resume", "retry")

Opener = Callable[[], AbstractAsyncContextManager[Ledger]]
_View = Callable[[Ledger], Awaitable[object]]


class BadRequestError(VeniceWatchError):
    """A request that is none of ours; its text says what is wrong with it."""

    exit_code = USAGE


class Answers:
    """Answers requests for a daemon that works."""

    def __init__(
        self,
        parts: Callable[[], Parts],  # another configuration makes others
        *,
        opener: Opener,
        on_change: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._opener = opener
        self._on_change = on_change  # something may be begun that might not before
        self._loaded_at = parts().clock.now()
        self._quick = ThreadPoolExecutor(1, thread_name_prefix="status")
        self._slow = ThreadPoolExecutor(SLOW, thread_name_prefix="answers")

    def loaded(self) -> None:
        """Note that another configuration holds from now on."""
        self._loaded_at = self._parts().clock.now()

    def close(self) -> None:
        """Begin no answer any more."""
        for threads in (self._quick, self._slow):
            threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Mapping[str, Any], caller: Caller) -> bytes:
        """Return the line that answers a request."""
        try:
            return await self._dispatch(request, caller)
        except VeniceWatchError as exc:
            return error(str(exc), exc.exit_code)
        except Exception as exc:  # noqa: BLE001 - one odd request must not end the daemon
            self._parts().log.exception("control.bug", verb=str(request.get("verb"))[:20])
            return error(f"an internal error: {type(exc).__name__}; the log says more", 70)

    async def _dispatch(self, request: Mapping[str, Any], caller: Caller) -> bytes:
        match request.get("verb"):
            case "status":
                return await self._status()
            case "history":
                return await self._history(request)
            case "why":
                return await self._why(request)
            case "spend":
                return await self._spend(request)
            case "pause" | "resume" as verb:
                return encode(await self._switch(verb, _folder(request), caller))
            case "retry" if not caller.owner:
                words = "only the user of the service, or root, may take files back this way."
                return error(words, NOT_PERMITTED)
            case "retry":
                return await self._retry(request)
            case other:
                words = f"there is no such verb: {other!r:.60}; there are {', '.join(VERBS)}"
                raise BadRequestError(words)

    # --- views -----------------------------------------------------------------------------------

    async def _read(self, threads: ThreadPoolExecutor, view: _View) -> bytes:
        """Make an answer in a thread: what is written down is read there, and encoded."""

        async def read() -> bytes:
            async with self._opener() as ledger:
                return encode(await view(ledger))

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: asyncio.run(read()))

    async def _status(self) -> bytes:
        parts = self._parts()
        live = report.live(parts, loaded_at=self._loaded_at)

        async def view(ledger: Ledger) -> object:
            holder = holder_of(parts.config.state_dir)
            return await status(parts.config, ledger, holder=holder, live=live)

        return await self._read(self._quick, view)

    async def _history(self, request: Mapping[str, Any]) -> bytes:
        config, folder, limit = self._parts().config, _folder(request), request.get("limit", LIMIT)
        if type(limit) is not int or not 1 <= limit <= LIMIT_MAX:
            raise BadRequestError(f"limit is {limit!r:.60}, and is a number from 1 to {LIMIT_MAX}")
        return await self._read(
            self._slow, lambda ledger: history(config, ledger, folder=folder, limit=limit)
        )

    async def _why(self, request: Mapping[str, Any]) -> bytes:
        parts, file = self._parts(), _path(request, "file")
        cwd = _path(request, "cwd") if "cwd" in request else Path("/")
        return await self._read(
            self._slow,
            lambda ledger: why(
                parts.config, ledger, file, cwd=cwd, decoders=parts.decoders, running=True
            ),
        )

    async def _spend(self, request: Mapping[str, Any]) -> bytes:
        config, by, since = self._parts().config, request.get("by"), request.get("since")
        if by is not None and by not in KEYS:
            raise BadRequestError(f"by is {by!r:.60}, and is one of {', '.join(KEYS)}")
        try:
            since = None if since is None else date.fromisoformat(since).isoformat()
        except (TypeError, ValueError) as exc:
            raise BadRequestError(f"since is {since!r:.60}, and is a day, 2026-11-01") from exc
        return await self._read(
            self._slow, lambda ledger: spend(config, ledger, by=by, since=since)
        )

    # --- a person's word -------------------------------------------------------------------------

    async def _switch(self, verb: str, folder: str | None, caller: Caller) -> dict[str, Any]:
        by = await asyncio.to_thread(name_of, caller.uid)
        # whoever asked may be gone before it is written down, and then it holds all the same
        return await asyncio.shield(self._switched(verb, folder, by))

    async def _switched(self, verb: str, folder: str | None, by: str) -> dict[str, Any]:
        parts = self._parts()
        if verb == "pause":
            now = parts.clock.now()
            facts = await pausing.pause(parts.config, parts.paused, folder, by=by, now=now)
            if facts["changed"]:
                parts.log.info("folder.paused", folder=folder, by=by)
        else:
            facts = await pausing.resume(parts.config, parts.paused, folder)
            for one in facts["ended"]:
                parts.log.info("folder.resumed", folder=one["folder"], by=by)
        self._on_change()
        return facts

    async def _retry(self, request: Mapping[str, Any]) -> bytes:
        config, name = self._parts().config, _folder(request)
        files = request.get("files", [])
        if not isinstance(files, list) or bool(files) == bool(request.get("all")):
            raise BadRequestError("files is a list of paths; or `all` is true, and there are none")
        paths = [_path({"file": file}, "file") for file in files]
        folders = config.folders if name is None else (folder_named(config, name),)
        cwd = _path(request, "cwd") if "cwd" in request else Path("/")

        def move() -> bytes:
            return encode(list(take_back(config, folders, paths, cwd=cwd)))

        return await asyncio.get_running_loop().run_in_executor(self._slow, move)


def name_of(uid: int) -> str:
    """Return a user's name, or his number where he has none; may ask the network."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)


def _folder(request: Mapping[str, Any]) -> str | None:
    """Return the folder that a request names, or None for all."""
    folder = request.get("folder")
    if folder is None or isinstance(folder, str):
        return folder
    raise BadRequestError(f"folder is {folder!r:.60}, and is a name or null")


def _path(request: Mapping[str, Any], key: str) -> Path:
    """Return a path of a request. Raises BadRequestError for what cannot be one."""
    text = request.get(key)
    if isinstance(text, str) and text and "\0" not in text:
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            pass
        else:
            return Path(text)
    raise BadRequestError(f"{key} is {text!r:.60}, and is a path")
