"""Notifications feed against the simulator: discovery, sharding, rollover, notices, refusals."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec
import pytest

from conformance.stream_server import MemoryTelemetry
from steno.adapters.platform_http import HttpClient, NotificationsApi, PlatformHttp
from steno.adapters.sockets.client import Dialer
from steno.core.failover import FailoverPolicy
from steno.core.hosts import Host
from steno.core.transcript import Fragment
from steno.errors import AuthError, ConfigError
from steno.feeds.notifications import NotificationsFeed, NotificationsSettings, Watcher
from steno.feeds.stream_connection import Timing
from steno.ports import ConversationEnded, FeedDown, FeedEvent, FeedUp
from steno.wire.http import HttpRequest
from steno.wire.participants import Roster
from steno_sim.channels import Limits
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, Client
from steno_sim.region import RegionSettings
from steno_sim.server import Simulator

T = TypeVar("T")

FAST = FailoverPolicy(
    backoff_first_s=0.02, backoff_max_s=0.1, stable_s=0.2, refused_first_s=0.2, refused_max_s=0.4
)
SETTINGS = NotificationsSettings(
    silence_s=0.5,
    pong_limit_s=0.3,
    overlap_s=0.2,
    gather_s=0.02,
    retry_s=0.1,
    housekeeping_s=0.1,
    failover=FAST,
)


class Tokens:
    """Signs in at the simulator, again when a token is refused or ``renew`` is called."""

    def __init__(self, sim: Simulator, http: HttpClient) -> None:
        self._sim, self._http = sim, http
        self._current = ""

    def renew(self) -> None:
        self._current = ""

    async def token(self, *, refused: str = "") -> str:
        if not self._current or self._current == refused:
            basic = base64.b64encode(f"{DEFAULT_CLIENT_ID}:{DEFAULT_CLIENT_SECRET}".encode())
            request = HttpRequest(
                "POST",
                f"{self._sim.url}/oauth/token",
                headers={
                    "Authorization": f"Basic {basic.decode()}",
                    "Content-Type": "application/x-www-form-urlencoded",
                },
                body=b"grant_type=client_credentials",
            )
            answer = await self._http.send(request, limit_s=5.0)
            self._current = json.loads(answer.body)["access_token"]
        return self._current


class Target:
    """Keeps what the feed gives."""

    def __init__(self) -> None:
        self.events: list[FeedEvent] = []
        self._changed = asyncio.Event()

    def accept(self, event: FeedEvent) -> bool:
        self.events.append(event)
        self._changed.set()
        return True

    async def ready(self) -> None:
        return

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, ready: Callable[[], bool], limit_s: float = 15.0) -> None:
        async with asyncio.timeout(limit_s):
            while not ready():
                self._changed.clear()
                await self._changed.wait()


class Run:
    """A feed at work."""

    def __init__(
        self, feed: NotificationsFeed, target: Target, log: MemoryTelemetry, tokens: Tokens
    ) -> None:
        self.feed, self.target, self.log, self.tokens = feed, target, log, tokens


@contextlib.asynccontextmanager
async def running(
    sim: Simulator,
    *,
    settings: NotificationsSettings = SETTINGS,
    conversations: Sequence[str] = (),
    queues: Sequence[str] = (),
    users: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> AsyncIterator[Run]:
    log, target = MemoryTelemetry(), Target()
    async with HttpClient() as http:
        tokens = Tokens(sim, http)
        host = Host("127.0.0.1", sim.port, secure=False)
        api = PlatformHttp(host, tokens, exchange=http, telemetry=log, retry_first_s=0.05)
        feed = NotificationsFeed(
            NotificationsApi(api),
            host=host.authority,
            dialer=Dialer(proxy="none", close_limit_s=0.2),
            timing=Timing(time.monotonic, lambda: time.time_ns() // 1000, lambda: 0.5),
            telemetry=log,
            tokens=tokens,
            conversations=conversations,
            queues=queues,
            users=users,
            settings=settings,
            watcher=watcher,
        )
        task = asyncio.create_task(feed.run(target))
        try:
            yield Run(feed, target, log, tokens)
        finally:
            await feed.close()
            async with asyncio.timeout(10):
                await task


def finals(target: Target) -> Counter[tuple[str, str]]:
    return Counter(
        (event.conversation, event.utterance) for event in target.of(Fragment) if event.is_final
    )


def quiet(**changes: object) -> Simulator:
    settings = RegionSettings(**({"heartbeat_s": 0.1} | changes))  # type: ignore[arg-type]
    return Simulator("quiet", settings=settings)


async def test_conversations_of_queues_are_discovered_and_heard_once() -> None:
    """Every call of the queues is followed from its start; each final utterance comes once."""
    async with Simulator("demo", speed=20, play=False) as sim:
        plans = sim.world.script.plans
        queues = sorted({plan.queue for plan in plans})
        async with running(sim, queues=queues) as run:
            await run.target.until(lambda: bool(run.target.of(FeedUp)))
            sim.world.play()
            await sim.finished()
            ends = len({plan.id for plan in plans})
            await run.target.until(
                lambda: len({one.conversation for one in run.target.of(ConversationEnded)}) == ends
            )
            heard = finals(run.target)
            assert set(heard.values()) == {1}
            assert {conversation for conversation, _ in heard} == {plan.id for plan in plans}
            assert run.target.of(FeedUp)[0].conversations == ()
            assert {event.role.value for event in run.target.of(Fragment)} == {"agent", "customer"}
            assert run.target.of(FeedDown) == []


class Noticing:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.rosters: list[Roster] = []
        self.ends: list[str] = []

    def seen(self, roster: Roster) -> None:
        self.rosters.append(roster)

    def ended(self, conversation: str) -> None:
        self.ends.append(conversation)


async def test_watcher_is_told_of_participants_and_ends() -> None:
    """What a queue's topic says anyway costs no call: who takes part, and when it is over."""
    watcher = Noticing()
    async with Simulator("demo", speed=20, play=False) as sim:
        plans = {plan.id: plan for plan in sim.world.script.plans}
        queues = sorted({plan.queue for plan in plans.values()})
        async with running(sim, queues=queues, watcher=watcher) as run:
            await run.target.until(lambda: bool(run.target.of(FeedUp)))
            sim.world.play()
            await sim.finished()
            await run.target.until(lambda: set(watcher.ends) == set(plans))
            assert {one.conversation for one in watcher.rosters} == set(plans)
            for roster in watcher.rosters:
                people = {one.id: one.purpose for one in roster.participants}
                assert people[plans[roster.conversation].customer_participant] == "customer"


