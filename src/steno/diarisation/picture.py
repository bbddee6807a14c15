"""The timeline of a conversation as a picture: who speaks when, in inline SVG.

Segments come in one by one and only bars are kept, so many for each lane at the most: what is
too fine to be seen is merged. The figures are exact whatever the picture leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from steno.core.page import COLOURS, clean
from steno.core.tables import clock, shortened
from steno.diarisation.views import SegmentView

MAX_LANES: Final = 12
"""Speakers drawn; of the others only the number is told."""

MAX_BARS: Final = 4096
"""Bars of a lane kept. With more of them, those with the smallest gaps become one."""

MAX_TIP_CHARS: Final = 240
"""Text of a tooltip, where text is asked for."""

_MICRO: Final = 1_000_000
_LABELS: Final = 150  # units left of the time line
_MIN_WIDTH: Final = 900
_MAX_WIDTH: Final = 4000
_UNITS_PER_MINUTE: Final = 90
_LANE: Final = 26
_BAR: Final = 16
_TOP: Final = 6
_AXIS: Final = 22
_STEPS_S: Final = (
    (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
)  # fmt: skip
_UNITS_PER_TICK: Final = 90
_LABEL_CHARS: Final = 20


class Bar:
    """A stretch of speech, or several too close to be told apart.

    Attributes:
        segments: How many segments it stands for.
        text: Beginning of what was said, where it was asked for.
    """

    __slots__ = ("end_us", "segments", "start_us", "text")

    def __init__(self, start_us: int, end_us: int, segments: int = 1, text: str = "") -> None:
        self.start_us = start_us
        self.end_us = end_us
        self.segments = segments
        self.text = text

    def join(self, other: Bar) -> None:
        """Take in a bar that starts later."""
        self.end_us = max(self.end_us, other.end_us)
        self.segments += other.segments
        if other.text and len(self.text) < MAX_TIP_CHARS:
            self.text = f"{self.text} {other.text}".strip()


class Sketch:
    """Bars of a conversation, lane by lane, in bounded memory.

    Args:
        with_text: Keep the beginning of what was said for the tooltips.
    """

    def __init__(self, *, with_text: bool = False) -> None:
        self._with_text = with_text
        self._lanes: dict[str, list[Bar]] = {}
        self._names: dict[str, str] = {}
        self._left_out: set[str] = set()
        self._gap_us = 0

    def watch(self, views: Iterable[SegmentView]) -> Iterator[SegmentView]:
        """Yield the segments as they are and draw them in passing."""
        for view in views:
            self.take(view)
            yield view

    def take(self, view: SegmentView) -> None:
        """Draw a segment; they come in order of their start."""
        lane = self._lanes.get(view.speaker)
        if lane is None:
            if len(self._lanes) >= MAX_LANES:
                self._left_out.add(view.speaker)
                return
            lane = self._lanes[view.speaker] = []
        if view.name:
            self._names.setdefault(view.speaker, view.name)
        if view.end_us <= view.start_us:
            return
        text = view.text[: MAX_TIP_CHARS + 1] if self._with_text else ""
        bar = Bar(view.start_us, view.end_us, 1, text)
        if lane and bar.start_us - lane[-1].end_us < self._gap_us:
            lane[-1].join(bar)
            return
        lane.append(bar)
        if len(lane) > MAX_BARS:
            self._coarsen(lane)

    def _coarsen(self, full: list[Bar]) -> None:
        """Merge over small gaps, doubling what counts as small until half the bars are gone."""
        span_us = full[-1].end_us - full[0].start_us
        self._gap_us = max(self._gap_us * 2, span_us // (4 * MAX_BARS), 1)
        while len(merged := merge(full, self._gap_us)) > MAX_BARS // 2:
            self._gap_us *= 2
        full[:] = merged

    @property
    def lanes(self) -> dict[str, list[Bar]]:
        """Bars by speaker, in order of the speakers' first segments."""
        return self._lanes

    @property
    def left_out(self) -> int:
        """How many speakers are not drawn."""
        return len(self._left_out)

    def label(self, speaker: str) -> str:
        """Return what to write beside a lane."""
        name = self._names.get(speaker, "")
        return f"{speaker} ({name})" if name and name != speaker else speaker


def merge(bars: Iterable[Bar], gap_us: int) -> list[Bar]:
    """Return bars in order of start with those joined whose gap is smaller than ``gap_us``.

    Bars that overlap are joined whatever the gap. The given bars stay as they are.
    """
    merged: list[Bar] = []
    for bar in bars:
        if merged and bar.start_us - merged[-1].end_us < gap_us:
            merged[-1].join(bar)
        else:
            merged.append(Bar(bar.start_us, bar.end_us, bar.segments, bar.text))
    return merged


