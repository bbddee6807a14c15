"""Notification channels: their life, limits, topics and permissions.

Pure: every decision takes ``now`` (monotonic seconds) and the token that asks; sockets are
opaque to it. Source of the rules: the platform's documentation of the Notifications API
(limits of 20 channels a client, 1000 topics a channel, 24 hours, one socket a channel).
"""

from __future__ import annotations

import re
import uuid
from typing import Generic, TypeVar

import msgspec

from steno_sim.oauth import Token

MAX_TOPIC_CHARS = 200
_ID = "[A-Za-z0-9_-]{1,64}"

S = TypeVar("S")


class TopicKind(msgspec.Struct, frozen=True):
    """A kind of topic: its template, what it needs, and what it is for."""

    template: str
    permissions: list[str]
    description: str

    def pattern(self) -> re.Pattern[str]:
        """Give the expression that topics of this kind match as a whole."""
        parts = re.split(r"\{\w+\}", self.template)
        return re.compile(_ID.join(map(re.escape, parts)))


TOPIC_KINDS: tuple[TopicKind, ...] = (
    TopicKind(
        "v2.conversations.{id}.transcription",
        ["conversation:transcription:view"],
        "Live transcript of a conversation",
    ),
    TopicKind(
        "v2.routing.queues.{id}.conversations",
        ["routing:queue:view"],
        "Conversations of a queue",
    ),
    TopicKind(
        "v2.routing.queues.{id}.conversations.calls", ["routing:queue:view"], "Calls of a queue"
    ),
    TopicKind(
        "v2.users.{id}.conversations",
        ["conversation:communication:view"],
        "Conversations of a user",
    ),
    TopicKind(
        "v2.users.{id}.conversations.calls",
        ["conversation:communication:view"],
        "Calls of a user",
    ),
    TopicKind("v2.users.{id}.presence", [], "Presence of a user"),
    TopicKind("v2.users.{id}.routingStatus", [], "Routing status of a user"),
    TopicKind(
        "v2.detail.events.conversation.{id}.acd.start",
        ["analytics:conversationDetail:view"],
        "A conversation enters a queue",
    ),
    TopicKind(
        "v2.detail.events.conversation.{id}.acd.end",
        ["analytics:conversationDetail:view"],
        "A conversation leaves a queue",
    ),
    TopicKind(
        "v2.detail.events.conversation.{id}.customer.start",
        ["analytics:conversationDetail:view"],
        "A customer joins",
    ),
    TopicKind(
        "v2.detail.events.conversation.{id}.customer.end",
        ["analytics:conversationDetail:view"],
        "A customer leaves",
    ),
    TopicKind("channel.metadata", [], "Heartbeats and pongs of the channel"),
    TopicKind("v2.system.socket_closing", [], "Notice before a socket is closed"),
)
_PATTERNS = [(kind.pattern(), kind) for kind in TOPIC_KINDS]


class Limits(msgspec.Struct, frozen=True):
    """Limits of the Notifications API; shorten ``life_s`` to test a rollover in seconds."""

    channels: int = 20
    topics: int = 1000
    life_s: float = 86_400.0


class TopicsRefused(Exception):
    """A subscription call fails as a whole: HTTP status, machine code, words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One topic of a channel, as the platform shows it."""

    id: str
    state: str = msgspec.field(default="")
    rejectionReason: str = ""  # noqa: N815 - the wire's own name
    missingPermissions: list[str] = []  # noqa: N815 - the wire's own name
    selfUri: str = ""  # noqa: N815 - the wire's own name


class Channel(Generic[S]):
    """One channel; ``socket`` is whatever the server puts there while one is connected."""

    def __init__(self, token: Token, *, now: float, life_s: float) -> None:
        self.id = f"streaming-0-{uuid.uuid4().hex}"
        self.token = token
        self.created = now
        self.expires = now + life_s
        self.socket: S | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.topics: set[str] = set()


def expand(topic: str) -> list[str]:
    """Give the single topics of a combined one: ``a.b?c&d`` is ``a.b.c`` and ``a.b.d``."""
    prefix, mark, parts = topic.partition("?")
    if not mark:
        return [topic]
    return [f"{prefix}.{part}" for part in parts.split("&")]


def judge(topic: str, token: Token) -> Subscription:
    """Give the subscription that asking for a single topic leads to."""
    if len(topic) > MAX_TOPIC_CHARS:
        return Subscription(topic, "Rejected", "Topic id is longer than 200 characters")
    kind = next((k for pattern, k in _PATTERNS if pattern.fullmatch(topic)), None)
    if kind is None:
        return Subscription(topic, "Rejected", "notification.invalid.topic")
    missing = [p for p in kind.permissions if p not in token.client.permissions]
    if missing:
        return Subscription(topic, "Rejected", "missing.permissions", missing)
    return Subscription(topic, "Permitted")


