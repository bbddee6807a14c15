"""Positions of segments in audio: seconds to samples, for any rate.

A position is rounded to the nearest sample (exact halves to the even one) and never negative; no
segment ends before it starts. The document cuts towards zero, which moves a boundary by up to a
sample and, with times like 0.29 s, by one it need not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

DEFAULT_RATE: Final = 48_000
MAX_SECONDS: Final = 1e8
"""Three years: what lies beyond is no time of a call, and its samples still are exact numbers."""

Seconds = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


def sample_of(seconds: float, rate: int) -> int:
    """Return the sample at a time: the nearest, at least 0."""
    return round(min(max(0.0, seconds), MAX_SECONDS) * rate)


def bounds_of(start_s: float, end_s: float, rate: int) -> tuple[int, int]:
    """Return first sample and the one behind the last of a segment; the second is not smaller."""
    first = sample_of(start_s, rate)
    return first, max(first, sample_of(end_s, rate))


def positions(starts: Seconds, ends: Seconds, rate: int) -> tuple[Positions, Positions]:
    """Do for many segments what ``bounds_of`` does for one."""
    first = np.rint(np.clip(starts, 0.0, MAX_SECONDS) * rate).astype(np.int64)
    last = np.rint(np.clip(ends, 0.0, MAX_SECONDS) * rate).astype(np.int64)
    return first, np.maximum(first, last)
