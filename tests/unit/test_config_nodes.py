import math

import pytest

from venice_watch.config import nodes


def value(text: str) -> object:
    """Return what a text without mistakes means as a value."""
    document = nodes.parse(f"a: {text}")
    assert document.findings == ()
    assert isinstance(document.value, dict)
    return document.value["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True), ("True", True), ("FALSE", False),
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("OFF", "OFF"), ("y", "y"),
        ("null", None), ("~", None), ("", None), ("'null'", "null"), ("'true'", "true"),
        ("0", 0), ("-7", -7), ("1_000_000", 1_000_000), ("'1'", "1"),
        ("1__0", "1__0"), ("1_", "1_"), ("0x10", "0x10"), ("0o17", "0o17"), ("0b1", "0b1"),
        ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("2026-07-14", "2026-07-14"),
        ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("1e3", 1_000.0), ("-1.5E-3", -0.0015),
        (".inf", math.inf), ("-.INF", -math.inf), ("1e999", math.inf),
        ("=", "="),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("'0664'", "0664"), ('"\\u00e9"', "\u00e9"), ("|\n  x\n", "x\n"),
    ],
)  # fmt: skip
def test_scalars(text: str, expected: object) -> None:
    """Plain values mean what YAML 1.2 says, with underscores in whole numbers."""
    got = value(text)
    assert got == expected
    assert type(got) is type(expected)


def test_not_a_number() -> None:
    """A number that is none arrives as such, for its key to refuse."""
    assert math.isnan(value(".nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "duplicate key; it stands in line 1"),
        ("a: 0664", 1, 4, "octal"),
        ("a: -007", 1, 4, "octal"),
        ("a: " + "9" * 41, 1, 4, "too many digits"),
        ("a: !!python/object:os.system x", 1, 4, "tags"),
        ("a: !!str 5", 1, 4, "tags"),
        ("a: ! 5", 1, 4, "tags"),
        ("a: !!map {b: 1}", 1, 4, "tags"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, 3, "merge keys"),
        ("? [a]\n: 1", 1, 3, "plain text"),
        ("!!str a: 1", 1, 1, "plain text"),
        ("a: 1\n---\nb: 2", 2, 1, "second document"),
        ('a: "\\ud800"', 1, 4, "surrogate"),
        ("a: *b", 1, 4, "undefined alias"),
        ("a: [1, 2", 1, 9, "not valid YAML"),
        ("a:\n\t- b", 2, 1, "not valid YAML"),
        ("a: b\n c: d", 2, 3, "mapping values are not allowed here"),
        ('a: "\\UFFFFFFFF"', 1, 7, "escape"),
        ("a: 1\nb: \x00", 2, 4, "character that YAML does not allow"),
        ("a: \ud800", 1, 4, "character that YAML does not allow"),
        ("%YAML 1." + "9" * 5_000 + "\n---\na: 1", 1, 9, "means nothing"),
        ("[" * 50_000, 1, 33, "deeper than 32"),
        ("a: &a [*a]", 1, 4, "contains itself"),
        ("a: &a 1\nb: [" + "*a," * 101 + "]", 2, 305, "more than 100 aliases"),
        ("#" * 1_048_577, 1, 1, "1,048,577 bytes are more than"),
    ],
)
def test_mistakes(text: str, line: int, column: int, words: str) -> None:
    """What is wrong as YAML is said with its place, and nothing is raised."""
    document = nodes.parse(text)
    [finding] = document.findings
    assert words in finding.message
    mark = document.mark(finding)
    assert (mark.line, mark.column) == (line, column)


def test_unfolding_is_limited() -> None:
    """A few aliases that unfold to millions of values are refused at once."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for old, new in zip("abcdefg", "bcdefgh", strict=True):
        lines.append(f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]")
    [finding] = nodes.parse("\n".join(lines)).findings
    assert "more than 100,000 values" in finding.message


def test_all_mistakes_and_the_rest() -> None:
    """Mistakes that leave the rest readable are found together, and the rest is read."""
    document = nodes.parse("a: 01\nb: !x 1\nc: 2\nc: 3\nd: [1, 0777]")
    assert len(document.findings) == 4
    assert isinstance(document.value, dict)
    assert document.value["c"] == 2
    assert document.broken == {("a",), ("b",), ("d", 1)}


def test_duplicates_all() -> None:
    """A key that stands there four times is three mistakes."""
    assert len(nodes.parse("a: 1\na: 2\n'a': 3\na: 4").findings) == 3


def test_aliases() -> None:
    """An alias stands for what its anchor holds."""
    assert nodes.parse("a: &x [1]\nb: *x").value == {"a": [1], "b": [1]}


def test_an_alias_is_not_shown() -> None:
    """A text that begins with a star by accident is not repeated in the message."""
    [finding] = nodes.parse("key: *hunter2").findings
    assert "hunter2" not in finding.message


def test_keys_are_text() -> None:
    """Keys are what is written, never numbers or booleans."""
    assert nodes.parse("1: a\ntrue: b\n~: c\n0664: d").value == {
        "1": "a", "true": "b", "~": "c", "0664": "d",
    }  # fmt: skip
