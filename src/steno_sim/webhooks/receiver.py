"""A receiver of webhooks: it keeps what comes, checks who signed it, and answers by a script.

    async with WebhookReceiver(secret="whsec_…", script="503*2,200") as receiver:
        ...  # a gateway delivers to receiver.url
        assert receiver.attempts["msg_1"] == 3

Each message id has its own place in the script. With ``share`` below 1 only that part of the
messages is answered by the script, by their ids; the others get 200.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
import zlib
from collections import Counter, deque
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from steno_sim.webhooks.http import MAX_HEAD_BYTES, BadRequest, Request, head, read_request
from steno_sim.webhooks.script import OK, Step, parse_script, step_of
from steno_sim.webhooks.signature import Verdict, judge, keys_of

MAX_KEPT = 10_000
MAX_MESSAGES = 1_000_000
_PIECE = b"x" * 65_536


class Delivery(msgspec.Struct, frozen=True):
    """One request that came.

    Attributes:
        number: Counts from 1.
        message_id: Of the header ``webhook-id``; empty without one.
        attempt: How often that id had come before.
        at: Epoch seconds.
        headers: Names in lower case, in the order in which they came.
        signature: ``unchecked`` without a secret.
        answered: What the script had for it: a status, or a word.
    """

    number: int
    message_id: str
    attempt: int
    at: float
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    signature: Verdict
    answered: str

    def line(self) -> bytes:
        """Give it as a line of JSON; a body that is no text is written with replacements."""
        told = msgspec.to_builtins(self) | {"body": self.body.decode(errors="replace")}
        return json.dumps(told, ensure_ascii=False).encode() + b"\n"


class WebhookReceiver:
    """An HTTP server on this machine that takes webhooks.

    Args:
        secret: ``whsec_…``, several separated by blanks; empty checks nothing.
        script: Answers, as a line or as steps; see ``steno_sim.webhooks.script``.
        share: Part of the messages that the script is for.
        listen: Address to listen on.
        port: 0 takes a free one.
        out: File that gets a line of JSON for each delivery, after what it holds.
        ssl_context: Speak TLS.

    Attributes:
        deliveries: The newest ``MAX_KEPT``.
        attempts: Deliveries of each message id, of the first ``MAX_MESSAGES``.
        signatures: How many deliveries were valid, wrong, ….
        accepted: Message ids that were answered 2xx, and how often.

    Raises:
        ValueError: The secret or the script is none.
        OSError: The port or the file cannot be had (on entering).
    """

    def __init__(
        self,
        *,
        secret: str = "",
        script: str | list[Step] = "200",
        share: float = 1.0,
        listen: str = "127.0.0.1",
        port: int = 0,
        out: Path | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.script = parse_script(script) if isinstance(script, str) else script
        self.port = port
        self.deliveries: deque[Delivery] = deque(maxlen=MAX_KEPT)
        self.attempts: Counter[str] = Counter()
        self.signatures: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.count = 0
        self.connections = 0
        self._keys = keys_of(secret)
        self._share = share
        self._listen = listen
        self._out = out
        self._file: BinaryIO | None = None
        self._ssl = ssl_context
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    # --- life -------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where webhooks go."""
        host = f"[{self._listen}]" if ":" in self._listen else self._listen
        return f"{'https' if self._ssl else 'http'}://{host}:{self.port}/hook"

    async def __aenter__(self) -> Self:
        if self._out is not None:
            self._file = self._out.open("ab")
        try:
            self._server = await asyncio.start_server(
                self._connected, self._listen, self.port, limit=MAX_HEAD_BYTES, ssl=self._ssl
            )
        except BaseException:
            self._close_file()
            raise
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()

    def stats(self) -> dict[str, object]:
        """Give the counts; ``repeated`` are messages answered 2xx that came again all the same."""
        return {
            "deliveries": self.count,
            "connections": self.connections,
            "messages": len(self.attempts),
            "accepted": len(self.accepted),
            "repeated": sum(count > 1 for count in self.accepted.values()),
            "most_attempts": max(self.attempts.values(), default=0),
            "signatures": dict(sorted(self.signatures.items())),
            "answers": dict(sorted(self.answers.items())),
        }

    async def wait_for(self, count: int, *, limit_s: float = 10.0) -> None:
        """Wait until so many deliveries came.

        Raises:
            TimeoutError: They did not within the limit.
        """
        async with asyncio.timeout(limit_s):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()

    # --- connections ------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self.connections += 1
        # A peer that goes away in the middle is what half of the script is for.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.transport.abort()
        if task is not None:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await read_request(reader)
            except BadRequest:
                writer.write(head(400, ("Content-Length", "0"), ("Connection", "close")))
                await writer.drain()
                return
            if request is None:
                return
            step = self._take(request)
            goes_on = await _answer(step, reader, writer)
            if not (goes_on and request.keeps_alive):
                if goes_on:
                    writer.close()
                    await writer.wait_closed()
                return

    def _take(self, request: Request) -> Step:
        """Keep a delivery, and choose its answer."""
        headers = dict(request.headers)
        name = headers.get("webhook-id", "")
        attempt = self.attempts[name]
        step = step_of(self.script, attempt) if self._struck(name) else OK
        if attempt or len(self.attempts) < MAX_MESSAGES:
            self.attempts[name] = attempt + 1
        self.count += 1
        now = time.time()
        verdict = judge(self._keys, headers, request.body, now=now)
        answered = str(step.status) if step.kind in ("status", "redirect") else step.kind
        delivery = Delivery(
            self.count,
            name,
            attempt,
            now,
            request.method,
            request.target,
            request.headers,
            request.body,
            verdict,
            answered,
        )
        self.deliveries.append(delivery)
        self.signatures[verdict] += 1
        self.answers[answered] += 1
        if step.kind == "status" and step.status < 300:
            self.accepted[name] += 1
        if self._file is not None:
            self._file.write(delivery.line())
            self._file.flush()
        self._changed.set()
        return step

    def _struck(self, name: str) -> bool:
        return self._share >= 1 or zlib.crc32(name.encode()) < self._share * 0x1_0000_0000


