import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_watch.parameters import (
    NAMES,
    Contract,
    Parameters,
    find_problems,
    merged,
    price_microusd,
    shown,
)

unit = st.floats(0, 1)
good = st.fixed_dictionaries(
    {},
    optional={
        "scale": st.floats(1, 4, exclude_min=True) | st.integers(2, 4),
        "enhance": st.booleans() | st.sampled_from(["true", "false"]),
        "enhanceCreativity": unit | st.none(),
        "enhancePrompt": st.text(max_size=1_500),
        "replication": unit | st.integers(0, 1),
        "creativity": st.floats(0, 0.02),
    },
)


@pytest.mark.parametrize(
    ("mapping", "key", "words"),
    [
        ({"scale": 1}, "scale", "enhance: true"),
        ({"scale": 1.0, "enhance": False}, "scale", "enhance: true"),
        ({"scale": 1, "enhance": "false"}, "scale", "enhance: true"),
        ({"scale": 0.99, "enhance": True}, "scale", "0.99 is outside 1 to 4"),
        ({"scale": 4.01}, "scale", "4.01 is outside 1 to 4"),
        ({"scale": True}, "scale", "not true"),
        ({"scale": "2"}, "scale", "take the quotes off"),
        ({"scale": float("nan")}, "scale", "nan is outside 1 to 4"),
        ({"scale": float("inf")}, "scale", "inf is outside 1 to 4"),
        ({"scale": 16**9_999}, "scale", "very many digits is outside"),
        ({"scale": [2]}, "scale", "not a list"),
        ({"enhance": 1}, "enhance", "true or false, not 1"),
        ({"enhance": "yes"}, "enhance", "true or false, not 'yes'"),
        ({"enhanceCreativity": -0.1}, "enhanceCreativity", "-0.1 is outside 0 to 1"),
        ({"replication": 1.2}, "replication", "1.2 is outside 0 to 1"),
        ({"creativity": 0.03}, "creativity", "0.03 is outside 0 to 0.02"),
        ({"enhancePrompt": "x" * 1_501}, "enhancePrompt", "1,501 characters, and Venice allows"),
        ({"enhancePrompt": 3}, "enhancePrompt", "must be text, not 3"),
        ({"enhancePrompt": "\ud800"}, "enhancePrompt", "surrogate"),
        ({"enhance_prompt": "x"}, "enhance_prompt", "did you mean `enhancePrompt`?"),
        ({"model": None}, "model", "unknown parameter; the API has scale, enhance"),
    ],
)
def test_mistake(mapping: dict[str, object], key: str, words: str) -> None:
    """Each mistake is reported once, under its key, with the value or limit and what to do."""
    [(found, message)] = find_problems(mapping)
    assert found == key
    assert words in message


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"scale": 1, "enhance": True},
        {"scale": 1, "enhance": "true"},
        {"scale": 1.01},
        {"scale": 4},
        {"scale": None, "enhance": None, "enhancePrompt": None, "replication": None},
        {"enhancePrompt": "x" * 1_500},
        {"creativity": 0.02, "replication": 0, "enhanceCreativity": 1},
    ],
)
def test_right(mapping: dict[str, object]) -> None:
    """Values on the limits, and null for not set, are no mistakes."""
    assert find_problems(mapping) == []


def test_all_mistakes_at_once() -> None:
    """No mistake of a set hides another."""
    wrong = {"scale": 5, "enhance": 0, "replication": "a", "creativity": 1, "enhancePrompt": []}
    assert [key for key, _ in find_problems(wrong)] == list(wrong)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(), st.from_type(object)))
def test_any_value_is_judged(mapping: dict[str, object]) -> None:
    """Whatever the values, they are judged without raising and never shown at length."""
    assert all(len(message) < 300 for _, message in find_problems(mapping))


