"""WebSocket client: framing, refusals, faults, proxies, TLS, and a token that never shows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from websockets import exceptions as ws
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Response

from conformance.stream_server import StreamServer
from steno.adapters.sockets.client import Connection, Dialer, _Framing
from steno.adapters.sockets.errors import mapped, refused
from steno.adapters.sockets.proxy import proxy_for
from steno.errors import (
    AuthError,
    ConfigError,
    ConnectFailed,
    PeerUnavailable,
    RateLimited,
    RemoteProtocolError,
    StenoError,
    TimedOut,
)
from steno.ports import DialRequest, SocketEnd

TOKEN = "tok-very-secret-0123456789"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Reader:
    """Keeps what a socket gives."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.batches: list[int] = []
        self.binary: list[bytes] = []
        self.pongs: list[bytes] = []
        self.end: SocketEnd | None = None
        self._changed = asyncio.Event()

    def on_messages(self, messages: Sequence[bytes]) -> None:
        self.messages += messages
        self.batches.append(len(messages))
        self._changed.set()

    def on_binary(self, message: bytes) -> None:
        self.binary.append(message)
        self._changed.set()

    def on_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)
        self._changed.set()

    def on_closed(self, end: SocketEnd) -> None:
        assert self.end is None, "told twice"
        self.end = end
        self._changed.set()

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not ready():
                self._changed.clear()
                await self._changed.wait()

    async def closed(self) -> SocketEnd:
        await self.until(lambda: self.end is not None)
        assert self.end is not None
        return self.end


