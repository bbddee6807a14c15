"""How fast a session may send, and the results that wait for it.

The platform answers more than about five messages a second (bursts of 25) with error 429, so
everything sent takes from a bucket. What must be prompt (``pong``, ``opened``, ``closed``,
``disconnect``) is sent anyway and taken off; results wait: of partials the newest of an
utterance wins, finals keep their order and share an event only when they pile up.

Source: AudioHook protocol 2, rate limits (observed); error 429.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

MAX_EVENT_BYTES: Final = 60_000
PILE: Final = 5
"""More finals than this are a pile: then several share an event."""
MAX_TOGETHER: Final = 10
MAX_PARTIALS: Final = 16
_LOWEST: Final = -5.0


class Pace:
    """A bucket of messages: ``burst`` at first, ``per_s`` come back."""

    __slots__ = ("_at", "_blocked_until", "_burst", "_level", "_per_s")

    def __init__(self, now: float, *, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level = burst
        self._at = now
        self._blocked_until = now

    def take(self, now: float) -> None:
        """Count a message as sent, whether there was one left or not."""
        self._fill(now)
        self._level = max(self._level - 1, _LOWEST)

    def is_ready(self, now: float, *, reserve: float = 0.0) -> bool:
        """Tell whether a message may be sent that leaves ``reserve`` in the bucket."""
        self._fill(now)
        # A little tolerance: who waits until ``ready_at`` must find it so.
        return now >= self._blocked_until and self._level >= 1 + reserve - 1e-6

    def ready_at(self, *, reserve: float = 0.0) -> float:
        """Return when ``is_ready`` becomes true if nothing is sent before."""
        missing = max(1 + reserve - self._level, 0.0)
        return max(self._at + missing / self._per_s, self._blocked_until)

    def back_off(self, until: float) -> None:
        """Send nothing that can wait before ``until``: the peer asked for it."""
        self._blocked_until = max(self._blocked_until, until)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(self._level + (now - self._at) * self._per_s, self._burst)
            self._at = now


class ResultQueue:
    """Results that wait to be sent, at most ``limit`` finals; more are refused."""

    __slots__ = ("_finals", "_limit", "_partials")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._finals: deque[msgspec.Raw] = deque()
        self._partials: dict[str, msgspec.Raw] = {}

    @property
    def finals(self) -> int:
        """How many finals wait."""
        return len(self._finals)

    @property
    def partials(self) -> int:
        """Of how many utterances a partial waits."""
        return len(self._partials)

    def put_final(self, utterance: str, entity: msgspec.Raw) -> bool:
        """Queue a final, in place of the utterance's partial; False when there is no room."""
        self._partials.pop(utterance, None)
        if len(self._finals) >= self._limit:
            return False
        self._finals.append(entity)
        return True

    def put_partial(self, utterance: str, entity: msgspec.Raw) -> None:
        """Queue a partial in place of an older one; beyond the limit the oldest goes."""
        if utterance not in self._partials and len(self._partials) >= MAX_PARTIALS:
            del self._partials[next(iter(self._partials))]
        self._partials[utterance] = entity

    def take_finals(self, *, together: bool) -> list[msgspec.Raw]:
        """Return the finals of the next event: one, or several of a pile."""
        taken = [self._finals.popleft()]
        size = len(bytes(taken[0]))
        while together and self._finals and len(taken) < MAX_TOGETHER:
            size += len(bytes(self._finals[0])) + 1
            if size > MAX_EVENT_BYTES:
                break
            taken.append(self._finals.popleft())
        return taken

    def take_partial(self) -> list[msgspec.Raw]:
        """Return the partial that has waited longest."""
        return [self._partials.pop(next(iter(self._partials)))]

    def drop_partials(self) -> None:
        """Forget the partials: it is too late for what may change."""
        self._partials.clear()
