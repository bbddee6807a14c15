"""The speech service over gRPC, as any caller of either contract meets it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no types

from adapters.speech.spoken import (
    FRAME,
    RATE_HZ,
    TEXTS,
    CountingEngine,
    call,
    loud,
    silence,
    speech,
    ulaw,
)
from adapters.speech.test_local import Listener, send, until
from conformance.sink_certificates import Authority
from conformance.sink_rules import Recorder
from steno._proto import steno_speech_v1_pb2 as v1
from steno._proto import transcription_pb2 as document
from steno.adapters.grpc_channel import GrpcSettings
from steno.adapters.speech.engines.pocketsphinx import PocketSphinxEngine
from steno.adapters.speech.grpc_client import GrpcRecogniser, SpeechServiceSettings
from steno.adapters.speech.local import LocalRecogniser
from steno.adapters.speech.server import BUFFER_S, SpeechServer, SpeechServerSettings
from steno.core.audio import Samples
from steno.core.secret import Secret
from steno.errors import ConfigError
from steno.ports.speech import StreamSpec

CHUNK = 800
Code = grpc.StatusCode
DOCUMENT = "/transcription.TranscriptionService/StreamAudio"
STENO = "/steno.v1.SpeechRecognition/Recognise"


class Service:
    """A running service and a channel to it."""

    def __init__(self, server: SpeechServer, address: str, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.address = address
        self.channel = channel
        self.stop = asyncio.Event()

    def document(self, **options: Any) -> Any:
        return self.channel.stream_stream(
            DOCUMENT,
            request_serializer=document.AudioChunk.SerializeToString,
            response_deserializer=document.TranscriptResult.FromString,
        )(**options)

    def steno(self, **options: Any) -> Any:
        return self.channel.stream_stream(
            STENO,
            request_serializer=v1.SpeechRequest.SerializeToString,
            response_deserializer=v1.SpeechResponse.FromString,
        )(**options)


@asynccontextmanager
async def serving(
    engine: Any = None, channel: grpc.aio.Channel | None = None, **settings: Any
) -> AsyncIterator[Service]:
    """Run a service on a free port."""
    telemetry = Recorder()
    recogniser = LocalRecogniser(
        engine or CountingEngine("en-US"), telemetry=telemetry, workers=2, buffer_s=BUFFER_S
    )
    server = SpeechServer(
        SpeechServerSettings(listen="127.0.0.1:0", **settings), recogniser, telemetry
    )
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(stop, on_listening=address.set_result))
    running.add_done_callback(lambda _: address.done() or address.cancel())
    with suppress(asyncio.CancelledError):
        await address
    if running.done():
        await running
    async with grpc.aio.insecure_channel(await address) as channel:
        service = Service(server, await address, channel)
        service.stop = stop
        yield service
        stop.set()
        await running


def chunks(audio: Samples, *, first: int = 0, **fields: Any) -> Iterator[document.AudioChunk]:
    """Cut audio into the document's chunks of 100 ms."""
    for number, at in enumerate(range(0, len(audio), CHUNK), first):
        yield document.AudioChunk(
            **{
                "conversation_id": "conversation",
                "participant_id": "participant",
                "audio_data": ulaw(audio[at : at + CHUNK]),
                "language_code": "en-US",
                "sequence_number": number,
                "sample_rate": RATE_HZ,
                "audio_format": "PCMU",
                **fields,
            }
        )


def opening(**fields: Any) -> v1.SpeechRequest:
    told = {
        "conversation_id": "conversation",
        "participant_id": "participant",
        "format": "PCMU",
        "sample_rate": RATE_HZ,
        "language": "en-US",
        **fields,
    }
    return v1.SpeechRequest(open=v1.SpeechOpen(**told))


def audio_of(
    samples: Samples, *, first: int = 0, at: int = 0, **fields: Any
) -> Iterator[v1.SpeechRequest]:
    """Cut audio into messages of 100 ms."""
    for number, start in enumerate(range(0, len(samples), CHUNK), first):
        told = {
            "audio": ulaw(samples[start : start + CHUNK]),
            "sequence_number": number,
            "start_samples": at + start,
            **fields,
        }
        yield v1.SpeechRequest(audio=v1.SpeechAudio(**told))