def request(base: str, **changes: object) -> DialRequest:
    fields: dict[str, object] = {
        "url": f"{base}/stream?access_token={TOKEN}",
        "host": "region-1",
        "subprotocol": "v2",
        "headers": (("Accept", "application/json"),),
        "timeout_s": 5.0,
        "connect_timeout_s": 5.0,
    }
    return DialRequest(**(fields | changes))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def opened(
    base: str, *, reading: bool = True, dialer: Dialer | None = None
) -> AsyncIterator[tuple[Connection, Reader]]:
    reader = Reader()
    socket = await (dialer or Dialer(proxy="none")).dial(request(base), reader)
    try:
        if reading:
            socket.resume()
        yield socket, reader
    finally:
        await socket.close()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def raw_server(serve_one: Serve) -> AsyncIterator[str]:
    """Serve raw TCP; yields the ws:// base."""
    serving: set[asyncio.Task[None]] = set()

    async def safely(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await serve_one(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(safely, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
        if serving:
            await asyncio.wait(serving, timeout=5)


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer an upgrade as a server must."""
    from websockets.utils import accept_key

    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(
        line.split(":", 1)[1].strip()
        for line in head.split("\r\n")
        if line.lower().startswith("sec-websocket-key:")
    )
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
    )


def text(payload: bytes, *, fin: bool = True) -> bytes:
    return Frame(Opcode.TEXT, payload, fin=fin).serialize(mask=False)


def cont(payload: bytes, *, fin: bool) -> bytes:
    return Frame(Opcode.CONT, payload, fin=fin).serialize(mask=False)


# --- framing ---------------------------------------------------------------------------------


@given(
    payloads=st.lists(
        st.binary(max_size=20)
        | st.integers(120, 130).map(lambda n: b"a" * n)
        | st.sampled_from([b"b" * 65_535, b"c" * 65_536, b"d" * 70_000]),
        max_size=12,
    ),
    cuts=st.lists(st.integers(0, 400_000), max_size=30),
)
def test_messages_do_not_depend_on_how_the_bytes_are_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    """Frames are found again however TCP has cut the stream."""
    data = b"".join(text(payload) for payload in payloads)
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    framing, found = _Framing(1 << 20), []
    for start, stop in pairwise(bounds):
        texts, _, other = framing.cut(framing.joined(data[start:stop]), 0, plain=True)
        assert other is None
        found += texts
    assert found == payloads


async def test_messages_of_one_read_come_in_one_batch() -> None:
    """Frames that arrive together are handed over together, in order."""
    payloads = [b'{"n":%d}' % number for number in range(1000)]
    go = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered(reader, writer)
        writer.write(b"".join(map(text, payloads)))
        await go.wait()

    async with raw_server(serve_one) as base, opened(base) as (_, reader):
        await reader.until(lambda: len(reader.messages) == 1000)
        assert reader.messages == payloads
        assert len(reader.batches) < 100
        go.set()


async def test_nothing_is_read_before_the_first_resume() -> None:
    """Frames sent with the upgrade's own packet wait until the receiver is ready."""
    go = asyncio.Event()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered(reader, writer)
        writer.write(text(b"early") + text(b"bird")[:3])
        await go.wait()
        writer.write(text(b"bird")[3:])
        await writer.drain()
        await reader.read(100)

    async with raw_server(serve_one) as base, opened(base, reading=False) as (socket, reader):
        await asyncio.sleep(0.05)
        assert reader.messages == []
        go.set()
        socket.resume()
        await reader.until(lambda: len(reader.messages) == 2)
        assert reader.messages == [b"early", b"bird"]


async def test_fragments_are_joined_and_control_frames_may_come_between() -> None:
    """RFC 6455, 5.4: one message in several frames, with a ping inside."""
    go = asyncio.Event()
    ping = Frame(Opcode.PING, b"x").serialize(mask=False)
    pongs: list[bytes] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered(reader, writer)
        writer.write(text(b"one ", fin=False) + cont(b"two ", fin=False) + ping)
        writer.write(cont(b"three", fin=True) + text(b"four"))
        pongs.append(await reader.readexactly(7))
        await go.wait()

    async with raw_server(serve_one) as base, opened(base) as (_, reader):
        await reader.until(lambda: len(reader.messages) == 2)
        assert reader.messages == [b"one two three", b"four"]
        go.set()
    assert pongs[0][0] == 0x8A


async def test_binary_is_told_apart() -> None:
    """A binary message is no text."""
    async with StreamServer() as server, opened(server.ws_base) as (_, reader):
        peer = await server.connected()
        await peer.send(b"\x00\x01")
        await peer.send("text")
        await reader.until(lambda: bool(reader.messages))
        assert (reader.binary, reader.messages) == ([b"\x00\x01"], [b"text"])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x7f" + (1 << 40).to_bytes(8, "big"), 1009),
        (text(b"x" * 600, fin=False) + cont(b"x" * 600, fin=True), 1009),
        (text(b"ok", fin=False) + text(b"again"), 1002),
        (cont(b"orphan", fin=True), 1002),
        (Frame(Opcode.TEXT, b"masked").serialize(mask=True), 1002),
        (b"\xc1\x01a", 1002),
        (b"\x83\x01a", 1002),
        (b"\x89\x7e\x00\x80" + b"x" * 128, 1002),
    ],
    ids=["giant", "giant-sum", "unfinished", "orphan", "masked", "rsv", "opcode", "long-ping"],
)
async def test_broken_rules_close_the_connection_with_their_code(data: bytes, code: int) -> None:
    """What breaks RFC 6455 or the size bound ends the connection and gives out no message."""
    got: list[bytes] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered(reader, writer)
        writer.write(data)
        with contextlib.suppress(asyncio.IncompleteReadError):
            got.append(await reader.readexactly(8))

    dialer = Dialer(proxy="none", max_message_bytes=1024)
    async with raw_server(serve_one) as base, opened(base, dialer=dialer) as (_, reader):
        end = await reader.closed()
    assert end == SocketEnd(code)
    assert reader.messages == []
    mask, body = got[0][2:6], got[0][6:8]
    assert int.from_bytes(bytes(a ^ b for a, b in zip(body, mask, strict=False)), "big") == code


async def test_a_flood_of_empty_fragments_is_stopped() -> None:
    """Fragments without content never reach the size bound; their number is bounded too."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answered(reader, writer)
        writer.write(text(b"", fin=False) + cont(b"", fin=False) * 10_050)
        await reader.read(100)

    async with raw_server(serve_one) as base, opened(base) as (_, reader):
        assert await reader.closed() == SocketEnd(1009)


async def test_pausing_stops_the_peer() -> None:
    """While paused nothing is read and TCP holds the sender back; nothing is lost by it."""
    async with StreamServer() as server, opened(server.ws_base) as (socket, reader):
        peer = await server.connected()
        socket.pause()
        sending = asyncio.create_task(_send_many(peer, 400))
        await asyncio.sleep(0.1)
        assert not sending.done()
        assert len(reader.messages) < 400
        socket.resume()
        await sending
        await reader.until(lambda: len(reader.messages) == 400)
        assert [int(message[:4]) for message in reader.messages] == list(range(400))


async def _send_many(peer: ServerConnection, count: int) -> None:
    for number in range(count):
        await peer.send(f"{number:04}" + "x" * 100_000)


# --- ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 4401, 4403])
async def test_close_codes_are_told(code: int) -> None:
    """The peer's close code reaches the receiver as it is, once."""
    async with StreamServer() as server, opened(server.ws_base) as (_, reader):
        peer = await server.connected()
        await peer.send("last words")
        await peer.close(code)
        assert await reader.closed() == SocketEnd(code)
        assert reader.messages == [b"last words"]


async def test_a_cut_connection_is_1006() -> None:
    """TCP that ends without a close frame has the code that RFC 6455 keeps for it."""
    async with StreamServer() as server, opened(server.ws_base) as (_, reader):
        (await server.connected()).transport.abort()
        assert await reader.closed() == SocketEnd(1006)


async def test_we_close_with_1000() -> None:
    """Our close is a handshake, and is told as asked for."""
    async with StreamServer() as server, opened(server.ws_base) as (socket, reader):
        await server.connected()
        await socket.close()
        assert await server.closed() == [1000]
        assert (await reader.closed()).asked


async def test_closing_does_not_wait_for_a_dead_peer() -> None:
    """A peer that does not answer our close is left after the limit."""
    dialer = Dialer(proxy="none", close_limit_s=0.1)
    async with StreamServer() as server, opened(server.ws_base, dialer=dialer) as (socket, _):
        (await server.connected()).transport.pause_reading()
        async with asyncio.timeout(2):
            await socket.close()
        socket.ping(b"late")
        socket.send_text("late")
        socket.pause()
        socket.resume()


async def test_ping_and_pong() -> None:
    """A pong brings back the ping's payload."""
    async with StreamServer() as server, opened(server.ws_base) as (socket, reader):
        socket.ping(b"steno-1")
        await reader.until(lambda: reader.pongs == [b"steno-1"])


# --- refusals --------------------------------------------------------------------------------


async def test_the_upgrade_asks_for_what_the_request_says() -> None:
    """Subprotocol, Accept and the query arrive; compression is not offered."""
    async with StreamServer() as server, opened(server.ws_base):
        await server.connected()
        headers = server.headers[0]
        assert headers["Sec-WebSocket-Protocol"] == "v2"
        assert headers["Accept"] == "application/json"
        assert headers["User-Agent"] == "steno"
        assert "Sec-WebSocket-Extensions" not in headers
        assert server.tokens == [TOKEN]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthError),
        (403, AuthError),
        (429, RateLimited),
        (200, PeerUnavailable),
        (302, PeerUnavailable),
        (404, PeerUnavailable),
        (500, PeerUnavailable),
        (503, PeerUnavailable),
    ],
)
async def test_refused_upgrades_are_typed(status: int, error: type[StenoError]) -> None:
    """Each answer that is not 101 is an error of ours with status, correlation id and wish."""
    headers = {"Retry-After": "7", "ININ-Correlation-Id": "c0ffee-1"}
    async with StreamServer(refuse=lambda token: (status, headers)) as server:
        with pytest.raises(error) as caught:
            await Dialer(proxy="none").dial(request(server.ws_base), Reader())
    fields = caught.value.fields
    assert (fields["status"], fields["host"]) == (status, "region-1")
    assert fields["correlation_id"] == "c0ffee-1"
    if status in (429, 503):
        assert fields["retry_after_s"] == 7.0
    if error is AuthError:
        assert caught.value.fix


