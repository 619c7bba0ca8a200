import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.naming import NameFacts, find_problems, numbered, render

FACTS = NameFacts(
    stem="cat", scale=2.0, preset="photo", width=800, height=600,
    date="2026-07-14", counter=7, source_ext="jpg", ext="png",
)  # fmt: skip
# Any text, with the bytes that are not UTF-8 as a file system hands them out, and the dangerous.
hostile = st.text(
    st.characters() | st.sampled_from("/.\0\n\r\x1b\x7f\u2028") | st.sampled_from("\udc80\udcff")
) | st.sampled_from(["..", ".", "", "../../etc/passwd", ".venice-watch-x", "/", "a" * 400])


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{stem}.{ext}", "cat.png"),
        ("{stem}-{scale}x-{preset}.{ext}", "cat-2x-photo.png"),
        ("{width}x{height}_{date}_{counter}.{source_ext}.{ext}", "800x600_2026-07-14_7.jpg.png"),
        ("{counter:04}.{ext}", "0007.png"),
        ("{{{stem}}}{{stem}}.{ext}", "{cat}{stem}.png"),
    ],
)
def test_render(template: str, expected: str) -> None:
    """Each field is filled in, and doubled braces are braces."""
    assert find_problems(template) == []
    assert render(template, FACTS) == expected


@pytest.mark.parametrize(
    ("template", "frame", "frames", "expected"),
    [
        ("{stem}.{ext}", 1, 1, "cat.png"),
        ("{stem}.{ext}", 3, 12, "cat-03.png"),
        ("{stem}.{ext}", 3, 9, "cat-03.png"),
        ("{stem}.{ext}", 3, 1_000, "cat-0003.png"),
        ("{stem}.{source_ext}.{ext}", 3, 12, "cat.jpg-03.png"),
        ("p{frame}_{stem}.{ext}", 3, 12, "p03_cat.png"),
        ("p{frame}_{stem}.{ext}", 1, 1, "p01_cat.png"),
        ("{stem}{frame:05}.{ext}", 3, 12, "cat00003.png"),
        ("{{frame}}{stem}.{ext}", 3, 12, "{frame}cat-03.png"),
        ("{counter:04}.{ext}", 3, 12, "0007-03.png"),
    ],
)
def test_frames(template: str, frame: int, frames: int, expected: str) -> None:
    """A frame's number is where the template has it, else before the ending."""
    assert find_problems(template) == []
    assert render(template, replace(FACTS, frame=frame, frames=frames)) == expected


@given(st.integers(1, 10_000), st.data(), hostile)
def test_frames_sort_and_differ(frames: int, data: st.DataObject, stem: str) -> None:
    """The results of one file never have one name, and sort as its frames do."""
    one, other = data.draw(st.integers(1, frames)), data.draw(st.integers(1, frames))
    names = [
        render("{stem}.{ext}", replace(FACTS, stem=stem, frame=frame, frames=frames))
        for frame in (one, other)
    ]
    assert (names[0] == names[1]) == (one == other)
    assert (names[0] < names[1]) == (one < other)


def test_scale_is_short() -> None:
    """A scale that is no whole number keeps its fraction."""
    assert render("{scale}.{ext}", replace(FACTS, scale=1.5)) == "1.5.png"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "is empty"),
        ("{stm}.{ext}", "did you mean `stem`?"),
        ("{zzz}.{ext}", "there are {stem} {scale}"),
        ("{stem.upper}.{ext}", "{stem} takes no format"),
        ("{stem!r}.{ext}", "{stem} takes no format"),
        ("{width:05}.{ext}", "{width} takes no format"),
        ("{stem[0]}.{ext}", "{stem} takes no format"),
        ("{counter:4}.{ext}", "{counter:04}"),
        ("{counter:04d}.{ext}", "{counter:04}"),
        ("{frame:4}.{ext}", "{frame:04}"),
        ("{}.{ext}", "unknown field ''"),
        ("{stem.{ext}", "a single `{`"),
        ("stem}.{ext}", "a single `}`"),
        ("{preset}/{stem}.{ext}", "may not contain `/`"),
        ("{stem}\n.{ext}", "control character"),
        ("{stem}\0.{ext}", "control character"),
        (".{stem}.{ext}", "hidden"),
        ("{stem}", "must end with .{ext}"),
        ("{ext}.{stem}", "must end with .{ext}"),
        ("x" * 200 + ".{ext}", "206 characters"),
    ],
)
def test_template_mistakes(template: str, words: str) -> None:
    """A template's mistake is said, with what to write instead."""
    assert [problem for problem in find_problems(template) if words in problem]


