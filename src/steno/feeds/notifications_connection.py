"""One notification socket: reads, decodes, hands over, and judges its life."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steno.core.failover import End, FailoverPolicy, end_of_close
from steno.core.transcript import Fragment
from steno.feeds.bookkeeping import LOGGED_PER_MINUTE, LogBudget, Timing, Whole, wait_for_room
from steno.ports import (
    ClientSocket,
    ConversationEnded,
    FeedEvent,
    FeedTarget,
    Quarantined,
    SocketDialer,
    SocketEnd,
    Telemetry,
)
from steno.wire.notifications import (
    ENDED_GRACE_S,
    OVERLAP_S,
    PONG_LIMIT_S,
    QUIET_LIMIT_S,
    SILENCE_S,
    SOURCE,
    Decoder,
    Discovered,
    Ignored,
    Liveness,
    Message,
    Ongoing,
    SocketClosing,
)
from steno.wire.notifications_rest import MAX_CHANNELS, MAX_TOPICS_PER_CHANNEL
from steno.wire.transcript_stream import MAX_MESSAGE_BYTES, quarantined


@dataclass(frozen=True, slots=True)
class NotificationsSettings:
    """Limits in seconds; the defaults are the platform's own."""

    silence_s: float = SILENCE_S
    pong_limit_s: float = PONG_LIMIT_S
    handshake_limit_s: float = 15.0
    api_limit_s: float = 45.0
    overlap_s: float = OVERLAP_S
    ended_grace_s: float = ENDED_GRACE_S
    quiet_limit_s: float = QUIET_LIMIT_S
    gather_s: float = 0.1
    """New conversations wait this long for others, to be subscribed with one call."""
    retry_s: float = 5.0
    """After a failed call that a working socket does not depend on."""
    housekeeping_s: float = 30.0
    topics_per_channel: int = MAX_TOPICS_PER_CHANNEL
    channels: int = MAX_CHANNELS
    max_message_bytes: int = MAX_MESSAGE_BYTES
    failover: FailoverPolicy = field(default_factory=FailoverPolicy)


class Ears(Protocol):
    """Who is told what a socket hears of conversations."""

    def discovered(self, message: Discovered, *, now: float) -> None:
        """A queue or user has, or had, this conversation."""

    def heard(self, conversation: str, *, now: float) -> None:
        """There is news of this conversation's transcript."""

    def transcript_ended(self, conversation: str, *, now: float) -> None:
        """One communication's transcript of this conversation is over."""


class Common:
    """What all sockets of one feed share."""

    def __init__(
        self,
        *,
        dialer: SocketDialer,
        timing: Timing,
        telemetry: Telemetry,
        settings: NotificationsSettings,
        host: str,
        rosters: bool = False,
    ) -> None:
        self.dialer = dialer
        self.timing = timing
        self.telemetry = telemetry
        self.settings = settings
        self.host = host
        self.decoder = Decoder(max_bytes=settings.max_message_bytes, rosters=rosters)
        self.closing = asyncio.Event()
        self.messages = telemetry.counter("steno_feed_messages_total", source=SOURCE)
        self.ignored = telemetry.counter("steno_feed_ignored_total", source=SOURCE)
        self.reconnects = telemetry.counter("steno_reconnects_total", source=SOURCE)
        self.rollovers = telemetry.counter("steno_channel_rollovers_total")
        self.log_budget = LogBudget(LOGGED_PER_MINUTE)

    async def give(self, target: FeedTarget, event: FeedEvent) -> None:
        """Hand over an event that is not read from a socket, and wait for room."""
        if not target.accept(event):
            await self.room(target)

    async def room(self, target: FeedTarget) -> None:
        """Return when the target has room, or the feed is closing."""
        await wait_for_room(target, self.closing)