REFUSAL = b'{"status":403,"code":"missing.permissions","message":"%s","contextId":"ctx-1"}'
REFUSAL %= TOKEN.encode()
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n"
SIZED = FORBIDDEN + b"Content-Length: %d\r\n\r\n" % len(REFUSAL) + REFUSAL
CHUNKED = b"".join(
    [
        FORBIDDEN,
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"10\r\n" + REFUSAL[:16] + b"\r\n",
        b"%x\r\n" % (len(REFUSAL) - 16) + REFUSAL[16:] + b"\r\n0\r\n\r\n",
    ]
)


async def refused_with(answer: bytes, *, piece: int = 1 << 20, ends: bool = False) -> AuthError:
    """Dial a server that answers so, in pieces; it hangs up after it, or waits."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for start in range(0, len(answer), piece):
            writer.write(answer[start : start + piece])
            await asyncio.sleep(0)
        if not ends:
            await reader.read()

    async with raw_server(serve_one) as base:
        with pytest.raises(AuthError) as caught:
            await Dialer(proxy="none").dial(request(base), Reader())
    assert caught.value.fields["status"] == 403
    assert TOKEN not in f"{caught.value!r} {caught.value}"
    return caught.value


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (SIZED, False),
        (CHUNKED, False),
        (FORBIDDEN + b"\r\n" + REFUSAL, True),
        (SIZED.replace(b"application/json", b"application/problem+json"), False),
        (SIZED.replace(b"Content-Type: application/json\r\n", b""), False),
    ],
    ids=["sized", "chunked", "until-the-end", "problem", "no-type"],
)
async def test_a_refusal_is_read_for_its_code_and_id(answer: bytes, ends: bool) -> None:
    """The platform's code and correlation id come out of the body; its words do not."""
    error = await refused_with(answer, ends=ends)
    assert error.fields["code"] == "missing.permissions"
    assert error.fields["correlation_id"] == "ctx-1"


