"""The machine that reads a stored transcript as it arrives: bytes in, segments out.

How the parts fit together
--------------------------
The file is a tree of lists and objects; those that are open make a stack of frames. A frame has a
place in its grammar (table ``Place``) and a kind (table ``Kind``) that says what its values are:

    ROOT          the object at the top: members are kept, opened (lists), or passed over
    SEGMENTS      the document's ``transcript``, or a bare list at the top (legacy files)
    PARTICIPANTS  either shape's ``participants``
    TRANSCRIPTS   the platform's ``transcripts``; each of its elements is a TRANSCRIPT
    TRANSCRIPT    one run of the platform's: its ``phrases`` are opened, ``language`` is kept
    PHRASES       the platform's segments
    IGNORED       a list or object that nobody asked for and that is too large to pass over whole

Most bytes of a file are elements of lists, and these are read many at a time: the last place in
the block where an element seems to begin is guessed (``_Frame.mark``), and everything before goes
to the decoder as a list. A guess is safe because JSON cut inside a string, object or list never
decodes: a wrong one costs time, never correctness. What is left, and everything when a guess was
wrong, is taken element by element with ``ValueEnd``; so all that is complete is given out by the
call that completes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import NoReturn

import msgspec

from steno.core.stored import (
    BadElement,
    FieldsRead,
    Participant,
    ParticipantsRead,
    Segment,
    SegmentBatch,
    StoredPart,
    StoredShape,
)
from steno.errors import RemoteProtocolError
from steno.wire.stored_transcripts.elements import (
    Unreadable,
    epoch_ms_of,
    milliseconds_of,
    participant_of,
    phrase_of,
    phrases_of,
    segment_of,
    segments_of,
)
from steno.wire.stored_transcripts.limits import LIMITS, Limits
from steno.wire.stored_transcripts.scanning import (
    Utf8,
    ValueEnd,
    after_space,
    check_json,
    fault_of,
    list_end,
    spans_of,
)

BLOCK_BYTES = 128 << 10
"""How much of what ``feed`` gets is looked at together: larger ones leave the processor's cache."""

AT_ONCE_MIN_BYTES = 1024
"""Less is taken element by element."""
PASSED_WHOLE_BYTES = 64 << 10
"""Up to this size what nobody asked for is waited for and passed over whole; larger is entered."""

_GROUP_BYTES = 256 << 10
_GROUP = 1000
_GUESSES = 3
_FEW = 16
_MARK = re.compile(rb'\{[ \t\n\r]*+"[^"\\]{0,64}"|[{\["]|')
_SPACE = b" \t\n\r"
_COMMA, _COLON, _QUOTE, _OBJECT, _LIST, _OBJECT_END, _LIST_END = b',:"{[}]'
_NULL = ord("n")
_NO_VALUE = b",:}]"
_LONG = b'"{['
_UNREAD = (msgspec.DecodeError, RecursionError, Unreadable)
_BOM = b"\xef\xbb\xbf"


class Place(Enum):
    """Where in its grammar a list or object is."""

    FIRST = auto()
    """An element or key, or the end."""
    ANOTHER = auto()
    """An element or key: there was a comma."""
    COLON = auto()
    VALUE = auto()
    NEXT = auto()
    """A comma or the end."""


class Kind(Enum):
    """What the values of a list or object are; see the top of the file."""

    ROOT = auto()
    SEGMENTS = auto()
    PARTICIPANTS = auto()
    TRANSCRIPTS = auto()
    TRANSCRIPT = auto()
    PHRASES = auto()
    IGNORED = auto()


