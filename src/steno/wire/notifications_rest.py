"""REST side of the notification channels: bodies written and answers read.

The channel's address (``connect_uri``) is its credential: whoever knows it reads the
transcripts. It is kept out of every ``repr`` and error.

Source: Genesys Cloud, Notifications API (channels, subscriptions).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from steno.core.hosts import is_loopback
from steno.errors import LocalProtocolError, RemoteProtocolError

MAX_TOPICS_PER_CHANNEL = 1000
MAX_TOPIC_CHARS = 200
MAX_CHANNELS = 20

_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:?&-]*")
_PERMISSION = re.compile(r"[A-Za-z0-9_*]+(?::[A-Za-z0-9_*]+){1,2}")
_CHANNEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A notification channel.

    Attributes:
        id: Goes into the paths of later calls.
        connect_uri: WebSocket address. A secret: it is all that protects the channel.
        expires_at_us: UTC microseconds at which the platform drops the channel (24 hours,
            longer when it is subscribed again); 0 where the answer does not tell.
    """

    id: str = field(repr=False)  # the address ends with it
    connect_uri: str = field(repr=False)
    expires_at_us: int = 0


class SubscriptionState(msgspec.Struct, frozen=True, gc=False):
    """What became of one topic.

    Attributes:
        topic: As asked for.
        permitted: Events of it will come.
        reason: The platform's word for a refusal when it is one plain word, else empty.
        missing_permissions: Permissions the client's roles lack, e.g.
            ``conversation:transcription:view``.
    """

    topic: str
    permitted: bool
    reason: str = ""
    missing_permissions: tuple[str, ...] = ()


class TopicInfo(msgspec.Struct, frozen=True, gc=False):
    """A topic the platform offers, with the permissions it takes."""

    id: str
    requires_permissions: tuple[str, ...] = ()


class _Channel(msgspec.Struct, rename="camel"):
    id: str
    connect_uri: str
    expires: str | None = None


class _Subscription(msgspec.Struct, rename="camel"):
    id: str
    state: str | None = None
    rejection_reason: str | None = None
    missing_permissions: list[str] | None = None


class _Subscriptions(msgspec.Struct):
    entities: list[_Subscription]


class _Topic(msgspec.Struct, rename="camel"):
    id: str
    requires_permissions: list[str] | None = None


class _Topics(msgspec.Struct):
    entities: list[_Topic]


_channel_decoder = msgspec.json.Decoder(_Channel)
_subscriptions_decoder = msgspec.json.Decoder(_Subscriptions)
_topics_decoder = msgspec.json.Decoder(_Topics)


def encode_topics(topics: Iterable[str]) -> bytes:
    """Return the body that subscribes to ``topics``: ``[{"id": …}, …]``.

    Raises:
        LocalProtocolError: More than ``MAX_TOPICS_PER_CHANNEL`` topics, or one that is no
            topic; the platform would refuse the whole call.
    """
    wanted = [{"id": topic} for topic in topics]
    if len(wanted) > MAX_TOPICS_PER_CHANNEL:
        raise LocalProtocolError("too many topics for one channel", count=len(wanted))
    for topic in wanted:
        if len(topic["id"]) > MAX_TOPIC_CHARS or _TOPIC.fullmatch(topic["id"]) is None:
            raise LocalProtocolError("this is not a topic", size=len(topic["id"]))
    return msgspec.json.encode(wanted)


def decode_channel(body: bytes) -> ChannelInfo:
    """Read the answer to ``POST /api/v2/notifications/channels``.

    Raises:
        RemoteProtocolError: Not the documented shape, or an address we would not dial: only
            ``wss`` (plain ``ws`` on loopback), no user name.
    """
    try:
        channel = _channel_decoder.decode(body)
    except msgspec.MsgspecError:
        raise _malformed("channel", body) from None
    if _CHANNEL_ID.fullmatch(channel.id) is None or not _may_dial(channel.connect_uri):
        raise _malformed("channel", body)
    return ChannelInfo(channel.id, channel.connect_uri, _instant_us(channel.expires))


def decode_subscriptions(body: bytes) -> list[SubscriptionState]:
    """Read the answer to adding or replacing subscriptions.

    A topic without a ``state`` counts as permitted: the state comes with ``ignoreErrors`` only.

    Raises:
        RemoteProtocolError: Not the documented shape.
    """
    try:
        answer = _subscriptions_decoder.decode(body)
    except msgspec.MsgspecError:
        raise _malformed("subscriptions", body) from None
    return [
        SubscriptionState(
            topic=entity.id,
            permitted=(entity.state or "Permitted").lower() == "permitted",
            reason=_plain_word(entity.rejection_reason),
            missing_permissions=_permissions(entity.missing_permissions),
        )
        for entity in answer.entities
    ]


def decode_topics(body: bytes) -> list[TopicInfo]:
    """Read the answer to ``GET /api/v2/notifications/availabletopics``.

    Raises:
        RemoteProtocolError: Not the documented shape.
    """
    try:
        answer = _topics_decoder.decode(body)
    except msgspec.MsgspecError:
        raise _malformed("topics", body) from None
    return [TopicInfo(t.id, _permissions(t.requires_permissions)) for t in answer.entities]


def _may_dial(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or not uri.isascii() or " " in uri:
        return False
    return parts.scheme == "wss" or (parts.scheme == "ws" and is_loopback(host))


def _instant_us(text: str | None) -> int:
    """Return UTC microseconds; 0 for what is no instant, so that the caller's own 24 h rule
    holds.
    """
    if text is None:
        return 0
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        lapse = at - _EPOCH
    except (ValueError, OverflowError):
        return 0
    return max(0, (lapse.days * 86_400 + lapse.seconds) * 1_000_000 + lapse.microseconds)


def _permissions(names: list[str] | None) -> tuple[str, ...]:
    """Keep what looks like a permission: peer text goes into our messages, so it is checked."""
    return tuple(n for n in names or () if len(n) <= 100 and _PERMISSION.fullmatch(n))


def _plain_word(text: str | None) -> str:
    word = text or ""
    return word if len(word) <= 64 and word.replace(".", "").replace("_", "").isalnum() else ""


def _malformed(what: str, body: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        "the platform's answer has not the documented shape", what=what, size=len(body)
    )
