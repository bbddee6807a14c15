"""When the next call may be made: one bound for all jobs together (``core.pacing``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from steno.core.pacing import LONGEST_HOLD_S, Turns
from steno.wire.http import RateBudget

__all__ = ["LONGEST_HOLD_S", "Pace"]


class Pace:
    """Turns for calls.

    Args:
        per_minute: Calls begun in a minute.
        clock: Monotonic seconds.
    """

    def __init__(self, per_minute: float, *, clock: Callable[[], float]) -> None:
        self._turns = Turns(per_minute)
        self._clock = clock
        self._seen: RateBudget | None = None
        self.calls = 0

    @property
    def held_s(self) -> float:
        """How long everybody is held from now."""
        return self._turns.held_s(self._clock())

    async def turn(self) -> None:
        """Wait for a turn. Whoever is cancelled while waiting leaves it unused."""
        while True:
            now = self._clock()
            mine = self._turns.take(now)
            if mine > now:
                await asyncio.sleep(mine - now)
            if self._turns.stands(mine):
                self.calls += 1
                return

    def hold(self, seconds: float) -> None:
        """Let nobody call for a while, at most ``LONGEST_HOLD_S``."""
        self._turns.hold(self._clock(), seconds)

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
