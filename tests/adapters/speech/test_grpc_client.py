"""Call audio to a speech service: real gRPC servers that come, go, refuse, stall and repeat."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.sink_certificates import Authority
from conformance.sink_rules import Recorder
from steno._proto import steno_speech_v1_pb2 as v1
from steno._proto import transcription_pb2 as document
from steno.adapters.grpc_channel import GrpcSettings
from steno.adapters.speech.grpc_client import (
    BREAKER_FAILURES,
    BREAKER_OPEN_S,
    GRADUAL,
    SPREAD_S,
    GrpcRecogniser,
    SpeechServiceSettings,
)
from steno.adapters.speech.grpc_codec import (
    MAX_INT32,
    DocumentCodec,
    SequenceOverflow,
    StenoCodec,
    parse_confidence,
)
from steno.adapters.speech.grpc_link import addresses_of
from steno.core.replay import Budget
from steno.core.secret import Secret
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    SpeechEvent,
    StreamChanged,
    StreamSpec,
    StreamState,
)
from steno.wire.speech_stream import Limits, SpeechStreamMachine

SPEC = StreamSpec("conversation", "participant", "PCMU", 8000)
CHUNK = 800
FAST = Limits(first_s=0.02, cap_s=0.1, busy_first_s=0.05, settle_s=0.1, refused_s=0.2)

Audio = list[tuple[int, bytes]]
Context = grpc.aio.ServicerContext[bytes, bytes]
Handle = Callable[["Service", AsyncIterator[bytes], Context], AsyncIterator[bytes]]


class Service:
    """A speech service that writes down what each call carried."""

    def __init__(self) -> None:
        self.calls: list[list[document.AudioChunk]] = []
        self.requests: list[list[v1.SpeechRequest]] = []
        self.questions = 0
        self.metadata: list[dict[str, str | bytes]] = []
        self.refuse: list[grpc.StatusCode] = []
        self.is_quiet = False

    def audio(self) -> dict[int, bytes]:
        """Return all audio heard, by sequence number; what comes again must be the same."""
        heard: dict[int, bytes] = {}
        for call in self.calls:
            for chunk in call:
                assert heard.setdefault(chunk.sequence_number, chunk.audio_data) == chunk.audio_data
        return heard


async def transcribe(
    service: Service, requests: AsyncIterator[bytes], context: Context
) -> AsyncIterator[bytes]:
    """Answer each chunk with its own text."""
    service.metadata.append(dict(context.invocation_metadata() or ()))
    if service.refuse:
        await context.abort(service.refuse.pop(0), "no")
    call: list[document.AudioChunk] = []
    service.calls.append(call)
    async for request in requests:
        chunk = document.AudioChunk.FromString(request)
        call.append(chunk)
        if not service.is_quiet:
            yield result(chunk.sequence_number, f"t{chunk.sequence_number}")


def result(number: int, text: str) -> bytes:
    return document.TranscriptResult(
        conversation_id="conversation",
        text=text,
        language_confidence="0.93",
        sequence_number=number,
    ).SerializeToString()


async def recognise(
    service: Service, requests: AsyncIterator[bytes], context: Context
) -> AsyncIterator[bytes]:
    """Speak ``steno.v1``: a partial and a final for each message of audio."""
    del context
    call: list[v1.SpeechRequest] = []
    async for message in requests:
        request = v1.SpeechRequest.FromString(message)
        if not call:
            service.requests.append(call)
            ready = v1.SpeechReady(languages=["en-US", "es-ES"])
            yield v1.SpeechResponse(ready=ready).SerializeToString()
        call.append(request)
        if request.WhichOneof("kind") != "audio":
            continue
        number = request.audio.sequence_number
        partial = v1.SpeechHypothesis(utterance=f"{number}", text="he")
        yield v1.SpeechResponse(hypothesis=partial).SerializeToString()
        end = request.audio.start_samples + len(request.audio.audio)
        final = v1.SpeechHypothesis(
            utterance=f"{number}",
            text="hello",
            is_final=True,
            through=number,
            confidence=0.5,
            language="en-US",
            language_confidence=0.75,
            start_samples=request.audio.start_samples,
            end_samples=end,
            words=[
                v1.SpeechWord(
                    text="hello",
                    start_samples=request.audio.start_samples,
                    end_samples=end,
                    confidence=0.25,
                )
            ],
        )
        yield v1.SpeechResponse(hypothesis=final).SerializeToString()
    if not call:
        service.questions += 1


class Server:
    """A real server; ``stop`` breaks what is under way, ``start`` takes the same port again."""

    def __init__(
        self,
        service: Service,
        *,
        handle: Handle | None = transcribe,
        steno: Handle | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._service = service
        self._handlers = {
            "transcription.TranscriptionService": ("StreamAudio", handle),
            "steno.v1.SpeechRecognition": ("Recognise", steno),
        }
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        # Windows that stay as they are: else a fast machine lets megabytes through at once.
        fixed = [("grpc.http2.bdp_probe", 0), ("grpc.so_reuseport", 0)]
        server = grpc.aio.server(options=fixed)
        for service, (method, handle) in self._handlers.items():
            if handle is None:
                continue
            handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
                self._bound(handle)
            )
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {method: handler}),)
            )
        address = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, self._credentials)
        await server.start()
        self._server = server

    def _bound(self, handle: Handle) -> Callable[..., AsyncIterator[bytes]]:
        async def behave(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            async for response in handle(self._service, requests, context):
                yield response

        return behave

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)


@asynccontextmanager
async def serving(
    service: Service,
    *,
    handle: Handle | None = transcribe,
    steno: Handle | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[Server]:
    server = Server(service, handle=handle, steno=steno, credentials=credentials)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Listener:
    """Remembers what a stream yields."""

    def __init__(self) -> None:
        self.events: list[SpeechEvent] = []

    def on_speech(self, event: SpeechEvent) -> None:
        self.events.append(event)

    @property
    def finals(self) -> list[Hypothesis]:
        heard = [event for event in self.events if isinstance(event, Hypothesis)]
        return [event for event in heard if event.is_final and event.text]

    @property
    def texts(self) -> list[str]:
        return [final.text for final in self.finals]

    @property
    def states(self) -> list[tuple[str, str]]:
        changes = [event for event in self.events if isinstance(event, StreamChanged)]
        return [(change.state.value, change.cause) for change in changes]

    def is_in(self, state: StreamState) -> bool:
        return bool(self.states) and self.states[-1][0] == state.value

    @property
    def shed(self) -> list[AudioShed]:
        return [event for event in self.events if isinstance(event, AudioShed)]

    @property
    def is_over(self) -> bool:
        return bool(self.events) and self.events[-1] == StreamChanged(StreamState.OVER)


def audio_of(number: int) -> bytes:
    return number.to_bytes(2, "big") * (CHUNK // 2)


def chunk(number: int, language: str = "en-US") -> AudioChunk:
    return AudioChunk(audio_of(number), number, language, number * CHUNK)


def recogniser(
    target: str,
    *,
    telemetry: Recorder | None = None,
    limits: Limits = FAST,
    budget_bytes: int = 1 << 28,
    service: str = "transcription",
    **settings: object,
) -> GrpcRecogniser:
    return GrpcRecogniser(
        SpeechServiceSettings(
            grpc=GrpcSettings(target=target, **settings),  # type: ignore[arg-type] # by name
            service=service,  # type: ignore[arg-type] # given by each test
            limits=limits,
            budget_bytes=budget_bytes,
            flush_s=0.002,
        ),
        telemetry=telemetry or Recorder(),
        clock=time.monotonic,
        draw=random.random,
    )


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the document's contract -----------------------------------------------------------------


async def test_audio_goes_out_unchanged_and_results_come_back_as_finals() -> None:
    """Bytes, format, rate, language and numbers; half-close ends it in order."""
    service, heard = Service(), Listener()
    async with serving(service) as server:
        client = recogniser(server.target)
        stream = client.open(SPEC, heard)
        stream.send(chunk(0))
        await until(lambda: heard.texts)
        stream.send(chunk(4, language="es-ES"))
        stream.finish()
        await until(lambda: heard.is_over)
        await client.close(1.0)
    (call,) = service.calls
    assert call == [
        document.AudioChunk(
            conversation_id="conversation",
            participant_id="participant",
            audio_data=audio_of(number),
            language_code=language,
            sequence_number=number,
            sample_rate=8000,
            audio_format="PCMU",
        )
        for number, language in ((0, "en-US"), (4, "es-ES"))
    ]
    assert [(one.text, one.through, one.utterance, one.language_confidence) for one in heard.finals]
    first, second = heard.finals
    assert (first.text, first.through, first.start_samples, first.end_samples) == ("t0", 0, 0, 800)
    assert (second.text, second.through, second.start_samples) == ("t4", 4, 3200)
    assert first.language_confidence == 0.93
    assert heard.states == [("up", ""), ("over", "")]


async def test_resumes_on_a_server_that_came_back_on_the_same_port() -> None:
    """What was not answered for is sent again: no gap, and no text twice."""
    service, heard, told = Service(), Listener(), Recorder()
    async with serving(service) as server:
        client = recogniser(server.target, telemetry=told)
        stream = client.open(SPEC, heard)
        number = 0
        for _ in range(3):
            for _ in range(5):
                stream.send(chunk(number))
                number += 1
                await asyncio.sleep(0.002)
            await server.stop()
            for _ in range(5):
                stream.send(chunk(number))
                number += 1
            await until(lambda: heard.states[-1:] and heard.states[-1][0] == "away")
            await server.start()
            await until(lambda: heard.finals and heard.finals[-1].through == number - 1)  # noqa: B023
        stream.finish()
        await until(lambda: heard.is_over)
        await client.close(1.0)
    merged = b"".join(audio for _, audio in sorted(service.audio().items()))
    assert len(merged) >= number * CHUNK
    assert len(set(heard.texts)) == len(heard.texts)
    starts = [(one.start_samples, one.end_samples) for one in heard.finals]
    assert starts[0][0] == 0
    assert all(first[1] == then[0] for first, then in pairwise(starts))
    assert starts[-1][1] == number * CHUNK
    assert heard.shed == []
    assert told.counts["steno_speech_breaks_total"] >= 3
    assert "speech.unavailable" in told.events
    assert told.events[-1] == "speech.available"


async def test_a_service_that_is_not_there_yet_is_waited_for() -> None:
    """Audio is kept; what the buffer cannot hold is told when it goes on."""
    port = free_port()
    service, heard = Service(), Listener()
    limits = Limits(buffer_s=0.5, first_s=0.02, cap_s=0.05)
    client = recogniser(f"127.0.0.1:{port}", limits=limits)
    stream = client.open(SPEC, heard)
    for number in range(8):
        stream.send(chunk(number))
    await until(lambda: heard.states)
    assert heard.states == [("away", "ConnectFailed")]
    assert stream.pressure == 1.0
    server = Server(service)
    server.port = port
    await server.start()
    await until(lambda: heard.texts)
    assert heard.shed == [AudioShed(0, 3 * CHUNK, 0, 2)]
    assert service.calls[0][0].audio_data == b"".join(audio_of(number) for number in range(3, 8))
    assert stream.pressure == 0.0
    stream.abort()
    await client.close(1.0)
    await server.stop()


async def test_those_that_wait_for_the_first_connection_open_as_soon_as_it_is_there() -> None:
    """Many that come at once are not spread over a moment: nothing was ever wrong."""
    service = Service()
    async with serving(service) as server:
        client = recogniser(server.target, limits=Limits(settle_s=0.02))
        streams = [client.open(SPEC, Listener()) for _ in range(300)]
        begun = client.clock()
        await until(lambda: client.contract)
        await until(lambda: all(one.machine.is_writable for one in streams))
        opened_s = [one.machine._opened_at - begun for one in streams]
        assert max(opened_s) - min(opened_s) < SPREAD_S / 10
        for stream in streams:
            stream.abort()
        await client.close(1.0)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "RateLimited"),
        (grpc.StatusCode.UNAVAILABLE, "PeerUnavailable"),
        (grpc.StatusCode.INTERNAL, "ServiceFailed"),
        (grpc.StatusCode.UNAUTHENTICATED, "AuthError"),
        (grpc.StatusCode.PERMISSION_DENIED, "AuthError"),
        (grpc.StatusCode.UNIMPLEMENTED, "NotOffered"),
        (grpc.StatusCode.INVALID_ARGUMENT, "ServiceRefused"),
    ],
)
async def test_a_refused_call_is_tried_again(code: grpc.StatusCode, cause: str) -> None:
    """With its cause told, and all audio once it is taken."""
    service, heard = Service(), Listener()
    service.refuse = [code]
    async with serving(service) as server:
        client = recogniser(server.target)
        stream = client.open(SPEC, heard)
        stream.send(chunk(0))
        await until(lambda: heard.texts)
        assert heard.states == [("away", cause), ("up", "")]
        stream.abort()
        await client.close(1.0)
    assert service.audio() == {0: audio_of(0)}


async def test_the_wait_a_busy_service_asks_for_is_kept() -> None:
    """``grpc-retry-pushback-ms`` among the trailers."""
    calls: list[float] = []

    async def busy(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        calls.append(time.monotonic())
        if len(calls) == 1:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "400"),))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        async for response in transcribe(service, requests, context):
            yield response

    service, heard = Service(), Listener()
    async with serving(service, handle=busy) as server:
        client = recogniser(server.target)
        stream = client.open(SPEC, heard)
        stream.send(chunk(0))
        await until(lambda: heard.texts)
        stream.abort()
        await client.close(1.0)
    assert 0.39 <= calls[1] - calls[0] < 2.0


async def test_an_early_end_with_ok_is_resumed() -> None:
    """A service that ends after some chunks gets the rest on another call."""

    async def ends_early(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        async for response in transcribe(service, requests, context):
            yield response
            return

    service, heard = Service(), Listener()
    async with serving(service, handle=ends_early) as server:
        client = recogniser(server.target)
        stream = client.open(SPEC, heard)
        for number in range(3):
            stream.send(chunk(number))
            await until(lambda: len(heard.texts) > number)  # noqa: B023
        await client.close(1.0)
    assert heard.texts == ["t0", "t1", "t2"]
    assert ("away", "StreamEnded") in heard.states


async def test_repeated_results_are_heard_once() -> None:
    """A service that says everything twice, and after a break once more."""

    async def repeats(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            number = document.AudioChunk.FromString(request).sequence_number
            for _ in range(2):
                yield result(number, f"t{number}")
            if number == 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "")
            if number == 2:
                yield result(0, "t0")
                yield result(1, "t1")

    heard, told = Listener(), Recorder()
    async with serving(Service(), handle=repeats) as server:
        client = recogniser(server.target, telemetry=told)
        stream = client.open(SPEC, heard)
        for number in range(3):
            stream.send(chunk(number))
            await until(lambda: len(heard.texts) > number)  # noqa: B023
        await client.close(1.0)
    assert heard.texts == ["t0", "t1", "t2"]
    assert told.counts["steno_speech_repeats_total"] >= 3


async def test_an_answer_beyond_what_was_sent_costs_the_call() -> None:
    """It is reset and opened again; nothing of the answer is passed on."""
    attempts = 0

    async def runs_ahead(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            async for response in transcribe(service, requests, context):
                yield response
        else:
            await anext(requests)
            yield result(99, "never said")
            await asyncio.sleep(5)

    heard = Listener()
    async with serving(Service(), handle=runs_ahead) as server:
        client = recogniser(server.target)
        stream = client.open(SPEC, heard)
        stream.send(chunk(0))
        await until(lambda: heard.texts)
        await client.close(1.0)
    assert heard.texts == ["t0"]
    assert ("away", "ServiceFailed") in heard.states


async def test_a_slow_reader_raises_the_pressure_and_loses_nothing() -> None:
    """Flow control holds audio back; nobody is blocked, and all of it arrives in the end."""
    go_on = asyncio.Event()

    async def slow(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        await go_on.wait()
        async for response in transcribe(service, requests, context):
            yield response

    service, heard = Service(), Listener()
    spec = StreamSpec("conversation", "participant", "L16", 48_000)
    limits = Limits(merge_s=0.1, buffer_s=60.0)
    async with serving(service, handle=slow) as server:
        client = recogniser(server.target, limits=limits)
        stream = client.open(spec, heard)
        size = 9600  # 100 ms
        for number in range(500):
            audio = number.to_bytes(2, "big") * (size // 2)
            stream.send(AudioChunk(audio, number, "en-US", number * size // 2))
        await until(lambda: service.calls or stream.machine.is_writable)
        await asyncio.sleep(0.1)
        assert 0.7 < stream.pressure < 0.83  # but for the windows' 64 KB
        go_on.set()
        stream.finish()
        await until(lambda: heard.is_over, 15.0)
        await client.close(1.0)
    assert service.audio() == {
        number: number.to_bytes(2, "big") * (size // 2) for number in range(500)
    }
    assert heard.shed == []


async def test_a_service_that_stands_still_is_left_and_tried_again() -> None:
    """No byte could be written for ``stall_s``."""
    attempts = 0

    async def hangs(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await asyncio.Event().wait()
        async for response in transcribe(service, requests, context):
            yield response

    service, heard = Service(), Listener()
    spec = StreamSpec("conversation", "participant", "L16", 48_000)
    limits = Limits(merge_s=0.1, buffer_s=60.0, stall_s=0.2, first_s=0.02)
    async with serving(service, handle=hangs) as server:
        client = recogniser(server.target, limits=limits)
        stream = client.open(spec, heard)
        for number in range(500):
            stream.send(AudioChunk(bytes(9600), number, "en-US", number * 4800))
        stream.finish()
        await until(lambda: heard.is_over, 15.0)
        await client.close(1.0)
    assert ("away", "TimedOut") in heard.states
    assert sorted(service.audio()) == list(range(500))


async def test_a_service_that_never_answers_costs_no_audio() -> None:
    """Its buffer stays bounded, pressure stays low, and nothing is called shed."""
    service, heard = Service(), Listener()
    service.is_quiet = True
    limits = Limits(buffer_s=0.5, settle_s=0.05)
    async with serving(service) as server:
        client = recogniser(server.target, limits=limits)
        stream = client.open(SPEC, heard)
        await until(lambda: stream.machine.is_writable)
        for number in range(30):
            stream.send(chunk(number))
            client.flush()
        assert stream.pressure == 0.0
        assert client.budget.held <= 5 * CHUNK
        stream.finish()
        await until(lambda: heard.is_over)
        await client.close(1.0)
    assert sum(len(one.audio_data) for one in service.calls[0]) == 30 * CHUNK
    assert heard.events == [
        StreamChanged(StreamState.UP),
        StreamChanged(StreamState.OVER),
    ] or heard.events == [StreamChanged(StreamState.OVER)]


async def test_the_stream_that_holds_most_gives_first_when_all_hold_too_much() -> None:
    """The budget of all streams together; the others keep theirs."""
    heard = [Listener(), Listener()]
    client = recogniser(f"127.0.0.1:{free_port()}", budget_bytes=10 * CHUNK)
    greedy = client.open(SPEC, heard[0])
    modest = client.open(SPEC, heard[1])
    for number in range(2):
        modest.send(chunk(number))
    for number in range(20):
        greedy.send(chunk(number))
        assert client.budget.held <= 10 * CHUNK
    assert modest.held_s == 0.2
    assert greedy.held_s < 0.9
    assert modest.pressure > 0.8
    await client.close(0.0)
    assert heard[0].shed[-1].to_sequence == 19
    assert [(one.from_sequence, one.to_sequence) for one in heard[1].shed] == [(0, 1)]
    assert client.budget.held == 0


class Refusing:
    """Counts what is tried; takes calls once ``is_open``."""

    def __init__(self, *, after_s: float = 0.0) -> None:
        self.after_s = after_s
        self.is_open = False
        self.attempts = 0

    async def handle(
        self, service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Refuse the call, or answer it."""
        self.attempts += 1
        if not self.is_open:
            await asyncio.sleep(self.after_s)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "")
        async for response in transcribe(service, requests, context):
            yield response