_LISTS = {
    (Kind.ROOT, "transcript"): Kind.SEGMENTS,
    (Kind.ROOT, "participants"): Kind.PARTICIPANTS,
    (Kind.ROOT, "transcripts"): Kind.TRANSCRIPTS,
    (Kind.TRANSCRIPT, "phrases"): Kind.PHRASES,
}
_KEPT = {
    Kind.ROOT: frozenset(
        {
            "communicationId",
            "conversation",
            "conversationId",
            "downloadUrl",
            "duration",
            "startTime",
            "status",
        }
    ),
    Kind.TRANSCRIPT: frozenset({"language", "startTime"}),
}
_PLATFORM_KEYS = frozenset({"communicationId", "conversationId", "transcripts"})


class _Frame:
    """A list or object that is open."""

    __slots__ = ("is_list", "key", "kind", "mark", "not_before", "opened", "place", "started_ms")

    def __init__(self, kind: Kind, *, is_list: bool) -> None:
        self.kind = kind
        self.is_list = is_list
        self.place = Place.FIRST
        self.key = ""
        self.mark: bytes | None = None
        """How elements of this list begin, as the first of them does."""
        self.not_before = 0
        """Until how many bytes of the file are there no guess is worth its time."""
        self.opened: set[str] = set()
        self.started_ms = 0


class _Conversation(msgspec.Struct):
    id: str = ""


_name = msgspec.json.Decoder(str | None)
_conversation = msgspec.json.Decoder(str | _Conversation | None)
_key = msgspec.json.Decoder(str)


