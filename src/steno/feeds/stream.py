"""The tutorials' transcript stream as a live feed: sockets that come back by themselves.

``TranscriptStreamFeed`` runs one ``_Link`` for each socket. A link owns the choice of the host
(``core.failover``), dials, and follows one ``Connection`` until it ends:

    token -> dial -> FeedUp -> frames -> target.accept -> end -> FeedDown -> wait -> token -> …

While it is connected to the backup it also opens an idle connection to the primary now and
then. When that one has held for a while, or the backup dies first, the link changes over to
it without a moment unconnected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from steno.core.failover import PRIMARY, End, Failover
from steno.errors import AuthError, ConfigError, RateLimited, StenoError, TimedOut
from steno.feeds.stream_connection import Connection, Endpoint, Shared, StreamSettings, Timing
from steno.ports import (
    DialRequest,
    FeedDown,
    FeedTarget,
    FeedUp,
    SocketDialer,
    Telemetry,
)
from steno.wire.transcript_stream import HEADERS, READ_SCOPE, SOURCE, SUBPROTOCOL, stream_url

__all__ = ["Endpoint", "StreamSettings", "Timing", "TranscriptStreamFeed", "spread"]

UNAUTHORISED = 401
TOKEN_ENDED = 4401


def spread(conversations: Sequence[str], sockets: int) -> list[tuple[str, ...]]:
    """Return which conversations each socket follows; an empty tuple follows all there are.

    The address takes one conversation id. A socket with several takes the whole stream and
    keeps its own; so sockets never outnumber conversations, and one each is the cheapest.
    """
    wanted = list(dict.fromkeys(conversations))
    if not wanted:
        return [()] * sockets
    lists: list[list[str]] = [[] for _ in range(min(sockets, len(wanted)))]
    for index, conversation in enumerate(wanted):
        lists[index % len(lists)].append(conversation)
    return [tuple(one) for one in lists]


class TranscriptStreamFeed:
    """A ``LiveFeed`` of the transcript stream.

    Args:
        endpoints: Primary first, then the backup if there is one.
        conversations: To follow; empty follows all.
        sockets: Connections side by side, see ``spread``.
        dialer: Opens sockets.
        timing: Clocks and chance.
        telemetry: Logs and metrics.
        settings: Limits.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        dialer: SocketDialer,
        timing: Timing,
        telemetry: Telemetry,
        conversations: Sequence[str] = (),
        sockets: int = 1,
        settings: StreamSettings | None = None,
    ) -> None:
        if not endpoints:
            raise ConfigError("no host to listen to", setting="platform.host")
        self._shared = Shared(
            tuple(endpoints), dialer, timing, telemetry, settings or StreamSettings()
        )
        plan = spread(conversations, sockets)
        self._links = [
            _Link(self._shared, SOURCE if len(plan) == 1 else f"{SOURCE}-{index}", wanted)
            for index, wanted in enumerate(plan)
        ]

    @property
    def connected(self) -> int:
        """Number of sockets that are open now."""
        return sum(link.connected for link in self._links)

    async def run(self, target: FeedTarget) -> None:
        """Follow until ``close``; see ``LiveFeed.run``.

        Raises:
            AuthError: Every socket was refused by every host before any was ever connected.
            ConfigError: An address can never work.
        """
        self._shared.refusals = {}
        try:
            async with asyncio.TaskGroup() as group:
                for link in self._links:
                    group.create_task(link.run(target, total=len(self._links)), name=link.feed)
        except* StenoError as errors:
            raise _first(errors) from None

    async def close(self) -> None:
        """Close the sockets with 1000 and let ``run`` return."""
        self._shared.closing.set()
        for link in self._links:
            link.wake()


def _first(errors: BaseExceptionGroup[StenoError]) -> StenoError:
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


# --- one socket's life -----------------------------------------------------------------------