async def rest_of(stream: Any) -> list[Any]:
    """Return what still comes.

    Raises:
        Ended: Not with OK.
    """
    answers: list[Any] = []
    async with asyncio.timeout(10):
        try:
            while (answer := await stream.read()) is not grpc.aio.EOF:
                answers.append(answer)
        except grpc.aio.AioRpcError as refused:
            raise Ended(refused, answers) from refused
        if await stream.code() is not Code.OK:
            metadata = await stream.trailing_metadata()
            error = grpc.aio.AioRpcError(
                await stream.code(),
                await stream.initial_metadata(),
                metadata,
                await stream.details(),
            )
            raise Ended(error, answers)
    return answers


class Ended(Exception):
    """A stream ended with a status."""

    def __init__(self, error: grpc.aio.AioRpcError, answers: list[Any]) -> None:
        super().__init__(error.code(), error.details())
        self.code = error.code()
        self.details = error.details()
        self.trailing = dict(error.trailing_metadata() or ())
        self.answers = answers


async def said(stream: Any, requests: Iterator[Any] | list[Any]) -> list[Any]:
    """Write everything, half-close, and return what comes back."""
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # refused while we write
        for request in requests:
            await stream.write(request)
        await stream.done_writing()
    return await rest_of(stream)


async def refusal(stream: Any, requests: list[Any]) -> Ended:
    """Return how the service ends a stream."""
    with pytest.raises(Ended) as caught:
        await said(stream, requests)
    return caught.value


# --- the document's contract -----------------------------------------------------------------


async def test_spoken_words_come_back_as_increments() -> None:
    """Real speech, real engine: one result for each utterance, numbers acknowledge everything."""
    audio = call(silence(0.6), speech("order"), silence(1), speech("goodbye"), silence(1.5))
    async with serving(PocketSphinxEngine("orders")) as service:
        results = await said(service.document(), chunks(audio))
    texts = [result.text for result in results if result.text]
    assert texts == [TEXTS["order"], TEXTS["goodbye"]]
    numbers = [result.sequence_number for result in results]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == -(-len(audio) // CHUNK) - 1
    assert {result.conversation_id for result in results} == {"conversation"}
    assert {result.language_confidence for result in results} == {""}


async def test_silence_is_acknowledged_with_empty_text() -> None:
    """Or the caller would keep it all."""
    async with serving() as service:
        results = await said(service.document(), chunks(silence(5)))
    assert {result.text for result in results} == {""}
    assert len(results) >= 4
    assert results[-1].sequence_number == 49


async def test_each_format_carries_the_same_sound() -> None:
    """L16 is little-endian; spellings as callers write them."""
    audio = call(loud(1), silence(1))
    async with serving() as service:
        for spelling, data in (("L16", audio.tobytes()), ("audio/PCMU", ulaw(audio))):
            chunk = next(chunks(audio, audio_data=data, audio_format=spelling))
            results = await said(service.document(), [chunk])
            assert [bool(result.text) for result in results] == [True]


async def test_a_repeated_chunk_is_heard_once() -> None:
    """The platform repeats frames now and then."""
    audio = call(loud(1), silence(1))
    twice = [each for chunk in chunks(audio) for each in (chunk, chunk)]
    async with serving() as service:
        once = await said(service.document(), chunks(audio))
        again = await said(service.document(), twice)
    assert [r.text for r in again if r.text] == [r.text for r in once if r.text]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"conversation_id": ""}, "conversation_id"),
        ({"participant_id": ""}, "participant_id"),
        ({"participant_id": "x" * 300}, "participant_id"),
        ({"audio_format": "opus"}, "audio_format"),
        ({"audio_format": ""}, "audio_format"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": 4000}, "sample_rate"),
        ({"sequence_number": -1}, "sequence_number"),
        ({"audio_format": "L16", "audio_data": b"xyz"}, "audio_data"),
        ({"audio_data": bytes(80_001)}, "audio_data"),
    ],
)
async def test_a_wrong_chunk_is_refused_by_its_field(fields: dict[str, Any], named: str) -> None:
    """INVALID_ARGUMENT says which, and quotes nothing."""
    async with serving() as service:
        error = await refusal(service.document(), [next(chunks(loud(0.1), **fields))])
    assert error.code is Code.INVALID_ARGUMENT
    assert error.details == named


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"conversation_id": "other"}, "conversation_id"),
        ({"participant_id": "other"}, "participant_id"),
        ({"audio_format": "PCMA"}, "audio_format"),
        ({"sample_rate": 16_000}, "sample_rate"),
    ],
)
async def test_a_stream_carries_one_participant_in_one_format(
    fields: dict[str, Any], named: str
) -> None:
    """Another one belongs on a stream of its own."""
    first, second = next(chunks(loud(0.1))), next(chunks(loud(0.1), first=1, **fields))
    async with serving() as service:
        error = await refusal(service.document(), [first, second])
    assert (error.code, error.details) == (Code.INVALID_ARGUMENT, named)


