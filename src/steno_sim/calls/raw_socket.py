"""A WebSocket client as an asyncio protocol: for hundreds of calls from one process.

Frames that many calls send alike are masked once, beforehand, and written as they are. No
fragments are sent; fragmented messages are accepted. Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import ssl
import struct
from collections.abc import Mapping
from typing import Protocol, cast
from urllib.parse import urlsplit

import numpy as np

from steno_sim.calls.dialling import USER_AGENT, authority, target

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTINUATION = 0
_HEAD_BYTES = 16_384
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_ACCEPTED = re.compile(rb"\r\nsec-websocket-accept:[ \t]*(\S+)", re.IGNORECASE)


class Listener(Protocol):
    """What hears of a socket; the calls come on the loop, in order."""

    def connected(self) -> None:
        """The upgrade succeeded."""
        ...

    def refused(self, status: int) -> None:
        """The upgrade failed: HTTP status, or 0."""
        ...

    def text(self, data: bytes) -> None:
        """A text message came."""
        ...

    def binary(self, size: int) -> None:
        """A binary message came."""
        ...

    def ended(self, code: int) -> None:
        """The socket is gone; the server's close code, 1006 without one."""
        ...

    def writable(self) -> None:
        """Writing, which had to stop, may go on."""
        ...


def masked(opcode: int, payload: bytes) -> bytes:
    """Give a whole client frame, masked with a random key."""
    size = len(payload)
    key = os.urandom(4)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    padded = np.frombuffer(payload + b"\0" * (-size % 4), dtype=np.uint32)
    body = padded ^ np.frombuffer(key, dtype=np.uint32)
    return head + key + body.tobytes()[:size]


class RawSocket(asyncio.Protocol):
    """One connection. ``full`` is True while writing should wait."""

    def __init__(self, url: str, headers: Mapping[str, str], listener: Listener) -> None:
        self._url = urlsplit(url)
        self._key = base64.b64encode(os.urandom(16))
        lines = [
            f"GET {target(url)} HTTP/1.1",
            f"Host: {authority(url)}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self._key.decode()}",
            "Sec-WebSocket-Version: 13",
            f"User-Agent: {USER_AGENT}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._parts: list[bytes] = []
        self._kind = 0
        self._open = self._over = self._closing = False
        self._code = 1006
        self.full = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the upgrade."""
        # uvloop's transports are no subclasses of asyncio's.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the server."""
        self._buffer = self._buffer + data if self._buffer else data
        if not self._open and not self._upgraded():
            return
        self._frames()

    def pause_writing(self) -> None:
        """Note that the server does not keep up."""
        self.full = True

    def resume_writing(self) -> None:
        """Note that it does again."""
        self.full = False
        if self._open:
            self._listener.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the end, once."""
        if self._over:
            return
        self._over = True
        if self._open:
            self._listener.ended(self._code)
        else:
            self._listener.refused(0)

    # What the call calls.

    async def connect(self, *, context: ssl.SSLContext | None = None) -> None:
        """Connect and send the upgrade; its answer comes to the listener.

        Raises:
            OSError: No connection.
        """
        secure = self._url.scheme == "wss"
        await asyncio.get_running_loop().create_connection(
            lambda: self,
            self._url.hostname or "",
            self._url.port or (443 if secure else 80),
            ssl=(context or True) if secure else None,
        )

    def write(self, frame: bytes) -> None:
        """Send a whole frame, masked already."""
        if self._transport is not None and not self._closing:
            self._transport.write(frame)

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self.write(masked(TEXT, text.encode()))

    def close(self) -> None:
        """Send close 1000; the socket ends once the server has answered, or after a second."""
        if self._transport is None or self._closing:
            return
        self.write(masked(CLOSE, struct.pack("!H", 1000)))
        self._closing = True
        asyncio.get_running_loop().call_later(1.0, self.abort)

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _upgraded(self) -> bool:
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            if len(head) > _HEAD_BYTES:
                self._refuse(0)
            return False
        found = _STATUS.match(head)
        status = int(found[1]) if found else 0
        digest = hashlib.sha1(self._key + _ACCEPT, usedforsecurity=False).digest()
        accepted = _ACCEPTED.search(head)
        if status != 101 or not accepted or accepted[1] != base64.b64encode(digest):
            self._refuse(status if status != 101 else 0)
            return False
        self._buffer = rest
        self._open = True
        self._listener.connected()
        return True

    def _refuse(self, status: int) -> None:
        self._over = True
        self.abort()
        self._listener.refused(status)

    def _frames(self) -> None:
        data, at = self._buffer, 0
        while len(data) - at >= 2:
            size, start = data[at + 1] & 0x7F, at + 2
            if size == 126:
                if len(data) < start + 2:
                    break
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == 127:
                if len(data) < start + 8:
                    break
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if len(data) < start + size:
                break
            first = data[at]
            at = start + size
            self._frame(first & 0x0F, bool(first & 0x80), data[start:at])
        self._buffer = data[at:]

    def _frame(self, opcode: int, final: bool, payload: bytes) -> None:
        if opcode == PING:
            self.write(masked(PONG, payload))
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if len(payload) > 1 else 1005
            self.write(masked(CLOSE, payload[:2]))
            self._closing = True
            if self._transport is not None:
                self._transport.close()
        elif opcode in (TEXT, BINARY, _CONTINUATION):
            self._kind = opcode or self._kind
            self._parts.append(payload)
            if final:
                whole = b"".join(self._parts)
                self._parts.clear()
                if self._kind == TEXT:
                    self._listener.text(whole)
                else:
                    self._listener.binary(len(whole))