async def test_a_thousand_streams_do_not_hammer_a_service_that_refuses() -> None:
    """One tries at a time; when it is taken the others follow."""
    refusing, told = Refusing(), Recorder()
    listeners = [Listener() for _ in range(200)]
    limits = Limits(first_s=0.02, cap_s=0.1)  # ``settle_s`` is the usual one: refused before it
    async with serving(Service(), handle=refusing.handle) as server:
        client = recogniser(server.target, limits=limits, telemetry=told)
        streams = [client.open(SPEC, one) for one in listeners]
        started = time.monotonic()
        await until(lambda: "speech.unavailable" in told.events)
        await until(lambda: refusing.attempts >= len(streams), 10.0)
        await asyncio.sleep(1.2)
        trials = 1 + (time.monotonic() - started) / BREAKER_OPEN_S
        # One less than trip the breaker may have been tried again before it did.
        assert refusing.attempts <= len(streams) + BREAKER_FAILURES - 1 + trials
        refusing.is_open = True
        for stream in streams:
            stream.send(chunk(0))
        await until(lambda: all(one.texts == ["t0"] for one in listeners), 10.0)
        await client.close(2.0)
    assert told.events.count("speech.unavailable") == 1
    assert told.events.count("speech.available") == 1


async def test_a_service_that_refuses_late_is_not_hammered_either() -> None:
    """Refusals that come when calls count as taken are refusals: few try, then all are back."""
    refusing, told = Refusing(after_s=0.6), Recorder()
    listeners = [Listener() for _ in range(200)]
    limits = Limits(first_s=0.02, cap_s=0.1, settle_s=0.2)
    async with serving(Service(), handle=refusing.handle) as server:
        client = recogniser(server.target, limits=limits, telemetry=told)
        streams = [client.open(SPEC, one) for one in listeners]
        started = time.monotonic()
        await until(lambda: "speech.unavailable" in told.events)
        await until(lambda: refusing.attempts >= len(streams), 10.0)
        await asyncio.sleep(2.2)
        trials = 1 + (time.monotonic() - started) / BREAKER_OPEN_S
        # Until the trial is refused it lets GRADUAL others go, and those GRADUAL each.
        most = trials * (1 + GRADUAL + GRADUAL * GRADUAL)
        assert refusing.attempts <= len(streams) + BREAKER_FAILURES - 1 + most
        refusing.is_open = True
        for stream in streams:
            stream.send(chunk(0))
        await until(lambda: all(one.texts == ["t0"] for one in listeners), 10.0)
        await client.close(2.0)
    assert told.events.count("speech.unavailable") == 1


