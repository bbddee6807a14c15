"""Waiting by one policy: backoff, ``Retry-After``, deadlines, circuit breakers, early refresh.

Nothing here sleeps, reads a clock or draws a number. ``now`` is monotonic seconds unless the
name says otherwise, and ``draw`` is a uniform number in [0, 1) from the caller. So a test moves
time by passing numbers, and two processes started together do not wait in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

RETRY_AFTER_CAP_S = 300.0
"""Longest wait a peer can ask of us: 10^9 seconds must not put a gateway to sleep for years."""

REFRESH_MARGIN_S = 300.0
"""How long before its end a token is replaced (the documents: five minutes)."""

SHORT_LIFE_FRACTION = 0.2
"""Share of a short life that the margin may take."""

REFRESH_JITTER = 0.2
"""Share of the margin by which a refresh may come earlier still, so that a fleet spreads out."""

_MAX_HEADER_CHARS = 64


# --- backoff ---------------------------------------------------------------------------------


class Backoff:
    """Delays between tries, decorrelated: each is drawn between ``first_s`` and a multiple of
    the one before, never above ``cap_s``.

    Clients that failed together drift apart at once, which plain exponential growth with a
    little jitter does not achieve.

    Args:
        first_s: Shortest delay, and the upper bound of the first one.
        cap_s: Longest delay.
        multiplier: How much longer than the last delay the next one may be.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog (decorrelated jitter).
    """

    __slots__ = ("_cap_s", "_first_s", "_last_s", "_multiplier", "tries")

    def __init__(self, first_s: float, cap_s: float, *, multiplier: float = 3.0) -> None:
        if not 0 < first_s <= cap_s or multiplier < 1:
            raise ValueError("0 < first_s <= cap_s and multiplier >= 1 are needed")
        self._first_s = first_s
        self._cap_s = cap_s
        self._multiplier = multiplier
        self._last_s = 0.0
        self.tries = 0

    def next_delay(self, draw: float) -> float:
        """Return the seconds to wait before the next try, and count it."""
        highest_s = max(self._first_s, self._last_s * self._multiplier)
        self._last_s = min(self._cap_s, self._first_s + draw * (highest_s - self._first_s))
        self.tries += 1
        return self._last_s

    def reset(self) -> None:
        """Start again from the first delay; call it after a success."""
        self._last_s = 0.0
        self.tries = 0


class SteppedBackoff:
    """Delays that grow by a fixed factor up to a cap, plus a drawn part of ``jitter_s``.

    The form the documents give: from 2 s to 30 s with up to 500 ms added, or from 1 s.

    Args:
        first_s: The first delay.
        cap_s: The longest delay, before the jitter is added.
        factor: Growth from one delay to the next.
        jitter_s: At most this is added to every delay.
    """

    __slots__ = ("_base_s", "_cap_s", "_factor", "_first_s", "_jitter_s", "tries")

    def __init__(
        self, first_s: float, cap_s: float, *, factor: float = 2.0, jitter_s: float = 0.5
    ) -> None:
        if not 0 < first_s <= cap_s or factor < 1 or jitter_s < 0:
            raise ValueError("0 < first_s <= cap_s, factor >= 1 and jitter_s >= 0 are needed")
        self._first_s = first_s
        self._cap_s = cap_s
        self._factor = factor
        self._jitter_s = jitter_s
        self._base_s = first_s
        self.tries = 0

    def next_delay(self, draw: float) -> float:
        """Return the seconds to wait before the next try, and count it."""
        delay_s = self._base_s + draw * self._jitter_s
        self._base_s = min(self._cap_s, self._base_s * self._factor)
        self.tries += 1
        return delay_s

    def reset(self) -> None:
        """Start again from the first delay; call it after a success."""
        self._base_s = self._first_s
        self.tries = 0


def parse_retry_after(
    value: str | None, now_utc: datetime, cap_s: float = RETRY_AFTER_CAP_S
) -> float | None:
    """Return the seconds a peer asks us to wait, between 0 and ``cap_s``; None if it says nothing.

    Args:
        value: The header as it came: seconds or an HTTP date. A negative number or garbage says
            nothing; a date gone by means 0; an absurdly long wait is cut to ``cap_s``.
        now_utc: Aware wall-clock time, used for dates only.
        cap_s: Longest wait in seconds.

    Source: RFC 9110, 10.2.3.
    """
    if value is None or len(value) > _MAX_HEADER_CHARS or not value.isascii():
        return None
    text = value.strip()
    whole, _, fraction = text.partition(".")
    # Written out rather than float(text): that would take "1e9", "nan", "inf" and "1_0" too.
    if whole.isdigit() and (fraction.isdigit() or "." not in text):
        return min(float(text), cap_s)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000": the date is UTC, the sender's zone is unknown
        at = at.replace(tzinfo=UTC)
    try:
        wait_s = (at - now_utc).total_seconds()
    except OverflowError:  # a date within hours of year 1 or 9999, with an offset
        return None
    return min(max(wait_s, 0.0), cap_s)


# --- deadlines -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment in monotonic seconds by which work must be over."""

    at: float

    @classmethod
    def after(cls, now: float, seconds: float) -> Deadline:
        """Return the deadline ``seconds`` from ``now``."""
        return cls(now + seconds)

    def left(self, now: float) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self.at - now)

    def passed(self, now: float) -> bool:
        """Tell whether the time is over."""
        return now >= self.at


