"""The event socket: ``GET /api/v2/websocket``, several event types over one WebSocket.

At the upgrade the token comes as ``Authorization: Bearer`` (a token in the query is not
taken). Refusals have the platform's JSON error body and ``ININ-Correlation-Id``: 401 without
a live token, 403 when it lacks the scope ``websocket:connect``, 429 with ``Retry-After``
above the limit of upgrades. ``?conversationId=`` (any number) limits what the socket gets.

Afterwards the client sends JSON messages, and each is answered:

==========================================  ==================================================
``{"type":"subscribe","events":[…]}``       ``{"type":"subscribed","events":[…]}``, or an error
``{"type":"unsubscribe","events":[…]}``     ``{"type":"unsubscribed","events":[…]}``
``{"type":"ping"}``                         ``{"type":"pong"}``
anything else                               error 400 ``bad.request``
==========================================  ==================================================

An error is ``{"type":"error","status","code","message","contextId"}``: 403
``missing.permissions`` when the token lacks ``conversation:transcript:read``, 401
``bad.credentials`` when it ended meanwhile, 400 for an event type nobody knows. The socket
stays open. The token's end does not close it either, unless the region is set so.

Then events come, ``{"type":"conversation.transcription.update","data":{…}}`` or the inner
object alone::

    {"eventType": "conversation.transcription.update", "conversationId": "…",
     "transcripts": [{"speaker": "speaker_0", "text": "Good morning.", "start": 0.6,
                      "end": 1.4, "confidence": 0.93, "isFinal": true}]}

``start`` and ``end`` are seconds from the start of the conversation, in its own time
whatever the speed of playback. Every subscribed socket gets every event.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque

import msgspec
from aiohttp import web

from steno_sim import wire
from steno_sim.answers import ApiRefusal, code_of, new_correlation, require_scope, require_token
from steno_sim.faults import Fault
from steno_sim.oauth import Token
from steno_sim.region import Region
from steno_sim.rest import upgrade
from steno_sim.sockets import Socket

EVENT_PATH = "/api/v2/websocket"
CONNECT_SCOPE = "websocket:connect"
READ_SCOPE = "conversation:transcript:read"
EVENT_TYPES = frozenset({wire.SEGMENT_EVENT})


class _Request(msgspec.Struct):
    type: str
    events: list[str] = []


class EventSockets:
    """The event sockets of one region."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._upgrades: defaultdict[str, deque[float]] = defaultdict(deque)

    def routes(self) -> list[web.RouteDef]:
        """Give the route of the socket."""
        return [web.get(EVENT_PATH, self.connect)]

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, and serve until the socket ends."""
        token = require_token(request, self.region, header_only=True)
        require_scope(token, CONNECT_SCOPE)
        self._limit(token)
        wanted = frozenset(v for v in request.query.getall("conversationId", []) if v)
        ws = await upgrade(request)
        now = asyncio.get_running_loop().time()
        socket = Socket(
            ws, request, "event", self.region, now=now, token=token, conversations=wanted
        )

        async def hear(text: str) -> None:
            answer, events = self._answer(socket, text)
            await socket.send(msgspec.json.encode(answer))
            socket.events = events  # after the answer, so that no event overtakes it
            self.region.changed()

        self.region.add(socket)
        try:
            await socket.serve(hear)
        finally:
            self.region.discard(socket)
        return ws

    def _limit(self, token: Token) -> None:
        """Count an upgrade against the client's limit.

        Raises:
            ApiRefusal: 429, with the time until the window has room again.
        """
        settings = self.region.settings
        if not settings.event_upgrades:
            return
        now = asyncio.get_running_loop().time()
        recent = self._upgrades[token.client.id]
        while recent and recent[0] <= now - settings.rate_window_s:
            recent.popleft()
        if len(recent) >= settings.event_upgrades:
            wait_s = math.ceil(recent[0] + settings.rate_window_s - now)
            raise ApiRefusal(429, message="Too many connections", retry_after_s=max(1, wait_s))
        recent.append(now)

    # --- messages ---------------------------------------------------------------------

    def _answer(self, socket: Socket, text: str) -> tuple[dict[str, object], frozenset[str]]:
        """Give the answer to a message, and the event types the socket has afterwards."""
        try:
            asked = msgspec.json.decode(text, type=_Request)
        except (ValueError, msgspec.MsgspecError):
            return _error(400, "The message is not what this socket takes"), socket.events
        match asked.type:
            case "subscribe":
                refusal = self._refusal(socket, asked.events)
                if refusal is not None:
                    return refusal, socket.events
                known = [e for e in asked.events if e in EVENT_TYPES]
                return {"type": "subscribed", "events": known}, socket.events.union(known)
            case "unsubscribe":
                left = socket.events.difference(asked.events)
                return {"type": "unsubscribed", "events": asked.events}, left
            case "ping":
                return {"type": "pong"}, socket.events
            case _:
                return _error(400, "The message type is not known"), socket.events

    def _refusal(self, socket: Socket, events: list[str]) -> dict[str, object] | None:
        now = asyncio.get_running_loop().time()
        fault: Fault | None = self.region.faults.take("deny", "SUBSCRIBE", EVENT_PATH, now=now)
        if fault is not None:
            return _error(fault.refusal, "The subscription was refused")
        if not socket.token.alive(now):
            return _error(401, "Invalid login credentials.")
        if READ_SCOPE not in socket.token.scopes:
            return _error(403, f"You are missing the scope: {READ_SCOPE}")
        if EVENT_TYPES.isdisjoint(events):
            return _error(400, "No known event type was asked for", "invalid.value")
        return None


def _error(status: int, message: str, code: str = "") -> dict[str, object]:
    return {
        "type": "error",
        "status": status,
        "code": code or ("missing.permissions" if status == 403 else code_of(status)),
        "message": message,
        "contextId": new_correlation(),
    }
