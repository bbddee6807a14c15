"""Lines of the audit log, and the chain that holds them together.

A log is one chain of lines over any number of files. Every line has a number (``seq``, from 1)
and the SHA-256 of the line before it (``prev``; zeros before the first), so a line cannot be
changed without changing every one after it. Four kinds of line, one compact JSON object each:

* entries: what became of a transcription job (``AuditEntry`` says what is in one);
* ``{"line":"key",…}``: the first of every file; the public key that signs from here on;
* ``{"line":"checkpoint",…}``: how many entries there are, signed with Ed25519. The signature covers
  ``prev`` and so everything before. One follows every key line, every so many entries, every so
  many seconds while there is something new, and ends a file;
* ``{"line":"recovered",…}``: after a kill or a loss of power, what was found of an unfinished write
  at the end was put into a file of its own; so many bytes, with this hash.

Entries hold no words of a call. The types below are the whole grammar: every text is an id, a
fixed word, a host name or the class of an error, and a line that is anything else is no line.

``audit_verify`` reads a log; ``adapters.audit_log`` writes one.

Source: RFC 8032 (Ed25519), RFC 8410 (its public keys), RFC 3339.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

FORMAT: Final = 1
GENESIS: Final = "0" * 64
"""What stands for the hash of a line before the first."""
MAX_LINE_BYTES: Final = 16_384
MAX_UNACKNOWLEDGED: Final = 1000
"""Lines that may follow the one of the head note while a writer runs, or after it was killed."""
MAX_UNSEALED: Final = 1000
"""Entries that may follow a checkpoint before the next. A writer may seal more often, never less:
without the bound, a log made anew without the key would only look unsealed."""

_SPKI: Final = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what precedes the 32 bytes
_SEALED_FORM: Final = struct.Struct(">QQ32s32s")
_CHECKPOINT_DOMAIN: Final = b"steno audit checkpoint 1\0"
_HEAD_DOMAIN: Final = b"steno audit head 1\0"

Seq = Annotated[int, Meta(ge=1, lt=1 << 53)]
Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Signature = Annotated[str, Meta(pattern=r"\A[0-9a-f]{128}\Z")]
Timestamp = Annotated[
    str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")
]
Id = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")]
Word = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,31}\Z")]
ErrorClass = Annotated[str, Meta(pattern=r"\A[A-Za-z][A-Za-z0-9]{0,63}\Z")]
Language = Annotated[str, Meta(pattern=r"\A[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}\Z")]
Host = Annotated[
    str,
    Meta(pattern=r"\A([A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]{2,45})\Z"),
]
Actor = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9._@:-]{0,127}\Z")]
Version = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z.+-]{0,63}\Z")]
WebhookStatus = Annotated[
    str, Meta(pattern=r"\A(delivered|skipped|failed: [A-Za-z][A-Za-z0-9]{0,63})\Z")
]


class AuditMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures of a job; written with 2 decimals (latency) and 4 (rate), None where unknown."""

    latency_seconds: float | None
    word_error_rate: float | None
    total_words: Count


class AuditRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked for. Of the webhook's address only the host, without user, port or path."""

    language: Language
    format: Word
    speaker_diarization: bool
    word_confidence: bool
    timestamps: bool
    webhook_host: Host | None = None


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What the log is told of a job, at its end or later.

    Attributes:
        recording_id: Of the platform.
        transcript_id: The job's id there; None when it was never submitted.
        status: The job's state: ``completed``, ``failed``, ``cancelled``.
        metrics: Latency, error rate, words.
        webhook_status: ``delivered``, ``skipped`` or ``failed: <class of ours>``.
        request: What was asked for.
        actor: Who had it done: a user of the machine or a service.
        version: Of Steno.
        event: What the entry tells: ``job_ended``, ``webhook_settled``, …
        error: Class of the error that a failed job ended with.
        webhook_attempt: Which attempt ``webhook_status`` tells of, from 1; 0 for none.
    """

    recording_id: str
    transcript_id: str | None
    status: str
    metrics: AuditMetrics
    webhook_status: str
    request: AuditRequest
    actor: str
    version: str
    event: str
    error: str | None = None
    webhook_attempt: int = 0


class EntryLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An entry as it stands in the log; ``webhook_attempt`` is left out where there was none."""

    timestamp: Timestamp
    recording_id: Id
    transcript_id: Id | None
    status: Word
    metrics: AuditMetrics
    webhook_status: WebhookStatus
    request: AuditRequest
    actor: Actor
    version: Version
    event: Word
    error: ErrorClass | None
    seq: Seq
    prev: Hash
    webhook_attempt: Count = 0


