"""One gateway process: store, relays, capabilities, health; started, watched and wound down.

Shutdown is a sequence: the feeds close their sockets and the calls end by their protocol, open
windows are given out and committed, what is stored is delivered for as long as time allows, the
relays stop, the store closes. The rest waits in the store for the next start.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import OpenReport, SqliteStore, StoreSettings
from steno.app.capability import Capability, RunOptions, Shared
from steno.app.platform import utc_us
from steno.app.sinks import sinks_of
from steno.config import Config
from steno.core.addresses import split_address
from steno.core.records import Record
from steno.delivery.relay import Relay, RelaySettings, RelayStore
from steno.errors import StenoError, StorageError
from steno.observability import Health, LogTelemetry, serve_health, watch_loop
from steno.ports import Sink, Telemetry

STOP_S = 7.0
"""From the stop to the end of delivery, at the most; with closing the relays and the store it
is under the ten seconds after which a supervisor kills."""
CLOSE_S = 2.5
FINISH_S = 2.0
RETAIN_EVERY_S = 3600.0
DAY_US = 86_400_000_000


class Lanes(RelayStore, Protocol):
    """The store as the relay of one destination sees it."""

    def bind(self, store: RelayStore) -> None:
        """Take the store, once it is open."""

    def laned(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return committed records as the relay is to be offered them."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A destination that the settings do not name."""

    sink: Sink
    settings: RelaySettings
    lanes: Lanes


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
    features: Collection[str],
    wrap_sink: Callable[[Sink], Sink] | None = None,
    extras: Sequence[Extra] = (),
    follows: bool = False,
) -> Delivery:
    """Open the store and start a relay for each destination; ``stack`` winds them down.

    Args:
        extras: Destinations beside those of the settings.
        follows: Live sources are followed: the time until the next that follows is a gap.

    Raises:
        ConfigError: A destination cannot work.
        StorageError: The store cannot be opened.
    """
    sinks: list[Sink] = []
    settings: list[RelaySettings] = []
    for sink, how in sinks_of(config, features, telemetry):
        stack.push_async_callback(sink.close)
        sinks.append(wrap_sink(sink) if wrap_sink is not None else sink)
        settings.append(how)
    for extra in extras:
        stack.push_async_callback(extra.sink.close)
    configured, sinks = sinks, [*sinks, *(extra.sink for extra in extras)]
    store = await asyncio.to_thread(
        SqliteStore.open,
        state.database,
        {sink.name: sink.kinds for sink in sinks},
        StoreSettings(
            group_wait_s=0.0,  # the live service has gathered them already
            ballast_bytes=config.store.ballast_mb << 20,
            follows=follows,
        ),
        now_us=utc_us,
    )
    store.start()
    stack.push_async_callback(store.close)
    _tell_of_store(store.report, telemetry)

    def relay_of(sink: Sink, how: RelaySettings, seen: RelayStore) -> Relay:
        return Relay(
            seen,
            sink,
            telemetry,
            how,
            clock=time.monotonic,
            now_us=utc_us,
            draw=random.random,
            backlog=store.report.pending.get(sink.name, 0),
        )

    relays = [relay_of(sink, how, store) for sink, how in zip(configured, settings, strict=True)]
    for relay in relays:
        store.on_committed(relay.offer)
    for extra in extras:
        extra.lanes.bind(store)
        relays.append(relay := relay_of(extra.sink, extra.settings, extra.lanes))
        store.on_committed(_laned(relay, extra.lanes))
    delivery = Delivery(store, sinks, relays)
    for relay in relays:
        store.on_changed(relay.changed)
        delivery.tasks.append(asyncio.create_task(relay.run(), name="relay"))
    stack.push_async_callback(_stop_relays, delivery)
    return delivery


