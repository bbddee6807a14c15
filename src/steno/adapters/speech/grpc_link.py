"""One connection to a gRPC service: dialling, and moving bytes for many calls.

``steno.wire.http2`` and ``steno.wire.grpc_wire`` decide everything; a ``Link`` reads, writes and
tells each call's handler what came. A call is opened, written to and half-closed without waiting:
bytes gather in the machine until ``flush``, so that what many calls write leaves together.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, cast

from steno.adapters.grpc_channel import GrpcSettings, Metadata
from steno.errors import ConfigError, ConnectFailed, RemoteProtocolError, TimedOut
from steno.wire import grpc_wire, http2
from steno.wire.grpc_wire import CallEnded, CallReader

WRITE_HIGH_BYTES: Final = 1 << 20
"""Beyond this the kernel is behind and no call has room."""

_T = TypeVar("_T")

_LOST: Final = CallEnded(grpc_wire.UNAVAILABLE)


class CallHandler(Protocol):
    """Takes what comes of a call. Called on the loop."""

    def on_message(self, message: bytes) -> None:
        """A message came.

        Raises:
            RemoteProtocolError: It is of no use; the call is reset and ends with INTERNAL.
        """

    def on_end(self, ended: CallEnded) -> None:
        """The call is over; nothing follows."""


class Call:
    """A call on a link; made by ``Link.open``."""

    __slots__ = ("handler", "reader", "stream")

    def __init__(self, stream: http2.Stream, handler: CallHandler, max_message_bytes: int) -> None:
        self.stream = stream
        self.handler = handler
        self.reader = CallReader(max_message_bytes)


class Link(asyncio.Protocol):
    """A connection. It is made by ``dial`` and never comes back once lost.

    Args:
        on_room: Called when calls without room may have some again, or new ones may be opened.
        on_lost: Called once, with the class of what ended it, after every call has been told.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        *,
        authority: str,
        on_room: Callable[[], None],
        on_lost: Callable[[Link, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._max_message_bytes = settings.max_message_bytes
        self._authority = authority
        self._scheme = "https" if settings.uses_tls else "http"
        self._on_room = on_room
        self._on_lost = on_lost
        self._clock = clock
        self._machine = http2.Connection()
        self._calls: dict[int, Call] = {}
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._is_retired = False
        self._cause = "PeerUnavailable"
        self._pings = 0
        self._pinged_at: float | None = None
        self.heard_at = clock()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the peer's settings have come; fails when the connection is lost before."""
        self.was_calmed = False
        """The peer complained of too many pings."""

    # --- calls -------------------------------------------------------------------------------

    @property
    def can_open(self) -> bool:
        """A call opened now would be taken."""
        return self._transport is not None and not self._is_retired and self._machine.can_open

    @property
    def is_leaving(self) -> bool:
        """No new calls here; those under way go on."""
        return self._is_retired or self._machine.is_going_away

    @property
    def calls(self) -> int:
        """Calls under way."""
        return len(self._calls)

    def open(self, path: str, metadata: Metadata, handler: CallHandler) -> Call:
        """Begin a call; only while ``can_open``."""
        headers = grpc_wire.request_headers(
            path, authority=self._authority, scheme=self._scheme, metadata=metadata
        )
        stream = self._machine.open(headers)
        call = Call(stream, handler, self._max_message_bytes)
        self._calls[stream.number] = call
        return call

    def room(self, call: Call) -> int:
        """Return how many bytes the call may write now; 0: wait for ``on_room``."""
        return 0 if self._is_paused else self._machine.room(call.stream)

    def send(self, call: Call, message: bytes) -> None:
        """Write a framed message; it leaves with ``flush``."""
        self._machine.send(call.stream, message)

    def end(self, call: Call) -> None:
        """Half-close the call behind what was written."""
        self._machine.end(call.stream)

    def reset(self, call: Call) -> None:
        """Give the call up; its handler hears no more."""
        if self._calls.pop(call.stream.number, None) is not None:
            self._machine.reset(call.stream)

    def flush(self) -> None:
        """Write what has gathered."""
        data = self._machine.to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    # --- being alive -------------------------------------------------------------------------

    def keep_alive(self, now: float, *, every_s: float, limit_s: float) -> None:
        """Ping a peer that has been silent while calls are open; end the link if it stays so.

        Anything received is a sign of life, so a peer that reads audio (and opens its windows)
        is never pinged: servers as they come punish pings they did not expect.
        """
        if self._pinged_at is not None:
            if self._machine.pongs >= self._pings or self.heard_at > self._pinged_at:
                self._pinged_at = None
            elif now >= self._pinged_at + limit_s:
                self.abort("TimedOut")
        elif self._calls and now >= self.heard_at + every_s:
            self._pinged_at = now
            self._machine.ping()
            self._pings = self._machine.pongs + 1
            self.flush()

    def abort(self, cause: str) -> None:
        """End the connection at once; every call ends with UNAVAILABLE."""
        self._cause = cause
        if self._transport is not None:
            self._transport.abort()

    def retire(self) -> None:
        """Take no new calls: the credentials it was made with have been replaced."""
        self._is_retired = True

    def close(self) -> None:
        """Say goodbye and close; calls that are left end with UNAVAILABLE."""
        if self._transport is not None:
            self._machine.close()
            self.flush()
            self._transport.close()

    # --- asyncio -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """End every call."""
        del exc  # it quotes addresses; the class of what we know is told
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(ConnectFailed(cause=self._cause))
            self.ready.exception()  # whoever dialled may have given up
        calls, self._calls = self._calls, {}
        for call in calls.values():
            self._guarded(call, call.handler.on_end, _LOST)
        self._on_lost(self, self._cause)

    def pause_writing(self) -> None:
        """No call has room until the kernel has caught up."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_paused = False
        self._on_room()

    def eof_received(self) -> bool:
        """Close: a connection that is half open is of no use to HTTP/2."""
        return False

    def data_received(self, data: bytes) -> None:
        """Take bytes in and tell the handlers."""
        self.heard_at = self._clock()
        try:
            self._machine.receive(data)
        except RemoteProtocolError:
            self._dispatch()
            self.abort("RemoteProtocolError")
            return
        self._dispatch()
        if self._machine.is_ready and not self.ready.done():
            self.ready.set_result(None)
        self.flush()

    def _dispatch(self) -> None:
        for event in self._machine.events():
            match event:
                case http2.DataCame():
                    call = self._calls.get(event.stream.number)
                    if call is not None:
                        self._on_data(call, event)
                case http2.HeadersCame():
                    call = self._calls.get(event.stream.number)
                    if call is not None:
                        self._on_headers(call, event)
                case http2.StreamReset():
                    call = self._calls.get(event.stream.number)
                    if call is not None:
                        self._over(call, CallEnded(grpc_wire.reset_code(event.code)))
                case http2.RoomMade():
                    self._on_room()
                case http2.GoingAway():
                    self.was_calmed = event.code == http2.CALM
                    self._on_room()

    def _on_data(self, call: Call, event: http2.DataCame) -> None:
        try:
            messages = call.reader.data(event.data)
        except RemoteProtocolError:
            self._broken(call)
            return
        for message in messages:
            if not self._guarded(call, call.handler.on_message, message):
                return
        if event.is_end:
            self._over(call, call.reader.ended())

    def _on_headers(self, call: Call, event: http2.HeadersCame) -> None:
        ended = call.reader.headers(event.headers, is_end=event.is_end)
        # Headers alone say nothing: many servers send them before they refuse.
        if ended is not None:
            self._over(call, ended)

    def _guarded(self, call: Call, tell: Callable[[_T], None], what: _T) -> bool:
        """Tell a handler something; what it raises costs its own call, not its siblings."""
        try:
            tell(what)
        except RemoteProtocolError:
            self._broken(call)
        except Exception as exc:  # noqa: BLE001  # a bug of ours; reported, others go on
            context = {"message": "a speech stream's handler raised", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(context)
            self._broken(call)
        else:
            return True
        return False

    def _broken(self, call: Call) -> None:
        self._machine.reset(call.stream)
        self._over(call, CallEnded(grpc_wire.INTERNAL))

    def _over(self, call: Call, ended: CallEnded) -> None:
        if self._calls.pop(call.stream.number, None) is not None:
            self._guarded(call, call.handler.on_end, ended)


# --- dialling --------------------------------------------------------------------------------


def tls_context(settings: GrpcSettings) -> ssl.SSLContext | None:
    """Return what TLS needs; None for plain text.

    Raises:
        ConfigError: A certificate or key file cannot be read.
    """
    if not settings.uses_tls:
        return None
    setting = "ca_file"
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        setting = "cert_file, key_file"
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as exc:  # SSLError is one
        raise ConfigError(
            "a file cannot be read", setting=setting, error_class=type(exc).__name__
        ) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context


def addresses_of(target: str) -> tuple[str, list[tuple[str, int]]]:
    """Return the authority and the addresses to try; no address for a Unix socket."""
    if target.startswith(("unix:", "unix-abstract:")):
        return "localhost", []
    bare = target
    for scheme in ("dns:///", "dns:", "ipv4:", "ipv6:"):
        bare = bare.removeprefix(scheme)
    addresses = []
    for part in bare.split(","):
        host, _, port = part.rpartition(":")
        addresses.append((host.strip("[]"), int(port)))
    return bare.split(",", maxsplit=1)[0], addresses


def _unix_path(target: str) -> str:
    if target.startswith("unix-abstract:"):
        return "\0" + target.removeprefix("unix-abstract:")
    return target.removeprefix("unix:").removeprefix("//")


async def dial(
    settings: GrpcSettings,
    *,
    context: ssl.SSLContext | None,
    on_room: Callable[[], None],
    on_lost: Callable[[Link, str], None],
    clock: Callable[[], float],
) -> Link:
    """Connect and wait for the peer's settings.

    Raises:
        ConnectFailed: No address answered, TLS failed, or the peer does not speak HTTP/2. Field
            ``cause`` says which.
        TimedOut: Not within ``settings.deadline_s``.
    """
    authority, addresses = addresses_of(settings.target)

    def make() -> Link:
        return Link(
            settings,
            authority=settings.server_name or authority,
            on_room=on_room,
            on_lost=on_lost,
            clock=clock,
        )

    try:
        async with asyncio.timeout(settings.deadline_s):
            link = await _connected(settings, context, addresses, make)
            try:
                await link.ready
            except BaseException:
                link.abort("ConnectFailed")
                raise
    except TimeoutError as exc:
        raise TimedOut from exc
    except ssl.SSLError as exc:
        raise ConnectFailed(cause="TlsFailed") from exc
    except OSError as exc:
        raise ConnectFailed(cause="ConnectFailed") from exc
    return link


async def _connected(
    settings: GrpcSettings,
    context: ssl.SSLContext | None,
    addresses: list[tuple[str, int]],
    make: Callable[[], Link],
) -> Link:
    loop = asyncio.get_running_loop()
    if not addresses:
        name = settings.server_name or "localhost"
        _, link = await loop.create_unix_connection(
            make,
            _unix_path(settings.target),
            ssl=context,
            server_hostname=name if context else None,
        )
        return link
    failure: OSError = OSError("no address")
    for host, port in addresses:
        name = settings.server_name or host
        try:
            transport, link = await loop.create_connection(
                make, host, port, ssl=context, server_hostname=name if context else None
            )
        except OSError as exc:
            failure = exc
            continue
        _tune(transport, settings)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            link.abort("RemoteProtocolError")
            raise ConnectFailed(cause="RemoteProtocolError")
        return link
    raise failure


def _tune(transport: asyncio.BaseTransport, settings: GrpcSettings) -> None:
    """Let the kernel notice a peer that vanished while audio is on its way."""
    raw = transport.get_extra_info("socket")
    if raw is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    limit_ms = int((settings.keepalive_s + settings.keepalive_timeout_s) * 1000)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)
    except OSError:
        return  # gone already: its end is on the way