async def test_a_service_that_takes_calls_in_silence_gets_them_back_step_by_step() -> None:
    """Nobody speaks, so nothing is answered: what outlives the wait lets a few others go."""
    refusing, service = Refusing(), Service()
    listeners = [Listener() for _ in range(30)]
    limits = Limits(first_s=0.02, cap_s=0.1, settle_s=0.2)
    async with serving(service, handle=refusing.handle) as server:
        client = recogniser(server.target, limits=limits)
        for one in listeners:
            client.open(SPEC, one)
        await until(lambda: all(one.is_in(StreamState.AWAY) for one in listeners))
        refusing.is_open = True
        await until(lambda: len(service.calls) > 0)
        assert len(service.calls) <= 1 + GRADUAL
        await until(lambda: all(one.is_in(StreamState.UP) for one in listeners))
        assert len(service.calls) == len(listeners)
        await client.close(2.0)


async def test_streams_beyond_a_connection_s_limit_get_another_connection() -> None:
    """Proxies allow a hundred streams or so."""
    service, told = Service(), Recorder()
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 5)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
        Server(service)._bound(transcribe)
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "transcription.TranscriptionService", {"StreamAudio": handler}
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = recogniser(f"127.0.0.1:{port}", telemetry=told)
    listeners = [Listener() for _ in range(12)]
    streams = [client.open(SPEC, one) for one in listeners]
    for stream in streams:
        stream.send(chunk(0))
    await until(lambda: all(one.texts for one in listeners))
    assert len(client._service.links) == 3
    await client.close(1.0)
    await server.stop(None)


