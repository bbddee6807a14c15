"""What a feed of recorded events needs from whatever reads them: files, standard input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """A stretch of the input that is no message. Its content is gone; these facts are kept.

    Attributes:
        line: Where it begins, from 1; 0 where lines have no meaning (the input is damaged).
        offset: Where it begins, bytes from the start of the (unpacked) input.
        size_bytes: Its length.
        sha256: Its hash, hexadecimal.
        cause: A fixed word: ``oversize``, ``invalid-json``, ``unfinished``, ``damaged``.
    """

    line: int
    offset: int
    size_bytes: int
    sha256: str
    cause: str


class Batch(msgspec.Struct, frozen=True):
    """Messages that stand one after the other in one input.

    Attributes:
        messages: The bytes of each, not checked in any way; blank lines come as they are.
        first_line, first_offset: Where the first one begins, if they are lines.
        places: (line, offset) of each, if they are not.
        unreadable: What was met among them and is no message.
        file: Which input, from 1.
        done_bytes: Read so far, of all inputs, as stored (packed).
    """

    messages: Sequence[bytes] = ()
    first_line: int = 1
    first_offset: int = 0
    places: Sequence[tuple[int, int]] | None = None
    unreadable: Sequence[Unreadable] = ()
    file: int = 1
    done_bytes: int = 0

    def place(self, index: int) -> tuple[int, int]:
        """Return the line (from 1) and the offset in bytes at which a message begins."""
        if self.places is not None:
            return self.places[index]
        before = sum(len(one) + 1 for one in self.messages[:index])
        return self.first_line + index, self.first_offset + before


class EventReader(Protocol):
    """Reads recorded events in order, in bounded memory. It blocks; use it off the loop."""

    @property
    def total_bytes(self) -> int | None:
        """Size of all inputs as stored; None when it cannot be known (a pipe)."""

    def read(self) -> Batch | None:
        """Return what comes next, waiting for it; None at the end, or after ``close``.

        Raises:
            ConfigError: The input is of a kind that is not read.
            StorageError: Reading failed.
        """

    def close(self) -> None:
        """Let a ``read`` that waits return, and let go of the files. Safe from any thread."""
