"""Redaction of a finished transcript: turns and the words in them, masked alike.

The turns pass ``steno.redaction.Carry`` in their order, each speaker a lane, so a number that
is said over several turns is found. A span covers whole words: those it touches become one
masked word with their bounds in time, and the turn's text is made of its words again. So
nothing that is masked in the text is left in the words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Final, cast

import msgspec

from steno.core.ids import is_uuid
from steno.core.quality import mean_confidence
from steno.core.transcript import RawText, RedactedSentence, RedactedText, Sentence
from steno.errors import RedactionError
from steno.recordings.turns import MARKS, UNKNOWN, Released, Turn, joined, turn_of
from steno.recordings.words import Word
from steno.redaction import Carry, Redactor, Span
from steno.redaction.tokens import normalise

MAX_PIECE_WORDS: Final = 1000
"""A turn of more words is looked at in pieces of this size, which costs no secret."""

WITHHELD: Final = "[WITHHELD]"
"""Stands for words whose redaction failed."""


class RedactedTurns(msgspec.Struct, frozen=True):
    """What redaction made of a transcript.

    Attributes:
        turns: As many as before, with the same bounds.
        entities: Number of spans removed, by entity.
        withheld: Turns in which words are ``WITHHELD`` because their redaction failed.
    """

    turns: Released
    entities: dict[str, int]
    withheld: int


def redact_turns(turns: Sequence[Turn], redactor: Redactor, *, language: str) -> RedactedTurns:
    """Remove personal data from a whole transcript.

    A turn without any comes out as the very turn that came in. A speaker's label that is
    personal data itself (and no UUID) becomes ``speaker-1`` and so on.

    Args:
        turns: All of one transcript, in order.
        language: BCP-47 tag of what is said.
    """
    seer = _Seer(redactor)
    done: dict[int, str] = {}
    entities: dict[str, int] = {}
    # Not the time of speech: a pause must not let the second half of a number pass. Nothing is
    # waiting for the result, so what is held is held until it is settled or the end.
    carry = Carry(cast("Redactor", seer))  # it asks for no more than a _Seer has
    pieces = list(_pieces(turns))
    for number, piece in enumerate(pieces):
        try:
            ready = carry.push(_sentence(number, piece, language), now=0.0)
        except RedactionError:
            continue  # it never comes back, and is withheld
        _take(ready, done, entities)
    _take(carry.flush(0.0), done, entities)
    return _released(turns, pieces, done, entities, redactor, language)


class _Piece(msgspec.Struct, frozen=True):
    """Words of a turn that are looked at together, with the text that redaction sees."""

    turn: int
    lane: str
    words: Sequence[Word]
    texts: list[str]


_Mask = Callable[[str, Sequence[Span]], str]


class _Seen(str):
    """A masked text that knows what it was made of."""

    __slots__ = ("spans", "whole")
    whole: str
    spans: Sequence[Span]


class _Seer:
    """What ``Carry`` asks of a redactor, its answers carrying the spans along.

    A redacted sentence tells how many spans it had and not where; finding them again by
    comparing two texts could hit the wrong words.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._mask = redactor.mask
        self.inspect = redactor.inspect
        self.is_notable = redactor.is_notable
        self.ends_number = redactor.ends_number

    def mask(self, text: str, spans: Sequence[Span]) -> RedactedText:
        """Mask as the redactor does, and keep the spans."""
        masked = _Seen(self._mask(text, spans))
        masked.whole, masked.spans = text, tuple(spans)
        return RedactedText(masked)


def _pieces(turns: Iterable[Turn]) -> Iterator[_Piece]:
    lane = ""
    for index, turn in enumerate(turns):
        # Words that are given to nobody most often belong to whoever was speaking.
        lane = lane if turn.speaker == UNKNOWN else turn.speaker
        for first in range(0, len(turn.words), MAX_PIECE_WORDS):
            words = turn.words[first : first + MAX_PIECE_WORDS]
            yield _Piece(index, lane, words, [normalise(word.text) for word in words])


def _sentence(number: int, piece: _Piece, language: str) -> Sentence:
    text = RawText(_text(piece))
    return Sentence("", piece.lane, str(number), 0, text, language, 1.0, 0, 0, 0)


def _take(
    ready: Iterable[RedactedSentence], done: dict[int, str], entities: dict[str, int]
) -> None:
    for one in ready:
        done[int(one.sentence.utterance)] = one.text
        for entity, number in one.entities.items():
            entities[entity] = entities.get(entity, 0) + number


