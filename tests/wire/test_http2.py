"""The client's end of HTTP/2: what leaves, flow control, and every way a stream or peer ends."""

from __future__ import annotations

import struct

import pytest
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import RemoteProtocolError
from steno.wire import http2
from steno.wire.http2 import (
    PREFACE,
    Connection,
    DataCame,
    GoingAway,
    HeadersCame,
    RoomMade,
    Stream,
    StreamReset,
)

DATA, HEADERS, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
REQUEST = [(b":method", b"POST"), (b":path", b"/x")]


def frame(kind: int, flags: int, number: int, body: bytes = b"") -> bytes:
    size = len(body)
    return struct.pack(">HBBBI", size >> 8, size & 255, kind, flags, number) + body


def word(value: int) -> bytes:
    return struct.pack(">I", value)


def settings(**values: int) -> bytes:
    names = {"streams": 3, "window": 4, "frame": 5}
    body = b"".join(struct.pack(">HI", names[name], value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, body)


def encode(headers: list[tuple[bytes, bytes]]) -> bytes:
    return Encoder().encode(headers)


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Take what a connection wrote apart."""
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def connected(**values: int) -> Connection:
    connection = Connection()
    connection.receive(settings(**values))
    connection.events()
    connection.to_send()
    return connection


def opened(**values: int) -> tuple[Connection, Stream]:
    connection = connected(**values)
    stream = connection.open(REQUEST)
    connection.to_send()
    return connection, stream


# --- out -------------------------------------------------------------------------------------


def test_begins_with_preface_and_settings_and_opens_nothing_before_the_peer_s() -> None:
    """Push is switched off, and our windows are wide."""
    connection = Connection()
    sent = connection.to_send()
    assert sent.startswith(PREFACE)
    (kind, flags, number, body), update = frames(sent.removeprefix(PREFACE))
    assert (kind, flags, number) == (SETTINGS, 0, 0)
    assert struct.pack(">HI", 2, 0) in body
    assert update == (WINDOW, 0, 0, word(http2.CONNECTION_WINDOW - 65_535))
    assert not connection.can_open
    connection.receive(settings())
    assert connection.can_open
    assert frames(connection.to_send()) == [(SETTINGS, 1, 0, b"")]


def test_a_request_and_its_messages_are_headers_and_data() -> None:
    """Streams of a client are odd; half-closing is an empty frame with END_STREAM."""
    connection = connected()
    first, second = connection.open(REQUEST), connection.open(REQUEST)
    connection.send(first, b"message")
    connection.end(first)
    connection.end(first)
    headers, other, data, end = frames(connection.to_send())
    assert headers[:3] == (HEADERS, 4, 1)
    decoded = list(Decoder().decode(headers[3], raw=True))
    assert decoded == REQUEST
    assert other[2] == second.number == 3
    assert data == (DATA, 0, 1, b"message")
    assert end == (DATA, 1, 1, b"")


def test_a_large_message_is_cut_to_the_peer_s_frame_size() -> None:
    """And large headers too."""
    connection = connected(frame=16_384, window=1 << 20)
    stream = connection.open([*REQUEST, (b"x", bytes(40_000))])
    kinds = [(kind, flags, len(body)) for kind, flags, _, body in frames(connection.to_send())]
    assert [kind for kind, _, _ in kinds] == [HEADERS, CONTINUATION, CONTINUATION]
    assert [flags for _, flags, _ in kinds] == [0, 0, 4]
    connection.send(stream, bytes(40_000))
    assert [len(body) for *_, body in frames(connection.to_send())] == [16_384, 16_384, 7232]


def test_what_the_stream_s_window_does_not_admit_waits() -> None:
    """Half-closing waits behind it; the update lets both go."""
    connection, stream = opened(window=10)
    assert connection.room(stream) == 10
    connection.send(stream, b"0123456789abcdef")
    connection.end(stream)
    assert frames(connection.to_send()) == [(DATA, 0, 1, b"0123456789")]
    assert connection.room(stream) == 0
    connection.receive(frame(WINDOW, 0, 1, word(4)))
    assert frames(connection.to_send()) == [(DATA, 0, 1, b"abcd")]
    connection.receive(frame(WINDOW, 0, 1, word(100)))
    assert frames(connection.to_send()) == [(DATA, 0, 1, b"ef"), (DATA, 1, 1, b"")]
    assert RoomMade() in connection.events()


def test_the_connection_s_window_is_shared() -> None:
    """Streams that wait for it all get on, oldest wait first."""
    connection = connected(window=1 << 20)
    first, second = connection.open(REQUEST), connection.open(REQUEST)
    connection.to_send()
    connection.send(first, bytes(65_530))
    connection.send(second, b"0123456789")
    connection.send(first, b"abc")
    assert connection.room(first) == connection.room(second) == 0
    connection.to_send()
    connection.receive(frame(WINDOW, 0, 0, word(7)))
    assert [(number, body) for _, _, number, body in frames(connection.to_send())] == [
        (3, b"56789"),
        (1, b"ab"),
    ]
    connection.receive(frame(WINDOW, 0, 0, word(100)))
    assert [(number, body) for _, _, number, body in frames(connection.to_send())] == [(1, b"c")]
    assert connection.room(first) == 99


def test_a_smaller_window_setting_holds_for_open_streams() -> None:
    """Their windows may fall below zero, and then take more than one update (6.9.2)."""
    connection, stream = opened(window=100)
    connection.send(stream, bytes(80))
    connection.receive(settings(window=50))
    assert connection.room(stream) <= 0
    connection.receive(frame(WINDOW, 0, 1, word(40)))
    assert connection.room(stream) == 10


def test_streams_beyond_the_peer_s_limit_are_not_opened() -> None:
    """One that is over makes room."""
    connection = connected(streams=1)
    stream = connection.open(REQUEST)
    assert not connection.can_open
    connection.reset(stream)
    assert connection.can_open


def test_what_is_sent_with_a_request_is_in_nobody_s_table() -> None:
    """Credentials among it; so no table has to be kept in step with the peer, either."""
    connection = connected()
    for _ in range(2):
        connection.open([*REQUEST, (b"authorization", b"secret")])
    first, second = frames(connection.to_send())
    assert first[3] == second[3]
    last = list(Decoder().decode(first[3], raw=True))[-1]
    assert isinstance(last, NeverIndexedHeaderTuple)


# --- in --------------------------------------------------------------------------------------


def test_headers_data_and_trailers_come_as_they_are() -> None:
    """Padding and priority are taken off; a block may come in pieces."""
    connection, stream = opened()
    connection.end(stream)
    block = encode([(b":status", b"200")])
    connection.receive(frame(HEADERS, 0x20 | 0x8, 1, b"\x02" + bytes(5) + block[:3] + bytes(2)))
    connection.receive(frame(CONTINUATION, 4, 1, block[3:]))
    connection.receive(frame(DATA, 0x8, 1, b"\x03data" + bytes(3)))
    connection.receive(frame(HEADERS, 5, 1, encode([(b"grpc-status", b"0")])))
    assert connection.events() == [
        HeadersCame(stream, [(b":status", b"200")], False),
        DataCame(stream, b"data", False),
        HeadersCame(stream, [(b"grpc-status", b"0")], True),
    ]
    assert connection.streams == 0


def test_a_peer_that_ends_first_gets_our_half_reset() -> None:
    """Nobody reads it any more."""
    connection, stream = opened()
    connection.receive(frame(HEADERS, 5, 1, encode([(b":status", b"200")])))
    assert frames(connection.to_send()) == [(RST, 0, 1, word(http2.CANCEL))]
    assert stream.is_over
    connection.send(stream, b"late")  # dropped: the stream is over
    connection.end(stream)
    connection.reset(stream)


def test_credit_is_given_back_for_what_was_read() -> None:
    """Per stream and for the connection, also for data of streams that are over."""
    connection, stream = opened()
    piece = frame(DATA, 0, 1, bytes(16_384))
    for _ in range(http2.STREAM_WINDOW // 2 // 16_384):
        connection.receive(piece)
    assert (WINDOW, 0, 1, word(http2.STREAM_WINDOW // 2)) in frames(connection.to_send())
    connection.reset(stream)
    for _ in range((http2.CONNECTION_WINDOW - http2.STREAM_WINDOW) // 2 // 16_384):
        connection.receive(piece)
    assert (WINDOW, 0, 0, word(http2.CONNECTION_WINDOW // 2)) in frames(connection.to_send())


def test_pings_and_settings_are_answered() -> None:
    """Our own ping is known by its answer."""
    connection = connected()
    connection.receive(frame(PING, 0, 0, b"12345678") + settings(streams=7))
    assert frames(connection.to_send()) == [(PING, 1, 0, b"12345678"), (SETTINGS, 1, 0, b"")]
    connection.ping()
    ((kind, flags, number, body),) = frames(connection.to_send())
    assert (kind, flags, number) == (PING, 0, 0)
    connection.receive(frame(PING, 1, 0, body))
    assert connection.pongs == 1


def test_a_goodbye_refuses_the_streams_it_does_not_name() -> None:
    """The others go on, and no new one is opened."""
    connection = connected()
    first, second = connection.open(REQUEST), connection.open(REQUEST)
    connection.receive(frame(GOAWAY, 0, 0, word(1) + word(http2.CALM) + b"why"))
    assert connection.events() == [GoingAway(http2.CALM), StreamReset(second, http2.REFUSED)]
    assert not connection.can_open
    connection.receive(frame(DATA, 0, 1, b"more"))
    assert connection.events() == [DataCame(first, b"more", False)]


def test_a_stream_s_fault_costs_that_stream_alone() -> None:
    """A window opened too far; what comes later for the stream is let pass."""
    connection, stream = opened()
    other = connection.open(REQUEST)
    connection.receive(frame(WINDOW, 0, 1, word((1 << 31) - 1)))
    assert connection.events() == [StreamReset(stream, http2.FLOW_CONTROL_ERROR)]
    connection.receive(frame(RST, 0, 1, word(0)) + frame(WINDOW, 0, 1, word(1)))
    connection.receive(frame(HEADERS, 4, 1, encode([(b"a", b"b")])) + frame(DATA, 0, 3, b"x"))
    assert connection.events() == [DataCame(other, b"x", False)]


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "be",  # behind the tables
        "40",  # cut short
        "4085",
        "0001",
        "ffffffffffffffffffffffffff",  # an integer without end
        "883fe101",  # a size update behind a field
        "3fe21f",  # a table larger than was offered
        "0081fe00",  # padding of a Huffman code that is not ones
        "0084ffffffff00",  # its end within a string
    ],
)
def test_headers_that_cannot_be_decoded_end_the_connection(block: str) -> None:
    """The tables of both ends have parted; nothing of what was sent is in the error."""
    connection, _ = opened()
    with pytest.raises(RemoteProtocolError) as caught:
        connection.receive(frame(HEADERS, 4, 1, bytes.fromhex(block)))
    assert caught.value.__suppress_context__


def test_a_small_block_cannot_become_a_large_list() -> None:
    """Many references to one large entry of the table are refused while they are counted."""
    connection, _ = opened()
    entry = b"\x40\x01x\x7f\x81\x0f" + bytes(2048)
    connection.receive(frame(HEADERS, 4, 1, entry))
    with pytest.raises(RemoteProtocolError, match="too large"):
        connection.receive(frame(HEADERS, 5, 1, b"\xbe" * (http2.MAX_LIST_BYTES // 2048 + 1)))


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, 0, 1) ,  # before the peer's settings
        settings() + frame(DATA, 0, 3, b"x"),  # a stream that never was
        settings() + frame(HEADERS, 4, 2, b""),  # a stream of the peer's
        settings() + b"\x00\x40\x01" + bytes(6),  # larger than agreed
        settings() + frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)),
        settings() + frame(CONTINUATION, 4, 1, b""),
        settings() + frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 40,
        settings() + frame(HEADERS, 4, 1, b"\x80"),
        settings() + frame(HEADERS, 0x20 | 4, 1, bytes(4)),
        settings() + frame(DATA, 0x8, 1, b"\x05abc"),
        settings() + frame(DATA, 0x8, 1, b""),
        settings() + frame(PUSH, 4, 1, word(2)),
        settings() + frame(PING, 0, 0, bytes(7)),
        settings() + frame(PING, 0, 1, bytes(8)),
        settings() + frame(RST, 0, 1, bytes(3)),
        settings() + frame(WINDOW, 0, 0, bytes(3)),
        settings() + frame(WINDOW, 0, 0, word(0)),
        settings() + frame(WINDOW, 0, 0, word((1 << 31) - 1)),
        settings() + frame(GOAWAY, 0, 0, bytes(7)),
        settings() + frame(SETTINGS, 0, 0, bytes(5)),
        settings() + frame(SETTINGS, 1, 0, bytes(6)),
        settings(frame=100),
        settings(window=1 << 31),
    ],
)  # fmt: skip
def test_breaking_a_rule_of_the_connection_is_its_end(data: bytes) -> None:
    """One error, whatever the rule."""
    connection = Connection()
    connection.open(REQUEST)  # a stream to break rules on
    with pytest.raises(RemoteProtocolError):
        connection.receive(data)


@given(st.binary(max_size=200))
def test_any_block_gives_headers_or_the_one_error(block: bytes) -> None:
    """Never an error of the library that decodes it."""
    connection, _ = opened()
    try:
        connection.receive(frame(HEADERS, 4, 1, block))
    except RemoteProtocolError:
        pass


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=20))
def test_any_bytes_give_events_or_the_one_error(pieces: list[bytes]) -> None:
    """Cut anywhere, in any order."""
    connection, _ = opened()
    try:
        for piece in pieces:
            connection.receive(piece)
    except RemoteProtocolError:
        pass
    connection.events()
    connection.to_send()


FRAMES = st.builds(
    frame,
    st.integers(0, 10),
    st.sampled_from([0, 1, 4, 5, 8, 0x2D]),
    st.sampled_from([0, 1, 3, 5]),
    st.binary(max_size=24),
)


@given(st.lists(FRAMES, max_size=30), st.integers(1, 40))
def test_any_frames_in_any_state_give_events_or_the_one_error(
    sequence: list[bytes], cut: int
) -> None:
    """And windows never admit more than they should."""
    connection = connected(window=1000)
    streams = [connection.open(REQUEST) for _ in range(2)]
    data = b"".join(sequence)
    try:
        for at in range(0, len(data), cut):
            connection.receive(data[at : at + cut])
            for stream in streams:
                if connection.room(stream) > 0 and not stream.is_over:
                    connection.send(stream, bytes(37))
    except RemoteProtocolError:
        pass
    assert connection.streams <= 2


@given(
    st.lists(st.tuples(st.integers(0, 2), st.binary(min_size=1, max_size=3000)), max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5000)), max_size=60),
)
def test_every_byte_arrives_once_in_order_within_the_windows(
    messages: list[tuple[int, bytes]], updates: list[tuple[int, int]]
) -> None:
    """However windows are opened; nothing leaves beyond them."""
    connection = connected(window=500)
    streams = [connection.open(REQUEST) for _ in range(3)]
    connection.to_send()
    allowed = {0: 65_535, 1: 500, 3: 500, 5: 500}
    sent = {stream.number: b"" for stream in streams}
    wanted = dict.fromkeys(sent, b"")

    def take() -> None:
        for kind, _, number, body in frames(connection.to_send()):
            if kind == DATA:
                sent[number] += body
                allowed[number] -= len(body)
                allowed[0] -= len(body)
        assert min(allowed.values()) >= 0

    for place, message in messages:
        connection.send(streams[place], message)
        wanted[streams[place].number] += message
        take()
    for place, more in updates:
        number = 0 if place == 3 else streams[place].number
        allowed[number] += more
        connection.receive(frame(WINDOW, 0, number, word(more)))
        take()
    for number in (0, 1, 3, 5):
        allowed[number] += 1 << 20
        connection.receive(frame(WINDOW, 0, number, word(1 << 20)))
        take()
    assert sent == wanted
