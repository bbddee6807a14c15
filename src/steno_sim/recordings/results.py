"""The JSON of a finished job, in pieces, and the truth that it was made from.

A word of a result: ``{"text", "confidence", "startTimestamp", "endTimestamp", "speaker"}``, with
the keys that were asked for. In a job whose words are bad, about one in twenty has a value that
no reader can take, in one of six ways, and the truth tells which.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from steno_sim.pieces import Secret
from steno_sim.recordings.job_book import Asked, Job, JobBook
from steno_sim.recordings.talk import Said, Turn, draw, start_ms, turns

PIECE_WORDS = 500
SMALL_WORDS = 4000
"""Results up to this size are answered in one go, with their length."""

_BAD_EVERY = 20
_MAX_TEXTS = 10_000
_BAD = (
    '{"text":"so","confidence":0.9,"startTimestamp":"yesterday","endTimestamp":"today"}',
    '{"text":"so","confidence":"high","startTimestamp":null,"endTimestamp":null}',
    '{"confidence":0.9}',
    "null",
    '"so"',
    '{"text":"so","confidence":7.5,"startTimestamp":12,"endTimestamp":"2026-01-05T09:00:00"}',
)
_ERRORS: tuple[object, ...] = (
    "audio.unreadable",
    "No speech model answered; the caller on +1 415 555 0199 was told",
    {"code": "engine.failed", "message": "worker 7 ended"},
)


class TruthTurn(msgspec.Struct, frozen=True):
    """One turn as it was said; times are RFC 3339, ``confidence`` is its words' mean."""

    speaker: str
    text: str
    words: int
    confidence: float
    start: str
    end: str
    secrets: list[Secret]


class Truth(msgspec.Struct, frozen=True):
    """What a recording says, and what its jobs come to.

    Attributes:
        fate: ``completed``, or how its jobs go wrong.
        words: Words of the result, bad ones included.
        bad: Indexes of words that cannot be read.
        turns: In time order; of a job with bad words as if all could be read.
        starts: When the recording began, RFC 3339.
    """

    recording: str
    language: str
    fate: str
    words: int
    confidence: float | None
    starts: str
    turns: list[TruthTurn]
    secrets: list[Secret]
    bad: list[int]


class Clock:
    """Writes moments of one recording; most of a text is that of the word before.

    Args:
        zero_ms: Start of the recording, ms since 1970.
    """

    def __init__(self, zero_ms: int) -> None:
        self._zero_ms = zero_ms
        self._second = -1
        self._text = ""

    def __call__(self, at_ms: int) -> str:
        """Give RFC 3339 with milliseconds, in UTC."""
        second, ms = divmod(self._zero_ms + at_ms, 1000)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{ms:03d}Z"


def error_of(job: Job, seed: int) -> object:
    """Give the ``error`` of a failed job: a word, a sentence that nobody should keep, an object."""
    return draw(seed, job.asked.recording_id, "error").choice(_ERRORS)


def spoken(book: JobBook, recording: str, language: str) -> Iterator[Turn]:
    """Give the turns of a recording as its results have them."""
    settings = book.settings
    return turns(
        settings.seed,
        recording,
        language=language,
        words=book.words(recording),
        voices=settings.speakers,
        confidence=settings.confidence,
        secrets=settings.secrets,
    )


def result_pieces(book: JobBook, job: Job, opening: dict[str, Any]) -> Iterator[bytes]:
    """Give the body of a completed job, in pieces of some tens of kilobytes.

    Args:
        book: Whose job it is.
        job: A job whose fate is to have words.
        opening: The answer's keys before ``result``.
    """
    asked, bad = job.asked, job.fate == "bad_words"
    clock = Clock(start_ms(book.settings.seed, asked.recording_id))
    texts = _Texts()
    out = [msgspec.json.encode(opening).decode()[:-1], ',"result":{"words":[']
    index = 0
    for turn in spoken(book, asked.recording_id, asked.language):
        speaker = f',"speaker":"speaker_{turn.voice}"' if asked.speaker_diarization else ""
        for word in turn.words:
            comma = "," if index else ""
            if bad and index % _BAD_EVERY == 0:
                out.append(comma + _BAD[index // _BAD_EVERY % len(_BAD)])
            else:
                out.append(f"{comma}{_word(texts[word.text], word, asked, clock)}{speaker}}}")
            index += 1
        if len(out) >= PIECE_WORDS:
            yield "".join(out).encode()
            out.clear()
    out.append("]}}")
    yield "".join(out).encode()


class _Texts(dict[str, str]):
    """Words as JSON, each written once: a talk has few that differ, beside its secrets."""

    def __missing__(self, text: str) -> str:
        written = msgspec.json.encode(text).decode()
        if len(self) < _MAX_TEXTS:
            self[text] = written
        return written


def _word(text: str, word: Said, asked: Asked, clock: Clock) -> str:
    """Give a word as JSON, without its speaker and its end; ``text`` is JSON already."""
    confidence = f',"confidence":{word.confidence}' if asked.word_confidence else ""
    if not asked.timestamps:
        return f'{{"text":{text}{confidence}'
    return (
        f'{{"text":{text}{confidence},"startTimestamp":"{clock(word.start_ms)}",'
        f'"endTimestamp":"{clock(word.end_ms)}"'
    )


def truth_of(book: JobBook, recording: str, language: str) -> Truth:
    """Give what a recording says. A million words make some hundred megabytes."""
    zero_ms = start_ms(book.settings.seed, recording)
    clock, fate = Clock(zero_ms), book.fate(recording)
    found: list[TruthTurn] = []
    words, total = 0, 0.0
    for turn in spoken(book, recording, language):
        share = sum(word.confidence for word in turn.words)
        words, total = words + len(turn.words), total + share
        found.append(
            TruthTurn(
                f"speaker_{turn.voice}",
                turn.text,
                len(turn.words),
                share / len(turn.words),
                clock(turn.words[0].start_ms),
                clock(turn.words[-1].end_ms),
                turn.secrets,
            )
        )
    return Truth(
        recording,
        language,
        fate,
        words,
        total / words if words else None,
        clock(0),
        found,
        [secret for turn in found for secret in turn.secrets],
        list(range(0, words, _BAD_EVERY)) if fate == "bad_words" else [],
    )
