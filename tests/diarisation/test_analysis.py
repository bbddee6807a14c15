"""Figures of a conversation, by hand and against counting every microsecond."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.diarisation.analysis import ConversationFigures, SpeakerFigures, analyse
from steno.diarisation.views import SegmentView
from steno.errors import IntegrityError

S = 1_000_000

Piece = tuple[str, int, int]
"""Speaker, start, end, in units."""


def view(
    speaker: str,
    start_us: int,
    end_us: int,
    *,
    text: str = "",
    confidence: float = 0.9,
    role: str = "unknown",
    name: str = "",
    zero_us: int = 0,
) -> SegmentView:
    return SegmentView(
        conversation="c",
        speaker=speaker,
        text=text,
        start_us=start_us,
        end_us=end_us,
        confidence=confidence,
        is_final=True,
        at_us=0,
        zero_us=zero_us,
        role=role,
        name=name,
    )


def figures(
    pieces: Iterable[tuple[str, float, float]], *, pause_s: float = 2.0
) -> ConversationFigures:
    """Analyse pieces given in seconds."""
    views = [view(who, round(start * S), round(end * S)) for who, start, end in pieces]
    return analyse("c", sorted(views, key=lambda one: one.start_us), pause_us=round(pause_s * S))


def of(found: ConversationFigures, speaker: str) -> SpeakerFigures:
    return next(one for one in found.speakers if one.speaker == speaker)


def test_times_of_a_conversation() -> None:
    """Speech, silence and overlap by hand: a speaks 0–4, b 3–6, a 9–10."""
    found = figures([("a", 0, 4), ("b", 3, 6), ("a", 9, 10)])
    assert (found.duration_s, found.speech_s, found.silence_s) == (10, 7, 3)
    assert (found.longest_silence_s, found.longest_silence_at_s) == (3, 6)
    assert (found.overlap_s, found.overlap_share) == (1, 1 / 7)
    assert [(one.speaker, one.talk_s, one.share) for one in found.speakers] == [
        ("a", 5, 5 / 8),
        ("b", 3, 3 / 8),
    ]


def test_silence_before_the_first_word_does_not_count() -> None:
    """A conversation starts with its first segment."""
    found = figures([("a", 5, 6), ("b", 7, 8)])
    assert (found.start_s, found.duration_s, found.silence_s) == (5, 3, 1)


def test_nothing_gives_noughts() -> None:
    """No segment, no speaker, no division by nought."""
    found = analyse("c", [])
    assert (found.segments, found.duration_s, found.speakers) == (0, 0, ())
    assert found.mean_confidence is None


def test_a_pause_ends_a_turn_only_when_it_is_too_long() -> None:
    """Up to the pause, and including it, it is one turn."""
    pieces = [("a", 0, 1), ("a", 3, 4), ("a", 7, 8)]
    assert figures(pieces, pause_s=2).turns == 2
    assert figures(pieces, pause_s=3).turns == 1
    assert figures(pieces, pause_s=1.9).turns == 3
    assert of(figures(pieces, pause_s=2), "a").longest_monologue_s == 4


def test_somebody_else_ends_a_turn_by_beginning() -> None:
    """Even within a stretch; a stretch itself is never cut, however the source cuts it."""
    assert of(figures([("a", 0, 1), ("b", 0.5, 0.8), ("a", 1.2, 2)]), "a").turns == 2
    whole = [("a", 0, 2), ("a", 2, 4), ("a", 3, 6), ("b", 1, 1.5)]
    assert of(figures(whole), "a").turns == 1
    assert of(figures(whole), "a").longest_monologue_s == 6


def test_beginning_together_ends_no_turn() -> None:
    """Somebody who begins at the same time does not begin in between."""
    found = figures([("a", 0, 1), ("b", 0, 1), ("a", 2, 3), ("b", 2, 3)])
    assert (of(found, "a").turns, of(found, "b").turns) == (1, 1)


def test_interruption_needs_a_fifth_of_a_second_and_the_last_word() -> None:
    """Beyond the other's end it interrupts; within it is a back-channel; shorter is neither."""
    cut = figures([("a", 0, 4), ("b", 3.8, 6)])
    assert (of(cut, "b").interruptions, of(cut, "a").interrupted) == (1, 1)
    assert (of(cut, "a").interruptions, of(cut, "b").interrupted) == (0, 0)
    handed = figures([("a", 0, 4), ("b", 3.9, 6)])
    assert (of(handed, "b").interruptions, of(handed, "b").back_channels) == (0, 0)
    within = figures([("a", 0, 4), ("b", 2, 4)])
    assert (of(within, "b").interruptions, of(within, "b").back_channels) == (0, 1)
    together = figures([("a", 0, 4), ("b", 0, 6)])
    assert (of(together, "b").interruptions, of(together, "b").back_channels) == (0, 0)


