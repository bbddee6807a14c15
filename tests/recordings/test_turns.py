"""Turns: who speaks until somebody else does."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.spoken_words import MS, START_US, said, turns, words
from steno.recordings.turns import (
    MARKS,
    UNKNOWN,
    document_turn,
    joined,
    rfc3339,
    turns_of,
    unredacted,
)
from steno.recordings.words import UNTIMED, Word


def test_a_speaker_who_comes_back_has_a_turn_of_his_own_each_time() -> None:
    """Not one for the whole call, with bounds and confidence over everything."""
    spoken = [
        Word("hello", 0, 300, "a", 0.5),
        Word("there", 400, 700, "a", 1.0),
        Word("hi", 800, 900, "b", 0.25),
        Word("so", 1000, 1100, "a", None),
        Word("yes", 1200, 1300, "a", 0.125),
    ]
    assert [
        (one.speaker, one.text, one.start_us, one.end_us, one.confidence)
        for one in turns_of(spoken)
    ] == [
        ("a", "hello there", 0, 700, 0.75),
        ("b", "hi", 800, 900, 0.25),
        ("a", "so yes", 1000, 1300, 0.125),
    ]


def test_a_turn_ends_with_the_latest_end_of_its_words() -> None:
    """A word that began earlier may last longer."""
    (turn,) = turns_of([Word("long", 0, 900, "a"), Word("short", 100, 200, "a")])
    assert (turn.start_us, turn.end_us, turn.confidence) == (0, 900, None)


def test_words_of_nobody_are_a_class_that_is_seen() -> None:
    assert [turn.speaker for turn in turns(("", "one two"), ("a", "three"), ("", "four"))] == [
        UNKNOWN,
        "a",
        UNKNOWN,
    ]
    assert len(turns(("", "one"), (UNKNOWN, "two"))) == 1


def test_words_of_the_same_times_keep_the_order_they_come_in() -> None:
    """A service whose times are coarse gives several words one time."""
    spoken = [Word(text, 5, 5, "a") for text in ("zu", "Hause", "an")]
    assert turns_of(spoken)[0].text == "zu Hause an"
    untimed = [Word(text, UNTIMED, UNTIMED, who) for text, who in (("z", "b"), ("a", "a"))]
    assert [turn.text for turn in turns_of(untimed)] == ["z", "a"]


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        ((), ""),
        (("hello",), "hello"),
        (("hello", ",", "there", ".", "Ok", "?!"), "hello, there. Ok?!"),
        ((".", "well"), ". well"),
        (("it's", "...", "fine"), "it's... fine"),
        (("(", "well", ")"), "( well)"),
        (("3.", "5", "-", "a"), "3. 5 - a"),
    ],
)
def test_a_blank_stands_between_words_and_none_before_a_mark(
    texts: tuple[str, ...], text: str
) -> None:
    assert joined(texts) == text


def test_nobody_spoke() -> None:
    assert turns_of([]) == ()
    assert unredacted([]) == ()


@given(spoken=words())
def test_words_are_conserved_and_turns_alternate(spoken: list[Word]) -> None:
    """Every word is in one turn, in order of time; neighbours have different speakers."""
    made = turns_of(spoken)
    inside = [word for turn in made for word in turn.words]
    assert sorted(map(repr, inside)) == sorted(map(repr, spoken))
    starts = [word.start_us for word in inside]
    assert starts == sorted(starts)
    assert all(one.speaker != other.speaker for one, other in pairwise(made))
    for turn in made:
        assert {word.speaker or UNKNOWN for word in turn.words} == {turn.speaker}
        assert turn.start_us == min(word.start_us for word in turn.words)
        assert turn.end_us == max(word.end_us for word in turn.words)
        assert turn.text.replace(" ", "") == "".join(word.text for word in turn.words)
        told = [word.confidence for word in turn.words if word.confidence is not None]
        if turn.confidence is None:
            assert not told
        else:
            assert min(told) <= turn.confidence <= max(told)


@given(spoken=words(), seed=st.integers(0, 10**6))
def test_the_order_in_which_words_come_does_not_matter(spoken: list[Word], seed: int) -> None:
    """Words of the very same times excepted: see above."""
    distinct = list({(word.start_us, word.end_us): word for word in spoken}.values())
    shuffled = random.Random(seed).sample(distinct, len(distinct))
    assert turns_of(shuffled) == turns_of(distinct)


@given(texts=st.lists(st.sampled_from([*sorted(MARKS), "a", "b c"]), max_size=8))
def test_joining_puts_every_word_in_and_blanks_only(texts: list[str]) -> None:
    """And no blank is doubled, or at an end."""
    text = joined(texts)
    assert text.replace(" ", "") == "".join(texts).replace(" ", "")
    assert text == " ".join(text.split())


def test_a_turn_is_encoded_with_the_tutorials_keys() -> None:
    (turn,) = turns_of(said(("speaker_1", "hello there")))
    assert msgspec.json.decode(msgspec.json.encode(document_turn(turn))) == {
        "speaker_id": "speaker_1",
        "text": "hello there",
        "start_time": "2024-01-15T10:30:00.000000Z",
        "end_time": "2024-01-15T10:30:00.700000Z",
        "avg_confidence": 0.9,
    }
    (untimed,) = turns_of([Word("hello", UNTIMED, UNTIMED)])
    document = document_turn(untimed)
    assert (document.start_time, document.end_time, document.avg_confidence) == (None,) * 3


@given(at_us=st.integers(0, 253_402_300_799_999_999))
def test_times_are_written_as_they_are_read(at_us: int) -> None:
    from datetime import UTC, datetime, timedelta

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert datetime.fromisoformat(rfc3339(at_us)) == epoch + timedelta(microseconds=at_us)


def test_the_first_microsecond_of_a_second_is_written_with_six_digits() -> None:
    assert rfc3339(START_US + 1) == "2024-01-15T10:30:00.000001Z"
    assert rfc3339(START_US - MS) == "2024-01-15T10:29:59.999000Z"
