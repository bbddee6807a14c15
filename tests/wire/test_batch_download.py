"""Bodies and answers of the calls that hand recordings out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.batch_download import (
    MAX_ITEMS,
    FileState,
    Link,
    batch_path,
    decode_batch,
    decode_order,
    decode_pending,
    decode_recording,
    decode_url,
    encode_order,
    recording_path,
    transcript_path,
)

CALL = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
ID = "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01"
URL = "https://store.example/file?X-Amz-Signature=planted"


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_an_order_names_conversation_and_recording() -> None:
    """By the platform's own keys."""
    assert json.loads(encode_order([(CALL, ID)])) == {
        "batchDownloadRequestList": [{"conversationId": CALL, "recordingId": ID}]
    }


@pytest.mark.parametrize("count", [0, MAX_ITEMS + 1])
def test_an_order_has_one_to_a_hundred_recordings(count: int) -> None:
    """More are refused before they are sent."""
    with pytest.raises(LocalProtocolError):
        encode_order([(CALL, ID)] * count)


def test_what_is_no_id_gets_into_no_path() -> None:
    """Nor can it climb out of it."""
    for make in (batch_path, lambda text: recording_path(CALL, text)):
        with pytest.raises(LocalProtocolError):
            make("../secret")
    assert transcript_path(CALL, ID).endswith(f"/{CALL}/communications/{ID}/transcripturl")


def test_a_batch_tells_files_failures_and_what_is_not_ready() -> None:
    """The platform's text for a failure is not kept."""
    state = decode_batch(
        body(
            {
                "jobId": "j",
                "expectedResultCount": 4,
                "resultCount": 2,
                "errorCount": 1,
                "status": "InProgress",
                "results": [
                    {"conversationId": CALL, "recordingId": ID.upper(), "resultUrl": URL},
                    {"conversationId": CALL, "recordingId": ID, "errorMsg": "planted"},
                    {"conversationId": CALL, "recordingId": ID},
                ],
            }
        )
    )
    assert [one.link for one in state.results] == [Link(URL), None]
    assert {one.recording_id for one in state.results} == {ID}
    assert not state.is_named_done
    assert not state.is_full
    assert "planted" not in repr(state)


@pytest.mark.parametrize(
    ("told", "is_done", "is_full"),
    [
        ({"status": "Completed"}, True, False),
        ({"expectedResultCount": 2, "resultCount": 2}, False, True),
        ({"expectedResultCount": 0, "resultCount": 0}, False, False),
        ({"status": "Odd", "expectedResultCount": 1, "resultCount": 1}, False, True),
    ],
)
def test_an_end_is_told_by_status_or_by_counts(
    told: dict[str, Any], is_done: bool, is_full: bool
) -> None:
    """Other and missing values were seen."""
    state = decode_batch(body(told))
    assert (state.is_named_done, state.is_full) == (is_done, is_full)


def test_a_recording_has_its_files_in_the_order_of_their_keys() -> None:
    """Ten comes behind nine."""
    uris = {str(n): {"mediaUri": f"{URL}{n}", "waveformData": []} for n in (10, 9, 0)}
    found = decode_recording(
        body(
            {
                "id": ID,
                "startTime": "2026-03-04T09:15:00.120Z",
                "endTime": None,
                "fileState": "AVAILABLE",
                "sessionId": CALL,
                "mediaUris": uris,
            }
        ),
        ID,
    )
    assert [link.url for link in found.links] == [f"{URL}{n}" for n in (0, 9, 10)]
    assert (found.started_us, found.ended_us) == (1_772_615_700_120_000, 0)
    assert (found.file_state, found.communication_id) == (FileState.AVAILABLE, CALL)


def test_another_recording_is_not_taken_for_the_one_asked_for() -> None:
    """A wrong transcript is worse than none."""
    with pytest.raises(RemoteProtocolError):
        decode_recording(body({"id": CALL}), ID)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"estimatedTranscodeTimeMs": -4}', b"\xff"])
def test_a_202_may_say_nothing(data: bytes) -> None:
    """Then nobody says when to come again."""
    found = decode_pending(data, ID)
    assert found.is_pending
    assert found.wait_s is None
    assert decode_pending(b'{"estimatedTranscodeTimeMs": 5000}', ID).wait_s == 5.0


@pytest.mark.parametrize(
    "url",
    ["ftp://store/file", "https://user:pass@store/", "https:///x", "nowhere", "https://a b/", 7],
)
def test_an_address_that_is_none_is_refused_without_being_told(url: Any) -> None:
    """Only the web's schemes, a host, and no credentials in it."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode_url(body({"url": url}))
    assert str(url) not in str(caught.value)


@given(st.binary(max_size=60))
def test_no_answer_raises_anything_else(data: bytes) -> None:
    """Whatever comes is read, or is an error of ours."""
    for read in (decode_order, decode_batch, decode_url, lambda each: decode_recording(each, ID)):
        try:
            read(data)
        except RemoteProtocolError:
            pass
