"""Frames that break the protocol, for the fault ``malformed``.

They stand beside what is really said: a conversation of their own, never part of the truth.
"""

from __future__ import annotations

from typing import assert_never

from aiohttp import WSMsgType

from steno_sim.faults import Form

_STREAM = (
    b'{"event":"TRANSCRIPT_UPDATE","conversationId":"fa017000-0000-4000-8000-000000000000",'
    b'"participantId":"fa017000-0000-4000-8000-000000000001","transcript":"never said",'
    b'"confidence":0.9,"isFinal":true,"language":"en-US","timestamp":"2026-01-01T00:00:00Z"}'
)
_EVENT = (
    b'{"type":"conversation.transcription.update","data":'
    b'{"eventType":"conversation.transcription.update",'
    b'"conversationId":"fa017000-0000-4000-8000-000000000000","transcripts":['
    b'{"speaker":"speaker_0","text":"never said","start":1.0,"end":2.0,'
    b'"confidence":0.9,"isFinal":true}]}}'
)


def malformed(form: Form, *, event: bool = False) -> tuple[bytes, WSMsgType]:
    """Give a frame that breaks the protocol in the way a fault asks for.

    Args:
        form: The way.
        event: For an event socket; else for the stream and for channels.
    """
    sample = _EVENT if event else _STREAM
    text, binary = WSMsgType.TEXT, WSMsgType.BINARY
    match form:
        case "invalid_json":
            return b'{"event":"TRANSCRIPT_UPDATE",,}', text
        case "truncated":
            return sample[:120], text
        case "wrong_types":
            wrong = sample.replace(b'"confidence":0.9', b'"confidence":"high"')
            return wrong.replace(b'"isFinal":true', b'"isFinal":"yes"'), text
        case "missing_fields":
            return _missing(event), text
        case "binary":
            return bytes(range(256)), binary
        case "invalid_utf8":
            return sample.replace(b"never said", b"never \xff\xfe said"), text
        case "huge":
            return sample.replace(b"never said", b"never said " * 400_000), text
        case "unknown_event":
            return _unknown(event), text
        case "array":
            return b"[1,2,3]", text
        case "bad_times":
            return sample.replace(b'"end":2.0', b'"end":0.5'), text
        case _:
            assert_never(form)


def _missing(event: bool) -> bytes:
    if event:
        return b'{"type":"conversation.transcription.update","data":{"transcripts":[{"text":"x"}]}}'
    return b'{"event":"TRANSCRIPT_UPDATE","transcript":"never said"}'


def _unknown(event: bool) -> bytes:
    if event:
        return b'{"type":"conversation.something.new","data":{"eventType":"something.new"}}'
    return b'{"event":"SOMETHING_NEW","topicName":"v2.unknown","eventBody":{}}'
