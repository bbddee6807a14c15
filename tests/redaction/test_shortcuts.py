"""What redaction leaves out for speed changes nothing of what it finds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redaction.redaction_helpers import LABELS, redacted, sentence
from steno.core.transcript import Sentence
from steno.redaction import Carry, analysis
from steno.redaction.analysis import Analysis
from steno.redaction.carry import Tail
from steno.redaction.context import NOTHING, Context
from steno.redaction.spoken import Topic
from steno.redaction.tokens import Meanings, Scan, scan

_SAID = (
    "four one five forty two twelve double oh hundred vingt quatre dix et und vierzig veinte y "
    "my number is phone card order invoice social security code kundennummer ending in plus uh "
    "or euros dollars un une 555 415-555-0142 4111 1111 12.50 $ 5th c7f12 d e gb 29nwbk60161331 "
    "look at shop.example anna@web.de punto gmail . , ? two, five. (one) twenty-one [PHONE]"
)
_SPOKEN = _SAID.split()
_EMPTY = ["weather"] * 4 + ["and so on", "le temps", "das Wetter heute", "really quite sunny then"]
WORDS = st.one_of(st.sampled_from(_SPOKEN), st.sampled_from(_EMPTY), st.sampled_from(_SPOKEN))
TEXTS = st.lists(WORDS, max_size=60).map(" ".join)
LANGUAGES = st.sampled_from(["en-US", "es-ES", "fr-FR", "de-DE"])


def _whole(text: str, meanings: Meanings, *, whole: bool) -> Scan:
    """``scan`` which leaves nothing out."""
    return scan(text, meanings, whole=True)


@settings(max_examples=600, deadline=None)
@given(text=TEXTS, language=LANGUAGES)
def test_words_left_out_of_the_analysis_make_no_difference(text: str, language: str) -> None:
    short = LABELS.inspect(text, language=language, hint=NOTHING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "scan", _whole)
        full = LABELS.inspect(text, language=language, hint=NOTHING)
    assert (short.spans, short.about) == (full.spans, full.about)
    # What cannot become a secret need not be waited for, nor joined with what follows.
    assert short.open == full.open or (full.open is not None and not full.open.hold)


def test_a_number_sees_its_topic_past_a_nearer_word_that_is_none() -> None:
    text = "oh well the weather here what is the cvv2 please a b c d e f number 713"
    near = text.replace("a b c d e f ", "a b c ")
    for said in (text, near):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(analysis, "scan", _whole)
            full = LABELS.inspect(said, language="en-US", hint=NOTHING)
        assert LABELS.inspect(said, language="en-US", hint=NOTHING).spans == full.spans
    assert full.spans


class Thorough(Carry):
    """A carry which looks at every sentence together with the number before it."""

    def _aside(
        self, sentence: Sentence, text: str, tail: Tail | None, hint: Context
    ) -> Analysis | None:
        return None


@settings(max_examples=300, deadline=None)
@given(
    turns=st.lists(st.lists(WORDS, min_size=1, max_size=20).map(" ".join), max_size=5),
    language=LANGUAGES,
)
def test_a_sentence_behind_a_number_comes_out_the_same_looked_at_alone(
    turns: list[str], language: str
) -> None:
    quick, thorough = Carry(LABELS), Thorough(LABELS)
    said = ["my phone is 415-555-0142", *turns]
    for number, text in enumerate(said):
        spoken = sentence(text, utterance=str(number), language=language)
        now = float(number)
        assert quick.push(spoken, now=now) == thorough.push(spoken, now=now)
        assert quick.remembers(now) == thorough.remembers(now)
    assert quick.flush(9.0) == thorough.flush(9.0)


def test_a_topic_with_a_digit_in_it_is_one() -> None:
    assert LABELS.inspect("the cvv2", language="en-US", hint=NOTHING).about.topic == Topic.CODE
    assert redacted("the cvv2 is four one five") == "the cvv2 is [CARD]"


def test_a_number_goes_on_in_the_sentence_behind_a_whole_one() -> None:
    """Only a word which ends the number lets the next sentence be looked at alone."""
    assert not LABELS.ends_number("and four", language="en-US")
    assert not LABELS.ends_number("0142, that's it", language="en-US")
    assert not LABELS.ends_number("- 0142", language="en-US")
    assert LABELS.ends_number("thanks a lot", language="en-US")
    assert LABELS.ends_number("c7f12 thanks", language="en-US")
