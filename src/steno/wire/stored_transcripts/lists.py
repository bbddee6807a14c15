"""Elements of lists, read many at a time: most bytes of a file are these.

The last place at hand where an element seems to begin is guessed (``Frame.mark``), and everything
before it goes to the decoder as a list. A guess is safe because JSON that is cut inside a string,
object or list never decodes: a wrong one costs time, never correctness. What is left, and
everything when a guess was wrong, is taken element by element with ``ValueEnd``; so all that is
complete is given out by the call that completes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from steno.core.stored import (
    BadElement,
    Participant,
    ParticipantsRead,
    Segment,
    SegmentBatch,
    StoredPart,
)
from steno.wire.stored_transcripts.elements import (
    Unreadable,
    participant_of,
    phrase_of,
    phrases_of,
    segment_of,
    segments_of,
)
from steno.wire.stored_transcripts.frames import Frame, Kind, Place
from steno.wire.stored_transcripts.limits import Limits
from steno.wire.stored_transcripts.scanning import after_space, check_json, list_end, spans_of
from steno.wire.stored_transcripts.window import Window

AT_ONCE_MIN_BYTES = 1024
"""Less is taken element by element."""
PASSED_WHOLE_BYTES = 64 << 10
"""Up to this size what nobody asked for is waited for and passed over whole; larger is entered."""

NO_VALUE: Final = b",:}]"
"""What no value begins with."""
_GROUP_BYTES: Final = 256 << 10
_GROUP: Final = 1000
_GUESSES: Final = 3
_FEW: Final = 16
_MARK: Final = re.compile(rb'\{[ \t\n\r]*+"[^"\\]{0,64}"|[{\["]|')
_SPACE: Final = b" \t\n\r"
_COMMA, _OBJECT, _LIST, _OBJECT_END, _LIST_END = b",{[}]"
_UNREAD: Final = (msgspec.DecodeError, RecursionError, Unreadable)

_Span = tuple[int, int]


class People:
    """The participants of a file, as they are read.

    Attributes:
        by_purpose: The file is known to be the platform's.
    """

    def __init__(self, window: Window, limits: Limits) -> None:
        self.by_purpose = False
        self._window = window
        self._limits = limits
        self._found: dict[str, Participant] = {}
        self._bad: list[BadElement] = []
        self._count = 0

    def read(self, span: _Span) -> None:
        """Read one.

        Raises:
            RemoteProtocolError: There are too many, or it is no JSON.
        """
        start, end = span
        index = self._count
        self._count += 1
        if self._count > self._limits.participants:
            self._window.beyond("participants", start)
        value = bytes(self._window.buffer[start:end])
        self._window.check_json(value, start)
        try:
            person = participant_of(value, by_purpose=self.by_purpose)
        except Unreadable as exc:
            self._bad.append(BadElement(index, self._window.offset(start), exc.field))
            return
        self._found.setdefault(person.id, person)

    def all(self) -> ParticipantsRead:
        """Return all that were read."""
        return ParticipantsRead(tuple(self._found.values()), tuple(self._bad))


class ElementReader:
    """Reads the elements of a list at the window's position, and those of objects to be ignored.

    Segments and phrases go to ``out``, participants to ``people``, others nowhere.

    Attributes:
        good, bad: How many segments and phrases were read, and could not be.
    """

    def __init__(
        self, window: Window, limits: Limits, people: People, out: list[StoredPart], *, raw: bool
    ) -> None:
        self.good = 0
        self.bad = 0
        self._window = window
        self._limits = limits
        self._people = people
        self._out = out
        self._raw = raw

    def at_once(self, frame: Frame) -> bool:
        """Read all up to the last place where one more seems to begin; False if none was read.

        Those at fault are left to ``one_by_one``, unless they are JSON.

        Raises:
            RemoteProtocolError: As ``one_by_one``.
        """
        at_hand = self._window.at_hand
        end = self._window.end_offset
        if at_hand < AT_ONCE_MIN_BYTES or end < frame.not_before:
            return False
        cut = self._guess(frame)
        if cut >= 0:
            try:
                self._read_to(frame, cut)
                frame.place = Place.ANOTHER
                return self._window.passed(cut + 1 - self._window.position)
            except (msgspec.ValidationError, Unreadable):
                return self._at_once_with_bad(frame, cut)
            except (msgspec.DecodeError, RecursionError) as exc:
                # Other lists may follow whose elements begin in the same way.
                length = list_end(exc)
                if length is not None and self._at_once_to_end(frame, length):
                    return True
        frame.not_before = end + at_hand
        return False

    def _at_once_to_end(self, frame: Frame, length: int) -> bool:
        """Read all that is left of a list or object that is no longer than this."""
        closer = b"]" if frame.is_list else b"}"
        close = self._window.buffer.rfind(
            closer, self._window.position, self._window.position - 1 + length
        )
        if close < 0:
            return False
        try:
            self._read_to(frame, close)
        except _UNREAD:
            return False
        frame.place = Place.NEXT
        return self._window.passed(close - self._window.position)

    def _at_once_with_bad(self, frame: Frame, cut: int) -> bool:
        """Read all elements up to a comma, bad ones among them."""
        origin = self._window.position - 1
        try:
            with self._bracketed(frame, cut) as block:
                spans = spans_of(block)
        except (msgspec.DecodeError, RecursionError):
            return False
        frame.place = Place.ANOTHER
        self._window.passed(cut + 1 - self._window.position)
        self._read_group(frame, [(origin + start, origin + end) for start, end in spans])
        return True

    def _guess(self, frame: Frame) -> int:
        """Return where the last comma before an element seems to be; -1 if nowhere."""
        buffer = self._window.buffer
        if not frame.is_list:
            frame.mark = b'"'
        elif frame.mark is None:
            found = _MARK.match(buffer, self._window.position)
            assert found is not None
            frame.mark = found[0]
        begin = len(buffer)
        for _ in range(_GUESSES):
            begin = buffer.rfind(frame.mark or b",", self._window.position + 1, begin)
            if begin < 0 or not frame.mark:
                return begin
            comma = begin - 1
            while comma > self._window.position and buffer[comma] in _SPACE:
                comma -= 1
            if buffer[comma] == _COMMA:
                return comma
        return -1

    def _read_to(self, frame: Frame, cut: int) -> None:
        """Read what stands before ``cut``."""
        with self._bracketed(frame, cut) as block:
            segments = self._decoded(frame, block)
        if frame.kind is not Kind.IGNORED:
            raw = self._raw_of(frame, self._window.position, cut)
            self._give(segments, raw)

    @contextmanager
    def _bracketed(self, frame: Frame, cut: int) -> Iterator[memoryview]:
        """Lend the bytes before ``cut`` with brackets in place of the two around them."""
        buffer = self._window.buffer
        kept = buffer[cut]
        buffer[self._window.position - 1] = _LIST if frame.is_list else _OBJECT
        buffer[cut] = _LIST_END if frame.is_list else _OBJECT_END
        try:
            with memoryview(buffer) as whole, whole[self._window.position - 1 : cut + 1] as block:
                yield block
        finally:
            buffer[cut] = kept

    def _decoded(self, frame: Frame, block: bytes | memoryview) -> list[Segment]:
        if frame.kind is Kind.SEGMENTS:
            return segments_of(block)
        if frame.kind is Kind.PHRASES:
            return phrases_of(block, frame.started_ms)
        check_json(block)
        return []

    def _raw_of(self, frame: Frame, start: int, end: int) -> bytes | None:
        wanted = self._raw and frame.kind is Kind.SEGMENTS and start < end
        return bytes(self._window.buffer[start:end]) if wanted else None

    def _give(
        self, segments: list[Segment], raw: bytes | None, bad: tuple[BadElement, ...] = ()
    ) -> None:
        self._out.append(SegmentBatch(self.good + self.bad, segments, raw, bad))
        self.good += len(segments)

    def one_by_one(self, frame: Frame) -> bool:
        """Read what elements are complete; False when more bytes are needed.

        The same when an element to be ignored is too large to be passed over whole.

        Raises:
            RemoteProtocolError: One is no JSON or beyond a limit; those before it are read.
        """
        group: list[_Span] = []
        try:
            return self._collect(frame, group)
        finally:
            if group:
                self._read_group(frame, group)

    def _collect(self, frame: Frame, group: list[_Span]) -> bool:
        """Find the ends of elements with one comma between each; as ``_one_by_one``."""
        buffer = self._window.buffer
        begun = self._window.position
        most, limit = self._limits.element_bytes, "element_bytes"
        if frame.kind is Kind.IGNORED:
            most, limit = PASSED_WHOLE_BYTES, ""
        while True:
            end = self._window.value_end(most, limit)
            if end < 0:
                return False
            group.append((self._window.position, end))
            self._window.passed(end - self._window.position)
            frame.place = Place.NEXT
            comma = after_space(buffer, end)
            if (
                len(group) >= _GROUP
                or end - begun > _GROUP_BYTES
                or buffer[comma : comma + 1] != b","
            ):
                return True
            frame.place = Place.ANOTHER
            self._window.position = comma + 1
            start = after_space(buffer, comma + 1)
            if start >= len(buffer) or buffer[start] in NO_VALUE:
                return True
            self._window.position = start

    def _read_group(self, frame: Frame, group: list[_Span]) -> None:
        if frame.kind is Kind.PARTICIPANTS:
            for span in group:
                self._people.read(span)
            return
        start, end = group[0][0], group[-1][1]
        try:
            segments = self._decoded(frame, b"[%b]" % bytes(self._window.buffer[start:end]))
        except _UNREAD:
            if len(group) <= _FEW:
                self._read_apart(frame, group)
                return
            half = len(group) // 2
            self._read_group(frame, group[:half])
            self._read_group(frame, group[half:])
        else:
            if frame.kind is not Kind.IGNORED:
                self._give(segments, self._raw_of(frame, start, end))

    def _read_apart(self, frame: Frame, group: list[_Span]) -> None:
        """Read elements each by itself, the bad ones told apart from the good."""
        if frame.kind is Kind.IGNORED:
            for start, end in group:
                self._window.check_json(bytes(self._window.buffer[start:end]), start)
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
                    index = self.good + self.bad + len(good) + len(bad)
                    bad.append(BadElement(index, self._window.offset(start), exc.field))
                    continue
                if bad:
                    self._give_run(frame, (begin, reached), good, bad)
                    begin, good, bad = start, [], []
                good.append(segment)
                reached = end
        finally:
            self._give_run(frame, (begin, reached), good, bad)

    def _read_one(self, frame: Frame, start: int, end: int) -> Segment:
        value = bytes(self._window.buffer[start:end])
        try:
            if frame.kind is Kind.PHRASES:
                return phrase_of(value, frame.started_ms)
            return segment_of(value)
        except (Unreadable, RecursionError):
            self._window.check_json(value, start)
            raise

    def _give_run(
        self,
        frame: Frame,
        span: _Span,
        good: list[Segment],
        bad: list[BadElement],
    ) -> None:
        """Give good elements, which make up ``span``, and the bad ones that followed them."""
        if not good and not bad:
            return
        room = max(self._limits.bad_elements - self.bad, 0)
        raw = self._raw_of(frame, *span) if good else None
        self._give(good, raw, tuple(bad[:room]))
        self.bad += len(bad)
