"""The true error rates of a transcript, against a reference: words and characters, by jiwer.

Speakers and times play no part: what is compared is what was said, from beginning to end.
"""

from __future__ import annotations

from typing import Final

import msgspec

from steno.core.quality import normalised
from steno.errors import ConfigError

MAX_CHARS: Final = 500_000
"""Longest text that is compared, some five hours of talk: time grows with the square."""


class Errors(msgspec.Struct, frozen=True, gc=False):
    """Units of the reference, and what is wrong about them.

    ``rate = (substitutions + deletions + insertions) / units``; it can exceed 1.

    Attributes:
        rate: None when the reference has no unit.
    """

    units: int
    substitutions: int
    deletions: int
    insertions: int
    rate: float | None


class ErrorRates(msgspec.Struct, frozen=True, gc=False):
    """Errors by words (WER) and by characters, blanks between words included (CER)."""

    words: Errors
    characters: Errors


def require_error_rates() -> None:
    """Tell now, not after long work, that transcripts cannot be compared with a reference.

    Raises:
        ConfigError: The extra is not installed.
    """
    try:
        import jiwer  # type: ignore[import-not-found,unused-ignore]  # noqa: F401 - is it there?
    except ImportError as exc:
        raise ConfigError(
            "error rates need a library that is not installed",
            setting="steno[score]",
            fix="Run `pip install 'steno[score]'`.",
            library="jiwer",
        ) from exc


def error_rates(reference: str, hypothesis: str, *, verbatim: bool = False) -> ErrorRates:
    """Compare a transcript with what was really said.

    Args:
        reference: What was said, in plain text; line breaks are blanks.
        hypothesis: What was recognised, in the order of the turns.
        verbatim: Compare as written, with case and punctuation; else both are ``normalised``
            (``core.quality`` states the rules).

    Raises:
        ConfigError: The extra is not installed, or a text is longer than ``MAX_CHARS``.
    """
    require_error_rates()
    said, heard = (
        " ".join(text.split()) if verbatim else normalised(text) for text in (reference, hypothesis)
    )
    if max(len(said), len(heard)) > MAX_CHARS:
        raise ConfigError(
            "the texts are too long to be compared",
            setting="reference",
            fix="Compare them in parts.",
            characters=max(len(said), len(heard)),
            limit=MAX_CHARS,
        )
    return ErrorRates(_words(said, heard), _characters(said, heard))


def _words(said: str, heard: str) -> Errors:
    if not said:
        return Errors(0, 0, 0, len(heard.split()), None)
    import jiwer

    found = jiwer.process_words(said, heard)
    return _errors(len(said.split()), found.substitutions, found.deletions, found.insertions)


def _characters(said: str, heard: str) -> Errors:
    if not said:
        return Errors(0, 0, 0, len(heard), None)
    import jiwer

    found = jiwer.process_characters(said, heard)
    return _errors(len(said), found.substitutions, found.deletions, found.insertions)


def _errors(units: int, substitutions: int, deletions: int, insertions: int) -> Errors:
    wrong = substitutions + deletions + insertions
    return Errors(units, substitutions, deletions, insertions, wrong / units)
