"""Scores of a hypothesis against references, by conversation and over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from importlib.util import find_spec
from typing import Final

import msgspec

from steno.adapters.scoring.pieces import Document, Piece
from steno.adapters.scoring.speakers import SpeakerErrors, SpeakerSums, speaker_sums
from steno.adapters.scoring.words import WordErrors, compare_words, word_errors
from steno.errors import ConfigError

DEFAULT_COLLAR_S: Final = 0.25

TOO_MANY: Final = "too many speakers for cpWER"


class Options(msgspec.Struct, frozen=True):
    """How to compare.

    Attributes:
        collar_us: Left out on either side of each start and end in the reference.
        score_overlap: Score the time in which several people of the reference speak.
        verbatim: Compare words as written, with case and punctuation.
    """

    collar_us: int = round(DEFAULT_COLLAR_S * 1_000_000)
    score_overlap: bool = True
    verbatim: bool = False


class ConversationScore(msgspec.Struct, frozen=True):
    """One conversation's errors.

    Attributes:
        found: The hypothesis has it; when not, everything of the reference is missed.
        speakers: None where reference or hypothesis have no times.
        words: None where they have no words, or there is a ``problem``.
        problem: Why there is no cpWER, in words of ours; else empty.
    """

    conversation: str
    found: bool
    speakers: SpeakerErrors | None
    words: WordErrors | None
    problem: str = ""


class Scores(msgspec.Struct, frozen=True):
    """Errors of every conversation of the references, by id, and their sums.

    Attributes:
        not_found: Conversations of the references that the hypothesis does not have.
        unreferenced: Conversations of the hypothesis without a reference; not scored.
    """

    conversations: list[ConversationScore]
    speakers: SpeakerErrors | None
    words: WordErrors | None
    not_found: int
    unreferenced: int


def require_scoring() -> None:
    """Tell now, not after long reading, that scoring cannot work.

    Raises:
        ConfigError: The extra is not installed.
    """
    for library in ("meeteval", "scipy"):
        if find_spec(library) is None:
            raise ConfigError(
                "scoring needs a library that is not installed",
                setting="steno[score]",
                fix="Run `pip install 'steno[score]'`.",
                library=library,
            )


def score(references: Sequence[Document], hypothesis: Document, options: Options) -> Scores:
    """Compare; the first reference with times gives the DER, the first with words the cpWER.

    Raises:
        ConfigError: The extra is not installed, or there is nothing to compare by.
    """
    require_scoring()
    timed = _first(references, hypothesis.has_times, "has_times")
    worded = _first(references, hypothesis.has_words, "has_words")
    if timed is None and worded is None:
        raise ConfigError(
            "references and hypothesis have neither times nor words in common",
            setting="REFERENCE",
            fix="RTTM has times alone, STM and our own exports have both.",
        )
    names = sorted({name for one in (timed, worded) if one is not None for name in one})
    found: list[ConversationScore] = []
    sums: list[SpeakerSums] = []
    for name in names:
        pieces = hypothesis.pieces.get(name, [])
        speakers: SpeakerErrors | None = None
        if timed is not None and name in timed:
            sums.append(
                speaker_sums(
                    timed[name],
                    pieces,
                    collar_us=options.collar_us,
                    score_overlap=options.score_overlap,
                )
            )
            speakers = sums[-1].errors()
        words, problem = None, ""
        if worded is not None and name in worded:
            words = compare_words(worded[name], pieces, verbatim=options.verbatim)
            problem = "" if words is not None else TOO_MANY
        found.append(ConversationScore(name, bool(pieces), speakers, words, problem))
    counted = [one.words for one in found if one.words is not None]
    return Scores(
        conversations=found,
        speakers=reduce(SpeakerSums.plus, sums).errors() if sums else None,
        words=reduce(WordErrors.plus, counted, word_errors()) if counted else None,
        not_found=sum(not one.found for one in found),
        unreferenced=len(hypothesis.pieces.keys() - set(names)),
    )


def _first(
    references: Sequence[Document], comparable: bool, quality: str
) -> Mapping[str, list[Piece]] | None:
    if not comparable:
        return None
    return next((one.pieces for one in references if getattr(one, quality)), None)
