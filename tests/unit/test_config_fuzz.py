"""Any text whatever is a configuration, or is refused with its places."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.config import folder_file
from venice_watch.config.load import loads
from venice_watch.errors import ConfigError

GOOD = """\
api: {concurrency: 4, retries: {attempts: 6, base: 1s}, key_file: k}
state_dir: /s
presets: {p: {scale: 2}, q: {extends: p, enhance: true}}
folders:
  - name: f
    inbox: /i
    outbox: ${X:-/o}
    quarantine: /q
    archive: /a
    preset: p
    rules: [{match: {name: [x]}, set: {scale: 3}}]
    output: {mode: "0664", name: "{stem}.{ext}"}
"""
PIECES = st.sampled_from(
    [
        "&a ", "*a", "!x ", "!!str ", "|\n", "? ", ": ", "- ", "{", "}", "[", "]", ",", '"', "'",
        "\\UFFFFFFFF", '"\\ud800"', '"\\0"', "%YAML 1.1\n---\n", "---\n", "...\n", "\t", "\0",
        "\x85", "\u2028", "\ud800", "<<: ", "0664", "1e999", ".nan", "9" * 50, "null", "~", "${",
        "${Y}", "@", "`", "\ufeff", "#", "=", "\n", "  ", "key: ", "api", "folders", "presets",
    ]
) | st.text(max_size=5)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Draw a good configuration with a few pieces replaced."""
    text = GOOD
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 3, 20])))
        text = text[:start] + draw(PIECES) + text[end:]
    return text


def test_the_good_one_is_good() -> None:
    """What the damage starts from is a valid configuration."""
    assert loads(GOOD, Path("/x/c.yaml"), {}).folders[0].name == "f"


@given(damaged() | st.text() | st.lists(PIECES).map("".join))
def test_any_text(text: str) -> None:
    """No text makes reading raise anything but ConfigError, and each problem has its place."""
    lines = text.count("\n") + text.count("\r") + text.count("\x85")
    lines += text.count("\u2028") + text.count("\u2029") + 1
    problems = None
    try:
        loads(text, Path("/x/c.yaml"), {"X": "\udcff", "Y": "\0"})
    except ConfigError as error:
        problems = error.problems
    assert problems != ()
    for problem in problems or ():
        assert 1 <= problem.line <= lines
        assert problem.column >= 1
        assert 0 < len(problem.message) < 500
        assert problem.message.isprintable()
        assert problem.key.isprintable()


@given(st.text() | st.lists(PIECES).map("".join))
def test_any_folder_file(text: str) -> None:
    """No text makes reading a folder file raise anything but ConfigError."""
    with suppress(ConfigError):
        found = folder_file.loads(text, "/x/.venice-watch.yaml", {})
        assert found.preset is None


@pytest.mark.parametrize("name", ["key", "api: {key", "api_key", "api: {token"])
@given(secret=st.text("abcdefgh123456789XYZ-_", min_size=12, max_size=60))
def test_a_secret_is_never_shown(name: str, secret: str) -> None:
    """Whatever the key in a file is, no message shows it."""
    tail = "}" if "{" in name else ""
    with pytest.raises(ConfigError) as caught:
        loads(f"{name}: {secret}{tail}\n", Path("/x/c.yaml"), {})
    assert secret not in str(caught.value)
