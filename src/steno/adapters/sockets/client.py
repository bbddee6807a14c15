"""WebSocket client connections, made to be read in batches.

``Dialer`` opens a connection (TCP, proxy, TLS, upgrade) and returns a ``Connection`` that hands
all messages of one read to its receiver at once: no task switch and no future for a message.
The handshake, control frames, fragments, the closing handshake and every protocol error are
the ``websockets`` library's own sans-I/O machine. What is ours is the framing in front of it:
a complete, unfragmented text frame, which is all a transcript stream sends, is cut out of the
read directly (see ``_Framing``), for a fifth of the machine's price.

The address of a stream holds an access token. So the library's loggers are cut off, its
exceptions (which quote addresses and headers) are mapped ``from None``, and ours name the host.

Pings are the caller's: only it can tell a silent peer from its own back-pressure.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from steno.adapters.sockets.errors import expects_json, mapped, refused
from steno.adapters.sockets.proxy import Proxy, proxy_for, tunnel
from steno.errors import ConfigError, ConnectFailed, StenoError
from steno.ports import DialRequest, SocketEnd, SocketReceiver
from steno.wire.refusals import MAX_REFUSAL_BYTES

MAX_MESSAGE_BYTES = 1 << 20
MAX_HEAD_BYTES = 64 << 10
MAX_FRAGMENTS = 10_000
REFUSAL_LIMIT_S = 0.5
"""A refusal's body is waited for so long: its error code is worth that, and no more."""
CLOSE_LIMIT_S = 2.0
GATHER_S = 0.005
BUSY_GATHER_S = 0.025
"""After a small read that came soon after another, reading rests so long; the longer time holds
once a read brings ``BUSY_BYTES``. At 1000 messages a second waking up for each of them costs
more than all that is done with it, and caches are cold every time."""
BUSY_BYTES = 1 << 10
GATHER_BELOW_BYTES = 16 << 10

_KEEPALIVE: Final = (
    # A peer that vanished is noticed by the kernel within about 10 s even while nothing is
    # sent; a peer that is there but says nothing, by the caller's pings.
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 2),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 10_000),
)


def _mute_logger() -> logging.Logger:
    """Return a logger that nobody hears: the library would log addresses and contents."""
    logger = logging.Logger("steno.sockets.muted", level=logging.CRITICAL + 1)
    logger.disabled = True
    return logger


class Dialer:
    """Opens WebSocket connections; one for the whole process is enough.

    Args:
        ca_file: PEM bundle to trust instead of the system's; certificates are always checked.
        proxy: ``env`` (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``), ``none``, or the address
            of an ``http://`` or ``https://`` proxy.
        max_message_bytes: A longer message closes the connection with 1009.
        close_limit_s: How long ``close`` waits for the peer's part of the closing handshake.
        gather_s: How long messages that come one by one are gathered, five times that when
            there are many; 0 reads each at once.
        user_agent: Sent with the upgrade.

    Raises:
        ConfigError: The CA file cannot be read, or the proxy is none we can use.
    """

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        proxy: str = "env",
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        close_limit_s: float = CLOSE_LIMIT_S,
        gather_s: float = GATHER_S,
        user_agent: str = "steno",
    ) -> None:
        self._tls = _tls_context(ca_file)
        self._proxy = proxy
        self._max_bytes = max_message_bytes
        self._close_limit_s = close_limit_s
        self._gather_s = gather_s
        self._user_agent = user_agent
        self._logger = _mute_logger()
        if proxy != "env":
            proxy_for(proxy, secure=True, host="")  # a wrong setting is told at the start

    async def dial(self, request: DialRequest, receiver: SocketReceiver) -> Connection:
        """Connect and upgrade; see ``steno.ports.SocketDialer``."""
        uri = _parsed(request)
        proxy = proxy_for(self._proxy, secure=uri.secure, host=uri.host)
        connection = Connection(
            self._protocol(uri, request),
            receiver,
            max_bytes=self._max_bytes,
            close_limit_s=self._close_limit_s,
            gather_s=self._gather_s,
            host=request.host,
        )
        try:
            async with asyncio.timeout(request.timeout_s):
                await self._open(connection, uri, proxy, request)
                await connection.upgraded(self._head(connection, request))
        except BaseException as exc:
            connection.abort()
            if isinstance(exc, StenoError) or not isinstance(exc, Exception):
                raise
            raise mapped(exc, host=request.host) from None
        return connection

    def _protocol(self, uri: WebSocketURI, request: DialRequest) -> ClientProtocol:
        wanted = [Subprotocol(request.subprotocol)] if request.subprotocol else None
        return ClientProtocol(
            uri, subprotocols=wanted, max_size=self._max_bytes, logger=self._logger
        )

    def _head(self, connection: Connection, request: DialRequest) -> Callable[[], None]:
        def send() -> None:
            upgrade = connection.protocol.connect()
            upgrade.headers["User-Agent"] = self._user_agent
            for name, value in request.headers:
                upgrade.headers[name] = value
            connection.protocol.send_request(upgrade)
            connection.flush()

        return send

    async def _open(
        self, connection: Connection, uri: WebSocketURI, proxy: Proxy | None, request: DialRequest
    ) -> None:
        tls = self._tls if uri.secure else None
        async with asyncio.timeout(request.connect_timeout_s):
            if proxy is not None:
                await tunnel(
                    proxy, uri.host, uri.port, proxy_tls=self._tls, tls=tls, protocol=connection
                )
                return
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                uri.host,
                uri.port,
                ssl=tls,
                server_hostname=uri.host if tls else None,
            )


