"""A real HTTP server on a free port of loopback that answers what a test tells it to."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from steno.core.hosts import Host
from steno.ports import Add, FieldValue


@dataclass
class Seen:
    """One request the server got."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def bearer(self) -> str:
        """The access token sent."""
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


Reply = Callable[[Seen], Awaitable[web.StreamResponse] | web.StreamResponse]


@dataclass
class ScriptedServer:
    """Plays ``script`` answer by answer; the last one repeats."""

    script: list[Reply] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    host: Host = field(default_factory=lambda: Host("127.0.0.1", 1, secure=False))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def asked(self, count: int = 1) -> None:
        """Return when so many requests have come."""
        async with asyncio.timeout(20):
            while len(self.seen) < count:
                self.changed.clear()
                await self.changed.wait()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Note the request and play the next answer."""
        one = Seen(
            request.method,
            request.path,
            dict(request.query),
            dict(request.headers),
            await request.read(),
        )
        self.seen.append(one)
        self.changed.set()
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        made = reply(one)
        return made if isinstance(made, web.StreamResponse) else await made


@asynccontextmanager
async def scripted(
    *script: Reply, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Serve ``script`` while the block runs."""
    server = ScriptedServer(list(script))
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        server.host = Host("127.0.0.1", runner.addresses[0][1], secure=tls is not None)
        yield server
    finally:
        await runner.cleanup()


def says(status: int, body: object = None, **headers: str) -> Reply:
    """Answer with a status, JSON (or bytes as they are) and headers (``_`` stands for ``-``)."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

    def reply(_: Seen) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(
            status=status, body=data, headers={"Content-Type": "application/json"} | named
        )

    return reply


def grants(token: str = "token-1", expires_in: int = 3600, **more: object) -> Reply:
    """Answer as a token endpoint does."""
    return says(
        200, {"access_token": token, "token_type": "Bearer", "expires_in": expires_in, **more}
    )


def hangs(seconds: float = 30.0) -> Reply:
    """Take the request and say nothing."""

    async def reply(_: Seen) -> web.Response:
        await asyncio.sleep(seconds)
        return web.Response()

    return reply


def waits_for(gate: asyncio.Event, then: Reply) -> Reply:
    """Answer when the test opens the gate."""

    async def reply(seen: Seen) -> web.StreamResponse:
        await gate.wait()
        made = then(seen)
        return made if isinstance(made, web.StreamResponse) else await made

    return reply


def _nothing(_: float) -> None:
    return None


class Noted:
    """Telemetry that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, FieldValue]]] = []

    def info(self, event: str, **fields: FieldValue) -> None:
        """Keep it."""
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: FieldValue) -> None:
        """Keep it."""
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: FieldValue) -> None:
        """Keep it."""
        self.lines.append(("error", event, fields))

    def counter(self, name: str, **labels: str) -> Add:
        """Count nothing."""
        return _nothing

    def histogram(self, name: str, **labels: str) -> Add:
        """Count nothing."""
        return _nothing

    def gauge(self, name: str, **labels: str) -> Add:
        """Count nothing."""
        return _nothing

    def events(self, level: str = "") -> list[str]:
        """Names of the events of a level, or of all."""
        return [event for at, event, _ in self.lines if not level or at == level]

    def text(self) -> str:
        """Everything told, to look for what must not be in it."""
        return repr(self.lines)


class FixedToken:
    """A token source that gives ``tokens`` one after the other as they are refused."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.refused: list[str] = []

    async def token(self, *, refused: str = "") -> str:
        """Give the current token, or the next one after a refusal."""
        if refused:
            self.refused.append(refused)
            if len(self.tokens) > 1:
                self.tokens.pop(0)
        return self.tokens[0]
