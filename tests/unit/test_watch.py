"""What is said of a watch that cannot be had, and which folder an inbox is taken to be."""

import errno
import os
from pathlib import Path

import pytest

from venice_watch.intake import mounts, root, watch


def _settings(folder: Path, **values: int) -> Path:
    for name, value in values.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return folder


@pytest.mark.parametrize(
    ("kernels", "users", "command"),
    [
        (8192, 8192, "sysctl -w fs.inotify.max_user_watches=524288"),
        (600_000, 600_000, "sysctl -w fs.inotify.max_user_watches=1200000"),
        (600_000, 100, "sysctl -w user.max_inotify_watches=524288"),
    ],
)
def test_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: int, users: int, command: str
) -> None:
    """The words about a limit name the setting that binds, and a value that will do."""
    facts = {"fs__inotify__max_user_watches": kernels, "user__max_inotify_watches": users}
    monkeypatch.setattr(watch, "SETTINGS", _settings(tmp_path, **facts))
    assert watch.say(OSError(errno.ENOSPC, "inotify watch limit reached")).endswith(command)


def test_limit_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc the setting is named all the same."""
    monkeypatch.setattr(watch, "SETTINGS", tmp_path)
    said = watch.say(OSError(errno.EMFILE, "inotify instance limit reached"))
    assert said == "the limit of inotify instances is reached: raise fs.inotify.max_user_instances"


def test_other_reasons() -> None:
    """What is no limit is said as it is."""
    assert watch.say(RuntimeError("can't start new thread")) == "can't start new thread"


def test_away(tmp_path: Path) -> None:
    """A folder mounted higher up than it was is away, unless a person says that it is right."""
    here = mounts.mount_point_of(tmp_path)
    assert mounts.look_at(tmp_path, None) == (here, None)
    assert mounts.look_at(tmp_path, here) == (here, None)
    why = mounts.look_at(tmp_path, str(tmp_path / "mnt"))[1]
    assert why is not None
    assert "is not mounted" in why
    (tmp_path / mounts.ACCEPTANCE).touch()
    assert mounts.look_at(tmp_path, str(tmp_path / "mnt"))[1] is None


def test_identity(tmp_path: Path) -> None:
    """A folder is known by device and inode, through a link too; what is none raises."""
    status = tmp_path.stat()
    (tmp_path / "link").symlink_to(tmp_path)
    assert root.identify(tmp_path / "link") == (status.st_dev, status.st_ino)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as refused:
        root.identify(tmp_path / "file")
    assert os.strerror(errno.ENOTDIR) in str(refused.value)
