"""Ledgers with a past: as many jobs as wanted, as if they had been done over a year.

Rules: the file is made by the program's own migrations, then filled by SQL that respects what the
verbs keep: one attempt and one result for each completed job, and sums that agree with them.
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from venice_watch.ledger.sqlite import SqliteLedger

FOLDER = "bench"
BEGAN_AT = 1_700_000_000.0  # seconds since 1970
YEAR_S = 365 * 86_400.0
PARAMETERS = '{"replication":0.35,"scale":2}'
MICROUSD = 20_000
WAITING = 500  # of the jobs, the newest
KEPT = 500  # results that are still in the spool
BATCH = 20_000

_JOB = """INSERT INTO jobs (id, folder, path, state, generation, available_at, attempts, device,
 inode, size_bytes, mtime_ns, ctime_ns, present, retire, preset, parameters, source_sha256,
 work_key, spool_name, result_path, result_width, result_height, result_scale, original_path,
 created_at, updated_at)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ATTEMPT = """INSERT INTO attempts (id, job_id, work_key, folder, preset, started_at, day, ended_at,
 charge, microusd, outcome, status, request_id)
 VALUES (?, ?, ?, ?, 'bench', ?, date(?, 'unixepoch', 'localtime'), ?, 'charged', ?, 'succeeded',
 200, ?)"""
_RESULT = """INSERT INTO results (spool_name, work_key, sha256, size_bytes, kept, width, height,
 scale, used_at) VALUES (?, ?, ?, ?, ?, 2500, 1600, 2.0, ?)"""


async def make(path: Path, jobs: int) -> None:
    """Make a ledger of so many jobs, the last of which wait."""
    async with SqliteLedger(path):
        pass  # the schema
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")  # nobody would miss it
        done = jobs - WAITING
        for start in range(0, jobs, BATCH):
            numbers = range(start, min(jobs, start + BATCH))
            db.execute("BEGIN")
            db.executemany(_JOB, (_job(n, done=n < done, jobs=jobs) for n in numbers))
            db.executemany(_ATTEMPT, _attempts(numbers, done, jobs))
            db.executemany(_RESULT, _results(numbers, done, jobs))
            db.execute("COMMIT")
        db.execute(
            "INSERT INTO spending SELECT day, folder, preset, charge, count(*), sum(microusd) "
            "FROM attempts GROUP BY 1, 2, 3, 4"
        )
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("rb+") as file:
        os.fsync(file.fileno())  # else whoever commits first would pay for all of it


def work_key(number: int) -> bytes:
    """Return the identity of the work of the n-th job."""
    return hashlib.sha256(b"work %d" % number).digest()


def _at(number: int, jobs: int) -> float:
    return BEGAN_AT + YEAR_S * number / jobs


def _job(number: int, *, done: bool, jobs: int) -> tuple[object, ...]:
    at = _at(number, jobs)
    name = f"2026/holiday/IMG_{number:07}"
    file = (66_305, number + 1, 3_456_789, int(at * 1e9), int(at * 1e9))
    path = os.fsencode(f"{name}.jpg")
    if not done:
        waiting = (FOLDER, path, "available", 0, at, 0, *file, 1)
        return (number + 1, *waiting, *[None] * 11, at, at)
    sent = ("archive", "bench", PARAMETERS, hashlib.sha256(path).digest(), work_key(number))
    result = (f"{number + 1}.png", f"/srv/photos/outbox/{name}.png".encode(), 2500, 1600, 2.0)
    original = f"/srv/photos/originals/{name}.jpg".encode()
    ended = (FOLDER, path, "completed", 5, at, 0, *file, 0)
    return (number + 1, *ended, *sent, *result, original, at, at + 9)


def _attempts(numbers: range, done: int, jobs: int) -> Iterator[tuple[object, ...]]:
    for number in numbers:
        if number < done:
            at = _at(number, jobs)
            ray = f"{number:016x}-FRA"
            key = work_key(number)
            yield (number + 1, number + 1, key, FOLDER, at, at, at + 8, MICROUSD, ray)


def _results(numbers: range, done: int, jobs: int) -> Iterator[tuple[object, ...]]:
    for number in numbers:
        if number < done:
            kept = number >= done - KEPT
            digest = hashlib.sha256(b"result %d" % number).digest()
            at = _at(number, jobs)
            yield (f"{number + 1}.png", work_key(number), digest, 4_000_000, kept, at)
