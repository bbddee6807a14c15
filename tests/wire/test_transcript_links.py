"""Addresses of stored transcripts, links in answers, and what the document's answer means."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.stored import FieldsRead, StoredShape
from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.participants import decode_roster
from steno.wire.transcript_links import (
    MAX_LEGS,
    MAX_LINK_CHARS,
    Legs,
    Standing,
    conversation_path,
    decode_link,
    decode_links,
    details_path,
    document_path,
    legs_of,
    legs_of_details,
    link_path,
    standing_of,
)

LINK = "https://store.example/file?X-Amz-Signature=planted"
CUSTOMER = {"id": "p-1", "purpose": "customer", "calls": [{"id": "k", "state": "disconnected"}]}


def test_paths_are_those_of_the_documents() -> None:
    """Ids are one segment of them."""
    assert document_path("c-1") == "/api/v2/conversations/media/c-1/transcripts"
    assert conversation_path("c:1") == "/api/v2/conversations/c%3A1"
    assert details_path("c-1") == "/api/v2/analytics/conversations/c-1/details"
    base = "/api/v2/speechandtextanalytics/conversations/c-1/communications/k-1/"
    assert link_path("c-1", "k-1") == f"{base}transcripturl"
    assert link_path("c-1", "k-1", by_recording=True) == f"{base}transcripturls"


@given(st.text(max_size=20))
def test_no_id_bends_an_address(text: str) -> None:
    """It is one segment, or refused."""
    try:
        path = document_path(text)
    except LocalProtocolError:
        return
    assert path.count("/") == 6
    assert not set(path) & set("?#\\ \n")


def test_a_link_is_a_secret() -> None:
    """It shows in no text of it."""
    link = decode_link(msgspec.json.encode({"url": LINK, "more": 1}))
    assert link.reveal() == LINK
    assert "planted" not in repr(link) + str(link)


def test_links_by_recording_name_their_recordings() -> None:
    """A recording that is no id has no name."""
    urls = [
        {"recording": {"id": "r-1", "selfUri": "x"}, "url": LINK},
        {"recording": {"id": "../.."}, "url": LINK},
        {"url": LINK},
    ]
    found = decode_links(msgspec.json.encode({"communicationId": "k", "urls": urls}))
    assert [one.recording for one in found] == ["r-1", "", ""]
    assert "planted" not in repr(found)
    assert decode_links(b"{}") == []


@given(st.binary(max_size=40) | st.sampled_from([b"[]", b'{"url":1}', b'{"urls":[{}]}', b"null"]))
def test_answers_that_are_none_are_the_platforms_fault(body: bytes) -> None:
    """Whatever they are: no other error comes out."""
    for decode in (decode_link, decode_links, legs_of_details):
        with suppress(RemoteProtocolError):
            decode(body)


@pytest.mark.parametrize("size", [0, MAX_LINK_CHARS + 1])
def test_links_are_bounded(size: int) -> None:
    """And not empty."""
    with pytest.raises(RemoteProtocolError):
        decode_link(msgspec.json.encode({"url": "x" * size}))


def told(
    status: str = "", *, url: str = "", segments: int = 0, bad: int = 0, **more: object
) -> FieldsRead:
    has = bool(more.get("has_transcript")) or segments + bad > 0
    shape = StoredShape.PLATFORM if more.get("platform") else StoredShape.DOCUMENT
    return FieldsRead(
        shape, status=status, download_url=url, segments=segments, bad=bad, has_transcript=has
    )


@pytest.mark.parametrize(
    ("answer", "standing"),
    [
        (told("completed", url=LINK), Standing.LINKED),
        (told(url=LINK), Standing.LINKED),
        (told("completed", url=LINK, segments=3), Standing.LINKED),
        (told(" Completed ", segments=1), Standing.INLINE),
        (told(segments=1), Standing.INLINE),
        (told(segments=1, bad=5), Standing.INLINE),
        (told("queued", url=LINK, segments=1), Standing.IN_WORK),
        (told("processing"), Standing.IN_WORK),
        (told("stitching", has_transcript=True), Standing.IN_WORK),
        (told("failed", url=LINK, segments=1), Standing.FAILED),
        (told("completed", has_transcript=True), Standing.EMPTY),
        (told("completed"), Standing.EMPTY),
        (told(has_transcript=True), Standing.DOUBTFUL),
        (told(bad=4), Standing.LEGACY),
        (told(), Standing.LEGACY),
        (told("completed", platform=True), Standing.LEGACY),
    ],
)
def test_the_status_counts_first_then_the_link_then_the_turns(
    answer: FieldsRead, standing: Standing
) -> None:
    """Empty, legacy and failed are told apart."""
    assert standing_of(answer) is standing


def test_legs_are_those_of_customers_and_others_each_once() -> None:
    """A supervisor who listens has none; the end is the conversation's own."""
    people = [
        {"id": "p-2", "purpose": "agent", "calls": [{"id": "a", "state": "disconnected"}]},
        {"id": "p-3", "purpose": "user", "calls": [{"id": "s"}], "monitoredParticipantId": "p-2"},
        CUSTOMER,
        {"id": "p-4", "purpose": "external", "calls": [{"id": "k"}, {"id": "k2"}, {"id": "../x"}]},
        {"id": "p-5", "purpose": "acd", "calls": None},
    ]
    body = {"id": "c", "endTime": "2026-01-05T10:00:00Z", "participants": people}
    legs = legs_of(decode_roster(msgspec.json.encode(body)))
    assert legs == Legs(("k", "k2"), ("a",), 1_767_607_200_000_000)


@pytest.mark.parametrize(("state", "ended"), [("disconnected", True), ("connected", False)])
def test_a_conversation_without_an_end_is_over_with_its_calls(state: str, ended: bool) -> None:
    """Their last end is its end."""
    call = {"id": "k", "state": state, "disconnectedTime": "2026-01-05T10:00:00Z"}
    body = {"id": "c", "participants": [CUSTOMER | {"calls": [call]}]}
    legs = legs_of(decode_roster(msgspec.json.encode(body)))
    assert bool(legs.ended_us) is ended


def test_legs_are_bounded() -> None:
    """A conversation of a thousand calls is no reason for a thousand questions."""
    sessions = [{"sessionId": f"s-{n}", "mediaType": "voice"} for n in range(MAX_LEGS + 50)]
    people = [{"purpose": "customer", "sessions": sessions}]
    legs = legs_of_details(msgspec.json.encode({"participants": people}))
    assert len(legs.customers) == MAX_LEGS
    assert legs.ended_us == 0