@pytest.mark.parametrize("answer", [SIZED, CHUNKED], ids=["sized", "chunked"])
@pytest.mark.parametrize("piece", [1, 7])
async def test_a_refusal_is_read_however_it_is_cut(answer: bytes, piece: int) -> None:
    """A body may come byte by byte, after its head."""
    error = await refused_with(answer, piece=piece)
    assert error.fields["code"] == "missing.permissions"


async def test_the_header_names_the_call_before_the_body_does() -> None:
    """One id is told, the one of the header."""
    error = await refused_with(SIZED.replace(b"\r\n", b"\r\nININ-Correlation-Id: c0ffee-1\r\n", 1))
    assert error.fields["correlation_id"] == "c0ffee-1"


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (SIZED[:-5], False),
        (SIZED[:-5], True),
        (FORBIDDEN + b"Content-Length: 9999999\r\n\r\n" + b" " * 40_000, False),
        (FORBIDDEN + b"Content-Length: x\r\n\r\n" + REFUSAL, False),
        (FORBIDDEN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + REFUSAL, False),
        (FORBIDDEN.replace(b"/1.1", b"/1.0") + b"\r\n" + REFUSAL, False),
        (FORBIDDEN + b"Content-Length: 4\r\n\r\nnull", False),
        (b"HTTP/1.1 403 No\r\nContent-Type: text/html\r\n\r\n<p>code", False),
    ],
    ids=["short", "cut", "long", "no-size", "no-chunk", "old", "null", "page"],
)
async def test_a_refusal_whose_body_cannot_be_had_is_still_that_refusal(
    answer: bytes, ends: bool
) -> None:
    """The status was clear from the head: nothing after it delays it for long or replaces it."""
    async with asyncio.timeout(3):
        error = await refused_with(answer, ends=ends)
    assert error.fields["code"] is None


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nININ-Correlation-Id: a b\r\n\r\n", AuthError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", RemoteProtocolError),
        (b"HTTP/1.1 abc\r\n\r\n", RemoteProtocolError),
        (b"\r\n\r\n", RemoteProtocolError),
    ],
)
def test_answers_are_parsed_defensively(head: bytes, error: type[StenoError]) -> None:
    """A correlation id is only believed when it is an id; what is no HTTP is said to be none."""
    result = refused(head, host="h", now_utc=NOW)
    assert type(result) is error
    assert result.fields.get("correlation_id") is None


