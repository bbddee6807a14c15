"""gRPC on top of HTTP/2: request headers, length-prefixed messages, and how a call ended.

A call's end is a ``CallEnded`` with one of gRPC's codes, whichever way it came: trailers, a
response that is none of gRPC's, a reset stream. The peer's message beside the code is not kept:
it may quote what we sent.

Source: gRPC over HTTP/2 (doc/PROTOCOL-HTTP2.md), HTTP to gRPC status code mapping
(doc/http-grpc-status-mapping.md) of the gRPC project.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Final

import msgspec

from steno.errors import RemoteProtocolError
from steno.wire import http2
from steno.wire.http2 import Header

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED = 0, 1, 2, 3, 4
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 7, 8, 9
OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 11, 12, 13, 14, 16
MAX_CODE: Final = 16

PREFIX_BYTES: Final = 5

_OF_HTTP: Final = {
    b"400": INTERNAL,
    b"401": UNAUTHENTICATED,
    b"403": PERMISSION_DENIED,
    b"404": UNIMPLEMENTED,
    b"429": UNAVAILABLE,
    b"502": UNAVAILABLE,
    b"503": UNAVAILABLE,
    b"504": UNAVAILABLE,
}
_OF_RESET: Final = {
    http2.REFUSED: UNAVAILABLE,
    http2.CANCEL: CANCELLED,
    http2.CALM: RESOURCE_EXHAUSTED,
    0xC: PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
_ASKS_TO_WAIT: Final = frozenset(
    (b"retry-after", b"grpc-retry-pushback-ms", b"grpc-status-details-bin")
)


class CallEnded(msgspec.Struct, frozen=True, gc=False):
    """How a call ended: gRPC's code, and the metadata that may ask for a wait."""

    code: int
    metadata: tuple[tuple[str, str | bytes], ...] = ()


def request_headers(
    path: str, *, authority: str, scheme: str, metadata: Iterable[tuple[str, str]] = ()
) -> list[Header]:
    """Return the headers of a call; only uncompressed messages are offered."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", scheme.encode()),
        (b":path", path.encode()),
        (b":authority", authority.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-python-steno"),
        (b"grpc-accept-encoding", b"identity"),
    ]
    headers.extend((name.lower().encode(), value.encode("latin-1")) for name, value in metadata)
    return headers


def framed(message: bytes) -> bytes:
    """Return a message with its prefix: not compressed, length in four bytes."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class CallReader:
    """Puts the messages of one call together and finds out how it ended.

    Args:
        max_message_bytes: A larger message raises.
    """

    __slots__ = ("_buffer", "_code", "_max_bytes", "_saw_headers")

    def __init__(self, max_message_bytes: int) -> None:
        self._buffer = b""
        self._max_bytes = max_message_bytes
        self._saw_headers = False
        self._code: int | None = None  # of a response that is none of gRPC's

    def data(self, data: bytes) -> list[bytes]:
        """Return the messages completed by this piece of the body.

        Raises:
            RemoteProtocolError: A message is compressed or too large; the call is of no use.
        """
        if self._code is not None:
            return []  # a proxy's page
        buffer = self._buffer + data if self._buffer else data
        messages: list[bytes] = []
        at, end = 0, len(buffer)
        while end - at >= PREFIX_BYTES:
            size = int.from_bytes(buffer[at + 1 : at + 5], "big")
            if buffer[at] or size > self._max_bytes:
                raise RemoteProtocolError("a message of the peer is compressed or too large")
            if end - at - PREFIX_BYTES < size:
                break
            messages.append(buffer[at + PREFIX_BYTES : at + PREFIX_BYTES + size])
            at += PREFIX_BYTES + size
        self._buffer = buffer[at:]
        return messages

    def headers(self, headers: list[Header], *, is_end: bool) -> CallEnded | None:
        """Take a header list; returns the end of the call if this was it."""
        fields = dict(headers)
        if not self._saw_headers:
            status = fields.get(b":status", b"")
            if status.startswith(b"1"):
                return None  # informational; the response follows
            self._saw_headers = True
            is_grpc = fields.get(b"content-type", b"").startswith(b"application/grpc")
            if status != b"200" or not (is_grpc or b"grpc-status" in fields):
                self._code = _OF_HTTP.get(status, UNKNOWN)
        if not is_end:
            return None
        return self.ended(fields)

    def ended(self, fields: dict[bytes, bytes] | None = None) -> CallEnded:
        """Return the end of the call, with its trailers; without any it is gRPC's UNKNOWN."""
        fields = fields or {}
        text = fields.get(b"grpc-status")
        if text is not None and text.isdigit() and len(text) < 3:
            code = min(int(text), MAX_CODE + 1)
            code = UNKNOWN if code > MAX_CODE else code
        else:
            code = UNKNOWN if self._code is None else self._code
        if code == OK and self._buffer:
            code = INTERNAL  # it ended within a message
        return CallEnded(code, _waits(fields))


def reset_code(code: int) -> int:
    """Return gRPC's code for a stream that was reset."""
    return _OF_RESET.get(code, INTERNAL)


def _waits(fields: dict[bytes, bytes]) -> tuple[tuple[str, str | bytes], ...]:
    found: list[tuple[str, str | bytes]] = []
    for name in _ASKS_TO_WAIT & fields.keys():
        value = fields[name]
        if not name.endswith(b"-bin"):
            found.append((name.decode(), value.decode("latin-1")))
            continue
        try:
            padded = value + b"=" * (-len(value) % 4)  # senders leave the padding out
            found.append((name.decode(), base64.b64decode(padded, validate=True)))
        except binascii.Error:
            continue
    return tuple(found)
