"""One region: its tokens, channels, sockets, counters, and the faults that strike it.

A region knows nothing of HTTP routes; ``server`` puts it behind a port and ``world`` plays
conversations into it. Faults are carried out here.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from steno_sim import wire
from steno_sim.channels import Channel, ChannelBook, Limits
from steno_sim.faults import STANDING, Fault, FaultBook
from steno_sim.malformed import malformed
from steno_sim.oauth import TokenService
from steno_sim.sockets import Socket

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class RegionSettings(msgspec.Struct, frozen=True):
    """How strictly and how fast a region behaves.

    Attributes:
        limits: Limits of the Notifications API.
        heartbeat_s: Time between heartbeats on notification sockets.
        idle_close_s: Notification sockets that say nothing for so long get 1001 (0: never).
        rate_limit: REST calls of a token per ``rate_window_s`` (0: no limit).
        token_end_code: Close code for stream and event sockets whose token ended (0: they stay).
        config_delay_s: Time that a transcription config PUT takes.
        closing_notice_s: From ``v2.system.socket_closing`` to the close.
        require_subprotocol: The stream refuses a client that does not offer ``v2``.
        event_form: Events of event sockets lie under ``data`` (``wrapped``), are sent ``bare``,
            or by turns (``mixed``).
        events_unasked: Event sockets get events without a subscription.
        event_upgrades: Event sockets that an OAuth client may open per ``rate_window_s``;
            more get 429 (0: no limit).
    """

    limits: Limits = Limits()
    heartbeat_s: float = 30.0
    idle_close_s: float = 0.0
    rate_limit: int = 300
    rate_window_s: float = 60.0
    token_end_code: int = 0
    config_delay_s: float = 0.0
    closing_notice_s: float = 60.0
    require_subprotocol: bool = True
    event_form: wire.EventForm = "wrapped"
    events_unasked: bool = False
    event_upgrades: int = 0


class ConfigPut(msgspec.Struct, frozen=True):
    """A transcription config that was put; ``at_s`` is from the start of the region."""

    conversation: str
    languageCode: str  # noqa: N815 - the wire's own name
    autoDetect: bool  # noqa: N815 - the wire's own name
    at_s: float


class Region:
    """State of one region.

    Args:
        name: How faults and statistics call it.
        tokens: Its OAuth service; regions may share one.
        settings: Its behaviour.
    """

    def __init__(self, name: str, tokens: TokenService, settings: RegionSettings) -> None:
        self.name = name
        self.tokens = tokens
        self.settings = settings
        self.faults = FaultBook()
        self.channels: ChannelBook[Socket] = ChannelBook(settings.limits)
        self.streams: list[Socket] = []
        self.events: list[Socket] = []
        self.up = True
        self.sent = 0
        self.duplicates_left = 0
        self.swaps_left = 0
        self.requests: Counter[str] = Counter()
        self.upgrades = 0
        self.refused_upgrades = 0
        self.peak_sockets = 0
        self.missed_here = 0
        self.configs: deque[ConfigPut] = deque(maxlen=10_000)
        self.config_count = 0
        self.reports: dict[str, Callable[[], dict[str, object]]] = {}
        self.changed: Callable[[], None] = lambda: None
        self.take_down: Callable[[Fault], Awaitable[None]] | None = None
        self.bring_up: Callable[[], Awaitable[None]] | None = None
        self._spawn: Spawn | None = None
        self._by_count: list[tuple[int, int, Fault]] = []
        self._serial = 0
        self._timers: set[asyncio.TimerHandle] = set()
        self._pings_before = 0

    # --- life -------------------------------------------------------------------------

    def open(self, spawn: Spawn) -> None:
        """Begin to work; ``spawn`` owns the tasks that faults need."""
        self._spawn = spawn

    def close(self) -> None:
        """Drop every timer; sockets are ended by whoever owns the port."""
        self._spawn = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def sockets(self) -> list[Socket]:
        """Give every connected socket of all families."""
        channels = [c.socket for c in self.channels.all() if c.socket is not None]
        return [*self.streams, *self.events, *channels]

    def audience(self) -> int:
        """Count the sockets that hear something; an event socket does once it subscribed."""
        deaf = sum(not self._told(s) for s in self.events)
        return len(self.sockets()) - deaf

    def add(self, socket: Socket) -> None:
        """Take a freshly upgraded socket in; on a channel it ends the one before it."""
        self.upgrades += 1
        if socket.channel is None:
            (self.events if socket.kind == "event" else self.streams).append(socket)
        else:
            before, socket.channel.socket = socket.channel.socket, socket
            if before is not None:
                self._later(before.end(1000))
        self.peak_sockets = max(self.peak_sockets, len(self.sockets()))
        self.changed()

    def discard(self, socket: Socket) -> None:
        """Forget a socket that ended."""
        self._pings_before += socket.pings
        if socket.channel is None:
            self.streams = [s for s in self.streams if s is not socket]
            self.events = [s for s in self.events if s is not socket]
        elif socket.channel.socket is socket:
            socket.channel.socket = None
        self.changed()

    # --- sending ----------------------------------------------------------------------

    async def send_speech(self, socket: Socket, data: bytes, *, final: bool) -> bool:
        """Send a fragment or utterance, with the blemishes that were asked for."""
        if self.swaps_left and not final and socket.held is None and socket.healthy:
            self.swaps_left -= 1
            self.faults.count("reorder")
            socket.held = data
            return True
        delivered = await socket.send(data)
        if socket.held is not None:
            await socket.flush()
        if delivered and self.duplicates_left:
            self.duplicates_left -= 1
            self.faults.count("duplicate")
            await socket.send(data)
        if delivered:
            self.sent += 1
            if self._by_count and self._by_count[0][0] <= self.sent:
                self._fire_counted()
        else:
            self.missed_here += 1
        return delivered

    async def publish(self, topic: str, data: bytes, *, now: float, final: bool = True) -> bool:
        """Send an event to every channel that has the topic; tell whether one got it."""
        reached = False
        for channel in self.channels.listeners(topic):
            socket = channel.socket
            # The platform stops delivering when the token behind a channel ends.
            if socket is None or channel.expires <= now or not channel.token.alive(now):
                continue
            reached = await self.send_speech(socket, data, final=final) or reached
        return reached

    def event_listeners(self, conversation_id: str) -> list[Socket]:
        """Give the event sockets that are to get the events of a conversation."""
        return [
            s for s in self.events if not s.closing and self._told(s) and s.wants(conversation_id)
        ]

    def _told(self, socket: Socket) -> bool:
        return self.settings.events_unasked or wire.SEGMENT_EVENT in socket.events

    async def send_event(self, conversation_id: str, data: bytes, *, final: bool) -> bool:
        """Send an event to every event socket that wants it; tell whether one got it."""
        reached = False
        for socket in self.event_listeners(conversation_id):
            reached = await self.send_speech(socket, data, final=final) or reached
        return reached

    def listening(self, topic: str, *, now: float) -> bool:
        """Tell whether a healthy socket would get an event of that topic."""
        return any(
            c.socket is not None and c.socket.healthy and c.expires > now and c.token.alive(now)
            for c in self.channels.listeners(topic)
        )

    async def tick(self, now: float) -> None:
        """Do what time asks for: heartbeats, idle closes, ends of channels and tokens."""
        for channel in self.channels.expire(now):
            if channel.socket is not None:
                self._later(channel.socket.end(1001))
        for socket in self.sockets():
            if socket.channel is not None:
                await self._tend_channel(socket, now)
            elif self._token_over(socket, now):
                socket.closing = True
                self._later(socket.end(self.settings.token_end_code))

    def _token_over(self, socket: Socket, now: float) -> bool:
        ends = self.settings.token_end_code and not socket.closing
        return bool(ends) and not socket.token.alive(now)

    async def _tend_channel(self, socket: Socket, now: float) -> None:
        if socket.closing:
            return
        idle = self.settings.idle_close_s
        if idle and now - socket.last_traffic >= idle:
            socket.closing = True
            self._later(socket.end(1001))
        elif now - socket.last_heartbeat >= self.settings.heartbeat_s:
            socket.last_heartbeat = now
            await socket.send(wire.control("WebSocket Heartbeat"))

    # --- faults -----------------------------------------------------------------------

    def inject(self, fault: Fault) -> None:
        """Let a fault happen: now, at its time, or after its number of messages."""
        loop = asyncio.get_running_loop()
        if fault.after and self.sent < fault.after:
            self._serial += 1
            heapq.heappush(self._by_count, (fault.after, self._serial, fault))
        elif fault.at_s:
            self._at(loop.time() + fault.at_s, lambda: self.strike(fault))
        else:
            self.strike(fault)

    def clear_faults(self) -> None:
        """Forget what waits, and end what lasts."""
        self.faults.clear()
        self._by_count.clear()
        self.duplicates_left = self.swaps_left = 0
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        _heal(self.sockets())
        _heal_pongs(self.sockets())
        if not self.up and self.bring_up is not None:
            self._later(_call(self.bring_up()))

    def strike(self, fault: Fault) -> None:
        """Carry a fault out at once."""
        now = asyncio.get_running_loop().time()
        if fault.kind in STANDING:
            self.faults.add(fault, now=now)
            return
        _STRIKES[fault.kind](self, fault, now)
        if fault.kind not in ("duplicate", "reorder"):
            self.faults.count(fault.kind)

    def _fire_counted(self) -> None:
        while self._by_count and self._by_count[0][0] <= self.sent:
            fault = heapq.heappop(self._by_count)[2]
            self.strike(fault)

    def _targets(self, fault: Fault) -> list[Socket]:
        found = [s for s in self.sockets() if fault.target in ("all", s.kind) and not s.closing]
        if fault.conversation:
            topic = wire.transcription_topic(fault.conversation)
            found = [
                s
                for s in found
                if (s.channel is None and s.wants(fault.conversation))
                or (s.channel is not None and topic in s.channel.topics)
            ]
        return found[: fault.times] if fault.times and fault.kind == "drop" else found

    def _drop(self, fault: Fault, now: float) -> None:
        for socket in self._targets(fault):
            if socket.held is None:
                socket.closing = True  # from this moment nothing counts as delivered
            self._later(socket.end(fault.code, reset=fault.reset))

    def _silence(self, fault: Fault, now: float) -> None:
        struck = self._targets(fault)
        for socket in struck:
            socket.silence()
        if fault.for_s:
            self._at(now + fault.for_s, lambda: _heal(struck))

    def _slow_pong(self, fault: Fault, now: float) -> None:
        struck = self._targets(fault)
        for socket in struck:
            socket.pong_delay_s = fault.delay_s
        if fault.for_s:
            self._at(now + fault.for_s, lambda: _heal_pongs(struck))

    def _end_tokens(self, fault: Fault, now: float) -> None:
        self.tokens.revoke_all()

    def _down(self, fault: Fault, now: float) -> None:
        if self.take_down is None:
            return
        self.up = False
        for socket in self.sockets():
            socket.closing = True
        self._later(_call(self.take_down(fault)))
        if fault.for_s:
            self._at(now + fault.for_s, lambda: self._up(fault, now))

    def _up(self, fault: Fault, now: float) -> None:
        if self.bring_up is not None:
            self._later(_call(self.bring_up()))

    def _malformed(self, fault: Fault, now: float) -> None:
        async def write(socket: Socket) -> None:
            data, opcode = malformed(fault.form, event=socket.kind == "event")
            for _ in range(fault.uses):
                await socket.send(data, opcode=opcode)

        for socket in self._targets(fault):
            self._later(write(socket))

    def _duplicate(self, fault: Fault, now: float) -> None:
        self.duplicates_left += fault.uses

    def _reorder(self, fault: Fault, now: float) -> None:
        self.swaps_left += fault.uses

    def _socket_closing(self, fault: Fault, now: float) -> None:
        wait_s = fault.delay_s or self.settings.closing_notice_s
        notice = wire.socket_closing()
        for socket in self._targets(fault):
            if socket.channel is not None:
                self._later(_send(socket, notice))
                self._at(now + wait_s, partial(self._end_gone, socket))

    def _end_gone(self, socket: Socket) -> None:
        self._later(socket.end(1001))

    def _channel_expired(self, fault: Fault, now: float) -> None:
        for channel in self.channels.all():
            channel.expires = now
        for channel in self.channels.expire(now):
            if channel.socket is not None:
                channel.socket.closing = True
                self._later(channel.socket.end(1001))

    def _idle_close(self, fault: Fault, now: float) -> None:
        for socket in self._targets(fault):
            if socket.channel is not None:
                socket.closing = True
                self._later(socket.end(1001))

    def evict(self, channel: Channel[Socket]) -> None:
        """End the socket of a channel that had to go."""
        if channel.socket is not None:
            self._later(channel.socket.end(1000))

    def _at(self, when: float, act: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        self._timers = {t for t in self._timers if t.when() > loop.time() and not t.cancelled()}
        self._timers.add(loop.call_at(when, act))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        if self._spawn is None:
            work.close()
            return
        self._spawn(work)

    # --- what happened ----------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Give the counters of this region."""
        sockets = self.sockets()
        return {
            "up": self.up,
            "sent": self.sent,
            "missed": self.missed_here,
            "tokens_issued": self.tokens.issued,
            "tokens_refused": self.tokens.refused,
            "sockets": len(sockets),
            "stream_sockets": len(self.streams),
            "event_sockets": len(self.events),
            "peak_sockets": self.peak_sockets,
            "upgrades": self.upgrades,
            "refused_upgrades": self.refused_upgrades,
            "pings": self._pings_before + sum(s.pings for s in sockets),
            "configs": self.config_count,
            "channels": len(self.channels),
            "channels_created": self.channels.created,
            "channels_evicted": self.channels.evicted,
            "requests": dict(sorted(self.requests.items())),
            "faults_fired": dict(sorted(self.faults.fired.items())),
            "faults_waiting": len(self.faults.waiting()) + len(self._by_count),
        } | {name: report() for name, report in self.reports.items()}


def _heal(sockets: list[Socket]) -> None:
    for socket in sockets:
        socket.silence(False)


def _heal_pongs(sockets: list[Socket]) -> None:
    for socket in sockets:
        socket.pong_delay_s = 0.0


async def _call(work: Awaitable[None]) -> None:
    await work


async def _send(socket: Socket, data: bytes) -> None:
    await socket.send(data)


_STRIKES: dict[str, Callable[[Region, Fault, float], None]] = {
    "drop": Region._drop,
    "silence": Region._silence,
    "slow_pong": Region._slow_pong,
    "expire_tokens": Region._end_tokens,
    "revoke_tokens": Region._end_tokens,
    "region_down": Region._down,
    "region_up": Region._up,
    "malformed": Region._malformed,
    "duplicate": Region._duplicate,
    "reorder": Region._reorder,
    "socket_closing": Region._socket_closing,
    "channel_expired": Region._channel_expired,
    "idle_close": Region._idle_close,
}
