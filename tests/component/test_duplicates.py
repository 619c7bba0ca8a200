"""The same work twice: paid for once, whatever the name, the folder or the time."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.component.conftest import Place, Venice

    Draw = Callable[..., bytes]

PRICE = 20_000  # micro-USD for one image at scale 2


def three_folders(place: "Place") -> list[dict[str, object]]:
    """Return three folders that share one preset, each with places of its own."""
    folders = []
    for name in ("one", "two", "three"):
        facts: dict[str, object] = {"name": name, "preset": "photo", "settle": "300ms"}
        for role in ("inbox", "outbox", "quarantine", "archive"):
            (place.root / name / role).mkdir(parents=True)
            facts[role] = f"{name}/{role}"
        folders.append(facts)
    return folders


def test_a_hundred_copies_in_three_folders(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A hundred copies of one image that arrive at once cost one charge and give 100 results."""
    venice.change(latency_s=0.5)
    place.write(folders=three_folders(place), api={"concurrency": 8})
    for number in range(100):
        name = ("one", "two", "three")[number % 3]
        (place.root / name / "inbox" / f"copy{number}.png").write_bytes(draw(1))
    code, program = place.once()
    assert code == 0, program.stdout
    assert venice.totals()["charges"] == 1
    assert len(venice.upscales()) == 1
    results = [
        data for name in ("one", "two", "three") for data in place.read(f"{name}/outbox").values()
    ]
    assert len(results) == 100
    assert len(set(results)) == 1
    assert sum(len(place.names(f"{name}/archive")) for name in ("one", "two", "three")) == 100
    assert place.money() == {"charged": PRICE}
    assert "100 upscaled (99 of them from earlier results, free)" in program.stdout
    assert place.unaccounted() == set()


@pytest.mark.parametrize("where", ["kept", "delivered"])
def test_archived_and_dropped_again(
    place: "Place", venice: "Venice", draw: "Draw", where: str
) -> None:
    """An original that was archived and is dropped again costs nothing, after a restart too.

    Its result comes from the state folder, or from where it was delivered.
    """
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    first = place.read("outbox")["a.png"]
    if where == "kept":
        (place.outbox / "a.png").unlink()  # its owner has moved it on
    else:
        [name] = place.names("state/spool")
        (place.state / "spool" / name).unlink()
    (place.archive / "a.png").rename(place.inbox / "b.png")
    assert place.once()[0] == 0
    assert place.read("outbox")["b.png"] == first
    assert place.names("archive") == {"b.png"}
    assert venice.totals()["charges"] == 1
    assert place.money() == {"charged": PRICE}


def test_result_that_is_nowhere_is_paid_for_again(
    place: "Place", venice: "Venice", draw: "Draw"
) -> None:
    """With nothing kept and the delivered result changed, the image is paid for, and it is said."""
    keep_nothing(place)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    assert place.names("state/spool") == set()
    (place.outbox / "a.png").write_bytes(draw(2, size=(512, 512)))
    place.drop("b.png", draw(1))
    code, program = place.once()
    assert code == 0
    assert program.find("image.paid_again", path="b.png")
    assert venice.totals()["charges"] == 2


