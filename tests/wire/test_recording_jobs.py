"""Bodies and answers of the job service."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.ports.jobs import TranscriptionRequest
from steno.wire.recording_jobs import (
    MAX_LISTED,
    MAX_SMALL_BYTES,
    JobStatus,
    decode_job,
    decode_jobs,
    decode_recording,
    decode_submission,
    encode_request,
    job_path,
    look_query,
    recording_path,
)

RECORDING = "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01"
DONE = (
    b'{"transcriptId":"t-1","status":"completed","result":{"language":"en-US","words":'
    b'[{"text":"hello","confidence":0.9}]},"error":null}'
)


def test_body_has_the_documented_keys_in_their_order_and_no_empty_webhook() -> None:
    """Defaults are written out; only ``webhook`` is left out when it is empty."""
    assert encode_request(TranscriptionRequest(RECORDING)) == (
        b'{"recordingId":"' + RECORDING.encode() + b'","language":"en-US","format":"text",'
        b'"speakerDiarization":true,"wordConfidence":true,"timestamps":true}'
    )


def test_body_carries_every_value() -> None:
    """No field is lost or crossed with another."""
    request = TranscriptionRequest(RECORDING, "de-DE", "vtt", False, True, False, "https://h/x")
    assert json.loads(encode_request(request)) == {
        "recordingId": RECORDING,
        "language": "de-DE",
        "format": "vtt",
        "speakerDiarization": False,
        "wordConfidence": True,
        "timestamps": False,
        "webhook": "https://h/x",
    }


def test_paths_hold_one_quoted_segment() -> None:
    """An id cannot climb out of its path."""
    assert job_path("a:1") == "/api/v2/recordings/transcripts/a%3A1"
    assert recording_path(RECORDING) == f"/api/v2/recordings/{RECORDING}"
    assert look_query(RECORDING) == {"recordingId": RECORDING}
    with pytest.raises(LocalProtocolError):
        job_path("../x")


@pytest.mark.parametrize("key", ["id", "transcriptId"])
def test_either_name_of_the_id_is_taken(key: str) -> None:
    """``id`` and ``transcriptId`` mean the same."""
    answer = decode_submission(json.dumps({key: "t-1", "status": "queued"}).encode())
    assert (answer.id, answer.status) == ("t-1", JobStatus.QUEUED)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"status":"queued"}',
        b'{"id":"a/b","status":"queued"}',
        b'{"id":7,"status":"queued"}',
        b'{"id":"a","transcriptId":"b","status":"queued"}',
        b'{"id":"a","status":"\xff"}',
        b"[" * 100_000,
        b'{"id":"a","x":"' + b"x" * MAX_SMALL_BYTES + b'"}',
    ],
)
def test_a_submission_without_a_usable_id_is_refused(body: bytes) -> None:
    """Nothing is invented, nothing of the body is quoted."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode_submission(body)
    assert set(caught.value.fields) == {"what", "size", "close_code"}


def test_an_id_is_not_lost_for_the_lack_of_a_status() -> None:
    """The service has the job; its status is asked for later."""
    assert decode_submission(b'{"id":"a"}').status is JobStatus.OTHER


@pytest.mark.parametrize(
    ("told", "status", "word"),
    [
        ("queued", JobStatus.QUEUED, "queued"),
        ("Processing", JobStatus.PROCESSING, "processing"),
        (" COMPLETED ", JobStatus.COMPLETED, "completed"),
        ("failed", JobStatus.FAILED, "failed"),
        ("archiving", JobStatus.OTHER, "archiving"),
        ("my card is 4111", JobStatus.OTHER, "unreadable"),
    ],
)
def test_unknown_statuses_are_still_running_and_told_as_plain_words(
    told: str, status: JobStatus, word: str
) -> None:
    """A word we do not know ends nothing; text that is no word is not repeated."""
    answer = decode_job(json.dumps({"status": told}).encode(), "t")
    assert (answer.status, answer.told) == (status, word)


