"""Redaction of a transcript: nothing planted is left in any form of it, nothing else changes."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from recordings.spoken_words import said, turns
from steno.core.quality import Metrics
from steno.recordings.outputs import Transcript, encoded, webhook_payload
from steno.recordings.redacted import MAX_PIECE_WORDS, WITHHELD, redact_turns
from steno.recordings.turns import Turn, turns_of
from steno.recordings.words import Word
from steno.redaction import Redactor, Span

LABELS = Redactor(mask="label")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PLAIN = ["hello", "there", "thanks", "the", "weather", "is", "fine", "really", ".", ",", "okay"]
BACK_CHANNELS = ["okay", "mhm", "yes", "go on"]


def redacted(spoken: tuple[Turn, ...], redactor: Redactor = LABELS) -> tuple[Turn, ...]:
    done = redact_turns(spoken, redactor, language="en-US")
    assert done.withheld == 0
    return done.turns


def texts(*spoken: tuple[str, str]) -> list[str]:
    return [turn.text for turn in redacted(turns(*spoken))]


def shown(done: tuple[Turn, ...]) -> bytes:
    """Return every form in which a transcript leaves, one after the other."""
    transcript = Transcript("t", "r", "completed", Metrics(1.0, 0.1, 1), done, 0)  # type: ignore[arg-type]  # redacted above
    forms = [
        b"".join(encoded(transcript, form, words=True)) for form in ("text", "srt", "vtt", "json")
    ]
    return b"\n".join([*forms, webhook_payload(transcript)])


def test_a_number_over_several_turns_is_masked_in_each() -> None:
    """Across what the other says meanwhile."""
    assert texts(
        ("c", "it's four one five"),
        ("a", "okay"),
        ("c", "five five five"),
        ("a", "mhm"),
        ("c", "oh one four two , thanks ."),
    ) == ["it's [PHONE]", "okay", "[PHONE]", "mhm", "[PHONE], thanks."]


def test_a_number_goes_on_in_words_that_are_given_to_nobody() -> None:
    """They are taken for those of whoever was speaking."""
    spoken = turns(("c", "four one five"), ("", "five five five"), ("c", "oh one four two"))
    assert [turn.text for turn in redacted(spoken)] == ["[PHONE]"] * 3


def test_the_words_of_a_span_become_one_word_with_its_bounds_in_time() -> None:
    """Their mean confidence too; the words around stay the very words."""
    words = said(("c", "call (415) 555-0142 . please"))
    words[1] = Word("(415)", words[1].start_us, words[1].end_us, "c", 0.5)
    (spoken,) = turns_of(words)
    (turn,) = redacted((spoken,))
    assert turn.confidence == spoken.confidence == pytest.approx(0.82)
    assert turn.text == "call [PHONE]. please"
    assert [word.text for word in turn.words] == ["call", "[PHONE]", ".", "please"]
    masked = turn.words[1]
    assert (masked.start_us, masked.end_us) == (words[1].start_us, words[2].end_us)
    assert masked.confidence == 0.7
    assert masked.speaker == "c"
    assert [turn.words[i] for i in (0, 2, 3)] == [words[i] for i in (0, 3, 4)]
    assert (turn.start_us, turn.end_us) == (words[0].start_us, words[-1].end_us)


def test_what_is_beside_a_span_in_its_word_stays() -> None:
    (turn,) = redacted(turns(("c", 'write "anna@example.com", please')))
    assert [word.text for word in turn.words] == ["write", '"[EMAIL]",', "please"]


class _Marked:
    """Finds what stands in angle brackets, wherever that begins and ends."""

    def find(self, text: str, *, language: str) -> Iterable[Span]:
        del language
        return [Span(*found.span(), "own") for found in re.finditer("<[^>]*>?", text)]


@pytest.mark.parametrize(
    ("spoken", "words"),
    [
        ("a <b c> d", ["a", "[OWN]", "d"]),
        ("a<b c>d e", ["a[OWN]d", "e"]),
        ("<a> <b>", ["[OWN]"]),
        ("x<a>y<b>z w", ["x[OWN]y[OWN]z", "w"]),
        ("x<a b>y<c d>z w", ["x[OWN]y[OWN]z", "w"]),
        ("a < > b", ["a", "[OWN]", "b"]),
        ("a <b . c> , d", ["a", "[OWN]", ",", "d"]),
        (". <b", [".", "[OWN]"]),
    ],
)
def test_words_touched_by_one_span_are_one_group(spoken: str, words: list[str]) -> None:
    """Spans that begin or end inside words, several in one word, side by side."""
    found = redacted(turns(("c", spoken)), Redactor(mask="label", recognisers=[_Marked()]))[0].words
    if spoken == "<a> <b>":  # one entity each, nothing but a blank between: joined or not
        assert [word.text for word in found] in (words, ["[OWN]", "[OWN]"])
    else:
        assert [word.text for word in found] == words


def test_invisible_characters_hide_nothing() -> None:
    """A word of nothing else, and a card number with some inside."""
    words = said(("c", "card \u200b 4111\u200b1111 1111\u00ad1111 \u200b bye\u200b"))
    (turn,) = redacted(turns_of(words))
    assert re.findall(r"\d", turn.text) == []
    assert turn.words[0].text == "card"
    assert turn.words[-1].text == "bye\u200b"


class _Failing:
    def find(self, text: str, *, language: str) -> Iterable[Span]:
        del language
        if "poison" in text:
            raise ValueError(text)
        return []


def test_words_whose_redaction_fails_are_withheld_and_the_rest_goes_on() -> None:
    """It fails closed, for that turn alone, and the text is in no error."""
    spoken = turns(("a", "hello there"), ("b", "poison 4111 1111 1111 1111"), ("a", "bye"))
    done = redact_turns(spoken, Redactor(recognisers=[_Failing()]), language="en-US")
    assert [turn.text for turn in done.turns] == ["hello there", WITHHELD, "bye"]
    assert done.withheld == 1
    assert [word.text for word in done.turns[1].words] == [WITHHELD]
    assert done.turns[1].start_us == spoken[1].start_us
    assert done.turns[1].end_us == spoken[1].end_us


def test_a_turn_that_is_cut_into_pieces_is_searched_over_the_cuts() -> None:
    """And counted as one."""
    head = ["so"] * (MAX_PIECE_WORDS - 3)
    (turn,) = redacted(turns(("c", " ".join([*head, "my card is 4111 1111 1111 1111 ok"]))))
    assert len(turn.words) == len(head) + 3 + 2  # cut behind "is 4111": a mask on either side
    assert re.findall(r"\d", turn.text) == []


def test_a_label_that_is_personal_data_is_replaced_everywhere() -> None:
    """Ids stay, and the new name is nobody else's."""
    uuid = "41141555-5014-4202-8111-411111111111"
    spoken = turns(("415-555-0142", "hi"), ("speaker-1", "a"), (uuid, "b"), ("a@example.com", "c"))
    done = redacted(spoken)
    assert [turn.speaker for turn in done] == ["speaker-2", "speaker-1", uuid, "speaker-3"]
    assert {word.speaker for word in done[0].words} == {"speaker-2"}
    assert b"555-0142" not in shown(done)


