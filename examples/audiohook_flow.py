"""The whole way of AudioHook, on this machine, with nothing but this checkout.

A caller plays Genesys Cloud: a connection probe, then a call with the customer on one channel and
the agent on the other, signed and in 200 ms frames. The gateway splits the channels, passes them
on over gRPC to the speech service in ``speech_service/``, and gives the words back to the caller
as ``transcript`` entities; redacted sentences come out as records too.

    python examples/audiohook_flow.py [--monitor] [--log]   # exit code 1 if anything is missing

``--monitor`` gives no entities back (``media.entities`` is off), as an AudioHook Monitor wants it.
``--log`` prints every message of both sides to standard error, audio as a count of frames.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import sys
import time
import uuid
from typing import Any

from media_stack import MASK, Stack, running, sentences, show, verdict
from tones import interleaved, mu_law, spoken
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

SAID = {
    "external": "good morning. my card is 4111 1111 1111 1111, please check it.",
    "internal": "thank you. i will look.",
}
EXPECTED = {**SAID, "external": SAID["external"].replace("4111 1111 1111 1111", MASK)}
"""By channel, in the order of the channels."""
KEY = "ZXhhbXBsZS1rZXk="
NULL_ID = "00000000-0000-0000-0000-000000000000"
PATH = "/audiohook"
FRAME_BYTES = 3200  # 200 ms of mu-law, two channels
FRAME_S = 0.2
SPEED = 4.0  # times real time
SIGNED = (
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
)


def signed_headers(
    authority: str, session: str, organization: str, secret: bytes
) -> dict[str, str]:
    """Return the headers of an upgrade as Genesys Cloud sends them."""
    values = {
        "@request-target": PATH,
        "@authority": authority,
        "audiohook-organization-id": organization,
        "audiohook-session-id": session,
        "audiohook-correlation-id": str(uuid.uuid4()),
        "x-api-key": KEY,
    }
    now = int(time.time())
    listed = " ".join(f'"{name}"' for name in SIGNED)
    parameters = (
        f'({listed});keyid="{KEY}";nonce="{secrets.token_urlsafe(24)}";alg="hmac-sha256"'
        f";created={now};expires={now + 10}"
    )
    lines = [f'"{name}": {values[name]}' for name in SIGNED]
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    mac = base64.b64encode(hmac.digest(secret, base.encode(), hashlib.sha256)).decode()
    return {
        **{name: values[name] for name in SIGNED[2:]},
        "Signature-Input": f"sig1={parameters}",
        "Signature": f"sig1=:{mac}:",
    }


class Caller:
    """One session: sends in its own time, and listens all the while."""

    def __init__(self, socket: ClientConnection, session: str, *, log: bool) -> None:
        self._socket = socket
        self._session = session
        self._log = log
        self._seq = self._serverseq = 0
        self.position_s = 0.0
        self._frames = 0  # of audio, since the last message
        self.heard: dict[str, list[dict[str, Any]]] = {}
        self._news = asyncio.Event()

    async def say(self, kind: str, parameters: dict[str, Any]) -> None:
        """Send a message."""
        self._seq += 1
        message = {
            "version": "2",
            "type": kind,
            "seq": self._seq,
            "serverseq": self._serverseq,
            "id": self._session,
            "position": f"PT{self.position_s:.3f}S",
            "parameters": parameters,
        }
        self._note("C", message)
        await self._socket.send(json.dumps(message))

    async def audio(self, frame: bytes) -> None:
        """Send a frame of audio."""
        await self._socket.send(frame)
        self.position_s += FRAME_S
        self._frames += 1

    async def listen(self) -> None:
        """Take messages until the connection ends."""
        try:
            async for text in self._socket:
                message = json.loads(text)
                self._note("S", message)
                self._serverseq = message["seq"]
                self.heard.setdefault(message["type"], []).append(message)
                self._news.set()
        except ConnectionClosed:
            pass

    async def wait(self, kind: str, limit_s: float) -> dict[str, Any]:
        """Return the first message of a kind."""
        async with asyncio.timeout(limit_s):
            while kind not in self.heard:
                self._news.clear()
                await self._news.wait()
        return self.heard[kind][0]

    @property
    def transcripts(self) -> list[dict[str, Any]]:
        """The ``data`` of every transcript entity, in order."""
        return [
            entity["data"]
            for event in self.heard.get("event", [])
            for entity in event["parameters"]["entities"]
            if entity["type"] == "transcript"
        ]

    def _note(self, who: str, message: dict[str, Any]) -> None:
        if not self._log:
            return
        if self._frames:
            sys.stderr.write(f"C: ({self._frames} audio frames of {FRAME_BYTES} bytes)\n")
            self._frames = 0
        sys.stderr.write(f"{who}: {json.dumps(message)}\n")


def offers() -> list[dict[str, Any]]:
    """Return what Genesys Cloud offers, best first."""
    return [
        {"type": "audio", "format": "PCMU", "channels": channels, "rate": 8000}
        for channels in (["external", "internal"], ["external"], ["internal"])
    ]


async def session(
    stack: Stack, secret: bytes, conversation: str, audio: bytes, *, log: bool
) -> Caller:
    """Play one session from the upgrade to ``closed``; without audio it is a probe."""
    name, organization = str(uuid.uuid4()), str(uuid.uuid4())
    headers = signed_headers(stack.address, name, organization, secret)
    url = f"ws://{stack.address}{PATH}"
    async with connect(url, additional_headers=headers, compression=None) as socket:
        caller = Caller(socket, name, log=log)
        listening = asyncio.create_task(caller.listen())
        participant = str(uuid.uuid4()) if audio else NULL_ID
        await caller.say(
            "open",
            {
                "organizationId": organization,
                "conversationId": conversation,
                "participant": {"id": participant, "ani": "", "aniName": "", "dnis": ""},
                "media": offers(),
                "language": "en-US",
                "supportedLanguages": True,
            },
        )
        await caller.wait("opened", 5)
        began = time.monotonic()
        for number, at in enumerate(range(0, len(audio), FRAME_BYTES)):
            if number == 5:
                await caller.say("ping", {})
            await caller.audio(audio[at : at + FRAME_BYTES])
            await asyncio.sleep(began + (number + 1) * FRAME_S / SPEED - time.monotonic())
        await caller.say("close", {"reason": "end"})
        await caller.wait("closed", 10)
        await socket.close()
        await listening
    return caller


async def is_refused(stack: Stack) -> bool:
    """Tell whether a signature by another secret gets nowhere."""
    try:
        caller = await session(stack, b"another secret", NULL_ID, b"", log=False)
    except InvalidStatus as error:
        return error.response.status_code == 401
    except TimeoutError:  # let in, and disconnected instead of opened: as good
        return True
    return "opened" not in caller.heard


def text_of(caller: Caller, channel: int) -> str:
    """Return the final text of a channel."""
    return " ".join(
        one["alternatives"][0]["interpretations"][0]["transcript"]
        for one in caller.transcripts
        if one["channelId"] == channel and one["isFinal"]
    )


def main() -> int:
    """Run it all; 0 when everything has arrived."""
    log, monitor = "--log" in sys.argv[1:], "--monitor" in sys.argv[1:]
    secret = secrets.token_bytes(32)
    settings = {
        "STENO_MEDIA_AUDIOHOOK_KEYS": json.dumps({KEY: base64.b64encode(secret).decode()}),
        "STENO_MEDIA_ENTITIES": "false" if monitor else "true",
    }
    audio = mu_law(interleaved(spoken(SAID["external"]), spoken(SAID["internal"])))
    audio += b"\xff" * (-len(audio) % FRAME_BYTES)
    with running(settings) as stack:
        refused = asyncio.run(is_refused(stack))
        probe = asyncio.run(session(stack, secret, NULL_ID, b"", log=log))
        caller = asyncio.run(session(stack, secret, str(uuid.uuid4()), audio, log=log))
        for entity in caller.transcripts:
            show(entity)
        found = sentences(stack, EXPECTED.values())
    texts = [text_of(caller, channel) for channel in (0, 1)]
    return verdict(
        a_wrong_signature_is_refused=refused,
        the_probe_is_answered="opened" in probe.heard and "closed" in probe.heard,
        pings_are_answered="pong" in caller.heard,
        **(
            {"no_entity_came_back": not caller.transcripts}
            if monitor
            else {"every_word_came_back_as_an_entity": texts == list(EXPECTED.values())}
        ),
        every_word_is_in_the_records=sorted(found.values()) == sorted(EXPECTED.values()),
    )


if __name__ == "__main__":
    sys.exit(main())
