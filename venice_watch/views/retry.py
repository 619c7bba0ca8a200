"""Takes quarantined files back into their inboxes, where they are new images.

Rules: the file moves first, durably and to a free name only, then its report goes: a crash in
between leaves the file in one place. The ledger is not touched; the daemon notices.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from venice_watch.errors import Code, VeniceWatchError
from venice_watch.files.originals import move_original
from venice_watch.files.place import NameTakenError, make_folders, sync_folder
from venice_watch.files.source import sign
from venice_watch.intake.junk import Names
from venice_watch.intake.look import is_ours
from venice_watch.naming import REPORT_SUFFIX
from venice_watch.views.located import locate

if TYPE_CHECKING:
    from venice_watch.config.model import Config, Folder

REPORT_BYTES_MAX = 1_000_000  # ours have a few thousand
MATCHES_SHOWN = 5  # of an ambiguous name


class _StaysError(VeniceWatchError):
    """A file that stays in the quarantine, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quarantined:
    """A file in a quarantine, and the report of ours beside it."""

    folder: "Folder"
    relative: str  # in the quarantine
    report: Mapping[str, Any] | None
    seen: os.stat_result | None  # which report that was

    @property
    def path(self) -> Path:
        return self.folder.quarantine / self.relative


def take_back(
    config: "Config", folders: "Sequence[Folder]", files: Sequence[Path], *, cwd: Path
) -> Iterator[dict[str, Any]]:
    """Move what is named by somebody who stands in `cwd`, or all; yield what became of each.

    `back` tells whether it is in the inbox again, as `path`; `message` why not, or what to know.
    """
    for named, one in _find(config, folders, files, cwd):
        facts: dict[str, Any] = {"file": named, "back": False, "folder": None, "path": None}
        try:
            if isinstance(one, _StaysError):
                raise one
            facts |= {"folder": one.folder.name, "path": _move(one), "back": True}
            yield facts | {"message": _warning(one)}
        except VeniceWatchError as exc:
            yield facts | {"message": str(exc)}
        except OSError as exc:
            where = f"{os.fsdecode(exc.filename)}: " if exc.filename else ""
            yield facts | {"message": f"{where}{exc.strerror or exc}"}


def _warning(one: _Quarantined) -> str | None:
    if one.report is None or one.report.get("code") != Code.IN_DOUBT:
        return None
    return "it was in doubt, and may be paid for a second time now"


# --- finding -------------------------------------------------------------------------------------


def _find(
    config: "Config", folders: "Sequence[Folder]", files: Sequence[Path], cwd: Path
) -> "Iterator[tuple[str, _Quarantined | _StaysError]]":
    if not files:
        for one in list(_all(config, folders)):
            yield str(one.path), one
    for file in files:
        try:
            yield str(file), _named(config, folders, file, cwd)
        except _StaysError as exc:
            yield str(file), exc


def _all(config: "Config", folders: "Sequence[Folder]") -> Iterator[_Quarantined]:
    """Yield every file with a report of ours beside it."""
    wanted = {folder.name for folder in folders}
    for root in dict.fromkeys(folder.quarantine for folder in folders):
        for relative in _reported(root):
            one = _read(config, root, relative)
            if one is not None and one.report is not None and one.folder.name in wanted:
                yield one


def _reported(root: Path) -> Iterator[str]:
    """Yield the paths in a quarantine that have something like a report beside them."""
    for where, _, names in os.walk(root):
        there = set(names)
        for name in sorted(names):
            if f"{name}{REPORT_SUFFIX}" in there:
                yield os.path.relpath(os.path.join(where, name), root)  # noqa: PTH118 - as walk


def _named(config: "Config", folders: "Sequence[Folder]", file: Path, cwd: Path) -> _Quarantined:
    """Return the one quarantined file that a person means."""
    roots = dict.fromkeys(folder.quarantine for folder in folders)
    found = {
        (one.root, _original(one.root, one.relative))
        for one in locate(config, cwd / file)
        if one.role == "quarantine" and one.root in roots
    }
    if not file.is_absolute():
        found |= {(root, _original(root, str(file))) for root in roots}
    there = [(root, path) for root, path in found if path is not None]
    if not there and not file.is_absolute():
        suffix = f"/{str(file).removesuffix(REPORT_SUFFIX)}"
        there = [
            (root, path) for root in roots for path in _reported(root) if path.endswith(suffix)
        ]
    if not there:
        raise _StaysError(
            "there is no such file in the quarantine " + " or ".join(str(root) for root in roots)
        )
    if len(there) > 1:
        shown = ", ".join(str(root / path) for root, path in sorted(there)[:MATCHES_SHOWN])
        raise _StaysError(f"there are {len(there)} of that name; name one whole: {shown}")
    [(root, path)] = there
    one = _read(config, root, path)
    if one is None:
        raise _StaysError(f"{root / path} is not a regular file")
    return one


