"""The timeline picture: well-formed, bounded, and true to the segments."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.diarisation.picture import (
    MAX_BARS,
    MAX_LANES,
    MAX_TIP_CHARS,
    Bar,
    Sketch,
    merge,
    shared_and_silent,
    svg,
)
from steno.diarisation.views import SegmentView

S = 1_000_000
SVG = "{http://www.w3.org/2000/svg}"


def view(speaker: str, start_us: int, end_us: int, text: str = "", name: str = "") -> SegmentView:
    return SegmentView("c", speaker, text, start_us, end_us, 0.9, True, 0, name=name)


def drawn(*views: SegmentView, with_text: bool = False) -> ElementTree.Element:
    sketch = Sketch(with_text=with_text)
    assert list(sketch.watch(views)) == list(views)
    return parsed(sketch)


def parsed(sketch: Sketch) -> ElementTree.Element:
    return ElementTree.fromstring("".join(svg(sketch, ident="c0", title="T", description="D")))


def boxes(root: ElementTree.Element, style: str) -> list[ElementTree.Element]:
    return [one for one in root.iter(f"{SVG}rect") if style in one.get("class", "").split()]


def tips(root: ElementTree.Element, style: str) -> list[str]:
    return [one.findtext(f"{SVG}title", "") for one in boxes(root, style)]


def test_a_lane_for_each_speaker_and_bars_by_time() -> None:
    """As wide as they are long, from where they begin; the tooltip tells when and who."""
    root = drawn(view("a", 0, 60 * S, name="Ada"), view("b", 60 * S, 90 * S))
    first, second = boxes(root, "bar")
    x, width = (float(first.get(name, "")) for name in ("x", "width"))
    assert float(second.get("x", "")) == pytest.approx(x + width)
    assert float(second.get("width", "")) == pytest.approx(width / 2)
    assert float(second.get("y", "")) > float(first.get("y", ""))
    assert tips(root, "bar") == ["0:00.0–1:00.0 a (Ada)", "1:00.0–1:30.0 b"]


def test_overlap_and_silence_are_visible() -> None:
    """A band over the lanes where two speak, a line below them where nobody does."""
    root = drawn(view("a", 0, 4 * S), view("b", 3 * S, 6 * S), view("a", 9 * S, 10 * S))
    assert tips(root, "both") == ["0:03.0–0:04.0 overlap"]
    assert tips(root, "quiet") == ["0:06.0–0:09.0 silence"]


def test_text_is_there_only_when_asked_for() -> None:
    """By default the picture tells when, not what."""
    spoken = view("a", 0, S, "my secret")
    assert "secret" not in ElementTree.tostring(drawn(spoken), encoding="unicode")
    assert tips(drawn(spoken, with_text=True), "bar") == ["0:00.0–0:01.0 a: my secret"]


def test_a_tooltip_has_an_end() -> None:
    """Of a long text only the beginning is told."""
    (tip,) = tips(drawn(view("a", 0, S, "x" * 10_000), with_text=True), "bar")
    assert tip.endswith("x…")
    assert len(tip) < MAX_TIP_CHARS + 30


def test_segments_too_close_to_be_seen_are_one_bar() -> None:
    """An hour of segments a tenth of a second apart: few bars, all segments told."""
    views = [view("a", n * S, n * S + 900_000) for n in range(3600)]
    root = drawn(*views)
    assert len(boxes(root, "bar")) < 10
    assert sum(int(tip.split(", ")[1].split()[0]) for tip in tips(root, "bar")) == 3600


def test_a_very_long_conversation_keeps_bounded_bars() -> None:
    """However many segments there are, a lane holds so many bars, from first to last."""
    sketch = Sketch()
    last = 0
    for n in range(3 * MAX_BARS):
        last = n * 10 * S
        sketch.take(view("a", last, last + S))
        assert len(sketch.lanes["a"]) <= MAX_BARS
    bars = sketch.lanes["a"]
    assert (bars[0].start_us, bars[-1].end_us) == (0, last + S)
    assert sum(bar.segments for bar in bars) == 3 * MAX_BARS


def test_speakers_beyond_the_last_lane_are_counted() -> None:
    """A source that gives every segment a new label makes no endless picture."""
    sketch = Sketch()
    for n in range(MAX_LANES + 5):
        sketch.take(view(f"s{n}", n * S, n * S + S))
    assert (len(sketch.lanes), sketch.left_out) == (MAX_LANES, 5)
    parsed(sketch)


def test_it_is_told_to_those_who_cannot_see_it() -> None:
    """Title and description are named by the picture's own attributes."""
    root = drawn(view("a", 0, S))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "c0-t c0-d"
    assert [root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")] == ["T", "D"]


@given(speaker=st.text(max_size=40), text=st.text(max_size=60), name=st.text(max_size=20))
def test_any_label_and_text_give_well_formed_xml(speaker: str, text: str, name: str) -> None:
    """Nothing in a label, a name or a text becomes an element, and all is legal XML."""
    root = drawn(view(speaker, 0, S, text, name), with_text=True)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        "svg", "title", "desc", "line", "text", "rect",
    }  # fmt: skip
    assert len(boxes(root, "bar")) == 1


pieces = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(1, 8)), max_size=12
).map(sorted)


@given(found=pieces)
def test_bands_are_those_of_counting(found: list[tuple[str, int, int]]) -> None:
    """Shared and silent time against every unit of time."""
    lanes: dict[str, list[Bar]] = {}
    for who, start, length in sorted(found, key=lambda one: one[1]):
        lanes.setdefault(who, []).append(Bar(start, start + length))
    shared, silent = shared_and_silent(lanes.values())
    busy = [
        sum(any(bar.start_us <= at < bar.end_us for bar in lane) for lane in lanes.values())
        for at in range(40)
    ]
    heard = [at for at, count in enumerate(busy) if count]
    span = range(heard[0], heard[-1]) if heard else range(0)
    assert [at for start, end in shared for at in range(start, end)] == [
        at for at in span if busy[at] > 1
    ] + ([heard[-1]] if heard and busy[heard[-1]] > 1 else [])
    assert [at for start, end in silent for at in range(start, end)] == [
        at for at in span if not busy[at]
    ]


@given(found=pieces, gap=st.integers(0, 5))
def test_merging_keeps_the_ends_and_the_count(found: list[tuple[str, int, int]], gap: int) -> None:
    """Bars grow together; none is lost, and the given ones stay."""
    bars = [Bar(start, start + length) for _, start, length in sorted(found, key=lambda f: f[1])]
    merged = merge(bars, gap)
    assert sum(bar.segments for bar in merged) == len(bars)
    assert all(bar.segments == 1 for bar in bars)
    assert max((bar.end_us for bar in merged), default=0) == max(
        (bar.end_us for bar in bars), default=0
    )
    assert all(
        after.start_us - before.end_us >= gap for before, after in itertools.pairwise(merged)
    )
