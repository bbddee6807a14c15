"""A recogniser in this process: order, acknowledgement, bounds and the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from adapters.speech.spoken import (
    FRAME,
    RATE_HZ,
    CountingEngine,
    call,
    loud,
    silence,
    ulaw,
)
from conformance.sink_rules import Recorder
from steno.adapters.speech.local import LocalRecogniser
from steno.adapters.speech.local_stream import can_do
from steno.core.audio import Samples
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

SPEC = StreamSpec("conversation", "participant", "PCMU", RATE_HZ)
CHUNK = 800
OVER = StreamChanged(StreamState.OVER)


class Listener:
    """Writes down what comes."""

    def __init__(self) -> None:
        self.events: list[SpeechEvent] = []

    def on_speech(self, event: SpeechEvent) -> None:
        self.events.append(event)

    @property
    def answers(self) -> list[Hypothesis]:
        return [event for event in self.events if isinstance(event, Hypothesis)]

    @property
    def finals(self) -> list[Hypothesis]:
        return [one for one in self.answers if one.is_final and one.text]

    @property
    def shed(self) -> list[AudioShed]:
        return [event for event in self.events if isinstance(event, AudioShed)]

    @property
    def through(self) -> int:
        return max((one.through for one in self.answers), default=-1)

    @property
    def is_over(self) -> bool:
        return OVER in self.events


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def recognising(
    engine: CountingEngine, *, workers: int = 2, buffer_s: float = 30.0
) -> AsyncIterator[LocalRecogniser]:
    recogniser = LocalRecogniser(engine, telemetry=Recorder(), workers=workers, buffer_s=buffer_s)
    try:
        yield recogniser
    finally:
        engine.gate.set()
        await recogniser.close(2)
        assert engine.is_closed


def send(stream: SpeechStream, audio: Samples, *, at: int = 0, number: int = 0) -> tuple[int, int]:
    """Send audio as chunks of 100 ms; returns where it goes on."""
    for start in range(0, len(audio), CHUNK):
        part = audio[start : start + CHUNK]
        stream.send(AudioChunk(ulaw(part), number, "en-US", at + start))
        number += 1
    return at + len(audio), number


async def test_what_is_said_comes_back_in_order_and_acknowledged() -> None:
    """Up, finals with the numbers they cover, everything acknowledged, over."""
    engine, listener = CountingEngine("en-US"), Listener()
    async with recognising(engine) as recogniser:
        assert recogniser.languages == ("en-US",)
        stream = recogniser.open(SPEC, listener)
        audio = call(silence(1), loud(1), silence(1), loud(1), silence(1))
        _, numbers = send(stream, audio)
        stream.finish()
        await until(lambda: listener.is_over)
    assert listener.events[0] == StreamChanged(StreamState.UP)
    assert listener.events[-1] == OVER
    first, second = listener.finals
    assert first.utterance != second.utterance
    assert first.words[0].text == first.text
    assert first.end_samples <= second.start_samples
    passed = [one.through for one in listener.answers if one.through >= 0]
    assert passed == sorted(set(passed))
    assert passed[-1] == numbers - 1
    # The number of a final lies in the pause behind it.
    assert first.end_samples <= (first.through + 2) * CHUNK < 3.2 * RATE_HZ


async def test_a_partial_acknowledges_nothing() -> None:
    """Its words are still to be returned."""
    engine, listener = CountingEngine(), Listener()
    async with recognising(engine) as recogniser:
        send(recogniser.open(SPEC, listener), loud(3))
        await until(lambda: len(listener.answers) > 3)
        assert {one.through for one in listener.answers} == {-1}
        assert not any(one.is_final for one in listener.answers)


async def test_silence_is_acknowledged_once_a_second() -> None:
    """Empty, of no utterance, a little behind the audio."""
    engine, listener = CountingEngine(), Listener()
    async with recognising(engine) as recogniser:
        send(recogniser.open(SPEC, listener), silence(10))
        await until(lambda: listener.through > 90)
        assert 8 <= len(listener.answers) <= 11
        assert {(one.text, one.utterance, one.is_final) for one in listener.answers} == {
            ("", "", True)
        }


async def test_a_hanging_engine_costs_the_oldest_audio_and_never_the_loop() -> None:
    """The bounds of what was given up are told, and the rest is heard in its place."""
    engine, listener = CountingEngine(), Listener()
    async with recognising(engine, workers=1, buffer_s=2.0) as recogniser:
        stream = recogniser.open(SPEC, listener)
        engine.gate.clear()
        at, number = send(stream, loud(0.5))
        await until(lambda: stream.pressure <= 0.2)  # the engine hangs with the first chunk
        began = time.monotonic()
        at, number = send(stream, loud(6), at=at, number=number)
        assert time.monotonic() - began < 0.5
        assert 0.8 < stream.pressure <= 1
        engine.gate.set()
        await until(lambda: stream.pressure < 0.2)
        send(stream, silence(1), at=at, number=number)
        stream.finish()
        await until(lambda: listener.is_over)
    shed = listener.shed
    assert shed
    for one in shed:
        assert one.from_samples == one.from_sequence * CHUNK
        assert one.to_samples == (one.to_sequence + 1) * CHUNK
    assert [a.to_samples for a in shed[:-1]] == [b.from_samples for b in shed[1:]]
    lost = sum(one.to_samples - one.from_samples for one in shed)
    heard = sum(len(utterance) for utterance in engine.utterances)
    assert 4.3 * RATE_HZ <= lost <= 4.7 * RATE_HZ
    assert abs(lost + heard - 6.5 * RATE_HZ) < 0.7 * RATE_HZ
    first, second = listener.finals
    assert first.end_samples <= shed[0].from_samples + FRAME
    assert second.start_samples >= shed[-1].to_samples


async def test_a_long_backlog_does_not_hold_up_another_call() -> None:
    """Streams take turns."""
    engine = CountingEngine()
    slow, quick = Listener(), Listener()
    async with recognising(engine, workers=1, buffer_s=200) as recogniser:
        engine.gate.clear()
        first = recogniser.open(SPEC, slow)
        for _ in range(10):
            first.send(AudioChunk(ulaw(loud(10)), 0, "en-US", 0))
        send(second := recogniser.open(SPEC, quick), call(loud(0.3), silence(1)))
        second.finish()
        engine.gate.set()
        await until(lambda: quick.is_over)
        assert len(quick.finals) == 1
        first.abort()


async def test_a_hole_in_the_audio_parts_utterances_and_keeps_the_clock() -> None:
    """Missing audio is not made up for."""
    engine, listener = CountingEngine(), Listener()
    async with recognising(engine) as recogniser:
        stream = recogniser.open(SPEC, listener)
        send(stream, loud(1))
        send(stream, call(loud(1), silence(1)), at=80_000, number=50)
        stream.finish()
        await until(lambda: listener.is_over)
    first, second = listener.finals
    assert (first.start_samples, second.start_samples) == (0, 80_000)
    assert first.through <= 9
    assert listener.through == 69


async def test_audio_that_was_sent_twice_is_heard_once() -> None:
    """A chunk that reaches back is cut."""
    engine, listener = CountingEngine(), Listener()
    async with recognising(engine) as recogniser:
        stream = recogniser.open(SPEC, listener)
        at, number = send(stream, loud(1))
        stream.send(AudioChunk(ulaw(loud(1)), number, "en-US", at - 4000))
        send(stream, silence(1), at=at + 4000, number=number + 1)
        stream.finish()
        await until(lambda: listener.is_over)
    (final,) = listener.finals
    assert 1.5 * RATE_HZ <= final.end_samples < 1.9 * RATE_HZ


@pytest.mark.parametrize(
    ("known", "changes"), [(("en", "es"), True), ((), True), (("en-US",), False)]
)
async def test_the_language_changes_where_the_engine_can(
    known: tuple[str, ...], changes: bool
) -> None:
    """The running utterance is finished in its own; else it simply goes on."""
    engine, listener = CountingEngine(*known), Listener()
    async with recognising(engine) as recogniser:
        stream = recogniser.open(SPEC, listener)
        stream.send(AudioChunk(ulaw(loud(1)), 0, "en-US", 0))
        stream.send(AudioChunk(ulaw(call(loud(1), silence(1))), 1, "es-ES", RATE_HZ))
        stream.finish()
        await until(lambda: listener.is_over)
    wanted = ["en-US", "es-ES"] if changes else ["en-US"]
    assert [one.language for one in listener.finals] == wanted


def test_an_engine_that_names_no_languages_may_do_any() -> None:
    """Only the primary part counts."""
    assert can_do((), "xx")
    assert can_do(("en",), "EN-gb")
    assert not can_do(("en-US",), "es-ES")


async def test_a_failing_engine_costs_its_utterance_and_says_so() -> None:
    """The audio is told as given up, the stream goes on."""
    engine, listener = CountingEngine(), Listener()
    engine.fails_on = [True]
    async with recognising(engine) as recogniser:
        stream = recogniser.open(SPEC, listener)
        send(stream, call(loud(1), silence(1), loud(1), silence(1)))
        stream.finish()
        await until(lambda: listener.is_over)
    (shed,) = listener.shed
    assert shed.from_samples == 0
    assert shed.from_sequence == 0
    assert RATE_HZ <= shed.to_samples <= 1.5 * RATE_HZ
    assert len(listener.finals) == 1
    assert listener.through == 39


async def test_an_engine_that_opens_no_stream_costs_audio_only() -> None:
    """Each chunk is told as given up; with the next it is tried again."""

    class Closed(CountingEngine):
        tries = 0

        def open(self, *args: object, **options: object) -> object:  # type: ignore[override]  # fails
            self.tries += 1
            raise RuntimeError

    engine, listener = Closed(), Listener()
    async with recognising(engine) as recogniser:
        stream = recogniser.open(SPEC, listener)
        send(stream, loud(0.3))
        stream.finish()
        await until(lambda: listener.is_over)
    assert engine.tries == len(listener.shed) == 3


@pytest.mark.parametrize(
    "spec", [StreamSpec("c", "p", "opus", RATE_HZ), StreamSpec("c", "p", "PCMU", 4000)]
)
async def test_audio_that_can_never_be_heard_ends_the_stream_at_once(spec: StreamSpec) -> None:
    """It is over, with the reason, and takes nothing."""
    listener = Listener()
    async with recognising(CountingEngine()) as recogniser:
        stream = recogniser.open(spec, listener)
        stream.send(AudioChunk(b"x", 0, "", 0))
        await until(lambda: listener.events)
        assert listener.events == [StreamChanged(StreamState.OVER, "UnsupportedAudio")]


async def test_half_a_sample_is_left_out() -> None:
    """What is whole is heard."""
    engine, listener = CountingEngine(), Listener()
    async with recognising(engine) as recogniser:
        stream = recogniser.open(StreamSpec("c", "p", "L16", RATE_HZ), listener)
        stream.send(AudioChunk(call(loud(1), silence(1)).tobytes() + b"x", 0, "", 0))
        stream.finish()
        await until(lambda: listener.is_over)
    assert len(listener.finals) == 1


async def test_nothing_comes_of_an_aborted_stream() -> None:
    """Also not what was on its way."""
    engine, listener = CountingEngine(), Listener()
    async with recognising(engine, workers=1) as recogniser:
        stream = recogniser.open(SPEC, listener)
        engine.gate.clear()
        send(stream, loud(2))
        stream.abort()
        stream.abort()
        send(stream, loud(2))
        stream.finish()
        engine.gate.set()
        other = Listener()
        send(next_one := recogniser.open(SPEC, other), call(loud(1), silence(1)))
        next_one.finish()
        await until(lambda: other.is_over)
    assert listener.events == []
    assert stream.pressure == 0


async def test_a_stream_without_audio_is_over_at_its_end() -> None:
    """There is nothing to wait for."""
    listener = Listener()
    async with recognising(CountingEngine()) as recogniser:
        recogniser.open(SPEC, listener).finish()
        await until(lambda: listener.is_over)
    assert len(listener.events) == 2


async def test_closing_waits_for_what_is_being_said() -> None:
    """Every stream is finished; its last words come before the end."""
    engine, listener = CountingEngine(), Listener()
    recogniser = LocalRecogniser(engine, telemetry=Recorder(), workers=1)
    send(recogniser.open(SPEC, listener), loud(2))
    await recogniser.close(5)
    assert len(listener.finals) == 1
    assert listener.events[-1] == OVER
    assert engine.is_closed
    late = Listener()
    recogniser.open(SPEC, late).finish()
    await asyncio.sleep(0)
    assert late.events == []


async def test_closing_does_not_wait_for_a_hanging_engine() -> None:
    """Its thread cannot be cancelled; the process goes on without it."""
    engine, listener = CountingEngine(), Listener()
    telemetry = Recorder()
    recogniser = LocalRecogniser(engine, telemetry=telemetry, workers=1)
    engine.gate.clear()
    send(recogniser.open(SPEC, listener), loud(2))
    began = time.monotonic()
    await recogniser.close(0.1)
    assert time.monotonic() - began < 2
    assert not engine.is_closed
    assert not listener.is_over
    engine.gate.set()
