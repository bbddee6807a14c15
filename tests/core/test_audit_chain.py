"""Lines of the audit log: what may stand in one, and how they are bound to one another."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from conformance.audit_logs import entry
from steno.core.audit_chain import (
    GENESIS,
    AuditMetrics,
    AuditRequest,
    Checkpoint,
    EntryLine,
    Signer,
    Tip,
    checkpoint_line,
    checkpoint_message,
    decode_line,
    entry_line,
    fingerprint,
    head_note,
    key_line,
    line_hash,
    read_head_note,
    recovered_line,
    signed_by,
)

AT = datetime(2026, 11, 21, 10, 15, 0, 123456, tzinfo=UTC)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer(PRIVATE.public_key().public_bytes_raw(), PRIVATE.sign)
CANARY = "my card is 4111 1111 1111 1111"


def changed(**fields: Any) -> Any:  # Any: fields of several types
    return msgspec.structs.replace(entry(), **fields)


def test_entry_has_the_documented_fields_in_their_order() -> None:
    """The document's keys come first, then ours."""
    _, line = entry_line(Tip(), entry(7), at=AT)
    assert list(json.loads(line)) == [
        "timestamp",
        "recording_id",
        "transcript_id",
        "status",
        "metrics",
        "webhook_status",
        "request",
        "actor",
        "version",
        "event",
        "error",
        "seq",
        "prev",
    ]
    assert list(json.loads(line)["metrics"]) == [
        "latency_seconds",
        "word_error_rate",
        "total_words",
    ]
    assert line.endswith(b"}\n")
    assert b": " not in line


def test_metrics_are_rounded() -> None:
    """Latency has 2 decimals, the error rate 4, unknown is null."""
    _, line = entry_line(Tip(), changed(metrics=AuditMetrics(1.005, 0.12345678, 3)), at=AT)
    assert b'{"latency_seconds":1.0,"word_error_rate":0.1235,"total_words":3}' in line
    _, line = entry_line(Tip(), changed(metrics=AuditMetrics(None, None, 0)), at=AT)
    assert b'{"latency_seconds":null,"word_error_rate":null,"total_words":0}' in line


def test_times_are_utc() -> None:
    """Times are RFC 3339 in UTC wherever the clock's zone is."""
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    _, line = entry_line(Tip(), entry(), at=there)
    assert json.loads(line)["timestamp"] == "2026-11-21T10:15:00.123Z"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recording_id", CANARY),
        ("recording_id", "a\nb"),
        ("recording_id", "rec-1\n"),
        ("transcript_id", "../x"),
        ("status", "It Failed"),
        ("webhook_status", "failed: connect to https://x/?t=1"),
        ("webhook_status", "failed"),
        ("actor", "the agent"),
        ("version", "1 beta"),
        ("event", CANARY),
        ("error", CANARY),
        ("error", "TimedOut: secret"),
        ("request.webhook_host", "https://hooks.example.com/path?token=1"),
        ("request.webhook_host", "user@hooks.example.com"),
        ("request.webhook_host", "hooks.example.com/path"),
        ("request.language", "english please"),
        ("metrics.total_words", -1),
        ("recording_id", "\ud800"),
    ],
)
def test_nothing_but_the_grammar_enters(field: str, value: object) -> None:
    """Words of a call, paths and queries cannot be logged; the error names the field alone."""
    name, _, inner = field.partition(".")
    whole = value
    if inner:
        whole = msgspec.structs.replace(getattr(entry(), name), **{inner: value})
    with pytest.raises(ValueError, match="audit entry: ") as caught:
        entry_line(Tip(), changed(**{name: whole}), at=AT)
    assert str(value) not in str(caught.value)
    if value != "\ud800":
        assert field in str(caught.value)


@pytest.mark.parametrize("host", ["hooks.example.com", "localhost", "127.0.0.1", "::1", None])
def test_hosts_of_any_form_enter(host: str | None) -> None:
    """A webhook's host may be a name or an address."""
    request = AuditRequest("de-DE", "vtt", False, False, False, host)
    _, line = entry_line(Tip(), changed(request=request, transcript_id=None), at=AT)
    read = decode_line(line[:-1])
    assert isinstance(read, EntryLine)
    assert read.request.webhook_host == host


