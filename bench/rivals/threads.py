"""What a user would write in an hour: watchdog, threads, httpx. See `curl.sh` for the arguments."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

inbox, outbox, concurrency, base_url, key = sys.argv[1:]
client = httpx.Client(
    headers={"Authorization": f"Bearer {key}"},
    timeout=300,
    limits=httpx.Limits(max_connections=int(concurrency)),
)
pool = ThreadPoolExecutor(int(concurrency))


def upscale(path: Path) -> None:
    """Send one image and write its result."""
    files, data = {"image": path.read_bytes()}, {"scale": "2"}
    answer = client.post(f"{base_url}/image/upscale", files=files, data=data)
    answer.raise_for_status()
    (Path(outbox) / path.name).write_bytes(answer.content)


class Handler(FileSystemEventHandler):
    """Send what is closed or moved in."""

    def on_closed(self, event: FileSystemEvent) -> None:
        """Take a file that was written."""
        pool.submit(upscale, Path(str(event.src_path)))

    def on_moved(self, event: FileSystemEvent) -> None:
        """Take a file that was moved in."""
        pool.submit(upscale, Path(str(event.dest_path)))


observer = Observer()
observer.schedule(Handler(), inbox)
observer.start()
while True:
    time.sleep(60)
