"""Servers of the tests' own, on free loopback ports: sshd, smbd, vsftpd, and one for HTTP.

Each keeps its files in a folder of its own, runs in the foreground, and is ended by its pid.
"""

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.component.conftest import POLL_S
from tests.writers.conftest import need, run

START_S = 20.0  # until a server answers, on a busy machine
STOP_S = 10.0
FTP_USER = "daemon"  # whom vsftpd becomes: on every Debian, with a home
ROOT_NEEDED = "run the tests as root: this server changes its user"


def need_root() -> None:
    """Skip where a server cannot be run as its users run it."""
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Tell whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


@contextlib.contextmanager
def serving(port: int, log: Path, *command: str | Path) -> Iterator[None]:
    """Run a server in the foreground while the block runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its children end with it, and nobody else
        )
    try:
        ends_at = time.monotonic() + START_S
        while not answers(port):
            if process.poll() is not None or time.monotonic() > ends_at:
                pytest.fail(f"{command} does not serve:\n{log.read_text()}")
            time.sleep(POLL_S)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            with contextlib.suppress(ProcessLookupError):  # sessions of clients that were cut off
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """A running sshd: what its clients are to be told."""

    port: int
    options: tuple[str, ...]
    user: str

    def at(self, path: Path) -> str:
        """Return a path of the server as scp and sftp write it."""
        return f"{self.user}@127.0.0.1:{path}"


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[Ssh]:
    """Run a server for scp and sftp that lets the present user in by key."""
    program, keygen = need("sshd", "openssh-server"), need("ssh-keygen", "openssh-client")
    need("scp", "openssh-client")
    for key in ("host", "user"):
        run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    (folder / "authorized").chmod(0o600)
    if os.geteuid() == 0:  # sshd insists on it; its service makes it at every boot
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    options = (
        *("-F", "none", "-i", str(folder / "user")),
        *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known"),
        *("-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"),
    )
    user = pwd.getpwuid(os.geteuid()).pw_name
    with serving(port, folder / "sshd.log", program, "-D", "-e", "-f", config):
        yield Ssh(port=port, options=options, user=user)


@contextlib.contextmanager
def smbd(folder: Path, share: Path) -> Iterator[Callable[[str], None]]:
    """Serve a folder by SMB; yield what runs commands of smbclient in it."""
    need_root()
    program, client = need("smbd", "samba"), need("smbclient", "smbclient")
    for name in ("private", "lock", "state", "cache", "pid", "ncalrpc"):
        (folder / name).mkdir()
    port = free_port()
    config = folder / "smb.conf"
    config.write_text(
        "[global]\nserver role = standalone server\nmap to guest = Bad User\n"
        "guest account = root\ndisable netbios = yes\n"
        "load printers = no\nprintcap name = /dev/null\n"
        f"disable spoolss = yes\nsmb ports = {port}\ninterfaces = lo\nbind interfaces only = yes\n"
        f"private dir = {folder}/private\nlock directory = {folder}/lock\n"
        f"state directory = {folder}/state\ncache directory = {folder}/cache\n"
        f"pid directory = {folder}/pid\nncalrpc dir = {folder}/ncalrpc\n"
        f"log file = {folder}/smbd.log\n"
        f"[inbox]\npath = {share}\nguest ok = yes\nread only = no\nforce user = root\n"
    )
    usual = ("//127.0.0.1/inbox", "-p", str(port), "-N", "-s", config)

    def command(words: str) -> None:
        run(client, *usual, "-c", words)

    foreground = ("--foreground", "--no-process-group")
    with serving(port, folder / "smbd.out", program, *foreground, "--configfile", config):
        yield command


@contextlib.contextmanager
def vsftpd(folder: Path, root: Path) -> Iterator[str]:
    """Serve the folders below `root` by FTP, to be written by anybody; yield its address."""
    need_root()
    program = need("vsftpd", "vsftpd")
    empty = folder / "empty"
    empty.mkdir()
    port = free_port()
    config = folder / "vsftpd.conf"
    config.write_text(
        f"listen=YES\nbackground=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n"
        f"anonymous_enable=YES\nno_anon_password=YES\nanon_root={root}\nanon_umask=022\n"
        "write_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\n"
        f"ftp_username={FTP_USER}\nsecure_chroot_dir={empty}\nseccomp_sandbox=NO\nisolate=NO\n"
        "isolate_network=NO\nconnect_from_port_20=NO\n"
    )
    with serving(port, folder / "vsftpd.log", program, config):
        yield f"ftp://127.0.0.1:{port}"


class WebServer(ThreadingHTTPServer):
    """Serves `pages`; what is asked for below /broken/ breaks off once, in the middle."""

    daemon_threads = True

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.broken: set[str] = set()  # those that broke off already
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_GET(self) -> None:
        """Send a page, or its end from where the client has it."""
        data = self.server.pages[self.path]
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if first else HTTPStatus.OK)
        self.send_header("Accept-Ranges", "bytes")
        # clients give the file this time, after they have closed it
        self.send_header("Last-Modified", "Thu, 01 Jan 2015 12:00:00 GMT")
        self.send_header("Content-Length", str(len(data) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        breaks = self.path.startswith("/broken/") and self.path not in self.server.broken
        self.server.broken.add(self.path)
        self.wfile.write(data[first : len(data) // 2 if breaks else None])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def web_server() -> Iterator[WebServer]:
    """Run a server for wget and curl."""
    with WebServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(STOP_S)