@given(good)
def test_round_trip(mapping: dict[str, object]) -> None:
    """A set survives being written and read, also as JSON, and its text parts say the same."""
    parameters = Parameters.from_mapping(mapping)
    plain = parameters.as_mapping()
    assert Parameters.from_mapping(plain) == parameters
    assert Parameters.from_mapping(json.loads(parameters.canonical())) == parameters
    assert find_problems(plain) == []
    fields = parameters.to_fields()
    assert fields.keys() == plain.keys()
    for name, value in plain.items():
        if isinstance(value, bool):
            assert fields[name] == ("true" if value else "false")
        elif isinstance(value, str):
            assert fields[name] == value
        else:
            assert Decimal(fields[name]) == Decimal(str(value))
            assert "e" not in fields[name].lower()


def test_only_what_is_set() -> None:
    """What is not set is not sent, except the scale; whole numbers are sent as such."""
    assert Parameters().as_mapping() == {"scale": 2}
    assert Parameters().to_fields() == {"scale": "2"}
    parameters = Parameters.from_mapping(
        {"scale": 1.0, "enhance": "true", "replication": 0.35, "enhanceCreativity": None}
    )
    assert json.dumps(parameters.as_mapping()) == (
        '{"scale": 1, "enhance": true, "replication": 0.35}'
    )
    assert parameters.to_fields() == {"scale": "1", "enhance": "true", "replication": "0.35"}


def test_canonical() -> None:
    """The same request has the same canonical text, however it was written."""
    texts = {
        Parameters.from_mapping(mapping).canonical()
        for mapping in ({}, {"scale": 2}, {"scale": 2.0}, {"scale": None}, {"replication": None})
    }
    assert texts == {'{"scale":2}'}
    assert Parameters(replication=0.0).canonical() == Parameters(replication=-0.0).canonical()
    assert Parameters(enhance=True).canonical() != Parameters(enhance=False).canonical()


def test_unsupported() -> None:
    """What a server of the other contract lacks is named, and can be left out."""
    old = Parameters(scale=1, enhance=True, enhance_prompt="gold", replication=0.1)
    new = Parameters(scale=4, creativity=0.01)
    assert old.unsupported(Contract.ENHANCE) == ()
    assert new.unsupported(Contract.CREATIVITY) == ()
    assert new.unsupported(Contract.ENHANCE) == ("creativity",)
    lacked = old.unsupported(Contract.CREATIVITY)
    assert lacked == ("scale", "enhance", "enhancePrompt", "replication")
    assert old.without(lacked) == Parameters()
    assert new.without(("creativity",)) == Parameters(scale=4)


@pytest.mark.parametrize(
    ("scale", "price"), [(1, 20_000), (2, 20_000), (2.01, 80_000), (3, 80_000), (4, 80_000)]
)
def test_price(scale: float, price: int) -> None:
    """Up to twofold costs two cents, anything above eight."""
    assert price_microusd(scale) == price


def test_merged() -> None:
    """A later layer wins, and its null takes an earlier value away."""
    mapping = merged({"scale": 4, "replication": 0.3}, {"scale": 2, "replication": None})
    assert Parameters.from_mapping(mapping) == Parameters(scale=2)


@pytest.mark.parametrize(
    "secret", ["sk-0123456789abcdefghijklmnop", "Bearer aB3" + "x" * 30, "k=" + "Z9" * 20]
)
def test_a_key_is_not_shown(secret: str) -> None:
    """A value that looks like an API key appears in no message."""
    assert secret[-20:] not in shown(secret)
    assert "not shown" in shown(secret)


@given(st.text())
def test_shown_is_short_and_printable(text: str) -> None:
    """A message shows at most the first 60 characters of a value, and no control characters."""
    assert shown(text).isprintable()
    assert "a" * 61 not in shown("a" * 1_000)


def test_a_prompt_may_be_any_word() -> None:
    """The prompt "false" is a text, though `enhance` takes that text for a flag."""
    mapping = {"enhance": "true", "enhancePrompt": "false"}
    assert Parameters.from_mapping(mapping) == Parameters(enhance=True, enhance_prompt="false")
    assert Parameters.from_mapping(mapping).to_fields()["enhancePrompt"] == "false"
