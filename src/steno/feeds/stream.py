"""The tutorials' transcript stream as a live feed: sockets that come back by themselves.

``socket_links`` keeps them connected; here is how this source speaks, and how conversations are
spread over its sockets.
"""

from __future__ import annotations

from collections.abc import Sequence

from steno.core.transcript import Fragment
from steno.errors import AuthError, ConfigError
from steno.feeds.dialect import Endpoint
from steno.feeds.socket_links import SocketLinks
from steno.feeds.stream_connection import Shared, StreamSettings, Timing
from steno.ports import DialRequest, FeedTarget, Quarantined, SocketDialer, Telemetry
from steno.wire.transcript_stream import (
    HEADERS,
    MAX_MESSAGE_BYTES,
    READ_SCOPE,
    SOURCE,
    SUBPROTOCOL,
    Decoder,
    Ignored,
    stream_url,
)

__all__ = ["Endpoint", "StreamSettings", "Timing", "TranscriptStreamFeed", "spread"]

FORBIDDEN = 403


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


class StreamDialect:
    """How the transcript stream speaks; see ``feeds.dialect.Dialect``."""

    source = SOURCE

    def __init__(self, *, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._decode = Decoder(max_bytes=max_bytes).decode

    def request(
        self, endpoint: Endpoint, token: str, wanted: tuple[str, ...], request_id: str
    ) -> DialRequest:
        """Put the token into the address, and the conversation if it is one."""
        del request_id  # the stream's upgrade is not traced
        in_url = wanted[0] if len(wanted) == 1 else ""
        return DialRequest(
            stream_url(endpoint.ws_base, token, in_url),
            endpoint.name,
            subprotocol=SUBPROTOCOL,
            headers=HEADERS,
        )

    def picked(self, wanted: tuple[str, ...]) -> frozenset[str] | None:
        """Pick several out; a socket for one conversation is given only that one."""
        return frozenset(wanted) if len(wanted) > 1 else None

    def opening(self, host: str) -> None:
        """Nothing is to be settled: an open socket is up."""
        del host

    def decode(
        self, data: bytes, *, now: float, utc_us: int
    ) -> tuple[Fragment | Quarantined | Ignored]:
        """Return the one thing a message says."""
        return (self._decode(data, now=now, utc_us=utc_us),)

    def explained(self, exc: AuthError) -> AuthError:
        """Name the scope that is missing."""
        if exc.fields.get("status") != FORBIDDEN:
            return exc
        return AuthError(
            "the transcript stream is not permitted",
            fix=f"Grant the OAuth client the scope {READ_SCOPE}, then ask for a new token.",
            **exc.fields | {"scope": READ_SCOPE},
        )


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
        limits = settings or StreamSettings()
        dialect = StreamDialect(max_bytes=limits.max_message_bytes)
        plan = spread(conversations, sockets)
        self._links = SocketLinks(
            Shared(dialect, tuple(endpoints), dialer, timing, telemetry, limits),
            [
                (SOURCE if len(plan) == 1 else f"{SOURCE}-{index}", wanted)
                for index, wanted in enumerate(plan)
            ],
        )

    @property
    def connected(self) -> int:
        """Number of sockets that are open now."""
        return self._links.connected

    async def run(self, target: FeedTarget) -> None:
        """Follow until ``close``; see ``LiveFeed.run``.

        Raises:
            AuthError: Every socket was refused by every host before any was ever connected.
            ConfigError: An address can never work.
        """
        await self._links.run(target)

    async def close(self) -> None:
        """Close the sockets with 1000 and let ``run`` return."""
        await self._links.close()
