"""One daemon for all writers of a module; each writer has a folder of its own in its inbox.

A `Desk` is what a writer writes on. `settle` holds for each of them, however it wrote: the
simulator's bill has the sha256 of every request's image, the archive has the originals.
"""

import contextlib
import hashlib
import io
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.component.conftest import Place, Venice, draw, wait_until

if TYPE_CHECKING:
    from tests.conftest import SimulatorProcess

WRITER_S = 60.0  # for one writer to end
LARGE = (700, 700)  # of what is broken off: more than what buffers on the way hold
SIZE = (300, 300)  # of the noise: 60 to 270 kB, several writes for every writer
ROOMS = ("photos", "kept")  # inboxes: originals are archived, or stay
# servers are started by hand here: their folder is not in everybody's path
PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
SENT_AS_IS = ("JPEG", "PNG", "WEBP")  # the bill has the very file's digest


def sha256(data: bytes) -> str:
    """Return the digest as the bill has it."""
    return hashlib.sha256(data).hexdigest()


def noise(number: int, kind: str = "PNG", size: tuple[int, int] = SIZE) -> bytes:
    """Return an image that does not compress; each number has its own content, always the same."""
    # no two formats of one content: one of them would be converted into the other's very bytes
    pixels = random.Random(f"{number} {kind}").randbytes(size[0] * size[1] * 3)
    out = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.frombytes("RGB", size, pixels).save(out, kind, **options)
    return out.getvalue()


def kind_of(data: bytes) -> str:
    """Return what Pillow calls the format, having decoded every pixel."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format or ""


def need(program: str, package: str) -> str:
    """Return where a program is, or skip the test."""
    found = shutil.which(program, path=PATH)
    if found is None:
        pytest.skip(f"apt-get install {package} to install it")
    return found


def run(*command: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":  # noqa: ANN401 - subprocess's own
    """Run a writer to its end; fail with what it said, unless it succeeds."""
    done = subprocess.run(
        command,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WRITER_S,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done


def break_off(
    target: Path, at_bytes: int, *command: str | Path, by: int, after_s: float = 0.0
) -> None:
    """Start a writer and end it by a signal, `after_s` after `target` has so many bytes."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal tells all of a program's processes, and so do we
    ) as process:
        try:
            wait_until(
                lambda: has_bytes(target, at_bytes) or process.poll() is not None,
                f"{at_bytes} bytes in {target.name}",
            )
            time.sleep(after_s)
            assert process.poll() is None, f"{command} has ended with {process.returncode}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, by)


def has_bytes(target: Path, count: int) -> bool:
    """Tell whether a file, or the newest hidden one beside it, has so many bytes."""
    there = [target, *target.parent.glob(f".{target.name}.*")]
    return any(one.exists() and one.stat().st_size >= count for one in there)