def test_one_stretch_may_cut_off_two() -> None:
    """It is one interruption, suffered twice."""
    found = figures([("a", 0, 3), ("b", 1, 4), ("c", 2, 6)])
    assert of(found, "c").interruptions == 1
    assert (of(found, "a").interrupted, of(found, "b").interrupted) == (2, 1)


def test_going_on_is_not_beginning() -> None:
    """A segment that touches one's own speech interrupts nobody."""
    found = figures([("a", 0, 2), ("b", 1, 1.5), ("a", 2, 4), ("b", 3, 5)])
    assert of(found, "a").interruptions == 0
    assert of(found, "b").interruptions == 1


def test_first_response_is_to_the_first_turn_of_somebody_else() -> None:
    """From that turn's end to the first begin after it, not to one within it."""
    pieces = [("a", 0, 4), ("b", 2, 3), ("b", 5, 6), ("a", 7, 8), ("b", 8.5, 9)]
    found = figures(pieces, pause_s=1)
    assert of(found, "b").first_response_s == 1
    assert of(found, "a").first_response_s == 4  # b's first turn is 2–3
    assert of(figures(pieces, pause_s=2), "a").first_response_s == 1  # and here 2–6


def test_responses_follow_the_end_of_others() -> None:
    """A begin into silence that others left; not after one's own speech, not over others."""
    found = figures([("a", 0, 1), ("b", 2, 3), ("b", 6, 7), ("a", 7, 8), ("b", 7.5, 9)])
    assert (of(found, "b").responses, of(found, "b").mean_response_s) == (1, 1)
    assert (of(found, "a").responses, of(found, "a").mean_response_s) == (1, 0)


def test_words_confidence_and_names() -> None:
    """Words per minute of talk, confidence weighted by length, the first name that is told."""
    found = analyse(
        "c",
        [
            view("a", 0, 10 * S, text=" one  two ", confidence=0.9, zero_us=7),
            view("a", 20 * S, 50 * S, text="three", confidence=0.5, role="agent", name="Ada"),
            view("a", 60 * S, 60 * S, text="four", confidence=0.1, name="Eve"),
        ],
    )
    (one,) = found.speakers
    assert (one.words, one.words_per_minute) == (4, 6.0)
    assert one.mean_confidence == pytest.approx(0.6)
    assert found.mean_confidence == one.mean_confidence
    assert (one.role, one.name, found.zero_us) == ("agent", "Ada", 7)
    assert one.segments == 3


def test_disorder_is_one_clear_error() -> None:
    """Segments must come in order of their start."""
    with pytest.raises(IntegrityError, match="not in order"):
        analyse("c", [view("a", 5, 6), view("b", 4, 6)])


# --- against counting -------------------------------------------------------------------------

GRID = 24
UNIT = 100_000  # so that two units are just an interruption

grids = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, GRID - 1), st.integers(0, 6)), max_size=12
).map(lambda found: [(who, start, min(GRID, start + length)) for who, start, length in found])


def on_grid(pieces: Sequence[Piece], pause: int) -> ConversationFigures:
    views = [view(who, start * UNIT, end * UNIT) for who, start, end in pieces]
    views.sort(key=lambda one: one.start_us)  # stable: equal starts keep the given order
    return analyse("c", views, pause_us=pause * UNIT)


def cells(pieces: Sequence[Piece]) -> dict[str, set[int]]:
    """The units of time in which each speaks."""
    found: dict[str, set[int]] = {}
    for who, start, end in pieces:
        found.setdefault(who, set()).update(range(start, end))
    return found


def runs(units: set[int]) -> list[tuple[int, int]]:
    """Maximal intervals of a set of units: the stretches."""
    starts = sorted(one for one in units if one - 1 not in units)
    ends = sorted(one + 1 for one in units if one + 1 not in units)
    return list(zip(starts, ends, strict=True))


def units(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * S / UNIT)


def counted_turns(
    who: str, stretches: dict[str, list[tuple[int, int]]], pause: int
) -> list[tuple[int, int]]:
    turns: list[list[tuple[int, int]]] = []
    for one in stretches[who]:
        others = [start for name, runs in stretches.items() if name != who for start, _ in runs]
        goes_on = (
            turns
            and one[0] - turns[-1][-1][1] <= pause
            and not any(turns[-1][-1][0] < start < one[0] for start in others)
        )
        if goes_on:
            turns[-1].append(one)
        else:
            turns.append([one])
    return [(turn[0][0], turn[-1][1]) for turn in turns]


