"""A thousand damaged pictures of every format: refused or read, in bounded memory and time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from venice_watch.images.decoder import has_heif
from venice_watch.images.signature import RASTERS

PROGRAM = Path(__file__).parent / "mutations.py"
ROOT = Path(__file__).parents[2]
MUTATIONS = int(os.environ.get("VENICE_WATCH_MUTATIONS", "1000"))  # all formats together
SEED = int(os.environ.get("VENICE_WATCH_SEED", "1"))
PEAK_BYTES_MAX = 1_000_000_000


@pytest.mark.timeout(60 + MUTATIONS // 4)
@pytest.mark.parametrize("kind", sorted(RASTERS))
def test_no_damage_crashes_hangs_or_swells(kind: str) -> None:
    """Whatever is done to a picture, it is refused or read: no crash, below 5 s and 1 GB."""
    if kind == "heic" and not has_heif():
        pytest.skip("to install its decoder: pip install -e '.[heif]'")
    count = max(1, MUTATIONS // len(RASTERS))
    done = subprocess.run(
        [sys.executable, PROGRAM, kind, str(count), str(SEED)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert sum(said["became"].values()) == count
    assert said["slowest_s"] < 5
    assert said["peak_bytes"] < PEAK_BYTES_MAX
