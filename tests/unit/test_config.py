"""What the configuration promises as a whole: one text in, a `Config` or every mistake out."""

from pathlib import Path

import pytest

from venice_watch.config.load import loads
from venice_watch.config.model import (
    ContractChoice,
    Frames,
    OnInDoubt,
    OnUnsupported,
    Originals,
    Oversize,
    UnknownFiles,
    Watch,
)
from venice_watch.config.output import METADATA_KINDS, TIMES, OnConflict, Output
from venice_watch.errors import ConfigError, Problem
from venice_watch.images.metadata import KINDS
from venice_watch.parameters import Parameters
from venice_watch.rules import Match, Rule

WHERE = Path("/etc/venice-watch/config.yaml")
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


def problems(text: str, environment: dict[str, str] | None = None) -> tuple[Problem, ...]:
    """Return what is wrong with a text."""
    with pytest.raises(ConfigError) as caught:
        loads(text, WHERE, environment or {})
    return caught.value.problems


def only(text: str) -> Problem:
    """Return the one thing that is wrong with a text."""
    found = problems(text)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def folder_with(*lines: str) -> str:
    """Return the smallest configuration with more lines in its folder, from line 11 on."""
    return SMALLEST + "".join(f"    {line}\n" for line in lines)


def api_with(*lines: str) -> str:
    """Return the smallest configuration with lines under `api`, from line 12 on."""
    return SMALLEST + "api:\n" + "".join(f"  {line}\n" for line in lines)


def test_defaults() -> None:
    """The smallest configuration has the documented default for everything else."""
    config = loads(SMALLEST, WHERE, {})
    assert config.path == WHERE
    assert config.presets == {"photo": Parameters(scale=2)}
    api = config.api
    assert api.base_url == "https://api.venice.ai/api/v1"
    assert (api.key_file, api.contract, api.concurrency) == (None, ContractChoice.AUTO, 4)
    assert (api.requests_per_minute, api.on_in_doubt) == (None, OnInDoubt.RESEND_ONCE)
    timeouts, retries = api.timeouts, api.retries
    assert (timeouts.connect_s, timeouts.write_s) == (10, 60)
    assert (timeouts.read_s, timeouts.total_s) == (180, 300)
    assert (retries.attempts, retries.base_s, retries.max_s) == (6, 1, 120)
    [folder] = config.folders
    assert (folder.originals, folder.recursive, folder.rules) == (Originals.ARCHIVE, True, ())
    assert (folder.folder_presets, folder.concurrency, folder.priority) == (False, None, 0)
    assert (folder.watch, folder.rescan_s, folder.settle_s) == (Watch.AUTO, 30, 2)
    assert (folder.incomplete_after_s, folder.unknown_files) == (600, UnknownFiles.IGNORE)
    assert (folder.on_unsupported, folder.oversize) == (OnUnsupported.HOLD, Oversize.REDUCE)
    assert (folder.frames, folder.frames_max) == (Frames.FIRST, 100)
    assert (folder.output.name, folder.output.on_conflict) == ("{stem}.{ext}", OnConflict.RENAME)
    assert folder.output.mode == 0o664


def test_values() -> None:
    """Every kind of value arrives as what it means."""
    config = loads(
        folder_with(
            "rules:",
            "  - match: {name: '*.GIF', format: [jpg, TIF], pixels_max: 1_000_000}",
            "    set: {scale: 4}",
            "concurrency: 2",
            "rescan: 1h30m",
            "settle: 0.5",
            "watch: polling",
            "originals: delete",
            "output: {mode: '600', name: '{counter:03}.{ext}'}",
        )
        + "api: {requests_per_minute: 20, contract: creativity, timeouts: {connect: 250ms}}\n",
        WHERE,
        {},
    )
    [folder] = config.folders
    match = Match(name=("*.GIF",), format=("jpeg", "tiff"), pixels_max=1_000_000)
    assert folder.rules == (Rule(match=match, set={"scale": 4}),)
    assert (folder.concurrency, folder.rescan_s, folder.settle_s) == (2, 5_400, 0.5)
    assert (folder.watch, folder.originals) == (Watch.POLLING, Originals.DELETE)
    assert (folder.output.mode, folder.output.name) == (0o600, "{counter:03}.{ext}")
    assert (config.api.requests_per_minute, config.api.timeouts.connect_s) == (20, 0.25)
    assert config.api.contract is ContractChoice.CREATIVITY


