from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class TranscriptMessage(_message.Message):
    __slots__ = ("conversation_id", "participant_id", "sanitized_text", "language", "confidence", "timestamp")
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_ID_FIELD_NUMBER: _ClassVar[int]
    SANITIZED_TEXT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    conversation_id: str
    participant_id: str
    sanitized_text: str
    language: str
    confidence: float
    timestamp: int
    def __init__(self, conversation_id: _Optional[str] = ..., participant_id: _Optional[str] = ..., sanitized_text: _Optional[str] = ..., language: _Optional[str] = ..., confidence: _Optional[float] = ..., timestamp: _Optional[int] = ...) -> None: ...

class AckResponse(_message.Message):
    __slots__ = ("success", "message")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...
