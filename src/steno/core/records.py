"""The record: whatever a capability finishes, stored first and delivered second.

A **draft** is a record before its commit; the store gives it an id (UUIDv7) and its place
(``seq``, ``prev_seq``) in the conversation inside the committing transaction.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a record's payload is. Only ever extended."""

    SENTENCE = "sentence"
    SEGMENT = "segment"
    JOB = "job"
    ARCHIVE = "archive"
    GAP = "gap"
    LANGUAGE_CHANGED = "language_changed"
    RECONCILED = "reconciled"
    SEGMENT_AUDIT = "segment_audit"


class Origin(StrEnum):
    """Heard live, or filled in afterwards from the stored transcript."""

    LIVE = "live"
    BACKFILL = "backfill"


class GapCause(StrEnum):
    """Why something may have been missed."""

    DISCONNECT = "disconnect"
    FAILOVER = "failover"
    SEQUENCE = "sequence"
    QUARANTINE = "quarantine"
    PROCESS_DOWN = "process_down"
    SHED = "shed"
    DISCARDED = "discarded"
    PAUSED = "paused"


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record that is not committed yet.

    Attributes:
        conversation: Empty for what concerns a whole source (a gap of the socket).
        key: ``record_key(...)``; with ``revision`` it is the idempotency key.
        at_us: When the thing happened, UTC microseconds.
        payload: Redacted JSON of the kind (``SentencePayload``, ``GapPayload``, ...).
        received_s: Monotonic seconds of its input, for latency; not stored.
        place_us: Where it belongs on the conversation's timeline, microseconds (UTC, or from the
            conversation's own zero); None keeps it off the timeline. Of a key, the timeline has
            the newest revision only.
    """

    kind: Kind
    source: str
    conversation: str
    lane: str
    utterance: str
    revision: int
    key: str
    origin: Origin
    at_us: int
    payload: bytes
    received_s: float = 0.0
    place_us: int | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A committed record.

    Attributes:
        id: UUIDv7, text form.
        seq: Position in the conversation, from 1, without holes at commit over all kinds.
        prev_seq: ``seq`` of the record before it in the conversation, whatever its kind; 0 for
            the first. A consumer that carries every kind detects a hole by comparing it.
        received_s: As in the draft while the record is in memory; 0 when read back.
    """

    id: str
    kind: Kind
    source: str
    conversation: str
    lane: str
    utterance: str
    revision: int
    key: str
    seq: int
    prev_seq: int
    origin: Origin
    at_us: int
    payload: bytes
    received_s: float = 0.0


class SentencePayload(msgspec.Struct, frozen=True, gc=False):
    """Payload of ``Kind.SENTENCE``: ``text`` is redacted, times are UTC microseconds."""

    participant: str
    text: str
    language: str
    confidence: float
    started_us: int
    ended_us: int
    completed_us: int
    role: str = "unknown"
    entities: dict[str, int] = {}