# --- steno.v1 --------------------------------------------------------------------------------


def hypotheses(answers: list[v1.SpeechResponse]) -> list[v1.SpeechHypothesis]:
    return [one.hypothesis for one in answers if one.WhichOneof("kind") == "hypothesis"]


async def test_partials_words_and_acknowledgements() -> None:
    """Ready first; partials acknowledge nothing, finals do, silence does by itself."""
    audio = call(silence(2.5), loud(2), silence(2.5))
    async with serving() as service:
        answers = await said(service.steno(), [opening(), *audio_of(audio)])
    assert answers[0].ready.languages == ["en-US"]
    heard = hypotheses(answers)
    assert len(heard) >= 3
    final = heard[-1]
    assert [one.is_final for one in heard] == [False] * (len(heard) - 1) + [True]
    assert {one.utterance for one in heard} == {final.utterance}
    assert not any(one.HasField("through") for one in heard[:-1])
    assert final.HasField("through")
    (word,) = final.words
    assert word.text == final.text
    assert (word.start_samples, word.end_samples) == (final.start_samples, final.end_samples)
    assert final.confidence == pytest.approx(0.5)
    acknowledged = [
        one.acknowledged.through for one in answers if one.WhichOneof("kind") == "acknowledged"
    ]
    assert acknowledged[0] < final.through < acknowledged[-1] == 69


async def test_a_stream_resumes_behind_what_was_acknowledged() -> None:
    """Nothing of the first stream is remembered, no word is lost, and places go on."""
    audio = call(loud(1), silence(1), loud(1), silence(1))
    async with serving() as service:
        whole = hypotheses(await said(service.steno(), [opening(), *audio_of(audio)]))
        wanted = [one for one in whole if one.is_final]
        broken = service.steno()
        for request in [opening(), *audio_of(audio[: 26 * CHUNK])]:
            await broken.write(request)
        first = None
        async for answer in broken:
            if answer.HasField("hypothesis") and answer.hypothesis.is_final:
                first = answer.hypothesis
                break
        broken.cancel()
        assert first is not None
        at = first.through + 1
        rest = audio_of(audio[at * CHUNK :], first=at, at=at * CHUNK)
        answers = await said(service.steno(), [opening(resume_from=at), *rest])
    (second,) = [one for one in hypotheses(answers) if one.is_final]
    assert [first.text, second.text] == [one.text for one in wanted]
    assert abs(second.start_samples - wanted[1].start_samples) <= FRAME
    assert second.utterance != first.utterance


async def test_another_language_is_taken_up() -> None:
    """With audio or without."""
    async with serving(CountingEngine()) as service:
        answers = await said(
            service.steno(),
            [
                opening(),
                *audio_of(call(loud(1), silence(1))),
                v1.SpeechRequest(language=v1.SpeechLanguage(language="es-ES")),
                *audio_of(call(loud(1), silence(1)), first=20, at=16_000),
            ],
        )
    finals = [one for one in hypotheses(answers) if one.is_final]
    assert [one.language for one in finals] == ["en-US", "es-ES"]