@given(head=st.binary(max_size=300))
def test_any_head_gives_a_verdict(head: bytes) -> None:
    """No answer to the upgrade raises."""
    result = refused(head + b"\r\n\r\n", host="h", now_utc=NOW)
    assert result is None or isinstance(result, StenoError)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"x" * 70_000,
        b"",
    ],
    ids=["bare", "wrong-key", "not-websocket", "endless", "hangs-up"],
)
async def test_a_false_upgrade_is_no_connection(answer: bytes) -> None:
    """Only a correct 101 opens a connection."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with raw_server(serve_one) as base:
        with pytest.raises((ConnectFailed, RemoteProtocolError)):
            await Dialer(proxy="none").dial(request(base), Reader())


async def test_a_silent_host_is_given_up_in_time() -> None:
    """The limit covers the whole handshake, whatever part of it the host withholds."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching")
        await reader.read()

    async with raw_server(serve_one) as base:
        with pytest.raises(TimedOut):
            await Dialer(proxy="none").dial(request(base, timeout_s=0.2), Reader())


async def test_nobody_listening() -> None:
    """A refused connection is a retryable error which names the host."""
    async with StreamServer() as server:
        base = server.ws_base
    with pytest.raises(ConnectFailed) as caught:
        await Dialer(proxy="none").dial(request(base), Reader())
    assert caught.value.retryable
    assert caught.value.fields["reason"] == "ConnectionRefusedError"


@pytest.mark.parametrize("url", ["http://x/", "ws:///x", "ws://x:99999/", "ws://u@x/", "nonsense"])
async def test_a_wrong_address_is_a_setting(url: str) -> None:
    """An address that can never work is a configuration error, without the address in it."""
    with pytest.raises(ConfigError) as caught:
        await Dialer(proxy="none").dial(request("", url=f"{url}?access_token={TOKEN}"), Reader())
    assert TOKEN not in str(caught.value)


def library_errors() -> list[type[Exception]]:
    ours = (one for one in vars(ws).values() if inspect.isclass(one))
    found = [one for one in ours if issubclass(one, Exception) and one.__module__ == ws.__name__]
    assert len(found) > 20
    return found


