"""One user's folders under a program that is killed, and everything that must hold all the same.

`check` asserts what is true at any moment, `check_end` what is true once nothing is left to do.
Both look at the folders, at the ledger and at the simulator's bill, never at the program.
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.component.conftest import Place, Venice, draw, wait_until

DEADLINE_S = 20.0  # for one run; the usual one takes a tenth of a second
STOP_S = 20.0
TEMPORARY = ".venice-watch-"
REPORT = ".error.json"
SIZE = (256, 256)
RESULT_SIZE = (512, 512)
DPI = (300, 300)
LOG_LINES = 60  # shown of a failed world's log
ACTIVE = "('available', 'executing', 'in_doubt', 'staged')"
DONE = (0, 1, 75)  # exit codes of a run that came to its end
DOUBTS_MAX = 2  # one resend, ever
NUMBERS = itertools.count(1)  # no two worlds of a process have an image in common


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one `once` went."""

    code: int  # negative: the signal that ended it
    count: int  # of steps
    names: list[str]
    plan: dict[str, object]

    @property
    def survived(self) -> bool:
        """Tell whether the chosen step never came."""
        return self.code >= 0

    def __str__(self) -> str:
        last = self.names[-1] if self.names else "nothing"
        return f"{self.plan} ended with {self.code} after {self.count} steps, the last: {last}"


