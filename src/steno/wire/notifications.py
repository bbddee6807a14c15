"""The real platform's notification sockets: messages, liveness, a channel's life, subscriptions.

A channel is made and subscribed by REST (``notifications_rest``) and read over one WebSocket.
Four machines, none of which does I/O:

``Decoder``        messages → fragments, ends, discovered conversations, control traffic
``Liveness``       any message proves the socket; after 35 s of silence a JSON ping must be
                   answered within seconds

    listening --35 s silent--> pinged --anything--> listening
                               pinged --limit--> dead

``ChannelLife``    when a channel has to be replaced: before its 24 hours are over, and when the
                   token that made it is renewed (delivery stops with the token that made it)
``Subscriptions``  topics over channels: 1000 each, 20 channels

Delivery is at least once and in no promised order, so repeats are dropped here, by their
content, and late utterances are as good as any.

Source: Genesys Cloud, Notifications API and topic ``v2.conversations.{id}.transcription``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from steno.core.ids import is_id
from steno.core.transcript import Fragment, RawText, Role
from steno.errors import ConfigError, RemoteProtocolError
from steno.ports import ConversationEnded, Quarantined
from steno.wire.notifications_rest import MAX_CHANNELS, MAX_TOPICS_PER_CHANNEL
from steno.wire.participants import Roster, decode_roster
from steno.wire.transcript_stream import MAX_MESSAGE_BYTES, quarantined

SOURCE = "notifications"
PERMISSION = "conversation:transcription:view"

SILENCE_S = 35.0
PONG_LIMIT_S = 5.0
CHANNEL_LIFE_S = 24 * 3600.0
ROLLOVER_S = 23 * 3600.0
OVERLAP_S = 5.0
"""How long the old socket is read on beside the new one after a rollover."""
ENDED_GRACE_S = 180.0
"""A conversation's topic is kept this long after its end: transcripts are up to 35 s late."""
QUIET_LIMIT_S = 3600.0
"""A discovered conversation of which nothing is heard for this long is forgotten."""
MAX_REMEMBERED = 50_000

UNKNOWN_LANGUAGE = "und"
"""BCP 47 for a language that nobody has told."""

PING = '{"message":"ping"}'

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TRANSCRIPTION = re.compile(r"v2\.conversations\.([^.]+)\.transcription")
_DISCOVERY = re.compile(r"v2\.(?:routing\.queues|users)\.[^.]+\.conversations(\.calls)?")
_TAG = re.compile(r"[A-Za-z]{1,8}(?:[-_][A-Za-z0-9]{1,8}){0,8}")
_MAX_MS = 253_402_300_800_000  # year 10000
_ROLES = {"external": Role.CUSTOMER, "internal": Role.AGENT}
_CHANNELS = frozenset({"external", "internal", "both", "unknown"})
_OVER = frozenset({"disconnected", "terminated"})

EpochMs = Annotated[int, msgspec.Meta(ge=0, lt=_MAX_MS)]
SpanMs = Annotated[int, msgspec.Meta(ge=0, lt=30 * 86_400_000)]


def transcription_topic(conversation: str) -> str:
    """Return the topic of a conversation's live transcript."""
    return f"v2.conversations.{conversation}.transcription"


def queue_topic(queue: str) -> str:
    """Return the topic that tells of a queue's calls."""
    return f"v2.routing.queues.{queue}.conversations.calls"


def user_topic(user: str) -> str:
    """Return the topic that tells of a user's calls."""
    return f"v2.users.{user}.conversations.calls"


# --- messages --------------------------------------------------------------------------------


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """The platform shows that the channel lives."""


class JsonPong(msgspec.Struct, frozen=True, gc=False):
    """The answer to our JSON ping."""


