"""A record in the two forms that leave the process: protobuf and one line of JSON.

Both hold every field of ``Record`` (``received_s`` excepted, which means nothing elsewhere),
and both are deterministic: a retry, today or after a restart, gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from steno._proto import steno_v1_pb2, transcript_v1_pb2
from steno.core.records import Record, SentencePayload
from steno.errors import IntegrityError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encoder = msgspec.json.Encoder()
_decode_sentence = msgspec.json.Decoder(SentencePayload).decode


class RecordJson(msgspec.Struct, frozen=True, gc=False):
    """The JSON form; ``at`` is RFC 3339 in UTC with microseconds, ``payload`` as stored."""

    id: str
    kind: str
    source: str
    conversation: str
    lane: str
    utterance: str
    revision: int
    key: str
    seq: int
    prev_seq: int
    origin: str
    at: str
    payload: msgspec.Raw


def rfc3339(at_us: int) -> str:
    """Return UTC microseconds as ``2024-01-15T10:30:00.123456Z``, always six digits."""
    at = _EPOCH + timedelta(microseconds=at_us)
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def to_json(record: Record) -> bytes:
    """Return the record as one JSON object without a line break.

    Raises:
        IntegrityError: The payload is not JSON, or a field is not valid Unicode; nothing of it
            is in the error.
    """
    payload = record.payload
    if b"\n" in payload or not payload:
        # A line break between tokens is legal JSON but would tear a line of JSON lines apart.
        payload = _compact(record)
    form = RecordJson(
        record.id,
        record.kind.value,
        record.source,
        record.conversation,
        record.lane,
        record.utterance,
        record.revision,
        record.key,
        record.seq,
        record.prev_seq,
        record.origin.value,
        rfc3339(record.at_us),
        msgspec.Raw(payload),
    )
    try:
        return _encoder.encode(form)
    except ValueError:
        raise IntegrityError("a record cannot be encoded", record=record.id) from None


def to_json_lines(records: Sequence[Record]) -> bytes:
    """Return the records as JSON lines, each ended by a line break.

    Raises:
        IntegrityError: A payload is not JSON.
    """
    return b"".join([to_json(record) + b"\n" for record in records])


def to_batch(number: int, records: Sequence[Record]) -> bytes:
    """Return a serialised ``steno.v1.RecordBatch``.

    Raises:
        IntegrityError: A field cannot be encoded (text that is not valid Unicode).
    """
    batch = steno_v1_pb2.RecordBatch(batch=number)
    add = batch.records.add
    try:
        for record in records:
            _fill(add(), record)
        return batch.SerializeToString()
    except (ValueError, TypeError):
        # The library's message quotes the text.
        raise IntegrityError("a record cannot be encoded", count=len(records)) from None


def _fill(message: steno_v1_pb2.Record, record: Record) -> None:
    # Set in place: half the CPU of the constructor with keywords, which also copies (1.4 µs).
    message.id = record.id
    message.kind = record.kind
    message.source = record.source
    message.conversation_id = record.conversation
    message.lane = record.lane
    message.utterance = record.utterance
    message.revision = record.revision
    message.key = record.key
    message.seq = record.seq
    message.prev_seq = record.prev_seq
    message.origin = record.origin
    message.at_us = record.at_us
    message.payload = record.payload


def to_transcript(record: Record) -> bytes:
    """Return a serialised ``transcript.v1.TranscriptMessage`` of a ``sentence`` record.

    Raises:
        IntegrityError: The payload is not that of a sentence.
    """
    try:
        sentence = _decode_sentence(record.payload)
        return transcript_v1_pb2.TranscriptMessage(
            conversation_id=record.conversation,
            participant_id=sentence.participant,
            sanitized_text=sentence.text,
            language=sentence.language,
            confidence=sentence.confidence,
            timestamp=sentence.completed_us,
        ).SerializeToString()
    except (msgspec.MsgspecError, ValueError, TypeError):
        raise IntegrityError("a sentence cannot be encoded", record=record.id) from None


def _compact(record: Record) -> bytes:
    try:
        return msgspec.json.format(record.payload, indent=-1)
    except msgspec.MsgspecError:
        raise IntegrityError("a payload is not JSON", record=record.id) from None
