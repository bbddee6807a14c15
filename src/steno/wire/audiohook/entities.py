"""``transcript`` entities: results as the platform takes them, and read back.

Offsets are absolute on the session's stream clock. Writing follows the current schema; reading
also takes the older drafts that are still about (``channel``, ``position``, ``lexical`` and
``normalized`` interpretations, ``punctuation`` tokens).

Source: Genesys Cloud, Transcription Connector, ``transcript`` entity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.audiohook.durations import Duration, from_us, to_us
from steno.wire.audiohook.messages import Uuid, is_language_code, is_uuid

MAX_ENTITY_BYTES: Final = 60_000
"""What one entity may take of a message's 65535 characters."""
NUDGE_US: Final = 1000
"""Two words must not share an offset: the later one moves by this much."""

_US_PER_S: Final = 1_000_000


class Word(msgspec.Struct, frozen=True, gc=False):
    """A word with its place on the stream clock.

    ``language`` is a code of the protocol's form, or empty.
    """

    text: str
    start_samples: int
    end_samples: int
    confidence: float = 1.0
    language: str = ""


class Transcript(msgspec.Struct, frozen=True):
    """An entity ready to be sent: whose utterance, and the JSON."""

    id: str
    is_final: bool
    encoded: msgspec.Raw

    def __repr__(self) -> str:
        return f"Transcript(id={self.id!r}, is_final={self.is_final})"


class _Token(msgspec.Struct, omit_defaults=True):
    value: str
    confidence: float
    offset: str
    duration: str
    language: str | None = None
    type: str | msgspec.UnsetType = msgspec.UNSET


class _Interpretation(msgspec.Struct, omit_defaults=True):
    transcript: str
    type: str | msgspec.UnsetType = msgspec.UNSET
    tokens: list[_Token] | None = None


class _Alternative(msgspec.Struct, omit_defaults=True):
    confidence: float
    interpretations: list[_Interpretation]
    languages: list[str] | None = None


class _Data(msgspec.Struct, rename="camel"):
    id: str
    channel_id: int
    is_final: bool
    offset: str
    duration: str
    alternatives: list[_Alternative]


class _Entity(msgspec.Struct):
    type: str
    data: _Data


_encode = msgspec.json.Encoder().encode


def build_transcript(
    *,
    id: str,
    channel: int,
    is_final: bool,
    start_samples: int,
    end_samples: int,
    rate_hz: int,
    text: str,
    confidence: float = 1.0,
    language: str = "",
    words: Sequence[Word] = (),
) -> Transcript:
    """Return the entity of one utterance.

    Args:
        id: UUID of the utterance, the same for its partials and its final.
        channel: Index into the channels agreed on, 0 or 1.
        start_samples, end_samples: On the stream clock, at ``rate_hz``.
        text: As it may be shown; redaction is behind us.
        language: Left out where it has not the protocol's form (``en-US``).
        words: With their times; without any, the span is shared out by ``estimated_words``.

    Tokens are left out where the entity would be too large with them.

    Raises:
        LocalProtocolError: The id, channel or span is none, or the text alone is too large.
    """
    if not is_uuid(id) or channel not in (0, 1) or not 0 <= start_samples <= end_samples:
        raise LocalProtocolError("a transcript entity needs a UUID, a channel and a span")
    timed = words or estimated_words(text, start_samples, end_samples)
    for tokens in (_tokens(timed, rate_hz), None):
        interpretation = _Interpretation(text, type="display", tokens=tokens)
        alternative = _Alternative(
            _share(confidence),
            [interpretation],
            languages=[language] if is_language_code(language) else None,
        )
        start_us = _us(start_samples, rate_hz)
        span_us = _us(end_samples, rate_hz) - start_us
        data = _Data(id, channel, is_final, from_us(start_us), from_us(span_us), [alternative])
        encoded = _encode(_Entity("transcript", data))
        if len(encoded) <= MAX_ENTITY_BYTES:
            return Transcript(id, is_final, msgspec.Raw(encoded))
    raise LocalProtocolError("a transcript entity is too large")


def estimated_words(text: str, start_samples: int, end_samples: int) -> tuple[Word, ...]:
    """Return the words of a text with the span shared out by their length.

    For recognisers that tell no times: the platform wants tokens, and places are approximate.
    """
    values = text.split()
    total = sum(len(value) for value in values)
    words: list[Word] = []
    before = 0
    for value in values:
        begin = start_samples + (end_samples - start_samples) * before // total
        before += len(value)
        end = start_samples + (end_samples - start_samples) * before // total
        words.append(Word(value, begin, end))
    return tuple(words)


