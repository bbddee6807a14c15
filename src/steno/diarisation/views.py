"""Stored segments as they are exported: filtered, marked, merged."""

from __future__ import annotations

import msgspec


class SegmentView(msgspec.Struct, frozen=True, gc=False):
    """A segment as exports and reports see it.

    Attributes:
        start_us, end_us: Microseconds from the start of the conversation.
        at_us: Receipt of the event that decided it, UTC microseconds.
        zero_us: Start of the conversation, UTC microseconds; 0 where nobody knows it.
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
