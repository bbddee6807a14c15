"""The report's tables: columns in words, and as plain aligned text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from steno.core.tables import (
    NONE,
    Column,
    clock,
    confidence,
    folded,
    moment,
    number_of,
    percent,
    plain,
    seconds,
    table,
    wrapped,
)
from steno.diarisation.analysis import ConversationFigures, SpeakerFigures
from steno.diarisation.report import ConversationReport, Overview, Row, Totals

OVERVIEW: Final[tuple[Column[Row], ...]] = (
    Column("Conversation", "Its id", lambda row: row.conversation, number=False),
    Column(
        "Started (UTC)", "First segment", lambda row: moment(row.started_us), number=False, rank=6
    ),
    Column("Length", "First start to last end", lambda row: clock(row.duration_s)),
    Column("Speakers", "Number of speakers", lambda row: str(row.speakers), rank=3),
    Column("Segments", "Number of segments", lambda row: str(row.segments)),
    Column("Turns", "Number of turns", lambda row: str(row.turns), rank=4),
    Column("Silence", "Nobody speaks", lambda row: clock(row.silence_s), rank=1),
    Column("Longest", "Longest silence", lambda row: clock(row.longest_silence_s), rank=7),
    Column("Overlap", "Two or more speak", lambda row: clock(row.overlap_s), rank=1),
    Column("Interruptions", "Somebody was cut off", lambda row: str(row.interruptions), rank=5),
    Column(
        "Confidence",
        "Mean, weighted by length",
        lambda row: confidence(row.mean_confidence),
        rank=2,
    ),
    Column("Below", "Segments below the confidence asked for", lambda row: str(row.below), rank=8),
    Column("Audited", "Segments that never entered the result", lambda row: str(row.audited)),
)

SPEAKERS: Final[tuple[Column[SpeakerFigures], ...]] = (
    Column("Speaker", "Label, local to the conversation", lambda one: one.speaker, number=False),
    Column("Role", "Who it is to the platform", lambda one: one.role, number=False, rank=7),
    Column("Name", "As the platform tells it", lambda one: one.name or NONE, number=False, rank=2),
    Column("Talk", "Time spoken", lambda one: clock(one.talk_s)),
    Column("Share", "Of everybody's talk", lambda one: percent(one.share)),
    Column("Turns", "Number of turns", lambda one: str(one.turns)),
    Column("Words", "Number of words", lambda one: str(one.words), rank=3),
    Column(
        "Words/min",
        "Words in a minute of talk",
        lambda one: NONE if one.words_per_minute is None else f"{one.words_per_minute:.0f}",
        rank=8,
    ),
    Column("Longest turn", "Longest monologue", lambda one: clock(one.longest_monologue_s), rank=4),
    Column("Cuts off", "Interruptions made", lambda one: str(one.interruptions), rank=1),
    Column("Cut off", "Times interrupted", lambda one: str(one.interrupted), rank=1),
    Column(
        "Back-channels",
        "Short remarks within somebody else's speech",
        lambda one: str(one.back_channels),
        rank=9,
    ),
    Column(
        "First reply",
        "After the first turn of somebody else",
        lambda one: seconds(one.first_response_s),
        rank=6,
    ),
    Column(
        "Mean reply",
        "After others fell silent",
        lambda one: seconds(one.mean_response_s),
        rank=5,
    ),
    Column(
        "Confidence",
        "Mean, weighted by length",
        lambda one: confidence(one.mean_confidence),
        rank=5,
    ),
)


def summary(figures: ConversationFigures) -> list[tuple[str, str]]:
    """Return a conversation's own figures as names and values."""
    of_length = figures.duration_s or 1.0
    longest = clock(figures.longest_silence_s)
    if figures.longest_silence_at_s is not None:
        longest += f" at {clock(figures.longest_silence_at_s)}"
    return [
        ("length", clock(figures.duration_s)),
        ("speech", f"{clock(figures.speech_s)} ({percent(figures.speech_s / of_length)})"),
        ("silence", f"{clock(figures.silence_s)} ({percent(figures.silence_s / of_length)})"),
        ("longest silence", longest),
        ("overlap", f"{seconds(figures.overlap_s)} ({percent(figures.overlap_share)} of speech)"),
        ("segments", str(figures.segments)),
        ("turns", str(figures.turns)),
        ("interruptions", str(figures.interruptions)),
        ("confidence", confidence(figures.mean_confidence)),
    ]


def left_out(report: ConversationReport) -> list[str]:
    """Return, in words, what is not in a conversation's figures and why."""
    found = [f"{count} {reason.replace('_', ' ')}" for reason, count in report.audit.items()]
    if report.below:
        found.append(f"{report.below} below the confidence asked for")
    return found


def totals_line(totals: Totals) -> str:
    """Return the sums of the report as a sentence."""
    parts = [
        number_of(totals.conversations, "conversation"),
        number_of(totals.segments, "segment"),
        f"{clock(totals.duration_s)} long",
        f"{clock(totals.silence_s)} silence",
        f"{clock(totals.overlap_s)} overlap",
        number_of(totals.interruptions, "interruption"),
    ]
    if totals.without_segments:
        parts.append(f"{number_of(totals.without_segments, 'conversation')} without a segment")
    return ", ".join(parts)


def text_report(overview: Overview, *, width: int | None = None) -> Iterator[str]:
    """Yield the lines of a report for a terminal.

    Args:
        width: Columns of the terminal; None sets no limit.
    """
    for full in overview.in_full():
        yield from _conversation(full.report, width)
        yield ""
    rows = overview.rows()
    if len(rows) > 1:
        yield from table(OVERVIEW, rows, width=width)
        yield ""
    if overview.not_listed:
        yield f"{number_of(overview.not_listed, 'more conversation')} in the sums only"
    yield from folded(totals_line(overview.totals), width, indent="")


def _conversation(report: ConversationReport, width: int | None) -> Iterator[str]:
    figures = report.figures
    started = figures.zero_us + round(figures.start_s * 1e6) if figures.zero_us else 0
    yield f"conversation {plain(figures.conversation)}" + (
        f", {moment(started)} UTC" if started else ""
    )
    if report.likely_cause:
        yield from folded(f"no segment; likely cause: {report.likely_cause}", width)
    else:
        yield from wrapped([f"{name} {value}" for name, value in summary(figures)], width)
        yield from (f"  {line}" for line in table(SPEAKERS, figures.speakers, width=_less(width)))
    if missing := left_out(report):
        yield from wrapped([f"not in the result: {missing[0]}", *missing[1:]], width)


def _less(width: int | None) -> int | None:
    return None if width is None else width - 2
