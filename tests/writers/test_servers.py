"""Files that come over the network: what each server, or client, writes into the inbox."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.writers.conftest import LARGE, SIZE, break_off, need, noise, run
from tests.writers.services import FTP_USER, Ssh, WebServer, smbd, sshd, vsftpd, web_server

if TYPE_CHECKING:
    from tests.component.conftest import Place
    from tests.writers.conftest import Desk

OLD_S = 1_400_000_000  # a time long past, as copies keep it
KINDS = ("JPEG", "PNG", "TIFF")


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    """Return a running sshd."""
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def smb(
    tmp_path_factory: pytest.TempPathFactory, place: "Place"
) -> Iterator[Callable[[str], None]]:
    """Return what runs smbclient's commands against a running smbd that shares the inbox."""
    with smbd(tmp_path_factory.mktemp("smbd"), place.inbox) as command:
        yield command


@pytest.fixture(scope="module")
def ftp(tmp_path_factory: pytest.TempPathFactory, place: "Place") -> Iterator[str]:
    """Return the address of a running vsftpd whose root is the inbox."""
    with vsftpd(tmp_path_factory.mktemp("vsftpd"), place.inbox) as address:
        yield address


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    """Return a running web server."""
    with web_server() as server:
        yield server


def prepared(
    desk: "Desk", seed: int, kinds: tuple[str, ...] = KINDS, size: tuple[int, int] = SIZE
) -> dict[str, bytes]:
    """Return files by name, prepared in the desk's `source`, with old times."""
    files = {f"{kind}.{kind}".lower(): noise(seed, kind, size) for kind in kinds}
    for name, data in files.items():
        os.utime(desk.prepare(f"source/{name}", data), (OLD_S, OLD_S))
    return files


SCP = {"scp": (), "scp -p": ("-p",), "scp -O": ("-O",), "scp -O -p": ("-O", "-p")}


@pytest.mark.parametrize("name", SCP)
def test_scp(desk: "Desk", ssh: Ssh, name: str) -> None:
    """Copies over ssh, by either protocol, with and without the file's own time."""
    files = prepared(desk, 2_000 + list(SCP).index(name))
    sources = [desk.work / "source" / one for one in files]
    options = (*ssh.options, "-P", str(ssh.port), *SCP[name])
    run("scp", *options, *sources, ssh.at(desk.inbox))
    desk.settle(files)


