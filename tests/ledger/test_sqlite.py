"""What belongs to the SQLite engine alone: its file, its schema, and what a power loss leaves."""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from venice_watch.budget import Budget, Limit, Period, day_of
from venice_watch.errors import StateUnusableError
from venice_watch.job import Arrival, Attempt, Charge, Closing, Job, Retire, Signature, State
from venice_watch.ledger import Order, Prior, Result, Spending, connection
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


NEWEST = sum(
    entry.name.endswith(".sql")
    for entry in resources.files("venice_watch.ledger").joinpath("migrations").iterdir()
)


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


# From older versions.

WORKS = {name: name.encode() * 16 for name in ("aa", "bb", "cc", "dd")}
SHA = b"s" * 32
# job: its folder, path, state, what is special about it
OLD_JOBS: tuple[tuple[str, bytes, str, dict[str, Any]], ...] = (
    ("photos", b"waits.jpg", "available", {"available_at": NOW + 60, "attempts": 2}),
    ("photos", b"sent.jpg", "executing", {"work_key": WORKS["aa"], "generation": 3}),
    ("photos", b"caf\xe9 \xff.jpg", "in_doubt", {"work_key": WORKS["bb"], "generation": 4}),
    (
        "photos",
        b"hand.jpg",
        "staged",
        {"available_at": 9e12, "spool_name": "5.png", "result_path": b"/out/hand.png"},
    ),
    (
        "scans",
        b"full.jpg",
        "staged",
        {"available_at": NOW + 9, "spool_name": "6.png", "result_path": b"/out/\xff.png"},
    ),
    ("scans", b"done.jpg", "completed", {"retire": "archive", "result_path": b"/out/done.png"}),
    ("scans", b"kept.jpg", "completed", {"retire": "keep", "work_key": WORKS["cc"]}),
    (
        "scans",
        b"bad.jpg",
        "discarded",
        {
            "retire": "quarantine",
            "code": "in_doubt",
            "present": 0,
            "work_key": WORKS["dd"],
            "original_path": b"/quarantine/bad.jpg",
        },
    ),
    ("scans", b"skipped.jpg", "cancelled", {"retire": "none", "rules_digest": "rules"}),
    ("scans", b"gone.jpg", "cancelled", {"retire": "none", "present": 0}),
)
# attempt: job, work, when, charge, micro-USD
OLD_ATTEMPTS = (
    (2, "aa", NOW, "reserved", 80_000),
    (3, "bb", NOW - 86_400, "unknown", 20_000),
    (3, "bb", NOW - 86_399.5, "none", 0),
    (8, "dd", NOW - 40 * 86_400, "lost", 80_000),
    (8, "dd", NOW - 190 * 86_400, "unknown", 80_000),  # in winter
    (4, "cc", NOW - 6 * 3_600, "charged", 20_000),
    (5, "cc", NOW - 12 * 3_600, "charged", 80_000),
    (6, "cc", NOW - 18 * 3_600, "charged", 80_001),
    (7, "cc", NOW - 18 * 3_600, "charged", 80_002),
)
PADDING = 300  # more jobs, so that a backup takes more than one write