async def test_numbers_beyond_an_int32_are_counted_anew_on_a_new_call() -> None:
    """Acknowledgements come back as the caller's numbers."""
    heard, service = Listener(), Service()
    start = MAX_INT32 - (1 << 24) - 1
    async with serving(service) as server:
        client = recogniser(server.target)
        stream = client.open(SPEC, heard)
        for number in (start, MAX_INT32, MAX_INT32 + 1):
            stream.send(AudioChunk(audio_of(1), number, "en-US", (number - start) * CHUNK))
            await until(lambda: heard.finals and heard.finals[-1].through == number)  # noqa: B023
        await client.close(1.0)
    numbers = [[one.sequence_number for one in call] for call in service.calls]
    assert numbers == [[start, MAX_INT32], [0]]


# --- steno.v1 --------------------------------------------------------------------------------


async def test_our_own_contract_is_spoken_where_it_is_offered() -> None:
    """Asked for once, not by every stream; words, partials and languages come with it."""
    service, told = Service(), Recorder()
    listeners = [Listener() for _ in range(3)]
    async with serving(service, steno=recognise) as server:
        client = recogniser(server.target, telemetry=told, service="auto")
        spec = StreamSpec("conversation", "participant", "PCMU", 8000, channel=1)
        for one in listeners:
            stream = client.open(spec, one)
            stream.send(chunk(0))
            stream.send(AudioChunk(audio_of(2), 2, "es-ES", 5 * CHUNK))
        await until(lambda: all(len(one.texts) == 2 for one in listeners))
        assert client.contract == "steno.v1"
        assert client.languages == ("en-US", "es-ES")
        await client.close(1.0)
    assert service.calls == []
    assert service.questions == 1
    assert told.told[0] == ("speech.contract_found", {"state": "steno.v1"})
    opening, first, second = service.requests[0]
    assert opening.open == v1.SpeechOpen(
        conversation_id="conversation",
        participant_id="participant",
        channel=1,
        format="PCMU",
        sample_rate=8000,
        language="en-US",
    )
    assert first.audio == v1.SpeechAudio(audio=audio_of(0), sequence_number=0, start_samples=0)
    assert second.audio == v1.SpeechAudio(
        audio=audio_of(2), sequence_number=2, start_samples=5 * CHUNK, language="es-ES"
    )
    partial, final = [one for one in listeners[0].events if isinstance(one, Hypothesis)][:2]
    assert (partial.text, partial.is_final, partial.through) == ("he", False, -1)
    assert (final.text, final.through, final.utterance) == ("hello", 0, partial.utterance)
    assert (final.confidence, final.language, final.language_confidence) == (0.5, "en-US", 0.75)
    assert [(one.text, one.end_samples, one.confidence) for one in final.words] == [
        ("hello", 800, 0.25)
    ]
    assert listeners[0].is_over


