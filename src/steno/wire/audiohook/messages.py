"""AudioHook messages of both directions, decoded strictly in one pass and encoded.

A message is an envelope with a ``type`` and ``parameters``; each type is a struct, and the
decoder chooses by type while it reads. Strict is what the protocol makes strict (ids, durations,
language codes, media items, ``parameters`` always there); fields it does not name are ignored.

A caller's number and name are in ``open``: no ``repr`` shows them.

Source: AudioHook protocol 2, message envelope; messages from client and from server.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import msgspec

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.audiohook.durations import Duration

VERSION: Final = "2"
MAX_TEXT_CHARS: Final = 65_535
NULL_UUID: Final = "00000000-0000-0000-0000-000000000000"
MAX_SEQ: Final = 2**53 - 1

_UUID_FORM: Final = (
    r"\A(?:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-5][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
    rf"|{NULL_UUID})\Z"
)
_LANGUAGE_FORM: Final = r"\A[a-z]{2,3}-[A-Za-z]{2,3}\Z"
_UUID: Final = re.compile(_UUID_FORM)
_LANGUAGE: Final = re.compile(_LANGUAGE_FORM)

Uuid = Annotated[str, msgspec.Meta(pattern=_UUID_FORM, max_length=36)]
LanguageCode = Annotated[str, msgspec.Meta(pattern=_LANGUAGE_FORM, max_length=7)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
OwnSeq = Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)]
JsonObject = dict[str, Any]  # Any: JSON of the integration's administrator, passed on unread


def is_uuid(text: str) -> bool:
    """Tell whether it is a UUID of version 1 to 5, or the null UUID."""
    return _UUID.match(text) is not None


def is_language_code(text: str) -> bool:
    """Tell whether it is ``xx-YY`` or ``xxx-YYY`` as the protocol wants languages."""
    return _LANGUAGE.match(text) is not None


class MediaFormat(StrEnum):
    """Encoding of the audio: mu-law, one byte a sample; or signed 16 bits, two bytes."""

    PCMU = "PCMU"
    L16 = "L16"


class Channel(StrEnum):
    """Who is heard: the customer or the agent's side."""

    EXTERNAL = "external"
    INTERNAL = "internal"


class MediaItem(msgspec.Struct, frozen=True):
    """An offer of audio. Samples of the channels take turns in the order given here."""

    type: Literal["audio"]
    format: MediaFormat
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(min_length=1, max_length=2)]
    rate: Annotated[int, msgspec.Meta(ge=8000, le=48_000)]

    def __post_init__(self) -> None:
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("a channel is named twice")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return len(self.channels) * (2 if self.format is MediaFormat.L16 else 1)


class Participant(msgspec.Struct, frozen=True, rename="camel"):
    """Whose leg it is; number and name are personal, and ``repr`` leaves them out."""

    id: Uuid
    ani: str
    ani_name: str
    dnis: str

    def __repr__(self) -> str:
        return f"Participant(id={self.id!r})"


class ContinuedSession(msgspec.Struct, frozen=True):
    """An earlier session which the new one continues, with its last sequence numbers."""

    id: Uuid
    serverseq: Seq
    clientseq: Seq