def test_frozen() -> None:
    """Nothing of a configuration can be changed once it is read."""
    config = loads(folder_with("rules: [{match: {name: x}, set: {scale: 3}}]"), WHERE, {})
    with pytest.raises(ValueError, match="frozen"):
        config.folders[0].preset = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.presets["x"] = Parameters()  # type: ignore[index]
    with pytest.raises(TypeError):
        config.folders[0].rules[0].set["scale"] = 4  # type: ignore[index]


def test_five_mistakes_at_once() -> None:
    """Five mistakes of five kinds are five problems: file, line, column, key, what to do."""
    text = """\
state_dir: /srv/in/state
presets:
  photo: {scale: 2, replication: 1.2}
folders:
  - name: photos
    inbox: /srv/in
    outbx: /srv/out
    outbox: /srv/out
    quarantine: /srv/q
    originals: keep
    preset: phto
    rescan: 500ms
"""
    assert [str(problem) for problem in problems(text)] == [
        (
            f"{WHERE}:1:12: state_dir: lies inside the inbox of 'photos'; what is written there "
            "would be taken for new images; choose a folder outside every inbox"
        ),
        f"{WHERE}:3:34: presets.photo.replication: 1.2 is outside 0 to 1; choose a number within",
        f"{WHERE}:7:5: folders.photos.outbx: unknown key; did you mean `outbox`?",
        f"{WHERE}:11:13: folders.photos.preset: there is no preset 'phto'; did you mean `photo`?",
        (
            f"{WHERE}:12:13: folders.photos.rescan: '500ms' is outside 1s to 1d; "
            "choose a duration within"
        ),
    ]


@pytest.mark.parametrize(
    ("preset", "key", "words"),
    [
        ("{scale: 1}", "scale", "enhance: true"),
        ("{replication: 1.2}", "replication", "outside 0 to 1"),
        ("{enhancePrompt: " + "x" * 1_501 + "}", "enhancePrompt", "1,501 characters"),
    ],
)
def test_parameters_are_checked_at_load(preset: str, key: str, words: str) -> None:
    """Parameters that Venice would refuse are refused before anything is sent."""
    problem = only(SMALLEST.replace("{scale: 2}", preset))
    assert problem.key == f"presets.photo.{key}"
    assert (problem.line, words in problem.message) == (3, True)


@pytest.mark.parametrize(
    "line", ["key", "api_key", "api-key", "token", "Authorization", "venice_api_key", "apiKey"]
)
@pytest.mark.parametrize("around", [SMALLEST, SMALLEST + "api:\n  "])
@pytest.mark.parametrize("secret", ["hunter2", "sk-0123456789abcdefghijklmnop", "012345", "[a1]"])
def test_key_in_the_file(line: str, around: str, secret: str) -> None:
    """An API key in the file is refused, with what to do instead and without showing it."""
    found = problems(f"{around}{line}: {secret}\n")
    assert any("api.key_file" in problem.message for problem in found)
    assert all(secret.strip("[]") not in str(problem) for problem in found)


@pytest.mark.parametrize(
    "secret", ["sk-0123456789abcdefghijklmnop", "abcdefghijklmnopqrstuvwxyz", "'Bearer hunter2'"]
)
def test_key_as_key_file(secret: str) -> None:
    """A key where the name of its file belongs is refused without being shown."""
    problem = only(api_with(f"key_file: {secret}"))
    assert problem.key == "api.key_file"
    assert "looks like a key" in problem.message
    assert secret.strip("'") not in str(problem)


