"""Liveness, readiness and the metrics page, over HTTP on loopback by default.

``/healthz`` answers 200 while the event loop turns. ``/readyz`` answers 200 when every
component is well, else 503 with the names of those that are not and why, in words of ours.
``/metrics`` is Prometheus' text format. None of them carries an id or personal data.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from steno.errors import ConfigError
from steno.observability.telemetry import LogTelemetry

if TYPE_CHECKING:
    from aiohttp import web

PORTS_TRIED: Final = 20
LAG_INTERVAL_S: Final = 0.5
LAG_WARNING_S: Final = 1.0
SHUTDOWN_S: Final = 1.0


class ComponentState(msgspec.Struct, frozen=True):
    """Whether a component is well, and if not, why."""

    ok: bool
    reason: str = ""


class Health:
    """What each component last said of itself; ready when all are well and one has spoken."""

    def __init__(self) -> None:
        self._components: dict[str, ComponentState] = {}

    def set(self, component: str, ok: bool, reason: str = "") -> None:
        """Note a component's state; ``reason`` is a word of ours or an error class."""
        self._components[component] = ComponentState(ok, reason)

    def forget(self, component: str) -> None:
        """Leave a component out of account, as when its work is over."""
        self._components.pop(component, None)

    @property
    def is_ready(self) -> bool:
        """All components are well, and at least one has said so."""
        return bool(self._components) and all(one.ok for one in self._components.values())

    def snapshot(self) -> dict[str, ComponentState]:
        """Return the state of each component."""
        return dict(self._components)


@asynccontextmanager
async def serve_health(
    telemetry: LogTelemetry, health: Health, *, host: str, port: int
) -> AsyncIterator[tuple[str, int]]:
    """Serve the three pages while the block runs; yields the address taken.

    A busy port is logged and the next free one taken, so that a second instance on a machine
    still starts.

    Raises:
        ConfigError: No port near the wanted one is free, or the host is not ours.
    """
    from aiohttp import web

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", _live),
            web.get("/readyz", _ready_page(health)),
            web.get("/metrics", _metrics_page(telemetry)),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        taken = await _listen(runner, host, port)
        if taken != port and port:
            telemetry.warning("health.port_busy", port=port, taken=taken)
        telemetry.info("health.listening", address=f"{host}:{taken}")
        yield host, taken
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> int:
    from aiohttp import web

    for candidate in range(port, port + PORTS_TRIED) if port else (0,):
        site = web.TCPSite(runner, host, candidate)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                continue
            raise ConfigError(
                "cannot listen there",
                setting="observability.listen",
                error=type(error).__name__,
            ) from None
        return int(runner.addresses[-1][1])
    raise ConfigError(
        "no free port near the health port", setting="observability.listen", port=port
    )


async def _live(_: web.Request) -> web.Response:
    from aiohttp import web

    return web.Response(text="ok\n")


def _ready_page(health: Health):  # type: ignore[no-untyped-def]  # aiohttp infers the handler
    async def page(_: web.Request) -> web.Response:
        from aiohttp import web

        body = msgspec.json.encode(
            {"ready": health.is_ready, "components": health.snapshot()}, order="sorted"
        )
        status = 200 if health.is_ready else 503
        return web.Response(status=status, body=body, content_type="application/json")

    return page


def _metrics_page(telemetry: LogTelemetry):  # type: ignore[no-untyped-def]  # as above
    async def page(_: web.Request) -> web.Response:
        from aiohttp import web

        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=telemetry.exposition(), headers=headers)

    return page


async def watch_loop(telemetry: LogTelemetry, *, interval_s: float = LAG_INTERVAL_S) -> None:
    """Measure how late the event loop is, until cancelled; one warning for each stall."""
    lag = telemetry.gauge("steno_loop_lag_seconds")
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + interval_s
        await asyncio.sleep(interval_s)
        late = max(0.0, clock() - due)
        lag(late)
        if late > LAG_WARNING_S:
            telemetry.warning("loop.stalled", lag_s=round(late, 3))
