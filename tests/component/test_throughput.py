"""Many images at once, and what others see of the outbox while they arrive."""

import io
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from PIL import Image

if TYPE_CHECKING:
    from tests.component.conftest import Place, Venice

IMAGES = 100
MEGAPIXEL = (1250, 800)
OLD_NS = 1_234_567_890_123_456_789  # a time with nanoseconds, long gone


class Watcher:
    """Decodes every file of a folder the moment its name appears, as an impatient viewer does."""

    def __init__(self, folder: Path) -> None:
        self.seen: set[str] = set()
        self.broken: list[str] = []
        self.temporary: set[str] = set()
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._look()
            self._over.wait(0.001)
        self._look()

    def _look(self) -> None:
        for name in {path.name for path in self._folder.iterdir()} - self.seen:
            if name.startswith(".venice-watch-"):
                self.temporary.add(name)
                continue
            self.seen.add(name)
            try:
                with Image.open(self._folder / name) as image:
                    image.load()
            except (OSError, SyntaxError) as exc:
                self.broken.append(f"{name}: {exc}")


def draw_megapixel(path: Path, number: int) -> bytes:
    """Write a photo of one megapixel, quick to make, each with other pixels."""
    colour = (number * 2, 255 - number, number * 7 % 256)
    Image.new("RGB", MEGAPIXEL, colour).save(path, "JPEG", quality=80)
    os.utime(path, ns=(OLD_NS + number, OLD_NS + number))
    return path.read_bytes()


def test_hundred_images(place: "Place", venice: "Venice") -> None:
    """A hundred images of a megapixel arrive whole, each paid once, never more than 8 in flight."""
    venice.change(latency_s=1.0, pixels="nearest")
    place.write(api={"concurrency": 8})
    before = {}
    for number in range(IMAGES):
        name = f"photo-{number:03}.jpg"
        before[name] = draw_megapixel(place.inbox / name, number)
    daemon = place.ready()
    results = {name.replace(".jpg", ".png") for name in before}
    place.wait_names("outbox", results)
    daemon.wait_event("image.completed", IMAGES)
    assert daemon.stop() == 0

    assert place.sizes() == dict.fromkeys(results, (2500, 1600))
    assert place.read("archive") == before
    times = {path.name: path.stat().st_mtime_ns for path in place.archive.iterdir()}
    assert times == {f"photo-{number:03}.jpg": OLD_NS + number for number in range(IMAGES)}
    assert place.names("inbox") == set()
    totals = venice.totals()
    assert totals["charges"] == IMAGES
    assert totals["charged_microusd"] == IMAGES * 20_000
    assert 6 <= totals["in_flight_max"] <= 8
    [folder] = json.loads(place.run("status", "--json").stdout)["folders"]
    assert (folder["completed"], folder["spent_usd"], folder["waiting"]) == (IMAGES, 2.0, 0)
    assert f"{IMAGES}            0     2.00" in place.run("status").stdout


def test_nobody_sees_a_part(place: "Place") -> None:
    """Whoever opens a result the moment it appears finds it whole, and no temporary file stays."""
    pictures = place.drop_many(24, size=(600, 400))
    with Watcher(place.outbox) as watcher:
        code, _ = place.once()
    assert code == 0
    assert watcher.seen == set(pictures)
    assert watcher.broken == []
    assert place.names("outbox") == set(pictures)
    assert place.unaccounted() == set()


def test_names_that_clash(place: "Place") -> None:
    """Two sources of one result name both arrive, and a file of the user's is left as it is."""
    mine = b"the user's own"
    (place.outbox / "a.png").write_bytes(mine)
    (place.outbox / "b.png").symlink_to("nowhere")
    jpeg, tiff = draw_jpeg(1), draw_jpeg(2, kind="TIFF")
    place.drop("a.jpg", jpeg)
    place.drop("a.tif", tiff)
    place.drop("b.jpg", draw_jpeg(3))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png", "a-1.png", "a-2.png", "b.png", "b-1.png"}
    assert (place.outbox / "a.png").read_bytes() == mine
    assert (place.outbox / "b.png").readlink() == Path("nowhere")
    assert place.read("outbox")["a-1.png"] != place.read("outbox")["a-2.png"]
    assert {"a.jpg": jpeg, "a.tif": tiff}.items() <= place.read("archive").items()


def draw_jpeg(number: int, kind: str = "JPEG") -> bytes:
    """Return a flat picture."""
    out = io.BytesIO()
    Image.new("RGB", (300, 300), (number * 20, 10, 10)).save(out, kind)
    return out.getvalue()


def test_overwrite(place: "Place") -> None:
    """With `on_conflict: overwrite` the newest result takes the name, and no other file appears."""
    (place.outbox / "a.png").write_bytes(b"old")
    place.write(output={"on_conflict": "overwrite"})
    place.drop("a.jpg", draw_jpeg(1))
    assert place.once()[0] == 0
    assert place.sizes() == {"a.png": (600, 600)}


def test_skip_what_is_there(place: "Place", venice: "Venice") -> None:
    """With `on_conflict: skip` nothing is sent for a result that is there already."""
    (place.outbox / "a.png").write_bytes(b"old")
    place.write(output={"on_conflict": "skip"})
    data = draw_jpeg(1)
    place.drop("a.jpg", data)
    place.drop("b.jpg", draw_jpeg(2))
    assert place.once()[0] == 0
    assert place.read("outbox")["a.png"] == b"old"
    assert place.names("outbox") == {"a.png", "b.png"}
    assert place.read("inbox") == {"a.jpg": data}
    assert venice.totals()["charges"] == 1
