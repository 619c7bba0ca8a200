"""A job's states, and which version of a file is which."""

from dataclasses import replace

import pytest

from venice_watch.job import ACTIVE, FINAL, TRANSITIONS, Signature, State, Verb

SIGNATURE = Signature(device=1, inode=2, size_bytes=3, mtime_ns=4, ctime_ns=5)


def test_every_verb_has_its_step() -> None:
    """The table holds every verb, and nothing can be added to it."""
    assert set(TRANSITIONS) == set(Verb)
    with pytest.raises(TypeError):
        TRANSITIONS[Verb.CLAIM] = TRANSITIONS[Verb.STAGE]  # type: ignore[index]


def test_states_are_active_or_final() -> None:
    """Each state is on its way or at its end, never both."""
    assert set(ACTIVE) | set(FINAL) == set(State)
    assert not set(ACTIVE) & set(FINAL)


def test_every_state_is_reached_and_left() -> None:
    """Every state can be reached from `available` and led to an end; none is a trap."""
    reached = {State.AVAILABLE}
    for _ in State:
        reached |= {step.target for step in TRANSITIONS.values() if set(step.sources) & reached}
    assert reached == set(State)
    for state in ACTIVE:
        assert any(state in step.sources for step in TRANSITIONS.values()), state


def test_ends_are_ends() -> None:
    """Only a person's `requeue` leads out of a final state."""
    for verb, step in TRANSITIONS.items():
        assert set(step.sources) <= set(FINAL if verb is Verb.REQUEUE else ACTIVE), verb


def test_no_second_request_without_a_decision() -> None:
    """A request begins only in `executing`, and each way there is a claim of waiting work."""
    ways = {verb for verb, step in TRANSITIONS.items() if step.target is State.EXECUTING}
    assert ways == {Verb.CLAIM}
    assert State.STAGED not in TRANSITIONS[Verb.CLAIM].sources
    assert State.STAGED not in TRANSITIONS[Verb.RETRY].sources


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"device": 9}, True),  # device numbers change when a share is mounted again
        ({"ctime_ns": 9}, True),  # a rename or a chmod
        ({"inode": 9}, False),
        ({"size_bytes": 9}, False),
        ({"mtime_ns": 9}, False),
    ],
)
def test_version(change: dict[str, int], *, same: bool) -> None:
    """A renamed file is the same version; another inode, size or time is another one."""
    other = replace(SIGNATURE, **change)
    assert SIGNATURE.is_version(other) is same
    assert other.is_version(SIGNATURE) is same
