"""Frame numbers: holes, repeats, disorder, numbering that begins anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.sequence import (
    LATE_WINDOW,
    MAX_HOLE,
    MAX_RECENT_HOLES,
    MAX_SEQUENCE,
    RESYNC_FRAMES,
    Hole,
    SequenceTracker,
    Verdict,
)

NUMBERS = st.one_of(
    st.integers(0, 40),
    st.integers(0, 2 * LATE_WINDOW),
    st.integers(-5, MAX_SEQUENCE + 5),
    st.sampled_from([-1, 0, 1, MAX_HOLE, MAX_HOLE + 1, MAX_SEQUENCE, 2**63, -(10**40), 10**40]),
)


def at(last: int, *, first: int = 0) -> SequenceTracker:
    """Return a tracker that has taken ``first`` to ``last``."""
    tracker = SequenceTracker()
    for number in range(first, last + 1):
        tracker.receive(number)
    return tracker


@given(steps=st.lists(st.tuples(NUMBERS, st.booleans()), max_size=80))
def test_taken_numbers_rise_and_every_number_is_accounted_for(
    steps: list[tuple[int, bool]],
) -> None:
    """In an epoch taken numbers rise, and taken + missing = last - first + 1."""
    tracker = SequenceTracker()
    epoch: list[int] = []
    missing = 0
    for number, reconnected in steps:
        if reconnected:
            tracker.reconnected()
        before = tracker.epoch
        verdict = tracker.receive(number)
        if verdict is Verdict.RESTARTED:
            epoch, missing = [], 0
        assert tracker.epoch == before + (verdict is Verdict.RESTARTED)
        if verdict is Verdict.AFTER_HOLE:
            assert tracker.hole == Hole(epoch[-1] + 1, number - 1)
            assert 1 <= tracker.hole.count <= MAX_HOLE
            missing += tracker.hole.count
        if verdict.taken:
            assert not epoch or number > epoch[-1]
            epoch.append(number)
        if epoch:
            assert (tracker.first, tracker.last) == (epoch[0], epoch[-1])
            assert len(epoch) + missing == tracker.last - tracker.first + 1
            assert tracker.missing == missing


@given(numbers=st.lists(NUMBERS, max_size=40), cuts=st.lists(st.integers(1, 12), max_size=40))
def test_batches_give_what_single_numbers_give(numbers: list[int], cuts: list[int]) -> None:
    """However numbers are gathered into batches, the tracker ends in the same state."""
    one, many = SequenceTracker(), SequenceTracker()
    for number in numbers:
        one.receive(number)
    rest = list(numbers)
    for size in [*cuts, len(rest)]:
        batch, rest = rest[:size], rest[size:]
        if not many.in_order(batch):
            for number in batch:
                many.receive(number)
    for name in ("expected", "epoch", "first", "missing", "repeated_total", "late_total"):
        assert getattr(one, name) == getattr(many, name)


def test_batch_in_order_is_taken_at_once() -> None:
    """The usual batch needs one call; one with a fault in it is left to the caller untouched."""
    tracker = at(9)
    assert tracker.in_order(range(10, 20))
    assert tracker.last == 19
    assert not tracker.in_order([20, 22, 23])
    assert tracker.last == 19


def test_batch_is_never_taken_before_the_numbering_is_known() -> None:
    """The first number, and the first after a reconnect, must be looked at by ``receive``."""
    tracker = SequenceTracker()
    assert not tracker.in_order([0, 1])
    tracker = at(3)
    tracker.reconnected()
    assert not tracker.settled
    assert not tracker.in_order([4, 5])
    tracker = at(3)
    tracker.restart()
    assert not tracker.in_order([-1, 0])
    assert tracker.receive(2) is Verdict.RESTARTED


@pytest.mark.parametrize("first", [0, 1, 77, MAX_SEQUENCE])
def test_first_number_is_no_hole(first: int) -> None:
    """A lane may begin with any number: what was before belongs to nobody."""
    tracker = SequenceTracker()
    assert tracker.receive(first) is Verdict.RESTARTED
    assert (tracker.first, tracker.missing, tracker.epoch) == (first, 0, 0)


def test_straggler_of_a_hole_is_late_and_repeats_are_repeats() -> None:
    """A number of a reported hole is late; one that was taken is repeated; both are dropped."""
    tracker = at(5)
    assert tracker.receive(8) is Verdict.AFTER_HOLE
    assert [tracker.receive(n) for n in (7, 5, 8, 9)] == [
        Verdict.LATE,
        Verdict.REPEATED,
        Verdict.REPEATED,
        Verdict.NEXT,
    ]
    assert (tracker.missing_total, tracker.late_total, tracker.repeated_total) == (2, 1, 2)


def test_wrong_number_ahead_costs_a_few_frames() -> None:
    """After one number 50 too high the right numbers are taken again from the fifth on."""
    tracker = at(100)
    assert tracker.receive(151) is Verdict.AFTER_HOLE
    verdicts = [tracker.receive(n) for n in range(101, 110)]
    assert verdicts[:RESYNC_FRAMES] == [Verdict.LATE] * (RESYNC_FRAMES - 1) + [Verdict.RESTARTED]
    assert set(verdicts[RESYNC_FRAMES:]) == {Verdict.NEXT}


def test_stragglers_out_of_a_row_never_begin_an_epoch() -> None:
    """Late frames that do not follow one another are stragglers, however many."""
    tracker = at(0)
    tracker.receive(40)
    verdicts = {tracker.receive(n) for n in range(39, 1, -1)}
    assert verdicts == {Verdict.LATE}


def test_far_numbers_begin_a_new_epoch() -> None:
    """Far below or far above, the numbering is another one: nothing is dropped or missing."""
    tracker = at(500)
    assert tracker.receive(500 - LATE_WINDOW - 1) is Verdict.RESTARTED
    assert tracker.receive(tracker.expected + MAX_HOLE + 1) is Verdict.RESTARTED
    assert tracker.missing_total == 0
    assert at(500).receive(500 - LATE_WINDOW) is Verdict.REPEATED
    assert at(500).receive(501 + MAX_HOLE) is Verdict.AFTER_HOLE


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (31, Verdict.NEXT),
        (40, Verdict.AFTER_HOLE),
        (25, Verdict.REPEATED),
        (0, Verdict.RESTARTED),
        (1, Verdict.RESTARTED),
    ],
)
def test_first_number_after_a_reconnect_decides(number: int, verdict: Verdict) -> None:
    """It goes on, leaves a hole, repeats a little, or has begun again from the start."""
    tracker = at(30)
    tracker.reconnected()
    assert tracker.receive(number) is verdict


def test_numbers_that_cannot_be_passed_on_are_refused() -> None:
    """Below zero and beyond int32 there are no frame numbers, and they change nothing."""
    tracker = at(3)
    for number in (-1, MAX_SEQUENCE + 1, 10**40):
        assert tracker.receive(number) is Verdict.OUT_OF_RANGE
    assert tracker.receive(4) is Verdict.NEXT


def test_what_is_remembered_of_holes_is_bounded() -> None:
    """An old hole is forgotten: its stragglers count as repeats, and memory stays flat."""
    tracker = at(0)
    for hole in range(MAX_RECENT_HOLES + 1):
        tracker.receive(2 + 2 * hole)
    assert tracker.receive(1) is Verdict.REPEATED
    assert tracker.receive(3) is Verdict.LATE
