"""Small independent clients of the simulator: ``aiohttp`` for HTTP, ``websockets`` for sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.server import Simulator

SEGMENTS = "conversation.transcription.update"


class Answer:
    """What a call answered."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = body

    @property
    def json(self) -> Any:  # Any: JSON
        return json.loads(self.raw)


class Addresses(Protocol):
    """Where a simulator listens, here or in another process."""

    @property
    def url(self) -> str: ...

    @property
    def ws_url(self) -> str: ...


class Peer:
    """An HTTP client of one simulator, with a token when it asked for one."""

    def __init__(self, sim: Addresses, session: aiohttp.ClientSession) -> None:
        self.sim = sim
        self.session = session
        self.token = ""

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Call a path; carries the token unless headers are given."""
        if "headers" not in options and self.token:
            options["headers"] = {"Authorization": f"Bearer {self.token}"}
        url = self.sim.url + path
        async with self.session.request(method, url, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def sign_in(
        self, client: str = DEFAULT_CLIENT_ID, secret: str = DEFAULT_CLIENT_SECRET, scope: str = ""
    ) -> str:
        """Get a token as the real platform's clients do."""
        basic = base64.b64encode(f"{client}:{secret}".encode()).decode()
        form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        answer = await self.call(
            "POST", "/oauth/token", data=form, headers={"Authorization": f"Basic {basic}"}
        )
        assert answer.status == 200, answer.raw
        self.token = answer.json["access_token"]
        return self.token

    @asynccontextmanager
    async def stream(
        self, *conversations: str, token: str = "", **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Follow the transcript stream."""
        query = [("access_token", token or self.token)]
        query += [("conversationId", c) for c in conversations]
        url = f"{self.sim.ws_url}/api/v2/conversations/transcripts/stream?{urlencode(query)}"
        options.setdefault("subprotocols", [Subprotocol("v2")])
        options.setdefault("ping_interval", None)
        options.setdefault("close_timeout", 0.5)
        async with connect(url, proxy=None, **options) as ws:
            yield ws

    @asynccontextmanager
    async def events(
        self, *conversations: str, token: str | None = None, subscribe: bool = True, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Connect to the event socket, and subscribe unless told otherwise."""
        query = urlencode([("conversationId", c) for c in conversations])
        carried = self.token if token is None else token
        headers = {"Accept": "application/json"}
        if carried:
            headers["Authorization"] = f"Bearer {carried}"
        options = {"ping_interval": None, "close_timeout": 0.5} | options
        url = f"{self.sim.ws_url}/api/v2/websocket{'?' if query else ''}{query}"
        async with connect(url, proxy=None, additional_headers=headers, **options) as ws:
            if subscribe:
                asked = {"type": "subscribe", "events": [SEGMENTS]}
                await ws.send(json.dumps(asked))
                answer = (await receive(ws, 1))[0]
                assert answer == asked | {"type": "subscribed"}, answer
            yield ws

    async def channel(self, *topics: str) -> dict[str, Any]:
        """Make a notification channel with topics."""
        made = await self.call("POST", "/api/v2/notifications/channels")
        assert made.status == 200, made.raw
        channel: dict[str, Any] = made.json
        if topics:
            path = f"/api/v2/notifications/channels/{channel['id']}/subscriptions"
            answer = await self.call("POST", path, json=[{"id": t} for t in topics])
            assert answer.status == 200, answer.raw
        return channel

    @asynccontextmanager
    async def listen(self, channel: dict[str, Any]) -> AsyncIterator[ClientConnection]:
        """Connect to a channel's socket."""
        async with connect(
            channel["connectUri"], proxy=None, ping_interval=None, close_timeout=0.5
        ) as ws:
            yield ws


@asynccontextmanager
async def peer(sim: Simulator, *, signed_in: bool = True) -> AsyncIterator[Peer]:
    """Give a client of a simulator, signed in unless told otherwise."""
    async with aiohttp.ClientSession() as session:
        found = Peer(sim, session)
        if signed_in:
            await found.sign_in()
        yield found


async def receive(ws: ClientConnection, count: int, *, limit_s: float = 10.0) -> list[Any]:
    """Give so many JSON messages."""
    async with asyncio.timeout(limit_s):
        return [json.loads(await ws.recv()) for _ in range(count)]


async def until_quiet(ws: ClientConnection, *, quiet_s: float = 0.2) -> list[Any]:
    """Give the JSON messages that come until none comes for a while or the socket ends."""
    found = []
    try:
        while True:
            async with asyncio.timeout(quiet_s):
                found.append(json.loads(await ws.recv()))
    except (TimeoutError, websockets.ConnectionClosed):
        return found


def marks_of(messages: list[Any]) -> list[str]:
    """Give the marks (``c7f12``) of a load's stream messages."""
    return [m["transcript"].split()[0] for m in messages]
