"""Times of redacted words: masks get the time of what they hide, and never its text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.transcript import RawText, RedactedText
from steno.media.words import Aligned, Token, align
from steno.ports.speech import SpeechWord

STEP = 1_000


def said(text: str, *, start: int = 0) -> list[SpeechWord]:
    """Words of 800 samples, one every 1000."""
    return [
        SpeechWord(RawText(word), start + i * STEP, start + i * STEP + 800, 0.5 + i / 100)
        for i, word in enumerate(text.split())
    ]


def aligned(text: str, words: Sequence[SpeechWord], **options: int) -> Aligned:
    bounds = {"start_samples": 0, "end_samples": max(1, len(words)) * STEP}
    return align(RedactedText(text), words, **(bounds | options))


def times(tokens: Sequence[Token]) -> list[tuple[str, int, int]]:
    return [(token.text, token.start_samples, token.end_samples) for token in tokens]


def test_unchanged_words_keep_their_own_times() -> None:
    """Whatever their case and punctuation."""
    result = aligned("Good morning, how's IT?", said("good morning how's it"))
    assert times(result.tokens) == [
        ("Good", 0, 800),
        ("morning,", 1_000, 1_800),
        ("how's", 2_000, 2_800),
        ("IT?", 3_000, 3_800),
    ]
    assert [token.confidence for token in result.tokens] == [0.5, 0.51, 0.52, 0.53]
    assert result.next_word == 4


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("call me at [PHONE] please", "call me at five five five one two please", (3_000, 7_800)),
        ("[REDACTED] is my number", "five five five is my number", (0, 2_800)),
        ("my card is [CARD].", "my card is four two four two", (3_000, 6_800)),
        ("[PHONE]", "five five five", (0, 2_800)),
        ("it's ([EMAIL]), yes", "it's john at example dot com yes", (1_000, 5_800)),
    ],
)
def test_a_mask_gets_the_span_of_the_words_it_stands_for(
    text: str, words: str, expected: tuple[int, int]
) -> None:
    """In the middle, at either end, alone, and between signs."""
    tokens = aligned(text, said(words)).tokens
    mask = next(token for token in tokens if "[" in token.text)
    assert (mask.start_samples, mask.end_samples) == expected


def test_words_behind_a_mask_are_found_as_a_whole() -> None:
    """A masked word that is also the next visible one does not pull it forward."""
    result = aligned("write [EMAIL] at home", said("write jo at gmail dot com at home"))
    assert times(result.tokens) == [
        ("write", 0, 800),
        ("[EMAIL]", 1_000, 5_800),
        ("at", 6_000, 6_800),
        ("home", 7_000, 7_800),
    ]


def test_several_masks_are_kept_apart() -> None:
    """Each has the words between its neighbours."""
    result = aligned("[PHONE] or [PHONE] then", said("one two or three four then"))
    assert times(result.tokens)[0] == ("[PHONE]", 0, 1_800)
    assert times(result.tokens)[2] == ("[PHONE]", 3_000, 4_800)


def test_masks_side_by_side_share_the_time() -> None:
    """Which word belongs to which cannot be told."""
    result = aligned("is [PHONE] [EMAIL]", said("is one two three four"), end_samples=5_000)
    starts = [token.start_samples for token in result.tokens]
    assert starts[0] == 0
    assert 800 <= starts[1] < starts[2] < 5_000


def test_sentences_of_one_utterance_follow_one_another() -> None:
    """The next sentence is looked for behind the one before."""
    words = said("no thanks no thanks bye")
    first = aligned("No thanks.", words)
    second = aligned("No thanks, bye.", words, from_word=first.next_word)
    assert [token.start_samples for token in second.tokens] == [2_000, 3_000, 4_000]
    assert second.next_word == 5


def test_a_sentence_after_one_that_ends_in_a_mask_is_found() -> None:
    """How far that mask reaches is not known, so it does not use the words up."""
    words = said("my number is five five five thanks a lot")
    first = aligned("My number is [PHONE].", words)
    second = aligned("Thanks a lot.", words, from_word=first.next_word)
    assert [token.start_samples for token in second.tokens] == [6_000, 7_000, 8_000]


def test_words_written_otherwise_share_the_time_between_the_others() -> None:
    """``20`` was heard as two words."""
    result = aligned("I want 20 boxes today", said("i want twenty exactly boxes today"))
    found = {text: (start, end) for text, start, end in times(result.tokens)}
    assert found["want"] == (1_000, 1_800)
    assert found["boxes"] == (4_000, 4_800)
    assert 1_800 <= found["20"][0] < found["20"][1] <= 4_000


def test_when_little_is_in_common_the_time_is_spread_evenly() -> None:
    """By the number of letters, over the whole of it."""
    result = aligned("aa bbbb cc", said("quite other things"), start_samples=800, end_samples=1_600)
    assert times(result.tokens) == [
        ("aa", 800, 1_000),
        ("bbbb", 1_000, 1_400),
        ("cc", 1_400, 1_600),
    ]


def test_without_words_the_time_is_spread_evenly() -> None:
    """Services of the small contract tell no times."""
    result = align(RedactedText("a [X] b"), [], start_samples=100, end_samples=600, confidence=0.7)
    assert times(result.tokens) == [("a", 100, 200), ("[X]", 200, 500), ("b", 500, 600)]
    assert {token.confidence for token in result.tokens} == {0.7}


def test_no_text_no_tokens() -> None:
    """White space alone is nothing."""
    assert aligned("  ", said("hello")).tokens == ()


def test_starts_can_be_kept_a_millisecond_apart() -> None:
    """Times that are written in milliseconds must stay distinct there."""
    words = [SpeechWord(RawText(w), 100, 100) for w in ("one", "two", "three")]
    result = align(
        RedactedText("one two three"), words, start_samples=0, end_samples=8_000, apart_samples=8
    )
    assert [token.start_samples for token in result.tokens] == [100, 108, 116]


# --- any input -------------------------------------------------------------------------------

VOCABULARY = ("call", "me", "at", "five", "one", "two", "home", "the", "no", "-", "1,000", "é")
SECRETS = ("hunter2", "41111111", "jane", "doe")
ANY_TIME = st.integers(-10_000, 50_000)


@st.composite
def sentences(draw: st.DrawFn) -> tuple[str, list[SpeechWord]]:
    """A sentence with masks, and the words of its utterance: alike, altered, or unlike."""
    shown: list[str] = []
    heard: list[str] = []
    for _ in range(draw(st.integers(0, 12))):
        if draw(st.booleans()):
            heard.extend(draw(st.lists(st.sampled_from(SECRETS + VOCABULARY), max_size=4)))
            shown.append(draw(st.sampled_from(("[PHONE]", "[REDACTED].", "([CARD]),"))))
            continue
        word = draw(st.sampled_from(VOCABULARY))
        shown.append(word.capitalize() + draw(st.sampled_from(("", ".", ","))))
        if draw(st.integers(0, 5)):
            heard.append(word)
    before = draw(st.lists(st.sampled_from(SECRETS + VOCABULARY), max_size=3))
    heard = before + heard
    if draw(st.booleans()):  # times as good services tell them
        return " ".join(shown), said(" ".join(heard))
    words = [SpeechWord(RawText(w), draw(ANY_TIME), draw(ANY_TIME)) for w in heard]
    return " ".join(shown), words


@given(
    sentence=sentences(),
    start=st.integers(0, 20_000),
    length=st.integers(-100, 40_000),
    from_word=st.integers(0, 40),
    apart=st.integers(1, 16),
)
def test_whatever_the_words_are(
    sentence: tuple[str, list[SpeechWord]], start: int, length: int, from_word: int, apart: int
) -> None:
    """The texts are those of the redacted sentence; starts ascend, distinct, within the bounds."""
    text, words = sentence
    result = align(
        RedactedText(text),
        words,
        start_samples=start,
        end_samples=start + length,
        from_word=from_word,
        apart_samples=apart,
    )
    tokens = result.tokens
    assert [token.text for token in tokens] == text.split()
    assert not any(secret in token.text for token in tokens for secret in SECRETS)
    starts = [token.start_samples for token in tokens]
    assert all(b - a >= apart for a, b in itertools.pairwise(starts))
    last = max(start + length, start + len(tokens) * apart)
    for token in tokens:
        assert start <= token.start_samples < token.end_samples <= last
        assert 0 <= token.confidence <= 1
    assert 0 <= result.next_word <= max(len(words), from_word)


@given(words=st.lists(st.sampled_from(VOCABULARY[:8]), min_size=1, max_size=30), data=st.data())
def test_a_part_of_an_utterance_gets_times_of_equal_words(
    words: list[str], data: st.DataObject
) -> None:
    """Each token stands where the same word was heard, one right after the other."""
    first = data.draw(st.integers(0, len(words) - 1))
    after = data.draw(st.integers(first + 1, len(words)))
    heard = said(" ".join(words))
    tokens = aligned(" ".join(words[first:after]), heard, from_word=first).tokens
    assert [token.start_samples for token in tokens] == [i * STEP for i in range(first, after)]
    tokens = aligned(" ".join(words[first:after]), heard).tokens
    places = [token.start_samples // STEP for token in tokens]
    assert [words[place] for place in places] == words[first:after]
    assert places == list(range(places[0], places[0] + len(places)))


def test_a_very_long_utterance_is_not_compared_part_by_part() -> None:
    """The work would grow with its square: it is spread instead."""
    heard = said("word " * 2_000)
    tokens = aligned("other words entirely", heard).tokens
    assert tokens[0].start_samples == 0
    assert tokens[-1].end_samples == 2_000 * STEP
