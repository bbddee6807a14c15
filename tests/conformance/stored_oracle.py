"""What a stored transcript says, by decoding it whole: the rules once more, without streaming.

Nothing here is shared with the parser but the values it gives. ``Refused`` stands for every
error; what is asked of the parser is that it says the same whenever this says anything.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import NoReturn

from steno.core.stored import MAX_SECONDS, FieldsRead, Participant, Segment, StoredShape
from steno.core.transcript import RawText

_LISTS = ("transcript", "transcripts", "participants", "phrases")
_PLATFORM = ("communicationId", "conversationId", "transcripts")


class Refused(Exception):
    """The file is no stored transcript, or asks for more than this can do."""


class Pairs(list[tuple[str, object]]):
    """An object as it is written: members in their order, doubled ones doubled."""

    def last(self, key: str) -> object:
        """Return the last value of a key; None where there is none."""
        return next((value for name, value in reversed(self) if name == key), None)

    def each(self, key: str) -> list[object]:
        """Return all values of a key."""
        return [value for name, value in self if name == key]


@dataclass
class Told:
    """What a file says."""

    segments: list[Segment] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    participants: tuple[Participant, ...] | None = None
    bad_participants: list[int] = field(default_factory=list)
    fields: FieldsRead | None = None


def read_whole(body: bytes) -> Told:
    """Return what a file says.

    Raises:
        Refused: It is no stored transcript.
    """
    try:
        text = body.removeprefix(b"\xef\xbb\xbf").decode()
        whole = json.loads(text, object_pairs_hook=Pairs, parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise Refused(type(exc).__name__) from exc
    reader = _Reader()
    if isinstance(whole, Pairs):
        reader.top(whole)
    elif isinstance(whole, list):
        reader.has_transcript = True
        reader.segments(whole)
    else:
        raise Refused("top")
    return reader.told()


def _refuse(_: str) -> NoReturn:
    raise ValueError("constant")


class _Reader:
    def __init__(self) -> None:
        self.has_transcript = False
        self._told = Told()
        self._texts: dict[str, str] = {}
        self._times: dict[str, int] = {}
        self._languages: dict[str, None] = {}
        self._platform = False

    def told(self) -> Told:
        told = self._told
        told.fields = FieldsRead(
            StoredShape.PLATFORM if self._platform else StoredShape.DOCUMENT,
            conversation=self._texts.get("conversation", ""),
            communication=self._texts.get("communicationId", ""),
            status=self._texts.get("status", ""),
            download_url=self._texts.get("downloadUrl", ""),
            has_transcript=self.has_transcript,
            segments=len(told.segments),
            bad=len(told.bad),
            started_ms=self._times.get("startTime", 0),
            duration_ms=self._times.get("duration", 0),
            languages=tuple(self._languages),
        )
        return told

    def top(self, members: Pairs) -> None:
        seen: set[str] = set()
        for key, value in members:
            self._platform |= key in _PLATFORM
            if key in _LISTS[:3] and value is not None:
                if not isinstance(value, list) or isinstance(value, Pairs):
                    raise Refused("list")
                if key in seen or {"transcript", "transcripts"} <= {*seen, key}:
                    raise Refused("second list")
                seen.add(key)
                self._list(key, value)
            elif key not in _LISTS[:3]:
                self._member(key, value)

    def _list(self, key: str, value: list[object]) -> None:
        if key == "participants":
            self._participants(value)
            return
        self.has_transcript = True
        if key == "transcript":
            self._platform = False
            self.segments(value)
            return
        for each in value:
            if not isinstance(each, Pairs):
                raise Refused("transcripts")
            self._transcript(each)

    def _member(self, key: str, value: object) -> None:
        if key == "duration":
            self._times[key] = _duration(value)
        elif key == "startTime":
            self._times[key] = _epoch(value)
        elif key in ("conversation", "conversationId", "communicationId", "status", "downloadUrl"):
            if key == "conversation" and isinstance(value, Pairs):
                if _halves(value) or not all(isinstance(each, str) for each in value.each("id")):
                    raise Refused("conversation")
                value = value.last("id") or ""
            text = "" if value is None else value
            if not isinstance(text, str) or _halves(text):
                raise Refused("text")
            if text:
                self._texts["conversation" if key == "conversationId" else key] = text

    def _transcript(self, run: Pairs) -> None:
        started_ms = 0
        seen = False
        for key, value in run:
            if key == "startTime":
                started_ms = _epoch(value)
            elif key == "language" and value is not None:
                if not isinstance(value, str) or _halves(value):
                    raise Refused("language")
                if value:
                    self._languages[value] = None
            elif key == "phrases" and value is not None:
                if seen or not isinstance(value, list) or isinstance(value, Pairs):
                    raise Refused("phrases")
                seen = True
                origin = self._times.get("startTime", 0) or started_ms
                for each in value:
                    self._add(_phrase(each, origin))

    def segments(self, elements: list[object]) -> None:
        for each in elements:
            self._add(_segment(each))

    def _add(self, segment: Segment | None) -> None:
        told = self._told
        if segment is None:
            told.bad.append(len(told.bad) + len(told.segments))
        else:
            told.segments.append(segment)

    def _participants(self, elements: list[object]) -> None:
        found: dict[str, Participant] = {}
        for place, each in enumerate(elements):
            one = _participant(each, by_purpose=self._platform)
            if one is None:
                self._told.bad_participants.append(place)
            else:
                found.setdefault(one.id, one)
        self._told.participants = tuple(found.values())


def _segment(value: object) -> Segment | None:
    if not isinstance(value, Pairs) or _halves(value):
        return None
    for key in ("start_time", "end_time"):
        if not value.each(key) or not all(_is_in(each, MAX_SECONDS) for each in value.each(key)):
            return None
    if not value.each("text") or not all(isinstance(each, str) for each in value.each("text")):
        return None
    if not _are_texts_or_none(value, "speaker_id") or not _are_confidences(value):
        return None
    start, end = _number(value.last("start_time")), _number(value.last("end_time"))
    text, speaker = value.last("text"), value.last("speaker_id") or ""
    confidence = value.last("confidence")
    assert isinstance(text, str)
    assert isinstance(speaker, str)
    known = None if confidence is None else _number(confidence)
    return Segment(start, end, RawText(text), speaker, known) if end >= start else None


def _phrase(value: object, origin_ms: int) -> Segment | None:
    if not isinstance(value, Pairs) or _halves(value) or not _are_confidences(value):
        return None
    names = ("text", "decoratedText", "participantPurpose")
    if not all(_are_texts_or_none(value, key) for key in names):
        return None
    durations = [_span(each) for each in value.each("duration")]
    offsets = [0.0 if each is None else _span(each) for each in value.each("offset")]
    starts = value.each("startTimeMs")
    if None in durations or not durations or None in offsets:
        return None
    if not all(each is None or _is_epoch(each) for each in starts):
        return None
    absolute = value.last("startTimeMs")
    if value.last("offset") is not None:
        begin = offsets[-1]
    elif isinstance(absolute, int) and origin_ms:
        begin = absolute - origin_ms
    else:
        return None
    text = value.last("decoratedText") or value.last("text")
    if not isinstance(text, str) or begin is None or not 0 <= begin <= MAX_SECONDS * 1000:
        return None
    duration = durations[-1]
    assert duration is not None
    confidence = value.last("confidence")
    return Segment(
        begin / 1000,
        (begin + duration) / 1000,
        RawText(text),
        str(value.last("participantPurpose") or ""),
        None if confidence is None else _number(confidence),
    )


def _participant(value: object, *, by_purpose: bool) -> Participant | None:
    if not isinstance(value, Pairs) or _halves(value):
        return None
    names = ("id", "name", "role", "participantPurpose")
    if not all(_are_texts_or_none(value, key) for key in names):
        return None
    ident, name, role, purpose = (value.last(key) for key in names)
    if purpose and (by_purpose or ident is None):
        return Participant(str(purpose), role=str(purpose))
    return None if ident is None else Participant(str(ident), str(name or ""), str(role or ""))


def _are_texts_or_none(value: Pairs, key: str) -> bool:
    return all(each is None or isinstance(each, str) for each in value.each(key))


def _are_confidences(value: Pairs) -> bool:
    return all(each is None or _is_in(each, 1) for each in value.each("confidence"))


def _is_in(value: object, most: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= most and math.isfinite(value)


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _is_epoch(value: object) -> bool:
    return isinstance(value, int) and _is_in(value, 1 << 53)


def _epoch(value: object) -> int:
    return int(_number(value)) if _is_epoch(value) else 0


def _span(value: object) -> float | None:
    if isinstance(value, Pairs):
        found = value.each("milliseconds")
        if not found or not all(_is_in(each, MAX_SECONDS * 1000) for each in found):
            return None
        return _number(found[-1])
    return _number(value) if _is_in(value, MAX_SECONDS * 1000) else None


def _duration(value: object) -> int:
    found = None if _halves(value) else _span(value)
    return 0 if found is None else round(found)


def _halves(value: object) -> bool:
    """Whether there is half a surrogate pair in it, anywhere."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value)
    if isinstance(value, Pairs):
        return any(_halves(key) or _halves(each) for key, each in value)
    return isinstance(value, list) and any(_halves(each) for each in value)
