"""Secrets over several sentences: found however they are cut, held briefly, in order."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from redaction.redaction_helpers import (
    EN_DIGITS,
    LABELS,
    conversation,
    longest_row,
    sentence,
)
from steno.redaction import Carry, CarryState

BACK_CHANNELS = ["okay", "mhm", "yes", "got it", "go on"]
DIGIT_WORDS = {
    "en-US": EN_DIGITS,
    "es-ES": ["cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"],
    "fr-FR": ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"],
    "de-DE": ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
}
VISA = "4111111111111111"


def texts(turns: list[tuple[str, str]], language: str = "en-US") -> list[str]:
    return [str(out.text) for out in conversation(turns, language=language)]


def test_a_number_over_three_sentences_across_back_channels_is_masked_in_each() -> None:
    assert texts(
        [
            ("customer", "it's four one five"),
            ("agent", "okay"),
            ("customer", "five five five"),
            ("agent", "mhm"),
            ("customer", "oh one four two, thanks"),
        ]
    ) == ["it's [PHONE]", "okay", "[PHONE]", "mhm", "[PHONE], thanks"]


def test_an_address_that_continues_is_masked_in_each_sentence() -> None:
    turns = [
        ("customer", "my e-mail is bob dot lee"),
        ("agent", "yes"),
        ("customer", "at example dot com"),
        ("customer", "right"),
    ]
    assert texts(turns) == ["my e-mail is [EMAIL]", "yes", "[EMAIL]", "right"]


def test_a_question_for_an_address_makes_the_answer_wait_for_its_rest() -> None:
    turns = [("agent", "what's your email?"), ("customer", "bob lee"), ("customer", "at x dot com")]
    assert texts(turns)[1:] == ["[EMAIL]", "[EMAIL]"]


@st.composite
def dictations(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """A phone or card number said digit by digit, cut into one to four sentences."""
    language = draw(st.sampled_from(sorted(DIGIT_WORDS)))
    number = draw(st.one_of(st.just(VISA), st.from_regex(r"[2-9][0-9]{9}", fullmatch=True)))
    cuts = sorted(draw(st.sets(st.integers(1, len(number) - 1), max_size=3)))
    turns: list[tuple[str, str]] = []
    for start, end in zip([0, *cuts], [*cuts, len(number)], strict=True):
        words = [DIGIT_WORDS[language][int(digit)] for digit in number[start:end]]
        turns.append(("customer", " ".join(words) + draw(st.sampled_from(["", ".", ","]))))
        if draw(st.booleans()):
            turns.append(("agent", draw(st.sampled_from(BACK_CHANNELS))))
    return language, turns


@settings(max_examples=examples(200), deadline=None)
@given(said=dictations())
def test_no_four_digits_survive_whichever_way_a_number_is_cut(
    said: tuple[str, list[tuple[str, str]]],
) -> None:
    """Without a word of context, with back-channels of the other lane between."""
    language, turns = said
    out = conversation(turns, language=language)
    assert [o.sentence.text for o in out] == [text for _, text in turns]
    own = [o.text for o in out if o.sentence.lane == "customer"]
    assert longest_row(own, DIGIT_WORDS[language]) < 4


@settings(max_examples=examples(100), deadline=None)
@given(cuts=st.sets(st.integers(1, 15), max_size=3), spaced=st.booleans())
def test_a_card_in_digits_is_masked_however_it_is_cut_when_it_was_announced(
    cuts: set[int], spaced: bool
) -> None:
    bounds = [0, *sorted(cuts), 16]
    pieces = [VISA[a:b] for a, b in itertools.pairwise(bounds)]
    said = [" ".join(piece) if spaced else piece for piece in pieces]
    said[0] = f"my card number is {said[0]}"
    out = texts([("customer", text) for text in said])
    assert longest_row(out, []) < 4


@pytest.mark.parametrize(
    "text",
    [
        "I have two",
        "that is forty two euros",
        "my number is 415-555-0142",
        "four one five five five five oh one four two",
        "write to anna@example.com",
        "it was in nineteen eighty four",
        "see you at five thirty",
        "your order number is four five six",
        "version two point five",
        "hello there",
        "no one",
        "the total is 1200.",
        "two hundred",
        "we are on three dot five",
        "look at example dot com",
        "there are 15 people in room 402",
    ],
)
def test_sentences_without_an_unfinished_secret_are_not_held(text: str) -> None:
    carry = Carry(LABELS)
    assert len(carry.push(sentence(text), now=0)) == 1
    assert not carry.holding
    assert carry.next_deadline() is None


@pytest.mark.parametrize(
    "text",
    [
        "four one five",
        "my phone number is 415",
        "sure it's four one five five",
        "it was 415-555",
        "my e-mail is bob dot",
        "the card number is double four",
        "four one five double.",
        "oh twenty",
    ],
)
def test_an_unfinished_secret_is_held_no_longer_than_its_time(text: str) -> None:
    carry = Carry(LABELS, hold_s=5.0)
    assert carry.push(sentence(text), now=100.0) == []
    assert carry.next_deadline() == 105.0
    assert carry.on_deadline(104.9) == []
    assert len(carry.on_deadline(105.0)) == 1
    assert not carry.holding


def test_sentences_behind_a_held_one_wait_and_keep_their_order() -> None:
    carry = Carry(LABELS)
    assert carry.push(sentence("four one five"), now=0) == []
    assert carry.push(sentence("I see", lane="agent"), now=1) == []
    out = carry.push(sentence("is the area code"), now=2)
    assert [o.text for o in out] == ["four one five", "I see", "is the area code"]


def test_what_continues_after_the_release_is_still_masked() -> None:
    carry = Carry(LABELS, hold_s=5.0)
    carry.push(sentence("four one five five"), now=0)
    carry.on_deadline(5.0)
    out = carry.push(sentence("five five oh one four two"), now=20.0)
    assert [o.text for o in out] == ["[PHONE]"]


def test_a_suspicious_number_that_breaks_off_is_masked_when_in_doubt() -> None:
    carry = Carry(LABELS)
    assert carry.push(sentence("my phone number is four one five"), now=0) == []
    assert [o.text for o in carry.flush(1.0)] == ["my phone number is [PHONE]"]


def test_a_question_in_the_other_lane_gives_the_answer_its_context() -> None:
    asked = [("agent", "what is your social security number?"), ("customer", "219 09 9999 sir")]
    assert texts(asked)[1] == "[SSN] sir"
    said = "four five six seven eight nine one"
    order = [("agent", "what is the order number?"), ("customer", said)]
    assert texts(order)[1] == said


def test_another_number_than_the_one_asked_for_stays() -> None:
    """The answer to a question for a phone number may speak of a price first."""
    question = ("agent", "may I have your phone number?")
    for answer in ("I paid 1250 for it", "there are 15 people here", "in 2019 we moved"):
        assert texts([question, ("customer", answer)])[1] == answer
    assert texts([question, ("customer", "nine one one two right")])[1] == "[PHONE] right"


def test_a_new_sentence_behind_a_complete_number_is_another_matter() -> None:
    turns = [("customer", "it's 415-555-0142."), ("customer", "Two of us will come.")]
    assert texts(turns) == ["it's [PHONE].", "Two of us will come."]


def test_a_revision_replaces_the_utterance_in_the_tail() -> None:
    """The corrected sentence is not taken for the continuation of its own first form."""
    carry = Carry(LABELS)
    carry.push(sentence("one two", utterance="a"), now=0)
    carry.push(sentence("one two three", utterance="a", revision=1), now=1)
    out = carry.push(sentence("four five", utterance="b"), now=2) + carry.flush(3)
    assert len(out) == 3
    state = carry.snapshot()
    assert [part.text for part in state.tails["customer"].parts] == ["one two three", "four five"]


def test_lanes_do_not_share_a_number() -> None:
    turns = [("a", "four one"), ("b", "five five"), ("a", "is what I said"), ("b", "me too")]
    assert texts(turns) == [text for _, text in turns]


def test_memory_is_bounded_over_endless_dictation() -> None:
    carry = Carry(LABELS, hold_s=1e9)
    for number in range(500):
        carry.push(sentence("one two", lane=f"l{number % 3}"), now=number / 100)
    state = carry.snapshot()
    assert len(state.entries) <= 64
    assert all(len(tail.parts) <= 12 for tail in state.tails.values())


TURNS = st.lists(
    st.tuples(
        st.sampled_from(["customer", "agent"]),
        st.sampled_from(
            [
                "four one five",
                "five five five oh one four two.",
                "okay",
                "what's your phone number?",
                "what's your order number?",
                "my email is bob dot lee",
                "at example dot com",
                "forty two euros",
                "double",
                "um",
                "41",
                "4111 1111",
                "thank you",
            ]
        ),
    ),
    max_size=10,
)


@settings(max_examples=examples(150), deadline=None)
@given(turns=TURNS, stops=st.sets(st.integers(0, 9)), gap=st.sampled_from([0.5, 3.0, 30.0]))
def test_a_restart_at_any_point_changes_nothing(
    turns: list[tuple[str, str]], stops: set[int], gap: float
) -> None:
    """Snapshot, through bytes, into a new carry on another clock."""

    def run(stops: set[int]) -> list[tuple[str, str]]:
        carry, clock, out = Carry(LABELS), 1000.0, []
        for number, (lane, text) in enumerate(turns):
            clock += gap
            deadline = carry.next_deadline()
            if deadline is not None and deadline <= clock:
                out += carry.on_deadline(clock)
            out += carry.push(sentence(text, lane=lane, utterance=str(number)), now=clock)
            if number in stops:
                stored = msgspec.msgpack.encode(carry.snapshot())
                clock -= 512.0
                carry = Carry(LABELS)
                carry.restore(msgspec.msgpack.decode(stored, type=CarryState), now=clock)
        return [(o.sentence.utterance, o.text) for o in out + carry.flush(clock)]

    whole = run(set())
    assert run(stops) == whole
    assert [int(utterance) for utterance, _ in whole] == list(range(len(turns)))
