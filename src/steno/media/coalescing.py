"""For how long audio is gathered into one message: longer when the machine is busy.

Fewer, larger messages cost less, and wait longer. The window rises by half for each look that
finds the loop's thread busier than ``RISE_SHARE``, and to its maximum at once when the loop is
late. It falls as slowly as it pleases: one step after ``CALM_S`` below ``FALL_SHARE``. A longer
window itself lowers the load, so without the distance between the two it would swing.
"""

from __future__ import annotations

from typing import Final

FRAME_MS: Final = 20.0
"""Windows are whole frames of the shortest kind; a part of one would gather nothing more."""

RISE_SHARE: Final = 0.7
FALL_SHARE: Final = 0.4
LATE_S: Final = 0.05
"""A loop so late delays audio by more than a longer window would."""

STEP: Final = 1.5
CALM_S: Final = 5.0
SHORTEST_LOOK_S: Final = 0.25
"""Clocks of CPU time tick too coarsely to be compared over less."""


class WindowRule:
    """The window of one process.

    Args:
        coalesce_ms: When there is nothing to spare it for.
        max_ms: The longest; not under ``coalesce_ms``, or there is nothing to adapt.
    """

    __slots__ = ("_at", "_calm_since", "_cpu_s", "_max_ms", "_min_ms", "window_ms")

    def __init__(self, coalesce_ms: float, max_ms: float) -> None:
        self._min_ms = coalesce_ms
        self._max_ms = max(coalesce_ms, max_ms)
        self.window_ms = coalesce_ms
        self._at: float | None = None
        self._cpu_s = 0.0
        self._calm_since: float | None = None

    def look(self, *, now: float, cpu_s: float, lag_s: float) -> float:
        """Return the window in milliseconds from now on. To be called once a second or so.

        Args:
            now: Monotonic seconds.
            cpu_s: CPU seconds used so far by the loop's thread (``time.thread_time``): it is
                full at one a second, whatever the process's other threads do.
            lag_s: How late the loop was at its last look.
        """
        if self._at is None:
            self._at, self._cpu_s = now, cpu_s
            return self.window_ms
        past_s = now - self._at
        if past_s < SHORTEST_LOOK_S:
            return self.window_ms
        share = (cpu_s - self._cpu_s) / past_s
        self._at, self._cpu_s = now, cpu_s
        if lag_s >= LATE_S:
            self._calm_since = None
            self.window_ms = self._max_ms
        elif share >= RISE_SHARE:
            self._calm_since = None
            self.window_ms = self._whole_frames(self.window_ms * STEP)
        elif share >= FALL_SHARE:
            self._calm_since = None
        else:
            self._fall(now)
        return self.window_ms

    def _fall(self, now: float) -> None:
        if self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= CALM_S:
            self._calm_since = now
            self.window_ms = self._whole_frames(self.window_ms / STEP)

    def _whole_frames(self, window_ms: float) -> float:
        whole = round(window_ms / FRAME_MS) * FRAME_MS
        return min(max(whole, self._min_ms), self._max_ms)
