"""AudioHook and JSON-form servers of the tests: small, correct, and wrong on request.

``Hook(wrong="…")`` breaks one rule of the protocol in one place; without it, it is what the
protocol asks for, and refuses what the protocol tells a server to refuse.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

API_KEY = "dGVzdC1rZXktMDAwMQ=="
SECRET = base64.b64encode(b"a secret of the tests, 32 bytes").decode()
OFFERED_RATE = 8000
_HEADERS = ("audiohook-organization-id", "audiohook-session-id", "audiohook-correlation-id")


class Broken(Exception):
    """The client broke the protocol."""


class Hook:
    """An AudioHook server. ``sessions`` keeps what each client said, ``nonces`` what was used."""

    def __init__(self, *, wrong: str = "", signed: bool = True, pause_at: int = 0) -> None:
        self.wrong = wrong
        self.signed = signed
        self.pause_at = pause_at
        self.nonces: set[str] = set()
        self.sessions: list[Session] = []
        self.connections = 0
        self.url = ""

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Verify the upgrade; 401 when it is not in order."""
        if self.wrong == "refuses":
            return connection.respond(503, "busy")
        if self.wrong == "redirects":
            response = connection.respond(302, "elsewhere")
            response.headers["Location"] = self.url
            return response
        try:
            self._verify(request)
        except (KeyError, Broken):
            return connection.respond(401, "no")
        return None

    def _verify(self, request: Request) -> None:
        values = {name: request.headers[name] for name in (*_HEADERS, "x-api-key")}
        if self.wrong == "trusting":
            return
        if values["x-api-key"] != API_KEY:
            raise Broken("key")
        if not self.signed:
            return
        given, signature = request.headers["signature-input"], request.headers["signature"]
        found = re.fullmatch(r"sig1=(\(([^)]*)\);(.*))", given)
        if not found:
            raise Broken("input")
        parameters = dict(re.findall(r'(\w+)="?([^";]*)"?', found[3]))
        values |= {"@request-target": request.path, "@authority": request.headers["host"]}
        names = re.findall(r'"([^"]+)"', found[2])
        base = "\n".join(f'"{name}": {values[name]}' for name in names)
        base += f'\n"@signature-params": {found[1]}'
        key = base64.b64decode(SECRET)
        right = base64.b64encode(hmac.new(key, base.encode(), hashlib.sha256).digest()).decode()
        age = time.time() - int(parameters["created"])
        if (
            signature != f"sig1=:{right}:"
            or set(names) != set(values)
            or parameters["keyid"] != API_KEY
            or len(parameters["nonce"]) < 22
            or parameters["nonce"] in self.nonces
            or not -3 <= age <= 10
        ):
            raise Broken("signature")
        self.nonces.add(parameters["nonce"])

    async def serve(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        self.connections += 1
        session = Session(self, connection)
        self.sessions.append(session)
        try:
            await session.run()
        except ConnectionClosed:
            session.lost = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Hook]:
        """Listen on a free port; ``url`` is the address."""
        server: Server
        async with serve(
            self.serve, "127.0.0.1", 0, process_request=self.check, compression=None, max_size=None
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/audiohook"
            yield self


class Session:
    """One session of a ``Hook``."""

    def __init__(self, hook: Hook, connection: ServerConnection) -> None:
        self.hook = hook
        self.connection = connection
        assert connection.request is not None
        self.headers = connection.request.headers
        self.said: list[dict[str, Any]] = []
        self.audio = bytearray()
        self.lost = False
        self.closed = False
        self.seq = self.heard = 0
        self.channels: list[str] = []
        self.pings = 0
        self.disconnected = False

    async def run(self) -> None:
        wrong = self.hook.wrong
        if wrong == "unauthorized":
            await self.say("disconnect", {"reason": "unauthorized"})
        async for message in self.connection:
            try:
                if isinstance(message, bytes):
                    await self.take_audio(message)
                else:
                    await self.take(message)
            except Broken as broken:
                if not self.disconnected:
                    self.disconnected = True
                    await self.say("disconnect", {"reason": "error", "info": str(broken)})

    async def take_audio(self, data: bytes) -> None:
        if not self.channels:
            if not self.disconnected:
                raise Broken("audio before open")
            return
        if len(data) % len(self.channels):
            raise Broken("odd audio")
        self.audio += data
        if self.hook.pause_at and len(self.audio) >= self.hook.pause_at:
            self.hook.pause_at = 0
            await self.say("pause", {})
        if self.hook.wrong == "binary" and len(self.audio) == len(data):
            await self.connection.send(b"\xff" * 160)

    async def take(self, text: str) -> None:
        if len(text) > 65535:
            raise Broken("size")
        try:
            message = json.loads(text)
        except ValueError:
            raise Broken("json") from None
        if self.disconnected and message.get("type") != "close":
            return
        if not isinstance(message, dict):
            raise Broken("object")
        wrong = (
            message.get("seq") != self.heard + 1
            or message.get("serverseq", 10**9) > self.seq
            or message.get("id") != self.headers["audiohook-session-id"]
            or not isinstance(message.get("parameters"), dict)
            or not re.fullmatch(r"PT(?:\d*\.)?\d+S", str(message.get("position")))
        )
        if wrong and not self.disconnected:
            raise Broken("envelope")
        self.heard = message["seq"]
        self.said.append(message)
        handler = getattr(self, f"on_{message['type']}", None)
        if handler is None:
            raise Broken("type")
        await handler(message["parameters"])

    async def say(self, kind: str, parameters: dict[str, Any], **changes: Any) -> None:
        self.seq += 1
        message = {
            "version": "2",
            "id": self.headers["audiohook-session-id"],
            "type": kind,
            "seq": self.seq,
            "clientseq": self.heard,
            "parameters": parameters,
        }
        await self.connection.send(json.dumps(message | changes))

    async def on_open(self, given: dict[str, Any]) -> None:
        wrong = self.hook.wrong
        if self.channels:
            raise Broken("open again")
        if given["organizationId"] != self.headers["audiohook-organization-id"]:
            raise Broken("organisation")
        if wrong == "never_opens":
            return
        if wrong == "early_event":
            await self.say("event", {"entities": [transcript()]})
        item = dict(given["media"][0])
        self.channels = item["channels"]
        answer: dict[str, Any] = {"media": [item], "startPaused": False}
        if given.get("supportedLanguages") and wrong != "no_languages":
            answer["supportedLanguages"] = ["en-US", "fr-FR"]
        if wrong == "language_form":
            answer["supportedLanguages"] = ["english"]
        if wrong == "channel_order":
            item["channels"] = item["channels"][::-1]
        if wrong == "two_media":
            answer["media"] = given["media"][:2]
        if wrong == "invented_rate":
            item["rate"] = 16000
        if wrong == "no_media":
            answer["media"] = []
        if wrong == "discard_to":
            answer["discardTo"] = "PT0.1S"
        if wrong == "start_paused":
            answer["startPaused"] = True
        if wrong == "sequence_from_0":
            self.seq = -1
        if wrong == "other_id":
            await self.say("opened", answer, id=str(uuid.uuid4()))
            return
        if wrong == "version":
            await self.say("opened", answer, version="1")
            return
        await self.say("opened", answer)
        if wrong == "opened_twice":
            await self.say("opened", answer)
        if wrong == "talks_before_pong":
            await self.say("event", {"entities": [transcript(end="PT0.0S")]})
        if wrong == "not_json":
            await self.connection.send("hello")
        if wrong == "huge":
            await self.say("event", {"entities": [], "padding": "x" * 70000})
        if wrong == "unknown_type":
            await self.say("reconnecting", {})
        if wrong == "pong_unasked":
            await self.say("pong", {})
        if wrong == "drops":
            self.connection.transport.abort()
        if wrong == "disconnects":
            self.disconnected = True
            await self.say("disconnect", {"reason": "error"})
        if wrong == "disconnect_reason":
            await self.say("disconnect", {"reason": "tired"})
        if wrong == "closed_unasked":
            await self.say("closed", {})
        if wrong == "no_parameters":
            self.seq += 1
            bare = {"version": "2", "id": self.headers["audiohook-session-id"], "type": "pause"}
            await self.connection.send(json.dumps(bare | {"seq": self.seq, "clientseq": 1}))

    async def on_ping(self, given: dict[str, Any]) -> None:
        wrong = self.hook.wrong
        self.pings += 1
        if wrong == "never_pongs":
            return
        clientseq = self.heard + (5 if wrong == "pong_clientseq" else 0)
        if wrong == "old_clientseq":
            clientseq -= 1
        await self.say("pong", {}, clientseq=clientseq)
        if self.pings == 2 and (entity := ENTITIES.get(wrong)) is not None:
            await self.say("event", {"entities": [entity]})
            if wrong == "final_twice":
                await self.say("event", {"entities": [entity]})
        if self.pings == 2 and wrong == "no_entities":
            await self.say("event", {"entities": []})
        if self.pings == 2 and wrong == "skips_seq":
            self.seq += 1
            await self.say("event", {"entities": [transcript()]})
        if self.pings == 2 and wrong == "chatty":
            for _ in range(40):
                await self.say("event", {"entities": [transcript()]})
        if self.pings == 2 and wrong == "updated_unasked":
            await self.say("updated", {})
        if self.pings == 2 and wrong == "start_paused":
            await self.say("resume", {})
        if self.pings == 2 and wrong == "reconnects":
            await self.say("reconnect", {})

    async def on_close(self, given: dict[str, Any]) -> None:
        wrong = self.hook.wrong
        if self.disconnected and wrong != "disconnects":
            self.disconnected = False
        if wrong == "never_closes":
            return
        if wrong in ("", "lively") and self.channels and self.audio:
            length_s = len(self.audio) / len(self.channels) / OFFERED_RATE
            await self.say("event", {"entities": [transcript(length_s=min(0.1, length_s))]})
        if wrong == "ends_at_close":
            await self.connection.close()
            return
        self.closed = True
        await self.say("closed", {})
        if wrong == "talks_after_closed":
            await self.say("event", {"entities": [transcript()]})

    async def on_error(self, given: dict[str, Any]) -> None:
        if self.hook.wrong == "offended":
            self.disconnected = True
            await self.say("disconnect", {"reason": "error"})

    async def on_discarded(self, given: dict[str, Any]) -> None:
        await self.on_error(given)

    async def on_paused(self, given: dict[str, Any]) -> None:
        if self.hook.wrong == "" and self.said[-2]["type"] != "paused":
            await asyncio.sleep(0.02)
            await self.say("resume", {})

    async def on_resumed(self, given: dict[str, Any]) -> None:
        pass

    async def on_update(self, given: dict[str, Any]) -> None:
        await self.say("updated", {})


def transcript(
    *, length_s: float = 0.0, end: str = "", channel: Any = 0, **changes: Any
) -> dict[str, Any]:
    """Give a correct final of one word, with changes to its data."""
    duration = f"PT{length_s:.3f}S"
    token = {"type": "word", "value": "yes", "confidence": 0.9}
    data = {
        "id": str(uuid.uuid4()),
        "channelId": channel,
        "isFinal": True,
        "offset": "PT0S",
        "duration": end or duration,
        "alternatives": [
            {
                "confidence": 0.9,
                "languages": ["en-US"],
                "interpretations": [
                    {
                        "type": "display",
                        "transcript": "yes",
                        "tokens": [token | {"offset": "PT0S", "duration": duration}],
                    }
                ],
            }
        ],
    }
    return {"type": "transcript", "data": data | changes}


def worded(**changes: Any) -> dict[str, Any]:
    """Give a final whose interpretation is changed."""
    entity = transcript()
    entity["data"]["alternatives"][0]["interpretations"][0] |= changes
    return entity


_TOKEN = {
    "type": "word",
    "value": "a",
    "confidence": 1,
    "offset": "PT0S",
    "duration": "PT0S",
}

ENTITIES: dict[str, dict[str, Any]] = {
    "final_twice": transcript(),
    "entity_id": transcript(id="one"),
    "channel_name": transcript(channel="external"),
    "channel_boolean": transcript(channel=True),
    "channel_2": transcript(channel=2),
    "final_text": transcript(isFinal="true"),
    "minutes": transcript(offset="PT1M"),
    "exponent": transcript(duration="PT1e-05S"),
    "ahead": transcript(length_s=1000.0),
    "no_alternatives": transcript(alternatives=[]),
    "no_confidence": transcript(alternatives=[{"interpretations": [{}]}]),
    "confidence_percent": transcript(alternatives=[{"confidence": 90, "interpretations": [{}]}]),
    "language": transcript(
        alternatives=[{"confidence": 1, "languages": ["en"], "interpretations": [{}]}]
    ),
    "lexical": worded(type="lexical"),
    "no_transcript": worded(transcript=None),
    "no_tokens": worded(tokens=[]),
    "token_position": worded(tokens=[{"type": "word", "value": "yes", "confidence": 1}]),
    "punctuation": worded(tokens=[_TOKEN | {"type": "punctuation"}]),
    "same_offsets": worded(tokens=[_TOKEN, _TOKEN]),
    "no_type": {"data": {}},
}


TOKEN = "test-token"


class Envelopes:
    """A server of the JSON form. ``lanes`` keeps (number, audio) of each participant."""

    def __init__(self, *, wrong: str = "") -> None:
        self.wrong = wrong
        self.lanes: dict[str, list[tuple[int, bytes]]] = {}
        self.envelopes: list[dict[str, Any]] = []
        self.bad = 0
        self.connections = 0
        self.url = ""

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Verify token and origin."""
        if self.wrong == "trusting":
            return None
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return connection.respond(401, "no")
        if "strange" in request.headers.get("origin", ""):
            return connection.respond(403, "no")
        return None

    async def serve(self, connection: ServerConnection) -> None:
        """Take envelopes; skip and count what is none."""
        self.connections += 1
        try:
            async for message in connection:
                try:
                    self.take(message)
                except (ValueError, KeyError, TypeError):
                    self.bad += 1
                    if self.wrong == "touchy":
                        return
                if self.wrong == "hangs_up":
                    await connection.close(1011)
        except ConnectionClosed:
            pass

    def take(self, message: str | bytes) -> None:
        envelope = json.loads(message)
        audio = base64.b64decode(envelope["audio"], validate=True)
        if envelope["format"] not in ("PCMU", "L16") or len(audio) > 1600:
            raise ValueError
        number = int(envelope["sequenceNumber"])
        self.envelopes.append(envelope)
        self.lanes.setdefault(envelope["participantId"], []).append((number, audio))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Envelopes]:
        """Listen on a free port; ``url`` is the address."""
        chosen = [] if self.wrong == "no_subprotocol" else [Subprotocol("media-api")]
        async with serve(
            self.serve,
            "127.0.0.1",
            0,
            process_request=self.check,
            subprotocols=chosen,
            select_subprotocol=lambda _, offered: next((o for o in offered if o in chosen), None),
            compression=None,
            max_size=None,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/media-api"
            yield self
