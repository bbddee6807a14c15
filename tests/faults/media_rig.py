"""``steno media`` as an operator runs it, for tests that break it or what it depends on.

The speech service is the example's: it understands tone words, so that text can be compared
letter by letter with what was said, and it notes each chunk of audio before it does anything with
it. Gateway and service are processes of their own on fixed ports and can be killed and started
again; the callers play inside the test. What they all left behind is read by ``heard`` and
``written``, which know the forms and nothing of the code that made them.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from faults.gateway_rig import Process, bare_environment, free_port, until
from steno.adapters.doctor import AudioHookTarget
from steno_sim.calls.audio import RATE_HZ, Sound, encode

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "speech_service"
MEDIA = (sys.executable, "-m", "steno.cli", "media")
TOKEN = "planted-bearer-token-0123456789"
KEY = "cGxhbnRlZC1rZXk="
SECRET = base64.b64encode(b"planted client secret, 32 bytes!").decode()
FRAME_MS = 20
FRAME_BYTES = 160

Lane = tuple[str, str]
"""Conversation and participant."""


def _example(name: str) -> Any:  # Any: the examples are scripts, outside of the type check
    sys.path.insert(0, str(EXAMPLE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLE))


tones, hearing = _example("tones"), _example("hearing")


def sound(*texts: str) -> Sound:
    """Give the sound of a call in which each channel says its text."""
    import numpy as np

    rows = tones.interleaved(*map(tones.spoken, texts)).reshape(-1, len(texts))
    return Sound(np.ascontiguousarray(rows.T))


# --- the processes ---------------------------------------------------------------------------


class SpeechService(Process):
    """The example's service; killed and started again it has the same port and journal."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.journal = folder / "heard.jsonl"
        command = [
            *(sys.executable, str(EXAMPLE / "service.py")),
            *("--listen", self.address, "--journal", str(self.journal)),
        ]
        super().__init__(command, env=bare_environment(folder), log=folder / "speech.log")

    async def listening(self) -> None:
        """Wait until it serves."""
        await until(lambda: self.out.read_text().count("listening") == self.starts, "the service")


