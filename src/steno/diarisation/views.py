"""Stored segments as they are exported: filtered, marked, merged.

Everything here is a pass over one conversation in order of its timeline. What is held in memory
is what begins at one moment, what overlaps, or one turn, each with a limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Final

import msgspec

from steno.core.records import Record, SegmentPayload
from steno.errors import IntegrityError

MAX_SIDE_BY_SIDE: Final = 1000
"""Segments held to put those of one moment in order, and to find out who overlaps.

Beyond it the oldest goes out as it is: not marked, or in order of commit.
"""

MAX_TURN_CHARS: Final = 1_000_000
"""A turn whose text has reached this length ends there."""

# A clock of the conversation's own cannot have come so far (three years); UTC is far beyond.
_UTC_US: Final = 100_000_000_000_000
_LAST_US: Final = 253_402_300_799_999_999  # the end of the year 9999: later is no date

_decode = msgspec.json.Decoder(SegmentPayload).decode
_Heard = tuple[SegmentPayload, Record]


class SegmentView(msgspec.Struct, frozen=True, gc=False):
    """A segment as exports and reports see it.

    Attributes:
        start_us, end_us: Microseconds from the start of the conversation.
        at_us: Receipt of the event that decided it, UTC microseconds.
        zero_us: From which they count, UTC microseconds; 0 where the source has no UTC.
        overlap: Somebody else speaks at the same time, in what is exported.
        key, revision: Identity of the segment's record; of a merged turn its first segment's.
        parts: Segments merged into it.
    """

    conversation: str
    speaker: str
    text: str
    start_us: int
    end_us: int
    confidence: float
    is_final: bool
    at_us: int
    zero_us: int = 0
    role: str = "unknown"
    language: str = ""
    participant: str = ""
    user_id: str = ""
    name: str = ""
    communication: str = ""
    overlap: bool = False
    key: str = ""
    revision: int = 0
    parts: int = 1


def views(records: Iterable[Record], *, min_confidence: float) -> Iterator[SegmentView]:
    """Yield one conversation's segments, those below the confidence left out.

    Order: by start, then end, speaker and key, whatever the order of commit was. Times count
    from the start of the conversation that its first record tells, whether or not that one is
    exported; what is said before it starts at 0.

    Args:
        records: Of one conversation, by place (``Timeline.read``).

    Raises:
        IntegrityError: A record is not a segment's.
    """
    return _marked(_heard(records), min_confidence)


def turns(segments: Iterable[SegmentView], pause_s: float) -> Iterator[SegmentView]:
    """Yield turns: segments of one speaker merged while nobody else begins between them.

    Args:
        segments: Of one conversation, in the order of ``views``.
        pause_s: Longest silence inside a turn, seconds; 0 merges what touches or overlaps.
    """
    pause_us = round(pause_s * 1_000_000)
    parts: list[SegmentView] = []
    end_us = chars = 0
    for view in segments:
        if parts and (
            view.speaker != parts[0].speaker
            or view.conversation != parts[0].conversation
            or view.start_us - end_us > pause_us
            or chars >= MAX_TURN_CHARS
        ):
            yield _merged(parts, end_us)
            parts, end_us, chars = [], 0, 0
        parts.append(view)
        end_us = max(end_us, view.end_us)
        chars += len(view.text) + 1
    if parts:
        yield _merged(parts, end_us)


def view_of(
    record: Record, payload: SegmentPayload, *, zero_us: int, overlap: bool = False
) -> SegmentView:
    """Return a record's view.

    Args:
        zero_us: From which its times count, on the clock of its payload.
    """
    start_us = max(0, payload.started_us - zero_us)
    return SegmentView(
        record.conversation,
        payload.speaker,
        payload.text,
        start_us,
        max(start_us, payload.ended_us - zero_us),
        payload.confidence,
        payload.is_final,
        min(max(payload.at_us, 0), _LAST_US),
        zero_us,
        payload.role,
        payload.language,
        payload.participant,
        payload.user_id,
        payload.name,
        payload.communication,
        overlap,
        record.key,
        record.revision,
    )


def payload_of(record: Record) -> SegmentPayload:
    """Decode a record's payload.

    Raises:
        IntegrityError: It is not that of a segment.
    """
    try:
        return _decode(record.payload)
    except (msgspec.MsgspecError, ValueError):
        # The library's message may quote the text.
        raise IntegrityError("a segment's record is damaged", record=record.id) from None


def zero_of(payload: SegmentPayload) -> int:
    """Return the start of the conversation on the payload's clock, as far as it tells.

    A UTC source that does not know it yet leaves the first segment's start to count from.
    """
    if payload.zero_us:
        return payload.zero_us
    return payload.started_us if payload.started_us >= _UTC_US else 0


def _heard(records: Iterable[Record]) -> Iterator[_Heard]:
    """Decode, and order what has one place: its order of commit is accidental."""
    held: list[_Heard] = []
    place = 0
    for record in records:
        payload = payload_of(record)
        here = max(0, payload.started_us)  # as on the timeline
        if held and (here != place or len(held) >= MAX_SIDE_BY_SIDE):
            yield from _in_order(held)
            held = []
        place = here
        held.append((payload, record))
    yield from _in_order(held)


def _in_order(held: list[_Heard]) -> list[_Heard]:
    if len(held) > 1:
        held.sort(key=lambda one: (one[0].started_us, one[0].ended_us, one[0].speaker, one[1].key))
    return held


class _Waiting:
    """A segment whose turn to go out has not come, or that a later one may still overlap."""

    __slots__ = ("end_us", "overlap", "payload", "record", "speaker")

    def __init__(
        self, payload: SegmentPayload, record: Record, end_us: int, *, overlap: bool
    ) -> None:
        self.payload = payload
        self.record = record
        self.speaker = payload.speaker
        self.end_us = end_us
        self.overlap = overlap


def _marked(heard: Iterator[_Heard], min_confidence: float) -> Iterator[SegmentView]:
    """Filter, and mark overlaps: a segment goes out when nothing later can overlap it.

    Of the earlier ones it is enough to know who speaks longest, and who longest beside them.
    """
    first = next(heard, None)
    if first is None:
        return
    zero_us = zero_of(first[0])
    waiting: deque[_Waiting] = deque()
    undecided: list[_Waiting] = []  # those of `waiting` that a later one may still overlap
    longest, longest_us, second_us = "", -1, -1
    for payload, record in chain((first,), heard):
        if payload.confidence < min_confidence:
            continue
        speaker = payload.speaker
        start_us = max(zero_us, payload.started_us)
        end_us = max(start_us, payload.ended_us)
        takes_time = end_us > start_us
        others_us = second_us if speaker == longest else longest_us
        new = _Waiting(payload, record, end_us, overlap=takes_time and others_us > start_us)
        if undecided:
            still = []
            for one in undecided:
                if one.end_us <= start_us:
                    continue
                if takes_time and one.speaker != speaker:
                    one.overlap = True
                else:
                    still.append(one)
            undecided = still
        if not new.overlap and takes_time:
            undecided.append(new)
        waiting.append(new)
        if speaker == longest:
            longest_us = max(longest_us, end_us)
        elif end_us > longest_us:
            longest, longest_us, second_us = speaker, end_us, longest_us
        else:
            second_us = max(second_us, end_us)
        # Whatever is neither marked nor undecided is decided.
        if len(waiting) > MAX_SIDE_BY_SIDE and undecided and undecided[0] is waiting[0]:
            undecided.pop(0)
        while waiting and (not undecided or undecided[0] is not waiting[0]):
            yield _gone(waiting, zero_us)
    while waiting:
        yield _gone(waiting, zero_us)


def _gone(waiting: deque[_Waiting], zero_us: int) -> SegmentView:
    one = waiting.popleft()
    return view_of(one.record, one.payload, zero_us=zero_us, overlap=one.overlap)


def _merged(parts: list[SegmentView], end_us: int) -> SegmentView:
    first = parts[0]
    if len(parts) == 1:
        return first
    weights = [part.end_us - part.start_us for part in parts]
    total = sum(weights)
    if not total:
        weights, total = [1] * len(parts), len(parts)
    confidence = sum(map(float.__mul__, map(attrgetter("confidence"), parts), map(float, weights)))
    return msgspec.structs.replace(
        first,
        text=" ".join([part.text for part in parts if part.text]),
        end_us=end_us,
        confidence=confidence / total,
        is_final=all(part.is_final for part in parts),
        at_us=max(part.at_us for part in parts),
        overlap=any(part.overlap for part in parts),
        parts=sum(part.parts for part in parts),
    )
