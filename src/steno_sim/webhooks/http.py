"""Just enough of HTTP/1.1 for a receiver that answers as it likes. Source: RFC 9112."""

from __future__ import annotations

import asyncio
import re

import msgspec

MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 64 << 20
_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (\S{1,8192}) HTTP/1\.[01]")
_REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request", 410: "Gone"}


class BadRequest(Exception):
    """What came is no request that is read here."""


class Request(msgspec.Struct, frozen=True):
    """One request; names of headers are in lower case, in the order in which they came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        """The peer lets the connection live."""
        return dict(self.headers).get("connection", "").lower() != "close"


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read the next request; None where the connection ends in place of one.

    Raises:
        BadRequest: Not HTTP/1.1, or longer than ``MAX_HEAD_BYTES`` or ``MAX_BODY_BYTES``.
        OSError: The connection broke.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise BadRequest from None
    except asyncio.LimitOverrunError:
        raise BadRequest from None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequest
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest
        headers.append((name.lower(), value.strip()))
    try:
        body = await _body(reader, dict(headers))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        raise BadRequest from None
    return Request(match[1], match[2], headers, body)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        size = int(headers.get("content-length", "0"))
        if not 0 <= size <= MAX_BODY_BYTES:
            raise BadRequest
        return await reader.readexactly(size)
    parts: list[bytes] = []
    total = 0
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        total += size
        if size < 0 or total > MAX_BODY_BYTES:
            raise BadRequest
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(parts)
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)


def head(status: int, *headers: tuple[str, str]) -> bytes:
    """Give the head of an answer."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Answer')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
