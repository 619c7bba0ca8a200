"""What people are told and when: at once, gathered, damped, over restarts."""

import json

import pytest

from venice_watch.notice import (
    ADVICE,
    AGAIN_S,
    HEADINGS,
    HOURLY_MAX,
    LINES_MAX,
    MENDED,
    MENDED_S,
    TEXT_BYTES_MAX,
    Gatherer,
    Kind,
    Notice,
    Quarantined,
    Trouble,
)

DIGEST_S = 900.0
T = 1_780_000_000.0
KEY = Trouble(kind=Kind.KEY, subject="account", why="HTTP 401: no")
ALL = tuple(Kind)


def folder(name: str) -> Trouble:
    """Return the trouble of an inbox that is away."""
    return Trouble(kind=Kind.FOLDER, subject=f"inbox of {name}", why="it is not there")


def step(gatherer: Gatherer, now: float, *troubles: Trouble) -> list[Notice]:
    """Look once."""
    gatherer.compare(troubles, now)
    return gatherer.due(now)


def test_every_kind_has_words() -> None:
    """Each kind has a heading; what can be over has words for that."""
    assert set(HEADINGS) == set(Kind)
    assert set(MENDED) == set(Kind) - {Kind.QUARANTINE}
    assert set(ADVICE) <= set(Kind)


def test_told_once_and_when_it_is_over() -> None:
    """A trouble is told when it comes, not while it stands, and once when it has been gone."""
    gatherer = Gatherer(ALL, DIGEST_S)
    [notice] = step(gatherer, T, KEY)
    assert (notice.kind, notice.mended) == (Kind.KEY, False)
    assert notice.text.startswith("account: HTTP 401: no\n")
    assert step(gatherer, T + 3600, KEY) == []
    assert step(gatherer, T + 4000) == []
    assert step(gatherer, T + 4000 + MENDED_S - 1) == []
    [over] = step(gatherer, T + 4000 + MENDED_S)
    assert over.mended
    assert step(gatherer, T + 9000) == []


def test_what_flaps_is_one_trouble() -> None:
    """Gone for less than `MENDED_S` is not gone."""
    gatherer = Gatherer(ALL, DIGEST_S)
    assert len(step(gatherer, T, KEY)) == 1
    for second in range(2, 4000, 2):
        flaps = () if second % 10 < 5 else (KEY,)
        assert step(gatherer, T + second, *flaps) == []


def test_slow_flapping_is_bounded() -> None:
    """What comes and goes by the minute is told of at most twice a digest."""
    gatherer = Gatherer(ALL, DIGEST_S)
    told = [
        step(gatherer, T + second, *((KEY,) if second % 120 < 60 else ()))
        for second in range(0, 7200, 5)
    ]
    assert 2 <= sum(map(len, told)) <= 2 * (7200 / DIGEST_S + 1)


def test_the_next_of_a_kind_are_gathered() -> None:
    """The first goes out at once, those behind it together after `digest`; other kinds at once."""
    gatherer = Gatherer(ALL, DIGEST_S)
    assert len(step(gatherer, T, folder("a"))) == 1
    assert step(gatherer, T + 10, folder("a"), folder("b")) == []
    standing = [folder("a"), folder("b"), folder("c")]
    [key] = step(gatherer, T + 20, *standing, KEY)
    assert key.kind is Kind.KEY
    assert step(gatherer, T + DIGEST_S - 1, *standing, KEY) == []
    [digest] = step(gatherer, T + DIGEST_S, *standing, KEY)
    assert digest.text.startswith("inbox of b: it is not there\ninbox of c: it is not there\n")


def test_files_of_a_folder_are_one() -> None:
    """Of a thousand results that cannot be delivered one line tells, with their number."""
    many = [
        Trouble(kind=Kind.DELIVERY, subject=f"photos/{n}.png", why="disk full", group="results")
        for n in range(1000)
    ]
    [notice] = step(Gatherer(ALL, DIGEST_S), T, *many)
    assert notice.text.startswith("results, 1000 in all, such as photos/0.png: disk full\n")


