"""What a hostile tester once broke: each test keeps one of those doors shut.

The daemon is a real process here; where a test needs another user's rights or a death at an exact
point, a `sitecustomize` of its own prepares that process. Rights are taken from root, too: so the
tests mean the same whoever runs them.
"""

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from PIL import Image
from structlog.testing import LogCapture

from venice_watch.clock import SystemClock
from venice_watch.config.load import load
from venice_watch.daemon import opened
from venice_watch.errors import Code, ImageRefusedError, StateLockedError
from venice_watch.files import originals
from venice_watch.files.place import rename_noreplace
from venice_watch.files.source import SourceChangedError, sign
from venice_watch.images.probe import check_readable, probe
from venice_watch.pipeline import line
from venice_watch.service.lock import holder_of, locked
from venice_watch.service.systemd import Notifier

if TYPE_CHECKING:
    from tests.component.conftest import Place, Venice
    from tests.component.odd_api import OddApi

    Draw = Callable[..., bytes]

PRICE = 20_000  # micro-USD for one image at scale 2
GOLD = {"scale": 2, "enhance": True, "enhanceCreativity": 0.5, "enhancePrompt": "gold"}
FULL_IMAGES = 24  # three times as many as a small outbox holds
REFUSED_S = 5.0  # to refuse what would take a decoder minutes

# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER: what lets root write where nobody may
WITHOUT_ROOTS_RIGHTS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)()
assert libc.capget(header, data) == 0
for one in range(3):
    data[one] &= ~0b1110
assert libc.capset(header, data) == 0
"""
DEATH_AFTER_COMMIT = """
import os, signal
from venice_watch.files.spool import SpoolFile
commit = SpoolFile.commit
def commit_and_die(self, name):
    commit(self, name)
    os.kill(os.getpid(), signal.SIGKILL)
SpoolFile.commit = commit_and_die
"""


def prepared(place: "Place", text: str) -> None:
    """Let every process that this place starts from now on run `text` first."""
    site = place.root / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(text)
    earlier = os.environ.get("PYTHONPATH")
    place.environment["PYTHONPATH"] = f"{site}{os.pathsep}{earlier}" if earlier else str(site)


def unprepared(place: "Place") -> None:
    """Start the next processes as they are."""
    (place.root / "site/sitecustomize.py").write_text("")


def folder_of(place: "Place", name: str, **facts: object) -> dict[str, object]:
    """Make one more folder's folders, and return its part of the configuration."""
    section: dict[str, object] = {"name": name, "preset": "photo", "settle": "300ms"}
    for role in ("inbox", "outbox", "quarantine", "archive"):
        (place.root / name / role).mkdir(parents=True)
        section[role] = f"{name}/{role}"
    return section | facts