def test_template_mistakes_all_at_once() -> None:
    """No mistake of a template hides another."""
    assert len(find_problems("./{a}{b}{")) == 6


@given(
    hostile, hostile, hostile, hostile,
    st.sampled_from(["{stem}.{ext}", "{preset}{stem}.{ext}", "{source_ext}.{ext}", "{stem}"]),
)  # fmt: skip
def test_hostile_values_stay_inside(
    stem: str, preset: str, source_ext: str, ext: str, template: str
) -> None:
    """Whatever a file or preset is called, the result is one visible name that a disk accepts."""
    name = render(
        template, replace(FACTS, stem=stem, preset=preset, source_ext=source_ext, ext=ext)
    )
    again = numbered(name, 12)
    for each in (name, again):
        data = os.fsencode(each)
        assert 1 <= len(data) <= 255
        assert b"/" not in data
        assert not any(byte < 32 or byte == 127 for byte in data)
        assert not each.startswith(".")
    assert again != name


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("..", "__.png"),
        (".venice-watch-x", "_venice-watch-x.png"),
        ("a/b\0c\nd", "a_b_c_d.png"),
        ("", "_.png"),
        ("a..b", "a..b.png"),
        ("\udcff\udc80", "\udcff\udc80.png"),
        ("\ud800", "_.png"),
        ("\u30cd\u30b3", "\u30cd\u30b3.png"),
    ],
)
def test_stems(stem: str, expected: str) -> None:
    """What cannot be in a name is replaced, what is merely unusual is kept."""
    assert render("{stem}.{ext}", replace(FACTS, stem=stem)) == expected


def test_long_stem() -> None:
    """A name that is too long loses the end of its stem, at a character, and nothing else."""
    name = render("{stem}-{scale}x.{ext}", replace(FACTS, stem="a" + "\u00e9" * 200))
    assert name == "a" + "\u00e9" * 123 + "-2x.png"
    assert len(os.fsencode(name)) == 254
    raw = render("{stem}.{ext}", replace(FACTS, stem="\udcff" * 300))
    assert raw == "\udcff" * 251 + ".png"


@pytest.mark.parametrize(
    ("name", "n", "expected"),
    [
        ("a.png", 1, "a-1.png"),
        ("a.tar.gz", 12, "a.tar-12.gz"),
        ("a", 1, "a-1"),
        (".a", 1, ".a-1"),
        ("a" * 251 + ".png", 10, "a" * 248 + "-10.png"),
        ("a" * 250 + "\u30cd.p", 1, "a" * 250 + "-1.p"),
        ("x." + "y" * 253, 1, "x." + "y" * 251 + "-1"),
    ],
)
def test_numbered(name: str, n: int, expected: str) -> None:
    """A taken name gets its number before the ending, within 255 bytes."""
    assert numbered(name, n) == expected


@given(st.integers(1, 10_000), st.integers(1, 10_000), hostile)
def test_numbers_differ(n: int, m: int, stem: str) -> None:
    """Two numbers never make one name."""
    name = render("{stem}.{ext}", replace(FACTS, stem=stem))
    assert (numbered(name, n) == numbered(name, m)) == (n == m)