@pytest.mark.parametrize(
    ("requests", "named"),
    [
        ([*audio_of(loud(0.1))], "open"),
        ([opening(), opening()], "kind"),
        ([opening(), v1.SpeechRequest()], "kind"),
        ([opening(format="opus")], "format"),
        ([opening(sample_rate=0)], "sample_rate"),
        ([opening(sample_rate=4000)], "sample_rate"),
        ([opening(conversation_id="")], "conversation_id"),
        ([opening(resume_from=-1)], "resume_from"),
        ([opening(resume_from=5), *audio_of(loud(0.1))], "sequence_number"),
        ([opening(), *audio_of(loud(0.1)), *audio_of(loud(0.1))], "sequence_number"),
        ([opening(), *audio_of(loud(0.1)), *audio_of(loud(0.1), first=1)], "start_samples"),
        ([opening(format="L16"), *audio_of(loud(0.1), audio=b"xyz")], "audio"),
    ],
)
async def test_a_broken_rule_is_named(requests: list[v1.SpeechRequest], named: str) -> None:
    """INVALID_ARGUMENT and the field."""
    async with serving() as service:
        error = await refusal(service.steno(), requests)
    assert (error.code, error.details) == (Code.INVALID_ARGUMENT, named)


# --- service ---------------------------------------------------------------------------------


async def test_asking_whether_the_service_is_here_takes_no_place() -> None:
    """A stream that is half-closed at once ends with OK."""
    async with serving(max_streams=1) as service:
        busy = service.steno()
        await busy.write(opening())
        await busy.read()
        assert await said(service.steno(), []) == []
        assert await said(service.document(), []) == []
        busy.cancel()


async def test_a_stream_too_many_is_told_to_come_back() -> None:
    """RESOURCE_EXHAUSTED with a time, and the running one goes on."""
    async with serving(max_streams=1) as service:
        first = service.steno()
        await first.write(opening())
        await first.read()
        error = await refusal(service.document(), [next(chunks(loud(0.1)))])
        assert (error.code, error.details) == (Code.RESOURCE_EXHAUSTED, "streams")
        assert error.trailing["retry-after"] == "1"
        answers = await said(first, list(audio_of(call(loud(1), silence(1)))))
        assert hypotheses(answers)[-1].is_final
        assert await said(service.document(), chunks(silence(1)))


async def test_a_slow_engine_holds_the_caller_back() -> None:
    """Nothing is given up: the socket is not read while half of the buffer waits."""
    engine = CountingEngine()
    engine.gate.clear()
    async with serving(engine) as service:
        stream = service.steno()
        await stream.write(opening())
        await stream.read()
        audio = call(*[part for _ in range(60) for part in (loud(0.5), silence(1.5))])
        requests = [
            v1.SpeechRequest(
                audio=v1.SpeechAudio(
                    audio=ulaw(audio[at : at + 16_000]), sequence_number=at, start_samples=at
                )
            )
            for at in range(0, len(audio), 16_000)
        ]
        writing = asyncio.create_task(said(stream, requests))
        await asyncio.sleep(0.2)
        (running,) = service.server._running
        speech = running._speech
        assert speech is not None
        assert 0.5 <= speech.pressure < 0.9
        engine.gate.set()
        answers = await writing
        assert len([one for one in hypotheses(answers) if one.is_final]) == 60
    assert service.server.totals.lost == 0


