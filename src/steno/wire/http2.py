"""The client's end of an HTTP/2 connection, for many long streams of small messages.

gRPC's own library spends 35 to 120 µs of CPU on every message it writes from asyncio (a batch
object, a future, a wake-up across threads); a thousand calls write five thousand a second. Here a
message is a nine-byte header in front of bytes that are handed over as they are, about 1 µs, and
what all streams of a connection write at one time leaves in one system call.

``Connection`` does frames, header compression, flow control and settings. What is in the
messages is the business of ``grpc_wire``. Life of a stream:

    open --end()--> half closed --peer's END_STREAM--> gone
    open --peer's END_STREAM--> gone (we reset our half: nobody reads it any more)
    any --reset by either side, or GOAWAY below its number--> gone

A stream has room while its window and the connection's are above zero. A message is taken whole
then; what the windows do not admit waits in the stream, and it has no room until that has left.

Breaking a rule of the connection raises ``RemoteProtocolError`` from ``receive``: the connection
is over. Breaking one of a stream resets that stream alone.

Source: RFC 9113 (numbers in comments are its sections), RFC 7541.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError

from steno.errors import RemoteProtocolError

Header = tuple[bytes, bytes]

_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(
    10
)
_END_STREAM: Final = 0x1
_ACK: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_WITH_PRIORITY: Final = 0x20

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, REFUSED, CANCEL, CALM = (
    0x0, 0x1, 0x3, 0x5, 0x7, 0x8, 0xB,
)  # fmt: skip
"""Error codes used here (7)."""

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME_BYTES: Final = 16_384
"""Largest frame we take: the protocol's default, which nobody has to be told."""
MAX_BLOCK_BYTES: Final = 64 * 1024
MAX_BLOCK_FRAMES: Final = 32
MAX_LIST_BYTES: Final = 32 * 1024
"""Decoded size of one header list, counted as in RFC 7541, 4.1: a small block may name one large
entry of its table often."""
STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 1 << 24
_DEFAULT_WINDOW: Final = 65_535
_MAX_WINDOW: Final = (1 << 31) - 1
_LAST_STREAM: Final = (1 << 31) - 1

_head: Final = struct.Struct(">HBBBI").pack
_setting: Final = struct.Struct(">HI").pack
_word: Final = struct.Struct(">I").pack
_at_word: Final = struct.Struct(">I").unpack_from


