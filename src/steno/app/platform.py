"""Building what talks to the platform: hosts, tokens, feeds, the model switch."""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from steno.adapters.platform_http import (
    HttpClient,
    HttpModelSwitcher,
    NoModelSwitch,
    PlatformHttp,
    RegionalSwitcher,
)
from steno.adapters.secrets import proof_of
from steno.adapters.sockets.client import Dialer
from steno.adapters.tokens import FallbackTokens, TokenManager, TokenTiming, shared_cache
from steno.config import Config, Family, OAuthShape, Source
from steno.core.failover import FailoverPolicy
from steno.core.hosts import PlatformHosts, real_hosts, tutorial_hosts
from steno.feeds.stream import (
    Endpoint,
    StreamSettings,
    Timing,
    TranscriptStreamFeed,
)
from steno.ports import LiveFeed, ModelSwitcher, Telemetry, TokenSource
from steno.wire.oauth import Feature, Shape

SHAPES = {
    OAuthShape.QUERY: Shape.QUERY,
    OAuthShape.FORM: Shape.FORM,
    OAuthShape.BASIC: Shape.BASIC,
}


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
    switcher: ModelSwitcher | None
    feeds: tuple[LiveFeed, ...]

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
    config: Config, stack: AsyncExitStack, *, tokens_dir: Path, telemetry: Telemetry
) -> Platform:
    """Build the way to the platform; ``stack`` closes it.

    Raises:
        ConfigError: A credential, host or file is wrong.
    """
    exchange = await stack.enter_async_context(
        HttpClient(proxy=config.platform.proxy or None, ca_file=config.platform.ca_file)
    )
    managers: list[TokenManager] = []

    def region(hosts: PlatformHosts, fallback: TokenSource | None) -> Region:
        manager = _manager(config, hosts, exchange, tokens_dir, telemetry)
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
    return Platform(
        primary,
        backup,
        tuple(managers),
        _switcher(config, primary, backup),
        _feeds(config, primary, backup, telemetry),
    )


def _manager(
    config: Config,
    hosts: PlatformHosts,
    exchange: HttpClient,
    tokens_dir: Path,
    telemetry: Telemetry,
) -> TokenManager:
    platform = config.platform
    proof = proof_of(
        client_secret=platform.client_secret,
        private_key=platform.private_key,
        jwt_config=platform.jwt_config,
    )
    shape = platform.oauth_shape
    if shape is None:
        real = platform.family is Family.GENESYS_CLOUD
        shape = OAuthShape.BASIC if real else OAuthShape.QUERY
    scopes = tuple(platform.scope.split())
    return TokenManager(
        hosts.login,
        SHAPES[shape],
        platform.client_id,
        proof,
        exchange=exchange,
        telemetry=telemetry,
        features=features_of(config),
        scopes=scopes,
        cache=shared_cache(
            tokens_dir,
            hosts.login,
            SHAPES[shape],
            platform.client_id,
            proof,
            scopes=scopes,
            telemetry=telemetry,
        ),
        timing=TokenTiming(
            margin_s=platform.token_margin_s, request_limit_s=platform.request_timeout_s
        ),
    )


def features_of(config: Config) -> tuple[Feature, ...]:
    """Return what the token's scopes must allow; nothing on the real platform, which has roles."""
    if config.platform.family is Family.GENESYS_CLOUD:
        return ()
    return (Feature.LIVE, Feature.LIVE_SWITCH) if config.language.switch else (Feature.LIVE,)


def _switcher(config: Config, primary: Region, backup: Region | None) -> ModelSwitcher | None:
    if not config.language.switch:
        return None
    if config.platform.family is Family.GENESYS_CLOUD:
        return NoModelSwitch()
    regions = [primary] if backup is None else [primary, backup]
    return RegionalSwitcher([HttpModelSwitcher(region.http) for region in regions])


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


def _feeds(
    config: Config, primary: Region, backup: Region | None, telemetry: Telemetry
) -> tuple[LiveFeed, ...]:
    live = config.live
    if live.source is Source.NOTIFICATIONS:
        from steno.adapters.platform_http import NotificationsApi
        from steno.feeds.notifications import NotificationsFeed
        from steno.feeds.notifications_connection import NotificationsSettings

        return (
            NotificationsFeed(
                NotificationsApi(primary.http),
                host=primary.hosts.api.authority,
                dialer=dialer_of(config),
                timing=timing(),
                telemetry=telemetry,
                tokens=primary.tokens,
                conversations=live.conversations,
                queues=live.queues,
                users=live.users,
                settings=NotificationsSettings(
                    handshake_limit_s=live.handshake_timeout_s,
                    max_message_bytes=live.max_message_bytes,
                    failover=failover_policy(config),
                ),
            ),
        )
    regions = [primary] if backup is None else [primary, backup]
    endpoints = [
        Endpoint(region.hosts.api.authority, region.hosts.api.ws_base, region.tokens)
        for region in regions
    ]
    return (
        TranscriptStreamFeed(
            endpoints,
            dialer=dialer_of(config),
            timing=timing(),
            telemetry=telemetry,
            conversations=live.conversations,
            sockets=live.sockets,
            settings=StreamSettings(
                ping_interval_s=live.ping_interval_s,
                pong_limit_s=live.pong_timeout_s,
                handshake_limit_s=live.handshake_timeout_s,
                max_message_bytes=live.max_message_bytes,
                failover=failover_policy(config),
            ),
        ),
    )
