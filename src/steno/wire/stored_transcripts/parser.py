"""The machine that reads a stored transcript as it arrives: bytes in, segments out.

The file is a tree of lists and objects; those that are open make a stack of frames, each with a
``Place`` in its grammar and a ``Kind`` that says what its values are. Which kinds are found where
is the table ``_LISTS``; which members are kept, ``_KEPT``; all others are passed over, checked
but never kept. Elements of lists are read by ``lists``.

A file shows its shape by its keys: ``transcripts``, ``conversationId`` and ``communicationId``
are the platform's. A second ``transcript`` is refused, as the first one is given out by then.
"""

from __future__ import annotations

from typing import Final

import msgspec

from steno.core.stored import FieldsRead, StoredPart, StoredShape
from steno.errors import LocalProtocolError, RemoteProtocolError
from steno.wire.stored_transcripts import lists
from steno.wire.stored_transcripts.elements import epoch_ms_of, milliseconds_of
from steno.wire.stored_transcripts.frames import Frame, Kind, Place
from steno.wire.stored_transcripts.limits import LIMITS, Limits
from steno.wire.stored_transcripts.window import Window

BLOCK_BYTES = 128 << 10
"""How much of what ``feed`` gets is looked at together: larger ones leave the processor's cache."""

_LANGUAGES_MAX: Final = 100
_COMMA, _COLON, _QUOTE, _OBJECT, _LIST, _OBJECT_END, _LIST_END = b',:"{[}]'
_NULL: Final = ord("n")
_BOM: Final = b"\xef\xbb\xbf"
_LISTS: Final = {
    (Kind.ROOT, "transcript"): Kind.SEGMENTS,
    (Kind.ROOT, "participants"): Kind.PARTICIPANTS,
    (Kind.ROOT, "transcripts"): Kind.TRANSCRIPTS,
    (Kind.TRANSCRIPT, "phrases"): Kind.PHRASES,
}
_EITHER: Final = {"transcript": "transcripts", "transcripts": "transcript"}
_PLATFORM_KEYS: Final = frozenset({"communicationId", "conversationId", "transcripts"})
_KEPT: Final = {
    (Kind.ROOT, "communicationId"),
    (Kind.ROOT, "conversation"),
    (Kind.ROOT, "conversationId"),
    (Kind.ROOT, "downloadUrl"),
    (Kind.ROOT, "duration"),
    (Kind.ROOT, "startTime"),
    (Kind.ROOT, "status"),
    (Kind.TRANSCRIPT, "language"),
    (Kind.TRANSCRIPT, "startTime"),
}


class _Conversation(msgspec.Struct):
    id: str = ""


_name = msgspec.json.Decoder(str | None)
_conversation = msgspec.json.Decoder(str | _Conversation | None)
_key = msgspec.json.Decoder(str)


class _Kept:
    """What is kept of the members at the top, and of the platform's transcripts."""

    def __init__(self) -> None:
        self.shape = StoredShape.DOCUMENT
        self.has_transcript = False
        self.texts: dict[str, str] = {}
        self.duration_ms = 0
        self.started_ms = 0
        self._languages: dict[str, None] = {}

    def keep(self, frame: Frame, value: bytes) -> bool:
        """Keep a member that is in ``_KEPT``; False when it has the wrong type."""
        key = frame.key
        if key == "duration":
            self.duration_ms = milliseconds_of(value)
        elif key == "startTime":
            frame.started_ms = epoch_ms_of(value)
            if frame.kind is Kind.ROOT:
                self.started_ms = frame.started_ms
        else:
            return self._keep_text(key, value)
        return True

    def _keep_text(self, key: str, value: bytes) -> bool:
        try:
            found = (_conversation if key == "conversation" else _name).decode(value)
        except msgspec.DecodeError:
            return False
        text = found.id if isinstance(found, _Conversation) else found
        if text and key == "language":
            if len(self._languages) < _LANGUAGES_MAX:
                self._languages[text] = None
        elif text:
            self.texts["conversation" if key == "conversationId" else key] = text
        return True

    def fields(self, segments: int, bad: int) -> FieldsRead:
        """Return all of it."""
        return FieldsRead(
            shape=self.shape,
            conversation=self.texts.get("conversation", ""),
            communication=self.texts.get("communicationId", ""),
            status=self.texts.get("status", ""),
            download_url=self.texts.get("downloadUrl", ""),
            has_transcript=self.has_transcript,
            segments=segments,
            bad=bad,
            started_ms=self.started_ms,
            duration_ms=self.duration_ms,
            languages=tuple(self._languages),
        )


