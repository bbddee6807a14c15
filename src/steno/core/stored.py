"""Stored transcripts as values: what the archive reads, in whichever shape it was stored.

``Segment`` has the document's keys as its attributes, so it is decoded from the document's shape
and encoded into an archived payload without a step between. The platform's own files (phrases of
a communication) become the same values: ``speaker_id`` is then the phrase's
``participantPurpose``, times are seconds from the start of the communication.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from steno.core.transcript import RawText, Role


class StoredShape(StrEnum):
    """How a file is written."""

    DOCUMENT = "document"
    """``{"conversation", "participants": [...], "transcript": [...]}``."""
    PLATFORM = "platform"
    """``{"conversationId", "participants": [...], "transcripts": [{"phrases": [...]}]}``."""


MAX_SECONDS = 1e9
"""Beyond it a time is no place in a recording but a date."""

Seconds = Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Segment(msgspec.Struct, frozen=True, gc=False):
    """One turn of a stored transcript. The ranges are checked where one is decoded.

    Attributes:
        start_time, end_time: Seconds from the start of the conversation's audio.
        speaker_id: Id of a participant; empty where the file names nobody.
        confidence: 0..1; None where the file tells none.
    """

    start_time: Seconds
    end_time: Seconds
    text: RawText
    speaker_id: str = ""
    confidence: Confidence | None = None


class Participant(msgspec.Struct, frozen=True, gc=False):
    """Somebody who took part. ``role`` is the file's own word; ``role_of`` reads it."""

    id: str
    name: str = ""
    role: str = ""


class BadElement(msgspec.Struct, frozen=True, gc=False):
    """A segment that cannot be read: its index, the byte it begins at, and the field at fault.

    ``field`` is one of our own fixed words, never text of the file.
    """

    index: int
    offset: int
    field: str


class SegmentBatch(msgspec.Struct, frozen=True, gc=False):
    """Segments that came one after the other.

    Attributes:
        first: Index of the first in the file, bad ones counted.
        segments: Those that could be read.
        raw: The same as they stand in the file, with what else their objects hold, commas
            between them, nothing around; None where none was asked for, and for another shape.
        bad: Those that could not.
    """

    first: int
    segments: list[Segment]
    raw: bytes | None
    bad: tuple[BadElement, ...] = ()


class ParticipantsRead(msgspec.Struct, frozen=True, gc=False):
    """The list of participants, whole; it comes at most once, before or after segments.

    ``bad`` are those that could not be read, by their place in this list.
    """

    participants: tuple[Participant, ...]
    bad: tuple[BadElement, ...] = ()


class FieldsRead(msgspec.Struct, frozen=True, gc=False):
    """What else a file says at its top, at its end. Empty where it does not.

    Attributes:
        download_url: A presigned address: never to be logged or stored. ``repr`` leaves it out.
        has_transcript: There was a list of segments, be it empty.
        segments, bad: How many could be read, and could not.
        languages: Tags as they are written.
    """

    shape: StoredShape
    conversation: str = ""
    communication: str = ""
    status: str = ""
    download_url: str = ""
    has_transcript: bool = False
    segments: int = 0
    bad: int = 0
    started_ms: int = 0
    duration_ms: int = 0
    languages: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"FieldsRead(shape={self.shape!r}, segments={self.segments})"


StoredPart = SegmentBatch | ParticipantsRead | FieldsRead
"""What a parser gives, ``FieldsRead`` once and last."""

_AGENT = frozenset({"agent", "user", "internal", "supervisor", "coach"})
_CUSTOMER = frozenset({"customer", "external", "caller", "client", "consumer"})
_SYSTEM = frozenset({"system", "bot", "ivr", "acd", "workflow", "voicemail", "botflow"})


def role_of(word: str) -> Role:
    """Return who a file's word for a role or purpose means; ``UNKNOWN`` for any other."""
    known = word.strip().lower()
    if known in _AGENT:
        return Role.AGENT
    if known in _CUSTOMER:
        return Role.CUSTOMER
    return Role.SYSTEM if known in _SYSTEM else Role.UNKNOWN
