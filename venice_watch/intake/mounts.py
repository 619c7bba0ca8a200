"""Which file system a folder is on, and whether the kernel announces every change there."""

import os
from pathlib import Path

# local file systems whose events and leases were measured to be right; all others are scanned
TRUSTED = frozenset("ext2 ext3 ext4 xfs btrfs f2fs zfs tmpfs ramfs overlay bcachefs".split())
NETWORK = frozenset("nfs nfs4 cifs smb3 smbfs 9p ceph glusterfs afs ncpfs lustre".split())
MOUNTINFO = Path("/proc/self/mountinfo")


def file_system_of(folder: Path) -> str:
    """Return the type of the file system that holds `folder`."""
    return mount_of(folder)[1]


def mount_of(folder: Path) -> tuple[str, str]:
    """Return where the file system of `folder` is mounted and of which type it is.

    By the longest mount point; ("", "unknown") where the kernel does not tell.
    """
    real = os.path.realpath(folder)
    best, kind = "", "unknown"
    try:
        lines = MOUNTINFO.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return best, kind
    for line in lines:
        before, _, after = line.partition(" - ")
        mount_point = _unescape(before.split()[4])
        inside = real == mount_point or real.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= len(best):  # a later mount covers an earlier one
            best, kind = mount_point, after.split()[0]
    return best, kind


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
