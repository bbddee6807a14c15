"""An audio server with a handler that keeps what it gets, and clients that break rules."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from conformance.stream_server import MemoryTelemetry
from steno.adapters.audio_server import AudioServer, ServerSettings
from steno.ports import SocketEnd
from steno.ports.audio_server import Accept, AudioSocket, Refuse, UpgradeRequest

LOOPBACK = ServerSettings(listen="127.0.0.1:0")


class Taker:
    """A handler that keeps everything; ``on_take`` is called for each batch."""

    def __init__(self) -> None:
        self.socket: AudioSocket | None = None
        self.log: list[tuple[str, bytes]] = []
        self.batches: list[int] = []
        self.pongs: list[bytes] = []
        self.end: SocketEnd | None = None
        self.on_take: Callable[[Taker], None] = lambda taker: None
        self._changed = asyncio.Event()

    def on_open(self, socket: AudioSocket) -> None:
        assert self.socket is None, "opened twice"
        self.socket = socket
        self._changed.set()

    def on_texts(self, messages: Sequence[bytes]) -> None:
        assert self.end is None, "read after the end"
        self.log += [("text", message) for message in messages]
        self.batches.append(len(messages))
        self._changed.set()
        self.on_take(self)

    def on_binary(self, message: bytes) -> None:
        assert self.end is None, "read after the end"
        self.log.append(("binary", message))
        self._changed.set()
        self.on_take(self)

    def on_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)
        self._changed.set()

    def on_closed(self, end: SocketEnd) -> None:
        assert self.end is None, "closed twice"
        self.end = end
        self._changed.set()

    @property
    def texts(self) -> list[bytes]:
        return [message for kind, message in self.log if kind == "text"]

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not ready():
                self._changed.clear()
                await self._changed.wait()

    async def opened(self) -> AudioSocket:
        await self.until(lambda: self.socket is not None)
        assert self.socket is not None
        return self.socket

    async def closed(self) -> SocketEnd:
        await self.until(lambda: self.end is not None)
        assert self.end is not None
        return self.end


Decide = Callable[[UpgradeRequest], Accept | Refuse | Awaitable[Accept | Refuse]]


class Rig:
    """A running server, the requests it asked about and the handlers it was given."""

    def __init__(self, decide: Decide | None = None) -> None:
        self.requests: list[UpgradeRequest] = []
        self.takers: list[Taker] = []
        self.telemetry = MemoryTelemetry()
        self.prepare: Callable[[Taker], None] = lambda taker: None
        self.subprotocol = ""
        self.max_message_bytes = 1 << 20
        self._decide = decide or self.accept
        self._asked = asyncio.Event()
        self.server: AudioServer

    def decide(self, request: UpgradeRequest) -> Accept | Refuse | Awaitable[Accept | Refuse]:
        self.requests.append(request)
        self._asked.set()
        return self._decide(request)

    def accept(self, request: UpgradeRequest | None = None) -> Accept:
        taker = Taker()
        self.prepare(taker)
        self.takers.append(taker)
        return Accept(taker, self.subprotocol, self.max_message_bytes)

    async def asked(self, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while len(self.requests) < count:
                self._asked.clear()
                await self._asked.wait()

    @property
    def port(self) -> int:
        return self.server.address[1]

    def url(self, path: str = "/media-api", *, scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"


@contextlib.asynccontextmanager
async def serving(
    settings: ServerSettings = LOOPBACK, decide: Decide | None = None, **changes: object
) -> AsyncIterator[Rig]:
    """Run a server until the block ends."""
    rig = Rig(decide)
    chosen = msgspec.structs.replace(settings, **changes)
    async with AudioServer(chosen, rig, rig.telemetry, tls_look_s=0.02) as rig.server:
        yield rig


def head(*extra: str, target: str = "/media-api", without: Sequence[str] = ()) -> bytes:
    """Return an upgrade request; ``without`` leaves headers out by name."""
    lines = [
        f"GET {target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    kept = [line for line in lines if line.partition(":")[0] not in without]
    return "\r\n".join([*kept, *extra, "", ""]).encode("latin-1")


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a masked frame, as a client sends it."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        start = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        start = struct.pack("!BBH", first, 0xFE, size)
    else:
        start = struct.pack("!BBQ", first, 0xFF, size)
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(
        size, "big"
    )
    return start + mask + masked


def close_frame(code: int | None, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(b"" if code is None else struct.pack("!H", code) + reason, 8)


class Raw:
    """A client that sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an HTTP answer."""
        async with asyncio.timeout(5):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            lines = text.split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:-2])
            }
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return int(lines[0].split(" ")[1]), headers, body

    async def upgrade(self, *extra: str) -> None:
        self.send(head(*extra))
        status, _, _ = await self.answer()
        assert status == 101

    async def frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        async with asyncio.timeout(5):
            first, length = await self.reader.readexactly(2)
            assert length < 128, "a server does not mask"
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 15, await self.reader.readexactly(length)

    async def close_code(self) -> int:
        """Return the code of the close frame that follows, whatever stands before it."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")

    async def ended(self) -> bool:
        """Tell that the server closed TCP."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read() is not None
            except ConnectionError:
                return True


@contextlib.asynccontextmanager
async def raw(rig: Rig, *, upgraded: bool = True, receive_bytes: int = 0) -> AsyncIterator[Raw]:
    """Connect by TCP; upgrade unless told not to."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", rig.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    client = Raw(reader, writer)
    try:
        if upgraded:
            await client.upgrade()
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