def test_each_line_carries_the_hash_of_the_one_before() -> None:
    """``prev`` is the SHA-256 of the bytes before the line feed; zeros before the first."""
    tip, first = key_line(Tip(), SIGNER.public_key, at=AT)
    tip, second = checkpoint_line(tip, SIGNER, at=AT)
    tip, third = entry_line(tip, entry(), at=AT)
    tip, fourth = recovered_line(tip, b"torn", at=AT)
    lines = [first, second, third, fourth]
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4]
    assert json.loads(first)["prev"] == GENESIS
    for before, line in pairwise(lines):
        assert json.loads(line)["prev"] == hashlib.sha256(before.rstrip(b"\n")).hexdigest()
    assert tip == Tip(4, line_hash(fourth[:-1]), 1, 2)


def test_fingerprint_is_that_of_the_der_form() -> None:
    """Other tools show the same fingerprint."""
    der = PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint(SIGNER.public_key) == hashlib.sha256(der).hexdigest()


def test_signature_covers_every_field() -> None:
    """No field of a checkpoint can be another under the same signature."""
    _, raw = checkpoint_line(Tip(8, "a" * 64, 5, 3), SIGNER, at=AT)
    line = decode_line(raw[:-1])
    assert isinstance(line, Checkpoint)
    signature = bytes.fromhex(line.signature)
    assert signed_by(SIGNER.public_key, checkpoint_message(line), signature)
    others: dict[str, object] = {
        "seq": 10,
        "count": 6,
        "prev": "b" * 64,
        "key_id": "c" * 64,
        "timestamp": "2026-11-21T10:15:00.124Z",
    }
    assert {*others, "signature"} == set(line.__struct_fields__)
    for name, value in others.items():
        other = msgspec.structs.replace(line, **{name: value})
        assert not signed_by(SIGNER.public_key, checkpoint_message(other), signature)


def test_head_note_cannot_be_changed() -> None:
    """Any other byte, or none, in the head note makes it unreadable or leaves it out."""
    note = head_note(Tip(9, "d" * 64, 4), SIGNER, at=AT, revision=3, closed=True)
    head = read_head_note(note)
    assert head is not None
    assert (head.seq, head.count, head.closed, head.revision) == (9, 4, True, 3)
    for place in range(len(note)):
        other = note[:place] + bytes([note[place] ^ 1]) + note[place + 1 :]
        assert read_head_note(other) is None
        assert read_head_note(note[:place]) is None


def test_checkpoint_is_no_head_note() -> None:
    """A signature over one kind of statement is none over another."""
    _, raw = checkpoint_line(Tip(8, "a" * 64, 5, 3), SIGNER, at=AT)
    line = decode_line(raw[:-1])
    assert isinstance(line, Checkpoint)
    note = json.loads(head_note(Tip(9, "a" * 64, 5), SIGNER, at=AT))
    note["signature"] = line.signature
    assert read_head_note(json.dumps(note, separators=(",", ":")).encode()) is None


@dataclass(frozen=True)
class Spelling:
    """Another way of writing the same values."""

    old: bytes
    new: bytes


@pytest.mark.parametrize(
    "spelling",
    [
        Spelling(b'"seq":3', b'"seq": 3'),
        Spelling(b'"seq":3', b'"seq":3,"seq":3'),
        Spelling(b'"seq":3', b'"more":1,"seq":3'),
        Spelling(b'"seq":3', b'"seq":3.0'),
        Spelling(b"12.35", b"12.350"),
        Spelling(b'"steno"', b'"\\u0073teno"'),
        Spelling(b"}", b"}\r"),
        Spelling(b'"error":null,', b""),
    ],
)
def test_a_line_has_one_spelling(spelling: Spelling) -> None:
    """What says the same in other bytes is no line."""
    _, raw = entry_line(Tip(2, "e" * 64), entry(), at=AT)
    assert decode_line(raw[:-1]) is not None
    other = spelling.new.join(raw[:-1].rsplit(spelling.old, 1))
    assert other != raw[:-1]
    assert decode_line(other) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_line_or_none(data: bytes) -> None:
    """Reading never fails."""
    assert decode_line(data) is None
    assert decode_line(b'{"line":' + data) is None
    assert read_head_note(data) is None