async def test_health_is_served_until_the_end() -> None:
    """For both contracts and the process."""
    async with serving() as service:
        health = health_pb2_grpc.HealthStub(service.channel)
        for name in ("", "transcription.TranscriptionService", "steno.v1.SpeechRecognition"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_at_the_end_a_stream_stops_between_two_utterances() -> None:
    """What is being said is returned and acknowledged first; then the caller goes elsewhere."""
    async with serving() as service:
        stream = service.steno()
        for request in [opening(), *audio_of(loud(1))]:
            await stream.write(request)
        await stream.read()
        service.stop.set()
        await asyncio.sleep(0.05)
        error = await refusal(service.steno(), [opening()])
        assert error.code is Code.UNAVAILABLE
        for request in audio_of(silence(1), first=10, at=8000):
            await stream.write(request)
        with pytest.raises(Ended) as caught:
            await rest_of(stream)
        assert caught.value.code is Code.UNAVAILABLE
        final = hypotheses(caught.value.answers)[-1]
        assert final.is_final
        assert final.through >= 9


async def test_at_the_end_an_idle_stream_is_not_waited_for() -> None:
    """Nothing comes on it: it is in a pause."""
    async with serving(drain_s=60) as service:
        stream = service.document()
        await stream.write(next(chunks(silence(0.1))))
        await until(lambda: service.server._running)
        service.stop.set()
        with pytest.raises(Ended) as caught:
            await rest_of(stream)
        assert caught.value.code is Code.UNAVAILABLE


async def test_a_token_is_asked_for_where_one_is_set() -> None:
    """Compared in constant time; without it nothing is heard."""
    async with serving(token=Secret("speech-token")) as service:
        for given in ((), (("authorization", "Bearer other"),)):
            error = await refusal(service.document(metadata=given), [next(chunks(loud(0.1)))])
            assert error.code is Code.UNAUTHENTICATED
        metadata = (("authorization", "Bearer speech-token"),)
        assert await said(service.document(metadata=metadata), chunks(silence(1)))


async def test_a_client_needs_its_certificate_under_mutual_tls() -> None:
    """TLS with a client authority: no certificate, no stream."""
    authority = Authority()
    try:
        ours, theirs = authority.server("127.0.0.1"), authority.client("gateway")
        async with serving(
            cert_file=ours.certificate, key_file=ours.key, client_ca_file=authority.certificate
        ) as service:
            root = authority.certificate.read_bytes()
            known = grpc.ssl_channel_credentials(
                root, theirs.key.read_bytes(), theirs.certificate.read_bytes()
            )
            async with grpc.aio.secure_channel(service.address, known) as channel:
                service.channel = channel
                assert await said(service.document(), chunks(silence(1)))
            unknown = grpc.ssl_channel_credentials(root)
            async with grpc.aio.secure_channel(service.address, unknown) as channel:
                service.channel = channel
                error = await refusal(service.document(), [next(chunks(loud(0.1)))])
                assert error.code is Code.UNAVAILABLE
    finally:
        authority.close()


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"listen": "0.0.0.0:0"}, "listen"),
        ({"cert_file": "x"}, "cert, key"),
        ({"client_ca_file": "x"}, "client_ca"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(settings: dict[str, Any], setting: str) -> None:
    """Before anything listens."""
    with pytest.raises(ConfigError) as caught:
        SpeechServerSettings(**settings)
    assert caught.value.setting == setting


async def test_a_taken_port_is_a_wrong_setting() -> None:
    """Two services on one port would share its callers unnoticed."""
    async with serving() as service:
        other = SpeechServer(
            SpeechServerSettings(listen=service.address),
            LocalRecogniser(CountingEngine(), telemetry=Recorder()),
            Recorder(),
        )
        with pytest.raises(ConfigError, match="cannot listen"):
            await other.run(asyncio.Event(), on_listening=lambda _: None)


async def test_totals_count_what_was_done() -> None:
    """Streams, seconds, utterances, refusals."""
    async with serving() as service:
        await said(service.document(), chunks(call(loud(1), silence(1))))
        await refusal(service.document(), [next(chunks(loud(0.1), sample_rate=0))])
    totals = service.server.totals
    assert (totals.streams, totals.finals, totals.refused) == (1, 1, 1)
    assert totals.audio_s == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("contract", ["transcription", "steno.v1"])
async def test_the_gateways_own_client_is_understood(contract: Any) -> None:
    """Both ends of Steno: what goes in as audio of a lane comes out as its hypotheses."""
    listener = Listener()
    async with serving() as service:
        client = GrpcRecogniser(
            SpeechServiceSettings(grpc=GrpcSettings(target=service.address), service=contract),
            telemetry=Recorder(),
            clock=time.monotonic,
            draw=random.random,
        )
        stream = client.open(StreamSpec("c", "p", "PCMU", RATE_HZ), listener)
        send(stream, call(silence(1), loud(1), silence(1), loud(1), silence(2)))
        stream.finish()
        await until(lambda: listener.is_over)
        await client.close(1)
    assert len(listener.finals) == 2
    assert listener.through == 59
    assert listener.shed == []
    if contract == "steno.v1":
        assert [one.words[0].text for one in listener.finals] == [
            one.text for one in listener.finals
        ]
