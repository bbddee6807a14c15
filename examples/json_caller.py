"""A caller of the JSON form: plays audio to ``/media-api`` as a media API client would.

The bearer token comes from the environment, the audio from mono mu-law WAV files of 8 kHz, one for
each participant and named after it (``speech_service/tones.py`` makes them):

    BEARER_TOKEN=… python examples/json_caller.py ws://127.0.0.1:8080/media-api customer.wav
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

FRAME_MS = 20
FRAME_BYTES = 160  # of mu-law at 8 kHz
PROTOCOL = Subprotocol("media-api")


def envelope(conversation: str, participant: str, number: int, audio: bytes) -> str:
    """Return one message of the caller."""
    return json.dumps(
        {
            "conversationId": conversation,
            "participantId": participant,
            "audio": base64.b64encode(audio).decode(),
            "format": "PCMU",
            "sampleRate": 8000,
            "sequenceNumber": number,
            "timestamp": datetime.now(UTC).isoformat(),
        }
    )


async def play(
    url: str, token: str, conversation: str, audio: Mapping[str, bytes], *, speed: float = 1.0
) -> None:
    """Play a call on one connection, frame by frame, and hang up.

    Args:
        url: Of the server, with ``/media-api``.
        token: Bearer token.
        conversation: Its id.
        audio: Mu-law of each participant.
        speed: Multiple of real time.
    """
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers, subprotocols=[PROTOCOL]) as socket:
        began = time.monotonic()
        for number in range(max(map(len, audio.values())) // FRAME_BYTES):
            for participant, samples in audio.items():
                frame = samples[number * FRAME_BYTES :][:FRAME_BYTES]
                if len(frame) == FRAME_BYTES:
                    await socket.send(envelope(conversation, participant, number, frame))
            due = began + (number + 1) * FRAME_MS / 1000 / speed
            await asyncio.sleep(due - time.monotonic())


def mu_law_of(path: Path) -> bytes:
    """Return the samples of a mono mu-law WAV file."""
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[20:24] != b"\x07\x00\x01\x00":
        raise SystemExit(f"{path.name} is not a mono mu-law WAV file")
    at = data.index(b"data") + 8
    return data[at : at + int.from_bytes(data[at - 4 : at], "little")]


def main() -> None:
    """Play the files named on the command line."""
    url, *files = sys.argv[1:]
    audio = {Path(name).stem: mu_law_of(Path(name)) for name in files}
    conversation = str(uuid.uuid4())
    asyncio.run(play(url, os.environ["BEARER_TOKEN"], conversation, audio))
    sys.stdout.write(f"played as conversation {conversation}\n")


if __name__ == "__main__":
    main()
