"""Charts: well-formed, told to those who cannot see them, as long as the counts say."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.core.charts import STYLE, Point, Series, bars, charted, round_step, standing
from steno.core.page import document
from steno.core.tables import Column

SVG = "{http://www.w3.org/2000/svg}"
TWO = (Series("done", "c2"), Series("failed", "warn"))
COLUMNS = (
    Column[Point]("Name", "Its name", lambda one: one.name, number=False),
    Column[Point]("Count", "How many", lambda one: str(one.total)),
)


def drawn(
    points: list[Point], *, lying: bool, series: tuple[Series, ...] = TWO
) -> ElementTree.Element:
    draw = bars if lying else standing
    pieces = draw(points, series, ident="x", title="Jobs", description="By end.")
    return ElementTree.fromstring(f"<div>{''.join(pieces)}</div>")


def boxes(root: ElementTree.Element) -> list[ElementTree.Element]:
    return list(root.iter(f"{SVG}rect"))


@pytest.mark.parametrize(("lying", "length"), [(True, "width"), (False, "height")])
def test_lengths_are_as_the_counts(lying: bool, length: str) -> None:
    """Twice the count is twice the length; what is not there is not drawn."""
    root = drawn([Point("a", (10, 0)), Point("b", (20, 5)), Point("c", (0, 0))], lying=lying)
    lengths = [float(one.attrib[length]) for one in boxes(root)]
    assert lengths == pytest.approx([2 * lengths[2], 4 * lengths[2], lengths[2]], abs=0.2)
    tips = [one.findtext(f"{SVG}title") for one in boxes(root)]
    assert tips == ["a: 10 done", "b: 20 done", "b: 5 failed"]


@pytest.mark.parametrize("lying", [True, False])
def test_parts_of_a_bar_do_not_overlap(lying: bool) -> None:
    """One goes on where the one before ends."""
    first, second = boxes(drawn([Point("a", (3, 4))], lying=lying))
    at, length = ("x", "width") if lying else ("y", "height")
    one, other = (first, second) if lying else (second, first)
    end = float(one.attrib[at]) + float(one.attrib[length])
    assert end == pytest.approx(float(other.attrib[at]), abs=0.2)


@pytest.mark.parametrize("lying", [True, False])
def test_a_chart_is_told_to_those_who_cannot_see_it(lying: bool) -> None:
    """An image with title and description; colours are named where there are several."""
    root = drawn([Point("a", (1, 1))], lying=lying)
    (svg,) = root.iter(f"{SVG}svg")
    assert svg.attrib["role"] == "img"
    named = {one.get("id"): one.text for one in svg if one.get("id")}
    assert [named[ident] for ident in svg.attrib["aria-labelledby"].split()] == ["Jobs", "By end."]
    assert ["".join(one.itertext()) for one in root.iter("span")] == ["done", "failed"]
    alone = drawn([Point("a", (1,))], lying=lying, series=TWO[:1])
    assert not list(alone.iter("span"))


@pytest.mark.parametrize("folded", [True, False])
def test_the_table_stands_below_the_chart(folded: bool) -> None:
    """All figures are in it; folded, it opens without a script."""
    points = [Point("a", (1, 1)), Point("b", (3, 0))]
    chart = bars(points, TWO, ident="x", title="Jobs", description="By end.")
    text = "".join(charted(chart, COLUMNS, points, caption="Jobs.", folded=folded))
    root = ElementTree.fromstring(f"<div>{text}</div>")
    assert [one.text for one in root.iter("td")] == ["2", "3"]
    assert bool(list(root.iter("details"))) is folded


def test_names_of_columns_have_room() -> None:
    """Of many, only so many are written as do not run into one another."""
    root = drawn([Point(f"2026-01-{n:02}", (n, 0)) for n in range(60)], lying=False)
    written = [one for one in root.iter(f"{SVG}text") if one.get("class") == "time"]
    places = [float(one.attrib["x"]) for one in written]
    assert all(after - before >= 80 for before, after in itertools.pairwise(places))
    assert len(places) >= 5


@given(
    points=st.lists(
        st.builds(Point, st.text(max_size=40), st.tuples(*[st.integers(0, 10**6)] * 2)), max_size=8
    ),
    lying=st.booleans(),
)
def test_any_name_and_count_give_well_formed_xml_inside_the_picture(
    points: list[Point], lying: bool
) -> None:
    """Nothing of a name becomes an element, and nothing is drawn outside."""
    root = drawn(points, lying=lying)
    (svg,) = root.iter(f"{SVG}svg")
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    assert {one.tag.removeprefix(SVG) for one in svg.iter()} <= {
        "svg", "title", "desc", "line", "text", "rect",
    }  # fmt: skip
    assert len(boxes(root)) == sum(count > 0 for point in points for count in point.counts)
    for one in boxes(root):
        x, y, wide, tall = (float(one.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + wide <= width + 0.2
        assert y + tall <= height + 0.2


@pytest.mark.parametrize(("least", "step"), [(0.0, 1), (1.2, 2), (3, 5), (6, 10), (5001, 10_000)])
def test_steps_are_round(least: float, step: int) -> None:
    """1, 2 or 5 with noughts."""
    assert round_step(least) == step


def test_every_class_of_a_legend_has_its_colour() -> None:
    """In the page's own sheet."""
    page = "".join(document("Jobs", [], style=STYLE))
    for style in ("c0", "c1", "c2", "c3", "c4", "c5", "warn", "rest"):
        assert f".legend .{style}{{background:" in page
        assert f"svg .{style}{{fill:" in page
