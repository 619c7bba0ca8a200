"""Which file system a folder is on, and whether the kernel announces every change there."""

import os
from dataclasses import dataclass
from pathlib import Path

from venice_watch.files.place import TEMPORARY

ACCEPTANCE = f"{TEMPORARY}here"  # a person's word that a folder is right as it is
# local file systems whose events and leases were measured to be right; all others are scanned
TRUSTED = frozenset("ext2 ext3 ext4 xfs btrfs f2fs zfs tmpfs ramfs overlay bcachefs".split())
NETWORK = frozenset("nfs nfs4 cifs smb3 smbfs 9p ceph glusterfs afs ncpfs lustre".split())
MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mountinfo."""

    point: str
    root: str  # what of its file system is mounted there
    device: str
    kind: str

    def covers(self, path: str) -> bool:
        """Tell whether a path is at or below the mount point."""
        return path == self.point or path.startswith(self.point.rstrip("/") + "/")


def file_system_of(folder: Path) -> str:
    """Return the type of the file system that holds `folder`, by the longest mount point."""
    mount = _find(_read(), os.path.realpath(folder))
    return "unknown" if mount is None else mount.kind


def mount_point_of(folder: Path) -> str:
    """Return where what `folder` shows is mounted; "" where the kernel does not tell.

    A folder that is mounted over itself (as systemd does for `ReadWritePaths=`) shows what is
    there without that mount: then it is where its surroundings are mounted.
    """
    mounts = _read()
    mount = _find(mounts, os.path.realpath(folder))
    while mount is not None and mount.point != "/":
        around = _find([one for one in mounts if one.point != mount.point], mount.point)
        if around is None or not _shows_the_same(mount, around):
            break
        mount = around
    return "" if mount is None else mount.point


def look_at(root: Path, earlier: str | None) -> tuple[str, str | None]:
    """Return where a folder is mounted, and why it is not the one it was, or None; blocks.

    `earlier` is where it was mounted when it was last used.
    """
    mount_point = mount_point_of(root)
    if earlier is None or len(earlier) <= len(mount_point) or os.path.lexists(root / ACCEPTANCE):
        return mount_point, None
    return mount_point, (
        f"its file system is not mounted: until now there was one at {earlier}. Mount it; or, if "
        f"this folder is right as it is, make an empty file {root / ACCEPTANCE}"
    )


def _shows_the_same(mount: Mount, around: Mount) -> bool:
    inside = mount.point[len(around.point.rstrip("/")) :]
    return mount.device == around.device and mount.root == around.root.rstrip("/") + inside


def _find(mounts: list[Mount], real: str) -> Mount | None:
    """Return the mount with the longest point above a path; a later one covers an earlier one."""
    best: Mount | None = None
    for mount in mounts:
        if mount.covers(real) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _read() -> list[Mount]:
    try:
        lines = MOUNTINFO.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        _id, _parent, device, root, point = before.split()[:5]
        found.append(
            Mount(
                point=_unescape(point),
                root=_unescape(root),
                device=device,
                kind=after.split()[0],
            )
        )
    return found


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
