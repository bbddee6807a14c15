"""Building ``live``: feeds of the platform on a spine of their own."""

from __future__ import annotations

from contextlib import AsyncExitStack

from steno.adapters.platform_http import HttpModelSwitcher, NoModelSwitch, RegionalSwitcher
from steno.app.capability import Capability, Shared, make_pipeline, make_spine
from steno.app.platform import (
    Platform,
    dialer_of,
    endpoints_of,
    failover_policy,
    first_token,
    notifications_feed,
    open_platform,
    timing,
)
from steno.config import Config, Family, Source
from steno.feeds.stream import StreamSettings, TranscriptStreamFeed
from steno.ports import LiveFeed, ModelSwitcher, Telemetry
from steno.wire.oauth import Feature


async def open_live(shared: Shared, stack: AsyncExitStack) -> Capability:
    """Build the capability; ``stack`` closes what it opens.

    Raises:
        ConfigError, AuthError: It can never work as it is set up.
    """
    config = shared.config
    platform = await open_platform(
        config,
        stack,
        tokens_dir=shared.state.tokens,
        telemetry=shared.telemetry,
        features=features_of(config),
    )
    feed = _feed(config, platform, shared.telemetry)
    await first_token(platform, shared.stop, shared.telemetry)
    source = config.live.source.value
    pipeline = make_pipeline(config, platform.host_group, source=source)

    def trouble() -> str:
        return "" if getattr(feed, "connected", 1) else "not connected"

    return Capability(
        "live",
        make_spine(shared, pipeline, switcher=_switcher(config, platform)),
        (feed,),
        trouble,
        background=tuple(manager.run for manager in platform.managers),
    )


def features_of(config: Config) -> tuple[Feature, ...]:
    """Return what the token's scopes must allow."""
    return (Feature.LIVE, Feature.LIVE_SWITCH) if config.language.switch else (Feature.LIVE,)


def _switcher(config: Config, platform: Platform) -> ModelSwitcher | None:
    if not config.language.switch:
        return None
    if config.platform.family is Family.GENESYS_CLOUD:
        return NoModelSwitch()
    return RegionalSwitcher([HttpModelSwitcher(region.http) for region in platform.regions])


def _feed(config: Config, platform: Platform, telemetry: Telemetry) -> LiveFeed:
    live = config.live
    if live.source is Source.NOTIFICATIONS:
        return notifications_feed(
            config,
            platform,
            telemetry,
            conversations=live.conversations,
            queues=live.queues,
            users=live.users,
        )
    return TranscriptStreamFeed(
        endpoints_of(platform),
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
    )