class SocketClosing(msgspec.Struct, frozen=True, gc=False):
    """Maintenance: about a minute is left to connect again to the same address."""


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A topic, a message or a repeat that is none of our business."""


class Discovered(msgspec.Struct, frozen=True, gc=False):
    """A conversation seen on a queue's or user's topic; ``ended`` when its calls are over.

    ``roster`` holds its participants when the decoder was asked for them and can read them.
    """

    conversation: str
    ended: bool
    roster: Roster | None = None


class Ongoing(msgspec.Struct, frozen=True, gc=False):
    """A transcription event without words: the session of the conversation goes on."""

    conversation: str


Message = (
    Fragment
    | Quarantined
    | ConversationEnded
    | Heartbeat
    | JsonPong
    | SocketClosing
    | Discovered
    | Ongoing
    | Ignored
)

IGNORED = Ignored()


class _Envelope(msgspec.Struct, rename="camel"):
    topic_name: str = ""
    event_body: msgspec.Raw = msgspec.Raw()
    result: str = ""  # the reply to a subscription over the socket has this and no topic


class _Metadata(msgspec.Struct):
    message: str = ""


class _Alternative(msgspec.Struct, rename="camel"):
    confidence: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0
    offset_ms: SpanMs | None = None
    duration_ms: SpanMs | None = None
    transcript: str | None = None
    decorated_transcript: str | None = None


class _Transcript(msgspec.Struct, rename="camel"):
    utterance_id: str
    is_final: bool
    channel: str | None = None
    alternatives: list[_Alternative] | None = None
    dialect: str | None = None


class _Status(msgspec.Struct, rename="camel"):
    status: str | None = None


class _Body(msgspec.Struct, rename="camel"):
    conversation_id: str
    communication_id: str
    event_time: str | None = None
    session_start_time_ms: EpochMs | None = None
    transcription_start_time_ms: EpochMs | None = None
    transcripts: list[_Transcript] | None = None
    status: _Status | None = None


class _Call(msgspec.Struct):
    state: str | None = None


class _Participant(msgspec.Struct):
    calls: list[_Call] | None = None
    state: str | None = None  # topics of calls alone: the participant is its call


class _Conversation(msgspec.Struct):
    id: str
    participants: list[_Participant] | None = None


_envelope = msgspec.json.Decoder(_Envelope).decode
_metadata = msgspec.json.Decoder(_Metadata).decode
_body = msgspec.json.Decoder(_Body).decode
_conversation = msgspec.json.Decoder(_Conversation).decode


class _Malformed(Exception):
    """Carries the cause class, and nothing of the message."""


class Decoder:
    """Decodes the messages of all channels of one feed; remembers what has been seen.

    Args:
        remembered: Utterances remembered, to drop their repeats.
        rosters: Participants of discovered conversations are read.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_MESSAGE_BYTES,
        remembered: int = MAX_REMEMBERED,
        rosters: bool = False,
    ) -> None:
        self._rosters = rosters
        self._max_bytes = max_bytes
        self._limit = remembered
        self._seen: dict[tuple[str, str, str, bool, int], None] = {}
        self.repeats = 0

    def decode(self, data: bytes, *, now: float, utc_us: int) -> list[Message]:
        """Return what one message says, in order; raises for no input.

        Args:
            data: The text frame's payload.
            now: Monotonic seconds at which it was read.
            utc_us: The same moment in UTC microseconds.
        """
        try:
            if len(data) > self._max_bytes:
                raise _Malformed("oversize")
            return self._decode(data, now, utc_us)
        except _Malformed as malformed:
            cause = str(malformed)
        except msgspec.ValidationError:
            cause = "shape"
        except (msgspec.DecodeError, UnicodeDecodeError):
            cause = "invalid-json"
        except RecursionError:
            cause = "deep-nesting"
        return [quarantined(data, cause, utc_us, source=SOURCE)]

    def _decode(self, data: bytes, now: float, utc_us: int) -> list[Message]:
        envelope = _envelope(data)
        topic, body = envelope.topic_name, bytes(envelope.event_body)
        if (found := _TRANSCRIPTION.fullmatch(topic)) is not None:
            return self._transcription(_body(body), found[1], now, utc_us)
        if topic == "channel.metadata":
            return [JsonPong() if _metadata(body).message == "pong" else Heartbeat()]
        if topic == "v2.system.socket_closing":
            return [SocketClosing()]
        if (found := _DISCOVERY.fullmatch(topic)) is not None:
            return _discovered(body, calls_only=found[1] is not None, rosters=self._rosters)
        if not topic and not envelope.result:
            raise _Malformed("shape")
        return [IGNORED]

    def _transcription(self, body: _Body, named: str, now: float, utc_us: int) -> list[Message]:
        conversation, communication = body.conversation_id, body.communication_id
        if not is_id(conversation) or not is_id(communication):
            raise _Malformed("id")
        if conversation != named:  # whose words are they? nobody's, before they are the wrong one's
            raise _Malformed("conversation")
        at_us = _instant_us(body.event_time, utc_us)
        result: list[Message] = []
        for one in body.transcripts or ():
            fragment = _fragment(one, body, at_us, now)
            if fragment is None or self._repeated(fragment):
                result.append(IGNORED)
            else:
                result.append(fragment)
        if body.status is not None and body.status.status == "SESSION_ENDED":
            result.append(ConversationEnded(conversation, at_us, communication))
        return result or [Ongoing(conversation)]

    def _repeated(self, fragment: Fragment) -> bool:
        key = (
            fragment.conversation,
            fragment.lane,
            fragment.utterance,
            fragment.is_final,
            hash(fragment.text),
        )
        if key in self._seen:
            self.repeats += 1
            return True
        if len(self._seen) >= self._limit:
            # Dictionaries keep their order: the oldest goes.
            del self._seen[next(iter(self._seen))]
        self._seen[key] = None
        return False