class Desk:
    """A folder of one writer in the inbox of a running daemon, and what must hold afterwards."""

    def __init__(self, place: Place, name: str, work: Path, *, room: str = "photos") -> None:
        self.place = place
        self.name = name
        self.work = work  # where a writer prepares what it brings
        self.room = room
        self.inbox = place.root / room / name
        self.inbox.mkdir()
        self._billed = len(place.venice.upscales())
        self._passed: list[str] = []

    def prepare(self, name: str, data: bytes) -> Path:
        """Put a file beside the daemon's folders, on the same file system."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def let_pass(self) -> None:
        """Let another image through: a file ready before it would have been taken too."""
        number = len(self.place.ask("SELECT 1 FROM jobs"))
        data = draw(number)
        name = f"passing-{number}.png"
        self.place.drop(name, data)
        self.place.wait_names("archive", {name})
        self._passed.append(sha256(data))

    def requests(self) -> list[str]:
        """Return the digest of every image that was sent since, those let pass excepted."""
        records = self.place.venice.bill()["records"]
        sent = [one["image_sha256"] for one in records if one["upscale"]][self._billed :]
        return [digest for digest in sent if digest not in self._passed]

    def untouched(self) -> None:
        """Fail if anything of what is written so far was taken."""
        self.let_pass()
        assert self.requests() == []

    def wait_at_rest(self, names: set[str]) -> None:
        """Wait until these originals are done, and nothing of this folder is under way."""
        if self.room == "kept":
            self.place.wait_rows(
                f"SELECT 1 FROM jobs WHERE folder = 'kept' AND state = 'completed' "
                f"AND CAST(path AS TEXT) LIKE '{self.name}/%'",
                len(names),
            )
        else:
            self.place.wait_names("archive", {f"{self.name}/{name}" for name in names})
            wait_until(lambda: not self.left(), f"{self.name} is empty: {self.left()}")
        wait_until(
            lambda: not self.jobs("state NOT IN ('completed', 'cancelled', 'discarded')"),
            f"no job of {self.name} is under way",
        )

    def left(self) -> set[str]:
        """Return the files of this writer that are still in the inbox."""
        return {
            str(path.relative_to(self.inbox)) for path in self.inbox.rglob("*") if path.is_file()
        }

    def jobs(self, where: str = "1") -> list[tuple[Any, ...]]:
        """Return (path, state, code, digest of the file) of this writer's jobs."""
        return self.place.ask(
            "SELECT CAST(path AS TEXT), state, code, lower(hex(source_sha256)) FROM jobs "
            f"WHERE CAST(path AS TEXT) LIKE '{self.name}/%' AND {where}"
        )

    def results(self, *, outbox: str = "outbox") -> list[str]:
        """Return the names of this writer's results."""
        return sorted(self._below(outbox))

    def _below(self, role: str) -> dict[str, bytes]:
        start = f"{self.name}/"
        return {
            name.removeprefix(start): data
            for name, data in self.place.read(role).items()
            if name.startswith(start)
        }

    def settle(self, files: dict[str, bytes]) -> None:
        """Fail unless each of these files was sent once, whole, and nothing else ever was."""
        self.wait_at_rest(set(files))
        assert self._below("archive") == files
        assert self.results() == sorted(str(Path(name).with_suffix(".png")) for name in files)
        assert self._below("quarantine") == {}
        done = [digest for _, state, _, digest in self.jobs() if state == "completed"]
        assert sorted(done) == sorted(map(sha256, files.values()))
        requests = self.requests()
        assert set(requests) <= set(self.place.venice.charged())
        as_is = [sha256(data) for data in files.values() if kind_of(data) in SENT_AS_IS]
        assert len(requests) == len(files), self.jobs()
        assert set(as_is) <= set(requests)


def _configure(place: Place) -> None:
    folders: list[dict[str, object]] = []
    for name in ROOMS:
        outbox = "outbox" if name == "photos" else f"{name}-outbox"
        one = {"name": name, "preset": "photo", "settle": "1s", "inbox": name, "outbox": outbox}
        originals = {"archive": "archive"} if name == "photos" else {"originals": "keep"}
        folders.append({**one, "quarantine": "quarantine", **originals})
        for folder in (name, outbox):
            (place.root / folder).mkdir(exist_ok=True)
    place.inbox = place.root / "photos"
    place.write(folders=folders)


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Return a running daemon's folders, for all writers of a module."""
    simulator: SimulatorProcess = request.getfixturevalue("_simulator_process")
    venice = Venice(simulator)
    venice.reset()
    place = Place(tmp_path_factory.mktemp("writers"), venice)
    _configure(place)
    daemon = place.ready()
    yield place
    assert daemon.stop() == 0
    place.end()


@pytest.fixture
def desk_of(place: Place, tmp_path: Path) -> Callable[..., Desk]:
    """Return a maker of desks: `name` is the writer's folder in the inbox."""
    return lambda name, **options: Desk(place, name, tmp_path, **options)


@pytest.fixture
def desk(desk_of: Callable[..., Desk], request: pytest.FixtureRequest) -> Desk:
    """Return a desk named for its test."""
    # an underscore would stand for any letter where the ledger is asked
    name = request.node.name.translate(str.maketrans("_[]. ", "-----")).strip("-")
    return desk_of(name)
