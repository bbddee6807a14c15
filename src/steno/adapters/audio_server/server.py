"""The server: listens, keeps the books of who is connected, and ends in order.

It decides about nothing but room: who may connect and what is said is the router's and its
handlers' matter. One connection's failure ends that connection and touches no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from steno.adapters.audio_server.peers import Proxies
from steno.adapters.audio_server.settings import ServerSettings, checked_address, networks
from steno.adapters.audio_server.ticks import Ticks
from steno.adapters.audio_server.tls import Certificates
from steno.adapters.audio_server.upgrade import Decision, Opening, Upgrade
from steno.errors import ConfigError, LocalProtocolError
from steno.ports import Add, Telemetry
from steno.ports.audio_server import Accept, Refuse, UpgradeRequest, UpgradeRouter

if TYPE_CHECKING:
    from steno.adapters.audio_server.connection import Connection

_TLS_LOOK_S: Final = 10.0
_LOG_EVERY_S: Final = 10.0
_BUSY: Final = (("Retry-After", "5"),)
_DRAINING: Final = Refuse(503, "shutting_down", headers=_BUSY)
_FULL: Final = Refuse(503, "full", headers=_BUSY)
_PEER_FULL: Final = Refuse(429, "too_many_from_here", headers=_BUSY)

_OPTIONS: Final = (
    # Inherited by accepted sockets. A peer that vanished without a word is noticed within about
    # a minute; one that takes nothing for half of that is gone, too.
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 20),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
)


class AudioServer:
    """Serves WebSocket connections from ``__aenter__`` to ``close`` or ``__aexit__``.

    Args:
        settings: How and where to listen.
        router: Decides about each upgrade.
        telemetry: Logs and metrics.
        tls_look_s: How often the certificate's files are looked at.

    Raises:
        ConfigError: The settings do not permit listening, or name files that cannot be used.
            ``__aenter__`` raises it, too, when the address is taken or not ours.
    """

    def __init__(
        self,
        settings: ServerSettings,
        router: UpgradeRouter,
        telemetry: Telemetry,
        *,
        tls_look_s: float = _TLS_LOOK_S,
    ) -> None:
        self._host, self._port = checked_address(settings)
        self._settings = settings
        self._router = router
        self._telemetry = telemetry
        self._tls_look_s = tls_look_s
        trusted = networks(settings.behind_proxy, setting="media.behind_proxy")
        self.proxies = Proxies(trusted)
        self._tls: Certificates | None = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            self._tls = Certificates(settings.tls_cert, settings.tls_key)
        self._ticks: Ticks | None = None
        self._hooks: list[Callable[[], None]] = []
        self._make: type[Connection] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._watch: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._address = (self._host, self._port)
        self._accepting = True
        self._ended = False
        self._upgrades: dict[Upgrade, None] = {}  # in the order of their arrival
        self._connections: set[Connection] = set()
        self._places = 0
        self._per_peer: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._logged: dict[str, tuple[float, int]] = {}
        self._refused: dict[str, Add] = {}
        self._open_gauge = telemetry.gauge("media_connections")
        self._opened = telemetry.counter("media_accepted")
        self._slow = telemetry.counter("media_slow_readers")
        self._broken = telemetry.counter("media_protocol_errors")

    # --- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        # Ninety milliseconds that a command which serves nothing need not spend.
        from steno.adapters.audio_server.connection import Connection

        self._make = Connection
        loop = asyncio.get_running_loop()
        self._ticks = Ticks(loop, self._settings.tick_s, self.handler_failed)
        for hook in self._hooks:
            self._ticks.every_tick(hook)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()  # before anybody can come and need a task
        self._server = await self._listen(loop)
        if self._tls is not None:
            self._watch = self._tasks.create_task(self._follow_certificate(self._tls))
        where = f"{self._address[0]}:{self._address[1]}"
        self._telemetry.info("media.listening", address=where)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.close(0.0)
        finally:
            for upgrade in tuple(self._upgrades):  # with the decisions they wait for
                upgrade.drop()
            if self._watch is not None:
                self._watch.cancel()
            if self._tasks is not None:
                await self._tasks.__aexit__(None, None, None)

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> asyncio.Server:
        try:
            server: asyncio.Server = await loop.create_server(
                lambda: Upgrade(self),
                self._host or None,
                self._port,
                ssl=None if self._tls is None else self._tls.context,
                backlog=self._settings.backlog,
                start_serving=False,
                ssl_handshake_timeout=None if self._tls is None else self._settings.handshake_s,
            )
        except OSError as exc:
            raise ConfigError(
                "the address cannot be listened on",
                setting="media.listen",
                fix="Choose another port, or an address of this machine.",
                error=type(exc).__name__,
            ) from None
        for listening in server.sockets:
            _set_options(listening, self._settings.receive_buffer_bytes)
        await server.start_serving()
        self._address = server.sockets[0].getsockname()[:2]
        return server

    async def _follow_certificate(self, tls: Certificates) -> None:
        while True:
            await asyncio.sleep(self._tls_look_s)
            try:
                if await asyncio.to_thread(tls.refresh):
                    self._telemetry.info("media.certificate_replaced")
            except ConfigError as error:
                self._telemetry.warning("media.certificate_unusable", error_class=error.error_class)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port listened on, once entered."""
        return self._address

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def every_tick(self, hook: Callable[[], None]) -> None:
        """See ``AudioTicks.every_tick``; may be called before the server is entered."""
        self._hooks.append(hook)
        if self._ticks is not None:
            self._ticks.every_tick(hook)

    def stop_accepting(self) -> None:
        """Answer further upgrades with 503; what is open goes on."""
        self._accepting = False

    async def close(self, timeout_s: float) -> None:
        """Stop listening; close what is open with 1001 and cut off what is not gone in time.

        Returns when every ``on_closed`` has been called.
        """
        self._accepting = False
        if self._ended:
            return
        self._ended = True
        if self._server is not None:
            self._server.close()
        for upgrade in tuple(self._upgrades):
            upgrade.refuse_now(_DRAINING)
        for connection in tuple(self._connections):
            connection.close(1001, "the server ends")
        await self._until_empty(timeout_s)
        for upgrade in tuple(self._upgrades):
            upgrade.drop()
        for connection in tuple(self._connections):
            connection.abort()
        await self._until_empty(self._settings.close_s)
        if self._ticks is not None:
            self._ticks.stop()

    async def _until_empty(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._upgrades or self._connections:
                    self._empty.clear()
                    await self._empty.wait()

    # --- what an upgrade needs (``upgrade.Gate``) --------------------------------------------

    @property
    def handshake_s(self) -> float:
        """Time for the request."""
        return self._settings.handshake_s

    @property
    def decision_s(self) -> float:
        """Time for the decision."""
        return self._settings.decision_s

    @property
    def close_s(self) -> float:
        """Time for an end."""
        return self._settings.close_s

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths there are; empty: the router says."""
        return self._settings.paths

    def entered(self, upgrade: Upgrade) -> bool:
        """Take note of a new TCP connection; False when too many are not yet accepted.

        Of those that have not said what they want, the oldest makes room: who connects and keeps
        silent must not keep others out.
        """
        if self._ended:
            return False
        if len(self._upgrades) >= self._settings.max_upgrading:
            self._count_refusal("too_many_upgrading")
            silent = next((one for one in self._upgrades if one.is_silent), None)
            if silent is None:
                return False
            del self._upgrades[silent]
            silent.drop()
        self._upgrades[upgrade] = None
        return True

    def left(self, upgrade: Upgrade) -> None:
        """Forget it."""
        self._upgrades.pop(upgrade, None)
        self._tell_empty()

    def reserve(self, peer: str) -> Refuse | None:
        """Keep a place for a connection, or say why there is none."""
        if not self._accepting:
            return _DRAINING
        if self._places >= self._settings.max_connections:
            return _FULL
        limit = self._settings.max_per_peer
        if limit and self._per_peer[peer] >= limit:
            return _PEER_FULL
        self._places += 1
        self._per_peer[peer] += 1
        return None

    def release(self, peer: str) -> None:
        """Give a place back."""
        self._places -= 1
        self._per_peer[peer] -= 1
        if not self._per_peer[peer]:
            del self._per_peer[peer]

    def decide(self, request: UpgradeRequest) -> Decision | Awaitable[Decision]:
        """Ask the router; its exceptions become a refusal."""
        try:
            return self._router.decide(request)
        except Exception as exc:  # noqa: BLE001 - whatever the router raises is its own
            self.handler_failed(exc)
            return Refuse(500, "internal")

    def spawn(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run something as a task of the server's; what it raises is reported, no more."""

        async def guarded() -> None:
            try:
                await work()
            except Exception as exc:  # noqa: BLE001 - it must not take its siblings along
                self.handler_failed(exc)

        if self._tasks is None:
            raise LocalProtocolError("the server is not running")
        return self._tasks.create_task(guarded())

    def open(self, opening: Opening) -> None:
        """Make it a WebSocket connection; the reserved place is taken."""
        from steno.adapters.audio_server.connection import Limits

        assert self._make is not None
        accept: Accept = opening.accept
        limits = Limits(opening.peer, accept.max_message_bytes, opening.subprotocol)
        connection = self._make(self, opening.transport, accept.handler, limits)
        self._connections.add(connection)
        self._opened(1)
        self._open_gauge(len(self._connections))
        connection.start(opening.key, opening.early)
        if self._ended:
            connection.close(1001, "the server ends")

    def refused(self, refusal: Refuse) -> None:
        """Count and log a refusal: the first of a kind at once, then one line for many."""
        self._count_refusal(refusal.reason)
        now = asyncio.get_running_loop().time()
        since, unlogged = self._logged.get(refusal.reason, (float("-inf"), 0))
        if now - since < _LOG_EVERY_S:
            self._logged[refusal.reason] = (since, unlogged + 1)
            return
        self._logged[refusal.reason] = (now, 0)
        self._telemetry.info(
            "media.upgrade_refused",
            status=refusal.status,
            cause=refusal.reason,
            count=unlogged + 1,
        )

    def _count_refusal(self, reason: str) -> None:
        add = self._refused.get(reason)
        if add is None:
            add = self._refused[reason] = self._telemetry.counter("media_refused", reason=reason)
        add(1)

    # --- what a connection needs (``connection.Owner``) --------------------------------------

    @property
    def ticks(self) -> Ticks:
        """The reading rhythm."""
        assert self._ticks is not None
        return self._ticks

    @property
    def unsent_limit_bytes(self) -> int:
        """What may wait for a peer that does not read."""
        return self._settings.unsent_limit_bytes

    def handler_failed(self, error: Exception) -> None:
        """Report an exception of a handler's, hook's or router's: its class, not its words."""
        self._telemetry.error("media.handler_failed", error=type(error).__name__)

    def protocol_broken(self, code: int) -> None:
        """Count a connection closed for breaking a rule."""
        self._broken(1)

    def too_slow(self) -> None:
        """Count a connection cut off for not reading."""
        self._slow(1)

    def gone(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection in self._connections:
            self._connections.discard(connection)
            self.release(connection.peer)
            self._open_gauge(len(self._connections))
            self._tell_empty()

    def _tell_empty(self) -> None:
        if not self._upgrades and not self._connections:
            self._empty.set()


def _set_options(listening: socket.socket, receive_buffer_bytes: int) -> None:
    for level, name, value in _known(_OPTIONS):
        with contextlib.suppress(OSError):
            listening.setsockopt(level, name, value)
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)


def _known(options: Iterable[tuple[int, str, int]]) -> list[tuple[int, int, int]]:
    """Return the options this system has."""
    return [
        (level, getattr(socket, name), value)
        for level, name, value in options
        if hasattr(socket, name)
    ]
