"""Event socket feed: subscribing, refusals, waits, tokens, gaps, and one bad segment among good."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest

from conformance.event_server import SUBSCRIBED, TYPE, EventServer, event, refusal, segment
from conformance.feed_rig import Target, Tokens
from conformance.stream_server import MemoryTelemetry
from steno.adapters.sockets.client import Dialer
from steno.core.failover import FailoverPolicy
from steno.core.transcript import Fragment
from steno.errors import AuthError, ConfigError, StenoError
from steno.feeds.event_socket import (
    RECONNECT,
    Endpoint,
    EventSocketFeed,
    EventSocketSettings,
    StreamSettings,
    Timing,
)
from steno.ports import FeedDown, FeedUp, Quarantined

SECRET = "4111 1111 1111 1111"
FAST = replace(
    RECONNECT,
    backoff_first_s=0.02,
    backoff_max_s=0.1,
    jitter_s=0.01,
    hold_s=0.3,
    stable_s=0.2,
    probe_first_s=0.05,
    probe_max_s=0.2,
    refused_first_s=0.15,
    refused_max_s=0.3,
)
SETTINGS = EventSocketSettings(
    answer_limit_s=2.0,
    stream=StreamSettings(ping_interval_s=0.1, pong_limit_s=0.3, failover=FAST),
)


class Run:
    """A feed at work."""

    def __init__(self, feed: EventSocketFeed, target: Target, log: MemoryTelemetry) -> None:
        self.feed, self.target, self.log = feed, target, log

    async def up(self, times: int = 1) -> None:
        await self.target.until(lambda: len(self.target.of(FeedUp)) == times)


def made(
    servers: Sequence[EventServer],
    *,
    tokens: Tokens | None = None,
    settings: EventSocketSettings = SETTINGS,
    conversations: Sequence[str] = (),
) -> Run:
    log, given, numbers = MemoryTelemetry(), tokens or Tokens(), itertools.count(1)
    feed = EventSocketFeed(
        [Endpoint(f"region-{n}", one.ws_base, given) for n, one in enumerate(servers)],
        dialer=Dialer(proxy="none", close_limit_s=0.2),
        timing=Timing(time.monotonic, lambda: time.time_ns() // 1000, lambda: 0.5),
        telemetry=log,
        request_id=lambda: f"ours-{next(numbers)}",
        conversations=conversations,
        settings=settings,
    )
    return Run(feed, Target(), log)


@contextlib.asynccontextmanager
async def running(
    servers: Sequence[EventServer],
    *,
    tokens: Tokens | None = None,
    settings: EventSocketSettings = SETTINGS,
    conversations: Sequence[str] = (),
) -> AsyncIterator[Run]:
    run = made(servers, tokens=tokens, settings=settings, conversations=conversations)
    task = asyncio.create_task(run.feed.run(run.target))
    try:
        yield run
    finally:
        await run.feed.close()
        async with asyncio.timeout(10):
            await task


async def refused_by(
    *servers: EventServer, tokens: Tokens | None = None
) -> tuple[AuthError, MemoryTelemetry]:
    """Run until the feed gives up; return why, and what it logged."""
    run = made(servers, tokens=tokens)
    with pytest.raises(AuthError) as caught:
        async with asyncio.timeout(10):
            await run.feed.run(run.target)
    assert run.target.events == []
    return caught.value, run.log


# --- subscribing ---------------------------------------------------------------------------------


async def test_the_upgrade_and_the_question_are_the_documents() -> None:
    """Path, bearer header, Accept and a request id; then the question; the token in no address."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        assert server.paths == ["/api/v2/websocket"]
        assert server.headers[0]["Authorization"] == "Bearer token-1"
        assert server.headers[0]["Accept"] == "application/json"
        assert server.request_ids == ["ours-1"]
        assert server.questions == [{"type": "subscribe", "events": [TYPE]}]


async def test_up_is_told_once_the_platform_has_said_subscribed() -> None:
    """An open socket is not a subscription."""
    async with EventServer(answers=()) as server, running([server]) as run:
        peer = await server.connected()
        await peer.send('{"type":"hello"}')
        await asyncio.sleep(0.1)
        assert (run.target.events, run.feed.connected) == ([], 0)
        await peer.send(SUBSCRIBED)
        await run.up()
        assert run.target.of(FeedUp)[0].host == "region-0"
        assert run.target.of(FeedUp)[0].feed == "event-socket"
        assert run.feed.connected == 1


