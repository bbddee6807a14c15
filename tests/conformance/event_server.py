"""A real event socket for tests of the client side, with refusals and silences on request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from conformance.stream_server import StreamServer

TYPE = "conversation.transcription.update"
SUBSCRIBED = json.dumps({"type": "subscribed", "events": [TYPE]})

Refused = tuple[int, dict[str, str]] | tuple[int, dict[str, str], bytes]


class EventServer(StreamServer):
    """Accepts event sockets on a free port of 127.0.0.1; the token comes in a header.

    ``refusing`` decides on an upgrade from its token: a status with headers and perhaps a body,
    or None to accept. ``answers`` are the texts that answer a subscription; none is silence.
    """

    subprotocols = None

    def __init__(
        self,
        *,
        refusing: Callable[[str], Refused | None] | None = None,
        answers: Sequence[str] = (SUBSCRIBED,),
    ) -> None:
        super().__init__()
        self.refusing = refusing or (lambda token: None)
        self.answers = answers
        self.paths: list[str] = []
        self.request_ids: list[str] = []
        self.upgrades_at: list[float] = []

    @property
    def questions(self) -> list[object]:
        """What clients have said, decoded."""
        return [json.loads(text) for text in self.received]

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.upgrades_at.append(time.monotonic())
        self.paths.append(request.path)
        self.tokens.append(token)
        self.headers.append(request.headers)
        self.request_ids.append(request.headers.get("X-Request-Id", ""))
        answer = self.refusing(token)
        if answer is None:
            return None
        status, headers, *rest = answer
        body = rest[0] if rest else b""
        return Response(status, "no", Headers(headers | {"Content-Length": str(len(body))}), body)

    async def _received(self, connection: ServerConnection, message: str | bytes) -> None:
        if json.loads(message).get("type") == "subscribe":
            for text in self.answers:
                await connection.send(text)


def refusal(status: int, **more: object) -> str:
    """Return an error message of the socket."""
    return json.dumps({"type": "error", "status": status} | more)


def segment(text: str, **changes: object) -> dict[str, object]:
    """Return one item of an event."""
    made: dict[str, object] = {
        "speaker": "agent_1",
        "text": text,
        "start": 1.5,
        "end": 2.0,
        "confidence": 0.9,
        "isFinal": True,
    }
    return made | changes


def event(*items: object, conversation: str = "conv-1") -> str:
    """Return a transcription event in its envelope."""
    data = {"eventType": TYPE, "conversationId": conversation, "transcripts": list(items)}
    return json.dumps({"type": TYPE, "data": data})
