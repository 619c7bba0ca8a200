"""Why the ledger may not know a file: where it lies, what it is called, how it stands."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from venice_watch.config.model import UnknownFiles
from venice_watch.intake import look, mounts
from venice_watch.intake.junk import Names
from venice_watch.settle import End, Writer
from venice_watch.views.located import Located, locate, roots_of

if TYPE_CHECKING:
    from venice_watch.config.model import Config


def reasons(config: "Config", file: Path, *, cwd: Path, running: bool) -> list[str]:
    """Return what can be said of a file that the ledger does not know; blocks.

    Call `look.ignore_lease_breaks` before, in the main thread.
    """
    places = locate(config, cwd / file)
    if not places and not file.is_absolute():
        for folder in config.folders:
            for _, root in roots_of(folder):
                if os.path.lexists(root / file):
                    places += locate(config, root / file)
    if not places:
        inboxes = ", ".join(str(folder.inbox) for folder in config.folders)
        there = "" if os.path.lexists(cwd / file) else "there is no such file here, and "
        return [f"{there}it is in none of the configured folders; the inboxes are {inboxes}"]
    return [f"{one.absolute}: {_reason(one, running=running)}" for one in places]


def _reason(one: Located, *, running: bool) -> str:
    if one.role != "inbox":
        there = os.path.lexists(one.absolute)
        return (
            f"it is in the {one.role} of folder {one.folder.name!r}, and was not put there by "
            "this state folder's work"
            if there
            else f"there is no such file in the {one.role}, and none that was put there is known"
        )
    return _reason_by_name(one) or _reason_by_file(one, running=running)


def _reason_by_name(one: Located) -> str | None:
    *folders, name = one.relative.split("/")
    if folders and not one.folder.recursive:
        return "it is in a sub-folder, and `recursive` of this folder is off"
    names = Names.of(one.folder)
    skipped = next((part for part in folders if names.skips_folder(part)), None)
    if skipped is not None:
        return (
            f"the folder {skipped} is hidden, a system's, or in `skip_names`, and is never entered"
        )
    reason = names.skip_reason(name)
    if reason is not None:
        return f"its name is never touched ({reason}); rename it, or name it in `take_names`"
    return None


def _reason_by_file(one: Located, *, running: bool) -> str:
    inner = one.root
    for part in one.relative.split("/"):
        inner /= part
        if inner.is_symlink():
            return f"{inner} is a link, and links are not followed; copy the file itself"
    try:
        status = one.absolute.lstat()
    except OSError as exc:
        return f"it cannot be looked at: {exc.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    return _reason_by_look(one, running=running)


def _reason_by_look(one: Located, *, running: bool) -> str:
    folder = one.folder
    trusted = mounts.file_system_of(folder.inbox) in mounts.TRUSTED
    try:
        sample = look.examine(folder.inbox, one.relative, trusted=trusted)
    except OSError as exc:
        return f"it cannot be opened: {exc.strerror}"
    if sample is None:
        return "it left just now"
    if not sample.candidate and folder.unknown_files is UnknownFiles.IGNORE:
        return "it is no image, by its ending and by its content, and is left alone"
    if sample.writer is Writer.SOME:
        return "a program is still writing it"
    waits = f"; it is quarantined if nobody writes to it for {folder.incomplete_after_s:g} s"
    if sample.signature.size_bytes == 0:
        return f"it is empty{waits}"
    if sample.end is End.MISSING:
        return f"its end is missing{waits}"
    if running:
        return (
            f"it was not seen yet; the inbox is looked through every {folder.rescan_s:g} s, and a "
            f"file must not have changed for {folder.settle_s:g} s"
        )
    return "nothing runs that would see it: start `venice-watch run`, or `venice-watch once`"
