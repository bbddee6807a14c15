"""Control over HTTP, for other processes on this machine: paths under ``/_sim/``.

==============================  ==============================================================
``GET /_sim/stats``             counts; ``?conversations=1`` adds them by conversation
``GET /_sim/truth``             what was said and who heard it; ``?conversation=ID`` for one
``GET /_sim/recordings``        the recordings there are: ids, conversation, voice, codec, and
                                what each file holds (the platform does not tell)
``GET /_sim/jobs``              accepted transcription jobs; ``?recording=ID`` or ``?doubled=1``
``GET /_sim/transcript``        ``?recording=ID&language=en-US``: what its results are made of:
                                turns, words, secrets, bad words, what becomes of its jobs
``GET /_sim/archive``           the conversations with made-up transcripts: ids, begin, calls, fate
``GET /_sim/stored``            ``?conversation=ID&shape=document`` or ``platform``: what its files
                                say, turn by turn, with the secrets
``GET /_sim/configs``           transcription configs that were put, in order
``POST /_sim/faults``           one fault, or a list of them (see ``steno_sim.faults``)
``DELETE /_sim/faults``         forget waiting faults, heal sockets
``POST /_sim/start``            ``{"scenario"?, "seed"?, "conversations"?, "speed"?}``: play
                                anew; ``scenario`` is a packaged name or an inline scenario
``POST /_sim/play``             begin to play, where the start waits for this
``POST /_sim/finished``         answers once everything was played, at most ``?limit_s=60``
``POST /_sim/reset``            forget faults and counted configs, play the same anew
``POST /_sim/end``              end the process that runs the simulator
==============================  ==============================================================

Only loopback peers are served; everybody else gets 403. There is no token here.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from steno_sim.answers import json_answer
from steno_sim.archive.library import Shape
from steno_sim.faults import Fault
from steno_sim.scenario import Scenario, ScenarioError

if TYPE_CHECKING:
    from steno_sim.server import Simulator

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    scenario: str | Scenario | None = None
    seed: int | None = None
    conversations: int = 0
    speed: float | None = None


def control_routes(sim: Simulator) -> list[web.RouteDef]:
    """Give the control routes of a simulator."""
    control = _Control(sim)
    routes = [
        web.get("/_sim/stats", control.stats),
        web.get("/_sim/truth", control.truth),
        web.get("/_sim/recordings", control.recordings),
        web.get("/_sim/jobs", control.jobs),
        web.get("/_sim/transcript", control.transcript),
        web.get("/_sim/archive", control.archive),
        web.get("/_sim/stored", control.stored),
        web.get("/_sim/configs", control.configs),
        web.post("/_sim/faults", control.add_faults),
        web.delete("/_sim/faults", control.clear_faults),
        web.post("/_sim/start", control.start),
        web.post("/_sim/play", control.play),
        web.post("/_sim/finished", control.finished),
        web.post("/_sim/reset", control.reset),
        web.post("/_sim/end", control.end),
    ]
    return [web.RouteDef(r.method, r.path, _guarded(r.handler), r.kwargs) for r in routes]


def _guarded(handler: _Handler) -> _Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            local = ipaddress.ip_address(request.remote or "").is_loopback
        except ValueError:
            local = False
        if not local:
            return json_answer({"error": "only loopback peers may control"}, status=403)
        try:
            return await handler(request)
        except (msgspec.MsgspecError, ScenarioError, ValueError, KeyError) as error:
            return json_answer({"error": str(error)}, status=400)

    return guarded


class _Control:
    def __init__(self, sim: Simulator) -> None:
        self._sim = sim

    async def stats(self, request: web.Request) -> web.Response:
        each = request.query.get("conversations", "") not in ("", "0")
        return json_answer(self._sim.stats(conversations=each))

    async def truth(self, request: web.Request) -> web.Response:
        return json_answer(self._sim.truth(request.query.get("conversation", "")))

    async def recordings(self, request: web.Request) -> web.Response:
        return json_answer([r.truth() for r in self._sim.catalogue.recordings()])

    async def jobs(self, request: web.Request) -> web.Response:
        book, now = self._sim.jobs.book, asyncio.get_running_loop().time()
        recording = request.query.get("recording", "")
        doubled = request.query.get("doubled", "") not in ("", "0")
        found = [
            {
                "id": job.id,
                "recording": job.asked.recording_id,
                "status": job.status(now),
                "fate": job.fate,
                "key": job.key,
            }
            for job in book.jobs()
            if recording in ("", job.asked.recording_id)
            and (not doubled or book.submissions[job.asked.recording_id] > 1)
        ]
        return json_answer(found)

    async def transcript(self, request: web.Request) -> web.Response:
        language = request.query.get("language", "en-US")
        return json_answer(self._sim.jobs.truth(request.query["recording"], language))

    async def archive(self, request: web.Request) -> web.Response:
        return json_answer(self._sim.archive.listing())

    async def stored(self, request: web.Request) -> web.Response:
        shape = msgspec.convert(request.query.get("shape", "document"), Shape)
        return json_answer(self._sim.archive.truth(request.query["conversation"], shape))

    async def configs(self, request: web.Request) -> web.Response:
        return json_answer(list(self._sim.region.configs))

    async def add_faults(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=Fault | list[Fault])
        faults = asked if isinstance(asked, list) else [asked]
        for fault in faults:
            self._sim.world.inject(fault)
        return json_answer({"added": len(faults)})

    async def clear_faults(self, request: web.Request) -> web.Response:
        for region in self._sim.world.regions:
            region.clear_faults()
        return json_answer({})

    async def start(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read() or b"{}", type=_Start)
        await self._sim.world.restart(
            asked.scenario, seed=asked.seed, conversations=asked.conversations, speed=asked.speed
        )
        return json_answer({"conversations": len(self._sim.world.script.plans)})

    async def play(self, request: web.Request) -> web.Response:
        self._sim.world.play()
        return json_answer({})

    async def finished(self, request: web.Request) -> web.Response:
        limit_s = float(request.query.get("limit_s", "60"))
        try:
            async with asyncio.timeout(limit_s):
                await self._sim.finished()
        except TimeoutError:
            return json_answer({"finished": False}, status=504)
        return json_answer({"finished": True})

    async def reset(self, request: web.Request) -> web.Response:
        for region in self._sim.world.regions:
            region.clear_faults()
            region.configs.clear()
            region.config_count = 0
        await self._sim.world.restart()
        return json_answer({})

    async def end(self, request: web.Request) -> web.Response:
        self._sim.ended.set()
        return json_answer({})