def test_words_stay_as_they_came() -> None:
    """The words are the peer's own bytes, not decoded and encoded again."""
    answer = decode_job(DONE, "t-1")
    assert answer.status is JobStatus.COMPLETED
    assert answer.words is not None
    assert bytes(answer.words) == b'[{"text":"hello","confidence":0.9}]'
    assert not answer.lacks_result


@pytest.mark.parametrize("result", [None, {}, {"words": None}])
def test_completed_without_words_lacks_its_result(result: object) -> None:
    """No result is a failure; an empty list of words is none."""
    body = {"id": "t", "status": "completed", "result": result}
    assert decode_job(json.dumps(body).encode(), "t").lacks_result
    body["result"] = {"words": []}
    assert not decode_job(json.dumps(body).encode(), "t").lacks_result


def test_a_job_that_still_runs_lacks_nothing() -> None:
    """Only a completed job must have a result."""
    assert not decode_job(b'{"status":"processing"}', "t").lacks_result


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ("audio.unreadable", "audio.unreadable"),
        ({"code": "media.gone", "message": "Anna's call"}, "media.gone"),
        ("could not hear Anna", ""),
        ({"message": "x"}, ""),
        ("x" * 70, ""),
        (["audio.unreadable"], ""),
        ({"code": "a.b", "message": "x" * 5000}, ""),
        (None, ""),
    ],
)
def test_an_error_is_taken_only_as_one_dotted_word(error: object, word: str) -> None:
    """What a service says in sentences may quote the call."""
    answer = decode_job(json.dumps({"status": "failed", "error": error}).encode(), "t")
    assert answer.error == word


@pytest.mark.parametrize(
    "body", [b'{"id":"other","status":"queued"}', b'{"id":"t"}', b'{"status":7}', b"<html>"]
)
def test_an_answer_of_another_job_or_without_status_is_refused(body: bytes) -> None:
    """A poll must not move a job by somebody else's answer."""
    with pytest.raises(RemoteProtocolError):
        decode_job(body, "t")


@given(cut=st.integers(0, len(DONE) - 1))
def test_a_truncated_answer_is_refused(cut: int) -> None:
    """Half an answer is none."""
    with pytest.raises(RemoteProtocolError):
        decode_job(DONE[:cut], "t-1")


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer_or_a_documented_error(body: bytes) -> None:
    """No other exception comes out."""
    for decode in (decode_submission, decode_jobs, lambda b: decode_job(b, "t")):
        try:
            decode(body)
        except RemoteProtocolError:
            pass


def test_a_list_is_read_in_both_shapes_and_bounded() -> None:
    """``entities`` or an array; entries without an id are passed over."""
    entry = {"id": "t-1", "status": "queued", "idempotencyKey": "k", "recordingId": "AB"}
    array = json.dumps([{"status": "queued"}, entry]).encode()
    wrapped = json.dumps({"entities": [entry], "total": 1}).encode()
    assert decode_jobs(array) == decode_jobs(wrapped)
    (found,) = decode_jobs(array)
    assert (found.id, found.key, found.recording_id) == ("t-1", "k", "ab")
    many = json.dumps([{"id": f"t{n}"} for n in range(MAX_LISTED + 5)]).encode()
    assert len(decode_jobs(many)) == MAX_LISTED


def test_a_recording_tells_when_it_began() -> None:
    """Facts are optional, the id is not."""
    body = {"id": RECORDING.upper(), "startTime": "2026-03-04T09:15:00.5Z", "fileState": "a b"}
    facts = decode_recording(json.dumps(body).encode(), RECORDING)
    assert facts.started_us == 1_772_615_700_500_000
    assert (facts.file_state, facts.conversation_id) == ("", "")
    with pytest.raises(RemoteProtocolError):
        decode_recording(b'{"id":"x"}', RECORDING)


def test_a_request_does_not_show_its_webhook() -> None:
    """The address may hold a secret, and objects get printed."""
    request = TranscriptionRequest(RECORDING, webhook="https://h/?token=s3cret")
    assert "s3cret" not in repr(request)
    assert "s3cret" not in repr(msgspec.structs.replace(request, language="de-DE"))