class TranscriptParser:
    """Turns the bytes of a stored transcript into segments, participants and fields.

    An error is raised by the call after the one that gave out the last complete parts, so nothing
    that stood before a fault is lost; it is raised again by every call from then on.

    Args:
        limits: What the file may ask of memory.
        raw: Batches of the document's shape hold their segments as they stand in the file, too.
    """

    def __init__(self, limits: Limits = LIMITS, *, raw: bool = True) -> None:
        self._limits = limits
        self._window = Window(limits)
        self._out: list[StoredPart] = []
        self._people = lists.People(self._window, limits)
        self._reader = lists.ElementReader(self._window, limits, self._people, self._out, raw=raw)
        self._kept = _Kept()
        self._stack: list[Frame] = []
        self._is_begun = False
        self._is_ended = False
        self._failure: RemoteProtocolError | None = None

    def feed(self, data: bytes | memoryview) -> list[StoredPart]:
        """Take what comes next, cut anywhere; return everything that is now complete.

        Raises:
            RemoteProtocolError: The file is no JSON, no stored transcript, or beyond a limit;
                ``offset`` is the byte, ``limit`` or ``field`` what is at fault.
            LocalProtocolError: The file was ended before.
        """
        view = memoryview(data)
        try:
            self._check()
            for start in range(0, len(view), BLOCK_BYTES):
                self._take(bytes(view[start : start + BLOCK_BYTES]))
        except RemoteProtocolError as exc:
            return self._failed(exc)
        return self._given()

    def end(self) -> list[StoredPart]:
        """Return what is left, ``FieldsRead`` last.

        Raises:
            RemoteProtocolError: As ``feed``, or the file is truncated; ``offset`` is its length.
            LocalProtocolError: It was ended before.
        """
        try:
            self._check()
            self._finish()
        except RemoteProtocolError as exc:
            return self._failed(exc)
        self._is_ended = True
        self._out.append(self._kept.fields(self._reader.good, self._reader.bad))
        return self._given()

    @property
    def shape(self) -> StoredShape:
        """The file's shape as far as it is known: the document's until it shows to be another."""
        return self._kept.shape

    @property
    def conversation(self) -> str:
        """The conversation's id; empty until it has been read."""
        return self._kept.texts.get("conversation", "")

    # Bytes in, parts out.

    def _check(self) -> None:
        if self._is_ended:
            raise LocalProtocolError("the file has ended")
        if self._failure is not None:
            raise self._failure

    def _failed(self, failure: RemoteProtocolError) -> list[StoredPart]:
        self._failure = failure
        if not self._out:
            raise failure
        return self._given()

    def _given(self) -> list[StoredPart]:
        given = self._out[:]
        self._out.clear()
        return given

    def _take(self, data: bytes) -> None:
        fault = self._window.add(data)
        self._run()
        self._window.compact()
        if fault is not None:
            self._window.malformed(fault)

    def _finish(self) -> None:
        if self._stack or not self._is_begun or not self._window.is_whole_text:
            self._window.cut_off()

    # The grammar.

    def _run(self) -> None:
        """Read on as far as the bytes reach."""
        went_on = True
        while went_on and self._window.skip_space():
            if self._stack:
                frame = self._stack[-1]
                went_on = self._in_list(frame) if frame.is_list else self._in_object(frame)
            else:
                went_on = self._outside()

    def _outside(self) -> bool:
        """Begin or end the file; False when more is needed."""
        if self._is_begun:
            self._window.malformed()
        if not self._is_past_bom():
            return False
        first = self._window.byte
        if first == _OBJECT:
            self._push(Frame(Kind.ROOT, is_list=False))
        elif first == _LIST:
            self._kept.has_transcript = True
            self._push(Frame(Kind.SEGMENTS, is_list=True))
        else:
            self._window.wrong("transcript", "a stored transcript is a JSON object or list")
        self._is_begun = True
        return True

    def _is_past_bom(self) -> bool:
        """Pass over a byte order mark at the very beginning; False while it is not all there."""
        if self._window.here:
            return True
        begin = self._window.position
        seen = bytes(self._window.buffer[begin : begin + len(_BOM)])
        if seen == _BOM:
            self._window.passed(len(_BOM))
            return self._window.at_hand > 0
        return not _BOM.startswith(seen)

    def _push(self, frame: Frame) -> None:
        if len(self._stack) >= self._limits.depth:
            self._window.beyond("depth")
        self._stack.append(frame)
        self._window.levels = len(self._stack)
        self._window.passed(1)

    def _pop(self) -> None:
        frame = self._stack.pop()
        self._window.levels = len(self._stack)
        self._window.passed(1)
        if frame.kind is Kind.PARTICIPANTS:
            self._out.append(self._people.all())
        if self._stack:
            self._stack[-1].place = Place.NEXT

    def _in_object(self, frame: Frame) -> bool:
        byte = self._window.byte
        match frame.place:
            case Place.NEXT if byte == _COMMA:
                frame.place = Place.ANOTHER
                self._window.passed(1)
            case Place.NEXT | Place.FIRST if byte == _OBJECT_END:
                self._pop()
            case Place.FIRST | Place.ANOTHER if byte == _QUOTE:
                if frame.kind is Kind.IGNORED and self._reader.at_once(frame):
                    return True
                return self._take_key(frame)
            case Place.COLON if byte == _COLON:
                frame.place = Place.VALUE
                self._window.passed(1)
            case Place.VALUE:
                return self._take_member(frame, byte)
            case _:
                self._window.malformed()
        return True

    def _take_key(self, frame: Frame) -> bool:
        value = self._window.whole_value(self._limits.field_bytes, "field_bytes")
        if value is None:
            return False
        try:
            frame.key = _key.decode(value)
        except msgspec.DecodeError:
            frame.key = ""  # half a surrogate pair: no key of ours
        frame.place = Place.COLON
        return self._window.passed(len(value))

    def _take_member(self, frame: Frame, byte: int) -> bool:
        kind = _LISTS.get((frame.kind, frame.key))
        if frame.kind is Kind.ROOT and frame.key in _PLATFORM_KEYS:
            self._kept.shape = StoredShape.PLATFORM
        if kind is not None and byte == _LIST:
            self._open_list(frame, kind)
            return True
        if kind is not None and byte != _NULL:
            self._window.wrong(frame.key)
        if kind is None and (frame.kind, frame.key) not in _KEPT:
            return self._pass_over(frame)
        value = self._window.whole_value(self._limits.field_bytes, "field_bytes")
        if value is None:
            return False
        if kind is None and not self._kept.keep(frame, value):
            self._window.wrong(frame.key)
        frame.place = Place.NEXT
        return self._window.passed(len(value))

    def _open_list(self, frame: Frame, kind: Kind) -> None:
        if frame.key in frame.opened or _EITHER.get(frame.key) in frame.opened:
            self._window.wrong(frame.key, "the file has a second list where one belongs")
        frame.opened.add(frame.key)
        if frame.key == "transcript":
            self._kept.shape = StoredShape.DOCUMENT
        if kind in (Kind.SEGMENTS, Kind.TRANSCRIPTS, Kind.PHRASES):
            self._kept.has_transcript = True
        self._people.by_purpose = self._kept.shape is StoredShape.PLATFORM
        self._push(Frame(kind, is_list=True, started_ms=self._kept.started_ms or frame.started_ms))

    def _pass_over(self, frame: Frame) -> bool:
        """Pass over a value that nobody asked for; a large list or object is entered instead."""
        byte = self._window.byte
        if byte in (_LIST, _OBJECT):
            value = self._window.whole_value(lists.PASSED_WHOLE_BYTES, "")
            if value is None:
                if self._window.at_hand <= lists.PASSED_WHOLE_BYTES:
                    return False
                self._push(Frame(Kind.IGNORED, is_list=byte == _LIST))
                return True
        else:
            value = self._window.whole_value(self._limits.element_bytes, "element_bytes")
            if value is None:
                return False
        frame.place = Place.NEXT
        return self._window.passed(len(value))

    def _in_list(self, frame: Frame) -> bool:
        byte = self._window.byte
        match frame.place:
            case Place.NEXT if byte == _COMMA:
                frame.place = Place.ANOTHER
                self._window.passed(1)
            case Place.NEXT | Place.FIRST if byte == _LIST_END:
                self._pop()
            case Place.FIRST | Place.ANOTHER if byte not in lists.NO_VALUE:
                return self._take_elements(frame)
            case _:
                self._window.malformed()
        return True

    def _take_elements(self, frame: Frame) -> bool:
        if frame.kind is Kind.TRANSCRIPTS:
            if self._window.byte != _OBJECT:
                self._window.wrong("transcripts")
            self._push(Frame(Kind.TRANSCRIPT, is_list=False))
            return True
        if frame.kind is not Kind.PARTICIPANTS and self._reader.at_once(frame):
            return True
        if self._reader.one_by_one(frame):
            return True
        return frame.kind is Kind.IGNORED and self._pass_over(frame)


def parse_stored(body: bytes, limits: Limits = LIMITS, *, raw: bool = False) -> list[StoredPart]:
    """Return the parts of a whole small body, ``FieldsRead`` last.

    Raises:
        RemoteProtocolError: As ``TranscriptParser``, whatever stood before the fault.
    """
    parser = TranscriptParser(limits, raw=raw)
    parts = parser.feed(body)
    parts += parser.end()
    return parts if isinstance(parts[-1], FieldsRead) else parser.end()