def _laned(relay: Relay, lanes: Lanes) -> Callable[[list[Record]], None]:
    return lambda records: relay.offer(lanes.laned(records))


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
    features: Collection[str] | None = None,
    wrap_sink: Callable[[Sink], Sink] | None = None,
    options: RunOptions | None = None,
) -> dict[str, Any]:
    """Run the capabilities until ``stop`` is set; return the totals.

    Args:
        features: ``live``, ``diarisation``, ``media``; the configured ones when not given.
        wrap_sink: Put around every sink, so that the demo can watch.
        options: What this run is told beside the settings.

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
        wanted = features or config.features
        delivery = await open_delivery(
            config,
            state,
            stack,
            telemetry=telemetry,
            features=wanted,
            wrap_sink=wrap_sink,
            follows=True,
        )
        shared = Shared(config, state, delivery.store, telemetry, stop, options or RunOptions())
        capabilities = await _open(wanted, shared, stack)
        watch = _Watch()
        delivery.store.on_committed(watch.committed)
        await _restore(capabilities, delivery.store, telemetry)
        health.set("store", True)
        background = _repair(config, wanted, state, delivery.store, telemetry)
        try:
            await _until_stopped(
                config, capabilities, delivery, stop, health, telemetry, background
            )
        finally:
            finished = all(
                await asyncio.gather(*(each.finish(timeout_s=FINISH_S) for each in capabilities))
            )
            drained = await delivery.drain(STOP_S - CLOSE_S - FINISH_S)
            totals = _totals(capabilities)
            summary: dict[str, Any] = {
                **totals,
                **{each.name: each.details() for each in capabilities if each.details},
                "stored": watch.stored,
                "drained": drained and finished,
                "seconds": round(time.monotonic() - started, 3),
            }
            telemetry.info(
                "gateway.stopped",
                count=totals["fragments"],
                records=watch.stored,
                state="drained" if drained and finished else "rest_in_store",
            )
    return summary


async def _open(
    features: Collection[str], shared: Shared, stack: AsyncExitStack
) -> list[Capability]:
    """Build the capabilities; the libraries of one that is not wanted are not imported."""
    found: list[Capability] = []
    if "live" in features:
        from steno.app.live import open_live

        found.append(await open_live(shared, stack))
    if "diarisation" in features:
        from steno.app.diarisation import open_diarisation

        found.append(await open_diarisation(shared, stack))
    if "media" in features:
        from steno.app.media import open_media

        found.append(await open_media(shared, stack))
    return found


def _repair(
    config: Config,
    features: Collection[str],
    state: StateDir,
    store: SqliteStore,
    telemetry: LogTelemetry,
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """Return the repair of live delivery, where it is wanted."""
    if not config.archive.repair or "live" not in features:
        return []
    from steno.app.repair_beside import AutomaticRepair

    return [AutomaticRepair(config, state, store, telemetry).run]


async def _restore(
    capabilities: list[Capability], store: SqliteStore, telemetry: Telemetry
) -> None:
    report = store.report
    damaged = report.salvage.conversations if report.salvage is not None else ()
    for each in capabilities:
        lost = await each.spine.restore(down_since_us=report.last_alive_us or None, damaged=damaged)
        if lost:
            telemetry.error("spine.windows_lost", lost=len(lost))
        telemetry.info("gateway.started", feed=each.name)


def _totals(capabilities: list[Capability]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for each in capabilities:
        for name, count in {**each.spine.counts, **each.counts()}.items():
            totals[name] = totals.get(name, 0) + count
    return totals


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
    capabilities: list[Capability],
    delivery: Delivery,
    stop: asyncio.Event,
    health: Health,
    telemetry: Telemetry,
    beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
) -> None:
    """Follow until a stop is asked for, the feeds end, or the store or a relay breaks.

    Args:
        beside: Work of no capability, cancelled at the end.
    """
    feeds = [feed for each in capabilities for feed in each.feeds]
    try:
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(work(), name="capability")
                for each in capabilities
                for work in each.background
            ]
            background += [group.create_task(work(), name="beside") for work in beside]
            background.append(group.create_task(_retain(config, delivery.store, telemetry)))
            background.append(group.create_task(_watch_health(capabilities, delivery, health)))
            background.append(group.create_task(_stopped(stop), name="stop"))
            following = {
                group.create_task(each.spine.run(each.feeds), name=each.name)
                for each in capabilities
            }
            ends: set[asyncio.Future[Any]] = {*following, background[-1], delivery.store.failed}
            ends.update(delivery.tasks)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*(feed.close() for feed in feeds))
            await asyncio.wait(following, timeout=CLOSE_S)
            if not all(task.done() for task in following):
                telemetry.warning("gateway.feeds_slow_to_close")
            for task in (*background, *following):
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


async def _watch_health(capabilities: list[Capability], delivery: Delivery, health: Health) -> None:
    while True:
        for each in capabilities:
            trouble = each.trouble()
            health.set(each.name, not trouble, trouble)
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
            await store.retain_timeline(
                before_us=now_us - int(config.diarisation.keep_days * DAY_US)
            )
        except StorageError as error:
            telemetry.warning("store.retention_failed", error_class=error.error_class)
        await asyncio.sleep(RETAIN_EVERY_S)