async def test_events_around_the_answer_are_not_lost() -> None:
    """Events sent before the answer, or in one packet with it, come after FeedUp, in order."""
    async with EventServer(answers=()) as server, running([server]) as run:
        peer = await server.connected()
        texts = [event(segment("early")), SUBSCRIBED, event(segment("at once"))]
        peer.transport.write(b"".join(map(_raw, texts)))
        await peer.send(event(segment("later")))
        await run.target.until(lambda: len(run.target.texts()) == 3)
        assert run.target.texts() == ["early", "at once", "later"]
        assert isinstance(run.target.events[0], FeedUp)


def _raw(text: str) -> bytes:
    data = text.encode()
    size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return b"\x81" + size + data


async def test_a_flood_before_the_answer_is_bounded() -> None:
    """What comes unasked is kept up to a bound; what comes after the answer is never dropped."""
    async with EventServer(answers=()) as server, running([server]) as run:
        peer = await server.connected()
        for number in range(60):
            await peer.send(event(segment("x" * 100_000, start=number, end=number)))
        await peer.send(SUBSCRIBED)
        await peer.send(event(segment("after")))
        await run.target.until(lambda: "after" in run.target.texts())
        kept = len(run.target.texts()) - 1
        assert 30 <= kept <= 42
        assert run.log.totals["steno_feed_ignored_total"] == 60 - kept


async def test_without_a_subscription_an_open_socket_is_up() -> None:
    """Where events come unasked, nothing is sent."""
    async with (
        EventServer(answers=()) as server,
        running([server], settings=replace(SETTINGS, subscribe=False)) as run,
    ):
        peer = await server.connected()
        await run.up()
        await peer.send(event(segment("unasked")))
        await run.target.until(lambda: run.target.texts() == ["unasked"])
        assert server.received == []


async def test_path_and_event_types_are_settings() -> None:
    """Another path is dialled, other types are asked for and taken, and only those."""
    settings = replace(SETTINGS, path="/ws/v3", events=("a.b", "c.d"))
    async with EventServer() as server, running([server], settings=settings) as run:
        await run.up()
        peer = await server.connected()
        await peer.send(event(segment("not taken")))
        await peer.send(event(segment("taken")).replace(TYPE, "c.d"))
        await run.target.until(lambda: run.target.texts() == ["taken"])
        assert server.paths == ["/ws/v3"]
        assert server.questions == [{"type": "subscribe", "events": ["a.b", "c.d"]}]


async def test_no_answer_to_the_subscription_is_tried_again() -> None:
    """Silence is a failed dial with a name of its own, not a connection."""
    settings = replace(SETTINGS, answer_limit_s=0.1)
    async with EventServer(answers=()) as server, running([server], settings=settings) as run:
        await server.connected()
        assert await server.closed() == [1000]
        server.answers = (SUBSCRIBED,)
        await run.up()
        line = run.log.named("live.dial_failed")[0]
        assert line["error_class"] == "TimedOut"
        assert line["action"] == "subscription"
        assert line["correlation_id"] == "ours-1"


# --- events --------------------------------------------------------------------------------------


async def test_segments_are_handed_over_in_order() -> None:
    """Every item of every event, in order, with its lane and bounds."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        peer = await server.connected()
        for number in range(0, 50, 2):
            await peer.send(event(segment(f"n{number}"), segment(f"n{number + 1}", speaker="spk")))
        await run.target.until(lambda: len(run.target.texts()) == 50)
        assert run.target.texts() == [f"n{number}" for number in range(50)]
        first = run.target.of(Fragment)[0]
        assert (first.lane, first.started_us, first.ended_us) == ("agent_1", 1_500_000, 2_000_000)
        assert abs(first.at_us - time.time_ns() // 1000) < 10_000_000
        assert abs(first.received_s - time.monotonic()) < 10


async def test_a_malformed_event_among_good_ones_costs_itself() -> None:
    """Bad items, bad events and binary are told without their text; the rest goes on."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        peer = await server.connected()
        await peer.send(event(segment("one"), segment(SECRET, confidence=7), segment("two")))
        await peer.send("rubbish " + SECRET)
        await peer.send(b"\x01\x02")
        await peer.send('{"type":"heartbeat"}')
        await peer.send(event(segment("three")))
        await run.target.until(lambda: run.target.texts() == ["one", "two", "three"])
        notes = run.target.of(Quarantined)
        assert [note.cause for note in notes] == ["confidence", "invalid-json", "binary"]
        assert {note.source for note in notes} == {"event-socket"}
        assert [line["cause"] for line in run.log.named("live.quarantined")] == [
            "confidence",
            "invalid-json",
            "binary",
        ]
        assert SECRET not in repr(run.log.events)
        assert run.log.totals["steno_feed_ignored_total"] == 1