def test_key_file_with_a_long_name(tmp_path: Path) -> None:
    """A file that exists is no key, however long its name."""
    (tmp_path / "venice-production-key-2026").touch()
    text = api_with("key_file: venice-production-key-2026")
    config = loads(text, tmp_path / "c.yaml", {})
    assert config.api.key_file == tmp_path / "venice-production-key-2026"


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("base_url: http://example.com", "base_url", "plain http"),
        ("base_url: http://127.0.0.1.example.com", "base_url", "plain http"),
        ("base_url: https://me:hunter2@example.com", "base_url", "user or password"),
        ("base_url: ftp://example.com", "base_url", "http or https"),
        ("base_url: api.venice.ai", "base_url", "http or https"),
        ("base_url: https://example.com/?a=hunter2", "base_url", "take off"),
        ("base_url: 'https://exam ple.com'", "base_url", "space"),
        ("base_url: https://example.com:port", "base_url", "is no address"),
        ("base_url: 'https://[::1'", "base_url", "is no address"),
        ("base_url: [a]", "base_url", "must be an address"),
        ("contract: newest", "contract", "auto, enhance or creativity, not 'newest'"),
        ("contract: on", "contract", "not 'on'"),
        ("on_in_doubt: resend", "on_in_doubt", "resend-once or hold"),
        ("concurrency: 0", "concurrency", "0 is outside 1 to 64"),
        ("concurrency: 65", "concurrency", "65 is outside 1 to 64"),
        ("concurrency: '4'", "concurrency", "must be a whole number"),
        ("concurrency: 1.5", "concurrency", "must be a whole number"),
        ("concurrency: true", "concurrency", "not true"),
        ("requests_per_minute: 6001", "requests_per_minute", "outside 1 to 6,000"),
        ("requests_per_minute: fast", "requests_per_minute", "`auto` or a whole number"),
        ("timeouts: {read: 10 minutes}", "timeouts.read", "ms, s, m, h, d"),
        ("timeouts: {read: 0}", "timeouts.read", "ms, s, m, h, d"),
        ("timeouts: {read: -1}", "timeouts.read", "ms, s, m, h, d"),
        ("timeouts: {read: 2h}", "timeouts.read", "outside 10ms to 1h"),
        ("timeouts: {reed: 2s}", "timeouts.reed", "did you mean `read`?"),
        ("timeouts: {connect_s: 2s}", "timeouts.connect_s", "did you mean `connect`?"),
        ("timeouts: 10s", "timeouts", "must be a mapping"),
        ("retries: {attempts: 0}", "retries.attempts", "outside 1 to 100"),
        ("retries: {base: 3m}", "retries.base", "longer than the longest"),
        ("retries: [1]", "retries", "not a list"),
        ("budget: {per_day_usd: 5}", "budget", "unknown key"),
    ],
)
def test_api_mistakes(line: str, key: str, words: str) -> None:
    """A wrong value under `api` is one problem at that line, without what must not be shown."""
    problem = only(api_with(line))
    assert problem.key == f"api.{key}"
    assert words in problem.message
    assert problem.line == 12
    assert "hunter2" not in problem.message


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://example.com/api/v1/", "https://example.com/api/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:8000/x/", "http://localhost:8000/x"),
        ("'http://[::1]:8000'", "http://[::1]:8000"),
        ("'http://127.0.0.1:${PORT:-99}/v1'", "http://127.0.0.1:99/v1"),
    ],
)
def test_base_url(written: str, expected: str) -> None:
    """An address may be https, or http on this machine; variables are expanded."""
    assert loads(api_with(f"base_url: {written}"), WHERE, {}).api.base_url == expected


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("recursive: yes", "recursive", "true or false, not 'yes'"),
        ("recursive: 1", "recursive", "true or false, not 1"),
        ("originals: keap", "originals", "did you mean `keep`?"),
        ("priority: 101", "priority", "outside -100 to 100"),
        ("concurrency: 5", "concurrency", "5 is more than the 4 of api.concurrency"),
        ("rescan: 2d", "rescan", "outside 1s to 1d"),
        ("settle: 5x", "settle", "ms, s, m, h, d"),
        ("incomplete_after: 10ms", "incomplete_after", "outside 1s to 30d"),
        ("output: {mode: 664}", "output.mode", 'write "0664"'),
        ("output: {mode: 0664}", "output.mode", '"0664"'),
        ("output: {mode: '0888'}", "output.mode", "three octal digits"),
        ("output: {mode: '4755'}", "output.mode", "three octal digits"),
        ("output: {name: '{stm}.{ext}'}", "output.name", "did you mean `stem`?"),
        ("output: {name: 7}", "output.name", "must be a template"),
        ("output: {form: png}", "output.form", "unknown key"),
        ("output: {format: jpg}", "output.format", "did you mean `jpeg`?"),
        ("output: {quality: 0}", "output.quality", "outside 1 to 100"),
        ("output: {metadata: kept}", "output.metadata", "did you mean `keep`?"),
        ("output: {metadata: []}", "output.metadata", "a list of exif, xmp"),
        ("output: {metadata: [exif, gps]}", "output.metadata", "is no kind of metadata; there are"),
        ("output: {metadata: [exfi]}", "output.metadata", "did you mean `exif`?"),
        ("output: {metadata: [[]]}", "output.metadata", "is no kind of metadata"),
        ("output: {metadata: true}", "output.metadata", "must be `keep`, `strip` or a list"),
        ("output: {gps: drop}", "output.gps", "must be keep or remove"),
        ("output: {dpi: 300}", "output.dpi", "must be keep or scale"),
        ("output: {provenance: keep}", "output.provenance", "must be true or false"),
        ("output: {background: white}", "output.background", 'such as "#ffffff"'),
        ("output: {background: '#fff'}", "output.background", 'such as "#ffffff"'),
        ("duplicates: resue", "duplicates", "did you mean `reuse`?"),
        ("budget: {per_day_usd: '5'}", "budget.per_day_usd", "take the quotes"),
        ("budget: {per_day_usd: -1}", "budget.per_day_usd", "outside 0 to 1,000,000 USD"),
        ("budget: {per_day_usd: .nan}", "budget.per_day_usd", "outside 0 to 1,000,000 USD"),
        ("budget: {per_day: 5}", "budget.per_day", "did you mean `per_day_usd`?"),
        ("budget: {per_day_usd: 9, per_month_usd: 8}", "budget.per_day_usd", "9 a day is more"),
        ("rescan_s: 30", "rescan_s", "did you mean `rescan`?"),
        ("rules: {}", "rules", "must be a list"),
        ("rules: [x]", "rules.0", "must be a mapping"),
        ("rules: [{preset: photo}]", "rules.0.match", "missing and required"),
        ("rules: [{match: {}}]", "rules.0.match", "at least one"),
        ("rules: [{match: {name: []}}]", "rules.0.match.name", "1 to 1,000 items"),
        ("rules: [{match: {name: [1]}}]", "rules.0.match.name", "1 is none"),
        ("rules: [{match: {name: ''}}]", "rules.0.match.name", "1 to 1,000 characters"),
        ("rules: [{match: {format: jepg}}]", "rules.0.match.format", "did you mean `jpeg`?"),
        ("rules: [{match: {pixels_min: -1}}]", "rules.0.match.pixels_min", "-1 is outside"),
        ("rules: [{match: {width_min: 2, width_max: 1}}]", "rules.0.match.width_min", "nothing"),
        ("rules: [{match: {nam: x}}]", "rules.0.match.nam", "did you mean `name`?"),
        ("rules: [{match: {name: x}, set: 4}]", "rules.0.set", "must be a mapping"),
        ("rules: [{match: {name: x}, set: {scale: 1}}]", "rules.0.set.scale", "enhance: true"),
        ("rules: [{match: {name: x}, set: {scal: 2}}]", "rules.0.set.scal", "did you mean"),
        ("rules: [{match: {name: x}, preset: foto}]", "rules.0.preset", "did you mean `photo`?"),
        ("rules: [{match: {name: x}, skip: true, set: {}}]", "rules.0.set", "skip: true"),
        ("rules: [{match: {name: x}, skip: maybe}]", "rules.0.skip", "true or false"),
    ],
)
def test_folder_mistakes(line: str, key: str, words: str) -> None:
    """A wrong value in a folder is one problem at that line, under the folder's name."""
    problem = only(folder_with(line))
    assert problem.key == f"folders.photos.{key}"
    assert words in problem.message
    assert problem.line == 11


