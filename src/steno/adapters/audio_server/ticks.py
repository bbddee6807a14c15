"""The rhythm in which resting sockets are read.

A socket that brings fifty small messages a second costs most by waking us up fifty times. So
it rests: reading is paused, the kernel gathers, and at the socket's own place in the rhythm it
is read in one go. Sockets get their places in the order in which they open, so the ticks share
the work evenly; and all sockets of one tick are read in one round of the loop.

A tick has three parts: sockets are resumed; the loop polls once and reads them; then the hooks
run. Waiting for the poll takes two steps of ``call_soon``: the first runs in the round of the
timer, before that round's poll, and what it schedules runs after the poll, behind the reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

_SLOTS: Final = 128
_MASK: Final = _SLOTS - 1
MAX_PERIOD_TICKS: Final = _SLOTS - 1


class Resting(Protocol):
    """What rests."""

    place: int

    def wake(self) -> None:
        """Read again."""


class Ticks:
    """A wheel of resting sockets with one timer, which runs while something rests or waits for
    the hooks.

    Args:
        loop: The event loop.
        tick_s: Step of the rhythm.
        on_error: Told when a hook raises; the others go on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tick_s: float,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._per_s = 1.0 / tick_s
        self._on_error = on_error
        self._origin = loop.time()
        self._last = 0
        self._opened = 0
        self._resting = 0
        self._slots: list[list[Resting]] = [[] for _ in range(_SLOTS)]
        self._hooks: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0
        self.armed = False

    def place(self) -> int:
        """Return a place in the rhythm for a socket that opens."""
        self._opened += 1
        return self._opened

    def every_tick(self, hook: Callable[[], None]) -> None:
        """See ``AudioTicks.every_tick``."""
        self._hooks.append(hook)

    def rest(self, socket: Resting, seconds: float) -> None:
        """Wake the socket at its next place in a rhythm of about ``seconds``."""
        period = round(seconds * self._per_s)
        if period < 1:
            period = 1
        elif period > MAX_PERIOD_TICKS:
            period = MAX_PERIOD_TICKS
        if not self.armed:
            self._arm()
        following = self._last + 1
        due = following + (socket.place - following) % period
        self._slots[due & _MASK].append(socket)
        self._resting += 1

    def delivered(self) -> None:
        """Have the hooks called within a tick; to be called when nothing is armed."""
        if self._hooks:
            self._arm()

    def stop(self) -> None:
        """Forget everything."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.armed = True  # nothing is armed any more
        self._hooks.clear()
        for slot in self._slots:
            slot.clear()

    def _arm(self) -> None:
        """Set the timer; while it was off, time went on without us."""
        self._last = max(self._last, self._number())
        self._set()

    def _number(self) -> int:
        # Timers of a millisecond's grain may fire a little early.
        return int((self._loop.time() - self._origin) * self._per_s + 0.1)

    def _set(self) -> None:
        self.armed = True
        self._next = self._last + 1
        self._timer = self._loop.call_at(self._origin + self._next * self._tick_s, self._tick)

    def _tick(self) -> None:
        reached = max(self._next, min(self._number(), self._last + _SLOTS))
        slots = self._slots
        for number in range(self._last + 1, reached + 1):
            self._last = number
            due = slots[number & _MASK]
            if due:
                slots[number & _MASK] = []
                self._resting -= len(due)
                for socket in due:
                    try:
                        socket.wake()
                    except Exception as exc:  # noqa: BLE001 - the rhythm is everybody's
                        self._on_error(exc)
        self._timer = None
        self.armed = False
        if self._resting:
            self._set()
        if self._hooks:
            self._loop.call_soon(self._loop.call_soon, self._after_reads)

    def _after_reads(self) -> None:
        for hook in self._hooks:
            try:
                hook()
            except Exception as exc:  # noqa: BLE001 - one hook's failure is not the others'
                self._on_error(exc)
