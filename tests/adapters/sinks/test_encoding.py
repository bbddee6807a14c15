"""The two outgoing forms of a record."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.sink_rules import AT_US, sentence
from steno._proto import steno_v1_pb2, transcript_v1_pb2
from steno.adapters.sinks.encoding import (
    RecordJson,
    rfc3339,
    to_batch,
    to_json,
    to_json_lines,
    to_transcript,
)
from steno.core.records import Record
from steno.errors import IntegrityError

FULL = sentence("alpha", 7, revision=3)


def test_every_field_fills_the_protobuf_form() -> None:
    """A record with every field set leaves no field of the message unset, and none is mixed up."""
    (message,) = steno_v1_pb2.RecordBatch.FromString(to_batch(1, [FULL])).records
    assert len(message.ListFields()) == len(message.DESCRIPTOR.fields)
    renamed = {"conversation": "conversation_id"}
    for name in set(Record.__struct_fields__) - {"received_s"}:
        assert getattr(message, renamed.get(name, name)) == getattr(FULL, name), name


def test_every_field_fills_the_document_s_form() -> None:
    """A sentence fills every field of the document's message."""
    message = transcript_v1_pb2.TranscriptMessage.FromString(to_transcript(FULL))
    assert len(message.ListFields()) == len(message.DESCRIPTOR.fields)


def test_every_field_fills_the_json_form() -> None:
    """The JSON form has every field of the record under its own name, ``at`` in RFC 3339."""
    found = json.loads(to_json(FULL))
    assert set(found) == set(RecordJson.__struct_fields__)
    assert found.pop("at") == "2024-01-15T10:30:00.123456Z"
    assert found.pop("payload") == json.loads(FULL.payload)
    for name, value in found.items():
        assert value == getattr(FULL, name), name
    assert set(Record.__struct_fields__) - set(found) == {"at_us", "payload", "received_s"}


@given(at_us=st.integers(0, 4_000_000_000_000_000))
def test_times_keep_their_microseconds(at_us: int) -> None:
    """The text is the same moment, always with six digits and a Z."""
    text = rfc3339(at_us)
    assert len(text) == len("2024-01-15T10:30:00.123456Z")
    at = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert at.days * 86_400_000_000 + at.seconds * 1_000_000 + at.microseconds == at_us


def test_a_line_stays_one_line() -> None:
    """A payload with line breaks between its tokens does not tear its line apart."""
    pretty = msgspec.structs.replace(FULL, payload=b'{\n "text": "one\\ntwo"\n}\r\n')
    line = to_json_lines([pretty, FULL])
    assert line.count(b"\n") == 2
    assert json.loads(line.splitlines()[0])["payload"] == {"text": "one\ntwo"}


@pytest.mark.parametrize("payload", [b"", b"not json\n", b'{"participant": 1}'])
def test_what_cannot_be_encoded_is_not_quoted(payload: bytes) -> None:
    """The error names the record by id and holds nothing of it."""
    broken = msgspec.structs.replace(FULL, payload=payload)
    with pytest.raises(IntegrityError) as caught:
        to_transcript(broken)
    assert broken.id in str(caught.value)
    assert "json" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_text_that_is_not_unicode_is_refused() -> None:
    """A lone surrogate is an error of ours in both forms, not one of the libraries."""
    broken = msgspec.structs.replace(FULL, conversation="\ud800")
    for encode in (to_json, to_transcript, lambda record: to_batch(1, [record])):
        with pytest.raises(IntegrityError):
            encode(broken)


def test_the_same_record_gives_the_same_bytes() -> None:
    """Retries compare equal: the clock of the process does not matter."""
    again = msgspec.structs.replace(FULL, received_s=99.0)
    assert to_json(FULL) == to_json(again)
    assert to_batch(1, [FULL]) == to_batch(1, [again])
    assert FULL.at_us == AT_US
