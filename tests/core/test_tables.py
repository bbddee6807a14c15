"""Tables for a terminal: aligned, as wide as it, and harmless; figures as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.tables import (
    Column,
    cells_wide,
    clock,
    folded,
    moment,
    number_of,
    padded_to,
    plain,
    shortened,
    table,
    wrapped,
)

S = 1_000_000
COLUMNS = (
    Column[tuple[str, int]]("Name", "", lambda one: one[0], number=False),
    Column[tuple[str, int]]("Size", "", lambda one: str(one[1])),
    Column[tuple[str, int]]("Twice", "", lambda one: str(2 * one[1]), rank=1),
)


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    """Every column starts and ends at the same place in each line."""
    assert list(table(COLUMNS, [("a", 5), ("bbbbbb", 1000)])) == [
        "Name    Size  Twice",
        "a          5     10",
        "bbbbbb  1000   2000",
    ]


def test_a_narrow_terminal_loses_columns_and_then_letters() -> None:
    """Columns go by rank, then names are shortened; the lines fit."""
    rows = [("a-very-long-name-indeed", 5)]
    assert next(iter(table(COLUMNS, rows, width=30))).split() == ["Name", "Size"]
    assert list(table(COLUMNS, rows, width=16))[1] == "a-very-lo…     5"


@given(
    rows=st.lists(st.tuples(st.text(max_size=30), st.integers(0, 10**6)), max_size=5),
    width=st.integers(20, 60),
)
def test_lines_are_never_wider_than_the_terminal(rows: list[tuple[str, int]], width: int) -> None:
    """Whatever the names are."""
    for line in table(COLUMNS, rows, width=width):
        assert cells_wide(line) <= width
        assert plain(line) == line


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\u202eright", "\x9b1m", "\u2028"])
def test_no_name_moves_the_cursor(text: str) -> None:
    """Control characters, and those that turn writing round, are replaced."""
    assert plain(text).isprintable()
    assert "\ufffd" in plain(text)


def test_wide_characters_take_two_columns() -> None:
    """A name in Japanese keeps the columns in line."""
    assert (cells_wide("東京"), padded_to("東京", 5), padded_to("東京都", 4)) == (
        4,
        "東京 ",
        "東… ",
    )


def test_what_is_no_date_is_a_dash() -> None:
    """An absurd clock of the source breaks no report."""
    assert (moment(0), moment(10**20), moment(S)) == ("–", "–", "1970-01-01 00:00:01")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00"), (59.6, "1:00"), (3599.6, "1:00:00"), (3725, "1:02:05"), (-61, "-1:01")],
)
def test_clock_carries_over(seconds: float, told: str) -> None:
    """Rounded first, so that there is no second 60."""
    assert clock(seconds) == told


def test_tenths_carry_over_too() -> None:
    """59.96 s is a minute."""
    assert clock(59.96, tenths=True) == "1:00.0"


def test_one_thing_has_no_plural() -> None:
    """None and several have."""
    assert [number_of(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


def test_what_is_shortened_says_so() -> None:
    """By an ellipsis, which is counted."""
    assert (shortened("abcdef", 6), shortened("abcdef", 4)) == ("abcdef", "abc…")


def test_sentences_and_lists_take_the_lines_they_need() -> None:
    """No line is wider than the terminal; without one there is a single line."""
    text = "one two three four five six seven"
    assert list(folded(text, None)) == [f"  {text}"]
    assert all(len(line) <= 20 for line in folded(text, 20))
    assert list(wrapped(["one", "two", "three"], 12)) == ["  one, two,", "  three"]
