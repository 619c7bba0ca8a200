"""A result that was whole in the spool when the program died: what is known of it then."""

from pathlib import Path

import pytest
from PIL import Image

from venice_watch.job import Attempt, Charge, Job, Signature, Source, State
from venice_watch.pipeline.send import _find_whole

SIGNATURE = Signature(device=1, inode=1, size_bytes=1, mtime_ns=1, ctime_ns=1)
ATTEMPT = Attempt(
    id=7, job_id=1, work_key=b"", started_at=0.0, ended_at=None, charge=Charge.RESERVED, microusd=1
)


@pytest.mark.parametrize(
    ("source", "scale"),
    [
        (Source(kind="png", width=900, height=600, sent_width=300, sent_height=200), 1.5),
        (None, 4.0),  # of an older ledger: what was asked for is all that is known
    ],
)
def test_true_scale(tmp_path: Path, source: Source | None, scale: float) -> None:
    """The scale is what the result came to for what was sent, though more was asked for."""
    Image.new("RGB", (450, 300)).save(tmp_path / "7.png")
    job = Job(
        id=1,
        folder="photos",
        path="a.png",
        state=State.EXECUTING,
        generation=1,
        signature=SIGNATURE,
        incomplete=False,
        attempts=0,
        available_at=0.0,
        created_at=0.0,
        updated_at=0.0,
        parameters='{"scale": 4}',
        source=source,
    )
    found = _find_whole(tmp_path, job, ATTEMPT)
    assert found is not None
    assert (found.width, found.height, found.scale) == (450, 300, scale)
