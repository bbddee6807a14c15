"""Words of one speaker, joined to turns.

A turn is what one speaker says until somebody else says a word: the words in order of time,
cut wherever the speaker changes. Its start, end and confidence are its own. Turns may overlap
in time where people talk at once; they are in order of their starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from math import fsum
from operator import attrgetter
from typing import Final, NewType

import msgspec

from steno.recordings.words import UNTIMED, Word

UNKNOWN: Final = "unknown"
"""Speaker of the words that the service gives to nobody."""

MARKS: Final = frozenset(
    (
        *(".", ",", "?", "!", ";", ":", "…", "...", "..", "?!", "!?", "??", "!!", "%"),
        *(")", "]", "}", "»", "”", "’", "。", "、", "，", "？", "！", "；", "："),
    )
)
"""Words that are a mark of punctuation and stand behind the word before without a blank."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - only its text is used, which has no zone
_SECOND: Final = 1_000_000


class Turn(msgspec.Struct, frozen=True, gc=False):
    """What one speaker says in one go.

    Attributes:
        speaker: The service's label, or ``UNKNOWN``.
        text: Its words, joined as ``joined`` does.
        start_us: Start of its first word; ``UNTIMED`` where the words have no times.
        end_us: Latest end of any of its words.
        confidence: Mean over those of its words that have one; None when none has.
        words: In order of time; at least one.
    """

    speaker: str
    text: str
    start_us: int
    end_us: int
    confidence: float | None
    words: tuple[Word, ...]


Released = NewType("Released", tuple[Turn, ...])
"""Turns that may be shown: ``redact_turns`` has passed them, or ``unredacted`` was asked for."""


class DocumentTurn(msgspec.Struct, frozen=True, gc=False):
    """A turn with the tutorial's keys; times are RFC 3339, null without times."""

    speaker_id: str
    text: str
    start_time: str | None
    end_time: str | None
    avg_confidence: float | None


def turns_of(words: Iterable[Word]) -> tuple[Turn, ...]:
    """Join words to turns.

    The order of the words does not matter, except between words of the same start and end
    (a service whose times are coarse): those keep the order they come in.
    """
    ordered = sorted(words, key=attrgetter("end_us"))
    ordered.sort(key=attrgetter("start_us"))  # stable: within one start, by end
    turns: list[Turn] = []
    first = 0
    speaker = ordered[0].speaker if ordered else ""
    for index, word in enumerate(ordered):
        if word.speaker != speaker and (word.speaker or UNKNOWN) != (speaker or UNKNOWN):
            turns.append(turn_of(ordered[first:index]))
            first, speaker = index, word.speaker
    if ordered:
        turns.append(turn_of(ordered[first:]))
    return tuple(turns)


def turn_of(words: Sequence[Word]) -> Turn:
    """Return the turn of one speaker's words, which are in order and at least one."""
    confidences = [word.confidence for word in words if word.confidence is not None]
    return Turn(
        words[0].speaker or UNKNOWN,
        joined([word.text for word in words]),
        words[0].start_us,
        max([word.end_us for word in words]),
        fsum(confidences) / len(confidences) if confidences else None,
        tuple(words),
    )


def joined(texts: Sequence[str]) -> str:
    """Return words as one text: a blank between them, none before a mark of ``MARKS``."""
    if MARKS.isdisjoint(texts):
        return " ".join(texts)
    return "".join([text if text in MARKS else f" {text}" for text in texts]).removeprefix(" ")


def unredacted(turns: Iterable[Turn]) -> Released:
    """Let turns be shown as they are, because the operator said so."""
    return Released(tuple(turns))


def document_turn(turn: Turn) -> DocumentTurn:
    """Return a turn in the tutorial's shape."""
    timed = turn.start_us != UNTIMED
    return DocumentTurn(
        turn.speaker,
        turn.text,
        rfc3339(turn.start_us) if timed else None,
        rfc3339(turn.end_us) if timed else None,
        turn.confidence,
    )


def rfc3339(at_us: int) -> str:
    """Return UTC microseconds as ``2024-01-15T10:30:00.120000Z``, always six digits."""
    seconds, rest = divmod(at_us, _SECOND)
    return f"{_second(seconds)}.{rest:06}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """Return a second as text; those of one call come again and again."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()
