"""Positions of segments in audio."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.archive.align import bounds_of, positions, sample_of

RATES = (8_000, 16_000, 44_100, 48_000)
times = st.floats(min_value=-10.0, max_value=200_000.0, allow_nan=False)


def test_a_time_that_is_no_binary_fraction_meets_its_sample() -> None:
    """Cut towards zero, 0.29 s at 48 kHz would be sample 13919."""
    assert int(0.29 * 48_000) == 13_919
    assert sample_of(0.29, 48_000) == 13_920


@pytest.mark.parametrize("rate", RATES)
@given(seconds=times)
def test_a_position_is_within_half_a_sample_of_its_time(rate: int, seconds: float) -> None:
    """And never negative."""
    sample = sample_of(seconds, rate)
    exact = max(Fraction(0), Fraction(seconds) * rate)
    assert sample >= 0
    assert abs(sample - exact) <= Fraction(1, 2) + exact / 10**15


@given(starts=st.lists(times, max_size=20), data=st.data(), rate=st.sampled_from(RATES))
def test_many_at_once_are_what_each_is_alone(
    starts: list[float], data: st.DataObject, rate: int
) -> None:
    """And no segment ends before it starts, whatever its times."""
    ends = data.draw(st.lists(times, min_size=len(starts), max_size=len(starts)))
    first, last = positions(np.array(starts), np.array(ends), rate)
    alone = [bounds_of(start, end, rate) for start, end in zip(starts, ends, strict=True)]
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == alone
    assert all(0 <= one <= other for one, other in alone)
