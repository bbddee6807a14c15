"""The bytes of a file that are at hand, and single values among them."""

from __future__ import annotations

from typing import Final, NoReturn

from steno.errors import RemoteProtocolError
from steno.wire.stored_transcripts.limits import Limits
from steno.wire.stored_transcripts.scanning import Utf8, ValueEnd, after_space, fault_of

_LONG: Final = b'"{['
"""What values begin with that may be long; others are numbers and words."""


class Window:
    """What has arrived and is not yet read.

    Attributes:
        buffer: One byte that was read, or none of the file, and everything after it.
        position: Where in the buffer reading goes on; never 0, so the byte before may be
            overwritten with a bracket.
        levels: How many lists and objects are open here.
    """

    __slots__ = ("_base", "_end", "_limits", "_utf8", "buffer", "levels", "position")

    def __init__(self, limits: Limits) -> None:
        self.buffer = bytearray(b" ")
        self.position = 1
        self.levels = 0
        self._limits = limits
        self._base = -1
        self._end: ValueEnd | None = None
        self._utf8 = Utf8()

    def offset(self, position: int) -> int:
        """Return the byte of the file at a position of the buffer."""
        return self._base + position

    @property
    def here(self) -> int:
        """The byte of the file at which reading goes on."""
        return self._base + self.position

    @property
    def byte(self) -> int:
        """What is there; something must be."""
        return self.buffer[self.position]

    @property
    def at_hand(self) -> int:
        """How many bytes are not yet read."""
        return len(self.buffer) - self.position

    @property
    def end_offset(self) -> int:
        """How long the file is so far."""
        return self._base + len(self.buffer)

    def add(self, data: bytes) -> int | None:
        """Take bytes up to the first that is no UTF-8; return its offset, None if all are.

        Some of the character may have been taken before.
        """
        fault = self._utf8.fault(data)
        at = None if fault is None else self.end_offset + fault
        self.buffer += data if fault is None else data[: max(fault, 0)]
        return at

    def compact(self) -> None:
        """Drop what was read."""
        done = self.position - 1
        del self.buffer[:done]
        self._base += done
        self.position = 1
        if self._end is not None:
            self._end.moved(done)

    def skip_space(self) -> bool:
        """Pass over spaces; False when nothing follows them yet."""
        self.position = after_space(self.buffer, self.position)
        return self.position < len(self.buffer)

    def passed(self, size: int) -> bool:
        """Go on behind this many bytes; True, for callers that tell whether they went on."""
        self._end = None
        self.position += size
        return True

    def value_end(self, most: int, limit: str) -> int:
        """Return where the value at hand ends; -1 while it is not all there.

        Args:
            most: In bytes.
            limit: What it is called when a value is larger; empty: it is never all there.

        Raises:
            RemoteProtocolError: It is larger, or too deep.
        """
        if self._end is None:
            self._end = ValueEnd(self.position)
        if self.byte not in _LONG and most > self._limits.field_bytes:
            most, limit = self._limits.field_bytes, "field_bytes"
        end = self._end.find(self.buffer)
        if self.levels + self._end.deepest > self._limits.depth:
            self.beyond("depth")
        size = (end if end >= 0 else len(self.buffer)) - self.position
        if size <= most:
            return end
        if limit:
            self._check_tail(end)
            self.beyond(limit)
        return -1

    def whole_value(self, most: int, limit: str) -> bytes | None:
        """Return the value at hand, not yet passed; None while it is not all there.

        Raises:
            RemoteProtocolError: As ``value_end``, or it is no JSON.
        """
        end = self.value_end(most, limit)
        if end < 0:
            return None
        value = bytes(self.buffer[self.position : end])
        self.check_json(value, self.position)
        return value

    def check_json(self, value: bytes, position: int) -> None:
        """Check that a value which begins at ``position`` is JSON.

        Raises:
            RemoteProtocolError: It is not, or too deep.
        """
        fault = self._fault(value, position)
        if fault is not None:
            self.malformed(self.offset(position + fault))

    def cut_off(self) -> NoReturn:
        """Refuse a file that ends here.

        Raises:
            RemoteProtocolError: It is cut off, or what is left was no JSON before its end.
        """
        self._check_tail()
        raise RemoteProtocolError("the file is cut off", offset=self.end_offset)

    def malformed(self, offset: int | None = None) -> NoReturn:
        """Refuse a file that is no JSON from a byte on, by default the one at hand.

        Raises:
            RemoteProtocolError: Always.
        """
        offset = self.here if offset is None else offset
        raise RemoteProtocolError("the file is not JSON", offset=offset)

    def beyond(self, limit: str, position: int | None = None) -> NoReturn:
        """Refuse a file for what begins at ``position``, by default the value at hand.

        Raises:
            RemoteProtocolError: Always.
        """
        offset = self.here if position is None else self.offset(position)
        raise RemoteProtocolError("the file is beyond a limit", offset=offset, limit=limit)

    def wrong(self, field: str, why: str = "a field of the file has the wrong type") -> NoReturn:
        """Refuse a file for the value at hand.

        Raises:
            RemoteProtocolError: Always.
        """
        raise RemoteProtocolError(why, offset=self.here, field=field)

    @property
    def is_whole_text(self) -> bool:
        """Whether the last character is all there."""
        return self._utf8.is_whole

    def _check_tail(self, end: int = -1) -> None:
        """Raise when the value at hand, as far as it is there, is not merely cut off."""
        if self._end is None:
            return
        start = self._end.start
        tail = bytes(self.buffer[start:end] if end >= 0 else self.buffer[start:])
        fault = self._fault(tail, start)
        if fault is not None and fault < len(tail):
            self.malformed(self.offset(start + fault))

    def _fault(self, value: bytes, position: int) -> int | None:
        try:
            return fault_of(value)
        except RecursionError:
            self.beyond("depth", position)
