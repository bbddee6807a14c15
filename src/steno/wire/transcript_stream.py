"""The tutorials' transcript stream: its address, its messages, and whether a socket is alive.

One WebSocket carries one conversation or all of them, one text frame for each fragment:

    {"event":"TRANSCRIPT_UPDATE","conversationId":…,"participantId":…,"transcript":…,
     "confidence":0.78,"isFinal":false,"language":"en-US","timestamp":"2024-01-15T10:30:00Z"}

``Decoder`` is on the hot path: about 2 µs a frame. It turns a frame into a ``Fragment``, an
``Ignored`` (another event) or a ``Quarantined`` (anything malformed; its content is dropped and
never quoted). It raises for no input.

``Liveness`` decides from pings and pongs whether the connection is alive. Its states:

    waiting --deadline--> pinged --pong--> waiting
                          pinged --deadline--> dead (one ``PongLate``, then silence)
    any --paused--> paused --resumed--> waiting      (our own back-pressure is not the peer's fault)

Sources: the tutorials' transcript document (address, keys, 30 s ping, 15 s limits); RFC 8259
(JSON); RFC 3339 (timestamps); RFC 6455, 5.5.2 (ping and pong).
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

import msgspec

from steno.core.ids import is_id
from steno.core.transcript import Fragment, RawText
from steno.ports import Quarantined

SOURCE = "transcript-stream"
PATH = "/api/v2/conversations/transcripts/stream"
SUBPROTOCOL = "v2"
HEADERS = (("Accept", "application/json"),)
READ_SCOPE = "conversation:transcript:read"

HANDSHAKE_LIMIT_S = 15.0
PING_INTERVAL_S = 30.0
PONG_LIMIT_S = 15.0

MAX_MESSAGE_BYTES = 1 << 20
MAX_KNOWN_IDS = 20_000
"""Ids remembered as valid. A site has a few thousand at a time; 20,000 are about 3 MB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TAG = re.compile(r"[A-Za-z]{1,8}(?:[-_][A-Za-z0-9]{1,8}){0,8}")
_QUOTES = 28
"""Quote characters of a message with our eight keys and six string values, and no others."""


def stream_url(ws_base: str, token: str, conversation: str = "") -> str:
    """Return the address of the stream; it holds the token, so it is never logged.

    Args:
        ws_base: ``wss://host[:port]``.
        token: Access token.
        conversation: Follow this conversation only; empty follows all.
    """
    query = {"access_token": token}
    if conversation:
        query["conversationId"] = conversation
    return f"{ws_base.rstrip('/')}{PATH}?{urlencode(query, quote_via=quote)}"


# --- messages --------------------------------------------------------------------------------


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A well-formed message that is none of our business."""


IGNORED = Ignored()


class _Update(msgspec.Struct, gc=False, rename="camel"):
    event: Literal["TRANSCRIPT_UPDATE"]
    conversation_id: str
    participant_id: str
    transcript: str
    confidence: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    is_final: bool
    language: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]


class _Envelope(msgspec.Struct, gc=False):
    event: str


_KEYS = tuple(field.encode_name for field in msgspec.structs.fields(_Update))
_KEY_SET = frozenset(_KEYS)
_NEEDLES = tuple(f'"{key}"'.encode() for key in _KEYS)
_update = msgspec.json.Decoder(_Update).decode
_envelope = msgspec.json.Decoder(_Envelope).decode


class Malformed(Exception):
    """Carries the cause class, and nothing of the message."""


class Decoder:
    """Decodes the frames of one connection (or of all: it holds nothing but known ids).

    Args:
        max_bytes: Messages longer than this are quarantined undecoded.
    """

    __slots__ = ("_ids", "_max_bytes", "_tags")

    def __init__(self, *, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._ids: dict[str, str] = {}
        self._tags: dict[str, str] = {}

    def decode(self, data: bytes, *, now: float, utc_us: int) -> Fragment | Quarantined | Ignored:
        """Return what one text frame says.

        Args:
            data: The frame's payload.
            now: Monotonic seconds at which it was read.
            utc_us: The same moment in UTC microseconds, for a quarantine note.
        """
        try:
            if len(data) > self._max_bytes:
                return quarantined(data, "oversize", utc_us)
            update = _update(data)
            if data.count(b'"') != _QUOTES:
                _refuse_repeated_keys(data)
            at_us = (update.timestamp - _EPOCH) // _MICROSECOND
            if at_us < 0:
                raise Malformed("timestamp")
            ids = self._ids
            # The first object for an id is used for good: dictionaries downstream then compare
            # by identity and find its hash computed.
            return Fragment(
                ids.get(update.conversation_id) or self._check_id(update.conversation_id),
                ids.get(update.participant_id) or self._check_id(update.participant_id),
                RawText(update.transcript),
                update.confidence,
                update.is_final,
                self._tags.get(update.language) or self._check_tag(update.language),
                at_us,
                received_s=now,
            )
        except Malformed as malformed:
            return quarantined(data, str(malformed), utc_us)
        except msgspec.ValidationError as exc:
            return _other_event(data, exc, utc_us)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return quarantined(data, "invalid-json", utc_us)
        except RecursionError:
            return quarantined(data, "deep-nesting", utc_us)
        except (OverflowError, ValueError):
            return quarantined(data, "invalid-value", utc_us)

    def _check_id(self, text: str) -> str:
        if not is_id(text):
            raise Malformed("id")
        if len(self._ids) >= MAX_KNOWN_IDS:
            self._ids.clear()  # rare, and cheaper than keeping an order on the hot path
        self._ids[text] = text
        return text

    def _check_tag(self, text: str) -> str:
        if _TAG.fullmatch(text) is None:
            raise Malformed("language")
        if len(self._tags) >= 256:
            self._tags.clear()
        self._tags[text] = text
        return text


def quarantined(data: bytes, cause: str, utc_us: int, *, source: str = SOURCE) -> Quarantined:
    """Return the note kept of a message that is dropped: its hash and size, not its content."""
    return Quarantined(source, hashlib.sha256(data).hexdigest(), len(data), cause, utc_us)


def _other_event(data: bytes, exc: msgspec.ValidationError, utc_us: int) -> Quarantined | Ignored:
    """Tell another event from a malformed update; only an update owes us the other keys."""
    try:
        envelope = _envelope(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return quarantined(data, "shape", utc_us)
    if envelope.event != "TRANSCRIPT_UPDATE":
        return IGNORED
    return quarantined(data, _field_of(exc), utc_us)


def _field_of(exc: msgspec.ValidationError) -> str:
    """Name the wrong key. The library's message may quote the input, so only names we know
    are taken out of it.
    """
    message = str(exc)
    if "missing required field" in message:
        return "missing-key"
    for key in _KEYS:
        if message.endswith(f"`$.{key}`"):
            return key
    return "shape"


def _refuse_repeated_keys(data: bytes) -> None:
    """Raise for an object that says the same of our keys twice.

    Which of two values counts differs between JSON parsers (RFC 8259, 4), so nobody can rely on
    either. A message with exactly our keys and no escaped quote never comes here.
    """
    if b"\\" not in data and all(data.count(needle) == 1 for needle in _NEEDLES):
        return
    json.loads(data, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, object]]) -> None:
    ours = [key for key, _ in pairs if key in _KEY_SET]
    if len(set(ours)) != len(ours):
        raise Malformed("repeated-key")


# --- liveness --------------------------------------------------------------------------------


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Send a WebSocket ping with this payload."""

    payload: bytes


