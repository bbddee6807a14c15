"""One accepted WebSocket connection.

Frames are cut and unmasked by picows' core (RFC 6455); what a message is, and how connections
end, is decided here. picows knows no asynchronous decision about an upgrade, so that happened
before (``upgrade``): its protocol is handed the transport together with a request of ours that
carries the caller's key, and it answers 101.

picows is kept from the transport by ``_Pipe``: it writes through it, but whether and when the
transport closes is ours. The same object is its logger, since only there it tells that its
parser has failed, and because its words quote what a peer sent.

States: OPEN → CLOSING (we sent a close frame, the peer's is awaited) → OVER; or OPEN → OVER when
the peer closes, breaks a rule or is cut off. In OVER nothing is handed on or sent; the
transport's end is the connection's end, and it alone calls ``on_closed``.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from picows import WSAutoPingStrategy, WSFrame, WSListener, WSMsgType, WSTransport

# The stubs leave it out; picows' own api module imports it like this.
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from steno.adapters.audio_server.drain import Drain, read_on
from steno.adapters.audio_server.ticks import Ticks
from steno.ports import SocketEnd
from steno.ports.audio_server import AudioSocketHandler

READ_BUFFER_BYTES: Final = 16_384
MAX_FRAGMENTS: Final = 1000
_BIG_READ_BYTES: Final = READ_BUFFER_BYTES * 3 // 4
_MAX_REASON_BYTES: Final = 123
_MAX_PING_BYTES: Final = 125

OPEN: Final = 0
CLOSING: Final = 1
OVER: Final = 2

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_PING: Final = WSMsgType.PING
_PONG: Final = WSMsgType.PONG
_CLOSE: Final = WSMsgType.CLOSE

# Codes that never travel (RFC 6455, 7.4.1), and what lies outside every range.
_UNSENDABLE: Final = frozenset({1004, 1005, 1006, 1015})


class Owner(Protocol):
    """What a connection needs of its server."""

    @property
    def ticks(self) -> Ticks:
        """The reading rhythm."""

    @property
    def close_s(self) -> float:
        """How long an end may take."""

    @property
    def unsent_limit_bytes(self) -> int:
        """What may wait for a peer that does not read."""

    def handler_failed(self, error: Exception) -> None:
        """Report a handler's exception."""

    def protocol_broken(self, code: int) -> None:
        """Count a connection closed for breaking a rule."""

    def too_slow(self) -> None:
        """Count a connection cut off for not reading."""

    def gone(self, connection: Connection) -> None:
        """Forget a connection; called once."""


class Limits(NamedTuple):
    """What was agreed for one connection."""

    peer: str
    max_message_bytes: int
    subprotocol: str