class _Marked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="line"):
    timestamp: Timestamp


class KeyLine(_Marked, frozen=True, forbid_unknown_fields=True, tag="key"):
    """The first line of a file: the key that signs in it."""

    format: Seq
    public_key: Hash
    key_id: Hash
    seq: Seq
    prev: Hash


class Checkpoint(_Marked, frozen=True, forbid_unknown_fields=True, tag="checkpoint"):
    """A signed statement about everything before it; ``count`` is of entries alone."""

    count: Count
    key_id: Hash
    seq: Seq
    prev: Hash
    signature: Signature


class Recovered(_Marked, frozen=True, forbid_unknown_fields=True, tag="recovered"):
    """Bytes of an unfinished write were put aside at this place."""

    size_bytes: Count
    sha256: Hash
    seq: Seq
    prev: Hash


Line = EntryLine | KeyLine | Checkpoint | Recovered

_encode: Final = msgspec.json.Encoder().encode
_entry_decoder: Final = msgspec.json.Decoder(EntryLine)
_marked_decoder: Final = msgspec.json.Decoder(KeyLine | Checkpoint | Recovered)


class Tip(msgspec.Struct, frozen=True):
    """Where a chain stands: number and hash of its last line, and entries so far.

    ``unsealed`` counts the lines after the last checkpoint.
    """

    seq: int = 0
    hash: str = GENESIS
    count: int = 0
    unsealed: int = 0


class Signer(msgspec.Struct, frozen=True):
    """A private key in use: ``public_key`` has 32 bytes, ``sign`` answers with 64."""

    public_key: bytes
    sign: Callable[[bytes], bytes]

    @property
    def key_id(self) -> str:
        """The key's fingerprint."""
        return fingerprint(self.public_key)


def fingerprint(public_key: bytes) -> str:
    """Return the SHA-256 of a public key in its DER form, in hex: what other tools show too.

    Source: RFC 8410, 4 (SubjectPublicKeyInfo of Ed25519).
    """
    return hashlib.sha256(_SPKI + public_key).hexdigest()


def line_hash(body: bytes) -> str:
    """Return the hash that the next line carries; ``body`` is without the line feed."""
    return hashlib.sha256(body).hexdigest()


