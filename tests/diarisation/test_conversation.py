"""The finals of a conversation that wait: their order, and when they may go."""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from diarisation.segment_helpers import REDACTOR, S, final, partial
from steno.core.transcript import Fragment
from steno.diarisation.conversation import Conversation, Held
from steno.diarisation.roster import Who
from steno.diarisation.slots import slot_of
from steno.errors import RedactionError
from steno.redaction.carry import Carry


def conversation(*waiting: tuple[Fragment, float]) -> Conversation:
    """With finals that arrived at these times."""
    made = Conversation("c1", Carry(REDACTOR), max_partials=8)
    for fragment, arrived_s in waiting:
        made.wait(slot_of(fragment), fragment, arrived_s)
    return made


def ordered(state: Conversation) -> list[str]:
    return [place[3].text for place in state.order]


def test_finals_wait_in_order_of_place() -> None:
    """Start, then end, then speaker; arrival decides nothing."""
    state = conversation(
        (final(5, 6, "d"), 0.0),
        (final(1, 3, "c"), 1.0),
        (final(1, 2, "b", speaker="speaker_1"), 2.0),
        (final(1, 2, "a"), 3.0),
    )
    assert ordered(state) == ["a", "b", "c", "d"]


def test_a_final_in_place_of_another_takes_its_age() -> None:
    """It may move in the order, and waits no longer than the first would have."""
    state = conversation((final(1, 2, "a"), 0.0), (final(1, 3, "b", speaker="x"), 1.0))
    state.replace(slot_of(final(1, 2)), final(1, 4, "longer"))
    assert ordered(state) == ["b", "longer"]
    assert state.waited(2.0, 2.0, None) == 2
    assert next(iter(state.waiting.values()))[4] == 0.0


def test_what_is_placed_before_one_whose_wait_is_over_goes_with_it() -> None:
    """The last in order whose time has come decides how many."""
    state = conversation((final(5, 6), 0.0), (final(1, 2), 1.0), (final(8, 9), 1.5))
    assert state.waited(1.9, 2.0, None) == 0
    assert state.waited(2.0, 2.0, None) == 2
    assert state.waited(3.5, 2.0, None) == 3


def test_the_conversations_own_clock_may_decide() -> None:
    """A final goes when speech is so far past its end."""
    state = conversation((final(1, 20), 0.0), (final(2, 3), 0.0), (final(4, 15), 0.0))
    for clock_s, number in ((12, 0), (13, 2), (24, 2), (25, 3), (30, 3)):
        state.clock_us = clock_s * S
        assert state.past_horizon(10 * S) == number
        assert state.waited(99.0, inf, 10 * S) == number


def test_a_snapshot_keeps_ages_and_no_monotonic_times() -> None:
    """What waits, what is held, and the partials, if any ever came."""
    read = msgspec.structs.replace(final(5, 6, "b"), received_s=9.9)
    state = conversation((read, 10.0), (final(1, 2, "a"), 11.0))
    state.clock_us = 6 * S
    state.held["x", 3] = Held(final(0, 1, "held"), Who("speaker_0"), 3, 1)
    state.partials.final("heard", final(1, 2))
    other = conversation()
    other.restore(state.snapshot(12.0), now=500.0)
    assert ordered(other) == ["a", "b"]
    assert [place[4] for place in other.waiting.values()] == [498.0, 499.0]
    assert {place[3].received_s for place in other.order} == {0.0}
    assert other.journalled
    assert other.clock_us == 6 * S
    newest = other.held_version(slot_of(final(0, 1)))
    assert newest is not None
    assert newest.revision == 3
    assert other.partials.snapshot() == ({}, {})
    state.pieces = 1
    state.partials.add("p", partial(8, 9))
    third = conversation()
    third.restore(state.snapshot(12.0), now=0.0)
    assert len(third.partials) == 1
    assert third.partials.snapshot()[1].keys() == {"heard"}


def test_a_damaged_snapshot_changes_nothing() -> None:
    """And the error says nothing of it."""
    state = conversation()
    with pytest.raises(RedactionError) as caught:
        state.restore(b"\x93secret", now=0.0)
    assert "secret" not in str(caught.value)
    assert not state.busy
