"""A media service on a real server and store; the speech service is played by the test."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection

from steno.adapters.audio_server import AudioServer, ServerSettings
from steno.adapters.bearer import make_verifier
from steno.adapters.sealing import AesGcmSealer
from steno.adapters.speech.voice import make_voice_activity
from steno.adapters.store_sqlite import SqliteStore
from steno.config import Media
from steno.core.records import Kind, Record
from steno.core.secret import Secret
from steno.core.transcript import RawText
from steno.media.identification import IdentifierDesk
from steno.media.language import LanguageSettings
from steno.media.service import MediaService, MediaSettings, Tools
from steno.observability import LogTelemetry
from steno.ports.speech import (
    AudioChunk,
    Hypothesis,
    SpeechListener,
    SpeechWord,
    StreamChanged,
    StreamSpec,
    StreamState,
)
from steno.redaction.redactor import Redactor
from steno.redaction.tokens import normalise
from steno.spine.pipeline import Pipeline, PipelineSettings
from steno.spine.service import SpineService, SpineSettings
from steno.wire.audiohook import (
    Accepted,
    ClientEvent,
    ClientSession,
    Keyring,
    OpenParameters,
    ResultsCame,
    SessionOver,
    Violated,
)

REDACTOR = Redactor()
TOKEN = "token-of-the-test"
KEY = "an-api-key"
ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
SILENCE = b"\xff" * 160  # 20 ms of PCMU


class PlayedStream:
    """A speech stream whose answers the test gives."""

    def __init__(self, spec: StreamSpec, listener: SpeechListener) -> None:
        self.spec = spec
        self.listener = listener
        self.chunks: list[AudioChunk] = []
        self.finished = False
        self.aborted = False
        self.pressure = 0.0
        self.ends_at_once = True

    def send(self, chunk: AudioChunk) -> None:
        self.chunks.append(chunk)

    def finish(self) -> None:
        self.finished = True
        if self.ends_at_once:
            self.end()

    def abort(self) -> None:
        self.aborted = True

    def end(self) -> None:
        self.listener.on_speech(StreamChanged(StreamState.OVER))

    @property
    def audio(self) -> bytes:
        return b"".join(chunk.audio for chunk in self.chunks)

    def say(
        self,
        text: str,
        *,
        number: int = 0,
        start: int = 0,
        end: int = 8000,
        final: bool = True,
        utterance: str = "",
        words: bool = True,
    ) -> None:
        """Answer with words spread over the time from start to end, in samples."""
        spoken = text.split()
        step = (end - start) // max(1, len(spoken))
        told = [
            SpeechWord(RawText(word), start + i * step, start + (i + 1) * step, 0.9)
            for i, word in enumerate(spoken)
        ]
        self.listener.on_speech(
            Hypothesis(
                number,
                RawText(text),
                final,
                utterance or f"u{number}",
                "",
                None,
                0.9,
                start,
                end,
                tuple(told) if words else (),
            )
        )


class PlayedRecogniser:
    """Keeps the streams that the service opens."""

    def __init__(self) -> None:
        self.streams: list[PlayedStream] = []
        self.languages = ("en-US",)

    def open(self, spec: StreamSpec, listener: SpeechListener) -> PlayedStream:
        stream = PlayedStream(spec, listener)
        self.streams.append(stream)
        return stream

    async def close(self, timeout_s: float) -> None:
        """Nothing is open elsewhere."""

    def of(self, participant: str) -> PlayedStream:
        """Return the newest stream of a participant."""
        return [one for one in self.streams if one.spec.participant == participant][-1]


@dataclass
class Rig:
    """The running service, and what came of it."""

    service: MediaService
    recogniser: PlayedRecogniser
    records: list[Record]
    address: str
    telemetry: LogTelemetry
    running: asyncio.Task[None]
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def payloads(self, kind: Kind) -> list[dict[str, Any]]:
        return [json.loads(one.payload) for one in self.records if one.kind is kind]

    def texts(self) -> list[str]:
        return [str(one["text"]) for one in self.payloads(Kind.SENTENCE)]

    def gaps(self) -> list[tuple[str, int, int]]:
        return [
            (str(one["cause"]), int(one.get("from_samples", 0)), int(one.get("to_samples", 0)))
            for one in self.payloads(Kind.GAP)
        ]

    async def json(self, **changes: Any) -> ClientConnection:
        """Open a connection of the JSON form."""
        options: dict[str, Any] = {
            "subprotocols": ["media-api"],
            "additional_headers": {"Authorization": f"Bearer {TOKEN}"},
            "compression": None,
            **changes,
        }
        return await self.stack.enter_async_context(
            websockets.connect(f"ws://{self.address}/media-api", **options)
        )

    async def audiohook(self, parameters: OpenParameters, **changes: Any) -> Caller:
        """Open an AudioHook session."""
        session_id = str(uuid4())
        headers = {
            "Audiohook-Organization-Id": ORGANIZATION,
            "Audiohook-Session-Id": session_id,
            "Audiohook-Correlation-Id": str(uuid4()),
            "X-API-KEY": KEY,
            **changes,
        }
        socket = await self.stack.enter_async_context(
            websockets.connect(
                f"ws://{self.address}/audiohook", additional_headers=headers, compression=None
            )
        )
        session = ClientSession(session_id, parameters, now=time.monotonic())
        caller = Caller(socket, session, session_id)
        caller.session.start(time.monotonic())
        caller.reading = asyncio.create_task(caller.read())
        self.stack.push_async_callback(caller.leave)
        await caller.flush()
        return caller


class Caller:
    """An AudioHook client: our machine's other end behind another library's socket."""

    def __init__(self, socket: ClientConnection, session: ClientSession, session_id: str) -> None:
        self.socket = socket
        self.session = session
        self.session_id = session_id
        self.events: list[ClientEvent] = []
        self.reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        try:
            async for message in self.socket:
                data = message.encode() if isinstance(message, str) else message
                self.session.receive_text(data, time.monotonic())
                self.events += self.session.events()
                await self.flush()
        except websockets.ConnectionClosed:
            pass

    async def flush(self) -> None:
        for frame in self.session.to_send():
            await self.socket.send(frame.data, text=frame.is_text)

    async def play(self, audio: bytes) -> None:
        self.session.send_audio(audio, time.monotonic())
        await self.flush()

    async def ping(self) -> None:
        """Let the first ping be due."""
        await until(lambda: self.of(Accepted))
        deadline = self.session.next_deadline()
        assert deadline is not None
        self.session.on_deadline(deadline)
        await self.flush()

    async def leave(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.gather(self.reading, return_exceptions=True)

    def of(self, kind: type[ClientEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def transcripts(self) -> list[Any]:
        return [one for event in self.of(ResultsCame) for one in event.transcripts]

    @property
    def violations(self) -> list[str]:
        return [event.cause for event in self.of(Violated)]

    @property
    def is_over(self) -> bool:
        return bool(self.of(SessionOver))


def envelope(
    number: int,
    *,
    conversation: str = "c1",
    participant: str = "p1",
    audio: bytes = SILENCE,
    **changes: Any,
) -> str:
    """Return a message of the JSON form."""
    return json.dumps(
        {
            "conversationId": conversation,
            "participantId": participant,
            "audio": base64.b64encode(audio).decode(),
            "format": "PCMU",
            "sampleRate": 8000,
            "sequenceNumber": number,
            "timestamp": "2024-01-15T10:30:00.02Z",
            **changes,
        }
    )


async def until(condition: Callable[[], object], *, limit_s: float = 5.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    path: Path,
    *,
    desk: Callable[[LogTelemetry], IdentifierDesk] | None = None,
    recognises: bool = True,
    start_recording: Any = None,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """Serve on a free port until the block ends, then wind down."""
    telemetry = LogTelemetry(level="error", strict=True)
    store = SqliteStore.open(path / "steno.db", {"sink": frozenset(Kind)})
    store.start()
    records: list[Record] = []
    store.on_committed(records.extend)
    spine = SpineService(
        Pipeline(
            PipelineSettings(source="media", host_group="h", follows_language=False), REDACTOR
        ),
        store=store,
        sealer=AesGcmSealer(bytes(range(32))),
        switcher=None,
        telemetry=telemetry,
        settings=SpineSettings(commit_s=0.001, journal="media"),
        clock=time.monotonic,
        utc_us=lambda: time.time_ns() // 1000,
        draw=lambda: 0.0,
    )
    recogniser = PlayedRecogniser()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = msgspec.structs.replace(
        MediaSettings(
            host_group="h",
            shutdown_s=2.0,
            close_wait_s=1.0,
            coalesce_ms=20.0,
            coalesce_max_ms=20.0,
            language=LanguageSettings(languages=("en-US", "es-ES")),
        ),
        **changes,
    )
    async with AsyncExitStack() as stack:
        tokens = await make_verifier(Media(bearer_tokens=Secret(TOKEN)), stack, telemetry)
        service = MediaService(
            settings,
            Tools(
                serve=lambda router: AudioServer(
                    ServerSettings(listen="127.0.0.1:0"), router, telemetry
                ),
                telemetry=telemetry,
                clock=time.monotonic,
                utc_us=lambda: time.time_ns() // 1000,
                may_show=lambda text, language: (
                    not REDACTOR.is_notable(normalise(text), language=language)
                ),
                make_voice=lambda rate: make_voice_activity("webrtc", rate),
                committed=spine.committed,
                desk=(
                    desk(telemetry)
                    if desk is not None
                    else IdentifierDesk(None, None, telemetry, time.monotonic)
                ),
                recogniser=recogniser if recognises else None,
                keyring=Keyring({KEY: ""}),
                tokens=tokens,
                start_recording=start_recording,
                on_listening=listening.set_result,
            ),
        )
        store.on_committed(service.on_committed)
        running = asyncio.create_task(spine.run([service]))
        waiting: set[asyncio.Future[Any]] = {running, listening}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        rig = Rig(service, recogniser, records, listening.result(), telemetry, running)
        try:
            async with rig.stack:
                yield rig
        finally:
            await service.close()
            await running
            await spine.finish(timeout_s=2.0)
            await store.close()


def numbers(chunks: Sequence[AudioChunk]) -> list[int]:
    """Return the numbers of some chunks."""
    return [chunk.sequence_number for chunk in chunks]
