"""What the media capability needs from the WebSocket server that takes call audio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from steno.ports import SocketEnd


class UpgradeRequest(msgspec.Struct, frozen=True):
    """An HTTP request that wants to become a WebSocket connection.

    Attributes:
        target: Path and query exactly as on the request line.
        path: The path alone.
        headers: In order, names in lower case; a name may be there several times. They hold
            credentials: ``repr`` leaves them out.
        peer: Address of the other end, without port; behind a trusted proxy the one it names.
        secure: It came over TLS, or a trusted proxy says so.
    """

    target: str
    path: str
    headers: tuple[tuple[str, str], ...]
    peer: str
    secure: bool

    def header(self, name: str) -> str:
        """Return a header's value, several joined with ``, ``; empty when it is not there."""
        return ", ".join(value for key, value in self.headers if key == name)

    def __repr__(self) -> str:
        return f"UpgradeRequest(path={self.path!r})"


class Refuse(msgspec.Struct, frozen=True):
    """Answer an upgrade with an HTTP status; ``reason`` is a fixed word of ours."""

    status: int
    reason: str
    delay_s: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


class Accept(msgspec.Struct, frozen=True):
    """Answer 101 and hand the connection to a handler."""

    handler: AudioSocketHandler
    subprotocol: str = ""
    max_message_bytes: int = 1_048_576


class AudioSocket(Protocol):
    """An accepted connection. No method blocks, and none raises once it is over."""

    def send_text(self, text: bytes) -> None:
        """Send a text message, UTF-8."""

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping, payload at most 125 bytes; see ``PongHandler`` for its answer."""

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, after what was sent before; the socket goes when it is answered,
        or after the server's limit.
        """

    def abort(self) -> None:
        """Let go of the connection at once."""

    def rest(self, seconds: float, *, until: Callable[[], bool] | None = None) -> None:
        """Stop reading until the server's tick nearest to ``seconds`` after the last one of
        this socket; what arrives meanwhile waits in the kernel and is read in one go.

        A socket keeps its place in the rhythm, and sockets are spread over the ticks: the
        first rest may be shorter. To be called from ``on_texts`` or ``on_binary``; does nothing
        when more waits already. At most 2.5 s; while a socket rests, nothing is seen of it, not
        even its end.

        With ``until`` it rests although more waits, and goes on resting after each ``seconds``
        until that returns True: TCP slows the peer down.
        """

    @property
    def unsent_bytes(self) -> int:
        """What the peer has not taken yet: a slow reader."""


class AudioSocketHandler(Protocol):
    """Takes what one connection reads; called on the loop, in order. An exception of its own
    closes that connection with 1011 and touches no other.
    """

    def on_open(self, socket: AudioSocket) -> None:
        """The connection is up; called once, first."""

    def on_texts(self, messages: Sequence[bytes]) -> None:
        """Text messages that arrived together, UTF-8 not yet checked."""

    def on_binary(self, message: bytes) -> None:
        """A binary message."""

    def on_closed(self, end: SocketEnd) -> None:
        """The connection is over; called once, last, never from within a call of ours."""


class PongHandler(AudioSocketHandler, Protocol):
    """A handler that wants to see pongs; the method is looked for once, before ``on_open``."""

    def on_pong(self, payload: bytes) -> None:
        """A pong, asked for or not."""


class AudioTicks(Protocol):
    """The reading rhythm, for who wants to work in step with it."""

    def every_tick(self, hook: Callable[[], None]) -> None:
        """Have ``hook`` called after the reads of every tick: what many sockets brought can be
        passed on together. It is called within a tick after anything was handed to a handler,
        and not at all while nothing arrives. For as long as the server lives.
        """


class UpgradeRouter(Protocol):
    """Decides about each upgrade. What needs no other service is decided without awaiting."""

    def decide(self, request: UpgradeRequest) -> Accept | Refuse | Awaitable[Accept | Refuse]:
        """Accept or refuse."""


class AudioServer(AudioTicks, Protocol):
    """The running server, as the capability sees it."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it really listens on."""

    def stop_accepting(self) -> None:
        """Refuse new upgrades with 503; open connections go on."""

    async def close(self, timeout_s: float) -> None:
        """Close what is still open, within the limit."""


class TokenVerdict(msgspec.Struct, frozen=True):
    """What became of a bearer token: ``status`` 0 is good, else the HTTP status to refuse with."""

    status: int = 0
    reason: str = ""


class TokenVerifier(Protocol):
    """Tells whether an ``Authorization`` header opens the JSON form."""

    def verify(self, header: str) -> TokenVerdict | Awaitable[TokenVerdict]:
        """Verify; only what needs another service is awaited."""
