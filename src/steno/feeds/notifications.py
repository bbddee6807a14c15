"""The real platform's notifications as a live feed.

``NotificationsFeed`` keeps the list of topics and which channel each is on; a ``_Channel`` task
for every channel keeps that channel alive:

    create -> subscribe -> dial -> FeedUp -> messages -> end -> FeedDown -> dial again -> …

The channel survives its socket, so a reconnect goes to the same address and finds the same
subscriptions. Only when the platform says that the channel is gone is a new one made. Before
its 24 hours are over, before the token that made it ends, and when the platform announces that
it will close the socket, the successor is connected before the old socket is let go: no gap,
and the repeats are dropped by the decoder.

Conversations are given, or discovered from the topics of queues and users; a discovered one is
subscribed at once and forgotten some time after its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from steno.core.failover import End, Failover
from steno.errors import (
    AuthError,
    ConfigError,
    ConnectFailed,
    ObjectMissing,
    RateLimited,
    StenoError,
    TimedOut,
)
from steno.feeds.bookkeeping import Timing
from steno.feeds.notifications_connection import (
    Common,
    NotificationsConnection,
    NotificationsSettings,
)
from steno.ports import (
    DialRequest,
    FeedDown,
    FeedTarget,
    FeedUp,
    SocketDialer,
    Telemetry,
    TokenSource,
)
from steno.wire.notifications import (
    PERMISSION,
    SOURCE,
    ChannelLife,
    Discovered,
    Subscriptions,
    queue_topic,
    transcription_topic,
    user_topic,
)
from steno.wire.notifications_rest import ChannelInfo, SubscriptionState
from steno.wire.participants import Roster

__all__ = ["ChannelApi", "NotificationsFeed", "NotificationsSettings", "Timing", "Watcher"]

T = TypeVar("T")


class ChannelApi(Protocol):
    """The REST calls a channel needs."""

    async def create_channel(self) -> ChannelInfo:
        """Return a new channel."""

    async def subscribe(
        self, channel_id: str, topics: Sequence[str], *, replace: bool = False
    ) -> list[SubscriptionState]:
        """Add topics, or replace them all.

        Raises:
            ObjectMissing: The channel is gone.
        """

    async def channel_alive(self, channel_id: str) -> bool:
        """Tell whether the platform still has the channel."""

    async def delete_subscriptions(self, channel_id: str) -> None:
        """Remove every topic of a channel."""


class Watcher(Protocol):
    """Who is told of participants and ends; neither method awaits or raises."""

    def seen(self, roster: Roster) -> None:
        """A queue's or user's topic told who takes part in a conversation."""

    def ended(self, conversation: str) -> None:
        """A conversation, or one of its communications, is over."""


@dataclass(slots=True)
class _Found:
    """A discovered conversation."""

    heard_at: float
    ended_at: float | None = None


class NotificationsFeed:
    """A ``LiveFeed`` of notification channels.

    Args:
        api: The REST side.
        host: Name of the platform's host, for logs and records.
        dialer: Opens sockets.
        timing: Clocks and chance.
        telemetry: Logs and metrics.
        tokens: Where ``api`` has its tokens from; watched, because a channel ends with the
            token that made it.
        conversations: To follow from the start.
        queues: Queues whose calls are followed.
        users: Users whose calls are followed.
        settings: Limits.
        watcher: Told of the participants in what is read anyway.

    Raises:
        ConfigError: Nothing to follow, or more than the platform's channels can hold.
    """

    def __init__(
        self,
        api: ChannelApi,
        *,
        host: str,
        dialer: SocketDialer,
        timing: Timing,
        telemetry: Telemetry,
        tokens: TokenSource | None = None,
        conversations: Sequence[str] = (),
        queues: Sequence[str] = (),
        users: Sequence[str] = (),
        settings: NotificationsSettings | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        given = settings or NotificationsSettings()
        self.api = api
        self.common = Common(
            dialer=dialer,
            timing=timing,
            telemetry=telemetry,
            settings=given,
            host=host,
            rosters=watcher is not None,
        )
        self._watcher = watcher
        self.tokens = tokens
        self.subscriptions = Subscriptions(topics=given.topics_per_channel, channels=given.channels)
        self.ever_up = False
        self._given = frozenset(conversations)
        self._found: dict[str, _Found] = {}
        self._channels: dict[int, _Channel] = {}
        self._group: asyncio.TaskGroup | None = None
        self._house: asyncio.Task[None] | None = None
        self._target: FeedTarget | None = None
        discovery = [*map(queue_topic, queues), *map(user_topic, users)]
        self._discovery = frozenset(discovery)
        for topic in [*discovery, *map(transcription_topic, conversations)]:
            self.subscriptions.add(topic)
        if not len(self.subscriptions):
            raise ConfigError(
                "the notifications source needs something to follow",
                setting="live.queues",
                fix="Set live.queues, live.users or live.conversations.",
            )

    @property
    def connected(self) -> int:
        """Number of sockets that are open now."""
        return sum(one.connected for one in self._channels.values())

    async def run(self, target: FeedTarget) -> None:
        """Follow until ``close``; see ``LiveFeed.run``.

        Raises:
            AuthError: The platform refused us before anything was ever connected.
        """
        self._target = target
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._house = group.create_task(self._keep_house(), name=f"{SOURCE}-house")
                for index in range(self.subscriptions.channels_used):
                    self._channel(index)
        except* StenoError as errors:
            raise _first(errors) from None
        finally:
            self._group = None

    async def close(self) -> None:
        """Close the sockets with 1000 and let ``run`` return."""
        self.common.closing.set()
        if self._house is not None:
            self._house.cancel()
        for one in self._channels.values():
            one.stop()

    # --- conversations -----------------------------------------------------------------------

    def discovered(self, message: Discovered, *, now: float) -> None:
        """Follow a conversation that a queue or user has; note its end."""
        if self._watcher is not None and message.roster is not None:
            self._watcher.seen(message.roster)
        found = self._found.get(message.conversation)
        if message.ended:
            if found is not None and found.ended_at is None:
                found.ended_at = now
                if self._watcher is not None:
                    self._watcher.ended(message.conversation)
            return
        if found is not None:
            found.ended_at = None
            found.heard_at = now
            return
        if message.conversation in self._given:
            return
        try:
            index = self.subscriptions.add(transcription_topic(message.conversation))
        except ConfigError as exc:
            if self.common.log_budget.take(now) is not None:
                self.common.telemetry.error(
                    "live.channels_full", count=len(self._found), error_class=exc.error_class
                )
            return
        self._found[message.conversation] = _Found(now)
        self._channel(index).topics_changed()

    def heard(self, conversation: str, *, now: float) -> None:
        """Take note that a conversation's transcript is alive."""
        found = self._found.get(conversation)
        if found is not None:
            found.heard_at = now

    def transcript_ended(self, conversation: str, *, now: float) -> None:
        """Take note that one communication is over: the conversation may go on with another."""
        self.heard(conversation, now=now)
        if self._watcher is not None:
            self._watcher.ended(conversation)

    def conversations_on(self, index: int) -> tuple[str, ...]:
        """Return the conversations of a channel; empty when it may bring any (discovery)."""
        topics = self.subscriptions.on(index)
        if any(topic in self._discovery for topic in topics):
            return ()
        return tuple(topic.split(".")[2] for topic in topics)

    def _forget_old(self, now: float) -> None:
        settings = self.common.settings
        for conversation, found in list(self._found.items()):
            ended = found.ended_at is not None and now - found.ended_at > settings.ended_grace_s
            if ended or now - found.heard_at > settings.quiet_limit_s:
                del self._found[conversation]
                index = self.subscriptions.remove(transcription_topic(conversation))
                if index is not None:
                    self._channel(index).topics_changed()

    # --- housekeeping ------------------------------------------------------------------------

    def _channel(self, index: int) -> _Channel:
        channel = self._channels.get(index)
        if channel is None:
            channel = self._channels[index] = _Channel(self, index)
            if self._group is not None and self._target is not None:
                self._group.create_task(channel.run(self._target), name=channel.feed)
        return channel

    async def _keep_house(self) -> None:
        common = self.common
        while not common.closing.is_set():
            try:
                async with asyncio.timeout(common.settings.housekeeping_s):
                    await common.closing.wait()
            except TimeoutError:
                pass
            self._forget_old(common.timing.now())
            token = await self._current_token()
            for channel in self._channels.values():
                channel.receive_token(token)

    async def _current_token(self) -> str:
        if self.tokens is None:
            return ""
        try:
            async with asyncio.timeout(self.common.settings.api_limit_s):
                return await self.tokens.token()
        except (StenoError, TimeoutError):
            return ""  # the token source tells of it itself; the next round asks again

    async def new_channel(self) -> tuple[ChannelInfo, ChannelLife]:
        """Return a new channel and its life.

        Raises:
            StenoError: It could not be made.
        """
        common = self.common
        token = await self._current_token()
        info = await self.limited(self.api.create_channel())
        lasts_s = 0.0
        if info.expires_at_us:
            lasts_s = (info.expires_at_us - common.timing.utc_us()) / 1e6
        timing = common.timing
        life = ChannelLife(timing.now(), lasts_s=lasts_s, draw=timing.draw(), token=token)
        return info, life

    async def limited(self, call: Awaitable[T]) -> T:
        """Await a REST call under the limit.

        Raises:
            TimedOut: No answer in time.
        """
        try:
            async with asyncio.timeout(self.common.settings.api_limit_s):
                return await call
        except TimeoutError:
            raise TimedOut("no answer from the platform in time", host=self.common.host) from None


