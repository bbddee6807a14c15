"""What the media capability needs from recognisers, language identification and voice activity.

Positions are samples per channel on the stream clock of one lane (participant or channel): 0 is
the first sample after the call was opened, and real gaps are counted in.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from steno.core.transcript import RawText

Samples = npt.NDArray[np.int16]
"""Linear samples of one channel, shape (n,)."""


# --- recognition -----------------------------------------------------------------------------


class StreamSpec(msgspec.Struct, frozen=True):
    """Whose audio a speech stream carries, and in which form.

    Attributes:
        conversation, participant: As the speech service is told.
        format: ``PCMU``, ``PCMA`` or ``L16`` (signed, little-endian): the bytes pass unchanged.
        rate_hz: Samples per second.
        channel: Index of the channel in a call of several, for services that can be told.
        language: BCP-47 tag at the start; each chunk carries the newest.
    """

    conversation: str
    participant: str
    format: str
    rate_hz: int
    channel: int = 0
    language: str = "en-US"


class AudioChunk(msgspec.Struct, frozen=True, gc=False):
    """Some audio of one lane, in order.

    Attributes:
        audio: Encoded as the spec says; whole samples.
        sequence_number: Of the last frame in it. Grows within a stream; may have holes.
        language: Best tag so far.
        start_samples: Position of its first sample.
    """

    audio: bytes
    sequence_number: int
    language: str
    start_samples: int


class SpeechWord(msgspec.Struct, frozen=True, gc=False):
    """A word with its place on the lane's stream clock; confidence 0..1."""

    text: RawText
    start_samples: int
    end_samples: int
    confidence: float = 1.0


class Hypothesis(msgspec.Struct, frozen=True, gc=False):
    """What a recogniser has heard.

    Attributes:
        through: Highest ``sequence_number`` whose text has all been returned in finals, this one
            included; -1 when it acknowledges nothing.
        text: May be empty: then it only acknowledges.
        is_final: It will not change any more. A partial is replaced by the next hypothesis of
            its utterance.
        utterance: Name within the lane, equal for the partials and the final of one utterance
            and never used again.
        language: Tag the words were recognised in; empty when the service does not say.
        language_confidence: 0..1, None when not told.
        start_samples, end_samples: Bounds of the speech; of the audio it covers where the
            service tells no times.
        words: Empty where the service tells none.
    """

    through: int
    text: RawText
    is_final: bool
    utterance: str
    language: str = ""
    language_confidence: float | None = None
    confidence: float = 1.0
    start_samples: int = 0
    end_samples: int = 0
    words: tuple[SpeechWord, ...] = ()


class AudioShed(msgspec.Struct, frozen=True, gc=False):
    """Audio that was given up unheard: the service was away for longer than the buffer holds."""

    from_samples: int
    to_samples: int
    from_sequence: int
    to_sequence: int


class StreamState(StrEnum):
    """How a speech stream is doing."""

    UP = "up"
    AWAY = "away"
    """Broken or refused; audio is kept for the time being, and it is tried again."""
    OVER = "over"
    """Everything that will come has come. Nothing follows."""


class StreamChanged(msgspec.Struct, frozen=True, gc=False):
    """The stream's state changed; ``cause`` is an error class of ours or a fixed word."""

    state: StreamState
    cause: str = ""


SpeechEvent = Hypothesis | AudioShed | StreamChanged


class SpeechListener(Protocol):
    """Takes what a speech stream yields; called on the loop, never awaits and never raises."""

    def on_speech(self, event: SpeechEvent) -> None:
        """Take one event, in order."""


class SpeechStream(Protocol):
    """Audio of one lane on its way to a recogniser. No method blocks or raises."""

    def send(self, chunk: AudioChunk) -> None:
        """Pass audio on; it is kept until the recogniser has answered for it."""

    def finish(self) -> None:
        """End of audio: results still come, then ``StreamState.OVER``."""

    def abort(self) -> None:
        """Let go at once; no event follows."""

    @property
    def pressure(self) -> float:
        """Share of the buffer in use, 0..1; near 1, audio is about to be given up."""


class Recogniser(Protocol):
    """Turns audio into words: a speech service over gRPC, or an engine in this process."""

    @property
    def languages(self) -> tuple[str, ...]:
        """BCP-47 tags it can do; empty when it does not say."""

    def open(self, spec: StreamSpec, listener: SpeechListener) -> SpeechStream:
        """Begin a stream; returns at once, connections are made behind it."""

    async def close(self, timeout_s: float) -> None:
        """Let go of everything, at the latest after ``timeout_s``."""


# --- language and voice ----------------------------------------------------------------------


class LanguageGuess(msgspec.Struct, frozen=True, gc=False):
    """What an identifier thinks: a BCP-47 tag (or a bare language, ``en``), confidence 0..1."""

    language: str
    confidence: float


class LanguageIdentifier(Protocol):
    """Tells the language of speech. It runs off the loop and may take longer than the audio."""

    @property
    def name(self) -> str:
        """For logs and metrics: ``whisper``, ``text``, ..."""

    async def identify(self, speech: Samples, rate_hz: int) -> LanguageGuess | None:
        """Guess from some seconds of speech, silence taken out; None: cannot tell.

        Raises:
            SpeechError: The model is missing or broken.
        """

    async def close(self) -> None:
        """Let go of the model."""


class TextIdentifier(Protocol):
    """Tells the language of recognised words. It runs off the loop."""

    @property
    def name(self) -> str:
        """For logs and metrics."""

    async def identify_text(self, text: str) -> LanguageGuess | None:
        """Guess from several words of one lane; None: cannot tell.

        Raises:
            SpeechError: The models are missing or broken.
        """

    async def close(self) -> None:
        """Let go of the models."""


class VoiceActivity(Protocol):
    """Tells speech from the rest in one lane's audio. Not for use by several lanes."""

    def feed(self, samples: Samples) -> bytes:
        """Return one byte per whole frame of ``frame_samples`` (1 speech, 0 none), in order.

        What does not fill a frame is kept for the next call.
        """

    @property
    def frame_samples(self) -> int:
        """Samples in a frame."""