def make_old(folder: Path, version: int = 1) -> Path:
    """Return an older ledger with jobs in every state, left behind by a process that died.

    It began as version 1, and was brought to a later one by the venice-watch of then.
    """
    folder.mkdir()
    scripts = sorted(
        resources.files(connection.__package__).joinpath("migrations").iterdir(),
        key=lambda script: script.name,
    )
    db = sqlite3.connect(folder / "living.db")
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(scripts[0].read_text("utf-8"))
    padding = [("more", b"%d" % n, "completed", {"message": "x" * 400}) for n in range(PADDING)]
    for number, (name, path, state, more) in enumerate((*OLD_JOBS, *padding), start=1):
        row = {"folder": name, "path": path, "state": state, "available_at": NOW, "device": 1}
        row |= {"inode": number, "size_bytes": 1, "mtime_ns": 2**60, "ctime_ns": 4, "priority": 5}
        row |= {"source_sha256": SHA, "preset": "photo", "parameters": "{}"}
        row |= {"created_at": NOW - 9, "updated_at": NOW + number, **more}
        columns, values = ", ".join(row), ", ".join(f":{column}" for column in row)
        db.execute(f"INSERT INTO jobs ({columns}) VALUES ({values})", row)
    for job, work, at, charge, microusd in OLD_ATTEMPTS:
        ended_at = None if charge == "reserved" else at + 1
        db.execute(
            "INSERT INTO attempts (job_id, work_key, folder, preset, started_at, ended_at, "
            "charge, microusd, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'x')",
            (job, WORKS[work], OLD_JOBS[job - 1][0], "photo", at, ended_at, charge, microusd),
        )
    db.commit()
    for script in scripts[1:version]:
        db.executescript(script.read_text("utf-8"))
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    for suffix in ("", "-wal"):  # most of it is in the log still
        shutil.copy(folder / f"living.db{suffix}", folder / f"ledger.db{suffix}")
    db.close()
    (folder / "living.db").unlink()
    return folder / "ledger.db"


def columns_of_version_1() -> list[str]:
    """Return what a job was in version 1."""
    db = sqlite3.connect(":memory:")
    script = resources.files(connection.__package__).joinpath("migrations", "0001_initial.sql")
    db.executescript(script.read_text("utf-8"))
    names = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
    db.close()
    return names


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return a ledger's rows, as far as version 1 knew them, after seeing that it is sound."""
    columns = {
        "jobs": ", ".join(columns_of_version_1()),
        "attempts": "id, job_id, work_key, folder, preset, started_at, ended_at, charge, "
        "microusd, outcome, status, request_id, message",
    }
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    rows = {
        table: db.execute(f"SELECT {names} FROM {table} ORDER BY id").fetchall()
        for table, names in columns.items()
    }
    db.close()
    assert (len(rows["jobs"]), len(rows["attempts"])) == (len(OLD_JOBS) + PADDING, 9)
    return rows


def schema(path: Path) -> dict[str, str]:
    """Return what defines each table and index."""
    db = sqlite3.connect(path)
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    db.close()
    return dict(rows)


