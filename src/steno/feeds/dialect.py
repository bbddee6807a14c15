"""What sets one source of WebSocket events apart from another: its dialect.

``socket_links`` keeps sockets connected, ``stream_connection`` reads them; both are the same for
every source. A ``Dialect`` says how a source is dialled, what its sockets have to settle before
they count as up, and what its messages mean. Limits, pings and waits are ``StreamSettings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steno.core.transcript import Fragment
from steno.errors import AuthError, StenoError
from steno.ports import DialRequest, Quarantined, TokenSource
from steno.wire.transcript_stream import Ignored


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One region: its name for logs, its ``wss://host[:port]`` and where its tokens come from."""

    name: str
    ws_base: str
    tokens: TokenSource


class Opening(Protocol):
    """What one connection has to settle after the upgrade; times are monotonic seconds."""

    @property
    def up(self) -> bool:
        """It counts as connected."""

    @property
    def error(self) -> StenoError | None:
        """Why it is over, before it was up or later; None while it is not."""

    def opened(self, *, now: float) -> None:
        """Begin: the socket is open."""

    def to_send(self) -> list[str]:
        """Return the texts to be sent, oldest first."""

    def receive_message(self, data: bytes) -> bool:
        """Look at a message that is no event; True when it was meant for this."""

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` wants to be called."""

    def on_deadline(self, now: float) -> None:
        """Give up waiting, when it is time."""


class Dialect(Protocol):
    """How one source speaks. One object serves all connections of a feed."""

    @property
    def source(self) -> str:
        """Name of the source, in metrics and quarantine notes."""

    def request(
        self, endpoint: Endpoint, token: str, wanted: tuple[str, ...], request_id: str
    ) -> DialRequest:
        """Return how to dial; the limits of time are set by the caller.

        Args:
            endpoint: Where.
            token: Access token.
            wanted: Conversations to be followed; empty follows all.
            request_id: By which both sides find the call again; empty where there is none.
        """

    def picked(self, wanted: tuple[str, ...]) -> frozenset[str] | None:
        """Return the conversations to be picked out of what a socket gives; None: all of it."""

    def opening(self, host: str) -> Opening | None:
        """Return what a new connection has to settle; None: it is up once it is open."""

    def decode(
        self, data: bytes, *, now: float, utc_us: int
    ) -> Sequence[Fragment | Quarantined | Ignored]:
        """Return what one text message says, in order; raises for no input."""

    def explained(self, exc: AuthError) -> AuthError:
        """Return a refusal with this source's fix in it."""
