"""What the sources decode into and what every later step works on.

Times are UTC microseconds since the epoch (``_us``): integers compare and add exactly, and
one is made for every fragment on the hot path. They become RFC 3339 text at the edges.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

import msgspec

RawText = NewType("RawText", str)
"""Text that redaction has not seen. It reaches no sink, log, metric or error."""

RedactedText = NewType("RedactedText", str)
"""Text that redaction has passed. Only ``steno.redaction`` makes one."""


class Role(StrEnum):
    """Who speaks, as far as the source tells."""

    AGENT = "agent"
    CUSTOMER = "customer"
    SYSTEM = "system"
    UNKNOWN = "unknown"


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """One message's piece of speech of one participant, as the source sent it.

    Attributes:
        conversation: The platform's conversation id.
        lane: Participant id, or ``communication/channel`` where the source has channels, or
            the speaker's label where it has those (empty: it names nobody).
        text: What was said; an increment, or a growing partial of the same utterance.
        confidence: 0..1.
        is_final: The source will not change this piece any more.
        language: BCP-47 tag as sent; compare case-insensitively.
        at_us: The source's own time of this piece.
        utterance: The source's utterance id; empty where it has none.
        started_us, ended_us: Bounds of the speech where the source tells; else 0. UTC, except
            where the source has only a clock of the conversation's own, from 0 (event socket).
        role: Who speaks, where the source tells.
        received_s: Monotonic seconds at which the message was read, for latency.
        zero_us: UTC microseconds of the source's zero of this communication, where it tells.
    """

    conversation: str
    lane: str
    text: RawText
    confidence: float
    is_final: bool
    language: str
    at_us: int
    utterance: str = ""
    started_us: int = 0
    ended_us: int = 0
    role: Role = Role.UNKNOWN
    received_s: float = 0.0
    zero_us: int = 0


class Sentence(msgspec.Struct, frozen=True, gc=False):
    """A finished sentence of one participant, not yet redacted.

    Attributes:
        utterance: Stable id: the source's utterance id and the sentence's index in it, or the
            UTC microseconds of the window's first fragment and that index.
        revision: 0 at first; higher when late words changed the sentence.
        confidence: Length-weighted mean over the sentence's own parts.
        started_us, ended_us: Bounds over the sentence's own parts.
        completed_us: Time of the fragment that completed it.
        received_s: Monotonic seconds at which that fragment was read.
    """

    conversation: str
    lane: str
    utterance: str
    revision: int
    text: RawText
    language: str
    confidence: float
    started_us: int
    ended_us: int
    completed_us: int
    role: Role = Role.UNKNOWN
    received_s: float = 0.0


class RedactedSentence(msgspec.Struct, frozen=True, gc=False):
    """A sentence that redaction has passed, with the number of spans removed by entity."""

    sentence: Sentence
    text: RedactedText
    entities: dict[str, int]
