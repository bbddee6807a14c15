"""A speech-to-text service over gRPC: both contracts, on a recogniser in this process.

A stream is read only while its audio is being recognised in time: when half of its buffer waits,
nothing more is taken from the socket, and HTTP/2 flow control holds the caller back. Nothing is
remembered beyond a stream: a caller whose stream broke sends again what was not acknowledged.

The end: new streams are refused, running ones end with UNAVAILABLE behind their next answer,
between two utterances, so that the caller loses and repeats nothing when it goes on elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2  # type: ignore[import-untyped]  # no types

from steno._proto import steno_speech_v1_pb2, transcription_pb2
from steno.adapters.grpc_serving import bind, check_listening, is_authorised, make_server
from steno.adapters.speech.local import LocalRecogniser
from steno.adapters.speech.server_contracts import (
    MAX_CHUNK_S,
    Contract,
    DocumentContract,
    Refused,
    StenoContract,
)
from steno.core.audio import SAMPLE_BYTES, Encoding
from steno.core.secret import Secret
from steno.errors import UnsupportedAudio
from steno.ports import Telemetry
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    SpeechEvent,
    SpeechStream,
    StreamChanged,
    StreamSpec,
    StreamState,
)

DOCUMENT_SERVICE: Final = "transcription.TranscriptionService"
STENO_SERVICE: Final = "steno.v1.SpeechRecognition"

BUFFER_S: Final = 3 * MAX_CHUNK_S
READ_BELOW: Final = 0.5
"""Share of a stream's buffer above which it is not read: the largest message still fits in."""
POLL_S: Final = 0.02
MAX_ANSWERS: Final = 64
"""Answers that wait to be written; then partials are dropped and nothing is read."""
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
RETRY_AFTER_S: Final = 1
IDLE_S: Final = 1.0
"""At the end, a stream on which nothing came for so long is in a pause."""
STOP_GRACE_S: Final = 2.0

# A generated servicer's context; its type parameters say nothing that is used here.
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechServerSettings:
    """How the service listens.

    Attributes:
        listen: ``host:port`` or ``unix:/path``; port 0 takes a free one.
        cert_file, key_file: PEM certificate chain and key: the server speaks TLS.
        client_ca_file: Clients must show a certificate signed by one of these.
        plaintext: Listen beyond this machine without TLS, on explicit wish.
        token: Bearer token every stream must carry; empty asks for none.
        max_streams: Streams at once; more get RESOURCE_EXHAUSTED.
        drain_s: At the end, running streams get so long to come to a pause.
    """

    listen: str = "127.0.0.1:50061"
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    plaintext: bool = False
    token: Secret = field(default_factory=lambda: Secret(""))
    max_streams: int = 200
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        check_listening(self)


class SpeechTotals(msgspec.Struct, frozen=True):
    """Totals of one run. ``lost`` counts stretches of audio given up or failed on."""

    streams: int
    refused: int
    finals: int
    audio_s: float
    lost: int


