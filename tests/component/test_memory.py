"""How much memory the largest usual pictures take, the processes that decode them included."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.component.conftest import Place, Program, Venice

AT_A_TIME = 8
SIDES = (6_000, 4_000)
FILE_BYTES = (20_000_000, 25_000_000)
RESIDENT_BYTES_MAX = 350_000_000


def photographs(count: int) -> list[bytes]:
    """Return JPEGs of 24 megapixels and about as many megabytes, as different as need be."""
    bands = [Image.effect_noise(SIDES, sigma) for sigma in (40, 45, 50)]
    picture = Image.merge("RGB", bands)
    found = []
    for number in range(count):
        picture.paste((number * 9, 100, 200), (0, 0, 800, 800))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=95)
        assert FILE_BYTES[0] < buffer.tell() < FILE_BYTES[1], buffer.tell()
        found.append(buffer.getvalue())
    return found


def resident_bytes(pid: int, *, peak: bool = False) -> int:
    """Return how much memory a process has, or had at most; 0 for one that has ended."""
    word = "VmHWM:" if peak else "VmRSS:"
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(word)), 0)


def children(daemon: "Program") -> list[int]:
    """Return the processes that a daemon has begun."""
    found = []
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        try:
            found += [int(one) for one in (task / "children").read_text().split()]
        except OSError:
            continue  # a thread that has just ended
    return found


@pytest.mark.timeout(300)
def test_eight_large_photographs(place: "Place", venice: "Venice") -> None:
    """Eight photographs of 24 megapixels and 24 MB in flight stay below 350 MB in all."""
    venice.change(latency_s=20.0)  # as long as eight take to be made ready
    place.write(api={"concurrency": AT_A_TIME, "timeouts": {"total": "200s", "read": "90s"}})
    for number, data in enumerate(photographs(AT_A_TIME)):
        (place.root / f"{number}.jpg").write_bytes(data)
    daemon = place.ready()
    names = {f"{number}.jpg" for number in range(AT_A_TIME)}
    for name in names:
        (place.root / name).rename(place.inbox / name)
    most_bytes = 0
    while not names <= place.names("archive"):
        together = [daemon.pid, *children(daemon)]
        most_bytes = max(most_bytes, sum(map(resident_bytes, together)))
    peak_bytes = resident_bytes(daemon.pid, peak=True)
    assert daemon.stop() == 0
    assert venice.totals()["charges"] == AT_A_TIME
    assert venice.totals()["in_flight_max"] >= AT_A_TIME - 1
    assert peak_bytes < RESIDENT_BYTES_MAX
    assert most_bytes < RESIDENT_BYTES_MAX, f"{most_bytes / 1e6:.0f} MB in all"