async def test_the_document_s_contract_is_spoken_where_ours_is_not_offered() -> None:
    """Every stream's audio waits for the answer to one question."""
    service, told = Service(), Recorder()
    listeners = [Listener() for _ in range(5)]
    async with serving(service) as server:
        client = recogniser(server.target, telemetry=told, service="auto")
        for one in listeners:
            client.open(SPEC, one).send(chunk(0))
        await until(lambda: all(one.texts for one in listeners))
        assert client.contract == "transcription"
        await client.close(1.0)
    assert len(service.calls) == 5
    assert told.events == ["speech.contract_found", "speech.available"]


async def test_a_resumed_call_of_ours_says_where_it_goes_on() -> None:
    """``resume_from`` is behind the last acknowledged number, and absent at the beginning."""
    service, heard = Service(), Listener()
    async with serving(service, steno=recognise) as server:
        client = recogniser(server.target, service="steno.v1")
        stream = client.open(SPEC, heard)
        stream.send(chunk(0))
        await until(lambda: heard.texts)
        await server.stop()
        stream.send(chunk(1))
        await server.start()
        await until(lambda: len(heard.texts) == 2)
        await client.close(1.0)
    first, second = (call[0].open for call in service.requests)
    assert not first.HasField("resume_from")
    assert second.resume_from == 1
    assert [request.audio.sequence_number for request in service.requests[1][1:]] == [1]