def sums_of_old() -> list[Spending]:
    """Return what the attempts of the version-1 ledger come to, by the local day."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for job, _, at, charge, microusd in OLD_ATTEMPTS:
        total = sums.setdefault((day_of(at), OLD_JOBS[job - 1][0], charge), [0, 0])
        total[0] += 1
        total[1] += microusd
    return [
        Spending(
            day=day,
            folder=folder,
            preset="photo",
            charge=Charge(charge),
            requests=requests,
            microusd=microusd,
        )
        for (day, folder, charge), (requests, microusd) in sorted(sums.items())
    ]


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let this process live in a time zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("version", range(1, NEWEST))
def test_from_an_older_version(tmp_path: Path, version: int) -> None:
    """An older ledger comes through whole, and its money is summed up by local days."""
    path = make_old(tmp_path / "state", version)
    shutil.copytree(path.parent, tmp_path / "copy")
    before = dump(tmp_path / "copy" / "ledger.db")

    async def scenario() -> None:
        async with SqliteLedger(path) as ledger:
            assert await ledger.spending() == sums_of_old()
            counts = await ledger.counts()
            assert counts["photos"].spent_microusd == 40_000
            assert counts["scans"].spent_microusd == 400_003
            limit = Limit(folder=None, period=Period.MONTH, microusd=0)
            months = [Budget(limit=limit, days=day_of(at)[:7]) for at in (NOW, NOW - 40 * 86_400)]
            assert await ledger.spent(months) == [360_003, 80_000]
            assert [job.path for job in await ledger.owed()] == ["done.jpg"]
            assert await ledger.mounts() == {}
            jobs = await ledger.recent(limit=PADDING)
            assert {(job.frame, job.frames) for job in jobs} == {(0, 1)}
            assert {one.frames_ahead for one in counts.values()} == {0}
            scans = counts["scans"]
            assert (scans.completed, scans.discarded, scans.cancelled) == (2, 1, 2)
            assert scans.quarantine == {"in_doubt": 1}
            assert counts["photos"].oldest_waiting_at == NOW - 9
            assert counts["more"].completed == PADDING

    asyncio.run(scenario())
    assert dump(path) == before
    asyncio.run(read_paths(tmp_path / "new.db"))
    assert schema(path) == schema(tmp_path / "new.db")


@pytest.mark.parametrize("version", range(1, NEWEST))
def test_at_work_after_an_older_version(tmp_path: Path, version: int) -> None:
    """What an older one had begun goes on: doubts, deliveries, requests under way, pardons."""
    path = make_old(tmp_path / "state", version)

    async def scenario() -> None:
        async with SqliteLedger(path) as ledger:
            assert sorted(await ledger.spooled()) == ["1.png", "5.png", "6.png"]
            assert await ledger.trim(kept_bytes_max=0) == []
            prior = await ledger.prior(WORKS["aa"])
            assert prior == Prior(doubts=0, under_way=True, results=())
            assert (await ledger.prior(WORKS["bb"])).doubts == 1
            assert (await ledger.prior(WORKS["dd"])).doubts == 2
            [bad] = await ledger.quarantined(SHA)
            await ledger.left_quarantine(bad, back_at=NOW, now=NOW)
            assert (await ledger.prior(WORKS["dd"])).doubts == 0
            [open_one] = await ledger.recover(now=NOW)
            assert (open_one.job.path, open_one.attempt.microusd) == ("sent.jpg", 80_000)
            await stage(ledger, open_one.job, open_one.attempt, "1.png")
            for spool_name in ("5.png", "6.png"):
                job = await ledger.claim(now=NOW, only_folders=("photos", "scans"))
                assert job is not None
                assert (job.state, job.spool_name) == (State.STAGED, spool_name)
                await ledger.complete(job, retire=Retire.ARCHIVE, now=NOW)
            job = await ledger.claim(now=NOW, only_folders=("photos", "scans"))
            assert job is not None
            assert job.path == os.fsdecode(b"caf\xe9 \xff.jpg")
            assert await ledger.spooled() == ["1.png"]
            charges = {one.charge: one for one in await ledger.spending(since_day=day_of(NOW))}
            assert Charge.RESERVED not in charges
            assert charges[Charge.CHARGED].microusd >= 80_000

    asyncio.run(scenario())


async def stage(ledger: SqliteLedger, job: Job, attempt: Attempt, spool_name: str) -> Job:
    """Stage a job with some result."""
    paid = Closing(outcome="succeeded", charge=Charge.CHARGED)
    result = Result(
        spool_name=spool_name,
        path=f"/out/{spool_name}",
        width=1,
        height=1,
        scale=2.0,
        sha256=SHA,
        size_bytes=7,
    )
    return await ledger.stage(job, attempt, paid, result, now=NOW)


def test_backup(tmp_path: Path) -> None:
    """Before a migration the whole ledger is put aside, for this user alone, whatever lay there."""
    path = make_old(tmp_path / "state")
    shutil.copytree(path.parent, tmp_path / "copy")
    backup = path.with_name("ledger.db.schema-1.backup")
    for leftover in ("part", "part-journal", "part-wal"):
        path.with_name(f"{backup.name}.{leftover}").write_bytes(os.urandom(5_000))
    path.with_name(f"{backup.name}.part").chmod(0o644)
    umask = os.umask(0)
    try:
        asyncio.run(read_paths(path))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert not path.with_name(f"{backup.name}.part").exists()
    assert version_of(backup) == 1
    assert dump(backup) == dump(tmp_path / "copy" / "ledger.db")
    assert schema(backup) == schema(tmp_path / "copy" / "ledger.db")
    kept = backup.stat().st_mtime_ns
    asyncio.run(read_paths(path))
    assert backup.stat().st_mtime_ns == kept, "made once"


KILLED_WHILE_MIGRATING = """
import asyncio, os, signal, sys
from pathlib import Path
from venice_watch.ledger import connection
from venice_watch.ledger.sqlite import SqliteLedger

