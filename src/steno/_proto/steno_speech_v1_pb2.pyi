from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpeechRequest(_message.Message):
    __slots__ = ("open", "audio", "language")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    open: SpeechOpen
    audio: SpeechAudio
    language: SpeechLanguage
    def __init__(self, open: _Optional[_Union[SpeechOpen, _Mapping]] = ..., audio: _Optional[_Union[SpeechAudio, _Mapping]] = ..., language: _Optional[_Union[SpeechLanguage, _Mapping]] = ...) -> None: ...

class SpeechOpen(_message.Message):
    __slots__ = ("conversation_id", "participant_id", "channel", "format", "sample_rate", "language", "resume_from")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FROM_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    participant_id: str
    channel: int
    format: str
    sample_rate: int
    language: str
    resume_from: int
    def __init__(self, conversation_id: _Optional[str] = ..., participant_id: _Optional[str] = ..., channel: _Optional[int] = ..., format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., language: _Optional[str] = ..., resume_from: _Optional[int] = ...) -> None: ...

class SpeechAudio(_message.Message):
    __slots__ = ("audio", "sequence_number", "start_samples", "language")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    START_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    audio: bytes
    sequence_number: int
    start_samples: int
    language: str
    def __init__(self, audio: _Optional[bytes] = ..., sequence_number: _Optional[int] = ..., start_samples: _Optional[int] = ..., language: _Optional[str] = ...) -> None: ...

class SpeechLanguage(_message.Message):
    __slots__ = ("language",)
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    language: str
    def __init__(self, language: _Optional[str] = ...) -> None: ...

class SpeechResponse(_message.Message):
    __slots__ = ("ready", "hypothesis", "acknowledged")
    READY_FIELD_NUMBER: _ClassVar[int]
    HYPOTHESIS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    ready: SpeechReady
    hypothesis: SpeechHypothesis
    acknowledged: SpeechAcknowledged
    def __init__(self, ready: _Optional[_Union[SpeechReady, _Mapping]] = ..., hypothesis: _Optional[_Union[SpeechHypothesis, _Mapping]] = ..., acknowledged: _Optional[_Union[SpeechAcknowledged, _Mapping]] = ...) -> None: ...

class SpeechReady(_message.Message):
    __slots__ = ("languages",)
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    languages: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, languages: _Optional[_Iterable[str]] = ...) -> None: ...

class SpeechWord(_message.Message):
    __slots__ = ("text", "start_samples", "end_samples", "confidence")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    END_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    text: str
    start_samples: int
    end_samples: int
    confidence: float
    def __init__(self, text: _Optional[str] = ..., start_samples: _Optional[int] = ..., end_samples: _Optional[int] = ..., confidence: _Optional[float] = ...) -> None: ...

class SpeechHypothesis(_message.Message):
    __slots__ = ("utterance", "text", "is_final", "words", "language", "language_confidence", "confidence", "start_samples", "end_samples", "through")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    START_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    END_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    utterance: str
    text: str
    is_final: bool
    words: _containers.RepeatedCompositeFieldContainer[SpeechWord]
    language: str
    language_confidence: float
    confidence: float
    start_samples: int
    end_samples: int
    through: int
    def __init__(self, utterance: _Optional[str] = ..., text: _Optional[str] = ..., is_final: _Optional[bool] = ..., words: _Optional[_Iterable[_Union[SpeechWord, _Mapping]]] = ..., language: _Optional[str] = ..., language_confidence: _Optional[float] = ..., confidence: _Optional[float] = ..., start_samples: _Optional[int] = ..., end_samples: _Optional[int] = ..., through: _Optional[int] = ...) -> None: ...

class SpeechAcknowledged(_message.Message):
    __slots__ = ("through",)
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    through: int
    def __init__(self, through: _Optional[int] = ...) -> None: ...