def decode_line(body: bytes) -> Line | None:
    """Return what a line says; None if it is none of a log.

    Only the one spelling that a writer gives a line is accepted, so that two different lines
    never mean the same.

    Args:
        body: Without the line feed.
    """
    if len(body) > MAX_LINE_BYTES:
        return None
    decoder = _marked_decoder if body.startswith(b'{"line":') else _entry_decoder
    try:
        line: Line = decoder.decode(body)
        return line if _encode(line) == body else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def timestamp(at: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def entry_line(tip: Tip, entry: AuditEntry, *, at: datetime) -> tuple[Tip, bytes]:
    """Return the chain with an entry, and the entry's line with its line feed.

    Raises:
        ValueError: A field is not of the log's grammar; the message names it, not its value.
    """
    metrics = entry.metrics
    line = EntryLine(
        timestamp=timestamp(at),
        recording_id=entry.recording_id,
        transcript_id=entry.transcript_id,
        status=entry.status,
        metrics=AuditMetrics(
            _rounded(metrics.latency_seconds, 2),
            _rounded(metrics.word_error_rate, 4),
            metrics.total_words,
        ),
        webhook_status=entry.webhook_status,
        request=entry.request,
        actor=entry.actor,
        version=entry.version,
        event=entry.event,
        error=entry.error,
        seq=tip.seq + 1,
        prev=tip.hash,
        webhook_attempt=entry.webhook_attempt,
    )
    try:
        body = _encode(line)
        _entry_decoder.decode(body)  # the grammar stands in one place: the types
    except (msgspec.ValidationError, msgspec.EncodeError, TypeError, UnicodeError) as exc:
        where = str(exc).rpartition("`$.")[2].rstrip("`") if "`$." in str(exc) else "entry"
        raise ValueError(f"audit entry: {where} is not what the log may hold") from None
    return _continued(tip, body, entries=1)


def key_line(tip: Tip, public_key: bytes, *, at: datetime) -> tuple[Tip, bytes]:
    """Return the chain with a key line, and the line."""
    line = KeyLine(
        timestamp=timestamp(at),
        format=FORMAT,
        public_key=public_key.hex(),
        key_id=fingerprint(public_key),
        seq=tip.seq + 1,
        prev=tip.hash,
    )
    return _continued(tip, _encode(line))


def checkpoint_line(tip: Tip, signer: Signer, *, at: datetime) -> tuple[Tip, bytes]:
    """Return the chain with a checkpoint, and the line; nothing is unsealed then."""
    line = Checkpoint(
        timestamp=timestamp(at),
        count=tip.count,
        key_id=signer.key_id,
        seq=tip.seq + 1,
        prev=tip.hash,
        signature="",
    )
    signature = signer.sign(checkpoint_message(line)).hex()
    body = _encode(msgspec.structs.replace(line, signature=signature))
    after, written = _continued(tip, body)
    return msgspec.structs.replace(after, unsealed=0), written


def recovered_line(tip: Tip, set_aside: bytes, *, at: datetime) -> tuple[Tip, bytes]:
    """Return the chain with a note about bytes that were put aside, and the line."""
    line = Recovered(
        timestamp=timestamp(at),
        size_bytes=len(set_aside),
        sha256=hashlib.sha256(set_aside).hexdigest(),
        seq=tip.seq + 1,
        prev=tip.hash,
    )
    return _continued(tip, _encode(line))


def checkpoint_message(line: Checkpoint) -> bytes:
    """Return the bytes that a checkpoint's signature covers: every field but itself."""
    fields = _sealed(line.seq, line.count, line.prev, line.key_id)
    return _CHECKPOINT_DOMAIN + fields + line.timestamp.encode()


# --- head note ---------------------------------------------------------------------------------


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line that was acknowledged, signed; kept apart from the log.

    ``revision`` counts the notes; ``closed`` says that the writer ended with it: nothing follows.
    """

    timestamp: Timestamp
    revision: Count
    seq: Count
    count: Count
    hash: Hash
    closed: bool
    public_key: Hash
    key_id: Hash
    signature: Signature


_head_decoder: Final = msgspec.json.Decoder(Head)


def head_note(
    tip: Tip, signer: Signer, *, at: datetime, revision: int = 0, closed: bool = False
) -> bytes:
    """Return a signed note of where a chain stands, as one JSON object."""
    head = Head(
        timestamp=timestamp(at),
        revision=revision,
        seq=tip.seq,
        count=tip.count,
        hash=tip.hash,
        closed=closed,
        public_key=signer.public_key.hex(),
        key_id=signer.key_id,
        signature="",
    )
    return _encode(msgspec.structs.replace(head, signature=signer.sign(_head_message(head)).hex()))


def read_head_note(body: bytes) -> Head | None:
    """Return a note whose signature is right for the key it names; None if it is damaged.

    Whether that key is to be trusted is the caller's question.
    """
    try:
        head = _head_decoder.decode(body)
    except (msgspec.DecodeError, ValueError):
        return None
    public_key = bytes.fromhex(head.public_key)
    if fingerprint(public_key) != head.key_id:
        return None
    sound = signed_by(public_key, _head_message(head), bytes.fromhex(head.signature))
    return head if sound else None


def signed_by(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature is of this key over this message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _head_message(head: Head) -> bytes:
    fields = _sealed(head.seq, head.count, head.hash, head.key_id)
    more = struct.pack(">Q?", head.revision, head.closed)
    return _HEAD_DOMAIN + fields + more + head.timestamp.encode()


def _sealed(seq: int, count: int, chain_hash: str, key_id: str) -> bytes:
    """Return fields of fixed width, so that no two statements share their bytes."""
    return _SEALED_FORM.pack(seq, count, bytes.fromhex(chain_hash), bytes.fromhex(key_id))


def _continued(tip: Tip, body: bytes, *, entries: int = 0) -> tuple[Tip, bytes]:
    after = Tip(tip.seq + 1, line_hash(body), tip.count + entries, tip.unsealed + 1)
    return after, body + b"\n"


def _rounded(value: float | None, digits: int) -> float | None:
    # A whole number would be written, and read back, in another spelling.
    return None if value is None else round(float(value), digits)
