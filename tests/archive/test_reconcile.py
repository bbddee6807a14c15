"""Matching stored segments against what was delivered: what was dropped comes back, no more."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steno.archive.matching import words_of
from steno.archive.reconcile import (
    FOREVER_US,
    Heard,
    Judged,
    Said,
    Span,
    Verdict,
    judge,
)

ALL = (Span(0, FOREVER_US),)
LEXICON = [a + b for a in ("ka", "lo", "mi", "ne", "pu", "ra", "so", "ti") for b in
           ("ba", "de", "fi", "go", "hu", "ja", "ke", "ly")]  # fmt: skip
SHORT = ("yes", "okay", "no", "yes please")
ZERO_US = 1_700_000_000_000_000


def conversation(draw: random.Random, count: int, *, repeats: float = 0.2) -> list[str]:
    """Return what is said: sentences of a few words, some of them repeated short ones."""
    said = []
    for number in range(count):
        if draw.random() < repeats:
            said.append(draw.choice(SHORT))
        else:
            words = draw.choices(LEXICON, k=draw.randint(3, 14))
            said.append(" ".join([*words, f"w{number}"]))
    return said


def segments(texts: list[str], *, zero_us: int = ZERO_US, lanes: int = 1) -> list[Said]:
    """Return segments two seconds apart."""
    return [
        Said(f"p{n % lanes}", "unknown", text, zero_us + 2_000_000 * n, zero_us + 2_000_000 * n + 1)
        for n, text in enumerate(texts)
    ]


def sentences(said: list[Said], kept: list[int], *, move_us: int = 0) -> list[Heard]:
    """Return the sentences that were delivered of segments."""
    return [
        Heard(one.lane, one.role, one.text, one.started_us + move_us, one.ended_us + move_us)
        for one in (said[n] for n in kept)
    ]


def lost(judged: list[Judged]) -> list[int]:
    """Return the numbers of segments that were not delivered."""
    return [n for n, one in enumerate(judged) if one.verdict is not Verdict.DELIVERED]


def recut(draw: random.Random, heard: list[Heard]) -> list[Heard]:
    """Cut and join sentences of a lane at random, change case and punctuation."""
    lanes: dict[str, list[tuple[str, Heard]]] = {}
    for one in heard:
        lanes.setdefault(one.lane, []).extend((word, one) for word in one.text.split())
    made = []
    for lane, words in lanes.items():
        at = 0
        while at < len(words):
            size = draw.randint(1, 20)
            piece = words[at : at + size]
            text = " ".join(word for word, _ in piece)
            text = draw.choice([text, text.upper(), text.capitalize() + ".", text + " …"])
            text = re.sub(" ", lambda _: draw.choice([" ", ", ", " - "]), text)
            made.append(Heard(lane, "unknown", text, piece[0][1].started_us, piece[-1][1].ended_us))
            at += size
    return made


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 60), share=st.floats(0, 1),
       lanes=st.integers(1, 3))  # fmt: skip
def test_exactly_what_was_dropped_comes_back(
    seed: int, count: int, share: float, lanes: int
) -> None:
    """Whatever is dropped, and however the rest is cut, joined and written; times are told."""
    draw = random.Random(seed)
    said = segments(conversation(draw, count, repeats=0.0), lanes=lanes)
    kept = [n for n in range(count) if draw.random() >= share]
    judged = judge(said, recut(draw, sentences(said, kept)), ALL, dated=True)
    assert lost(judged) == [n for n in range(count) if n not in kept]
    assert {one.verdict for one in judged} <= {Verdict.DELIVERED, Verdict.IN_GAP}


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40), share=st.floats(0, 1))
def test_no_heard_word_explains_two_segments(seed: int, count: int, share: float) -> None:
    """With many repetitions and no times, what counts as delivered is what was, word for word."""
    draw = random.Random(seed)
    said = segments(conversation(draw, count, repeats=0.7), zero_us=0)
    kept = [n for n in range(count) if draw.random() >= share]
    untimed = [Heard(one.lane, one.role, one.text, 0, 0) for one in sentences(said, kept)]
    judged = judge(said, untimed, ALL, dated=False)
    found = [said[n].text for n, one in enumerate(judged) if one.verdict is Verdict.DELIVERED]
    assert " ".join(found).split() == " ".join(said[n].text for n in kept).split()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_times_tell_which_of_the_same_was_lost(seed: int, share: float) -> None:
    """Repeated short words half a minute apart: each is found missing where it was."""
    draw = random.Random(seed)
    said = [
        Said("p", "unknown", "yes", ZERO_US + 30_000_000 * n, ZERO_US + 30_000_000 * n + 500_000)
        for n in range(20)
    ]
    kept = [n for n in range(20) if draw.random() >= share]
    judged = judge(said, sentences(said, kept), ALL, dated=True)
    assert lost(judged) == [n for n in range(20) if n not in kept]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), share=st.floats(0, 0.6), errors=st.floats(0, 0.3))
def test_a_recognisers_differences_hide_no_loss(seed: int, share: float, errors: float) -> None:
    """Words heard otherwise: what was dropped comes back, what was heard as it is does not."""
    draw = random.Random(seed)
    said = segments(conversation(draw, 40, repeats=0.0))
    kept = [n for n in range(40) if draw.random() >= share]
    altered = set()
    heard = []
    for n, one in zip(kept, sentences(said, kept), strict=True):
        words = one.text.split()
        other = ["zz" if draw.random() < errors else word for word in words]
        if other != words:
            altered.add(n)
        heard.append(Heard(one.lane, one.role, " ".join(other), one.started_us, one.ended_us))
    missing = set(lost(judge(said, recut(draw, heard), ALL, dated=True)))
    assert set(range(40)) - set(kept) <= missing
    assert missing <= set(range(40)) - set(kept) | altered


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("repeats", [0.2, 1.0])
@pytest.mark.parametrize("errors", [0.0, 0.2, 1.0])
def test_a_day_of_speech_takes_seconds(repeats: float, errors: float) -> None:
    """20,000 segments, however they repeat themselves and however badly they were heard."""
    draw = random.Random(1)
    said = segments(conversation(draw, 20_000, repeats=repeats), lanes=2)
    kept = [n for n in range(20_000) if draw.random() >= 0.1]
    heard = [
        Heard(one.lane, one.role,
              " ".join("zz" if draw.random() < errors else word for word in one.text.split()),
              one.started_us, one.ended_us)
        for one in sentences(said, kept)
    ]  # fmt: skip
    began = time.process_time()
    judge(said, recut(draw, heard), ALL, dated=True)
    took_s = time.process_time() - began
    print(f"20,000 segments, {repeats=}, {errors=}: {took_s:.2f} s CPU")  # noqa: T201
    assert took_s < 30


def test_a_repeated_answer_between_questions_is_missed_in_its_place() -> None:
    """Without times, order decides."""
    texts = ["is that your parcel", "yes", "did it arrive late", "yes", "was it damaged", "yes"]
    said = segments(texts, zero_us=0)
    untimed = [Heard("p0", "unknown", texts[n], 0, 0) for n in (0, 1, 2, 4, 5)]
    assert lost(judge(said, untimed, ALL, dated=False)) == [3]


def test_one_word_heard_otherwise_is_no_loss() -> None:
    """A small difference of the recogniser, a mask, an apostrophe."""
    said = segments(
        ["I'll take the blue one with the long handle", "Call me on [PHONE] please now"]
    )
    heard = [
        Heard("p0", "unknown", "I'll take the new one with the long", ZERO_US, ZERO_US + 1),
        Heard("p0", "unknown", "handle. Call me on [REDACTED] [REDACTED], please now.",
              ZERO_US + 1, ZERO_US + 2_000_001),
    ]  # fmt: skip
    assert lost(judge(said, heard, ALL, dated=True)) == []


def test_half_of_a_segment_is_a_loss() -> None:
    """Nine tenths of the words are asked for."""
    said = segments(["one two three four five six seven eight nine ten"])
    half = [Heard("p0", "unknown", "one two three four five six seven eight", ZERO_US, ZERO_US)]
    most = [
        Heard("p0", "unknown", "one two three four five six seven eight nine", ZERO_US, ZERO_US)
    ]
    assert lost(judge(said, half, ALL, dated=True)) == [0]
    assert lost(judge(said, most, ALL, dated=True)) == []


def test_a_lost_piece_of_a_long_segment_is_a_loss() -> None:
    """Though nine tenths of its words are there."""
    words = [f"w{n}" for n in range(60)]
    said = segments([" ".join(words)])
    heard = [Heard("p0", "unknown", " ".join(words[:30] + words[35:]), ZERO_US, ZERO_US + 1)]
    assert lost(judge(said, heard, ALL, dated=True)) == [0]
    heard = [Heard("p0", "unknown", " ".join(words[:30] + words[33:]), ZERO_US, ZERO_US + 1)]
    assert lost(judge(said, heard, ALL, dated=True)) == []


def test_lanes_are_not_mixed_where_both_name_them() -> None:
    """The customer's words do not stand for the agent's."""
    said = [
        Said("a", "unknown", "good morning to you", 1, 2),
        Said("b", "unknown", "and you", 3, 4),
    ]
    heard = [Heard("b", "unknown", "good morning to you and you", 1, 4)]
    assert lost(judge(said, heard, ALL, dated=False)) == [0]


def test_roles_stand_in_for_lanes() -> None:
    """Where nobody is named alike, who is an agent is."""
    said = [
        Said("x", "agent", "how are you today", 1, 2),
        Said("y", "customer", "how are you today", 3, 4),
    ]
    heard = [Heard("lane", "customer", "how are you today", 3, 4)]
    assert lost(judge(said, heard, ALL, dated=False)) == [0]


def test_only_what_a_gap_can_explain_is_in_it() -> None:
    """A segment lost minutes from every gap is told apart."""
    texts = [f"sentence number {n} of all" for n in range(300)]
    said = segments(texts)
    kept = [n for n in range(300) if n not in (10, 150)]
    gap = Span(ZERO_US + 2_000_000 * 149, ZERO_US + 2_000_000 * 151)
    judged = judge(said, sentences(said, kept), [gap], dated=True)
    assert [judged[n].verdict for n in (10, 150)] == [Verdict.OUTSIDE, Verdict.IN_GAP]


def test_a_transcript_that_counts_from_its_own_beginning_is_dated_by_what_was_heard() -> None:
    """The document's times are seconds from the start of the conversation."""
    said = segments([f"sentence number {n} of all" for n in range(300)], zero_us=0)
    kept = [n for n in range(300) if n not in (10, 150)]
    gap = Span(ZERO_US + 2_000_000 * 149, ZERO_US + 2_000_000 * 151)
    judged = judge(said, sentences(said, kept, move_us=ZERO_US), [gap], dated=False)
    assert [judged[n].verdict for n in (10, 150)] == [Verdict.OUTSIDE, Verdict.IN_GAP]
    assert abs(judged[150].started_us - (ZERO_US + 300_000_000)) < 1_000_000