def _fragment(one: _Transcript, body: _Body, at_us: int, now: float) -> Fragment | None:
    """Return the utterance's best alternative; None when it has none."""
    if not is_id(one.utterance_id):
        raise _Malformed("id")
    if not one.alternatives:
        return None
    best = one.alternatives[0]
    text = best.decorated_transcript or best.transcript
    if text is None:
        return None
    channel = (one.channel or "unknown").lower()
    channel = channel if channel in _CHANNELS else "unknown"
    language = one.dialect or UNKNOWN_LANGUAGE
    if _TAG.fullmatch(language) is None:
        raise _Malformed("dialect")
    started_us, ended_us = _bounds(best, body)
    return Fragment(
        body.conversation_id,
        f"{body.communication_id}/{channel}",
        RawText(text),
        best.confidence,
        one.is_final,
        language,
        at_us,
        utterance=one.utterance_id,
        started_us=started_us,
        ended_us=ended_us,
        role=_ROLES.get(channel, Role.UNKNOWN),
        received_s=now,
        zero_us=(_zero_ms(body) or 0) * 1000,
    )


def _zero_ms(body: _Body) -> int | None:
    zero_ms = body.transcription_start_time_ms
    return body.session_start_time_ms if zero_ms is None else zero_ms


def _bounds(best: _Alternative, body: _Body) -> tuple[int, int]:
    base_ms = _zero_ms(body)
    if base_ms is None or best.offset_ms is None:
        return 0, 0
    started_us = (base_ms + best.offset_ms) * 1000
    return started_us, started_us + (best.duration_ms or 0) * 1000


def _instant_us(text: str | None, utc_us: int) -> int:
    """Return the event's time; the time of reading where there is none."""
    if text is None:
        return utc_us
    try:
        at = datetime.fromisoformat(text)
        at_us = (at - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError, TypeError):
        raise _Malformed("eventTime") from None
    if at_us < 0:
        raise _Malformed("eventTime")
    return at_us


def _discovered(data: bytes, *, calls_only: bool, rosters: bool) -> list[Message]:
    body = _conversation(data)
    if not is_id(body.id):
        raise _Malformed("id")
    states = [
        state
        for one in body.participants or ()
        for state in ([call.state for call in one.calls] if one.calls else [one.state])
        if one.calls or state is not None
    ]
    if not states and not calls_only:
        return [IGNORED]  # an e-mail or chat: it has no voice to transcribe
    ended = bool(states) and all(state in _OVER for state in states)
    return [Discovered(body.id, ended, _roster(data) if rosters else None)]


def _roster(data: bytes) -> Roster | None:
    try:
        return decode_roster(data)
    except RemoteProtocolError:
        return None  # that there is a conversation is good to know all the same


# --- liveness --------------------------------------------------------------------------------


