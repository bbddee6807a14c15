"""The job service's bodies and answers: what is sent, and what an answer says.

Words stay as they came (``msgspec.Raw``): ``recordings.words`` reads them. A peer's text gets
neither into an error nor into a value: a status or an error is taken only where it is a plain
dotted word, an id only where it is one.

Source: the tutorial on recording transcripts (``POST`` and ``GET /api/v2/recordings/transcripts``).
Listing by recording is not in it; services that have it are asked so when a submission is in doubt.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from steno.core.ids import is_id, quoted
from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.ports.jobs import TranscriptionRequest
from steno.wire.refusals import is_code

T = TypeVar("T")

JOBS_PATH: Final = "/api/v2/recordings/transcripts"
RECORDINGS_PATH: Final = "/api/v2/recordings"
KEY_HEADER: Final = "Idempotency-Key"

MAX_SMALL_BYTES: Final = 1 << 20
"""Longest answer that carries no words: submissions, lists, recordings."""

MAX_RESULT_BYTES: Final = 64 << 20
"""Longest answer to a poll: about 400,000 words, twenty hours of speech."""

MAX_LISTED: Final = 1000
"""Most jobs of one recording that are looked at."""

_MAX_ERROR_BYTES: Final = 4096
_NOT_A_WORD: Final = "unreadable"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class JobStatus(StrEnum):
    """What the service says of a job. ``OTHER`` is a word we do not know: still running."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    OTHER = "other"


class JobAnswer(msgspec.Struct, frozen=True, gc=False):
    """What the service says of one job.

    Attributes:
        id: The service's id; empty where a poll's answer leaves it out.
        told: The status in the service's own word, lower case: for a log where it is ``OTHER``.
            ``unreadable`` where it is no plain word.
        error: The service's word for a failure; empty where it gives none, or one that is no
            plain dotted word.
        words: The JSON of ``result.words`` as it came; None where there is no result.
        started_us: Start of the recording, UTC microseconds; 0 where it is not told.
    """

    id: str
    status: JobStatus
    told: str
    error: str = ""
    words: msgspec.Raw | None = None
    started_us: int = 0

    @property
    def lacks_result(self) -> bool:
        """The service calls it completed and gives no result, which is a failure."""
        return self.status is JobStatus.COMPLETED and self.words is None


class FoundJob(msgspec.Struct, frozen=True, gc=False):
    """One job of a list. What the list does not tell is empty."""

    id: str
    status: JobStatus
    key: str = ""
    recording_id: str = ""
    language: str = ""
    format: str = ""


class RecordingFacts(msgspec.Struct, frozen=True, gc=False):
    """What a recording is known by before it is transcribed.

    Attributes:
        conversation_id: Empty where it is not told.
        started_us: Start of the recording, UTC microseconds; 0 where it is not told.
        file_state: The service's word (``AVAILABLE``); empty where there is none.
    """

    id: str
    conversation_id: str = ""
    started_us: int = 0
    file_state: str = ""


class _Body(msgspec.Struct, rename="camel"):
    recording_id: str
    language: str
    format: str
    speaker_diarization: bool
    word_confidence: bool
    timestamps: bool
    webhook: str | msgspec.UnsetType


class _Result(msgspec.Struct):
    words: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct, rename="camel"):
    id: str | None = None
    transcript_id: str | None = None
    status: str | None = None
    error: msgspec.Raw = msgspec.Raw()
    result: _Result | None = None


class _Listed(msgspec.Struct, rename="camel"):
    id: str | None = None
    transcript_id: str | None = None
    status: str | None = None
    idempotency_key: str | None = None
    recording_id: str | None = None
    language: str | None = None
    format: str | None = None


class _List(msgspec.Struct):
    entities: list[_Listed]


class _Recording(msgspec.Struct, rename="camel"):
    id: str
    conversation_id: str | None = None
    start_time: str | None = None
    file_state: str | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)
_list_decoder = msgspec.json.Decoder(_List)
_array_decoder = msgspec.json.Decoder(list[_Listed])
_recording_decoder = msgspec.json.Decoder(_Recording)
_encoder = msgspec.json.Encoder()


# --- what is sent ----------------------------------------------------------------------------


def encode_request(request: TranscriptionRequest) -> bytes:
    """Return the body of a submission; ``webhook`` is left out when it is empty."""
    return _encoder.encode(
        _Body(
            request.recording_id,
            request.language,
            request.format,
            request.speaker_diarization,
            request.word_confidence,
            request.timestamps,
            request.webhook or msgspec.UNSET,
        )
    )


def job_path(transcript_id: str) -> str:
    """Return the path to poll.

    Raises:
        LocalProtocolError: It is no id.
    """
    return f"{JOBS_PATH}/{_segment(transcript_id)}"


def recording_path(recording_id: str) -> str:
    """Return the path that tells whether a recording is there and ours to read.

    Raises:
        LocalProtocolError: It is no id.
    """
    return f"{RECORDINGS_PATH}/{_segment(recording_id)}"