@pytest.mark.parametrize("option", ["", "-p", "-f"])
def test_sftp(desk: "Desk", ssh: Ssh, option: str) -> None:
    """Put by sftp: plain, with the file's own time and mode, and flushed to the disk."""
    files = prepared(desk, 2_100 + len(option) + ord(option[-1:] or "a"))
    batch = desk.work / "batch"
    batch.write_text(f"put {option} {desk.work}/source/* {desk.inbox}/\n")
    run("sftp", *ssh.options, "-P", str(ssh.port), "-b", batch, ssh.at(desk.inbox))
    desk.settle(files)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_sftp_resumed(desk: "Desk", ssh: Ssh, kind: str) -> None:
    """An interrupted upload waits under its final name until it is resumed."""
    [(name, data)] = prepared(desk, 2_200, (kind,), LARGE).items()
    source, target = desk.work / "source" / name, desk.inbox / name
    usual = (*ssh.options, "-P", str(ssh.port))
    # slow enough to be caught in the middle
    slow = ("scp", *usual, "-l", "1000", source, ssh.at(desk.inbox))
    break_off(target, len(data) // 4, *slow, by=signal.SIGKILL)
    desk.untouched()
    assert 0 < target.stat().st_size < len(data)
    batch = desk.work / "batch"
    batch.write_text(f"reput {source} {target}\n")
    run("sftp", *usual, "-b", batch, ssh.at(desk.inbox))
    desk.settle({name: data})


def test_smb(desk: "Desk", smb: Callable[[str], None]) -> None:
    """Files put on a share, one after the other."""
    files = prepared(desk, 2_300)
    puts = "; ".join(f"put {desk.work}/source/{one} {desk.name}\\{one}" for one in files)
    smb(puts)
    desk.settle(files)


def test_smb_tree(desk: "Desk", smb: Callable[[str], None]) -> None:
    """A folder put on a share, with what is in it."""
    files = {f"source/{name}": data for name, data in prepared(desk, 2_400).items()}
    smb(f"cd {desk.name}; lcd {desk.work}; recurse on; prompt off; mput source")
    desk.settle(files)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_smb_again(desk: "Desk", smb: Callable[[str], None], kind: str) -> None:
    """The first part of a file on a share is waited for until the whole is put over it.

    (smbclient's `reput` of Debian 12 sends nothing.)
    """
    [(name, data)] = prepared(desk, 2_500, (kind,)).items()
    part = desk.prepare("part", data[: len(data) // 2])
    smb(f"put {part} {desk.name}\\{name}")
    desk.untouched()
    smb(f"put {desk.work}/source/{name} {desk.name}\\{name}")
    desk.settle({name: data})


def test_ftp(desk: "Desk", ftp: str) -> None:
    """Files uploaded to vsftpd, which owns them under another user."""
    curl = need("curl", "curl")
    files = prepared(desk, 2_600)
    shutil.chown(desk.inbox, FTP_USER)
    sources = ",".join(str(desk.work / "source" / one) for one in files)
    run(curl, "-sS", "-T", f"{{{sources}}}", f"{ftp}/{desk.name}/")
    desk.settle(files)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_ftp_resumed(desk: "Desk", ftp: str, kind: str) -> None:
    """An upload that was cut off waits until it is resumed where it broke off."""
    curl = need("curl", "curl")
    [(name, data)] = prepared(desk, 2_700, (kind,), LARGE).items()
    shutil.chown(desk.inbox, FTP_USER)
    source, address = desk.work / "source" / name, f"{ftp}/{desk.name}/"
    slow = (curl, "-sS", "--limit-rate", "100k", "-T", source, address)
    break_off(desk.inbox / name, len(data) // 4, *slow, by=signal.SIGKILL)
    desk.untouched()
    run(curl, "-sS", "-C", "-", "-T", source, address)
    desk.settle({name: data})


WEB = {
    "wget -O": ("wget", ("-q", "-O", "TARGET")),
    "wget -P": ("wget", ("-q", "-P", "FOLDER")),
    "curl -o": ("curl", ("-sS", "-o", "TARGET")),
    "curl -R": ("curl", ("-sS", "-R", "-o", "TARGET")),
}


@pytest.mark.parametrize("name", WEB)
def test_web(desk: "Desk", web: WebServer, name: str) -> None:
    """A download straight into the inbox, with and without the page's own time."""
    program, options = WEB[name]
    need(program, program)
    data = noise(2_800 + list(WEB).index(name), "JPEG")
    web.pages[f"/{desk.name}.jpg"] = data
    target = desk.inbox / f"{desk.name}.jpg"
    places = {"TARGET": str(target), "FOLDER": str(desk.inbox)}
    arguments = [places.get(option, option) for option in options]
    run(program, *arguments, f"{web.address}/{desk.name}.jpg")
    desk.settle({target.name: data})


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_wget_resumed(desk: "Desk", web: WebServer, kind: str) -> None:
    """A download that the server broke off waits until `wget -c` brings the rest."""
    wget = need("wget", "wget")
    data = noise(2_900, kind)
    page = f"/broken/page.{kind.lower()}"
    web.pages[page] = data
    command = ["-q", "-c", "-P", str(desk.inbox), f"{web.address}{page}"]
    with pytest.raises(AssertionError):
        run(wget, "--tries=1", *command)
    target = desk.inbox / f"page.{kind.lower()}"
    assert target.stat().st_size == len(data) // 2
    desk.untouched()
    run(wget, *command)
    desk.settle({target.name: data})
