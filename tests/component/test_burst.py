"""More files at once than the kernel's queue of events holds: all are found, each once."""

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.component.conftest import Place, Venice

FILES, WRITERS = 20_000, 4  # a create and a close each: more than the 16,384 events of the queue

# Small pictures of their own, written as fast as can be: a flat PNG with a number in it.
WRITER = """
import os, struct, sys, zlib

def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

root, writer, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
head = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 256, 256, 8, 0, 0, 0, 0))
tail = chunk(b"IDAT", zlib.compress(bytes(257 * 256))) + chunk(b"IEND", b"")
for number in range(count):
    text = chunk(b"tEXt", f"n\\0{writer}-{number}".encode())
    with open(f"{root}/{writer}-{number}.png", "wb") as file:
        file.write(head + text + tail)
"""


def test_burst(place: "Place", venice: "Venice") -> None:
    """Four writers at once, faster than events can be read: every file becomes one job."""
    venice.change(latency_s=1.0)
    place.write(api={"concurrency": 1, "requests_per_minute": 1})
    daemon = place.ready()
    count = str(FILES // WRITERS)
    command = [sys.executable, "-c", WRITER, str(place.inbox)]
    writers = [subprocess.Popen([*command, str(n), count]) for n in range(WRITERS)]
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    place.wait_rows("SELECT 1 FROM jobs", FILES)
    assert place.ask("SELECT count(*), count(DISTINCT path) FROM jobs") == [(FILES, FILES)]
    assert daemon.stop() == 0
    assert place.ask("SELECT count(*) FROM jobs") == [(FILES,)]
    assert venice.totals()["upscales"] <= 1