async def test_given_conversations_are_subscribed_from_the_start() -> None:
    """Only what was asked for arrives, and the feed says what it carries."""
    async with Simulator("demo", speed=20, play=False) as sim:
        wanted = [plan.id for plan in sim.world.script.plans[:3]]
        async with running(sim, conversations=wanted) as run:
            await run.target.until(lambda: bool(run.target.of(FeedUp)))
            sim.world.play()
            await sim.finished()
            await run.target.until(
                lambda: (
                    {one.conversation for one in run.target.of(ConversationEnded)} == set(wanted)
                )
            )
            assert {one.conversation for one in run.target.of(Fragment)} == set(wanted)
            assert set(run.target.of(FeedUp)[0].conversations) == set(wanted)


async def test_many_topics_are_spread_over_channels() -> None:
    """More topics than one channel holds: several channels, each with its own socket."""
    names = [f"conv-{number}" for number in range(25)]
    settings = replace(SETTINGS, topics_per_channel=10)
    async with (
        quiet(limits=Limits(topics=10)) as sim,
        running(sim, conversations=names, settings=settings) as run,
    ):
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 3)
        assert run.feed.connected == 3
        channels = sim.region.channels.all()
        assert sorted(len(channel.subscriptions) for channel in channels) == [5, 10, 10]


def test_more_than_the_channels_hold_is_a_wrong_setting() -> None:
    """What can never fit is refused before anything is dialled."""
    with pytest.raises(ConfigError, match="more topics"):
        _unused(
            conversations=[f"c{number}" for number in range(21)],
            settings=replace(SETTINGS, topics_per_channel=10, channels=2),
        )
    with pytest.raises(ConfigError, match="something to follow"):
        _unused()


def _unused(
    conversations: Sequence[str] = (), settings: NotificationsSettings = SETTINGS
) -> NotificationsFeed:
    host = Host("127.0.0.1", 1, secure=False)
    log = MemoryTelemetry()

    class Never:
        async def token(self, *, refused: str = "") -> str:
            raise AssertionError

    http = HttpClient()
    return NotificationsFeed(
        NotificationsApi(PlatformHttp(host, Never(), exchange=http, telemetry=log)),
        host="h",
        dialer=Dialer(proxy="none"),
        timing=Timing(time.monotonic, lambda: 0, lambda: 0.5),
        telemetry=log,
        conversations=conversations,
        settings=settings,
    )


