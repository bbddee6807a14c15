"""Turns at an even distance, and holds for everybody: how a client keeps within a peer's rate.

No minute has more turns than it may (one more where it begins with one). A peer that says that
we are too fast, or about to be, holds everybody: whoever waits asks for a new turn behind the
hold, and so nobody comes in a crowd.

``now`` is monotonic seconds. Nothing here sleeps: whoever takes a turn waits until its moment,
then asks ``stands``; a turn that a hold made void is taken again.
"""

from __future__ import annotations

from typing import Final

LONGEST_HOLD_S: Final = 300.0


class Turns:
    """Moments for calls.

    Args:
        per_minute: Calls begun in a minute.
    """

    __slots__ = ("_distance_s", "_held_until", "_next")

    def __init__(self, per_minute: float) -> None:
        self._distance_s = 60.0 / per_minute
        self._next = 0.0
        self._held_until = 0.0

    def take(self, now: float) -> float:
        """Return the moment of a turn, which is ``now`` or later. It is used up."""
        mine = max(now, self._next, self._held_until)
        self._next = mine + self._distance_s
        return mine

    def stands(self, moment: float) -> bool:
        """Tell whether a turn taken before still counts: no hold has come over it."""
        return self._held_until <= moment

    def held_s(self, now: float) -> float:
        """Return how long everybody is held from ``now``."""
        return max(0.0, self._held_until - now)

    def hold(self, now: float, seconds: float) -> None:
        """Let nobody call for a while, at most ``LONGEST_HOLD_S``."""
        until = now + min(max(0.0, seconds), LONGEST_HOLD_S)
        if until > self._held_until:
            self._held_until = until
            self._next = until  # turns given out before it are void: their holders ask again
