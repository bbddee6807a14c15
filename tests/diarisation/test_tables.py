"""Tables for a terminal: aligned, as wide as it, and harmless."""

from __future__ import annotations

import pytest

from steno.core.tables import cells_wide
from steno.diarisation.analysis import analyse
from steno.diarisation.picture import Sketch
from steno.diarisation.report import ConversationReport, Overview
from steno.diarisation.tables import SPEAKERS, text_report
from steno.diarisation.views import SegmentView

S = 1_000_000


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


def test_every_figure_has_a_heading_of_its_own() -> None:
    """No two columns are called the same."""
    assert len({column.head for column in SPEAKERS}) == len(SPEAKERS)