class ChannelBook(Generic[S]):
    """All channels of a region."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._channels: dict[str, Channel[S]] = {}
        self._by_topic: dict[str, dict[str, Channel[S]]] = {}
        self.created = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._channels)

    def create(self, token: Token, *, now: float) -> tuple[Channel[S], Channel[S] | None]:
        """Give a new channel, and the one that had to go for it, if any.

        Above the limit the oldest without a live socket is evicted; when all are live, the
        oldest of all.
        """
        self.expire(now)
        own = [c for c in self._channels.values() if c.token.client.id == token.client.id]
        evicted: Channel[S] | None = None
        if len(own) >= self.limits.channels:
            idle = [c for c in own if c.socket is None]
            evicted = (idle or own)[0]
            self.remove(evicted)
            self.evicted += 1
        channel: Channel[S] = Channel(token, now=now, life_s=self.limits.life_s)
        self._channels[channel.id] = channel
        self.created += 1
        return channel, evicted

    def get(self, channel_id: str, *, now: float) -> Channel[S] | None:
        """Give a channel that is alive, or None."""
        channel = self._channels.get(channel_id)
        return channel if channel is not None and channel.expires > now else None

    def all(self) -> list[Channel[S]]:
        """Give every channel, oldest first."""
        return list(self._channels.values())

    def of(self, token: Token, *, by_client: bool, now: float) -> list[Channel[S]]:
        """Give the live channels of a token, or of its client."""
        self.expire(now)
        if by_client:
            return [c for c in self._channels.values() if c.token.client.id == token.client.id]
        return [c for c in self._channels.values() if c.token is token]

    def expire(self, now: float) -> list[Channel[S]]:
        """Remove and give the channels whose life is over."""
        over = [c for c in self._channels.values() if c.expires <= now]
        for channel in over:
            self.remove(channel)
        return over

    def remove(self, channel: Channel[S]) -> None:
        """Forget a channel."""
        self._channels.pop(channel.id, None)
        for topic in channel.topics:
            self._forget(topic, channel)

    def listeners(self, topic: str) -> list[Channel[S]]:
        """Give the channels subscribed to a topic."""
        found = self._by_topic.get(topic)
        return list(found.values()) if found else []

    def has_topic(self, topic: str) -> bool:
        """Tell whether anybody subscribed to a topic."""
        return topic in self._by_topic

    def subscribe(
        self,
        channel: Channel[S],
        topics: list[str],
        token: Token,
        *,
        now: float,
        replace: bool = False,
        ignore_errors: bool = False,
    ) -> list[Subscription]:
        """Add topics to a channel, or replace them all; give what came of each.

        Extends the channel's life and binds it to the asking token.

        Raises:
            TopicsRefused: A bad topic without ``ignore_errors``, or too many topics.
        """
        results = self._judge_all(topics, token)
        bad = [s for s in results if s.state == "Rejected"]
        if bad and not ignore_errors:
            raise _refusal(bad[0])
        good = {t: s for t in topics for s in results if s.id == t and s.state == "Permitted"}
        kept = {} if replace else dict(channel.subscriptions)
        kept.update(good)
        if len(kept) > self.limits.topics:
            raise TopicsRefused(
                400, "bad.request", f"A channel holds at most {self.limits.topics} topics"
            )
        channel.token = token
        self._set(channel, kept)
        channel.expires = now + self.limits.life_s
        return results

    def unsubscribe(self, channel: Channel[S], topics: list[str] | None = None) -> None:
        """Take topics off a channel, or all of them."""
        gone = set(channel.subscriptions if topics is None else topics)
        self._set(channel, {t: s for t, s in channel.subscriptions.items() if t not in gone})

    @staticmethod
    def _judge_all(topics: list[str], token: Token) -> list[Subscription]:
        results: list[Subscription] = []
        for topic in topics:
            parts = [judge(part, token) for part in expand(topic)]
            bad = [p for p in parts if p.state == "Rejected"]
            if len(bad) < len(parts):
                results.append(Subscription(topic, "Permitted"))
            # A combined topic gets an extra entry for each part that is rejected.
            results += bad
        return results

    def _set(self, channel: Channel[S], subscriptions: dict[str, Subscription]) -> None:
        channel.subscriptions = subscriptions
        wanted = {part for topic in subscriptions for part in expand(topic)}
        wanted = {t for t in wanted if judge(t, channel.token).state == "Permitted"}
        for topic in channel.topics - wanted:
            self._forget(topic, channel)
        for topic in wanted - channel.topics:
            self._by_topic.setdefault(topic, {})[channel.id] = channel
        channel.topics = wanted

    def _forget(self, topic: str, channel: Channel[S]) -> None:
        found = self._by_topic.get(topic)
        if found is not None:
            found.pop(channel.id, None)
            if not found:
                del self._by_topic[topic]


def _refusal(bad: Subscription) -> TopicsRefused:
    if bad.missingPermissions:
        names = ", ".join(bad.missingPermissions)
        return TopicsRefused(403, "missing.permissions", f"Missing permissions: {names}")
    return TopicsRefused(400, "notification.invalid.topic", "A topic is not valid")