async def test_only_the_wanted_conversations_are_handed_on() -> None:
    """The socket carries all; others' segments are counted as ignored."""
    async with (
        EventServer() as server,
        running([server], conversations=["conv-1", "conv-2", "conv-1"]) as run,
    ):
        await run.up()
        assert run.target.of(FeedUp)[0].conversations == ("conv-1", "conv-2")
        peer = await server.connected()
        for name in ("conv-1", "conv-3", "conv-2"):
            await peer.send(event(segment(name), segment(name), conversation=name))
        await run.target.until(lambda: len(run.target.texts()) == 4)
        assert run.target.texts() == ["conv-1", "conv-1", "conv-2", "conv-2"]
        assert run.log.totals["steno_feed_ignored_total"] == 2


async def test_one_wanted_conversation_is_picked_out_too() -> None:
    """The address names no conversation, so even one has to be picked out."""
    async with EventServer() as server, running([server], conversations=["conv-1"]) as run:
        await run.up()
        peer = await server.connected()
        await peer.send(event(segment("theirs"), conversation="conv-2"))
        await peer.send(event(segment("ours")))
        await run.target.until(lambda: bool(run.target.texts()))
        assert run.target.texts() == ["ours"]


async def test_back_pressure_loses_no_item_of_an_event() -> None:
    """An event whose items fill the target is handed over whole; reading stops after it."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        run.target.closes_after = 2
        peer = await server.connected()
        for number in range(100):
            await peer.send(event(*[segment(f"{number}.{part}") for part in range(5)]))
        await run.target.until(lambda: len(run.target.texts()) >= 5)
        await asyncio.sleep(0.5)  # longer than ping interval and pong limit together
        assert len(run.target.texts()) == 5
        run.target.closes_after = None
        run.target.room.set()
        await run.target.until(lambda: len(run.target.texts()) == 500)
        assert run.target.texts() == [f"{n}.{part}" for n in range(100) for part in range(5)]
        assert run.target.of(FeedDown) == []


# --- refusals before it was ever up --------------------------------------------------------------

FACTS = {"code": "missing.permissions", "correlationId": "theirs-1", "message": SECRET}


async def test_a_refused_subscription_says_what_is_missing() -> None:
    """403: status, the platform's code, its correlation id and the scope; not its words."""
    async with EventServer(answers=[refusal(403, **FACTS)]) as server:
        error, log = await refused_by(server)
        assert await server.closed() == [1000]
    assert error.fields.items() >= {
        "status": 403,
        "code": "missing.permissions",
        "correlation_id": "theirs-1",
        "action": "subscription",
        "scope": "conversation:transcript:read",
        "host": "region-0",
    }.items()  # fmt: skip
    assert "conversation:transcript:read" in error.fix
    [line] = log.named("live.refused")
    assert line.items() >= {
        "status": 403,
        "code": "missing.permissions",
        "correlation_id": "theirs-1",
        "action": "subscription",
    }.items()  # fmt: skip
    assert SECRET not in f"{error!r} {error} {log.events}"


async def test_an_event_type_nobody_knows_is_told_as_that() -> None:
    """400: not a matter of scopes."""
    async with EventServer(answers=[refusal(400, code="invalid.value")]) as server:
        error, _ = await refused_by(server)
    assert (error.fields["code"], error.fields["scope"]) == ("invalid.value", None)
    assert "diarisation.events" in error.fix


@pytest.mark.parametrize(
    ("status", "words"), [(401, "websocket:connect"), (403, "websocket:connect")]
)
async def test_a_refused_upgrade_says_what_is_missing(status: int, words: str) -> None:
    """The same of the handshake, from its JSON body; a 401 is tried with another token first."""
    body = json.dumps(FACTS).encode()
    headers = {"Content-Type": "application/json"}
    async with EventServer(refusing=lambda token: (status, headers, body)) as server:
        error, log = await refused_by(server)
        assert len(server.tokens) == (2 if status == 401 else 1)
    assert error.fields.items() >= {
        "status": status,
        "code": "missing.permissions",
        "correlation_id": "theirs-1",
        "action": "upgrade",
        "scope": words,
    }.items()  # fmt: skip
    assert words in error.fix
    told = f"{error!r} {error} {log.events}"
    assert SECRET not in told
    assert "token-1" not in told


