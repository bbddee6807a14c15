"""Views: filtered, placed, marked and merged, whatever the order of commit was."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.records import Kind, Origin, Record, SegmentPayload, record_key
from steno.diarisation.views import (
    MAX_SIDE_BY_SIDE,
    MAX_TURN_CHARS,
    SegmentView,
    turns,
    views,
)
from steno.errors import IntegrityError

SECOND = 1_000_000
CALL_US = 1_705_314_600_000_000


def stored(payload: SegmentPayload, number: int = 0, conversation: str = "call-1") -> Record:
    """Return a record of a segment; ``number`` makes its key."""
    return Record(
        id=f"record-{number}",
        kind=Kind.SEGMENT,
        source="event-socket",
        conversation=conversation,
        lane=payload.speaker,
        utterance=str(number),
        revision=0,
        key=record_key("host", conversation, payload.speaker, str(number)),
        seq=number + 1,
        prev_seq=number,
        origin=Origin.LIVE,
        at_us=payload.at_us,
        payload=msgspec.json.encode(payload),
    )


def said(
    speaker: str, start_s: float, end_s: float, confidence: float = 0.9, zero_us: int = 0
) -> SegmentPayload:
    """Return a segment; times in seconds from ``zero_us``."""
    return SegmentPayload(
        speaker=speaker,
        text=f"{speaker} {start_s:g}",
        started_us=zero_us + round(start_s * SECOND),
        ended_us=zero_us + round(end_s * SECOND),
        confidence=confidence,
        at_us=CALL_US + round(end_s * SECOND),
        zero_us=zero_us,
    )


def place_of(record: Record) -> int:
    """Return the place that a segment's record is given."""
    return max(0, msgspec.json.decode(record.payload, type=SegmentPayload).started_us)


def by_place(payloads: Iterable[SegmentPayload]) -> list[Record]:
    """Return records as a timeline has them: by start, then as they came."""
    return sorted(
        (stored(payload, number) for number, payload in enumerate(payloads)),
        key=place_of,
    )


@st.composite
def segments(draw: st.DrawFn) -> list[SegmentPayload]:
    """Draw a crowded conversation: many begin at one moment, or before it; some take no time."""
    found = draw(
        st.lists(
            st.tuples(
                st.sampled_from("ABC"),
                st.integers(-3, 12),
                st.integers(0, 6),
                st.sampled_from([0.6, 0.85, 0.95]),
            ),
            max_size=25,
        )
    )
    return [said(speaker, start, start + length, conf) for speaker, start, length, conf in found]


def together(one: SegmentView, other: SegmentView) -> bool:
    """Tell whether two segments share time."""
    return min(one.end_us, other.end_us) > max(one.start_us, other.start_us)


@given(payloads=segments(), min_confidence=st.sampled_from([0.0, 0.85, 0.9]))
def test_overlap_is_what_comparing_all_pairs_gives(
    payloads: list[SegmentPayload], min_confidence: float
) -> None:
    """A segment is marked iff another speaker shares time with it, in what is exported."""
    found = list(views(by_place(payloads), min_confidence=min_confidence))
    wanted = [payload for payload in payloads if payload.confidence >= min_confidence]
    assert len(found) == len(wanted)
    for view in found:
        others = [other for other in found if other.speaker != view.speaker]
        assert view.overlap == any(together(view, other) for other in others)


@given(payloads=segments(), seed=st.integers(0, 99))
def test_order_of_commit_leaves_no_trace(payloads: list[SegmentPayload], seed: int) -> None:
    """Records of one moment come in any order and give the same views and turns."""
    records = by_place(payloads)
    shuffled = list(records)
    random.Random(seed).shuffle(shuffled)
    shuffled.sort(key=place_of)
    first = list(views(records, min_confidence=0.85))
    again = list(views(shuffled, min_confidence=0.85))
    assert again == first
    assert [view.start_us for view in first] == sorted(view.start_us for view in first)
    assert list(turns(again, 1.0)) == list(turns(first, 1.0))


@given(payloads=segments(), pause_s=st.sampled_from([0.0, 1.0, 3.5]))
def test_turns_are_what_the_rule_says(payloads: list[SegmentPayload], pause_s: float) -> None:
    """Neighbours merge iff one speaker's pause is short enough; nothing is lost or moved."""
    parts = list(views(by_place(payloads), min_confidence=0.0))
    found = list(turns(parts, pause_s))
    assert sum(turn.parts for turn in found) == len(parts)
    assert " ".join(turn.text for turn in found) == " ".join(part.text for part in parts)
    for before, after in pairwise(found):
        silence_us = after.start_us - before.end_us
        assert before.speaker != after.speaker or silence_us > pause_s * SECOND
    place = 0
    for turn in found:
        mine = parts[place : place + turn.parts]
        place += turn.parts
        assert {part.speaker for part in mine} == {turn.speaker}
        assert turn.start_us == mine[0].start_us
        assert turn.end_us == max(part.end_us for part in mine)
        assert turn.at_us == max(part.at_us for part in mine)
        assert turn.overlap == any(part.overlap for part in mine)
        assert turn.key == mine[0].key
        low, high = min(p.confidence for p in mine), max(p.confidence for p in mine)
        assert low - 1e-9 <= turn.confidence <= high + 1e-9


