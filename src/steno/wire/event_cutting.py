"""Where one recorded message ends and the next begins: lines, or JSON values, in bounded memory.

``LineCutter``    JSON lines: one message a line; a bad line costs itself alone
``ValueCutter``   JSON objects one after the other, on one line or spread over many, and the
                  elements of an array

A message longer than the limit is passed over, and its place, hash and size are told; so one
block and one message are in memory. States of ``ValueCutter``, where ``[`` and ``]`` around all
values only say that there is an array:

    between --{--> in value --bracket to depth 0--> between             a message
                   in value --line break in a string--> seeking         unreadable
                   in value --limit--> passing over --depth 0--> between   unreadable
    between --anything else--> seeking --line that begins like a value--> between

Source: RFC 8259 (JSON: no line break inside a string); RFC 7464 (JSON text sequences, whose
separator is taken as white space).
"""

from __future__ import annotations

import hashlib
import re
from itertools import accumulate

import msgspec

from steno.ports.recorded import Batch, Unreadable


class _Passed:
    """A stretch that is passed over: hash and size are taken as it goes by."""

    def __init__(self, line: int, offset: int, cause: str) -> None:
        self._line, self._offset, self._cause = line, offset, cause
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)

    def note(self) -> Unreadable:
        digest = self._hash.hexdigest()
        return Unreadable(self._line, self._offset, self._size, digest, self._cause)


def unreadable(data: bytes, cause: str, *, line: int = 0, offset: int = 0) -> Unreadable:
    """Return the facts kept of a stretch that is no message."""
    passed = _Passed(line, offset, cause)
    passed.add(data)
    return passed.note()


# --- lines -----------------------------------------------------------------------------------


class LineCutter:
    """Cuts at line breaks. A carriage return stays: to JSON it is white space.

    Args:
        max_bytes: Longer lines are passed over.
        line, offset: Of the first byte.
    """

    def __init__(self, max_bytes: int, *, line: int = 1, offset: int = 0) -> None:
        self._max_bytes = max_bytes
        self._line, self._offset = line, offset  # of the first byte not cut yet
        self._rest = b""
        self._passed: _Passed | None = None

    def receive(self, data: bytes) -> Batch | None:
        """Return the lines that are whole now; None when there is nothing to tell."""
        if self._passed is not None:
            return self._pass_on(data)
        whole = self._rest + data if self._rest else data
        lines = whole.split(b"\n")
        self._rest = lines.pop()
        line, offset = self._line, self._offset
        self._line += len(lines)
        self._offset += len(whole) - len(self._rest)
        if len(self._rest) > self._max_bytes:
            self._passed = _Passed(self._line, self._offset, "oversize")
            self._passed.add(self._rest)
            self._offset += len(self._rest)
            self._rest = b""
        if not lines:
            return None
        if len(whole) > self._max_bytes and max(map(len, lines)) > self._max_bytes:
            return self._sorted_out(lines, line, offset)
        return Batch(lines, line, offset)

    def end(self) -> Batch | None:
        """Return what the input ends with: a line without a break is as good as any."""
        rest, self._rest = self._rest, b""
        if self._passed is not None:
            note, self._passed = self._passed.note(), None
            return Batch(unreadable=(note,))
        return Batch((rest,), self._line, self._offset) if rest else None

    def _pass_on(self, data: bytes) -> Batch | None:
        assert self._passed is not None
        end = data.find(b"\n")
        self._passed.add(data if end < 0 else data[:end])
        self._offset += len(data) if end < 0 else end + 1
        if end < 0:
            return None
        note, self._passed = self._passed.note(), None
        self._line += 1
        found = self.receive(data[end + 1 :]) or Batch()
        return msgspec.structs.replace(found, unreadable=(note, *found.unreadable))

    def _sorted_out(self, lines: list[bytes], line: int, offset: int) -> Batch:
        """Return the lines without those that are too long."""
        starts = accumulate((len(one) + 1 for one in lines), initial=offset)
        kept, places, notes = [], [], []
        for number, (one, start) in enumerate(zip(lines, starts, strict=False), line):
            if len(one) > self._max_bytes:
                notes.append(unreadable(one, "oversize", line=number, offset=start))
            else:
                kept.append(one)
                places.append((number, start))
        return Batch(kept, places=places, unreadable=notes)


# --- values ----------------------------------------------------------------------------------

# Inside of a string, up to its end or as far as it is known. A raw line break ends it, too: that
# is no JSON, and so the place from which to look for the next value.
_INSIDE = rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+'
_FLAT = rb'[^{}\[\]"]*+(?:"' + _INSIDE + rb'"[^{}\[\]"]*+)*+'
_STRING_REST = re.compile(_INSIDE)
_TO_BRACKET = re.compile(_FLAT)
_BETWEEN = re.compile(rb"[ \t\r\n,\x1e]*+")

_MATCHED_DEPTH = 6


def _value_pattern(depth: int) -> re.Pattern[bytes]:
    """Return what matches a whole value of usual depth at once; deeper ones are followed."""
    pattern = rb"[{\[]" + _FLAT + rb"[}\]]"
    for _ in range(depth - 1):
        pattern = rb"[{\[]" + _FLAT + rb"(?:" + pattern + _FLAT + rb")*+[}\]]"
    return re.compile(pattern)


_VALUE = _value_pattern(_MATCHED_DEPTH)
_OPENING, _CLOSING = b"{[", b"}]"
_BACKSLASH, _QUOTE = b"\\"[0], b'"'[0]
_MAX_COLUMN = 400


