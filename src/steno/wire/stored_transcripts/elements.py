"""One segment, phrase or participant, and blocks of them, out of JSON into values."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from steno.core.stored import MAX_SECONDS, Confidence, Participant, Segment
from steno.core.transcript import RawText

_MAX_MS = MAX_SECONDS * 1000
_Ms = Annotated[float, msgspec.Meta(ge=0, le=_MAX_MS)]
_EpochMs = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_PATH = re.compile(r"`\$\.(\w+)[^`]*`$")
_MISSING = re.compile(r"missing required field `(\w+)`")


class _Span(msgspec.Struct, gc=False):
    milliseconds: _Ms


class _Phrase(msgspec.Struct, gc=False, rename="camel"):
    """What is taken of a phrase; its words and all the rest are passed over unread."""

    duration: _Span | _Ms
    offset: _Span | _Ms | None = None
    start_time_ms: _EpochMs | None = None
    text: str | None = None
    decorated_text: str | None = None
    participant_purpose: str | None = None
    confidence: Confidence | None = None


class _NamedNobody(msgspec.Struct, gc=False):
    """A segment whose speaker may be told as unknown."""

    start_time: Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
    end_time: Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
    text: RawText
    speaker_id: str | None = None
    confidence: Confidence | None = None


class _Person(msgspec.Struct, gc=False, rename="camel"):
    id: str | None = None
    name: str | None = None
    role: str | None = None
    participant_purpose: str | None = None


class Unreadable(Exception):  # never leaves this package
    """JSON, but not what it should be; ``field`` is a fixed word of ours."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


_segments = msgspec.json.Decoder(list[Segment])
_segment = msgspec.json.Decoder(_NamedNobody)
_phrases = msgspec.json.Decoder(list[_Phrase])
_phrase = msgspec.json.Decoder(_Phrase)
_person = msgspec.json.Decoder(_Person)
_span = msgspec.json.Decoder(_Span | _Ms | None)
_epoch = msgspec.json.Decoder(_EpochMs | None)

_FIELDS = frozenset(
    {
        *Segment.__struct_fields__,
        *_Phrase.__struct_encode_fields__,
        *_Person.__struct_encode_fields__,
    }
)


def segments_of(block: bytes | memoryview) -> list[Segment]:
    """Return the segments of a JSON list.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: It is not such a list, or not as it should be.
        Unreadable: One ends before it begins.
    """
    segments = _segments.decode(block)
    if any([each.end_time < each.start_time for each in segments]):  # noqa: C419  # much faster
        raise Unreadable("end_time")
    return segments


def phrases_of(block: bytes | memoryview, started_ms: int) -> list[Segment]:
    """Return the phrases of a JSON list as segments.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, Unreadable: As ``segments_of``.
    """
    return [_spoken(each, started_ms) for each in _phrases.decode(block)]


def segment_of(value: bytes) -> Segment:
    """Return one segment.

    Raises:
        Unreadable: JSON, but no segment.
    """
    try:
        found = _segment.decode(value)
    except msgspec.DecodeError as exc:
        raise _unreadable(exc) from None
    if found.end_time < found.start_time:
        raise Unreadable("end_time")
    return Segment(
        found.start_time, found.end_time, found.text, found.speaker_id or "", found.confidence
    )


def phrase_of(value: bytes, started_ms: int) -> Segment:
    """Return one phrase as a segment.

    Raises:
        Unreadable: JSON, but no phrase.
    """
    try:
        return _spoken(_phrase.decode(value), started_ms)
    except msgspec.DecodeError as exc:
        raise _unreadable(exc) from None


def participant_of(value: bytes, *, by_purpose: bool) -> Participant:
    """Return a participant of the document's shape, or one that stands for a purpose.

    ``by_purpose`` says that the file is known to be the platform's.

    Raises:
        Unreadable: JSON, but no participant.
    """
    try:
        found = _person.decode(value)
    except msgspec.DecodeError as exc:
        raise _unreadable(exc) from None
    purpose = found.participant_purpose
    if purpose and (by_purpose or found.id is None):
        return Participant(purpose, role=purpose)
    if found.id is None:
        raise Unreadable("participantPurpose" if by_purpose else "id")
    return Participant(found.id, found.name or "", found.role or "")


def milliseconds_of(value: bytes) -> int:
    """Return a duration in milliseconds, 0 where it is none."""
    try:
        found = _span.decode(value)
    except msgspec.DecodeError:
        return 0
    return 0 if found is None else round(_ms(found))


def epoch_ms_of(value: bytes) -> int:
    """Return a time in milliseconds since 1970, 0 where it is none."""
    try:
        return _epoch.decode(value) or 0
    except msgspec.DecodeError:
        return 0


def _spoken(phrase: _Phrase, started_ms: int) -> Segment:
    if phrase.offset is not None:
        start_ms = _ms(phrase.offset)
    elif phrase.start_time_ms is not None and started_ms:
        start_ms = phrase.start_time_ms - started_ms
        if not 0 <= start_ms <= _MAX_MS:
            raise Unreadable("startTimeMs")
    else:
        raise Unreadable("offset")
    text = phrase.decorated_text or phrase.text
    if text is None:
        raise Unreadable("text")
    end_ms = start_ms + _ms(phrase.duration)
    return Segment(
        start_ms / 1000,
        end_ms / 1000,
        RawText(text),
        phrase.participant_purpose or "",
        phrase.confidence,
    )


def _ms(span: _Span | float) -> float:
    return span.milliseconds if isinstance(span, _Span) else span


def _unreadable(fault: msgspec.DecodeError) -> Unreadable:
    """Return which field is at fault, in a word of ours: a message may quote the file."""
    if not isinstance(fault, msgspec.ValidationError):
        return Unreadable("escape")  # the caller knows it to be JSON: half a surrogate pair
    text = str(fault)
    path, missing = _PATH.search(text), _MISSING.search(text)
    for found in (path, missing):
        if found is not None and found[1] in _FIELDS:
            return Unreadable(found[1])
    return Unreadable("element")
