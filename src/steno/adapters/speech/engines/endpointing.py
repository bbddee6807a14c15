"""Utterances out of a lane's audio: what every engine of ours has in common.

Voice activity decides where speech is; each stretch of it is one utterance and goes to the
engine's decoder while it is spoken. Nothing else is decoded, so silence yields no text.

    silent --60 ms of voice--> utterance     from 300 ms earlier: soft first sounds are kept
    utterance --600 ms without voice--> silent                    a final
    utterance --15 s long, and a quiet moment--> silent           a final; more may follow at once
    utterance --20 s long--> utterance                            a final, cut inside speech

Detectors take a burst of noise for voice until they know the line. What has no pitch anywhere is
not believed, whatever an engine made of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from steno.adapters.speech.engines.port import (
    NOTHING,
    EngineHypothesis,
    EngineWord,
    Heard,
    UtteranceDecoder,
)
from steno.adapters.speech.voice import make_voice_activity
from steno.core.activity import ActivityEvent, ActivitySegments, SpeechStarted
from steno.core.audio import Samples
from steno.ports.speech import VoiceActivity

START_MS: Final = 60
END_MS: Final = 600
PRE_ROLL_MS: Final = 300
SOFT_MAX_S: Final = 15.0
HARD_MAX_S: Final = 20.0
PARTIAL_S: Final = 0.5
QUIET_SHARE: Final = 0.1
"""Of the utterance's mean power: a frame below it is a pause, or a stop between syllables."""

PITCH_HZ: Final = (62.5, 400.0)
PERIODIC: Final = 0.45
"""Share of a frame's power that returns one period later: noise has a quarter, vowels 0.7."""
VOICED_FRAMES: Final = 2
"""With a pitch, in an utterance that is to be believed."""

DecoderFactory = Callable[[str], UtteranceDecoder]
"""Makes a decoder for a language."""


