"""Sentence splitting: what ends a sentence and what only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core import sentences


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (
            "en-US",
            "Dr. Adams paid 3.50 on Monday. He left.",
            ["Dr. Adams paid 3.50 on Monday.", "He left."],
        ),
        ("en", "Write to bo.li@example.org today. Thanks!", None),
        ("de-DE", "Das kostet z. B. 3.50 Euro. Danke.", ["Das kostet z. B. 3.50 Euro.", "Danke."]),
        ("fr-FR", "M. Durand arrive. Merci.", None),
        ("es-ES", "¿Qué tal? Muy bien.", ["¿Qué tal?", "Muy bien."]),
        ("xx-YY", "One. Two.", ["One.", "Two."]),
        ("", "One. Two.", ["One.", "Two."]),
        ("en", "no end at all", ["no end at all"]),
        ("en", "", []),
    ],
)
def test_text_is_cut_at_ends_and_nowhere_else(
    language: str, text: str, expected: list[str] | None
) -> None:
    """Abbreviations, decimals and addresses do not split; joined, the pieces are the text."""
    pieces = sentences.split(text, language)
    assert "".join(pieces) == text
    if expected is not None:
        assert [piece.strip() for piece in pieces] == expected
    assert not any(piece.strip().endswith("bo.") for piece in pieces)


@given(st.text(max_size=80), st.sampled_from(["en-US", "de", "fr-FR", "es", "zz"]))
def test_no_character_is_lost_by_splitting(text: str, language: str) -> None:
    """Whatever is said, the pieces together are what was said."""
    assert "".join(sentences.split(text, language)) == text


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("That is all.", True),
        ("Is it?", True),
        ("Great!", True),
        ('He said "no."', True),
        ("I spoke to Dr.", False),
        ("It costs 3.", False),
        ("and then", False),
        ("", False),
        ("...", True),
    ],
)
def test_an_end_is_an_end_only_if_nothing_can_go_on(text: str, complete: bool) -> None:
    """A full stop after an abbreviation or a digit may be in the middle of a sentence."""
    assert sentences.is_complete(text, "en-US") is complete
