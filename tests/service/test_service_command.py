"""`service print|install`: what is written, what is said, and what is never in either."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from venice_watch.config.load import loads
from venice_watch.config.model import Config
from venice_watch.errors import StateLockedError
from venice_watch.service.unit import (
    EXAMPLES,
    UNIT,
    Service,
    UnitUnusableError,
    find_writable,
    quote_command,
    quote_credential,
    quote_path,
    read_shipped,
    render_drop_in,
    render_files,
)

KEY = "sk-a-key-that-must-not-be-seen-4711"
DROP_IN = f"etc/systemd/system/{UNIT}.d/50-configuration.conf"
SERVICE = Service(
    program=Path("/opt/venice-watch/bin/venice-watch"),
    runtime=(Path("/opt/venice-watch"),),
    user="venice-watch",
    group="venice-watch",
)


def configure(*folders: str, state_dir: str = "/var/lib/venice-watch", extra: str = "") -> Config:
    """Return a configuration with the four folders below each of these."""
    entries = "".join(
        f"  - {{name: f{number}, preset: p, inbox: {one}/in, outbox: {one}/out, "
        f"quarantine: {one}/bad, archive: {one}/done}}\n"
        for number, one in enumerate(folders)
    )
    text = f"{extra}state_dir: {state_dir}\npresets: {{p: {{scale: 2}}}}\nfolders:\n{entries}"
    return loads(text, Path("/etc/venice-watch/config.yaml"), {})


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `venice-watch service` beside a configuration."""
    return subprocess.run(
        [sys.executable, "-m", "venice_watch", "service", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with a configuration, the folders it names, and a key."""
    folder = tmp_path / "home"
    subprocess.run(
        [sys.executable, "-m", "venice_watch", "init", str(folder)],
        check=True,
        capture_output=True,
    )
    (folder / "key").write_text(KEY)
    (folder / "key").chmod(0o600)
    (tmp_path / "root").mkdir()
    return folder


# --- what may be written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parents", "writable"),
    [
        (["/srv/photos"], ["/srv/photos"]),
        (["/srv/photos", "/srv/photos/more"], ["/srv/photos"]),
        (["/srv/a", "/volume1/x/b"], ["/srv/a", "/volume1/x/b"]),
        (["/srv"], ["/srv/bad", "/srv/done", "/srv/in", "/srv/out"]),
        (["/home/a"], ["/home/a/bad", "/home/a/done", "/home/a/in", "/home/a/out"]),
        (["/home/a/x"], ["/home/a/x"]),
    ],
)
def test_writable(parents: list[str], writable: list[str]) -> None:
    """A folder that holds all four is given, unless it is nearly everything or a whole home."""
    if parents == ["/srv/photos", "/srv/photos/more"]:
        parents = ["/srv/photos/a", "/srv/photos/b"]
        writable = parents
    assert [str(path) for path in find_writable(configure(*parents).folders)] == writable


def test_kept_originals_need_a_writable_inbox_too() -> None:
    """An inbox is writable whatever becomes of originals: what fails leaves it."""
    text = (
        "state_dir: /var/lib/x\npresets: {p: {scale: 2}}\nfolders:\n  - {name: a, preset: p, "
        "inbox: /a/b/in, outbox: /c/d/out, quarantine: /e/f/bad, originals: keep}\n"
    )
    config = loads(text, Path("/etc/venice-watch/config.yaml"), {})
    assert Path("/a/b/in") in find_writable(config.folders)


def test_state_elsewhere() -> None:
    """A state folder that systemd does not make is writable and needs its mount."""
    text = render_drop_in(configure("/srv/photos", state_dir="/data/state"), SERVICE)
    assert "\nStateDirectory=\n" in text
    assert "\nReadWritePaths=/data/state\n" in text
    assert "\nRequiresMountsFor=/data/state\n" in text
    text = render_drop_in(configure("/srv/photos", state_dir="/var/lib/else"), SERVICE)
    assert "\nStateDirectory=else\n" in text
    assert "/var/lib/else" not in text.split("[Service]")[1]


def test_places_that_the_unit_hides() -> None:
    """Of homes only what is needed is shown, and /tmp is shared only where a folder is there."""
    plain = render_drop_in(configure("/srv/photos"), SERVICE)
    assert "ProtectHome" not in plain
    assert "PrivateTmp" not in plain
    text = render_drop_in(configure("/home/a/x", "/tmp/y"), SERVICE)
    assert "\nProtectHome=tmpfs\nBindPaths=/home/a/x\n" in text
    assert text.endswith("\nPrivateTmp=no\n")


def test_the_example_is_not_left_behind() -> None:
    """The shipped unit's example folders are in no installed file: a drop-in cannot take them."""
    shipped = read_shipped(UNIT).splitlines()
    assert all(shipped.count(line) == 1 for line in EXAMPLES)
    files = render_files(configure("/srv/other"), SERVICE)
    assert "/srv/photos" not in "".join(
        line for text in files.values() for line in text.splitlines() if not line.startswith("#")
    )
    installed = files[f"etc/systemd/system/{UNIT}"].splitlines()
    assert installed == [line for line in shipped if line not in EXAMPLES]


# --- quoting (what systemd makes of it is seen in test_boot) -------------------------------------


def test_quoting() -> None:
    """Each of systemd's three ways of reading has its own."""
    path = Path('/a b/%n"\\$x')
    assert quote_path(path) == '"/a b/%%n\\"\\\\$x"'
    assert quote_credential(path) == '/a b/%%n"\\$x'
    assert quote_command([Path("/p"), path]) == '/p "/a b/%%n\\"\\\\$$x"'
    assert quote_path(Path("/srv/plain-1.x")) == "/srv/plain-1.x"


@pytest.mark.parametrize("bad", ["/a\nUser=root", "/a\tb", "/a\udcff", "/a\x1b"])
def test_what_cannot_be_quoted(bad: str) -> None:
    """A path that could end its line, or is no text, is refused."""
    for quote in (quote_path, quote_credential, lambda path: quote_command([path])):
        with pytest.raises(UnitUnusableError, match="Rename it"):
            quote(Path(bad))


def test_what_systemd_would_change() -> None:
    """A program with a $ in its path, a key file that ends in a space or backslash: refused."""
    with pytest.raises(UnitUnusableError, match=r"\$ in it"):
        quote_command([Path("/a$b")])
    for name in ("/key ", "/key\\"):
        with pytest.raises(UnitUnusableError, match="Rename it"):
            quote_credential(Path(name))


# --- the command --------------------------------------------------------------------------------


def test_install_below_a_root(home: Path) -> None:
    """Every file is written once; again, nothing is; after a change, that one file is."""
    root = home.parent / "root"
    first = run(home, "install", "--root", str(root))
    assert (first.returncode, first.stderr) == (0, "")
    written = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert written == {
        f"etc/systemd/system/{UNIT}",
        DROP_IN,
        "etc/sysusers.d/venice-watch.conf",
        "etc/tmpfiles.d/venice-watch.conf",
    }
    assert {path.stat().st_mode & 0o777 for path in root.rglob("*") if path.is_file()} == {0o644}
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    again = run(home, "install", "--root", str(root))
    assert again.stdout.count("unchanged") == len(written)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    other = run(home, "install", "--root", str(root), "--group", "media")
    assert [line.split()[0] for line in other.stdout.splitlines()].count("changed") == 1
    assert "\nGroup=media\n" in (root / DROP_IN).read_text()


def test_dry_run(home: Path) -> None:
    """A dry run says what would be written and next, and writes nothing."""
    root = home.parent / "root"
    done = run(home, "install", "--root", str(root), "--dry-run")
    assert (done.returncode, done.stdout.count("new  ")) == (0, 4)
    assert list(root.iterdir()) == []
    done = run(home, "install", "--dry-run")
    assert "systemctl daemon-reload && systemctl enable --now venice-watch" in done.stdout


def test_print(home: Path) -> None:
    """What is printed is what would be written, whoever asks."""
    root = home.parent / "root"
    run(home, "install", "--root", str(root))
    printed = run(home, "print").stdout
    for path in root.rglob("*.conf"):
        assert path.read_text() in printed


def test_the_key_and_the_environment_stay_unsaid(home: Path) -> None:
    """Neither the key nor a variable is printed or written, and a key there only is told of."""
    (home / "key").unlink()
    root = home.parent / "root"
    for arguments in (("print",), ("install", "--root", str(root))):
        done = run(home, *arguments, VENICE_API_KEY=KEY, SECRET="do-not-tell")
        assert done.returncode == 0
        everything = done.stdout + done.stderr
        everything += "".join(path.read_text() for path in root.rglob("*") if path.is_file())
        assert KEY not in everything
        assert "do-not-tell" not in everything
        assert "VENICE_API_KEY is known to this shell only" in done.stderr
        assert "install -m 600 /dev/stdin" in done.stderr


def test_variables_of_the_shell_are_not_the_services(home: Path) -> None:
    """A configuration that needs a variable of this shell is refused: the service has none."""
    config = home / "venice-watch.yaml"
    config.write_text(config.read_text().replace("inbox: inbox", "inbox: ${PICTURES}/inbox"))
    done = run(home, "print", PICTURES="/srv")
    assert done.returncode == 78
    assert "PICTURES" in done.stderr


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [("key", 0o644, "chmod 600"), ("venice-watch.yaml", 0o600, "chgrp venice-watch")],
)
def test_modes_are_told_of(home: Path, name: str, mode: int, words: str) -> None:
    """A key that others may read, and a configuration that the service may not, are told of."""
    (home / name).chmod(mode)
    said = run(home, "print").stderr
    assert [line for line in said.splitlines() if name in line and words in line], said


def test_a_missing_folder_is_told_of(home: Path) -> None:
    """A folder that is not there is said to keep the service from starting."""
    config = home / "venice-watch.yaml"
    config.write_text(config.read_text().replace(": inbox  ", ": gone/inbox  "))
    assert "226/NAMESPACE" not in run(home, "print").stderr  # the folder above is what is given
    config.write_text(config.read_text().replace(": gone/inbox  ", ": /srv/gone/inbox  "))
    assert "226/NAMESPACE" in run(home, "print").stderr


def test_without_systemd(home: Path) -> None:
    """Where systemd does not run, nothing is written, and it says what there is instead."""
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd runs here; test_boot covers the rest")
    done = run(home, "install")
    assert done.returncode == 77
    assert "service print" in done.stderr
    assert not Path("/etc/systemd/system", UNIT).exists()


@pytest.mark.parametrize("name", ["a b", "", "x\nUser=root", "é", "%n"])
def test_odd_users(home: Path, name: str) -> None:
    """What is no name of a user is refused."""
    done = run(home, "print", "--user", name)
    assert done.returncode == 2
    assert StateLockedError.exit_code != done.returncode
