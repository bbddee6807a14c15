"""The audio server: messages, order, limits, ends, and one connection's harm kept to itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conformance.audio_rig import Taker, close_frame, frame, head, raw, serving
from conformance.stream_server import MemoryTelemetry
from steno.adapters.audio_server import AudioServer, ServerSettings
from steno.errors import ConfigError
from steno.ports import SocketEnd
from steno.ports.audio_server import Accept, Refuse, UpgradeRequest

# --- messages --------------------------------------------------------------------------------


async def test_texts_and_binaries_arrive_in_the_order_they_were_sent() -> None:
    """Order holds between kinds; what arrives together is handed over together."""
    async with serving() as rig, raw(rig) as client:
        client.send(
            *(frame(b"t%d" % n) for n in range(5)), frame(b"\x00\xff", 2), frame("ü".encode())
        )
        taker = rig.takers[0]
        await taker.until(lambda: len(taker.log) == 7)
        texts = [("text", b"t%d" % n) for n in range(5)]
        assert taker.log == [*texts, ("binary", b"\x00\xff"), ("text", "ü".encode())]
        assert taker.batches == [5, 1]


async def test_texts_of_one_read_are_one_call_with_a_control_frame_at_its_end() -> None:
    """A ping behind the texts does not keep them back."""
    async with serving() as rig, raw(rig) as client:
        client.send(frame(b"a"), frame(b"b"), frame(b"p", 9))
        assert await client.frame() == (10, b"p")
        assert rig.takers[0].batches == [2]


async def test_a_message_behind_the_request_is_read() -> None:
    """Who does not wait for 101 loses nothing; a frame cut in two is put together."""
    async with serving() as rig, raw(rig, upgraded=False) as client:
        whole = frame(b"x" * 300)
        client.send(head(), frame(b"early"), whole[:100])
        assert (await client.answer())[0] == 101
        client.send(whole[100:])
        taker = rig.takers[0]
        await taker.until(lambda: len(taker.log) == 2)
        assert taker.texts == [b"early", b"x" * 300]


async def test_a_long_message_in_many_reads_is_one_message() -> None:
    """Size up to the limit is no obstacle."""
    async with serving() as rig, connect(rig.url(), compression=None) as client:
        message = os.urandom(1 << 20)
        await client.send(message)
        taker = rig.takers[0]
        await taker.until(lambda: bool(taker.log))
        assert taker.log == [("binary", message)]


async def test_fragments_are_joined_and_control_frames_may_stand_between_them() -> None:
    """RFC 6455, 5.4: a fragmented message is one message."""
    async with serving() as rig, raw(rig) as client:
        client.send(frame(b"one", fin=False), frame(b"p", 9), frame(b" two", 0, fin=False))
        client.send(frame(b" three", 0), frame(b"b", 2, fin=False), frame(b"b", 0), frame(b"end"))
        taker = rig.takers[0]
        await taker.until(lambda: len(taker.log) == 3)
        assert taker.log == [("text", b"one two three"), ("binary", b"bb"), ("text", b"end")]


async def test_invalid_utf8_is_handed_on_as_it_came() -> None:
    """What text means is not the server's business."""
    async with serving() as rig, raw(rig) as client:
        client.send(frame(b"\xff\xfe"))
        taker = rig.takers[0]
        await taker.until(lambda: bool(taker.log))
        assert taker.texts == [b"\xff\xfe"]


async def test_what_is_sent_arrives_whole_and_in_order() -> None:
    """Messages of every length class, pings between them."""
    async with serving() as rig, connect(rig.url(), compression=None) as client:
        taker = rig.takers[0]
        socket = await taker.opened()
        sizes = (0, 1, 125, 126, 8192, 65535, 65536, 200_000)
        for size in sizes:
            socket.send_text(b"x" * size)
        socket.ping(b"are you there")
        got = [await client.recv() for _ in sizes]
        assert [len(text) for text in got] == list(sizes)
        await taker.until(lambda: bool(taker.pongs))
        assert taker.pongs == [b"are you there"]


