"""True error rates against a reference, by jiwer: the extra ``score``."""

from __future__ import annotations

import sys

import pytest

from steno.adapters import error_rates as module
from steno.adapters.error_rates import Errors, error_rates, require_error_rates
from steno.errors import ConfigError

WHY = "jiwer is not installed: pip install 'steno[score]'"


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked early or late, in one line."""
    monkeypatch.setitem(sys.modules, "jiwer", None)
    for ask in (require_error_rates, lambda: error_rates("a", "b")):
        with pytest.raises(ConfigError, match=r"pip install 'steno\[score\]'") as caught:
            ask()
        assert caught.value.setting == "steno[score]"


def test_words_and_characters_are_counted_and_told_apart() -> None:
    """One word wrong, one missing, one too many; characters with the blanks between."""
    pytest.importorskip("jiwer", reason=WHY)
    found = error_rates("The cat, sat down.", "the hat sat")
    assert found.words == Errors(4, 1, 1, 0, 0.5)
    assert found.characters == Errors(16, 1, 5, 0, 6 / 16)
    assert error_rates("a", "a b c").words == Errors(1, 0, 0, 2, 2.0)
    assert error_rates("a b", "").words == Errors(2, 0, 2, 0, 1.0)


def test_spelling_counts_when_it_is_asked_for() -> None:
    pytest.importorskip("jiwer", reason=WHY)
    assert error_rates("It’s\nOK.", "it's ok").words.rate == 0
    assert error_rates("It's\nOK.", "it's ok", verbatim=True).words.rate == 1
    assert error_rates("It's\nOK.", "It's  OK.", verbatim=True).words.rate == 0


def test_without_a_word_in_the_reference_there_is_no_rate() -> None:
    """What was heard is all invented."""
    pytest.importorskip("jiwer", reason=WHY)
    found = error_rates(" ... ", "hm yes")
    assert found.words == Errors(0, 0, 0, 2, None)
    assert found.characters == Errors(0, 0, 0, 6, None)
    assert error_rates("", "").words == Errors(0, 0, 0, 0, None)


def test_texts_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jiwer", reason=WHY)
    monkeypatch.setattr(module, "MAX_CHARS", 5)
    assert error_rates("a b c", "a b c").words.rate == 0
    with pytest.raises(ConfigError, match="too long"):
        error_rates("a b c", "a b c d")
