"""gRPC on HTTP/2: messages cut anywhere, and every way a call can end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import RemoteProtocolError
from steno.wire import grpc_wire
from steno.wire.grpc_wire import CallEnded, CallReader, framed, request_headers, reset_code
from steno.wire.http2 import Header

RESPONSE: list[Header] = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def reader() -> CallReader:
    made = CallReader(1000)
    assert made.headers(RESPONSE, is_end=False) is None
    return made


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(1, 20))
def test_messages_come_whole_however_they_are_cut(messages: list[bytes], cut: int) -> None:
    """Order kept, empty ones included."""
    data = b"".join(framed(message) for message in messages)
    made = reader()
    got = [one for at in range(0, len(data), cut) for one in made.data(data[at : at + cut])]
    assert got == messages


@pytest.mark.parametrize("data", [b"\1\0\0\0\1x", b"\0\0\0\x03\xe9"])
def test_a_compressed_or_oversized_message_is_refused(data: bytes) -> None:
    """Compression was never offered; the size is refused before the message has come."""
    with pytest.raises(RemoteProtocolError):
        reader().data(data)


@pytest.mark.parametrize(
    ("trailers", "code"),
    [
        ([(b"grpc-status", b"0")], 0),
        ([(b"grpc-status", b"14")], grpc_wire.UNAVAILABLE),
        ([(b"grpc-status", b"17")], grpc_wire.UNKNOWN),
        ([(b"grpc-status", b"-1")], grpc_wire.UNKNOWN),
        ([], grpc_wire.UNKNOWN),
    ],
)
def test_the_code_is_in_the_trailers(trailers: list[Header], code: int) -> None:
    """None, or one that is none of gRPC's, is UNKNOWN."""
    assert reader().headers(trailers, is_end=True) == CallEnded(code)


def test_a_response_of_trailers_only_is_one() -> None:
    """A service that refuses at once sends no headers before."""
    headers: list[Header] = [*RESPONSE, (b"grpc-status", b"12")]
    assert CallReader(10).headers(headers, is_end=True) == CallEnded(grpc_wire.UNIMPLEMENTED)


def test_an_end_within_a_message_is_no_good_end() -> None:
    """OK behind half a message is INTERNAL."""
    made = reader()
    made.data(b"\0\0\0\0\5ab")
    assert made.headers([(b"grpc-status", b"0")], is_end=True) == CallEnded(grpc_wire.INTERNAL)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b"401", grpc_wire.UNAUTHENTICATED),
        (b"403", grpc_wire.PERMISSION_DENIED),
        (b"404", grpc_wire.UNIMPLEMENTED),
        (b"429", grpc_wire.UNAVAILABLE),
        (b"503", grpc_wire.UNAVAILABLE),
        (b"400", grpc_wire.INTERNAL),
        (b"418", grpc_wire.UNKNOWN),
        (b"200", grpc_wire.UNKNOWN),
    ],
)
def test_a_proxy_s_page_is_translated(status: bytes, code: int) -> None:
    """Its body is nobody's message."""
    made = CallReader(10)
    headers: list[Header] = [(b":status", status), (b"content-type", b"text/html")]
    assert made.headers(headers, is_end=False) is None
    assert made.data(b"<html>" * 100) == []
    assert made.ended() == CallEnded(code)


def test_informational_responses_are_no_response() -> None:
    """What follows is."""
    made = CallReader(10)
    assert made.headers([(b":status", b"103")], is_end=False) is None
    assert made.headers(RESPONSE, is_end=False) is None
    assert made.data(framed(b"message")) == [b"message"]


def test_only_metadata_that_asks_for_a_wait_are_kept() -> None:
    """Binary ones decoded, with or without padding; never the peer's message."""
    trailers: list[Header] = [
        (b"grpc-status", b"8"),
        (b"grpc-message", b"your text was"),
        (b"retry-after", b"7"),
        (b"grpc-status-details-bin", b"CAg"),
    ]
    ended = reader().headers(trailers, is_end=True)
    assert ended is not None
    assert set(ended.metadata) == {
        ("retry-after", "7"),
        ("grpc-status-details-bin", b"\x08\x08"),
    }
    broken: list[Header] = [(b"grpc-status-details-bin", b"!")]
    assert reader().headers(broken, is_end=True) == CallEnded(grpc_wire.UNKNOWN)


def test_resets_have_codes_too() -> None:
    """As gRPC maps them."""
    assert [reset_code(code) for code in (0, 7, 8, 0xB, 0xC, 0x77)] == [
        grpc_wire.INTERNAL,
        grpc_wire.UNAVAILABLE,
        grpc_wire.CANCELLED,
        grpc_wire.RESOURCE_EXHAUSTED,
        grpc_wire.PERMISSION_DENIED,
        grpc_wire.INTERNAL,
    ]


def test_request_headers_are_grpc_s_with_the_metadata_behind() -> None:
    """Names in lower case, as HTTP/2 wants them."""
    headers = request_headers(
        "/a.B/C", authority="host:1", scheme="https", metadata=(("Authorization", "Bearer x"),)
    )
    assert headers[:6] == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/a.B/C"),
        (b":authority", b"host:1"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    assert headers[-1] == (b"authorization", b"Bearer x")