async def test_a_lost_socket_comes_back_to_the_same_channel() -> None:
    """The channel and its subscriptions outlive the socket; the gap is told."""
    async with quiet() as sim, running(sim, conversations=["c-1"]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        [before] = sim.region.channels.all()
        sim.inject(kind="drop", code=1012)
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert sim.region.channels.all() == [before]
        [down] = run.target.of(FeedDown)
        assert (down.close_code, down.cause, down.conversations) == (1012, "disconnect", ("c-1",))
        assert down.since_us <= down.at_us


async def test_a_channel_that_is_gone_is_made_anew() -> None:
    """When the platform has dropped the channel, another is made and subscribed."""
    async with quiet() as sim, running(sim, conversations=["c-1"]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        [before] = sim.region.channels.all()
        sim.inject(kind="channel_expired")
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        [after] = sim.region.channels.all()
        assert after is not before
        assert set(after.subscriptions) == {"v2.conversations.c-1.transcription"}


async def test_a_silent_socket_is_found_out() -> None:
    """No heartbeat, no answer to the JSON ping: the socket is given up and dialled again."""
    async with quiet() as sim, running(sim, conversations=["c-1"]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        sim.inject(kind="silence")
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert len(run.target.of(FeedDown)) == 1


async def test_silence_is_answered_by_a_json_ping() -> None:
    """Without heartbeats the JSON ping and its pong keep the socket."""
    async with quiet(heartbeat_s=60.0) as sim, running(sim, conversations=["c-1"]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        await asyncio.sleep(1.8)
        assert run.target.of(FeedDown) == []
        assert run.log.totals["steno_feed_messages_total"] >= 2


async def test_a_closing_notice_leads_to_a_second_socket_before_the_close() -> None:
    """``socket_closing``: the same channel, a new socket, and no gap."""
    async with quiet() as sim, running(sim, conversations=["c-1"]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        [channel] = sim.region.channels.all()
        first = channel.socket
        sim.inject(kind="socket_closing", delay_s=0.5)
        await sim.wait_for(lambda: channel.socket is not None and channel.socket is not first)
        await asyncio.sleep(0.7)
        assert sim.region.channels.all() == [channel]
        assert run.target.of(FeedDown) == []
        assert run.log.named("live.channel_replaced")[0]["cause"] == "socket_closing"


async def test_a_channel_is_replaced_before_its_life_is_over() -> None:
    """Make before break: a new channel is subscribed and connected first, and nothing is lost."""
    settings = RegionSettings(heartbeat_s=0.1, limits=Limits(life_s=1.5))
    async with Simulator("demo", speed=20, play=False, settings=settings) as sim:
        queues = sorted({plan.queue for plan in sim.world.script.plans})
        async with running(sim, queues=queues) as run:
            await run.target.until(lambda: bool(run.target.of(FeedUp)))
            sim.world.play()
            await sim.finished()
            await sim.wait_for(lambda: run.log.totals["steno_channel_rollovers_total"] >= 1)
            said = {
                (talk.id, one.id)
                for talk in sim.truth().conversations
                for one in talk.utterances
                if one.topic == "whole"
            }
            await run.target.until(lambda: said <= set(finals(run.target)))
            assert run.target.of(FeedDown) == []
            assert run.log.named("live.channel_replaced")[0]["cause"] == "rollover"
            assert set(finals(run.target).values()) == {1}


async def test_a_renewed_token_means_a_new_channel() -> None:
    """Delivery ends with the token that made the channel; so it is replaced when that is."""
    async with quiet() as sim, running(sim, conversations=["c-1"]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        [before] = sim.region.channels.all()
        run.tokens.renew()
        await sim.wait_for(lambda: bool(run.log.named("live.channel_replaced")))
        assert any(channel is not before for channel in sim.region.channels.all())
        assert run.target.of(FeedDown) == []
        # The old channel's topics are taken off, so that it is no weight on the twenty.
        await sim.wait_for(lambda: not before.subscriptions)


async def test_ended_conversations_are_forgotten() -> None:
    """Topics of ended calls are taken off after the grace, so channels do not fill up."""
    settings = replace(SETTINGS, ended_grace_s=0.2)
    async with Simulator("demo", speed=40, play=False) as sim:
        queues = sorted({plan.queue for plan in sim.world.script.plans})
        async with running(sim, queues=queues, settings=settings) as run:
            await run.target.until(lambda: bool(run.target.of(FeedUp)))
            sim.world.play()
            await sim.finished()
            [channel] = sim.region.channels.all()
            await sim.wait_for(lambda: len(channel.subscriptions) == len(queues))


async def test_forbidden_topics_from_the_start_end_the_feed() -> None:
    """When no topic is permitted, the error names the permission that is missing."""
    async with quiet() as sim:
        client = sim.tokens.clients[DEFAULT_CLIENT_ID]
        sim.tokens.clients[DEFAULT_CLIENT_ID] = _without_permissions(client)
        with pytest.raises(AuthError, match="conversation:transcription:view"):
            async with running(sim, conversations=["c-1"]) as run:
                await run.target.until(lambda: False, limit_s=1.0)


def _without_permissions(client: Client) -> Client:
    return msgspec.structs.replace(client, permissions=frozenset())


async def test_the_platform_away_and_back() -> None:
    """REST calls that fail are tried again; the feed comes up when the platform does."""
    async with quiet() as sim:
        sim.inject(kind="answer", path="/api/v2/notifications/channels", status=503, times=40)
        async with running(sim, conversations=["c-1"]) as run:
            await sim.wait_for(lambda: bool(run.log.named("live.dial_failed")), limit_s=40)
            sim.region.faults.clear()
            await run.target.until(lambda: bool(run.target.of(FeedUp)))


async def test_the_channel_address_shows_nowhere() -> None:
    """Whoever knows the address reads the transcripts, so it is in no log."""
    async with quiet() as sim, running(sim, conversations=["c-1"]) as run:
        await run.target.until(lambda: bool(run.target.of(FeedUp)))
        [channel] = sim.region.channels.all()
        sim.inject(kind="drop")
        await run.target.until(lambda: len(run.target.of(FeedUp)) == 2)
        assert channel.id not in repr(run.log.events)
        assert channel.id not in repr(run.target.events)
