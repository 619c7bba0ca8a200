"""What goes on beside the work for those outside: notices, pings, the web server, the metrics file.

Rules: nothing here ends the daemon or holds it up, whatever a receiver, a caller or a disk does;
what does not work is said once in the log and stands in `status`.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from venice_watch.config.outside import Receiver, Via
from venice_watch.daemon import report
from venice_watch.daemon.health import Health
from venice_watch.daemon.measures import Measures
from venice_watch.daemon.news import News, read_memory
from venice_watch.files.place import write_whole
from venice_watch.notify.courier import Courier
from venice_watch.notify.post import read_token
from venice_watch.notify.pulse import Pulse
from venice_watch.pipeline.passage import Parts

FAREWELL_S = 5.0  # for what is still to be said at the end
RETRY_S = 30.0  # between tries to listen, or after a bug
METRICS_FILE_S = 60.0  # between two versions of the file
METRICS_MODE = 0o644  # its reader is another user


class Outside:
    """Keeps those outside told; made by the daemon, and only for `run`."""

    def __init__(self, parts: Callable[[], Parts], health: Health) -> None:
        self.ready = asyncio.Event()  # the folders are watched
        self.stopping = False
        self._parts = parts
        self._health = health
        self._changed = asyncio.Event()  # the configuration
        self._couriers: list[Courier] = []
        self._past: Counter[str] = Counter()  # notices of receivers that are no longer
        self._seen: Counter[tuple[str, str]] = Counter()  # images given up, and told of
        self._told_before = False  # by this process
        self._measures = Measures(
            parts,
            hang=lambda: health.hang,
            troubles=lambda: len(report.all_troubles(parts())),
            notices=self._count_notices,
        )

    def adopt(self) -> None:
        """Go by the configuration that holds now."""
        self._changed.set()

    async def run(self) -> None:
        """Tell until cancelled; then say what is left to be said, for a few seconds."""
        while True:
            config = self._parts().config
            self._changed.clear()
            self._parts().tally.unheard.clear()
            async with asyncio.TaskGroup() as group, self._telling(config.notify, group):
                tasks = [group.create_task(self._guarded("web", self._serve))]
                if config.metrics_file is not None:
                    tasks.append(group.create_task(self._guarded("metrics", self._write_metrics)))
                try:
                    await self._wait_changed(config.notify, config.web, config.metrics_file)
                finally:
                    for task in tasks:
                        task.cancel()

    async def _wait_changed(self, *before: object) -> None:
        """Wait until what is told, and to whom, is another; other changes are none."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            config = self._parts().config
            if (config.notify, config.web, config.metrics_file) != before:
                return

    async def _guarded(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Keep a bug of this room from ending more than itself."""
        while True:
            try:
                await work()
            except Exception:  # noqa: BLE001 - whoever is told of it, images go on
                self._parts().log.exception("outside.bug", what=what)
            else:
                return
            await self._parts().clock.sleep(RETRY_S)

    def _note(self, subject: str, why: str | None) -> None:
        unheard = self._parts().tally.unheard
        if why is None:
            unheard.pop(subject, None)
        else:
            unheard[subject] = why

    # --- notices and pings -----------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _telling(
        self, receivers: tuple[Receiver, ...], group: asyncio.TaskGroup
    ) -> AsyncIterator[None]:
        """Tell receivers while inside; at the end of the process say farewell."""
        if not receivers:
            yield
            self._seen = Counter(self._parts().tally.discarded)  # nobody was to be told
            return
        memory = await asyncio.to_thread(read_memory, self._parts().config.state_dir)
        if self._told_before:
            memory["stopped"] = True  # it is this very process, with another configuration
        self._told_before = True
        self._couriers, pulses = self._made(receivers)
        news = News(
            self._parts,
            self._couriers,
            hang=lambda: self._health.hang,
            memory=memory,
            seen=self._seen,
        )
        beating = [group.create_task(self._pulse(one)) for one in pulses]
        runs = [news.run, *(one.run for one in self._couriers)]
        telling = [group.create_task(self._guarded("notify", run)) for run in runs]
        try:
            yield
        finally:
            for task in beating:
                task.cancel()
            await self._end_telling(news, pulses)
            for task in telling:
                task.cancel()

    def _made(self, receivers: tuple[Receiver, ...]) -> tuple[list[Courier], list[Pulse]]:
        parts = self._parts()
        couriers: list[Courier] = []
        pulses: list[Pulse] = []
        for number, one in enumerate(receivers):
            name = f"notify.{number}: {one.name}"  # as a mistake in it is called
            if one.via is Via.PING:
                pulse = Pulse(
                    one,
                    name=name,
                    clock=parts.clock,
                    log=parts.log,
                    illness=self._illness,
                    on_trouble=self._note,
                )
                pulses.append(pulse)
            else:
                courier = Courier(
                    one, name=name, clock=parts.clock, log=parts.log, on_trouble=self._note
                )
                couriers.append(courier)
        return couriers, pulses

    async def _pulse(self, pulse: Pulse) -> None:
        await self.ready.wait()
        await self._guarded("ping", pulse.run)

    async def _end_telling(self, news: News, pulses: list[Pulse]) -> None:
        farewells = [one.stop(FAREWELL_S if self.stopping else 0.0) for one in pulses]
        try:
            await news.look()
            farewells += [one.wait_empty(FAREWELL_S) for one in self._couriers]
            await asyncio.gather(*farewells)
            await news.remember(stopped=self.stopping)
        except Exception:  # noqa: BLE001 - whoever is told of it, images go on
            self._parts().log.exception("outside.bug", what="farewell")
        for one in self._couriers:
            self._past += Counter(sent=one.sent, dropped=one.dropped)
        self._couriers = []

    def _illness(self) -> str | None:
        """Return why not all is well, for a dead man's switch."""
        parts = self._parts()
        if self._health.hang is not None:
            return f"{self._health.hang} stands still"
        if parts.ledger.trouble is not None:
            return f"the ledger cannot be written: {parts.ledger.trouble}"
        if parts.account.refused is not None:
            return f"nothing can be sent: {parts.account.refused}"
        return None

    def _count_notices(self) -> dict[str, int]:
        total = Counter(sent=0, dropped=0)
        total.update(self._past)
        for one in self._couriers:
            total.update(sent=one.sent, dropped=one.dropped)
        return dict(total)

    # --- monitoring ------------------------------------------------------------------------------

    def _unready(self) -> str | None:
        if self.stopping:
            return "stopping"
        return None if self.ready.is_set() else "starting"

    async def _serve(self) -> None:
        """Listen, as soon as that is possible, until cancelled."""
        web = self._parts().config.web
        if web.listen is None:
            return
        from venice_watch.web.monitor import Facts, routes
        from venice_watch.web.server import serving

        facts = Facts(
            hang=lambda: self._health.hang, unready=self._unready, metrics=self._measures.text
        )
        log, told = self._parts().log, False
        while True:
            try:
                token = None
                if web.token_file is not None:
                    token = await asyncio.to_thread(read_token, web.token_file)
                async with serving(
                    web.listen, routes(facts), hosts=web.hosts, token=token
                ) as address:
                    log.info("web.listening", address=address)
                    self._note("web", None)
                    await asyncio.Event().wait()
            except OSError as exc:
                why = f"{web.listen}: {exc}"
            if not told:
                log.error("web.unavailable", error=why, next="tried again every 30 s")
                told = True
            self._note("web", f"nobody can ask it over HTTP: {why}. It tries again by itself")
            await self._parts().clock.sleep(RETRY_S)

    async def _write_metrics(self) -> None:
        """Write the file now and again, until cancelled."""
        told: str | None = None
        while True:
            parts, path = self._parts(), self._parts().config.metrics_file
            assert path is not None, "only then"
            try:
                text = await self._measures.text()
                await asyncio.to_thread(write_whole, path, text, mode=METRICS_MODE)
            except OSError as exc:
                why = f"{path}: {exc.strerror}"
                if told is None:
                    parts.log.error("metrics.unwritable", error=why, next="tried every minute")
                told = f"the metrics cannot be written: {why}. Make the folder, or give the right"
            else:
                told = None
            self._note("metrics_file", told)
            await parts.clock.sleep(METRICS_FILE_S)