@given(pieces=grids, pause=st.integers(0, 6))
def test_times_are_those_of_counting(pieces: list[Piece], pause: int) -> None:
    """Every unit of time is counted once; the identities hold."""
    found, spoken = on_grid(pieces, pause), cells(pieces)
    busy = [sum(unit in one for one in spoken.values()) for unit in range(GRID)]
    heard = [unit for unit in range(GRID) if busy[unit]]
    first, last = (heard[0], heard[-1] + 1) if heard else (0, 0)
    quiet = runs(set(range(first, last)) - set(heard))
    longest = max(quiet, key=lambda one: (one[1] - one[0], -one[0]), default=None)
    assert units(found.duration_s) == last - first
    assert units(found.speech_s) == len(heard)
    assert units(found.silence_s) == sum(end - start for start, end in quiet)
    assert units(found.longest_silence_s) == (longest[1] - longest[0] if longest else 0)
    assert units(found.longest_silence_at_s) == (longest[0] if longest else None)
    assert units(found.overlap_s) == sum(one > 1 for one in busy)
    talk = sum(one.talk_s for one in found.speakers)
    excess = sum(max(0, one - 1) for one in busy)
    assert units(talk + found.silence_s - found.duration_s) == excess
    assert {one.speaker: units(one.talk_s) for one in found.speakers} == {
        who: len(one) for who, one in spoken.items()
    }
    assert talk == 0 or sum(one.share for one in found.speakers) == pytest.approx(1)


@given(pieces=grids, pause=st.integers(0, 6))
def test_turns_are_those_of_counting(pieces: list[Piece], pause: int) -> None:
    """Number and longest of each speaker's turns, by their definition."""
    found = on_grid(pieces, pause)
    stretches = {who: runs(one) for who, one in cells(pieces).items()}
    for one in found.speakers:
        turns = counted_turns(one.speaker, stretches, pause)
        assert one.turns == len(turns)
        longest = max((end - start for start, end in turns), default=0)
        assert units(one.longest_monologue_s) == longest


@given(pieces=grids)
def test_interruptions_are_those_of_comparing_all_pairs(pieces: list[Piece]) -> None:
    """Each stretch against each other, by the definition."""
    found = on_grid(pieces, 2)
    stretches = [
        (who, start, end) for who, one in cells(pieces).items() for start, end in runs(one)
    ]
    made: dict[str, set[Piece]] = {}
    suffered: dict[str, int] = {}
    within: dict[str, set[Piece]] = {}
    for one, other in itertools.permutations(stretches, 2):
        (who, start, end), (whom, began, ended) = one, other
        if who == whom or not began < start < ended:
            continue
        if end > ended and ended - start >= 2:
            made.setdefault(who, set()).add(one)
            suffered[whom] = suffered.get(whom, 0) + 1
        elif end <= ended:
            within.setdefault(who, set()).add(one)
    for speaker in found.speakers:
        who = speaker.speaker
        assert speaker.interruptions == len(made.get(who, set()))
        assert speaker.interrupted == suffered.get(who, 0)
        assert speaker.back_channels == len(within.get(who, set()) - made.get(who, set()))


@given(pieces=grids, pause=st.integers(0, 6))
def test_responses_are_those_of_the_definition(pieces: list[Piece], pause: int) -> None:
    """First response and every response, looked up in the whole conversation."""
    found = on_grid(pieces, pause)
    stretches = {who: runs(one) for who, one in cells(pieces).items() if one}
    for speaker in found.speakers:
        who = speaker.speaker
        others = {name: one for name, one in stretches.items() if name != who}
        own = stretches.get(who, [])
        first = min(((one[0][0], name) for name, one in others.items()), default=None)
        expected = None
        if first is not None:
            end = counted_turns(first[1], stretches, pause)[0][1]
            expected = next((start - end for start, _ in own if start >= end), None)
        assert units(speaker.first_response_s) == expected
        delays = []
        for start, _ in own:
            if any(one[0] < start < one[1] for runs_ in others.values() for one in runs_):
                continue
            past = [end for _, end in own if end <= start]
            ends = [end for runs_ in others.values() for _, end in runs_ if end <= start]
            if ends and max(ends) > max(past, default=-1):
                delays.append(start - max(ends))
        assert speaker.responses == len(delays)
        mean = sum(delays) / len(delays) * UNIT / S if delays else None
        assert speaker.mean_response_s == (None if mean is None else pytest.approx(mean))


@given(pieces=grids, data=st.data())
def test_order_of_equal_starts_does_not_matter(pieces: list[Piece], data: st.DataObject) -> None:
    """Whatever starts together may come in any order; the figures are equal to the last bit."""
    other = data.draw(st.permutations(pieces))
    assert on_grid(pieces, 2) == on_grid(other, 2)


@given(pieces=grids, at=st.integers(1, GRID - 1))
def test_cutting_a_segment_changes_no_figure_of_time(pieces: list[Piece], at: int) -> None:
    """How a source cuts a speaker's speech shows in the number of segments alone."""
    cut: list[Piece] = []
    for who, start, end in pieces:
        cut += [(who, start, at), (who, at, end)] if start < at < end else [(who, start, end)]
    whole, parts = on_grid(pieces, 2), on_grid(cut, 2)
    assert [
        (one.talk_s, one.turns, one.interruptions, one.back_channels, one.mean_response_s)
        for one in whole.speakers
    ] == [
        (one.talk_s, one.turns, one.interruptions, one.back_channels, one.mean_response_s)
        for one in parts.speakers
    ]