class EndpointedStream:
    """One lane; implements ``EngineStream``.

    Args:
        voice: Detector of this lane alone.
        rate_hz: Samples per second.
        language: BCP-47 tag, empty when not known.
        make_decoder: Called for the first utterance and after a change of language.
        at_samples: Position of the first sample.
        first_utterance: Number of the first utterance.

    Attributes:
        lost: Bounds of utterances on which the engine failed; whoever reports them clears it.
    """

    __slots__ = (
        "_audio", "_audio_from", "_decoder", "_fed_to", "_frame", "_has_failed", "_is_stale",
        "_keep",
        "_language", "_last_partial", "_last_text", "_make_decoder", "_next_partial",
        "_partial_every", "_power", "_rate_hz", "_segments", "_soft_max", "_started", "_tail",
        "_through", "_utterance", "_voice", "_voiced", "_voiced_to", "lost",
    )  # fmt: skip

    def __init__(
        self,
        voice: VoiceActivity,
        rate_hz: int,
        language: str,
        make_decoder: DecoderFactory,
        *,
        at_samples: int = 0,
        first_utterance: int = 0,
    ) -> None:
        self._voice = voice
        self._rate_hz = rate_hz
        self._frame = voice.frame_samples
        self._segments = ActivitySegments(
            self._frame,
            rate_hz,
            start_ms=START_MS,
            end_ms=END_MS,
            pre_roll_ms=PRE_ROLL_MS,
            max_s=HARD_MAX_S,
            at_samples=at_samples,
        )
        self._language = language
        self._make_decoder = make_decoder
        self._decoder: UtteranceDecoder | None = None
        self._is_stale = False  # the decoder is of another language
        self._audio: Samples = np.zeros(0, np.int16)
        self._audio_from = at_samples
        # A segment reaches back this far from where flags have come to.
        self._keep = (PRE_ROLL_MS + START_MS) * rate_hz // 1000 + 2 * self._frame
        self._tail = PRE_ROLL_MS * rate_hz // 1000
        self._voiced_to = at_samples
        self._soft_max = int(SOFT_MAX_S * rate_hz)
        self._partial_every = int(PARTIAL_S * rate_hz)
        self._next_partial = 0
        self._last_text = ""
        self._started = at_samples
        self._fed_to = at_samples
        self._through = at_samples
        self._power = 0.0
        self._voiced = 0
        self._utterance = first_utterance
        self._has_failed = False
        self.lost: list[tuple[int, int]] = []

    @property
    def position_samples(self) -> int:
        """Where the next sample lies."""
        return self._audio_from + len(self._audio)

    @property
    def through_samples(self) -> int:
        """All text of the audio before this position has been returned in finals."""
        if self._segments.speaking:
            return self._started
        return max(self._through, self._segments.position - self._keep)

    # --- audio -------------------------------------------------------------------------------

    def feed(self, samples: Samples) -> list[EngineHypothesis]:
        """Take samples in, in order; blocks for as long as the engine decodes."""
        heard: list[EngineHypothesis] = []
        self._audio = np.concatenate((self._audio, samples))
        for flag in self._voice.feed(samples):
            if flag:
                self._voiced_to = self._segments.position + self._frame
            for event in self._segments.feed(bytes((flag,))):
                self._on_activity(event, heard)
            if self._segments.speaking and self._may_cut(flag):
                for event in self._segments.finish():
                    self._on_activity(event, heard)
        if self._segments.speaking:
            # Silence is held back until voice follows: if none does, it is not decoded.
            self._decode_to(min(self._segments.position, self._voiced_to + self._tail))
            self._partial(heard)
        self._forget()
        return heard

    def skip(self, samples: int) -> list[EngineHypothesis]:
        """Audio is missing: end the running utterance and let the clock jump."""
        # Silence fills the detector's frame, or it would mix what came before and after.
        fill = min(-(self.position_samples - self._segments.position) % self._frame, samples)
        heard = self.feed(np.zeros(fill, np.int16))
        if samples == fill:
            return heard
        for event in self._segments.skip(samples - fill):
            self._on_activity(event, heard)
        self._audio = np.zeros(0, np.int16)
        self._audio_from = self._fed_to = self._through = self._segments.position
        return heard

    def set_language(self, language: str) -> list[EngineHypothesis]:
        """End the running utterance; the next is in this language, if the engine can do it."""
        if language.lower() == self._language.lower():
            return []
        heard = self._end_here()
        self._language = language
        self._is_stale = True
        return heard

    def finish(self) -> list[EngineHypothesis]:
        """End of audio: end the running utterance."""
        heard = self._end_here()
        self._through = self.position_samples
        return heard

    def close(self) -> None:
        """Let go of the decoder."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    # --- utterances --------------------------------------------------------------------------

    def _on_activity(self, event: ActivityEvent, heard: list[EngineHypothesis]) -> None:
        if isinstance(event, SpeechStarted):
            self._begin(event.at_samples)
        else:
            self._decode_to(event.at_samples)
            self._end(event.at_samples, heard)

    def _begin(self, at: int) -> None:
        self._started = self._fed_to = at
        self._next_partial = at + self._partial_every
        self._last_text = ""
        self._power = 0.0
        self._voiced = 0
        self._has_failed = False
        try:
            if self._decoder is None or self._is_stale:
                self.close()
                self._decoder = self._make_decoder(self._language)
                self._is_stale = False
            self._decoder.begin()
        except Exception:  # noqa: BLE001  # of any engine's library: costs this utterance alone
            self._fail()

    def _end(self, at: int, heard: list[EngineHypothesis]) -> None:
        number = self._utterance
        self._utterance += 1
        self._through = at
        result = NOTHING
        if self._voiced < VOICED_FRAMES:
            self.close()  # drops what it made of it
        elif self._decoder is not None:
            try:
                result = self._decoder.end()
            except Exception:  # noqa: BLE001  # as above
                self._fail()
        if self._has_failed:
            self.lost.append((self._started, at))
        if result.text or self._last_text:
            heard.append(self._hypothesis(number, result, at, is_final=True))

    def _fail(self) -> None:
        """The engine failed: this utterance is lost, the next gets a new decoder."""
        self._has_failed = True
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            with contextlib.suppress(Exception):
                decoder.close()

    def _end_here(self) -> list[EngineHypothesis]:
        heard: list[EngineHypothesis] = []
        for event in self._segments.finish():
            self._on_activity(event, heard)
        return heard

    def _may_cut(self, flag: int) -> bool:
        """Say whether the frame just judged is a good place to cut a long utterance."""
        end = self._segments.position
        if end - self._started < self._soft_max:
            return False
        frame = self._slice(end - self._frame, end).astype(np.float32)
        power = float(np.mean(frame * frame)) if len(frame) else 0.0
        return not flag or power < QUIET_SHARE * self._power

    def _decode_to(self, end: int) -> None:
        samples = self._slice(self._fed_to, end)
        if not len(samples) or self._decoder is None:
            return
        done = self._fed_to - self._started
        self._fed_to += len(samples)
        wide = samples.astype(np.float32)
        share = len(samples) / (done + len(samples))
        self._power += share * (float(np.mean(wide * wide)) - self._power)
        if self._voiced < VOICED_FRAMES:
            self._voiced += voiced_frames(wide, self._frame, self._rate_hz)
        try:
            self._decoder.feed(samples)
        except Exception:  # noqa: BLE001  # as above
            self._fail()

    def _partial(self, heard: list[EngineHypothesis]) -> None:
        if self._fed_to < self._next_partial or self._decoder is None:
            return
        if self._voiced < VOICED_FRAMES:
            return
        self._next_partial = self._fed_to + self._partial_every
        try:
            result = self._decoder.partial()
        except Exception:  # noqa: BLE001  # as above
            self._fail()
            return
        if result.text and result.text != self._last_text:
            self._last_text = result.text
            heard.append(self._hypothesis(self._utterance, result, self._fed_to, is_final=False))

    def _hypothesis(
        self, number: int, result: Heard, end: int, *, is_final: bool
    ) -> EngineHypothesis:
        origin = self._started
        words = tuple(
            EngineWord(
                word.text,
                min(origin + word.start_samples, end),
                min(origin + word.end_samples, end),
                word.confidence,
            )
            for word in result.words
        )
        return EngineHypothesis(
            number,
            result.text,
            is_final,
            words[0].start_samples if words else origin,
            words[-1].end_samples if words else end,
            words,
            result.language,
            result.language_confidence,
            result.confidence,
        )

    # --- kept audio --------------------------------------------------------------------------

    def _slice(self, start: int, end: int) -> Samples:
        return self._audio[max(start - self._audio_from, 0) : max(end - self._audio_from, 0)]

    def _forget(self) -> None:
        """Let go of audio no utterance will ask for."""
        keep_from = self._segments.position - self._keep
        if self._segments.speaking:
            keep_from = min(keep_from, self._fed_to)
        gone = keep_from - self._audio_from
        if gone > 0:
            self._audio = self._audio[gone:].copy()
            self._audio_from = keep_from


# --- engines ---------------------------------------------------------------------------------


class DecoderMaker(Protocol):
    """An engine, as far as its streams need it."""

    def make_decoder(self, rate_hz: int, language: str, /) -> UtteranceDecoder:
        """Return a decoder for one stream; may block.

        Args:
            rate_hz: Of the samples that will be fed.
            language: BCP-47 tag; empty: not known.

        Raises:
            EngineUnavailable: The engine failed.
        """


def check_rate(rate_hz: int) -> None:
    """Return if streams of this rate can be opened; ``check`` of every engine here.

    Raises:
        UnsupportedAudio: Below 8 kHz or above 192 kHz.
    """
    make_voice_activity("webrtc", rate_hz)


def open_endpointed(
    engine: DecoderMaker,
    rate_hz: int,
    language: str,
    *,
    at_samples: int = 0,
    first_utterance: int = 0,
) -> EndpointedStream:
    """Open a stream with a detector of its own; ``open`` of every engine here.

    Args:
        engine: The one it is the method of.
        rate_hz, language, at_samples, first_utterance: See ``EndpointedStream``.

    Raises:
        UnsupportedAudio: Below 8 kHz or above 192 kHz.
    """
    return EndpointedStream(
        make_voice_activity("webrtc", rate_hz),
        rate_hz,
        language,
        lambda tag: engine.make_decoder(rate_hz, tag),
        at_samples=at_samples,
        first_utterance=first_utterance,
    )


# --- pitch -----------------------------------------------------------------------------------


def voiced_frames(samples: npt.NDArray[np.float32], frame_samples: int, rate_hz: int) -> int:
    """Return how many whole frames have a pitch, by their autocorrelation."""
    count = len(samples) // frame_samples
    if not count:
        return 0
    frames = samples[: count * frame_samples].reshape(count, frame_samples)
    frames = frames - frames.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(frames, 2 * frame_samples, axis=1)
    power = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1)
    shortest, longest = (int(rate_hz / hz) for hz in reversed(PITCH_HZ))
    longest = min(longest, frame_samples * 2 // 3)
    # A longer lag overlaps less of the frame.
    overlap = 1 - np.arange(shortest, longest + 1) / frame_samples
    best = (power[:, shortest : longest + 1] / overlap).max(axis=1)
    return int(np.count_nonzero(best > PERIODIC * np.maximum(power[:, 0], 1.0)))
