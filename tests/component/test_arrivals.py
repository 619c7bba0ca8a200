"""When a file is taken: never before its writer is done, once for each version, however it came."""

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.component.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.component.conftest import Place, Program, Venice

SETTLE_LOOKS = 2  # good images that come and go while a slow one is being written


def sha256(data: bytes) -> str:
    """Return what the bill says of an image sent as it is."""
    return hashlib.sha256(data).hexdigest()


def let_pass(place: "Place", daemon: "Program", draw: "Callable[..., bytes]") -> None:
    """Let good images through: by then a file ready before them would have been taken too."""
    done = len(daemon.find("image.completed"))
    for _ in range(SETTLE_LOOKS):
        done += 1
        place.drop(f"other-{done}.png", draw(200 + done))
        daemon.wait_event("image.completed", done)


def test_held_open(place: "Place", venice: "Venice", draw: "Callable[..., bytes]") -> None:
    """A file that is whole but still open for writing is not touched until it is closed."""
    daemon = place.ready()
    data = draw(1)
    with (place.inbox / "slow.png").open("wb") as writer:
        writer.write(data)
        writer.flush()
        let_pass(place, daemon, draw)
        assert sha256(data) not in venice.charged()
    place.wait_names("outbox", {"slow.png"})
    assert venice.charged().count(sha256(data)) == 1


