"""New calls are refused before running ones suffer; running ones are paused before audio goes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.media.admission import Admission, Load, PressureRule, Refusal, Relief


@pytest.mark.parametrize(
    ("load", "answer"),
    [
        (Load(calls=9), None),
        (Load(calls=10), Refusal.FULL),
        (Load(calls=9, peer_calls=3), Refusal.PEER_FULL),
        (Load(calls=0, lag_s=0.5), Refusal.LATE),
        (Load(calls=0, lag_s=0.49), None),
        (Load(calls=0, replay_share=0.9), Refusal.MEMORY),
        (Load(calls=0, is_closing=True), Refusal.CLOSING),
        (Load(10, 3, 1.0, 1.0, is_closing=True), Refusal.CLOSING),
    ],
)
def test_each_limit_refuses_with_its_own_word(load: Load, answer: Refusal | None) -> None:
    """The plainest reason first."""
    assert Admission(10, max_calls_per_peer=3).decide(load) is answer


def test_a_peer_has_no_limit_of_its_own_unless_one_is_set() -> None:
    """Zero means none."""
    assert Admission(10).decide(Load(calls=9, peer_calls=9)) is None


def test_being_late_ends_below_where_it_began() -> None:
    """A loop around the limit does not refuse every other call."""
    admission = Admission(10)
    lags = [0.4, 0.5, 0.4, 0.2, 0.19, 0.4]
    late = [admission.decide(Load(0, lag_s=lag)) is Refusal.LATE for lag in lags]
    assert late == [False, True, True, True, False, False]


def test_full_memory_ends_below_where_it_began() -> None:
    """So does a nearly full memory; it is watched while other reasons refuse."""
    admission = Admission(10)
    assert admission.decide(Load(10, replay_share=0.95)) is Refusal.FULL
    assert admission.decide(Load(0, replay_share=0.8)) is Refusal.MEMORY
    assert admission.decide(Load(0, replay_share=0.7)) is None
    assert admission.decide(Load(0, replay_share=0.8)) is None


# --- running calls ---------------------------------------------------------------------------


def test_pressure_asks_for_a_pause_and_room_for_going_on() -> None:
    """Between the two nothing is asked."""
    rule = PressureRule()
    assert rule.look(0.59, now=0.0) is None
    assert rule.look(0.6, now=1.0) is Relief.PAUSE
    assert rule.look(1.0, now=2.0) is None
    assert rule.look(0.2, now=10.0) is None
    assert rule.wants_pause
    assert rule.look(0.19, now=11.0) is Relief.RESUME
    assert not rule.wants_pause


def test_pauses_are_not_short_and_not_many() -> None:
    """Two seconds of pause and five between pauses at least."""
    rule = PressureRule()
    rule.look(0.7, now=0.0)
    assert rule.look(0.0, now=1.9) is None
    assert rule.look(0.0, now=2.0) is Relief.RESUME
    assert rule.look(0.8, now=6.9) is None
    assert rule.look(0.8, now=7.0) is Relief.PAUSE


def test_when_audio_would_go_the_pause_comes_at_once() -> None:
    """From nine tenths on."""
    rule = PressureRule()
    rule.look(0.7, now=0.0)
    rule.look(0.0, now=2.0)
    assert rule.look(0.9, now=2.1) is Relief.PAUSE


@given(looks=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5))))
def test_wishes_alternate(looks: list[tuple[float, float]]) -> None:
    """Never two pauses without a resume between them, and each for a reason."""
    rule, now, wishes = PressureRule(), 0.0, []
    for pressure, wait_s in looks:
        now += wait_s
        wish = rule.look(pressure, now=now)
        if wish is not None:
            wishes.append(wish)
            assert pressure >= 0.6 if wish is Relief.PAUSE else pressure < 0.2
        assert rule.wants_pause == (bool(wishes) and wishes[-1] is Relief.PAUSE)
    assert all(a is not b for a, b in itertools.pairwise(wishes))
