"""Transcript stream feed: reconnection, failover and return, refusals, back-pressure, closing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from conformance.feed_rig import Target, Tokens
from conformance.stream_server import Answer, MemoryTelemetry, StreamServer, frame
from steno.adapters.sockets.client import Connection, Dialer
from steno.core.failover import FailoverPolicy
from steno.core.transcript import Fragment
from steno.errors import AuthError, ConfigError, ConnectFailed
from steno.feeds.stream import (
    Endpoint,
    StreamSettings,
    Timing,
    TranscriptStreamFeed,
    spread,
)
from steno.ports import DialRequest, FeedDown, FeedUp, Quarantined, SocketReceiver

FAST = FailoverPolicy(
    backoff_first_s=0.02,
    backoff_max_s=0.1,
    hold_s=0.3,
    stable_s=0.2,
    probe_first_s=0.05,
    probe_max_s=0.2,
    refused_first_s=0.15,
    refused_max_s=0.3,
)
SETTINGS = StreamSettings(ping_interval_s=0.1, pong_limit_s=0.3, failover=FAST)


class Run:
    """A feed at work."""

    def __init__(self, feed: TranscriptStreamFeed, target: Target, log: MemoryTelemetry) -> None:
        self.feed, self.target, self.log = feed, target, log


@contextlib.asynccontextmanager
async def running(
    servers: Sequence[StreamServer],
    *,
    tokens: Tokens | None = None,
    settings: StreamSettings = SETTINGS,
    conversations: Sequence[str] = (),
    sockets: int = 1,
) -> AsyncIterator[Run]:
    log, target = MemoryTelemetry(), Target()
    given = tokens or Tokens()
    feed = TranscriptStreamFeed(
        [Endpoint(f"region-{n}", one.ws_base, given) for n, one in enumerate(servers)],
        dialer=Dialer(proxy="none", close_limit_s=0.2),
        timing=Timing(time.monotonic, lambda: time.time_ns() // 1000, lambda: 0.5),
        telemetry=log,
        conversations=conversations,
        sockets=sockets,
        settings=settings,
    )
    task = asyncio.create_task(feed.run(target))
    try:
        yield Run(feed, target, log)
    finally:
        await feed.close()
        async with asyncio.timeout(10):
            await task


# --- the way of a fragment -----------------------------------------------------------------------


async def test_fragments_follow_the_news_that_the_feed_is_up() -> None:
    """FeedUp comes first, then every fragment in order, whole."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        for number in range(50):
            await peer.send(frame(f"word {number}"))
        await run.target.until(lambda: len(run.target.texts()) == 50)
        assert isinstance(run.target.events[0], FeedUp)
        assert run.target.events[0].host == "region-0"
        assert run.target.texts() == [f"word {number}" for number in range(50)]
        assert run.feed.connected == 1
        assert server.tokens == ["token-1"]
        fragment = run.target.of(Fragment)[0]
        assert abs(fragment.received_s - time.monotonic()) < 10


async def test_malformed_messages_are_told_without_their_text() -> None:
    """A bad message becomes a note and one log line; the stream goes on."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        await peer.send(frame("my card is 4111111111111111", confidence=7))
        await peer.send(b"\x01\x02")
        await peer.send('{"event":"HEARTBEAT"}')
        await peer.send(frame("after"))
        await run.target.until(lambda: run.target.texts() == ["after"])
        assert [note.cause for note in run.target.of(Quarantined)] == ["confidence", "binary"]
        lines = run.log.named("live.quarantined")
        assert [line["cause"] for line in lines] == ["confidence", "binary"]
        assert "4111" not in repr(run.log.events)
        assert run.log.totals["steno_feed_ignored_total"] == 1


async def test_a_flood_of_malformed_messages_does_not_flood_the_log() -> None:
    """Twenty lines a minute tell the story; every message is still told to the target."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        for _ in range(200):
            await peer.send("rubbish")
        await run.target.until(lambda: len(run.target.of(Quarantined)) == 200)
        assert len(run.log.named("live.quarantined")) <= 40  # a minute may end meanwhile


