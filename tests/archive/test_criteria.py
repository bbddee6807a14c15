"""Which segments are listed."""

from __future__ import annotations

import pytest

from steno.archive.criteria import Criteria, roles_of
from steno.core.stored import Participant, Segment
from steno.core.transcript import RawText, Role


def segment(
    start: float = 1.0, end: float = 2.0, who: str = "a", sure: float | None = 0.9
) -> Segment:
    """Make one."""
    return Segment(start, end, RawText("x"), who, sure)


def test_without_criteria_everything_is_listed() -> None:
    """Also what nobody knows anything about."""
    assert Criteria().meets(segment(sure=None, who=""), Role.UNKNOWN)
    assert not Criteria().restricts
    assert Criteria().takes("any")


def test_strangers_are_of_no_role_but_unknown() -> None:
    """A filter for agents or customers never guesses."""
    for role in (Role.AGENT, Role.CUSTOMER, Role.SYSTEM):
        assert not Criteria(roles=frozenset({role})).meets(segment(), Role.UNKNOWN)
    assert Criteria(roles=frozenset({Role.UNKNOWN})).meets(segment(), Role.UNKNOWN)


@pytest.mark.parametrize(
    ("criteria", "met"),
    [
        (Criteria(participants=frozenset({"a", "b"})), True),
        (Criteria(participants=frozenset({"b"})), False),
        (Criteria(min_confidence=0.9), True),
        (Criteria(min_confidence=0.91), False),
        (Criteria(from_s=2.0), False),
        (Criteria(from_s=1.999), True),
        (Criteria(to_s=1.0), False),
        (Criteria(to_s=1.001), True),
        (Criteria(from_s=1.2, to_s=1.3), True),
        (Criteria(roles=frozenset({Role.AGENT}), min_confidence=0.95), False),
    ],
)
def test_every_criterion_has_to_be_met(criteria: Criteria, *, met: bool) -> None:
    """By a segment of an agent from 1 to 2 s, 0.9 sure."""
    assert criteria.meets(segment(), Role.AGENT) is met


def test_an_empty_segment_lies_where_it_begins() -> None:
    """Asked for everything after 0, one at 0 is there; two ranges side by side share none."""
    for start in (0.0, 30.0):
        empty = segment(start, start)
        assert Criteria(from_s=start).meets(empty, Role.AGENT)
        assert not Criteria(to_s=start).meets(empty, Role.AGENT)
        assert not Criteria(from_s=start + 0.001).meets(empty, Role.AGENT)


def test_criteria_are_told_apart_and_not_told() -> None:
    """Their digest is the same for the same, in whatever order, and quotes nothing."""
    one = Criteria(participants=frozenset({"+14155550142", "b"}), from_s=1.0)
    same = Criteria(participants=frozenset(["b", "+14155550142"]), from_s=1.0)
    assert one.digest == same.digest
    assert one.digest != Criteria(participants=one.participants, to_s=1.0).digest
    assert len(one.digest) == 12


def test_a_segment_without_confidence_meets_no_least_one() -> None:
    """Not even zero: nobody said how sure it is."""
    assert not Criteria(min_confidence=0.0).meets(segment(sure=None), Role.AGENT)


def test_an_interaction_is_taken_as_a_whole() -> None:
    """Or not at all."""
    criteria = Criteria(interactions=frozenset({"c-1"}))
    assert criteria.takes("c-1")
    assert not criteria.takes("c-2")


def test_a_participant_named_twice_has_the_role_that_is_known() -> None:
    """Whichever comes first."""
    twice = [Participant("a", "", "?"), Participant("a", "", "agent"), Participant("a", "", "bot")]
    assert roles_of(twice)["a"] is Role.AGENT


@pytest.mark.parametrize(
    ("word", "role"),
    [
        ("agent", Role.AGENT),
        ("Internal", Role.AGENT),
        ("customer", Role.CUSTOMER),
        ("external", Role.CUSTOMER),
        ("ivr", Role.SYSTEM),
        ("system", Role.SYSTEM),
        ("", Role.UNKNOWN),
        ("judge", Role.UNKNOWN),
    ],
)
def test_both_families_words_for_roles_are_known(word: str, role: Role) -> None:
    """The document's roles and the platform's purposes."""
    assert roles_of([Participant("x", "", word)])["x"] is role
