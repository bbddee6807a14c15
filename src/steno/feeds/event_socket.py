"""The tutorials' event socket as a live feed: one socket, subscribed, that comes back by itself.

``socket_links`` keeps it connected; here is how this source speaks. It counts as connected once
the platform has answered ``subscribed``; what it refuses, at the upgrade or after it, is told
with status, the platform's own code, correlation id and the scope that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steno.core.failover import FailoverPolicy
from steno.errors import AuthError, ConfigError, StenoError, TimedOut
from steno.feeds.dialect import Endpoint
from steno.feeds.socket_links import SocketLinks
from steno.feeds.stream_connection import Shared, StreamSettings, Timing
from steno.ports import DialRequest, FeedTarget, SocketDialer, Telemetry
from steno.wire.event_socket import SOURCE, Decoded, Decoder
from steno.wire.event_subscription import (
    ANSWER_LIMIT_S,
    CONNECT_SCOPE,
    EVENTS,
    PATH,
    READ_SCOPE,
    State,
    Subscription,
    error_of,
    socket_headers,
    socket_url,
)

__all__ = [
    "RECONNECT",
    "Endpoint",
    "EventSocketFeed",
    "EventSocketSettings",
    "StreamSettings",
    "Timing",
]

RECONNECT = FailoverPolicy(
    backoff_first_s=2.0, backoff_max_s=30.0, jitter=0.0, jitter_s=0.5, throttled_factor=2.0
)
"""The document's waits: 2 s, doubling to 30 s, up to 500 ms added; twice as long after 429."""

UNAUTHORISED = 401
FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class EventSocketSettings:
    """What is asked for, and the limits.

    Attributes:
        path: Path at the host.
        events: Event types asked for and taken.
        subscribe: Whether they are asked for; off where they come unasked.
        answer_limit_s: How long the answer to that may take.
        stream: Limits of the sockets.
    """

    path: str = PATH
    events: tuple[str, ...] = EVENTS
    subscribe: bool = True
    answer_limit_s: float = ANSWER_LIMIT_S
    stream: StreamSettings = field(default_factory=lambda: StreamSettings(failover=RECONNECT))


class EventSocketFeed:
    """A ``LiveFeed`` of the event socket.

    Args:
        endpoints: Primary first, then the backup if there is one.
        dialer: Opens sockets.
        timing: Clocks and chance.
        telemetry: Logs and metrics.
        request_id: Makes an id for each upgrade, such as a fresh UUID.
        conversations: To hand on; empty hands on all.
        settings: What is asked for, and the limits.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        dialer: SocketDialer,
        timing: Timing,
        telemetry: Telemetry,
        request_id: Callable[[], str],
        conversations: Sequence[str] = (),
        settings: EventSocketSettings | None = None,
    ) -> None:
        if not endpoints:
            raise ConfigError("no host to listen to", setting="platform.host")
        wanted = settings or EventSocketSettings()
        if not wanted.events:
            raise ConfigError("no event type is taken", setting="diarisation.events")
        shared = Shared(
            EventSocketDialect(wanted),
            tuple(endpoints),
            dialer,
            timing,
            telemetry,
            wanted.stream,
            request_id=request_id,
        )
        self._links = SocketLinks(shared, [(SOURCE, tuple(dict.fromkeys(conversations)))])

    @property
    def connected(self) -> int:
        """Number of sockets that are subscribed now: 0 or 1."""
        return self._links.connected

    async def run(self, target: FeedTarget) -> None:
        """Follow until ``close``; see ``LiveFeed.run``.

        Raises:
            AuthError: Every host refused the upgrade or the subscription before it was ever up;
                its fields have ``status``, ``code``, ``correlation_id`` and ``scope``.
            ConfigError: An address can never work.
        """
        await self._links.run(target)

    async def close(self) -> None:
        """Close the socket with 1000 and let ``run`` return."""
        await self._links.close()


class EventSocketDialect:
    """How the event socket speaks; see ``feeds.dialect.Dialect``."""

    source = SOURCE

    def __init__(self, settings: EventSocketSettings) -> None:
        self._settings = settings
        limit = settings.stream.max_message_bytes
        self._decode = Decoder(settings.events, max_bytes=limit).decode

    def request(
        self, endpoint: Endpoint, token: str, wanted: tuple[str, ...], request_id: str
    ) -> DialRequest:
        """Put the token into a header; the socket carries all conversations."""
        del wanted
        return DialRequest(
            socket_url(endpoint.ws_base, self._settings.path),
            endpoint.name,
            headers=socket_headers(token, request_id),
        )

    def picked(self, wanted: tuple[str, ...]) -> frozenset[str] | None:
        """Pick out what is wanted."""
        return frozenset(wanted) or None

    def opening(self, host: str) -> SubscriptionOpening:
        """Subscribe."""
        asked = self._settings.events if self._settings.subscribe else ()
        return SubscriptionOpening(
            Subscription(asked, limit_s=self._settings.answer_limit_s), host=host
        )

    def decode(self, data: bytes, *, now: float, utc_us: int) -> list[Decoded]:
        """Return what one message says."""
        return self._decode(data, now=now, utc_us=utc_us)

    def explained(self, exc: AuthError) -> AuthError:
        """Name the scope that is missing, as far as the refusal tells which."""
        status, action = exc.fields.get("status"), exc.fields.get("action") or "upgrade"
        subscribing = action == "subscription"
        scope: str | None = READ_SCOPE if subscribing else CONNECT_SCOPE
        if status == UNAUTHORISED:
            summary = "the event socket refused the token"
            fix = (
                "Check client id, secret and region, and that the OAuth client has the scope "
                f"{scope}."
            )
        elif subscribing and status not in (None, FORBIDDEN):
            summary, scope = "the subscription was refused", None
            fix = "Check the event types in diarisation.events."
        elif subscribing:
            summary = "the subscription is not permitted"
            fix = (
                f"Grant the OAuth client the scope {READ_SCOPE}, and a role that may read the "
                "transcripts of these conversations; then ask for a new token."
            )
        elif status == FORBIDDEN:
            summary = "the event socket is not permitted"
            fix = (
                f"Grant the OAuth client the scopes {CONNECT_SCOPE} and {READ_SCOPE}, then ask for "
                "a new token."
            )
        else:
            return exc
        return AuthError(summary, fix=fix, **exc.fields | {"action": action, "scope": scope})


class SubscriptionOpening:
    """A subscription as what a connection has to settle; see ``feeds.dialect.Opening``."""

    def __init__(self, subscription: Subscription, *, host: str) -> None:
        self._subscription = subscription
        self._host = host
        self.opened = subscription.opened
        self.to_send = subscription.to_send
        self.receive_message = subscription.receive_message
        self.next_deadline = subscription.next_deadline
        self.on_deadline = subscription.on_deadline

    @property
    def up(self) -> bool:
        """The platform has said ``subscribed``, or was not asked."""
        return self._subscription.subscribed

    @property
    def error(self) -> StenoError | None:
        """The refusal, or the missing answer."""
        if self._subscription.refusal is not None:
            return error_of(self._subscription.refusal, host=self._host)
        if self._subscription.state is State.SILENT:
            return TimedOut("no answer to the subscription", host=self._host, action="subscription")
        return None
