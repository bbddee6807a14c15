"""The words of a finished transcript, as a service gives them.

A word on the wire has ``text confidence startTimestamp endTimestamp speaker``. A service of
others writes its times as RFC 3339; our own recogniser writes whole microseconds, counted from
the start of the recording. Unknown keys are ignored. What cannot be read is told by index and
field, never by its content.

The whole array is decoded at once. Only when that fails are its elements looked at one by one,
which takes some twenty times as long and finds out which field of which word is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from steno.errors import RemoteProtocolError

MAX_BYTES: Final = 96 * 1024 * 1024
"""A result beyond this is refused before it is decoded."""

MAX_WORDS: Final = 500_000
"""Words of one recording, some twenty-five hours of talk; more are refused."""

MAX_TEXT_CHARS: Final = 200
"""A longer word is none."""

MAX_SPEAKER_CHARS: Final = 128

MAX_SPAN_US: Final = 7 * 24 * 3600 * 1_000_000
"""A word further from the middle word than this (seven days) has a wrong time."""

MAX_REPORTED: Final = 100
"""Unreadable words told one by one; beyond it they are counted."""

UNTIMED: Final = -1
"""Start and end of every word of a transcript that was asked for without times."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)
_LAST_US: Final = 253_402_300_799_999_999  # the end of the year 9999: later is no date

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
_Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)] | None
_Time = Annotated[datetime, msgspec.Meta(tz=True)] | int | None
_Speaker = Annotated[str, msgspec.Meta(max_length=MAX_SPEAKER_CHARS)] | None


class Word(msgspec.Struct, frozen=True, gc=False):
    """One word, or one mark of punctuation, as the service cut it.

    Attributes:
        text: Not blank; raw until ``redact_turns`` has passed it.
        start_us, end_us: UTC microseconds, ``start_us <= end_us``. They count from 0 where the
            start of a recording of our own recogniser is not known; both are ``UNTIMED`` where
            the transcript has no times.
        speaker: The service's label; empty where it tells none.
        confidence: 0..1; None where the service tells none.
    """

    text: str
    start_us: int
    end_us: int
    speaker: str = ""
    confidence: float | None = None


class BadWord(msgspec.Struct, frozen=True, gc=False):
    """A word that cannot be read.

    Attributes:
        index: Its place in the array, from 0.
        field: Wire name of the first field that is wrong; ``word`` when it is no object.
    """

    index: int
    field: str


class Words(msgspec.Struct, frozen=True):
    """What was read.

    Attributes:
        words: In the order of the array.
        bad: Words left out, by index; the first ``MAX_REPORTED`` of them.
        bad_count: All of them.
        timed: False where the words have no times.
    """

    words: list[Word]
    bad: list[BadWord]
    bad_count: int
    timed: bool


class _Wire(msgspec.Struct, rename="camel", gc=False):
    """A word on the wire."""

    text: _Text
    confidence: _Confidence = None
    start_timestamp: _Time = None
    end_timestamp: _Time = None
    speaker: _Speaker = None


class _Result(msgspec.Struct):
    """A whole result; only its words matter here."""

    words: list[_Wire] | msgspec.UnsetType | None = msgspec.UNSET


class _WordOut(msgspec.Struct, rename="camel", omit_defaults=True):
    """A word in the form our own recogniser gives it."""

    text: str
    start_timestamp: int | None = None
    end_timestamp: int | None = None
    confidence: float | None = None
    speaker: str = ""


_FIELDS: Final = (
    ("text", _Text),
    ("confidence", _Confidence),
    ("startTimestamp", _Time),
    ("endTimestamp", _Time),
    ("speaker", _Speaker),
)
_TIMES: Final = ("startTimestamp", "endTimestamp")
_PEEK: Final = 256  # blanks before the first bracket: no more are looked at
_decode_array = msgspec.json.Decoder(list[_Wire] | None).decode
_decode_result = msgspec.json.Decoder(_Result).decode
_encode = msgspec.json.Encoder().encode


def decode_words(
    data: bytes, *, zero_us: int = 0, timed: bool = True, strict: bool = False
) -> Words:
    """Read the words of a finished transcript.

    Args:
        data: JSON of the array of words, or of an object whose key ``words`` has it. ``null``
            is an empty array: nothing was said.
        zero_us: Start of the recording, UTC microseconds, to which times given as whole
            numbers are added.
        timed: Times were asked for, so a word without them cannot be read. When False, the
            times count only if every word has them; else all words are untimed, in the
            order of the array.
        strict: A word that cannot be read fails the transcript instead of being left out.

    Raises:
        RemoteProtocolError: It is no JSON, has no words, exceeds ``MAX_BYTES`` or
            ``MAX_WORDS``, has no word that can be read, or one that cannot and ``strict``.
    """
    if len(data) > MAX_BYTES:
        raise RemoteProtocolError("the result is too large", size_bytes=len(data), limit=MAX_BYTES)
    indices, wire, bad = _elements(data, timed=timed)
    count = len(wire) + len(bad)
    if count > MAX_WORDS:
        raise RemoteProtocolError("the result has too many words", words=count, limit=MAX_WORDS)
    timed = timed or not any(
        one.start_timestamp is None or one.end_timestamp is None for one in wire
    )
    if timed:
        words = _with_times(indices, wire, zero_us, bad)
    else:
        words = _without_times(indices, wire, bad)
    bad.sort(key=lambda one: one.index)
    if bad and (strict or not words):
        raise RemoteProtocolError(
            "words of the transcript cannot be read",
            index=bad[0].index,
            field=bad[0].field,
            unreadable=len(bad),
            words=count,
        )
    return Words(words, bad[:MAX_REPORTED], len(bad), timed)