def shared_and_silent(
    lanes: Iterable[list[Bar]],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return when two or more lanes have bars, and when none has, between the first and last."""
    steps: list[tuple[int, int]] = []
    for lane in lanes:
        for bar in merge(lane, 1):
            steps += [(bar.start_us, 1), (bar.end_us, -1)]
    steps.sort()
    shared: list[tuple[int, int]] = []
    silent: list[tuple[int, int]] = []
    busy = 0
    for (at_us, change), (next_us, _) in pairwise(steps):
        busy += change
        found = shared if busy > 1 else silent if busy == 0 else None
        if found is None or at_us == next_us:
            continue
        if found and found[-1][1] == at_us:
            found[-1] = (found[-1][0], next_us)
        else:
            found.append((at_us, next_us))
    return shared, silent


def svg(sketch: Sketch, *, ident: str, title: str, description: str) -> Iterator[str]:
    """Yield the picture as pieces of SVG text: well-formed XML without any address in it.

    A lane for each speaker, a last one for silence; bands over all lanes where people overlap.

    Args:
        ident: Prefix of the ids of its title and description; unique in the page.
    """
    lanes = sketch.lanes
    everything = [bar for lane in lanes.values() for bar in lane]
    first_us = min((bar.start_us for bar in everything), default=0)
    last_us = max((bar.end_us for bar in everything), default=_MICRO)
    frame = _Frame(first_us, last_us, len(lanes))
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{ident}-t {ident}-d"'
        f' width="{frame.full_width}" height="{frame.height}"'
        f' viewBox="0 0 {frame.full_width} {frame.height}">'
        f'<title id="{ident}-t">{clean(title)}</title>'
        f'<desc id="{ident}-d">{clean(description)}</desc>\n'
    )
    yield from _axis(frame)
    shared, silent = shared_and_silent(lanes.values())
    for start_us, end_us in _visible(shared, frame):
        yield frame.band(start_us, end_us, "both", f"{_when(start_us, end_us)} overlap")
    for row, (speaker, bars) in enumerate(lanes.items()):
        yield frame.label(row, sketch.label(speaker))
        for bar in merge(bars, frame.unit_us):
            yield frame.bar(row, bar, sketch.label(speaker))
    if lanes:
        yield frame.label(len(lanes), "silence")
    for start_us, end_us in _visible(silent, frame):
        yield frame.quiet(start_us, end_us)
    yield "</svg>\n"


class _Frame:
    """Where things stand in the picture."""

    def __init__(self, first_us: int, last_us: int, lanes: int) -> None:
        self.first_us = first_us
        self.last_us = last_us
        self.lanes = lanes
        minutes = (last_us - first_us) / _MICRO / 60
        self.width = int(min(_MAX_WIDTH, max(_MIN_WIDTH, minutes * _UNITS_PER_MINUTE)))
        self.full_width = _LABELS + self.width + 10
        self.height = _TOP + (lanes + 1) * _LANE + _AXIS
        self.unit_us = max(1, (last_us - first_us) // self.width)

    def x(self, at_us: int) -> float:
        return _LABELS + (at_us - self.first_us) * self.width / max(1, self.last_us - self.first_us)

    def _box(self, start_us: int, end_us: int, *, top: float, height: float, style: str) -> str:
        left = self.x(start_us)
        width = max(0.8, self.x(end_us) - left)
        return (
            f'<rect class="{style}" x="{left:.1f}" y="{top:.0f}" width="{width:.1f}"'
            f' height="{height:.0f}"'
        )

    def bar(self, row: int, bar: Bar, label: str) -> str:
        top = _TOP + row * _LANE + (_LANE - _BAR) / 2
        box = self._box(
            bar.start_us, bar.end_us, top=top, height=_BAR, style=f"bar c{row % COLOURS}"
        )
        count = f", {bar.segments} segments" if bar.segments > 1 else ""
        words = f": {shortened(bar.text, MAX_TIP_CHARS)}" if bar.text else ""
        tip = f"{_when(bar.start_us, bar.end_us)} {label}{count}{words}"
        return f"{box}><title>{clean(tip)}</title></rect>\n"

    def band(self, start_us: int, end_us: int, style: str, tip: str) -> str:
        box = self._box(start_us, end_us, top=_TOP, height=self.lanes * _LANE, style=style)
        return f"{box}><title>{clean(tip)}</title></rect>\n"

    def quiet(self, start_us: int, end_us: int) -> str:
        top = _TOP + self.lanes * _LANE + _LANE / 2 - 3
        box = self._box(start_us, end_us, top=top, height=6, style="quiet")
        return f"{box}><title>{_when(start_us, end_us)} silence</title></rect>\n"

    def label(self, row: int, text: str) -> str:
        y = _TOP + row * _LANE + _LANE / 2 + 4
        short = clean(shortened(text, _LABEL_CHARS))
        return f'<text class="lane" x="0" y="{y:.0f}">{short}<title>{clean(text)}</title></text>\n'


def _axis(frame: _Frame) -> Iterator[str]:
    """Lines and times at round intervals, as many as have room."""
    span_s = (frame.last_us - frame.first_us) / _MICRO
    wanted_s = span_s * _UNITS_PER_TICK / frame.width
    step_s = next((one for one in _STEPS_S if one >= wanted_s), int(wanted_s) + 1)
    bottom = _TOP + (frame.lanes + 1) * _LANE
    at_s = -(-frame.first_us // (_MICRO * step_s)) * step_s
    while at_s * _MICRO <= frame.last_us:
        x = frame.x(at_s * _MICRO)
        yield (
            f'<line class="tick" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>'
            f'<text class="time" x="{x:.1f}" y="{bottom + 15}">{clock(at_s)}</text>\n'
        )
        at_s += step_s


def _visible(found: list[tuple[int, int]], frame: _Frame) -> Iterator[tuple[int, int]]:
    """Intervals joined where the gap is too small to be seen."""
    bars = merge((Bar(start_us, end_us) for start_us, end_us in found), frame.unit_us)
    return ((bar.start_us, bar.end_us) for bar in bars)


def _when(start_us: int, end_us: int) -> str:
    return f"{clock(start_us / _MICRO, tenths=True)}–{clock(end_us / _MICRO, tenths=True)}"
