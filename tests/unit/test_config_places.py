"""Where a configuration's folders are, and which arrangements of them are refused."""

from pathlib import Path

import pytest

from venice_watch.config.load import loads
from venice_watch.errors import ConfigError

FOLDER = """\
  - name: {name}
    inbox: {inbox}
    outbox: {outbox}
    quarantine: {quarantine}
    archive: {archive}
    preset: p
"""


def text(*folders: dict[str, str], state: str = "state") -> str:
    """Return a configuration with folders f0, f1, ..., their places as given."""
    parts = [f"state_dir: {state}\npresets: {{p: {{}}}}\nfolders:\n"]
    for i, given in enumerate(folders):
        name = f"f{i}"
        kinds = ("inbox", "outbox", "quarantine", "archive")
        places = {kind: f"{name}-{kind}" for kind in kinds} | given
        parts.append(FOLDER.format(name=name, **places))
    return "".join(parts)


def refused(config: str, directory: Path, environment: dict[str, str] | None = None) -> list[str]:
    """Return what is wrong with a configuration in a directory."""
    with pytest.raises(ConfigError) as caught:
        loads(config, directory / "c.yaml", environment or {})
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("folders", "key", "words"),
    [
        ([{"outbox": "f0-inbox/out"}], "folders.f0.outbox", "inside the inbox of 'f0'"),
        ([{"outbox": "f0-inbox"}], "folders.f0.outbox", "same folder as the inbox of 'f0'"),
        ([{"archive": "f0-inbox/a/b"}], "folders.f0.archive", "inside the inbox of 'f0'"),
        ([{"quarantine": "x/../f0-inbox/q"}], "folders.f0.quarantine", "inside the inbox"),
        ([{}, {"archive": "f0-inbox/x"}], "folders.f1.archive", "inside the inbox of 'f0'"),
        ([{}, {"inbox": "f0-inbox"}], "folders.f1.inbox", "same folder as the inbox of 'f0'"),
        ([{}, {"inbox": "f0-inbox/x"}], "folders.f1.inbox", "inside the inbox of 'f0'"),
        ([{"inbox": "f1-inbox/x"}, {}], "folders.f0.inbox", "inside the inbox of 'f1'"),
        ([{}, {"inbox": "f0-outbox/x"}], "folders.f1.inbox", "upscaled again"),
        ([{}, {"inbox": "f0-archive/x"}], "folders.f1.inbox", "the archive of 'f0'"),
        ([{"inbox": "f0-quarantine/x"}], "folders.f0.inbox", "the quarantine of 'f0'"),
    ],
)
def test_overlaps(folders: list[dict[str, str]], key: str, words: str, tmp_path: Path) -> None:
    """Folders that would feed each other are refused at the one to change, with the reason."""
    [problem] = refused(text(*folders), tmp_path)
    assert problem.startswith(f"{key}: ")
    assert words in problem


def test_state_in_an_inbox(tmp_path: Path) -> None:
    """The state folder may not be in an inbox."""
    [problem] = refused(text({}, state="f0-inbox/state"), tmp_path)
    assert problem.startswith("state_dir: lies inside the inbox of 'f0'")


def test_links_are_followed(tmp_path: Path) -> None:
    """An outbox that is a link into an inbox lies in that inbox."""
    (tmp_path / "f0-inbox" / "deep").mkdir(parents=True)
    (tmp_path / "f0-outbox").symlink_to(tmp_path / "f0-inbox" / "deep")
    [problem] = refused(text({}), tmp_path)
    assert problem.startswith("folders.f0.outbox: lies inside")


def test_neighbours_are_fine(tmp_path: Path) -> None:
    """A name that only begins like an inbox's is another folder; outboxes can be shared."""
    folders = ({"inbox": "in", "outbox": "in-out"}, {"inbox": "in2", "outbox": "in-out"})
    config = loads(text(*folders), tmp_path / "c.yaml", {})
    assert [folder.outbox for folder in config.folders] == [tmp_path / "in-out"] * 2


def test_a_mistake_elsewhere_hides_no_overlap(tmp_path: Path) -> None:
    """Overlaps are found also in a folder that has other mistakes."""
    config = text({"outbox": "f0-inbox/out", "archive": "''"}) + "    rescan: never\n"
    problems = refused(config, tmp_path)
    assert [problem.split(":")[0] for problem in problems] == [
        "folders.f0.outbox", "folders.f0.archive", "folders.f0.rescan",
    ]  # fmt: skip


def test_variables(tmp_path: Path) -> None:
    """Variables are expanded in paths, with a default for those unset or empty."""
    environment = {"ROOT": "/srv", "EMPTY": ""}
    folder = {"inbox": "${ROOT}/in", "outbox": "${EMPTY:-/mnt}/out", "archive": "${GONE:-a}$b"}
    config = loads(text(folder), tmp_path / "c.yaml", environment)
    assert config.folders[0].inbox == Path("/srv/in")
    assert config.folders[0].outbox == Path("/mnt/out")
    assert config.folders[0].archive == tmp_path / "a$b"


def test_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are relative to the configuration, wherever it was named from."""
    monkeypatch.chdir(tmp_path)
    assert loads(text({}), Path("sub/c.yaml"), {}).state_dir == tmp_path / "sub" / "state"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("${GONE}/x", "the variable 'GONE' is not set"),
        ("'${}'", "is no variable"),
        ("'${A'", "is no variable"),
        ("'${A:+b}'", "is no variable"),
        ("${EMPTY}", "is empty"),
        ("''", "is empty"),
        ("~/in", "`~` is not expanded"),
        ('"a\\0b"', "NUL"),
        ("${NUL}", "NUL"),
        ("${HALF}", "surrogate"),
        ("7", "must be a path, not 7"),
        ("[a]", "must be a path, not a list"),
        ("x" * 256, "more than 255 bytes"),
        ("/x" * 2_048, "longer than the 4,095 bytes"),
    ],
)
def test_path_mistakes(written: str, words: str, tmp_path: Path) -> None:
    """A path that cannot be is refused with the reason."""
    environment = {"EMPTY": "", "NUL": "a\0b", "HALF": "\ud800"}
    [problem] = refused(text({"outbox": written}), tmp_path, environment)
    assert problem.startswith("folders.f0.outbox: ")
    assert words in problem


def test_a_variables_value_is_not_shown(tmp_path: Path) -> None:
    """What a variable holds appears in no message."""
    environment = {"SECRET": "f0-inbox/hunter2\n"}
    problems = refused(text({"outbox": "${SECRET}"}), tmp_path, environment)
    assert "hunter2" not in "".join(problems)