class SpeechServer:
    """Serves until told to stop; ``run`` is the whole life.

    Args:
        recogniser: Made with ``buffer_s=BUFFER_S``; closed at the end of ``run``.
    """

    def __init__(
        self, settings: SpeechServerSettings, recogniser: LocalRecogniser, telemetry: Telemetry
    ) -> None:
        self._settings = settings
        self._recogniser = recogniser
        self._telemetry = telemetry
        self._health = health.aio.HealthServicer()
        self._running: set[_Stream] = set()
        self._is_stopping = False
        self._streams = self._refused = self._finals = self._lost = 0
        self._audio_s = 0.0

    @property
    def totals(self) -> SpeechTotals:
        """Totals so far."""
        return SpeechTotals(
            streams=self._streams,
            refused=self._refused,
            finals=self._finals,
            audio_s=round(self._audio_s, 3),
            lost=self._lost,
        )

    async def run(
        self, stop: asyncio.Event, *, on_listening: Callable[[str], None]
    ) -> SpeechTotals:
        """Serve until ``stop``, then bring running streams to a pause, and return.

        Args:
            on_listening: Called once with the address, its port filled in.

        Raises:
            ConfigError: The address or a certificate cannot be used.
        """
        server = self._server()
        try:
            address = bind(server, self._settings, refusal="the speech service cannot listen there")
            for service in ("", DOCUMENT_SERVICE, STENO_SERVICE):
                await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
            await server.start()
            self._telemetry.info("speech.listening", address=address)
            on_listening(address)
            try:
                await stop.wait()
            finally:
                self._is_stopping = True
                await self._health.enter_graceful_shutdown()
                await self._drain()
                await server.stop(STOP_GRACE_S)
        finally:
            await self._recogniser.close(0.0)
        return self.totals

    async def _drain(self) -> None:
        for stream in self._running:
            stream.drain()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.drain_s
        while self._running:
            now = loop.time()
            for stream in self._running:
                if now > end or now - stream.read_at > IDLE_S:
                    stream.cut()
            await asyncio.sleep(POLL_S)

    def _server(self) -> grpc.aio.Server:
        document = grpc.stream_stream_rpc_method_handler(
            self._document,
            request_deserializer=transcription_pb2.AudioChunk.FromString,
            response_serializer=transcription_pb2.TranscriptResult.SerializeToString,
        )
        steno = grpc.stream_stream_rpc_method_handler(
            self._steno,
            request_deserializer=steno_speech_v1_pb2.SpeechRequest.FromString,
            response_serializer=steno_speech_v1_pb2.SpeechResponse.SerializeToString,
        )
        return make_server(
            {
                DOCUMENT_SERVICE: {"StreamAudio": document},
                STENO_SERVICE: {"Recognise": steno},
            },
            self._health,
            max_message_bytes=MAX_MESSAGE_BYTES,
            # More than are served: those beyond get an answer, and do not wait in silence.
            max_streams=2 * self._settings.max_streams + 100,
        )

    # --- streams -----------------------------------------------------------------------------

    async def _document(self, _: object, context: Context) -> None:
        await self._serve(DocumentContract(), context)

    async def _steno(self, _: object, context: Context) -> None:
        await self._serve(StenoContract(), context)

    async def _serve(self, contract: Contract, context: Context) -> None:
        try:
            self._admit(context)
            message = await context.read()
            if message is grpc.aio.EOF:
                return  # somebody asked whether we are here
            self._make_room()
            spec, chunk = contract.first(message)
            encoding = self._check(contract, spec)
            stream = _Stream(contract, context, SAMPLE_BYTES[encoding])
            self._running.add(stream)
            self._streams += 1
            try:
                stream.start(self._recogniser.open(spec, stream))
                ready = contract.ready(self._recogniser.languages)
                if ready is not None:
                    await context.write(ready)
                if chunk is not None:
                    stream.take(chunk)
                await stream.run()
            finally:
                stream.close()
                self._running.discard(stream)
                self._finals += stream.finals
                self._lost += stream.lost
                self._audio_s += stream.samples / spec.rate_hz
        except Refused as refusal:
            self._refused += refusal.code is not grpc.StatusCode.UNAVAILABLE
            trailing: tuple[tuple[str, str], ...] = ()
            if refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                trailing = (("retry-after", str(RETRY_AFTER_S)),)
            await context.abort(refusal.code, refusal.detail, trailing)

    def _admit(self, context: Context) -> None:
        if self._is_stopping:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "stopping")
        metadata = dict(context.invocation_metadata() or ())
        if not is_authorised(metadata, self._settings.token):
            raise Refused(grpc.StatusCode.UNAUTHENTICATED, "token")

    def _make_room(self) -> None:
        if self._is_stopping:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "stopping")
        if len(self._running) >= self._settings.max_streams:
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "streams")

    def _check(self, contract: Contract, spec: StreamSpec) -> Encoding:
        try:
            return self._recogniser.check(spec)
        except UnsupportedAudio as error:
            is_rate = error.fields.get("setting") == "rate_hz"
            is_document = isinstance(contract, DocumentContract)
            name = "sample_rate" if is_rate else "audio_format" if is_document else "format"
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, name) from error


