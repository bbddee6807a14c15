"""Gaps as they were stored, in every order and revision: whom they concern, and when."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from steno.archive.gap_book import AROUND_US, QUARANTINE_AROUND_US, GapBook, united
from steno.archive.reconcile import Span
from steno.ports import KnownGap

S = 1_000_000
spans = st.builds(lambda at, size: Span(at, at + size), st.integers(0, 1000), st.integers(0, 50))


def gap(key: str, from_s: int, to_s: int, *, name: str = "", cause: str = "disconnect",
        stored_s: int = 0) -> KnownGap:  # fmt: skip
    """Return a stored revision; times in seconds."""
    return KnownGap(key, name, cause, from_s * S, to_s * S, stored_s * S)


def test_the_last_revision_of_a_gap_counts() -> None:
    """It was open, then it had an end: one gap."""
    book = GapBook([gap("k", 10, 0, name="c"), gap("k", 10, 20, name="c")], now_us=99 * S)
    assert book.count == 1
    assert book.spans("c") == [Span(10 * S, 20 * S)]


def test_an_open_gap_reaches_up_to_now() -> None:
    """Nobody has listened since."""
    assert GapBook([gap("k", 10, 0)], now_us=99 * S).spans("c") == [Span(10 * S, 99 * S)]


def test_a_gap_of_the_source_concerns_every_conversation() -> None:
    """And one of a conversation only that."""
    book = GapBook([gap("a", 1, 2), gap("b", 5, 6, name="c"), gap("d", 8, 9, name="e")], now_us=0)
    assert book.spans("c") == [Span(1 * S, 2 * S), Span(5 * S, 6 * S)]
    assert book.named(0, 7 * S) == ["c"]
    assert book.named(0, 9 * S) == ["c", "e"]


def test_a_lost_message_concerns_fewer_than_a_lost_connection() -> None:
    """The time around in which a conversation must have been heard."""
    stored = [gap("a", 1000, 1000, cause="quarantine"), gap("b", 5000, 5001)]
    (_, wide), (_, narrow) = GapBook(stored, now_us=0).everywhere(0, 9000 * S)
    assert wide == Span(5000 * S - AROUND_US, 5001 * S + AROUND_US)
    assert narrow == Span(1000 * S - QUARANTINE_AROUND_US, 1000 * S + QUARANTINE_AROUND_US)


def test_the_time_since_a_kill_is_a_gap_before_it_is_stored() -> None:
    """Whoever follows next will store it."""
    book = GapBook([], now_us=30 * S, down_since_us=10 * S)
    assert (book.count, book.spans("c")) == (1, [Span(10 * S, 30 * S)])


def test_the_newest_gap_of_a_conversation_is_known_by_when_it_was_stored() -> None:
    """A reconciliation older than that is looked at again."""
    book = GapBook([gap("a", 1, 2, name="c", stored_s=7), gap("b", 1, 2, name="c", stored_s=3)],
                   now_us=0)  # fmt: skip
    assert book.newest_us("c") == 7 * S
    assert book.newest_us("d") == 0


@given(given_spans=st.lists(spans, max_size=30), at=st.integers(0, 1100))
def test_united_spans_cover_the_same_moments_and_do_not_touch(
    given_spans: list[Span], at: int
) -> None:
    """Whatever the order."""
    made = united(given_spans)
    covered = any(one.from_us <= at <= one.to_us for one in given_spans)
    assert any(one.from_us <= at <= one.to_us for one in made) == covered
    assert all(a.to_us < b.from_us for a, b in pairwise(made))
