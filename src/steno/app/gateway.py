"""One gateway process: store, relays, live feeds, health; started, watched and wound down.

Shutdown is a sequence: the feeds close their sockets, open windows are given out and committed,
what is stored is delivered for as long as time allows, the relays stop, the store closes. The
rest waits in the store for the next start.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from steno.adapters.sealing import load_sealer
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import OpenReport, SqliteStore, StoreSettings
from steno.app.platform import Platform, open_platform, utc_us
from steno.app.sinks import destinations_of, make_sink, relay_settings
from steno.config import Config
from steno.core.addresses import split_address
from steno.core.language import LanguageRule
from steno.core.records import Record
from steno.delivery.relay import Relay
from steno.errors import StenoError, StorageError, TransportError
from steno.observability import Health, LogTelemetry, serve_health, watch_loop
from steno.ports import Sink, Telemetry
from steno.redaction.redactor import Redactor
from steno.spine.pipeline import Pipeline, PipelineSettings
from steno.spine.service import SpineService, SpineSettings

STOP_S = 7.0
"""From the stop to the end of delivery, at the most; with closing the relays and the store it
is under the ten seconds after which a supervisor kills."""
CLOSE_S = 2.5
FINISH_S = 2.0
RETAIN_EVERY_S = 3600.0
FIRST_TOKEN_S = 3.0
DAY_US = 86_400_000_000


@dataclass(slots=True)
class Delivery:
    """The store with its relays, running."""

    store: SqliteStore
    sinks: list[Sink]
    relays: list[Relay]
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything stored is delivered; False when time runs out first."""
        done = await asyncio.gather(*(relay.drain(timeout_s) for relay in self.relays))
        return all(done)


async def open_delivery(
    config: Config,
    state: StateDir,
    stack: AsyncExitStack,
    *,
    telemetry: Telemetry,
    wrap_sink: Callable[[Sink], Sink] | None = None,
) -> Delivery:
    """Open the store and start a relay for each destination; ``stack`` winds them down.

    Raises:
        ConfigError: A destination cannot work.
        StorageError: The store cannot be opened.
    """
    destinations = destinations_of(config)
    sinks: list[Sink] = []
    for destination in destinations:
        sink = make_sink(destination, telemetry)
        if wrap_sink is not None:
            sink = wrap_sink(sink)
        stack.push_async_callback(sink.close)
        sinks.append(sink)
    store = await asyncio.to_thread(
        SqliteStore.open,
        state.database,
        {sink.name: sink.kinds for sink in sinks},
        StoreSettings(
            group_wait_s=0.0,  # the live service has gathered them already
            ballast_bytes=config.store.ballast_mb << 20,
        ),
        now_us=utc_us,
    )
    store.start()
    stack.push_async_callback(store.close)
    _tell_of_store(store.report, telemetry)
    relays = [
        Relay(
            store,
            sink,
            telemetry,
            relay_settings(destination),
            clock=time.monotonic,
            now_us=utc_us,
            draw=random.random,
            backlog=store.report.pending.get(sink.name, 0),
        )
        for destination, sink in zip(destinations, sinks, strict=True)
    ]
    delivery = Delivery(store, sinks, relays)
    for relay in relays:
        store.on_committed(relay.offer)
        store.on_changed(relay.changed)
        delivery.tasks.append(asyncio.create_task(relay.run(), name="relay"))
    stack.push_async_callback(_stop_relays, delivery)
    return delivery


def _tell_of_store(report: OpenReport, telemetry: Telemetry) -> None:
    telemetry.info(
        "store.opened",
        records=report.records,
        count=sum(report.pending.values()),
        state="new" if report.created else "clean" if report.clean_shutdown else "recovered",
    )
    if report.salvage is not None:
        telemetry.error(
            "store.salvaged", records=report.records, count=len(report.salvage.conversations)
        )


async def _stop_relays(delivery: Delivery) -> None:
    for relay in delivery.relays:
        relay.stop()
    await asyncio.gather(*delivery.tasks, return_exceptions=True)


def make_pipeline(config: Config, host_group: str) -> Pipeline:
    """Build the live pipeline from the settings."""
    redaction, language = config.redaction, config.language
    return Pipeline(
        PipelineSettings(
            source=config.live.source.value,
            host_group=host_group,
            window_s=config.live.window_s,
            hold_s=redaction.hold_s,
            language=LanguageRule(
                initial=language.initial,
                threshold=language.threshold,
                min_evidence=language.min_evidence,
                cooldown_s=language.cooldown_s,
            ),
        ),
        Redactor(
            mask=redaction.mask.value,
            languages=redaction.languages,
            default_region=redaction.default_region,
        ),
    )


class _Watch:
    """Records acknowledged since the start, for the closing summary."""

    def __init__(self) -> None:
        self.stored = 0

    def committed(self, records: list[Record]) -> None:
        self.stored += len(records)