class Stream:
    """One request; kept by the connection until both sides are done. Fields are its own."""

    __slots__ = ("credit", "end_wanted", "is_over", "local_done", "number", "waiting", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window  # bytes the peer still admits
        self.credit = 0  # bytes taken in and not yet credited to the peer
        self.waiting = b""
        self.end_wanted = False
        self.local_done = False
        self.is_over = False


class HeadersCame(msgspec.Struct, frozen=True, gc=False):
    """A header list: the response's, or the trailers."""

    stream: Stream
    headers: list[Header]
    is_end: bool


class DataCame(msgspec.Struct, frozen=True, gc=False):
    """A piece of the body, cut anywhere."""

    stream: Stream
    data: bytes
    is_end: bool


class StreamReset(msgspec.Struct, frozen=True, gc=False):
    """The stream is over without an end; ``REFUSED``: the peer has done nothing with it."""

    stream: Stream
    code: int


class RoomMade(msgspec.Struct, frozen=True, gc=False):
    """Windows were opened: streams without room may have some."""


class GoingAway(msgspec.Struct, frozen=True, gc=False):
    """The peer takes no new streams on this connection; those it has taken go on."""

    code: int


Event = HeadersCame | DataCame | StreamReset | RoomMade | GoingAway
_ROOM_MADE: Final = RoomMade()


class Connection:
    """See the module. Bytes in by ``receive``, out by ``to_send``; ``events`` in between."""

    def __init__(self) -> None:
        self._buffer = b""
        self._events: list[Event] = []
        self._encoder = Encoder()
        self._decoder = Decoder(MAX_LIST_BYTES)
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._window = _DEFAULT_WINDOW
        self._credit = 0
        self._stream_window = _DEFAULT_WINDOW
        self._max_frame = MAX_FRAME_BYTES
        self._max_streams = _LAST_STREAM
        self._blocked: dict[int, Stream] = {}
        self._block: bytearray | None = None
        self._block_of = self._block_flags = self._block_frames = 0
        self.is_ready = False
        """The peer's settings have come."""
        self.is_going_away = False
        self.pongs = 0
        """Pings of ours that were answered."""
        settings = (
            _setting(0x2, 0)  # ENABLE_PUSH
            + _setting(0x4, STREAM_WINDOW)
            + _setting(0x6, MAX_LIST_BYTES)  # MAX_HEADER_LIST_SIZE
        )
        self._out: list[bytes] = [
            PREFACE,
            _frame(_SETTINGS, 0, 0, settings),
            _frame(_WINDOW, 0, 0, _word(CONNECTION_WINDOW - _DEFAULT_WINDOW)),
        ]

    # --- streams -----------------------------------------------------------------------------

    @property
    def can_open(self) -> bool:
        """A stream opened now would be taken."""
        return (
            self.is_ready
            and not self.is_going_away
            and len(self._streams) < self._max_streams
            and self._next < _LAST_STREAM
        )

    @property
    def streams(self) -> int:
        """Streams that are not over."""
        return len(self._streams)

    def open(self, headers: list[Header]) -> Stream:
        """Begin a request with these headers; only while ``can_open``."""
        stream = Stream(self._next, self._stream_window)
        self._next += 2
        self._streams[stream.number] = stream
        # Every field is marked as never to be indexed: what we send once in the life of a stream
        # needs no table that is kept in step with the peer, and credentials must not be in one
        # (RFC 7541, 7.1.3).
        block = self._encoder.encode(
            [(name, value, True) for name, value in headers], huffman=False
        )
        kind = _HEADERS
        while len(block) > self._max_frame:
            self._out.append(_frame(kind, 0, stream.number, block[: self._max_frame]))
            block, kind = block[self._max_frame :], _CONTINUATION
        self._out.append(_frame(kind, _END_HEADERS, stream.number, block))
        return stream

    def room(self, stream: Stream) -> int:
        """Return how many bytes the windows admit; 0 while an earlier message is on its way."""
        if stream.waiting:
            return 0
        return stream.window if stream.window < self._window else self._window

    def send(self, stream: Stream, message: bytes) -> None:
        """Write a message; what the windows do not admit is kept and leaves when they do."""
        size = len(message)
        if (
            size <= stream.window
            and size <= self._window
            and size <= self._max_frame
            and not stream.waiting
        ):
            stream.window -= size
            self._window -= size
            self._out.append(_head(size >> 8, size & 255, _DATA, 0, stream.number))
            self._out.append(message)
        elif not stream.is_over:
            stream.waiting += message
            self._drain(stream)

    def end(self, stream: Stream) -> None:
        """Half-close: nothing more is sent on it once what waits has left."""
        if not stream.is_over and not stream.end_wanted:
            stream.end_wanted = True
            self._drain(stream)

    def reset(self, stream: Stream, code: int = CANCEL) -> None:
        """Give a stream up; no event follows for it."""
        if not stream.is_over:
            self._out.append(_frame(_RST, 0, stream.number, _word(code)))
            self._forget(stream)

    def ping(self) -> None:
        """Ask for a sign of life; ``pongs`` counts the answers."""
        self._out.append(_frame(_PING, 0, 0, b"steno\0\0\0"))

    def close(self) -> None:
        """Say goodbye; nothing may be done afterwards but to send what is left."""
        self._out.append(_frame(_GOAWAY, 0, 0, _word(0) + _word(NO_ERROR)))

    def _drain(self, stream: Stream) -> None:
        waiting = stream.waiting
        at = 0
        while at < len(waiting):
            size = min(len(waiting) - at, stream.window, self._window, self._max_frame)
            if size <= 0:
                stream.waiting = waiting[at:]
                self._blocked[stream.number] = stream
                return
            stream.window -= size
            self._window -= size
            self._out.append(_head(size >> 8, size & 255, _DATA, 0, stream.number))
            self._out.append(waiting[at : at + size])
            at += size
        stream.waiting = b""
        self._blocked.pop(stream.number, None)
        if stream.end_wanted and not stream.local_done:
            stream.local_done = True
            self._out.append(_head(0, 0, _DATA, _END_STREAM, stream.number))

    def _forget(self, stream: Stream) -> None:
        stream.is_over = True
        stream.waiting = b""
        self._streams.pop(stream.number, None)
        self._blocked.pop(stream.number, None)

    # --- output and events -------------------------------------------------------------------

    def to_send(self) -> bytes:
        """Return what is to be written, in order; empty when nothing is."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        return data

    def events(self) -> list[Event]:
        """Return what happened since the last call, oldest first."""
        happened, self._events = self._events, []
        return happened

    # --- input -------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes in.

        Raises:
            RemoteProtocolError: The peer broke a rule of the connection, which is over.
        """
        if self._buffer:
            data = self._buffer + data
        at, end = 0, len(data)
        while end - at >= 9:
            size = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if size > MAX_FRAME_BYTES:
                raise RemoteProtocolError("a frame of the peer is too large")
            after = at + 9 + size
            if after > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            number = _at_word(data, at + 5)[0] & _LAST_STREAM
            self._on_frame(kind, flags, number, data[at + 9 : after])
            at = after
        self._buffer = data[at:]

    def _on_frame(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if not self.is_ready and kind != _SETTINGS:
            raise RemoteProtocolError("the peer did not begin with its settings")  # 3.4
        if self._block is not None and kind != _CONTINUATION:
            raise RemoteProtocolError("a frame interrupts the peer's headers")  # 6.10
        if kind == _DATA:
            self._on_data(flags, number, body)
        elif kind == _WINDOW:
            self._on_window(number, body)
        elif kind == _HEADERS:
            self._on_headers(flags, number, body)
        elif kind == _CONTINUATION:
            self._on_continuation(flags, number, body)
        elif kind == _PING:
            self._on_ping(flags, number, body)
        elif kind == _SETTINGS:
            self._on_settings(flags, number, body)
        elif kind == _RST:
            self._on_reset(number, body)
        elif kind == _GOAWAY:
            self._on_goaway(number, body)
        elif kind == _PUSH:
            raise RemoteProtocolError("the peer pushes, which was ruled out")  # 6.6
        # Priorities and frames of extensions are ignored (4.1).

    def _known(self, number: int) -> Stream | None:
        """Return the stream; None when it is over, whose last frames are let pass."""
        stream = self._streams.get(number)
        if stream is None and (not number & 1 or number >= self._next):
            raise RemoteProtocolError("a frame of the peer names a stream that never was")
        return stream

    def _on_data(self, flags: int, number: int, body: bytes) -> None:
        stream = self._known(number)
        size = len(body)  # padding counts too (6.9.1)
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 2:
            self._out.append(_frame(_WINDOW, 0, 0, _word(self._credit)))
            self._credit = 0
        if flags & _PADDED:
            body = _unpadded(body)
        if stream is None:
            return
        is_end = bool(flags & _END_STREAM)
        if not is_end:
            stream.credit += size
            if stream.credit >= STREAM_WINDOW // 2:
                self._out.append(_frame(_WINDOW, 0, number, _word(stream.credit)))
                stream.credit = 0
        self._events.append(DataCame(stream, body, is_end))
        if is_end:
            self._peer_ended(stream)

    def _peer_ended(self, stream: Stream) -> None:
        if stream.local_done:
            self._forget(stream)
        else:
            self.reset(stream, CANCEL)

    def _on_headers(self, flags: int, number: int, body: bytes) -> None:
        if flags & _PADDED:
            body = _unpadded(body)
        if flags & _WITH_PRIORITY:
            if len(body) < 5:
                raise RemoteProtocolError("the peer's headers are cut short")
            body = body[5:]
        self._known(number)
        self._block = bytearray(body)
        self._block_of, self._block_flags, self._block_frames = number, flags, 1
        if flags & _END_HEADERS:
            self._on_block()

    def _on_continuation(self, flags: int, number: int, body: bytes) -> None:
        if self._block is None or number != self._block_of:
            raise RemoteProtocolError("the peer continues headers that were not begun")
        self._block += body
        self._block_frames += 1
        if len(self._block) > MAX_BLOCK_BYTES or self._block_frames > MAX_BLOCK_FRAMES:
            raise RemoteProtocolError("the peer's headers are too large")
        if flags & _END_HEADERS:
            self._on_block()

    def _on_block(self) -> None:
        block, self._block = bytes(self._block or b""), None
        # Also for a stream that is over: the table of both ends has to stay the same (4.3).
        headers = self._decoded(block)
        stream = self._streams.get(self._block_of)
        if stream is None:
            return
        is_end = bool(self._block_flags & _END_STREAM)
        self._events.append(HeadersCame(stream, headers, is_end))
        if is_end:
            self._peer_ended(stream)

    def _decoded(self, block: bytes) -> list[Header]:
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise RemoteProtocolError("the peer's headers are too large") from None
        except HPACKError:  # quotes what the peer sent: not chained
            raise RemoteProtocolError("the peer's headers cannot be decoded") from None

    def _on_window(self, number: int, body: bytes) -> None:
        if len(body) != 4:
            raise RemoteProtocolError("a window update of the peer has a wrong size")
        more = _at_word(body)[0] & _MAX_WINDOW
        if number == 0:
            self._window += more
            if more == 0 or self._window > _MAX_WINDOW:
                raise RemoteProtocolError("the peer opens its window too far")
            for stream in list(self._blocked.values()):
                if self._window <= 0:
                    break
                # Taken out and put behind the others if it is blocked still: all get a share.
                self._blocked.pop(stream.number, None)
                self._drain(stream)
        else:
            known = self._known(number)
            if known is None:
                return
            known.window += more
            if more == 0 or known.window > _MAX_WINDOW:
                self._fail(known, FLOW_CONTROL_ERROR)
                return
            if known.waiting:
                self._drain(known)
        if not self._events or self._events[-1] is not _ROOM_MADE:
            self._events.append(_ROOM_MADE)

    def _fail(self, stream: Stream, code: int) -> None:
        self.reset(stream, code)
        self._events.append(StreamReset(stream, code))

    def _on_ping(self, flags: int, number: int, body: bytes) -> None:
        if number or len(body) != 8:
            raise RemoteProtocolError("a ping of the peer is malformed")
        if flags & _ACK:
            self.pongs += 1
        else:
            self._out.append(_frame(_PING, _ACK, 0, body))

    def _on_settings(self, flags: int, number: int, body: bytes) -> None:
        if number or len(body) % 6 or (flags & _ACK and body):
            raise RemoteProtocolError("the peer's settings are malformed")
        if flags & _ACK:
            return
        self.is_ready = True
        for at in range(0, len(body), 6):
            name, value = struct.unpack_from(">HI", body, at)
            if name == 0x3:
                self._max_streams = value
            elif name == 0x4:
                self._set_stream_window(value)
            elif name == 0x5:
                if not 16_384 <= value < 1 << 24:
                    raise RemoteProtocolError("the peer's settings are malformed")
                self._max_frame = value
        self._out.append(_frame(_SETTINGS, _ACK, 0, b""))
        self._events.append(_ROOM_MADE)

    def _set_stream_window(self, value: int) -> None:
        if value > _MAX_WINDOW:
            raise RemoteProtocolError("the peer opens its window too far")
        more, self._stream_window = value - self._stream_window, value
        for stream in list(self._streams.values()):
            stream.window += more  # may fall below zero (6.9.2)
            if stream.waiting:
                self._drain(stream)

    def _on_reset(self, number: int, body: bytes) -> None:
        if len(body) != 4:
            raise RemoteProtocolError("a reset of the peer has a wrong size")
        stream = self._known(number)
        if stream is not None:
            self._forget(stream)
            self._events.append(StreamReset(stream, _at_word(body)[0]))

    def _on_goaway(self, number: int, body: bytes) -> None:
        if number or len(body) < 8:
            raise RemoteProtocolError("the peer's goodbye is malformed")
        last, code = _at_word(body)[0] & _LAST_STREAM, _at_word(body, 4)[0]
        self.is_going_away = True
        self._events.append(GoingAway(code))
        for stream in [one for one in self._streams.values() if one.number > last]:
            self._forget(stream)
            self._events.append(StreamReset(stream, REFUSED))


def _frame(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return _head(len(body) >> 8, len(body) & 255, kind, flags, number) + body


def _unpadded(body: bytes) -> bytes:
    if not body or body[0] >= len(body):
        raise RemoteProtocolError("the peer's padding is longer than its frame")  # 6.1
    return body[1 : len(body) - body[0]]
