"""Names that are never touched: what other programs write while they work, and their folders.

Source: measured with two dozen writers, and the trackers of programs like this one. Matching
ignores case. A folder may add patterns of its own, or take names that are usually skipped.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from venice_watch.config.model import Folder

OWN = ".venice-watch"
HIDDEN_FIRST = frozenset(".@#~$")  # a component that begins so belongs to a program, not a person

_ENDINGS = (
    ".part .partial .filepart .crdownload .download .uploading .upload .tmp .temp .writing "
    ".opdownload .aria2 .!qb .!ut .bc! .!sync .insyncdl .webupload .icloud .lock .swp .kate-swp "
    ".unison ~ ___jb_tmp___"
).split()
_BEGINNINGS = (
    "._ .~ ~$ .syncthing. ~syncthing~ .goutputstream- .fuse_hidden .nfs .pureftpd-upload. .in. "
    ".com.google.chrome. .sb- .smbdelete .trashed- .pending- csync_ synophoto_ synofile_thumb_ "
    "synoindex_ _exiftool_tmp .venice-watch"
).split()
_PATTERNS = (
    "*_exiftool_tmp",
    "*.*_original",  # the copy that exiftool keeps of what it changes: cat.jpg_original
    "*.[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f].partial",
    "*.octransferid*.part",
    "*.sync-conflict-*",
    "*(*conflicted copy*",
    "*_conflict-*",
    ".ds_store",
    "thumbs.db",
    "ehthumbs*.db",
    "desktop.ini",
    ".picasa.ini",
    ".apdisk",
    "icon\r",
    "*:zone.identifier",
)
_FOLDERS = frozenset(
    "@eadir #recycle #snapshot @tmp @sharebin .@__thumb @recycle @recently-snapshot .recycle .zfs "
    ".snapshot ~snapshot .appledouble .temporaryitems .trashes .spotlight-v100 .fseventsd "
    "__macosx $recycle.bin lost+found .stfolder .stversions .rsync-partial .~tmp~ .dropbox.cache "
    ".tmp.drivedownload .tmp.driveupload .git".split()
) | {"system volume information"}
_PATTERN = re.compile("|".join(translate(pattern) for pattern in _PATTERNS), re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a folder leaves alone: the usual names, those it adds, less those it takes."""

    skip: tuple[str, ...] = ()  # patterns
    take: tuple[str, ...] = ()  # patterns; they win

    @classmethod
    def of(cls, folder: "Folder") -> Self:
        """Return what this folder leaves alone."""
        return cls(skip=folder.skip_names, take=folder.take_names)

    def skip_reason(self, name: str) -> str | None:
        """Return why a file of this name is not for us, or None."""
        lower = name.lower()
        if lower.startswith(OWN):
            return "our own"
        if _matches(lower, self.take):
            return None
        if _matches(lower, self.skip):
            return "named in `skip_names`"
        return _usual_reason(lower)

    def skips_folder(self, name: str) -> bool:
        """Tell whether a folder of this name is neither entered nor watched."""
        lower = name.lower()
        if lower.startswith(OWN):
            return True
        if _matches(lower, self.take):
            return False
        return _matches(lower, self.skip) or lower[:1] in HIDDEN_FIRST or lower in _FOLDERS


USUAL = Names()


def _matches(lower: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(lower, pattern.lower()) for pattern in patterns)


def _usual_reason(lower: str) -> str | None:
    if lower[:1] in HIDDEN_FIRST:
        return "hidden"
    if lower.endswith(tuple(_ENDINGS)) or lower.startswith(tuple(_BEGINNINGS)):
        return "temporary"
    if _PATTERN.match(lower):
        return "system or conflict file"
    return None