def test_other_parameters_are_other_work(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """The same bytes with another preset are paid for by themselves."""
    rules = [{"match": {"name": "*big*"}, "preset": "big"}]
    place.write(presets={"big": {"scale": 2, "replication": 0.1}}, rules=rules)
    place.drop("a.png", draw(1))
    place.drop("big.png", draw(1))
    assert place.once()[0] == 0
    assert venice.totals()["charges"] == 2


def test_skip(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """With `duplicates: skip` the second one stays in the inbox, untouched and unpaid."""
    place.write(duplicates="skip")
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    place.drop("b.png", draw(1))
    for _ in range(2):
        code, program = place.once()
        assert code == 0, program.stderr
    assert place.names("inbox") == {"b.png"}
    assert place.names("outbox") == {"a.png"}
    assert venice.totals()["charges"] == 1


def test_process(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """With `duplicates: process` each is paid for."""
    place.write(duplicates="process")
    for name in ("a.png", "b.png"):
        place.drop(name, draw(1))
    assert place.once()[0] == 0
    place.drop("c.png", draw(1))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png", "b.png", "c.png"}
    assert venice.totals()["charges"] == 3


def test_twin_of_one_that_fails(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """When the first of two twins is refused for now, the work is still paid for once."""
    venice.change(latency_s=0.3)
    venice.fail("unavailable", times=1)
    for name in ("a.png", "b.png"):
        place.drop(name, draw(1))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png", "b.png"}
    assert venice.totals()["charges"] == 1


def test_a_second_doubt_holds_every_copy(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Work that was in doubt twice is not sent a third time for a copy of the file.

    Its owner's word is to move the file back: then it is sent once more.
    """
    venice.fail("timeout_524", times=2)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 1
    assert len(venice.upscales()) == 2
    place.drop("copy.png", draw(1))
    assert place.once()[0] == 1
    assert len(venice.upscales()) == 2
    assert place.report("copy.png")["code"] == "in_doubt"
    assert "in doubt 2 times already" in place.report("copy.png")["message"]
    (place.quarantine / "copy.png").unlink()  # tidying up is no word about the money
    place.drop("another.png", draw(1))
    assert place.once()[0] == 1
    assert len(venice.upscales()) == 2
    (place.quarantine / "a.png").rename(place.inbox / "a.png")
    assert place.once()[0] == 0
    assert len(venice.upscales()) == 3
    assert place.names("outbox") == {"a.png"}


def test_twins_taken_back_together(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Two copies taken back at once are one word: it pardons what was in doubt before, no more.

    The second is looked at when the first is in doubt again: others stand between them.
    """
    one, two, _ = three_folders(place)
    one["priority"] = 1
    place.write(folders=[one, two], api={"concurrency": 1, "on_in_doubt": "hold"})
    venice.fail("truncated", times=99)  # charged, lost, and no reason to call the service down
    for name in ("one", "two"):
        (place.root / name / "inbox" / "a.png").write_bytes(draw(1))
        assert place.once()[0] == 1
    sent = hashlib.sha256(draw(1)).hexdigest()
    assert [one["image_sha256"] for one in venice.upscales()] == [sent]
    for name in ("one", "two"):
        (place.root / name / "quarantine" / "a.png").rename(place.root / name / "inbox" / "a.png")
    for number in range(20):
        (place.root / "two" / "inbox" / f"f{number}.png").write_bytes(draw(number + 2))
    assert place.once()[0] == 1
    assert [one["image_sha256"] for one in venice.upscales()].count(sent) == 2
    assert "a.png" in place.names("one/quarantine") & place.names("two/quarantine")


def test_hold_forbids_a_copy_too(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """With `on_in_doubt: hold` a copy of what is in doubt is not sent at all."""
    place.write(api={"on_in_doubt": "hold"})
    venice.fail("timeout_524", times=1)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 1
    place.drop("b.png", draw(1))
    assert place.once()[0] == 1
    assert len(venice.upscales()) == 1
    assert place.names("quarantine") == {
        "a.png", "a.png.error.json", "b.png", "b.png.error.json"
    }  # fmt: skip


def test_work_of_a_folder_that_is_gone(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """A request that was under way for a folder out of the configuration blocks no copy elsewhere.

    The copy's request is the one resend, and its result serves for the first when it is back.
    """
    one, two, _ = three_folders(place)
    place.write(folders=[one])
    venice.change(latency_s=2.0)
    (place.root / "one" / "inbox" / "a.png").write_bytes(draw(1))
    daemon = place.start()
    venice.wait(received=1)
    daemon.kill()
    venice.change(latency_s=0.0)
    place.write(folders=[two])
    (place.root / "two" / "inbox" / "b.png").write_bytes(draw(1))
    code, program = place.once()
    assert code == 0, program.stdout
    assert program.find("recover.folder_unknown", folder="one")
    assert place.names("two/outbox") == {"b.png"}
    assert len(venice.upscales()) == 2
    place.write(folders=[one, two])
    assert place.once()[0] == 0
    assert place.names("one/outbox") == {"a.png"}
    assert len(venice.upscales()) == 2
    assert place.money() == {"charged": PRICE, "unknown": PRICE}


# --- what comes between asking and sending -------------------------------------------------------


def test_twins_that_wait_for_the_rate(place: "Place", venice: "Venice", draw: "Draw") -> None:
    """Two copies that both wait for their turn are paid for once: the second asks again."""
    venice.change(latency_s=0.5)
    place.write(api={"requests_per_minute": 2, "concurrency": 1})
    place.drop("z.png", draw(7))
    daemon = place.start()
    venice.wait(received=1)
    for name in ("a.png", "b.png", "c.png"):
        place.drop(name, draw(1))
    place.wait_names("archive", {"a.png", "b.png", "c.png", "z.png"})
    assert daemon.stop() == 0
    assert venice.totals()["charges"] == 2


@pytest.mark.parametrize(("policy", "requests"), [("hold", 2), ("resend-once", 3)])
def test_twins_of_one_that_comes_into_doubt(
    place: "Place", venice: "Venice", draw: "Draw", policy: str, requests: int
) -> None:
    """Copies that wait for a turn while one comes into doubt are sent no more than allowed."""
    venice.change(latency_s=1.0)
    venice.fail("whole_chunked", times=1)
    venice.fail("timeout_524", times=9)
    place.write(api={"concurrency": 1, "on_in_doubt": policy})
    place.drop("z.png", draw(7))
    daemon = place.start()
    venice.wait(received=1)
    for name in ("a.png", "b.png", "c.png"):
        place.drop(name, draw(1))
    place.wait_names("quarantine", {"a.png", "b.png", "c.png"})
    assert daemon.stop() == 0
    assert len(venice.upscales()) == requests


def test_spool_in_trouble_is_no_reason_to_pay(
    place: "Place", venice: "Venice", draw: "Draw"
) -> None:
    """Where an earlier result cannot be copied into the spool, the folder waits, unpaid."""
    keep_nothing(place)
    place.drop("a.png", draw(1))
    assert place.once()[0] == 0
    hook = place.root / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(QUOTA)
    place.environment["PYTHONPATH"] = str(hook)
    place.drop("b.png", draw(1))
    code, program = place.once()
    assert code == 1
    assert "Disk quota exceeded" in program.stdout
    del place.environment["PYTHONPATH"]
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png", "b.png"}
    assert venice.totals()["charges"] == 1


QUOTA = """
import errno, os
real = os.fsync
def fsync(descriptor):
    if "/spool/" in os.readlink(f"/proc/self/fd/{descriptor}"):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    return real(descriptor)
os.fsync = fsync
"""

HANG = """
import pathlib, time
real = pathlib.Path.lstat
def lstat(self):
    if str(self).endswith("one/outbox/a.png"):
        time.sleep(60)
    return real(self)
pathlib.Path.lstat = lstat
"""


def keep_nothing(place: "Place") -> None:
    """Let no results stay in the state folder."""
    facts = json.loads(place.config.read_text())
    facts["keep_results"] = 0
    place.config.write_text(json.dumps(facts))


def test_a_share_that_hangs_holds_up_its_own_copies(
    place: "Place", venice: "Venice", draw: "Draw"
) -> None:
    """While an earlier result on a hung share is looked for, other folders go on."""
    one, two, _ = three_folders(place)
    place.write(folders=[one, two])
    keep_nothing(place)
    (place.root / "one" / "inbox" / "a.png").write_bytes(draw(1))
    assert place.once()[0] == 0
    hook = place.root / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HANG)
    place.environment["PYTHONPATH"] = str(hook)
    daemon = place.ready()
    (place.root / "one" / "inbox" / "copy.png").write_bytes(draw(1))
    place.wait_rows("SELECT 1 FROM jobs WHERE state = 'executing'", 1)
    (place.root / "two" / "inbox" / "other.png").write_bytes(draw(2))
    place.wait_names("two/archive", {"other.png"})
    daemon.kill()
    assert venice.totals()["charges"] == 2


@pytest.fixture
def tmpfs(place: "Place") -> "Iterator[Callable[[Path], None]]":
    """Return what mounts a file system of its own, for the time of a test."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount; run the tests as root")
    points: list[Path] = []

    def mount(point: Path) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(point)], check=True)
        points.append(point)

    yield mount
    place.end()
    for point in points:
        subprocess.run(["umount", "-l", str(point)], capture_output=True, check=False)


@pytest.mark.root
def test_result_on_a_share_that_is_away(
    place: "Place", venice: "Venice", draw: "Draw", tmpfs: "Callable[[Path], None]"
) -> None:
    """A result that may be on a share that is away is waited for, not paid for again."""
    one, two, _ = three_folders(place)
    place.write(folders=[one, two])
    keep_nothing(place)
    outbox = place.root / "one" / "outbox"
    tmpfs(outbox)
    (place.root / "one" / "inbox" / "a.png").write_bytes(draw(1))
    assert place.once()[0] == 0
    subprocess.run(["umount", str(outbox)], check=True)
    (place.root / "two" / "inbox" / "b.png").write_bytes(draw(1))
    code, program = place.once()
    assert code == 1
    assert "is not mounted" in program.stdout
    assert venice.totals()["charges"] == 1


@pytest.mark.root
def test_a_quarantine_that_is_away_pardons_nothing(
    place: "Place", venice: "Venice", draw: "Draw", tmpfs: "Callable[[Path], None]"
) -> None:
    """While one folder's quarantine is not mounted, a copy in another is not sent again."""
    one, two, _ = three_folders(place)
    place.write(folders=[one, two])
    quarantine = place.root / "one" / "quarantine"
    tmpfs(quarantine)
    venice.fail("timeout_524", times=9)
    (place.root / "one" / "inbox" / "a.png").write_bytes(draw(1))
    assert place.once()[0] == 1
    subprocess.run(["umount", str(quarantine)], check=True)
    (place.root / "two" / "inbox" / "b.png").write_bytes(draw(1))
    place.once()
    assert len(venice.upscales()) == 2
    assert "b.png" in place.names("two/quarantine")
