"""Finding conversations by time: bodies and answers of the analytics details calls.

History is asked for by a job, whose results are pages with a cursor; what is too new for it by a
synchronous query, whose pages are numbered. The interval of either also matches conversations
that began before it, so ``Listed`` says when one began, for the reader to choose.

Source: Genesys Cloud, Analytics API (conversation details job and query).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from steno.core.ids import is_id, quoted
from steno.errors import LocalProtocolError, RemoteProtocolError

JOBS_PATH: Final = "/api/v2/analytics/conversations/details/jobs"
AVAILABILITY_PATH: Final = f"{JOBS_PATH}/availability"
QUERY_PATH: Final = "/api/v2/analytics/conversations/details/query"

JOB_PAGE: Final = 500
QUERY_PAGE: Final = 100
MAX_PAGE_BYTES: Final = 64 << 20
"""A conversation with its segments and metrics takes some tens of KB."""

JOB_SPAN_US: Final = 31 * 86_400 * 1_000_000
"""Longest range of one job, so that its pages stay within the life of its results."""
QUERY_SPAN_US: Final = 86_400 * 1_000_000
"""Longest range of one query: the pages of one have an end."""

_MAX_CURSOR_CHARS: Final = 8192
_MAX_LISTED: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class JobState(StrEnum):
    """How a details job stands. ``OTHER`` is a word we do not know: still running."""

    QUEUED = "queued"
    PENDING = "pending"
    FULFILLED = "fulfilled"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    OTHER = "other"


OVER: Final = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})
"""States in which a job gives no results, for ever."""


class Listed(msgspec.Struct, frozen=True, gc=False):
    """One conversation of a page. ``began_us`` is UTC microseconds; 0 where it is not told."""

    id: str
    began_us: int = 0
    has_voice: bool = True


class Page(msgspec.Struct, frozen=True, gc=False):
    """One page.

    Attributes:
        conversations: Those with an id; whatever else was listed is in ``count`` only.
        cursor: Of the next page; empty at the end. Queries have none.
        count: How many were listed.
        total: How many a query found in all; None where it is not told.
    """

    conversations: tuple[Listed, ...]
    cursor: str = ""
    count: int = 0
    total: int | None = None


# --- what is asked ---------------------------------------------------------------------------


def spans(from_us: int, to_us: int, longest_us: int) -> Iterator[tuple[int, int]]:
    """Cut a time range into spans no longer than ``longest_us``, in order."""
    while from_us < to_us:
        end_us = min(to_us, from_us + longest_us)
        yield from_us, end_us
        from_us = end_us


def job_body(from_us: int, to_us: int) -> bytes:
    """Return the body that starts a job for the voice conversations of a range (UTC us)."""
    return msgspec.json.encode(_question(from_us, to_us))


def query_body(from_us: int, to_us: int, page: int) -> bytes:
    """Return the body of a query, ``page`` counted from 1."""
    asked = _question(from_us, to_us)
    asked["paging"] = {"pageSize": QUERY_PAGE, "pageNumber": page}
    return msgspec.json.encode(asked)


def job_path(job: str) -> str:
    """Return the path of a job.

    Raises:
        LocalProtocolError: ``job`` is no id.
    """
    if not is_id(job):
        raise LocalProtocolError("this is not an id of a details job", size=len(job))
    return f"{JOBS_PATH}/{quoted(job)}"


def results_query(cursor: str) -> dict[str, str]:
    """Return the query parameters of a page of results."""
    return {"pageSize": str(JOB_PAGE)} | ({"cursor": cursor} if cursor else {})


def _question(from_us: int, to_us: int) -> dict[str, object]:
    voice = {"type": "dimension", "dimension": "mediaType", "operator": "matches", "value": "voice"}
    return {
        "interval": f"{_written(from_us)}/{_written(to_us + 999)}",  # whole ms, none left out
        "order": "asc",
        "orderBy": "conversationStart",
        "segmentFilters": [{"type": "and", "predicates": [voice]}],
    }


def _written(at_us: int) -> str:
    at = _EPOCH + timedelta(microseconds=at_us)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- what is answered ------------------------------------------------------------------------


class _Job(msgspec.Struct, rename="camel"):
    job_id: str = ""
    state: str = ""


class _Availability(msgspec.Struct, rename="camel"):
    data_availability_date: str | None = None


class _Session(msgspec.Struct, rename="camel"):
    media_type: str | None = None


class _Attendee(msgspec.Struct):
    sessions: list[_Session] | None = None


class _Conversation(msgspec.Struct, rename="camel"):
    conversation_id: str = ""
    conversation_start: str | None = None
    participants: list[_Attendee] | None = None


class _Page(msgspec.Struct, rename="camel"):
    conversations: Annotated[list[_Conversation], msgspec.Meta(max_length=_MAX_LISTED)] | None = (
        None
    )
    cursor: str | None = None
    total_hits: int | None = None


_read_job = msgspec.json.Decoder(_Job).decode
_read_availability = msgspec.json.Decoder(_Availability).decode
_read_page = msgspec.json.Decoder(_Page).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_job(body: bytes) -> str:
    """Return the id of a job that was started.

    Raises:
        RemoteProtocolError: There is none.
    """
    try:
        job = _read_job(body).job_id
    except _UNREADABLE:
        raise _malformed("details job", body) from None
    if not is_id(job):
        raise _malformed("details job", body)
    return job


def decode_state(body: bytes) -> JobState:
    """Return how a job stands.

    Raises:
        RemoteProtocolError: It is not told.
    """
    try:
        word = _read_job(body).state.lower()
    except _UNREADABLE:
        raise _malformed("state of a details job", body) from None
    try:
        return JobState(word)
    except ValueError:
        return JobState.OTHER


def decode_availability(body: bytes) -> int:
    """Return until when jobs know everything, UTC microseconds; 0 where it is not told.

    Raises:
        RemoteProtocolError: The answer cannot be read.
    """
    try:
        return instant_us(_read_availability(body).data_availability_date)
    except _UNREADABLE:
        raise _malformed("availability of details", body) from None


def decode_page(body: bytes) -> Page:
    """Read a page of a job's results or of a query.

    Raises:
        RemoteProtocolError: It has not the documented shape. Nothing of it is quoted.
    """
    try:
        told = _read_page(body)
    except _UNREADABLE:
        raise _malformed("page of details", body) from None
    cursor = told.cursor or ""
    if len(cursor) > _MAX_CURSOR_CHARS:
        raise _malformed("cursor of details", body)
    listed = told.conversations or []
    known = tuple(_listed(one) for one in listed if is_id(one.conversation_id))
    return Page(known, cursor, len(listed), told.total_hits)


def _listed(told: _Conversation) -> Listed:
    media = {
        session.media_type.lower()
        for one in told.participants or ()
        for session in one.sessions or ()
        if session.media_type
    }
    # Nothing told of media: the filter that was asked for has to be trusted.
    return Listed(
        told.conversation_id, instant_us(told.conversation_start), not media or "voice" in media
    )


def instant_us(told: str | None) -> int:
    """Return UTC microseconds of a written instant; 0 for what is none after 1970."""
    try:
        at = datetime.fromisoformat(told or "")
        lapse = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return 0
    return max(0, lapse // timedelta(microseconds=1))


def _malformed(what: str, body: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        "the platform's answer has not the documented shape", what=what, size=len(body)
    )
