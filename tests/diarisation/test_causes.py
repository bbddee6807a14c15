"""Likely causes: what is told of conversations in memory, and of those that are not any more."""

from __future__ import annotations

import pytest

from diarisation.segment_helpers import REDACTOR
from steno.diarisation.causes import Cause, Causes, cause_of
from steno.diarisation.conversation import Conversation
from steno.redaction.carry import Carry


def state(
    name: str = "c1", *, finals: int = 0, speakerless: int = 0, pieces: int = 0, ids: bool = False
) -> Conversation:
    found = Conversation(name, Carry(REDACTOR), max_partials=8)
    found.finals, found.speakerless, found.pieces = finals, speakerless, pieces
    found.has_ids = ids
    return found


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (state(finals=3, speakerless=3), "no_speaker_labels"),
        (state(finals=3, speakerless=3, ids=True), "no_participants"),
        (state(pieces=4), "no_finals"),
        (state(finals=1, pieces=4), None),
        (state(), None),
    ],
)
def test_a_cause_follows_from_what_came(told: Conversation, reason: str | None) -> None:
    """Labels, participants, finals: whatever is missing altogether."""
    cause = cause_of(told)
    assert (cause.reason if cause is not None else None) == reason
    told.named = True
    assert cause_of(told) is None


def test_a_forgotten_conversation_goes_on_counting() -> None:
    """Heard of again it is one conversation, with one cause."""
    causes = Causes(10)
    causes.forget(state(finals=2, speakerless=2))
    again = state()
    causes.resume(again)
    again.finals += 1
    again.speakerless += 1
    assert causes.all([again]) == [Cause("c1", 3, 3, 0, "no_speaker_labels")]


def test_what_was_forgotten_without_a_cause_gets_none_later() -> None:
    """It had a speaker, or a cause would be kept; one that is new is told of as ever."""
    causes = Causes(10)
    good = state(finals=2)
    good.named = True
    causes.forget(good)
    known = state()
    known.more = True  # the store has records of it
    new = state("c2")
    for one in (known, new):
        causes.resume(one)
        one.finals = one.speakerless = 1
    assert [cause.conversation for cause in causes.all([known, new])] == ["c2"]


def test_of_forgotten_ones_the_newest_are_kept() -> None:
    """However many there are."""
    causes = Causes(3)
    for number in range(10):
        causes.forget(state(f"c{number}", pieces=1))
    assert [cause.conversation for cause in causes.all([])] == ["c7", "c8", "c9"]