async def test_a_refusal_without_an_id_is_found_by_ours() -> None:
    """Each upgrade has a request id of its own; it stands in where the host names none."""
    async with EventServer(refusing=lambda token: (403, {})) as server:
        error, log = await refused_by(server)
        assert error.fields["correlation_id"] == server.request_ids[0] == "ours-1"
        assert log.named("live.refused")[0]["correlation_id"] == "ours-1"


@pytest.mark.parametrize(("code", "dials"), [(1008, 1), (4403, 1), (4401, 2)])
async def test_a_policy_close_instead_of_an_answer_is_a_refusal(code: int, dials: int) -> None:
    """A host may refuse a subscription by closing; a token that has ended is replaced once."""

    class Closing(EventServer):
        async def _received(self, connection: object, message: str | bytes) -> None:
            await connection.close(code)  # type: ignore[attr-defined]

    async with Closing() as server:
        error, _ = await refused_by(server)
        assert len(server.tokens) == dials
    assert (error.fields["close_code"], error.fields["action"]) == (code, "subscription")
    assert "conversation:transcript:read" in error.fix


async def test_every_host_must_refuse_before_it_is_the_end() -> None:
    """A backup that accepts us is used; when it refuses too, the first word is an error."""
    refusing = EventServer(answers=[refusal(403)])
    async with refusing, EventServer() as backup, running([refusing, backup]) as run:
        await run.up()
        assert run.target.of(FeedUp)[0].host == "region-1"
        assert len(run.log.named("live.refused")) == 1
    async with EventServer(refusing=lambda token: (403, {})) as one, refusing:
        error, _ = await refused_by(one, refusing)
        assert error.fields["host"] == "region-1"


@pytest.mark.parametrize("answer", [refusal(429), refusal(503), '{"type":"error"}'])
async def test_a_subscription_that_is_not_taken_now_is_asked_again(answer: str) -> None:
    """Too many, unavailable, or no status at all: none of it is about who we are."""
    async with EventServer(answers=[answer]) as server, running([server]) as run:
        await server.closed()
        server.answers = (SUBSCRIBED,)
        await run.up()
        assert run.log.named("live.refused") == []
        assert run.log.named("live.dial_failed")[0]["action"] == "subscription"


# --- tokens --------------------------------------------------------------------------------------


async def test_a_token_refused_at_the_upgrade_is_replaced_at_once() -> None:
    """401: another token, one more try, no wait and no alarm."""
    tokens = Tokens("expired", "fresh")
    async with (
        EventServer(refusing=lambda token: (401, {}) if token == "expired" else None) as server,
        running([server], tokens=tokens) as run,
    ):
        await run.up()
        assert server.tokens == ["expired", "fresh"]
        assert tokens.asked == ["", "expired"]
        assert server.request_ids == ["ours-1", "ours-2"]
        assert run.log.named("live.refused") == []


async def test_a_token_refused_at_the_subscription_is_replaced_at_once() -> None:
    """The same where the socket opens and the subscription says 401."""
    tokens = Tokens("expired", "fresh")

    class Choosy(EventServer):
        async def _received(self, connection: object, message: str | bytes) -> None:
            answer = refusal(401) if self.tokens[-1] == "expired" else SUBSCRIBED
            await connection.send(answer)  # type: ignore[attr-defined]

    async with Choosy() as server, running([server], tokens=tokens) as run:
        await run.up()
        assert server.tokens == ["expired", "fresh"]
        assert run.log.named("live.refused") == []


async def test_a_renewed_token_keeps_the_socket_and_serves_the_next() -> None:
    """A token that is replaced while we are connected drops nothing; the reconnect has it."""
    tokens = Tokens("old")
    async with EventServer() as server, running([server], tokens=tokens) as run:
        await run.up()
        peer = await server.connected()
        tokens.left = ["new"]
        await asyncio.sleep(0.3)  # several pings long
        await peer.send(event(segment("still here")))
        await run.target.until(lambda: run.target.texts() == ["still here"])
        assert (server.tokens, run.target.of(FeedDown)) == (["old"], [])
        await peer.close(1012)
        await run.up(2)
        assert server.tokens == ["old", "new"]


