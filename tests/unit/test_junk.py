"""Names that are never touched: every one of the list, in any case, and none too many."""

import pytest

from venice_watch.intake.junk import USUAL, Names

ENDINGS = (
    ".part .partial .filepart .crdownload .download .uploading .upload .tmp .temp .writing "
    ".opdownload .aria2 .!qB .!ut .bc! .!sync .insyncdl .webupload .icloud .lock .swp .kate-swp "
    ".unison ~ ___jb_tmp___ .ocTransferId3fa9.part .1a2B3c4D.partial"
).split()
BEGINNINGS = (
    "._ .~ ~$ .syncthing. ~syncthing~ .goutputstream- .fuse_hidden .nfs .pureftpd-upload. .in. "
    ".com.google.Chrome. .sb- .smbdelete .trashed- .pending- csync_ SYNOPHOTO_ SYNOFILE_THUMB_ "
    "SYNOINDEX_ _exiftool_tmp . @ # ~ $"
).split()
NAMES = [
    "cat.sync-conflict-20260101-010203-ABCDEFG.jpg",
    "cat (conflicted copy 2026-01-01).jpg",
    "cat (Anna's conflicted copy 2026).jpg",
    "cat_conflict-20260101-010203.jpg",
    "cat.jpg_exiftool_tmp",
    "cat.jpg_original",
    *".DS_Store Thumbs.db ehthumbs.db ehthumbs_vista.db desktop.ini .picasa.ini .apdisk".split(),
    "Icon\r",
    "cat.jpg:Zone.Identifier",
    ".venice-watch.yaml",
    ".venice-watch-0123456789abcdef",
]
FOLDERS = [
    *(
        "@eaDir #recycle #snapshot @tmp @sharebin .@__thumb @Recycle @Recently-Snapshot .recycle "
        ".zfs .snapshot ~snapshot .AppleDouble .TemporaryItems .Trashes .Trash-1000 "
        ".Spotlight-V100 .fseventsd __MACOSX $RECYCLE.BIN lost+found .stfolder .stversions "
        ".rsync-partial .~tmp~ .dropbox.cache .tmp.drivedownload .tmp.driveupload .git .hidden"
    ).split(),
    "System Volume Information",
]
PEOPLES = [
    *"cat.jpg CAT.JPG cat x.y.z.jpg part.jpg tmp.png temp download.jpg in.jpg nfs.png".split(),
    *"lock.jpg icon.png desktop.png thumbs.png IMG_0001.HEIC a@b.png 50%.jpg price$.jpg".split(),
    *"cat~dog.jpg cat#1.jpg notes.txt cat.tmp.jpg cat.part.png conflict.jpg".split(),
    "synchro.jpg",
    "cat_original.jpg",
    "cat_original",
    "sync_photo.jpg",
    "cat copy.jpg",
    "conflicted copy of a heart.jpg",
    "猫.jpg",
    "\udce9.jpg",
    " .jpg",
    "Icon",
    "a\nb.jpg",
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_endings(ending: str) -> None:
    """What another program is still writing is not for us, in any case."""
    for name in (f"cat.jpg{ending}", f"CAT.JPG{ending.upper()}", f"cat.jpg{ending.lower()}"):
        assert USUAL.skip_reason(name), name


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_beginnings(beginning: str) -> None:
    """What another program keeps beside images is not for us, though it ends like one."""
    for name in (f"{beginning}cat.jpg", f"{beginning.upper()}CAT.JPG", f"{beginning.lower()}x"):
        assert USUAL.skip_reason(name), name


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    """Files of systems, copies made by conflicts, and our own are skipped, in any case."""
    assert USUAL.skip_reason(name)
    assert USUAL.skip_reason(name.upper())
    assert USUAL.skip_reason(name.lower())


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(name: str) -> None:
    """Folders of systems are neither entered nor watched, in any case."""
    assert USUAL.skips_folder(name)
    assert USUAL.skips_folder(name.upper())
    assert USUAL.skips_folder(name.lower())


@pytest.mark.parametrize("name", PEOPLES)
def test_names_of_people(name: str) -> None:
    """Names that only look a little like those are a person's."""
    assert USUAL.skip_reason(name) is None


@pytest.mark.parametrize("name", ["2026", "Holiday", "git", "recycle", "a.b", "tmp", "猫", "x@y"])
def test_folders_of_people(name: str) -> None:
    """A person's folder is entered."""
    assert not USUAL.skips_folder(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".venice-watch.yaml", "our own"),
        (".hidden.jpg", "hidden"),
        ("cat.jpg.part", "temporary"),
        ("Thumbs.db", "system or conflict file"),
    ],
)
def test_reasons(name: str, reason: str) -> None:
    """Each kind is counted under its own words."""
    assert USUAL.skip_reason(name) == reason


def test_names_of_a_folder() -> None:
    """A folder adds patterns, and takes what is usually skipped; our own names stay out."""
    names = Names(skip=("*_Draft.*", "rejects"), take=("#*", "*.part"))
    assert names.skip_reason("a_draft.png") == "named in `skip_names`"
    assert names.skips_folder("Rejects")
    assert names.skip_reason("#1.png") is None
    assert names.skip_reason("scan.PART") is None
    assert not names.skips_folder("#inbox")
    assert names.skip_reason(".hidden.png") == "hidden"
    everything = Names(take=("*",))
    assert everything.skip_reason(".venice-watch-x") == "our own"
    assert everything.skips_folder(".venice-watch-x")
