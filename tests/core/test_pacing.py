"""Turns keep their distance, and a hold makes those behind it void."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from steno.core.pacing import LONGEST_HOLD_S, Turns


@given(st.lists(st.floats(0, 5), min_size=2, max_size=40))
def test_turns_are_an_even_distance_apart_whenever_they_are_taken(pauses: list[float]) -> None:
    """Never two closer than a minute divided by the rate."""
    turns = Turns(60.0)
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        taken.append(turns.take(now))
        assert taken[-1] >= now
    assert all(b - a >= 1.0 - 1e-9 for a, b in pairwise(taken))


def test_a_hold_voids_the_turns_it_covers_and_starts_anew_behind_it() -> None:
    """Whoever waits asks again, and the first behind the hold comes at its end."""
    turns = Turns(60.0)
    first, second = turns.take(0.0), turns.take(0.0)
    turns.hold(0.5, 10.0)
    assert not turns.stands(first)
    assert not turns.stands(second)
    assert turns.held_s(0.5) == 10.0
    assert turns.take(1.0) == 10.5
    assert turns.take(1.0) == 11.5
    assert turns.stands(10.5)


def test_a_hold_is_bounded_and_never_shortened() -> None:
    """Nobody is put to sleep for years, and a shorter wish changes nothing."""
    turns = Turns(60.0)
    turns.hold(0.0, 1e9)
    assert turns.held_s(0.0) == LONGEST_HOLD_S
    turns.hold(0.0, 1.0)
    turns.hold(0.0, -5.0)
    assert turns.held_s(0.0) == LONGEST_HOLD_S