class Connection(asyncio.Protocol):
    """One open connection: see ``steno.ports.ClientSocket``. Reading starts at ``resume``."""

    def __init__(
        self,
        protocol: ClientProtocol,
        receiver: SocketReceiver,
        *,
        max_bytes: int,
        close_limit_s: float,
        gather_s: float,
        host: str,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._gather_s = gather_s
        self._read_at = float("-inf")
        self._rest: asyncio.TimerHandle | None = None
        self.protocol = protocol
        self._receiver = receiver
        self._close_limit_s = close_limit_s
        self._max_bytes = max_bytes
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._framing = _Framing(max_bytes)
        self._parts: list[bytes] = []
        self._binary = False
        self._head = bytearray()
        self._refusal = b""
        self._refusal_bytes = 0
        self._open = False
        self._reading = False
        self._asked = False
        self._ended = False
        self._upgrade: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Connection(host={self._host!r}, open={self._open})"

    # --- what asyncio calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio calls this)."""
        self._transport = cast("asyncio.Transport", transport)
        _keep_alive(transport)

    def data_received(self, data: bytes) -> None:
        """Take in what was read (asyncio calls this)."""
        if self._open:
            if self._reading:
                self._deliver(data)
                self._gather(len(data))
            else:  # TLS may hold a record back and give it out after the pause
                self._framing.keep(data)
        else:
            self._receive_head(data)

    def _gather(self, size: int) -> None:
        """Let more come together before the next read, while small reads follow each other."""
        now = self._loop.time()
        rest_s = self._gather_s
        soon = now - self._read_at <= rest_s
        if size >= BUSY_BYTES and rest_s:
            rest_s *= BUSY_GATHER_S / GATHER_S
            soon = now - self._read_at <= rest_s * 2
        self._read_at = now
        if not soon or size >= GATHER_BELOW_BYTES or not self._reading or self._rest is not None:
            return
        transport = self._transport
        if transport is not None and not transport.is_closing() and not self._asked:
            transport.pause_reading()
            self._rest = self._loop.call_later(rest_s, self._rested)

    def _rested(self) -> None:
        self._rest = None
        transport = self._transport
        if self._reading and transport is not None and not transport.is_closing():
            transport.resume_reading()

    def _end_rest(self) -> bool:
        """Stop waiting; True when the transport was paused for it."""
        rest, self._rest = self._rest, None
        if rest is None:
            return False
        rest.cancel()
        return True

    def eof_received(self) -> bool:
        """Take in the end of the stream (asyncio calls this)."""
        with contextlib.suppress(EOFError):
            self.protocol.receive_eof()
        self._refuse()
        self.flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver how it ended (asyncio calls this)."""
        self._end_rest()
        self._refuse()
        if self._upgrade is not None and not self._upgrade.done():
            self._upgrade.set_exception(
                ConnectFailed("the host hung up during the upgrade", host=self._host)
            )
        if not self._gone.done():
            self._gone.set_result(None)
        self._tell_end()

    # --- opening -----------------------------------------------------------------------------

    async def upgraded(self, send: Callable[[], None]) -> None:
        """Send the upgrade and return once the connection is open.

        Raises:
            StenoError: See ``SocketDialer.dial``.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectFailed("the host hung up", host=self._host)
        self._upgrade = asyncio.get_running_loop().create_future()
        send()
        await self._upgrade

    def _receive_head(self, data: bytes) -> None:
        waiting = self._upgrade
        if waiting is None or waiting.done():
            return
        if self._refusal:
            self._receive_refusal(data)
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > MAX_HEAD_BYTES:
                waiting.set_exception(ConnectFailed("endless upgrade answer", host=self._host))
            return
        head, rest = bytes(self._head[: end + 4]), bytes(self._head[end + 4 :])
        self._head.clear()
        refusal = refused(head, host=self._host, now_utc=datetime.now(UTC))
        if refusal is not None:
            self._refusal = head
            self._receive_refusal(head + rest)
            if not expects_json(head):
                self._refuse()
            elif not waiting.done():
                timer = self._loop.call_later(REFUSAL_LIMIT_S, self._refuse)
                waiting.add_done_callback(lambda _: timer.cancel())
            return
        # Exactly the head: frames that came in the same read stay with our own framing.
        self.protocol.receive_data(head)
        self.protocol.events_received()
        if self.protocol.handshake_exc is not None or self.protocol.state is not State.OPEN:
            cause = self.protocol.handshake_exc or EOFError()
            waiting.set_exception(mapped(cause, host=self._host))
            return
        self._open = True
        self._framing.keep(rest)
        if self._transport is not None:
            self._transport.pause_reading()
        waiting.set_result(None)

    def _receive_refusal(self, data: bytes) -> None:
        """Let the library's machine put the body together, and refuse once it is whole."""
        self._refusal_bytes += len(data)
        within = self._refusal_bytes <= len(self._refusal) + MAX_REFUSAL_BYTES
        if within:
            with contextlib.suppress(EOFError):
                self.protocol.receive_data(data)
        if not within or self.protocol.handshake_exc is not None:
            self._refuse()

    def _refuse(self) -> None:
        """End the upgrade with what is known of its refusal, if it was refused."""
        waiting = self._upgrade
        if not self._refusal or waiting is None or waiting.done():
            return
        exc = self.protocol.handshake_exc
        body = bytes(exc.response.body or b"") if isinstance(exc, InvalidStatus) else b""
        refusal = refused(self._refusal, host=self._host, now_utc=datetime.now(UTC), body=body)
        waiting.set_exception(refusal or ConnectFailed(host=self._host))

    # --- reading -----------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading."""
        if self._reading and not self._ended:
            self._reading = False
            if self._end_rest():
                return
            if self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, first what had been read already."""
        if self._reading or self._ended:
            return
        self._reading = True
        self._deliver(b"")
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _deliver(self, data: bytes) -> None:
        """Cut the read into frames; texts go to the receiver in one batch, the rest through the
        library's machine one by one.
        """
        if self.protocol.state is not State.OPEN:
            self._to_machine(data)
            return
        framing = self._framing
        data = framing.joined(data)
        position = 0
        while True:
            texts, position, other = framing.cut(data, position, plain=not self._parts)
            if texts:
                self._receiver.on_messages(texts)
            if other is None:
                return
            self._to_machine(other)
            if self.protocol.state is not State.OPEN:
                return

    def _to_machine(self, data: bytes) -> None:
        if data:
            with contextlib.suppress(EOFError):
                self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self._receive_frame(event)
        self.flush()
        # After our own close the peer may still send; its answer or the end of TCP is the end.
        answered = self.protocol.close_rcvd is not None
        if self.protocol.close_expected() and (answered or not self._asked):
            self._expect_end()

    def _receive_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.PONG:
            self._receiver.on_pong(bytes(frame.data))
        elif opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if opcode is not Opcode.CONT:
                self._binary = opcode is Opcode.BINARY
            self._parts.append(bytes(frame.data))
            if frame.fin:
                message, self._parts = b"".join(self._parts), []
                if self._binary:
                    self._receiver.on_binary(message)
                else:
                    self._receiver.on_messages([message])
            elif len(self._parts) > MAX_FRAGMENTS:
                self.protocol.fail(1009, "too many fragments")

    # --- writing and closing -----------------------------------------------------------------

    def send_text(self, text: str) -> None:
        """Send a text message."""
        if self.protocol.state is State.OPEN:
            self.protocol.send_text(text.encode())
            self.flush()

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        if self.protocol.state is State.OPEN:
            self.protocol.send_ping(payload)
            self.flush()

    async def close(self, code: int = 1000) -> None:
        """Close with the handshake, then let go of the connection; returns within the limit."""
        if self.protocol.state is State.OPEN:
            self._asked = True
            self.protocol.send_close(code)
            self.flush()
        if self._transport is not None and not self._gone.done():
            # The peer's answer has to be read, whatever the caller's back-pressure. And TCP is
            # left to the peer to end: a reset could overtake the close frame.
            self._reading = True
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()
            try:
                async with asyncio.timeout(self._close_limit_s):
                    await asyncio.shield(self._gone)
            except TimeoutError:
                pass
            finally:
                self.abort()

    def abort(self) -> None:
        """Let go of the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        self._tell_end()

    def flush(self) -> None:
        """Write what the machine wants written."""
        transport = self._transport
        for piece in self.protocol.data_to_send():
            if transport is None or transport.is_closing():
                continue
            if piece:
                transport.write(piece)
            elif transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()

    def _expect_end(self) -> None:
        """Give the peer a moment to end TCP after the closing handshake, then do it ourselves.

        The end is told at once: the next connection need not wait for this one's burial.
        """
        self._tell_end()
        if self._transport is not None and not self._transport.is_closing():
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._close_limit_s, self._transport.abort)
            self._gone.add_done_callback(lambda _: timer.cancel())

    def _tell_end(self) -> None:
        if self._ended or not self._open:
            self._ended = True
            return
        self._ended = True
        self._reading = False
        # A close of the machine's own (1002, 1009) is told by its code; ours has 1006 like the
        # network's, and ``asked`` beside it.
        close = self.protocol.close_rcvd
        if close is None and not self._asked:
            close = self.protocol.close_sent
        code = 1006 if close is None else close.code
        self._receiver.on_closed(SocketEnd(int(code), asked=self._asked))