def test_only_what_is_asked_for() -> None:
    """What is not in `on`, and what no person can mend, is not told."""
    gatherer = Gatherer([Kind.BUDGET], DIGEST_S)
    gatherer.add_quarantined([Quarantined(folder="p", code="corrupt", count=1, newest="x")])
    gatherer.add_word("started")
    transient = Trouble(kind=None, subject="account", why="the API was not asked yet")
    assert step(gatherer, T, KEY, transient) == []
    assert step(Gatherer(ALL, DIGEST_S), T, transient) == []


def test_never_more_than_so_many_an_hour() -> None:
    """Beyond the hourly limit news wait; none is lost."""
    gatherer = Gatherer(ALL, 10.0)
    sent = []
    for number in range(60):
        news = [Quarantined(folder="p", code="corrupt", count=1, newest=f"{number}.png")]
        gatherer.add_quarantined(news)
        sent.append(gatherer.due(T + number * 11))
    assert sum(map(len, sent)) == HOURLY_MAX
    [last] = gatherer.due(T + 3601)
    assert f"{60 - HOURLY_MAX} files were quarantined in p" in last.text


def test_still_standing_is_told_again_a_day_later() -> None:
    """What stands for a day is told again, and no more often."""
    gatherer = Gatherer(ALL, DIGEST_S)
    told = [len(step(gatherer, T + hour * 3600, KEY)) for hour in range(73)]
    assert [hour for hour, count in enumerate(told) if count] == [0, 24, 48, 72]
    assert AGAIN_S == 24 * 3600


def test_over_a_restart() -> None:
    """What was told and what waits go through JSON; what is not met yet is not taken for mended."""
    before = Gatherer(ALL, DIGEST_S)
    step(before, T, KEY)
    before.add_quarantined([Quarantined(folder="p", code="corrupt", count=2, newest="a")])
    assert len(before.due(T)) == 1
    before.add_quarantined([Quarantined(folder="p", code="too_small", count=1, newest="b")])
    after = Gatherer.recalled(ALL, DIGEST_S, json.loads(json.dumps(before.memory())))
    for second in (1, 30, 60):
        after.compare([], T + second, sure=False)
        assert after.due(T + second) == []
    after.compare([], T + 60 + MENDED_S, sure=True)
    assert [one.mended for one in after.due(T + 60 + MENDED_S)] == [True]
    [digest] = after.due(T + DIGEST_S)
    assert "1 file was quarantined in p: 1 too_small; the newest: b" in digest.text


@pytest.mark.parametrize("memory", [{}, {"told": 1}, {"told": {"a": [1]}}, {"told": {"a": []}}])
def test_a_broken_memory_is_told_as_such(memory: dict[str, object]) -> None:
    """What is no memory raises one of the errors that the caller knows."""
    with pytest.raises((KeyError, ValueError, TypeError, AttributeError)):
        Gatherer.recalled(ALL, DIGEST_S, memory)


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    """News that wait for a time far ahead wait no longer than one digest."""
    gatherer = Gatherer(ALL, DIGEST_S)
    step(gatherer, T + 1e6, folder("a"))
    assert step(gatherer, T, folder("a"), folder("b")) == []
    assert len(step(gatherer, T + DIGEST_S, folder("a"), folder("b"))) == 1


def test_a_text_is_bounded_and_printable() -> None:
    """However many and however long, with whatever in their names: a text stays readable."""
    many = [folder(f"{n}\n\udcff\x1b[31m" + "\N{SNOWMAN}" * 5000) for n in range(100)]
    [notice] = step(Gatherer(ALL, DIGEST_S), T, *many)
    assert len(notice.text.encode()) <= TEXT_BYTES_MAX
    assert all(line.isprintable() for line in notice.text.splitlines())
    short = [folder(str(n)) for n in range(100)]
    [notice] = step(Gatherer(ALL, DIGEST_S), T, *short)
    assert f"... and {100 - LINES_MAX} more" in notice.text