@contextlib.contextmanager
def locked_away(folder: Path, mode: int = 0) -> Iterator[None]:
    """Take a folder's rights away, and give them back."""
    earlier = folder.stat().st_mode & 0o7777
    folder.chmod(mode)
    try:
        yield
    finally:
        folder.chmod(earlier)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a small file system over a folder; skip where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"this user may not mount: {exc}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def odd_api(draw: "Draw") -> Iterator[Callable[..., "OddApi"]]:
    """Return a maker of fake APIs that answer with a picture twice as large as `draw`'s."""
    path = Path(__file__).with_name("odd_api.py")
    spec = importlib.util.spec_from_file_location("odd_api", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.ExitStack() as stack:

        def make(host: str = "127.0.0.1") -> "OddApi":
            api: OddApi = stack.enter_context(module.OddApi(host))
            api.image = draw(0, size=(512, 512))
            thread = threading.Thread(target=api.serve_forever, args=(0.05,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(api.shutdown)
            return api

        yield make


# A1: paid once, whatever then stands between the result and its name.


def test_sub_folder_locked_before(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """An outbox sub-folder that may not be written costs nothing, and holds only its images."""
    prepared(place, WITHOUT_ROOTS_RIGHTS)
    place.drop("sub/a.png", draw(1))
    place.drop("b.png", draw(2))
    (place.outbox / "sub").mkdir()
    with locked_away(place.outbox / "sub"):
        daemon = place.start()
        daemon.wait_event("image.held", path="sub/a.png")
        place.wait_names("archive", {"b.png"})
        assert venice.totals()["charges"] == 1
    place.wait_names("archive", {"sub/a.png"})
    assert daemon.stop() == 0
    assert venice.totals()["charges"] == 2


def test_sub_folder_locked_after(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A sub-folder locked after payment: one charge, no more is begun, delivered once mended."""
    prepared(place, WITHOUT_ROOTS_RIGHTS)
    venice.change(latency_s=1.0)
    place.drop("sub/a.png", draw(1))
    (place.outbox / "sub").mkdir()
    daemon = place.start()
    venice.wait(received=1)
    with locked_away(place.outbox / "sub"):
        daemon.wait_event("delivery.failed", path="sub/a.png")
        for number in range(2, 8):
            place.drop(f"b{number}.png", draw(number))
        reason = daemon.wait_event("folder.held")["reason"]
        assert "sub/a.png" in reason
        assert venice.totals()["charges"] == 1
    place.wait_names("archive", {"sub/a.png"})
    assert daemon.stop() == 0
    assert "sub/a.png" in place.names("outbox")
    assert place.ask(
        "SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE "
        "j.path = CAST('sub/a.png' AS BLOB)"
    ) == [(1,)]
    assert set(place.money()) == {"charged"}


def test_name_beyond_the_longest_path(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A result whose path is too long to be asked for is paid once, kept, and delivered later."""
    longest = os.pathconf(place.root, "PC_PATH_MAX")
    length = longest - len(os.fsencode(place.outbox)) - 100
    # all of the length, whatever the folders of this test are called
    parts = [*["d" * 200] * (length // 201), "d" * max(1, length % 201 - 1)]
    deep = "/".join([*parts, "a.png"])
    (place.root / ("o" * 200)).mkdir()
    place.write(outbox="o" * 200)
    place.drop(deep, draw(1))
    daemon = place.start()
    daemon.wait_event("delivery.failed")
    assert daemon.stop() == 0
    assert place.money() == {"charged": PRICE}
    place.write()
    assert place.once()[0] == 0
    assert place.names("outbox") == place.names("archive") == {deep}
    assert venice.totals()["charges"] == 1


# A2: nothing is sent before the contract is known.


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "overloaded", "value": "0"},  # meets the request that asks for the contract
        {"fault": "unavailable"},
    ],
    ids=["429", "503"],
)
def test_contract_not_known_at_once(
    place: "Place", venice: "Venice", draw: "Draw", fault: dict[str, str]
) -> None:
    """A start at which the question for the contract fails once strips nothing that is paid for."""
    venice.fail(times=1, **fault)
    place.write(
        api={"contract": "auto"}, presets={"gold": GOLD}, preset="gold", on_unsupported="drop"
    )
    place.drop("a.png", draw(1))
    daemon = place.start()
    place.wait_names("archive", {"a.png"})
    assert daemon.stop() == 0
    [record] = venice.upscales()
    assert set(GOLD) <= set(record["fields"])
    assert record["fields"]["enhancePrompt"] == "gold"
    assert venice.totals()["charges"] == 1


@pytest.mark.parametrize("on_unsupported", ["hold", "drop"])
def test_once_with_a_slow_free_endpoint(
    place: "Place", odd_api: "Callable[..., OddApi]", draw: "Draw", on_unsupported: str
) -> None:
    """`once` waits for the first free answers, then sends all that was asked for."""
    api = odd_api()
    api.free_wait_s = 0.4
    place.write(
        api={"base_url": api.base_url, "contract": "auto"},
        presets={"gold": GOLD},
        preset="gold",
        on_unsupported=on_unsupported,
        output={"metadata": "strip"},
    )
    place.drop("a.png", draw(1))
    code, program = place.once()
    assert code == 0, program.stdout
    assert place.read("outbox") == {"a.png": api.image}
    assert not program.find("folder.held")
    [body] = api.paid
    for name in GOLD:
        assert f'name="{name}"'.encode() in body


def test_contract_that_cannot_be_found_out(
    place: "Place", odd_api: "Callable[..., OddApi]", draw: "Draw"
) -> None:
    """Against a server whose contract stays unknown, `drop` drops nothing: the folder is held."""
    api = odd_api()
    api.contract_answer = (b"404 Not Found", b"{}")
    place.write(
        api={"base_url": api.base_url, "contract": "auto"},
        presets={"gold": GOLD},
        preset="gold",
        on_unsupported="drop",
    )
    place.drop("a.png", draw(1))
    code, program = place.once()
    assert code == 1
    assert "enhancePrompt" in program.stdout
    assert "api.contract" in program.stdout
    assert api.paid == []


# A3: the sweep for originals that are owed.


def test_sweep_spares_what_is_in_hand(place: "Place", draw: "Draw") -> None:
    """An original that a task is putting away is not touched by the sweep; a forgotten one is."""
    log = LogCapture()
    config, job_ids = _owing(place, draw)

    async def sweep() -> tuple[list[int], set[str], set[str]]:
        logger = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[log])
        async with opened(
            config, "key", command="run", clock=SystemClock(), log=logger, notifier=Notifier({})
        ) as daemon:
            owed = [job.id for job in await daemon._ledger.owed()]
            await line.put_owed_away(daemon._parts, daemon._folders, without=set(owed))
            spared = place.names("archive")
            # two at a time, as task and sweep once were
            await asyncio.gather(
                line.put_owed_away(daemon._parts, daemon._folders),
                line.put_owed_away(daemon._parts, daemon._folders),
            )
            assert await daemon._ledger.owed() == []
            assert daemon._parts.tally.stuck == {}
            return owed, spared, place.names("archive")

    owed, spared, swept = asyncio.run(sweep())
    assert owed == job_ids
    assert spared == set()
    assert swept == {"a.png", "b.png"}
    assert not [entry for entry in log.entries if entry["log_level"] == "error"]


def _owing(place: "Place", draw: "Draw") -> tuple[Any, list[int]]:
    """Deliver two results while the archive is away; return the configuration and the jobs."""
    away = place.root / "away"
    place.drop("a.png", draw(1))
    place.drop("b.png", draw(2))
    place.venice.change(latency_s=1.0)
    daemon = place.start()
    place.venice.wait(received=2)
    place.archive.rename(away)
    daemon.wait_event("original.stuck", times=2)
    assert daemon.stop() == 0
    away.rename(place.archive)
    ids = [row[0] for row in place.ask("SELECT id FROM jobs ORDER BY id")]
    return load(place.config, environment={}), ids


# A4, A5: odd headers on good answers.


def test_limit_of_many_digits(
    place: "Place", odd_api: "Callable[..., OddApi]", draw: "Draw"
) -> None:
    """A rate limit that is too long for a number does not take the paid result with it."""
    api = odd_api()
    api.paid_headers = [(b"x-ratelimit-limit-requests", b"9" * 4301)]
    place.write(api={"base_url": api.base_url}, output={"metadata": "strip"})
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert place.read("outbox") == {"a.png": api.image}
    assert len(api.paid) == 1
    assert place.money() == {"charged": PRICE}


@pytest.mark.parametrize("cookie", [b"\xff=\xff", b"\xff=\xff; path=/", b"a=b; path=/"])
def test_cookies(place: "Place", odd_api: "Callable[..., OddApi]", cookie: bytes) -> None:
    """Cookies on free and paid answers do no harm, and none is ever sent back."""
    api = odd_api()
    api.free_headers = api.paid_headers = [(b"Set-Cookie", cookie)]
    place.write(api={"base_url": api.base_url, "contract": "auto", "concurrency": 1})
    names = set(place.drop_many(3))
    assert place.once()[0] == 0
    assert place.names("outbox") == names
    assert len(api.paid) == 3
    assert set(place.money()) == {"charged"}
    assert len(api.heads) >= 5, "the free requests and three images"
    assert not [head for head in api.heads if b"\r\ncookie:" in head.lower()]


# A6, B3: the spool.


def test_spool_of_a_folder_out_of_the_configuration(
    place: "Place", venice: "Venice", draw: "Draw"
) -> None:
    """A paid result of a folder that is away from the configuration is kept for its return."""
    place.drop("a.png", draw(1))
    prepared(place, DEATH_AFTER_COMMIT)
    assert place.start().wait() < 0
    unprepared(place)
    spooled = place.read("state/spool")
    assert [name for name in spooled if name.endswith(".png")]
    place.write(folders=[folder_of(place, "other")])
    for _ in range(2):
        assert place.ready().stop() == 0
        assert place.read("state/spool") == spooled
    place.write()
    assert place.once()[0] == 0
    assert place.names("outbox") == place.names("archive") == {"a.png"}
    assert place.unaccounted() == set()
    assert venice.totals()["charges"] == 1


def test_foreign_files_in_the_spool(place: "Place") -> None:
    """Only leftovers of our own are cleared from the spool; what else lies there stays."""
    spool = place.state / "spool"
    spool.mkdir(parents=True)
    foreign = {"holiday.jpg", "print-job-0001", "7.PNG", "07x.png", "my 7.png", "abc.part"}
    for name in foreign | {"7.png", "0123456789abcdef.part"}:
        (spool / name).write_bytes(b"mine")
    (spool / "8.png").mkdir()
    (spool / "9.png").symlink_to("holiday.jpg")
    assert place.ready().stop() == 0
    assert {path.name for path in spool.iterdir()} == foreign | {"8.png", "9.png"}


# A7, A8, A9: before and after the money.


def test_deleted_while_halted(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A file that its owner deletes while nothing is sent is not paid for once it goes on."""
    venice.fail("unauthorized", path="/api_keys/rate_limits", times=1)
    path = place.drop("a.png", draw(1))
    daemon = place.start()
    daemon.wait_event("account.unusable")
    place.wait_rows("SELECT 1 FROM jobs WHERE state = 'executing'", 1)
    path.unlink()
    daemon.wait_event("account.ready")
    daemon.wait_event("image.gone", path="a.png")
    place.drop("b.png", draw(2))
    place.wait_names("archive", {"b.png"})
    assert daemon.stop() == 0
    assert place.names("outbox") == {"b.png"}
    assert venice.totals()["charges"] == 1


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ((256, 256), (256, 256)),
        ((256, 256), (200, 200)),
        ((256, 256), (300, 300)),  # nothing asked for a reduction
        ((2000, 2000), (2000, 2000)),  # near the limit the server may reduce, but not so far
    ],
    ids=["the same", "smaller", "hardly larger", "the same, near the limit"],
)
def test_result_smaller_than_asked_for(
    place: "Place",
    odd_api: "Callable[..., OddApi]",
    draw: "Draw",
    sent: tuple[int, int],
    answered: tuple[int, int],
) -> None:
    """A result that is not as large as it must be is no result: paid, lost, and said so."""
    api = odd_api()
    api.image = draw(7, size=answered)
    place.write(api={"base_url": api.base_url, "on_in_doubt": "hold"})
    original = draw(1, size=sent)
    place.drop("a.png", original)
    assert place.once()[0] == 1
    assert place.names("outbox") == set()
    assert place.read("quarantine")["a.png"] == original
    [attempt] = place.report("a.png")["attempts"]
    assert attempt["charge"] == "lost"
    assert place.money() == {"lost": PRICE}


def test_spool_that_cannot_be_opened(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Where a result could not be kept, no request is sent and no money is put down."""
    prepared(place, WITHOUT_ROOTS_RIGHTS)
    spool = place.state / "spool"
    spool.mkdir(parents=True)
    place.drop("a.png", draw(1))
    with locked_away(spool, 0o500):
        code, program = place.once()
    assert code == 1
    assert "spool" in program.stdout
    assert place.ask("SELECT count(*) FROM attempts") == [(0,)]
    assert venice.upscales() == []
    assert place.names("inbox") == {"a.png"}
    assert place.once()[0] == 0


# B1, B2, B4, B5, B7, B8: originals and results, each in its one place.


class Race:
    """An inbox in which others put a newer file into place around our rename, twice."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.inbox, self.archive = root / "inbox", root / "archive"
        self.inbox.mkdir()
        self.archive.mkdir()
        self.path = self.inbox / "x.png"
        self.path.write_text("first")
        self.expected = sign(self.path.stat())
        pending = iter(("second", "third"))

        def rename_in_a_race(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - the real one's
            self._replace(next(pending, None))
            rename_noreplace(*arguments, **options)
            self._replace(next(pending, None))

        monkeypatch.setattr(originals, "rename_noreplace", rename_in_a_race)

    def run(self, end: str) -> None:
        """Put the first version away."""
        if end == "move":
            originals.move_original(
                self.inbox,
                "x.png",
                self.expected,
                self.archive / "x.png",
                target_root=self.archive,
            )
        else:
            originals.delete_original(self.inbox, "x.png", self.expected)

    def _replace(self, text: str | None) -> None:
        if text is not None:
            newcomer = self.root / "newcomer"
            newcomer.write_text(text)
            newcomer.rename(self.path)

    def texts(self) -> list[str]:
        """Return what is anywhere below, hidden names included."""
        return sorted(path.read_text() for path in self.root.rglob("*") if path.is_file())


@pytest.mark.parametrize("end", ["move", "delete"])
def test_two_newcomers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Files that take an original's place around its move or removal are all kept, visibly."""
    race = Race(tmp_path, monkeypatch)
    with pytest.raises(SourceChangedError):
        race.run(end)
    assert race.texts() == ["second", "third"]
    assert race.path.read_text() == "third"
    assert len([path for path in race.inbox.iterdir() if path.name[0] != "."]) == 2


@pytest.mark.root
@pytest.mark.parametrize("kernel_helps", [True, False], ids=["renameat2", "links"])
def test_forbidden_rename_leaves_no_link(tmp_path: Path, *, kernel_helps: bool) -> None:
    """A file that may not be moved is left where it is, under one name."""
    if os.geteuid() != 0:
        pytest.skip("only root makes files of two other users")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    source, target = inbox / "x.png", tmp_path / "x.png"
    source.write_text("theirs")
    os.chown(inbox, 1234, 1234)
    os.chown(source, 1235, 1235)
    source.chmod(0o666)  # so that the kernel allows a link to it
    inbox.chmod(0o1777)
    script = f"""
from venice_watch.files import place
if not {kernel_helps}:
    place._RENAME_NOREPLACE = 1 << 15  # a kind of rename that no kernel knows
try:
    place.rename_noreplace({os.fsencode(source)!r}, {os.fsencode(target)!r})
except PermissionError:
    print("refused")
"""
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT_ROOTS_RIGHTS + script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stdout == "refused\n", child.stderr
    assert source.stat().st_nlink == 1
    assert not target.exists()


def test_report_of_another_ledger(place: "Place") -> None:
    """After a new beginning of the state folder, the older reports in the quarantine stay."""
    for text in (b"text one", b"text two, another"):
        place.drop("x.jpg", text)
        assert place.once()[0] == 1
        shutil.rmtree(place.state)
    quarantined = place.read("quarantine")
    names = {name for name in quarantined if not name.endswith(".error.json")}
    assert {quarantined[name] for name in names} == {b"text one", b"text two, another"}
    assert set(quarantined) == names | {f"{name}.error.json" for name in names}
    jobs = {place.report(name)["job"] for name in names}
    assert len(jobs) == 2


def test_folder_named_like_a_result(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Images below a folder named like a delivered result wait, unpaid, and the reason is said."""
    place.drop("trip.png", draw(1))
    assert place.once()[0] == 0
    place.drop("trip.png/a.png", draw(2))
    code, program = place.once()
    assert code == 1
    assert "trip.png/a.png is held: " in program.stdout
    assert place.names("inbox") == {"trip.png/a.png"}
    assert venice.totals()["charges"] == 1


def test_spooled_result_vanished(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A paid result that somebody removed from the spool is reported, and not paid for again."""
    venice.change(latency_s=1.0)
    original = draw(1)
    place.drop("a.png", original)
    daemon = place.start()
    venice.wait(received=1)
    place.outbox.rename(place.root / "away")
    daemon.wait_event("delivery.failed")
    [name] = place.names("state/spool")
    assert daemon.stop() == 0
    (place.state / "spool" / name).unlink()
    assert place.once()[0] == 1
    assert place.names("quarantine") == {"a.png", "a.png.error.json"}
    report = place.report("a.png")
    assert report["code"] == "not_delivered"
    assert report["charged_usd"] == 0.02
    assert place.read("quarantine")["a.png"] == original
    assert venice.totals()["charges"] == 1


@pytest.mark.root
def test_full_outbox(place: "Place", venice: "Venice") -> None:
    """A full outbox stops its folder after a few; all that was paid for is delivered or kept."""
    noise = random.Random(1)
    with mounted(place.outbox, "size=1800k"):
        for number in range(FULL_IMAGES):
            out = io.BytesIO()
            Image.frombytes("RGB", (256, 256), noise.randbytes(3 * 256 * 256)).save(out, "PNG")
            place.drop(f"n{number:02}.png", out.getvalue())
        daemon = place.start()
        daemon.wait_event("folder.held")
        place.wait_rows("SELECT 1 FROM jobs", FULL_IMAGES)
        assert daemon.stop() == 0
        [(staged,)] = place.ask("SELECT count(*) FROM jobs WHERE state = 'staged'")
        paid = venice.totals()["charges"]
        assert 0 < paid < FULL_IMAGES - 6, "about seven fit, and six more are under way at most"
        assert paid == len(place.names("outbox")) + staged


# C: one folder's, or one file's, trouble is nobody else's.


@pytest.mark.parametrize(("role", "mode"), [("outbox", 0o300), ("quarantine", 0)])
def test_unreadable_folder_at_start(place: "Place", draw: "Draw", role: str, mode: int) -> None:
    """A folder that cannot be read at the start does not keep the other folders from their work."""
    prepared(place, WITHOUT_ROOTS_RIGHTS)
    place.write(folders=[folder_of(place, "sick"), folder_of(place, "well")])
    (place.root / "well/inbox/a.png").write_bytes(draw(1))
    with locked_away(place.root / "sick" / role, mode):
        daemon = place.ready()
        assert daemon.find("leftovers.stay", folder="sick")
        place.wait_names("well/archive", {"a.png"})
        assert daemon.stop() == 0


def test_limited_folders_starve_nobody(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Two folders of one request at a time leave the other places to a third."""
    venice.change(latency_s=0.5)
    names = ("a", "b")
    limited = [folder_of(place, name, concurrency=1) for name in names]
    place.write(folders=[*limited, folder_of(place, "c")])
    for number in range(16):
        inbox = place.root / names[number % 2] / "inbox"
        (inbox / f"{number}.png").write_bytes(draw(number + 1))
    daemon = place.ready()
    place.wait_rows("SELECT 1 FROM jobs", 16)
    (place.root / "c/inbox/z.png").write_bytes(draw(99))
    place.wait_names("c/outbox", {"z.png"})
    done = len(place.names("a/outbox")) + len(place.names("b/outbox"))
    daemon.kill()
    assert done <= 10, "it had to wait for the others' backlog"


def jpeg_of_scans(extra: int) -> bytes:
    """Return a JPEG of 1024 x 1024 pixels whose last scan is repeated so often."""
    out = io.BytesIO()
    Image.new("L", (1024, 1024), 128).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4", 0, last)
    begin = tables if data[tables:last].count(b"\xff\xda") == 0 else last
    return data[:-2] + data[begin:-2] * extra + b"\xff\xd9"


def test_jpeg_of_many_scans(place: "Place", venice: "Venice") -> None:
    """A small JPEG that would keep a decoder busy for minutes is refused at once, for free."""
    data = jpeg_of_scans(10_000)
    began = time.monotonic()
    with pytest.raises(ImageRefusedError, match="passes") as refused:
        check_readable(data, probe(data))
    assert time.monotonic() - began < REFUSED_S
    place.drop("bomb.jpg", data)
    assert place.once()[0] == 1
    assert place.report("bomb.jpg")["code"] == refused.value.code
    assert refused.value.code in set(Code)
    assert venice.upscales() == []


def test_ordinary_progressive_jpeg(place: "Place") -> None:
    """A progressive JPEG of a few scans more than usual is an image like any other."""
    place.drop("a.jpg", jpeg_of_scans(5))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png"}


def test_held_folder_is_left_in_peace(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """While a folder is held, its images are not taken up again and again."""
    images = 40
    place.write(
        api={"contract": "creativity"},
        presets={"gold": GOLD},
        folders=[folder_of(place, "held", preset="gold"), folder_of(place, "free")],
    )
    for number in range(images):
        (place.root / f"held/inbox/{number}.png").write_bytes(draw(number))
    daemon = place.start()
    daemon.wait_event("folder.held", folder="held")
    place.wait_rows("SELECT 1 FROM jobs", images)
    for number in range(4):  # each comes and goes, and wakes the dispatcher many times
        (place.root / f"free/inbox/{number}.png").write_bytes(draw(number))
        place.wait_names("free/archive", {f"{number}.png"})
    assert daemon.stop() == 0
    query = "SELECT sum(generation), max(generation) FROM jobs WHERE folder = 'held'"
    [(steps, most)] = place.ask(query)
    assert most <= 2, "an image was taken up twice: claimed and put back is two steps"
    assert steps <= 2 * (4 + 2), "more than the places and the images read ahead"
    assert len(daemon.find("folder.held")) == 1
    assert venice.totals()["charges"] == 4


@pytest.mark.root
def test_lock_on_a_full_disk(tmp_path: Path) -> None:
    """On a full disk the lock holds all the same; who holds it merely stays unsaid."""
    with mounted(tmp_path, "size=64k"):
        with contextlib.suppress(OSError), (tmp_path / "filler").open("wb", buffering=0) as file:
            for size in (4096, 1):
                while file.write(b"x" * size) == size:
                    pass
        with locked(tmp_path, "run"):
            holder = holder_of(tmp_path)
            assert holder is not None
            assert holder.pid == 0
            with pytest.raises(StateLockedError, match="another process"), locked(tmp_path, "run"):
                pass
        assert holder_of(tmp_path) is None


# D1: the key stays on this machine.


def test_no_proxy_for_loopback(
    place: "Place", odd_api: "Callable[..., OddApi]", draw: "Draw"
) -> None:
    """Plain HTTP to any loopback address goes by no proxy, whatever the environment says."""
    api, proxy = odd_api("127.0.0.2"), odd_api()
    address = proxy.base_url.removesuffix("/api/v1")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        place.environment[name] = address
    for name in ("NO_PROXY", "no_proxy"):
        place.environment[name] = ""
    place.write(api={"base_url": api.base_url, "contract": "auto"})
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert len(api.paid) == 1
    assert proxy.heads == []


# E: what is said.


def test_first_skip_of_each_kind(place: "Place", draw: "Draw") -> None:
    """Names that are left alone are logged once a kind, with an example."""
    for name in (".hidden.png", ".other.png", "#1 beach.png", "a.png.part", "b.png.part"):
        place.drop(name, draw(1))
    daemon = place.ready()
    place.drop("good.png", draw(2))
    place.wait_names("archive", {"good.png"})
    assert daemon.stop() == 0
    told = daemon.find("names.skipped")
    reasons = [event["reason"] for event in told]
    assert sorted(reasons) == ["hidden", "temporary"]
    examples = {event["such_as"] for event in told}
    assert examples & {"a.png.part", "b.png.part"}
    assert examples & {".hidden.png", ".other.png", "#1 beach.png"}


def test_once_without_an_inbox(place: "Place") -> None:
    """`once` fails where the inbox is not there, and says which and why."""
    place.inbox.rmdir()
    code, program = place.once()
    assert code == 1
    assert f"folder photos could not be read: {place.inbox}: it is not there" in program.stdout


def test_once_with_an_unreadable_file(place: "Place", draw: "Draw") -> None:
    """`once` says why it left a file where it is, and does not end as if all were done."""
    prepared(place, WITHOUT_ROOTS_RIGHTS)
    place.drop("a.png", draw(1)).chmod(0)
    place.drop("b.png", draw(2))
    code, program = place.once()
    assert code == 75
    assert "a.png was left where it is: it cannot be opened: Permission denied" in program.stdout
    assert place.names("outbox") == {"b.png"}


def test_once_with_a_held_image(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """An image held by a broken `.venice-watch.yaml` does not keep `once` from ending."""
    place.write(folder_presets=True)
    place.drop("sub/a.png", draw(1))
    place.drop("b.png", draw(2))
    (place.inbox / "sub/.venice-watch.yaml").write_text("preset: [no")
    code, program = place.once()
    assert code == 1
    assert "sub/a.png is held: " in program.stdout
    assert ".venice-watch.yaml" in program.stdout
    assert place.names("outbox") == {"b.png"}
    assert venice.totals()["charges"] == 1


def test_status_of_an_evil_name(place: "Place") -> None:
    """A file name with a line end and an escape is one harmless line of `status`."""
    name = "a\n  2026-01-01  completed  a_fake\x1b[31m.jpg"
    place.drop(name, b"text")
    assert place.once()[0] == 1
    program = place.run("status")
    assert program.wait() == 0
    [shown] = [row for row in program.stdout.split("\n") if "a_fake" in row]
    assert "discarded" in shown
    assert shown.isprintable()
    facts = json.loads(place.run("status", "--json").stdout)
    assert [job["path"] for job in facts["recent"]] == [name]
