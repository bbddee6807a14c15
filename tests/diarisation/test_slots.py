"""Which version of a segment counts, what is remembered of it, and which partials are open."""

from __future__ import annotations

import sys
from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diarisation.segment_helpers import T0, S, final, partial, uttered
from steno.core.records import SegmentPayload
from steno.core.transcript import Fragment
from steno.diarisation.slots import (
    UNKNOWN,
    Partials,
    SlotMemory,
    fingerprint_of,
    has_bad_times,
    rank_of,
    slot_of,
    utterance_of,
)


def test_a_slot_is_named_by_the_sources_id_or_by_speaker_and_start() -> None:
    """Fractions of a millisecond make no other slot; another speaker does."""
    assert utterance_of(uttered(1, 2, utterance="u7")) == "u7"
    assert utterance_of(final(1.2349, 2)) == "s1234"
    assert slot_of(final(1.2341, 2)) == slot_of(final(1.2349, 3, "else", confidence=0.1))
    assert slot_of(final(1, 2)) != slot_of(final(1, 2, speaker="speaker_1"))


def test_the_order_holds_event_time_only_where_it_is_the_sources() -> None:
    """Receipt of an event of the event socket takes no part."""
    assert rank_of(final(1, 2, at_us=T0)) == rank_of(final(1, 2, at_us=T0 + S))
    assert rank_of(uttered(1, 2, event_s=5)) > rank_of(uttered(1, 9, event_s=4))


@pytest.mark.parametrize(
    ("fragment", "bad"),
    [
        (final(0, 0), False),
        (final(1, 1), False),
        (final(5, 4.999), True),
        (final(-0.001, 1), True),
        (final(0, 24 * 3600), False),
        (final(0, 24 * 3600 + 1), True),
        (final(1e10, 1e10 + 1), True),
        (uttered(1, 2), False),
        (msgspec.structs.replace(uttered(1, 2), started_us=0, ended_us=S), True),
    ],
)
def test_times_that_cannot_be_are_known(fragment: Fragment, bad: bool) -> None:
    """Backwards, before the beginning, longer than a day, beyond all calendars, or none at all."""
    assert has_bad_times(fragment) is bad


# --- memory --------------------------------------------------------------------------------------


def test_memory_returns_what_was_given_out() -> None:
    """Rank, revision, masks; the fingerprint tells an equal version from another."""
    memory, one = SlotMemory(), uttered(1, 2)
    assert memory.give_out("a", one, revision=3, masks=2, epoch=7)
    assert not memory.give_out("a", one, revision=4, masks=2, epoch=7)
    slot = memory.get("a")
    assert slot is not None
    assert slot.rank == rank_of(one)
    assert (slot.revision, slot.masks, slot.epoch) == (4, 2, 7)
    assert slot.fingerprint == fingerprint_of(one)
    assert slot.fingerprint != fingerprint_of(uttered(1, 2, "good evening"))
    assert memory.get("b") is None


def test_what_the_store_tells_has_no_fingerprint_and_may_owe_its_masks_to_neighbours() -> None:
    """Its raw text is gone."""
    memory = SlotMemory()
    payload = SegmentPayload("x", "[REDACTED]", 1, 2, 0.5, 99, entities={"phone": 1, "card": 1})
    slot = memory.recall("a", payload, revision=2, has_ids=False)
    assert slot == memory.get("a")
    assert (slot.rank, slot.fingerprint) == ((0, 2, 0.5), UNKNOWN)
    assert (slot.revision, slot.masks) == (2, 2)
    assert memory.recall("a", payload, revision=2, has_ids=True).at_us == 99


def test_the_least_recently_touched_slots_go_first() -> None:
    """Those whose draft may not be stored stay, and so do all behind them."""
    memory = SlotMemory()
    for i in range(6):
        memory.give_out(f"{i}", final(i, i + 1), revision=0, masks=0, epoch=i)
    memory.touch("0")
    memory.touch("nobody")
    assert memory.trim(4, stored=9) == 2
    assert [f"{i}" in memory for i in range(6)] == [True, False, False, True, True, True]
    assert memory.trim(0, stored=5) == 2
    assert [f"{i}" in memory for i in range(6)] == [True, False, False, False, False, True]
    assert memory.trim(2, stored=9) == 0
    kept = memory.since(1)
    assert ("5" in kept, "0" in kept, len(kept)) == (True, False, 1)


def test_a_remembered_slot_is_small() -> None:
    """A name and a packed value: no objects of their own for the parts."""
    memory = SlotMemory()
    one = final(1, 2)
    memory.give_out(slot_of(one), one, revision=0, masks=0, epoch=1)
    ((name, packed),) = memory._slots.items()
    assert sys.getsizeof(name) + sys.getsizeof(packed) <= 160


