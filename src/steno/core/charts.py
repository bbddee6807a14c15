"""Charts as inline SVG: bars that lie and columns that stand, of counts, in one colour or several.

Well-formed XML without any address in it. A chart is never alone: what is drawn is told to those
who cannot see it by title and description, and in full by the table that ``charted`` puts below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from steno.core.page import clean, html_table
from steno.core.tables import Column, cells_wide, shortened

T = TypeVar("T")

STYLE: Final = """
.legend span{display:inline-block;margin-right:1.25rem}
.legend i{display:inline-block;width:.8rem;height:.8rem;margin-right:.35rem;vertical-align:-.1rem}
.legend .c0{background:var(--k0)}.legend .c1{background:var(--k1)}.legend .c2{background:var(--k2)}
.legend .c3{background:var(--k3)}.legend .c4{background:var(--k4)}.legend .c5{background:var(--k5)}
.legend .warn{background:var(--warn)}.legend .rest{background:var(--quiet)}
svg .count{fill:var(--soft)}svg .end{text-anchor:end}svg .middle{text-anchor:middle}
summary{cursor:pointer;color:var(--soft)}
@media print{details::details-content{content-visibility:visible}}
"""
"""What a page with charts adds to the sheet of ``core.page``."""

_WIDTH: Final = 900
_LABELS: Final = 190
_LABEL_CHARS: Final = 26
_COUNTS: Final = 90
_ROW: Final = 26
_BAR: Final = 16
_TOP: Final = 18
_HEIGHT: Final = 180
_BELOW: Final = 24
_LEFT: Final = 60
_UNITS_PER_CHAR: Final = 7.5


class Series(NamedTuple):
    """What one colour stands for.

    Attributes:
        style: ``c0`` to ``c5``, ``warn`` or ``rest`` (see ``core.page``).
    """

    name: str
    style: str = "c0"


class Point(NamedTuple):
    """A bar or a column: its name, and a count for each series."""

    name: str
    counts: Sequence[int]

    @property
    def total(self) -> int:
        """Of all series."""
        return sum(self.counts)


def charted(
    drawn: Iterable[str],
    columns: Sequence[Column[T]],
    rows: Iterable[T],
    *,
    caption: str,
    folded: bool = False,
) -> Iterator[str]:
    """Yield a chart with its table below.

    Args:
        drawn: Pieces of ``bars`` or ``standing``.
        folded: The table opens when it is asked for.
    """
    yield from drawn
    if folded:
        yield f"<details><summary>Figures: {clean(caption)}</summary>\n"
    yield from html_table(columns, rows, caption=caption)
    if folded:
        yield "</details>\n"


def bars(
    points: Sequence[Point], series: Sequence[Series], *, ident: str, title: str, description: str
) -> Iterator[str]:
    """Yield lying bars, one below the other, each with its name and its count.

    Args:
        ident: Prefix of the ids of its title and description; unique in the page.
    """
    height = 2 + len(points) * _ROW
    most = max((point.total for point in points), default=0) or 1
    scale = (_WIDTH - _LABELS - _COUNTS) / most
    yield from _legend(series)
    yield _opening(height, ident, title, description)
    for row, point in enumerate(points):
        middle = 1 + row * _ROW + _ROW / 2
        short = clean(shortened(point.name, _LABEL_CHARS))
        yield f'<text x="0" y="{middle + 4:.0f}">{short}<title>{clean(point.name)}</title></text>\n'
        x = float(_LABELS)
        for count, one in zip(point.counts, series, strict=True):
            if count:
                width = max(count * scale, 0.8)
                yield _box(one, point, count, x, middle - _BAR / 2, width, _BAR)
                x += width
        yield f'<text class="count" x="{x + 6:.1f}" y="{middle + 4:.0f}">{point.total:,}</text>\n'
    yield _CLOSING


def standing(
    points: Sequence[Point], series: Sequence[Series], *, ident: str, title: str, description: str
) -> Iterator[str]:
    """Yield columns side by side, as a distribution or a course of time is drawn.

    Args:
        points: In order; of the names as many are written as have room.
        ident: Prefix of the ids of its title and description; unique in the page.
    """
    height = _TOP + _HEIGHT + _BELOW
    most = max((point.total for point in points), default=0) or 1
    step = (_WIDTH - _LEFT) / max(1, len(points))
    yield from _legend(series)
    yield _opening(height, ident, title, description)
    yield from _scale(most)
    longest = max((cells_wide(point.name) for point in points), default=0) * _UNITS_PER_CHAR + 10
    every = max(1, -(-int(longest) // max(1, int(step))))
    for number, point in enumerate(points):
        left, y = _LEFT + number * step, float(_TOP + _HEIGHT)
        for count, one in zip(point.counts, series, strict=True):
            if count:
                tall = max(count * _HEIGHT / most, 0.8)
                y -= tall
                yield _box(one, point, count, left + step * 0.08, y, step * 0.84, tall)
        if number % every == 0:
            yield (
                f'<text class="time" x="{left + step / 2:.1f}" y="{height - 6}">'
                f"{clean(point.name)}</text>\n"
            )
    yield _CLOSING


_CLOSING: Final = "</svg>\n</div>\n"


def _opening(height: float, ident: str, title: str, description: str) -> str:
    return (
        f'<div class="wide" role="group" tabindex="0" aria-labelledby="{ident}-t">\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{ident}-t {ident}-d"'
        f' width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">'
        f'<title id="{ident}-t">{clean(title)}</title>'
        f'<desc id="{ident}-d">{clean(description)}</desc>\n'
    )


def _legend(series: Sequence[Series]) -> Iterator[str]:
    if len(series) < 2:
        return
    names = "".join(f'<span><i class="{one.style}"></i>{clean(one.name)}</span>' for one in series)
    yield f'<p class="legend">{names}</p>\n'


def _box(
    one: Series, point: Point, count: int, x: float, y: float, width: float, height: float
) -> str:
    tip = clean(f"{point.name}: {count:,} {one.name}")
    return (
        f'<rect class="bar {one.style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
        f' height="{height:.1f}"><title>{tip}</title></rect>\n'
    )


def _scale(most: int) -> Iterator[str]:
    """Lines at round counts, at most five."""
    step = round_step(most / 5)
    for count in range(0, most + 1, step):
        y = _TOP + _HEIGHT * (1 - count / most)
        yield (
            f'<line class="tick" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH}" y2="{y:.1f}"/>'
            f'<text class="count end" x="{_LEFT - 8}" y="{y + 4:.1f}">{count:,}</text>\n'
        )


def round_step(least: float) -> int:
    """Return the smallest of 1, 2, 5, 10, 20, 50 … that is not below ``least``."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least:
                return factor * power
        power *= 10
