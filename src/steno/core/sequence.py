"""Frame numbers of one lane: which frames are taken, which are missing, which came twice.

The peer promises order and never sends a frame again, so a lane's frames are taken in rising
order, and whatever does not rise is dropped. What a number says, seen from the last one taken:

    last + 1                           next: taken
    last + 2 … last + MAX_HOLE + 1     taken, and a hole before it
    last - LATE_WINDOW … last          repeated, or late where it lies in a recent hole: dropped
    anything else                      the numbering began anew: taken, a new epoch

Two rules keep a peer that numbers wrongly from losing its call:

- ``RESYNC_FRAMES`` late frames in a row are no stragglers. A wrong number led us too far ahead;
  the numbering is taken up from there as a new epoch. None of those numbers was taken before,
  so no audio is doubled.
- After a reconnect the first number decides. Within ``LATE_WINDOW`` below the last one the peer
  repeats some frames; lower than that, or as low as its numbering begins, it started again.

Within an epoch: frames taken + frames missing = last - first + 1. Numbers of different epochs say
nothing about one another, so consumers that need rising numbers start afresh with an epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import StrEnum

import msgspec

MAX_SEQUENCE = 2**31 - 1
"""The speech service's contract carries numbers as int32: enough for 497 days of 20 ms frames."""
MAX_HOLE = 30_000
"""Ten minutes of 20 ms frames: whoever jumps further has begun anew."""
LATE_WINDOW = 100
RESYNC_FRAMES = 5
MAX_RECENT_HOLES = 16


class Verdict(StrEnum):
    """What became of a frame."""

    NEXT = "next"
    AFTER_HOLE = "after-hole"
    RESTARTED = "restarted"
    """Taken; the first of a new epoch."""
    REPEATED = "repeated"
    LATE = "late"
    OUT_OF_RANGE = "out-of-range"
    """Below 0 or above ``MAX_SEQUENCE``: no frame number."""

    @property
    def taken(self) -> bool:
        """Whether the frame's audio counts."""
        return self in _TAKEN


_TAKEN = frozenset({Verdict.NEXT, Verdict.AFTER_HOLE, Verdict.RESTARTED})


class Hole(msgspec.Struct, frozen=True, gc=False):
    """Frames that never came, first and last included."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """How many."""
        return self.last - self.first + 1


class SequenceTracker:
    """Follows the frame numbers of one lane. Give it each number once, in the order of arrival.

    Attributes:
        expected: The number that would be next; 0 or more also before the first frame.
        epoch: Counts how often the numbering began, from 0; -1 before the first frame.
        first: First number of the epoch.
        missing: Frames missing in the epoch.
        hole: The hole before the newest frame with ``AFTER_HOLE``.
        missing_total, repeated_total, late_total: Over all epochs.
    """

    __slots__ = (
        "_late_next",
        "_late_run",
        "_recent",
        "_reconnected",
        "epoch",
        "expected",
        "first",
        "hole",
        "late_total",
        "missing",
        "missing_total",
        "repeated_total",
    )

    def __init__(self) -> None:
        self.expected = 0
        self.epoch = -1
        self.first = 0
        self.missing = 0
        self.missing_total = 0
        self.repeated_total = 0
        self.late_total = 0
        self.hole = Hole(0, -1)
        self._recent: deque[Hole] = deque(maxlen=MAX_RECENT_HOLES)
        self._reconnected = False
        self._late_next = -1
        self._late_run = 0

    @property
    def last(self) -> int:
        """Number of the newest frame taken."""
        return self.expected - 1

    def reconnected(self) -> None:
        """Take note that the next number comes over a new connection."""
        self._reconnected = True

    def restart(self) -> None:
        """Forget the numbering: whatever comes next begins an epoch."""
        self.expected = -1

    def in_order(self, numbers: Sequence[int]) -> bool:
        """Take a batch if each number is the one before plus 1, as it nearly always is.

        Returns:
            Whether the batch was taken. If not, nothing was, and ``receive`` wants each number.
        """
        count = len(numbers)
        first = self.expected
        if (
            not count
            or not self.settled
            or numbers[0] != first
            or first + count - 1 > MAX_SEQUENCE
            or list(numbers) != list(range(first, first + count))
        ):
            return False
        self.advance(count)
        return True

    def advance(self, count: int) -> None:
        """Take ``count`` frames that the caller found to be in order from ``expected`` on.

        Only for ``settled`` trackers, and not beyond ``MAX_SEQUENCE``.
        """
        self.expected += count
        self._late_run = 0

    @property
    def settled(self) -> bool:
        """Whether ``expected`` is known: a frame was taken, over this connection."""
        return self.epoch >= 0 and self.expected >= 0 and not self._reconnected

    def receive(self, number: int) -> Verdict:
        """Take one number in and tell what becomes of its frame."""
        if not 0 <= number <= MAX_SEQUENCE:
            return Verdict.OUT_OF_RANGE
        reconnected, self._reconnected = self._reconnected, False
        if self.epoch < 0 or self.expected < 0:
            return self._restart(number)
        ahead = number - self.expected
        if ahead == 0:
            self.advance(1)
            return Verdict.NEXT
        if ahead > 0:
            return self._jump(number) if ahead <= MAX_HOLE else self._restart(number)
        if ahead < -LATE_WINDOW - 1 or (reconnected and number <= max(self.first, 1)):
            return self._restart(number)
        return self._dropped(number)

    def _jump(self, number: int) -> Verdict:
        self.hole = Hole(self.expected, number - 1)
        self._recent.append(self.hole)
        self.missing += self.hole.count
        self.missing_total += self.hole.count
        self.expected = number + 1
        self._late_run = 0
        return Verdict.AFTER_HOLE

    def _restart(self, number: int) -> Verdict:
        self.epoch += 1
        self.first = number
        self.expected = number + 1
        self.missing = 0
        self._recent.clear()
        self._late_run = 0
        return Verdict.RESTARTED

    def _dropped(self, number: int) -> Verdict:
        if not any(hole.first <= number <= hole.last for hole in self._recent):
            self._late_run = 0
            self.repeated_total += 1
            return Verdict.REPEATED
        self._late_run = self._late_run + 1 if number == self._late_next else 1
        self._late_next = number + 1
        if self._late_run >= RESYNC_FRAMES:
            return self._restart(number)
        self.late_total += 1
        return Verdict.LATE
