"""The spoken form is lower case, has no punctuation, and says digits and signs as words."""

from __future__ import annotations

import pytest

from steno_sim.speech import spoken


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("Good morning, Ms Lind.", "en-US", "good morning ms lind"),
        ("Call 415-55.", "en-US", "call four one five five five"),
        ("a.lind@example.com", "de-DE", "a punkt lind at example punkt com"),
        ("¿Son 12 euros?", "es-ES", "son uno dos euros"),
        ("C'est l'été à 5 %.", "fr-FR", "c'est l'été à cinq pour cent"),
        ("Hallo 2", "nl-NL", "hallo two"),
    ],
)
def test_written_text_is_spoken(text: str, language: str, said: str) -> None:
    """Digit by digit, sign by sign, in the language of the text."""
    assert spoken(text, language) == said