left = int(sys.argv[2])
migrate = connection._migrate

def count(statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def traced(db, path, *, read_only):
    db.set_trace_callback(count)
    migrate(db, path, read_only=read_only)
    count("")

connection._migrate = traced

async def open_it():
    async with SqliteLedger(Path(sys.argv[1])):
        pass

asyncio.run(open_it())
"""


def test_killed_while_migrating(tmp_path: Path) -> None:
    """Killed at any statement of the migration, the ledger is whole: of the old schema or new."""
    old = make_old(tmp_path / "old")
    shutil.copytree(old.parent, tmp_path / "copy")
    before = dump(tmp_path / "copy" / "ledger.db")
    versions = []
    for statement in range(1, 100):
        state = tmp_path / f"killed-{statement}"
        shutil.copytree(old.parent, state)
        command = (sys.executable, "-c", KILLED_WHILE_MIGRATING, state / "ledger.db")
        child = subprocess.run((*command, str(statement)), check=False)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        versions.append(version_of(state / "ledger.db"))
        assert dump(state / "ledger.db") == before
        if versions[-1] == 1:
            assert schema(state / "ledger.db") == schema(tmp_path / "copy" / "ledger.db")
        assert len(asyncio.run(read_paths(state / "ledger.db"))) == len(before["jobs"])
        assert version_of(state / "ledger.db") == NEWEST
        assert dump(state / "ledger.db") == before
        assert dump(state / "ledger.db.schema-1.backup") == before
    assert versions == sorted(versions)
    assert versions[-1] == NEWEST
    assert len(versions) > 10


BACKUP_WITHOUT_ROOM = """
import asyncio, resource, signal, sys
from pathlib import Path
from venice_watch.errors import StateUnusableError
from venice_watch.ledger.sqlite import SqliteLedger

signal.signal(signal.SIGXFSZ, getattr(signal, sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))

async def open_it():
    async with SqliteLedger(Path(sys.argv[1])):
        pass

try:
    asyncio.run(open_it())
except StateUnusableError as exc:
    sys.exit(f"refused: {exc}")
"""


@pytest.mark.parametrize("disposition", ["SIG_DFL", "SIG_IGN"])
def test_backup_without_room(tmp_path: Path, disposition: str) -> None:
    """Killed or out of room in the middle of the backup, all is as before, to be tried again."""
    path = make_old(tmp_path / "state")
    shutil.copytree(path.parent, tmp_path / "copy")
    before = dump(tmp_path / "copy" / "ledger.db")
    backup = path.with_name("ledger.db.schema-1.backup")
    command = (sys.executable, "-c", BACKUP_WITHOUT_ROOM, path, disposition)
    child = subprocess.run(command, check=False, capture_output=True, text=True)
    if disposition == "SIG_DFL":
        assert child.returncode == -signal.SIGXFSZ
    else:
        assert child.returncode == 1
        assert "refused" in child.stderr
        assert "the ledger cannot be opened" in child.stderr
    assert path.with_name(f"{backup.name}.part").exists()
    assert not backup.exists()
    assert version_of(path) == 1
    assert dump(path) == before
    asyncio.run(read_paths(path))
    assert version_of(path) == NEWEST
    assert dump(backup) == dump(path) == before
    assert not list(path.parent.glob("*.part*"))


def test_reading_version_1(tmp_path: Path) -> None:
    """Whoever only reads neither migrates a version-1 ledger nor makes a backup of it."""
    path = make_old(tmp_path / "state")

    async def scenario() -> None:
        async with SqliteLedger(path, read_only=True):
            pass

    with pytest.raises(StateUnusableError, match="Start the daemon once"):
        asyncio.run(scenario())
    assert version_of(path) == 1
    assert not list(path.parent.glob("*.backup*"))


# How it finds things: a ledger of years must answer as fast as a new one.

BUDGETS = tuple(
    Budget(limit=Limit(folder=folder, period=period, microusd=10**9), days=days)
    for folder in (None, "photos")
    for period, days in ((Period.DAY, "2026-05-28"), (Period.MONTH, "2026-05"))
)
# walks through the few rows that a partial index has
SMALL = ("results_kept", "jobs_spooled", "attempts_open", "jobs_active")
# sums: their rows do not grow with what was done
SUMS = ("SCAN counts", "SCAN spending", "SCAN pauses")


def order(work: bytes) -> Order:
    """Return what a request asks for."""
    return Order(
        work_key=work,
        source_sha256=SHA,
        preset="photo",
        parameters="{}",
        microusd=1,
        results=1_000,  # by somebody who has seen all that was done before
        doubts=1_000,
    )


async def begin(ledger: SqliteLedger, job: Job, work: bytes) -> Attempt:
    """Begin a request under every kind of budget."""
    return await ledger.begin(job, order(work), day="2026-05-28", budgets=BUDGETS, now=NOW)


Question = Callable[[SqliteLedger, list[Job]], Awaitable[object]]
QUESTIONS: dict[str, Question] = {
    "claim": lambda ledger, _: ledger.claim(
        now=NOW, only_folders=("photos", "scans"), deliver_in=("more",)
    ),
    "claim nothing": lambda ledger, _: ledger.claim(now=0, only_folders=("photos", "scans")),
    "next due": lambda ledger, _: ledger.next_due_at(
        only_folders=("photos", "scans"), deliver_in=("more",)
    ),
    "begin": lambda ledger, jobs: begin(ledger, jobs[0], b"new"),
    "spent": lambda ledger, _: ledger.spent(BUDGETS),
    "park": lambda ledger, jobs: ledger.park(jobs[0], order(b"new"), now=NOW),
    "prior": lambda ledger, _: ledger.prior(WORKS["cc"]),
    "enqueue": lambda ledger, _: ledger.enqueue([arrival(1)], now=NOW),
    "present": lambda ledger, _: ledger.present("photos", rules_digest="rules"),
    "trim": lambda ledger, _: ledger.trim(kept_bytes_max=0),
    "spooled": lambda ledger, _: ledger.spooled(),
    "staged": lambda ledger, _: ledger.staged(),
    "recent": lambda ledger, _: ledger.recent(limit=9),
    "active": lambda ledger, _: ledger.active("photos"),
    "attempts": lambda ledger, jobs: ledger.attempts(jobs[0]),
    "sent": lambda ledger, _: ledger.sent_since(NOW),
    "failed": lambda ledger, _: ledger.failed_since(NOW),
    "waiting": lambda ledger, _: ledger.waiting(),
    "counts": lambda ledger, _: ledger.counts(),
    "durations": lambda ledger, _: ledger.durations(limit=20),
    "pauses": lambda ledger, _: ledger.pauses(),
    "quarantined": lambda ledger, _: ledger.quarantined(SHA),
    "deliveries": lambda ledger, jobs: ledger.deliveries(jobs[0]),
    "finished": lambda ledger, _: ledger.is_finished(SHA, WORKS["cc"]),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_indexed(tmp_path: Path, name: str) -> None:
    """What is asked for each image goes by an index, and never over all jobs or requests."""
    plans = asyncio.run(explain(make_old(tmp_path / "state"), QUESTIONS[name]))
    assert plans
    for sql, steps in plans.items():
        for step in steps:
            by_small_index = any(f"INDEX {index}" in step for index in SMALL)
            by_small_index |= step.startswith(SUMS)
            in_order = name == "recent" and step.endswith("USING INDEX jobs_updated")
            in_order |= name == "durations" and step == "SCAN attempts"  # backwards, to the limit
            assert not step.startswith("SCAN") or by_small_index or in_order, (sql, steps)
            assert "ORDER BY" not in step or name in ("prior", "active", "failed"), (sql, steps)
            # a folder's whole index for each arrival would make a rescan take the square of it
            assert name != "enqueue" or "(folder=? AND path=?)" in step, (sql, steps)


def test_closing_is_indexed(tmp_path: Path) -> None:
    """The end of a request, and its delivery, go by an index, too."""

    async def scenario(ledger: SqliteLedger, jobs: list[Job]) -> None:
        job = await stage(ledger, jobs[0], await begin(ledger, jobs[0], b"new"), "7.png")
        await ledger.complete(job, retire=Retire.KEEP, now=NOW)
        wanted = replace(order(b"first"), frames=2)
        attempt = await ledger.begin(jobs[3], wanted, day="2026-05-28", now=NOW)
        job = await stage(ledger, jobs[3], attempt, "8.png")
        await ledger.advance(job, now=NOW)
        closing = Closing(outcome="x", charge=Charge.UNKNOWN)
        attempt = await begin(ledger, jobs[1], b"new")
        await ledger.doubt(jobs[1], attempt, closing, until=NOW, now=NOW)
        await ledger.cancel(jobs[2], code="gone", message="x", rules_digest=None, now=NOW)

    plans = asyncio.run(explain(make_old(tmp_path / "state"), scenario))
    assert len(plans) > 10
    for sql, steps in plans.items():
        assert not [step for step in steps if step.startswith("SCAN")], (sql, steps)


async def explain(path: Path, question: Question) -> dict[str, list[str]]:
    """Return how SQLite goes about each statement of a question."""
    plans: dict[str, list[str]] = {}
    async with SqliteLedger(path) as ledger:
        await ledger.recover(now=NOW)
        await ledger.enqueue([arrival(number) for number in range(1_000, 1_009)], now=NOW - 9)
        jobs = [await ledger.claim(now=NOW - 1, only_folders=("photos",)) for _ in range(4)]
        execute = ledger._execute

        def explained(sql: str, values: Any = ()) -> sqlite3.Cursor:  # noqa: ANN401 - as it is
            if not sql.startswith("INSERT"):
                rows = execute(f"EXPLAIN QUERY PLAN {sql}", values)
                plans[sql] = [row[3] for row in rows]
            return execute(sql, values)

        ledger._execute = explained  # type: ignore[method-assign]
        await question(ledger, [job for job in jobs if job is not None])
    return plans


CROWD = 100_000
STEPS_MAX = 5_000  # of SQLite's machine for a few folders; a walk over the crowd takes millions


def test_a_crowd_is_in_nobody_s_way(tmp_path: Path) -> None:
    """However many wait in one folder, the next job of any folder is found in a few steps."""
    steps: list[int] = []

    async def count(question: Awaitable[object]) -> object:
        steps.append(0)
        value = await question
        assert steps[-1] < STEPS_MAX
        return value

    async def scenario() -> None:
        async with SqliteLedger(tmp_path / "ledger.db") as ledger:
            for begin in range(0, CROWD, 10_000):
                crowd = [arrival(number) for number in range(begin, begin + 10_000)]
                await ledger.enqueue(crowd, now=NOW)
            db = ledger._db
            assert db is not None

            def note() -> int:
                steps[-1] += 10
                return 0

            await ledger.transact(lambda: db.set_progress_handler(note, 10))
            empty = [f"empty-{number}" for number in range(10)]
            assert await count(ledger.claim(now=NOW, only_folders=empty)) is None
            assert await count(ledger.claim(now=NOW, only_folders=[*empty, "photos"]))
            assert await count(ledger.claim(now=NOW, only_folders=["photos", *empty]))
            assert await count(ledger.next_due_at(only_folders=empty)) is None
            assert await count(ledger.next_due_at(only_folders=[], deliver_in=["photos"])) is None

    steps.append(0)
    asyncio.run(scenario())
    assert max(steps) > 0, "they were counted"


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