# --- gaps and waits ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4000, None])
async def test_any_close_is_a_gap_and_leads_back(code: int | None) -> None:
    """Every close we did not ask for is told with its bounds, and subscribed over."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        peer = await server.connected()
        await peer.send(event(segment("before")))
        await run.target.until(lambda: run.target.texts() == ["before"])
        if code is None:
            peer.transport.abort()
        else:
            await peer.close(code)
        await run.up(2)
        await (await server.connected()).send(event(segment("after")))
        await run.target.until(lambda: run.target.texts() == ["before", "after"])
        [down], [first, second] = run.target.of(FeedDown), run.target.of(FeedUp)
        assert (down.cause, down.close_code) == ("disconnect", code or 1006)
        assert first.at_us <= down.since_us <= down.at_us <= second.at_us
        assert len(server.questions) == 2
        [line] = run.log.named("live.disconnected")
        assert (line["frames"], line["correlation_id"]) == (1, "ours-1")


async def test_a_silent_server_is_found_out() -> None:
    """No pong within the limit: a gap since the last sign of life, and a new connection."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        (await server.connected()).transport.pause_reading()
        await run.up(2)
        [down] = run.target.of(FeedDown)
        assert down.at_us - down.since_us >= 250_000


@pytest.mark.parametrize(("status", "waits_s"), [(503, 0.1), (429, 0.2)])
async def test_a_reconnect_waits_and_twice_as_long_after_429(status: int, waits_s: float) -> None:
    """The first wait, doubled by the next; on 429 each is doubled once more."""
    slow = replace(FAST, backoff_first_s=0.1, backoff_max_s=10.0, jitter_s=0.0, tries=9)
    settings = replace(SETTINGS, stream=replace(SETTINGS.stream, failover=slow))
    async with EventServer() as server:
        server.refusing = lambda token: (status, {}) if len(server.tokens) < 3 else None
        async with running([server], settings=settings) as run:
            await run.up()
        first, second, third = server.upgrades_at
    assert second - first >= waits_s
    assert third - second >= 2 * waits_s


@pytest.mark.parametrize(("wish", "at_least_s"), [("1", 1.0), ("0", 0.3)])
async def test_retry_after_is_obeyed_when_it_is_longer(wish: str, at_least_s: float) -> None:
    """The platform's wish counts where it is more than our own wait."""
    slow = replace(FAST, backoff_first_s=0.15, backoff_max_s=10.0, jitter_s=0.0)
    settings = replace(SETTINGS, stream=replace(SETTINGS.stream, failover=slow))
    async with EventServer() as server:
        server.refusing = lambda token: (
            (429, {"Retry-After": wish}) if len(server.tokens) < 2 else None
        )
        async with running([server], settings=settings) as run:
            await run.up()
        first, second = server.upgrades_at
    assert second - first >= at_least_s


def test_the_defaults_are_the_documents() -> None:
    """2 s to 30 s with up to half a second added; ping 30 s, pong 15 s."""
    settings = EventSocketSettings()
    assert settings.stream.failover == FailoverPolicy(
        backoff_first_s=2.0, backoff_max_s=30.0, jitter=0.0, jitter_s=0.5, throttled_factor=2.0
    )
    assert (settings.stream.ping_interval_s, settings.stream.pong_limit_s) == (30.0, 15.0)
    assert settings.path == "/api/v2/websocket"
    assert settings.events == ("conversation.transcription.update",)


# --- refusals after it was up --------------------------------------------------------------------


async def test_refused_later_is_an_alarm_and_a_slow_retry() -> None:
    """After it has worked, a refusal never ends the run."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        server.answers = [refusal(403, **FACTS)]
        (await server.connected()).transport.abort()
        await server.closed(2)
        await asyncio.sleep(0.4)
        assert 1 <= len(run.log.named("live.refused")) <= 3
        server.answers = (SUBSCRIBED,)
        await run.up(2)


async def test_a_right_withdrawn_is_a_gap_with_its_reason() -> None:
    """An error under a good subscription ends it: told with its facts, tried again slowly."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        peer = await server.connected()
        await peer.send(event(segment("before")))
        await peer.send(refusal(403, **FACTS))
        at = time.monotonic()
        await run.up(2)
        assert time.monotonic() - at >= FAST.refused_first_s * 0.9
        [line] = run.log.named("live.refused")
        facts = {"status": 403, "code": "missing.permissions", "correlation_id": "theirs-1"}
        assert line.items() >= facts.items()
        assert run.target.texts() == ["before"]
        assert len(run.target.of(FeedDown)) == 1
        assert SECRET not in repr(run.log.events)


