"""The word error rate of a conversation whose speakers have other labels: cpWER, by MeetEval.

Source: Watanabe et al., CHiME-6 Challenge, 2020 (concatenated minimum-permutation WER).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from steno.adapters.scoring.pieces import Piece
from steno.core.quality import normalised


class WordErrors(msgspec.Struct, frozen=True, gc=False):
    """Words of the reference, and what is wrong about them.

    ``cp_wer = (insertions + deletions + substitutions) / words``, under the mapping of speakers,
    one to one, that makes it smallest; a word given to the wrong speaker is wrong.

    Attributes:
        missed_speakers, extra_speakers: How many the hypothesis has too few or too many; of
            those who say a word.
        cp_wer: None when the reference has no word.
    """

    words: int
    insertions: int
    deletions: int
    substitutions: int
    missed_speakers: int
    extra_speakers: int
    cp_wer: float | None

    def plus(self, other: WordErrors) -> WordErrors:
        """Return the errors of both."""
        return word_errors(
            *(
                getattr(self, name) + getattr(other, name)
                for name in self.__struct_fields__
                if name != "cp_wer"
            )
        )


def word_errors(
    words: int = 0,
    insertions: int = 0,
    deletions: int = 0,
    substitutions: int = 0,
    missed_speakers: int = 0,
    extra_speakers: int = 0,
) -> WordErrors:
    """Return errors with their rate."""
    wrong = insertions + deletions + substitutions
    return WordErrors(
        words,
        insertions,
        deletions,
        substitutions,
        missed_speakers,
        extra_speakers,
        wrong / words if words else None,
    )


def compare_words(
    reference: Sequence[Piece], hypothesis: Sequence[Piece], *, verbatim: bool
) -> WordErrors | None:
    """Compare the words of one conversation; None when it has too many speakers to be mapped.

    A speaker's pieces count in order of their start, or as they come where they have no times.

    Args:
        verbatim: Compare words as they are written; else ``normalised``
            (``core.quality`` states the rules).
    """
    from meeteval.wer.wer.cp import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
        cp_word_error_rate,
    )

    heard, claimed = (_said(one, verbatim=verbatim) for one in (reference, hypothesis))
    if not heard and not claimed:
        return word_errors()
    try:
        found = cp_word_error_rate(heard, claimed, reference_sort=False, hypothesis_sort=False)
    except RuntimeError:
        # MeetEval takes more than twenty speakers for a mistake.
        return None
    return word_errors(
        found.length,
        found.insertions,
        found.deletions,
        found.substitutions,
        found.missed_speaker,
        found.falarm_speaker,
    )


def _said(pieces: Sequence[Piece], *, verbatim: bool) -> dict[str, str]:
    """What each speaker says, in one text; who says no word is not there."""
    words: dict[str, list[str]] = {}
    for piece in sorted(pieces, key=lambda one: one.start_us or 0):
        text = piece.text or ""
        words.setdefault(piece.speaker, []).extend(
            text.split() if verbatim else normalised(text).split()
        )
    return {who: " ".join(said) for who, said in words.items() if said}
