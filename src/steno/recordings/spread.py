"""Figures of many jobs in bounded memory: distributions, and ends by time.

A ``Spread`` counts equal values, so its memory depends on how many different values there can be
and not on how many came. A ``Course`` counts by intervals of time, which grow with the time they
have to cover.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from steno.core.charts import round_step

BINS: Final = 24
"""Most columns of a distribution that is drawn."""

INTERVALS: Final = 60
"""Most columns of a course of time."""

_STEPS_S: Final = (1, 5, 15, 60, 300, 900, 3600, 10_800, 43_200, 86_400, 604_800)
"""Each a multiple of the one before, so that counts can be put together."""


class Bin(msgspec.Struct, frozen=True, gc=False):
    """How many values are from ``low`` to below ``high``; the last bin of a tail has no end."""

    low: float
    high: float | None
    count: int


class Distribution(msgspec.Struct, frozen=True):
    """A distribution in figures; None where there is no value.

    Attributes:
        count: Values there are.
        unknown: Jobs without one.
        p10, median, p90, p99: At least so many of the values are not above; as exact as ``Spread``.
    """

    count: int
    unknown: int
    mean: float | None
    least: float | None
    p10: float | None
    median: float | None
    p90: float | None
    p99: float | None
    most: float | None
    bins: tuple[Bin, ...]


class Spread:
    """Counts values of 0 or more.

    Args:
        per_unit: Values are held as whole parts of this size; 100 for hundredths.
        digits: Leading digits held of a large one; the rest becomes 0. A thousand values of each
            power of ten at the most.
        decimals: Places of the figures told.
        greatest: No value is above; one that is equal shares the last bin.
    """

    def __init__(
        self, *, per_unit: int, digits: int, decimals: int, greatest: float | None = None
    ) -> None:
        self._per_unit = per_unit
        self._keep = 10**digits
        self._decimals = decimals
        self._greatest = None if greatest is None else round(greatest * per_unit)
        self._counts: Counter[int] = Counter()
        self._sum = self._least = self._most = 0
        self._number = 0
        self._unknown = 0

    def add(self, value: float | None) -> None:
        """Take in a value, or that there is none."""
        if value is None:
            self._unknown += 1
            return
        parts = max(0, round(value * self._per_unit))
        self._least = min(self._least, parts) if self._number else parts
        self._most = max(self._most, parts)
        self._sum += parts
        self._number += 1
        cut = 1
        while parts // cut >= self._keep:
            cut *= 10
        self._counts[parts // cut * cut] += 1

    @property
    def mean(self) -> float | None:
        """Of the values as they came, not as they are held."""
        return self._told(self._sum / self._number) if self._number else None

    def distribution(self, *, most_bins: int = BINS) -> Distribution:
        """Return the figures of what has been taken in."""
        held = sorted(self._counts.items())
        found = [self._quantile(held, share) for share in (0.1, 0.5, 0.9, 0.99)]
        p10, median, p90, p99 = (None if parts is None else self._told(parts) for parts in found)
        return Distribution(
            self._number,
            self._unknown,
            self.mean,
            self._told(self._least) if self._number else None,
            p10,
            median,
            p90,
            p99,
            self._told(self._most) if self._number else None,
            self._bins(held, most_bins),
        )

    def _told(self, parts: float) -> float:
        return round(parts / self._per_unit, self._decimals)

    def _quantile(self, held: Sequence[tuple[int, int]], share: float) -> int | None:
        passed = 0
        for parts, count in held:
            passed += count
            if passed >= share * self._number:
                return parts
        return None

    def _bins(self, held: Sequence[tuple[int, int]], most: int) -> tuple[Bin, ...]:
        """Return bins of one round width; what is far above the rest shares the last one."""
        if not held:
            return ()
        low, high = held[0][0], held[-1][0]
        body = self._quantile(held, 0.99) or high
        top = body if high - low > 2 * (body - low) else high
        step = round_step((top - low + 1) / (most - 2))
        ends = self._greatest == top and low < top
        first, last = low // step, (top - ends) // step
        counts = Counter[int]()
        for parts, count in held:
            counts[min(parts // step, last + (not ends))] += count
        found = [self._bin(at * step, (at + 1) * step, counts[at]) for at in range(first, last + 1)]
        if counts[last + 1]:
            found.append(self._bin((last + 1) * step, None, counts[last + 1]))
        return tuple(found)

    def _bin(self, low: int, high: int | None, count: int) -> Bin:
        return Bin(self._told(low), None if high is None else self._told(high), count)


class Interval(msgspec.Struct, frozen=True, gc=False):
    """Counts within an interval that begins at ``start_us`` (UTC microseconds)."""

    start_us: int
    counts: tuple[int, ...]


class Course:
    """Counts by time, in at most ``INTERVALS`` intervals of one width.

    Args:
        kinds: How many things are counted side by side.
    """

    def __init__(self, kinds: int) -> None:
        self._kinds = kinds
        self._steps = iter(_STEPS_S)
        self.width_s = next(self._steps)
        self._counts: dict[int, list[int]] = {}
        self._first = self._last = 0

    def add(self, at_us: int, kind: int) -> None:
        """Count one of a kind."""
        at = at_us // (self.width_s * 1_000_000)
        if not self._counts:
            self._first = self._last = at
        self._first, self._last = min(self._first, at), max(self._last, at)
        self._counts.setdefault(at, [0] * self._kinds)[kind] += 1
        while self._last - self._first >= INTERVALS:
            self._widen()

    def _widen(self) -> None:
        wider = next(self._steps, self.width_s * 2)  # years of weeks: two, four …
        factor = wider // self.width_s
        self.width_s = wider
        before, self._counts = self._counts, {}
        for at, counts in before.items():
            into = self._counts.setdefault(at // factor, [0] * self._kinds)
            into[:] = [one + more for one, more in zip(into, counts, strict=True)]
        self._first, self._last = self._first // factor, self._last // factor

    def intervals(self) -> list[Interval]:
        """Return the intervals in order, those without anything in them too."""
        if not self._counts:
            return []
        none = [0] * self._kinds
        return [
            Interval(at * self.width_s * 1_000_000, tuple(self._counts.get(at, none)))
            for at in range(self._first, self._last + 1)
        ]