class Media(Process):
    """``steno media``."""

    def __init__(
        self,
        folder: Path,
        stt: str,
        *,
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder
        self.state = folder / "state"
        self.database = self.state / "steno.db"
        self.file = folder / "records.jsonl"
        command = [
            *MEDIA,
            *("--listen", self.address, "--stt", stt, "--out", str(self.file)),
            *("--state-dir", str(self.state), "--health", "127.0.0.1:0", *options),
        ]
        env = {
            **bare_environment(folder),
            "STENO_MEDIA_BEARER_TOKENS": TOKEN,
            "STENO_MEDIA_AUDIOHOOK_KEYS": json.dumps({KEY: SECRET}),
            "STENO_STORE_BALLAST_MB": "0",
            "STENO_REDACTION_HOLD_S": "1",
            **(settings or {}),
        }
        super().__init__(command, env=env, log=folder / "media.log")

    async def serving(self) -> None:
        """Wait until it accepts connections."""
        host, _, port = self.address.rpartition(":")
        end = time.monotonic() + 20
        while True:
            assert self.running, self.said()[-2000:]
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                assert time.monotonic() < end, "steno media does not listen"
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


# --- the callers -----------------------------------------------------------------------------


class JsonCall:
    """A call in the JSON form: one participant, frames of 20 ms, on one connection.

    Attributes:
        sent: Frames handed to the socket, in all.
    """

    def __init__(self, media: Media, conversation: str, text: str, *, speed: float = 1.0) -> None:
        self.lane: Lane = (conversation, "customer")
        self.text = text
        self._url = f"ws://{media.address}/media-api"
        self._audio: bytes = tones.mu_law(tones.spoken(text))
        self._speed = speed
        self.frames = len(self._audio) // FRAME_BYTES
        self.sent = 0

    def _envelope(self, number: int) -> str:
        audio = self._audio[number * FRAME_BYTES :][:FRAME_BYTES]
        return json.dumps(
            {
                "conversationId": self.lane[0],
                "participantId": self.lane[1],
                "audio": base64.b64encode(audio).decode(),
                "format": "PCMU",
                "sampleRate": 8000,
                "sequenceNumber": number,
                "timestamp": "2026-01-01T00:00:00Z",
            }
        )

    async def play(self, *, until_frame: int | None = None) -> None:
        """Send from where it stands to the end, or to a frame; hang up in good order."""
        stop = self.frames if until_frame is None else until_frame
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with connect(
            self._url,
            additional_headers=headers,
            subprotocols=[Subprotocol("media-api")],
            compression=None,
        ) as socket:
            began, first = time.monotonic(), self.sent
            while self.sent < stop:
                await socket.send(self._envelope(self.sent))
                self.sent += 1
                due = began + (self.sent - first) * FRAME_MS / 1000 / self._speed
                await asyncio.sleep(due - time.monotonic())


class AudioHookCall:
    """One AudioHook session, frame by frame, by whoever wants to break its rules."""

    def __init__(self, media: Media, *, speed: float = 4.0) -> None:
        self.conversation = str(uuid.uuid4())
        self._session, self._organization = str(uuid.uuid4()), str(uuid.uuid4())
        self._url = f"ws://{media.address}/audiohook"
        self._speed = speed
        self._seq = self._serverseq = 0
        self.position_s = 0.0
        self.types: list[str] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Connect and open; afterwards close as the protocol wants, if it is still open."""
        target = AudioHookTarget(self._url, KEY, base64.b64decode(SECRET))
        headers = target.headers(self._session, self._organization)
        async with connect(self._url, additional_headers=headers, compression=None) as socket:
            self._socket = socket
            listening = asyncio.create_task(self._listen())
            try:
                await self.say("open", self._parameters())
                await until(lambda: self.types, "opened")
                yield self
                await self.say("close", {"reason": "end"})
                await until(lambda: "closed" in self.types or listening.done(), "closed")
            except ConnectionClosed:
                pass  # the server had enough, or was killed
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def audio(self, samples: Sound) -> None:
        """Send a stretch of the call in frames of 200 ms, at the call's speed."""
        data = encode(samples, "PCMU")
        size = RATE_HZ // 5 * samples.channels
        for at in range(0, len(data), size):
            await self._socket.send(data[at : at + size])
            self.position_s += len(data[at : at + size]) / samples.channels / RATE_HZ
            await asyncio.sleep(0.2 / self._speed)

    async def say(self, kind: str, parameters: dict[str, Any]) -> None:
        """Send a message."""
        self._seq += 1
        message = {
            "version": "2",
            "type": kind,
            "seq": self._seq,
            "serverseq": self._serverseq,
            "id": self._session,
            "position": f"PT{self.position_s:.4f}S",
            "parameters": parameters,
        }
        await self._socket.send(json.dumps(message))

    async def _listen(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            self._serverseq = message["seq"]
            self.types.append(message["type"])

    def _parameters(self) -> dict[str, Any]:
        channels = ["external", "internal"]
        return {
            "organizationId": self._organization,
            "conversationId": self.conversation,
            "participant": {"id": str(uuid.uuid4()), "ani": "", "aniName": "", "dnis": ""},
            "media": [{"type": "audio", "format": "PCMU", "channels": channels, "rate": RATE_HZ}],
            "language": "en-US",
        }


# --- what they left behind -------------------------------------------------------------------


class Heard(NamedTuple):
    """What the speech service was given of one lane.

    Attributes:
        frames: Numbers of the 20 ms frames, each counted once.
        repeated: Frames that came again after a break.
        altered: Chunks of one number and length that were not the same bytes.
    """

    frames: set[int]
    repeated: int
    altered: int


def heard(service: SpeechService) -> dict[Lane, Heard]:
    """Read the journal: a chunk's number is that of its last frame."""
    frames: dict[Lane, set[int]] = defaultdict(set)
    repeated: dict[Lane, int] = defaultdict(int)
    sums: dict[Lane, dict[tuple[int, int], set[int]]] = defaultdict(lambda: defaultdict(set))
    for line in _whole_lines(service.journal):
        entry = json.loads(line)
        lane = (entry["conversation"], entry["participant"])
        last, count = entry["sequence"], entry["bytes"] // FRAME_BYTES
        covered = set(range(last - count + 1, last + 1))
        repeated[lane] += len(covered & frames[lane])
        frames[lane] |= covered
        sums[lane][last, count].add(entry["crc"])
    return {
        lane: Heard(seen, repeated[lane], sum(len(one) > 1 for one in sums[lane].values()))
        for lane, seen in frames.items()
    }


class Written(NamedTuple):
    """What the consumer's file holds.

    Attributes:
        texts: Sentences of each lane in order, joined.
        repeats: Lines whose key and revision had come before.
        gaps: Payloads of the gap records.
    """

    texts: dict[Lane, str]
    repeats: int
    gaps: list[dict[str, Any]]


def written(path: Path) -> Written:
    """Read a file of JSON lines; a sentence's last revision counts."""
    sentences: dict[Lane, dict[str, tuple[int, str]]] = defaultdict(dict)
    seen: set[tuple[str, int]] = set()
    repeats, gaps = 0, []
    for line in _whole_lines(path):
        record = msgspec.json.decode(line)
        mark = (record["key"], record.get("revision", 0))
        if mark in seen:
            repeats += 1
            continue
        seen.add(mark)
        payload = record["payload"]
        if record["kind"] == "sentence":
            lane = (record["conversation"], payload["participant"])
            sentences[lane][record["key"]] = (record["seq"], payload["text"])
        elif record["kind"] == "gap":
            gaps.append(payload)
    texts = {
        lane: " ".join(text for _, text in sorted(found.values()))
        for lane, found in sentences.items()
    }
    return Written(texts, repeats, gaps)


async def all_written(path: Path, calls: Iterable[JsonCall], *, limit_s: float = 30.0) -> Written:
    """Wait until each call's text is in the file, or time is up; give what is there."""
    wanted = {call.lane: call.text for call in calls}
    end = time.monotonic() + limit_s
    while True:
        found = written(path)
        if found.texts == wanted or time.monotonic() > end:
            return found
        await asyncio.sleep(0.1)


def _whole_lines(path: Path) -> Iterator[bytes]:
    data = path.read_bytes() if path.exists() else b""
    yield from data[: data.rfind(b"\n") + 1].splitlines()
