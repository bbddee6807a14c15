"""The tutorials' event socket: its transcription events.

One WebSocket carries every event asked for (``event_subscription``). Events come in an envelope,
``{"type":T,"data":{…}}``, or bare, one text frame each:

    {"eventType":T,"conversationId":…,"transcripts":[{"speaker":"agent_1","text":…,"start":12.5,
     "end":14.25,"confidence":0.93,"isFinal":true}]}

``Decoder`` is on the hot path: about 2 µs for an event with one segment. What is plainly in
order is decoded there in one step. All else is looked at again, slowly and key by key: a bad
segment is quarantined by itself while the others of its event go on. It raises for no input.

Speaker labels are local to a conversation, and so is the clock of ``start`` and ``end``.

Sources: the tutorials' diarisation document; RFC 8259 (JSON).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from steno.core.ids import is_id
from steno.core.transcript import Fragment, RawText, Role
from steno.ports import Quarantined
from steno.wire.event_subscription import EVENTS
from steno.wire.transcript_stream import IGNORED, Ignored, Malformed, quarantined

__all__ = ["EVENTS", "SOURCE", "Decoded", "Decoder", "Ignored"]

SOURCE = "event-socket"
MAX_MESSAGE_BYTES = 1 << 20
MAX_ITEMS = 1000
"""Segments of one event; they are handed over in one go, whatever the receiver's back-pressure."""
MAX_LABEL_CHARS = 128
MAX_KNOWN_IDS = 20_000
MAX_KNOWN_LABELS = 4096
MAX_SECONDS = float(1 << 33)
"""Bound of ``start`` and ``end``: below it, microseconds are exact in a float, and even seconds
since 1970 would pass."""

_Seconds = Annotated[float, msgspec.Meta(ge=0.0, lt=MAX_SECONDS)]
_Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class _Item(msgspec.Struct, gc=False, rename="camel"):
    text: str
    start: _Seconds
    end: _Seconds
    confidence: _Share
    is_final: bool
    speaker: str | UnsetType | None = UNSET


class _Body(msgspec.Struct, gc=False, rename="camel"):
    conversation_id: str
    transcripts: list[_Item]
    event_type: str | UnsetType = UNSET


class _Message(msgspec.Struct, gc=False, rename="camel"):
    """An event in its envelope or bare."""

    type: str | UnsetType = UNSET
    data: _Body | UnsetType = UNSET
    event_type: str | UnsetType = UNSET
    conversation_id: str | UnsetType = UNSET
    transcripts: list[_Item] | UnsetType = UNSET


class _Inner(msgspec.Struct, gc=False, rename="camel"):
    event_type: str | None = None


class _Head(msgspec.Struct, gc=False, rename="camel"):
    """The names a message goes by; enough to leave others' events alone."""

    type: str | None = None
    event_type: str | None = None
    data: _Inner | None = None


_message = msgspec.json.Decoder(_Message).decode
_head = msgspec.json.Decoder(_Head).decode

_EVENT_KEYS = frozenset({"type", "data", "eventType", "conversationId", "transcripts"})
_ITEM_KEYS = frozenset({"speaker", "text", "start", "end", "confidence", "isFinal"})
_OUR_KEYS = _EVENT_KEYS | _ITEM_KEYS

_QUOTES_ENVELOPED = 12  # type, its value, data, conversationId, its value, transcripts
_QUOTES_BARE = 10  # the same without data
_QUOTES_NAME = 4  # eventType and its value inside of data
_QUOTES_ITEM = 16  # six keys, two string values

_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ROLE = re.compile(r"(agent|customer|system)(?:[ _-]?[0-9]{1,4})?", re.IGNORECASE)

Decoded = Fragment | Quarantined | Ignored


class _Repeated:
    """Stands for a JSON object that says one of our keys twice."""


_REPEATED = _Repeated()