async def test_an_oversize_message_costs_the_connection_and_no_more() -> None:
    """A message over the bound closes the socket with 1009; the feed reconnects."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        await peer.send("x" * 2_000_000)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert run.target.of(FeedDown)[0].close_code == 1009
        assert await server.closed() == [1009]


async def test_a_gap_covers_what_stood_behind_an_oversize_message() -> None:
    """It was sent before the message was met, and is lost with it: the gap begins before that."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        await peer.send(frame("n0"))
        await run.target.until(lambda: run.target.texts() == ["n0"])
        await asyncio.sleep(0.05)
        sent_us = time.time_ns() // 1000
        for text in (frame("n1"), "x" * 2_000_000, frame("n2")):
            await peer.send(text)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert "n2" not in run.target.texts()
        assert run.target.of(FeedDown)[0].since_us <= sent_us


async def test_back_pressure_stops_reading_and_loses_nothing() -> None:
    """When the target is full the socket is not read, however long, and the peer is not blamed."""
    async with StreamServer() as server, running([server]) as run:
        run.target.closes_after = 5
        peer = await server.connected()
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        sending = asyncio.create_task(_talk(peer, 300))
        await run.target.until(lambda: len(run.target.texts()) >= 5)
        await asyncio.sleep(0.8)  # longer than ping interval and pong limit together
        assert len(run.target.texts()) == 5
        run.target.closes_after = None
        run.target.room.set()
        await sending
        await run.target.until(lambda: len(run.target.texts()) == 300)
        assert run.target.texts() == [f"n{number}" for number in range(300)]
        assert run.target.of(FeedDown) == []


async def _talk(peer: object, count: int) -> None:
    for number in range(count):
        await peer.send(frame(f"n{number}", filler="y" * 20_000))  # type: ignore[attr-defined]


# --- reconnection --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, None])
async def test_any_close_leads_back(code: int | None) -> None:
    """Every close we did not ask for, and a cut line, is reported as a gap and mended."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        await peer.send(frame("before"))
        await run.target.until(lambda: run.target.texts() == ["before"])
        if code is None:
            peer.transport.abort()
        else:
            await peer.close(code)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        peer = await server.connected()
        await peer.send(frame("after"))
        await run.target.until(lambda: run.target.texts() == ["before", "after"])
        [down] = run.target.of(FeedDown)
        assert (down.cause, down.close_code) == ("disconnect", code or 1006)
        assert down.since_us <= down.at_us <= run.target.of(FeedUp)[1].at_us
        assert run.target.of(FeedUp)[0].at_us <= down.since_us
        assert run.log.totals["steno_reconnects_total"] == 1


async def test_what_was_read_before_the_cut_is_handed_over_before_the_gap() -> None:
    """Fragments that wait for room while the line is cut come before FeedDown."""
    async with StreamServer() as server, running([server]) as run:
        run.target.closes_after = 1
        peer = await server.connected()
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        peer.transport.write(b"".join(_raw(frame(f"n{number}")) for number in range(20)))
        await peer.close(1012)
        await run.target.until(lambda: len(run.target.texts()) == 1)
        run.target.closes_after = None
        run.target.room.set()
        await run.target.until(lambda: bool(run.target.of(FeedDown)))
        before = run.target.events[: run.target.events.index(run.target.of(FeedDown)[0])]
        assert len([event for event in before if isinstance(event, Fragment)]) == 20


def _raw(text: str) -> bytes:
    data = text.encode()
    return b"\x81\x7e" + len(data).to_bytes(2, "big") + data


async def test_a_silent_peer_is_found_out() -> None:
    """A connection that is open but answers no ping is given up: half-open, or frozen."""
    async with StreamServer() as server, running([server]) as run:
        (await server.connected()).transport.pause_reading()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert run.target.of(FeedDown)[0].since_us < run.target.of(FeedDown)[0].at_us


async def test_a_slow_pong_within_the_limit_is_a_pong() -> None:
    """A peer that takes its time, but less than the limit, is kept; its latency is measured."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        for _ in range(3):
            peer.transport.pause_reading()
            await asyncio.sleep(0.15)
            peer.transport.resume_reading()
            await asyncio.sleep(0.05)
        assert run.target.of(FeedDown) == []
        assert run.log.totals["steno_pong_seconds"] > 0.1


# --- failover and return -------------------------------------------------------------------------