class Liveness:
    """Decides whether a channel's socket is alive. Times are monotonic seconds."""

    def __init__(
        self, now: float, *, silence_s: float = SILENCE_S, pong_limit_s: float = PONG_LIMIT_S
    ) -> None:
        self._silence_s = silence_s
        self._limit_s = pong_limit_s
        self._pinged = False
        self._paused = False
        self._since = now
        self._to_send: list[str] = []
        self.dead = False
        self.whole_at = now

    def receive_messages(self, *, now: float) -> None:
        """Take note that anything arrived."""
        self.whole_at = self._since = now
        self._pinged = False

    def pause(self) -> None:
        """Stop judging: we do not read."""
        self._paused = True

    def resume(self, *, now: float) -> None:
        """Judge again, with the full time."""
        self._paused = False
        self._since = now

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` wants to be called."""
        if self._paused or self.dead:
            return None
        return self._since + (self._limit_s if self._pinged else self._silence_s)

    def on_deadline(self, now: float) -> None:
        """Ping, or give the socket up (``dead``)."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self._pinged:
            self.dead = True
            return
        self._pinged = True
        self._since = now
        self._to_send.append(PING)

    def to_send(self) -> list[str]:
        """Return the messages to be sent."""
        wanted, self._to_send = self._to_send, []
        return wanted


class ChannelLife:
    """Decides when a channel is to be replaced by a new one.

    Args:
        now: Monotonic seconds at which it was made.
        lasts_s: Its life as the platform told it; 0 when it did not.
        draw: In [0, 1): spreads the rollovers of many channels over half an hour.
    """

    def __init__(
        self, now: float, *, lasts_s: float = 0.0, draw: float = 0.0, token: str = ""
    ) -> None:
        life_s = lasts_s if 0 < lasts_s < CHANNEL_LIFE_S else CHANNEL_LIFE_S
        margin_s = life_s * (1 - ROLLOVER_S / CHANNEL_LIFE_S)
        self.rollover_at = now + life_s - margin_s * (1 + 0.5 * draw)
        self._token = hash(token)
        self._made_with_token = bool(token)

    def receive_token(self, token: str, *, now: float) -> None:
        """Take note of the token in use: a new one means that the old one is about to end."""
        if self._made_with_token and hash(token) != self._token:
            self.rollover_at = min(self.rollover_at, now)

    def due(self, now: float) -> bool:
        """Tell whether the channel is to be replaced now."""
        return now >= self.rollover_at


# --- subscriptions ---------------------------------------------------------------------------


class Subscriptions:
    """Which topic is on which channel. Channels are numbers from 0.

    A topic goes to the first channel with room, so as few channels are used as possible: the
    platform allows an OAuth client 20 of them, and a 21st drops one of somebody's.
    """

    def __init__(
        self, *, topics: int = MAX_TOPICS_PER_CHANNEL, channels: int = MAX_CHANNELS
    ) -> None:
        self._limit = topics
        self._channels = channels
        self._topics: list[dict[str, None]] = []
        self._where: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._where)

    @property
    def channels_used(self) -> int:
        """Number of channels that topics were put on."""
        return len(self._topics)

    def add(self, topic: str) -> int:
        """Return the channel of a topic, new or not.

        Raises:
            ConfigError: Every channel is full.
        """
        if (known := self._where.get(topic)) is not None:
            return known
        index = next((n for n, on in enumerate(self._topics) if len(on) < self._limit), None)
        if index is None:
            if len(self._topics) >= self._channels:
                raise ConfigError(
                    "more topics than the platform's channels can hold",
                    setting="live.queues",
                    fix="Follow fewer queues, users or conversations, or use another client.",
                    topics=len(self._where),
                    channels=self._channels,
                )
            index = len(self._topics)
            self._topics.append({})
        self._topics[index][topic] = None
        self._where[topic] = index
        return index

    def remove(self, topic: str) -> int | None:
        """Forget a topic; return the channel it was on."""
        index = self._where.pop(topic, None)
        if index is not None:
            self._topics[index].pop(topic, None)
        return index

    def on(self, channel: int) -> list[str]:
        """Return the topics of a channel, oldest first."""
        return list(self._topics[channel]) if channel < len(self._topics) else []