@pytest.mark.parametrize("key", ["name", "inbox", "outbox", "quarantine", "preset", "archive"])
def test_required_in_a_folder(key: str) -> None:
    """A folder without one of its required keys is told which."""
    lines = [line for line in SMALLEST.splitlines() if f" {key}: " not in line]
    text = "\n".join(lines)
    text = text if key != "name" else text.replace("    inbox", "  - inbox")
    problem = only(text)
    assert problem.key == f"folders.{'photos' if key != 'name' else '0'}.{key}"
    assert "missing" in problem.message
    assert problem.line == 5


@pytest.mark.parametrize("originals", ["keep", "delete"])
def test_archive_is_not_always_required(originals: str) -> None:
    """Originals that are kept or deleted need no archive."""
    text = SMALLEST.replace("archive: /srv/photos/originals", f"originals: {originals}")
    assert loads(text, WHERE, {}).folders[0].archive is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a/b", "is no name"),
        ("''", "1 to 64"),
        ("x" * 65, "1 to 64"),
        ("' a'", "is no name"),
        ("'..'", "is no name"),
        ('"a\\nb"', "is no name"),
        ("2026", "in quotes"),
    ],
)
def test_folder_names(name: str, words: str) -> None:
    """A folder's name is short, plain and text."""
    problem = only(SMALLEST.replace("name: photos", f"name: {name}"))
    assert problem.key.endswith(".name")
    assert words in problem.message