# --- connection ------------------------------------------------------------------------------


async def test_tls_with_a_client_certificate_and_a_token() -> None:
    """The token goes with each call, and a service with another certificate is not trusted."""
    authority, stranger = Authority(), Authority()
    ours, theirs = authority.client("gateway"), authority.server("127.0.0.1")
    credentials = grpc.ssl_server_credentials(
        [(theirs.key.read_bytes(), theirs.certificate.read_bytes())],
        authority.certificate.read_bytes(),
        require_client_auth=True,
    )
    service, heard, refused = Service(), Listener(), Listener()
    async with serving(service, credentials=credentials) as server:
        client = recogniser(
            server.target,
            tls=True,
            ca_file=authority.certificate,
            cert_file=ours.certificate,
            key_file=ours.key,
            token=Secret("sesame"),
        )
        client.open(SPEC, heard).send(chunk(0))
        await until(lambda: heard.texts)
        await client.close(1.0)
        wary = recogniser(server.target, tls=True, ca_file=stranger.certificate)
        wary.open(SPEC, refused).send(chunk(0))
        await until(lambda: refused.states)
        await wary.close(0.0)
    assert service.metadata[0]["authorization"] == "Bearer sesame"
    assert refused.states[0] == ("away", "TlsFailed")
    authority.close()
    stranger.close()