async def _answer(step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; tell whether the connection may serve another."""
    empty = ("Content-Length", "0")
    if step.kind == "status":
        wait = [("Retry-After", f"{step.amount:g}")] if step.amount else []
        writer.write(head(step.status, *([] if step.status == 204 else [empty]), *wait))
        await writer.drain()
        return True
    if step.kind == "redirect":
        writer.write(head(step.status, empty, ("Location", step.location)))
        await writer.drain()
        return True
    if step.kind == "timeout":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(step.amount):
                await reader.read(1)  # until the peer has waited long enough
    elif step.kind == "reset":
        _reset(writer)
    elif step.kind == "garbage":
        writer.write(b"\x00\xff HTTP is another thing\r\n\r\n" * 4)
        await writer.drain()
    elif step.kind == "headers":
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await _pour(writer, b"X-More: " + _PIECE[:4000] + b"\r\n", step.amount)
    elif step.kind == "drip":
        await _drip(writer, step.amount)
    else:
        size = [("Content-Length", f"{step.amount:.0f}")] if step.amount else []
        writer.write(head(200, ("Content-Type", "text/plain"), ("Connection", "close"), *size))
        await _pour(writer, _PIECE, step.amount)
    return False


async def _pour(writer: asyncio.StreamWriter, piece: bytes, size: float) -> None:
    """Write pieces up to so many bytes, or without end while somebody reads."""
    left = int(size)
    while left > 0 or not size:
        part = piece if not size or left >= len(piece) else piece[:left]
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
        left -= len(part)


async def _drip(writer: asyncio.StreamWriter, pause_s: float) -> None:
    for letter in head(200, ("Content-Length", "2"), ("Connection", "close")) + b"ok":
        writer.write(bytes([letter]))
        await writer.drain()
        await asyncio.sleep(pause_s)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST in place of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