async def test_a_killed_primary_leads_to_the_backup_within_five_seconds() -> None:
    """With the real waits: two tries at the primary, then the backup; told as a failover."""
    settings = StreamSettings()
    async with (
        StreamServer() as primary,
        StreamServer() as backup,
        running([primary, backup], settings=settings) as run,
    ):
        await (await primary.connected()).send(frame("the last words"))
        await run.target.until(lambda: bool(run.target.texts()))
        killed_at = time.monotonic()
        await primary.kill()
        await (await backup.connected()).send(frame("go on here"))
        await run.target.until(lambda: len(run.target.texts()) == 2)
        assert time.monotonic() - killed_at < 5.0
        assert [up.host for up in run.target.of(FeedUp)] == ["region-0", "region-1"]
        assert run.log.totals["steno_failovers_total"] == 1


async def test_a_frozen_primary_leads_straight_to_the_backup() -> None:
    """A missing pong is a failover at once: no second wait at a silent host."""
    async with (
        StreamServer() as primary,
        StreamServer() as backup,
        running([primary, backup]) as run,
    ):
        (await primary.connected()).transport.pause_reading()
        await backup.connected()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert run.target.of(FeedDown)[0].cause == "failover"
        assert len(primary.tokens) == 1


async def test_return_to_a_primary_that_holds() -> None:
    """Once an idle connection to the primary has held, it takes over; nothing comes twice."""
    async with (
        StreamServer() as primary,
        StreamServer() as backup,
        running([primary, backup]) as run,
    ):
        await primary.connected()
        await primary.kill()
        here = await backup.connected()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        await primary.start()
        there = await primary.connected()
        await there.send(frame("the idle one says nothing"))
        await here.send(frame("from the backup"))
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 3)
        await there.send(frame("from the primary"))
        await run.target.until(lambda: "from the primary" in run.target.texts())
        assert run.target.texts() == ["from the backup", "from the primary"]
        assert await backup.closed() == [1000]
        assert [up.host for up in run.target.of(FeedUp)][1:] == ["region-1", "region-0"]
        assert run.target.of(FeedDown)[-1].cause == "failover"


async def test_an_idle_connection_stands_in_when_the_backup_dies() -> None:
    """While the primary is on probation and the backup is lost, the change-over is immediate."""
    patient = StreamSettings(failover=FailoverPolicy(backoff_first_s=0.02, probe_first_s=0.05))
    async with (
        StreamServer() as primary,
        StreamServer() as backup,
        running([primary, backup], settings=patient) as run,
    ):
        await primary.connected()
        await primary.kill()
        await backup.connected()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        await primary.start()
        there = await primary.connected()
        await asyncio.sleep(0.05)
        await backup.kill()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 3)
        await there.send(frame("still here"))
        await run.target.until(lambda: run.target.texts() == ["still here"])
        assert len(primary.tokens) == 2


async def test_a_flapping_primary_is_not_returned_to() -> None:
    """A primary that never holds costs one switch, however often it shows itself."""
    async with (
        StreamServer() as primary,
        StreamServer() as backup,
        running([primary, backup]) as run,
    ):
        await primary.connected()
        await primary.kill()
        await backup.connected()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        for _ in range(4):
            await primary.start()
            await asyncio.sleep(0.15)
            await primary.kill()
            await asyncio.sleep(0.05)
        assert len(run.target.of(FeedUp)) == 2
        assert run.log.totals["steno_failovers_total"] == 1


async def test_both_regions_down_and_back() -> None:
    """With nothing reachable the feed keeps trying, with pauses, and returns by itself."""
    async with (
        StreamServer() as primary,
        StreamServer() as backup,
        running([primary, backup]) as run,
    ):
        await primary.connected()
        await primary.kill()
        await backup.kill()
        await asyncio.sleep(0.6)
        assert len(run.log.named("live.dial_failed")) < 40
        await backup.start()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert len(run.target.of(FeedDown)) == 1


# --- refusals ------------------------------------------------------------------------------------


async def test_a_refused_token_is_replaced_at_once() -> None:
    """401 at the upgrade: another token, one more try, no gap and no wait."""
    tokens = Tokens("expired", "fresh")
    refuse: Callable[[str], Answer | None] = lambda token: (  # noqa: E731  # short, and typed
        (401, {}) if token == "expired" else None
    )
    async with StreamServer(refuse=refuse) as server, running([server], tokens=tokens) as run:
        await server.connected()
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        assert server.tokens == ["expired", "fresh"]
        assert tokens.asked == ["", "expired"]
        assert run.log.named("live.refused") == []