async def test_a_replaced_token_is_read_after_a_refusal(tmp_path: Path) -> None:
    """Without a restart, and without a new connection where none is needed."""
    file = tmp_path / "token"
    file.write_text("old")

    async def guarded(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        given = dict(context.invocation_metadata() or ())
        if given["authorization"] != "Bearer new":
            file.write_text("new")
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "")
        async for response in transcribe(service, requests, context):
            yield response

    heard = Listener()
    async with serving(Service(), handle=guarded) as server:
        client = recogniser(server.target, token_file=file)
        client.open(SPEC, heard).send(chunk(0))
        await until(lambda: heard.texts)
        await client.close(1.0)
    assert heard.states[:2] == [("away", "AuthError"), ("up", "")]


async def test_a_service_that_dies_of_every_call_is_not_called_all_the_time() -> None:
    """It takes connections, so dialling succeeds; its delays grow all the same."""
    connections = 0

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"\0\0\0\x04\0\0\0\0\0")
        with suppress(ConnectionError):
            await reader.read(65536)
        writer.close()

    server = await asyncio.start_server(dies, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    heard, told = Listener(), Recorder()
    limits = Limits(first_s=0.1, cap_s=5.0)
    client = recogniser(f"127.0.0.1:{port}", limits=limits, telemetry=told)
    client.open(SPEC, heard).send(chunk(0))
    await until(lambda: connections > 1)
    await asyncio.sleep(0.6)
    assert connections <= 8
    await client.close(0.0)
    server.close()
    await server.wait_closed()
    assert heard.states[0] == ("away", "PeerUnavailable")
    assert told.events.count("speech.unavailable") == 1


async def test_a_token_that_runs_out_in_a_call_is_tried_again_soon() -> None:
    """Only a refusal at the beginning waits for an operator."""
    limits = Limits(first_s=0.02, cap_s=0.1, refused_s=30.0)
    attempts = 0

    async def expires(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        nonlocal attempts
        attempts += 1
        async for response in transcribe(service, requests, context):
            yield response
            if attempts == 1:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "")

    heard = Listener()
    async with serving(Service(), handle=expires) as server:
        client = recogniser(server.target, limits=limits)
        stream = client.open(SPEC, heard)
        for number in range(2):
            stream.send(chunk(number))
            await until(lambda: len(heard.texts) > number)  # noqa: B023
        await client.close(1.0)
    assert heard.texts == ["t0", "t1"]


async def test_a_peer_that_goes_silent_is_noticed() -> None:
    """It takes the connection and answers nothing, pings included."""
    connected, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0\0\x04\0\0\0\0\0")  # its settings, and no more
        connected.set()
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()
        gone.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    heard = Listener()
    client = recogniser(f"127.0.0.1:{port}", keepalive_s=0.05, keepalive_timeout_s=0.05)
    client.open(SPEC, heard).send(chunk(0))
    await connected.wait()
    await gone.wait()
    await until(lambda: heard.states)
    await client.close(0.0)
    server.close()
    await server.wait_closed()


async def test_a_peer_that_speaks_no_http2_is_no_service() -> None:
    """Its bytes are not quoted anywhere."""

    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talks, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    heard, told = Listener(), Recorder()
    client = recogniser(f"127.0.0.1:{port}", telemetry=told)
    client.open(SPEC, heard).send(chunk(0))
    await until(lambda: heard.states)
    await client.close(0.0)
    server.close()
    await server.wait_closed()
    assert heard.states[0] == ("away", "RemoteProtocolError")
    assert "Bad Request" not in repr(told.told)


async def test_closing_waits_for_results_and_no_longer_than_it_may() -> None:
    """What is on its way still arrives; a service that hangs is left behind."""

    async def late(
        service: Service, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        async for _ in requests:
            pass
        await asyncio.sleep(0.05)
        yield result(0, "late")
        if service.is_quiet:
            await asyncio.sleep(30)

    for hangs in (False, True):
        service, heard, told = Service(), Listener(), Recorder()
        service.is_quiet = hangs
        async with serving(service, handle=late) as server:
            client = recogniser(server.target, telemetry=told)
            stream = client.open(SPEC, heard)
            stream.send(chunk(0))
            await until(lambda: service.metadata or stream.machine.is_writable)  # noqa: B023
            await client.close(0.3)
        assert heard.texts == ["late"]
        assert isinstance(heard.events[-1], StreamChanged)
        assert ("speech.close_timed_out" in told.events) is hangs
        client.open(SPEC, heard).send(chunk(1))  # nobody listens any more


@pytest.mark.parametrize(
    ("target", "authority", "addresses"),
    [
        ("host:1", "host:1", [("host", 1)]),
        ("[::1]:2", "[::1]:2", [("::1", 2)]),
        ("dns:///host:3", "host:3", [("host", 3)]),
        ("ipv4:127.0.0.1:4,127.0.0.2:5", "127.0.0.1:4", [("127.0.0.1", 4), ("127.0.0.2", 5)]),
        ("unix:/run/stt", "localhost", []),
    ],
)
def test_targets_are_read_as_grpc_reads_them(
    target: str, authority: str, addresses: list[tuple[str, int]]
) -> None:
    """The same forms as for consumers."""
    assert addresses_of(target) == (authority, addresses)


# --- messages --------------------------------------------------------------------------------

CHUNKS = st.builds(
    AudioChunk,
    st.binary(max_size=40_000),
    st.integers(0, MAX_INT32 - (1 << 24) - 1),
    st.sampled_from(["en-US", "es-ES", ""]),
    st.integers(0, 1 << 40),
)


@given(st.lists(CHUNKS, max_size=5))
def test_hand_made_messages_are_what_the_library_reads(chunks: list[AudioChunk]) -> None:
    """Every field of both contracts, framed."""
    spec = StreamSpec("çonversation", "participant", "PCMA", 16_000, language="fr-FR")
    ours, theirs = StenoCodec(spec), DocumentCodec(spec)
    language = "fr-FR"
    for one in chunks:
        message = theirs.audio(one)
        assert message[:5] == b"\0" + (len(message) - 5).to_bytes(4, "big")
        assert document.AudioChunk.FromString(message[5:]) == document.AudioChunk(
            conversation_id="çonversation",
            participant_id="participant",
            audio_data=one.audio,
            language_code=one.language,
            sequence_number=one.sequence_number,
            sample_rate=16_000,
            audio_format="PCMA",
        )
        request = v1.SpeechRequest.FromString(ours.audio(one)[5:])
        assert request == v1.SpeechRequest(
            audio=v1.SpeechAudio(
                audio=one.audio,
                sequence_number=one.sequence_number,
                start_samples=one.start_samples,
                language="" if one.language == language else one.language,
            )
        )
        language = one.language


def test_a_number_that_outgrows_an_int32_on_a_call_asks_for_another() -> None:
    """The new one counts from there."""
    codec = DocumentCodec(SPEC)
    codec.audio(AudioChunk(b"x", 0, "", 0))
    with pytest.raises(SequenceOverflow):
        codec.audio(AudioChunk(b"x", MAX_INT32 + 1, "", 0))
    DocumentCodec(SPEC).audio(AudioChunk(b"x", 1 << 40, "", 0))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.93", 0.93), ("1", 1.0), ("0", 0.0), (" .5 ", 0.5), ("1.00", 1.0),
        ("", None), ("93%", None), ("1.5", None), ("-0.1", None), ("nan", None), ("1e-1", None),
        ("0,93", None), ("high", None), ("٠.٥", None),
    ],
)  # fmt: skip
def test_a_confidence_told_as_text_is_a_decimal_or_nothing(text: str, value: float | None) -> None:
    """The document's field is a string, and services write all sorts of things into it."""
    assert parse_confidence(text) == value


def test_what_cannot_be_is_left_out_of_a_hypothesis() -> None:
    """Shares outside 0..1, positions that go back: as if not told."""
    machine = SpeechStreamMachine(SPEC, limits=Limits(), budget=Budget(1 << 20))
    machine.opened(now=0.0)
    strange = v1.SpeechHypothesis(
        utterance="1",
        text="x",
        is_final=True,
        confidence=float("nan"),
        language_confidence=7.0,
        start_samples=9,
        end_samples=3,
        words=[v1.SpeechWord(text="x", start_samples=-1, end_samples=5)],
    )
    response = v1.SpeechResponse(hypothesis=strange).SerializeToString()
    StenoCodec(SPEC).take(response, machine)
    heard = machine.events()[-1]
    assert isinstance(heard, Hypothesis)
    assert (heard.confidence, heard.language_confidence, heard.words) == (0.0, None, ())
    assert (heard.start_samples, heard.end_samples, heard.through) == (0, 0, -1)
