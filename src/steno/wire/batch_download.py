"""The platform's calls that hand recordings and transcripts out: bodies sent, answers read.

An address of a download is a secret as long as it lives: ``Link`` keeps it out of ``repr``, and
no error has any of it. A peer's ``errorMsg`` is told as a fact and never repeated. Unknown keys
are ignored; almost every key may be missing.

Source: Genesys Cloud API: batch download of recordings, recordings of a conversation,
``transcripturl`` of a communication.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from steno.core.ids import is_id, quoted
from steno.errors import LocalProtocolError, RemoteProtocolError

T = TypeVar("T")

BATCHES_PATH: Final = "/api/v2/recording/batchrequests"
MAX_ITEMS: Final = 100
"""Most recordings of one order."""

MAX_BODY_BYTES: Final = 4 << 20
MAX_FILES: Final = 16
"""Most files of one recording: the platform makes one, or one for each channel."""

MAX_LINK_CHARS: Final = 16 << 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FileState(StrEnum):
    """Where a recording's file is. ``OTHER`` is a word we do not know, or none."""

    ARCHIVED = "ARCHIVED"
    AVAILABLE = "AVAILABLE"
    DELETED = "DELETED"
    RESTORED = "RESTORED"
    RESTORING = "RESTORING"
    UPLOADING = "UPLOADING"
    ERROR = "ERROR"
    OTHER = "OTHER"


class Link(msgspec.Struct, frozen=True, gc=False):
    """A presigned address: whoever has it may read the file, for some minutes."""

    url: str

    def __repr__(self) -> str:
        return "Link()"


class BatchResult(msgspec.Struct, frozen=True, gc=False):
    """One file of an order.

    Attributes:
        conversation_id, recording_id: Lower case; empty where they are not told.
        link: None where the item failed.
    """

    conversation_id: str
    recording_id: str
    link: Link | None


class BatchState(msgspec.Struct, frozen=True):
    """How an order stands.

    Attributes:
        expected: Results there will be; it can grow.
        ready: Results there are, those that failed among them.
        is_named_done: The platform calls it ``Completed``. Answers without a status were seen:
            then an order is done when ``is_full`` for a while.
    """

    expected: int
    ready: int
    is_named_done: bool
    results: tuple[BatchResult, ...]

    @property
    def is_full(self) -> bool:
        """Everything that is expected now is there."""
        return self.expected > 0 and self.ready >= self.expected


class RecordingMedia(msgspec.Struct, frozen=True):
    """A recording as the platform describes it.

    Attributes:
        started_us, ended_us: UTC microseconds; 0 where they are not told.
        communication_id: Of the leg it is of; empty where it is not told.
        links: One for each file, in the order of their keys; empty when none were asked for.
        is_pending: It is being transcoded: ask again, in ``wait_s`` where that is told.
    """

    id: str
    started_us: int = 0
    ended_us: int = 0
    communication_id: str = ""
    file_state: FileState = FileState.OTHER
    links: tuple[Link, ...] = ()
    is_pending: bool = False
    wait_s: float | None = None


class _Item(msgspec.Struct, rename="camel"):
    conversation_id: str
    recording_id: str


class _Order(msgspec.Struct, rename="camel"):
    batch_download_request_list: list[_Item]


class _Ordered(msgspec.Struct):
    id: str


class _Result(msgspec.Struct, rename="camel"):
    conversation_id: str | None = None
    recording_id: str | None = None
    result_url: str | None = None
    error_msg: str | None = None


class _Batch(msgspec.Struct, rename="camel"):
    expected_result_count: int = 0
    result_count: int = 0
    status: str | None = None
    results: list[_Result] | None = None


class _Uri(msgspec.Struct, rename="camel"):
    media_uri: str | None = None


class _Recording(msgspec.Struct, rename="camel"):
    id: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    file_state: str | None = None
    session_id: str | None = None
    media_uris: dict[str, _Uri] | None = None


class _Pending(msgspec.Struct, rename="camel"):
    estimated_transcode_time_ms: float | None = None


class _Url(msgspec.Struct):
    url: str | None = None


_ordered = msgspec.json.Decoder(_Ordered).decode
_batch = msgspec.json.Decoder(_Batch).decode
_recording = msgspec.json.Decoder(_Recording).decode
_url = msgspec.json.Decoder(_Url).decode
_encode = msgspec.json.Encoder().encode


# --- what is sent ----------------------------------------------------------------------------


