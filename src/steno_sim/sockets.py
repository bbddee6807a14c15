"""One WebSocket of the simulator, with the ways in which it can misbehave.

One task reads a socket (``serve``), and playback writes it; ``send`` tells whether the frame
went to a connected, healthy peer. Before a socket is ended without a close frame, a ping is
sent and its pong awaited, so that everything counted as delivered is known to have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as posix
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from aiohttp import WSMsgType, web

from steno_sim.channels import Channel
from steno_sim.oauth import Token

if TYPE_CHECKING:
    from steno_sim.region import Region

SocketKind = Literal["stream", "channel", "event"]
_CLOSE_S = 2.0  # how long a peer may take to answer our close frame
_STALL_S = 30.0  # a peer that does not read for so long is cut off
_SETTLE_S = 2.0
_GONE = (ConnectionError, RuntimeError)


class Socket:
    """A WebSocket that playback can write to.

    Attributes:
        kind: Which family it belongs to.
        region: The region that it is connected to.
        token: The token that opened it; a channel's token for channel sockets.
        conversations: Conversation ids it asked for; empty for all.
        held: A frame kept back to change places with the next one.
        silent: Half-open: sends, pongs and close answers go nowhere.
        pong_delay_s: Pongs are so late.
        closing: Nothing more is written by playback.
        events: Event types that an event socket subscribed to.
    """

    def __init__(
        self,
        ws: web.WebSocketResponse,
        request: web.Request,
        kind: SocketKind,
        region: Region,
        *,
        now: float,
        token: Token,
        conversations: frozenset[str] = frozenset(),
        channel: Channel[Socket] | None = None,
    ) -> None:
        self.kind = kind
        self.region = region
        self.token = token
        self.conversations = conversations
        self.channel = channel
        self.held: bytes | None = None
        self.pong_delay_s = 0.0
        self.closing = False
        self.events: frozenset[str] = frozenset()
        self.sent = 0
        self.pings = 0
        self.assigned = 0
        self.last_traffic = now
        self.last_heartbeat = now
        self._ws = ws
        self._request = request
        self._silent = False
        self._heard = asyncio.Event()
        self._settled: asyncio.Future[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._pongs: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    @property
    def silent(self) -> bool:
        """Half-open: the peer hears nothing, and is not told."""
        return self._silent

    @property
    def healthy(self) -> bool:
        """Frames written now reach the peer."""
        return not (self.closing or self._silent)

    def silence(self, on: bool = True) -> None:
        """Go half-open, or come back."""
        self._silent = on
        if on:
            self._heard.clear()
        else:
            self._heard.set()

    def wants(self, conversation_id: str) -> bool:
        """Tell whether it asked for a conversation."""
        return not self.conversations or conversation_id in self.conversations

    async def send(self, data: bytes, *, opcode: WSMsgType = WSMsgType.TEXT) -> bool:
        """Write one frame; tell whether it went to a healthy peer."""
        if self.closing or self._silent:
            return False
        try:
            async with asyncio.timeout(_STALL_S):
                await self._ws.send_frame(data, opcode)
        except TimeoutError:
            self.abort()
            return False
        except _GONE:
            self.closing = True
            return False
        self.sent += 1
        return True

    async def flush(self) -> None:
        """Write the frame that was kept back."""
        if self.held is not None:
            held, self.held = self.held, None
            await self.send(held)

    async def end(self, code: int = 0, *, reset: bool = False) -> None:
        """End the socket: with a close frame, by FIN, or by reset. Never raises."""
        await self.flush()
        self.closing = True
        with contextlib.suppress(TimeoutError, *_GONE):
            if code:
                await self._ws.close(code=code)
                return
            if not self._silent:
                await self._settle()
        if reset:
            self.abort()
        elif self._request.transport is not None:
            self._request.transport.close()

    def abort(self) -> None:
        """Reset the TCP connection at once."""
        self.closing = True
        transport = self._request.transport
        if transport is None:
            return
        raw = transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            # Linger of 0 makes close send RST instead of FIN.
            raw.setsockopt(posix.SOL_SOCKET, posix.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def _settle(self) -> None:
        """Wait until the peer has answered a ping sent after everything else."""
        self._settled = asyncio.get_running_loop().create_future()
        await self._ws.ping(b"settle")
        async with asyncio.timeout(_SETTLE_S):
            await self._settled

    async def serve(self, on_text: Callable[[str], Awaitable[None]]) -> None:
        """Read until the socket ends, answering pings and closes; never raises for a peer."""
        try:
            with contextlib.suppress(*_GONE):
                await self._read(on_text)
        finally:
            self.closing = True
            if self._settled is not None and not self._settled.done():
                self._settled.cancel()
            for timer in self._timers:
                timer.cancel()
            for task in self._pongs:
                task.cancel()
            self._over.set()

    async def _read(self, on_text: Callable[[str], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await self._ws.receive()
            self.last_traffic = loop.time()
            match message.type:
                case WSMsgType.PING:
                    self.pings += 1
                    await self._answer_ping(message.data)
                case WSMsgType.PONG:
                    if self._settled is not None and not self._settled.done():
                        self._settled.set_result(None)
                case WSMsgType.TEXT:
                    if not self._silent:
                        await on_text(message.data)
                case WSMsgType.CLOSE:
                    await self._answer_close(message.data)
                    return
                case WSMsgType.CLOSING | WSMsgType.CLOSED | WSMsgType.ERROR:
                    return
                case _:
                    continue

    async def _answer_ping(self, data: bytes) -> None:
        if self._silent:
            return
        if not self.pong_delay_s:
            await self._ws.pong(data)
            return
        loop = asyncio.get_running_loop()
        if len(self._timers) < 100:
            timer = loop.call_later(self.pong_delay_s, self._late_pong, bytes(data))
            self._timers.add(timer)

    def _late_pong(self, data: bytes) -> None:
        async def write() -> None:
            if self.healthy:
                with contextlib.suppress(*_GONE):
                    await self._ws.pong(data)

        task = asyncio.get_running_loop().create_task(write())
        self._pongs.add(task)
        task.add_done_callback(self._pongs.discard)
        now = asyncio.get_running_loop().time()
        self._timers = {t for t in self._timers if t.when() > now}

    async def _answer_close(self, code: int | None) -> None:
        # A half-open peer does not answer: wait until somebody ends the connection.
        while self._silent and not self._transport_gone():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._heard.wait()
        self.closing = True
        valid = code if code is not None and (1000 <= code <= 1003 or code >= 1007) else 1000
        await self._ws.close(code=valid)

    def _transport_gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()
