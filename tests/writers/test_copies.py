"""Programs that bring files from elsewhere on the machine: copied, moved, linked, unpacked."""

import os
import signal
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.component.conftest import wait_until
from tests.writers.conftest import LARGE, break_off, need, noise, run

if TYPE_CHECKING:
    from tests.writers.conftest import Desk

PAUSE_S = 1.0  # of three that rsync takes
OLD_S = 1_400_000_000  # a time long past, as copies keep it

COPIES = {
    "cp": ("cp", "coreutils", ()),
    "cp -p": ("cp", "coreutils", ("-p",)),
    "mv": ("mv", "coreutils", ()),
    "ln": ("ln", "coreutils", ()),
    "install": ("install", "coreutils", ("-m", "640", "-p")),
    "rsync": ("rsync", "rsync", ()),
    "rsync -a": ("rsync", "rsync", ("-a",)),
    "rsync --inplace": ("rsync", "rsync", ("-a", "--inplace")),
    "rsync --temp-dir": ("rsync", "rsync", ("-a", "--temp-dir=..")),  # the work folder
}


@pytest.mark.parametrize("name", COPIES)
def test_copy(desk: "Desk", name: str) -> None:
    """Each program that copies or moves files on one file system brings each of them once."""
    program, package, options = COPIES[name]
    need(program, package)
    seed = 1_000 + 10 * list(COPIES).index(name)
    files = {f"{kind}.{kind}".lower(): noise(seed, kind) for kind in ("JPEG", "PNG", "TIFF")}
    sources = [desk.prepare(f"source/{name}", data) for name, data in files.items()]
    for source in sources:
        os.utime(source, (OLD_S, OLD_S))
    # rsync takes its temporary folder relative to the target
    options = tuple(option.replace("..", str(desk.work)) for option in options)
    run(program, *options, *sources, desk.inbox)
    desk.settle(files)


def test_mv_from_elsewhere(desk: "Desk", elsewhere: Path) -> None:
    """A move from another file system is a copy, a new time, and a removal."""
    files = {f"{n}.png": noise(1_200 + n) for n in range(3)}
    for name, data in files.items():
        (elsewhere / name).write_bytes(data)
        os.utime(elsewhere / name, (OLD_S, OLD_S))
    run("mv", *(elsewhere / name for name in files), desk.inbox)
    desk.settle(files)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_rsync_partial(desk: "Desk", kind: str) -> None:
    """What an interrupted `rsync --partial` leaves under the final name is waited for."""
    rsync = need("rsync", "rsync")
    name, data = f"late.{kind.lower()}", noise(1_300, kind, LARGE)
    source, target = desk.prepare(f"source/{name}", data), desk.inbox / name
    # it keeps 256 kB in memory before it writes any: the temporary file is empty for long
    slow = (rsync, "--partial", f"--bwlimit={len(data) // 3000}k", source, desk.inbox)
    break_off(target, 0, *slow, by=signal.SIGINT, after_s=PAUSE_S)
    wait_until(target.exists, "rsync has kept what it had")
    assert target.stat().st_size < len(data)
    desk.untouched()
    run(rsync, "-a", "--partial", source, desk.inbox)
    desk.settle({name: data})


ARCHIVED = {f"{folder}{n}.jpeg": (folder, n) for folder in ("", "a/", "a/b/") for n in range(3)}


def test_unzip(desk: "Desk") -> None:
    """An unpacked zip keeps its shape; unzip sets each file's time after it has closed it."""
    unzip = need("unzip", "unzip")
    files = {name: noise(1_400 + n, "JPEG") for n, name in enumerate(ARCHIVED)}
    archive = desk.work / "all.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for name, data in files.items():
            writer.writestr(zipfile.ZipInfo(name, (2015, 1, 1, 12, 0, 0)), data)
    run(unzip, "-q", archive, "-d", desk.inbox)
    desk.settle(files)


def test_tar(desk: "Desk") -> None:
    """An unpacked tar keeps its shape; tar sets mode and time of each file at its end."""
    tar = need("tar", "tar")
    files = {name: noise(1_500 + n, "JPEG") for n, name in enumerate(ARCHIVED)}
    for name, data in files.items():
        os.utime(desk.prepare(f"source/{name}", data), (OLD_S, OLD_S))
    archive = desk.work / "all.tar"
    with tarfile.open(archive, "w") as writer:
        writer.add(desk.work / "source", ".")
    run(tar, "-xpf", archive, "-C", desk.inbox)
    desk.settle(files)