async def test_a_subprotocol_is_agreed_only_when_the_client_offers_it() -> None:
    """RFC 6455, 4.2.2: the server names one of the offered ones, or none."""
    async with serving() as rig:
        rig.subprotocol = "media-api"
        async with connect(rig.url(), subprotocols=["v9", "media-api"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "media-api"
        async with connect(rig.url()) as client:
            assert client.subprotocol is None


async def test_compression_is_never_agreed() -> None:
    """A client that offers permessage-deflate goes on without."""
    async with (
        serving() as rig,
        aiohttp.ClientSession() as session,
        session.ws_connect(rig.url(), compress=15) as client,
    ):
        assert client.compress == 0
        await client.send_str("plain")
        taker = rig.takers[0]
        await taker.until(lambda: bool(taker.log))
        assert taker.texts == [b"plain"]


# --- ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "told"), [(1000, 1000), (1001, 1001), (4321, 4321), (None, 1005)])
async def test_the_peers_close_code_is_told(code: int | None, told: int) -> None:
    """A close frame is answered in kind, then TCP ends."""
    async with serving() as rig, raw(rig) as client:
        client.send(frame(b"last"), close_frame(code, b"bye" if code else b""))
        assert await client.close_code() == (1000 if code is None else code)
        assert await client.ended()
        taker = rig.takers[0]
        assert await taker.closed() == SocketEnd(told)
        assert taker.texts == [b"last"]


async def test_an_end_without_a_close_frame_is_1006() -> None:
    """A vanished peer is told apart from one that said goodbye."""
    async with serving() as rig:
        async with raw(rig) as client:
            client.send(frame(b"a"))
            await rig.takers[0].until(lambda: bool(rig.takers[0].log))
        assert await rig.takers[0].closed() == SocketEnd(1006)
        assert rig.server.connections == 0


async def test_our_close_is_answered_and_said_to_be_ours() -> None:
    """The close frame follows what was sent; messages after it are of no use."""
    async with serving() as rig, connect(rig.url(), compression=None) as client:
        taker = rig.takers[0]
        socket = await taker.opened()
        socket.send_text(b"last words")
        socket.close(1001, "é" * 100)
        socket.send_text(b"too late")
        socket.close(1000)
        assert await client.recv() == "last words"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1001
        assert await taker.closed() == SocketEnd(1001, asked=True)


async def test_a_peer_that_does_not_answer_a_close_is_cut_off() -> None:
    """The closing handshake has a limit."""
    async with serving(close_s=0.05) as rig, raw(rig):
        (await rig.takers[0].opened()).close(1000)
        assert await rig.takers[0].closed() == SocketEnd(1006, asked=True)


async def test_abort_ends_at_once_and_nothing_raises_afterwards() -> None:
    """No method raises on a socket that is over, and the end is told by itself."""
    async with serving() as rig, raw(rig) as client:
        taker = rig.takers[0]
        socket = await taker.opened()
        socket.abort()
        assert taker.end is None, "told from within our own call"
        socket.abort()
        socket.send_text(b"x")
        socket.ping()
        socket.rest(0.1)
        socket.close(1000)
        assert socket.unsent_bytes == 0
        assert await client.ended()
        assert await taker.closed() == SocketEnd(1006, asked=True)


@pytest.mark.parametrize(
    "broken",
    [
        frame(b"x", rsv=4),
        frame(b"x", rsv=1),
        frame(b"x", 3),
        frame(b"x", 0),
        frame(b"x", fin=False) + frame(b"y"),
        frame(b"x", 9, fin=False),
        b"\x81\x01x",
        close_frame(1005),
        close_frame(999),
        close_frame(5000),
    ],
    ids=["rsv1", "rsv3", "opcode", "continuation", "nested", "ping", "bare", "1005", "999", "5000"],
)
async def test_a_broken_rule_closes_with_1002(broken: bytes) -> None:
    """What came before it counts; nothing after it does."""
    async with serving() as rig, raw(rig) as client:
        client.send(frame(b"good"), broken, frame(b"never"))
        assert await client.close_code() == 1002
        assert await client.ended()
        assert await rig.takers[0].closed() == SocketEnd(1002)
        assert rig.takers[0].texts == [b"good"]
        assert rig.telemetry.totals["media_protocol_errors"] == 1


@pytest.mark.parametrize("fragmented", [False, True])
async def test_too_long_a_message_closes_with_1009_even_while_it_is_being_sent(
    fragmented: bool,
) -> None:
    """The peer reads why, though it was still writing: no reset overtakes the close frame."""
    async with serving() as rig:
        rig.max_message_bytes = 10_000
        async with raw(rig) as client:
            size = 3_000_000
            if fragmented:
                client.send(frame(b"x" * 9_000, fin=False), frame(b"x" * 9_000, 0, fin=False))
                client.send(*(frame(b"x" * 9_000, 0, fin=False) for _ in range(size // 9_000)))
            else:
                client.send(frame(b"x" * size))
            assert await client.close_code() == 1009
            assert await client.ended()
            assert await rig.takers[0].closed() == SocketEnd(1009)


async def test_too_many_fragments_close_with_1009() -> None:
    """Empty fragments cannot pile up either."""
    async with serving() as rig, raw(rig) as client:
        client.send(frame(b"", fin=False), *(frame(b"", 0, fin=False) for _ in range(1100)))
        assert await client.close_code() == 1009


async def test_any_bytes_end_in_a_close_frame_or_in_nothing() -> None:
    """Whatever a peer sends after the upgrade, the end is an orderly one, and the server lives."""
    draw = random.Random(4711)
    good = frame(b"x" * 200) + frame(b"y", 2) + frame(b"p", 9) + close_frame(1000)
    async with serving(close_s=0.3) as rig:
        rig.max_message_bytes = 1000
        for _ in range(60):
            data = bytearray(good)
            for _ in range(draw.randrange(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            async with raw(rig) as client:
                client.send(bytes(data[: draw.randrange(1, len(data) + 1)]))
                client.writer.write_eof()
                assert await client.ended()
        for taker in rig.takers:
            assert (await taker.closed()).code in {*range(1000, 1015), *range(3000, 5000)}
        assert rig.telemetry.named("media.handler_failed") == []
        async with raw(rig) as client:
            client.send(good)
            assert await client.close_code() == 1000


# --- failures of ours ------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["on_open", "on_texts", "on_binary", "on_pong"])
async def test_a_handlers_exception_closes_its_connection_alone(where: str) -> None:
    """1011 for that one, its class in the log and not its words; the neighbour goes on."""

    def fail(*_: object) -> None:
        raise ValueError("+49 30 1234567")

    async with serving() as rig, connect(rig.url()) as neighbour:
        rig.prepare = lambda taker: setattr(taker, where, fail)
        async with raw(rig) as client:
            client.send(frame(b"x", {"on_binary": 2, "on_pong": 10}.get(where, 1)))
            assert await client.close_code() == 1011
            client.send(close_frame(1011))
            assert await rig.takers[1].closed() == SocketEnd(1011)
        await neighbour.send("still here")
        await rig.takers[0].until(lambda: bool(rig.takers[0].log))
    assert rig.telemetry.named("media.handler_failed") == [{"error": "ValueError"}]
    assert "1234567" not in str(rig.telemetry.events)


async def test_a_routers_exception_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """Now or awaited, it costs one upgrade."""

    async def later(request: UpgradeRequest) -> Refuse:
        raise RuntimeError("secret")

    def now(request: UpgradeRequest) -> Refuse:
        raise RuntimeError("secret")

    for decide in (now, later):
        async with serving(decide=decide) as rig, raw(rig, upgraded=False) as client:
            client.send(head())
            status, _, body = await client.answer()
            assert (status, body) == (500, b'{"error":"internal"}')
            assert rig.telemetry.named("media.handler_failed") == [{"error": "RuntimeError"}]
    assert caplog.records == []


# --- slow readers and many connections -------------------------------------------------------


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    """What waits for it is bounded, pongs included; its neighbour does not notice."""
    async with (
        serving(unsent_limit_bytes=100_000) as rig,
        connect(rig.url()) as neighbour,
        raw(rig, receive_bytes=4096) as slow,
    ):
        await rig.asked(2)
        taker = rig.takers[1]
        socket = await taker.opened()
        while taker.end is None:
            socket.send_text(b"x" * 50_000)
            assert socket.unsent_bytes < 200_000
            await asyncio.sleep(0)
        assert taker.end == SocketEnd(1006)
        assert rig.telemetry.totals["media_slow_readers"] == 1
        rig.takers[0].socket.send_text(b"hello")  # type: ignore[union-attr]
        assert await neighbour.recv() == "hello"
        del slow


async def test_pings_of_a_peer_that_does_not_read_end_it() -> None:
    """Answers nobody takes are not kept without end."""
    async with serving(unsent_limit_bytes=10_000) as rig, raw(rig, receive_bytes=4096) as slow:
        ping = frame(b"p" * 125, 9) * 100
        with contextlib.suppress(ConnectionError):
            while rig.takers[0].end is None:
                slow.send(ping)
                await slow.writer.drain()
                await asyncio.sleep(0)
        assert await rig.takers[0].closed() == SocketEnd(1006)


async def test_three_hundred_connections_at_once() -> None:
    """All are accepted, all are heard, none is mixed up with another."""
    count = 300
    async with serving() as rig:

        async def call(number: int) -> None:
            async with raw(rig, upgraded=False) as client:
                client.send(head(f"X-Number: {number}"), frame(b"%d" % number))
                assert (await client.answer())[0] == 101
                client.send(close_frame(1000))
                assert await client.close_code() == 1000

        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(call(number))
        for taker in rig.takers:
            assert (await taker.closed()).code == 1000
        heard = [taker.texts for taker in rig.takers]
        asked = [request.header("x-number").encode() for request in rig.requests]
        assert heard == [[number] for number in asked]
        assert sorted(asked) == sorted(b"%d" % number for number in range(count))
        assert rig.server.connections == 0
        assert rig.telemetry.totals["media_accepted"] == count


async def test_connections_are_capped_and_a_place_that_is_free_again_is_given() -> None:
    """503 with Retry-After beyond the cap."""
    async with serving(max_connections=2) as rig, raw(rig):
        async with raw(rig), raw(rig, upgraded=False) as third:
            third.send(head())
            status, headers, body = await third.answer()
            assert (status, body) == (503, b'{"error":"full"}')
            assert int(headers["retry-after"]) > 0
        await rig.takers[1].closed()
        async with raw(rig):
            assert rig.server.connections == 2


async def test_one_address_has_a_cap_of_its_own() -> None:
    """Behind a proxy the caller's address counts, not the proxy's."""
    settings = ServerSettings(listen="127.0.0.1:0", behind_proxy=("127.0.0.0/8",), max_per_peer=1)
    async with serving(settings) as rig, raw(rig, upgraded=False) as first:
        await first.upgrade("X-Forwarded-For: 192.0.2.1")
        async with raw(rig, upgraded=False) as second, raw(rig, upgraded=False) as other:
            second.send(head("X-Forwarded-For: 192.0.2.1"))
            assert (await second.answer())[0] == 429
            await other.upgrade("X-Forwarded-For: 192.0.2.2")


async def test_places_under_decision_count() -> None:
    """A burst of upgrades whose tokens are being checked cannot pass the cap."""
    go = asyncio.Event()

    async def decide(request: UpgradeRequest) -> Accept:
        await go.wait()
        return Accept(Taker())

    async with serving(decide=decide, max_connections=1) as rig, raw(rig, upgraded=False) as one:
        one.send(head())
        await rig.asked()
        async with raw(rig, upgraded=False) as two:
            two.send(head())
            assert (await two.answer())[0] == 503
        go.set()
        assert (await one.answer())[0] == 101


# --- life ------------------------------------------------------------------------------------


async def test_after_stop_accepting_open_calls_go_on_and_new_ones_get_503() -> None:
    """The first step of an orderly end."""
    async with serving() as rig, connect(rig.url()) as client:
        rig.server.stop_accepting()
        with pytest.raises(InvalidStatus) as refused:
            await connect(rig.url())
        assert refused.value.response.status_code == 503
        await client.send("still heard")
        await rig.takers[0].until(lambda: bool(rig.takers[0].log))
        assert rig.server.connections == 1


async def test_close_says_1001_and_waits_for_the_peers() -> None:
    """At the end everybody has been told, and every handler has heard of it."""
    async with serving() as rig, connect(rig.url()) as one, connect(rig.url()) as two:
        await rig.server.close(2.0)
        assert [taker.end for taker in rig.takers] == [SocketEnd(1001, asked=True)] * 2
        for client in (one, two):
            await client.wait_closed()
            assert client.close_code == 1001
        with pytest.raises(OSError):
            await connect(rig.url())


async def test_close_cuts_off_who_does_not_answer() -> None:
    """A silent peer does not hold the end up, nor does an upgrade that is being decided."""

    async def never(request: UpgradeRequest) -> Accept:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving() as rig, raw(rig):
        await rig.server.close(0.02)
        assert rig.takers[0].end == SocketEnd(1006, asked=True)
    async with serving(decide=never) as rig, raw(rig, upgraded=False) as client:
        client.send(head())
        await rig.asked()
        await rig.server.close(2.0)
        assert (await client.answer())[0] == 503


async def test_beyond_loopback_there_must_be_tls_or_a_proxy() -> None:
    """Call audio does not cross a network in plain text by accident."""
    for listen in ("0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"):
        with pytest.raises(ConfigError) as wrong:
            AudioServer(ServerSettings(listen=listen), Refuser(), MemoryTelemetry())
        assert wrong.value.setting == "media.listen"
    for settings in (
        ServerSettings(listen="0.0.0.0:0", behind_proxy=("10.0.0.0/8",)),
        ServerSettings(listen="localhost:0"),
        ServerSettings(listen="[::1]:0"),
    ):
        AudioServer(settings, Refuser(), MemoryTelemetry())


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        (ServerSettings(behind_proxy=("nonsense",)), "media.behind_proxy"),
        (ServerSettings(listen="no-port"), "media.listen"),
        (ServerSettings(tls_cert=Path("cert.pem")), "media.tls_key"),
        (ServerSettings(tls_key=Path("key.pem")), "media.tls_cert"),
        (ServerSettings(tls_cert=Path("/no"), tls_key=Path("/no")), "media.tls_cert"),
    ],
)
async def test_a_wrong_setting_is_named(settings: ServerSettings, setting: str) -> None:
    """One clear error before anything listens."""
    with pytest.raises(ConfigError) as wrong:
        AudioServer(settings, Refuser(), MemoryTelemetry())
    assert wrong.value.setting == setting


async def test_a_taken_port_is_a_clear_error() -> None:
    """The operator reads which setting to change."""
    async with serving() as rig:
        with pytest.raises(ConfigError) as wrong:
            async with serving(listen=f"127.0.0.1:{rig.port}"):
                pass
        assert wrong.value.setting == "media.listen"


class Refuser:
    """A router that refuses."""

    def decide(self, request: UpgradeRequest) -> Refuse:
        return Refuse(403, "never")
