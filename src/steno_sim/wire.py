"""What the simulator writes on the wire, in the exact shapes of all families.

Transcript stream: the tutorial's ``TRANSCRIPT_UPDATE`` message, keys in its order.
Event socket: the other tutorial's ``conversation.transcription.update``.
Notifications: the platform's event envelope and the schema of the transcription topic,
conversation topics and control messages. Pure; times are UTC microseconds.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from steno_sim.pieces import Piece, Plan, Script, Utterance, What
from steno_sim.speech import spoken

ORGANIZATION_ID = "5a1c3e70-4b2d-4c6e-8f90-1a2b3c4d5e6f"
EventForm = Literal["wrapped", "bare", "mixed"]
SEGMENT_EVENT = "conversation.transcription.update"
_encode = msgspec.json.encode


class StreamMessage(msgspec.Struct):
    """A message of the transcript stream."""

    event: str
    conversationId: str  # noqa: N815 - the wire's own name
    participantId: str  # noqa: N815 - the wire's own name
    transcript: str
    confidence: float
    isFinal: bool  # noqa: N815 - the wire's own name
    language: str
    timestamp: str


class SegmentMessage(msgspec.Struct):
    """One entry of ``transcripts`` in an event of the event socket."""

    speaker: str | msgspec.UnsetType
    text: str
    start: float
    end: float
    confidence: float
    isFinal: bool  # noqa: N815 - the wire's own name


class _SegmentEvent(msgspec.Struct):
    eventType: str  # noqa: N815 - the wire's own name
    conversationId: str  # noqa: N815 - the wire's own name
    transcripts: list[SegmentMessage]


class _Wrapped(msgspec.Struct):
    type: str
    data: _SegmentEvent


def update_event(script: Script, plan: Plan, pieces: list[Piece], form: EventForm) -> bytes:
    """Give the event of the event socket that tells of some fragments of a conversation."""
    event = _SegmentEvent(SEGMENT_EVENT, plan.id, [_segment(script, piece) for piece in pieces])
    bare = form == "bare" or (form == "mixed" and pieces[-1].key % 2 == 1)
    return _encode(event if bare else _Wrapped(SEGMENT_EVENT, event))


def _segment(script: Script, piece: Piece) -> SegmentMessage:
    return SegmentMessage(
        # A provider that does not tell speakers apart has no such field at all.
        msgspec.UNSET if piece.channel == "BOTH" else piece.speaker,
        script.whole(piece),
        piece.begin_us / 1e6,
        piece.until_us / 1e6,
        piece.confidence,
        piece.final,
    )


class _Stamp:
    """RFC 3339 text of microseconds; keeps the last second's text, as most calls need it."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def __call__(self, at_us: int) -> str:
        second, micro = divmod(at_us, 1_000_000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{micro:06d}Z"


stamp = _Stamp()


def milli_stamp(at_us: int) -> str:
    """Give RFC 3339 text with milliseconds, as the platform writes its times."""
    return f"{stamp(at_us)[:-4]}Z"


def stream_message(
    piece: Piece, plan: Plan, participant: str, language: str, *, at_us: int
) -> bytes:
    """Give the transcript stream's message of a fragment."""
    return _encode(
        StreamMessage(
            "TRANSCRIPT_UPDATE",
            plan.id,
            participant,
            piece.text,
            piece.confidence,
            piece.final,
            language,
            stamp(at_us),
        )
    )


def envelope(topic: str, body: dict[str, Any], *, correlation: str = "") -> bytes:
    """Give the event message of a topic; its id is a random one when none is given."""
    return _encode(
        {
            "topicName": topic,
            "version": "2",
            "eventBody": body,
            "metadata": {"CorrelationId": correlation or str(uuid.uuid4())},
        }
    )


def control(message: str) -> bytes:
    """Give a ``channel.metadata`` message: the heartbeat or the pong."""
    return _encode({"topicName": "channel.metadata", "eventBody": {"message": message}})


def socket_closing() -> bytes:
    """Give the notice that the socket will be closed within a minute."""
    return _encode(
        {
            "topicName": "v2.system.socket_closing",
            "version": "2",
            "eventBody": {"message": "The socket will be closed soon, connect again"},
        }
    )


def transcription_topic(conversation_id: str) -> str:
    """Give the topic of a conversation's live transcript."""
    return f"v2.conversations.{conversation_id}.transcription"


def session_event(
    piece: Piece, plan: Plan, *, at_us: int, start_us: int, correlation: str = ""
) -> bytes:
    """Give a status-only event: the session goes on, or ended."""
    ended = piece.what is What.SESSION_ENDED
    body = _session_body(piece, plan, at_us, start_us)
    body["status"] = {
        "offsetMs": max(0, (at_us - start_us) // 1000),
        "status": "SESSION_ENDED" if ended else "SESSION_ONGOING",
    }
    return envelope(transcription_topic(plan.id), body, correlation=correlation)


def transcript_event(
    piece: Piece,
    plan: Plan,
    utterance: Utterance,
    text: str,
    *,
    at_us: int,
    start_us: int,
    offset_ms: int,
    duration_ms: int,
    correlation: str = "",
) -> bytes:
    """Give the transcription topic's event of an utterance as far as it is known.

    Args:
        piece: The fragment that made the platform send it.
        plan: The conversation.
        utterance: What the fragment belongs to.
        text: Displayed text of the utterance up to this fragment.
        at_us: Time of the event, UTC.
        start_us: Start of the communication session, UTC.
        offset_ms: Start of the speech from the start of transcription.
        duration_ms: Its length so far.
        correlation: Id of the event; a random one when empty.
    """
    said = spoken(text, utterance.language)
    body = _session_body(piece, plan, at_us, start_us)
    body["transcripts"] = [
        {
            "utteranceId": utterance.id,
            "isFinal": piece.final,
            "channel": piece.channel,
            "engineProvider": "GENESYS",
            "engineId": "r2d2",
            "engineName": "r2d2",
            "dialect": utterance.language,
            "agentAssistEnabled": False,
            "voiceTranscriptionEnabled": True,
            "alternatives": [
                {
                    "confidence": piece.confidence,
                    "offsetMs": offset_ms,
                    "durationMs": duration_ms,
                    "transcript": said,
                    "words": _words(said, piece.confidence, offset_ms, duration_ms),
                    "decoratedTranscript": text,
                    "decoratedWords": _words(text, piece.confidence, offset_ms, duration_ms),
                }
            ],
        }
    ]
    body["status"] = {"offsetMs": offset_ms, "status": "SESSION_ONGOING"}
    return envelope(transcription_topic(plan.id), body, correlation=correlation)


def _session_body(piece: Piece, plan: Plan, at_us: int, start_us: int) -> dict[str, Any]:
    return {
        "eventTime": milli_stamp(at_us),
        "organizationId": ORGANIZATION_ID,
        "conversationId": plan.id,
        "communicationId": plan.communications[piece.leg - 1],
        "sessionStartTimeMs": start_us // 1000,
        "transcriptionStartTimeMs": start_us // 1000,
    }


def _words(text: str, confidence: float, offset_ms: int, duration_ms: int) -> list[dict[str, Any]]:
    """Give the words of a text, its time shared out by their lengths."""
    words = text.split()
    total = sum(len(w) for w in words) or 1
    out: list[dict[str, Any]] = []
    passed = 0
    for word in words:
        begin = offset_ms + duration_ms * passed // total
        passed += len(word)
        end = offset_ms + duration_ms * passed // total
        out.append(
            {
                "confidence": confidence,
                "offsetMs": begin,
                "durationMs": end - begin,
                "word": word,
            }
        )
    return out


def conversation_topics(plan: Plan, users: list[str]) -> list[str]:
    """Give the topics that announce a conversation: its queue's, and those of users in it."""
    return [
        f"v2.routing.queues.{plan.queue}.conversations",
        f"v2.routing.queues.{plan.queue}.conversations.calls",
        *(
            f"v2.users.{user}.{kind}"
            for user in users
            for kind in ("conversations", "conversations.calls")
        ),
    ]