async def run_gateway(
    config: Config,
    *,
    stop: asyncio.Event,
    telemetry: LogTelemetry,
    wrap_sink: Callable[[Sink], Sink] | None = None,
) -> dict[str, Any]:
    """Run ``live`` until ``stop`` is set; return the totals.

    Args:
        wrap_sink: Put around every sink, so that the demo can watch.

    Raises:
        ConfigError, AuthError: It can never work as it is set up.
        StorageError: The store can acknowledge nothing any more; a restart recovers.
    """
    started = time.monotonic()
    _calm_collector()
    health = Health()
    async with AsyncExitStack() as stack:
        state = StateDir(config.state_dir)
        state.prepare()
        stack.enter_context(state)
        await _observe(config, stack, telemetry, health)
        delivery = await open_delivery(
            config, state, stack, telemetry=telemetry, wrap_sink=wrap_sink
        )
        platform = await open_platform(config, stack, tokens_dir=state.tokens, telemetry=telemetry)
        await _first_token(platform, stop, telemetry)
        service = SpineService(
            make_pipeline(config, platform.host_group),
            store=delivery.store,
            sealer=load_sealer(state.journal_key),
            switcher=platform.switcher,
            telemetry=telemetry,
            settings=SpineSettings(commit_s=config.store.group_commit_ms / 1000),
            clock=time.monotonic,
            utc_us=utc_us,
            draw=random.random,
        )
        watch = _Watch()
        delivery.store.on_committed(watch.committed)
        report = delivery.store.report
        lost = await service.restore(
            down_since_us=report.last_alive_us or None,
            damaged=report.salvage.conversations if report.salvage is not None else (),
        )
        if lost:
            telemetry.error("spine.windows_lost", lost=len(lost))
        health.set("store", True)
        telemetry.info("live.started", feed=config.live.source.value)
        try:
            await _until_stopped(config, platform, delivery, service, stop, health, telemetry)
        finally:
            finished = await service.finish(timeout_s=FINISH_S)
            drained = await delivery.drain(STOP_S - CLOSE_S - FINISH_S)
            summary = {
                **service.counts,
                "stored": watch.stored,
                "drained": drained and finished,
                "seconds": round(time.monotonic() - started, 3),
            }
            telemetry.info(
                "live.stopped",
                count=service.counts["fragments"],
                records=watch.stored,
                state="drained" if drained and finished else "rest_in_store",
            )
    return summary


def _calm_collector() -> None:
    """Let the garbage collector look less often, and never at what the imports made.

    Values on the hot path hold no cycles; at the default thresholds it took 5 % of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    # SQLite lets go of the interpreter at each step; the writer must not wait 5 ms to go on.
    sys.setswitchinterval(0.0005)


async def _until_stopped(
    config: Config,
    platform: Platform,
    delivery: Delivery,
    service: SpineService,
    stop: asyncio.Event,
    health: Health,
    telemetry: Telemetry,
) -> None:
    """Follow until a stop is asked for, the feeds end, or the store or a relay breaks."""
    try:
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(manager.run(), name="token") for manager in platform.managers
            ]
            background.append(group.create_task(_retain(config, delivery.store, telemetry)))
            background.append(group.create_task(_watch_health(platform, delivery, health)))
            background.append(group.create_task(_stopped(stop), name="stop"))
            following = group.create_task(service.run(platform.feeds), name="live")
            ends: set[asyncio.Future[Any]] = {following, background[-1], delivery.store.failed}
            ends.update(delivery.tasks)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for feed in platform.feeds:
                await feed.close()
            await asyncio.wait({following}, timeout=CLOSE_S)
            if not following.done():
                telemetry.warning("live.feeds_slow_to_close")
            for task in (*background, following):
                task.cancel()
            if delivery.store.failed.done():
                health.set("store", False, "broken")
                delivery.store.failed.result()
            for relay in delivery.tasks:
                if relay.done():
                    relay.result()  # one that ended by itself failed: a restart delivers the rest
    except* StenoError as errors:
        raise first_of(errors) from None


async def _stopped(stop: asyncio.Event) -> None:
    await stop.wait()


def first_of(errors: BaseExceptionGroup[StenoError]) -> StenoError:
    """Return the first error of a group, however deep it is."""
    first = errors.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def _observe(
    config: Config, stack: AsyncExitStack, telemetry: LogTelemetry, health: Health
) -> None:
    if config.observability.listen:
        host, port = split_address(config.observability.listen, setting="observability.listen")
        await stack.enter_async_context(
            serve_health(telemetry, health, host=host or "127.0.0.1", port=port)
        )
    lag = asyncio.create_task(watch_loop(telemetry), name="loop-lag")

    async def end() -> None:
        lag.cancel()
        await asyncio.gather(lag, return_exceptions=True)

    stack.push_async_callback(end)


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


async def _watch_health(platform: Platform, delivery: Delivery, health: Health) -> None:
    while True:
        connected = all(getattr(feed, "connected", 1) for feed in platform.feeds)
        health.set("live", connected, "" if connected else "not connected")
        full = delivery.store.full
        health.set("store", not full, "disk full" if full else "")
        await asyncio.sleep(1.0)


async def _retain(config: Config, store: SqliteStore, telemetry: Telemetry) -> None:
    while True:
        now_us = utc_us()
        try:
            await store.retain(
                acked_before_us=now_us - int(config.store.acked_days * DAY_US),
                dead_before_us=now_us - int(config.store.dead_days * DAY_US),
            )
        except StorageError as error:
            telemetry.warning("store.retention_failed", error_class=error.error_class)
        await asyncio.sleep(RETAIN_EVERY_S)
