"""How a configuration file is read, and whose files are refused."""

import os
from pathlib import Path

import pytest

from venice_watch.config.load import load
from venice_watch.errors import ConfigError

SMALLEST = """\
state_dir: /var/lib/venice-watch
presets:
  photo: {scale: 2}
folders:
  - name: photos
    inbox: /srv/photos/inbox
    outbox: /srv/photos/outbox
    quarantine: /srv/photos/quarantine
    archive: /srv/photos/originals
    preset: photo
"""


def test_load_reads_a_file(tmp_path: Path) -> None:
    """A file is read as UTF-8, and paths in it are relative to its folder."""
    path = tmp_path / "venice-watch.yaml"
    path.write_text(SMALLEST.replace("/srv/photos/outbox", "gr\u00fcn"), encoding="utf-8-sig")
    path.chmod(0o644)
    config = load(path, environment={}, uid=os.getuid())
    assert config.path == path
    assert config.folders[0].outbox == tmp_path / "gr\u00fcn"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _path: None, "cannot be read (No such file"),
        (lambda path: path.mkdir(), "cannot be read (Is a directory"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.write_bytes(b"a: \xff"), "not UTF-8"),
        (lambda path: path.write_bytes(b"#" * 1_048_577), "more than the 1,048,576"),
    ],
)
def test_load_cannot_read(tmp_path: Path, make: object, words: str) -> None:
    """A file that cannot be read is a problem like any other, and never waited for."""
    path = tmp_path / "c.yaml"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError) as caught:
        load(path, environment={})
    assert words in str(caught.value)
    assert caught.value.exit_code == 78


def test_load_refuses_other_writers(tmp_path: Path) -> None:
    """A file that others may write, or own, is refused, and its mistakes are reported as well."""
    path = tmp_path / "c.yaml"
    path.write_text(SMALLEST + "oops: 1\n")
    path.chmod(0o646)
    with pytest.raises(ConfigError) as caught:
        load(path, environment={}, uid=os.getuid())
    assert [problem.key for problem in caught.value.problems] == ["", "oops"]
    assert "chmod o-w" in str(caught.value)
    path.write_text(SMALLEST)
    with pytest.raises(ConfigError, match="chmod o-w"):
        load(path, environment={})


def test_load_refuses_a_strangers_file(tmp_path: Path) -> None:
    """A file of another user than the service or root is refused."""
    path = tmp_path / "c.yaml"
    path.write_text(SMALLEST)
    path.chmod(0o644)
    stranger = os.getuid() + 1
    if os.getuid() == 0:
        os.chown(path, 12_345, 12_345)
    with pytest.raises(ConfigError, match=r"belongs to user \d+, who could change it"):
        load(path, environment={}, uid=stranger)
    assert load(path, environment={}, uid=path.stat().st_uid).folders[0].name == "photos"
