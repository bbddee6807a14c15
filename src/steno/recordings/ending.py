"""What is made of a job's end: the transcript, the record, the facts, the audit entry.

``Facts`` stand in the store of jobs beside the end, so that whoever is told after a restart is
told the same. A record's revision is 0 for a completed job and 1 for any other end: results are
stored before the job, so a job that was then cancelled has the later word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from steno.core.audit_chain import AuditEntry, AuditMetrics, AuditRequest, EntryLine
from steno.core.quality import Metrics, metrics_of
from steno.core.records import Draft, JobPayload, Kind, Origin, record_key
from steno.errors import RemoteProtocolError
from steno.ports.jobs import Job, JobState, TranscriptionRequest
from steno.recordings.outputs import Transcript, processed_at
from steno.recordings.redacted import redact_turns
from steno.recordings.turns import Released, Turn, document_turn, rfc3339, turns_of, unredacted
from steno.recordings.words import BadWord, decode_words
from steno.redaction import Redactor
from steno.wire.webhooks import WebhookOutcome

SOURCE: Final = "recordings"
MAX_NAMED: Final = 20
"""Unreadable words whose places are kept with the end of a job."""

_US: Final = 1_000_000
_encode = msgspec.json.Encoder().encode


class Identity(msgspec.Struct, frozen=True):
    """Who transcribes, as records and the audit log name it.

    Attributes:
        host_group: Organisation, or the primary host's name.
        actor: User of the machine, or a service.
        version: Of Steno.
    """

    host_group: str
    actor: str
    version: str


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is told of an end and is not in the job itself.

    Attributes:
        unreadable: Words of the result that could not be read.
        unreadable_words: The first ``MAX_NAMED`` of them.
    """

    metrics: Metrics
    unreadable: int = 0
    unreadable_words: tuple[BadWord, ...] = ()


class Results(msgspec.Struct, frozen=True):
    """What was made of the words of a completed job.

    Attributes:
        said: The turns as they came: for a comparison, never to be shown or stored.
        unreadable: Words left out because they could not be read.
        unreadable_words: Some of them, by their places.
    """

    transcript: Transcript
    said: Sequence[Turn]
    unreadable: int
    unreadable_words: Sequence[BadWord]
    withheld: int


def results_of(
    job: Job,
    words: bytes,
    *,
    redactor: Redactor | None,
    strict: bool,
    started_at_us: int | None = None,
) -> Results:
    """Make turns, metrics and a transcript of the words of a job that has completed.

    Args:
        job: Completed.
        redactor: None lets everything pass, because the operator said so.
        strict: A word that cannot be read fails the transcript.
        started_at_us: Start of the recording; None where it is not known.

    Raises:
        RemoteProtocolError: The words cannot be read.
    """
    request = job.request
    found = decode_words(words, timed=request.timestamps, strict=strict)
    said = turns_of(found.words)
    shown, withheld = _released(said, redactor, request.language)
    metrics = metrics_of((word.confidence for word in found.words), latency_s=latency_s(job))
    transcript = Transcript(
        job.transcript_id,
        request.recording_id,
        job.state.value,
        metrics,
        shown,
        job.ended_us,
        started_at_us,
    )
    return Results(transcript, said, found.bad_count, found.bad, withheld)


def _released(
    turns: tuple[Turn, ...], redactor: Redactor | None, language: str
) -> tuple[Released, int]:
    if redactor is None:
        return unredacted(turns), 0
    redacted = redact_turns(turns, redactor, language=language)
    return redacted.turns, redacted.withheld


def latency_s(job: Job) -> float | None:
    """Return the time from the first submission to the end; None where there was neither."""
    if not job.started_us or not job.ended_us:
        return None
    return (job.ended_us - job.started_us) / _US


def facts_of(
    job: Job,
    transcript: Transcript | None,
    *,
    unreadable: int = 0,
    unreadable_words: Sequence[BadWord] = (),
) -> bytes:
    """Return the facts of an end, to be stored with it."""
    metrics = transcript.metrics if transcript else metrics_of((), latency_s=latency_s(job))
    return _encode(Facts(metrics, unreadable, tuple(unreadable_words[:MAX_NAMED])))


def refused_facts(job: Job, error: RemoteProtocolError) -> bytes:
    """Return the facts of a job that failed by a word that could not be read, and of any other."""
    index, field = error.fields.get("index"), error.fields.get("field")
    count = error.fields.get("unreadable")
    if not isinstance(index, int) or not isinstance(count, int):
        return facts_of(job, None)
    bad = BadWord(index, str(field))
    return facts_of(job, None, unreadable=count, unreadable_words=(bad,))


