"""One connection of the transcript stream: reads, decodes, hands over, and judges its life.

``Connection`` is the receiver of one socket. Frames are decoded and accepted inside the
socket's own callback; there is no task and no queue for a fragment. When the target asks for a
pause, reading stops, and TCP tells the platform.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steno.core.failover import End, FailoverPolicy, end_of_close
from steno.errors import AuthError
from steno.ports import (
    ClientSocket,
    FeedEvent,
    FeedTarget,
    Quarantined,
    SocketDialer,
    SocketEnd,
    Telemetry,
    TokenSource,
)
from steno.wire.transcript_stream import (
    HANDSHAKE_LIMIT_S,
    MAX_MESSAGE_BYTES,
    PING_INTERVAL_S,
    PONG_LIMIT_S,
    SOURCE,
    Decoder,
    Ignored,
    Liveness,
    PongLate,
    quarantined,
)

LOGGED_PER_MINUTE = 20
"""Malformed messages that get a log line; the others are counted in the next line."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One region: its name for logs, its ``wss://host[:port]`` and where its tokens come from."""

    name: str
    ws_base: str
    tokens: TokenSource


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


@dataclass(frozen=True, slots=True)
class Timing:
    """Clocks and chance, from outside: monotonic seconds, UTC microseconds, draws in [0, 1)."""

    now: Callable[[], float]
    utc_us: Callable[[], int]
    draw: Callable[[], float]


class Shared:
    """What the links of one feed have in common."""

    def __init__(
        self,
        endpoints: tuple[Endpoint, ...],
        dialer: SocketDialer,
        timing: Timing,
        telemetry: Telemetry,
        settings: StreamSettings,
    ) -> None:
        self.endpoints = endpoints
        self.dialer = dialer
        self.timing = timing
        self.telemetry = telemetry
        self.settings = settings
        self.decoder = Decoder(max_bytes=settings.max_message_bytes)
        self.closing = asyncio.Event()
        self.ever_up = False
        self.refusals: dict[tuple[str, int], AuthError] = {}
        self.messages = telemetry.counter("steno_feed_messages_total", source=SOURCE)
        self.ignored = telemetry.counter("steno_feed_ignored_total", source=SOURCE)
        self.reconnects = telemetry.counter("steno_reconnects_total", source=SOURCE)
        self.failovers = telemetry.counter("steno_failovers_total", source=SOURCE)
        self.pong = telemetry.histogram("steno_pong_seconds", source=SOURCE)
        self.log_budget = LogBudget(LOGGED_PER_MINUTE)

    async def give(self, target: FeedTarget, event: FeedEvent) -> None:
        """Hand over an event that is not read from a socket, and wait for room."""
        if not target.accept(event):
            await self.room(target)

    async def room(self, target: FeedTarget) -> None:
        """Return when the target has room, or the feed is closing."""
        waiting = (
            asyncio.ensure_future(target.ready()),
            asyncio.ensure_future(self.closing.wait()),
        )
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


class LogBudget:
    """Allows so many log lines a minute and counts what it held back."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = -1
        self._used = 0
        self._held_back = 0

    def take(self, now: float) -> int | None:
        """Return how many lines were held back since the last one, or None to hold this back."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        if self._used >= self._per_minute:
            self._held_back += 1
            return None
        self._used += 1
        held_back, self._held_back = self._held_back, 0
        return held_back

    def report(self, note: Quarantined, telemetry: Telemetry, *, now: float) -> None:
        """Log a malformed message by its facts, if the minute has a line left."""
        held_back = self.take(now)
        if held_back is not None:
            telemetry.warning(
                "live.quarantined",
                source=note.source,
                cause=note.cause,
                sha256=note.sha256,
                size_bytes=note.size_bytes,
                held_back=held_back,
            )


class Connection:
    """Reads one socket: the receiver of its messages and the judge of its life.

    ``target`` is None while the connection is an idle one: messages only prove that it lives.
    """

    def __init__(self, shared: Shared, host: int, wanted: tuple[str, ...], token: str = "") -> None:
        self.host = host
        self.token = token
        self.target: FeedTarget | None = None
        self.socket: ClientSocket | None = None
        self.end: End | None = None
        self.code = 0
        self.frames = 0
        self.opened_at = shared.timing.now()
        self._shared = shared
        # A socket for one conversation is given only that one; several are picked out here.
        self._only = frozenset(wanted) if len(wanted) > 1 else None
        self._signal = asyncio.Event()
        self._backlog: deque[bytes] = deque()
        self._paused = False
        settings = shared.settings
        self.liveness = Liveness(
            self.opened_at,
            ping_interval_s=settings.ping_interval_s,
            pong_limit_s=settings.pong_limit_s,
        )
        self._whole_utc_us = shared.timing.utc_us()

    @property
    def whole_us(self) -> int:
        """UTC microseconds of the last message or pong."""
        return self._whole_utc_us

    def wake(self) -> None:
        """Let ``watch`` look again."""
        self._signal.set()

    # --- what the socket calls ---------------------------------------------------------------

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """Decode and hand over, unless the target is behind."""
        now, utc_us = self._shared.timing.now(), self._shared.timing.utc_us()
        self.liveness.receive_messages(now=now)
        self._whole_utc_us = utc_us
        target = self.target
        if target is None:
            return
        if self._backlog or self._paused:
            self._backlog.extend(messages)  # no more than what one read holds: reading is paused
            return
        self.frames += len(messages)
        self._shared.messages(len(messages))
        decode, accept, only = self._shared.decoder.decode, target.accept, self._only
        closing = self._shared.closing.is_set
        for index, message in enumerate(messages):
            event = decode(message, now=now, utc_us=utc_us)
            if type(event) is Ignored:
                self._shared.ignored(1)
                continue
            if type(event) is Quarantined:
                self._report(event, now)
            elif only is not None and event.conversation not in only:  # type: ignore[union-attr]  # a Fragment
                self._shared.ignored(1)
                continue
            # When the feed is closing, what has been read is handed over at any rate.
            if not accept(event) and not closing():  # type: ignore[arg-type]  # as above
                self._backlog.extend(messages[index + 1 :])
                self._pause()
                return

    def on_binary(self, message: bytes) -> None:
        """Quarantine: the stream sends text only."""
        timing = self._shared.timing
        if self.target is not None:
            note = quarantined(message, "binary", timing.utc_us())
            self._report(note, timing.now())
            if not self.target.accept(note):
                self._pause()

    def on_pong(self, payload: bytes) -> None:
        """Tell the judge."""
        self.liveness.receive_pong(payload, now=self._shared.timing.now())
        self._whole_utc_us = self._shared.timing.utc_us()
        self._signal.set()

    def on_closed(self, end: SocketEnd) -> None:
        """Let ``watch`` return."""
        self.end = end_of_close(end.code, asked=end.asked)
        self.code = end.code
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
            waiting = list(self._backlog)
            self._backlog.clear()
            if waiting:
                self.on_messages(waiting)
            if self._shared.closing.is_set():
                break
        self.liveness.resume(now=self._shared.timing.now())
        if self.socket is not None:
            self.socket.resume()

    def start(self) -> None:
        """Begin to read; again for a connection that has read already is harmless."""
        if self.socket is not None:
            self.socket.resume()

    def abort(self) -> None:
        """Let go of the socket at once."""
        if self.socket is not None:
            self.socket.abort()

    async def close(self) -> None:
        """Close with 1000; returns within the dialer's limit."""
        if self.socket is not None:
            await self.socket.close(1000)