@pytest.mark.parametrize("kind", library_errors(), ids=lambda kind: str(kind.__name__))
def test_every_exception_of_the_library_is_mapped(kind: type[Exception]) -> None:
    """Whatever ``websockets`` raises becomes an error of ours that quotes nothing of it."""
    error = kind.__new__(kind)
    error.args = (TOKEN,)
    if isinstance(error, ws.InvalidStatus | ws.InvalidProxyStatus):
        error.response = Response(500, TOKEN, Headers())
    ours = mapped(error, host="region-1")
    assert isinstance(ours, StenoError)
    assert type(ours).__module__ == "steno.errors"
    assert TOKEN not in str(ours)
    assert TOKEN not in repr(ours)


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (TimeoutError(), TimedOut),
        (ConnectionResetError(), ConnectFailed),
        (OSError(TOKEN), ConnectFailed),
        (ssl.SSLError(TOKEN), ConnectFailed),
        (ssl.SSLCertVerificationError(TOKEN), ConnectFailed),
        (EOFError(), ConnectFailed),
        (ValueError(TOKEN), ConnectFailed),
        (UnicodeError(TOKEN), ConnectFailed),
    ],
)
def test_system_errors_are_mapped(exc: Exception, kind: type[StenoError]) -> None:
    """Network, name, TLS and unforeseen errors are connection failures."""
    ours = mapped(exc, host="h")
    assert type(ours) is kind
    assert TOKEN not in f"{ours} {ours!r}"


# --- the token ---------------------------------------------------------------------------------


async def test_the_token_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither errors with their whole chain, nor reprs, nor any logger hold the token."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = [repr(request("ws://x"))]
    asyncio.get_running_loop().set_debug(True)

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 " + line + b"\r\n\r\n")  # echoes our own address back

    refusing = StreamServer(refuse=lambda token: (403, {"X-Echo": token}))
    async with refusing, raw_server(garbage) as base:
        for one in (refusing.ws_base, base, "ws://127.0.0.1:1"):
            try:
                await Dialer(proxy="none").dial(request(one), Reader())
            except StenoError as exc:
                shown.append("".join(traceback.format_exception(exc)))
                shown.append(repr(exc))
    async with StreamServer() as server, opened(server.ws_base) as (socket, reader):
        (await server.connected()).transport.abort()
        await reader.closed()
        shown.append(repr(socket))
    assert len(shown) == 8
    ours = [r for r in caplog.records if not r.name.startswith("websockets.server")]
    shown += [record.getMessage() for record in ours]
    assert TOKEN not in "\n".join(shown)


# --- TLS and proxies -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return certificate and key files of a server that is 127.0.0.1 and localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime.now(UTC) - timedelta(hours=1)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


