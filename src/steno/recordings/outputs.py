"""A finished transcript as text, subtitles or JSON: pieces of bytes, in flat memory.

- ``text``: one line a turn, ``[hh:mm:ss] speaker: text``.
- ``srt``, ``vtt``: subtitles, cut at the times of words.
- ``json``: the tutorial's document (``transcript_id status metrics speakers processed_at``),
  the recording's id, how the error rate came about and, on request, every word.

Times of text and subtitles count from the start of the recording where it is known, else from
the first word. Where both are known and the first word comes first, it counts as well: a
subtitle cannot begin before zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

import msgspec

from steno.core.quality import ESTIMATE_LABEL, Metrics
from steno.core.subtitles import VTT_HEADER, srt_cue, vtt_cue
from steno.errors import ConfigError
from steno.recordings.turns import (
    MARKS,
    DocumentTurn,
    Released,
    Turn,
    document_turn,
    joined,
    rfc3339,
)
from steno.recordings.words import UNTIMED, Word

BATCH: Final = 256
"""Turns or words in one piece of bytes."""

LINE_CHARS: Final = 42
"""A line of a subtitle; a longer word stands alone on one."""

MAX_LINES: Final = 2
MAX_CUE_US: Final = 7_000_000
"""Nothing is shown for longer than seven seconds."""

MAX_PAUSE_US: Final = 2_000_000
"""Behind a longer silence a cue begins, so that no word is shown long before it is said."""

_SECOND: Final = 1_000_000
_LEAST_CHARS: Final = 20  # what a long label leaves for words on the first line
_T = TypeVar("_T")
_BREAKS: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]+")
_BREAK: Final = "\ue000"  # no character of any script: stands for the break of a cue's line


class Transcript(msgspec.Struct, frozen=True):
    """A finished transcript, ready to be written.

    Attributes:
        turns: Redacted, or let pass by the operator.
        processed_at_us: UTC microseconds.
        started_at_us: Start of the recording, on the clock of the words; None when not known.
    """

    transcript_id: str
    recording_id: str
    status: str
    metrics: Metrics
    turns: Released
    processed_at_us: int
    started_at_us: int | None = None


class Payload(msgspec.Struct, frozen=True):
    """The tutorial's webhook body, with its keys in its order."""

    transcript_id: str
    status: str
    metrics: Metrics
    speakers: list[DocumentTurn]
    processed_at: str


