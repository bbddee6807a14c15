"""Tables of a report, for terminals and pages: columns in words, figures as people read them."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, NamedTuple, TypeVar

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


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Return a time as ``m:ss``, with hours where there are any, and tenths where asked for."""
    units = round(seconds * 10) if tenths else round(seconds) * 10
    sign, units = ("-", -units) if units < 0 else ("", units)
    minutes, rest = divmod(units, 600)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    tail = f".{rest % 10}" if tenths else ""
    return f"{sign}{front}:{rest // 10:02}{tail}"


def shortened(text: str, limit: int) -> str:
    """Return text of at most ``limit`` characters; an ellipsis tells that there was more."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def folded(text: str, width: int | None, *, indent: str = "  ") -> list[str]:
    """Return a sentence on as many lines as it needs; no limit where ``width`` is None."""
    if width is None:
        return [indent + text]
    return textwrap.wrap(
        text, max(width, 20), initial_indent=indent, subsequent_indent="  ", break_long_words=False
    )


def wrapped(parts: Sequence[str], width: int | None) -> Iterator[str]:
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
