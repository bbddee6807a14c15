"""A real WebSocket server for tests of the client side, with faults on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from steno.ports import FieldValue

Answer = tuple[int, dict[str, str]]


class StreamServer:
    """Accepts transcript sockets on a free port of 127.0.0.1.

    ``refuse`` decides on an upgrade from its token: a status with headers, or None to accept.
    """

    subprotocols: Sequence[Subprotocol] | None = (Subprotocol("v2"),)

    def __init__(self, *, refuse: Callable[[str], Answer | None] | None = None) -> None:
        self.refuse = refuse or (lambda token: None)
        self.tokens: list[str] = []
        self.queries: list[dict[str, list[str]]] = []
        self.headers: list[Headers] = []
        self.sockets: list[ServerConnection] = []
        self.received: list[str | bytes] = []
        self.codes: list[int] = []
        self.port = 0
        self.accepting = asyncio.Event()
        self._changed = asyncio.Condition()
        self._server: Server | None = None

    @property
    def ws_base(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._process,
            subprotocols=self.subprotocols,
            compression=None,
            ping_interval=None,
            close_timeout=0.2,
            max_size=None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Stop listening and cut every connection without a close frame."""
        server, self._server = self._server, None
        if server is None:
            return
        for one in self.sockets:
            one.transport.abort()
        server.close()
        await server.wait_closed()
        self.sockets.clear()

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        query = parse_qs(urlsplit(request.path).query)
        token = query.get("access_token", [""])[0]
        self.queries.append(query)
        self.tokens.append(token)
        self.headers.append(request.headers)
        answer = self.refuse(token)
        if answer is None:
            return None
        status, headers = answer
        return Response(status, "no", Headers(headers | {"Content-Length": "0"}), b"")

    async def _serve(self, connection: ServerConnection) -> None:
        self.sockets.append(connection)
        async with self._changed:
            self._changed.notify_all()
        with contextlib.suppress(Exception):
            async for message in connection:
                self.received.append(message)
                await self._received(connection, message)
        self.codes.append(connection.close_code or 0)
        if connection in self.sockets:
            self.sockets.remove(connection)
        async with self._changed:
            self._changed.notify_all()

    async def _received(self, connection: ServerConnection, message: str | bytes) -> None:
        """Answer a message; a transcript stream has nothing to say to any."""

    async def connected(self, count: int = 1) -> ServerConnection:
        """Return the newest connection once there are ``count``."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.sockets) >= count)
        return self.sockets[-1]

    async def closed(self, count: int = 1) -> list[int]:
        """Return the close codes seen once there are ``count``."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.codes) >= count)
        return self.codes


def frame(text: str, *, conversation: str = "conv-1", **changes: object) -> str:
    """Return one transcript message."""
    message: dict[str, object] = {
        "event": "TRANSCRIPT_UPDATE",
        "conversationId": conversation,
        "participantId": "p-1",
        "transcript": text,
        "confidence": 0.9,
        "isFinal": True,
        "language": "en-US",
        "timestamp": "2024-01-15T10:30:00.5Z",
    }
    return json.dumps(message | changes)


class MemoryTelemetry:
    """Keeps events and metrics in memory: a real implementation of the port, for reading."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, FieldValue]]] = []
        self.totals: dict[str, float] = {}

    def info(self, event: str, **fields: FieldValue) -> None:
        self.events.append(("info", event, fields))

    def warning(self, event: str, **fields: FieldValue) -> None:
        self.events.append(("warning", event, fields))

    def error(self, event: str, **fields: FieldValue) -> None:
        self.events.append(("error", event, fields))

    def counter(self, name: str, **labels: str) -> Callable[[float], None]:
        self.totals.setdefault(name, 0.0)

        def add(value: float) -> None:
            self.totals[name] += value

        return add

    def histogram(self, name: str, **labels: str) -> Callable[[float], None]:
        return self.counter(name)

    def gauge(self, name: str, **labels: str) -> Callable[[float], None]:
        def put(value: float) -> None:
            self.totals[name] = value

        return put

    def named(self, event: str) -> list[dict[str, FieldValue]]:
        return [fields for _, name, fields in self.events if name == event]