class Decoder:
    """Decodes the events of all connections: it holds nothing but known ids and labels.

    Args:
        events: Event types taken; others are ignored.
        max_bytes: Messages longer than this are quarantined undecoded.
    """

    __slots__ = ("_events", "_ids", "_labels", "_max_bytes")

    def __init__(
        self, events: Sequence[str] = EVENTS, *, max_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._events = frozenset(events)
        self._max_bytes = max_bytes
        self._ids: dict[str, str] = {}
        self._labels: dict[str | UnsetType | None, tuple[str, Role]] = {}

    def decode(self, data: bytes, *, now: float, utc_us: int) -> list[Decoded]:
        """Return what one text frame says: a fragment for each segment, in their order.

        Args:
            data: The frame's payload.
            now: Monotonic seconds at which it was read.
            utc_us: The same moment in UTC microseconds: the only wall-clock time an event has.
        """
        try:
            if len(data) > self._max_bytes:
                raise Malformed("oversize")
            try:
                message = _message(data)
            except msgspec.ValidationError:
                return [IGNORED] if self._is_foreign(data) else self._slowly(data, now, utc_us)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return self._slowly(data, now, utc_us)
            found = self._plainly(message, data, now, utc_us)
            return self._slowly(data, now, utc_us) if found is None else found
        except Malformed as malformed:
            cause = str(malformed)
        except RecursionError:
            cause = "deep-nesting"
        return [quarantined(data, cause, utc_us, source=SOURCE)]

    # --- the plain way -----------------------------------------------------------------------

    def _plainly(
        self, message: _Message, data: bytes, now: float, utc_us: int
    ) -> list[Decoded] | None:
        """Return what a message in good order says; None where that takes a closer look."""
        name, body = message.type, message.data
        if body is UNSET:
            if name is UNSET:
                name = message.event_type
            elif message.event_type is not UNSET:
                return None
            quotes = _QUOTES_BARE
            conversation, items = message.conversation_id, message.transcripts
        else:
            quotes = _QUOTES_ENVELOPED
            if body.event_type is not UNSET:
                if name != body.event_type:
                    return None
                quotes += _QUOTES_NAME
            if message.transcripts is not UNSET or message.event_type is not UNSET:
                return None
            conversation, items = body.conversation_id, body.transcripts
        if name is UNSET:
            return None
        if name not in self._events:
            return [IGNORED]
        if conversation is UNSET or items is UNSET or not items or len(items) > MAX_ITEMS:
            return None
        conversation = self._ids.get(conversation) or self._check_id(conversation)
        labels, given = self._labels, len(items)
        found: list[Decoded] = []
        quotes += _QUOTES_ITEM * given
        for item in items:
            label = item.speaker
            if label is None or label is UNSET:
                quotes -= 2 if label is None else 4
                given -= label is UNSET
            known = labels.get(label)
            if known is None:
                known = self._check_label(label)
                if known is None:
                    return None
            found.append(
                # The first object for an id or label is used for good: dictionaries downstream
                # then compare by identity and find its hash computed.
                Fragment(
                    conversation,
                    known[0],
                    RawText(item.text),
                    item.confidence,
                    item.is_final,
                    "",
                    utc_us,
                    "",
                    round(item.start * 1e6),
                    round(item.end * 1e6),
                    known[1],
                    now,
                )
            )
        if data.count(b'"') != quotes and not _says_all_once(data, len(items), given):
            return None
        return found

    def _check_id(self, text: str) -> str:
        if not is_id(text):
            raise Malformed("conversationId")
        if len(self._ids) >= MAX_KNOWN_IDS:
            self._ids.clear()  # rare, and cheaper than keeping an order on the hot path
        self._ids[text] = text
        return text

    def _check_label(self, text: str | UnsetType | None) -> tuple[str, Role] | None:
        """Return a speaker's label without the space around it, and its role; None for a bad
        one.
        """
        label = "" if text is None or text is UNSET else text.strip()
        if len(label) > MAX_LABEL_CHARS or _CONTROL.search(label) is not None:
            return None
        plain = _ROLE.fullmatch(label)
        role = Role.UNKNOWN if plain is None else Role(plain[1].lower())
        if len(self._labels) >= MAX_KNOWN_LABELS:
            self._labels.clear()
        if text is None or text is UNSET or len(text) <= 2 * MAX_LABEL_CHARS:
            self._labels[text] = label, role
        return label, role

    def _is_foreign(self, data: bytes) -> bool:
        """Tell whether a message of another shape is another event, with nothing of ours in it."""
        try:
            head = _head(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        inner = None if head.data is None else head.data.event_type
        names = {head.type, head.event_type, inner} - {None}
        return bool(names) and not names & self._events

    # --- the slow way ------------------------------------------------------------------------

    def _slowly(self, data: bytes, now: float, utc_us: int) -> list[Decoded]:
        """Return what a message says whose parts have to be told apart.

        Raises:
            Malformed: None of it can be taken.
        """
        body = self._body(_parsed(data))
        if body is None:
            return [IGNORED]
        conversation = body.get("conversationId")
        if not isinstance(conversation, str):
            raise Malformed("conversationId")
        conversation = self._ids.get(conversation) or self._check_id(conversation)
        items = body.get("transcripts", UNSET)
        if items is None:  # how Go writes an empty list
            return [IGNORED]
        if not isinstance(items, list):
            raise Malformed("transcripts")
        if len(items) > MAX_ITEMS:
            raise Malformed("items")
        found: list[Decoded] = []
        for index, item in enumerate(items):
            try:
                found.append(self._fragment(item, conversation, now, utc_us))
            except Malformed as malformed:
                found.append(_item_note(data, index, str(malformed), utc_us))
        return found or [IGNORED]

    def _body(self, message: object) -> dict[str, object] | None:
        """Return the object that holds the segments; None when the event is not ours."""
        outer = _object(message, "shape")
        data = outer.get("data")
        inner = data if isinstance(data, dict) else {}
        given = (outer.get("type"), outer.get("eventType"), inner.get("eventType"))
        names = [name for name in given if name is not None]
        if not all(isinstance(name, str) for name in names):
            raise Malformed("shape")
        if names and self._events.isdisjoint(names):
            return None
        if data is not None:
            _object(data, "data")
        if not names or (inner and "transcripts" in outer):
            raise Malformed("shape")
        if names.count(names[0]) != len(names):
            # Whose is it? Nobody's, before it is taken for what it is not.
            raise Malformed("eventType")
        return outer if data is None else inner

    def _fragment(self, item: object, conversation: str, now: float, utc_us: int) -> Fragment:
        told = _object(item, "item")
        text, is_final = told.get("text"), told.get("isFinal")
        if not isinstance(text, str) or not _is_encodable(text):
            raise Malformed("text")
        if not isinstance(is_final, bool):
            raise Malformed("isFinal")
        speaker = told.get("speaker")
        if speaker is not None and not isinstance(speaker, str):
            raise Malformed("speaker")
        known = self._check_label(speaker)
        if known is None:
            raise Malformed("speaker")
        confidence = _number(told, "confidence")
        if confidence > 1.0:
            raise Malformed("confidence")
        return Fragment(
            conversation,
            known[0],
            RawText(text),
            confidence,
            is_final,
            "",
            utc_us,
            started_us=round(_number(told, "start") * 1e6),
            ended_us=round(_number(told, "end") * 1e6),
            role=known[1],
            received_s=now,
        )


def _says_all_once(data: bytes, items: int, speakers: int) -> bool:
    """Tell whether a message that has more in it than our keys and values says each key once.

    Which of two values counts differs between JSON parsers (RFC 8259, 4), so nobody can rely on
    either. False means that it takes a parser to tell.
    """
    count = data.count  # written out: a loop costs more than the counting
    return (
        b"\\" not in data
        and count(b'"speaker"') == speakers
        and count(b'"text"') == items
        and count(b'"start"') == items
        and count(b'"end"') == items
        and count(b'"confidence"') == items
        and count(b'"isFinal"') == items
        and count(b'"transcripts"') == 1
        and count(b'"conversationId"') == 1
        and count(b'"eventType"') <= 1
        and count(b'"type"') <= 1
        and count(b'"data"') <= 1
    )


def _parsed(data: bytes) -> object:
    """Parse with Python's own parser, which takes NaN and Infinity: they spoil one segment, not
    its event.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_unless_repeated)
    except ValueError:  # no UTF-8, no JSON, or a number of thousands of digits
        raise Malformed("invalid-json") from None


def _unless_repeated(pairs: list[tuple[str, object]]) -> dict[str, object] | _Repeated:
    made = dict(pairs)
    if len(made) != len(pairs):
        ours = [key for key, _ in pairs if key in _OUR_KEYS]
        if len(set(ours)) != len(ours):
            return _REPEATED
    return made


def _object(value: object, cause: str) -> dict[str, object]:
    if value is _REPEATED:
        raise Malformed("repeated-key")
    if not isinstance(value, dict):
        raise Malformed(cause)
    return value


def _number(told: dict[str, object], key: str) -> float:
    value = told.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(key)
    if not 0 <= value < MAX_SECONDS:  # NaN compares false
        raise Malformed(key)
    return float(value)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no UTF-8 can hold
        return False
    return True


def _item_note(data: bytes, index: int, cause: str, utc_us: int) -> Quarantined:
    """Return the note kept of one segment that is dropped: hash of the message and its index."""
    digest = hashlib.sha256(data + b"#%d" % index).hexdigest()
    return Quarantined(SOURCE, digest, len(data), cause, utc_us)
