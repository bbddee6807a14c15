"""Building ``live``: feeds of the platform on a spine of their own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from steno.app.capability import Capability, Shared, make_pipeline, make_spine
from steno.app.platform import Platform, open_platform
from steno.errors import TransportError
from steno.ports import Telemetry


async def open_live(shared: Shared, stack: AsyncExitStack) -> Capability:
    """Build the capability; ``stack`` closes what it opens.

    Raises:
        ConfigError, AuthError: It can never work as it is set up.
    """
    config = shared.config
    platform = await open_platform(
        config, stack, tokens_dir=shared.state.tokens, telemetry=shared.telemetry
    )
    await _first_token(platform, shared.stop, shared.telemetry)
    source = config.live.source.value
    pipeline = make_pipeline(config, platform.host_group, source=source)

    def trouble() -> str:
        connected = all(getattr(feed, "connected", 1) for feed in platform.feeds)
        return "" if connected else "not connected"

    return Capability(
        "live",
        make_spine(shared, pipeline, switcher=platform.switcher),
        platform.feeds,
        trouble,
        background=tuple(manager.run for manager in platform.managers),
    )


async def _first_token(platform: Platform, stop: asyncio.Event, telemetry: Telemetry) -> None:
    """Ask for a token at once, so that wrong credentials end the program and not its night.

    Returns without one when a stop is asked for first: a service that hangs must not keep us.

    Raises:
        AuthError: The credentials are refused.
    """
    asking = asyncio.ensure_future(platform.primary.tokens.token())
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
    except TransportError as error:
        telemetry.warning("live.platform_unreachable", error_class=error.error_class)
    finally:
        for task in (asking, stopping):
            task.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)
