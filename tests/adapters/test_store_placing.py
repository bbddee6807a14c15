"""Which revision is on the timeline: pure rules, in any order and cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steno.adapters.store_sqlite.placing import (
    KIND_NUMBERS,
    MAX_REVISION,
    Claim,
    Head,
    place,
    placed_slot,
    slots,
    withdrawn,
)
from steno.adapters.store_sqlite.rows import slot_of
from steno.core.records import Kind

keys = st.one_of(st.binary(min_size=32, max_size=32), st.text(max_size=9))


def test_every_kind_has_a_number_of_its_own() -> None:
    """A kind without one could not be on a timeline; numbers below 0 mean something else."""
    assert set(KIND_NUMBERS) == set(Kind)
    assert len(set(KIND_NUMBERS.values())) == len(Kind)
    assert min(KIND_NUMBERS.values()) == 0


@given(keys, st.integers(0, MAX_REVISION))
def test_revisions_lie_side_by_side_inside_the_range(key: bytes | str, revision: int) -> None:
    """Every slot is a signed 64-bit integer, and ``slots`` holds those of the key."""
    low, high = slots(key)
    assert -(1 << 63) <= low <= placed_slot(key, revision) <= high < 1 << 63
    assert placed_slot(key, 0) == slot_of(key, 0)
    if revision:
        assert abs(placed_slot(key, revision) - placed_slot(key, revision - 1)) == 1


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), unique=True),
    st.lists(st.integers(1, 4)),
    st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 5))),
)
def test_the_highest_revision_counts_however_claims_are_cut(
    order: list[tuple[str, int]], cuts: list[int], placeless: set[tuple[str, int]]
) -> None:
    """What was decided in one transaction is what the next one finds stored."""
    rows: dict[int, tuple[str, int]] = dict(enumerate(order))
    stored: dict[int, int | None] = {}
    start = 0
    for size in [*cuts, len(order)]:
        numbers = range(start, min(start + size, len(order)))
        start = max(numbers, default=start - 1) + 1
        heads: dict[tuple[int, bytes | str], Head] = {
            (1, rows[n][0]): Head(n, rows[n][1], placed)
            for n, placed in stored.items()
            if placed is not None
        }
        claims = [Claim(1, *rows[n], n, None if rows[n] in placeless else 3) for n in numbers]
        done = place(claims, heads)
        stored |= done.stored
        stored |= done.rows
    top: dict[str, tuple[int, int | None]] = {}
    for number, (key, revision) in rows.items():
        before = top.get(key)
        if before is not None and revision <= before[0]:
            continue
        if (key, revision) not in placeless:
            top[key] = (revision, number)
        elif before is not None:
            top[key] = (revision, None)
    on_timeline = {rows[n][0]: n for n, placed in stored.items() if placed == 3}
    assert on_timeline == {key: n for key, (_, n) in top.items() if n is not None}
    remembered = {rows[n][0]: p for n, p in stored.items() if p is not None and p < 0}
    assert remembered == {key: withdrawn(r) for key, (r, n) in top.items() if n is None}
