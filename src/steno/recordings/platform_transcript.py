"""The words of a finished transcript of the platform, as our own engines give them.

Times of the file are absolute; where only offsets are told they count from the start of the
communication. Phrases are in order of ``phraseIndex``. A phrase without words is laid out over
its time by the lengths of its words. What cannot be read is left out and counted.

Source: Genesys Cloud API: transcripts of finished conversations, schema of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from steno.errors import RemoteProtocolError
from steno.recordings.words import MAX_SPEAKER_CHARS, MAX_TEXT_CHARS, MAX_WORDS, Word

MAX_BYTES: Final = 96 << 20
_MS: Final = 1000
_LAST_US: Final = 253_402_300_799_999_999


class _Span(msgspec.Struct):
    milliseconds: float = 0


_Length = _Span | int | float | None


class _Word(msgspec.Struct, rename="camel", gc=False):
    word: str = ""
    confidence: float | None = None
    start_time_ms: float | None = None
    offset: _Length = None
    duration: _Length = None


class _Phrase(msgspec.Struct, rename="camel"):
    phrase_index: int = 0
    participant_purpose: str = ""
    text: str = ""
    confidence: float | None = None
    start_time_ms: float | None = None
    offset: _Length = None
    duration: _Length = None
    words: list[_Word] | None = None


class _Run(msgspec.Struct, rename="camel"):
    start_time: float | None = None
    language: str = ""
    phrases: list[msgspec.Raw] | None = None


class _File(msgspec.Struct, rename="camel"):
    start_time: float | None = None
    transcripts: list[_Run] | None = None


_decode = msgspec.json.Decoder(_File).decode
_decode_phrase = msgspec.json.Decoder(_Phrase).decode


class StoredWords(msgspec.Struct, frozen=True):
    """The words of a transcript in order of time; ``bad`` counts phrases and words left out."""

    words: list[Word]
    bad: int


def transcript_words(data: bytes, *, language: str = "") -> StoredWords:
    """Read the file of a transcript.

    Args:
        data: JSON, at most ``MAX_BYTES``.
        language: Which of several runs is taken; the one with most phrases where none is in it.

    Raises:
        RemoteProtocolError: Not the documented shape, or more than ``MAX_WORDS`` words.
    """
    if len(data) > MAX_BYTES:
        raise RemoteProtocolError("the transcript is too large", size_bytes=len(data))
    try:
        found = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
        raise RemoteProtocolError("the transcript has not the documented shape") from None
    run = _chosen(found.transcripts or [], language)
    if run is None:
        return StoredWords([], 0)
    zero_ms = found.start_time if found.start_time is not None else run.start_time or 0
    phrases, bad = _phrases(run)
    words: list[Word] = []
    for phrase in phrases:
        made = list(_words(phrase, zero_ms))
        words.extend(word for word in made if word is not None)
        bad += made.count(None)
        if len(words) > MAX_WORDS:
            raise RemoteProtocolError("the transcript has too many words", limit=MAX_WORDS)
    words.sort(key=lambda word: (word.start_us, word.end_us))
    return StoredWords(words, bad)


def _phrases(run: _Run) -> tuple[list[_Phrase], int]:
    """Return the phrases that can be read, in their order, and how many cannot."""
    found: list[_Phrase] = []
    bad = 0
    for raw in run.phrases or ():
        try:
            found.append(_decode_phrase(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            bad += 1
    found.sort(key=lambda each: each.phrase_index)
    return found, bad


def _chosen(runs: list[_Run], language: str) -> _Run | None:
    wanted = [run for run in runs if language and run.language.lower() == language.lower()]
    return max(wanted or runs, key=lambda run: len(run.phrases or ()), default=None)


def _words(phrase: _Phrase, zero_ms: float) -> Iterator[Word | None]:
    speaker = phrase.participant_purpose.strip()[:MAX_SPEAKER_CHARS]
    if phrase.words:
        for each in phrase.words:
            start_ms = _start(each, zero_ms)
            yield _made(
                each.word, start_ms, start_ms + _ms(each.duration), speaker, each.confidence
            )
        return
    texts = phrase.text.split()
    letters = sum(map(len, texts))
    start_ms, length_ms, spoken = _start(phrase, zero_ms), _ms(phrase.duration), 0
    for text in texts:
        first_ms = start_ms + length_ms * spoken / letters
        spoken += len(text)
        last_ms = start_ms + length_ms * spoken / letters
        yield _made(text, first_ms, last_ms, speaker, phrase.confidence)


def _made(
    text: str, start_ms: float, end_ms: float, speaker: str, confidence: float | None
) -> Word | None:
    """Return a word; None where it has no text, too much of it, or a time that is none."""
    text = text.strip()
    if not 0 < len(text) <= MAX_TEXT_CHARS or not 0 <= start_ms <= end_ms <= _LAST_US / _MS:
        return None
    sure = None if confidence is None or not 0 <= confidence <= 1 else confidence
    return Word(text, round(start_ms * _MS), round(end_ms * _MS), speaker, sure)


def _start(one: _Word | _Phrase, zero_ms: float) -> float:
    if one.start_time_ms is not None:
        return one.start_time_ms
    return zero_ms + _ms(one.offset)


def _ms(length: _Length) -> float:
    """Return a length, which is told as an object or as a number."""
    if length is None:
        return 0.0
    return length.milliseconds if isinstance(length, _Span) else float(length)