def test_entities_are_counted() -> None:
    done = redact_turns(
        turns(("c", "call 415-555-0142 or anna@example.com"), ("a", "or 415-555-0143")),
        LABELS,
        language="en-US",
    )
    assert done.entities == {"phone": 2, "email": 1}


@st.composite
def dictations(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """A card or phone number, said or written, over some turns with other words around."""
    number = draw(
        st.one_of(st.just("4111111111111111"), st.from_regex("[2-9][0-9]{9}", fullmatch=True))
    )
    spoken = draw(st.booleans())
    cuts = sorted(draw(st.sets(st.integers(1, len(number) - 1), max_size=3)))
    plain = st.lists(st.sampled_from(PLAIN), max_size=4).map(" ".join)
    out = [("a", f"{draw(plain)} what is your number ?")]
    for start, end in zip([0, *cuts], [*cuts, len(number)], strict=True):
        digits = [DIGITS[int(digit)] if spoken else digit for digit in number[start:end]]
        before = f"{draw(plain)} my number is " if start == 0 else ""
        after = f" {draw(st.sampled_from(['', '.', 'thanks']))}" if end == len(number) else ""
        out.append((draw(st.sampled_from(["c", "c", ""])), before + " ".join(digits) + after))
        out.append(("a", draw(st.sampled_from(BACK_CHANNELS))))
    return number, out


@settings(max_examples=examples(100))
@given(planted=dictations())
def test_no_planted_number_is_in_any_output(planted: tuple[str, list[tuple[str, str]]]) -> None:
    """Four digits in a row neither in texts nor words, and the turns are the same turns."""
    _, spoken = planted
    before = turns(*spoken)
    done = redacted(before)
    assert [(t.speaker, t.start_us, t.end_us) for t in done] == [
        (t.speaker, t.start_us, t.end_us) for t in before
    ]
    for turn in done:
        said_again = [word.text.lower() for word in turn.words]
        for row in (said_again, turn.text.lower().replace(",", "").split()):
            digits = "".join("#" if one in DIGITS or one.isdigit() else " " for one in row)
            assert "####" not in digits
    told = shown(done).decode()
    assert "four one one one" not in told
    assert "4 1 1 1" not in told


@given(
    spoken=st.lists(
        st.tuples(
            st.sampled_from(["a", "c", ""]),
            st.lists(
                st.sampled_from([*PLAIN, "you\u200bsee", "e\u0301t\u00e9", "4"]), min_size=1
            ).map(" ".join),
        )
    )
)
def test_what_has_no_secret_comes_out_as_it_was(spoken: list[tuple[str, str]]) -> None:
    """The very same turns, odd characters and all. One digit alone is none."""
    before = turns(*[turn for turn in spoken if turn[1].count("4") < 2])
    after = redacted(before)
    if sum(turn.text.count("4") for turn in before) < 2:
        assert all(one is other for one, other in zip(before, after, strict=True))
    assert [turn.start_us for turn in after] == [turn.start_us for turn in before]
