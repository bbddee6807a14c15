"""Messages of the two speech-to-text contracts, one codec for each stream.

Outgoing audio is put together by hand: protobuf allows the fields of a message in any order and
simply one behind the other, so what does not change is encoded once for a stream, and a chunk
costs one join (1 µs, a third of filling a message object). Incoming messages are few and are
decoded by the library.

Source: proto/transcription.proto, proto/steno_speech_v1.proto, the protobuf encoding guide.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from steno._proto import steno_speech_v1_pb2, transcription_pb2
from steno.core.transcript import RawText
from steno.ports.speech import AudioChunk, Hypothesis, SpeechWord, StreamSpec
from steno.wire.grpc_wire import framed
from steno.wire.speech_stream import SpeechStreamMachine

DOCUMENT_PATH: Final = "/transcription.TranscriptionService/StreamAudio"
STENO_PATH: Final = "/steno.v1.SpeechRecognition/Recognise"

MAX_INT32: Final = (1 << 31) - 1
_RENUMBER_FROM: Final = MAX_INT32 - (1 << 24)
_DECIMAL: Final = re.compile(r"(0|1|0?\.[0-9]{1,18}|0\.|1\.0{0,18})")


class SequenceOverflow(Exception):
    """The number does not fit the contract any more; a new call begins to count anew."""


class Codec(Protocol):
    """How one stream speaks; a new one for every call."""

    def opening(self, resume_from: int | None) -> bytes:
        """Return what goes out first, framed; empty when the contract has no such message."""

    def audio(self, chunk: AudioChunk) -> bytes:
        """Return a chunk's message, framed.

        Raises:
            SequenceOverflow: See there.
        """

    def take(self, message: bytes, machine: SpeechStreamMachine) -> tuple[str, ...] | None:
        """Pass an answer on to the machine; returns the languages when it names them.

        Raises:
            DecodeError: It is no message of the contract (of the protobuf library).
            RemoteProtocolError: It breaks the contract.
        """


class DocumentCodec:
    """``transcription``, as in the document."""

    __slots__ = ("_base", "_fixed", "_head", "_language", "_language_field", "_tail")

    def __init__(self, spec: StreamSpec) -> None:
        chunk = transcription_pb2.AudioChunk
        self._head = (
            chunk(
                conversation_id=spec.conversation, participant_id=spec.participant
            ).SerializeToString()
            + b"\x1a"  # audio_data = 3
        )
        self._tail = chunk(sample_rate=spec.rate_hz, audio_format=spec.format).SerializeToString()
        self._language = ""
        self._language_field = b"\x28"
        self._fixed = len(self._head) + 1 + len(self._tail)
        self._base: int | None = None

    def opening(self, resume_from: int | None) -> bytes:
        """Nothing: this contract begins with audio."""
        del resume_from
        return b""

    def audio(self, chunk: AudioChunk) -> bytes:
        """Return an ``AudioChunk``; numbers are unchanged while they fit into an int32."""
        audio = chunk.audio
        if chunk.language != self._language:
            field = transcription_pb2.AudioChunk(language_code=chunk.language)
            self._language = chunk.language
            self._language_field = field.SerializeToString() + b"\x28"  # sequence_number = 5
            self._fixed = len(self._head) + len(self._language_field) + len(self._tail)
        number = chunk.sequence_number
        if self._base is None:
            self._base = 0 if number < _RENUMBER_FROM else number
        number -= self._base
        if number > MAX_INT32:
            raise SequenceOverflow
        size, place = _varint(len(audio)), _varint(number)
        length = self._fixed + len(size) + len(audio) + len(place)
        return b"".join(
            (
                b"\0", length.to_bytes(4, "big"), self._head, size, audio, self._language_field,
                place, self._tail,
            )
        )  # fmt: skip

    def take(self, message: bytes, machine: SpeechStreamMachine) -> tuple[str, ...] | None:
        """Take a ``TranscriptResult``: a final, which acknowledges."""
        result = transcription_pb2.TranscriptResult.FromString(message)
        number = result.sequence_number + (self._base or 0)
        machine.on_result(number, result.text, parse_confidence(result.language_confidence))
        return None


class StenoCodec:
    """``steno.v1``: our own contract."""

    __slots__ = ("_language", "_language_field", "_spec")

    def __init__(self, spec: StreamSpec) -> None:
        self._spec = spec
        self._language = spec.language
        self._language_field = b""

    def opening(self, resume_from: int | None) -> bytes:
        """Return the ``open`` message."""
        spec = self._spec
        opening = steno_speech_v1_pb2.SpeechOpen(
            conversation_id=spec.conversation,
            participant_id=spec.participant,
            channel=spec.channel,
            format=spec.format,
            sample_rate=spec.rate_hz,
            language=spec.language,
        )
        if resume_from is not None:
            opening.resume_from = resume_from
        return framed(steno_speech_v1_pb2.SpeechRequest(open=opening).SerializeToString())

    def audio(self, chunk: AudioChunk) -> bytes:
        """Return an ``audio`` message; the language is in it when it has changed."""
        audio = chunk.audio
        language = b""
        if chunk.language != self._language:
            self._language = chunk.language
            language = steno_speech_v1_pb2.SpeechAudio(language=chunk.language).SerializeToString()
        inner = b"".join(
            (
                b"\x0a", _varint(len(audio)), audio, b"\x10", _varint(chunk.sequence_number),
                b"\x18", _varint(chunk.start_samples), language,
            )
        )  # fmt: skip
        return framed(b"\x12" + _varint(len(inner)) + inner)

    def take(self, message: bytes, machine: SpeechStreamMachine) -> tuple[str, ...] | None:
        """Take a ``SpeechResponse``; kinds of a later contract are ignored."""
        response = steno_speech_v1_pb2.SpeechResponse.FromString(message)
        match response.WhichOneof("kind"):
            case "hypothesis":
                machine.on_hypothesis(_hypothesis(response.hypothesis))
            case "acknowledged":
                machine.on_acknowledged(response.acknowledged.through)
            case "ready":
                machine.confirmed()
                return tuple(response.ready.languages)
            case _:
                pass
        return None


def parse_confidence(text: str) -> float | None:
    """Return the document's decimal as text, 0..1; None for anything else."""
    text = text.strip()
    return float(text) if _DECIMAL.fullmatch(text) else None


def _hypothesis(heard: steno_speech_v1_pb2.SpeechHypothesis) -> Hypothesis:
    words = tuple(
        SpeechWord(
            RawText(word.text),
            word.start_samples,
            word.end_samples,
            _share(word.confidence) or 0.0,
        )
        for word in heard.words
    )
    if any(not 0 <= word.start_samples <= word.end_samples for word in words):
        words = ()
    start, end = heard.start_samples, heard.end_samples
    if not 0 <= start <= end:
        start = end = 0
    confidence = _share(heard.confidence) or 0.0 if heard.HasField("confidence") else 1.0
    return Hypothesis(
        heard.through if heard.HasField("through") else -1,
        RawText(heard.text),
        heard.is_final,
        heard.utterance,
        heard.language,
        _share(heard.language_confidence) if heard.HasField("language_confidence") else None,
        confidence,
        start,
        end,
        words,
    )


def _share(value: float) -> float | None:
    return value if 0.0 <= value <= 1.0 else None  # also for NaN


def _varint(value: int) -> bytes:
    if 0 <= value < 128:
        return _SMALL[value]
    if value < 0:
        value += 1 << 64
    elif value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL: Final = tuple(bytes((value,)) for value in range(128))
