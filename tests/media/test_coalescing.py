"""The window grows when the machine is busy and shrinks when it is calm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.media.coalescing import CALM_S, WindowRule


class Machine:
    """A loop's clock and its CPU time."""

    def __init__(self, rule: WindowRule) -> None:
        self.rule = rule
        self.now = 100.0
        self.cpu_s = 40.0
        self.spend(0.0, 1.0)

    def spend(self, share: float, seconds: float, *, lag_s: float = 0.0) -> float:
        """Let time pass, so much of it busy; return the window."""
        self.now += seconds
        self.cpu_s += share * seconds
        return self.rule.look(now=self.now, cpu_s=self.cpu_s, lag_s=lag_s)


def test_it_starts_at_its_shortest() -> None:
    """What was spent before the first look says nothing."""
    rule = WindowRule(100, 200)
    assert rule.look(now=5.0, cpu_s=5.0, lag_s=0.0) == 100


def test_load_lengthens_it_step_by_step_to_its_maximum() -> None:
    """In whole frames of 20 ms."""
    machine = Machine(WindowRule(100, 200))
    assert [machine.spend(0.9, 1.0) for _ in range(4)] == [160, 200, 200, 200]


def test_a_late_loop_lengthens_it_at_once() -> None:
    """Though its thread was idle: others took the processor."""
    assert Machine(WindowRule(100, 200)).spend(0.1, 1.0, lag_s=0.05) == 200


def test_it_falls_only_after_calm() -> None:
    """One step for each calm stretch, and none in the middle ground."""
    machine = Machine(WindowRule(100, 200))
    machine.spend(0.1, 1.0, lag_s=1.0)
    assert [machine.spend(0.5, 1.0) for _ in range(20)] == [200.0] * 20
    assert [machine.spend(0.2, 1.0) for _ in range(6)] == [200.0] * 5 + [140.0]
    assert machine.spend(0.5, 1.0) == 140  # the calm is interrupted
    assert [machine.spend(0.2, 1.0) for _ in range(6)] == [140.0] * 5 + [100.0]
    assert machine.spend(0.0, 2 * CALM_S) == 100


def test_looks_in_short_succession_are_passed_over() -> None:
    """CPU clocks are too coarse for them; the next look counts the whole time."""
    machine = Machine(WindowRule(100, 200))
    assert machine.spend(1.0, 0.2) == 100
    assert machine.spend(1.0, 0.2) == 160


@pytest.mark.parametrize(("shortest", "longest"), [(100, 100), (200, 100)])
def test_without_room_it_stays(shortest: float, longest: float) -> None:
    """A maximum below the window adapts nothing."""
    machine = Machine(WindowRule(shortest, longest))
    assert machine.spend(1.0, 1.0, lag_s=1.0) == shortest


@given(
    shortest=st.integers(20, 1_000),
    longest=st.integers(20, 2_000),
    looks=st.lists(st.tuples(st.floats(0, 2), st.floats(0, 10), st.floats(0, 2))),
)
def test_it_stays_within_its_bounds(
    shortest: int, longest: int, looks: list[tuple[float, float, float]]
) -> None:
    """Whatever the load."""
    machine = Machine(WindowRule(shortest, longest))
    for share, seconds, lag_s in looks:
        window = machine.spend(share, seconds, lag_s=lag_s)
        assert shortest <= window <= max(shortest, longest)
        assert window in (shortest, longest) or window % 20 == 0
