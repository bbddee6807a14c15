"""Recorded events as bytes: which form they have, and each message by itself.

A file or pipe holds JSON lines, JSON objects one after the other, or an array; one event alone is
any of these. ``Cutter`` finds out which (or is told) and leaves the cutting to
``event_cutting``. What comes out is bytes; a decoder decides what they mean.
"""

from __future__ import annotations

from enum import StrEnum

from steno.ports.recorded import Batch
from steno.wire.event_cutting import LineCutter, ValueCutter

MAX_MESSAGE_BYTES = 1 << 20
HEAD_BYTES = 64 * 1024
"""The form is told by no more than this; by the first line where that says it."""

_BOM = b"\xef\xbb\xbf"


class Form(StrEnum):
    """How recorded events follow one another."""

    AUTO = "auto"
    LINES = "lines"
    VALUES = "values"


class Cutter:
    """Cuts one input, whatever its form.

    Args:
        max_bytes: Longer messages are passed over.
        form: How messages follow one another; ``AUTO`` finds out.
    """

    def __init__(self, *, max_bytes: int = MAX_MESSAGE_BYTES, form: Form = Form.AUTO) -> None:
        self._max_bytes = max_bytes
        self._form = form
        self._head = b""
        self._cutter: LineCutter | ValueCutter | None = None

    def receive(self, data: bytes) -> Batch | None:
        """Return the messages that are whole now; None when there is nothing to tell."""
        if self._cutter is not None:
            return self._cutter.receive(data)
        self._head += data
        return self._begin(at_end=False)

    def end(self) -> Batch | None:
        """Return what the input ends with."""
        if self._cutter is not None:
            return self._cutter.end()
        found = self._begin(at_end=True)
        assert self._cutter is not None
        last = self._cutter.end()
        if found is None or last is None:
            return found or last
        return joined(found, last)

    def _begin(self, *, at_end: bool) -> Batch | None:
        head = self._head
        if len(head) < len(_BOM) and _BOM.startswith(head) and not at_end:
            return None
        skipped = len(_BOM) if head.startswith(_BOM) else 0
        form = self._form
        if form is Form.AUTO:
            found = form_of(head[skipped:], at_end=at_end)
            if found is None:
                return None
            form = found
        kind = LineCutter if form is Form.LINES else ValueCutter
        self._cutter = kind(self._max_bytes, offset=skipped)
        self._head = b""
        return self._cutter.receive(head[skipped:])


def joined(first: Batch, second: Batch) -> Batch:
    """Return two batches of one input as one."""
    places = [batch.place(i) for batch in (first, second) for i in range(len(batch.messages))]
    return Batch(
        [*first.messages, *second.messages],
        places=places,
        unreadable=[*first.unreadable, *second.unreadable],
    )


def form_of(head: bytes, *, at_end: bool) -> Form | None:
    """Return the form of an input by its beginning; None while that does not tell.

    A line that is a whole object by itself is the mark of JSON lines: the first one, or, where
    that is damaged, a later one that is not indented. Two objects on the first line, or an array,
    are values. What remains is an object spread over lines.
    """
    text = head.lstrip()
    at_end = at_end or len(head) >= HEAD_BYTES
    if not text:
        return Form.LINES if at_end else None
    if text.startswith((b"[", b"\x1e")):
        return Form.VALUES
    lines = text.split(b"\n")
    whole = lines if at_end else lines[:-1]
    if not whole:
        return None
    values = _values_on(whole[0])
    if values:
        return Form.LINES if values == 1 else Form.VALUES
    if any(line.startswith(b"{") and _values_on(line) == 1 for line in whole[1:]):
        return Form.LINES
    if not at_end:
        return None
    return Form.VALUES if text.startswith(b"{") else Form.LINES


def _values_on(line: bytes) -> int:
    """Return how many objects a line holds; 0 when there is anything else on it."""
    cutter = ValueCutter(len(line) + 1)
    found = cutter.receive(line)
    if found is None or found.unreadable or cutter.end() is not None:
        return 0
    return len(found.messages)
