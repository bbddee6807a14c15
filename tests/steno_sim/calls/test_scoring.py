"""Scoring of recognised calls: word errors, lost and doubled turns, secrets."""

from __future__ import annotations

import pytest

from steno_sim.calls.scoring import (
    CallScore,
    SpokenTruth,
    align,
    readable_digits,
    score_speech,
    tokens,
)
from steno_sim.calls.voices import SpokenSecret, SpokenTurn
from steno_sim.score import Heard

PHONE = SpokenSecret("phone", "four one five five five five zero one four two", "4155550142")
ORDER = SpokenSecret("order", "nine zero double three", "9033")
TURNS = [
    SpokenTurn("external", 0, 900, "hello i want to buy a ticket"),
    SpokenTurn("internal", 900, 1500, "what is your phone number"),
    SpokenTurn("external", 1500, 4000, f"my phone number is {PHONE.text} thank you", [PHONE]),
    SpokenTurn("external", 4000, 5000, f"my order number is {ORDER.text}", [ORDER]),
]
WHOLE = (
    "hello i want to buy a ticket",
    "my phone number is [REDACTED] thank you",
    f"my order number is {ORDER.text}",
)


def judged(*customer: str, agent: tuple[str, ...] = ("what is your phone number",)) -> CallScore:
    heard = [Heard("c", "p", text, at) for at, text in enumerate(customer)]
    heard += [Heard("c", "internal", text, at) for at, text in enumerate(agent)]
    truth = SpokenTruth("call", "c", {"external": "p", "internal": "internal"}, TURNS)
    return score_speech([truth], heard).calls[0]


def counts(score: CallScore) -> tuple[int, int, int, int, int]:
    return score.edits, score.lost, score.repeated, score.leaked, score.partly


def test_a_perfect_transcript() -> None:
    """A mask stands for the whole secret at no cost, however the text is cut."""
    assert counts(judged(*WHOLE)) == (0, 0, 0, 0, 0)
    whole = " ".join(WHOLE)
    assert counts(judged(whole)) == (0, 0, 0, 0, 0)
    assert counts(judged(whole.replace("REDACTED", "PHONE").upper())) == (0, 0, 0, 0, 0)
    assert judged(*WHOLE).words == sum(len(turn.text.split()) for turn in TURNS)


def test_word_errors_are_counted() -> None:
    """Wrong, missing and invented words, one each."""
    wrong = judged("hello we want to a ticket now", *WHOLE[1:])
    assert counts(wrong) == (3, 0, 0, 0, 0)
    assert wrong.word_error_rate == pytest.approx(3 / wrong.words)


def test_lost_turns() -> None:
    """Less than half of a turn's words is a lost turn."""
    assert judged(*WHOLE[1:]).lost == 1
    assert judged("hello i want", *WHOLE[1:]).lost == 1
    assert judged("hello i want to", *WHOLE[1:]).lost == 0
    assert judged(*WHOLE, agent=()).lost == 1


def test_a_text_twice_is_repeated() -> None:
    """Said once, heard twice; a lone wrong word is not."""
    assert judged(WHOLE[0], *WHOLE).repeated == 1
    assert judged(*WHOLE, "thanks").repeated == 0
    assert judged(*WHOLE, agent=("what is your phone number", "you are welcome")).repeated == 1


def test_masks_over_other_words_cost() -> None:
    """What was not secret is missing then."""
    masked = judged("hello [REDACTED] ticket", *WHOLE[1:])
    assert masked.edits == 5
    assert judged(*WHOLE[:2], "my order number is [REDACTED]").edits == 0


@pytest.mark.parametrize(
    "text",
    [
        f"my phone number is {PHONE.text} thank you",
        "my phone number is 415-555-0142 thank you",
        "my phone number is four one five triple five oh one four two",
        "my phone number is 415 five five five 01 four two",
    ],
)
def test_readable_secrets_leak(text: str) -> None:
    """As words, as figures, doubled, and with signs between."""
    score = judged(WHOLE[0], text, WHOLE[2])
    assert (score.leaked, score.partly) == (1, 0)


def test_a_leak_over_two_sentences() -> None:
    """The parts are read together; beside a mask only what is open counts."""
    split = judged(WHOLE[0], "my phone number is four one five five", "five five zero one four two")
    assert (split.leaked, split.partly) == (1, 0)
    part = judged(WHOLE[0], "it is [PHONE] five five five zero one four two", WHOLE[2])
    assert (part.leaked, part.partly) == (0, 1)
    little = judged(WHOLE[0], "it is [PHONE] four two", WHOLE[2])
    assert (little.leaked, little.partly) == (0, 0)
    mistaken = judged(WHOLE[0], "it is four one five nine five five zero one four two", WHOLE[2])
    assert (mistaken.leaked, mistaken.partly) == (0, 1)


def test_totals() -> None:
    """Counts add up over calls; an unheard call is all lost."""
    truth = SpokenTruth("call", "c", {"external": "p", "internal": "internal"}, TURNS)
    silent = score_speech([truth, truth], [])
    summary = silent.summary()
    assert (summary["turns"], summary["lost"], summary["word_error_rate"]) == (8, 8, 1.0)
    assert summary["leaked"] == 0


def test_pieces() -> None:
    """Figures become words; runs of digits end where other words stand."""
    assert tokens("Call 42, [CARD] o'clock!") == ["call", "four", "two", "[CARD]", "o'clock"]
    assert readable_digits("one two and 3-4 double five x") == ["12", "3455"]
    assert align([], ["something said"]).repeated == 1