@contextlib.asynccontextmanager
async def tls_server(certificate: tuple[Path, Path]) -> AsyncIterator[str]:
    """Send 300 messages over TLS and then echo; yields the wss:// base."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def serve_one(peer: ServerConnection) -> None:
        for number in range(300):
            await peer.send(f"{number} " + "y" * 5000)
        async for message in peer:
            await peer.send(message)

    async with serve(
        serve_one, "127.0.0.1", 0, ssl=context, compression=None, close_timeout=0.2
    ) as server:
        yield f"wss://localhost:{server.sockets[0].getsockname()[1]}"


async def test_tls_with_our_ca_and_with_pauses(certificate: tuple[Path, Path]) -> None:
    """A CA file makes the certificate trusted, and pausing under TLS loses nothing."""
    dialer = Dialer(proxy="none", ca_file=certificate[0])
    async with tls_server(certificate) as base, opened(base, dialer=dialer) as (socket, reader):
        for _ in range(10):
            socket.pause()
            await asyncio.sleep(0.002)
            socket.resume()
            await asyncio.sleep(0)
        await reader.until(lambda: len(reader.messages) >= 300)
        assert [int(message.split()[0]) for message in reader.messages] == list(range(300))
        socket.send_text("hello")
        await reader.until(lambda: reader.messages[-1] == b"hello")


async def test_an_unknown_certificate_is_refused(certificate: tuple[Path, Path]) -> None:
    """There is no way to switch the check off; the error says what to do."""
    async with tls_server(certificate) as base:
        with pytest.raises(ConnectFailed, match="CA file") as caught:
            await Dialer(proxy="none").dial(request(base), Reader())
    assert caught.value.fields["reason"] == "certificate"


def test_an_unreadable_ca_file_is_told_at_the_start(tmp_path: Path) -> None:
    """A wrong CA file is a configuration error, not a failed dial later."""
    with pytest.raises(ConfigError, match="ca_file"):
        Dialer(ca_file=tmp_path / "missing.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="ca_file"):
        Dialer(ca_file=tmp_path / "bad.pem")


@contextlib.asynccontextmanager
async def proxy_server(answer: bytes = b"") -> AsyncIterator[tuple[str, list[str]]]:
    """Serve CONNECT, or give a fixed answer; yields host:port and the request heads."""
    heads: list[str] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        if answer:
            writer.write(answer)
            return
        host, _, port = head.split()[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))
        with contextlib.suppress(OSError):
            await far_writer.wait_closed()

    async with raw_server(serve_one) as base:
        yield base.removeprefix("ws://"), heads


async def test_through_a_proxy_with_tls(certificate: tuple[Path, Path]) -> None:
    """CONNECT with credentials, then TLS end to end: the proxy sees no path and no token."""
    async with tls_server(certificate) as base, proxy_server() as (address, heads):
        dialer = Dialer(proxy=f"http://me:pa%20ss@{address}", ca_file=certificate[0])
        async with opened(base, dialer=dialer) as (_, reader):
            await reader.until(lambda: len(reader.messages) == 300)
        assert heads[0].startswith(f"CONNECT {base.removeprefix('wss://')} HTTP/1.1\r\n")
        assert "Proxy-Authorization: Basic bWU6cGEgc3M=" in heads[0]
        assert TOKEN not in "".join(heads)


async def test_through_a_proxy_in_the_clear() -> None:
    """Plain sockets (loopback, tests) go through CONNECT as well."""
    async with StreamServer() as server, proxy_server() as (address, heads):
        async with opened(server.ws_base, dialer=Dialer(proxy=f"http://{address}")) as (_, reader):
            await (await server.connected()).send("hello")
            await reader.until(lambda: reader.messages == [b"hello"])
        assert TOKEN not in "".join(heads)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", AuthError),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", ConnectFailed),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ConnectFailed),
        (b"nonsense\r\n\r\n", ConnectFailed),
        (b"x" * 20_000, ConnectFailed),
        (b"HTTP", ConnectFailed),
    ],
)
async def test_proxies_that_refuse(answer: bytes, error: type[StenoError]) -> None:
    """A proxy's refusal is told as the proxy's."""
    async with proxy_server(answer) as (address, _):
        with pytest.raises(error, match="proxy"):
            await Dialer(proxy=f"http://{address}").dial(request("ws://127.0.0.1:9"), Reader())


def test_which_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxies and exceptions count only with ``env``; SOCKS is refused."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("env", secure=True, host="h.example") is None
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    proxy = proxy_for("env", secure=True, host="h.example")
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.secure) == ("proxy.example", 3128, False)
    assert proxy.credentials.reveal() == "user:hunter2"
    assert "hunter2" not in repr(proxy)
    assert proxy_for("env", secure=False, host="h.example") is None
    assert proxy_for("env", secure=True, host="inside.example") is None
    assert proxy_for("env", secure=True, host="127.0.0.1") is None
    assert proxy_for("none", secure=True, host="h.example") is None
    secure = proxy_for("https://p.example", secure=True, host="h.example")
    assert secure is not None
    assert (secure.port, secure.secure) == (443, True)
    for wrong in ("socks5://user:hunter2@p", "http://", "http://user:hunter2@h:port"):
        with pytest.raises(ConfigError) as caught:
            Dialer(proxy=wrong)
        assert "hunter2" not in str(caught.value)


async def test_nothing_is_left_of_a_failed_dial() -> None:
    """A dial that was cancelled or failed leaves neither a socket nor a task."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(serve_one) as base:
        dial = asyncio.create_task(Dialer(proxy="none").dial(request(base), Reader()))
        await asyncio.sleep(0.05)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
    gc.collect()