class _Stream:
    """One call: reads audio, writes answers; a port ``SpeechListener``."""

    def __init__(self, contract: Contract, context: Context, sample_bytes: int) -> None:
        self._contract = contract
        self._context = context
        self._speech: SpeechStream | None = None
        self._answers: deque[Hypothesis] = deque()
        self._wake = asyncio.Event()
        self._is_over = False
        self._is_draining = False
        self._is_finished = False
        self._failure: Refused | None = None
        self._sample_bytes = sample_bytes
        self.read_at = asyncio.get_running_loop().time()
        self.finals = self.lost = self.samples = 0

    def start(self, speech: SpeechStream) -> None:
        """The recogniser's stream is there."""
        self._speech = speech

    def close(self) -> None:
        """Let go of the recogniser's stream, if it is not over."""
        if self._speech is not None and not self._is_over:
            self._speech.abort()

    def drain(self) -> None:
        """End with the next answer that acknowledges; at the end of audio as always."""
        self._is_draining = True

    def cut(self) -> None:
        """End now; the caller sends again what was not acknowledged."""
        self._fail(Refused(grpc.StatusCode.UNAVAILABLE, "stopping"))

    def on_speech(self, event: SpeechEvent) -> None:
        """Take what the recogniser says."""
        if isinstance(event, Hypothesis):
            if not event.is_final and len(self._answers) >= MAX_ANSWERS:
                return
            self._answers.append(event)
        elif isinstance(event, AudioShed):
            self.lost += 1
            return
        elif isinstance(event, StreamChanged) and event.state is StreamState.OVER:
            self._is_over = True
        self._wake.set()

    def _fail(self, refusal: Refused) -> None:
        if self._failure is None:
            self._failure = refusal
        self._wake.set()

    # --- reading -----------------------------------------------------------------------------

    def take(self, chunk: AudioChunk) -> None:
        """Pass audio on to the recogniser."""
        self.samples += len(chunk.audio) // self._sample_bytes
        if self._speech is not None:
            self._speech.send(chunk)

    async def _read(self, speech: SpeechStream) -> None:
        try:
            while True:
                # Threads lower the pressure, the socket takes answers: neither sets an event.
                while speech.pressure > READ_BELOW or len(self._answers) > MAX_ANSWERS:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
                message = await self._context.read()
                if message is grpc.aio.EOF:
                    self._is_finished = True
                    speech.finish()
                    return
                self.read_at = asyncio.get_running_loop().time()
                chunk = self._contract.chunk(message)
                if chunk is not None:
                    self.take(chunk)
        except Refused as refusal:
            self._fail(refusal)

    # --- writing -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Read and write until everything is said.

        Raises:
            Refused: The stream ends with this status, behind what was answered before.
        """
        speech = self._speech
        if speech is None:
            return
        reader = asyncio.get_running_loop().create_task(self._read(speech))
        try:
            await self._write()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        if self._failure is not None:
            raise self._failure
        if not self._is_finished:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "stopping")

    async def _write(self) -> None:
        while True:
            while self._answers:
                heard = self._answers.popleft()
                self.finals += heard.is_final and bool(heard.text)
                answer = self._contract.answer(heard)
                if answer is not None:
                    await self._context.write(answer)
                if self._is_draining and heard.through >= 0 and not self._is_finished:
                    return
            if self._failure is not None:
                return
            if self._is_over:
                break
            self._wake.clear()
            await self._wake.wait()
        rest = self._contract.rest()
        if rest is not None:
            await self._context.write(rest)