async def test_a_reconnect_asks_for_the_current_token() -> None:
    """Each dial asks the token source, which never gives one within its margin."""
    tokens = Tokens("old", "new")
    async with StreamServer() as server, running([server], tokens=tokens) as run:
        peer = await server.connected()
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        tokens.left = ["new"]
        await peer.close(1012)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert server.tokens == ["old", "new"]


@pytest.mark.parametrize(("status", "words"), [(401, "client id"), (403, "transcript:read")])
async def test_refused_from_the_start_is_an_error_with_the_fix(status: int, words: str) -> None:
    """Credentials that never worked end ``run`` with an error that says what to do."""
    async with StreamServer(refuse=lambda token: (status, {})) as server:
        with pytest.raises(AuthError, match=words) as caught:
            async with running([server]) as run:
                await run.target.until(lambda: False, limit_s=0.5)
    assert caught.value.fields["status"] == status
    assert len(server.tokens) == (2 if status == 401 else 1)


async def test_refused_later_is_retried_slowly() -> None:
    """After it has worked, a refusal is an alarm and a slow retry, never the end."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        server.refuse = lambda token: (403, {})
        peer.transport.abort()
        await asyncio.sleep(0.6)
        assert 1 <= len(run.log.named("live.refused")) <= 4
        server.refuse = lambda token: None
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)


@pytest.mark.parametrize("code", [1008, 4401, 4403])
async def test_a_policy_close_is_not_hammered(code: int) -> None:
    """1008, 4401 and 4403 wait like a refusal, not like a lost line."""
    async with StreamServer() as server, running([server]) as run:
        peer = await server.connected()
        await peer.close(code)
        await run.target.until(lambda: bool(run.target.of(FeedDown)))
        at = time.monotonic()
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert time.monotonic() - at >= FAST.refused_first_s * 0.9
        assert run.log.named("live.refused")[0]["close_code"] == code


async def test_a_token_that_ends_under_a_good_connection_is_replaced_quickly() -> None:
    """4401 after a connection that held: one quick try with another token, not a minute's gap."""
    tokens = Tokens("ending", "fresh")
    slow = StreamSettings(failover=FailoverPolicy(backoff_first_s=0.02, stable_s=0.1))
    async with StreamServer() as server, running([server], tokens=tokens, settings=slow) as run:
        peer = await server.connected()
        await asyncio.sleep(0.2)
        await peer.close(4401)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2, limit_s=3)
        assert server.tokens == ["ending", "fresh"]
        await (await server.connected()).close(4401)
        await run.target.until(lambda: len(run.target.of(FeedDown)) == 2)
        await asyncio.sleep(0.2)
        assert len(server.tokens) == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_a_wish_to_wait_is_granted(status: int) -> None:
    """429 and 503 with Retry-After: the next dial comes no sooner."""
    times: list[float] = []

    def refuse(token: str) -> Answer | None:
        times.append(time.monotonic())
        return (status, {"Retry-After": "1"}) if len(times) == 1 else None

    async with StreamServer(refuse=refuse) as server, running([server]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
    assert times[1] - times[0] >= 0.99


async def test_no_token_is_like_no_connection() -> None:
    """A token source that fails for now is tried again; the feed does not end."""

    class Failing(Tokens):
        async def token(self, *, refused: str = "") -> str:
            if len(self.asked) < 3:
                self.asked.append(refused)
                raise ConnectFailed(host="login")
            return "token-1"

    async with StreamServer() as server, running([server], tokens=Failing()) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        assert len(run.log.named("live.dial_failed")) == 3


# --- sockets and closing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conversations", "sockets", "plan"),
    [
        ((), 1, [()]),
        ((), 3, [(), (), ()]),
        (("a",), 4, [("a",)]),
        (("a", "b", "c"), 2, [("a", "c"), ("b",)]),
        (("a", "b", "a"), 1, [("a", "b")]),
    ],
)
def test_conversations_are_spread_over_sockets(
    conversations: Sequence[str], sockets: int, plan: list[tuple[str, ...]]
) -> None:
    """Every conversation has one socket; none is followed twice."""
    assert spread(conversations, sockets) == plan


async def test_one_conversation_is_asked_for_by_name() -> None:
    """A socket for one conversation says so in its address."""
    async with StreamServer() as server, running([server], conversations=["conv-1"]) as run:
        await server.connected()
        assert server.queries[0]["conversationId"] == ["conv-1"]
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        assert run.target.of(FeedUp)[0].conversations == ("conv-1",)


