"""What the two speech-to-text contracts demand of a server, one object for each stream.

A contract reads requests into the ports' values and writes answers. It knows no socket and no
engine; what it refuses it names by the field.

Source: proto/transcription.proto, proto/steno_speech_v1.proto.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import grpc

from steno._proto import steno_speech_v1_pb2, transcription_pb2
from steno.core.audio import SAMPLE_BYTES, encoding_of
from steno.ports.speech import AudioChunk, Hypothesis, StreamSpec

MAX_CHUNK_S: Final = 10.0
"""Audio in one message."""

MAX_ID_CHARS: Final = 256


class Refused(Exception):
    """The stream ends with this status; ``detail`` is a word of ours."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def invalid(field: str) -> Refused:
    """Return the refusal of a field's value."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, field)


class Contract(Protocol):
    """How one stream speaks. Messages are those of the contract, hence ``Any``."""

    def first(self, message: Any) -> tuple[StreamSpec, AudioChunk | None]:
        """Read the first request.

        Raises:
            Refused: It lacks something.
        """

    def chunk(self, message: Any) -> AudioChunk | None:
        """Read another request; None when there is nothing to hear in it.

        Raises:
            Refused: It breaks the contract.
        """

    def ready(self, languages: tuple[str, ...]) -> Any:
        """Return the answer to the first request; None when the contract has none."""

    def answer(self, heard: Hypothesis) -> Any:
        """Return what is written for a hypothesis; None for nothing, or nothing yet."""

    def rest(self) -> Any:
        """Return what was held back, at the end of the stream."""


class DocumentContract:
    """``transcription``: finals only. Positions are counted here, from 0."""

    def __init__(self) -> None:
        self._spec: StreamSpec | None = None
        self._wire_format = ""
        self._sample_bytes = 1
        self._position = 0
        self._last = -1
        self._told = -1
        self._unnumbered: list[Hypothesis] = []

    def first(self, message: Any) -> tuple[StreamSpec, AudioChunk | None]:
        """The first chunk says what the stream is."""
        encoding = encoding_of(message.audio_format)
        if encoding is None:
            raise invalid("audio_format")
        spec = StreamSpec(
            _id(message.conversation_id, "conversation_id"),
            _id(message.participant_id, "participant_id"),
            encoding.value,
            _positive(message.sample_rate, "sample_rate"),
            language=message.language_code,
        )
        self._spec = spec
        self._sample_bytes = SAMPLE_BYTES[encoding]
        self._wire_format = message.audio_format
        return spec, self.chunk(message)

    def chunk(self, message: Any) -> AudioChunk | None:
        """One stream carries one participant, in one format. A repeat is passed over."""
        spec = self._spec
        if spec is None:
            raise invalid("audio_format")
        for field, given, told in (
            ("conversation_id", message.conversation_id, spec.conversation),
            ("participant_id", message.participant_id, spec.participant),
            ("audio_format", message.audio_format, self._wire_format),
            ("sample_rate", message.sample_rate, spec.rate_hz),
        ):
            if given != told:
                raise invalid(field)
        audio = message.audio_data
        samples = _whole_samples(audio, self._sample_bytes, spec.rate_hz, "audio_data")
        number = message.sequence_number
        if number < 0:
            raise invalid("sequence_number")
        if number <= self._last or not samples:
            return None
        self._last = number
        start, self._position = self._position, self._position + samples
        return AudioChunk(audio, number, message.language_code or spec.language, start)

    def ready(self, languages: tuple[str, ...]) -> Any:
        """Nothing: the contract has no such message."""
        del languages

    def answer(self, heard: Hypothesis) -> Any:
        """Return a result for a final; text without a number waits for the next one's."""
        if not heard.is_final:
            return None
        if heard.text:
            self._unnumbered.append(heard)
        if heard.through < 0:
            return None
        self._told = heard.through
        return self._result()

    def rest(self) -> Any:
        """Return text that got no number: the last one is given for it again."""
        return self._result() if self._unnumbered and self._told >= 0 else None

    def _result(self) -> transcription_pb2.TranscriptResult:
        texts, self._unnumbered = self._unnumbered, []
        confidences = [
            one.language_confidence for one in texts if one.language_confidence is not None
        ]
        return transcription_pb2.TranscriptResult(
            conversation_id=self._spec.conversation if self._spec else "",
            text=" ".join(one.text for one in texts),
            language_confidence=f"{min(confidences):.2f}" if confidences else "",
            sequence_number=self._told,
        )


