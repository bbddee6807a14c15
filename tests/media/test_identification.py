"""Questions about languages: one at a time, a lane's newest, nobody waiting for them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from steno.core.transcript import RawText
from steno.errors import EngineUnavailable
from steno.media.identification import MAX_WAITING, REST_S, IdentifierDesk
from steno.observability.telemetry import LogTelemetry
from steno.ports.speech import LanguageGuess, Samples


class Listener:
    """An identifier that answers when it is let; its first sample says what was asked."""

    name = "listener"

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.let = asyncio.Event()
        self.error: Exception | None = None
        self.is_closed = False

    async def identify(self, speech: Samples, rate_hz: int) -> LanguageGuess | None:
        self.asked.append(int(speech[0]))
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return LanguageGuess("es", 0.9) if speech[0] else None

    async def close(self) -> None:
        self.is_closed = True


class Reader:
    """Knows Spanish when it sees it."""

    name = "reader"

    async def identify_text(self, text: str) -> LanguageGuess | None:
        return LanguageGuess("es", 0.9) if "hola" in text else None

    async def close(self) -> None:
        pass


class Lane:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.guesses: list[LanguageGuess] = []

    def guessed(self, guess: LanguageGuess) -> None:
        self.guesses.append(guess)


class Rig:
    """A desk with its clock and its log."""

    def __init__(self, listener: Listener | None, reader: Reader | None = None) -> None:
        self.now = 0.0
        self.log = io.StringIO()
        telemetry = LogTelemetry(stream=self.log, strict=True)
        self.desk = IdentifierDesk(listener, reader, telemetry, lambda: self.now)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[IdentifierDesk]:
    task = asyncio.create_task(rig.desk.run())
    try:
        yield rig.desk
    finally:
        task.cancel()
        await asyncio.wait([task])
        await rig.desk.close()


def speech(number: int) -> Samples:
    return np.full(10, number, np.int16)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_answers_go_to_the_lane_that_asked() -> None:
    """By listening; and no answer where the identifier cannot tell."""
    listener, one, two = Listener(), Lane(), Lane()
    listener.let.set()
    async with running(Rig(listener)) as desk:
        desk.listen(one, speech(1), 8_000)
        desk.listen(two, speech(0), 8_000)
        await settle()
    assert one.guesses == [LanguageGuess("es", 0.9)]
    assert two.guesses == []
    assert listener.is_closed


async def test_words_are_read() -> None:
    """By the reader; what only listens is not there."""
    lane = Lane()
    async with running(Rig(None, Reader())) as desk:
        assert (desk.listens, desk.reads) == (False, True)
        desk.listen(lane, speech(1), 8_000)
        desk.read(lane, RawText("hola buenos días"))
        await settle()
    assert lane.guesses == [LanguageGuess("es", 0.9)]


async def test_a_lane_waits_with_its_newest_question_in_its_old_place() -> None:
    """While another is answered."""
    listener, first, one, two = Listener(), Lane(), Lane(), Lane()
    async with running(Rig(listener)) as desk:
        desk.listen(first, speech(1), 8_000)
        await settle()
        desk.listen(one, speech(2), 8_000)
        desk.listen(two, speech(3), 8_000)
        desk.listen(one, speech(4), 8_000)
        listener.let.set()
        await settle()
    assert listener.asked == [1, 4, 3]


async def test_a_lane_that_is_over_is_not_asked_about() -> None:
    """Its question leaves the line."""
    listener, first, one = Listener(), Lane(), Lane()
    async with running(Rig(listener)) as desk:
        desk.listen(first, speech(1), 8_000)
        await settle()
        desk.listen(one, speech(2), 8_000)
        desk.forget(one)
        desk.forget(one)
        listener.let.set()
        await settle()
    assert listener.asked == [1]


async def test_the_line_is_bounded() -> None:
    """A new lane is not taken when it is full; one that waits may still ask better."""
    listener = Listener()
    rig = Rig(listener)
    lanes = [Lane() for _ in range(MAX_WAITING + 1)]
    for i, lane in enumerate(lanes):
        rig.desk.listen(lane, speech(i + 1), 8_000)
    rig.desk.listen(lanes[0], speech(999), 8_000)
    listener.let.set()
    async with running(rig):
        for _ in range(20):
            await settle()
    assert listener.asked == [999, *range(2, MAX_WAITING + 1)]


@pytest.mark.parametrize("error", [EngineUnavailable(), RuntimeError("of the engine")])
async def test_an_identifier_that_fails_is_left_alone_for_a_while(error: Exception) -> None:
    """Said once, nothing piles up, and it is tried again later."""
    listener, lane, other = Listener(), Lane(), Lane()
    listener.let.set()
    listener.error = error
    rig = Rig(listener)
    async with running(rig) as desk:
        desk.listen(lane, speech(1), 8_000)
        desk.listen(other, speech(2), 8_000)
        await settle()
        desk.listen(lane, speech(3), 8_000)
        await settle()
        assert listener.asked == [1]
        rig.now += REST_S
        desk.listen(lane, speech(4), 8_000)
        await settle()
        rig.now += REST_S
        listener.error = None
        desk.listen(lane, speech(5), 8_000)
        await settle()
    assert listener.asked == [1, 4, 5]
    assert rig.events() == ["media.identifier_failed", "media.identifier_recovered"]
    assert len(lane.guesses) == 1