class Zygote:
    """A process that runs `once` in forked children: see `zygote.py`."""

    def __init__(self, errors: Path) -> None:
        script = Path(__file__).with_name("zygote.py")
        self._errors = errors.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        facts = self._answer()
        self.steps: list[str] = facts["steps"]
        self.package: str = facts["package"]

    def once(self, place: Place, plan: dict[str, object]) -> Run:
        """Run `once` to its end, whichever that is."""
        number = next(NUMBERS)
        request = {
            "number": number,
            "config": str(place.config),
            "log": str(place.root / "log"),
            "deadline_s": DEADLINE_S,
            "plan": {"mode": "kill"} | plan,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        while (answer := self._answer()).pop("number") != number:
            pass  # to a test that did not wait for it
        return Run(plan=plan, **answer)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the zygote is gone: {Path(self._errors.name).read_text()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, and what it runs."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            assert self._process.wait(STOP_S) == os.EX_OK
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._errors.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image, told from all others by its bytes and by the colour of its result."""

    number: int
    data: bytes
    sound: bool = True

    @property
    def sha256(self) -> str:
        """Return what the bill knows it by."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def colour(self) -> tuple[int, int]:
        """Return the two channels of its result that say which image it was."""
        return self.number * 37 % 256, self.number // 256 * 11 % 256


def new_picture(*, sound: bool = True) -> Picture:
    """Return an image that was never there before; one that is not sound has a wrong checksum."""
    number = next(NUMBERS)
    data = draw(number, SIZE, dpi=DPI)  # it says something that its result is to keep
    if not sound:
        middle = data.index(b"IDAT") + 12
        data = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
    return Picture(number=number, data=data, sound=sound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One folder of the configuration."""

    name: str
    inbox: Path
    outbox: Path
    quarantine: Path
    archive: Path | None
    originals: str = "archive"

    @property
    def homes(self) -> list[Path]:
        """Return where an original may be."""
        return [self.inbox, self.quarantine, *([self.archive] if self.archive else [])]

    @property
    def roots(self) -> list[Path]:
        """Return every folder of it."""
        return [*self.homes, self.outbox]


class World:
    """Folders, images dropped into them, and what became of both."""

    def __init__(
        self,
        root: Path,
        venice: Venice,
        zygote: Zygote,
        *,
        originals: str = "archive",
        elsewhere: Path | None = None,
    ) -> None:
        self.place = Place(root, venice)
        self.venice = venice
        self.pictures: dict[str, Picture] = {}  # by sha256
        self.copies: Counter[str] = Counter()  # sha256: files dropped and not taken away
        self.arrivals: Counter[str] = Counter()  # sha256: each file under each of its names
        self.results_before: dict[Path, bytes] = {}  # lay in an outbox already
        self.doubts_possible = 0  # runs that ended in the middle
        self.across = elsewhere is not None  # originals go to another file system, by a copy
        homes = elsewhere or self.place.root
        self.lanes = [
            Lane(
                name="photos",
                inbox=self.place.inbox,
                outbox=self.place.outbox,
                quarantine=homes / "quarantine",
                archive=homes / "archive" if originals == "archive" else None,
                originals=originals,
            )
        ]
        self._mtimes: dict[str, set[int]] = {}
        self._zygote = zygote
        self._story: list[str] = []

    # --- what happens ----------------------------------------------------------------------------

    def drop(self, path: Path, picture: Picture) -> None:
        """Write an image into an inbox."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.data)
        self.pictures[picture.sha256] = picture
        self.copies[picture.sha256] += 1
        self.arrivals[picture.sha256] += 1
        self._mtimes.setdefault(picture.sha256, set()).add(path.stat().st_mtime_ns)

    def take(self, path: Path) -> None:
        """Let go of a file, as somebody who writes another one over it."""
        self.copies[self.picture_of(path).sha256] -= 1

    def appear(self, path: Path) -> None:
        """Note that a file is about to have another name: to the program it is a new one."""
        self.arrivals[self.picture_of(path).sha256] += 1

    def leave_result(self, path: Path) -> None:
        """Let the result of another image be in the way."""
        path.write_bytes(draw(0, RESULT_SIZE))
        self.results_before[path] = path.read_bytes()

    def once(self, **plan: object) -> Run:
        """Run `once`; the plan says what happens to it."""
        run = self._zygote.once(self.place, plan)
        self._story.append(str(run))
        if not run.survived or plan:
            self.doubts_possible += 1
        assert run.code != -signal.SIGALRM, "the run did not end"
        return run

    @contextlib.contextmanager
    def told(self) -> Iterator["World"]:
        """Tell what happened, if it is too bad."""
        try:
            yield self
        except BaseException as exc:
            exc.add_note("\n".join(["what happened:", *self._story]))
            with contextlib.suppress(OSError):
                lines = (self.place.root / "log").read_text("utf-8").splitlines()
                exc.add_note("\n".join(["the log:", *lines[-LOG_LINES:]]))
            exc.add_note("\n".join(["the folders:", *self._listing()]))
            raise

    def _listing(self) -> list[str]:
        return [str(path) for root in self._all_roots() for path in sorted(root.rglob("*"))]

    def _all_roots(self) -> list[Path]:
        return [*(root for lane in self.lanes for root in lane.roots), self.place.state]

    # --- what is there ---------------------------------------------------------------------------

    def picture_of(self, path: Path) -> Picture:
        """Return which image a file is."""
        return self.pictures[hashlib.sha256(path.read_bytes()).hexdigest()]

    def quarantined(self) -> list[tuple[Lane, Path]]:
        """Return the files in the quarantines, without their reports."""
        return [
            (lane, path)
            for lane in self.lanes
            for path in files_below(lane.quarantine)
            if not path.name.endswith(REPORT) and not path.name.startswith(TEMPORARY)
        ]

    def active(self) -> list[tuple[Any, ...]]:
        """Return the jobs that are not done."""
        return self.ask(f"SELECT id, state, path, message FROM jobs WHERE state IN {ACTIVE}")

    def originals(self) -> dict[str, list[Path]]:
        """Return where each original is, by its sha256: what is half copied is none."""
        found: dict[str, list[Path]] = {}
        for root in (root for lane in self.lanes for root in lane.homes):
            for path in files_below(root):
                ours = path.name.startswith(TEMPORARY)
                if path.name.endswith(REPORT) or (ours and "-delete-" not in path.name):
                    continue
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                found.setdefault(sha256, []).append(path)
        return found

    def results(self, lane: Lane) -> dict[str, tuple[int, int]]:
        """Decode every visible file of an outbox whole; return the colours by their names."""
        colours = {}
        for path in files_below(lane.outbox):
            if path.name.startswith(TEMPORARY):
                continue
            data = path.read_bytes()
            if self.results_before.get(path) == data:
                continue
            with Image.open(io.BytesIO(data)) as image:
                image.load()  # raises, where a part is missing
                assert image.size == RESULT_SIZE, f"{path} has {image.size}"
                kept = image.info.get("dpi", (0, 0))
                assert tuple(map(round, kept)) == DPI, f"{path} has lost what its original says"
                _, *colour = image.convert("RGB").getpixel((0, 0))
            colours[str(path.relative_to(lane.outbox))] = (colour[0], colour[1])
        return colours

    def bill(self) -> tuple[Counter[str], int]:
        """Return how often each image was charged, and the sum; waits until nothing is made."""
        facts: dict[str, Any] = {}

        def rests() -> bool:
            facts.update(self.venice.bill())
            return not facts["totals"]["in_flight"]

        wait_until(rests, "the simulator has come to rest")
        charged = [one["image_sha256"] for one in facts["records"] if one["charged_microusd"]]
        return Counter(charged), facts["totals"]["charged_microusd"]

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the ledger, where there is one yet."""
        return self.place.ask(query, *values) if self.place.ledger.exists() else []

    def attempts(self, sha256: str) -> Counter[str]:
        """Return what became of the attempts at an image."""
        rows = self.ask(
            "SELECT charge, count(*) FROM attempts JOIN jobs ON jobs.id = job_id "
            "WHERE source_sha256 = ? GROUP BY charge",
            bytes.fromhex(sha256),
        )
        return Counter(dict(rows))

    def known_in_spool(self) -> set[str]:
        """Return the names in the spool that the ledger has a use for."""
        rows = self.ask(
            "SELECT spool_name FROM jobs WHERE state = 'staged' "
            "UNION SELECT spool_name FROM results WHERE kept = 1"
        )
        return {name for (name,) in rows}

    # --- what must hold --------------------------------------------------------------------------

    def check(self, *, charged_once: bool = True) -> None:
        """Assert what holds at any moment."""
        self._check_originals()
        self._check_money(charged_once=charged_once)
        self._check_log()

    def _check_originals(self) -> None:
        found = self.originals()
        assert set(found) <= set(self.pictures), "bytes that nobody dropped"
        done = {colour for lane in self.lanes for colour in self.results(lane).values()}
        deletes = any(lane.originals == "delete" for lane in self.lanes)
        for sha256, wanted in self.copies.items():
            places = found.get(sha256, [])
            if len(places) < wanted:
                picture = self.pictures[sha256]
                assert deletes, f"an original is lost: {picture.number}, only {places}"
                assert picture.colour in done, f"deleted before its result: {picture.number}"
            if not self.across:
                assert len(places) <= wanted, f"an original is there twice: {places}"

    def _check_once(self) -> None:
        found = self.originals()
        deletes = any(lane.originals == "delete" for lane in self.lanes)
        for sha256, wanted in self.copies.items():
            places = found.get(sha256, [])
            assert len(places) == wanted or (deletes and not places), f"not {wanted}: {places}"

    def _check_money(self, *, charged_once: bool) -> None:
        charges, billed = self.bill()
        money = self.ask("SELECT charge, sum(microusd) FROM attempts GROUP BY charge")
        sums = Counter(dict(money))
        spent = sums["charged"] + sums["lost"]
        assert spent <= billed, f"paid less than the ledger says: {billed}, {sums}"
        most = spent + sums["unknown"] + sums["reserved"]
        assert billed <= most, f"paid more than the ledger says: {billed}, {sums}"
        assert set(charges) <= set(self.pictures), "charged for what nobody dropped"
        for sha256, times in charges.items():
            attempts = self.attempts(sha256)
            doubts = attempts["unknown"] + attempts["lost"] + attempts["reserved"]
            number = self.pictures[sha256].number
            wanted = 1 if charged_once else self.arrivals[sha256]
            assert times <= wanted + doubts, f"{number} paid {times}x: {attempts}"

    def _check_log(self) -> None:
        log = self.place.root / "log"
        text = log.read_text("utf-8") if log.exists() else ""
        bugs = [line for line in text.splitlines() if '"exception"' in line]
        assert not bugs, f"a bug of ours: {bugs}"

    def check_nothing_left(self) -> None:
        """Assert that all is done, and nothing half done lies about."""
        assert self.active() == [], "not done"
        assert self.ask("SELECT id FROM attempts WHERE ended_at IS NULL") == []
        left = [path for root in self._all_roots() for path in root.rglob(f"{TEMPORARY}*")]
        assert left == [], f"left behind: {left}"
        spool = {path.name for path in (self.place.state / "spool").iterdir()}
        assert spool <= self.known_in_spool(), f"nobody needs {spool - self.known_in_spool()}"

    def check_end(self) -> None:
        """Assert that every image is where it belongs, paid once but for what was in doubt."""
        self.check()
        self.check_nothing_left()
        self._check_once()
        [lane] = self.lanes
        names = {
            str(path.relative_to(root)): path
            for root in lane.homes
            for path in files_below(root)
            if not path.name.endswith(REPORT)
        }
        results = self.results(lane)
        wanted = {}
        for name, path in names.items():
            picture = self.picture_of(path)
            assert path.stat().st_mtime_ns in self._mtimes[picture.sha256], f"{name} has a new time"
            if lane.quarantine in path.parents:
                self._check_quarantined(path, picture)
            else:
                assert picture.sound, f"{path} is damaged, and not in the quarantine"
                home = lane.inbox if lane.originals == "keep" else lane.archive
                assert home in path.parents, f"{path} is not where it belongs"
                wanted[name] = picture.colour
        if lane.originals == "delete":
            assert set(results.values()) <= {one.colour for one in self.pictures.values()}
            quarantined = {self.picture_of(path).colour for path in names.values()}
            wanted = {name: colour for name, colour in results.items() if colour not in quarantined}
            missing = {one.colour for one in self.pictures.values()} - quarantined
            assert missing == set(results.values())
        assert results == wanted
        charges, _ = self.bill()
        doubts = sum(self.attempts(one)["unknown"] for one in self.pictures)
        sound = sum(one.sound for one in self.pictures.values())
        assert sum(charges.values()) <= sound + doubts

    def _check_quarantined(self, path: Path, picture: Picture) -> None:
        report = json.loads(path.with_name(path.name + REPORT).read_text())
        if not picture.sound:
            assert report["code"] == "corrupt"
            return
        assert report["code"] == "in_doubt"
        assert self.attempts(picture.sha256) == {"unknown": DOUBTS_MAX}
        assert self.doubts_possible >= DOUBTS_MAX, "in doubt twice, without as many reasons"


def files_below(root: Path) -> list[Path]:
    """Return every file below a folder."""
    return sorted(path for path in root.rglob("*") if not path.is_dir())