def look_query(recording_id: str) -> dict[str, str]:
    """Return the query to ``JOBS_PATH`` for the jobs of one recording."""
    return {"recordingId": recording_id}


def _segment(text: str) -> str:
    if not is_id(text):
        raise LocalProtocolError("this is not an id", size=len(text))
    return quoted(text)


# --- what is answered ------------------------------------------------------------------------


def decode_submission(body: bytes) -> JobAnswer:
    """Read the answer to a submission.

    A missing status counts as one we do not know: the id is what matters, and it must not be
    lost for the lack of a word.

    Raises:
        RemoteProtocolError: Not the documented shape, or no usable id. The service may have
            taken the job all the same.
    """
    answer = _decoded(_answer_decoder, body, "submission", MAX_SMALL_BYTES)
    job_id = _id_of(answer)
    if not job_id:
        raise _malformed("submission", body)
    return _told(job_id, answer)


def decode_job(body: bytes, transcript_id: str) -> JobAnswer:
    """Read the answer to a poll.

    Args:
        body: At most ``MAX_RESULT_BYTES``; ``words`` refers to it and keeps it alive.
        transcript_id: The id asked for.

    Raises:
        RemoteProtocolError: Not the documented shape, no status, or of another job.
    """
    answer = _decoded(_answer_decoder, body, "job", MAX_RESULT_BYTES)
    told = [each for each in (answer.id, answer.transcript_id) if each is not None]
    if answer.status is None or (told and transcript_id not in told):
        raise _malformed("job", body)
    return _told(transcript_id, answer)


def decode_jobs(body: bytes) -> list[FoundJob]:
    """Read a list of jobs: ``{"entities": [...]}`` or an array; the first ``MAX_LISTED`` count.

    An entry without a usable id is passed over.

    Raises:
        RemoteProtocolError: Not such a list.
    """
    if body.lstrip()[:1] == b"[":
        entries = _decoded(_array_decoder, body, "jobs", MAX_SMALL_BYTES)
    else:
        entries = _decoded(_list_decoder, body, "jobs", MAX_SMALL_BYTES).entities
    return [
        FoundJob(
            job_id,
            _status(entry.status)[0],
            entry.idempotency_key or "",
            (entry.recording_id or "").lower(),
            entry.language or "",
            entry.format or "",
        )
        for entry in entries[:MAX_LISTED]
        if (job_id := _id_of(entry))
    ]


def decode_recording(body: bytes, recording_id: str) -> RecordingFacts:
    """Read the answer to the pre-flight question for a recording.

    Raises:
        RemoteProtocolError: Not the documented shape, or another recording.
    """
    found = _decoded(_recording_decoder, body, "recording", MAX_SMALL_BYTES)
    if found.id.lower() != recording_id.lower():
        raise _malformed("recording", body)
    conversation = found.conversation_id or ""
    return RecordingFacts(
        recording_id,
        conversation if is_id(conversation) else "",
        _instant_us(found.start_time),
        found.file_state if found.file_state and is_code(found.file_state) else "",
    )


def _told(job_id: str, answer: _Answer) -> JobAnswer:
    status, told = _status(answer.status)
    words = answer.result.words if answer.result is not None else None
    if words is not None and _small(words, 4) in (b"", b"null"):
        words = None
    return JobAnswer(job_id, status, told, _error_word(answer.error), words)


def _status(text: str | None) -> tuple[JobStatus, str]:
    word = (text or "").strip().lower()
    try:
        status = JobStatus(word)
    except ValueError:
        return JobStatus.OTHER, word if is_code(word) else _NOT_A_WORD
    return status, status.value


def _error_word(raw: msgspec.Raw) -> str:
    """Return an error that is one dotted word, or the ``code`` of one that is an object."""
    text = _small(raw, _MAX_ERROR_BYTES)
    try:
        told: object = msgspec.json.decode(text) if text else ""
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    if isinstance(told, dict):
        told = told.get("code")
    return told if isinstance(told, str) and is_code(told) else ""


def _small(raw: msgspec.Raw, most: int) -> bytes | None:
    """Return a copy of JSON of at most so many bytes; None for a longer one, left uncopied."""
    view = memoryview(raw)
    return view.tobytes() if view.nbytes <= most else None


def _id_of(answer: _Answer | _Listed) -> str:
    """Return the id under either of its names; empty where the two differ or neither is one."""
    told = {each for each in (answer.id, answer.transcript_id) if each is not None}
    found = told.pop() if len(told) == 1 else ""
    return found if is_id(found) else ""


def _instant_us(text: str | None) -> int:
    try:
        at = datetime.fromisoformat(text or "")
        lapse = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return 0
    return max(0, (lapse.days * 86_400 + lapse.seconds) * 1_000_000 + lapse.microseconds)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, what: str, most: int) -> T:
    if len(body) > most:
        raise _malformed(what, body)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _malformed(what, body) from None


def _malformed(what: str, body: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        "the service's answer has not the documented shape", what=what, size=len(body)
    )
