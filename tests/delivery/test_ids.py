"""Record ids and the positions in them."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.delivery.ids import (
    TAIL_BITS,
    first_position,
    next_position,
    position_of,
    position_range,
    position_us,
    record_id,
)

positions = st.integers(1, (1 << 63) - 1)
tails = st.integers(0, (1 << TAIL_BITS) - 1)


@given(positions, tails)
def test_an_id_is_a_uuid7_that_gives_its_position_back(position: int, tail: int) -> None:
    """Version, variant, milliseconds and position are all in the text."""
    text = record_id(position, tail)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == position >> 15
    assert position_of(text) == position


@given(positions, tails, positions, tails)
def test_ids_sort_like_their_positions(a: int, a_tail: int, b: int, b_tail: int) -> None:
    """Text order is commit order."""
    if a != b:
        assert (record_id(a, a_tail) < record_id(b, b_tail)) == (a < b)


@given(st.integers(0, 1 << 47), st.lists(st.integers(-5000, 5000), max_size=50))
def test_positions_grow_whatever_the_clock_does(start_ms: int, steps: list[int]) -> None:
    """A clock that stands or goes back does not repeat a position."""
    last, now_ms = 0, start_ms
    for step in steps:
        now_ms = max(0, now_ms + step)
        position = next_position(last, now_ms)
        assert position > last
        assert position_us(position) >= now_ms * 1000
        last = position
    assert first_position(start_ms) >> 15 == start_ms


@given(positions, tails, st.integers(1, 36))
def test_a_prefix_finds_its_record(position: int, tail: int, length: int) -> None:
    """The range of a prefix holds every id that begins so."""
    prefix = record_id(position, tail)[:length]
    lowest, highest = position_range(prefix)
    assert lowest <= position <= highest


@pytest.mark.parametrize("text", ["", "-", "zz", "0" * 33, "0190-x"])
def test_what_is_no_prefix_is_refused(text: str) -> None:
    """Only hex digits and dashes."""
    with pytest.raises(ValueError, match="beginning"):
        position_range(text)


@pytest.mark.parametrize("text", ["", "abc", "z" * 36])
def test_what_is_no_id_is_refused(text: str) -> None:
    """An id has one written form."""
    with pytest.raises(ValueError):
        position_of(text)
