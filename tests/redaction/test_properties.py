"""What holds for any text whatever."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from redaction.redaction_helpers import LABELS, REDACTOR
from steno.core.transcript import RawText
from steno.redaction import Redactor, checksums

LANGUAGES = st.sampled_from(["en-US", "es-ES", "fr-FR", "de-DE", "ja-JP", "", "zz"])
_SAID = (
    "four one five double oh hundred twenty vingt quatre dix et und y treinta zwei null dot at @ "
    "punto arroba gmail com my number is phone card order email iban D E GB29 415 555 0142 4111 "
    "1111 . , - + ( ) $ 12 % euros uh okay [PHONE] [EMAIL] 2024-05-13 10:30 c7f12 the a"
)
WORDS = st.sampled_from(_SAID.split())
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=80),
    st.lists(WORDS, max_size=25).map(" ".join),
)


@settings(max_examples=examples(400), deadline=None)
@given(text=TEXTS, language=LANGUAGES)
def test_redaction_never_raises_and_redacting_again_changes_nothing(
    text: str, language: str
) -> None:
    for redactor in (REDACTOR, LABELS):
        once = redactor.redact(RawText(text), language=language)
        again = redactor.redact(RawText(once.text), language=language)
        assert again.text == once.text
        assert again.entities == {}


@settings(max_examples=examples(300), deadline=None)
@given(
    numbers=st.lists(st.from_regex(r"[0-9]{11,20}", fullmatch=True), max_size=4),
    separator=st.sampled_from([" and ", ", ", " order number ", " ", " x "]),
    grouped=st.booleans(),
    language=LANGUAGES,
)
def test_no_number_with_a_valid_check_digit_is_left(
    numbers: list[str], separator: str, grouped: bool, language: str
) -> None:
    """13 to 19 digits that pass Luhn are a card in any context."""
    made = [number[:-1] + _check(number[:-1]) for number in numbers]
    said = [re.sub(r"(.{4})(?=.)", r"\1 ", n) if grouped else n for n in made]
    output = REDACTOR.redact(RawText(separator.join(said)), language=language).text
    for run in re.findall(r"\d+", output):
        assert not checksums.is_card(run)
    if grouped and separator in (" and ", " x "):
        for number, text in zip(made, said, strict=True):
            if any(text in other for other in said if other != text):
                continue  # the beginning of a number that is too long for a card
            assert text not in output or not checksums.is_card(number)


def _check(head: str) -> str:
    return next(str(d) for d in range(10) if checksums.luhn(f"{head}{d}"))


@settings(max_examples=examples(100), deadline=None)
@given(words=st.lists(st.text("abcdefghij'é-", min_size=1, max_size=9), max_size=12))
def test_text_without_digits_or_words_for_them_is_untouched(words: list[str]) -> None:
    text = " ".join(words)
    assert REDACTOR.redact(RawText(text), language="en").text == text


def test_redactors_are_shared_between_threads() -> None:
    """One redactor, many threads, the same answers."""
    from concurrent.futures import ThreadPoolExecutor

    redactor = Redactor()
    said = [f"call 415-555-{number:04d} or {number} euros" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda t: redactor.redact(RawText(t), language="en").text, said))
    assert done == [f"call [REDACTED] or {number} euros" for number in range(200)]


@pytest.mark.parametrize(
    "piece",
    ["1:30 ", "four ", "4111 ", "a@b.c ", "9", "de 12 ", "at gmail dot ", "12.34.56.78 ", "$1 "],
)
def test_long_texts_take_linear_time(piece: str) -> None:
    """Ten times the text takes about ten times as long: nobody stalls the gateway."""
    took = []
    for size in (500, 5000):
        tries = []
        for _ in range(3):  # the best of three: a busy machine makes single ones long
            start = time.process_time()
            REDACTOR.redact(RawText(piece * size), language="en")
            tries.append(time.process_time() - start)
        took.append(min(tries))
    assert took[1] < 40 * max(took[0], 0.002)