# --- partials ------------------------------------------------------------------------------------


def left(*fragments: Fragment) -> list[str]:
    """Texts of the partials that are open after these were heard."""
    partials = Partials()
    for each in fragments:
        if each.is_final:
            partials.final(slot_of(each), each)
        else:
            partials.add(slot_of(each), each)
    number, open_at_last = len(partials), partials.take()
    assert (number, len(partials)) == (len(open_at_last), 0)
    return sorted(each.text for each in open_at_last)


@pytest.mark.parametrize(
    ("fragments", "open_texts"),
    [
        ([partial(1, 2, "a"), partial(1, 3, "b")], ["b"]),
        ([partial(1, 2, "a"), final(1, 3)], []),
        ([partial(1, 2, "a"), final(1.5, 3)], []),
        ([partial(1, 2, "a"), final(2, 3)], ["a"]),
        ([partial(1, 1, "a"), final(1, 1)], []),
        ([partial(1, 1, "a", speaker=""), final(1, 3)], []),
        ([partial(1, 2, "a"), final(1, 3, speaker="speaker_1")], ["a"]),
        ([partial(1, 2, "a", speaker=""), final(1, 3, speaker="speaker_1")], []),
        ([partial(1, 2, "a"), final(1, 3, speaker="")], ["a"]),
        ([partial(1, 2, "a"), partial(1, 5, "b"), final(3, 6)], []),
        ([partial(1, 5, "a"), partial(6, 7, "b"), final(1, 2)], ["b"]),
        ([uttered(1, 2, "a", is_final=False), uttered(5, 6, "b")], []),
        ([uttered(1, 2, "a", is_final=False), uttered(5, 6, "b", utterance="u2")], ["a"]),
    ],
)
def test_a_partial_is_open_until_its_speech_came_in_a_final_in_whatever_order(
    fragments: list[Fragment], open_texts: list[str]
) -> None:
    """Its utterance's, or its speaker's at the same time."""
    for order in permutations(fragments):
        assert left(*order) == open_texts


PIECES = st.lists(
    st.builds(
        lambda start, length, speaker, is_final: final(
            start, start + length, f"{start} {length}", speaker=speaker, is_final=is_final
        ),
        st.integers(0, 6),
        st.integers(0, 4),
        st.sampled_from(["a", "b", ""]),
        st.booleans(),
    ),
    max_size=12,
)


@given(pieces=PIECES, data=st.data())
def test_which_partials_stay_open_does_not_depend_on_the_order(
    pieces: list[Fragment], data: st.DataObject
) -> None:
    """However partials and finals overlap."""
    shuffled = data.draw(st.permutations(pieces))
    assert left(*shuffled) == left(*pieces)


def test_a_final_without_times_closes_the_partial_of_its_utterance_only() -> None:
    """It has no place at which it could be anything else's."""
    partials = Partials()
    partials.add("u1", uttered(1, 2, is_final=False))
    partials.add("u2", uttered(3, 4, utterance="u2", is_final=False))
    partials.final_without_times("u1", uttered(1, 2))
    assert [each.utterance for each in partials.take()] == ["u2"]
    partials.add("u1", uttered(1, 2, is_final=False))
    assert len(partials) == 0
    partials.final("u1", uttered(1, 2))
    partials.add("u3", uttered(2.5, 3, utterance="u3", is_final=False))
    assert len(partials) == 1


def test_partials_and_finals_remembered_are_bounded() -> None:
    """Of the partials those superseded go first; of the finals the newest are known."""
    partials = Partials(most=2, recent=2)
    partials.add("a", partial(1, 2, "a"))
    partials.final("x", final(1.5, 3))
    assert partials.add("b", partial(5, 6, "b")) is None
    assert partials.add("c", partial(7, 8, "c")) is None
    lost = partials.add("d", partial(9, 10, "d"))
    assert lost is not None
    assert lost.text == "b"
    for i in range(20, 40):
        partials.final(f"{i}", final(i, i + 1))
    assert len(partials.snapshot()[1]) <= 4


def test_partials_go_on_from_a_snapshot() -> None:
    """Those superseded and the finals heard of are part of it."""
    first, second = Partials(), Partials()
    first.add("a", partial(1, 5, "a"))
    first.final("x", final(3, 6))
    first.add("b", partial(8, 9, "b"))
    second.restore(*first.snapshot())
    assert len(second) == 1
    second.add("a", partial(1, 2, "earlier"))
    second.add("c", partial(5, 6, "c"))
    assert [each.text for each in second.take()] == ["b"]
