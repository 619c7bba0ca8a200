import pytest

from venice_watch.config import folder_file
from venice_watch.errors import ConfigError
from venice_watch.parameters import Parameters

WHERE = "/srv/in/.venice-watch.yaml"
PRESETS = {"photo": Parameters(scale=2), "fine": Parameters(scale=1, enhance=True)}


def test_reads() -> None:
    """A folder file may name a preset and set parameters at its top."""
    found = folder_file.loads("preset: photo\nscale: 4\nreplication: null\n", WHERE, PRESETS)
    assert found.preset == "photo"
    assert found.parameters == {"scale": 4, "replication": None}


@pytest.mark.parametrize("text", ["", "# nothing\n", "~\n", "{}\n"])
def test_empty(text: str) -> None:
    """An empty folder file changes nothing."""
    found = folder_file.loads(text, WHERE, PRESETS)
    assert (found.preset, found.parameters) == (None, {})


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("preset: phto", "1:9: preset", "did you mean `photo`?"),
        ("preset: 5", "1:9: preset", "must be the name of a preset"),
        ("\nscal: 4", "2:1: scal", "unknown key; did you mean `scale`?"),
        ("presets: {}", "1:1: presets", "did you mean `preset`?"),
        ("extends: photo", "1:1: extends", "unknown key"),
        ("outbox: /etc", "1:1: outbox", "there are preset, scale"),
        ("replication: 1.2", "1:14: replication", "outside 0 to 1"),
        ("preset: photo\nscale: 1", "2:8: scale", "enhance: true"),
        ("preset: fine\nenhance: false", "1:1: scale", "enhance: true"),
        ("scale: 2\nscale: 3", "2:1: scale", "duplicate key"),
        ("- scale", "1:1", "must be a mapping"),
        ("scale: [", "1:9", "not valid YAML"),
        ("#" * 65_537, "1:1", "65,537 bytes"),
    ],
)
def test_mistakes(text: str, place: str, words: str) -> None:
    """A mistake is reported with its place, its key and what to do, as in the configuration."""
    with pytest.raises(ConfigError) as caught:
        folder_file.loads(text, WHERE, PRESETS)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(f"{WHERE}:{place}: ")
    assert words in str(caught.value)


def test_all_at_once() -> None:
    """No mistake hides another."""
    with pytest.raises(ConfigError) as caught:
        folder_file.loads("preset: x\nscale: 9\nfoo: 1\nenhance: 3\n", WHERE, PRESETS)
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 4]


def test_parameters_alone_may_need_the_preset() -> None:
    """What only the folder's own preset can complete is not refused here."""
    assert folder_file.loads("scale: 1", WHERE, PRESETS).parameters == {"scale": 1}


def test_frozen() -> None:
    """What an inbox asks for cannot be changed afterwards."""
    found = folder_file.loads("scale: 3", WHERE, PRESETS)
    with pytest.raises(TypeError):
        found.parameters["scale"] = 4  # type: ignore[index]