class StenoContract:
    """``steno.v1``: partials, word times, acknowledgements of their own."""

    def __init__(self) -> None:
        self._spec: StreamSpec | None = None
        self._sample_bytes = 1
        self._end = 0
        self._last = -1
        self._language = ""

    def first(self, message: Any) -> tuple[StreamSpec, AudioChunk | None]:
        """The first request is ``open``."""
        if message.WhichOneof("kind") != "open":
            raise invalid("open")
        opening = message.open
        encoding = encoding_of(opening.format)
        if encoding is None:
            raise invalid("format")
        if opening.HasField("resume_from"):
            if opening.resume_from < 0:
                raise invalid("resume_from")
            self._last = opening.resume_from - 1
        self._language = opening.language
        self._sample_bytes = SAMPLE_BYTES[encoding]
        self._spec = StreamSpec(
            _id(opening.conversation_id, "conversation_id"),
            _id(opening.participant_id, "participant_id"),
            encoding.value,
            _positive(opening.sample_rate, "sample_rate"),
            opening.channel,
            opening.language,
        )
        return self._spec, None

    def chunk(self, message: Any) -> AudioChunk | None:
        """Numbers grow, positions never go back."""
        spec = self._spec
        kind = message.WhichOneof("kind")
        if kind == "language":
            self._language = message.language.language or self._language
            return None
        if kind != "audio" or spec is None:
            raise invalid("kind")
        audio = message.audio
        samples = _whole_samples(audio.audio, self._sample_bytes, spec.rate_hz, "audio")
        if audio.sequence_number <= self._last:
            raise invalid("sequence_number")
        if audio.start_samples < self._end:
            raise invalid("start_samples")
        self._language = audio.language or self._language
        self._last = audio.sequence_number
        self._end = audio.start_samples + samples
        if not samples:
            return None
        return AudioChunk(audio.audio, audio.sequence_number, self._language, audio.start_samples)

    def ready(self, languages: tuple[str, ...]) -> Any:
        """Return ``ready`` with what can be recognised."""
        return steno_speech_v1_pb2.SpeechResponse(
            ready=steno_speech_v1_pb2.SpeechReady(languages=languages)
        )

    def answer(self, heard: Hypothesis) -> Any:
        """Return the hypothesis, or the acknowledgement it is without an utterance."""
        if not heard.utterance:
            return steno_speech_v1_pb2.SpeechResponse(
                acknowledged=steno_speech_v1_pb2.SpeechAcknowledged(through=heard.through)
            )
        message = steno_speech_v1_pb2.SpeechHypothesis(
            utterance=heard.utterance,
            text=heard.text,
            is_final=heard.is_final,
            words=[
                steno_speech_v1_pb2.SpeechWord(
                    text=word.text,
                    start_samples=word.start_samples,
                    end_samples=word.end_samples,
                    confidence=word.confidence,
                )
                for word in heard.words
            ],
            language=heard.language,
            confidence=heard.confidence,
            start_samples=heard.start_samples,
            end_samples=heard.end_samples,
        )
        if heard.language_confidence is not None:
            message.language_confidence = heard.language_confidence
        if heard.through >= 0:
            message.through = heard.through
        return steno_speech_v1_pb2.SpeechResponse(hypothesis=message)

    def rest(self) -> Any:
        """Nothing is held back."""


def _id(value: str, field: str) -> str:
    if not value or len(value) > MAX_ID_CHARS:
        raise invalid(field)
    return value


def _positive(value: int, field: str) -> int:
    if value <= 0:
        raise invalid(field)
    return value


def _whole_samples(audio: bytes, sample_bytes: int, rate_hz: int, field: str) -> int:
    samples, half = divmod(len(audio), sample_bytes)
    if half or samples > MAX_CHUNK_S * rate_hz:
        raise invalid(field)
    return samples