def _original(root: Path, relative: str) -> str | None:
    """Return the quarantined file that a path stands for: itself, or the one it reports on."""
    if ".." in relative.split("/"):
        return None
    reported = relative.removesuffix(REPORT_SUFFIX)
    if reported != relative and os.path.lexists(root / reported):
        return relative if os.path.lexists(f"{root / relative}{REPORT_SUFFIX}") else reported
    return relative if os.path.lexists(root / relative) else None


def _read(config: "Config", root: Path, relative: str) -> _Quarantined | None:
    """Return a quarantined file with its report, or None if it is no regular file."""
    path = root / relative
    if path.is_symlink() or not path.is_file():
        return None
    report, seen = _read_report(Path(f"{path}{REPORT_SUFFIX}"))
    sharing = [folder for folder in config.folders if folder.quarantine == root]
    name = None if report is None else report.get("folder")
    folder = next((folder for folder in sharing if folder.name == name), sharing[0])
    return _Quarantined(folder=folder, relative=relative, report=report, seen=seen)


def _read_report(path: Path) -> tuple[Mapping[str, Any] | None, os.stat_result | None]:
    """Return a report and which file that was; (None, None) for what is none of ours."""
    try:
        if path.is_symlink():
            return None, None
        with path.open("rb") as file:
            seen = os.fstat(file.fileno())
            facts = json.loads(file.read(REPORT_BYTES_MAX))
    except (OSError, ValueError, RecursionError):
        return None, None
    ours = isinstance(facts, dict) and {"code", "message", "source", "job"} <= facts.keys()
    return (facts, seen) if ours else (None, None)


# --- moving --------------------------------------------------------------------------------------


def _move(one: _Quarantined) -> str:
    """Move a file back, then remove its report; return its path in the inbox."""
    source = _source(one)
    inbox = one.folder.inbox
    target = inbox / source
    _make_folders(inbox, target.parent)
    try:
        move_original(
            one.folder.quarantine, one.relative, sign(one.path.lstat()), target, target_root=inbox
        )
    except NameTakenError as exc:
        raise _StaysError(
            f"{target} is there already, and nothing is replaced. Move one of the two."
        ) from exc
    report = Path(f"{one.path}{REPORT_SUFFIX}")
    # the daemon may have put the file back here already, with a new report
    if one.seen is not None and _is_same(report, one.seen):
        report.unlink(missing_ok=True)
        sync_folder(report.parent)
    return source


def _make_folders(inbox: Path, folder: Path) -> None:
    """Make the missing sub-folders; for root, they belong to whom the inbox belongs."""
    missing = [one for one in (folder, *folder.parents) if one != inbox and not one.exists()]
    make_folders(folder, inbox)
    if os.geteuid() != 0:
        return
    status = inbox.stat()
    for one in missing:
        if one.is_relative_to(inbox):
            os.chown(one, status.st_uid, status.st_gid)
            one.chmod(status.st_mode & 0o7777)


def _is_same(path: Path, seen: os.stat_result) -> bool:
    try:
        now = path.lstat()
    except OSError:
        return False
    return os.path.samestat(now, seen) and now.st_mtime_ns == seen.st_mtime_ns


def _source(one: _Quarantined) -> str:
    """Return where the file belongs in the inbox: as its report says, if that is a path there."""
    source = one.relative if one.report is None else one.report["source"]
    parts = source.split("/") if isinstance(source, str) else []
    if not parts or "\0" in source or any(part in ("", ".", "..") for part in parts):
        raise _StaysError(f"its report names no path of an inbox: {source!r:.200}")
    try:
        os.fsencode(source)
    except UnicodeEncodeError as exc:
        raise _StaysError(f"its report names no path of an inbox: {source!r:.200}") from exc
    names = Names.of(one.folder)
    if not is_ours(source, recursive=one.folder.recursive, names=names):
        raise _StaysError(
            f"{source} would not be taken from the inbox: folder {one.folder.name!r} leaves such "
            "names alone. Rename it and move it there."
        )
    inner = one.folder.inbox
    for part in parts[:-1]:
        inner /= part
        if inner.is_symlink():
            raise _StaysError(f"{inner} is a link, and links in an inbox are not followed")
    return source
