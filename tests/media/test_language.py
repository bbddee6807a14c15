"""The language of a call: when identifiers are asked, and when they are believed."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.transcript import RawText
from steno.media.language import (
    FIRST_ASKS_MS,
    LATER_EVERY_MS,
    LATER_WINDOW_MS,
    LONGEST_WINDOW_MS,
    MAX_CHARS,
    MIN_CHARS,
    Evidence,
    LanguageChanged,
    LanguageChoice,
    LanguageEvent,
    LanguageSettings,
    LanguageUnsupported,
    SpeechWindow,
    nearest,
    primary,
)
from steno.ports.speech import LanguageGuess

CONFIGURED = ("en-US", "es-ES", "fr-FR", "en-GB")
SETTINGS = LanguageSettings(CONFIGURED)


def choice(**changes: object) -> LanguageChoice:
    return LanguageChoice(LanguageSettings(CONFIGURED, **changes))  # type: ignore[arg-type]  # by name


def heard(language: str, confidence: float = 0.9) -> LanguageGuess:
    return LanguageGuess(language, confidence)


# --- tags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "current", "found"),
    [
        ("en", "", "en-US"),
        ("en", "en-GB", "en-GB"),
        ("EN-gb", "en-US", "en-GB"),
        ("en-AU", "es-ES", "en-US"),
        ("en_AU", "en-GB", "en-GB"),
        ("es-MX", "", "es-ES"),
        ("de", "", ""),
        ("e", "", ""),
    ],
)
def test_the_nearest_configured_tag(tag: str, current: str, found: str) -> None:
    """The same tag in any case, the current one of that language, the first of that language."""
    assert nearest(tag, CONFIGURED, current=current) == found


def test_codes_for_the_same_language_are_one() -> None:
    """Genesys says cmn-CN, whisper zh."""
    assert nearest("zh", ("en-US", "cmn-CN")) == "cmn-CN"
    assert primary("nb-NO") == primary("no")


# --- declared --------------------------------------------------------------------------------


def test_before_anything_is_known_the_default_holds() -> None:
    """The first of the configured languages."""
    assert choice().language == "en-US"
    assert choice().evidence is Evidence.DEFAULT


def test_the_platform_is_obeyed_at_once_and_again() -> None:
    """At the start, and in mid-call."""
    call = choice()
    assert call.declared("ES-es") == LanguageChanged("en-US", "es-ES", 1.0, Evidence.DECLARED)
    assert call.declared("es-ES") is None
    changed = call.declared("fr-CA")
    assert changed == LanguageChanged("es-ES", "fr-FR", 1.0, Evidence.DECLARED)
    assert call.language == "fr-FR"


def test_what_is_declared_outranks_guesses_and_nothing_is_asked() -> None:
    """However sure they are."""
    call = choice()
    call.declared("es-ES")
    assert call.guess(heard("fr", 1.0), now=0.0) is None
    assert call.language == "es-ES"
    assert call.is_settled
    assert call.add_speech(60_000) == 0
    assert call.add_text(RawText("these are certainly more than six English words")) is None


def test_guesses_may_be_given_the_last_word() -> None:
    """By setting: then a declaration is the first evidence, and two guesses change it."""
    call = choice(declared_wins=False)
    call.declared("es-ES")
    assert not call.is_settled
    assert call.guess(heard("fr"), now=0.0) is None
    assert call.guess(heard("fr"), now=1.0) is not None
    assert call.language == "fr-FR"


def test_an_unknown_declaration_is_told_each_time_and_frees_the_guesses() -> None:
    """The tag stays; an earlier declaration is over."""
    call = choice()
    call.declared("es-ES")
    unsupported = LanguageUnsupported("pt-BR", 1.0, Evidence.DECLARED)
    assert call.declared("pt-BR") == unsupported
    assert call.declared("pt-BR") == unsupported
    assert call.language == "es-ES"
    assert call.guess(heard("fr"), now=0.0) is not None


@pytest.mark.parametrize("tag", ["", "und", "mul", "x", "english", "en-", "e n", "en-US" * 20])
def test_what_is_no_language_changes_nothing(tag: str) -> None:
    """Neither declared nor guessed."""
    call = choice()
    assert call.declared(tag) is None
    assert call.guess(heard(tag, 1.0), now=0.0) is None
    assert call.evidence is Evidence.DEFAULT


def test_a_fixed_language_is_never_left() -> None:
    """Whatever is declared or guessed; nobody is asked."""
    call = choice(fixed=True)
    assert call.declared("es-ES") is None
    assert call.guess(heard("es", 1.0), now=0.0) is None
    assert (call.language, call.add_speech(60_000)) == ("en-US", 0)


# --- guesses ---------------------------------------------------------------------------------


def test_the_first_confident_guess_decides() -> None:
    """From the configured confidence on, not below."""
    call = choice(confidence=0.8)
    assert call.guess(heard("es", 0.79), now=0.0) is None
    changed = call.guess(heard("es", 0.8), now=1.0)
    assert changed == LanguageChanged("en-US", "es-ES", 0.8, Evidence.IDENTIFIED)


def test_an_identified_language_changes_by_two_guesses_in_a_row() -> None:
    """One alone, or two with another between, do not."""
    call = choice()
    call.guess(heard("en"), now=0.0)
    for between in (heard("en"), heard("es", 0.1), heard("fr"), heard("de")):
        assert call.guess(heard("es"), now=1.0) is None
        assert not isinstance(call.guess(between, now=2.0), LanguageChanged)
    assert call.guess(heard("es"), now=3.0) is None
    assert call.guess(heard("es"), now=4.0) is not None
    assert call.language == "es-ES"


def test_one_very_confident_guess_changes_it_too() -> None:
    """From ``sure`` on."""
    call = choice(sure=0.97)
    call.guess(heard("en"), now=0.0)
    assert call.guess(heard("es", 0.97), now=1.0) is not None


def test_no_second_change_while_it_rests() -> None:
    """Two people in two languages on one lane do not make it swing; after the rest it goes on."""
    call = choice(rest_s=10.0)
    call.guess(heard("es"), now=0.0)
    assert call.guess(heard("fr", 1.0), now=9.9) is None
    assert call.guess(heard("fr", 0.9), now=10.0) is not None


def test_another_dialect_of_the_same_language_is_no_change() -> None:
    """Identifiers tell languages, not regions: ``en`` keeps a declared en-GB."""
    call = choice(declared_wins=False)
    call.declared("en-GB")
    assert call.guess(heard("en", 1.0), now=0.0) is None
    assert call.language == "en-GB"


def test_a_language_that_is_not_configured_is_told_once() -> None:
    """The tag stays."""
    call = choice()
    assert call.guess(heard("de"), now=0.0) == LanguageUnsupported("de", 0.9, Evidence.IDENTIFIED)
    assert call.guess(heard("de-AT"), now=1.0) is None
    assert isinstance(call.guess(heard("it"), now=2.0), LanguageUnsupported)
    assert call.language == "en-US"


GUESSES = st.lists(
    st.tuples(
        st.sampled_from(["en", "es", "fr", "de", "EN-us", "und", "", "?"]),
        st.floats(allow_nan=True, allow_infinity=True),
        st.booleans(),
        st.floats(0, 20),
    )
)


@given(steps=GUESSES)
def test_the_tag_is_always_a_configured_one(
    steps: list[tuple[str, float, bool, float]],
) -> None:
    """Events chain: each change begins where the last one ended."""
    call, now, before = choice(), 0.0, "en-US"
    for tag, confidence, is_declared, wait_s in steps:
        now += wait_s
        event: LanguageEvent | None = (
            call.declared(tag) if is_declared else call.guess(heard(tag, confidence), now=now)
        )
        if isinstance(event, LanguageChanged):
            assert (event.previous, event.language) == (before, call.language)
            assert event.previous != event.language
        else:
            assert event is None or isinstance(event, get_args(LanguageEvent))
            assert call.language == before
        before = call.language
        assert before in CONFIGURED


# --- when to ask -----------------------------------------------------------------------------


@given(steps=st.lists(st.integers(0, 3_000), max_size=200))
def test_questions_are_few_and_their_windows_full(steps: list[int]) -> None:
    """Four while it begins, then one in twenty seconds of speech; about no more than was heard."""
    call, asked = choice(), []
    for speech_ms in steps:
        window_ms = call.add_speech(speech_ms)
        assert window_ms <= min(call.speech_ms, LONGEST_WINDOW_MS)
        if window_ms:
            asked.append(window_ms)
    total = sum(steps)
    first = sum(total >= at for at in FIRST_ASKS_MS)
    assert len(asked) <= first + max(0, total - FIRST_ASKS_MS[-1]) // LATER_EVERY_MS
    if total >= FIRST_ASKS_MS[0]:
        assert asked
    assert all(later == LATER_WINDOW_MS for later in asked[len(FIRST_ASKS_MS) :])


def test_windows_grow_with_the_speech() -> None:
    """All that was heard at each of the first questions."""
    call = choice()
    windows: dict[int, int] = {}
    for _ in range(600):
        window_ms = call.add_speech(90)
        if window_ms:
            windows[call.speech_ms] = window_ms
    assert list(windows)[:4] == [1_530, 3_060, 6_030, 12_060]
    assert list(windows.values())[:4] == [1_530, 3_060, 6_030, 12_000]
    assert list(windows)[4] == 12_060 + 20_070
    assert windows[32_130] == LATER_WINDOW_MS


def test_few_words_are_not_asked_about() -> None:
    """Six words and 25 letters, or 60 letters in a script without spaces."""
    call = choice()
    assert call.add_text(RawText("okay no yes")) is None
    assert call.add_text(RawText("a b c d")) is None  # seven words, letters are lacking
    assert call.add_text(RawText("well")) is None
    assert call.add_text(RawText("then")) == "okay no yes a b c d well then"
    long_word = RawText("x" * MIN_CHARS)
    assert choice().add_text(long_word) is None
    assert choice().add_text(RawText("x" * 60)) is not None


def test_after_the_decision_only_new_words_count() -> None:
    """Before it, the old ones are asked about again with the new."""
    call = choice()
    words = RawText("one of these days it will be decided")
    assert call.add_text(words) == words
    assert call.add_text(RawText("again")) == f"{words} again"
    call.guess(heard("en"), now=0.0)
    assert call.add_text(RawText("again")) is None
    assert call.add_text(words) == f"again {words}"
    assert call.add_text(RawText("again")) is None


@given(texts=st.lists(st.text(max_size=600)))
def test_kept_words_are_bounded(texts: list[str]) -> None:
    """However much is said before a decision."""
    call = choice()
    for text in texts:
        asked = call.add_text(RawText(text))
        assert asked is None or MIN_CHARS <= len(asked) <= MAX_CHARS


# --- the window ------------------------------------------------------------------------------

FRAME = 240


@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 2_000), st.integers(0, 2**10 - 1)), min_size=1, max_size=20
    )
)
def test_the_window_holds_the_speech_alone_and_in_order(pieces: list[tuple[int, int]]) -> None:
    """Whole frames flagged as speech, however the audio was cut."""
    window = SpeechWindow(8_000, FRAME)
    expected: list[int] = []
    audio: list[int] = []
    flagged = 0
    heard_ms = 0
    for size, bits in pieces:
        samples = np.arange(len(audio), len(audio) + size, dtype=np.int16)
        audio.extend(samples.tolist())
        count = len(audio) // FRAME - flagged
        flags = bytes(bits >> (i % 10) & 1 for i in range(count))
        for i, flag in enumerate(flags):
            at = (flagged + i) * FRAME
            expected.extend(audio[at : at + FRAME] if flag else ())
        flagged += count
        heard_ms += window.add(samples, flags)
        samples[:] = -1  # the caller's buffer is used again
    assert heard_ms == len(expected) * 1000 // 8_000
    assert window.newest(30_000).tolist() == expected[-12 * 8_000 :]
    assert window.newest(90).tolist() == expected[-720:]


def test_the_window_is_bounded() -> None:
    """Twelve seconds, the newest."""
    window = SpeechWindow(8_000, FRAME)
    for i in range(1_000):
        window.add(np.full(FRAME * 5, i, np.int16), b"\x01" * 5)
    kept = window.newest(60_000)
    assert len(kept) == 12 * 8_000
    assert kept[-1] == 999
    assert sum(map(len, window._stretches)) < 12 * 8_000 + FRAME * 5


def test_calls_left_out_do_not_break_the_window() -> None:
    """While a declaration held, nothing was added: the detector may hold more than the window."""
    window = SpeechWindow(8_000, FRAME)
    assert window.add(np.ones(1_600, np.int16), b"\x01" * 7) == 7 * 30
    assert window.newest(210).tolist() == [0] * 80 + [1] * 1_600
    window.add(np.ones(1_600, np.int16), b"\x01")
    assert len(window._pending) < FRAME


def test_a_cleared_window_is_empty() -> None:
    """What was said before a change does not count for the next."""
    window = SpeechWindow(8_000, FRAME)
    window.add(np.ones(480, np.int16), b"\x01\x01")
    window.clear()
    assert window.newest(1_000).tolist() == []
