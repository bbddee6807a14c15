"""What a recogniser engine is: it makes words of one utterance's samples, and may block.

An engine is shared by every stream of a process and opens one ``EngineStream`` for each. A stream
is used by one worker thread at a time, never by the loop. Where utterances begin and end is not
the engine's business: ``endpointing.EndpointedStream`` decides that from voice activity and gives
an engine's ``UtteranceDecoder`` nothing but speech, so that silence and music yield no text.

Positions are samples on the stream clock of the lane, at the rate of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from steno.core.audio import Samples


class EngineWord(msgspec.Struct, frozen=True, gc=False):
    """A word; positions on the stream clock, confidence 0..1."""

    text: str
    start_samples: int
    end_samples: int
    confidence: float = 1.0


class EngineHypothesis(msgspec.Struct, frozen=True, gc=False):
    """What was heard of one utterance.

    Attributes:
        utterance: Number within the stream, from 0; equal for partials and final.
        text: Empty only in a final that takes the partials before it back.
        is_final: It will not change any more; its utterance is over.
        language: BCP-47 tag or bare language it was recognised in; empty: the engine cannot say.
        language_confidence: 0..1, None when the language was told and not found.
        words: Empty for partials of engines without word times.
    """

    utterance: int
    text: str
    is_final: bool
    start_samples: int
    end_samples: int
    words: tuple[EngineWord, ...] = ()
    language: str = ""
    language_confidence: float | None = None
    confidence: float = 1.0


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A decoder's answer; words are placed from the utterance's first sample on."""

    text: str
    words: tuple[EngineWord, ...] = ()
    language: str = ""
    language_confidence: float | None = None
    confidence: float = 1.0


NOTHING = Heard("")


class UtteranceDecoder(Protocol):
    """Decodes one utterance after the other of one stream. Every method may block.

    What a method raises, of ours or of a library, costs the utterance: the decoder is closed and
    another one made for the next.
    """

    def begin(self) -> None:
        """Begin an utterance."""

    def feed(self, samples: Samples) -> None:
        """Take the next samples of it."""

    def partial(self) -> Heard:
        """Return what is heard so far; ``NOTHING`` where the engine has no partials."""

    def end(self) -> Heard:
        """End it and return what was heard; the text is empty when it was no speech."""

    def close(self) -> None:
        """Let go of what the decoder holds; an open utterance is dropped."""


class EngineStream(Protocol):
    """Audio of one lane being recognised. Every method but the properties may block.

    Attributes:
        lost: Bounds of utterances on which the engine failed; whoever reports them clears it.
    """

    lost: list[tuple[int, int]]

    @property
    def through_samples(self) -> int:
        """All text of the audio before this position has been returned in finals."""

    @property
    def position_samples(self) -> int:
        """Where the next sample lies."""

    def feed(self, samples: Samples) -> Sequence[EngineHypothesis]:
        """Take samples in, in order, and return what they made certain or likely."""

    def skip(self, samples: int) -> Sequence[EngineHypothesis]:
        """Audio is missing: end the running utterance and let the clock jump."""

    def set_language(self, language: str) -> Sequence[EngineHypothesis]:
        """End the running utterance; the next is in this language, if the engine can do it."""

    def finish(self) -> Sequence[EngineHypothesis]:
        """End of audio: end the running utterance. Nothing may be fed afterwards."""

    def close(self) -> None:
        """Let go of everything, at any time."""


class Engine(Protocol):
    """A recogniser with its model loaded; used from several threads."""

    @property
    def name(self) -> str:
        """As in the settings."""

    @property
    def languages(self) -> tuple[str, ...]:
        """BCP-47 tags or bare languages it can do; empty when it does not say."""

    def check(self, rate_hz: int) -> None:
        """Return if streams of this rate can be opened.

        Raises:
            UnsupportedAudio: They cannot, ever.
        """

    def open(
        self, rate_hz: int, language: str, *, at_samples: int = 0, first_utterance: int = 0
    ) -> EngineStream:
        """Open a stream; may block.

        Args:
            rate_hz: Of the samples that will be fed.
            language: BCP-47 tag; empty: not known.
            at_samples: Position of the first sample.
            first_utterance: Number of the first utterance.

        Raises:
            UnsupportedAudio: The rate is out of range.
            EngineUnavailable: The engine failed.
        """

    def close(self) -> None:
        """Let go of the model, when every stream is closed."""