@given(payloads=segments(), pause_s=st.sampled_from([0.0, 1.0, 3.5]))
def test_merging_twice_changes_nothing(payloads: list[SegmentPayload], pause_s: float) -> None:
    """Turns of turns are the turns."""
    once = list(turns(views(by_place(payloads), min_confidence=0.0), pause_s))
    assert list(turns(once, pause_s)) == once


def test_confidence_of_a_turn_is_weighted_by_duration() -> None:
    """Three seconds at 1.0 and one at 0.6 give 0.9."""
    records = by_place([said("A", 0, 3, 1.0), said("A", 3, 4, 0.6)])
    [turn] = turns(views(records, min_confidence=0.0), 0)
    assert turn.confidence == pytest.approx(0.9)
    assert turn.text == "A 0 A 3"


def test_somebody_who_begins_between_ends_the_turn() -> None:
    """However short the pause, an interruption splits; one that began before does not."""
    records = by_place([said("A", 0, 1), said("B", 0.5, 0.6), said("A", 1, 2), said("A", 2, 3)])
    found = [(turn.speaker, turn.parts) for turn in turns(views(records, min_confidence=0), 9)]
    assert found == [("A", 1), ("B", 1), ("A", 2)]


@pytest.mark.parametrize("confidence", [0.95, 0.6])
def test_utc_times_count_from_the_conversation(confidence: float) -> None:
    """The first record tells the start, exported or not; nothing lies before it."""
    early = said("A", -2, 1, confidence, CALL_US)
    late = said("A", 2.5, 3, 0.95, CALL_US + 60 * SECOND)  # another communication's start
    found = list(views([stored(early), stored(late, 1)], min_confidence=0.85))
    times = [(0, SECOND), (62_500_000, 63 * SECOND)]
    assert [(view.start_us, view.end_us) for view in found] == times[-len(found) :]
    assert len(found) == (2 if confidence > 0.85 else 1)
    assert found[-1].zero_us == CALL_US


def test_unknown_start_counts_from_the_first_segment() -> None:
    """UTC without a start of the conversation is no reason for times of half a century."""
    absolute = said("A", 0, 1, 0.9, CALL_US)
    records = by_place([msgspec.structs.replace(absolute, zero_us=0)])
    [view] = views(records, min_confidence=0.85)
    assert (view.start_us, view.end_us, view.zero_us) == (0, SECOND, CALL_US)


def test_a_damaged_record_is_one_clear_error() -> None:
    """Its id is told, its content is not."""
    broken = msgspec.structs.replace(stored(said("A", 0, 1)), payload=b'{"text":"canary"}')
    with pytest.raises(IntegrityError) as caught:
        list(views([broken], min_confidence=0.0))
    assert "canary" not in str(caught.value)
    assert caught.value.fields == {"record": "record-0"}


def lookahead(payloads: Sequence[SegmentPayload]) -> int:
    """Return how many more records were read than views came out, at most."""
    read = 0

    def counted() -> Iterator[Record]:
        nonlocal read
        for number, payload in enumerate(payloads):
            read += 1
            yield stored(payload, number)

    most = out = 0
    for _ in views(counted(), min_confidence=0.0):
        most = max(most, read - out)
        out += 1
    assert out == len(payloads)
    return most


def test_memory_is_bounded_by_what_overlaps() -> None:
    """Alternating speakers need two records; a long one holds back no more than the limit."""
    assert lookahead([said("AB"[n % 2], n, n + 1) for n in range(200)]) <= 3
    inside = [said("A", 1 + n / 1000, 1 + n / 1000) for n in range(2 * MAX_SIDE_BY_SIDE)]
    assert lookahead([said("A", 0, 3600), *inside]) <= MAX_SIDE_BY_SIDE + 2
    at_once = [said("A", 0, 1) for _ in range(5 * MAX_SIDE_BY_SIDE)]
    assert lookahead(at_once) <= 2 * MAX_SIDE_BY_SIDE + 2


def test_a_turn_ends_with_its_conversation() -> None:
    """Labels are local: the same one in another conversation is somebody else."""
    view = SegmentView("call-1", "A", "x", 0, 1, 0.9, True, 0)
    other = msgspec.structs.replace(view, conversation="call-2")
    assert [turn.parts for turn in turns([view, view, other], 10)] == [2, 1]


def test_a_turn_has_a_longest_text() -> None:
    """A monologue without end becomes several turns instead of filling the memory."""
    view = SegmentView("call-1", "A", "x" * (MAX_TURN_CHARS // 2), 0, 1, 0.9, True, 0)
    assert [turn.parts for turn in turns([view] * 5, 10)] == [2, 2, 1]
