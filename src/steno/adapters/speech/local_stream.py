"""One lane's stream to an engine in this process; see ``local`` for what is around it.

Two sides meet here, and the recogniser's lock stands between them. The loop appends audio and gives
up the oldest when it does not fit. The worker that has the stream's turn takes audio out, lets
the engine hear it and keeps account: chunks are marked by where they end, and a number is
acknowledged once all text before its mark has been returned.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from steno.adapters.speech.engines.port import EngineHypothesis, EngineStream
from steno.core.audio import SAMPLE_BYTES, Encoding, Samples, decode
from steno.core.transcript import RawText
from steno.errors import RemoteProtocolError, StenoError
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    SpeechEvent,
    SpeechListener,
    SpeechWord,
    StreamChanged,
    StreamSpec,
    StreamState,
)

if TYPE_CHECKING:
    from steno.adapters.speech.local import LocalRecogniser

RELIEF: Final = 0.9
"""Down to which share of the buffer audio is given up at once."""

TURN_S: Final = 0.4
"""Audio of one stream that is recognised before the next stream's turn."""
SLICE_S: Final = 0.04
ACKNOWLEDGE_S: Final = 1.0
"""Silence is acknowledged this often, in time of the audio."""


class LocalStream:
    """One lane's audio on its way to the engine; implements ``SpeechStream``."""

    __slots__ = (
        "_acknowledged",
        "_audio",
        "_encoding",
        "_ended",
        "_finished",
        "_held",
        "_language",
        "_limit",
        "_marks",
        "_name",
        "_owner",
        "_stream",
        "_through",
        "_told_to",
        "is_aborted",
        "is_queued",
        "listener",
        "spec",
    )  # fmt: skip

    def __init__(
        self, owner: LocalRecogniser, spec: StreamSpec, encoding: Encoding, listener: SpeechListener
    ) -> None:
        self._owner = owner
        self.spec = spec
        self.listener = listener
        self._encoding = encoding
        self._limit = int(owner.buffer_s * spec.rate_hz)
        self.is_queued = False
        self.is_aborted = False
        # Shared with the workers, under the owner's lock:
        self._audio: deque[AudioChunk] = deque()
        self._held = 0
        self._finished = False
        # The worker's, which has the stream's turn:
        self._stream: EngineStream | None = None
        self._language = spec.language
        self._name = ""
        self._marks: deque[tuple[int, int]] = deque()  # (end of a chunk, its number)
        self._through = -1
        self._told_to = 0  # where the audio stood at the last acknowledgement
        self._acknowledged = -1
        self._ended = False

    # --- the port, on the loop ---------------------------------------------------------------

    def send(self, chunk: AudioChunk) -> None:
        """Queue audio; what no longer fits is given up, oldest first."""
        owner = self._owner
        shed: list[SpeechEvent] = []
        with owner.lock:
            if self._finished or self.is_aborted:
                return
            self._audio.append(chunk)
            self._held += self._samples(chunk)
            if self._held > self._limit:
                shed = self._shed()
            owner.enqueue(self)
        owner.post(self, shed)

    def finish(self) -> None:
        """End of audio: results still come, then ``OVER``."""
        with self._owner.lock:
            if not self._finished and not self.is_aborted:
                self._finished = True
                self._owner.enqueue(self)

    def abort(self) -> None:
        """Let go at once; no event follows."""
        with self._owner.lock:
            if self.is_aborted:
                return
            self.is_aborted = True
            self._audio.clear()
            self._held = 0
            if not self._ended:
                self._owner.enqueue(self)
        self._owner.forget(self)

    @property
    def pressure(self) -> float:
        """Share of the buffer in use, 0..1."""
        return min(1.0, self._held / self._limit)

    def _samples(self, chunk: AudioChunk) -> int:
        return len(chunk.audio) // SAMPLE_BYTES[self._encoding]

    def _shed(self) -> list[SpeechEvent]:
        first = last = self._audio[0]
        while self._held > self._limit * RELIEF and len(self._audio) > 1:
            last = self._audio.popleft()
            self._held -= self._samples(last)
        if self._held > self._limit:  # one message longer than the buffer
            last = self._audio.popleft()
            self._held = 0
        return [self._gap(first, last)]

    def _gap(self, first: AudioChunk, last: AudioChunk) -> AudioShed:
        return AudioShed(
            first.start_samples,
            last.start_samples + self._samples(last),
            first.sequence_number,
            last.sequence_number,
        )

    # --- the worker's ------------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """There is something to do; ``lock`` is held."""
        return not self._ended and (bool(self._audio) or self._finished or self.is_aborted)

    def take_turn(self) -> None:
        """Recognise a little of what waits. Whatever goes wrong costs audio, never the thread."""
        left = int(TURN_S * self.spec.rate_hz)
        while left > 0 and not self.is_aborted:
            with self._owner.lock:
                if not self._audio:
                    break
                chunk = self._audio.popleft()
                self._held -= self._samples(chunk)
            left -= self._samples(chunk)
            self._owner.post(self, self._recognise(chunk))
        with self._owner.lock:
            is_last = self.is_aborted or (self._finished and not self._audio)
        if is_last and not self._ended:
            self._end()

    def _recognise(self, chunk: AudioChunk) -> list[SpeechEvent]:
        try:
            heard = self._hear(chunk)
        except Exception as error:  # noqa: BLE001  # of any engine's library: costs this chunk
            self._owner.failed(error)
            return [self._gap(chunk, chunk)]
        self._marks.append((chunk.start_samples + self._samples(chunk), chunk.sequence_number))
        events = self._events(heard)
        if (answer := self._acknowledgement()) is not None:
            events.append(answer)
        return events

    def _hear(self, chunk: AudioChunk) -> list[EngineHypothesis]:
        samples = self._decoded(chunk)
        stream = self._stream
        if stream is None:
            stream = self._opened(chunk)
        heard: list[EngineHypothesis] = []
        if chunk.language != self._language:
            self._language = chunk.language
            if can_do(self._owner.engine.languages, chunk.language):
                heard += stream.set_language(chunk.language)
        jump = chunk.start_samples - stream.position_samples
        if jump > 0:
            heard += stream.skip(jump)
        elif jump < 0:
            samples = samples[-jump:]
        step = max(1, int(SLICE_S * self.spec.rate_hz))
        for start in range(0, len(samples), step):
            if self.is_aborted:
                break
            heard += stream.feed(samples[start : start + step])
        return heard

    def _decoded(self, chunk: AudioChunk) -> Samples:
        try:
            return decode(chunk.audio, self._encoding)
        except RemoteProtocolError:  # half a sample at the end
            whole = len(chunk.audio) - len(chunk.audio) % SAMPLE_BYTES[self._encoding]
            return decode(chunk.audio[:whole], self._encoding)

    def _opened(self, chunk: AudioChunk) -> EngineStream:
        language = chunk.language or self.spec.language
        self._language = chunk.language
        stream = self._owner.engine.open(
            self.spec.rate_hz, language, at_samples=chunk.start_samples
        )
        self._stream = stream
        self._name = f"{chunk.start_samples}-"
        self._told_to = chunk.start_samples
        return stream

    def _events(self, heard: list[EngineHypothesis]) -> list[SpeechEvent]:
        """Return what is told of it; the last final acknowledges what all of them cover."""
        stream = self._stream
        events: list[SpeechEvent] = []
        if stream is None:
            return events
        if stream.lost:
            self._owner.failed(StenoError())
            events += [
                AudioShed(start, end, *self._numbers(start, end)) for start, end in stream.lost
            ]
            stream.lost.clear()
        self._settle(stream.through_samples)
        last = max((place for place, one in enumerate(heard) if one.is_final), default=-1)
        for place, one in enumerate(heard):
            through = self._acknowledge() if place == last else -1
            events.append(self._hypothesis(one, through))
        return events

    def _numbers(self, start: int, end: int) -> tuple[int, int]:
        """Return the numbers of the first and last chunk that reach into a stretch."""
        numbers = [number for at, number in self._marks if start < at]
        inside = [number for at, number in self._marks if start < at <= end]
        first = numbers[0] if numbers else self._through
        return first, inside[-1] if inside else first

    def _settle(self, through_samples: int) -> None:
        while self._marks and self._marks[0][0] <= through_samples:
            self._through = self._marks.popleft()[1]

    def _acknowledge(self) -> int:
        if self._stream is not None:
            self._told_to = self._stream.position_samples
        self._acknowledged = self._through
        return self._through

    def _acknowledgement(self) -> Hypothesis | None:
        """Return an empty answer of no utterance for silence, once a second of audio."""
        if self._stream is None or self._through <= self._acknowledged:
            return None
        if self._stream.position_samples - self._told_to < ACKNOWLEDGE_S * self.spec.rate_hz:
            return None
        return self._empty_answer()

    def _empty_answer(self) -> Hypothesis:
        position = 0 if self._stream is None else self._stream.through_samples
        through = self._acknowledge()
        return Hypothesis(
            through,
            RawText(""),
            True,
            "",
            start_samples=position,
            end_samples=position,
        )

    def _hypothesis(self, one: EngineHypothesis, through: int) -> Hypothesis:
        words = tuple(
            SpeechWord(RawText(word.text), word.start_samples, word.end_samples, word.confidence)
            for word in one.words
        )
        return Hypothesis(
            through,
            RawText(one.text),
            one.is_final,
            f"{self._name}{one.utterance}",
            one.language,
            one.language_confidence,
            one.confidence,
            one.start_samples,
            one.end_samples,
            words,
        )

    def _end(self) -> None:
        self._ended = True
        stream = self._stream
        events: list[SpeechEvent] = []
        if stream is not None:
            if not self.is_aborted:
                events = self._finals(stream)
            try:
                stream.close()
            except Exception as error:  # noqa: BLE001  # as above
                self._owner.failed(error)
        events.append(StreamChanged(StreamState.OVER))
        self._owner.post(self, events)

    def _finals(self, stream: EngineStream) -> list[SpeechEvent]:
        try:
            events = self._events(list(stream.finish()))
        except Exception as error:  # noqa: BLE001  # as above
            self._owner.failed(error)
            return []
        if self._through > self._acknowledged:
            events.append(self._empty_answer())
        return events


class DeafStream:
    """A stream nothing comes of: its audio cannot be recognised, or everything is closing."""

    pressure = 0.0

    def send(self, chunk: AudioChunk) -> None:
        """Drop the audio."""

    def finish(self) -> None:
        """Nothing will come."""

    def abort(self) -> None:
        """Nothing would have come."""


def can_do(languages: tuple[str, ...], tag: str) -> bool:
    """Say whether an engine that can do ``languages`` (empty: it does not say) can do a tag."""
    primary = tag.partition("-")[0].lower()
    return not languages or any(one.partition("-")[0].lower() == primary for one in languages)