class TranscriptParser:
    """Turns the bytes of a stored transcript into segments, participants and fields.

    An error is raised by the call after the one that gave out the last complete parts, so nothing
    that stood before a fault is lost; it is raised again by every call from then on.
    """

    def __init__(self, limits: Limits = LIMITS, *, raw: bool = True) -> None:
        self._limits = limits
        self._raw = raw
        self._buffer = bytearray(b" ")  # see _compact
        self._base = -1
        self._position = 1
        self._stack: list[_Frame] = []
        self._end: ValueEnd | None = None
        self._utf8 = Utf8()
        self._out: list[StoredPart] = []
        self._failure: RemoteProtocolError | None = None
        self._is_begun = False
        self._is_ended = False
        self._shape = StoredShape.DOCUMENT
        self._texts: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._languages: dict[str, None] = {}
        self._people: dict[str, Participant] = {}
        self._bad_people: list[BadElement] = []
        self._people_count = 0
        self._has_transcript = False
        self._index = 0
        self._good = 0
        self._bad = 0

    def feed(self, data: bytes | memoryview) -> list[StoredPart]:
        """Take what comes next, cut anywhere; return everything that is now complete.

        Raises:
            RemoteProtocolError: The file is no JSON, no stored transcript, or beyond a limit;
                ``offset`` is the byte, ``limit`` or ``field`` what is at fault.
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
        """
        try:
            self._check()
            self._finish()
        except RemoteProtocolError as exc:
            return self._failed(exc)
        self._out.append(self._fields())
        return self._given()

    @property
    def shape(self) -> StoredShape:
        """The file's shape as far as it is known: the document's until it shows to be another."""
        return self._shape

    @property
    def conversation(self) -> str:
        """The conversation's id; empty until it has been read."""
        return self._texts.get("conversation", "")

    # Bytes in, parts out.

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _failed(self, failure: RemoteProtocolError) -> list[StoredPart]:
        self._failure = failure
        if not self._out:
            raise failure
        return self._given()

    def _given(self) -> list[StoredPart]:
        given, self._out = self._out, []
        return given

    def _take(self, data: bytes) -> None:
        fault = self._utf8.fault(data)
        if fault is None:
            self._buffer += data
            self._run()
            self._compact()
            return
        at = self._base + len(self._buffer) + fault
        if fault >= 0:
            self._buffer += data[:fault]
            self._run()
        self._malformed(at)

    def _compact(self) -> None:
        """Drop what was read; one byte stays, to be overwritten with a bracket (``_at_once``)."""
        done = self._position - 1
        del self._buffer[:done]
        self._base += done
        self._position = 1
        if self._end is not None:
            self._end.moved(done)

    def _finish(self) -> None:
        if self._stack or not self._is_begun or not self._utf8.is_whole:
            self._check_tail()
            raise RemoteProtocolError("the file is cut off", offset=self._base + len(self._buffer))

    def _check_tail(self, end: int = -1) -> None:
        """Raise when the value at hand, as far as it is there, is not merely cut off."""
        if self._end is None:
            return
        start = self._end.start
        tail = bytes(self._buffer[start:end] if end >= 0 else self._buffer[start:])
        fault = self._fault(tail, start)
        if fault is not None and fault < len(tail):
            self._malformed(self._base + start + fault)

    def _fields(self) -> FieldsRead:
        return FieldsRead(
            shape=self._shape,
            conversation=self._texts.get("conversation", ""),
            communication=self._texts.get("communicationId", ""),
            status=self._texts.get("status", ""),
            download_url=self._texts.get("downloadUrl", ""),
            has_transcript=self._has_transcript,
            segments=self._good,
            bad=self._bad,
            started_ms=self._numbers.get("startTime", 0),
            duration_ms=self._numbers.get("duration", 0),
            languages=tuple(self._languages),
        )

    # The grammar.

    def _run(self) -> None:
        """Read on as far as the bytes reach."""
        while True:
            self._position = after_space(self._buffer, self._position)
            if not self._stack:
                if not self._outside():
                    return
                continue
            frame = self._stack[-1]
            if not (self._in_list(frame) if frame.is_list else self._in_object(frame)):
                return

    def _outside(self) -> bool:
        """Begin or end the file; False when more is needed."""
        if self._position >= len(self._buffer):
            return False
        if self._is_begun:
            self._malformed(self._base + self._position)
        if not self._is_past_bom():
            return False
        first = self._buffer[self._position]
        if first == _OBJECT:
            self._push(_Frame(Kind.ROOT, is_list=False))
        elif first == _LIST:
            self._has_transcript = True
            self._push(_Frame(Kind.SEGMENTS, is_list=True))
        else:
            raise RemoteProtocolError(
                "a stored transcript is a JSON object or list",
                offset=self._base + self._position,
                field="transcript",
            )
        self._is_begun = True
        return True

    def _is_past_bom(self) -> bool:
        """Pass over a byte order mark at the very beginning; False while it is not all there."""
        if self._base + self._position:
            return True
        seen = bytes(self._buffer[self._position : self._position + 3])
        if seen == _BOM:
            self._position += 3
            return self._position < len(self._buffer)
        return not _BOM.startswith(seen)

    def _push(self, frame: _Frame) -> None:
        if len(self._stack) >= self._limits.depth:
            self._beyond("depth", self._position)
        self._stack.append(frame)
        self._position += 1

    def _pop(self) -> None:
        frame = self._stack.pop()
        self._position += 1
        if frame.kind is Kind.PARTICIPANTS:
            people, self._people = tuple(self._people.values()), {}
            self._out.append(ParticipantsRead(people, tuple(self._bad_people)))
        if self._stack:
            self._stack[-1].place = Place.NEXT

    def _in_object(self, frame: _Frame) -> bool:
        if self._position >= len(self._buffer):
            return False
        byte = self._buffer[self._position]
        match frame.place:
            case Place.NEXT if byte == _COMMA:
                frame.place = Place.ANOTHER
                self._position += 1
            case Place.NEXT | Place.FIRST if byte == _OBJECT_END:
                self._pop()
            case Place.FIRST | Place.ANOTHER if byte == _QUOTE:
                if frame.kind is Kind.IGNORED and self._at_once(frame):
                    return True
                return self._take_key(frame)
            case Place.COLON if byte == _COLON:
                frame.place = Place.VALUE
                self._position += 1
            case Place.VALUE:
                return self._take_member(frame, byte)
            case _:
                self._malformed(self._base + self._position)
        return True

    def _take_key(self, frame: _Frame) -> bool:
        value = self._whole_value(self._limits.field_bytes, "field_bytes")
        if value is None:
            return False
        self._syntax(value)
        try:
            frame.key = _key.decode(value)
        except msgspec.DecodeError:
            frame.key = ""  # half a surrogate pair: no key of ours
        frame.place = Place.COLON
        return self._passed(len(value))

    def _take_member(self, frame: _Frame, byte: int) -> bool:
        kind = _LISTS.get((frame.kind, frame.key))
        if frame.kind is Kind.ROOT and frame.key in _PLATFORM_KEYS:
            self._shape = StoredShape.PLATFORM
        if kind is not None and byte == _LIST:
            self._open_list(frame, kind)
            return True
        if kind is not None and byte != _NULL:
            self._wrong(frame.key)
        kept = _KEPT.get(frame.kind)
        if kind is None and (kept is None or frame.key not in kept):
            return self._pass_over(frame)
        value = self._whole_value(self._limits.field_bytes, "field_bytes")
        if value is None:
            return False
        self._syntax(value)
        if kind is not None and value != b"null":
            self._wrong(frame.key)
        if kind is None:
            self._keep(frame, frame.key, value)
        frame.place = Place.NEXT
        return self._passed(len(value))

    def _open_list(self, frame: _Frame, kind: Kind) -> None:
        other = {"transcript": "transcripts", "transcripts": "transcript"}.get(frame.key)
        if frame.key in frame.opened or other in frame.opened:
            raise RemoteProtocolError(
                "the file has a second list where one belongs",
                offset=self._base + self._position,
                field=frame.key,
            )
        frame.opened.add(frame.key)
        if frame.key == "transcript":
            self._shape = StoredShape.DOCUMENT
        if kind in (Kind.SEGMENTS, Kind.TRANSCRIPTS, Kind.PHRASES):
            self._has_transcript = True
        self._push(_Frame(kind, is_list=True))

    def _keep(self, frame: _Frame, key: str, value: bytes) -> None:
        """Remember a member of the top or of one transcript of the platform's."""
        if key == "duration":
            self._numbers[key] = milliseconds_of(value)
            return
        if key == "startTime":
            frame.started_ms = epoch_ms_of(value)
            if frame.kind is Kind.ROOT:
                self._numbers[key] = frame.started_ms
            return
        try:
            found = (_conversation if key == "conversation" else _name).decode(value)
        except msgspec.DecodeError:
            self._wrong(key)
        text = found.id if isinstance(found, _Conversation) else found or ""
        if key == "language":
            if text and len(self._languages) < 100:
                self._languages[text] = None
        elif text or key not in self._texts:
            self._texts["conversation" if key == "conversationId" else key] = text

    def _pass_over(self, frame: _Frame) -> bool:
        """Pass over a value that nobody asked for; a large list or object is entered instead."""
        byte = self._buffer[self._position]
        if byte in (_LIST, _OBJECT):
            value = self._whole_value(PASSED_WHOLE_BYTES, "")
            if value is None:
                if len(self._buffer) - self._position <= PASSED_WHOLE_BYTES:
                    return False
                self._end = None
                self._push(_Frame(Kind.IGNORED, is_list=byte == _LIST))
                return True
        else:
            value = self._whole_value(self._limits.element_bytes, "element_bytes")
            if value is None:
                return False
        self._syntax(value)
        frame.place = Place.NEXT
        return self._passed(len(value))

    # Lists.

    def _in_list(self, frame: _Frame) -> bool:
        if self._position >= len(self._buffer):
            return False
        byte = self._buffer[self._position]
        match frame.place:
            case Place.NEXT if byte == _COMMA:
                frame.place = Place.ANOTHER
                self._position += 1
            case Place.NEXT | Place.FIRST if byte == _LIST_END:
                self._pop()
            case Place.FIRST | Place.ANOTHER if byte not in _NO_VALUE:
                return self._take_elements(frame)
            case _:
                self._malformed(self._base + self._position)
        return True

    def _take_elements(self, frame: _Frame) -> bool:
        if frame.kind is Kind.TRANSCRIPTS:
            if self._buffer[self._position] != _OBJECT:
                self._wrong("transcripts")
            self._push(_Frame(Kind.TRANSCRIPT, is_list=False))
            return True
        if frame.kind is not Kind.PARTICIPANTS and self._at_once(frame):
            return True
        if self._one_by_one(frame):
            return True
        return frame.kind is Kind.IGNORED and self._pass_over(frame)

    def _at_once(self, frame: _Frame) -> bool:
        """Read all up to the last place where one more seems to begin; False if none was read."""
        at_hand = len(self._buffer) - self._position
        end = self._base + len(self._buffer)
        if at_hand < AT_ONCE_MIN_BYTES or end < frame.not_before:
            return False
        cut = self._guess(frame)
        if cut >= 0:
            try:
                self._read_to(frame, cut)
                frame.place = Place.ANOTHER
                return self._passed(cut + 1 - self._position)
            except (msgspec.ValidationError, Unreadable):
                return self._at_once_with_bad(frame, cut)
            except (msgspec.DecodeError, RecursionError) as exc:
                # Other lists may follow whose elements begin in the same way.
                length = list_end(exc)
                if length is not None and self._at_once_to_end(frame, length):
                    return True
        frame.not_before = end + at_hand
        return False

    def _at_once_to_end(self, frame: _Frame, length: int) -> bool:
        """Read all that is left of a list or object that is no longer than this."""
        closer = b"]" if frame.is_list else b"}"
        close = self._buffer.rfind(closer, self._position, self._position - 1 + length)
        if close < 0:
            return False
        try:
            self._read_to(frame, close)
        except _UNREAD:
            return False
        frame.place = Place.NEXT
        return self._passed(close - self._position)

    def _at_once_with_bad(self, frame: _Frame, cut: int) -> bool:
        """Read all elements up to a comma, bad ones among them."""
        origin = self._position - 1
        try:
            with self._bracketed(frame, cut) as block:
                spans = spans_of(block)
        except (msgspec.DecodeError, RecursionError):
            return False
        frame.place = Place.ANOTHER
        self._passed(cut + 1 - self._position)
        self._read_group(frame, [(origin + start, origin + end) for start, end in spans])
        return True

    def _guess(self, frame: _Frame) -> int:
        """Return where the last comma before an element seems to be; -1 if nowhere."""
        buffer = self._buffer
        if not frame.is_list:
            frame.mark = b'"'
        elif frame.mark is None:
            found = _MARK.match(buffer, self._position)
            assert found is not None
            frame.mark = found[0]
        begin = len(buffer)
        for _ in range(_GUESSES):
            begin = buffer.rfind(frame.mark or b",", self._position + 1, begin)
            if begin < 0 or not frame.mark:
                return begin
            comma = begin - 1
            while comma > self._position and buffer[comma] in _SPACE:
                comma -= 1
            if buffer[comma] == _COMMA:
                return comma
        return -1

    def _read_to(self, frame: _Frame, cut: int) -> None:
        """Read what stands before ``cut``."""
        with self._bracketed(frame, cut) as block:
            segments = self._decoded(frame, block)
        if frame.kind is not Kind.IGNORED:
            raw = bytes(self._buffer[self._position : cut]) if self._wants_raw(frame) else None
            self._give(segments, raw)

    @contextmanager
    def _bracketed(self, frame: _Frame, cut: int) -> Iterator[memoryview]:
        """Lend the bytes before ``cut`` with brackets in place of the two around them."""
        buffer = self._buffer
        kept = buffer[cut]
        buffer[self._position - 1] = _LIST if frame.is_list else _OBJECT
        buffer[cut] = _LIST_END if frame.is_list else _OBJECT_END
        try:
            with memoryview(buffer) as whole, whole[self._position - 1 : cut + 1] as block:
                yield block
        finally:
            buffer[cut] = kept

    def _decoded(self, frame: _Frame, block: bytes | memoryview) -> list[Segment]:
        if frame.kind is Kind.SEGMENTS:
            return segments_of(block)
        if frame.kind is Kind.PHRASES:
            return phrases_of(block, self._started_ms())
        check_json(block)
        return []

    def _wants_raw(self, frame: _Frame) -> bool:
        return self._raw and frame.kind is Kind.SEGMENTS

    def _started_ms(self) -> int:
        """Return when the communication began, as far as it was told until here; 0 for not."""
        return self._numbers.get("startTime", 0) or self._stack[-2].started_ms

    def _give(
        self, segments: list[Segment], raw: bytes | None, bad: tuple[BadElement, ...] = ()
    ) -> None:
        self._out.append(SegmentBatch(self._index, segments, raw, bad))
        self._index += len(segments)
        self._good += len(segments)

    def _one_by_one(self, frame: _Frame) -> bool:
        """Read what elements are complete; False when more bytes are needed."""
        group: list[tuple[int, int]] = []
        try:
            return self._collect(frame, group)
        finally:
            if group:
                self._read_group(frame, group)

    def _collect(self, frame: _Frame, group: list[tuple[int, int]]) -> bool:
        """Find the ends of elements with one comma between each; as ``_one_by_one``."""
        buffer = self._buffer
        begun = self._position
        most, limit = self._limits.element_bytes, "element_bytes"
        if frame.kind is Kind.IGNORED:
            most, limit = PASSED_WHOLE_BYTES, ""
        while True:
            end = self._value_end(most, limit)
            if end < 0:
                return False
            group.append((self._position, end))
            self._passed(end - self._position)
            frame.place = Place.NEXT
            comma = after_space(buffer, end)
            if (
                len(group) >= _GROUP
                or end - begun > _GROUP_BYTES
                or buffer[comma : comma + 1] != b","
            ):
                return True
            frame.place = Place.ANOTHER
            self._position = comma + 1
            start = after_space(buffer, comma + 1)
            if start >= len(buffer) or buffer[start] in _NO_VALUE:
                return True
            self._position = start

    def _read_group(self, frame: _Frame, group: list[tuple[int, int]]) -> None:
        if frame.kind is Kind.PARTICIPANTS:
            for start, end in group:
                self._read_participant(start, bytes(self._buffer[start:end]))
            return
        block = bytes(self._buffer[group[0][0] : group[-1][1]])
        try:
            segments = self._decoded(frame, b"[%b]" % block)
        except _UNREAD:
            if len(group) <= _FEW:
                self._read_apart(frame, group)
                return
            half = len(group) // 2
            self._read_group(frame, group[:half])
            self._read_group(frame, group[half:])
        else:
            if frame.kind is not Kind.IGNORED:
                self._give(segments, block if self._wants_raw(frame) else None)

    def _read_apart(self, frame: _Frame, group: list[tuple[int, int]]) -> None:
        """Read elements each by itself, the bad ones told apart from the good."""
        if frame.kind is Kind.IGNORED:
            for start, end in group:
                self._syntax(bytes(self._buffer[start:end]), start)
            return
        good: list[Segment] = []
        bad: list[BadElement] = []
        begin = group[0][0]
        reached = begin
        try:
            for start, end in group:
                try:
                    segment = self._read_one(frame, start, end)
                except Unreadable as exc:
                    index = self._index + len(good) + len(bad)
                    bad.append(BadElement(index, self._base + start, exc.field))
                    continue
                if bad:
                    self._give_run(frame, (begin, reached), good, bad)
                    begin, good, bad = start, [], []
                good.append(segment)
                reached = end
        finally:
            self._give_run(frame, (begin, reached), good, bad)

    def _read_one(self, frame: _Frame, start: int, end: int) -> Segment:
        value = bytes(self._buffer[start:end])
        try:
            if frame.kind is Kind.PHRASES:
                return phrase_of(value, self._started_ms())
            return segment_of(value)
        except (Unreadable, RecursionError):
            self._syntax(value, start)
            raise

    def _give_run(
        self,
        frame: _Frame,
        span: tuple[int, int],
        good: list[Segment],
        bad: list[BadElement],
    ) -> None:
        """Give good elements, which make up ``span``, and the bad ones that followed them."""
        if not good and not bad:
            return
        room = max(self._limits.bad_elements - self._bad, 0)
        raw = bytes(self._buffer[slice(*span)]) if good and self._wants_raw(frame) else None
        self._give(good, raw, tuple(bad[:room]))
        self._index += len(bad)
        self._bad += len(bad)

    def _read_participant(self, start: int, value: bytes) -> None:
        at = self._people_count
        self._people_count += 1
        if self._people_count > self._limits.participants:
            self._beyond("participants", start)
        self._syntax(value, start)
        by_purpose = self._shape is StoredShape.PLATFORM
        try:
            person = participant_of(value, by_purpose=by_purpose)
        except Unreadable as exc:
            self._bad_people.append(BadElement(at, self._base + start, exc.field))
            return
        self._people.setdefault(person.id, person)

    # Single values, and what is wrong with them.

    def _value_end(self, most: int, limit: str) -> int:
        """Return where the value at hand ends; -1 while it is not all there.

        One larger than ``most`` is an error where a ``limit`` is named, else never all there.
        """
        if self._end is None:
            self._end = ValueEnd(self._position)
        if self._buffer[self._position] not in _LONG and most > self._limits.field_bytes:
            most, limit = self._limits.field_bytes, "field_bytes"
        end = self._end.find(self._buffer)
        if len(self._stack) + self._end.deepest > self._limits.depth:
            self._beyond("depth", self._position)
        size = (end if end >= 0 else len(self._buffer)) - self._position
        if size <= most:
            return end
        if limit:
            self._check_tail(end)
            self._beyond(limit, self._position)
        return -1

    def _whole_value(self, most: int, limit: str) -> bytes | None:
        """Return the value at hand, not yet passed; None as ``_value_end``."""
        end = self._value_end(most, limit)
        return None if end < 0 else bytes(self._buffer[self._position : end])

    def _passed(self, size: int) -> bool:
        self._end = None
        self._position += size
        return True

    def _syntax(self, value: bytes, start: int | None = None) -> None:
        """Raise when a value is no JSON."""
        at = self._position if start is None else start
        fault = self._fault(value, at)
        if fault is not None:
            self._malformed(self._base + at + fault)

    def _fault(self, value: bytes, start: int) -> int | None:
        try:
            return fault_of(value)
        except RecursionError:
            self._beyond("depth", start)

    def _malformed(self, offset: int) -> NoReturn:
        raise RemoteProtocolError("the file is not JSON", offset=offset)

    def _beyond(self, limit: str, position: int) -> NoReturn:
        raise RemoteProtocolError(
            "the file is beyond a limit", offset=self._base + position, limit=limit
        )

    def _wrong(self, field: str) -> NoReturn:
        raise RemoteProtocolError(
            "a field of the file has the wrong type",
            offset=self._base + self._position,
            field=field,
        )


def parse_stored(body: bytes, limits: Limits = LIMITS, *, raw: bool = False) -> list[StoredPart]:
    """Return the parts of a whole small body, ``FieldsRead`` last.

    Raises:
        RemoteProtocolError: As ``TranscriptParser``, whatever stood before the fault.
    """
    parser = TranscriptParser(limits, raw=raw)
    parts = parser.feed(body)
    parts += parser.end()
    return parts if isinstance(parts[-1], FieldsRead) else parser.end()
