"""The report's tables: columns in words, and as plain aligned text for a terminal."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, NamedTuple, TypeVar

from steno.diarisation.analysis import ConversationFigures, SpeakerFigures
from steno.diarisation.picture import clock
from steno.diarisation.report import ConversationReport, Overview, Row, Totals

NONE: Final = "–"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GAP: Final = 2
_MIN_TEXT: Final = 8

T = TypeVar("T")


class Column(NamedTuple, Generic[T]):
    """A column of a table.

    Attributes:
        head: Its heading.
        tip: What the figure means, for a reader who is new to it.
        text: A row's cell.
        number: Aligned to the right, and never shortened.
        rank: Where there is no room, the columns of the highest rank go first; 0 stay.
    """

    head: str
    tip: str
    text: Callable[[T], str]
    number: bool = True
    rank: int = 0


def seconds(value: float | None) -> str:
    """Return seconds with tenths."""
    return NONE if value is None else f"{value:.1f} s"


def percent(value: float) -> str:
    """Return a share as whole per cent."""
    return f"{value:.0%}"


def confidence(value: float | None) -> str:
    """Return a confidence as everywhere: 0 to 1."""
    return NONE if value is None else f"{value:.2f}"


def number_of(count: int, things: str) -> str:
    """Return a number with what is counted, in the plural where there are several or none."""
    return f"{count} {things}" if count == 1 else f"{count} {things}s"


def moment(at_us: int) -> str:
    """Return UTC microseconds as date and time; a dash for 0, and for what is no date."""
    if not at_us:
        return NONE
    try:
        return f"{_EPOCH + timedelta(microseconds=at_us):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return NONE


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
    yield from _folded(totals_line(overview.totals), width, indent="")


def _conversation(report: ConversationReport, width: int | None) -> Iterator[str]:
    figures = report.figures
    started = figures.zero_us + round(figures.start_s * 1e6) if figures.zero_us else 0
    yield f"conversation {plain(figures.conversation)}" + (
        f", {moment(started)} UTC" if started else ""
    )
    if report.likely_cause:
        yield from _folded(f"no segment; likely cause: {report.likely_cause}", width)
    else:
        yield from _wrapped([f"{name} {value}" for name, value in summary(figures)], width)
        yield from (f"  {line}" for line in table(SPEAKERS, figures.speakers, width=_less(width)))
    if missing := left_out(report):
        yield from _wrapped([f"not in the result: {missing[0]}", *missing[1:]], width)


def _folded(text: str, width: int | None, *, indent: str = "  ") -> list[str]:
    """A sentence on as many lines as it needs."""
    if width is None:
        return [indent + text]
    return textwrap.wrap(
        text, max(width, 20), initial_indent=indent, subsequent_indent="  ", break_long_words=False
    )


def _less(width: int | None) -> int | None:
    return None if width is None else width - 2


def _wrapped(parts: Sequence[str], width: int | None) -> Iterator[str]:
    """Yield parts separated by commas, on as many indented lines as they need."""
    line = ""
    for part in parts:
        longer = f"{line}, {part}" if line else f"  {part}"
        if line and width is not None and len(longer) + 1 > width:
            yield f"{line},"
            longer = f"  {part}"
        line = longer
    if line:
        yield line


def table(
    columns: Sequence[Column[T]], rows: Iterable[T], *, width: int | None = None
) -> Iterator[str]:
    """Yield a table's lines, aligned, without spaces at their ends.

    Where it is too wide, columns go by rank; then the widest columns of text are shortened.

    Args:
        width: Columns of the terminal; None sets no limit.
    """
    given = list(rows)
    cells = [[plain(column.text(row)) for column in columns] for row in given]
    heads = [column.head for column in columns]
    widths = [max(map(cells_wide, column)) for column in zip(heads, *cells, strict=True)]
    shown = list(range(len(columns)))

    def total() -> int:
        return sum(widths[one] for one in shown) + _GAP * (len(shown) - 1)

    if width is not None:
        while total() > width and any(columns[one].rank for one in shown):
            shown.remove(max(shown, key=lambda one: (columns[one].rank, one)))
        texts = [one for one in shown if not columns[one].number]
        while total() > width and any(widths[one] > _MIN_TEXT for one in texts):
            widths[max(texts, key=lambda one: widths[one])] -= 1
    for line in [heads, *cells]:
        padded = (padded_to(line[one], widths[one], right=columns[one].number) for one in shown)
        yield (" " * _GAP).join(padded).rstrip()


def plain(text: str) -> str:
    """Return text without what would move a terminal's cursor or turn its writing round."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        "\ufffd" if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else one
        for one in text
    )


def cells_wide(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF")
        for one in text
    )


def padded_to(text: str, width: int, *, right: bool = False) -> str:
    """Return text that takes exactly so many columns, shortened where it is too long."""
    if cells_wide(text) > width:
        while text and cells_wide(text) > width - 1:
            text = text[:-1]
        text += "…"
    fill = " " * (width - cells_wide(text))
    return fill + text if right else text + fill