class _Link:
    """Keeps one socket connected: dials, follows, fails over, and returns to the primary."""

    def __init__(self, shared: Shared, feed: str, wanted: tuple[str, ...]) -> None:
        self.feed = feed
        self._shared = shared
        self._wanted = wanted
        self._in_url = wanted[0] if len(wanted) == 1 else ""
        self._current: Connection | None = None
        self._idle: Connection | None = None
        self._ended_tokens: dict[int, str] = {}
        self._dialling: asyncio.Task[Connection] | None = None
        self._wake = asyncio.Event()
        self._burials = asyncio.TaskGroup()
        policy = shared.settings.failover
        self._failover = Failover(len(shared.endpoints), policy, now=shared.timing.now())

    @property
    def connected(self) -> bool:
        """Whether the socket is open now."""
        return self._current is not None

    def wake(self) -> None:
        """Look again whether the feed is closing."""
        self._wake.set()
        if self._dialling is not None:
            self._dialling.cancel()
        for connection in (self._current, self._idle):
            if connection is not None:
                connection.wake()

    async def run(self, target: FeedTarget, *, total: int) -> None:
        """Keep connected until the feed closes.

        Raises:
            AuthError: See ``TranscriptStreamFeed.run``.
            ConfigError: An address can never work.
        """
        # Closing takes a handshake; the group lets the next dial start meanwhile.
        async with asyncio.TaskGroup() as self._burials:
            while not self._shared.closing.is_set():
                await self._wait_until(self._failover.next_dial().at)
                if self._shared.closing.is_set():
                    return
                connection = await self._try(self._failover.next_dial().host, total)
                if connection is not None:
                    await self._follow(connection, target)

    async def _try(self, host: int, total: int) -> Connection | None:
        shared = self._shared
        dialling = self._dialling = asyncio.create_task(self._dial(host), name=f"{self.feed}-dial")
        try:
            connection = await dialling
        except asyncio.CancelledError:
            if shared.closing.is_set() and dialling.cancelled():
                return None  # ``close`` stopped the dial, nobody stopped us
            if dialling.done() and not dialling.cancelled() and dialling.exception() is None:
                dialling.result().abort()  # we were stopped in the moment of its success
            raise
        except ConfigError:
            raise
        except StenoError as exc:
            self._note_failure(host, exc, total)
            return None
        self._failover.connected(shared.timing.now())
        shared.ever_up = True
        return connection

    # --- dialling ----------------------------------------------------------------------------

    async def _dial(self, host: int) -> Connection:
        """Return an open connection, not reading yet.

        Raises:
            StenoError: No token, or no connection.
        """
        endpoint = self._shared.endpoints[host]
        token = await self._token(endpoint, refused=self._ended_tokens.pop(host, ""))
        try:
            return await self._dial_with(host, token)
        except AuthError as exc:
            if exc.fields.get("status") != UNAUTHORISED:
                raise _named(exc) from None
        # Revoked or ended early: once more at once with another one, and no more than once.
        token = await self._token(endpoint, refused=token)
        try:
            return await self._dial_with(host, token)
        except AuthError as exc:
            raise _named(exc) from None

    async def _token(self, endpoint: Endpoint, *, refused: str = "") -> str:
        try:
            async with asyncio.timeout(self._shared.settings.token_limit_s):
                return await endpoint.tokens.token(refused=refused)
        except TimeoutError:
            raise TimedOut("no token in time", host=endpoint.name) from None

    async def _dial_with(self, host: int, token: str) -> Connection:
        settings, endpoint = self._shared.settings, self._shared.endpoints[host]
        alone = len(self._shared.endpoints) == 1
        request = DialRequest(
            stream_url(endpoint.ws_base, token, self._in_url),
            endpoint.name,
            subprotocol=SUBPROTOCOL,
            headers=HEADERS,
            timeout_s=settings.handshake_limit_s,
            connect_timeout_s=settings.handshake_limit_s if alone else settings.connect_limit_s,
        )
        connection = Connection(self._shared, host, self._wanted, token)
        connection.socket = await self._shared.dialer.dial(request, connection)
        return connection

    def _note_failure(self, host: int, exc: StenoError, total: int) -> None:
        shared = self._shared
        name = shared.endpoints[host].name
        status = exc.fields.get("status")
        if isinstance(exc, AuthError):
            shared.telemetry.error(
                "live.refused",
                feed=self.feed,
                host=name,
                error_class=exc.error_class,
                status=status,
            )
            shared.refusals[self.feed, host] = exc
            if not shared.ever_up and len(shared.refusals) == total * len(shared.endpoints):
                raise exc
        else:
            shared.telemetry.warning(
                "live.dial_failed",
                feed=self.feed,
                host=name,
                error_class=exc.error_class,
                status=status,
            )
        self._ended(_end_of_error(exc), retry_after_s=_retry_after(exc))

    def _ended(self, end: End, *, retry_after_s: float | None = None) -> None:
        timing = self._shared.timing
        before = self._failover.host
        self._failover.ended(end, now=timing.now(), draw=timing.draw(), retry_after_s=retry_after_s)
        if self._failover.host != before:
            self._note_switch(before, self._failover.host)

    def _note_switch(self, before: int, after: int) -> None:
        names = [endpoint.name for endpoint in self._shared.endpoints]
        self._shared.failovers(1)
        self._shared.telemetry.warning(
            "live.failed_over", feed=self.feed, host=names[after], previous_host=names[before]
        )

    async def _wait_until(self, at: float) -> None:
        timing = self._shared.timing
        while not self._shared.closing.is_set():
            left_s = at - timing.now()
            if left_s <= 0:
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    # --- following ---------------------------------------------------------------------------

    async def _follow(self, connection: Connection, target: FeedTarget) -> None:
        """Follow connections until there is none: each may be followed by a promoted one."""
        following: Connection | None = connection
        while following is not None:
            following = await self._follow_one(following, target)

    async def _follow_one(self, connection: Connection, target: FeedTarget) -> Connection | None:
        self._current = connection
        successor: Connection | None = None
        end = End.LOST
        try:
            await self._start(connection, target)
            end, successor = await self._watch(connection)
        finally:
            self._current = successor
            if end is not End.ASKED:
                connection.target = None
            # When it is we who close, what the peer sends before it knows of that still counts.
            self._bury(connection)
        if self._shared.closing.is_set():
            return successor
        cause = self._settle(connection, end, successor)
        await self._shared.give(target, self._down(connection, cause))
        return successor

    def _bury(self, connection: Connection) -> None:
        burial = self._burials.create_task(connection.close(), name=f"{self.feed}-close")
        # A task cancelled before its first step runs nothing of its own.
        burial.add_done_callback(lambda _: connection.abort())

    async def _watch(self, connection: Connection) -> tuple[End, Connection | None]:
        """Return how the connection ended, and the idle one to the primary to go on with."""
        if connection.host == PRIMARY or len(self._shared.endpoints) == 1:
            return await connection.watch(), None
        watching = asyncio.create_task(connection.watch(), name=f"{self.feed}-watch")
        seeking = asyncio.create_task(self._seek_primary(), name=f"{self.feed}-seek")
        try:
            await asyncio.wait((watching, seeking), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                end = watching.result()
                idle = self._idle
                if end is End.ASKED or idle is None or idle.end is not None:
                    return end, None
                return end, self._take_idle()
            return End.ASKED, seeking.result()
        finally:
            for task in (watching, seeking):
                task.cancel()
            await asyncio.gather(watching, seeking, return_exceptions=True)
            self._drop_idle()

    def _drop_idle(self) -> None:
        idle = self._take_idle()
        if idle is not None:
            self._bury(idle)

    def _take_idle(self) -> Connection | None:
        """Return the idle connection; it belongs to the caller then."""
        idle, self._idle = self._idle, None
        return idle

    async def _seek_primary(self) -> Connection:
        """Return an idle connection to the primary that has held long enough."""
        timing = self._shared.timing
        while True:
            at = self._failover.probe_at()
            await self._wait_until(timing.now() + 1.0 if at is None else at)
            if at is None:
                continue
            end = End.LOST
            try:
                self._idle = await self._dial(PRIMARY)
                self._idle.start()
                async with asyncio.timeout(self._failover.hold_s):
                    end = await self._idle.watch()
            except TimeoutError:
                held = self._take_idle()
                if held is not None:
                    return held
            except ConfigError:
                raise
            except StenoError as exc:
                end = _end_of_error(exc)
            self._drop_idle()
            self._failover.probe_failed(end, now=timing.now(), draw=timing.draw())

    async def _start(self, connection: Connection, target: FeedTarget) -> None:
        shared = self._shared
        name = shared.endpoints[connection.host].name
        shared.telemetry.info("live.connected", feed=self.feed, host=name)
        up = FeedUp(self.feed, name, shared.timing.utc_us(), self._wanted)
        await shared.give(target, up)
        connection.target = target
        connection.start()

    def _settle(self, connection: Connection, end: End, successor: Connection | None) -> str:
        """Tell the choice of host what happened; return the gap's cause."""
        if successor is not None:
            before = self._failover.host
            self._failover.promoted(self._shared.timing.now())
            self._note_switch(before, PRIMARY)
            return "failover"
        if end is End.REFUSED:
            lasted_s = self._shared.timing.now() - connection.opened_at
            stable_s = self._shared.settings.failover.stable_s
            if connection.code == TOKEN_ENDED and lasted_s >= stable_s:
                # The token ended under a connection that had been good: another token deserves
                # a quick try. When that is refused as well, the wait is the long one.
                self._ended_tokens[connection.host] = connection.token
                end = End.LOST
            else:
                self._shared.telemetry.error(
                    "live.refused",
                    feed=self.feed,
                    host=self._shared.endpoints[connection.host].name,
                    error_class=AuthError.__name__,
                    close_code=connection.code,
                )
        before = self._failover.host
        self._ended(end)
        self._shared.reconnects(1)
        return "disconnect" if self._failover.host == before else "failover"

    def _down(self, connection: Connection, cause: str) -> FeedDown:
        shared = self._shared
        name = shared.endpoints[connection.host].name
        shared.telemetry.info(
            "live.disconnected",
            feed=self.feed,
            host=name,
            cause=cause,
            close_code=connection.code,
            frames=connection.frames,
            duration_s=round(shared.timing.now() - connection.opened_at, 3),
        )
        return FeedDown(
            self.feed,
            name,
            cause,
            connection.whole_us,
            shared.timing.utc_us(),
            self._wanted,
            connection.code,
        )


def _named(exc: AuthError) -> AuthError:
    """Return the refusal with the fix for this source in it."""
    status = exc.fields.get("status")
    if status == UNAUTHORISED:
        return exc
    fields = {key: value for key, value in exc.fields.items() if key != "scope"}
    return AuthError(
        "the transcript stream is not permitted",
        fix=f"Grant the OAuth client the scope {READ_SCOPE}, then ask for a new token.",
        scope=READ_SCOPE,
        **fields,
    )


def _end_of_error(exc: StenoError) -> End:
    if isinstance(exc, AuthError):
        return End.REFUSED
    if isinstance(exc, RateLimited):
        return End.THROTTLED
    return End.SILENT if isinstance(exc, TimedOut) else End.LOST


def _retry_after(exc: StenoError) -> float | None:
    wait_s = exc.fields.get("retry_after_s")
    return float(wait_s) if isinstance(wait_s, int | float) else None