class OpenParameters(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a session is about, as ``open`` says."""

    organization_id: Uuid
    conversation_id: Uuid
    participant: Participant
    media: tuple[MediaItem, ...]
    language: LanguageCode | None = None
    supported_languages: bool | None = None
    continued_sessions: tuple[ContinuedSession, ...] | None = None
    custom_config: JsonObject | None = None
    input_variables: dict[str, str] | None = None

    @property
    def is_probe(self) -> bool:
        """It only tests the connection: no conversation stands behind it."""
        return self.conversation_id == NULL_UUID

    def __repr__(self) -> str:
        return f"OpenParameters(conversation_id={self.conversation_id!r})"


class CloseReason(StrEnum):
    """Why the client closes."""

    END = "end"
    ERROR = "error"
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"


class DisconnectReason(StrEnum):
    """Why the server wants to end."""

    COMPLETED = "completed"
    UNAUTHORIZED = "unauthorized"
    ERROR = "error"


class NoParameters(msgspec.Struct, frozen=True):
    """Parameters of messages which have none."""


class CloseParameters(msgspec.Struct, frozen=True):
    """Why it ends."""

    reason: CloseReason


class PingParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """The round trip the client measured last."""

    rtt: Duration | None = None


class SpanParameters(msgspec.Struct, frozen=True):
    """Stream time that was not sent: ``discarded`` of it from ``start``."""

    start: Duration
    discarded: Duration


class UpdateParameters(msgspec.Struct, frozen=True):
    """The conversation's language changed."""

    language: LanguageCode


class ErrorParameters(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the client saw. Read with leniency: an error report must not cause another."""

    code: int
    message: str = ""
    retry_after: Duration | None = None

    def __repr__(self) -> str:
        return f"ErrorParameters(code={self.code})"


class DtmfParameters(msgspec.Struct, frozen=True):
    """A key was pressed; possibly of a card number, so ``repr`` hides it."""

    digit: str

    def __repr__(self) -> str:
        return "DtmfParameters([hidden])"


class OpenedParameters(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the server takes of the offers: one item unchanged, or none for no audio."""

    media: tuple[MediaItem, ...]
    start_paused: bool = False
    discard_to: Duration | None = None
    supported_languages: tuple[LanguageCode, ...] | None = None


class EventParameters(msgspec.Struct, frozen=True):
    """Results; each entity is a JSON object with ``type`` and ``data``."""

    entities: list[msgspec.Raw]


class DisconnectParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the server wants to end; ``info`` is for the operational events of the platform."""

    reason: DisconnectReason
    info: str = ""


class InfoParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the server wants the client to move to another connection."""

    info: str = ""


NO_PARAMETERS: Final = NoParameters()


# --- envelopes -------------------------------------------------------------------------------


class _ClientMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Fields of every message of the client.

    ``serverseq`` is the highest ``seq`` it has of ours, ``position`` that of the next sample it
    will send.
    """

    version: Literal["2"]
    id: Uuid
    seq: OwnSeq
    serverseq: Seq
    position: Duration


class Open(_ClientMessage, frozen=True, kw_only=True, tag="open"):
    """First message, exactly once."""

    parameters: OpenParameters


class Close(_ClientMessage, frozen=True, kw_only=True, tag="close"):
    """No audio follows; results may, then ``closed``."""

    parameters: CloseParameters


class Ping(_ClientMessage, frozen=True, kw_only=True, tag="ping"):
    """Wants a ``pong`` at once."""

    parameters: PingParameters


class Paused(_ClientMessage, frozen=True, kw_only=True, tag="paused"):
    """Audio has stopped: because we asked, or because the platform wants it."""

    parameters: NoParameters


class Resumed(_ClientMessage, frozen=True, kw_only=True, tag="resumed"):
    """Audio goes on."""

    parameters: SpanParameters


class Discarded(_ClientMessage, frozen=True, kw_only=True, tag="discarded"):
    """Some audio was not sent."""

    parameters: SpanParameters


class Update(_ClientMessage, frozen=True, kw_only=True, tag="update"):
    """Something about the conversation changed."""

    parameters: UpdateParameters


class Error(_ClientMessage, frozen=True, kw_only=True, tag="error"):
    """The client saw a problem; it informs, and ends nothing."""

    parameters: ErrorParameters


class Dtmf(_ClientMessage, frozen=True, kw_only=True, tag="dtmf"):
    """The caller pressed a key (Audio Connector)."""

    parameters: DtmfParameters


class PlaybackStarted(_ClientMessage, frozen=True, kw_only=True, tag="playback_started"):
    """Audio of ours is being played (Audio Connector)."""

    parameters: NoParameters


class PlaybackCompleted(_ClientMessage, frozen=True, kw_only=True, tag="playback_completed"):
    """Audio of ours has been played (Audio Connector)."""

    parameters: NoParameters


class _ServerMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Fields of every message of the server; ``clientseq`` is the client's highest ``seq``."""

    version: Literal["2"]
    id: Uuid
    seq: OwnSeq
    clientseq: Seq


class Opened(_ServerMessage, frozen=True, kw_only=True, tag="opened"):
    """The answer to ``open``."""

    parameters: OpenedParameters


class Closed(_ServerMessage, frozen=True, kw_only=True, tag="closed"):
    """The answer to ``close``; nothing follows."""

    parameters: NoParameters


class Pong(_ServerMessage, frozen=True, kw_only=True, tag="pong"):
    """The answer to ``ping``."""

    parameters: NoParameters


class Event(_ServerMessage, frozen=True, kw_only=True, tag="event"):
    """Results."""

    parameters: EventParameters


class Pause(_ServerMessage, frozen=True, kw_only=True, tag="pause"):
    """Asks the client to pause."""

    parameters: NoParameters


class Resume(_ServerMessage, frozen=True, kw_only=True, tag="resume"):
    """Asks the client to go on."""

    parameters: NoParameters


class Updated(_ServerMessage, frozen=True, kw_only=True, tag="updated"):
    """A reaction to ``update``."""

    parameters: NoParameters


class Disconnect(_ServerMessage, frozen=True, kw_only=True, tag="disconnect"):
    """Asks the client to close."""

    parameters: DisconnectParameters


class Reconnect(_ServerMessage, frozen=True, kw_only=True, tag="reconnect"):
    """Asks the client to move to a new connection."""

    parameters: InfoParameters


ClientMessage = (
    Open
    | Close
    | Ping
    | Paused
    | Resumed
    | Discarded
    | Update
    | Error
    | Dtmf
    | PlaybackStarted
    | PlaybackCompleted
)
ServerMessage = Opened | Closed | Pong | Event | Pause | Resume | Updated | Disconnect | Reconnect


class _Fields(msgspec.Struct):
    """The little that a broken message may still say."""

    type: str = ""
    parameters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_client: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_server: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_fields = msgspec.json.Decoder(_Fields)
_encoder = msgspec.json.Encoder()
_CLIENT_TYPES: Final = frozenset(one.__struct_config__.tag for one in get_args(ClientMessage))
_SERVER_TYPES: Final = frozenset(one.__struct_config__.tag for one in get_args(ServerMessage))
_Message = TypeVar("_Message")


def decode_client(data: bytes) -> ClientMessage:
    """Return a message of the client.

    Raises:
        RemoteProtocolError: Too large, not JSON, of an unknown type, or against the rules; the
            summary is a fixed sentence of ours.
    """
    return _decode(data, _client, _CLIENT_TYPES)


def decode_server(data: bytes) -> ServerMessage:
    """Return a message of the server.

    Raises:
        RemoteProtocolError: As ``decode_client``.
    """
    return _decode(data, _server, _SERVER_TYPES)


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """Return a message as JSON.

    Raises:
        LocalProtocolError: More than ``MAX_TEXT_CHARS`` characters.
    """
    data = _encoder.encode(message)
    if is_too_large(data):
        raise LocalProtocolError("an AudioHook message of ours is too large")
    return data


def is_too_large(data: bytes) -> bool:
    """Tell whether UTF-8 text has more characters than a message may have."""
    if len(data) <= MAX_TEXT_CHARS:
        return False
    # A character begins at every byte that does not continue one.
    return (
        len(data) > 4 * MAX_TEXT_CHARS or sum(byte & 0xC0 != 0x80 for byte in data) > MAX_TEXT_CHARS
    )


def _decode(
    data: bytes, decoder: msgspec.json.Decoder[_Message], known: frozenset[str]
) -> _Message:
    if is_too_large(data):
        raise RemoteProtocolError("message too large", close_code=1009)
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        summary = _why(data, known)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        summary = "message is not JSON"
    raise RemoteProtocolError(summary)


def _why(data: bytes, known: frozenset[str]) -> str:
    """Return what is wrong with JSON that is no valid message, in words of ours."""
    try:
        fields = _fields.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "message is not an object with a type"
    if fields.type not in known:
        return "unknown message type"
    if fields.parameters is msgspec.UNSET:
        return "message without parameters"
    return "invalid message fields"
