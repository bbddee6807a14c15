"""Spoken vectors as samples, and small engines to hear scripted ones with."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np

from steno.adapters.speech.engines.endpointing import EndpointedStream
from steno.adapters.speech.engines.port import NOTHING, EngineWord, Heard
from steno.core.audio import Encoding, Samples, decode, encode_ulaw
from steno.errors import UnsupportedAudio

VECTORS = Path(__file__).parents[2] / "vectors" / "speech"
TEXTS: dict[str, str] = json.loads((VECTORS / "manifest.json").read_text(encoding="utf-8"))
RATE_HZ = 8000
FRAME = 240
LOUD = 5_000


def speech(name: str) -> Samples:
    """Give the samples of a vector: mono mu-law at 8 kHz."""
    data = (VECTORS / f"{name}.wav").read_bytes()
    return decode(data[data.index(b"data") + 8 :], Encoding.PCMU)


def silence(seconds: float) -> Samples:
    """Give digital silence."""
    return np.zeros(int(seconds * RATE_HZ), np.int16)


def call(*parts: Samples) -> Samples:
    """Put parts together."""
    return np.concatenate(parts)


def loud(seconds: float) -> Samples:
    """Give what ``LoudVoice`` takes for speech, with a pitch of 100 Hz."""
    count = int(seconds * RATE_HZ)
    return (LOUD + np.arange(count) % 80 * 20).astype(np.int16)


def ulaw(samples: Samples) -> bytes:
    """Give the samples as PCMU."""
    return encode_ulaw(samples)


class LoudVoice:
    """Voice is what is loud: a detector whose answers a test can tell beforehand."""

    frame_samples = FRAME

    def __init__(self) -> None:
        self._left: Samples = np.zeros(0, np.int16)

    def feed(self, samples: Samples) -> bytes:
        data = np.concatenate((self._left, samples))
        count = len(data) // FRAME
        self._left = data[count * FRAME :].copy()
        frames = np.abs(data[: count * FRAME].astype(np.int32)).reshape(count, FRAME)
        return bytes(int(frame.max() > LOUD // 2) for frame in frames)


class CountingDecoder:
    """Hears of an utterance how many samples it had: "u" and their number."""

    def __init__(self, engine: CountingEngine, language: str) -> None:
        self._engine = engine
        self._language = language
        self._parts: list[Samples] = []

    def begin(self) -> None:
        self._parts = []

    def feed(self, samples: Samples) -> None:
        self._engine.gate.wait()
        if self._engine.fails_on and self._engine.fails_on.pop(0):
            raise RuntimeError
        self._parts.append(samples)

    def _heard(self) -> Heard:
        count = sum(map(len, self._parts))
        if not count:
            return NOTHING
        text = f"u{count}"
        return Heard(text, (EngineWord(text, 0, count, 0.5),), self._language, confidence=0.5)

    def partial(self) -> Heard:
        return self._heard()

    def end(self) -> Heard:
        self._engine.utterances.append(np.concatenate(self._parts or [silence(0)]))
        return NOTHING if self._engine.is_fickle else self._heard()

    def close(self) -> None:
        self._engine.closed_decoders += 1


class CountingEngine:
    """An engine whose words are known beforehand, and which a test can hold up.

    Attributes:
        gate: Clear it to let the engine hang.
        fails_on: For each piece fed, whether to fail.
        is_fickle: In the end it was no speech after all.
        utterances: Samples of what was decoded.
    """

    name = "counting"

    def __init__(self, *languages: str) -> None:
        self.languages: tuple[str, ...] = languages
        self.gate = threading.Event()
        self.gate.set()
        self.fails_on: list[bool] = []
        self.utterances: list[Samples] = []
        self.is_fickle = False
        self.closed_decoders = 0
        self.is_closed = False

    def check(self, rate_hz: int) -> None:
        if rate_hz < RATE_HZ:
            raise UnsupportedAudio("too few samples", rate_hz=rate_hz)

    def open(
        self, rate_hz: int, language: str, *, at_samples: int = 0, first_utterance: int = 0
    ) -> EndpointedStream:
        return EndpointedStream(
            LoudVoice(),
            rate_hz,
            language,
            lambda tag: CountingDecoder(self, tag),
            at_samples=at_samples,
            first_utterance=first_utterance,
        )

    def close(self) -> None:
        self.is_closed = True
