"""Distributions and courses of time: exact where they promise it, bounded always."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.recordings.spread import BINS, INTERVALS, Course, Spread

S = 1_000_000


def seconds(*values: float | None) -> Spread:
    spread = Spread(per_unit=100, digits=3, decimals=2)
    for value in values:
        spread.add(value)
    return spread


def test_figures_are_those_of_the_values() -> None:
    """Mean, least, most, and the value that so many are not above."""
    found = seconds(*range(1, 101), None).distribution()
    assert (found.count, found.unknown, found.mean) == (100, 1, 50.5)
    assert (found.least, found.p10, found.median, found.p90, found.p99, found.most) == (
        1.0, 10.0, 50.0, 90.0, 99.0, 100.0,
    )  # fmt: skip


def test_nothing_has_no_figures() -> None:
    """Neither zeros nor an error."""
    found = seconds(None).distribution()
    assert (found.count, found.unknown, found.mean, found.median, found.most) == (
        0, 1, None, None, None,
    )  # fmt: skip
    assert found.bins == ()


def test_one_long_tail_does_not_hide_the_rest() -> None:
    """What is far above 99 in 100 shares a last bin without an end."""
    found = seconds(*[10 + n / 10 for n in range(200)], 5000.0).distribution()
    assert found.bins[-1].high is None
    assert found.bins[-1].count == 1
    assert len(found.bins) > 10
    assert found.most == 5000.0


def test_the_greatest_value_has_no_bin_of_its_own() -> None:
    """Confidence ends at 1: what is 1 belongs to the last bin below."""
    spread = Spread(per_unit=10_000, digits=5, decimals=4, greatest=1.0)
    for value in (0.9, 0.95, 1.0, 1.0):
        spread.add(value)
    last = spread.distribution().bins[-1]
    assert (last.high, last.count) == (1.0, 2)


@given(values=st.lists(st.floats(0, 1e7), min_size=1, max_size=60))
def test_bins_hold_every_value_once(values: list[float]) -> None:
    """In order, without holes, at most so many."""
    found = seconds(*values).distribution()
    assert sum(one.count for one in found.bins) == len(values)
    assert len(found.bins) <= BINS
    for before, after in zip(found.bins, found.bins[1:], strict=False):
        assert before.high == after.low
    assert found.least is not None
    assert found.bins[0].low <= found.least + 1e-9


def test_memory_does_not_grow_with_the_number_of_values() -> None:
    """A thousand values of each power of ten, however many there were."""
    spread = seconds(*(n / 7 for n in range(100_000)))
    assert len(spread._counts) < 6000
    assert spread.distribution().mean == pytest.approx(99_999 / 14, abs=0.01)


@given(ends=st.lists(st.tuples(st.integers(0, 4 * 10**15), st.integers(0, 2)), max_size=40))
def test_a_course_counts_every_end_in_its_interval(ends: list[tuple[int, int]]) -> None:
    """However they are spread: at most so many intervals, nothing lost."""
    course = Course(3)
    for at_us, kind in ends:
        course.add(at_us, kind)
    found = course.intervals()
    assert len(found) <= INTERVALS
    width_us = course.width_s * S
    for interval in found:
        assert list(interval.counts) == [
            sum(at // width_us * width_us == interval.start_us and k == kind for at, k in ends)
            for kind in range(3)
        ]
    assert sum(sum(one.counts) for one in found) == len(ends)
    assert [one.start_us for one in found] == [
        found[0].start_us + n * width_us for n in range(len(found))
    ]


def test_a_short_course_has_narrow_intervals() -> None:
    """The width is the first that fits: a minute's work is shown by seconds."""
    course = Course(1)
    for second in range(50):
        course.add(second * S, 0)
    assert course.width_s == 1
    course.add(61 * S, 0)
    assert course.width_s == 5
