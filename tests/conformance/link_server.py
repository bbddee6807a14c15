"""A platform with stored transcripts and the store its links lead to, on one loopback port.

Links end after so many bytes, or are refused from the start; the store breaks connections, knows
``Range`` or not, packs, redirects, lies about lengths. Everything is told by ``StoreScript``.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from steno.core.hosts import Host

PLANTED = "X-Amz-Signature=planted-signature"
"""In every link; it must be found nowhere."""


@dataclass
class StoreScript:
    """How the store behaves.

    Attributes:
        data: The file, or what makes it for the n-th request.
        link_bytes: A link ends after so many bytes, in the middle of the connection.
        cut_bytes: A connection breaks after so many; the link stays good.
        refused: Status of links that are refused (all from that number on, from 0).
        length_off: Added to every length told.
        first: Answers given before any other: statuses.
    """

    data: bytes | Callable[[int], bytes] = b""
    knows_range: bool = True
    etag: str = ""
    coding: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    link_bytes: int | None = None
    cut_bytes: int | None = None
    ended_status: int = 403
    refused_from: int | None = None
    redirect: Callable[[web.Request], str | None] = lambda _: None
    length_off: int = 0
    chunked: bool = False
    pause_s: float = 0.0
    piece_bytes: int = 1 << 16
    first: list[int] = field(default_factory=list)


@dataclass
class LinkServer:
    """What was asked, and what to answer to the platform's calls; ``body`` is the last one's."""

    script: StoreScript
    host: Host = field(default_factory=lambda: Host("127.0.0.1", 1, secure=False))
    answers: Callable[[web.Request], web.StreamResponse] = lambda _: web.Response(status=404)
    links: int = 0
    left: dict[int, int] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)
    body: bytes = b""
    stored: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0

    def link(self) -> str:
        """Make a link."""
        self.links += 1
        if self.script.link_bytes is not None:
            self.left[self.links] = self.script.link_bytes
        return f"{self.host.http_base}/file/{self.links}?X-Amz-Expires=600&a=%2F%20b&{PLANTED}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a call of the platform or of the store."""
        if not request.path.startswith("/file/"):
            self.asked.append(request)
            self.body = await request.read()
            return self.answers(request)
        self.stored.append({**request.headers, "path_qs": request.path_qs})
        if (target := self.script.redirect(request)) is not None:
            return web.Response(status=302, headers={"Location": target})
        return await self._serve(request, int(request.path.split("/")[2]))

    async def _serve(self, request: web.Request, link: int) -> web.StreamResponse:
        script = self.script
        if script.first:
            return web.Response(status=script.first.pop(0), headers={"Retry-After": "0"})
        is_refused = script.refused_from is not None and link >= script.refused_from
        if is_refused or self.left.get(link, 1) <= 0:
            return web.Response(status=script.ended_status, text=f"<Error>{PLANTED}</Error>")
        data = script.data if isinstance(script.data, bytes) else script.data(len(self.stored))
        tag = script.etag or ""
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked and script.knows_range and request.headers.get("If-Range", tag) == tag:
            start, status = int(asked[1]), 206
        headers = dict(script.headers)
        if tag:
            headers["ETag"] = tag
        if script.coding:
            headers["Content-Encoding"] = script.coding
        if status == 206 and start >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        if status == 206:
            total = len(data) + script.length_off
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        response = web.StreamResponse(status=status, headers=headers)
        if script.chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(data) - start + script.length_off
        await response.prepare(request)
        return await self._body(request, response, data[start:], link)

    async def _body(
        self, request: web.Request, response: web.StreamResponse, data: bytes, link: int
    ) -> web.StreamResponse:
        script = self.script
        most = min(self.left.get(link, len(data)), script.cut_bytes or len(data), len(data))
        for at in range(0, most, script.piece_bytes):
            piece = data[at : min(most, at + script.piece_bytes)]
            await response.write(piece)
            self.sent += len(piece)
            if script.pause_s:
                await asyncio.sleep(script.pause_s)
        if link in self.left:
            self.left[link] -= most
        if most < len(data) or script.length_off > 0:
            await asyncio.sleep(0.02)  # so that what was sent arrives before the end does
            if request.transport is not None:
                request.transport.close()
            return response
        await response.write_eof()
        return response


@asynccontextmanager
async def link_server(script: StoreScript) -> AsyncIterator[LinkServer]:
    """Serve while the block runs."""
    server = LinkServer(script)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.host = Host("127.0.0.1", runner.addresses[0][1], secure=False)
        yield server
    finally:
        await runner.cleanup()


def transcript(turns: int, text: str = "we have two tickets left for the concert") -> bytes:
    """Make a document of so many turns, no two the same."""
    return b"".join(_document(turns, text))


def _document(turns: int, text: str) -> Iterator[bytes]:
    people = [
        {"id": "p1", "name": "", "role": "agent"},
        {"id": "p2", "name": "", "role": "customer"},
    ]
    yield (
        b'{"conversation":"c-1","participants":' + json.dumps(people).encode() + b',"transcript":['
    )
    for n in range(turns):
        turn = {
            "start_time": n * 2.0,
            "end_time": n * 2.0 + 1.5,
            "text": f"{text} {n} {hashlib.sha256(str(n).encode()).hexdigest()[:8]}",
            "speaker_id": "p1" if n % 2 else "p2",
            "confidence": 0.9,
        }
        yield (b"," if n else b"") + json.dumps(turn).encode()
    yield b'],"status":"completed"}'


def packed(data: bytes) -> bytes:
    """Return a gzip file."""
    return gzip.compress(data, 6, mtime=0)
