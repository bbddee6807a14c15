"""The simulator itself: a region behind a port of this machine.

    async with Simulator("demo", speed=10) as sim:
        ...  # a gateway connects to sim.host
        await sim.finished()
        print(sim.stats())

Two regions of one world::

    async with World("demo", wait_for_sockets=1) as world:
        async with (
            Simulator(world=world, name="primary") as primary,
            Simulator(world=world, name="backup") as backup,
        ):
            primary.inject(kind="region_down", at_s=2)
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import msgspec
from aiohttp import web

from steno_sim.answers import (
    CORRELATION,
    RATE_HEADERS,
    ApiRefusal,
    LostAnswer,
    error_answer,
    new_correlation,
)
from steno_sim.archive.service import Archive
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.archive.store import STORE_PATH as TRANSCRIPT_STORE
from steno_sim.control import control_routes
from steno_sim.event_socket import EVENT_PATH, EventSockets
from steno_sim.faults import Fault
from steno_sim.ledger import Truth
from steno_sim.oauth import Client, TokenService
from steno_sim.recordings.catalogue import Catalogue
from steno_sim.recordings.platform import Platform
from steno_sim.recordings.service import JobService
from steno_sim.recordings.settings import JobSettings, MediaSettings
from steno_sim.recordings.store import STORE_PATH as RECORDING_STORE
from steno_sim.region import Region, RegionSettings
from steno_sim.rest import STREAM_PATH, Api, refusal_of
from steno_sim.scenario import Scenario
from steno_sim.world import World

_TICK_S = 0.1
_STORES = (RECORDING_STORE, TRANSCRIPT_STORE)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Simulator:
    """One region of a simulated Genesys Cloud, on 127.0.0.1.

    Args:
        scenario: What is said, unless ``world`` is given: a scenario, packaged name or file.
        world: A world shared with other regions; it is played and stopped by its owner.
        name: The region's name, for faults and statistics.
        port: 0 takes a free one.
        listen: Address to listen on.
        tokens: OAuth service; give another region's to make its tokens valid here.
        clients: OAuth clients; one default client when not given.
        settings: Behaviour of the region.
        jobs: Behaviour of its job service, and the recordings there are.
        media: Behaviour of its recordings and their downloads.
        archive: Behaviour of its stored transcripts.
        ssl_context: Speak TLS.
        play: Begin to play when entered (own world only); else call ``world.play()``.
        **world_options: ``speed``, ``seed``, ``conversations``, ``hold``,
            ``wait_for_sockets`` of an own ``World``.

    Raises:
        ScenarioError: The scenario cannot be read.
        OSError: The port cannot be had (on entering).
    """

    def __init__(
        self,
        scenario: Scenario | str | Path = "demo",
        *,
        world: World | None = None,
        name: str = "primary",
        port: int = 0,
        listen: str = "127.0.0.1",
        tokens: TokenService | None = None,
        clients: list[Client] | None = None,
        settings: RegionSettings | None = None,
        jobs: JobSettings | None = None,
        media: MediaSettings | None = None,
        archive: ArchiveSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
        play: bool = True,
        **world_options: Any,
    ) -> None:
        self._own_world = world is None
        self.world = world or World(scenario, **world_options)
        self.region = Region(name, tokens or TokenService(clients), settings or RegionSettings())
        jobs, media = jobs or JobSettings(), media or MediaSettings()
        self.catalogue = Catalogue(jobs, media)
        self.jobs = JobService(self.region, jobs, self.catalogue)
        self.platform = Platform(self.region, self.world, media, self.catalogue)
        self.archive = Archive(self.region, self.world, archive or ArchiveSettings())
        self.region.reports |= {
            "jobs": self.jobs.stats,
            "media": self.platform.stats,
            "archive": self.archive.stats,
        }
        self.port = port
        self.listen = listen
        self.ended = asyncio.Event()
        self._ssl = ssl_context
        self._play = play
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._hangup: asyncio.Server | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._switching = asyncio.Lock()

    # --- life -------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """``address:port`` as a client writes it."""
        address = "127.0.0.1" if self.listen in ("", "0.0.0.0") else self.listen  # noqa: S104  # it is not bound, it is replaced
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"

    @property
    def url(self) -> str:
        """Base URL of the REST API."""
        return f"{'https' if self._ssl else 'http'}://{self.host}"

    @property
    def ws_url(self) -> str:
        """Base URL of the sockets."""
        return f"{'wss' if self._ssl else 'ws'}://{self.host}"

    @property
    def tokens(self) -> TokenService:
        """The region's OAuth service."""
        return self.region.tokens

    async def __aenter__(self) -> Self:
        api = Api(
            self.region,
            self.world,
            secure=self._ssl is not None,
            conversation=self.archive.library.entity,
        )
        app = web.Application(middlewares=[self._middleware], client_max_size=1 << 20)
        app.add_routes(api.routes())
        app.add_routes(EventSockets(self.region).routes())
        app.add_routes(self.jobs.routes())
        app.add_routes(self.platform.routes())
        app.add_routes(self.archive.routes())
        app.add_routes(control_routes(self))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await self._listen()
        except BaseException:
            await self._runner.cleanup()
            raise
        ready = asyncio.Event()
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise(ready))
        await ready.wait()
        self.region.take_down, self.region.bring_up = self._take_down, self._bring_up
        self.world.attach(self.region)
        if self._own_world and self._play:
            self.world.play()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._own_world:
            await self.world.stop()
        self.world.detach(self.region)
        self.region.close()
        ends = [s.end(1001) for s in self.region.sockets() if s.healthy]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                await asyncio.gather(*ends)
        for socket in self.region.sockets():
            socket.abort()
        self._stopping.set()
        await self._close_ports()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._supervisor is not None:
            await self._supervisor

    async def _supervise(self, ready: asyncio.Event) -> None:
        """Own the tasks that faults and housekeeping need, until the simulator ends."""
        async with asyncio.TaskGroup() as group:

            def spawn(work: Coroutine[Any, Any, None]) -> None:
                group.create_task(_quietly(work))

            self.region.open(spawn)
            ready.set()
            loop = asyncio.get_running_loop()
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await self._stopping.wait()
                await self.region.tick(loop.time())

    # --- port -------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._runner is None:
            return
        site = web.TCPSite(
            self._runner, self.listen, self.port, ssl_context=self._ssl, reuse_address=True
        )
        await site.start()
        self._site = site
        sockets = cast("asyncio.Server", site._server).sockets
        self.port = int(sockets[0].getsockname()[1])

    async def _close_ports(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            # Not site.stop(): it waits for every connection to end by itself.
            server = cast("asyncio.Server", site._server)
            server.close()
            if self._runner is not None:
                self._runner._unreg_site(site)
        hangup, self._hangup = self._hangup, None
        if hangup is not None:
            hangup.close()

    async def _take_down(self, fault: Fault) -> None:
        """Close the port and reset what is connected; or accept and hang up."""
        async with self._switching:
            await self._close_ports()
            for socket in self.region.sockets():
                socket.abort()
            server = self._runner.server if self._runner is not None else None
            for connection in server.connections if server is not None else []:
                if connection.transport is not None:
                    connection.transport.abort()
            if fault.mode == "accept":
                self._hangup = await asyncio.start_server(
                    lambda reader, writer: writer.close(),
                    self.listen,
                    self.port,
                    reuse_address=True,
                )

    async def _bring_up(self) -> None:
        async with self._switching:
            if self._stopping.is_set() or self._site is not None:
                return
            await self._close_ports()
            await self._listen()
            self.region.up = True
            self.region.changed()

    # --- requests ---------------------------------------------------------------------

    @web.middleware
    async def _middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path.startswith("/_sim/"):
            return await handler(request)
        context = new_correlation()
        request[CORRELATION] = context
        try:
            response = await self._struck(request) or await handler(request)
            if self._lost("lose_answer", request) and not response.prepared:
                raise LostAnswer
        except LostAnswer:
            return self._cut_off(request)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            refusal = refusal_of(error)
            response = error_answer(refusal, context=context)
        self._count(request, response.status)
        if not response.prepared and not request.path.startswith(_STORES):
            response.headers["ININ-Correlation-Id"] = context
            response.headers.update(request.get(RATE_HEADERS, {}))
        return response

    def _lost(self, kind: Literal["lose_request", "lose_answer"], request: web.Request) -> bool:
        now = asyncio.get_running_loop().time()
        fault = self.region.faults.take(kind, request.method, request.path, now=now)
        return fault is not None

    def _cut_off(self, request: web.Request) -> web.Response:
        """Reset the connection; what is returned goes nowhere."""
        self._count(request, 0)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _struck(self, request: web.Request) -> web.Response | None:
        """Give the answer that a fault puts in place of the real one, after any delay."""
        now = asyncio.get_running_loop().time()
        book, method, path = self.region.faults, request.method, request.path
        delay = book.take("delay", method, path, now=now)
        if delay is not None:
            await asyncio.sleep(delay.delay_s)
        if self._lost("lose_request", request):
            raise LostAnswer
        fault = book.take("answer", method, path, now=now)
        if fault is None and _is_socket(request):
            fault = book.take("refuse", method, path, now=now)
        if fault is None:
            return None
        if fault.body:
            return web.Response(
                text=fault.body,
                status=fault.refusal,
                headers={"Retry-After": f"{fault.retry_after_s:g}"} if fault.retry_after_s else {},
            )
        refusal = ApiRefusal(fault.refusal, retry_after_s=fault.retry_after_s)
        return error_answer(refusal, context=request[CORRELATION])

    def _count(self, request: web.Request, status: int) -> None:
        resource = request.match_info.route.resource
        # Unknown paths share one line, so that the counters stay few.
        path = resource.canonical if resource is not None else "?"
        self.region.requests[f"{request.method} {path} {status or 'lost'}"] += 1
        if _is_socket(request) and status != 101:
            self.region.refused_upgrades += 1

    # --- control ----------------------------------------------------------------------

    def inject(self, fault: Fault | None = None, **keys: Any) -> None:
        """Let a fault happen here: a ``Fault``, or its keys (``kind="drop", code=1012``).

        Raises:
            msgspec.ValidationError: A key or value that no fault has.
        """
        self.region.inject(fault or msgspec.convert(keys, Fault))

    def stats(self, *, conversations: bool = False) -> dict[str, Any]:
        """Give the counts of the run and of all regions."""
        return self.world.stats(conversations=conversations)

    def truth(self, conversation: str = "") -> Truth:
        """Give what was said and who heard it."""
        return self.world.truth(conversation)

    async def finished(self) -> None:
        """Wait until the scenario has been played."""
        await self.world.finished()

    async def wait_for(self, condition: Callable[[], bool], *, limit_s: float = 10.0) -> None:
        """Wait until a condition on this simulator holds.

        Raises:
            TimeoutError: It did not within the limit.
        """
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - any condition, so none signals it
                await asyncio.sleep(0.01)


def _is_socket(request: web.Request) -> bool:
    return request.path in (STREAM_PATH, EVENT_PATH) or request.path.startswith("/channels/")


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """Run a fault's work; a peer that is gone already is no failure of ours."""
    with contextlib.suppress(ConnectionError, RuntimeError, TimeoutError):
        await work
