"""What belongs to the SQLite engine alone: its file, its schema, and what a power loss leaves."""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from venice_watch.errors import StateUnusableError
from venice_watch.job import Arrival, Signature
from venice_watch.ledger import connection
from venice_watch.ledger.sqlite import SqliteLedger

NOW = 1_780_000_000.0
JOBS = 30


def arrival(number: int) -> Arrival:
    """Return a file that has arrived."""
    signature = Signature(device=1, inode=number, size_bytes=1, mtime_ns=1, ctime_ns=1)
    return Arrival(folder="photos", path=f"{number}.jpg", signature=signature)


async def read_paths(path: Path) -> list[str]:
    """Open a ledger and return the paths of its jobs, oldest first."""
    async with SqliteLedger(path) as ledger:
        jobs = await ledger.recent(limit=1_000)
        return [job.path for job in sorted(jobs, key=lambda job: job.id)]


def modes_in(folder: Path) -> dict[str, int]:
    """Return the mode of every file."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_private(tmp_path: Path) -> None:
    """All of its files are for this user alone, whatever the umask: names are private."""

    async def scenario() -> dict[str, int]:
        async with SqliteLedger(tmp_path / "ledger.db") as ledger:
            await ledger.enqueue([arrival(1)], now=NOW)
            return await asyncio.to_thread(modes_in, tmp_path)

    before = os.umask(0)
    try:
        modes = asyncio.run(scenario())
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm"], 0o600)


def test_durable_settings(tmp_path: Path) -> None:
    """It writes ahead and syncs fully: a commit that returned survives a power loss."""

    async def scenario() -> list[object]:
        async with SqliteLedger(tmp_path / "ledger.db") as ledger:
            return await ledger.transact(
                lambda: [
                    ledger._execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("journal_mode", "synchronous", "foreign_keys")
                ]
            )

    assert asyncio.run(scenario()) == ["wal", 2, 1]


def test_copies_taken_at_any_moment(tmp_path: Path) -> None:
    """Whatever was written down before a copy of the files is in the copy."""

    async def scenario() -> None:
        async with SqliteLedger(tmp_path / "ledger.db") as ledger:
            for number in range(JOBS):
                await ledger.enqueue([arrival(number)], now=NOW)
                if number % 7 == 0:
                    copy = tmp_path / f"copy-{number}"
                    copy.mkdir()
                    for name in ("ledger.db", "ledger.db-wal"):
                        shutil.copy(tmp_path / name, copy)

    asyncio.run(scenario())
    copies = sorted(tmp_path.glob("copy-*"), key=lambda path: int(path.name[5:]))
    assert len(copies) == 5
    for copy in copies:
        written = [f"{number}.jpg" for number in range(int(copy.name[5:]) + 1)]
        assert asyncio.run(read_paths(copy / "ledger.db")) == written


@pytest.mark.parametrize("torn", [False, True])
def test_log_cut_anywhere(tmp_path: Path, *, torn: bool) -> None:
    """A log that is cut or torn anywhere leaves a beginning of the history, never a mixture."""

    async def scenario() -> None:
        async with SqliteLedger(tmp_path / "ledger.db") as ledger:
            for number in range(JOBS):
                await ledger.enqueue([arrival(number)], now=NOW)
            for name in ("ledger.db", "ledger.db-wal"):
                shutil.copy(tmp_path / name, tmp_path / f"kept-{name}")

    asyncio.run(scenario())
    log = (tmp_path / "kept-ledger.db-wal").read_bytes()
    lengths = set()
    for part in range(1, 12):
        copy = tmp_path / f"cut-{part}"
        copy.mkdir()
        shutil.copy(tmp_path / "kept-ledger.db", copy / "ledger.db")
        cut = len(log) * part // 12
        rest = os.urandom(len(log) - cut) if torn else b""
        (copy / "ledger.db-wal").write_bytes(log[:cut] + rest)
        paths = asyncio.run(read_paths(copy / "ledger.db"))
        assert paths == [f"{number}.jpg" for number in range(len(paths))]
        lengths.add(len(paths))
    assert len(lengths) > 5


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is full a verb waits, says so once, and is done once there is room."""
    monkeypatch.setattr(connection, "RETRY_S", 0.02)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told: list[str | None] = []

    def on_trouble(trouble: str | None) -> None:
        told.append(trouble)

    async def scenario() -> list[str]:
        async with SqliteLedger(tmp_path / "ledger.db", on_trouble=on_trouble) as ledger:
            await ledger.enqueue([arrival(1)], now=NOW)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
            waiting = asyncio.create_task(ledger.enqueue([arrival(2)], now=NOW))
            while not told:  # noqa: ASYNC110 - it is told in a callback
                await asyncio.sleep(0.01)
            assert not waiting.done()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert await waiting == [True]
            return [job.path for job in await ledger.recent(limit=9)]

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        assert sorted(asyncio.run(scenario())) == ["1.jpg", "2.jpg"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert len(told) == 2
    assert "ledger.db" in (told[0] or "")
    assert told[1] is None


def test_rolled_back(tmp_path: Path) -> None:
    """A verb that fails half-way leaves nothing of it, and the next one works."""

    async def scenario() -> None:
        async with SqliteLedger(tmp_path / "ledger.db") as ledger:
            bad = Arrival(folder="photos", path="bad", signature=None)  # type: ignore[arg-type]
            with pytest.raises(AttributeError):
                await ledger.enqueue([arrival(1), bad], now=NOW)
            assert await ledger.recent(limit=9) == []
            assert await ledger.enqueue([arrival(1)], now=NOW) == [True]

    asyncio.run(scenario())


def test_cancelled_caller(tmp_path: Path) -> None:
    """A caller who is cancelled leaves the verb whole or undone, and the ledger usable."""

    async def scenario() -> None:
        async with SqliteLedger(tmp_path / "ledger.db") as ledger:
            many = [arrival(number) for number in range(500)]
            task = asyncio.create_task(ledger.enqueue(many, now=NOW))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(await ledger.recent(limit=1_000)) in (0, 500)

    asyncio.run(scenario())


# Schemas.


def set_version(path: Path, version: int) -> None:
    """Pretend that another venice-watch wrote it."""
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()


def version_of(path: Path) -> int:
    """Return the schema's number."""
    with sqlite3.connect(path) as db:
        [(version,)] = db.execute("PRAGMA user_version")
    db.close()
    return int(version)


def test_newer_schema(tmp_path: Path) -> None:
    """A ledger of a newer venice-watch is refused with what to do, and left as it is."""
    path = tmp_path / "ledger.db"
    assert asyncio.run(read_paths(path)) == []
    set_version(path, 999)
    before = path.read_bytes()
    with pytest.raises(StateUnusableError, match=r"newer venice-watch \(schema 999"):
        asyncio.run(read_paths(path))
    assert path.read_bytes() == before


def test_reading_an_older_schema(tmp_path: Path) -> None:
    """Whoever only reads does not migrate, and says who does."""
    path = tmp_path / "ledger.db"
    set_version(path, 0)

    async def scenario() -> None:
        async with SqliteLedger(path, read_only=True):
            pass

    with pytest.raises(StateUnusableError, match="Start the daemon once"):
        asyncio.run(scenario())
    assert version_of(path) == 0


def test_migrates(tmp_path: Path) -> None:
    """A new ledger is brought to the newest schema, once."""
    path = tmp_path / "ledger.db"
    asyncio.run(read_paths(path))
    newest = version_of(path)
    assert newest >= 1
    asyncio.run(read_paths(path))
    assert version_of(path) == newest
    assert not list(tmp_path.glob("*.backup"))


def test_read_beside_the_writer(tmp_path: Path) -> None:
    """Another process may read what was committed while the daemon writes, but change nothing."""
    path = tmp_path / "ledger.db"

    async def scenario() -> None:
        async with SqliteLedger(path) as writer, SqliteLedger(path, read_only=True) as reader:
            await writer.enqueue([arrival(1)], now=NOW)
            assert (await reader.counts())["photos"].available == 1
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                await reader.enqueue([arrival(2)], now=NOW)
            await writer.enqueue([arrival(3)], now=NOW)
            assert (await reader.counts())["photos"].available == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [b"no database at all" * 100, os.urandom(8_192)])
def test_no_database(tmp_path: Path, content: bytes) -> None:
    """A file that is no ledger is refused by name, and not touched."""
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(StateUnusableError, match=r"ledger\.db: the ledger cannot be opened"):
        asyncio.run(read_paths(path))
    assert path.read_bytes() == content


def test_no_folder(tmp_path: Path) -> None:
    """A state folder that is not there is refused; used or refused, no descriptor stays open."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    with pytest.raises(StateUnusableError, match="cannot be opened"):
        asyncio.run(read_paths(tmp_path / "missing" / "ledger.db"))
    path = tmp_path / "ledger.db"
    assert asyncio.run(read_paths(path)) == []
    set_version(path, 999)
    with pytest.raises(StateUnusableError):
        asyncio.run(read_paths(path))
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise


@pytest.mark.parametrize("name", ["a b?c#d%20.db", "caf\u00e9.db"])
def test_any_path(tmp_path: Path, name: str) -> None:
    """A path may hold whatever a URI would misread."""
    asyncio.run(read_paths(tmp_path / name))
    assert (tmp_path / name).exists()