def _released(
    turns: Sequence[Turn],
    pieces: Sequence[_Piece],
    done: dict[int, str],
    entities: dict[str, int],
    redactor: Redactor,
    language: str,
) -> RedactedTurns:
    words_of: dict[int, list[Word]] = {}
    withheld: set[int] = set()
    for number, piece in enumerate(pieces):
        words = _words(piece, done.get(number), redactor.mask)
        if words is None:
            withheld.add(piece.turn)
            words = [_one_word(piece.words, WITHHELD)]
        words_of.setdefault(piece.turn, []).extend(words)
    names = _names(turns, redactor, language)
    released: list[Turn] = []
    for index, turn in enumerate(turns):
        words = words_of[index]
        if len(words) != len(turn.words) or any(map(_differ, words, turn.words)):
            # The mean is over the words that were said, however few are left of them.
            turn = msgspec.structs.replace(
                turn_of(words), end_us=turn.end_us, confidence=turn.confidence
            )
        released.append(_named(turn, names.get(turn.speaker)))
    return RedactedTurns(Released(tuple(released)), entities, len(withheld))


def _differ(one: Word, other: Word) -> bool:
    return one is not other


def _words(piece: _Piece, shown: str | None, mask: _Mask) -> list[Word] | None:
    """Return the words of a piece as they may be shown; None when that is not certain."""
    if shown is None:
        return None
    if not isinstance(shown, _Seen) or not shown.spans:
        return list(piece.words)
    if shown.whole != _text(piece):
        return None  # the spans are places in another text
    places = _places(piece.texts)
    words: list[Word] = []
    for first, stop, spans in _groups(places, shown.spans):
        if not spans:
            words.append(piece.words[first])
            continue
        start, end = places[first][0], places[stop - 1][1]
        here = [
            Span(max(span.start, start) - start, min(span.end, end) - start, span.entity)
            for span in spans
            if span.end > start
        ]
        words.append(_one_word(piece.words[first:stop], mask(shown.whole[start:end], here)))
    again = joined([normalise(word.text) for word in words])
    return words if "".join(again.split()) == "".join(shown.split()) else None


def _text(piece: _Piece) -> str:
    return joined([text for text in piece.texts if text])


def _groups(
    places: Sequence[tuple[int, int]], spans: Sequence[Span]
) -> Iterator[tuple[int, int, list[Span]]]:
    """Yield first word, word behind the last, and spans: words that one span touches together.

    Two spans in one word, and a word in which one span ends and the next begins, make one
    group; a word without a span is a group of its own.
    """
    pending = deque(spans)
    first = 0
    while first < len(places):
        stop, reach = first + 1, places[first][1]
        touching: list[Span] = []
        while pending and pending[0].start < reach:
            touching.append(pending.popleft())
            while stop < len(places) and places[stop][0] < touching[-1].end:
                reach = places[stop][1]
                stop += 1
        yield first, stop, touching
        first = stop


def _places(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Return where each text begins and ends in ``joined`` of those that are not empty."""
    places: list[tuple[int, int]] = []
    at = 0
    for text in texts:
        if not text:
            places.append((at, at))
            continue
        if at and text not in MARKS:
            at += 1
        places.append((at, at + len(text)))
        at += len(text)
    return places


def _one_word(words: Sequence[Word], text: str) -> Word:
    """Return one word in the place of several, with their bounds and mean confidence."""
    return Word(
        text,
        words[0].start_us,
        max(word.end_us for word in words),
        words[0].speaker,
        mean_confidence(word.confidence for word in words),
    )


# --- labels ----------------------------------------------------------------------------------


def _names(turns: Iterable[Turn], redactor: Redactor, language: str) -> dict[str, str]:
    """Return new labels for the speakers whose own are personal data."""
    names: dict[str, str] = {}
    labels = dict.fromkeys(turn.speaker for turn in turns)
    free = (name for name in map("speaker-{}".format, count(1)) if name not in labels)
    for label in labels:
        if is_uuid(label):
            continue
        try:
            clean = not redactor.redact(RawText(label), language=language).entities
        except RedactionError:
            clean = False
        if not clean:
            names[label] = next(free)
    return names


def _named(turn: Turn, name: str | None) -> Turn:
    if name is None:
        return turn
    words = tuple(msgspec.structs.replace(word, speaker=name) for word in turn.words)
    return msgspec.structs.replace(turn, speaker=name, words=words)