def read_facts(job: Job, facts: bytes) -> Metrics:
    """Return the metrics that were stored with an end; those of none where they are damaged."""
    found = all_facts(facts)
    return metrics_of((), latency_s=latency_s(job)) if found is None else found.metrics


def all_facts(facts: bytes) -> Facts | None:
    """Return what was stored with an end; None where there is nothing, or it is damaged."""
    try:
        return msgspec.json.decode(facts, type=Facts)
    except msgspec.MsgspecError:
        return None


def draft_of(job: Job, transcript: Transcript | None, identity: Identity) -> Draft:
    """Return the record of an ended job."""
    request = job.request
    payload = JobPayload(
        job=job.id,
        recording_id=request.recording_id,
        transcript_id=job.transcript_id,
        status=job.state.value,
        metrics=_metrics(transcript.metrics) if transcript else {},
        speakers=_speakers(transcript.turns) if transcript else [],
        processed_at=(
            processed_at(transcript)
            if transcript
            else f"{rfc3339(job.ended_us).partition('.')[0]}Z"
        ),
        language=request.language,
        error=error_class(job),
        webhook=bool(request.webhook),
    )
    return Draft(
        Kind.JOB,
        SOURCE,
        request.recording_id,
        "",
        job.id,
        0 if job.state is JobState.COMPLETED else 1,
        record_key(identity.host_group, request.recording_id, "", job.id),
        Origin.LIVE,
        job.ended_us,
        _encode(payload),
    )


def _metrics(metrics: Metrics) -> dict[str, float | int | None]:
    return {
        "latency_seconds": metrics.latency_seconds,
        "word_error_rate": metrics.word_error_rate,
        "total_words": metrics.total_words,
    }


def _speakers(turns: Released) -> list[dict[str, str | float | None]]:
    found: list[dict[str, str | float | None]] = msgspec.to_builtins(
        [document_turn(turn) for turn in turns]
    )
    return found


def error_class(job: Job) -> str:
    """Return why a job failed, as records and the audit log spell it: ``RecordingMissing``."""
    if job.state is not JobState.FAILED:
        return ""
    return "".join(part.title() for part in job.reason.split("_"))


def audit_request(request: TranscriptionRequest) -> AuditRequest:
    """Return what was asked for; of the webhook only the host."""
    return AuditRequest(
        language=request.language,
        format=request.format,
        speaker_diarization=request.speaker_diarization,
        word_confidence=request.word_confidence,
        timestamps=request.timestamps,
        webhook_host=_host(request.webhook),
    )


def _host(url: str) -> str | None:
    try:
        host = urlsplit(url).hostname or ""
        return (host if host.isascii() else host.encode("idna").decode()) or None
    except ValueError:  # UnicodeError is one
        return None


class AttemptKey(NamedTuple):
    """What tells one outcome of one webhook from all others, beside the time."""

    recording_id: str
    transcript_id: str | None
    status: str
    request: AuditRequest
    attempt: int
    webhook_status: str


def attempt_key(entry: AuditEntry | EntryLine) -> AttemptKey:
    """Return which outcome an entry tells of."""
    return AttemptKey(
        entry.recording_id,
        entry.transcript_id,
        entry.status,
        entry.request,
        entry.webhook_attempt,
        entry.webhook_status,
    )


def attempt_entry(job: Job, outcome: WebhookOutcome, identity: Identity) -> AuditEntry:
    """Return the entry of what became of a webhook after the entry of its job's end."""
    latency, rate, words = map(
        outcome.metrics.get, ("latency_seconds", "word_error_rate", "total_words")
    )
    return AuditEntry(
        recording_id=outcome.recording_id,
        transcript_id=outcome.transcript_id or None,
        status=outcome.status,
        metrics=AuditMetrics(latency, rate, int(words or 0)),
        webhook_status=outcome.webhook_status,
        request=audit_request(job.request),
        actor=identity.actor,
        version=identity.version,
        event="webhook_settled" if outcome.is_final else "webhook_attempted",
        error=outcome.error or None,
        webhook_attempt=outcome.attempt,
    )


def audit_entry(
    job: Job, metrics: Metrics, webhook_status: str, identity: Identity, attempt: int = 0
) -> AuditEntry:
    """Return the audit log's entry of a job's end; ``attempt`` is the webhook's, 0 for none."""
    return AuditEntry(
        recording_id=job.request.recording_id,
        transcript_id=job.transcript_id or None,
        status=job.state.value,
        metrics=AuditMetrics(metrics.latency_seconds, metrics.word_error_rate, metrics.total_words),
        webhook_status=webhook_status,
        request=audit_request(job.request),
        actor=identity.actor,
        version=identity.version,
        event="job_ended",
        error=error_class(job) or None,
        webhook_attempt=attempt,
    )
