import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.config import nodes
from venice_watch.config.load import loads
from venice_watch.config.presets import resolve
from venice_watch.parameters import Parameters

WHERE = Path("/x/c.yaml")
NUMBER = st.floats(0, 1)
PRESET = st.fixed_dictionaries(
    {},
    optional={
        "scale": st.floats(1, 4, exclude_min=True) | st.integers(2, 4),
        "enhance": st.booleans(),
        "enhanceCreativity": NUMBER,
        "enhancePrompt": st.text(max_size=50),
        "replication": NUMBER | st.none(),
        "creativity": st.floats(0, 0.02),
    },
)


def findings(text: str) -> list[tuple[str, str]]:
    """Return the dotted keys and messages of what is wrong with the presets of a text."""
    found = resolve(nodes.parse(text).value).findings
    return [(".".join(map(str, finding.path)), finding.message) for finding in found]


def test_extends() -> None:
    """A preset has what its parents have, except for what it sets or takes away itself."""
    found = resolve(
        {
            "poster": {"extends": "photo", "scale": 4},
            "photo": {"extends": "base", "scale": 2, "replication": 0.35},
            "base": {"scale": 3, "enhance": True, "enhancePrompt": "gold"},
            "plain": {"extends": "poster", "enhance": None, "enhancePrompt": None},
        }
    )
    assert found.findings == []
    poster = Parameters(scale=4, replication=0.35, enhance=True, enhance_prompt="gold")
    assert found.usable["poster"] == poster
    assert found.usable["plain"] == Parameters(scale=4, replication=0.35)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: {extends: b}}", [("presets.a.extends", "no preset 'b'")]),
        ("{photo: {}, a: {extends: phto}}", [("presets.a.extends", "did you mean `photo`?")]),
        ("{a: {extends: 5}}", [("presets.a.extends", "must be the name of a preset")]),
        ("{a: {extends: a}}", [("presets.a.extends", "'a' extends 'a'")]),
        (
            "{a: {extends: b}, b: {extends: c}, c: {extends: b}}",
            [("presets.b.extends", "a cycle"), ("presets.c.extends", "a cycle")],
        ),
        ("{a: 5}", [("presets.a", "must be a mapping")]),
        ("{a: }", [("presets.a", "must be a mapping")]),
        ("[a]", [("presets", "must be a mapping")]),
        ("{a/b: {}}", [("presets.a/b", "is no name")]),
        ("{a: {scal: 2}}", [("presets.a.scal", "did you mean `scale`?")]),
        ("{a: {scal: null}}", [("presets.a.scal", "did you mean `scale`?")]),
        # a fragment is checked whole
        (
            "{a: {scale: 1, enhance: true}, b: {extends: a, enhance: false}}",
            [("presets.b.scale", "enhance: true")],
        ),
        # said where it was made, and not again in those who inherit it
        ("{a: {scale: 9}, b: {extends: a, replication: 1}}", [("presets.a.scale", "outside")]),
        (
            "{a: {scale: 9}, b: {extends: a, scale: 9}}",
            [("presets.a.scale", "outside"), ("presets.b.scale", "outside")],
        ),
        # a broken ancestry hides nothing, and invents nothing
        (
            "{a: {extends: x, replication: 2, scale: 1}}",
            [("presets.a.extends", "no preset"), ("presets.a.replication", "outside")],
        ),
    ],
)
def test_mistakes(text: str, expected: list[tuple[str, str]]) -> None:
    """Each mistake in a preset is said once, where it was made."""
    found = findings(text)
    assert [path for path, _ in found] == [path for path, _ in expected]
    for (_, message), (_, words) in zip(found, expected, strict=True):
        assert words in message


def test_long_chains() -> None:
    """Thousands of presets, each extending the next, are no trouble."""
    count = 5_000
    presets: dict[str, object] = {f"p{i}": {"extends": f"p{i + 1}"} for i in range(count)}
    presets[f"p{count}"] = {"scale": 3}
    assert resolve(presets).usable["p0"] == Parameters(scale=3)


@given(PRESET)
def test_round_trip(mapping: dict[str, object]) -> None:
    """A preset means the same in a file as it does in the program."""
    preset = json.dumps(mapping)  # JSON is YAML
    text = (
        f'{{"state_dir": "/s", "presets": {{"p": {preset}}}, "folders": [{{"name": "f", '
        '"inbox": "/i", "outbox": "/o", "quarantine": "/q", "archive": "/a", "preset": "p"}]}'
    )
    config = loads(text, WHERE, {})
    assert config.presets["p"] == Parameters.from_mapping(mapping)
    again = text.replace(preset, config.presets["p"].canonical())
    assert loads(again, WHERE, {}).presets == config.presets