class PongSeen(msgspec.Struct, frozen=True, gc=False):
    """The peer answered our ping after ``latency_s``."""

    latency_s: float


class PongLate(msgspec.Struct, frozen=True, gc=False):
    """The peer did not answer in time: the connection is to be given up."""


class Liveness:
    """Decides whether a connection is alive. Times are monotonic seconds.

    Args:
        now: When the connection was opened.
        ping_interval_s: From a pong (or the opening) to the next ping.
        pong_limit_s: A pong later than this after its ping is no pong.
    """

    def __init__(
        self,
        now: float,
        *,
        ping_interval_s: float = PING_INTERVAL_S,
        pong_limit_s: float = PONG_LIMIT_S,
    ) -> None:
        self._interval_s = ping_interval_s
        self._limit_s = pong_limit_s
        self._deadline: float | None = now + ping_interval_s
        self._pinged_at: float | None = None
        self._paused = False
        self._dead = False
        self._count = 0
        self._payload = b""
        self._events: list[PongSeen | PongLate] = []
        self._to_send: list[Ping] = []
        self.whole_at = now
        """Last time at which the connection is known to have worked."""

    def receive_messages(self, *, now: float) -> None:
        """Take note that data arrived: the way was whole until now."""
        self.whole_at = now

    def receive_pong(self, payload: bytes, *, now: float) -> None:
        """Take a pong in; one that answers no open ping is ignored (RFC 6455, 5.5.3)."""
        if self._dead or self._pinged_at is None or payload != self._payload:
            return
        self.whole_at = now
        self._events.append(PongSeen(now - self._pinged_at))
        self._pinged_at = None
        self._deadline = None if self._paused else now + self._interval_s

    def pause(self) -> None:
        """Stop judging: we do not read, so no pong can reach us."""
        self._paused = True
        self._deadline = None

    def resume(self, *, now: float) -> None:
        """Judge again from now on; an open ping gets its full time once more."""
        self._paused = False
        if not self._dead:
            waits_s = self._interval_s if self._pinged_at is None else self._limit_s
            self._deadline = now + waits_s

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` wants to be called; None: not before something arrives."""
        return self._deadline

    def on_deadline(self, now: float) -> None:
        """Ping, or give the peer up."""
        if self._deadline is None or now < self._deadline:
            return
        if self._pinged_at is not None:
            self._dead = True
            self._deadline = None
            self._events.append(PongLate())
            return
        self._count += 1
        self._payload = b"steno-%d" % self._count
        self._pinged_at = now
        self._deadline = now + self._limit_s
        self._to_send.append(Ping(self._payload))

    def events(self) -> list[PongSeen | PongLate]:
        """Return what happened since the last call, oldest first."""
        happened, self._events = self._events, []
        return happened

    def to_send(self) -> list[Ping]:
        """Return what is to be sent, oldest first."""
        wanted, self._to_send = self._to_send, []
        return wanted