def test_appended(place: "Place", venice: "Venice", draw: "Callable[..., bytes]") -> None:
    """A file written in pieces, closed between them, is sent once, whole."""
    daemon = place.ready()
    data = draw(1, kind="JPEG")
    target = place.inbox / "appended.jpg"
    for start in range(0, len(data), len(data) // 3 + 1):
        with target.open("ab") as writer:
            writer.write(data[start : start + len(data) // 3 + 1])
        if start == 0:
            let_pass(place, daemon, draw)
    place.wait_names("outbox", {"appended.png"})
    assert [one["image_sha256"] for one in venice.upscales()].count(sha256(data)) == 1
    assert len(venice.upscales()) == SETTLE_LOOKS + 1


def test_allocated_first(place: "Place", venice: "Venice", draw: "Callable[..., bytes]") -> None:
    """A file that gets its size first, is closed, and is filled later is sent once, filled."""
    daemon = place.ready()
    data = draw(1, kind="JPEG")
    target = place.inbox / "allocated.jpg"
    with target.open("wb") as writer:
        writer.truncate(len(data))
    let_pass(place, daemon, draw)
    with target.open("r+b") as writer:
        writer.write(data)
    place.wait_names("outbox", {"allocated.png"})
    assert [one["image_sha256"] for one in venice.upscales()].count(sha256(data)) == 1
    assert len(venice.upscales()) == SETTLE_LOOKS + 1
    assert place.names("quarantine") == set()


def test_same_name_again(place: "Place", venice: "Venice", draw: "Callable[..., bytes]") -> None:
    """Other bytes under an old name are a new image: a second result and a second original."""
    daemon = place.ready()
    first, second = draw(1), draw(2)
    place.drop("again.png", first)
    daemon.wait_event("image.completed")
    place.wait_names("archive", {"again.png"})
    place.drop("again.png", second)
    place.wait_names("archive", {"again-1.png"})
    assert place.names("outbox") == {"again.png", "again-1.png"}
    assert place.read("archive") == {"again.png": first, "again-1.png": second}
    assert sorted(venice.charged()) == sorted([sha256(first), sha256(second)])


def test_rewritten_while_sent(
    place: "Place", venice: "Venice", draw: "Callable[..., bytes]"
) -> None:
    """A file replaced while its first version is being sent yields both results, each once."""
    venice.change(latency_s=1.0)
    place.ready()
    first, second = draw(1), draw(2)
    place.drop("busy.png", first)
    venice.wait(received=1)
    fresh = place.root / "fresh.png"
    fresh.write_bytes(second)
    fresh.rename(place.inbox / "busy.png")
    place.wait_names("outbox", {"busy.png", "busy-1.png"})
    place.wait_names("archive", {"busy.png"})
    assert place.read("archive") == {"busy.png": second}
    assert sorted(venice.charged()) == sorted([sha256(first), sha256(second)])


def test_time_set_while_sent(
    place: "Place", venice: "Venice", draw: "Callable[..., bytes]"
) -> None:
    """A writer that sets the time of a file it has closed has not written another version."""
    venice.change(latency_s=1.0)
    place.write(duplicates="process")
    daemon = place.ready()
    picture = draw(1)
    path = place.drop("holiday.png", picture)
    venice.wait(received=1)
    os.utime(path, (1_234_567_890, 1_234_567_890))
    place.wait_names("archive", {"holiday.png"})
    daemon.wait_event("image.completed")
    assert daemon.stop() == 0
    assert place.names("outbox") == {"holiday.png"}
    assert place.read("archive") == {"holiday.png": picture}
    assert (place.archive / "holiday.png").stat().st_mtime == 1_234_567_890
    assert place.names("inbox") == set()
    assert len(venice.charged()) == 1


def test_moved_in(place: "Place", draw: "Callable[..., bytes]") -> None:
    """Files and whole trees moved in, linked in, and there before the start are all done."""
    place.drop("before/deep/a.png", draw(1))
    place.drop("b.png", draw(2))
    daemon = place.ready()
    daemon.wait_event("image.completed", 2)
    outside = place.root / "outside"
    (outside / "tree" / "leaf").mkdir(parents=True)
    (outside / "tree" / "c.png").write_bytes(draw(3))
    (outside / "tree" / "leaf" / "d.png").write_bytes(draw(4))
    (outside / "e.png").write_bytes(draw(5))
    (outside / "f.png").write_bytes(draw(6))
    (outside / "tree").rename(place.inbox / "tree")
    (outside / "e.png").rename(place.inbox / "e.png")
    os.link(outside / "f.png", place.inbox / "f.png")
    expected = {"before/deep/a.png", "b.png", "tree/c.png", "tree/leaf/d.png", "e.png", "f.png"}
    place.wait_names("outbox", expected)
    place.wait_names("archive", expected)
    assert place.names("outbox") == place.names("archive") == expected
    assert place.names("inbox") == set()


def test_copied_tree(place: "Place", draw: "Callable[..., bytes]") -> None:
    """A tree copied into the running inbox keeps its shape in the outbox and the archive."""
    source = place.root / "source"
    names = {f"{folder}/{number}.png" for folder in ("x", "x/y", "z") for number in range(3)}
    for number, name in enumerate(sorted(names)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(draw(number))
    place.ready()
    shutil.copytree(source, place.inbox / "copy")
    expected = {f"copy/{name}" for name in names}
    place.wait_names("outbox", expected)
    place.wait_names("archive", expected)
    assert place.names("outbox") == expected


def test_not_recursive(place: "Place", draw: "Callable[..., bytes]") -> None:
    """With `recursive: false` sub-folders are left alone."""
    place.write(recursive=False)
    place.drop("sub/a.png", draw(1))
    place.drop("b.png", draw(2))
    assert place.once()[0] == 0
    assert place.names("outbox") == {"b.png"}
    assert place.names("inbox") == {"sub/a.png"}


def test_polling(place: "Place", draw: "Callable[..., bytes]") -> None:
    """Without the kernel's events, scans alone find what comes."""
    place.write(watch="polling", rescan="1s")
    daemon = place.ready()
    daemon.wait_event("folder.watching", by="polling")
    place.drop("a.png", draw(1))
    place.wait_names("outbox", {"a.png"})


def test_link_to_inbox(place: "Place", draw: "Callable[..., bytes]") -> None:
    """An inbox that is itself a link is watched where it really is, without waiting for a scan."""
    place.write(rescan="10m")
    real = place.root / "real"
    place.inbox.rename(real)
    place.inbox.symlink_to(real)
    place.drop("before.png", draw(1))
    place.ready()
    place.wait_names("outbox", {"before.png"})  # the first scan is over
    (real / "a.png").write_bytes(draw(2))
    place.wait_names("outbox", {"a.png"})


@pytest.mark.parametrize("originals", ["archive", "delete"])
def test_opened_again_while_it_is_sent(
    place: "Place", venice: "Venice", draw: "Callable[..., bytes]", originals: str
) -> None:
    """An original that a program is about to write anew is not put away from under its hands."""
    place.write(originals=originals)
    venice.change(latency_s=0.5)
    daemon = place.ready()
    old, new = draw(1), draw(2)
    path = place.drop("a.png", old)
    venice.wait(in_flight=1)
    with path.open("r+b") as writer:
        daemon.wait_event("original.stuck")
        writer.write(new)
        writer.truncate()
    daemon.wait_event("image.completed", 2)
    assert venice.charged() == [sha256(old), sha256(new)]
    wait_until(lambda: not place.names("inbox"), "the new bytes are put away")
    assert place.read("archive") == ({"a.png": new} if originals == "archive" else {})


def test_kept_and_timed_while_it_is_sent(
    place: "Place", venice: "Venice", draw: "Callable[..., bytes]"
) -> None:
    """A time that is set after the closing makes no second image of a file that stays."""
    place.write(originals="keep", duplicates="process")
    venice.change(latency_s=0.5)
    daemon = place.ready()
    path = place.drop("a.png", draw(1))
    venice.wait(in_flight=1)
    os.utime(path, ns=(10**18, 10**18))
    daemon.wait_event("image.completed")
    assert daemon.stop() == 0
    assert place.once()[0] == 0
    assert place.names("outbox") == {"a.png"}
    assert len(venice.charged()) == 1
