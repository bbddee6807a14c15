"""When the next call may be made: one bound for all jobs together.

Turns are handed out at an even distance, so that no minute has more of them than it may (one
more where it begins with one). A service that says that we are too fast, or about to be, holds
everybody: whoever waits asks for a new turn behind the hold, and so nobody comes in a crowd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from steno.wire.http import RateBudget

LONGEST_HOLD_S: Final = 300.0


class Pace:
    """Turns for calls.

    Args:
        per_minute: Calls begun in a minute.
        clock: Monotonic seconds.
    """

    def __init__(self, per_minute: float, *, clock: Callable[[], float]) -> None:
        self._distance_s = 60.0 / per_minute
        self._clock = clock
        self._next = 0.0
        self._held_until = 0.0
        self._seen: RateBudget | None = None
        self.calls = 0

    @property
    def held_s(self) -> float:
        """How long everybody is held from now."""
        return max(0.0, self._held_until - self._clock())

    async def turn(self) -> None:
        """Wait for a turn. Whoever is cancelled while waiting leaves it unused."""
        while True:
            now = self._clock()
            mine = max(now, self._next, self._held_until)
            self._next = mine + self._distance_s
            if mine > now:
                await asyncio.sleep(mine - now)
            if self._held_until <= mine:
                self.calls += 1
                return

    def hold(self, seconds: float) -> None:
        """Let nobody call for a while, at most ``LONGEST_HOLD_S``."""
        until = self._clock() + min(max(0.0, seconds), LONGEST_HOLD_S)
        if until > self._held_until:
            self._held_until = until
            self._next = until  # turns given out before it are void: their holders ask again

    def learn(self, budget: RateBudget | None, in_flight: int) -> bool:
        """Hold until the service's window resets where calls in flight may use it up.

        Returns:
            Whether it was news that led to a hold.
        """
        if budget is None or budget is self._seen:
            return False
        self._seen = budget
        if budget.left > in_flight or budget.reset_s <= 0:
            return False
        self.hold(budget.reset_s)
        return True