def test_without_a_common_clock_neighbours_tell_where_a_segment_lies() -> None:
    """A transcript ten times slower than what was heard."""
    said = segments([f"sentence number {n} of all" for n in range(300)], zero_us=0)
    kept = [n for n in range(300) if n not in (10, 150)]
    heard = [
        Heard(one.lane, one.role, one.text, ZERO_US + one.started_us // 10,
              ZERO_US + one.ended_us // 10)
        for one in (said[n] for n in kept)
    ]  # fmt: skip
    heard = [h if n < 200 else Heard(h.lane, h.role, h.text, h.started_us + 600_000_000,
             h.ended_us + 600_000_000) for n, h in enumerate(heard)]  # fmt: skip
    gap = Span(ZERO_US + 400_000_000, ZERO_US + 500_000_000)
    judged = judge(said, heard, [gap], dated=False)
    assert [judged[n].verdict for n in (10, 150)] == [Verdict.OUTSIDE, Verdict.OUTSIDE]
    judged = judge(said, heard, [Span(ZERO_US + 60_000_000, ZERO_US + 70_000_000)], dated=False)
    assert judged[150].verdict is Verdict.IN_GAP


def test_nothing_heard_is_everything_lost() -> None:
    """A conversation that lies wholly in a gap."""
    said = segments(["good morning", "hello there"])
    assert lost(judge(said, [], [Span(ZERO_US, ZERO_US + 10)], dated=True)) == [0, 1]


def test_a_gap_lasts_until_the_conversation_is_heard_again() -> None:
    """Silence after it is its doing; what is missing later is not."""
    texts = [f"sentence number {n} of all" for n in range(300)]
    said = segments(texts)
    kept = [n for n in range(300) if not 50 <= n < 150 and n != 220]
    gap = Span(ZERO_US + 2_000_000 * 50, ZERO_US + 2_000_000 * 51)
    judged = judge(said, sentences(said, kept), [gap], dated=True)
    assert [n for n, one in enumerate(judged) if one.verdict is Verdict.IN_GAP] == list(
        range(50, 150)
    )
    assert judged[220].verdict is Verdict.OUTSIDE


def test_where_nothing_was_heard_times_count_from_the_gap() -> None:
    """A transcript without dates, of a conversation inside a gap."""
    said = segments(["good morning", "hello there"], zero_us=0)
    judged = judge(said, [], [Span(ZERO_US, ZERO_US + 10**9)], dated=False)
    assert [one.verdict for one in judged] == [Verdict.IN_GAP] * 2
    assert [one.started_us for one in judged] == [ZERO_US, ZERO_US + 2_000_000]


def test_words_are_compared_without_case_and_signs() -> None:
    """Masks of either form are one word."""
    assert words_of("It's [PHONE] [REDACTED], e-mail!") == ["its", "[]", "e", "mail"]
    assert words_of("…") == []