def test_folder_names_differ() -> None:
    """Two folders of one name are a mistake at the second."""
    second = SMALLEST.split("folders:\n")[1].replace("/srv/photos", "/srv/others")
    problem = only(SMALLEST + second)
    assert (problem.key, problem.line) == ("folders.photos.name", 11)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("null\n", 1, "is empty"),
        ("- a\n", 1, "must be a mapping"),
        ("just text\n", 1, "must be a mapping"),
        ("a: [1\nb: 2\n", 2, "not valid YAML"),
    ],
)
def test_no_configuration_at_all(text: str, line: int, words: str) -> None:
    """A text that is no configuration is one problem, with its place."""
    problem = only(text)
    assert (problem.line, words in problem.message) == (line, True)


def test_required_at_the_top() -> None:
    """The state folder and the folders are required, and neither absence hides the other."""
    assert [problem.key for problem in problems("presets: {}\n")] == ["folders", "state_dir"]
    assert "1 to 256" in only("state_dir: /x\nfolders: []\n").message


def test_null_is_not_set() -> None:
    """A key with nothing behind it has its default."""
    text = folder_with("rules:", "rescan:", "concurrency: ~") + "api:\n"
    assert loads(text, WHERE, {}) == loads(SMALLEST, WHERE, {})


def test_an_unreadable_value_is_one_mistake() -> None:
    """A value that is no value is reported once, not again by those who would have used it."""
    assert only(SMALLEST.replace("inbox: /srv", "inbox: !x /srv")).message.startswith("tags")


def test_too_many_mistakes_are_counted() -> None:
    """Of thousands of mistakes the first thousand are listed, and the rest is counted."""
    found = problems("\n".join(f"k{i}: 1" for i in range(2_000)))
    assert len(found) == 1_001
    assert "1,002 more mistakes" in found[-1].message


def output_with(line: str) -> Output:
    """Return what a folder with this under `output` writes."""
    return loads(f"{SMALLEST}    output: {line}\n", WHERE, {}).folders[0].output


@pytest.mark.parametrize(
    ("line", "kinds", "keeps_times", "stripped"),
    [
        ("{}", {"exif", "xmp", "iptc", "icc", "dpi", "texts"}, True, False),
        ("{metadata: keep}", {"exif", "xmp", "iptc", "icc", "dpi", "texts"}, True, False),
        ("{metadata: strip}", {"icc"}, False, True),
        ("{metadata: [icc]}", {"icc"}, False, False),
        ("{metadata: [times, exif]}", {"exif"}, True, False),
    ],
)
def test_metadata(line: str, kinds: set[str], *, keeps_times: bool, stripped: bool) -> None:
    """What a result keeps is a word or a list; a stripped one keeps its colours."""
    output = output_with(line)
    assert (output.kinds, output.keeps_times, output.stripped) == (kinds, keeps_times, stripped)


def test_background() -> None:
    """A colour becomes red, green and blue."""
    assert output_with("{background: '#0aFF10'}").background == (10, 255, 16)


def test_kinds_of_metadata_are_those_that_pictures_have() -> None:
    """Every kind that a picture may hold can be kept or left out by its name."""
    assert {*KINDS, TIMES} == set(METADATA_KINDS)
