"""Names that are never touched: what other programs write while they work, and their folders.

Source: measured with two dozen writers, and the trackers of programs like this one. Matching
ignores case. `skip_reason` says why a name is skipped, in the words that are logged and counted.
"""

import re
from fnmatch import translate

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


def skip_reason(name: str) -> str | None:
    """Return why a file of this name is not for us, or None."""
    lower = name.lower()
    if lower.startswith(".venice-watch"):
        return "our own"
    if lower[:1] in HIDDEN_FIRST:
        return "hidden"
    if lower.endswith(tuple(_ENDINGS)) or lower.startswith(tuple(_BEGINNINGS)):
        return "temporary"
    if _PATTERN.match(lower):
        return "system or conflict file"
    return None


def is_skipped_folder(name: str) -> bool:
    """Tell whether a folder of this name is neither entered nor watched."""
    lower = name.lower()
    return lower[:1] in HIDDEN_FIRST or lower in _FOLDERS