async def test_several_conversations_on_one_socket() -> None:
    """A socket for several takes the whole stream and keeps its own."""
    async with (
        StreamServer() as server,
        running([server], conversations=["conv-1", "conv-2"]) as run,
    ):
        peer = await server.connected()
        assert "conversationId" not in server.queries[0]
        for name in ("conv-1", "conv-3", "conv-2"):
            await peer.send(frame(name, conversation=name))
        await run.target.until(lambda: run.target.texts() == ["conv-1", "conv-2"])
        assert run.log.totals["steno_feed_ignored_total"] == 1


async def test_one_socket_lost_leaves_the_others() -> None:
    """Sockets live and die by themselves; each has a name of its own."""
    async with (
        StreamServer() as server,
        running([server], conversations=["a", "b"], sockets=2) as run,
    ):
        peer = await server.connected(2)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        await peer.close(1012)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 3)
        assert len(run.target.of(FeedDown)) == 1
        assert {up.feed for up in run.target.of(FeedUp)} == {
            "transcript-stream-0",
            "transcript-stream-1",
        }


async def test_closing_closes_with_1000_and_reports_no_gap() -> None:
    """``close`` ends ``run``; the platform sees a polite close, the records no gap."""
    async with StreamServer() as server:
        async with running([server]) as run:
            await server.connected()
            await run.target.until(lambda: bool(run.target.of(FeedUp)))
        assert await server.closed() == [1000]
        assert run.target.of(FeedDown) == []


async def test_closing_does_not_wait_for_a_dial() -> None:
    """A dial under way is given up when the feed closes."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
        finally:
            writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    server = StreamServer()
    server.port = silent.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(3), running([server]):
            await asyncio.sleep(0.1)
    finally:
        silent.close()
        await silent.wait_closed()
        await asyncio.sleep(0.05)


async def test_closing_does_not_wait_for_room() -> None:
    """A target that never has room again does not hold up the end; what was read is given."""
    async with StreamServer() as server:
        async with asyncio.timeout(5), running([server]) as run:
            run.target.closes_after = 1
            peer = await server.connected()
            await run.target.until(lambda: bool(run.target.of(FeedUp)))
            peer.transport.write(b"".join(_raw(frame(f"n{number}")) for number in range(20)))
            await run.target.until(lambda: len(run.target.texts()) == 1)
        assert len(run.target.texts()) == 20


async def test_cancelling_leaves_nothing_behind() -> None:
    """Cancelling ``run`` lets go of every socket and task."""
    async with StreamServer() as server:
        log, target = MemoryTelemetry(), Target()
        feed = TranscriptStreamFeed(
            [Endpoint("region-0", server.ws_base, Tokens())],
            dialer=Dialer(proxy="none"),
            timing=Timing(time.monotonic, lambda: 0, lambda: 0.5),
            telemetry=log,
        )
        task = asyncio.create_task(feed.run(target))
        await server.connected()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.closed()


async def test_cancelling_in_the_moment_of_success_leaves_nothing_behind() -> None:
    """A connection that was just made when ``run`` is cancelled is let go of, not lost."""
    running_feed: list[asyncio.Task[None]] = []

    class Untimely(Dialer):
        async def dial(self, request: DialRequest, receiver: SocketReceiver) -> Connection:
            connection = await super().dial(request, receiver)
            running_feed[0].cancel()
            return connection

    async with StreamServer() as server:
        feed = TranscriptStreamFeed(
            [Endpoint("region-0", server.ws_base, Tokens())],
            dialer=Untimely(proxy="none"),
            timing=Timing(time.monotonic, lambda: 0, lambda: 0.5),
            telemetry=MemoryTelemetry(),
        )
        running_feed.append(asyncio.create_task(feed.run(Target())))
        with pytest.raises(asyncio.CancelledError):
            await running_feed[0]
        assert await server.closed() == [1006]


def test_no_host_is_a_wrong_setting() -> None:
    """A feed without a host can never work."""
    with pytest.raises(ConfigError, match="no host"):
        TranscriptStreamFeed(
            [],
            dialer=Dialer(proxy="none"),
            timing=Timing(time.monotonic, lambda: 0, lambda: 0.5),
            telemetry=MemoryTelemetry(),
        )
