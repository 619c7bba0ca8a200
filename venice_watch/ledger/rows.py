"""Rows of the SQLite ledger as values."""

import math
import os
from collections.abc import Sequence
from typing import Any

from venice_watch.job import Attempt, Charge, Job, Retire, Signature, Source, State

# `available_at` of a job that waits for no time: for a request for the same work (the number is
# written out in an index), or for the end of its delivery
PARKED = 8e12
IN_HAND = 9e12
JOB_COLUMNS = (
    "id, folder, path, state, generation, device, inode, size_bytes, mtime_ns, ctime_ns, "
    "incomplete, attempts, available_at, created_at, updated_at, preset, parameters, "
    "source_sha256, work_key, code, message, spool_name, result_path, result_width, "
    "result_height, original_path, retire, result_scale, frame, frames, "
    "source_kind, source_width, source_height, sent_width, sent_height"
)
ATTEMPT_COLUMNS = (
    "id, job_id, work_key, started_at, ended_at, charge, microusd, outcome, status, "
    "request_id, message, frame"
)


def read_signature(row: Sequence[Any]) -> Signature:
    """Return the version of a file from five columns."""
    return Signature(
        device=row[0], inode=row[1], size_bytes=row[2], mtime_ns=row[3], ctime_ns=row[4]
    )


def read_job(row: Sequence[Any]) -> Job:
    """Return a job from its `JOB_COLUMNS`."""
    return Job(
        id=row[0],
        folder=row[1],
        path=os.fsdecode(row[2]),
        state=State(row[3]),
        generation=row[4],
        signature=read_signature(row[5:10]),
        incomplete=bool(row[10]),
        attempts=row[11],
        available_at=math.inf if row[12] >= PARKED else row[12],
        created_at=row[13],
        updated_at=row[14],
        preset=row[15],
        parameters=row[16],
        source_sha256=row[17],
        work_key=row[18],
        code=row[19],
        message=row[20],
        spool_name=row[21],
        result_path=None if row[22] is None else os.fsdecode(row[22]),
        result_width=row[23],
        result_height=row[24],
        original_path=None if row[25] is None else os.fsdecode(row[25]),
        retire=None if row[26] is None else Retire(row[26]),
        result_scale=row[27],
        frame=row[28],
        frames=row[29],
        source=None if row[30] is None else read_source(row[30:35]),
    )


def read_source(row: Sequence[Any]) -> Source:
    """Return what picture an original holds, from five columns."""
    return Source(kind=row[0], width=row[1], height=row[2], sent_width=row[3], sent_height=row[4])


def read_attempt(row: Sequence[Any]) -> Attempt:
    """Return an attempt from its `ATTEMPT_COLUMNS`."""
    return Attempt(
        id=row[0],
        job_id=row[1],
        work_key=row[2],
        started_at=row[3],
        ended_at=row[4],
        charge=Charge(row[5]),
        microusd=row[6],
        outcome=row[7],
        status=row[8],
        request_id=row[9],
        message=row[10],
        frame=row[11],
    )
