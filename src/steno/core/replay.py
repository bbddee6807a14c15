"""Audio kept until a recogniser has answered for it, so that a broken stream can go on.

A ``Replay`` holds the chunks of one stream in order, in two parts:

    written --acknowledged--> gone
       ▲ take                     a break puts everything written back in front of what waits
    waiting <--push

Leaving without an acknowledgement has two names. Audio that was *written* may be let go while
its stream is healthy: it was handed over, and a recogniser that never acknowledges must not
cost memory for ever; only when the stream breaks afterwards it is known to be out of reach, and
``rewind`` tells its span. Audio that *waits* is shed, and the span is told at once.

``Budget`` is one number for all streams of a process: bytes held, and bytes that wait.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, Protocol, TypeVar

import msgspec

MAX_MARKS: Final = 256
"""Spans remembered of what was let go. More are joined, oldest first: only a recogniser that
acknowledges something very old notices."""


class Chunk(Protocol):
    """What is kept: encoded audio with its number and its place."""

    @property
    def audio(self) -> bytes:
        """Whole samples."""

    @property
    def sequence_number(self) -> int:
        """Of its last frame; greater than that of the chunk before."""

    @property
    def start_samples(self) -> int:
        """Position of its first sample."""


C = TypeVar("C", bound=Chunk)


class Span(msgspec.Struct, frozen=True, gc=False):
    """A stretch of audio, by position and by sequence number; both ends of the numbers count."""

    from_samples: int
    to_samples: int
    from_sequence: int
    to_sequence: int


class Budget:
    """Bytes of audio that all streams together hold, and how many of them wait to be written."""

    __slots__ = ("held", "limit", "waiting")

    def __init__(self, limit_bytes: int) -> None:
        self.limit = limit_bytes
        self.held = 0
        self.waiting = 0

    @property
    def is_exceeded(self) -> bool:
        """Something has to go."""
        return self.held > self.limit


class Replay(Generic[C]):
    """The audio of one stream that nobody has answered for.

    Args:
        sample_bytes: Of one sample in the chunks' encoding.
        budget: Shared by all streams.
    """

    __slots__ = (
        "_before",
        "_let_go",
        "_waiting",
        "_written",
        "acked_through",
        "budget",
        "held_bytes",
        "sample_bytes",
        "sent_through",
        "waiting_bytes",
    )

    def __init__(self, *, sample_bytes: int, budget: Budget) -> None:
        self.sample_bytes = sample_bytes
        self.budget = budget
        self.held_bytes = 0
        self.waiting_bytes = 0
        self.acked_through: int | None = None
        """Highest number acknowledged."""
        self.sent_through: int | None = None
        """Highest number ever written."""
        self._written: deque[C] = deque()
        self._waiting: deque[C] = deque()
        self._let_go: deque[Span] = deque()
        self._before: int | None = None  # number of the last chunk that left

    @property
    def next_waiting(self) -> C | None:
        """The chunk to be written next."""
        return self._waiting[0] if self._waiting else None

    @property
    def has_unanswered(self) -> bool:
        """Something is held, or was let go while its stream was healthy."""
        return bool(self._written or self._waiting or self._let_go)

    def push(self, chunk: C) -> None:
        """Take a chunk in, behind the others."""
        self._waiting.append(chunk)
        size = len(chunk.audio)
        budget = self.budget
        self.held_bytes += size
        self.waiting_bytes += size
        budget.held += size
        budget.waiting += size

    def push_written(self, chunk: C) -> None:
        """Take a chunk in that is written at once: ``push`` and ``take`` in one. None may wait."""
        self._written.append(chunk)
        size = len(chunk.audio)
        self.held_bytes += size
        self.budget.held += size
        number = chunk.sequence_number
        if self.sent_through is None or number > self.sent_through:
            self.sent_through = number

    def take(self) -> C:
        """Return the next chunk, which counts as written from now on. Something must wait."""
        chunk = self._waiting.popleft()
        self._written.append(chunk)
        size = len(chunk.audio)
        self.waiting_bytes -= size
        self.budget.waiting -= size
        number = chunk.sequence_number
        if self.sent_through is None or number > self.sent_through:
            self.sent_through = number
        return chunk

    def acknowledge(self, through: int) -> Span | None:
        """Let go of everything up to this number; None when that is nothing."""
        if self.acked_through is None or through > self.acked_through:
            self.acked_through = through
        first: Span | None = None
        last: Span | None = None
        while self._let_go and self._let_go[0].to_sequence <= through:
            last = self._let_go.popleft()
            first = first or last
        for queue in (self._written, self._waiting):
            while queue and queue[0].sequence_number <= through:
                last = self._leave(queue)
                first = first or last
        if first is None or last is None:
            return None
        return join(first, last)

    def let_go(self) -> bool:
        """Let go of the oldest written chunk; False when none is held."""
        if not self._written:
            return False
        span = self._leave(self._written)
        if len(self._let_go) >= MAX_MARKS:
            oldest = self._let_go.popleft()
            self._let_go.appendleft(join(oldest, self._let_go.popleft()))
        self._let_go.append(span)
        return True

    def shed(self) -> Span:
        """Give the oldest waiting chunk up and return where it was. Something must wait."""
        return self._leave(self._waiting)

    def rewind(self) -> Span | None:
        """Make all that is held wait again; returns what had been let go and is out of reach."""
        self.budget.waiting += self.held_bytes - self.waiting_bytes
        self.waiting_bytes = self.held_bytes
        self._waiting.extendleft(reversed(self._written))
        self._written.clear()
        if not self._let_go:
            return None
        lost = join(self._let_go[0], self._let_go[-1])
        self._let_go.clear()
        return lost

    def clear(self) -> None:
        """Let go of everything."""
        self.budget.held -= self.held_bytes
        self.budget.waiting -= self.waiting_bytes
        self.held_bytes = self.waiting_bytes = 0
        self._written.clear()
        self._waiting.clear()
        self._let_go.clear()

    def _leave(self, queue: deque[C]) -> Span:
        chunk = queue.popleft()
        size = len(chunk.audio)
        self.held_bytes -= size
        self.budget.held -= size
        if queue is self._waiting:
            self.waiting_bytes -= size
            self.budget.waiting -= size
        start, number = chunk.start_samples, chunk.sequence_number
        # A chunk tells its last frame's number; its first is the one after the chunk before.
        first = number if self._before is None else self._before + 1
        self._before = number
        return Span(start, start + size // self.sample_bytes, first, number)


def join(first: Span, last: Span) -> Span:
    """Return the span from the beginning of one to the end of a later one."""
    if first is last:
        return first
    return Span(first.from_samples, last.to_samples, first.from_sequence, last.to_sequence)