class Connection(WSListener):
    """See ``steno.ports.audio_server.AudioSocket``. Made for each accepted upgrade.

    Args:
        owner: The server.
        transport: Paused.
        handler: Gets what is read.
        limits: What was agreed.
    """

    def __init__(
        self,
        owner: Owner,
        transport: asyncio.Transport,
        handler: AudioSocketHandler,
        limits: Limits,
    ) -> None:
        self.peer = limits.peer
        self.place = owner.ticks.place()
        self._owner = owner
        self._ticks = owner.ticks
        self._transport = transport
        self._handler = handler
        self._on_pong: Callable[[bytes], None] | None = getattr(handler, "on_pong", None)
        self._limits = limits
        self._state = OPEN
        self._resting = False
        self._until: Callable[[], bool] | None = None
        self._rest_s = 0.0
        self._texts: list[bytes] = []
        self._parts: list[bytes] | None = None
        self._parts_type = _TEXT
        self._parts_bytes = 0
        self._read_bytes = 0
        self._code = 1006
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._ws: WSTransport | None = None

    def __repr__(self) -> str:
        return f"Connection(state={self._state})"

    # --- opening -----------------------------------------------------------------------------

    def start(self, key: str, early: bytes) -> None:
        """Answer 101, tell the handler, and read; first what came behind the request."""
        pipe = _Pipe(self._transport, self._parser_failed)
        protocol = WSProtocol(
            None, None, False,  # host, path: a client's; not a client
            self._answer, pipe, True,
            None,  # the handshake's time is kept by the upgrade
            False, 20.0, 20.0, WSAutoPingStrategy.PING_WHEN_IDLE,  # no pings by itself
            False,  # nor pongs: it would swallow the mark of a read's last frame
            self._limits.max_message_bytes, None, READ_BUFFER_BYTES,
        )  # fmt: skip
        self._transport.set_protocol(protocol)
        protocol.connection_made(pipe)
        self._feed(
            protocol,
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % key.encode("ascii"),
        )
        if early and self._state == OPEN:
            self._feed(protocol, early)
        if not self._resting:
            read_on(self._transport)

    def _answer(self, request: object) -> object:
        from picows import WSUpgradeResponse, WSUpgradeResponseWithListener

        agreed = self._limits.subprotocol
        headers = {"Sec-WebSocket-Protocol": agreed} if agreed else None
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(headers), self)

    def _feed(self, protocol: WSProtocol, data: bytes) -> None:
        """Give bytes to picows as if they had been read."""
        while data and self._state != OVER:
            room = protocol.get_buffer(-1)
            taken = min(len(room), len(data))
            room[:taken] = data[:taken]
            protocol.buffer_updated(taken)
            data = data[taken:]

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Tell the handler (picows calls this when 101 is written)."""
        self._ws = transport
        try:
            self._handler.on_open(self)
        except Exception as exc:  # noqa: BLE001 - a handler's failure ends its connection alone
            self._handler_failed(exc)

    # --- reading -----------------------------------------------------------------------------

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame (picows calls this for each).

        ``frame.last_in_buffer`` marks the end of a read: the texts gathered until then are
        handed over together.
        """
        if self._state:
            self._after_close(frame)
            return
        texts = self._texts
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and self._parts is None
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            if not texts:
                self._read_bytes = frame.tail_size
            texts.append(frame.get_payload_as_bytes())
        else:
            self._take_other(frame)
        if frame.last_in_buffer and self._texts:
            self._deliver()

    def _deliver(self) -> None:
        texts, self._texts = self._texts, []
        if not self._ticks.armed:
            self._ticks.delivered()
        try:
            self._handler.on_texts(texts)
        except Exception as exc:  # noqa: BLE001 - a handler's failure ends its connection alone
            self._handler_failed(exc)

    def _take_other(self, frame: WSFrame) -> None:
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(1002)  # no extension was agreed
        elif kind is _BINARY and frame.fin and self._parts is None:
            self._read_bytes = frame.tail_size
            self._deliver_binary(frame.get_payload_as_bytes())
        elif kind is _PING:
            self._pong(frame.get_payload_as_bytes())
        elif kind is _PONG:
            self._take_pong(frame.get_payload_as_bytes())
        elif kind is _CLOSE:
            self._peer_closed(frame.get_payload_as_bytes())
        else:
            self._take_fragment(frame)

    def _deliver_binary(self, message: bytes) -> None:
        if self._texts:
            self._deliver()
        if self._state:
            return
        if not self._ticks.armed:
            self._ticks.delivered()
        try:
            self._handler.on_binary(message)
        except Exception as exc:  # noqa: BLE001 - a handler's failure ends its connection alone
            self._handler_failed(exc)

    def _take_fragment(self, frame: WSFrame) -> None:
        """Join a fragmented message (RFC 6455, 5.4), within the bounds of a whole one."""
        if (frame.msg_type is _CONTINUATION) != (self._parts is not None):
            self._fail(1002)  # a message inside another, or one without a beginning
            return
        if self._parts is None:
            self._parts, self._parts_bytes, self._parts_type = [], 0, frame.msg_type
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > self._limits.max_message_bytes or len(self._parts) > MAX_FRAGMENTS:
            self._fail(1009)
        elif frame.fin:
            message, self._parts = b"".join(self._parts), None
            self._read_bytes = frame.tail_size
            if self._parts_type is _TEXT:
                self._texts.append(message)
            else:
                self._deliver_binary(message)

    def _pong(self, payload: bytes) -> None:
        if self._ws is not None:
            self._ws.send_pong(payload)
            self._check_unsent()

    def _take_pong(self, payload: bytes) -> None:
        if self._texts:
            self._deliver()
        if self._on_pong is not None and not self._state:
            try:
                self._on_pong(payload)
            except Exception as exc:  # noqa: BLE001 - as everywhere for handlers
                self._handler_failed(exc)

    # --- resting -----------------------------------------------------------------------------

    def rest(self, seconds: float, *, until: Callable[[], bool] | None = None) -> None:
        """See ``AudioSocket.rest``."""
        if self._state or self._resting:
            return
        if until is None and self._read_bytes >= _BIG_READ_BYTES and self._more_waits():
            return
        self._resting = True
        self._until = until
        self._rest_s = seconds
        self._transport.pause_reading()
        self._ticks.rest(self, seconds)

    def wake(self) -> None:
        """Read again (the ticks call this)."""
        if not self._resting:
            return
        if self._until is not None and not self._until():
            self._ticks.rest(self, self._rest_s)
            return
        self._resting = False
        read_on(self._transport)

    def _more_waits(self) -> bool:
        """Ask the kernel whether the big read has left something; under TLS it is a guess."""
        sock = self._transport.get_extra_info("socket")
        try:
            waiting = fcntl.ioctl(sock.fileno(), termios.FIONREAD, b"\0\0\0\0")
        except (OSError, ValueError):
            return False
        return bool(struct.unpack("i", waiting)[0])

    # --- sending -----------------------------------------------------------------------------

    def send_text(self, text: bytes) -> None:
        """See ``AudioSocket.send_text``."""
        if not self._state and self._ws is not None:
            self._ws.send(_TEXT, text)
            self._check_unsent()

    def ping(self, payload: bytes = b"") -> None:
        """See ``AudioSocket.ping``."""
        if not self._state and self._ws is not None:
            self._ws.send_ping(payload[:_MAX_PING_BYTES])
            self._check_unsent()

    @property
    def unsent_bytes(self) -> int:
        """See ``AudioSocket.unsent_bytes``."""
        return 0 if self._state == OVER else self._transport.get_write_buffer_size()

    def _check_unsent(self) -> None:
        if self._transport.get_write_buffer_size() > self._owner.unsent_limit_bytes:
            self._owner.too_slow()
            self._state = OVER
            self._transport.abort()

    # --- the end -----------------------------------------------------------------------------

    def close(self, code: int, reason: str = "") -> None:
        """See ``AudioSocket.close``."""
        if not self._state:
            self._asked = True
            waiting, self._texts = self._texts, []
            self._send_close(code, reason)
            self._deliver_late(waiting)

    def abort(self) -> None:
        """See ``AudioSocket.abort``."""
        if self._state != OVER:
            self._asked = self._asked or not self._state
            self._state = OVER
            self._transport.abort()

    def _send_close(self, code: int, reason: str = "") -> None:
        self._state = CLOSING
        self._texts.clear()
        self._parts = None
        if self._ws is not None:
            text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
            # picows' enumeration names the registered codes only; any number travels.
            self._ws.send_close(code, text.encode())  # type: ignore[arg-type]
        self._arm_end()
        self.wake()  # the answer has to be read

    def _after_close(self, frame: WSFrame) -> None:
        """Wait for the peer's part of the closing handshake.

        Where the handler closes, what the peer sent before it has heard of it still counts.
        """
        if self._asked and self._state == CLOSING and frame.msg_type is _TEXT and frame.fin:
            self._deliver_late([frame.get_payload_as_bytes()])
            return
        if self._state == CLOSING and frame.msg_type is _CLOSE:
            code = _close_code(frame.get_payload_as_bytes())
            if self._asked:
                self._code = code
            self._state = OVER
            self._transport.close()

    def _deliver_late(self, texts: list[bytes]) -> None:
        if not texts:
            return
        try:
            self._handler.on_texts(texts)
        except Exception as exc:  # noqa: BLE001 - as ever
            self._owner.handler_failed(exc)

    def _peer_closed(self, payload: bytes) -> None:
        if self._texts:
            self._deliver()
        code = _close_code(payload)
        if code == 1002:
            self._fail(1002)
            return
        if self._ws is not None:
            self._ws.send_close(1000 if code == 1005 else code)  # type: ignore[arg-type]
        if self._state == CLOSING:  # the handler answered by closing, too: its frame went out
            self._asked = False
        self._code = code
        self._state = OVER
        self._arm_end()
        self._transport.close()

    def _handler_failed(self, error: Exception) -> None:
        self._owner.handler_failed(error)
        if not self._state:
            self._code = 1011
            self._send_close(1011)

    def _fail(self, code: int) -> None:
        """Close for a broken rule: nothing the peer sends from here on means anything."""
        if self._state == OVER:
            return
        if self._texts:
            self._deliver()
        if self._ws is not None:
            self._ws.send_close(code)  # type: ignore[arg-type]
        self._drain(code)

    def _parser_failed(self) -> None:
        """Take over from picows, which has sent a close frame by now."""
        if self._state == OVER:
            return
        sent = self._ws.close_handshake.sent if self._ws and self._ws.close_handshake else None
        code = 1002 if sent is None else int(sent.code.value)
        self._drain(self._code if self._state == CLOSING else code)

    def _drain(self, code: int) -> None:
        self._state = OVER
        self._resting = False
        self._code = code
        self._owner.protocol_broken(code)
        if self._timer is not None:
            self._timer.cancel()
        Drain(self._transport, self._owner.close_s, self._lost)

    def _arm_end(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._owner.close_s, self._cut)

    def _cut(self) -> None:
        self._state = OVER
        self._transport.abort()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell that it is over (picows calls this when the transport is gone)."""
        self._lost()

    def _lost(self) -> None:
        self._state = OVER
        self._resting = False
        if self._timer is not None:
            self._timer.cancel()
        self._parts = None
        self._texts.clear()
        try:
            self._handler.on_closed(SocketEnd(self._code, asked=self._asked))
        except Exception as exc:  # noqa: BLE001 - as everywhere for handlers
            self._owner.handler_failed(exc)
        self._ws = None
        self._owner.gone(self)


class _Pipe:
    """What picows takes for a transport and for a logger.

    It writes through to the transport. It cannot close it: picows does that ten milliseconds
    after an error, which loses the close frame when the peer is still sending.
    """

    __slots__ = ("_failed", "_reported", "_transport", "get_extra_info", "get_write_buffer_size",
                 "write", "writelines")  # fmt: skip

    def __init__(self, transport: asyncio.Transport, failed: Callable[[], None]) -> None:
        self._transport = transport
        self._failed = failed
        self._reported = False
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write = transport.write
        self.writelines = transport.writelines

    def close(self) -> None:
        """Report a failure, if the log did not."""
        self.error()

    abort = close

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - a logger's name for it
        """Nothing is to be formatted."""
        return False

    def error(self, *words: object, **more: object) -> None:
        """Note that picows has failed. What it parsed before is still being handed over, and
        its close frame follows: both are done when the loop comes round.
        """
        if not self._reported:
            self._reported = True
            if not self._transport.is_closing():
                self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._failed)

    exception = error

    def info(self, *words: object, **more: object) -> None:
        """Say nothing."""

    debug = log = warning = info


def _close_code(payload: bytes) -> int:
    """Return the code a close frame carries: 1005 for none, 1002 for one that may not be."""
    if not payload:
        return 1005
    code = int.from_bytes(payload[:2], "big")
    return code if 1000 <= code < 5000 and code not in _UNSENDABLE else 1002
