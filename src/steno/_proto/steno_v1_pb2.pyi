from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_REFUSED: _ClassVar[Verdict]
    VERDICT_LATER: _ClassVar[Verdict]
    VERDICT_UNWANTED: _ClassVar[Verdict]
VERDICT_REFUSED: Verdict
VERDICT_LATER: Verdict
VERDICT_UNWANTED: Verdict

class Record(_message.Message):
    __slots__ = ("id", "kind", "source", "conversation_id", "lane", "utterance", "revision", "key", "seq", "prev_seq", "origin", "at_us", "payload")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PREV_SEQ_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    source: str
    conversation_id: str
    lane: str
    utterance: str
    revision: int
    key: str
    seq: int
    prev_seq: int
    origin: str
    at_us: int
    payload: bytes
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., source: _Optional[str] = ..., conversation_id: _Optional[str] = ..., lane: _Optional[str] = ..., utterance: _Optional[str] = ..., revision: _Optional[int] = ..., key: _Optional[str] = ..., seq: _Optional[int] = ..., prev_seq: _Optional[int] = ..., origin: _Optional[str] = ..., at_us: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class RecordBatch(_message.Message):
    __slots__ = ("batch", "records")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    batch: int
    records: _containers.RepeatedCompositeFieldContainer[Record]
    def __init__(self, batch: _Optional[int] = ..., records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("batch", "index", "reason", "verdict", "retry_after_ms")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    batch: int
    index: int
    reason: str
    verdict: Verdict
    retry_after_ms: int
    def __init__(self, batch: _Optional[int] = ..., index: _Optional[int] = ..., reason: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class BatchAck(_message.Message):
    __slots__ = ("acked_through", "rejections")
    ACKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    acked_through: int
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    def __init__(self, acked_through: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ...) -> None: ...