def encode_order(items: Sequence[tuple[str, str]]) -> bytes:
    """Return the body of an order of recordings, each a conversation's id and its own.

    Raises:
        LocalProtocolError: None, or more than ``MAX_ITEMS``.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        raise LocalProtocolError("an order has 1 to 100 recordings", count=len(items))
    return _encode(_Order([_Item(*item) for item in items]))


def batch_path(batch_id: str) -> str:
    """Return the path that tells how an order stands.

    Raises:
        LocalProtocolError: It is no id.
    """
    return f"{BATCHES_PATH}/{_segment(batch_id)}"


def recording_path(conversation_id: str, recording_id: str) -> str:
    """Return the path of a recording of a conversation.

    Raises:
        LocalProtocolError: One of them is no id.
    """
    return f"/api/v2/conversations/{_segment(conversation_id)}/recordings/{_segment(recording_id)}"


def transcript_path(conversation_id: str, communication_id: str) -> str:
    """Return the path that tells where the transcript of a communication is.

    Raises:
        LocalProtocolError: One of them is no id.
    """
    return (
        f"/api/v2/speechandtextanalytics/conversations/{_segment(conversation_id)}"
        f"/communications/{_segment(communication_id)}/transcripturl"
    )


def _segment(text: str) -> str:
    if not is_id(text):
        raise LocalProtocolError("this is not an id", size=len(text))
    return quoted(text)


# --- what is answered ------------------------------------------------------------------------


def decode_order(body: bytes) -> str:
    """Return the id of an order.

    Raises:
        RemoteProtocolError: Not the documented shape, or no usable id.
    """
    found = _decoded(_ordered, body, "order").id
    if not is_id(found):
        raise _malformed("order", body)
    return found


def decode_batch(body: bytes) -> BatchState:
    """Read how an order stands. An entry without address and error is not ready yet.

    Raises:
        RemoteProtocolError: Not the documented shape.
    """
    found = _decoded(_batch, body, "batch")
    results = tuple(
        BatchResult(_id(each.conversation_id), _id(each.recording_id), _link(each.result_url))
        for each in found.results or ()
        if each.result_url or each.error_msg
    )
    return BatchState(
        found.expected_result_count,
        found.result_count,
        (found.status or "").strip().lower() == "completed",
        results,
    )


def decode_recording(body: bytes, recording_id: str) -> RecordingMedia:
    """Read a recording.

    Raises:
        RemoteProtocolError: Not the documented shape, another recording, more than
            ``MAX_FILES`` files, or an address that is none.
    """
    found = _decoded(_recording, body, "recording")
    if found.id is not None and found.id.lower() != recording_id.lower():
        raise _malformed("recording", body)
    uris = found.media_uris or {}
    if len(uris) > MAX_FILES:
        raise _malformed("recording", body)
    links = tuple(
        link for name in sorted(uris, key=_place) if (link := _link(uris[name].media_uri))
    )
    return RecordingMedia(
        recording_id,
        instant_us(found.start_time),
        instant_us(found.end_time),
        _id(found.session_id),
        _state(found.file_state),
        links,
    )


def decode_pending(body: bytes, recording_id: str) -> RecordingMedia:
    """Read a 202: the recording is being transcoded. Never raises: its body may be empty."""
    try:
        told = msgspec.json.decode(body, type=_Pending).estimated_transcode_time_ms
    except (msgspec.MsgspecError, ValueError, RecursionError):
        told = None
    wait_s = None if told is None or not 0 < told < float("inf") else told / 1000
    return RecordingMedia(recording_id, is_pending=True, wait_s=wait_s)


def decode_url(body: bytes) -> Link:
    """Read where a transcript is.

    Raises:
        RemoteProtocolError: Not the documented shape, or no address.
    """
    link = _link(_decoded(_url, body, "transcript address").url)
    if link is None:
        raise _malformed("transcript address", body)
    return link


def instant_us(text: str | None) -> int:
    """Return a time as UTC microseconds; 0 for none, or one that cannot be read."""
    try:
        at = datetime.fromisoformat(text or "")
        lapse = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return 0
    return max(0, (lapse.days * 86_400 + lapse.seconds) * 1_000_000 + lapse.microseconds)


def _place(name: str) -> tuple[int, str]:
    """Sort ``"10"`` behind ``"9"``."""
    return (int(name), "") if name.isascii() and name.isdigit() else (MAX_FILES, name)


def _id(text: str | None) -> str:
    return text.lower() if text and is_id(text) else ""


def _state(text: str | None) -> FileState:
    try:
        return FileState((text or "").upper())
    except ValueError:
        return FileState.OTHER


def _link(url: str | None) -> Link | None:
    """Return a link; None for no address.

    Raises:
        RemoteProtocolError: It is none that a download can come from.
    """
    if not url:
        return None
    if len(url) > MAX_LINK_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise RemoteProtocolError("the address of a download is none", size=len(url))
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not usable:
        raise RemoteProtocolError("the address of a download is none", size=len(url))
    return Link(url)


def _decoded(decode: Callable[[bytes], T], body: bytes, what: str) -> T:
    if len(body) > MAX_BODY_BYTES:
        raise _malformed(what, body)
    try:
        return decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _malformed(what, body) from None


def _malformed(what: str, body: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        "the platform's answer has not the documented shape", what=what, size=len(body)
    )
