"""Keeping sockets connected: dialling, failing over, returning, and telling where gaps are.

``SocketLinks`` runs one ``_Link`` for each socket of a feed. A link owns the choice of the host
(``core.failover``), dials, and follows one ``Connection`` until it ends:

    token -> dial -> settle -> FeedUp -> messages -> target.accept -> end -> FeedDown -> wait -> …

While it is connected to the backup it also opens an idle connection to the primary now and
then. When that one has held for a while, or the backup dies first, the link changes over to
it without a moment unconnected.

A token that is renewed meanwhile does not touch a connection: it is used by the next dial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from steno.core.failover import PRIMARY, End, Failover
from steno.errors import AuthError, ConfigError, StenoError, TimedOut
from steno.feeds.dialect import Endpoint
from steno.feeds.stream_connection import Connection, Shared, end_of_error
from steno.ports import FeedDown, FeedTarget, FeedUp, FieldValue

UNAUTHORISED = 401
TOKEN_ENDED = 4401


class SocketLinks:
    """The sockets of one feed.

    Args:
        shared: What they have in common.
        plan: For each socket its name and the conversations it follows; none follows all.
    """

    def __init__(self, shared: Shared, plan: Sequence[tuple[str, tuple[str, ...]]]) -> None:
        self._shared = shared
        self._links = [_Link(shared, feed, wanted) for feed, wanted in plan]

    @property
    def connected(self) -> int:
        """Number of sockets that are up now."""
        return sum(link.connected for link in self._links)

    async def run(self, target: FeedTarget) -> None:
        """Follow until ``close``; see ``LiveFeed.run``.

        Raises:
            AuthError: Every socket was refused by every host before any was ever up.
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
            AuthError: See ``SocketLinks.run``.
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
        explained = self._shared.dialect.explained
        try:
            return await self._dial_with(host, token)
        except AuthError as exc:
            if not _token_refused(exc):
                raise explained(exc) from None
        # Revoked or ended early: once more at once with another one, and no more than once.
        token = await self._token(endpoint, refused=token)
        try:
            return await self._dial_with(host, token)
        except AuthError as exc:
            raise explained(exc) from None

    async def _token(self, endpoint: Endpoint, *, refused: str = "") -> str:
        try:
            async with asyncio.timeout(self._shared.settings.token_limit_s):
                return await endpoint.tokens.token(refused=refused)
        except TimeoutError:
            raise TimedOut("no token in time", host=endpoint.name) from None

    async def _dial_with(self, host: int, token: str) -> Connection:
        shared = self._shared
        settings, endpoint = shared.settings, shared.endpoints[host]
        alone = len(shared.endpoints) == 1
        request_id = shared.request_id()
        request = msgspec.structs.replace(
            shared.dialect.request(endpoint, token, self._wanted, request_id),
            timeout_s=settings.handshake_limit_s,
            connect_timeout_s=settings.handshake_limit_s if alone else settings.connect_limit_s,
        )
        connection = Connection(shared, host, self._wanted, token=token, request_id=request_id)
        try:
            connection.socket = await shared.dialer.dial(request, connection)
            await connection.open()
        except BaseException as exc:
            if connection.socket is not None:
                self._bury(connection)
            if isinstance(exc, StenoError) and request_id and not exc.fields.get("correlation_id"):
                exc.fields["correlation_id"] = request_id  # the host named none: then our own
            raise
        return connection

    def _note_failure(self, host: int, exc: StenoError, total: int) -> None:
        shared = self._shared
        refused = isinstance(exc, AuthError)
        tell = shared.telemetry.error if refused else shared.telemetry.warning
        tell(
            "live.refused" if refused else "live.dial_failed",
            feed=self.feed,
            host=shared.endpoints[host].name,
            error_class=exc.error_class,
            **_facts(exc),
        )
        if isinstance(exc, AuthError):
            shared.refusals[self.feed, host] = exc
            if not shared.ever_up and len(shared.refusals) == total * len(shared.endpoints):
                raise exc
        self._ended(end_of_error(exc), retry_after_s=_retry_after(exc))

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
                end = end_of_error(exc)
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
            if _token_ended(connection) and lasted_s >= stable_s:
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
                    **({"close_code": connection.code or None} | _facts(connection.refusal)),
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
            **({"correlation_id": connection.request_id or None} | _facts(connection.refusal)),
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


def _facts(exc: StenoError | None) -> dict[str, FieldValue]:
    """Return what the peer said of a failure, as far as it said anything."""
    if exc is None:
        return {}
    wanted = ("action", "status", "code", "correlation_id", "close_code")
    return {key: exc.fields[key] for key in wanted if exc.fields.get(key) is not None}


def _token_refused(exc: AuthError) -> bool:
    status, close_code = exc.fields.get("status"), exc.fields.get("close_code")
    return status == UNAUTHORISED or close_code == TOKEN_ENDED


def _token_ended(connection: Connection) -> bool:
    refusal = connection.refusal
    return connection.code == TOKEN_ENDED or (
        isinstance(refusal, AuthError) and _token_refused(refusal)
    )


def _retry_after(exc: StenoError) -> float | None:
    wait_s = exc.fields.get("retry_after_s")
    return float(wait_s) if isinstance(wait_s, int | float) else None
