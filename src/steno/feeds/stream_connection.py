"""One connection of a socket source: opens, reads, decodes, hands over, and judges its life.

``Connection`` is the receiver of one socket. Messages are decoded and accepted inside the
socket's own callback; there is no task and no queue for a fragment. When the target asks for a
pause, reading stops, and TCP tells the platform. Its life:

    opening --settled--> held --start--> reading <--> paused   (the target has no room)
    opening, reading --the peer ended it--> over

Events that arrive before the connection is up, or while it is held, wait within a bound and are
handed over first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steno.core.failover import End, FailoverPolicy, end_of_close
from steno.errors import AuthError, ConnectFailed, RateLimited, StenoError, TimedOut
from steno.feeds.bookkeeping import LOGGED_PER_MINUTE, LogBudget, Timing, Whole, wait_for_room
from steno.feeds.dialect import Dialect, Endpoint
from steno.ports import (
    ClientSocket,
    FeedEvent,
    FeedTarget,
    Quarantined,
    SocketDialer,
    SocketEnd,
    Telemetry,
)
from steno.wire.transcript_stream import (
    HANDSHAKE_LIMIT_S,
    MAX_MESSAGE_BYTES,
    PING_INTERVAL_S,
    PONG_LIMIT_S,
    Ignored,
    Liveness,
    PongLate,
    quarantined,
)

__all__ = [
    "Connection",
    "Endpoint",
    "Shared",
    "StreamSettings",
    "Timing",
    "end_of_error",
]

MAX_EARLY_BYTES = 4 << 20
"""Events kept that come before the answer to a subscription; more are dropped. No peer that
keeps to the order sends any, and it is not connected yet as far as anybody was told."""

MESSAGE_COST_BYTES = 64
"""What a kept message costs besides its bytes."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Limits in seconds; the defaults are the documents' own."""

    ping_interval_s: float = PING_INTERVAL_S
    pong_limit_s: float = PONG_LIMIT_S
    handshake_limit_s: float = HANDSHAKE_LIMIT_S
    connect_limit_s: float = 4.0
    """Limit of reaching a host while another is at hand: a region that is cut off answers
    nothing, and the sentence being spoken does not wait for it."""
    token_limit_s: float = 45.0
    max_message_bytes: int = MAX_MESSAGE_BYTES
    failover: FailoverPolicy = field(default_factory=FailoverPolicy)


class Shared:
    """What the links of one feed have in common.

    ``request_id`` makes an id for each call, or the empty string where the source has none.
    """

    def __init__(
        self,
        dialect: Dialect,
        endpoints: tuple[Endpoint, ...],
        dialer: SocketDialer,
        timing: Timing,
        telemetry: Telemetry,
        settings: StreamSettings,
        *,
        request_id: Callable[[], str] = str,
    ) -> None:
        self.dialect = dialect
        self.request_id = request_id
        self.endpoints = endpoints
        self.dialer = dialer
        self.timing = timing
        self.telemetry = telemetry
        self.settings = settings
        self.closing = asyncio.Event()
        self.ever_up = False
        self.refusals: dict[tuple[str, int], AuthError] = {}
        source = dialect.source
        self.messages = telemetry.counter("steno_feed_messages_total", source=source)
        self.ignored = telemetry.counter("steno_feed_ignored_total", source=source)
        self.reconnects = telemetry.counter("steno_reconnects_total", source=source)
        self.failovers = telemetry.counter("steno_failovers_total", source=source)
        self.pong = telemetry.histogram("steno_pong_seconds", source=source)
        self.log_budget = LogBudget(LOGGED_PER_MINUTE)

    async def give(self, target: FeedTarget, event: FeedEvent) -> None:
        """Hand over an event that is not read from a socket, and wait for room."""
        if not target.accept(event):
            await self.room(target)

    async def room(self, target: FeedTarget) -> None:
        """Return when the target has room, or the feed is closing."""
        await wait_for_room(target, self.closing)