class NotificationsConnection:
    """The receiver of one socket; ``wake`` is called when its owner has something to look at."""

    def __init__(
        self, common: Common, ears: Ears, target: FeedTarget, wake: Callable[[], None]
    ) -> None:
        self._common = common
        self._ears = ears
        self._target = target
        self._wake = wake
        self.socket: ClientSocket | None = None
        self.end: End | None = None
        self.code = 0
        self.frames = 0
        self.closing_soon = False
        self.opened_at = common.timing.now()
        self._whole = Whole(common.timing.utc_us())
        settings = common.settings
        self.liveness = Liveness(
            self.opened_at, silence_s=settings.silence_s, pong_limit_s=settings.pong_limit_s
        )
        self.paused = False
        self._backlog: deque[bytes] = deque()

    @property
    def whole_us(self) -> int:
        """UTC microseconds up to which the connection is known to have been whole."""
        return self._whole.until_us

    # --- what the socket calls ---------------------------------------------------------------

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """Decode and hand over, unless the target is behind."""
        timing = self._common.timing
        now, utc_us = timing.now(), timing.utc_us()
        self._whole.read(utc_us)
        self.liveness.receive_messages(now=now)
        if self._backlog or self.paused:
            self._backlog.extend(messages)
            return
        self.frames += len(messages)
        self._common.messages(len(messages))
        for index, data in enumerate(messages):
            told = self._common.decoder.decode(data, now=now, utc_us=utc_us)
            # Every event of a message is handed over, also when the target is full meanwhile.
            room = True
            for message in told:
                room = self._take(message, now) and room
            if not room and not self._common.closing.is_set():
                self._backlog.extend(messages[index + 1 :])
                self._pause()
                return

    def on_binary(self, message: bytes) -> None:
        """Quarantine: the platform sends text only."""
        now = self._common.timing.now()
        note = quarantined(message, "binary", self._common.timing.utc_us(), source=SOURCE)
        if not self._take(note, now):
            self._pause()

    def on_pong(self, payload: bytes) -> None:
        """Take note that the peer lives."""
        self.liveness.receive_messages(now=self._common.timing.now())

    def on_closed(self, end: SocketEnd) -> None:
        """Tell the owner."""
        self._whole.closed(end.code)
        self.code = end.code
        self.end = end_of_close(end.code, asked=end.asked)
        self._wake()

    def _take(self, message: Message, now: float) -> bool:
        """Handle one decoded message; False when the target is full."""
        if isinstance(message, Fragment):
            self._ears.heard(message.conversation, now=now)
            return self._target.accept(message)
        if isinstance(message, ConversationEnded):
            self._ears.transcript_ended(message.conversation, now=now)
            return self._target.accept(message)
        if isinstance(message, Quarantined):
            self._report(message, now)
            return self._target.accept(message)
        if isinstance(message, Discovered):
            self._ears.discovered(message, now=now)
        elif isinstance(message, Ongoing):
            self._ears.heard(message.conversation, now=now)
        elif isinstance(message, SocketClosing):
            self.closing_soon = True
            self._wake()
        elif isinstance(message, Ignored):
            self._common.ignored(1)
        return True

    def _report(self, note: Quarantined, now: float) -> None:
        self._common.log_budget.report(note, self._common.telemetry, now=now)

    def _pause(self) -> None:
        self.paused = True
        self.liveness.pause()
        if self.socket is not None:
            self.socket.pause()
        self._wake()

    # --- what the owner calls ----------------------------------------------------------------

    def start(self) -> None:
        """Begin to read."""
        if self.socket is not None:
            self.socket.resume()

    def judge(self) -> bool:
        """Ping when it is time; True when the socket is given up."""
        self.liveness.on_deadline(self._common.timing.now())
        for text in self.liveness.to_send():
            if self.socket is not None:
                self.socket.send_text(text)
        return self.liveness.dead

    async def drain(self) -> None:
        """Wait for room, then hand over what was read before the pause and read on."""
        while self.paused:
            await self._common.room(self._target)
            self.paused = False
            waiting = list(self._backlog)
            self._backlog.clear()
            if waiting:
                self.on_messages(waiting)
        self.liveness.resume(now=self._common.timing.now())
        self.start()

    def abort(self) -> None:
        """Let go of the socket at once."""
        if self.socket is not None:
            self.socket.abort()

    async def close(self) -> None:
        """Close with 1000; returns within the dialer's limit."""
        if self.socket is not None:
            await self.socket.close(1000)