class ValueCutter:
    """Cuts out JSON objects, wherever they begin and end.

    Args:
        max_bytes: Longer ones are passed over.
        line, offset: Of the first byte.
    """

    def __init__(self, max_bytes: int, *, line: int = 1, offset: int = 0) -> None:
        self._max_bytes = max_bytes
        self._buffer = b""
        self._offset = offset  # of ``_buffer[0]``
        self._line, self._line_start = line, offset  # at ``_counted``, and where that line began
        self._counted = 0  # in the buffer: line breaks before it are counted
        self._at = 0  # in the buffer: everything before it is judged
        self._start = 0  # in the buffer: begin of the value, while in one
        self._depth = 0
        self._column = 0  # at which the last value began
        self._in_string = False
        self._in_array = False
        self._seeking = False
        self._passed: _Passed | None = None
        self._found: list[bytes] = []
        self._places: list[tuple[int, int]] = []
        self._notes: list[Unreadable] = []

    def receive(self, data: bytes) -> Batch | None:
        """Return the values that are whole now; None when there is nothing to tell."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._at < len(self._buffer) and self._step():
            pass
        if self._depth and self._passed is None and self._at - self._start > self._max_bytes:
            self._pass("oversize")
        self._let_go()
        return self._told()

    def end(self) -> Batch | None:
        """Return what the input ends with: a value that does not end is unreadable."""
        if self._depth and self._passed is None:
            self._pass("unfinished")
        if self._passed is not None:
            self._passed.add(self._buffer[self._start :])
            self._note()
        self._buffer = b""
        return self._told()

    def _told(self) -> Batch | None:
        if not self._found and not self._notes:
            return None
        told = Batch(self._found, places=self._places, unreadable=self._notes)
        self._found, self._places, self._notes = [], [], []
        return told

    def _step(self) -> bool:
        """Go on as far as one thing leads; False when more data are needed."""
        if self._seeking:
            return self._seek()
        if not self._depth:
            return self._between()
        return self._string() if self._in_string else self._value()

    def _between(self) -> bool:
        buffer = self._buffer
        at = self._at = _BETWEEN.match(buffer, self._at).end()  # type: ignore[union-attr]  # or nothing
        if at == len(buffer):
            return False
        first = buffer[at : at + 1]
        if first == b"{":
            self._begin(at)
            if (match := _VALUE.match(buffer, at)) is not None:
                self._at = match.end()
                self._end_value()
            else:
                self._at, self._depth = at + 1, 1
        elif first == (b"]" if self._in_array else b"["):
            self._in_array = not self._in_array
            self._at = at + 1
        else:
            column = self._column
            self._begin(at)
            self._column = column
            self._pass("invalid-json")
            self._seeking = True
        return True

    def _value(self) -> bool:
        buffer = self._buffer
        at = self._at = _TO_BRACKET.match(buffer, self._at).end()  # type: ignore[union-attr]  # or nothing
        if at == len(buffer):
            return False
        self._at = at + 1
        if buffer[at] == _QUOTE:
            self._in_string = True
        elif buffer[at] in _OPENING:
            self._depth += 1
        else:
            self._depth -= 1
            if not self._depth:
                self._end_value()
        return True

    def _string(self) -> bool:
        buffer = self._buffer
        at = self._at = _STRING_REST.match(buffer, self._at).end()  # type: ignore[union-attr]  # or nothing
        if at == len(buffer) or (buffer[at] == _BACKSLASH and at + 1 == len(buffer)):
            return False
        self._in_string = False
        if buffer[at] == _QUOTE:
            self._at = at + 1
            return True
        if self._passed is None:
            self._pass("invalid-json")
        self._seeking = True
        return True

    def _seek(self) -> bool:
        """Look for a line that begins like a value, no further right than the last one did."""
        column = min(self._column, _MAX_COLUMN)
        found = re.compile(rb"\n[ \t,]{0,%d}\{" % column).search(self._buffer, self._at)
        if found is None:
            self._at = max(self._at, len(self._buffer) - column - 2)
            return False
        self._at = found.start()
        self._passed.add(self._buffer[self._start : self._at])  # type: ignore[union-attr]  # seeking
        self._note()
        return True

    # -- places and memory ----------------------------------------------------------------

    def _begin(self, at: int) -> None:
        buffer, counted = self._buffer, self._counted
        if breaks := buffer.count(b"\n", counted, at):
            self._line += breaks
            self._line_start = self._offset + buffer.rfind(b"\n", counted, at) + 1
        self._counted = self._start = at
        self._column = self._offset + at - self._line_start

    def _end_value(self) -> None:
        start, at = self._start, self._at
        self._depth = 0
        if self._passed is not None:
            self._passed.add(self._buffer[start:at])
            self._note()
        elif at - start > self._max_bytes:
            self._pass("oversize")
            self._passed.add(self._buffer[start:at])  # type: ignore[attr-defined]  # just made
            self._note()
        else:
            self._found.append(self._buffer[start:at])
            self._places.append((self._line, self._offset + start))

    def _pass(self, cause: str) -> None:
        self._passed = _Passed(self._line, self._offset + self._start, cause)

    def _note(self) -> None:
        assert self._passed is not None
        self._notes.append(self._passed.note())
        self._passed = None
        self._seeking = self._in_string = False
        self._depth = 0

    def _let_go(self) -> None:
        """Keep of the buffer the value that is not whole, or nothing."""
        keep = self._start if self._depth and self._passed is None else self._at
        buffer = self._buffer
        if self._passed is not None:
            self._passed.add(buffer[self._start : keep])
        if breaks := buffer.count(b"\n", self._counted, keep):
            self._line += breaks
            self._line_start = self._offset + buffer.rfind(b"\n", self._counted, keep) + 1
        self._buffer = buffer[keep:]
        self._offset += keep
        self._at -= keep
        self._start = self._counted = 0