def encode_words(words: Iterable[Word]) -> bytes:
    """Return words as the array that ``decode_words`` reads, with times as microseconds.

    It is the form of our own recogniser's results.
    """
    return _encode(
        [
            _WordOut(word.text, confidence=word.confidence, speaker=word.speaker)
            if word.start_us == UNTIMED
            else _WordOut(word.text, word.start_us, word.end_us, word.confidence, word.speaker)
            for word in words
        ]
    )


# --- JSON ------------------------------------------------------------------------------------


def _elements(data: bytes, *, timed: bool) -> tuple[Sequence[int], list[_Wire], list[BadWord]]:
    """Return the places of the readable words, the words, and those that are not."""
    whole = data[:_PEEK].lstrip()[:1] == b"{"
    try:
        wire = _decode_result(data).words if whole else _decode_array(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _one_by_one(_loaded(data, whole=whole), timed=timed)
    if wire is msgspec.UNSET:
        raise RemoteProtocolError("the result has no words", field="words")
    words = wire or []
    return range(len(words)), words, []


def _loaded(data: bytes, *, whole: bool) -> list[object]:
    """Read the array with Python's own reader, which takes more than is JSON.

    A number that is none (NaN) and a text that is no UTF-8 spoil one word this way, not all.
    """
    try:
        loaded: object = json.loads(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        loaded = None
        cause = "the result is not JSON"
    else:
        cause = "the result has no array of words"
    if whole and isinstance(loaded, dict) and "words" in loaded:
        loaded = [] if loaded["words"] is None else loaded["words"]
    if not isinstance(loaded, list):
        raise RemoteProtocolError(cause, field="words")
    return loaded


def _one_by_one(
    elements: list[object], *, timed: bool
) -> tuple[list[int], list[_Wire], list[BadWord]]:
    indices: list[int] = []
    words: list[_Wire] = []
    bad: list[BadWord] = []
    for index, element in enumerate(elements[: MAX_WORDS + 1]):
        if not timed:
            element = _without_bad_times(element)
        try:
            word = msgspec.convert(element, _Wire)
            f"{word.text}{word.speaker}".encode()  # half a character is no text
        except (msgspec.ValidationError, UnicodeError):
            bad.append(BadWord(index, _wrong_field(element)))
        else:
            indices.append(index)
            words.append(word)
    return indices, words, bad


def _without_bad_times(element: object) -> object:
    """Return a word whose times, which nobody asked for, are missing instead of wrong."""
    if not isinstance(element, dict):
        return element
    wrong = [name for name in _TIMES if not _fits(element.get(name), _Time)]
    return {**element, **dict.fromkeys(wrong)} if wrong else element


def _wrong_field(element: object) -> str:
    """Return the first field that is wrong, in the order of the wire's own table."""
    if not isinstance(element, dict):
        return "word"
    return next((name for name, form in _FIELDS if not _fits(element.get(name), form)), "word")


def _fits(value: object, form: object) -> bool:
    try:
        msgspec.convert(value, form)
        if isinstance(value, str):
            value.encode()
    except (msgspec.ValidationError, UnicodeError):
        return False
    return True


# --- values ----------------------------------------------------------------------------------


def _with_times(
    indices: Sequence[int], wire: list[_Wire], zero_us: int, bad: list[BadWord]
) -> list[Word]:
    """Return the words whose fields hold together; what does not is added to ``bad``."""
    words: list[Word] = []
    places: list[int] = []
    speakers: dict[str | None, str] = {None: ""}
    for index, one in zip(indices, wire, strict=True):
        start, end, text = one.start_timestamp, one.end_timestamp, one.text
        # Written out: a call for each of 40,000 times would be a third of the work.
        if isinstance(start, datetime):
            start_us = (start - _EPOCH) // _US
        else:
            start_us = _LAST_US + 1 if start is None else zero_us + start
        if isinstance(end, datetime):
            end_us = (end - _EPOCH) // _US
        else:
            end_us = -1 if end is None else zero_us + end
        if not 0 <= start_us <= end_us <= _LAST_US or text.isspace():
            bad.append(BadWord(index, _wrong_value(text, start_us)))
            continue
        speaker = speakers.get(one.speaker)
        if speaker is None:
            speaker = speakers[one.speaker] = str(one.speaker).strip()
        words.append(Word(text, start_us, end_us, speaker, one.confidence))
        places.append(index)
    return _in_reach(places, words, bad)


def _wrong_value(text: str, start_us: int) -> str:
    if text.isspace():
        return "text"
    return "endTimestamp" if 0 <= start_us <= _LAST_US else "startTimestamp"


def _in_reach(places: list[int], words: list[Word], bad: list[BadWord]) -> list[Word]:
    """Leave out words which no recording can hold together with the others.

    One wrong date would otherwise be the first or last word of the whole call.
    """
    starts = [word.start_us for word in words]
    if not words or max(word.end_us for word in words) - min(starts) <= MAX_SPAN_US:
        return words
    middle_us = sorted(starts)[len(starts) // 2]
    kept: list[Word] = []
    for index, word in zip(places, words, strict=True):
        if abs(word.start_us - middle_us) > MAX_SPAN_US:
            bad.append(BadWord(index, "startTimestamp"))
        elif word.end_us - middle_us > MAX_SPAN_US:
            bad.append(BadWord(index, "endTimestamp"))
        else:
            kept.append(word)
    return kept


def _without_times(indices: Sequence[int], wire: list[_Wire], bad: list[BadWord]) -> list[Word]:
    words: list[Word] = []
    for index, one in zip(indices, wire, strict=True):
        if one.text.isspace():
            bad.append(BadWord(index, "text"))
        else:
            speaker = (one.speaker or "").strip()
            words.append(Word(one.text, UNTIMED, UNTIMED, speaker, one.confidence))
    return words
