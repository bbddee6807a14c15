"""Bodies and answers of the analytics details calls."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.conversation_details import (
    JobState,
    decode_availability,
    decode_job,
    decode_page,
    decode_state,
    instant_us,
    job_body,
    job_path,
    query_body,
    results_query,
    spans,
)

DAY_US = 86_400_000_000
NEW_YEAR_US = 1_767_225_600_000_000


@given(st.integers(0, 10**15), st.integers(0, 10**13), st.integers(1, 10**12))
def test_spans_cover_a_range_without_gap_or_overlap(start: int, length: int, longest: int) -> None:
    """In order, none too long."""
    if length // longest > 1000:
        return
    found = list(spans(start, start + length, longest))
    assert sum(end - begin for begin, end in found) == length
    assert all(0 < end - begin <= longest for begin, end in found)
    assert [begin for begin, _ in found] == sorted({begin for begin, _ in found})
    if found:
        assert (found[0][0], found[-1][1]) == (start, start + length)


def test_intervals_are_whole_milliseconds_that_leave_nothing_out() -> None:
    """In UTC."""
    asked = msgspec.json.decode(job_body(NEW_YEAR_US + 1, NEW_YEAR_US + DAY_US + 1))
    assert asked["interval"] == "2026-01-01T00:00:00.000Z/2026-01-02T00:00:00.001Z"
    asked = msgspec.json.decode(query_body(NEW_YEAR_US, NEW_YEAR_US + DAY_US, 3))
    assert asked["paging"] == {"pageSize": 100, "pageNumber": 3}
    assert asked["interval"] == "2026-01-01T00:00:00.000Z/2026-01-02T00:00:00.000Z"


def test_states_of_jobs_are_known_words_or_work_in_hand() -> None:
    """In the platform's spelling."""
    assert decode_state(b'{"state":"FULFILLED","x":1}') is JobState.FULFILLED
    assert decode_state(b'{"state":"DREAMING"}') is JobState.OTHER
    assert decode_job(b'{"jobId":"j-1"}') == "j-1"


def test_a_page_tells_who_began_when_and_spoke() -> None:
    """Whoever has no id is only counted; what is not told of media is trusted."""

    def one(name: str, *media: str) -> dict[str, object]:
        sessions = [{"mediaType": word} for word in media]
        return {
            "conversationId": name,
            "conversationStart": "2026-01-01T00:00:00.500Z",
            "participants": [{"sessions": sessions}, {"sessions": None}],
        }

    body = {
        "conversations": [one("a", "chat", "Voice"), one("b", "chat"), one("c"), one("../d")],
        "cursor": "next",
        "totalHits": 9,
    }
    page = decode_page(msgspec.json.encode(body))
    assert [(o.id, o.has_voice) for o in page.conversations] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]
    assert {o.began_us for o in page.conversations} == {NEW_YEAR_US + 500_000}
    assert (page.cursor, page.count, page.total) == ("next", 4, 9)
    assert decode_page(b"{}").count == 0


@pytest.mark.parametrize("text", [None, "", "yesterday", "0001-01-01", "1969-12-31T23:59:59Z"])
def test_what_is_no_instant_is_not_known(text: str | None) -> None:
    """0 stands for it."""
    assert instant_us(text) == 0


def test_availability_is_an_instant() -> None:
    """0 where it is not told."""
    assert decode_availability(b'{"dataAvailabilityDate":"2026-01-01T00:00:00Z"}') == NEW_YEAR_US
    assert decode_availability(b"{}") == 0


@given(
    st.binary(max_size=30)
    | st.sampled_from([b"[]", b"null", b'{"jobId":"../x"}', b'{"cursor":7}', b"[" * 5000])
)
def test_answers_that_are_none_are_the_platforms_fault(body: bytes) -> None:
    """Whatever they are: no other error comes out."""
    for decode in (decode_job, decode_state, decode_availability, decode_page):
        with suppress(RemoteProtocolError):
            decode(body)


def test_a_cursor_is_bounded_and_a_job_is_an_id() -> None:
    """Both go into addresses."""
    with pytest.raises(RemoteProtocolError):
        decode_page(msgspec.json.encode({"cursor": "x" * 10_000}))
    with pytest.raises(LocalProtocolError):
        job_path("../x")
    assert results_query("") == {"pageSize": "500"}
    assert results_query("abc")["cursor"] == "abc"
