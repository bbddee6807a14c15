"""What every feed keeps account of: its clocks, its lines of log, until when it was whole, room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from steno.ports import FeedTarget, Quarantined, Telemetry

LOGGED_PER_MINUTE = 20
"""Malformed messages that get a log line; the others are counted in the next line."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Clocks and chance, from outside: monotonic seconds, UTC microseconds, draws in [0, 1)."""

    now: Callable[[], float]
    utc_us: Callable[[], int]
    draw: Callable[[], float]


class LogBudget:
    """Allows so many log lines a minute and counts what it held back."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = -1
        self._used = 0
        self._held_back = 0

    def take(self, now: float) -> int | None:
        """Return how many lines were held back since the last one, or None to hold this back."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        if self._used >= self._per_minute:
            self._held_back += 1
            return None
        self._used += 1
        held_back, self._held_back = self._held_back, 0
        return held_back

    def report(self, note: Quarantined, telemetry: Telemetry, *, now: float) -> None:
        """Log a malformed message by its facts, if the minute has a line left."""
        held_back = self.take(now)
        if held_back is not None:
            telemetry.warning(
                "live.quarantined",
                source=note.source,
                cause=note.cause,
                sha256=note.sha256,
                size_bytes=note.size_bytes,
                held_back=held_back,
            )


BROKEN_OFF = frozenset({1002, 1003, 1007, 1009})
"""Close codes for a message that breaks the rules: protocol, type, encoding, size."""


class Whole:
    """Until when a connection is known to have been whole.

    That is the last read, except where we broke off in the middle of one: what stood behind the
    message that broke the rules was sent before we read it, so the read before counts.
    """

    __slots__ = ("_before_us", "until_us")

    def __init__(self, utc_us: int) -> None:
        self.until_us = self._before_us = utc_us

    def read(self, utc_us: int) -> None:
        """Take note that everything which had come was read."""
        self._before_us, self.until_us = self.until_us, utc_us

    def closed(self, code: int) -> None:
        """Take note of the close code."""
        if code in BROKEN_OFF:
            self.until_us = self._before_us


async def wait_for_room(target: FeedTarget, closing: asyncio.Event) -> None:
    """Return when the target has room, or the feed is closing."""
    waiting = (asyncio.ensure_future(target.ready()), asyncio.ensure_future(closing.wait()))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
