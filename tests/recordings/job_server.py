"""A transcription service on 127.0.0.1 for tests: real HTTP, faults placed by the test."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PLANTED = "4111 1111 1111 1111"
WORDS: list[dict[str, Any]] = [
    {
        "text": text,
        "confidence": 0.9,
        "startTimestamp": f"2024-01-15T10:30:{second:02}Z",
        "endTimestamp": f"2024-01-15T10:30:{second + 1:02}Z",
        "speaker": speaker,
    }
    for second, (text, speaker) in enumerate(
        [("hello", "agent"), ("there", "agent"), ("card", "customer"), ("number", "customer")]
        + [(part, "customer") for part in PLANTED.split()]
    )
]

Fault = int | str | tuple[int, dict[str, str]]
"""A status, a status with headers, or ``drop``: taken, and no answer."""


@dataclass
class JobServer:
    """What the service does and what it saw.

    Attributes:
        polls_needed: Polls of a job that find it running.
        faults: Consumed by the next calls, whatever they are for.
        submit_faults: Consumed by the next submissions, after the job was taken where ``drop``.
        answer: Makes the answer to a poll of a finished job.
        listed: The service can list the jobs of a recording.
    """

    polls_needed: int = 0
    listed: bool = True
    token_status: int = 200
    refuses: bool = False
    delay_s: float = 0.0
    faults: deque[Fault] = field(default_factory=deque)
    submit_faults: deque[Fault] = field(default_factory=deque)
    headers: dict[str, str] = field(default_factory=dict)
    answer: Callable[[str], dict[str, Any]] = lambda recording: {
        "status": "completed",
        "result": {"words": WORDS},
    }
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[float, str]] = field(default_factory=list)
    polls: Counter[str] = field(default_factory=Counter)
    preflights: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def submissions_of(self, recording: str) -> int:
        """How many jobs it has of a recording."""
        return sum(job["recordingId"] == recording for job in self.jobs.values())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[JobServer]:
        app = web.Application(middlewares=[self._counted])
        app.router.add_post("/oauth/token", self._token)
        app.router.add_post("/api/v2/recordings/transcripts", self._submit)
        app.router.add_get("/api/v2/recordings/transcripts", self._list)
        app.router.add_get("/api/v2/recordings/transcripts/{id}", self._poll)
        app.router.add_get("/api/v2/recordings/{id}", self._recording)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        try:
            yield self
        finally:
            await runner.cleanup()

    @web.middleware
    async def _counted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse
        if request.path == "/oauth/token":
            response = await handler(request)
            return response
        self.calls.append((time.monotonic(), f"{request.method} {request.path}"))
        if self.refuses:
            return web.json_response({"code": "authentication"}, status=401)
        if self.faults:
            status, headers = _spelt(self.faults.popleft())
            return web.json_response({}, status=status, headers=headers)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        response = await handler(request)
        response.headers.update(self.headers)
        return response

    async def _token(self, request: web.Request) -> web.Response:
        if self.token_status != 200:
            return web.json_response({"error": "invalid_client"}, status=self.token_status)
        return web.json_response(
            {
                "access_token": "token",
                "token_type": "bearer",
                "expires_in": 3600,
                "scope": "recordings:download transcription:read transcription:write",
            }
        )

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        fault = self.submit_faults.popleft() if self.submit_faults else None
        if fault is not None and fault != "drop":
            status, headers = _spelt(fault)
            return web.json_response({}, status=status, headers=headers)
        name = str(uuid.uuid4())
        key = request.headers["Idempotency-Key"]
        self.keys[key] += 1
        self.jobs[name] = {**body, "key": key}
        if fault == "drop":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": name, "status": "queued"}, status=202)

    async def _list(self, request: web.Request) -> web.Response:
        if not self.listed:
            return web.json_response({}, status=405)
        wanted = request.query["recordingId"]
        return web.json_response(
            {
                "entities": [
                    {"id": name, "status": "processing", "idempotencyKey": job["key"]}
                    for name, job in self.jobs.items()
                    if job["recordingId"] == wanted
                ]
            }
        )

    async def _poll(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        job = self.jobs.get(name)
        if job is None:
            return web.json_response({}, status=404)
        self.polls[name] += 1
        if self.polls[name] <= self.polls_needed:
            return web.json_response({"id": name, "status": "processing"})
        return web.json_response({"id": name, **self.answer(job["recordingId"])})

    async def _recording(self, request: web.Request) -> web.Response:
        self.preflights += 1
        name = request.match_info["id"]
        if name.startswith("0"):
            return web.json_response({}, status=404)
        return web.json_response({"id": name, "startTime": "2024-01-15T10:29:59Z"})


def _spelt(fault: Fault) -> tuple[int, dict[str, str]]:
    if isinstance(fault, tuple):
        return fault
    assert isinstance(fault, int)
    return fault, {}