class SegmentPayload(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Payload of ``Kind.SEGMENT``: one finished piece of one speaker; ``text`` is redacted.

    Attributes:
        speaker: Label, local to the conversation: the source's own (`speaker_0`), or `agent`,
            `agent-2`, `customer`, `system` where the source has channels.
        started_us, ended_us: Bounds of the speech: UTC microseconds, or microseconds of the
            conversation's own clock where ``zero_us`` is 0.
        at_us: Receipt of the event that decided this revision, UTC microseconds.
        zero_us: Start of the conversation, UTC microseconds; 0 where the source has no UTC.
        is_final: The source will not change it any more. Only such segments are records.
        participant, user_id, name, communication: Who it was, where the platform tells.
    """

    speaker: str
    text: str
    started_us: int
    ended_us: int
    confidence: float
    at_us: int
    zero_us: int = 0
    is_final: bool = True
    role: str = "unknown"
    language: str = ""
    participant: str = ""
    user_id: str = ""
    name: str = ""
    communication: str = ""
    entities: dict[str, int] = {}


class AuditReason(StrEnum):
    """Why a segment did not enter the result."""

    LOW_CONFIDENCE = "low_confidence"
    NO_SPEAKER = "no_speaker"
    NEVER_FINAL = "never_final"
    BAD_TIMES = "bad_times"


class SegmentAuditPayload(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Payload of ``Kind.SEGMENT_AUDIT``: a segment that did not enter the result, and why."""

    reason: AuditReason
    segment: SegmentPayload


class JobPayload(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Payload of ``Kind.JOB``: how a transcription job ended, and what was said, redacted.

    Attributes:
        job: Our own id of the job; the record's ``conversation`` is the recording's id.
        status: ``completed``, ``failed`` or ``cancelled``.
        metrics: ``latency_seconds``, ``word_error_rate`` (an estimate; null without words),
            ``total_words``; empty for a job that did not complete.
        speakers: Turns: ``speaker_id text start_time end_time avg_confidence``.
        processed_at: RFC 3339, UTC.
        error: Error class of a job that failed.
        webhook: The request named one; its address is not in the record.
    """

    job: str
    recording_id: str
    transcript_id: str
    status: str
    metrics: dict[str, float | int | None]
    speakers: list[dict[str, str | float | None]]
    processed_at: str
    language: str = ""
    error: str = ""
    webhook: bool = False


class ArchivePayload(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Payload of ``Kind.ARCHIVE``: a stored transcript is archived. No text of it is here.

    Attributes:
        summary: The document's keys, and ``analysis`` where it was asked for.
        size, sha256: Of the object as it is stored.
        made_with: What shaped the content: ``document redacted`` and the like.
    """

    summary: dict[str, object]
    key: str
    url: str
    size: int
    sha256: str
    communication: str = ""
    made_with: str = ""
    content_encoding: str = ""


class GapPayload(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Payload of ``Kind.GAP``: an interval in which something may have been missed.

    ``from_us``/``to_us`` are UTC microseconds; ``from_samples``/``to_samples`` are set for
    audio. ``to_us`` and ``closed_at_us`` are 0 while the gap is open.
    """

    source: str
    cause: GapCause
    from_us: int
    opened_at_us: int
    to_us: int = 0
    closed_at_us: int = 0
    conversation: str = ""
    lane: str = ""
    from_samples: int = 0
    to_samples: int = 0
    size_bytes: int = 0
    sha256: str = ""
    detail: str = ""


class LanguageChangedPayload(msgspec.Struct, frozen=True, gc=False):
    """Payload of ``Kind.LANGUAGE_CHANGED``.

    ``applied`` tells whether the platform's model was switched; the real platform has no
    such call, so there the record itself is the message.
    """

    previous: str
    language: str
    mean_confidence: float
    evidence: int
    applied: bool


class ReconciledPayload(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Payload of ``Kind.RECONCILED``: a conversation's delivery held against its transcript.

    ``expected`` segments of the stored transcript are ``delivered_live``, ``backfilled`` (by this
    repair or an earlier one) or ``missing``.

    Attributes:
        missing: Not delivered and not filled in: those ``outside`` every gap, unless everything
            was asked for, and those that are ``unreadable`` or whose redaction failed.
        ratio: Share of ``expected`` that has been delivered, either way; null without any.
        gaps: Stretches of time in the conversation in which something may have been missed.
        transcript: Why there is nothing to compare with: ``missing``, ``empty``, ``legacy`` or
            ``failed``.
    """

    expected: int
    delivered_live: int
    backfilled: int
    missing: int
    ratio: float | None
    outside: int = 0
    unreadable: int = 0
    gaps: int = 0
    transcript: str = ""


def record_key(host_group: str, conversation: str, lane: str, utterance: str) -> str:
    """Return the SHA-256 hex key that every retry, restart and backfill computes alike.

    Args:
        host_group: Organisation, or the primary host's name: primary and backup are one.
    """
    joined = "\x1f".join((host_group, conversation, lane, utterance))
    return hashlib.sha256(joined.encode()).hexdigest()