class _Framing:
    """Cuts reads into frames (RFC 6455, 5.2), at the price of a slice for the common one.

    A complete, unfragmented, unmasked text frame within the size bound is a message as it
    stands. Any other frame is returned whole for the library's machine; one that breaks a rule
    (too long, masked) is returned as far as it has come, for the machine to refuse.
    """

    __slots__ = ("_kept", "_max_bytes", "_needed")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept = bytearray()
        self._needed = 0

    def keep(self, data: bytes) -> None:
        """Keep bytes for later."""
        self._kept += data
        self._needed = 0

    def joined(self, data: bytes) -> bytes:
        """Return what was kept with ``data`` after it, or nothing while a frame is incomplete.

        A long message arrives in many reads; it is joined once, not once for every read.
        """
        if not self._kept:
            return data
        self._kept += data
        if len(self._kept) < self._needed:
            return b""
        whole = bytes(self._kept)
        self._kept.clear()
        return whole

    def cut(
        self, data: bytes, position: int, *, plain: bool
    ) -> tuple[list[bytes], int, bytes | None]:
        """Return texts from ``position`` on, where they end, and a frame for the machine.

        Args:
            plain: False inside a fragmented message, where no frame is a message by itself.
        """
        texts: list[bytes] = []
        end = len(data)
        while True:
            left = end - position
            if left < 2:
                return texts, self._wait(data, position, 2), None
            first, length = data[position], data[position + 1]
            start = position + 2
            if length >= 126:
                extra = 2 if length == 126 else 8
                if length > 127:  # masked: no server may
                    return texts, end, data[position:]
                if left < 2 + extra:
                    return texts, self._wait(data, position, 2 + extra), None
                start += extra
                length = int.from_bytes(data[position + 2 : start], "big")
            stop = start + length
            if length > self._max_bytes:
                return texts, end, data[position:]
            if stop > end:
                return texts, self._wait(data, position, stop - position), None
            if first != 0x81 or not plain:
                return texts, stop, data[position:stop]
            texts.append(data[start:stop])
            position = stop

    def _wait(self, data: bytes, position: int, needed: int) -> int:
        self._kept += data[position:]
        self._needed = needed if self._kept else 0
        return len(data)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError):
        raise ConfigError(
            "the CA file cannot be read", setting="ca_file", fix="Give a readable PEM bundle."
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _parsed(request: DialRequest) -> WebSocketURI:
    try:
        return parse_uri(request.url)
    except Exception:  # noqa: BLE001 - whatever the parsers raise quotes the address
        raise ConfigError(
            "not a WebSocket address", setting="host", fix="Use wss://host.", host=request.host
        ) from None


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    with contextlib.suppress(OSError):  # a peer that is gone already is noticed by reading
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):  # Linux has them all
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