class Retries:
    """Decides after each failed try how long to wait, or that the time for trying is over.

    A peer's wish is a lower bound, with a tenth of it added by the draw so that all who were
    told the same do not come back together.

    Args:
        backoff: Delays where the peer asks for none.
        deadline: No try starts at or after it.
    """

    __slots__ = ("_backoff", "_deadline")

    def __init__(self, backoff: Backoff | SteppedBackoff, deadline: Deadline) -> None:
        self._backoff = backoff
        self._deadline = deadline

    def next_delay(
        self, now: float, draw: float, *, retry_after_s: float | None = None
    ) -> float | None:
        """Return the seconds to wait before the next try; None means give up."""
        delay_s = self._backoff.next_delay(draw)
        if retry_after_s is not None:
            delay_s = max(delay_s, retry_after_s * (1.0 + 0.1 * draw))
        return None if self._deadline.passed(now + delay_s) else delay_s

    def left(self, now: float) -> float:
        """Return the seconds left for trying."""
        return self._deadline.left(now)


# --- circuit breaker -------------------------------------------------------------------------


class CircuitState(StrEnum):
    """Closed lets everything through, open nothing, half-open one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Stops asking a peer that keeps failing, then lets one probe at a time find out.

    After ``failures`` failures in a row it opens for ``open_s``. Then one caller may try; its
    success closes the circuit, its failure opens it again. A probe that never reports (its task
    was cancelled) holds the others off for no longer than another ``open_s``.
    """

    __slots__ = ("_failures", "_open_s", "_probe_at", "consecutive_failures", "state")

    def __init__(self, *, failures: int = 5, open_s: float = 10.0) -> None:
        self._failures = failures
        self._open_s = open_s
        self._probe_at = 0.0
        self.consecutive_failures = 0
        self.state = CircuitState.CLOSED

    def allow(self, now: float) -> bool:
        """Tell whether to try now. True in the open states makes the caller the probe."""
        if self.state is CircuitState.CLOSED:
            return True
        if now < self._probe_at:
            return False
        self.state = CircuitState.HALF_OPEN
        self._probe_at = now + self._open_s
        return True

    def succeeded(self, now: float) -> None:
        """Take note of a success: the circuit is closed."""
        del now  # same face as ``failed``
        self.consecutive_failures = 0
        self.state = CircuitState.CLOSED

    def failed(self, now: float) -> None:
        """Take note of a failure; the limit, or any failure of a probe, opens the circuit."""
        self.consecutive_failures += 1
        probing = self.state is CircuitState.HALF_OPEN
        if probing or self.consecutive_failures >= self._failures:
            self.state = CircuitState.OPEN
            self._probe_at = now + self._open_s

    def retry_in(self, now: float) -> float:
        """Return the seconds until ``allow`` may say yes again; 0 when it does now."""
        return 0.0 if self.state is CircuitState.CLOSED else max(0.0, self._probe_at - now)


# --- early refresh ---------------------------------------------------------------------------


def early_margin(
    expires_in_s: float,
    *,
    margin_s: float = REFRESH_MARGIN_S,
    short_fraction: float = SHORT_LIFE_FRACTION,
) -> float:
    """Return how long before its end a token counts as used up: the margin, or less of a short
    life.
    """
    return min(margin_s, short_fraction * expires_in_s)


def refresh_at(
    expires_in_s: float,
    issued_at: float,
    draw: float,
    margin_s: float = REFRESH_MARGIN_S,
    short_fraction: float = SHORT_LIFE_FRACTION,
) -> float:
    """Return when to replace a token, on the clock of ``issued_at``.

    The margin is ``margin_s``, or ``short_fraction`` of a life so short that the margin would
    take more. The jitter only moves the moment forward, so a token is never kept into its margin.
    """
    margin = early_margin(expires_in_s, margin_s=margin_s, short_fraction=short_fraction)
    return issued_at + expires_in_s - margin * (1.0 + REFRESH_JITTER * draw)
