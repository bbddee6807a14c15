"""What to do when there is too much: refuse new calls first, then slow the running ones down.

A call that was taken is worth more than one that was not: so new calls are refused while the
process is late or its replay memory nearly full, before audio of running calls has to go. A
running AudioHook call whose recogniser does not keep up is asked to pause, and to resume when
there is room. The JSON form has no such message: its audio is taken as it comes, and beyond the
buffer the oldest is given up with a gap record.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

LATE_S: Final = 0.5
IN_TIME_S: Final = 0.2
"""Refusing begins at the one and ends below the other, so that it does not flicker."""

MEMORY_FULL: Final = 0.9
MEMORY_FREE: Final = 0.75
"""Shares of the replay memory, as above."""


class Refusal(StrEnum):
    """Why a call is not taken; also the word in logs and metrics."""

    CLOSING = "closing"
    FULL = "full"
    PEER_FULL = "peer_full"
    LATE = "late"
    MEMORY = "memory"


class Load(msgspec.Struct, frozen=True, gc=False):
    """How things are.

    Attributes:
        calls: Open now, the new one not counted.
        peer_calls: Those from the new one's address.
        lag_s: How late the loop was at its last look.
        replay_share: Of the replay memory in use, 0..1.
        is_closing: The process is shutting down.
    """

    calls: int
    peer_calls: int = 0
    lag_s: float = 0.0
    replay_share: float = 0.0
    is_closing: bool = False


class Admission:
    """Decides about each new call.

    Args:
        max_calls: At once.
        max_calls_per_peer: From one address at once; 0: no limit of its own.
    """

    __slots__ = ("_is_late", "_is_memory_full", "_max_calls", "_max_calls_per_peer")

    def __init__(self, max_calls: int, *, max_calls_per_peer: int = 0) -> None:
        self._max_calls = max_calls
        self._max_calls_per_peer = max_calls_per_peer
        self._is_late = False
        self._is_memory_full = False

    def decide(self, load: Load) -> Refusal | None:
        """Return why a call is refused; None: take it."""
        self._is_late = load.lag_s >= (IN_TIME_S if self._is_late else LATE_S)
        bound = MEMORY_FREE if self._is_memory_full else MEMORY_FULL
        self._is_memory_full = load.replay_share >= bound
        if load.is_closing:
            return Refusal.CLOSING
        if load.calls >= self._max_calls:
            return Refusal.FULL
        if 0 < self._max_calls_per_peer <= load.peer_calls:
            return Refusal.PEER_FULL
        if self._is_late:
            return Refusal.LATE
        return Refusal.MEMORY if self._is_memory_full else None


# --- running calls ---------------------------------------------------------------------------

PAUSE_FROM: Final = 0.6
RESUME_BELOW: Final = 0.2
PAUSED_AT_LEAST_S: Final = 2.0
RUNNING_AT_LEAST_S: Final = 5.0
"""Each pause is a hole in the transcript and two messages: not many short ones."""

PAUSE_AT_ONCE_FROM: Final = 0.9
"""From here the next audio may be given up: a pause that says so is better."""


class Relief(StrEnum):
    """What to ask the caller for."""

    PAUSE = "pause"
    RESUME = "resume"


class PressureRule:
    """Whether one AudioHook call should pause for our sake.

    It knows our wish alone. The call is paused while any side wants it; that is the protocol
    machine's to know.
    """

    __slots__ = ("_since", "wants_pause")

    def __init__(self) -> None:
        self.wants_pause = False
        self._since: float | None = None

    def look(self, pressure: float, *, now: float) -> Relief | None:
        """Return what to ask for now, None for nothing.

        Args:
            pressure: Share of the fullest of the call's replay buffers, 0..1.
            now: Monotonic seconds.
        """
        stayed_s = float("inf") if self._since is None else now - self._since
        if self.wants_pause:
            if pressure >= RESUME_BELOW or stayed_s < PAUSED_AT_LEAST_S:
                return None
            wish = Relief.RESUME
        else:
            if pressure < PAUSE_FROM:
                return None
            if stayed_s < RUNNING_AT_LEAST_S and pressure < PAUSE_AT_ONCE_FROM:
                return None
            wish = Relief.PAUSE
        self.wants_pause = wish is Relief.PAUSE
        self._since = now
        return wish