class Connection:
    """Reads one socket: the receiver of its messages and the judge of its life.

    ``target`` is None while the connection is an idle one: messages only prove that it lives.
    """

    def __init__(
        self,
        shared: Shared,
        host: int,
        wanted: tuple[str, ...],
        *,
        token: str = "",
        request_id: str = "",
    ) -> None:
        self.host = host
        self.token = token
        self.request_id = request_id
        self.target: FeedTarget | None = None
        self.socket: ClientSocket | None = None
        self.end: End | None = None
        self.refusal: StenoError | None = None
        """What the peer said when it ended the subscription of a connection that was up."""
        self.code = 0
        self.frames = 0
        self.opened_at = shared.timing.now()
        self._shared = shared
        self._name = shared.endpoints[host].name
        self._only = shared.dialect.picked(wanted)
        self._opening = shared.dialect.opening(self._name)
        self._held = True
        self._signal = asyncio.Event()
        self._backlog: deque[bytes] = deque()
        self._early_bytes = 0
        self._paused = False
        settings = shared.settings
        self.liveness = Liveness(
            self.opened_at,
            ping_interval_s=settings.ping_interval_s,
            pong_limit_s=settings.pong_limit_s,
        )
        self._whole = Whole(shared.timing.utc_us())

    @property
    def whole_us(self) -> int:
        """UTC microseconds up to which the connection is known to have been whole."""
        return self._whole.until_us

    def wake(self) -> None:
        """Let ``watch`` look again."""
        self._signal.set()

    # --- what the socket calls ---------------------------------------------------------------

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """Decode and hand over, unless the target is behind."""
        now, utc_us = self._shared.timing.now(), self._shared.timing.utc_us()
        self.liveness.receive_messages(now=now)
        self._whole.read(utc_us)
        if self._held:
            self._receive_early(messages)
            return
        target = self.target
        if target is None:
            for message in messages:
                self._hear(message)
            return
        if self._backlog or self._paused:
            self._backlog.extend(messages)  # no more than what one read holds: reading is paused
            return
        self.frames += len(messages)
        self._shared.messages(len(messages))
        decode, accept, only = self._shared.dialect.decode, target.accept, self._only
        closing = self._shared.closing.is_set
        for index, message in enumerate(messages):
            # Every event of a message is handed over, also when the target is full meanwhile.
            room = True
            for event in decode(message, now=now, utc_us=utc_us):
                if type(event) is Ignored:
                    self._shared.ignored(1)
                    self._hear(message)
                    continue
                if type(event) is Quarantined:
                    self._report(event, now)
                elif only is not None and event.conversation not in only:  # type: ignore[union-attr]  # a Fragment
                    self._shared.ignored(1)
                    continue
                room = accept(event) and room  # type: ignore[arg-type]  # as above
            # When the feed is closing, what has been read is handed over at any rate.
            if not room and not closing():
                self._backlog.extend(messages[index + 1 :])
                self._pause()
                return

    def on_binary(self, message: bytes) -> None:
        """Quarantine: the stream sends text only."""
        timing = self._shared.timing
        if self.target is not None:
            source = self._shared.dialect.source
            note = quarantined(message, "binary", timing.utc_us(), source=source)
            self._report(note, timing.now())
            if not self.target.accept(note):
                self._pause()

    def on_pong(self, payload: bytes) -> None:
        """Tell the judge."""
        self.liveness.receive_pong(payload, now=self._shared.timing.now())
        self._whole.read(self._shared.timing.utc_us())
        self._signal.set()

    def on_closed(self, end: SocketEnd) -> None:
        """Let ``watch`` return."""
        self._whole.closed(end.code)
        self.end = end_of_close(end.code, asked=end.asked)
        self.code = end.code
        self._signal.set()

    def _receive_early(self, messages: Sequence[bytes]) -> None:
        """Look for what settles the opening; events wait for ``start``."""
        opening = self._opening
        for message in messages:
            settled = opening is None or opening.up
            if not settled and opening is not None and opening.receive_message(message):
                self._signal.set()
                if opening.up and self.socket is not None:
                    self.socket.pause()  # what is in this read already comes in all the same
                continue
            self._early_bytes += len(message) + MESSAGE_COST_BYTES
            if settled or self._early_bytes <= MAX_EARLY_BYTES:
                self._backlog.append(message)
            else:
                self._shared.ignored(1)

    def _hear(self, message: bytes) -> None:
        """Look at a message that is no event: the peer may end what was settled."""
        opening = self._opening
        if opening is None or not opening.receive_message(message) or opening.error is None:
            return
        if self.end is None:
            self.refusal = opening.error
            self.end = end_of_error(opening.error)
        self._signal.set()

    def _report(self, note: Quarantined, now: float) -> None:
        self._shared.log_budget.report(note, self._shared.telemetry, now=now)

    def _pause(self) -> None:
        self._paused = True
        self.liveness.pause()
        if self.socket is not None:
            self.socket.pause()
        self._signal.set()

    # --- what the link calls -----------------------------------------------------------------

    async def open(self) -> None:
        """Return once the connection counts as up; reading stands still then, until ``start``.

        Raises:
            AuthError: The peer refused what was asked, or closed with a code that means so.
            RateLimited, PeerUnavailable: The peer does not take it now.
            ConnectFailed: The connection ended first.
            TimedOut: The peer said nothing to it.
        """
        opening, timing = self._opening, self._shared.timing
        if opening is None or self.socket is None:
            return
        opening.opened(now=timing.now())
        for text in opening.to_send():
            self.socket.send_text(text)
        if not opening.up:
            self.socket.resume()
        while not opening.up:
            if opening.error is not None:
                raise opening.error
            if self.end is not None:
                raise self._ended_early()
            self._signal.clear()
            await self._sleep(opening.next_deadline())
            opening.on_deadline(timing.now())

    def _ended_early(self) -> StenoError:
        kind = AuthError if self.end is End.REFUSED else ConnectFailed
        return kind(
            "the host ended the connection before it was subscribed",
            host=self._name,
            action="subscription",
            close_code=self.code,
        )

    async def watch(self) -> End:
        """Return why the connection is over, once all it has given is handed over."""
        while True:
            if self._paused:
                await self._drain()
            if self.end is not None:
                return self.end
            if self._shared.closing.is_set():
                return End.ASKED
            self._signal.clear()
            if self._judge():
                return End.SILENT
            await self._sleep(self.liveness.next_deadline())

    def _judge(self) -> bool:
        """Ping when it is time; True when the peer is given up."""
        self.liveness.on_deadline(self._shared.timing.now())
        for ping in self.liveness.to_send():
            if self.socket is not None:
                self.socket.ping(ping.payload)
        for event in self.liveness.events():
            if isinstance(event, PongLate):
                return True
            self._shared.pong(event.latency_s)
        return False

    async def _sleep(self, deadline: float | None) -> None:
        wait_s = None if deadline is None else max(0.0, deadline - self._shared.timing.now())
        try:
            async with asyncio.timeout(wait_s):
                await self._signal.wait()
        except TimeoutError:
            pass

    async def _drain(self) -> None:
        """Wait for room, then hand over what was read before the pause and read on."""
        while self._paused and self.target is not None:
            await self._shared.room(self.target)
            self._paused = False
            self._hand_over_backlog()
            if self._shared.closing.is_set():
                break
        self.liveness.resume(now=self._shared.timing.now())
        if self.socket is not None:
            self.socket.resume()

    def start(self) -> None:
        """Begin to read; again for a connection that has read already is harmless."""
        if self._held:
            self._held = False
            self._hand_over_backlog()
        if self.socket is not None and not self._paused:
            self.socket.resume()

    def _hand_over_backlog(self) -> None:
        waiting = list(self._backlog)
        self._backlog.clear()
        if waiting:
            self.on_messages(waiting)

    def abort(self) -> None:
        """Let go of the socket at once."""
        if self.socket is not None:
            self.socket.abort()

    async def close(self) -> None:
        """Close with 1000; returns within the dialer's limit."""
        if self.socket is not None:
            await self.socket.close(1000)


def end_of_error(exc: StenoError) -> End:
    """Return what an error means for the choice of the host to dial next."""
    if isinstance(exc, AuthError):
        return End.REFUSED
    if isinstance(exc, RateLimited):
        return End.THROTTLED
    return End.SILENT if isinstance(exc, TimedOut) else End.LOST