class DocumentWord(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A word with its keys on the wire; times are RFC 3339, null without times."""

    text: str
    confidence: float | None
    start_timestamp: str | None
    end_timestamp: str | None
    speaker: str


def encoded(transcript: Transcript, form: str, *, words: bool = False) -> Iterator[bytes]:
    """Yield a transcript's file.

    Args:
        form: ``text``, ``srt``, ``vtt`` or ``json``.
        words: Every word too; JSON only, the other forms have no place for them.

    Raises:
        ConfigError: No such form, or subtitles of a transcript without times. It comes with the
            call, before any piece.
    """
    if form == "json":
        return to_json(transcript, words=words)
    encode = _FORMS.get(form)
    if encode is None:
        raise ConfigError(
            "unknown format of a transcript", setting="format", fix="Use text, srt, vtt or json."
        )
    if form != "text" and not _timed(transcript.turns):
        raise ConfigError(
            "subtitles need times, and this transcript has none",
            setting="timestamps",
            fix="Ask for timestamps, or write text or json.",
        )
    return encode(transcript)


def to_text(transcript: Transcript) -> Iterator[bytes]:
    """Yield one line a turn; without times the line begins with the speaker."""
    zero_us = zero_of(transcript)
    for batch in _batches(transcript.turns):
        yield _bytes([_text_line(turn, zero_us) for turn in batch])


def to_srt(transcript: Transcript) -> Iterator[bytes]:
    """Yield SubRip subtitles, each with its speaker."""
    zero_us = zero_of(transcript)
    number = 0
    for batch in _batches(transcript.turns):
        texts: list[str] = []
        for turn in batch:
            for cue in cues_of(turn, label=True):
                number += 1
                start_us, end_us = cue.start_us - zero_us, cue.end_us - zero_us
                texts.append(srt_cue(number, start_us, end_us, _plain(turn.speaker), cue.text))
        yield _bytes(texts).replace(_BREAK.encode(), b"\n")


def to_vtt(transcript: Transcript) -> Iterator[bytes]:
    """Yield WebVTT cues, the speaker in a voice tag."""
    zero_us = zero_of(transcript)
    yield VTT_HEADER.encode()
    for batch in _batches(transcript.turns):
        texts = [
            vtt_cue(cue.start_us - zero_us, cue.end_us - zero_us, _plain(turn.speaker), cue.text)
            for turn in batch
            for cue in cues_of(turn, label=False)
        ]
        yield _bytes(texts).replace(_BREAK.encode(), b"\n")


def to_json(transcript: Transcript, *, words: bool = False) -> Iterator[bytes]:
    """Yield the document; ``word_error_rate_is`` says that the rate is an estimate."""
    encode = msgspec.json.Encoder().encode
    head = {
        "transcript_id": transcript.transcript_id,
        "recording_id": transcript.recording_id,
        "status": transcript.status,
        "metrics": transcript.metrics,
        "word_error_rate_is": ESTIMATE_LABEL,
        "processed_at": processed_at(transcript),
    }
    yield encode(head)[:-1]
    turns = (document_turn(turn) for turn in transcript.turns)
    yield from _list(b"speakers", turns, encode)
    if words:
        said = (_document_word(word) for turn in transcript.turns for word in turn.words)
        yield from _list(b"words", said, encode)
    yield b"}\n"


def webhook_payload(transcript: Transcript) -> bytes:
    """Return the body of the webhook: the tutorial's five keys and no more."""
    return msgspec.json.encode(
        Payload(
            transcript.transcript_id,
            transcript.status,
            transcript.metrics,
            [document_turn(turn) for turn in transcript.turns],
            processed_at(transcript),
        )
    )


def processed_at(transcript: Transcript) -> str:
    """Return the time of processing in whole seconds, ``2024-01-15T10:30:00Z``."""
    return f"{rfc3339(transcript.processed_at_us).partition('.')[0]}Z"


def zero_of(transcript: Transcript) -> int:
    """Return from which the times of text and subtitles count, in microseconds."""
    first_us = transcript.turns[0].start_us if transcript.turns else 0
    started_us = transcript.started_at_us
    return first_us if started_us is None else min(started_us, first_us)


# --- subtitles -------------------------------------------------------------------------------


class Cue(msgspec.Struct, frozen=True, gc=False):
    """What is shown at once; ``text`` has one private character where its line breaks."""

    start_us: int
    end_us: int
    text: str


def cues_of(turn: Turn, *, label: bool) -> Iterator[Cue]:
    """Cut a turn into cues of at most two lines and seven seconds.

    A cue ends before a word that fits on no line of it, that ends too late, or that follows a
    silence; and at the latest where the turn's next cue begins.

    Args:
        label: The speaker is written before the text and takes room on the first line.
    """
    room = LINE_CHARS - (len(turn.speaker) + 2 if label else 0)
    room = max(room, min(_LEAST_CHARS, LINE_CHARS))
    waiting: Cue | None = None
    for words, lines in _packed(turn.words, room):
        start_us = words[0].start_us
        if waiting is not None:
            yield _ending(waiting, start_us)
        end_us = min(max(word.end_us for word in words), start_us + MAX_CUE_US)
        waiting = Cue(start_us, end_us, _BREAK.join(lines))
    if waiting is not None:
        yield waiting


def _ending(cue: Cue, next_us: int) -> Cue:
    return cue if cue.end_us <= next_us else msgspec.structs.replace(cue, end_us=next_us)


def _packed(words: Sequence[Word], room: int) -> Iterator[tuple[list[Word], list[str]]]:
    """Yield the words of each cue with its lines."""
    shown: list[Word] = []
    lines: list[list[str]] = [[]]
    size = 0
    for word in words:
        text = _plain(word.text)
        mark = text in MARKS
        length = len(text) + (0 if mark or not lines[-1] else 1)
        # A mark stays with its word even where it stands out a little.
        limit = (room if len(lines) == 1 else LINE_CHARS) + (_MARK_CHARS if mark else 0)
        if shown and (
            _too_late(shown, word) or (size + length > limit and len(lines) == MAX_LINES)
        ):
            yield shown, [joined(line) for line in lines]
            shown, lines, size = [], [[]], 0
            length = len(text)
        elif lines[-1] and size + length > limit:
            lines.append([])
            size, length = 0, len(text)
        shown.append(word)
        lines[-1].append(text)
        size += length
    if shown:
        yield shown, [joined(line) for line in lines]


def _too_late(shown: Sequence[Word], word: Word) -> bool:
    return (
        word.end_us - shown[0].start_us > MAX_CUE_US
        or word.start_us - shown[-1].end_us > MAX_PAUSE_US
    )


def _plain(text: str) -> str:
    return text.replace(_BREAK, "")


# --- pieces ----------------------------------------------------------------------------------


def _text_line(turn: Turn, zero_us: int) -> str:
    said = f"{turn.speaker}: {turn.text}"
    line = said if said.isprintable() else _BREAKS.sub(" ", said).strip(" ")
    if turn.start_us == UNTIMED:
        return f"{line}\n"
    minutes, seconds = divmod((turn.start_us - zero_us) // _SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    return f"[{hours:02}:{minutes:02}:{seconds:02}] {line}\n"


def _document_word(word: Word) -> DocumentWord:
    timed = word.start_us != UNTIMED
    return DocumentWord(
        word.text,
        word.confidence,
        rfc3339(word.start_us) if timed else None,
        rfc3339(word.end_us) if timed else None,
        word.speaker,
    )


def _list(
    key: bytes, values: Iterable[msgspec.Struct], encode: Callable[[object], bytes]
) -> Iterator[bytes]:
    yield b',"%s":[' % key
    between = b"\n"
    for batch in _batches(values):
        yield between + b",\n".join([encode(value) for value in batch])
        between = b",\n"
    yield b"\n]"


def _batches(values: Iterable[_T]) -> Iterator[list[_T]]:
    source = iter(values)
    while batch := list(islice(source, BATCH)):
        yield batch


def _timed(turns: Sequence[Turn]) -> bool:
    return not turns or turns[0].start_us != UNTIMED


def _bytes(texts: Iterable[str]) -> bytes:
    return "".join(texts).encode("utf-8", "replace")


_MARK_CHARS: Final = max(map(len, MARKS))
_FORMS: Final[dict[str, Callable[[Transcript], Iterator[bytes]]]] = {
    "text": to_text,
    "srt": to_srt,
    "vtt": to_vtt,
}
