"""Tables for a terminal: aligned, as wide as it, and harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.diarisation.analysis import analyse
from steno.diarisation.picture import Sketch
from steno.diarisation.report import ConversationReport, Overview
from steno.diarisation.tables import (
    SPEAKERS,
    Column,
    cells_wide,
    moment,
    padded_to,
    plain,
    table,
    text_report,
)
from steno.diarisation.views import SegmentView

S = 1_000_000
COLUMNS = (
    Column[tuple[str, int]]("Name", "", lambda one: one[0], number=False),
    Column[tuple[str, int]]("Size", "", lambda one: str(one[1])),
    Column[tuple[str, int]]("Twice", "", lambda one: str(2 * one[1]), rank=1),
)


def conversation(name: str, *, speaker: str = "agent") -> ConversationReport:
    views = [
        SegmentView(name, speaker, "good morning", 0, 2 * S, 0.9, True, 0, zero_us=10**15),
        SegmentView(name, "customer", "hello", 3 * S, 4 * S, 0.8, True, 0, zero_us=10**15),
    ]
    return ConversationReport(analyse(name, views), 1, {"no_speaker": 3}, "")


def lines(*reports: ConversationReport, width: int | None = None) -> list[str]:
    overview = Overview()
    for one in reports:
        overview.add(one, Sketch())
    return list(text_report(overview, width=width))


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


def test_the_report_shows_conversations_then_all_rows_then_sums() -> None:
    """Each in full with its speakers; a table when there are several; one line of sums."""
    found = lines(conversation("c1"), conversation("c2"))
    text = "\n".join(found)
    assert found[0] == "conversation c1, 2001-09-09 01:46:40 UTC"
    assert "silence 0:01 (25%)" in text
    assert "not in the result: 3 no speaker, 1 below the confidence asked for" in text
    assert sum(line.startswith("  Speaker") for line in found) == 2
    assert any(line.startswith("Conversation ") for line in found)
    assert found[-1].startswith("2 conversations, 4 segments")
    assert not any(line.startswith("Conversation ") for line in lines(conversation("c1")))


def test_a_conversation_without_a_segment_tells_why() -> None:
    """The likely cause stands in place of the figures."""
    nothing = ConversationReport(analyse("c", []), 0, {"never_final": 2}, "only partials came")
    found = lines(nothing)
    assert found[1] == "  no segment; likely cause: only partials came"
    assert not any("Speaker" in line for line in found)
    assert found[-1].startswith("1 conversation, 0 segments")
    assert found[-1].endswith("1 conversation without a segment")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_report_fits_the_terminal(width: int) -> None:
    """Tables and sentences alike."""
    found = lines(conversation("c1", speaker="somebody with a long label"), width=width)
    assert all(cells_wide(line) <= width for line in found)


def test_what_is_no_date_is_a_dash() -> None:
    """An absurd clock of the source breaks no report."""
    assert (moment(0), moment(10**20), moment(S)) == ("–", "–", "1970-01-01 00:00:01")


def test_every_figure_has_a_heading_of_its_own() -> None:
    """No two columns are called the same."""
    assert len({column.head for column in SPEAKERS}) == len(SPEAKERS)