async def test_a_token_that_ends_under_a_good_subscription_is_replaced_quickly() -> None:
    """401 under a connection that held: one quick try with another token."""
    tokens = Tokens("ending", "fresh")
    async with EventServer() as server, running([server], tokens=tokens) as run:
        await run.up()
        peer = await server.connected()
        await asyncio.sleep(FAST.stable_s + 0.05)
        await peer.send(refusal(401))
        await run.up(2)
        assert server.tokens == ["ending", "fresh"]
        assert run.log.named("live.refused") == []


async def test_an_error_without_a_reason_means_to_connect_again() -> None:
    """A subscription that is over for reasons of the server's is asked for again soon."""
    async with EventServer() as server, running([server]) as run:
        await run.up()
        await (await server.connected()).send(refusal(500))
        await run.up(2)
        assert run.log.named("live.refused") == []
        assert run.log.named("live.disconnected")[0]["status"] == 500


# --- two regions ---------------------------------------------------------------------------------


async def test_return_to_a_primary_that_subscribes_and_holds() -> None:
    """The idle connection is subscribed as well; nothing of it is handed on before its turn."""
    async with EventServer() as primary, EventServer() as backup, running([primary, backup]) as run:
        await run.up()
        await primary.kill()
        await run.up(2)
        here = await backup.connected()
        await primary.start()
        there = await primary.connected()
        await there.send(event(segment("the idle one says nothing")))
        await here.send(event(segment("from the backup")))
        await run.up(3)
        await there.send(event(segment("from the primary")))
        await run.target.until(lambda: "from the primary" in run.target.texts())
        assert run.target.texts() == ["from the backup", "from the primary"]
        assert [up.host for up in run.target.of(FeedUp)] == ["region-0", "region-1", "region-0"]
        assert run.target.of(FeedDown)[-1].cause == "failover"
        assert len(primary.questions) == 2


async def test_a_primary_that_opens_but_does_not_subscribe_is_not_returned_to() -> None:
    """An idle connection that is refused, then or later, has not held."""
    async with EventServer() as primary, EventServer() as backup, running([primary, backup]) as run:
        await run.up()
        await primary.kill()
        await run.up(2)
        primary.answers = [SUBSCRIBED, refusal(503)]
        await primary.start()
        await primary.closed(3)
        assert len(run.target.of(FeedUp)) == 2


# --- closing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [(SUBSCRIBED,), ()], ids=["up", "asked"])
async def test_closing_closes_with_1000_and_reports_no_gap(answers: Sequence[str]) -> None:
    """Before or after the answer, the platform sees a polite close and the records no gap."""
    async with EventServer(answers=answers) as server:
        async with asyncio.timeout(3), running([server]) as run:
            await server.connected()
            if answers:
                await run.up()
            else:
                await asyncio.sleep(0.05)
        assert await server.closed() == [1000]
        assert run.target.of(FeedDown) == []


@pytest.mark.parametrize("answers", [(SUBSCRIBED,), ()], ids=["up", "asked"])
async def test_cancelling_leaves_nothing_behind(answers: Sequence[str]) -> None:
    """Cancelling ``run`` lets go of every socket and task."""
    async with EventServer(answers=answers) as server:
        run = made([server])
        task = asyncio.create_task(run.feed.run(run.target))
        await server.connected()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.closed()


@pytest.mark.parametrize(
    ("endpoints", "settings", "words"),
    [(0, SETTINGS, "no host"), (1, replace(SETTINGS, events=()), "no event type")],
)
def test_what_can_never_work_is_a_wrong_setting(
    endpoints: int, settings: EventSocketSettings, words: str
) -> None:
    """A feed without a host or without events is told at the start."""
    with pytest.raises(ConfigError, match=words):
        made([EventServer()] * endpoints, settings=settings)


def test_other_refusals_keep_their_own_fix() -> None:
    """A proxy's refusal is not mended by a scope of the platform's."""
    from steno.feeds.event_socket import EventSocketDialect

    proxy = AuthError("the proxy refused our credentials", fix="Mend the proxy.", status=407)
    explained: Callable[[AuthError], StenoError] = EventSocketDialect(SETTINGS).explained
    assert explained(proxy) is proxy