def _tokens(words: Iterable[Word], rate_hz: int) -> list[_Token] | None:
    tokens: list[_Token] = []
    taken: set[int] = set()
    latest_us = -1
    for word in words:
        offset_us = _us(word.start_samples, rate_hz)
        span_us = max(_us(word.end_samples, rate_hz) - offset_us, 0)
        if offset_us in taken:
            # Behind all that were placed: word by word upwards would be quadratic.
            offset_us = max(offset_us, latest_us) + NUDGE_US
        taken.add(offset_us)
        latest_us = max(latest_us, offset_us)
        tokens.append(
            _Token(
                word.text,
                _share(word.confidence),
                from_us(offset_us),
                from_us(span_us),
                language=word.language if is_language_code(word.language) else None,
                type="word",
            )
        )
    return tokens or None


def _us(samples: int, rate_hz: int) -> int:
    return max(samples, 0) * _US_PER_S // rate_hz


def _share(confidence: float) -> float:
    """Return a confidence within 0..1 and without noise; not a number counts as none."""
    return round(min(max(confidence, 0.0), 1.0), 4) if confidence == confidence else 0.0


# --- reading ---------------------------------------------------------------------------------


class ReadToken(msgspec.Struct, frozen=True):
    """A word as an entity tells it; times in microseconds, None where it tells none."""

    value: str
    confidence: float
    offset_us: int | None
    duration_us: int | None
    is_word: bool


class ReadTranscript(msgspec.Struct, frozen=True):
    """The best alternative of an entity; times in microseconds of the stream clock."""

    id: str
    channel: int
    is_final: bool
    offset_us: int | None
    duration_us: int | None
    confidence: float
    languages: tuple[str, ...]
    text: str
    tokens: tuple[ReadToken, ...]

    def __repr__(self) -> str:
        return f"ReadTranscript(id={self.id!r}, channel={self.channel}, is_final={self.is_final})"


class _OldToken(msgspec.Struct):
    value: str
    confidence: float = 1.0
    type: str = "word"
    offset: Duration | None = None
    position: Duration | None = None
    duration: Duration | None = None


class _OldInterpretation(msgspec.Struct):
    transcript: str
    type: str = "display"
    tokens: tuple[_OldToken, ...] | None = None


class _OldAlternative(msgspec.Struct):
    interpretations: tuple[_OldInterpretation, ...]
    confidence: float = 1.0
    languages: tuple[str, ...] | None = None


class _OldData(msgspec.Struct, rename="camel"):
    id: Uuid
    is_final: bool
    alternatives: tuple[_OldAlternative, ...]
    channel_id: int | None = None
    channel: str | int | None = None
    offset: Duration | None = None
    position: Duration | None = None
    duration: Duration | None = None


class _OldEntity(msgspec.Struct):
    type: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_old_entity = msgspec.json.Decoder(_OldEntity).decode
_old_data = msgspec.json.Decoder(_OldData).decode
_CHANNELS: Final = {"external": 0, "internal": 1, 0: 0, 1: 1}
_PREFERRED: Final = {"display": 0, "normalized": 1, "lexical": 2}


def read_transcript(entity: bytes | msgspec.Raw) -> ReadTranscript | None:
    """Return what a ``transcript`` entity says; None for an entity of another type.

    Raises:
        RemoteProtocolError: It is no entity, or a field that matters is missing or broken.
    """
    try:
        envelope = _old_entity(bytes(entity))
        if envelope.type != "transcript":
            return None
        if envelope.data is msgspec.UNSET:
            raise RemoteProtocolError("an entity without data")
        return _read(_old_data(bytes(envelope.data)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RemoteProtocolError("a transcript entity is malformed") from None


def _read(data: _OldData) -> ReadTranscript:
    named = data.channel_id if data.channel_id is not None else data.channel
    channel = _CHANNELS.get(named) if named is not None else None
    if channel is None:
        raise RemoteProtocolError("a transcript entity names no channel")
    if not data.alternatives or not data.alternatives[0].interpretations:
        raise RemoteProtocolError("a transcript entity without text")
    best = data.alternatives[0]
    shown = min(best.interpretations, key=lambda one: _PREFERRED.get(one.type, 3))
    return ReadTranscript(
        data.id,
        channel,
        data.is_final,
        _time(data.offset, data.position),
        _time(data.duration),
        best.confidence,
        best.languages or (),
        shown.transcript,
        tuple(
            ReadToken(
                one.value,
                one.confidence,
                _time(one.offset, one.position),
                _time(one.duration),
                one.type == "word",
            )
            for one in shown.tokens or ()
        ),
    )


def _time(*told: str | None) -> int | None:
    return next((to_us(one) for one in told if one is not None), None)
