"""Where stored transcripts are asked for, and what the answers mean.

Two shapes are spoken. The tutorial's document has one answer for a conversation, with the
transcript in it or a link to it, and a status while it is in work. The real platform gives links
by communication, or by recording of one, and answers 404 until there is a transcript.

Links are presigned: whoever has one has the transcript. They travel as ``Secret`` and nowhere
else.

Source: the tutorial on stored transcripts; Genesys Cloud, Speech and Text Analytics API
(``transcripturl``, ``transcripturls``), Conversations API, Analytics API (conversation details).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from steno.core.ids import is_id, quoted
from steno.core.secret import Secret
from steno.core.stored import FieldsRead, StoredShape, role_of
from steno.core.transcript import Role
from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.conversation_details import instant_us
from steno.wire.participants import Roster

MAX_LINK_CHARS: Final = 16 << 10
MAX_LINKS: Final = 1000
"""Most recordings of one communication."""
MAX_LEGS: Final = 200
"""Most communications of one conversation that are asked about."""

FIX_DOCUMENT: Final = (
    "Give the OAuth client the scopes interaction:read, media:read and analytics:read."
)
FIX_LINK: Final = (
    "Give a role of the client both recording:recording:view and speechAndTextAnalytics:data:view."
)
FIX_LINKS: Final = (
    "Give a role of the client recording:recording:view or recording:recordingSegment:view."
)
FIX_CONVERSATION: Final = (
    "Give a role of the client conversation:communication:view or "
    "analytics:conversationDetail:view."
)
FIX_DETAILS: Final = (
    "Give a role of the client analytics:conversationDetail:view, or the OAuth client the scope "
    "analytics:read."
)


# --- addresses -------------------------------------------------------------------------------


def document_path(conversation: str) -> str:
    """Return the path of the document's answer.

    Raises:
        LocalProtocolError: ``conversation`` is no id.
    """
    return f"/api/v2/conversations/media/{_id(conversation)}/transcripts"


def conversation_path(conversation: str) -> str:
    """Return the path of a conversation with its participants and their calls.

    Raises:
        LocalProtocolError: ``conversation`` is no id.
    """
    return f"/api/v2/conversations/{_id(conversation)}"


def details_path(conversation: str) -> str:
    """Return the path of a conversation as analytics keeps it: longer, and with less detail.

    Raises:
        LocalProtocolError: ``conversation`` is no id.
    """
    return f"/api/v2/analytics/conversations/{_id(conversation)}/details"


def link_path(conversation: str, communication: str, *, by_recording: bool = False) -> str:
    """Return the path of a communication's link, or of its links by recording.

    Raises:
        LocalProtocolError: One of them is no id.
    """
    return (
        f"/api/v2/speechandtextanalytics/conversations/{_id(conversation)}"
        f"/communications/{_id(communication)}/transcripturl{'s' if by_recording else ''}"
    )


def _id(text: str) -> str:
    if not is_id(text):
        raise LocalProtocolError("this is not an id of the platform", size=len(text))
    return quoted(text)


# --- links -----------------------------------------------------------------------------------


class _Link(msgspec.Struct):
    url: str


class _Recording(msgspec.Struct):
    id: str = ""


class _RecordedLink(msgspec.Struct):
    url: str
    recording: _Recording | None = None


class _Links(msgspec.Struct):
    urls: Annotated[list[_RecordedLink], msgspec.Meta(max_length=MAX_LINKS)] = []


class RecordedLink(msgspec.Struct, frozen=True):
    """A link and the recording its transcript is of; empty where that is not told."""

    recording: str
    link: Secret


_read_link = msgspec.json.Decoder(_Link).decode
_read_links = msgspec.json.Decoder(_Links).decode


def decode_link(body: bytes) -> Secret:
    """Read ``transcripturl``'s answer.

    Raises:
        RemoteProtocolError: It has no link. Nothing of it is quoted.
    """
    try:
        told = _read_link(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _malformed("transcripturl", body) from None
    return checked_link(told.url)


def decode_links(body: bytes) -> list[RecordedLink]:
    """Read ``transcripturls``' answer.

    Raises:
        RemoteProtocolError: It has not the documented shape. Nothing of it is quoted.
    """
    try:
        told = _read_links(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _malformed("transcripturls", body) from None
    found = []
    for one in told.urls:
        recording = one.recording.id if one.recording is not None else ""
        found.append(RecordedLink(recording if is_id(recording) else "", checked_link(one.url)))
    return found


def checked_link(url: str) -> Secret:
    """Return a link as a secret.

    Raises:
        RemoteProtocolError: It is empty or longer than an address can be.
    """
    if not 0 < len(url) <= MAX_LINK_CHARS:
        raise RemoteProtocolError("the platform's link is no address", size=len(url))
    return Secret(url)


def _malformed(what: str, body: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        "the platform's answer has not the documented shape", what=what, size=len(body)
    )


# --- the document's answer -------------------------------------------------------------------


class Standing(StrEnum):
    """How a conversation's transcript stands, by the document's answer."""

    LINKED = "linked"
    INLINE = "inline"
    IN_WORK = "in_work"
    DOUBTFUL = "doubtful"
    """Empty, and nothing says that it is done: it may still be in work."""
    EMPTY = "empty"
    LEGACY = "legacy"
    FAILED = "failed"


_FAILED: Final = frozenset({"failed", "error", "cancelled", "canceled", "aborted"})
_DONE: Final = frozenset(
    {"completed", "complete", "done", "ready", "available", "fulfilled", "finished", "succeeded"}
)


def standing_of(told: FieldsRead) -> Standing:
    """Return how a transcript stands.

    The status counts before anything else: what is in work may have segments already. A word
    that we do not know is one of work in hand. Without a status, segments or a link are a
    transcript that is done (answers of older days have none).
    """
    status = told.status.strip().lower()
    if status in _FAILED:
        return Standing.FAILED
    if status and status not in _DONE:
        return Standing.IN_WORK
    if told.download_url:
        return Standing.LINKED
    if told.segments:
        return Standing.INLINE
    if told.bad or told.shape is StoredShape.PLATFORM:
        return Standing.LEGACY
    if told.has_transcript:
        return Standing.EMPTY if status else Standing.DOUBTFUL
    return Standing.EMPTY if status else Standing.LEGACY


# --- legs of a conversation ------------------------------------------------------------------


class Legs(msgspec.Struct, frozen=True, gc=False):
    """Communications of a conversation that may have a transcript.

    Attributes:
        customers, others: Communication ids, each once.
        ended_us: End of the conversation, UTC microseconds; 0 while it goes on or is not told.
    """

    customers: tuple[str, ...]
    others: tuple[str, ...]
    ended_us: int = 0


def legs_of(roster: Roster) -> Legs:
    """Return the legs of a conversation as the Conversations API describes it."""
    calls = [
        (one.purpose, call.id)
        for one in roster.participants
        for call in one.calls
        if call.id and not one.listening
    ]
    last_us = max((c.disconnected_us for p in roster.participants for c in p.calls), default=0)
    return _legs(calls, roster.ended_us or (last_us if roster.over else 0))


class _Session(msgspec.Struct, rename="camel"):
    session_id: str = ""
    media_type: str = ""


class _Attendee(msgspec.Struct, rename="camel"):
    purpose: str | None = None
    sessions: list[_Session] | None = None


class _Details(msgspec.Struct, rename="camel"):
    participants: list[_Attendee] | None = None
    conversation_end: str | None = None


_read_details = msgspec.json.Decoder(_Details).decode


def legs_of_details(body: bytes) -> Legs:
    """Return the legs of a conversation as analytics describes it: sessions with voice.

    Raises:
        RemoteProtocolError: It has not the documented shape. Nothing of it is quoted.
    """
    try:
        told = _read_details(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _malformed("conversation details", body) from None
    calls = [
        (one.purpose or "", session.session_id)
        for one in told.participants or ()
        for session in one.sessions or ()
        if session.media_type.lower() in ("voice", "callback", "") and is_id(session.session_id)
    ]
    return _legs(calls, instant_us(told.conversation_end))


def _legs(calls: Iterable[tuple[str, str]], ended_us: int) -> Legs:
    customers: dict[str, None] = {}
    others: dict[str, None] = {}
    for purpose, call in calls:
        (customers if role_of(purpose) is Role.CUSTOMER else others)[call] = None
    rest = tuple(one for one in others if one not in customers)
    return Legs(tuple(customers)[:MAX_LEGS], rest[:MAX_LEGS], ended_us)
