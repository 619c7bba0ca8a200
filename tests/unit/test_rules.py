import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.parameters import Parameters
from venice_watch.rules import Facts, Match, PresetUnusableError, Rule, choose, matches

PRESETS = {
    "photo": Parameters(scale=2, replication=0.35),
    "gold": Parameters(scale=1, enhance=True),
}


def facts(name: str = "a.jpg", **changes: object) -> Facts:
    """Return the facts of an image of 1000 by 800."""
    values = {"format": "jpeg", "width": 1_000, "height": 800, "size_bytes": 5_000, **changes}
    return Facts(name=name, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*_logo.*", "Acme_LOGO.png", True),
        ("*_logo.*", "sub/dir/x_logo.png", True),
        ("*_logo.*", "logo.png", False),
        ("*.JPG", "a.jpg", True),
        ("a.jpg", "sub/a.jpg", True),
        ("sub/*.jpg", "sub/a.jpg", True),
        ("sub/*.jpg", "sub/deep/a.jpg", False),
        ("sub/*.jpg", "other/sub/a.jpg", False),
        ("sub/**", "sub/deep/er/a.jpg", True),
        ("sub/**", "sub", False),
        ("sub/**/**", "sub/a.jpg", True),
        ("**/raw/*.tif", "raw/a.tif", True),
        ("**/raw/*.tif", "x/y/raw/a.tif", True),
        ("**/raw/**/*.tif", "x/raw/y/raw/z/a.tif", True),
        ("**/raw/*.tif", "x/raw/y/a.tif", False),
        ("/a.jpg", "a.jpg", True),
        ("/a.jpg", "sub/a.jpg", False),
        ("[ab]?.png", "b1.png", True),
        ("[!ab]?.png", "b1.png", False),
        ("caf\u00e9.png", "cafe\u0301.png", True),
        ("*.jpg", "\udcff\n.jpg", True),
    ],
)
def test_name(pattern: str, name: str, *, expected: bool) -> None:
    """A pattern means the file's name, or with a slash its path, whatever the case."""
    assert matches(Match(name=(pattern,)), facts(name)) is expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), True),
        (Match(name=("*.png", "*.jpg")), True),
        (Match(format=("gif", "jpg")), True),
        (Match(format=("gif",)), False),
        (Match(pixels_min=800_000, pixels_max=800_000), True),
        (Match(pixels_min=800_001), False),
        (Match(pixels_max=799_999), False),
        (Match(width_min=1_000, height_max=800), True),
        (Match(width_min=1_001), False),
        (Match(width_max=999), False),
        (Match(height_min=801), False),
        (Match(height_max=799), False),
        (Match(bytes_min=5_000, bytes_max=5_000), True),
        (Match(bytes_min=5_001), False),
        (Match(bytes_max=4_999), False),
        (Match(name=("*.jpg",), format=("png",)), False),
    ],
)
def test_conditions(match: Match, *, expected: bool) -> None:
    """All conditions must hold, and limits are inclusive."""
    assert matches(match, facts()) is expected


@pytest.mark.parametrize(
    ("word", "content"), [("jpg", "jpeg"), ("TIF", "tiff"), ("heif", "heic"), ("png", "PNG")]
)
def test_format_aliases(word: str, content: str) -> None:
    """A format goes by any of its names."""
    assert matches(Match(format=(word,)), facts(format=content))


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_pattern_and_name(pattern: str, name: str) -> None:
    """Every pattern can be tried on every name, and `*` or `**/*` on its own takes them all."""
    matches(Match(name=(pattern,)), facts(name))
    assert matches(Match(name=("*",)), facts(name))
    assert matches(Match(name=("**/*",)), facts(name))


def test_long_patterns_end() -> None:
    """A pattern made of many `**` is answered at once."""
    pattern = "**/a/" * 60 + "b"
    assert not matches(Match(name=(pattern,)), facts("a/" * 1_000 + "c"))


def test_first_match_wins() -> None:
    """The first rule that matches decides, and the choice says which it was."""
    rules = (
        Rule(match=Match(name=("b*",)), preset="gold"),
        Rule(match=Match(name=("a*",)), set={"scale": 4}),
        Rule(match=Match(name=("*",)), set={"scale": 3}),
    )
    choice = choose(rules, facts(), default_preset="photo", presets=PRESETS)
    assert (choice.preset, choice.rule, choice.skip) == ("photo", 1, False)
    assert choice.parameters == Parameters(scale=4, replication=0.35)


def test_no_match() -> None:
    """Without a matching rule the folder's preset applies."""
    choice = choose((), facts(), default_preset="photo", presets=PRESETS)
    assert choice.rule is None
    assert choice.parameters == PRESETS["photo"]


def test_rule_names_a_preset() -> None:
    """A rule's preset replaces the folder's and what an inbox's own file laid over that."""
    rules = (Rule(preset="gold", set={"enhancePrompt": "gold"}),)
    choice = choose(
        rules, facts(), default_preset="photo", presets=PRESETS, overlay={"replication": 0.9}
    )
    assert choice.preset == "gold"
    assert choice.parameters == Parameters(scale=1, enhance=True, enhance_prompt="gold")


def test_overlay_lies_between() -> None:
    """An inbox's own parameters lie over the preset and under what a rule sets."""
    rules = (Rule(set={"replication": None}),)
    overlay = {"scale": 4, "replication": 0.9, "enhanceCreativity": 0.1}
    choice = choose(rules, facts(), default_preset="photo", presets=PRESETS, overlay=overlay)
    assert choice.parameters == Parameters(scale=4, enhance_creativity=0.1)


def test_skip() -> None:
    """A rule can leave images where they are."""
    choice = choose((Rule(skip=True),), facts(), default_preset="photo", presets=PRESETS)
    assert choice.skip
    assert choice.rule == 0


def test_merged_result_is_checked() -> None:
    """What is right alone and wrong together is refused, naming preset, rule and parameter."""
    with pytest.raises(PresetUnusableError, match=r'preset "gold" with what rules\[0\] sets') as e:
        choose((Rule(set={"enhance": False}),), facts(), default_preset="gold", presets=PRESETS)
    assert (e.value.preset, e.value.rule, e.value.exit_code) == ("gold", 0, 78)
    assert "scale: 1 changes nothing" in e.value.problems[0]


def test_unknown_preset() -> None:
    """A preset that is gone is refused, with the nearest name."""
    with pytest.raises(PresetUnusableError, match="did you mean `photo`"):
        choose((), facts(), default_preset="phto", presets=PRESETS)