def _first(errors: BaseExceptionGroup[StenoError]) -> StenoError:
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


@dataclass(slots=True)
class _Made:
    """A channel of the platform, and the topics it has."""

    info: ChannelInfo
    life: ChannelLife
    subscribed: frozenset[str] = frozenset()


class _Channel:
    """Keeps one channel made, subscribed and connected."""

    def __init__(self, feed: NotificationsFeed, index: int) -> None:
        self.feed = f"{SOURCE}-{index}"
        self._owner = feed
        self._index = index
        self._common = feed.common
        self._made: _Made | None = None
        self._current: NotificationsConnection | None = None
        self._signal = asyncio.Event()
        self._sync_at: float | None = None
        self._replace_at = 0.0
        self._working: asyncio.Task[Any] | None = None  # Any: of one kind of work or another
        self._burials = asyncio.TaskGroup()
        self._failover = Failover(1, self._common.settings.failover, now=self._common.timing.now())

    @property
    def connected(self) -> bool:
        """Whether the socket is open now."""
        return self._current is not None

    def stop(self) -> None:
        """Look again: the feed is closing."""
        self._signal.set()
        if self._working is not None:
            self._working.cancel()

    def topics_changed(self) -> None:
        """Subscribe soon, together with what comes until then."""
        if self._sync_at is None:
            self._sync_at = self._common.timing.now() + self._common.settings.gather_s
            self._signal.set()

    def receive_token(self, token: str) -> None:
        """Take note of the token in use."""
        if token and self._made is not None:
            self._made.life.receive_token(token, now=self._common.timing.now())
            self._signal.set()

    async def run(self, target: FeedTarget) -> None:
        """Keep connected until the feed closes.

        Raises:
            AuthError: See ``NotificationsFeed.run``.
        """
        async with asyncio.TaskGroup() as self._burials:
            while not self._common.closing.is_set():
                await self._sleep(self._failover.next_dial().at)
                if self._common.closing.is_set():
                    return
                if self._common.timing.now() < self._failover.next_dial().at:
                    continue
                connection = await self._try(target)
                if connection is not None:
                    await self._follow(connection, target)

    # --- connecting --------------------------------------------------------------------------

    async def _try(self, target: FeedTarget) -> NotificationsConnection | None:
        try:
            connection = await self._stoppable(self._connect(target))
        except StenoError as exc:
            self._note_failure(exc)
            return None
        if connection is None:
            return None
        self._failover.connected(self._common.timing.now())
        self._owner.ever_up = True
        return connection

    async def _stoppable(self, work: Coroutine[None, None, T]) -> T | None:
        """Await work that waits for the platform; None when ``close`` has stopped it."""
        task = asyncio.create_task(work, name=f"{self.feed}-work")
        self._working = task
        try:
            return await task
        except asyncio.CancelledError:
            if self._common.closing.is_set() and task.cancelled():
                return None  # nobody stopped us ourselves
            if task.done() and not task.cancelled() and task.exception() is None:
                result = task.result()
                if isinstance(result, NotificationsConnection):
                    result.abort()  # we were stopped in the moment of its success
            raise

    async def _connect(self, target: FeedTarget) -> NotificationsConnection:
        if self._made is None:
            self._made = _Made(*await self._owner.new_channel())
        try:
            await self._sync(self._made)
            return await self._dial(self._made, target)
        except ObjectMissing:
            self._made = None
            raise ConnectFailed("the channel is gone", host=self._common.host) from None

    async def _dial(self, made: _Made, target: FeedTarget) -> NotificationsConnection:
        """Return an open connection, not reading yet.

        Raises:
            ObjectMissing: The upgrade was refused: the channel is gone.
            TransportError: Anything else.
        """
        common = self._common
        limit_s = common.settings.handshake_limit_s
        request = DialRequest(
            made.info.connect_uri, common.host, timeout_s=limit_s, connect_timeout_s=limit_s
        )
        connection = NotificationsConnection(common, self._owner, target, self._signal.set)
        try:
            connection.socket = await common.dialer.dial(request, connection)
        except RateLimited:
            raise
        except StenoError as exc:
            # The channel's address is its credential: a refused upgrade says nothing about the
            # client, only that the address is good no more.
            status = exc.fields.get("status")
            if status is not None and status != 407 and not _is_server_error(status):
                raise ObjectMissing("the channel is gone", host=common.host) from None
            if await self._is_gone(made):
                raise ObjectMissing("the channel is gone", host=common.host) from None
            raise
        return connection

    async def _is_gone(self, made: _Made) -> bool:
        try:
            return not await self._owner.limited(self._owner.api.channel_alive(made.info.id))
        except StenoError:
            return False

    async def _sync(self, made: _Made) -> None:
        """Bring the channel's topics in line with ours.

        Raises:
            ObjectMissing: The channel is gone.
            AuthError: None of the topics is permitted, and nothing was ever connected.
        """
        self._sync_at = None
        topics = self._owner.subscriptions.on(self._index)
        wanted = frozenset(topics)
        if wanted == made.subscribed:
            return
        replace = bool(made.subscribed - wanted)
        missing = topics if replace else [one for one in topics if one not in made.subscribed]
        call = self._owner.api.subscribe(made.info.id, missing, replace=replace)
        states = await self._owner.limited(call)
        made.subscribed = wanted
        self._report_refused(states, asked=len(missing))

    def _report_refused(self, states: Sequence[SubscriptionState], *, asked: int) -> None:
        refused = [one for one in states if not one.permitted]
        if not refused:
            return
        missing = sorted({name for one in refused for name in one.missing_permissions})
        self._common.telemetry.error(
            "live.topics_refused",
            feed=self.feed,
            host=self._common.host,
            count=len(refused),
            cause=" ".join(missing) or refused[0].reason,
        )
        if len(refused) >= asked and not self._owner.ever_up:
            names = ", ".join(missing) or PERMISSION
            raise AuthError(
                "none of the topics is permitted",
                fix=f"Give the OAuth client a role with {names}.",
                host=self._common.host,
                count=len(refused),
            )

    def _note_failure(self, exc: StenoError) -> None:
        common = self._common
        if isinstance(exc, AuthError):
            end = End.REFUSED
            common.telemetry.error(
                "live.refused",
                feed=self.feed,
                host=common.host,
                error_class=exc.error_class,
                status=exc.fields.get("status"),
            )
            if not self._owner.ever_up:
                raise exc
        else:
            end = End.THROTTLED if isinstance(exc, RateLimited) else End.LOST
            common.telemetry.warning(
                "live.dial_failed",
                feed=self.feed,
                host=common.host,
                error_class=exc.error_class,
                status=exc.fields.get("status"),
            )
        wait_s = exc.fields.get("retry_after_s")
        self._failover.ended(
            end,
            now=common.timing.now(),
            draw=common.timing.draw(),
            retry_after_s=float(wait_s) if isinstance(wait_s, int | float) else None,
        )

    # --- following ---------------------------------------------------------------------------

    async def _follow(self, connection: NotificationsConnection, target: FeedTarget) -> None:
        common = self._common
        common.telemetry.info("live.connected", feed=self.feed, host=common.host)
        up = FeedUp(self.feed, common.host, common.timing.utc_us(), self._conversations())
        self._current = connection
        try:
            await common.give(target, up)
            connection.start()
            end = await self._watch(target)
        finally:
            last, self._current = self._current, None
            self._bury(last, 0.0)
        if common.closing.is_set():
            return
        if end is End.REFUSED:
            self._made = None  # closed with 1008 and its like: this channel is not ours any more
            end = End.LOST
        self._failover.ended(end, now=common.timing.now(), draw=common.timing.draw())
        common.reconnects(1)
        await common.give(target, self._down(last))

    async def _watch(self, target: FeedTarget) -> End:
        """Serve the current connection, replacing it when asked to, until there is none."""
        while True:
            connection, made = self._current, self._made
            if connection is None or made is None:
                return End.LOST
            if connection.paused:
                await connection.drain()
            if connection.end is not None:
                return connection.end
            if self._common.closing.is_set():
                return End.ASKED
            self._signal.clear()
            if connection.judge():
                return End.SILENT
            if await self._work(connection, made, target):
                continue
            await self._sleep(self._next_deadline(connection, made), clear=False)

    async def _work(
        self, connection: NotificationsConnection, made: _Made, target: FeedTarget
    ) -> bool:
        """Do what is due; True when something was done and all is to be looked at again."""
        now = self._common.timing.now()
        if now >= self._replace_at and (connection.closing_soon or made.life.due(now)):
            await self._stoppable(self._replace(connection, made, target))
            return True
        if self._sync_at is not None and now >= self._sync_at:
            await self._stoppable(self._sync_again(made))
            return True
        return False

    async def _sync_again(self, made: _Made) -> None:
        try:
            await self._sync(made)
        except ObjectMissing:
            self._made = None
        except StenoError as exc:
            self._sync_at = self._common.timing.now() + self._common.settings.retry_s
            self._note_retry("subscribe", exc)

    async def _replace(
        self, connection: NotificationsConnection, made: _Made, target: FeedTarget
    ) -> None:
        """Make before break: connect the successor, then let the old one go."""
        common = self._common
        rollover = made.life.due(common.timing.now())
        try:
            successor = made
            if rollover:
                successor = _Made(*await self._owner.new_channel())
                await self._sync(successor)
            following = await self._dial(successor, target)
        except ObjectMissing:
            self._replace_at = common.timing.now() + common.settings.retry_s
            if not rollover:
                made.life.rollover_at = 0.0  # the address is good no more: a new channel
            return
        except StenoError as exc:
            self._replace_at = common.timing.now() + common.settings.retry_s
            self._note_retry("replace", exc)
            return
        following.start()
        self._current, self._made = following, successor
        self._replace_at = 0.0
        common.rollovers(1)
        cause = "rollover" if rollover else "socket_closing"
        common.telemetry.info("live.channel_replaced", feed=self.feed, cause=cause)
        self._bury(connection, common.settings.overlap_s, made if rollover else None)

    def _note_retry(self, action: str, exc: StenoError) -> None:
        self._common.telemetry.warning(
            "live.channel_call_failed",
            feed=self.feed,
            action=action,
            error_class=exc.error_class,
            retry_s=self._common.settings.retry_s,
        )

    def _bury(
        self, connection: NotificationsConnection | None, after_s: float, made: _Made | None = None
    ) -> None:
        if connection is None:
            return
        burial = self._burials.create_task(
            self._let_go(connection, after_s, made), name=f"{self.feed}-close"
        )
        # A task cancelled before its first step runs nothing of its own.
        burial.add_done_callback(lambda _: connection.abort())

    async def _let_go(
        self, connection: NotificationsConnection, after_s: float, made: _Made | None
    ) -> None:
        try:
            async with asyncio.timeout(after_s):
                await self._common.closing.wait()
        except TimeoutError:
            pass
        await connection.close()
        if made is None:
            return
        try:  # the old channel counts against the twenty until its day is over
            await self._owner.limited(self._owner.api.delete_subscriptions(made.info.id))
        except StenoError as exc:
            self._note_retry("let_go", exc)

    def _next_deadline(self, connection: NotificationsConnection, made: _Made) -> float:
        due = max(made.life.rollover_at, self._replace_at)
        deadlines = [due, connection.liveness.next_deadline(), self._sync_at]
        if connection.closing_soon:
            deadlines.append(self._replace_at)
        return min(one for one in deadlines if one is not None)

    async def _sleep(self, deadline: float, *, clear: bool = True) -> None:
        if clear:
            self._signal.clear()
        wait_s = max(0.0, deadline - self._common.timing.now())
        try:
            async with asyncio.timeout(wait_s):
                await self._signal.wait()
        except TimeoutError:
            pass

    def _conversations(self) -> tuple[str, ...]:
        return self._owner.conversations_on(self._index)

    def _down(self, last: NotificationsConnection | None) -> FeedDown:
        common = self._common
        code = 0 if last is None else last.code
        now_us = common.timing.utc_us()
        common.telemetry.info(
            "live.disconnected",
            feed=self.feed,
            host=common.host,
            cause="disconnect",
            close_code=code,
            frames=0 if last is None else last.frames,
        )
        since_us = now_us if last is None else last.whole_us
        conversations = self._conversations()
        return FeedDown(self.feed, common.host, "disconnect", since_us, now_us, conversations, code)


def _is_server_error(status: object) -> bool:
    return isinstance(status, int) and status >= 500
