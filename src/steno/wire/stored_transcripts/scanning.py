"""Finding where a JSON value ends in bytes that are still arriving.

Many new bytes are given to a decoder, which tells where other bytes follow the value. Few are
looked at for strings and brackets only, going on where the last look ended, so that a large value
that comes in small pieces is not read from its beginning for each of them. Whether the value is
JSON is for a decoder to say, which reads it whole; a value that is none may seem to end early or
late, and never decodes.
"""

from __future__ import annotations

import re
from codecs import utf_8_decode

import msgspec

_PLAIN = rb'[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb"[{\[](?:%b)*+[}\]]" % _PLAIN
_NESTED = rb"[{\[](?:%b|%b)*+[}\]]" % (_PLAIN, _FLAT)
# Two levels are passed over at a time, so a phrase's words are one match, not one for each bracket.
_BETWEEN = re.compile(rb"(?:%b|%b)*+" % (_PLAIN, _NESTED), re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\n\r,:"{}\[\]]*+')
_SPACE = re.compile(rb"[ \t\n\r]*+")
_ESCAPE = re.compile(rb"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)
_FAULT = re.compile(r"\(byte (\d+)\)$")
_QUOTE, _BACKSLASH = b'"\\'
_OPENERS = b"{["
_LONG = b'"{['
_SPACES = b" \t\n\r"
_MANY_BYTES = 4096
_PIECE_BYTES = 16 << 10
_ESCAPE_REACH = 16
_CUT = "Input data was truncated"

_elements = msgspec.json.Decoder(list[msgspec.Raw])
_syntax = msgspec.json.Decoder(msgspec.Raw)

Bytes = bytes | bytearray | memoryview


def after_space(buffer: bytes | bytearray, position: int) -> int:
    """Return where the next byte that is no space stands, or the buffer's length."""
    found = _SPACE.match(buffer, position)
    assert found is not None
    return found.end()


class ValueEnd:
    """Looks for the end of the value that begins at ``start``, and goes on where it left off.

    Attributes:
        deepest: Levels of lists and objects seen so far: of the innermost two not all, and none
            of those that only a decoder saw.
    """

    __slots__ = ("_decoded_to", "_depth", "_in_string", "_position", "deepest", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.deepest = 0
        self._position = start
        self._decoded_to = start
        self._depth = 0
        self._in_string = False

    def moved(self, by: int) -> None:
        """Take note that the buffer lost this many bytes at its front."""
        self.start -= by
        self._decoded_to -= by
        self._position -= by

    def find(self, buffer: bytearray, *, last: bool = False) -> int:
        """Return the position after the value, or -1 while it is not all there.

        ``last`` tells that nothing follows, so a number at the very end is whole.
        """
        if _MANY_BYTES <= len(buffer) - self._decoded_to >= (len(buffer) - self.start) // 4:
            end = self._by_decoder(buffer)
            if end is not None:
                return end
        if self._position == self.start:
            if self.start >= len(buffer):
                return -1
            first = buffer[self.start]
            if first == _QUOTE:
                self._in_string = True
            elif first in _OPENERS:
                self._depth = self.deepest = 1
            else:
                return self._scalar_end(buffer, last=last)
            self._position += 1
        while self._in_string or self._depth:
            moved = self._through_string if self._in_string else self._past_bracket
            if not moved(buffer):
                return -1
        return self._position

    def _by_decoder(self, buffer: bytearray) -> int | None:
        """Return what ``find`` does; None where a decoder cannot tell."""
        self._decoded_to = len(buffer)
        try:
            with memoryview(buffer) as whole, whole[self.start :] as rest:
                _syntax.decode(rest)
        except msgspec.DecodeError as exc:
            size = list_end(exc)
            if size is not None:
                return self.start + len(buffer[self.start : self.start + size].rstrip(_SPACES))
            # Half a surrogate pair near the end is called the same.
            is_cut = str(exc) == _CUT and b"\\u" not in buffer[-_ESCAPE_REACH:]
            return -1 if is_cut else None
        except RecursionError:
            return None
        return len(buffer.rstrip(_SPACES)) if buffer[self.start] in _LONG else None

    def _scalar_end(self, buffer: bytearray, *, last: bool) -> int:
        found = _SCALAR.match(buffer, self._position)
        assert found is not None
        end = found.end()
        return end if end < len(buffer) or last else -1

    def _through_string(self, buffer: bytearray) -> bool:
        found = _IN_STRING.match(buffer, self._position)
        assert found is not None
        self._position = found.end()
        if self._position >= len(buffer) or buffer[self._position] == _BACKSLASH:
            return False  # the end is missing, or the second half of an escape
        self._position += 1
        self._in_string = False
        return True

    def _past_bracket(self, buffer: bytearray) -> bool:
        found = _BETWEEN.match(buffer, self._position)
        assert found is not None
        self._position = found.end()
        if self._position >= len(buffer):
            return False
        byte = buffer[self._position]
        self._position += 1
        if byte == _QUOTE:
            self._in_string = True
        elif byte in _OPENERS:
            self._depth += 1
            self.deepest = max(self.deepest, self._depth)
        else:
            self._depth -= 1
        return True


def without_surrogates(value: bytes) -> bytes:
    r"""Return the same value, as long, with a space for each escape of a surrogate (``\ud83d``)."""

    def plain(escape: re.Match[bytes]) -> bytes:
        return b"\\u0020" if len(escape[0]) > 2 else escape[0]

    return _ESCAPE.sub(plain, value)


def fault_of(value: bytes | memoryview) -> int | None:
    """Return where a value stops being JSON, counted in bytes; None where it is JSON.

    Half a surrogate pair is JSON, though no text; a value that is merely cut off has its fault
    at its end. Bytes that are no UTF-8 are not looked for.

    Raises:
        RecursionError: It is nested deeper than the interpreter bears.
    """
    try:
        _syntax.decode(value)
    except msgspec.DecodeError as exc:
        plain = without_surrogates(bytes(value))
        if plain != value:
            return fault_of(plain)
        found = _FAULT.search(str(exc))
        return int(found[1]) if found else len(value)
    return None


def check_json(block: bytes | memoryview) -> None:
    """Read a block and keep nothing of it.

    Raises:
        msgspec.DecodeError: It is no JSON, or has half a surrogate pair.
        RecursionError: As ``fault_of``.
    """
    _syntax.decode(block)


def spans_of(block: memoryview) -> list[tuple[int, int]]:
    """Return where each element of a JSON list begins and ends, counted from the list's start.

    Raises:
        msgspec.DecodeError, RecursionError: As ``check_json``.
    """
    whole = bytes(block)
    spans: list[tuple[int, int]] = []
    end = 0
    for element in _elements.decode(whole):
        begin = after_space(whole, end + 1)  # after the bracket or comma
        end = begin + memoryview(element).nbytes
        spans.append((begin, end))
        end = after_space(whole, end)
    return spans


def list_end(fault: Exception) -> int | None:
    """Return how much of a block stood before other bytes that follow its value, spaces counted.

    None for other faults.
    """
    text = str(fault)
    found = _FAULT.search(text)
    # The byte that is told is the one after the first that should not be there.
    return int(found[1]) - 1 if found and "trailing characters" in text else None


class Utf8:
    """Checks that bytes are UTF-8, wherever they are cut."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    @property
    def is_whole(self) -> bool:
        """Whether the last character was all there."""
        return not self._held

    def fault(self, data: bytes) -> int | None:
        """Return where the bytes stop being UTF-8, counted in these; it may be negative."""
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            if not self._held and piece.isascii():
                continue
            whole = self._held + piece
            try:
                _, used = utf_8_decode(whole, "strict", False)
            except UnicodeDecodeError as exc:
                return start - len(self._held) + exc.start
            self._held = whole[used:]
        return None
