"""Building what talks to the platform: hosts, tokens, REST clients, sockets."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steno.adapters.platform_http import HttpClient, PlatformHttp
from steno.adapters.secrets import proof_of
from steno.adapters.sockets.client import Dialer
from steno.adapters.tokens import FallbackTokens, TokenManager, TokenTiming, shared_cache
from steno.config import Config, Family, OAuthShape
from steno.core.failover import FailoverPolicy
from steno.core.hosts import PlatformHosts, real_hosts, tutorial_hosts
from steno.errors import TransportError
from steno.feeds.stream_connection import Endpoint, Timing
from steno.ports import Telemetry, TokenSource
from steno.wire.oauth import Feature, Shape

if TYPE_CHECKING:
    from steno.feeds.notifications import NotificationsFeed, Watcher

SHAPES = {
    OAuthShape.QUERY: Shape.QUERY,
    OAuthShape.FORM: Shape.FORM,
    OAuthShape.BASIC: Shape.BASIC,
}


SHAPE_SETTING = "platform.oauth_shape"
MARGIN_SETTING = "platform.token_margin_s"
FOLLOWS = "follows "
"""Origin of a setting that nobody gave."""


def utc_us() -> int:
    """Return the wall clock, UTC microseconds."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Region:
    """One region of the organisation: its hosts, tokens and REST client."""

    hosts: PlatformHosts
    tokens: TokenSource
    http: PlatformHttp


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything that reaches the platform; ``backup`` is None without a backup region."""

    primary: Region
    backup: Region | None
    managers: tuple[TokenManager, ...]

    @property
    def regions(self) -> list[Region]:
        """The regions there are, the primary first."""
        return [self.primary] if self.backup is None else [self.primary, self.backup]

    @property
    def host_group(self) -> str:
        """Name in every key: primary and backup are one group."""
        return self.primary.hosts.api.authority


def hosts_of(config: Config, *, backup: bool = False) -> PlatformHosts:
    """Return the hosts that the settings name."""
    platform = config.platform
    parse = real_hosts if platform.family is Family.GENESYS_CLOUD else tutorial_hosts
    if backup:
        return parse(platform.backup_host, setting="platform.backup_host")
    if platform.host:
        return parse(platform.host, setting="platform.host")
    return parse(platform.environment, setting="platform.environment")


async def open_platform(
    config: Config,
    stack: AsyncExitStack,
    *,
    tokens_dir: Path,
    telemetry: Telemetry,
    features: tuple[Feature, ...],
    shape: OAuthShape | None = None,
    margin_s: float | None = None,
) -> Platform:
    """Build the way to the platform; ``stack`` closes it.

    Args:
        features: What the token's scopes must allow; not looked at on the real platform, which
            has roles.
        shape: How a token is asked for, unless the settings say.
        margin_s: How early it is renewed, unless the settings say.

    Raises:
        ConfigError: A credential, host or file is wrong.
    """
    exchange = await stack.enter_async_context(
        HttpClient(proxy=config.platform.proxy or None, ca_file=config.platform.ca_file)
    )
    managers: list[TokenManager] = []
    platform = config.platform
    if shape is None or not config.origins.get(SHAPE_SETTING, FOLLOWS).startswith(FOLLOWS):
        shape = platform.oauth_shape
    if margin_s is None or MARGIN_SETTING in config.origins:
        margin_s = platform.token_margin_s
    if platform.family is Family.GENESYS_CLOUD:
        features, shape = (), platform.oauth_shape
    way = _Way(shape or OAuthShape.QUERY, margin_s, features)

    def region(hosts: PlatformHosts, fallback: TokenSource | None) -> Region:
        manager = _manager(config, hosts, exchange, tokens_dir, telemetry, way)
        managers.append(manager)
        tokens: TokenSource = manager
        if fallback is not None:
            tokens = FallbackTokens(manager, fallback, telemetry=telemetry)
        http = PlatformHttp(
            hosts.api,
            tokens,
            exchange=exchange,
            telemetry=telemetry,
            limit_s=config.platform.request_timeout_s,
        )
        return Region(hosts, tokens, http)

    primary = region(hosts_of(config), None)
    backup = None
    if config.platform.backup_host:
        backup = region(hosts_of(config, backup=True), primary.tokens)
    return Platform(primary, backup, tuple(managers))


@dataclass(frozen=True, slots=True)
class _Way:
    """How tokens are asked for."""

    shape: OAuthShape
    margin_s: float
    features: tuple[Feature, ...]


def _manager(
    config: Config,
    hosts: PlatformHosts,
    exchange: HttpClient,
    tokens_dir: Path,
    telemetry: Telemetry,
    way: _Way,
) -> TokenManager:
    platform = config.platform
    proof = proof_of(
        client_secret=platform.client_secret,
        private_key=platform.private_key,
        jwt_config=platform.jwt_config,
    )
    shape = SHAPES[way.shape]
    scopes = tuple(platform.scope.split())
    return TokenManager(
        hosts.login,
        shape,
        platform.client_id,
        proof,
        exchange=exchange,
        telemetry=telemetry,
        features=way.features,
        scopes=scopes,
        cache=shared_cache(
            tokens_dir,
            hosts.login,
            shape,
            platform.client_id,
            proof,
            scopes=scopes,
            telemetry=telemetry,
        ),
        timing=TokenTiming(margin_s=way.margin_s, request_limit_s=platform.request_timeout_s),
    )


def timing() -> Timing:
    """Return the clocks and chance that live feeds are given."""
    return Timing(now=time.monotonic, utc_us=utc_us, draw=random.random)


def dialer_of(config: Config) -> Dialer:
    """Return what opens WebSockets."""
    return Dialer(
        ca_file=config.platform.ca_file,
        proxy=config.platform.proxy or "none",
        max_message_bytes=config.live.max_message_bytes,
    )


def failover_policy(config: Config) -> FailoverPolicy:
    """Return the waits between tries and regions."""
    live = config.live
    return FailoverPolicy(
        backoff_first_s=live.backoff_first_s,
        backoff_max_s=live.backoff_max_s,
        tries=live.tries_before_failover,
        hold_s=live.failback_after_s,
    )


async def first_token(platform: Platform, stop: asyncio.Event, telemetry: Telemetry) -> None:
    """Ask for a token as ``demand_token`` does, but go on where the platform cannot be reached yet.

    Raises:
        AuthError: The credentials are refused.
    """
    try:
        await demand_token(platform, stop)
    except TransportError as error:
        telemetry.warning("live.platform_unreachable", error_class=error.error_class)


async def demand_token(platform: Platform, stop: asyncio.Event) -> None:
    """Ask for a token at once, so that wrong credentials end the program and not its night.

    Returns without one when a stop is asked for first: a service that hangs must not keep us.

    Raises:
        AuthError: The credentials are refused.
        TransportError: The platform cannot be reached.
    """
    asking = asyncio.ensure_future(platform.primary.tokens.token())
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
    finally:
        for task in (asking, stopping):
            task.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)


def notifications_feed(
    config: Config,
    platform: Platform,
    telemetry: Telemetry,
    *,
    conversations: tuple[str, ...],
    queues: tuple[str, ...],
    users: tuple[str, ...],
    watcher: Watcher | None = None,
) -> NotificationsFeed:
    """Build the feed of the real platform's notification channels.

    Raises:
        ConfigError: Nothing to follow, or more than the channels can hold.
    """
    from steno.adapters.platform_http import NotificationsApi
    from steno.feeds.notifications import NotificationsFeed
    from steno.feeds.notifications_connection import NotificationsSettings

    live, primary = config.live, platform.primary
    return NotificationsFeed(
        NotificationsApi(primary.http),
        host=primary.hosts.api.authority,
        dialer=dialer_of(config),
        timing=timing(),
        telemetry=telemetry,
        tokens=primary.tokens,
        conversations=conversations,
        queues=queues,
        users=users,
        settings=NotificationsSettings(
            handshake_limit_s=live.handshake_timeout_s,
            max_message_bytes=live.max_message_bytes,
            failover=failover_policy(config),
        ),
        watcher=watcher,
    )


def endpoints_of(platform: Platform) -> list[Endpoint]:
    """Return the socket addresses of the regions, the primary first."""
    return [
        Endpoint(region.hosts.api.authority, region.hosts.api.ws_base, region.tokens)
        for region in platform.regions
    ]
